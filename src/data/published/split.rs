//! Rows of all files → examples in two splits. The splits share no prompt, and no example occurs twice.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::Key;
use super::{Dropped, Example, Reason, Refusal, SetKind, Source, Sources, Split};
use crate::data::Fields;
use crate::data::reader::Tolerance;
use crate::{Error, Result};

/// The examples of a set.
#[derive(Debug, Default)]
pub struct Published {
    /// To learn from, in the order of the files.
    pub train: Vec<Example>,
    /// To evaluate on.
    pub held_out: Vec<Example>,
    /// What was read of each file.
    pub sources: Vec<SourceCount>,
    /// Examples that are not used.
    pub dropped: Dropped,
    /// Examples that were looked at for records: no more than are needed.
    pub looked_at: usize,
    /// Rows that are no examples and were passed over.
    pub skipped: usize,
    /// Columns that are not used, each with the number of used rows in which it says something.
    pub columns_not_used: BTreeMap<String, usize>,
    /// Lists that were written as text, by column.
    pub lists_as_text: BTreeMap<String, usize>,
    /// Whether the files have both splits; without, held-out prompts are those of the smallest hash.
    pub has_own_split: bool,
}

/// What was read of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceCount {
    /// Its name within what was asked for.
    pub name: String,
    /// Its content, as a hash in hexadecimal.
    pub blake3: String,
    /// Its rows.
    pub rows: usize,
    /// The split its name says.
    pub split: Option<Split>,
}

impl Sources {
    /// Reads the set. Where the files have both splits, these are kept, and what has no name for its
    /// split is to learn from; otherwise the `held_out` prompts of the smallest hash are held out:
    /// the same ones in whatever order they come. Up to `skip_bad` rows may be no examples.
    ///
    /// # Errors
    /// If a file cannot be read, or one row more than `skip_bad` is no example of this kind.
    pub fn read(&self, kind: SetKind, held_out: usize, skip_bad: usize) -> Result<Published> {
        let mut published = Published::default();
        let mut tolerance = Tolerance::new(skip_bad);
        let mut examples = Vec::new();
        for source in self.iter() {
            let rows = published.read(source, kind, &mut tolerance, &mut examples)?;
            published.sources.push(SourceCount {
                name: source.name.clone(),
                blake3: source.hash()?,
                rows,
                split: source.split,
            });
        }
        published.skipped = tolerance.skipped();
        published.split(examples, held_out);
        Ok(published)
    }
}

type Placed = (Example, Option<Split>);

impl Published {
    /// Rows that were read.
    pub fn rows(&self) -> usize {
        self.sources.iter().map(|it| it.rows).sum()
    }

    /// Counts something that is not used.
    pub fn drop(&mut self, reason: Reason) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    /// The examples of a file; its number of rows.
    fn read(
        &mut self,
        source: &Source,
        kind: SetKind,
        tolerance: &mut Tolerance,
        examples: &mut Vec<Placed>,
    ) -> Result<usize> {
        let mut num_rows = 0;
        let mut rows = source.rows()?;
        for row in rows.by_ref() {
            let (line, fields) = row?;
            num_rows += 1;
            let read = |fields: Fields| {
                let fields = fields.without_nulls();
                // A file may hold both splits and say for each row which it is of.
                let named = fields.get("split").and_then(Value::as_str).and_then(Split::of_name);
                kind.read(&fields)
                    .map(|(example, unused)| (example, named.or(source.split), unused))
            };
            match fields.map_err(Refusal::Bad).and_then(read) {
                Ok((example, split, unused)) => {
                    examples.push((example, split));
                    for name in unused {
                        *self.columns_not_used.entry(name).or_default() += 1;
                    }
                }
                Err(Refusal::Dropped(reason)) => self.drop(reason),
                Err(Refusal::Bad(problem)) => {
                    tolerance.refuse(Error::record(&source.path, line, problem))?;
                }
            }
        }
        for (name, count) in rows.lists_as_text() {
            *self.lists_as_text.entry(name.clone()).or_default() += count;
        }
        if num_rows == 0 {
            return Err(Error::file(&source.path, "expected rows, but the file is empty"));
        }
        Ok(num_rows)
    }

    fn split(&mut self, examples: Vec<Placed>, held_out: usize) {
        let is_held_out = |placed: &Placed| placed.1 == Some(Split::HeldOut);
        let some_held_out = examples.iter().any(is_held_out);
        self.has_own_split = some_held_out && !examples.iter().all(is_held_out);
        let chosen = match self.has_own_split {
            true => HashSet::new(),
            false => smallest(examples.iter().map(|(it, _)| it.prompt_key()), held_out),
        };
        let (held_out, train): (Vec<_>, Vec<_>) =
            examples.into_iter().partition(|placed| match self.has_own_split {
                true => is_held_out(placed),
                false => chosen.contains(&placed.0.prompt_key()),
            });
        let mut seen = HashSet::new();
        for (example, _) in held_out {
            match seen.insert(example.key()) {
                true => self.held_out.push(example),
                false => self.drop(Reason::Duplicate),
            }
        }
        let prompts: HashSet<Key> = self.held_out.iter().map(Example::prompt_key).collect();
        for (example, _) in train {
            if prompts.contains(&example.prompt_key()) {
                self.drop(Reason::HeldOutPrompt);
            } else if seen.insert(example.key()) {
                self.train.push(example);
            } else {
                self.drop(Reason::Duplicate);
            }
        }
    }
}

fn smallest(keys: impl Iterator<Item = Key>, count: usize) -> HashSet<Key> {
    let mut smallest = BTreeSet::new();
    for key in keys {
        smallest.insert(key);
        if smallest.len() > count {
            smallest.pop_last();
        }
    }
    smallest.into_iter().collect()
}
