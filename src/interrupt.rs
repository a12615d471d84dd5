//! Ctrl-C as a question that long work asks between two steps.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static DEFERRED: Cell<bool> = const { Cell::new(false) };
}

/// Asks running work to stop at its next safe point; called from a signal handler.
pub fn request() {
    REQUESTED.store(true, Ordering::SeqCst);
}

/// Whether somebody asked to stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// [`Error::Interrupted`] if somebody asked to stop, except within [`deferred`].
pub fn check() -> Result<()> {
    if requested() && !DEFERRED.get() { Err(Error::Interrupted) } else { Ok(()) }
}

/// `work`, which a request on this thread does not end: the next safe point is after it.
pub fn deferred<T>(work: impl FnOnce() -> T) -> T {
    let before = DEFERRED.replace(true);
    let done = work();
    DEFERRED.set(before);
    done
}
