//! Parts of a file as memory.

use std::fs::File;

use bytes::Bytes;
use memmap2::MmapOptions;

/// `len` bytes of `file` from `start` as memory: pages of the file that are read when they are touched, and that
/// all who map the file share. Nothing where the file cannot be mapped.
///
/// A file that is mapped must not be written to in place. What this library writes it writes beside and renames.
pub(crate) fn mapped(file: &File, start: u64, len: usize) -> Option<Bytes> {
    // SAFETY: nobody changes the bytes through this mapping, which only reads. Whoever changes the file itself in
    // place changes weights under a running program; one that is cut ends the program by a signal.
    #[allow(unsafe_code, reason = "another program may change a file that is mapped")]
    let map = unsafe { MmapOptions::new().offset(start).len(len).map(file) };
    Some(Bytes::from_owner(map.ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_part_of_a_file_is_its_bytes_wherever_it_begins() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..20_000_u32).map(|it| (it % 251) as u8).collect();
        file.write_all(&content).unwrap();
        for (start, len) in [(0, 20_000), (1, 7), (4095, 4098), (19_999, 1)] {
            assert_eq!(mapped(&file, start as u64, len).unwrap(), content[start..start + len]);
        }
    }

    #[test]
    fn what_is_mapped_stays_when_the_file_is_replaced_and_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, b"before").unwrap();
        let map = mapped(&File::open(&path).unwrap(), 0, 6).unwrap();
        crate::files::write_atomic(&path, |to| to.write_all(b"after!")).unwrap();
        assert_eq!(map, &b"before"[..]);
    }
}
