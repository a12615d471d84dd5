//! The largest size of a row.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Error;

/// Enough for a group of a hundred answers of 80 kB, and little enough that even JSON of nothing but
/// small objects, which takes some two hundred times its length, stays within 2 GB.
static MAX_ROW_BYTES: AtomicUsize = AtomicUsize::new(8 << 20);

/// Sets the largest row that is read from now on, in bytes: a line, an item of a JSON array, a JSON
/// object over several lines, a record of a table of text, the texts of a row of Parquet or Arrow. A
/// larger one is an error before it is read whole, since a file may be packed a thousand times
/// smaller than it is.
pub fn set_max_row_bytes(bytes: usize) {
    MAX_ROW_BYTES.store(bytes, Ordering::Relaxed);
}

/// The largest row that is read, in bytes.
pub fn max_row_bytes() -> usize {
    MAX_ROW_BYTES.load(Ordering::Relaxed)
}

/// Refuses a row that begins in `line` and is larger.
pub(super) fn too_large(file: &Path, line: usize) -> Error {
    let max = max_row_bytes();
    Error::record(
        file,
        line,
        format!(
            "expected at most {max} bytes in a row, found more; write one record a line, drop the row, or \
             raise data.max_row_bytes"
        ),
    )
}
