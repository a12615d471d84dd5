//! Files that are complete or absent, and stay so after a full disk, a kill or a power cut.
//!
//! Everything that is kept is written here: [whole files](write_atomic), files [that grow line by
//! line](Journal), and JSON [with a checksum](write_sealed). [`Content`] tells whether a finished output has
//! changed. A [`DiskList`] is not kept: it holds what is too long for memory while the process runs.

mod cache;
mod content;
mod disk_list;
mod journal;
mod mapped;
mod output;
mod sealed;

pub use cache::cache_folder;
pub use content::{Change, Content, carry_aside};
pub use disk_list::{DiskList, DiskListWriter};
pub use journal::Journal;
pub(crate) use mapped::mapped;
pub use output::{Output, write_through};
pub use sealed::{read_sealed, write_sealed};

use std::fs::{File, TryLockError};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::{NamedTempFile, TempDir};

use crate::{Error, Result};

/// Writes a file through a temporary one beside it and a rename, so that whatever happens on the
/// way (a full disk, a kill, a power cut) the old content or none is there, never a part of the new.
/// Links to the file stay; a device or a pipe is written through.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let path = &match Output::resolve(path)? {
        Output::Regular(path) => path,
        Output::Stream(path) => return write_through(&path, write),
    };
    create_dir(folder_of(path))?;
    let mut file = temporary(path)?;
    let mut writer = BufWriter::new(&mut file);
    write(&mut writer).and_then(|()| writer.flush()).map_err(Error::io(path, "write"))?;
    drop(writer);
    persist(file, path)
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A temporary file beside `path`, under a name that tells what [`sweep`] may remove for it.
pub(crate) fn temporary(path: &Path) -> Result<NamedTempFile> {
    let folder = folder_of(path);
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(as_the_user_has_them(0o666));
    builder.prefix(&part_prefix(path)).tempfile_in(folder).map_err(Error::io(folder, "write into"))
}

/// A temporary folder beside `path`, under a name that tells what [`sweep`] may remove for it.
///
/// # Errors
/// If it cannot be created.
pub fn temporary_folder(path: &Path) -> Result<TempDir> {
    let folder = folder_of(path);
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(as_the_user_has_them(0o777));
    builder.prefix(&part_prefix(path)).tempdir_in(folder).map_err(Error::io(folder, "write into"))
}

/// What is made with these is for whomever the process's umask lets in, as any other file is.
#[cfg(unix)]
fn as_the_user_has_them(mode: u32) -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(mode)
}

/// What the names of the temporary files beside `path` begin with.
fn part_prefix(path: &Path) -> String {
    /// Names have 255 bytes at most on most file systems, of which the rest needs a few.
    const LONGEST: usize = 200;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let end = name.floor_char_boundary(LONGEST);
    format!(".{}{PART}", &name[..end])
}

/// Stands between a file's name and the random end of a temporary file's.
const PART: &str = ".part-";

/// Gives a finished temporary file its name, for good: what was written and the name have reached the
/// disk when this returns.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<()> {
    let write = || Error::io(path, "write");
    if let Ok(replaced) = path.metadata() {
        file.as_file().set_permissions(replaced.permissions()).map_err(write())?;
    }
    file.as_file().sync_all().map_err(write())?;
    rename(file.path(), path)?;
    // Its name is gone; there is nothing left to remove.
    let _ = file.into_temp_path().keep();
    Ok(())
}

/// Gives what has reached the disk another name, for good.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(Error::io(to, "write"))?;
    sync_folder(folder_of(to))
}

/// Gives a finished temporary folder, whose files have reached the disk, its name for good. A folder
/// of that name is replaced.
///
/// # Errors
/// If the folder cannot be renamed.
pub fn persist_folder(folder: TempDir, path: &Path) -> Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path).map_err(Error::io(path, "replace"))?;
    }
    sync_folder(folder.path())?;
    rename(folder.path(), path)?;
    // Its name is gone; there is nothing left to remove.
    let _ = folder.keep();
    Ok(())
}

/// Makes the names in a folder reach the disk.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        let synced = File::open(folder).and_then(|it| it.sync_all());
        match synced {
            // Network file systems that have no such operation keep names by themselves.
            Err(error)
                if [ErrorKind::InvalidInput, ErrorKind::Unsupported].contains(&error.kind()) => {}
            outcome => outcome.map_err(Error::io(folder, "write into"))?,
        }
    }
    Ok(())
}

/// Makes what another library has written into a file reach the disk.
///
/// # Errors
/// If the system says that it does not.
pub fn sync_file(path: &Path) -> Result<()> {
    // Elsewhere only who may write a file may sync it.
    let file = if cfg!(unix) { File::open(path) } else { File::options().append(true).open(path) };
    file.and_then(|file| file.sync_all()).map_err(Error::io(path, "write"))
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

/// Whether a text that a file or an answer holds is the path of a file below some folder, on any
/// system: names with `/` between them, and no way out.
pub fn is_below(text: &str) -> bool {
    text.split('/').all(|it| it.len() <= 255 && is_plain_name(it))
}

/// Creates a folder and its parents.
///
/// # Errors
/// If it cannot be created.
pub fn create_dir(folder: &Path) -> Result<()> {
    let target = &match Output::resolve(folder)? {
        Output::Regular(target) => target,
        Output::Stream(_) => {
            return Err(Error::file(
                folder,
                "expected a folder, found a device or a pipe; use another path",
            ));
        }
    };
    let is_missing = |it: &&Path| !it.as_os_str().is_empty() && !it.exists();
    let missing: Vec<&Path> = target.ancestors().take_while(is_missing).collect();
    std::fs::create_dir_all(target).map_err(Error::io(folder, "create"))?;
    missing.into_iter().try_for_each(|it| sync_folder(folder_of(it)))
}

/// Gives a file that is going to be written anew another name, so that nothing in it is lost; where it
/// is then.
///
/// # Errors
/// If it cannot be renamed.
pub fn set_aside(path: &Path) -> Result<PathBuf> {
    let named = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 1 { ASIDE.to_owned() } else { format!(".{number}{ASIDE}") });
        PathBuf::from(name)
    };
    let free = (1..).map(named).find(|it| it.symlink_metadata().is_err());
    let aside = free.unwrap_or_else(|| named(1));
    std::fs::rename(path, &aside).map_err(Error::io(path, "rename"))?;
    Ok(aside)
}

/// What the names of files that were set aside end with.
const ASIDE: &str = ".changed";

fn is_aside(name: &str) -> bool {
    name.ends_with(ASIDE)
}

/// Whether this process has the lock that is `file` now; not where another has it. Where the file system
/// has no locks, it is taken to have, and a warning says so.
pub fn try_lock(file: &File, path: &Path) -> bool {
    match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(error)) => {
            tracing::warn!(
                "{}: cannot be locked ({error}); start no second process on it",
                path.display()
            );
            true
        }
    }
}

/// Removes what a killed process has left of writing the file `path`. Call it under the lock of
/// whoever writes there.
pub fn sweep(path: &Path) {
    let prefix = part_prefix(path);
    sweep_where(folder_of(path), &|name| name.starts_with(&prefix));
}

/// Removes what a killed process has left of writing files and folders anywhere in `folder`. Call it
/// under the lock of whoever writes there.
pub fn sweep_folder(folder: &Path) {
    let is_part = |name: &str| name.starts_with('.') && name.contains(PART);
    sweep_where(folder, &is_part);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            sweep_folder(&entry.path());
        }
    }
}

/// Removes what killed processes have left in a folder that several write into at once: temporary files
/// that nobody has touched for a day.
pub(crate) fn sweep_stale(folder: &Path) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let is_stale = |name: &str| {
        let metadata = folder.join(name).metadata();
        let modified = metadata.and_then(|it| it.modified()).ok();
        let age = modified.and_then(|it| it.elapsed().ok());
        name.starts_with('.') && name.contains(PART) && age.is_some_and(|it| it > DAY)
    };
    sweep_where(folder, &is_stale);
}

fn sweep_where(folder: &Path, is_part: &dyn Fn(&str) -> bool) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(is_part) {
            continue;
        }
        let path = entry.path();
        let removed = match entry.file_type() {
            Ok(it) if it.is_dir() => std::fs::remove_dir_all(&path),
            _ => std::fs::remove_file(&path),
        };
        // It only costs space.
        if let Err(error) = removed {
            tracing::warn!("{}: cannot remove: {error}", path.display());
        }
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

    #[cfg(unix)]
    #[test]
    fn files_are_for_whom_others_of_the_user_are_and_stay_so() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, other) = (folder.path().join("ours"), folder.path().join("other"));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        write_atomic(&ours, |writer| writer.write_all(b"one")).unwrap();
        std::fs::write(&other, "one").unwrap();
        assert_eq!(mode(&ours), mode(&other));
        std::fs::set_permissions(&ours, std::fs::Permissions::from_mode(0o600)).unwrap();
        write_atomic(&ours, |writer| writer.write_all(b"two")).unwrap();
        assert_eq!(mode(&ours), 0o600);
    }

    #[test]
    fn what_a_killed_process_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let long = format!("{}é{}", "x".repeat(199), "y".repeat(40));
        let parts = ["a", "ab", &long].map(|name| {
            let kept = temporary(&root.join(name)).unwrap().into_temp_path();
            kept.keep().unwrap()
        });
        write_atomic(&root.join(&long), |writer| writer.write_all(b"a name of many bytes"))
            .unwrap();
        let aside = root.join("model/inner");
        std::fs::create_dir_all(&aside).unwrap();
        let inside = temporary_folder(&aside.join("step-1")).unwrap().keep();
        std::fs::write(inside.join("weights"), "half").unwrap();
        for name in ["a", ".a", "a.part-1"] {
            std::fs::write(root.join(name), "").unwrap();
        }
        sweep(&root.join("a"));
        assert_eq!(parts.each_ref().map(|it| it.exists()), [false, true, true]);
        sweep_stale(root);
        assert!(parts[1].exists());
        let file = File::options().append(true).open(&parts[1]).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(25 * 60 * 60))
            .unwrap();
        sweep_stale(root);
        assert_eq!(parts.each_ref().map(|it| it.exists()), [false, false, true]);
        sweep_folder(root);
        assert!(!inside.exists() && aside.exists());
        assert_eq!(names(root), [".a", "a", "a.part-1", "model", &long]);
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
