//! A stack of a known size, for recursion as deep as a foreign text asks.

use std::{io, panic, thread};

/// Runs something in a thread with a stack of so many bytes, and waits for it.
///
/// # Errors
/// If no such thread can be started.
pub(crate) fn run<T: Send>(bytes: usize, run: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(bytes).spawn_scoped(scope, run)?;
        Ok(thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload)))
    })
}
