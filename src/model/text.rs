//! How a model folder reads text: its tokenizer with the chat template.

use std::path::Path;

use super::ModelFolder;
use crate::data::{ChatSettings, ChatTemplate, Tokenizer};
use crate::{Error, Result};

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

/// Refuses a reference whose tokenizer gives ids of the policy's tokenizer to other tokens. Where one of the two
/// has no tokenizer, nothing is known of its ids.
///
/// # Errors
/// With the first token that differs.
pub fn check_same_tokens(
    policy: &ModelFolder,
    tokenizer: Option<&Tokenizer>,
    reference: &ModelFolder,
) -> Result<()> {
    let (path, end) = (reference.tokenizer_folder(), &reference.shape.end_of_text);
    let Some(tokenizer) = tokenizer.filter(|_| Tokenizer::is_at(path)) else { return Ok(()) };
    if path == policy.tokenizer_folder()
        || Tokenizer::hash_of(path, end)? == tokenizer.content_hash()
    {
        return Ok(());
    }
    let Some(other) = plain_tokenizer(reference)? else { return Ok(()) };
    match tokenizer.first_difference(&other) {
        None => Ok(()),
        Some((id, own, found)) => Err(Error::file(
            &reference.path,
            format!(
                "expected a reference with the tokens of the policy {}, found {found:?} for id {id}, which is {own:?} \
                 there; give a reference with the same tokenizer, such as the model that the policy was made from",
                policy.path.display()
            ),
        )),
    }
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
