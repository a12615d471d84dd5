//! The target of an output's path: a file, or a device, pipe or socket.
//!
//! A file is replaced as a whole, and links to the file stay links. A device, pipe or socket has no content
//! to replace: output is written into it, and nothing is put beside it.

use std::fs::{FileType, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Links that are followed; as many as Linux follows.
const MOST_LINKS: usize = 40;

/// Where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A file or folder, there or yet to be made; no link.
    Regular(PathBuf),
    /// A device, a pipe, a socket, or whatever this process has open under a number.
    Stream(PathBuf),
}

impl Output {
    /// Follows the links at `path`; the last may lead to nothing yet.
    ///
    /// # Errors
    /// If links lead in a circle, or a link cannot be read.
    pub fn resolve(path: &Path) -> Result<Self> {
        let mut target = path.to_owned();
        for _ in 0..MOST_LINKS {
            match target.symlink_metadata() {
                Ok(found) if found.file_type().is_symlink() => {
                    if is_opened(&target) {
                        return Ok(Self::Stream(target));
                    }
                    let next = target.read_link().map_err(Error::io(&target, "read the link"))?;
                    target = target.parent().unwrap_or(Path::new("")).join(next);
                }
                Ok(found) if is_stream(found.file_type()) => {
                    return Ok(Self::Stream(target));
                }
                // What cannot be looked at is named by whoever writes there.
                _ => return Ok(Self::Regular(target)),
            }
        }
        Err(Error::file(
            path,
            "expected a file or a link to one, found links that lead in a circle; remove them or use \
             another path",
        ))
    }

    /// The file's path after all links, or the stream's own.
    pub fn path(&self) -> &Path {
        let (Self::Regular(path) | Self::Stream(path)) = self;
        path
    }

    /// The path of something beside a file, named like the file with `suffix`; none for a stream.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn beside(path: &Path, suffix: &str) -> Result<Option<PathBuf>> {
        Ok(match Self::resolve(path)? {
            Self::Regular(path) => {
                let mut name = path.into_os_string();
                name.push(suffix);
                Some(name.into())
            }
            Self::Stream(_) => None,
        })
    }
}

/// Whether a link stands for what a process has open, as `/dev/fd/1` does; such links lead to no path.
fn is_opened(link: &Path) -> bool {
    let folder = link.parent().and_then(|it| it.canonicalize().ok());
    folder.is_some_and(|it| it.starts_with("/proc"))
}

fn is_stream(kind: FileType) -> bool {
    !(kind.is_file() || kind.is_dir() || kind.is_symlink())
}

/// Writes through a device, a pipe or a socket.
///
/// # Errors
/// If it cannot be opened or written.
pub fn write_through(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    if is_opened(path) && path.file_name().is_some_and(|it| it == "1") {
        return through_standard_output(path, write);
    }
    let file = OpenOptions::new().append(true).open(path).map_err(Error::io(path, "write"))?;
    let mut writer = BufWriter::new(&file);
    write(&mut writer).and_then(|()| writer.flush()).map_err(Error::io(path, "write"))?;
    drop(writer);
    match file.sync_all() {
        // Devices and pipes keep nothing that could be brought to a disk.
        Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Err(Error::io(path, "write")(error))
        }
        _ => Ok(()),
    }
}

/// Not opened once more: a file would be written from its beginning again by whatever is printed later.
fn through_standard_output(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(Error::io(path, "write")),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::files::write_atomic;

    fn put(path: &Path, text: &str) -> Result<()> {
        write_atomic(path, |writer| writer.write_all(text.as_bytes()))
    }

    #[test]
    fn a_link_stays_and_its_target_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("disk")).unwrap();
        symlink("disk/far", path("near")).unwrap();
        symlink("near", path("first")).unwrap();
        symlink(path("disk"), path("other")).unwrap();
        // The first time, the link leads to nothing.
        for text in ["old", "new"] {
            put(&path("first"), text).unwrap();
            assert_eq!(std::fs::read_to_string(path("disk/far")).unwrap(), text);
        }
        put(&path("other/beside"), "through a folder").unwrap();
        assert!(path("disk/beside").is_file());
        for link in ["near", "first", "other"] {
            assert!(path(link).is_symlink(), "{link}");
        }
        assert_eq!(std::fs::read_dir(path("disk")).unwrap().count(), 2, "nothing is left over");
        assert_eq!(
            Output::beside(&path("first"), ".lock").unwrap(),
            Some(folder.path().join("disk/far.lock"))
        );
    }

    #[test]
    fn links_in_a_circle_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        symlink(&one, &two).unwrap();
        symlink(&two, &one).unwrap();
        let message = put(&one, "text").unwrap_err().to_string();
        assert!(message.contains("links that lead in a circle"), "{message}");
        assert!(one.is_symlink());
    }

    #[test]
    fn a_pipe_is_written_through_and_stays_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        symlink("pipe", folder.path().join("link")).unwrap();
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read_to_string(pipe).unwrap()
        });
        put(&folder.path().join("link"), "through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert_eq!(Output::resolve(&pipe).unwrap(), Output::Stream(pipe.clone()));
        assert_eq!(Output::beside(&pipe, ".lock").unwrap(), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_device_that_takes_nothing_is_an_error_and_one_that_takes_all_is_none() {
        // By links: where the claim is false, root would replace the devices themselves.
        let folder = tempfile::tempdir().unwrap();
        let link = |name: &str| {
            symlink(Path::new("/dev").join(name), folder.path().join(name)).unwrap();
            folder.path().join(name)
        };
        put(&link("null"), "text").unwrap();
        assert!(folder.path().join("null").is_symlink());
        let message = put(&link("full"), "text").unwrap_err().to_string();
        assert!(message.contains("full: cannot write: "), "{message}");
    }
}
