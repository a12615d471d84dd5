//! The records of a run: drawn from the embedded corpus, or taken from published data.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use exalign::data::published::Sources;
use exalign::data::{self, Group};
use exalign::model::ModelFolder;
use exalign::{Error, Result, files, memory};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::context::Context;
use crate::grammar::Grammar;
use crate::output::write_lines;
use crate::stage::{GROUPS, Input, Keyed, Source, Step};
use crate::stages::data::{Enough, Lengths, Records, Shape, in_words, needed_tokenizer};
use crate::tasks::{Example, Task};

/// To fine-tune on.
pub const DEMONSTRATIONS: &str = "demonstrations.jsonl";
/// For the reward model: pairs, or texts with labels.
pub const LABELLED: &str = "labelled.jsonl";
/// As those for the reward model, to tell how often it is right.
pub const HELD_OUT_LABELLED: &str = "held-out-labelled.jsonl";
/// To sample groups for.
pub const PROMPTS: &str = "prompts.jsonl";
/// To evaluate on.
pub const HELD_OUT: &str = "held-out.jsonl";
/// The answers that people gave to the held-out prompts.
pub const CHOSEN: &str = "chosen.jsonl";

/// What was read of published data, and what was dropped and why.
const MANIFEST: &str = "data.json";

/// `data.*`: where records come from and how many there are; see `assets/presets/common.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sizes {
    pub path: Vec<PathBuf>,
    pub held_out_path: Vec<PathBuf>,
    pub demonstrations: usize,
    pub labelled: usize,
    pub prompts: usize,
    pub held_out: usize,
    pub held_out_labelled: usize,
    #[serde(flatten)]
    pub lengths: Lengths,
}

impl Sizes {
    /// The files of the published data.
    pub fn sources(&self) -> Result<Sources> {
        Sources::find(&self.path, &self.held_out_path)
    }
}

/// The making of a run's records.
pub struct Corpus {
    pub task: &'static dyn Task,
    pub sizes: Sizes,
    pub seed: u64,
    /// The model that the run starts from.
    pub base: Source,
    /// The published data, known by its content; none: the embedded corpus.
    pub published: Option<Source>,
}

impl Keyed for Corpus {
    const NAME: &'static str = "data";

    fn settings(&self) -> Value {
        json!({
            "task": self.task.name(), "corpus": self.task.corpus(), "data": self.sizes, "seed": self.seed,
        })
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let published = self.published.iter().map(|source| source.known("published data"));
        [self.base.model("base model")].into_iter().chain(published).collect()
    }
}

impl Step for Corpus {
    fn fill(self, folder: &Path, _: &Context) -> Result<()> {
        let Self { task, sizes, seed, base, published } = self;
        let records = match published {
            None => embedded(task, &sizes, seed)?,
            Some(_) => of_published(task, &sizes, seed, &base.path, folder)?,
        };
        write_lines(&folder.join(DEMONSTRATIONS), &records.demonstrations)?;
        write_lines(&folder.join(LABELLED), &records.labelled)?;
        write_lines(&folder.join(PROMPTS), &records.prompts)?;
        write_lines(&folder.join(HELD_OUT), &records.held_out)?;
        if !records.held_out_labelled.is_empty() {
            write_lines(&folder.join(HELD_OUT_LABELLED), &records.held_out_labelled)?;
        }
        if !records.chosen.is_empty() {
            write_lines(&folder.join(CHOSEN), &records.chosen)?;
        }
        Ok(())
    }
}

/// Records of published data: as many as are asked for, in an order that the seed fixes.
fn of_published(
    task: &dyn Task,
    sizes: &Sizes,
    seed: u64,
    model: &Path,
    folder: &Path,
) -> Result<Records> {
    // Some of the held-out prompts will be too long.
    let mut set = sizes.sources()?.read(task.published(), sizes.held_out.saturating_mul(8), 0)?;
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    set.train.shuffle(&mut random);
    set.held_out.shuffle(&mut random);
    let tokenizer = needed_tokenizer(&ModelFolder::open(model)?)?;
    let kind = task.published();
    let shape = Shape { kind, tokenizer: Some(&tokenizer), lengths: sizes.lengths };
    // 0 takes all there are.
    let enough = |wanted: usize| if wanted == 0 { usize::MAX } else { wanted };
    let enough = Enough {
        demonstrations: enough(sizes.demonstrations),
        labelled: enough(sizes.labelled),
        prompts: enough(sizes.prompts),
        held_out: enough(sizes.held_out).max(sizes.held_out_labelled),
    };
    let mut records = shape.records(&mut set, enough)?;
    if records.labelled.is_empty() && !records.demonstrations.is_empty() {
        return Err(Error::usage(
            "data.labelled: expected comparisons for the reward model, found demonstrations alone; give a \
             set with `chosen` and `rejected` as well",
        ));
    }
    let dropped = in_words(&set.dropped);
    let parts = [
        ("demonstrations", &mut records.demonstrations, sizes.demonstrations),
        ("labelled", &mut records.labelled, sizes.labelled),
        ("prompts", &mut records.prompts, sizes.prompts),
        ("held_out", &mut records.held_out, sizes.held_out),
        ("held_out", &mut records.chosen, sizes.held_out),
    ];
    for (key, records, wanted) in parts {
        // 0 takes all there are.
        let enough = if wanted == 0 { records.len().max(1) } else { wanted };
        if records.len() < enough {
            return Err(Error::usage(format!(
                "data.{key}: expected {enough} records in the published data, found {} ({dropped} of {} \
                 rows); lower it with --set data.{key}={}, raise data.max_prompt_tokens or \
                 data.max_answer_tokens, or give more --data",
                records.len(),
                set.rows(),
                records.len(),
            )));
        }
        records.truncate(enough);
    }
    // Fewer tell less, as their interval says.
    records.held_out_labelled.truncate(sizes.held_out_labelled);
    let manifest = json!({
        "sources": set.sources, "read": set.rows(), "looked_at": set.looked_at, "fitting": records.used,
        "dropped": set.dropped,
        "columns_not_used": set.columns_not_used, "has_own_split": set.has_own_split, "proxy": records.proxy,
    });
    files::write_json(&folder.join(MANIFEST), &manifest)?;
    if let Some(proxy) = records.proxy {
        tracing::info!("the pairs are a proxy, since the set has no comparisons: {proxy}");
    }
    let (rows, looked_at) = (set.rows(), set.looked_at);
    tracing::info!("{rows} rows of published data read, {looked_at} looked at, {dropped}");
    Ok(records)
}

/// Groups with their first `count` completions only.
pub struct FirstCompletions {
    pub groups: Source,
    pub count: usize,
}

impl Keyed for FirstCompletions {
    const NAME: &'static str = "first completions";

    fn settings(&self) -> Value {
        json!({ "completions": self.count })
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![self.groups.file("groups")]
    }
}

impl Step for FirstCompletions {
    fn fill(self, folder: &Path, _: &Context) -> Result<()> {
        let read = data::read_all::<Group>(&self.groups.path, 0)?;
        let groups = read.into_iter().map(|located| {
            let mut group = located.record;
            group.completions.truncate(self.count);
            if let Some(rewards) = &mut group.rewards {
                rewards.truncate(self.count);
            }
            group
        });
        write_lines(&folder.join(GROUPS), groups)
    }
}

/// How many examples in a row may be repeats before the grammar counts as exhausted.
const PATIENCE: usize = 10_000;

/// Records drawn from the embedded grammar.
fn embedded(task: &dyn Task, sizes: &Sizes, seed: u64) -> Result<Records> {
    let grammar = Grammar::parse(task.grammar())?;
    let [examples, held_out, to_tell] = drawn_examples(task, &grammar, sizes, seed)?;
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    random.set_stream(1);
    let is_chat = task.chat_template().is_some();
    let prompt = |example: &Example| match is_chat {
        true => json!({ "messages": [{ "role": "user", "content": example.prompt }] }),
        false => json!({ "prompt": example.prompt }),
    };
    let with = |example: &Example, fields: &[(&str, Value)]| {
        let mut record = prompt(example);
        for (name, value) in fields {
            record[*name] = value.clone();
        }
        record
    };
    let with_label = |example: &Example, random: &mut ChaCha12Rng| match example.label {
        Some(label) => Some(json!({
            "text": format!("{}{}", example.prompt, example.answers[0]), "label": u8::from(label),
        })),
        None => {
            let (chosen, rejected) = preferred(task, &grammar, example, random)?;
            Some(with(example, &[("chosen", json!(chosen)), ("rejected", json!(rejected))]))
        }
    };
    let labelled = examples.iter().filter_map(|it| with_label(it, &mut random));
    let labelled = labelled.take(sizes.labelled).collect();
    let with_answer = |example: &Example, random: &mut ChaCha12Rng| {
        let best = match preferred(task, &grammar, example, random) {
            Some((chosen, _)) => chosen,
            None => &example.answers[0],
        };
        with(example, &[("completions", json!([best]))])
    };
    let chosen = held_out.iter().map(|it| with_answer(it, &mut random)).collect();
    // Last, since it draws random numbers.
    let held_out_labelled = to_tell.iter().filter_map(|it| with_label(it, &mut random)).collect();
    let demonstration = |example: &Example| with(example, &[("chosen", json!(example.answers[0]))]);
    Ok(Records {
        demonstrations: examples.iter().take(sizes.demonstrations).map(demonstration).collect(),
        labelled,
        prompts: examples.iter().take(sizes.prompts).map(prompt).collect(),
        held_out: held_out.iter().map(prompt).collect(),
        chosen,
        held_out_labelled,
        ..Records::default()
    })
}

/// Examples to learn from, others to hold out, and others to tell how often a reward model is right. No example is in
/// two of them, and where prompts seldom repeat, no prompt to learn from is among the others.
fn drawn_examples(
    task: &dyn Task,
    grammar: &Grammar,
    sizes: &Sizes,
    seed: u64,
) -> Result<[Vec<Example>; 3]> {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let training = sizes.demonstrations.max(sizes.labelled).max(sizes.prompts);
    let (mut seen, mut train_prompts) = (HashSet::new(), HashSet::new());
    let count = training.saturating_add(sizes.held_out).saturating_add(sizes.held_out_labelled);
    memory::check(
        memory::product([count, size_of::<Example>()]),
        &format!("`data`: {count} examples"),
        "lower data.demonstrations, data.labelled, data.prompts, data.held_out or data.held_out_labelled",
    )?;
    let mut examples: Vec<Example> = Vec::with_capacity(count);
    let mut repeats = 0;
    while examples.len() < count {
        let example = task.example(grammar, examples.len(), &mut random)?;
        let held_out = examples.len() >= training;
        let known = held_out && example.label.is_none() && train_prompts.contains(&example.prompt);
        if !known && seen.insert(format!("{}{}", example.prompt, example.answers[0])) {
            if !held_out {
                train_prompts.insert(example.prompt.clone());
            }
            examples.push(example);
            repeats = 0;
            continue;
        }
        repeats += 1;
        if repeats > PATIENCE {
            return Err(Error::usage(format!(
                "data: expected no more examples than the embedded grammar has, found {count} asked for"
            )));
        }
    }
    let mut held_out = examples.split_off(training);
    let to_tell = held_out.split_off(sizes.held_out);
    Ok([examples, held_out, to_tell])
}

/// The better of two answers and the other, as people would have it who follow the rule but err: the
/// first is chosen with probability σ(difference). None for equal texts and where there is no rule.
fn preferred<'a>(
    task: &dyn Task,
    grammar: &Grammar,
    example: &'a Example,
    random: &mut ChaCha12Rng,
) -> Option<(&'a str, &'a str)> {
    let [first, second] = example.answers.as_slice() else { return None };
    if first == second {
        return None;
    }
    let score = |answer: &str| task.rule(grammar, &example.prompt, answer);
    let difference = score(first)? - score(second)?;
    let first_wins = random.random::<f64>() < 1.0 / (1.0 + (-difference).exp());
    Some(if first_wins { (first, second) } else { (second, first) })
}
