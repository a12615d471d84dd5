//! The findings of an audit, record by record, and their totals.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde_json::Value;

use super::form::form_of;
use super::{
    Audit, Auditor, Endings, Entry, Groups, Kind, Lengths, SHOWN, Seams, ShownRow, TooLong,
};
use super::{advice, length_bias};
use crate::Result;
use crate::data::published::passage_key;
use crate::data::{
    Fields, Group, Intake, LabelledText, Limits, Located, Problem, PromptRecord, Record,
    TokenGroup, rows,
};

type Key = [u8; 16];

/// What has been found so far.
#[derive(Default)]
pub(super) struct Findings {
    pub kind: Option<Kind>,
    pub rows: usize,
    pub records: usize,
    /// What the tokenization of all records came to.
    pub intake: Intake,
    forms: BTreeMap<String, usize>,
    shown: Vec<ShownRow>,
    pub bad: usize,
    pub bad_lines: Vec<(usize, Problem)>,
    equal_sides: usize,
    ties: usize,
    /// Lengths, and how many there are of each.
    prompts: BTreeMap<usize, usize>,
    completions: BTreeMap<usize, usize>,
    totals: BTreeMap<usize, usize>,
    cut: usize,
    tokens_lost: usize,
    too_long: usize,
    enough: usize,
    duplicates: usize,
    /// Records, where nothing in them was chosen.
    seen: HashSet<Key>,
    /// Prompts and how many records have each.
    seen_prompts: HashMap<Key, usize>,
    /// Two texts of a prompt in a fixed order, and which was chosen in which line first.
    seen_choices: HashMap<Key, (bool, usize)>,
    contradictions: usize,
    contradicting_lines: Vec<(usize, usize)>,
    checked_seams: usize,
    endings: Endings,
    positive: usize,
    groups: Groups,
    spreads: Vec<f64>,
    bias: length_bias::Samples,
}

/// Counts a length.
fn count(counts: &mut BTreeMap<usize, usize>, length: usize) {
    *counts.entry(length).or_default() += 1;
}

/// The key of several texts in their order.
fn joined(keys: &[Key]) -> Key {
    let mut joined = Key::default();
    blake3::Hasher::new().update(keys.as_flattened()).finalize_xof().fill(&mut joined);
    joined
}

impl Findings {
    pub fn refuse(&mut self, line: usize, problem: Problem) {
        self.bad += 1;
        if self.bad_lines.len() < SHOWN {
            self.bad_lines.push((line, problem));
        }
    }

    /// Why a pair is bad, where that has a name.
    pub fn count_sides(&mut self, fields: &Fields) {
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

    pub fn add(
        &mut self,
        auditor: &Auditor,
        kind: Kind,
        fields: &Fields,
        place: &Located<()>,
        entry: Entry,
    ) {
        self.records += 1;
        *self.forms.entry(form_of(fields)).or_default() += 1;
        self.measure(auditor, kind, &entry.tokens);
        self.compare(kind, place.line, &entry.group);
        self.look_at_endings(auditor, &entry);
        if let Some(tokenizer) = auditor.tokenizer.filter(|_| self.shown.len() < auditor.show) {
            self.shown.push(ShownRow::of(kind, place, &entry, tokenizer));
        }
        match (kind, &entry.group.rewards) {
            (Kind::LabelledTexts | Kind::Unpaired, Some(label)) => {
                self.positive += usize::from(label[0] == 1.0);
            }
            (Kind::Groups, rewards) => self.look_at_group(&entry, rewards.as_deref()),
            _ => {}
        }
        self.bias.add(kind, &entry.tokens);
    }

    fn measure(&mut self, auditor: &Auditor, kind: Kind, tokens: &TokenGroup) {
        let Limits { max_length, max_prompt_length, .. } = auditor.limits;
        let (prompt, longest) =
            (tokens.prompt.len(), tokens.completions.iter().map(Vec::len).max().unwrap_or(0));
        tokens.completions.iter().for_each(|ids| count(&mut self.completions, ids.len()));
        count(&mut self.totals, prompt + longest);
        if kind.is_text() {
            let lost = if max_length > 0 { longest.saturating_sub(max_length) } else { 0 };
            self.cut += usize::from(lost > 0);
            self.tokens_lost += lost;
            return;
        }
        count(&mut self.prompts, prompt);
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
            kind if kind.is_text() => texts[0],
            _ => passage_key(&group.prompt),
        };
        *self.seen_prompts.entry(prompt).or_default() += 1;
        let (choice, is_first) = match kind {
            Kind::LabelledTexts => (prompt, group.rewards.as_deref() == Some(&[1.0])),
            Kind::Preferences => {
                let (one, two) = (texts[0].min(texts[1]), texts[0].max(texts[1]));
                (joined(&[prompt, one, two]), texts[0] == one)
            }
            _ => {
                let is_new = self.seen.insert(joined(&[&[prompt], &texts[..]].concat()));
                self.duplicates += usize::from(!is_new);
                return;
            }
        };
        match self.seen_choices.get(&choice) {
            None => _ = self.seen_choices.insert(choice, (is_first, line)),
            Some((said, _)) if *said == is_first => self.duplicates += 1,
            Some((_, before)) => {
                self.contradictions += 1;
                if self.contradicting_lines.len() < SHOWN {
                    self.contradicting_lines.push((*before, line));
                }
            }
        }
    }

    fn look_at_endings(&mut self, auditor: &Auditor, entry: &Entry) {
        let Some(tokenizer) = auditor.tokenizer else { return };
        let ends = |id: &u32| tokenizer.all_end_of_text().contains(id);
        for (completion, ids) in entry.group.completions.iter().zip(&entry.tokens.completions) {
            let end = tokenizer.end_within(ids);
            let before = &ids[..end.unwrap_or(ids.len())];
            // Several turns end several times.
            let is_one = completion.passage.messages().is_none_or(|it| it.len() == 1);
            let is_text = completion.passage.ids.is_none() && completion.passage.text.is_some();
            self.checked_seams += usize::from(is_text && !entry.tokens.prompt.is_empty());
            self.endings.completions += 1;
            self.endings.cut += usize::from(!completion.finished);
            self.endings.unended += usize::from(completion.finished && end.is_none());
            self.endings.inside += usize::from(is_one && before.iter().any(ends));
        }
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
    pub fn shared_with(&self, other: &Path) -> Result<usize> {
        let mut shared = HashSet::new();
        for row in rows::open(other)? {
            // What is bad there is the business of an audit of its own.
            let (_, Ok(fields)) = row? else { continue };
            let prompt = match Kind::of(&fields) {
                kind if kind.is_text() => LabelledText::from_fields(&fields).map(|it| it.text),
                _ => PromptRecord::from_fields(&fields).map(|it| it.prompt),
            };
            shared.extend(prompt.iter().map(passage_key));
        }
        Ok(shared.iter().filter_map(|it| self.seen_prompts.get(it)).sum())
    }

    pub fn audit(self, auditor: &Auditor, kind: Kind, shared_prompts: Option<usize>) -> Audit {
        let mut groups = self.groups;
        groups.mean_spread = (!self.spreads.is_empty())
            .then(|| crate::statistics::mean(self.spreads.iter().copied()));
        let tokenizer = auditor.tokenizer;
        let end = tokenizer.and_then(|it| it.token(it.end_of_text()?));
        let unwritten = self.intake.unwritten();
        let Intake { seams: merged, seam_examples, begun_twice, begin, mut unread, .. } =
            self.intake;
        unread.extend(unwritten.notes());
        let mut audit = Audit {
            kind,
            forms: self.forms,
            rows: self.rows,
            records: self.records,
            unread,
            bad: self.bad,
            bad_lines: self.bad_lines,
            equal_sides: self.equal_sides,
            ties: self.ties,
            prompts: Lengths::of(&self.prompts),
            completions: Lengths::of(&self.completions),
            totals: Lengths::of(&self.totals),
            too_long: TooLong {
                max_length: auditor.limits.max_length,
                max_prompt_length: auditor.limits.max_prompt_length,
                set_by: auditor.limits.set_by,
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
            seams: Seams { checked: self.checked_seams, merged, examples: seam_examples },
            endings: self.endings,
            end,
            begun_twice,
            begin,
            unwritten,
            tokenizer_warnings: tokenizer.map_or(Vec::new(), |it| it.warnings().to_vec()),
            shown: self.shown,
            positive: matches!(kind, Kind::LabelledTexts | Kind::Unpaired).then_some(self.positive),
            groups: (kind == Kind::Groups).then_some(groups),
            length_bias: self.bias.estimate(),
            advice: Vec::new(),
        };
        audit.advice = advice::advice(&audit, auditor.skip_bad);
        audit
    }
}
