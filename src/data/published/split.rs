//! Rows of all files → examples in two splits that share no prompt, none of them twice.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Dropped, Example, Reason, Refusal, SetKind, Source, Sources, Split};
use crate::data::reader::Tolerance;
use crate::data::{Fields, Passage};
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
    /// Rows that are no examples and were passed over.
    pub skipped: usize,
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
        for row in source.rows()? {
            let (line, fields) = row?;
            num_rows += 1;
            let read = |fields: Fields| {
                // A file may hold both splits and say for each row which it is of.
                let named = fields.get("split").and_then(Value::as_str).and_then(Split::of_name);
                kind.example(&fields).map(|example| (example, named.or(source.split)))
            };
            match fields.map_err(Refusal::Bad).and_then(read) {
                Ok(placed) => examples.push(placed),
                Err(Refusal::Dropped(reason)) => self.drop(reason),
                Err(Refusal::Bad(problem)) => {
                    tolerance.refuse(Error::record(&source.path, line, problem))?;
                }
            }
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

/// A hash of texts; equal for those that differ in case and punctuation only.
type Key = [u8; 16];

/// A hash of what a passage says, but for case and punctuation; of one that has no text, of its
/// token ids.
pub fn passage_key(passage: &Passage) -> [u8; 16] {
    let messages = passage.messages().into_iter().flatten();
    let turns = messages.filter_map(|message| message["content"].as_str());
    match (&passage.ids, &passage.conversation, &passage.text) {
        (Some(ids), None, None) => key([format!("{ids:?}").as_str()]),
        _ => key(turns.chain(passage.text.as_deref())),
    }
}

impl Example {
    /// What the prompt says; of a labelled text, what all of it says.
    pub fn prompt_key(&self) -> [u8; 16] {
        match self {
            Self::Labelled { text, .. } => key([text.as_str()]),
            Self::Demonstration { prompt, .. } | Self::Preference { prompt, .. } => {
                passage_key(prompt)
            }
        }
    }

    /// What all of it says. A label does not count.
    fn key(&self) -> Key {
        let answers = match self {
            Self::Labelled { .. } => vec![],
            Self::Demonstration { chosen, .. } => vec![chosen.as_str()],
            Self::Preference { chosen, rejected, .. } => vec![chosen.as_str(), rejected],
        };
        let mut all = vec![self.prompt_key()];
        all.extend(answers.into_iter().map(|answer| key([answer])));
        shortened(blake3::hash(&all.concat()))
    }
}

fn key<'a>(texts: impl IntoIterator<Item = &'a str>) -> Key {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        let mut blank = true;
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            blank = false;
            hasher.update(word.to_lowercase().as_bytes());
            hasher.update(b" ");
        }
        // Signs alone, which then are what counts.
        if blank {
            hasher.update(text.as_bytes());
        }
        hasher.update(b"\n");
    }
    shortened(hasher.finalize())
}

fn shortened(hash: blake3::Hash) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(&hash.as_bytes()[..16]);
    key
}
