//! Whose answers are better, in the eyes of a judge.

use exalign::Result;
use exalign::report::WinRateRow;

use super::findings::Rule;
use super::measured::Outcome;
use crate::run::Run;

/// Every variant against the reference and against the answers people gave.
pub fn win_rates(_run: &Run, _outcome: &Outcome, _rule: &Rule) -> Result<Vec<WinRateRow>> {
    Ok(Vec::new())
}
