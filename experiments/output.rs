//! Results on standard output, in tables and in files of records. Foreign text reaches a terminal without
//! control characters.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{Table, TableComponent, presets};
use exalign::{Error, Result, files, printable};
use serde::Serialize;

/// What errors call standard output.
const STANDARD_OUTPUT: &str = "standard output";

/// Whether nobody reads standard output any more.
static IS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether standard output is still read: what only prints may end where it is not.
pub fn is_read() -> bool {
    !IS_CLOSED.load(Ordering::Relaxed)
}

/// One JSON object on a line of standard output.
pub fn print_line(value: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(value).map_err(std::io::Error::from);
    print(&printable::json(&line.map_err(Error::io(STANDARD_OUTPUT, "write"))?))
}

/// A text on standard output.
pub fn print_text(text: &str) -> Result<()> {
    print(&printable::lines(text))
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            IS_CLOSED.store(true, Ordering::Relaxed);
            Ok(())
        }
        outcome => outcome.map_err(Error::io(STANDARD_OUTPUT, "write")),
    }
}

/// Writes records, one a line.
pub fn write_lines<T: Serialize>(path: &Path, records: impl IntoIterator<Item = T>) -> Result<()> {
    write_lines_as_made(path, |lines| records.into_iter().try_for_each(|it| lines.put(&it)))
}

/// Writes records while they are made, so that none has to stay in memory.
///
/// # Errors
/// Those of `make`, and if the file cannot be written; there is no file then.
pub fn write_lines_as_made<R>(
    path: &Path,
    make: impl FnOnce(&mut LineWriter) -> Result<R>,
) -> Result<R> {
    let mut made = None;
    let written = files::write_atomic(path, |writer| {
        let outcome = make(&mut LineWriter { path, writer });
        let is_whole = outcome.is_ok();
        made = Some(outcome);
        if is_whole { Ok(()) } else { Err(std::io::Error::other("the records end in an error")) }
    });
    match made {
        Some(outcome @ Err(_)) => outcome,
        Some(outcome) => written.and(outcome),
        None => written.and(Err(Error::Interrupted)),
    }
}

/// Where records go, one a line.
pub struct LineWriter<'a> {
    path: &'a Path,
    writer: &'a mut dyn Write,
}

impl LineWriter<'_> {
    /// Writes a record.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn put<T: Serialize>(&mut self, record: &T) -> Result<()> {
        let line = serde_json::to_string(record).map_err(std::io::Error::from);
        line.and_then(|line| writeln!(self.writer, "{line}")).map_err(Error::io(self.path, "write"))
    }
}

/// A table without lines between its rows.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table.remove_style(TableComponent::HorizontalLines);
    table.remove_style(TableComponent::MiddleIntersections);
    table
}
