//! The chat templates of a model folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::DEFAULT;
use crate::files::read_json;
use crate::{Error, Result};

/// The templates of a folder by their names, and the file they come from.
pub(super) fn templates(folder: &Path) -> Result<Option<(PathBuf, BTreeMap<String, String>)>> {
    let own = folder.join("chat_template.jinja");
    let mut texts = additional(&folder.join("additional_chat_templates"))?;
    if own.is_file() {
        texts.insert(DEFAULT.to_owned(), read(&own)?);
    }
    if !texts.is_empty() {
        let additional = folder.join("additional_chat_templates");
        return Ok(Some((if own.is_file() { own } else { additional }, texts)));
    }
    for name in ["tokenizer_config.json", "chat_template.json"] {
        let path = folder.join(name);
        let texts = of_json(&existing_json(&path)?["chat_template"]);
        if !texts.is_empty() {
            return Ok(Some((path, texts)));
        }
    }
    Ok(None)
}

/// `NAME.jinja` of a folder, if there is one.
fn additional(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(texts);
    }
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
        let path = entry.map_err(Error::io(folder, "read"))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.and_then(|name| name.strip_suffix(".jinja")) {
            texts.insert(name.to_owned(), read(&path)?);
        }
    }
    Ok(texts)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(Error::io(path, "read"))
}

/// A template, or several with their names: as a list of both, or as an object.
fn of_json(value: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match value {
        Value::String(template) => [(DEFAULT.to_owned(), template.clone())].into(),
        Value::Array(named) => named
            .iter()
            .filter_map(|it| Some((text(&it["name"])?, text(&it["template"])?)))
            .collect(),
        Value::Object(named) => {
            named.iter().filter_map(|(name, it)| Some((name.clone(), text(it)?))).collect()
        }
        _ => BTreeMap::new(),
    }
}

/// A JSON file, null where there is none.
pub(super) fn existing_json(path: &Path) -> Result<Value> {
    if path.is_file() { read_json(path) } else { Ok(Value::Null) }
}
