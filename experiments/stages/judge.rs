//! `exalign judge`: which of two answers is better, in both orders, and the win rate.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::Args;
use exalign::config::{JudgingSettings, Stage};
use exalign::data::{self, Group};
use exalign::evaluation::{
    Agreement, Annotators, BothOrders, Verdict, WinRate, majority, position_bias,
};
use exalign::judges::{Comparison, Judge, Judgement};
use exalign::statistics::Interval;
use exalign::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::context::{Context, Global, settings};
use crate::judging::{Asked, JudgeSpec, Reading, Reads};
use crate::output::write_lines;
use crate::stage::{self, Input, Keyed, Place, Site, Source, perform};

/// Options of `exalign judge`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct JudgeArgs {
    /// Comparisons, JSON Lines: {"prompt", "completions": [a, b], "labels"?: ["a", "b", "tie", ..]},
    /// or {"prompt", "chosen", "rejected"}; with --against groups, the first completion of each
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Groups for the same prompts: their first completions are the second answers
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// reward:FOLDER (a reward model), openai:URL (an endpoint that speaks the OpenAI API), or labels
    #[arg(long, value_name = "JUDGE", value_parser = JudgeSpec::of_command)]
    judge: JudgeSpec,
    /// The file for both verdicts of every comparison
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Start over instead of continuing an earlier --out
    #[arg(long)]
    fresh: bool,
    /// judge.model: openai: the model's name at the endpoint
    #[arg(long, value_name = "NAME")]
    judge_model: Option<String>,
    /// judge.template: openai: generic, summarization, dialogue, instruction, or a file
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// dtype: reward: type of the weights in memory: f32, bf16, f16, q8 or q4
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<String>,
}

const HELP: &str = "\
Prints the win rate of the first answers (with --against, of the answers in --data). A tie counts half.
  order_dependent     comparisons whose two orders disagree; each counts as a tie
  no_verdict          comparisons without a verdict in one of their orders; they are left out
  refused             those of them that the endpoint refused (a content filter, a text too long), \
listed with their id or line
  win_rate            with Wilson's interval over comparisons
  win_rate_bootstrap  with an interval that resamples prompts
  position_bias       the share of decisions for the answer shown first
Labels are \"a\" (or 0), \"b\" (or 1), \"tie\" (or 0.5), one label a person. Where comparisons have \
labels, the judge's agreement with their majority and Cohen's kappa are printed. Where a comparison \
has several labels, the agreement among people is printed as well.

An endpoint's key is read from OPENAI_API_KEY (or the variable that judge.key_variable names) and \
written nowhere. Every answer is kept in the cache folder (EXALIGN_CACHE): after an interruption, the \
same command asks only the questions without an answer. A reply that was cut, is empty or refuses gives \
no verdict and is not kept: the same command asks again. Thoughts (<think>, reasoning_content) are ignored.

Settings, as --set KEY=VALUE:
  judge.temperature            0; \"none\" sends no temperature
  judge.max_tokens             256; 0 sends no limit, for models that think before they answer
  judge.max_completion_tokens  replaces max_tokens, for endpoints that want this name
  judge.extra.NAME             any further field: judge.extra.reasoning_effort=low
  judge.max_refused            20; comparisons that the endpoint may refuse before the work ends
  judge.timeout                120; seconds until an answer must be complete
  judge.concurrency, judge.max_retries
  judge.key_header             auto: Authorization, or api-key where the URL has ?api-version=…
  judge.ca_file                certificates to trust for an https endpoint, instead of the system's \
or those of SSL_CERT_FILE
Proxies are those of HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY. An endpoint on this machine is \
asked without a proxy.

Two ways to run a judge on this machine:

  pip install 'transformers[serving]' torch
  transformers serve --port 8000
  exalign judge --data pairs.jsonl --judge openai:http://127.0.0.1:8000/v1 --judge-model FOLDER

  pip install 'llama-cpp-python[server]'
  python -m llama_cpp.server --model FILE.gguf --port 8000
  exalign judge --data pairs.jsonl --judge openai:http://127.0.0.1:8000/v1";

/// Runs the command.
pub fn run(args: JudgeArgs, global: &Global) -> Result<Judged> {
    let flags = vec![
        ("judge.model", args.judge_model.map(|name| json!(name).to_string())),
        ("judge.template", args.template.map(|name| json!(name).to_string())),
        ("dtype", args.dtype),
    ];
    let settings: JudgingSettings = settings(global, Stage::Judge, flags)?;
    let context = Context::new(global)?;
    let against = args.against.map(Source::from);
    let device = context.device.clone();
    let judging = Judging::of(args.judge, args.data.into(), against, device, settings);
    perform(judging, &Place::file_or_nowhere(args.out), args.fresh, &context)
}

/// The judging of comparisons.
pub struct Judging {
    judge: JudgeSpec,
    data: Source,
    against: Option<Source>,
    /// What the judge reads.
    reads: Option<Reads>,
    /// Where a reward model judges.
    device: Device,
    settings: JudgingSettings,
}

/// What judging came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Judged {
    judge: String,
    comparisons: usize,
    win_rate: Option<Interval>,
    win_rate_over_prompts: Option<Interval>,
    win_rate_bootstrap: Option<Interval>,
    wins: usize,
    ties: usize,
    losses: usize,
    order_dependent: usize,
    no_verdict: usize,
    prompts: usize,
    prompts_to_tell_apart: Option<usize>,
    /// What asking an endpoint has cost and met.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    asked: Option<Asking>,
    /// How far the judge agrees with the people who labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    people: Option<Agreement>,
    /// How far people agree among themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotators: Option<Annotators>,
    /// Whether a comparison was not answered and may be the next time.
    #[serde(skip)]
    is_open: bool,
}

/// What asking an endpoint has cost and met.
#[derive(Debug, Serialize, Deserialize)]
struct Asking {
    refused: usize,
    position_bias: Option<Interval>,
    requests: usize,
    cached: usize,
    tokens: Tokens,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tokens {
    prompt: u64,
    completion: u64,
    uncounted_answers: usize,
}

impl Keyed for Judging {
    const NAME: &'static str = "judge";

    fn settings(&self) -> Value {
        let mut settings = self.judge.shaping(&self.settings);
        settings["seed"] = json!(self.settings.seed);
        settings
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let of_judge = self.reads.iter().map(Reads::input);
        let against = self.against.iter().map(|source| source.file("against"));
        of_judge.chain([self.data.file("data")]).chain(against).collect()
    }
}

impl stage::Stage for Judging {
    type Opened = (Box<dyn Judge>, Vec<Comparison>);
    type Summary = Judged;

    fn open(&mut self, _: Option<&Path>) -> Result<Self::Opened> {
        Ok((self.opened()?, self.comparisons()?))
    }

    fn make(self, opened: Self::Opened, site: &Site<'_>) -> Result<Judged> {
        let (mut judge, comparisons) = opened;
        let judgements = judge.judge(&comparisons)?;
        let judged = self.judged(&*judge, &comparisons, &judgements);
        if let Some(out) = site.kept() {
            write_lines(
                out,
                comparisons.iter().zip(&judgements).map(|(asked, said)| line(asked, said)),
            )?;
        }
        Ok(judged)
    }

    /// The same command asks for what was not answered.
    fn is_finished(judged: &Judged) -> bool {
        !judged.is_open
    }
}

impl Judging {
    /// Of the comparisons in `data`, or of its groups with those in `against`, by `judge`.
    pub fn of(
        judge: JudgeSpec,
        data: Source,
        against: Option<Source>,
        device: Device,
        settings: JudgingSettings,
    ) -> Self {
        let reads = judge.reads(&settings);
        Self { judge, data, against, reads, device, settings }
    }

    /// The judge; of an endpoint, records that may be bad may be refused.
    fn opened(&self) -> Result<Box<dyn Judge>> {
        let reading = Reading {
            settings: self.settings.clone(),
            file: self.data.path.clone(),
            device: self.device.clone(),
        };
        let mut settings = self.settings.judge.clone();
        settings.max_refused = settings.max_refused.max(self.settings.data.skip_bad);
        self.judge.open(Asked { settings, reading: Some(reading), experiment: "", rule: None })
    }

    fn comparisons(&self) -> Result<Vec<Comparison>> {
        let skip_bad = self.settings.data.skip_bad;
        if let Some(against) = &self.against {
            if self.judge.needs_labels() {
                return Err(Error::usage(
                    "--judge labels: expected comparisons with `labels` in --data, found --against; \
                     groups have no labels",
                ));
            }
            return paired(&self.data.path, &against.path, skip_bad);
        }
        let mut reader = data::read::<Comparison>(&self.data.path, skip_bad)?;
        let mut comparisons = Vec::new();
        while let Some(located) = reader.next().transpose()? {
            if self.judge.needs_labels() && located.record.labels.is_empty() {
                reader.refuse(located.error(
                    "`labels`: expected at least one label, such as [\"a\", \"tie\"], found none; label or \
                     drop the record",
                ))?;
                continue;
            }
            let line = Some(located.line);
            comparisons.push(Comparison { line, ..located.record });
        }
        Ok(comparisons)
    }

    fn judged(
        &self,
        judge: &dyn Judge,
        comparisons: &[Comparison],
        judgements: &[Judgement],
    ) -> Judged {
        let seed = self.settings.seed;
        let asked: Vec<(String, BothOrders)> = comparisons
            .iter()
            .zip(judgements)
            .map(|(comparison, judgement)| (comparison.prompt_key(), judgement.both))
            .collect();
        let both: Vec<BothOrders> = judgements.iter().map(|said| said.both).collect();
        let rate = WinRate::new(&asked, seed);
        let share = |value: fn(&WinRate) -> Interval| rate.as_ref().map(value);
        let count = |value: fn(&WinRate) -> usize| rate.as_ref().map_or(0, value);
        let no_verdict = both.iter().filter(|both| both.verdict().is_none()).count();
        let refused = judgements.iter().filter(|said| said.refused.is_some()).count();
        warn_of_no_verdict(no_verdict, refused, both.len());
        let asking = judge.cost().map(|cost| Asking {
            refused,
            position_bias: position_bias(&both, seed),
            requests: cost.requests,
            cached: cost.cached,
            tokens: Tokens {
                prompt: cost.prompt_tokens,
                completion: cost.completion_tokens,
                uncounted_answers: cost.uncounted,
            },
            left_out: judge.left_out(),
        });
        let with_people: Vec<(Verdict, Verdict)> = comparisons
            .iter()
            .zip(&both)
            .filter_map(|(asked, both)| Some((both.verdict()?, majority(&asked.labels)?)))
            .collect();
        let labels: Vec<Vec<Verdict>> =
            comparisons.iter().map(|asked| asked.labels.clone()).collect();
        Judged {
            judge: judge.name(),
            comparisons: comparisons.len(),
            win_rate: share(|found| found.rate),
            win_rate_over_prompts: share(|found| found.rate_over_prompts),
            win_rate_bootstrap: share(|found| found.rate_bootstrap),
            wins: count(|found| found.wins),
            ties: count(|found| found.ties),
            losses: count(|found| found.losses),
            order_dependent: count(|found| found.order_dependent),
            no_verdict,
            prompts: count(|found| found.num_prompts),
            prompts_to_tell_apart: rate.as_ref().and_then(|found| found.prompts_to_tell_apart),
            asked: asking,
            // People agree with themselves.
            people: Agreement::new(&with_people, seed).filter(|_| !self.judge.needs_labels()),
            annotators: Annotators::new(&labels, seed),
            is_open: judgements.iter().any(|said| said.is_unanswered),
        }
    }
}

fn warn_of_no_verdict(count: usize, refused: usize, comparisons: usize) {
    if count == 0 {
        return;
    }
    let of_these = match refused {
        0 => String::new(),
        _ => format!(", {refused} of them since the endpoint refused them"),
    };
    tracing::warn!("{count} of {comparisons} comparisons have no verdict{of_these}");
}

/// The first completions of groups in two files, paired by prompt.
fn paired(ours: &Path, theirs: &Path, skip_bad: usize) -> Result<Vec<Comparison>> {
    let first = |group: &Group| group.completions[0].clone();
    let pair = |group: &Group, other: &Group| {
        Comparison::new(group.id.clone(), group.prompt.clone(), [first(group), first(other)])
    };
    let mut by_prompt: HashMap<String, VecDeque<Group>> = HashMap::new();
    for located in data::read_all::<Group>(theirs, skip_bad)? {
        let group = located.record;
        by_prompt.entry(pair(&group, &group).prompt_key()).or_default().push_back(group);
    }
    let mut reader = data::read::<Group>(ours, skip_bad)?;
    let mut comparisons = Vec::new();
    while let Some(located) = reader.next().transpose()? {
        let group = &located.record;
        let others = by_prompt.get_mut(&pair(group, group).prompt_key());
        match others.and_then(VecDeque::pop_front) {
            Some(other) => {
                let line = Some(located.line);
                comparisons.push(Comparison { line, ..pair(group, &other) });
            }
            None => reader.refuse(located.error(format!(
                "`prompt`: expected a group for the same prompt in {}, found none (left); sample both for \
                 the same prompts, or drop the record",
                theirs.display()
            )))?,
        }
    }
    Ok(comparisons)
}

/// A comparison's line in the output.
fn line(comparison: &Comparison, judgement: &Judgement) -> Value {
    let Judgement { both, grounds, refused, .. } = judgement;
    let mut line = json!({
        "forward": both.forward, "backward": both.backward,
        "verdict": both.verdict(), "order_dependent": both.is_order_dependent(),
    });
    let people = majority(&comparison.labels);
    let more = [
        ("id", comparison.group.id.clone().unwrap_or_default()),
        ("grounds", grounds.clone()),
        ("refused", json!(refused)),
        ("people", json!(people)),
    ];
    for (name, value) in more {
        if !value.is_null() {
            line[name] = value;
        }
    }
    line
}
