//! What there is to know of a file of records before an hour is spent on it.
//!
//! Nothing stops at the first bad line: all are counted, and the first [`SHOWN`] kept. Lengths are
//! those before anything is cut; what training would cut or refuse is said beside them.

mod advice;
mod length_bias;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

pub use advice::Advice;
pub use length_bias::LengthBias;

use super::lines::Lines;
use super::published::passage_key;
use super::records::Completion;
use super::{
    Demonstration, Fields, Group, LabelledText, Limits, Located, Passage, Problem, PromptRecord,
    Record, TokenGroup, Tokenization, Tokenize, Tokenizer, TruncationReport,
};
use crate::{Error, Result};

/// How many bad lines and how many examples of a finding are kept.
pub const SHOWN: usize = 20;

/// What a file holds, told from the fields of its first good line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `text`, `label`.
    LabelledTexts,
    /// `prompt`, `completions`.
    Groups,
    /// `prompt`, `chosen`, `rejected`.
    Preferences,
    /// `prompt`, `chosen`.
    Demonstrations,
    /// `prompt`.
    Prompts,
}

impl Kind {
    fn of(fields: &Fields) -> Self {
        let has = |text: &str, ids: &str| fields.has(text) || fields.has(ids);
        if has("text", "text_ids") {
            Self::LabelledTexts
        } else if has("completions", "completion_ids") {
            Self::Groups
        } else if has("rejected", "rejected_ids") {
            Self::Preferences
        } else if has("chosen", "chosen_ids") {
            Self::Demonstrations
        } else {
            Self::Prompts
        }
    }

    /// The kind in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::LabelledTexts => "labelled texts",
            Self::Groups => "groups",
            Self::Preferences => "preference pairs",
            Self::Demonstrations => "demonstrations",
            Self::Prompts => "prompts",
        }
    }
}

/// Numbers of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "their names say it")]
pub struct Lengths {
    pub min: usize,
    pub median: usize,
    pub p95: usize,
    pub max: usize,
}

impl Lengths {
    fn of(mut lengths: Vec<usize>) -> Option<Self> {
        lengths.sort_unstable();
        let last = lengths.len().checked_sub(1)?;
        let at = |share: f64| lengths[(last as f64 * share).round() as usize];
        Some(Self { min: at(0.0), median: at(0.5), p95: at(0.95), max: at(1.0) })
    }
}

/// What training would cut, and what it would refuse.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TooLong {
    /// Prompt and completion together, in tokens; 0: no limit.
    pub max_length: usize,
    /// The prompt alone, in tokens; 0: no limit.
    pub max_prompt_length: usize,
    /// Records that lose tokens.
    pub cut: usize,
    /// Tokens they lose.
    pub tokens_lost: usize,
    /// Records whose completion does not fit at all.
    pub refused: usize,
    /// The limit at which none is refused.
    pub enough: usize,
}

/// Where encoding prompt and completion together gives other tokens than encoding them apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Seams {
    /// Seams between texts.
    pub checked: usize,
    /// Those where a token would reach over.
    pub merged: usize,
    /// The first of them: line, end of the prompt, beginning of the completion, token.
    pub examples: Vec<String>,
}

/// How completions end.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Endings {
    /// Completions.
    pub completions: usize,
    /// Those that say they were cut (`finished` is false).
    pub cut: usize,
    /// Those of token ids that end without an end-of-text token and do not say they were cut.
    pub unended: usize,
    /// Those with an end-of-text token before their end.
    pub inside: usize,
}

/// Groups and their rewards.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Groups {
    /// Groups by their number of completions.
    pub sizes: BTreeMap<usize, usize>,
    /// Groups without rewards.
    pub unlabelled: usize,
    /// Groups whose rewards are all the same.
    pub tied: usize,
    /// Groups in which a text occurs more than once.
    pub repeated: usize,
    /// Mean over groups of the standard deviation of rewards within.
    pub mean_spread: f64,
}

/// What was found; every number counts records unless it says otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// What the file holds.
    pub kind: Kind,
    /// Good records.
    pub records: usize,
    /// Lines that training would refuse.
    pub bad: usize,
    /// The first of them: line and reason.
    pub bad_lines: Vec<(usize, Problem)>,
    /// Of the bad ones, pairs of one and the same text.
    pub equal_sides: usize,
    /// Of the bad ones, pairs of one and the same reward.
    pub ties: usize,
    /// Lengths of prompts, in tokens.
    pub prompts: Option<Lengths>,
    /// Lengths of completions or texts, end-of-text tokens included.
    pub completions: Option<Lengths>,
    /// Prompt with its longest completion.
    pub totals: Option<Lengths>,
    /// Against the limits.
    pub too_long: TooLong,
    /// Records that say what one before them says, but for case and punctuation.
    pub duplicates: usize,
    /// Records whose prompt came before.
    pub repeated_prompts: usize,
    /// Records that contradict one before them: chosen and rejected swapped, or another label.
    pub contradictions: usize,
    /// The lines of the first of them.
    pub contradicting_lines: Vec<(usize, usize)>,
    /// Records whose prompt is in the other file as well, where one was given.
    pub shared_prompts: Option<usize>,
    /// Tokens at the seam.
    pub seams: Seams,
    /// How completions end.
    pub endings: Endings,
    /// Labelled texts: those of label 1.
    pub positive: Option<usize>,
    /// Groups, where the file has them.
    pub groups: Option<Groups>,
    /// How far "longer wins" explains the labels.
    pub length_bias: Option<LengthBias>,
    /// What to do about all of it.
    pub advice: Vec<Advice>,
}

impl Audit {
    /// Whether training would take the file as it is.
    pub fn is_usable(&self) -> bool {
        !self.advice.iter().any(|it| it.is_refused)
    }
}

/// How to audit a file.
#[derive(Clone, Copy, Debug)]
pub struct Auditor<'a> {
    /// The model's, for records that have text.
    pub tokenizer: Option<&'a Tokenizer>,
    /// What training would keep to.
    pub limits: Limits,
    /// Ids from here on are refused.
    pub vocab_size: usize,
    /// Bad records that training would pass over.
    pub skip_bad: usize,
}

impl Auditor<'_> {
    /// Audits the records of `path`, whose prompts should not be in `against`.
    ///
    /// # Errors
    /// If a file cannot be read or has no good record, or if there is text and no tokenizer.
    pub fn audit(&self, path: &Path, against: Option<&Path>) -> Result<Audit> {
        let mut findings = Findings::default();
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.next_line()? {
            let place = Located { file: lines.file().clone(), line: lines.number(), record: () };
            match Fields::parse(&line) {
                Ok(fields) => {
                    let kind = *findings.kind.get_or_insert_with(|| Kind::of(&fields));
                    match self.entry(kind, &fields, place.clone()) {
                        Ok(entry) => findings.add(self, &place, entry)?,
                        Err(Error::Record { message, .. }) => {
                            findings.count_sides(&fields);
                            findings.refuse(place.line, message);
                        }
                        Err(other) => return Err(other),
                    }
                }
                Err(problem) => findings.refuse(place.line, problem),
            }
        }
        let Some(kind) = findings.kind.filter(|_| findings.records > 0) else {
            let first = findings.bad_lines.first().map_or(String::new(), |(line, problem)| {
                format!("; the first, line {line}: {problem}")
            });
            let found = format!("expected records, found {} bad ones{first}", findings.bad);
            return Err(Error::file(path, found));
        };
        let shared = against.map(|other| findings.shared_with(other)).transpose()?;
        Ok(findings.audit(self, kind, shared))
    }

    /// A line as a group, whatever its kind, and its tokens, nothing cut.
    fn entry(&self, kind: Kind, fields: &Fields, place: Located<()>) -> Result<Entry> {
        match kind {
            Kind::Groups | Kind::Preferences => {
                let entry = self.tokens(fields, place.clone(), |it: Group| it)?;
                match entry.group.rewards.is_some() || kind == Kind::Preferences {
                    true => entry.checked(&place),
                    false => Ok(entry),
                }
            }
            Kind::Demonstrations => self.tokens(fields, place, |it: Demonstration| Group {
                id: it.id,
                prompt: it.prompt,
                completions: vec![it.completion],
                rewards: None,
            }),
            Kind::LabelledTexts => self.tokens(fields, place, |it: LabelledText| Group {
                id: it.id,
                prompt: Passage::default(),
                // A text with a label ends where it ends.
                completions: vec![Completion { passage: it.text, finished: true }],
                rewards: Some(vec![f64::from(u8::from(it.label))]),
            }),
            Kind::Prompts => self.tokens(fields, place, |it: PromptRecord| Group {
                id: it.id,
                prompt: it.prompt,
                completions: Vec::new(),
                rewards: None,
            }),
        }
    }

    fn tokens<R: Tokenize + Clone>(
        &self,
        fields: &Fields,
        place: Located<()>,
        group: impl Fn(R) -> Group,
    ) -> Result<Entry> {
        let record = R::from_fields(fields).map_err(|problem| place.error(problem))?;
        let located = Located { file: place.file, line: place.line, record };
        let tokenization = Tokenization {
            tokenizer: self.tokenizer,
            limits: Limits::default(),
            vocab_size: self.vocab_size,
        };
        let tokens = R::tokenize(&located, &tokenization, &mut TruncationReport::default())?;
        Ok(Entry { group: group(located.record), tokens })
    }

    /// The text that a prompt's tokens stand for, and whether special tokens are added to it.
    fn written(&self, prompt: &Passage) -> Option<(String, bool)> {
        match (&prompt.ids, &prompt.messages, &prompt.text) {
            (Some(_), ..) => None,
            (None, Some(messages), _) => {
                let template = self.tokenizer?.chat_template()?;
                Some((template.render(messages).ok()?, false))
            }
            (None, None, text) => text.clone().map(|text| (text, true)),
        }
    }
}

/// A record as a group, whatever its kind, and its tokens.
struct Entry {
    group: Group,
    tokens: TokenGroup,
}

impl Entry {
    fn checked(self, place: &Located<()>) -> Result<Self> {
        self.group.check_for_alignment().map_err(|problem| place.error(problem))?;
        Ok(self)
    }
}

type Key = [u8; 16];

/// What has been found so far.
#[derive(Default)]
struct Findings {
    kind: Option<Kind>,
    records: usize,
    bad: usize,
    bad_lines: Vec<(usize, Problem)>,
    equal_sides: usize,
    ties: usize,
    prompts: Vec<usize>,
    completions: Vec<usize>,
    totals: Vec<usize>,
    cut: usize,
    tokens_lost: usize,
    too_long: usize,
    enough: usize,
    duplicates: usize,
    seen: HashSet<Vec<Key>>,
    /// Prompts and how many records have each.
    seen_prompts: HashMap<Key, usize>,
    /// Two texts of a prompt in a fixed order, and which was chosen in which line.
    seen_choices: HashMap<Vec<Key>, (bool, usize)>,
    contradictions: usize,
    contradicting_lines: Vec<(usize, usize)>,
    seams: Seams,
    endings: Endings,
    positive: usize,
    groups: Groups,
    spreads: Vec<f64>,
    bias: length_bias::Samples,
}

impl Findings {
    fn refuse(&mut self, line: usize, problem: Problem) {
        self.bad += 1;
        if self.bad_lines.len() < SHOWN {
            self.bad_lines.push((line, problem));
        }
    }

    /// Why a pair is bad, where that has a name.
    fn count_sides(&mut self, fields: &Fields) {
        let same = |one: &str, two: &str| fields.has(one) && fields.get(one) == fields.get(two);
        let alike = |name: &str| match fields.get(name) {
            Some(Value::Array(all)) => all.len() == 2 && all[0] == all[1],
            _ => false,
        };
        let equal_sides = same("chosen", "rejected")
            || same("chosen_ids", "rejected_ids")
            || alike("completions")
            || alike("completion_ids");
        self.equal_sides += usize::from(equal_sides);
        self.ties += usize::from(!equal_sides && alike("rewards"));
    }

    fn add(&mut self, auditor: &Auditor, place: &Located<()>, entry: Entry) -> Result<()> {
        self.records += 1;
        let kind = self.kind.unwrap_or(Kind::Prompts);
        self.measure(auditor, kind, &entry.tokens);
        self.compare(kind, place.line, &entry.group);
        self.look_at_endings(auditor, &entry);
        self.look_at_seams(auditor, place.line, &entry)?;
        match (kind, &entry.group.rewards) {
            (Kind::LabelledTexts, Some(label)) => self.positive += usize::from(label[0] == 1.0),
            (Kind::Groups, rewards) => self.look_at_group(&entry, rewards.as_deref()),
            _ => {}
        }
        self.bias.add(kind, &entry.tokens);
        Ok(())
    }

    fn measure(&mut self, auditor: &Auditor, kind: Kind, tokens: &TokenGroup) {
        let Limits { max_length, max_prompt_length } = auditor.limits;
        let (prompt, longest) =
            (tokens.prompt.len(), tokens.completions.iter().map(Vec::len).max().unwrap_or(0));
        self.completions.extend(tokens.completions.iter().map(Vec::len));
        self.totals.push(prompt + longest);
        if kind == Kind::LabelledTexts {
            let lost = if max_length > 0 { longest.saturating_sub(max_length) } else { 0 };
            self.cut += usize::from(lost > 0);
            self.tokens_lost += lost;
            return;
        }
        self.prompts.push(prompt);
        let needed = prompt.min(1);
        if max_length > 0 && longest + needed > max_length {
            self.too_long += 1;
            self.enough = self.enough.max(longest + needed);
            return;
        }
        let mut room = if max_prompt_length > 0 { max_prompt_length } else { prompt };
        if max_length > 0 {
            room = room.min(max_length - longest);
        }
        let lost = prompt.saturating_sub(room);
        self.cut += usize::from(lost > 0);
        self.tokens_lost += lost;
    }

    /// Repeats and contradictions of what came before.
    fn compare(&mut self, kind: Kind, line: usize, group: &Group) {
        let texts: Vec<Key> = group.completions.iter().map(|it| passage_key(&it.passage)).collect();
        let prompt = match kind {
            Kind::LabelledTexts => texts[0],
            _ => passage_key(&group.prompt),
        };
        *self.seen_prompts.entry(prompt).or_default() += 1;
        let mut all = vec![prompt];
        all.extend(&texts);
        let is_new = self.seen.insert(all);
        let (choice, is_first) = match kind {
            Kind::LabelledTexts => (vec![prompt], group.rewards.as_deref() == Some(&[1.0])),
            Kind::Preferences => {
                let (one, two) = (texts[0].min(texts[1]), texts[0].max(texts[1]));
                (vec![prompt, one, two], texts[0] == one)
            }
            _ => {
                self.duplicates += usize::from(!is_new);
                return;
            }
        };
        let (said, before) = *self.seen_choices.entry(choice).or_insert((is_first, line));
        if said != is_first {
            self.contradictions += 1;
            if self.contradicting_lines.len() < SHOWN {
                self.contradicting_lines.push((before, line));
            }
        } else {
            self.duplicates += usize::from(!is_new);
        }
    }

    fn look_at_endings(&mut self, auditor: &Auditor, entry: &Entry) {
        let Some(tokenizer) = auditor.tokenizer else { return };
        let ends = |id: &u32| tokenizer.all_end_of_text().contains(id);
        for (completion, ids) in entry.group.completions.iter().zip(&entry.tokens.completions) {
            let (last, before) =
                ids.split_last().map_or((false, &[][..]), |(it, before)| (ends(it), before));
            self.endings.completions += 1;
            self.endings.cut += usize::from(!completion.finished);
            self.endings.unended += usize::from(completion.finished && !last);
            self.endings.inside += usize::from(before.iter().any(ends));
        }
    }

    fn look_at_seams(&mut self, auditor: &Auditor, line: usize, entry: &Entry) -> Result<()> {
        let Some(tokenizer) = auditor.tokenizer else { return Ok(()) };
        let Some((prompt, special)) = auditor.written(&entry.group.prompt) else { return Ok(()) };
        if prompt.is_empty() {
            return Ok(());
        }
        for completion in &entry.group.completions {
            let (None, Some(text)) = (&completion.passage.ids, &completion.passage.text) else {
                continue;
            };
            let whole = format!("{prompt}{text}");
            let together = match special {
                true => tokenizer.encode_prompt(&whole)?,
                false => tokenizer.encode_completion(&whole)?,
            };
            let mut apart = entry.tokens.prompt.clone();
            apart.extend(tokenizer.encode_completion(text)?);
            self.seams.checked += 1;
            let differs = together.iter().zip(&apart).position(|(one, two)| one != two);
            let Some(at) = differs else { continue };
            self.seams.merged += 1;
            if self.seams.examples.len() < SHOWN {
                let token = tokenizer.decode(&together[at..=at])?;
                let before: Vec<char> = prompt.chars().rev().take(12).collect();
                let before: String = before.into_iter().rev().collect();
                let after: String = text.chars().take(12).collect();
                self.seams
                    .examples
                    .push(format!("line {line}: {before:?} and {after:?} meet in {token:?}"));
            }
        }
        Ok(())
    }

    fn look_at_group(&mut self, entry: &Entry, rewards: Option<&[f64]>) {
        let completions = &entry.tokens.completions;
        *self.groups.sizes.entry(completions.len()).or_default() += 1;
        let different: HashSet<_> = completions.iter().collect();
        self.groups.repeated += usize::from(different.len() < completions.len());
        let Some(rewards) = rewards else {
            self.groups.unlabelled += 1;
            return;
        };
        self.groups.tied += usize::from(rewards.iter().all(|it| *it == rewards[0]));
        let count = rewards.len() as f64;
        let mean = rewards.iter().sum::<f64>() / count;
        let variance = rewards.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / count;
        self.spreads.push(variance.sqrt());
    }

    /// How many records have a prompt of the file `other`.
    fn shared_with(&self, other: &Path) -> Result<usize> {
        let mut lines = Lines::open(other)?;
        let mut shared = HashSet::new();
        while let Some(line) = lines.next_line()? {
            // What is bad there is the business of an audit of its own.
            let Ok(fields) = Fields::parse(&line) else { continue };
            let prompt = match Kind::of(&fields) {
                Kind::LabelledTexts => LabelledText::from_fields(&fields).map(|it| it.text),
                _ => PromptRecord::from_fields(&fields).map(|it| it.prompt),
            };
            shared.extend(prompt.iter().map(passage_key));
        }
        Ok(shared.iter().filter_map(|it| self.seen_prompts.get(it)).sum())
    }

    fn audit(self, auditor: &Auditor, kind: Kind, shared_prompts: Option<usize>) -> Audit {
        let mut groups = self.groups;
        groups.mean_spread = crate::evaluation::mean(self.spreads.iter().copied());
        let mut audit = Audit {
            kind,
            records: self.records,
            bad: self.bad,
            bad_lines: self.bad_lines,
            equal_sides: self.equal_sides,
            ties: self.ties,
            prompts: Lengths::of(self.prompts),
            completions: Lengths::of(self.completions),
            totals: Lengths::of(self.totals),
            too_long: TooLong {
                max_length: auditor.limits.max_length,
                max_prompt_length: auditor.limits.max_prompt_length,
                cut: self.cut,
                tokens_lost: self.tokens_lost,
                refused: self.too_long,
                enough: self.enough,
            },
            duplicates: self.duplicates,
            repeated_prompts: self.records - self.seen_prompts.len(),
            contradictions: self.contradictions,
            contradicting_lines: self.contradicting_lines,
            shared_prompts,
            seams: self.seams,
            endings: self.endings,
            positive: (kind == Kind::LabelledTexts).then_some(self.positive),
            groups: (kind == Kind::Groups).then_some(groups),
            length_bias: self.bias.estimate(),
            advice: Vec::new(),
        };
        audit.advice = advice::advice(&audit, auditor.skip_bad);
        audit
    }
}

#[cfg(test)]
mod tests;
