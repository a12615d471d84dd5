//! Instruction following: a chat model through its template, with preference pairs from its own samples.
//! The embedded instructions ask for a number of things of one kind, and a rule can check the answer.

use std::collections::BTreeSet;

use exalign::Result;
use exalign::data::published::SetKind;
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha12Rng;

use super::task::{Example, Task};
use crate::grammar::{Bindings, Grammar, words};

#[derive(Debug)]
pub struct Instruction;

const KINDS: [&str; 5] = ["fruits", "animals", "colours", "tools", "cities"];
const NUMBERS: [&str; 4] = ["one", "two", "three", "four"];

impl Task for Instruction {
    fn name(&self) -> &'static str {
        "instruction"
    }

    fn about(&self) -> &'static str {
        "Instructions followed by a chat model"
    }

    fn presets(&self) -> [&'static str; 3] {
        presets!("instruction")
    }

    fn published(&self) -> SetKind {
        SetKind::Instructions
    }

    fn grammar(&self) -> &'static str {
        include_str!("../../assets/corpus/instructions.grammar")
    }

    fn special_tokens(&self) -> &'static [&'static str] {
        &["<|user|>", "<|assistant|>"]
    }

    fn chat_template(&self) -> Option<&'static str> {
        Some(
            "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}\
             {% if add_generation_prompt %}<|assistant|>{% endif %}",
        )
    }

    fn example(
        &self,
        grammar: &Grammar,
        _number: usize,
        random: &mut ChaCha12Rng,
    ) -> Result<Example> {
        let prompt = grammar.draw("prompt", random, &mut Bindings::default())?;
        let prompt = prompt.trim_start().to_owned();
        let wanted = wanted(&prompt);
        let answers = (0..2).map(|_| answer(grammar, &wanted, random)).collect::<Result<_>>()?;
        Ok(Example { prompt, answers, label: None })
    }

    /// Two points for every kind of which the answer has exactly as many different ones as asked for; a
    /// point off for each one too many, too few, said twice or of another kind.
    fn rule(&self, grammar: &Grammar, prompt: &str, answer: &str) -> Option<f64> {
        let wanted = wanted(prompt);
        let said = words(answer);
        let mut score = 0.0;
        for kind in KINDS {
            let members: BTreeSet<String> =
                grammar.words_of(kind).into_iter().map(str::to_lowercase).collect();
            let of_kind: Vec<&String> =
                said.iter().filter(|word| members.contains(*word)).collect();
            let different = of_kind.iter().collect::<BTreeSet<_>>().len();
            let asked: usize =
                wanted.iter().filter(|(_, wanted)| *wanted == kind).map(|(count, _)| count).sum();
            let wrong = different.abs_diff(asked) + (of_kind.len() - different);
            score -= wrong as f64;
            if asked > 0 && wrong == 0 {
                score += 2.0;
            }
        }
        Some(score)
    }
}

/// What an instruction asks for: how many of which kind, in order.
fn wanted(prompt: &str) -> Vec<(usize, &'static str)> {
    let said = words(prompt);
    said.windows(2)
        .filter_map(|pair| {
            let count = NUMBERS.iter().position(|it| pair[0] == *it)? + 1;
            Some((count, *KINDS.iter().find(|it| pair[1] == **it)?))
        })
        .collect()
}

/// An answer as people give them: right, or with another number, or of another kind.
fn answer(
    grammar: &Grammar,
    wanted: &[(usize, &'static str)],
    random: &mut ChaCha12Rng,
) -> Result<String> {
    let mut parts = Vec::new();
    for &(count, kind) in wanted {
        let (count, kind) = match random.random_range(0..10) {
            0..6 => (count, kind),
            6..9 => (random.random_range(1..=5), kind),
            _ => (count, *KINDS.choose(random).unwrap_or(&kind)),
        };
        let mut members = grammar.words_of(kind);
        members.shuffle(random);
        members.truncate(count);
        parts.push(members.join(", "));
    }
    let mut text = match random.random_range(0..4) {
        0 => grammar.draw("opening", random, &mut Bindings::default())?,
        _ => String::new(),
    };
    let joint = grammar.draw("joint", random, &mut Bindings::default())?;
    text.push(' ');
    text.push_str(&parts.join(&joint_between(&joint)));
    text.push('.');
    Ok(text)
}

/// `, and ` of ` and`.
fn joint_between(joint: &str) -> String {
    format!(",{joint} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_counts_things_of_each_kind() {
        let grammar = Grammar::parse(Instruction.grammar()).unwrap();
        let score = |answer: &str| {
            let prompt = "Please name two fruits and one tools.";
            Instruction.rule(&grammar, prompt, answer).unwrap()
        };
        assert_eq!(score(" apple, pear, and saw."), 4.0);
        assert_eq!(score(" apple, apple, and saw."), 0.0);
        assert_eq!(score(" apple, pear, plum, and saw."), 1.0);
        assert_eq!(score(" apple, pear, and horse."), 0.0);
        assert_eq!(wanted("List four cities, then one colours."), [(4, "cities"), (1, "colours")]);
    }
}
