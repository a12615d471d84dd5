//! The comparisons that an endpoint refused: each is reported, and their number is limited.

use std::collections::BTreeSet;

use super::refusal::Kind;

/// Comparisons refused for no reason that is known, and none answered, that are enough to give up.
const ENOUGH: usize = 4;

/// What was refused so far.
pub struct Refused {
    limit: usize,
    names: BTreeSet<String>,
    questions: usize,
    unclear: usize,
    answered: usize,
    first: Option<(Kind, String)>,
}

impl Refused {
    /// Nothing; `limit` comparisons may be.
    pub fn new(limit: usize) -> Self {
        Self { limit, names: BTreeSet::new(), questions: 0, unclear: 0, answered: 0, first: None }
    }

    /// Notes what came of a question of the comparison called `name`. An error where there are too
    /// many that were refused.
    pub fn note(&mut self, name: &str, refused: Option<&(Kind, String)>) -> Result<(), String> {
        let Some((kind, why)) = refused else {
            self.answered += 1;
            return Ok(());
        };
        self.questions += 1;
        self.unclear += usize::from(*kind == Kind::Unclear);
        let first = self.first.get_or_insert_with(|| (*kind, format!("{name}: {why}"))).clone();
        if !self.names.insert(name.to_owned()) {
            return Ok(());
        }
        let refuses = if *kind == Kind::Passing { "" } else { "refuses it with " };
        tracing::warn!("{name} has no verdict: the endpoint {refuses}{why}");
        let count = self.names.len();
        if self.answered == 0 && count >= ENOUGH && self.unclear == self.questions {
            return Err(all_refused(count, &first));
        }
        if count > self.limit {
            return Err(format!(
                "refuses {count} comparisons, the first {}; {} (answers so far are kept), or raise \
                 judge.max_refused ({}) or --skip-bad",
                first.1,
                advice(first.0),
                self.limit
            ));
        }
        Ok(())
    }

    /// An error where none of `count` questions was answered.
    pub fn check_all(&self, count: usize) -> Result<(), String> {
        match &self.first {
            Some(first) if self.questions == count => Err(all_refused(self.names.len(), first)),
            _ => Ok(()),
        }
    }
}

fn all_refused(count: usize, (kind, first): &(Kind, String)) -> String {
    let all = match count {
        1 => "the only comparison".to_owned(),
        count => format!("all of {count} comparisons"),
    };
    format!("refuses {all}, the first {first}; {}", advice(*kind))
}

/// What to do about comparisons that are refused.
fn advice(kind: Kind) -> String {
    let change = match kind {
        Kind::Filter => "drop such comparisons, or ",
        Kind::TooLong => "drop or shorten such comparisons, ",
        _ => "",
    };
    format!("{change}{}", kind.advice())
}
