//! JSON objects that carry their own checksum.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{read_json, write_json};
use crate::{Error, Result};

/// The field that holds the hash of the others.
const SEAL: &str = "checksum";

/// Writes `value`, an object, as indented JSON with its checksum as the last field.
///
/// # Errors
/// If the file cannot be written.
pub fn write_sealed<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<()> {
    let unwritable = |error| Error::file(path, format!("cannot be written as JSON: {error}"));
    let mut json = serde_json::to_value(value).map_err(unwritable)?;
    json[SEAL] = seal(&json).into();
    write_json(path, &json)
}

/// Reads what [`write_sealed`] has written.
///
/// # Errors
/// If the file cannot be read, or is not what was written.
pub fn read_sealed<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let mut json: Value = read_json(path)?;
    let found = json.as_object_mut().and_then(|fields| fields.shift_remove(SEAL));
    if found.as_ref().and_then(Value::as_str) != Some(seal(&json).as_str()) {
        return Err(Error::file(
            path,
            "its checksum is not that of its content: it was damaged or changed since it was written",
        ));
    }
    serde_json::from_value(json)
        .map_err(|error| Error::file(path, format!("cannot be read as JSON: {error}")))
}

fn seal(json: &Value) -> String {
    blake3::hash(json.to_string().as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_change_of_a_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value.json");
        let value = json!({"a": [0.1, 1e-300, 12345678901234567u64, null], "b": {"c": "ü\u{1b}"}});
        write_sealed(&path, &value).unwrap();
        assert_eq!(read_sealed::<Value>(&path).unwrap(), value);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let read = read_sealed::<Value>(&path);
            // White space between fields says nothing.
            assert!(read.is_err() || whole[at].is_ascii_whitespace(), "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(read_sealed::<Value>(&path).is_err() || at == whole.len() - 1, "cut at {at}");
        }
    }

    #[test]
    fn an_object_without_a_checksum_is_none_that_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value.json");
        for text in ["{}", "[]", "3", "{\"checksum\": null}"] {
            std::fs::write(&path, text).unwrap();
            let error = read_sealed::<Value>(&path).unwrap_err().to_string();
            assert!(error.contains("its checksum is not that of its content"), "{error}");
        }
    }
}
