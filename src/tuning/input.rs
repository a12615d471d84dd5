//! How a model reads text: its tokenizer with the chat template, its limits; and how it is loaded.

use std::path::Path;

use burn::tensor::Device;

use crate::Result;
use crate::config::TokenData;
use crate::data::{ChatSettings, ChatTemplate, Limits, Tokenizer};
use crate::model::{Decoder, ModelFolder};

/// The tokenizer of a model folder, its chat template as the settings say; none where the folder has
/// none.
pub fn tokenizer(folder: &ModelFolder, chat: &ChatSettings) -> Result<Option<Tokenizer>> {
    let tokenizer =
        plain_tokenizer(folder)?.map(|tokenizer| tokenizer.with_chat(chat)).transpose()?;
    for warning in tokenizer.iter().flat_map(Tokenizer::warnings) {
        tracing::warn!("{warning}");
    }
    Ok(tokenizer)
}

/// Whether the chat template of a model folder reads the day.
pub fn reads_date(folder: &ModelFolder) -> Result<bool> {
    let template = ChatTemplate::from_folder(folder.tokenizer_folder())?;
    Ok(template.is_some_and(|template| template.reads_date()))
}

/// The tokens that end a completion: the tokenizer's, or where there is none, those of the model's
/// settings.
pub fn end_of_text(folder: &ModelFolder, tokenizer: Option<&Tokenizer>) -> Vec<u32> {
    tokenizer.map_or(&*folder.shape.end_of_text, Tokenizer::all_end_of_text).to_vec()
}

/// The tokenizer of a model folder as it is; none where the folder has none.
pub fn plain_tokenizer(folder: &ModelFolder) -> Result<Option<Tokenizer>> {
    let path = folder.tokenizer_folder();
    if Tokenizer::is_at(path) {
        Tokenizer::from_folder(path, &folder.shape.end_of_text).map(Some)
    } else {
        Ok(None)
    }
}

/// The limits of the settings, within the model's positions.
pub fn limits(data: &TokenData, folder: &ModelFolder) -> Limits {
    data.limits().within(folder.shape.max_positions)
}

/// The folder of a reward model, or of the run that made it.
pub fn reward_folder(path: &Path) -> Result<ModelFolder> {
    let inner = path.join("model");
    ModelFolder::open(if ModelFolder::is_at(&inner) { &inner } else { path })
}

/// Loads the language model of a folder.
pub fn load_decoder(folder: &ModelFolder, device: &Device) -> Result<Decoder> {
    let decoder = Decoder::new(folder.shape.clone(), device);
    folder.load(decoder, &folder.family.bindings(&folder.shape), device)
}
