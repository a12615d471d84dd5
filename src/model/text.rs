//! How a model folder reads text: its tokenizer with the chat template.

use std::path::Path;

use super::ModelFolder;
use crate::Result;
use crate::data::{ChatSettings, ChatTemplate, Tokenizer};

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

/// The tokenizer of a model folder as it is; none where the folder has none.
pub fn plain_tokenizer(folder: &ModelFolder) -> Result<Option<Tokenizer>> {
    let path = folder.tokenizer_folder();
    if !Tokenizer::is_at(path) {
        return Ok(None);
    }
    let tokenizer = Tokenizer::from_folder(path, &folder.shape.end_of_text)?;
    if tokenizer.chat_template().is_some() || path == folder.path {
        return Ok(Some(tokenizer));
    }
    // The adapter's. Nothing of the base's is read, be it whole or not.
    let of_base = ChatTemplate::from_folder(&folder.path).ok().flatten();
    Ok(Some(match of_base {
        Some(template) => tokenizer.beside_template(template.source()),
        None => tokenizer,
    }))
}

/// Whether the chat template of a model folder reads the day.
pub fn reads_date(folder: &ModelFolder) -> Result<bool> {
    let template = ChatTemplate::from_folder(folder.tokenizer_folder())?;
    Ok(template.is_some_and(|template| template.reads_date()))
}

/// The folder of a reward model, or of the run that made it.
pub fn reward_folder(path: &Path) -> Result<ModelFolder> {
    let inner = path.join("model");
    ModelFolder::open(if ModelFolder::is_at(&inner) { &inner } else { path })
}
