//! Files that are complete or absent.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use crate::output::{Output, write_through};
use crate::{Error, Result};

/// Writes a file through a temporary one beside it and a rename, so that whatever happens on the
/// way (a full disk, a kill) the old content or none is there, never a part of the new. Links to the
/// file stay; a device or a pipe is written through.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let path = &match Output::resolve(path)? {
        Output::Regular(path) => path,
        Output::Stream(path) => return write_through(&path, write),
    };
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(".part.")
        .tempfile_in(folder)
        .map_err(Error::io(folder, "write into"))?;
    let mut writer = BufWriter::new(&mut file);
    write(&mut writer).and_then(|()| writer.flush()).map_err(Error::io(path, "write"))?;
    drop(writer);
    persist(file, path)
}

/// Gives a finished temporary file its name.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(Error::io(path, "write"))?;
    }
    file.as_file().sync_all().map_err(Error::io(path, "write"))?;
    file.persist(path).map_err(|error| Error::io(path, "write")(error.error))?;
    Ok(())
}

/// Whether a text that a file holds is the name of a file beside it: one normal component, on any
/// system.
pub fn is_plain_name(text: &str) -> bool {
    let mut components = Path::new(text).components();
    let is_normal = matches!(components.next(), Some(std::path::Component::Normal(_)));
    let is_plain =
        |c: char| !(c.is_control() || c == '/' || c == '\\' || (cfg!(windows) && c == ':'));
    is_normal && components.next().is_none() && text.chars().all(is_plain)
}

/// Creates a folder and its parents.
pub fn create_dir(folder: &Path) -> Result<()> {
    match Output::resolve(folder)? {
        Output::Regular(target) => {
            std::fs::create_dir_all(target).map_err(Error::io(folder, "create"))
        }
        Output::Stream(_) => Err(Error::file(
            folder,
            "expected a folder, found a device or a pipe; use another path",
        )),
    }
}

/// Writes `value` as indented JSON.
pub fn write_json<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<()> {
    write_atomic(path, |writer| {
        serde_json::to_writer_pretty(&mut *writer, value)?;
        writer.write_all(b"\n")
    })
}

/// Reads a value from JSON.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    serde_json::from_str(&text)
        .map_err(|error| Error::file(path, format!("cannot be read as JSON: {error}")))
}

/// The content's hash, in hexadecimal.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    hasher.update_reader(file).map_err(Error::io(path, "read"))?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_content_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/file");
        let full = |writer: &mut dyn Write| {
            writer.write_all(b"half of the n")?;
            Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
        };
        let error = write_atomic(&path, full).unwrap_err().to_string();
        assert!(error.ends_with("file: cannot write: no storage space"), "{error}");
        assert!(names(&folder.path().join("deep/er")).is_empty());

        write_atomic(&path, |writer| writer.write_all(b"old")).unwrap();
        write_atomic(&path, full).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        write_atomic(&path, |writer| writer.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(&folder.path().join("deep/er")), ["file"]);
    }

    #[test]
    fn json_reads_back_and_what_is_no_json_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value.json");
        write_json(&path, &vec![0.1, 1e-300]).unwrap();
        assert_eq!(read_json::<Vec<f64>>(&path).unwrap(), [0.1, 1e-300]);
        std::fs::write(&path, "[1, ").unwrap();
        let error = read_json::<Vec<f64>>(&path).unwrap_err().to_string();
        assert!(error.contains("value.json: cannot be read as JSON: EOF"), "{error}");
    }

    #[test]
    fn a_hash_is_that_of_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 200_000]).unwrap();
        let expected = blake3::hash(&vec![7; 200_000]).to_hex().to_string();
        assert_eq!(hash_file(&path).unwrap(), expected);
    }
}
