//! Standard error, which bars and log lines share, and which both leave to a screen of plots.

use std::io::Write;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use indicatif::{MultiProgress, ProgressDrawTarget};

/// All bars that are drawn, the upper first.
pub(super) static BARS: LazyLock<MultiProgress> =
    LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));

/// What was written while a screen has the terminal; none where no screen has it.
static WAITING: Mutex<Option<Vec<u8>>> = Mutex::new(None);

fn waiting() -> MutexGuard<'static, Option<Vec<u8>>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes log lines to standard error: above the bars, and after a screen that has the terminal. What
/// cannot be written is lost.
pub fn write(bytes: &[u8]) {
    if let Some(waiting) = waiting().as_mut() {
        return waiting.extend(bytes);
    }
    BARS.suspend(|| {
        let _ = std::io::stderr().write_all(bytes);
    });
}

/// Leaves the terminal to a screen: bars disappear and log lines wait.
pub fn hold() {
    waiting().get_or_insert_default();
    BARS.set_draw_target(ProgressDrawTarget::hidden());
}

/// Takes the terminal back and writes what has waited.
pub fn release() {
    let Some(bytes) = waiting().take() else { return };
    BARS.set_draw_target(ProgressDrawTarget::stderr());
    write(&bytes);
}

/// Whether a screen has the terminal.
pub fn is_held() -> bool {
    waiting().is_some()
}
