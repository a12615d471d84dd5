//! Panics of dependencies as errors.
//!
//! Drivers and readers of foreign formats panic on unexpected input. The caller of such code turns the panic
//! into an error of one line.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much is running whose panics are silent on all threads.
static SILENCED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The same, of this thread.
    static SILENCED_HERE: Cell<usize> = const { Cell::new(0) };
}

/// Runs what may panic in a dependency, without its message on standard error; what the panic says.
pub fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if SILENCED_HERE.get() + SILENCED.load(Ordering::SeqCst) == 0 {
                hook(panic);
            }
        }));
    });
    SILENCED_HERE.set(SILENCED_HERE.get() + 1);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    SILENCED_HERE.set(SILENCED_HERE.get() - 1);
    outcome.map_err(|payload| message(&*payload))
}

/// What a panic says.
pub fn message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").into()
}

/// [`quietly`] for what panics on threads of its own as well.
pub fn quietly_on_all_threads<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    SILENCED.fetch_add(1, Ordering::SeqCst);
    let outcome = quietly(work);
    SILENCED.fetch_sub(1, Ordering::SeqCst);
    outcome
}
