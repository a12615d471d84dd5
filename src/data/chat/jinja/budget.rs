//! The budget of one template: bounds on what reading or rendering may cost.
//!
//! A thread has one budget, [opened](run) for one template. Everything that multiplies work or memory spends
//! from it: steps for what is gone through, bytes for what is made. An exceeded budget stays exceeded, so
//! code that cannot return an error may still make a value: the next step is refused.

use std::cell::Cell;

use super::fault::{Outcome, fault};

/// Steps that a template may take.
const MAX_STEPS: i64 = 10_000_000;
/// Bytes of all texts, lists and dictionaries that a template may make.
const MAX_BYTES: i64 = 1 << 29;
/// Bytes of text that are handled in a step.
const BYTES: usize = 64;
/// How much more it takes to look a character up.
const LOOKUP: usize = 8;
/// Items of a list that are handled in a step.
const ITEMS: usize = 2;
/// Bytes of an item, and of a list or text apart from what is in it.
const ITEM: usize = size_of::<super::value::Value>();

/// The bytes of the longest text, rendered or on the way there.
const MAX_TEXT: usize = 1 << 26;
/// The bytes of the longest text that an operation makes of shorter ones.
pub const MAX_LENGTH: usize = 1 << 24;
/// The items of the longest list.
pub const MAX_ITEMS: usize = 1 << 20;
/// Lists and dictionaries that may stand within each other. JSON that is read nests half as deep.
pub const MAX_NESTING: usize = 256;

/// A limit that was exceeded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    Steps,
    Bytes,
    Length,
    Nesting,
    Depth,
}

struct Budget {
    /// What is left of them, and less than nothing once any limit was exceeded.
    steps: Cell<i64>,
    bytes: Cell<i64>,
    exceeded: Cell<Option<Limit>>,
}

thread_local! {
    static BUDGET: Budget = const {
        Budget { steps: Cell::new(0), bytes: Cell::new(0), exceeded: Cell::new(None) }
    };
}

/// Runs something within a new budget. What it returns in spite of an exceeded budget is refused.
pub fn run<T>(run: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    BUDGET.with(|it| {
        it.steps.set(MAX_STEPS);
        it.bytes.set(MAX_BYTES);
        it.exceeded.set(None);
    });
    let result = run();
    check()?;
    result
}

/// Whether what was run last went too deep for its stack.
pub fn was_too_deep() -> bool {
    BUDGET.with(|it| it.exceeded.get()) == Some(Limit::Depth)
}

/// Refuses whatever comes after the budget was exceeded.
pub fn check() -> Outcome<()> {
    steps(0)
}

/// Takes steps.
#[inline]
pub fn steps(count: usize) -> Outcome<()> {
    match BUDGET.with(|it| spend(&it.steps, count)) {
        true => Ok(()),
        false => refusal(),
    }
}

/// Takes an amount of what is left; whether there was enough.
#[inline]
fn spend(left: &Cell<i64>, amount: usize) -> bool {
    left.set(left.get().saturating_sub(amount as i64));
    left.get() >= 0
}

#[cold]
fn refusal() -> Outcome<()> {
    let limit = BUDGET.with(|it| it.exceeded.get()).unwrap_or(Limit::Steps);
    exceed(limit);
    Err(match limit {
        Limit::Steps => fault!("it does not end within {MAX_STEPS} steps"),
        Limit::Bytes => {
            fault!("its texts and lists are longer than {} MiB together", MAX_BYTES >> 20)
        }
        Limit::Length => fault!("a text is longer than {MAX_TEXT}"),
        Limit::Nesting => {
            fault!("lists or dictionaries stand more than {MAX_NESTING} deep in each other")
        }
        Limit::Depth => fault!("macros, loops or expressions stand too deep in each other"),
    })
}

/// Refuses every later step, for the first limit that was exceeded.
#[cold]
fn exceed(limit: Limit) {
    BUDGET.with(|it| {
        it.exceeded.set(it.exceeded.get().or(Some(limit)));
        it.steps.set(-1);
    });
}

/// Takes the steps of going through so many bytes of text.
#[inline]
pub fn read(bytes: usize) -> Outcome<()> {
    steps(1 + bytes / BYTES)
}

/// Takes the steps of looking every character of a text up.
pub fn look_up(text: &str) -> Outcome<()> {
    read(text.len().saturating_mul(LOOKUP))
}

/// Takes the steps of going through so many items.
#[inline]
pub fn visit(items: usize) -> Outcome<()> {
    steps(1 + items / ITEMS)
}

/// Takes memory, and the steps of filling it.
#[inline]
pub fn hold(bytes: usize) -> Outcome<()> {
    if !BUDGET.with(|it| spend(&it.bytes, bytes)) {
        exceed(Limit::Bytes);
    }
    read(bytes)
}

/// Takes the memory of a text.
#[inline]
pub fn text(bytes: usize) {
    _ = grow(0, ITEM + bytes);
}

/// Takes the memory of what a text grows by.
#[inline]
pub fn grow(bytes: usize, by: usize) -> Outcome<()> {
    if bytes + by > MAX_TEXT {
        exceed(Limit::Length);
    }
    hold(by)
}

/// Takes the memory of so many items, and refuses the next step if they nest too deep.
#[inline]
pub fn list(items: usize, nesting: usize) {
    _ = hold(ITEM * (1 + items));
    nest(nesting);
}

/// Refuses the next step if values nest too deep.
#[inline]
pub fn nest(nesting: usize) {
    if nesting > MAX_NESTING {
        exceed(Limit::Nesting);
    }
}

/// Refuses this and every later step: no stack is left for more.
pub fn too_deep() -> Outcome<()> {
    exceed(Limit::Depth);
    check()
}

/// Refuses a text that would be too long.
pub fn fits(bytes: usize) -> Outcome<()> {
    if bytes > MAX_LENGTH { Err(fault!("a text is longer than {MAX_LENGTH}")) } else { Ok(()) }
}

/// Refuses a list that would be too long.
pub fn fits_items(items: usize) -> Outcome<()> {
    if items > MAX_ITEMS { Err(fault!("a list is longer than {MAX_ITEMS}")) } else { Ok(()) }
}
