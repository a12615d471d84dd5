//! The limits of a model, the tokens that end its completions, and how it is loaded.

use burn::tensor::Device;

use crate::Result;
use crate::config::TokenData;
use crate::data::{Limits, Tokenizer};
use crate::model::{Decoder, ModelFolder};

pub use crate::model::{check_same_tokens, plain_tokenizer, reads_date, reward_folder, tokenizer};

/// The tokens that end a completion: the tokenizer's, or where there is none, those of the model's
/// settings.
pub fn end_of_text(folder: &ModelFolder, tokenizer: Option<&Tokenizer>) -> Vec<u32> {
    tokenizer.map_or(&*folder.shape.end_of_text, Tokenizer::all_end_of_text).to_vec()
}

/// The limits of the settings, within the model's positions.
pub fn limits(data: &TokenData, folder: &ModelFolder) -> Limits {
    folder.within(data.limits())
}

/// Loads the language model of a folder.
pub fn load_decoder(folder: &ModelFolder, device: &Device) -> Result<Decoder> {
    let decoder = Decoder::new(folder.shape.clone(), device);
    folder.load(decoder, &folder.family.bindings(&folder.shape), device)
}
