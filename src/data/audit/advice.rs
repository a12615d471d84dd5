//! Advice on what an audit has found, each with the flag or the command to use.

use serde::Serialize;

use super::{Audit, Kind};
use crate::data::SetBy;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// What was found and what to do, in one sentence.
    pub text: String,
    /// Whether training would refuse the file until it is done.
    pub is_refused: bool,
}

/// The smaller class, as a share of all, below which a balance is worth a word.
const BALANCE: f64 = 0.2;

/// A share of pairs, or a correlation, that length alone should not reach.
const LONGER: f64 = 0.6;
const CORRELATION: f64 = 0.3;

pub(super) fn advice(audit: &Audit, skip_bad: usize) -> Vec<Advice> {
    let mut list = List(Vec::new());
    list.of_lines(audit, skip_bad);
    list.of_lengths(audit);
    list.of_tokens(audit);
    list.of_repeats(audit);
    list.of_seams_and_endings(audit);
    list.of_labels(audit);
    list.0
}

struct List(Vec<Advice>);

impl List {
    fn note(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if holds {
            self.0.push(Advice { text: text(), is_refused: false });
        }
    }

    fn refuse(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if holds {
            self.0.push(Advice { text: text(), is_refused: true });
        }
    }

    fn of_lines(&mut self, audit: &Audit, skip_bad: usize) {
        self.refuse(audit.bad > skip_bad, || {
            let sides = [(audit.equal_sides, "with equal sides"), (audit.ties, "tied")];
            let of_pairs: Vec<String> = sides
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{count} {what}"))
                .collect();
            let of_pairs = match of_pairs.is_empty() {
                true => String::new(),
                false => format!(" ({})", of_pairs.join(", ")),
            };
            format!(
                "{} bad{of_pairs}: correct or drop the lines above, or pass --skip-bad {}",
                count(audit.bad, "line is", "lines are"),
                audit.bad
            )
        });
    }

    fn of_lengths(&mut self, audit: &Audit) {
        let long = &audit.too_long;
        self.refuse(long.refused > 0, || {
            format!(
                "{} a completion that does not fit: {}, --skip-bad {} to pass over them, or `exalign data --model M \
                 --max-answer-tokens N` to leave them out",
                count(long.refused, "record has", "records have"),
                match long.set_by {
                    SetBy::Setting => {
                        format!("--set data.max_length={} if the model has the positions", long.enough)
                    }
                    set_by => set_by.remedy(long.enough),
                },
                audit.bad + long.refused,
            )
        });
        self.note(long.cut > 0 && audit.kind.is_text(), || {
            format!(
                "{} cut to the first {} tokens ({} tokens lost){}",
                count(long.cut, "text is", "texts are"),
                long.max_length,
                long.tokens_lost,
                match long.set_by {
                    SetBy::Setting =>
                        ": raise --set data.max_length if the model has the positions".to_owned(),
                    set_by => format!(", which is what the model reads ({})", set_by.source()),
                }
            )
        });
        self.note(long.cut > 0 && !audit.kind.is_text(), || {
            format!(
                "{} from the left ({} tokens in all): {}, or leave them out with `exalign data --model M \
                 --max-prompt-tokens N`",
                count(long.cut, "prompt loses tokens", "prompts lose tokens"),
                long.tokens_lost,
                match long.set_by {
                    SetBy::Setting => "raise --set data.max_length or data.max_prompt_length".to_owned(),
                    set_by => format!(
                        "the model reads {} tokens together ({}), so shorten them, raise --set data.max_prompt_length \
                         if that is set",
                        long.max_length,
                        set_by.source()
                    ),
                }
            )
        });
    }

    fn of_tokens(&mut self, audit: &Audit) {
        for warning in &audit.tokenizer_warnings {
            self.note(true, || warning.clone());
        }
        self.note(audit.begun_twice > 0, || {
            format!(
                "{} with {} twice, once from the text and once from the tokenizer: take it out of the text, or \
                 give messages instead of a text that a chat template has written",
                count(audit.begun_twice, "record begins", "records begin"),
                audit.begin
            )
        });
        if let Some(words) = audit.unwritten.words() {
            self.note(true, || words);
        }
        self.note(audit.kind == Kind::Unpaired, || {
            format!(
                "unpaired preferences: `exalign align --objective kto` learns from all, `exalign sft` from the {} with \
                 label 1 alone, and `exalign reward` makes a classifier of all, which labels groups for other \
                 objectives",
                count(audit.positive.unwrap_or(0), "completion", "completions")
            )
        });
    }

    fn of_repeats(&mut self, audit: &Audit) {
        self.note(audit.duplicates > 0, || {
            format!(
                "{} what an earlier one says: `exalign data` writes each once",
                count(audit.duplicates, "record repeats", "records repeat")
            )
        });
        self.note(audit.contradictions > 0, || {
            let (one, two) = audit.contradicting_lines[0];
            format!(
                "{} an earlier one (lines {one} and {two}): drop both sides, they teach nothing",
                count(audit.contradictions, "record contradicts", "records contradict")
            )
        });
        self.note(audit.shared_prompts.is_some_and(|it| it > 0), || {
            format!(
                "{} in the other file too, so what is measured there was learned here: leave them out of \
                 one, as `exalign data` does",
                count(audit.shared_prompts.unwrap_or(0), "record has a prompt that is", "records have prompts that are")
            )
        });
    }

    fn of_seams_and_endings(&mut self, audit: &Audit) {
        let (seams, endings) = (&audit.seams, &audit.endings);
        self.note(seams.merged > 0, || {
            format!(
                "{} of {} seams fall inside a token ({}): move white space from the end of the prompt to \
                 the beginning of the completion; training keeps the seam, but a server that is sent the \
                 two as one text does not",
                seams.merged, seams.checked, seams.examples[0]
            )
        });
        let texts = audit.kind.is_text();
        let all_cut = endings.completions > 0 && endings.cut == endings.completions;
        self.note(!texts && all_cut, || {
            "no completion ends by itself (`finished` is false for all), so that the model will not \
             learn to stop: give whole completions, or sample with a higher --max-new-tokens"
                .to_owned()
        });
        self.note(!texts && endings.unended > 0, || {
            format!(
                "{} no end-of-text token and no `finished`: append the token to `completion_ids`, or say \
                 \"finished\": false",
                count(endings.unended, "completion has", "completions have")
            )
        });
        self.note(endings.inside > 0, || {
            format!(
                "{} an end-of-text token in the middle: cut there, or take the token's text out",
                count(endings.inside, "completion or text has", "completions or texts have")
            )
        });
    }

    fn of_labels(&mut self, audit: &Audit) {
        if let Some(positive) = audit.positive {
            let share = positive as f64 / audit.records as f64;
            self.note(share.min(1.0 - share) < BALANCE, || {
                format!(
                    "{:.0} % of the labels are 1: drop some of the many, or log-odds start from there",
                    100.0 * share
                )
            });
        }
        if let Some(groups) = &audit.groups {
            self.note(groups.unlabelled > 0, || {
                format!(
                    "{} no rewards: `exalign label --reward DIR --data F --out F2` adds them",
                    count(groups.unlabelled, "group has", "groups have")
                )
            });
            self.note(groups.tied > 0, || {
                format!(
                    "{} the same reward throughout and teach objectives with rewards nothing but to stay: \
                     drop them, or sample more completions with `exalign sample --completions`",
                    count(groups.tied, "group has", "groups have")
                )
            });
            let pairs_only = groups.sizes.keys().all(|it| *it == 2);
            self.note(!pairs_only, || {
                "groups of more than two are for objectives with rewards: `exalign pairs --data F --out F2` \
                 makes pairs for the others"
                    .to_owned()
            });
        }
        let Some(bias) = &audit.length_bias else { return };
        self.note(bias.longer_wins.is_some_and(|it| it.low > 0.5 && it.mean > LONGER), || {
            format!(
                "\"the longer one\" names the chosen side in {:.0} % of pairs: a reward model can learn that \
                 much without reading; take pairs of like length, and compare lengths in the report",
                100.0 * bias.longer_wins.map_or(0.0, |it| it.mean)
            )
        });
        let correlated = |it: crate::statistics::Interval| it.mean.abs() > CORRELATION;
        self.note(bias.correlation.is_some_and(correlated), || {
            "rewards go with length within groups: look at the longest and the shortest of some groups \
             before you trust the reward"
                .to_owned()
        });
    }
}

/// A number with what it counts.
pub(in crate::data) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
