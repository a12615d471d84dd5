//! `exalign judge`: which of two answers is better, in both orders, and what it comes to.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::Args;
use exalign::config::{Config, JudgeSettings, Stage};
use exalign::data::{self, Group};
use exalign::evaluation::{
    Agreement, Annotators, BothOrders, Verdict, WinRate, majority, position_bias,
};
use exalign::judges::{Comparison, Endpoint, Judge, Judgement, People};
use exalign::reference::cache_folder;
use exalign::{Error, Result, files};
use serde_json::{Value, json};

use super::label::Judge as Rewarder;
use super::{Context, configuration, write_lines};
use crate::command_line::Global;
use crate::record::{Record, Start};
use crate::shard::Shard;

/// Options of `exalign judge`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct JudgeArgs {
    /// Comparisons, JSON Lines: {"prompt", "completions": [a, b], "labels"?: ["a", "b", "tie", ..]},
    /// or {"prompt", "chosen", "rejected"}; with --against groups, the first completion of each
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Groups for the same prompts, whose first completions are the other side
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// reward:FOLDER (a reward model), openai:URL (an endpoint that speaks the OpenAI API), or labels
    #[arg(long, value_name = "JUDGE")]
    judge: Judges,
    /// Where both verdicts of every comparison go
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Start over where an earlier run left something in --out
    #[arg(long)]
    fresh: bool,
    /// judge.model: openai: the model that is asked for, by the endpoint's name for it
    #[arg(long, value_name = "NAME")]
    judge_model: Option<String>,
    /// judge.template: openai: generic, summarization, dialogue, instruction, or a file
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// dtype: reward: what the weights are kept as in memory: f32, bf16 or f16
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<String>,
}

const HELP: &str = "\
Prints the win rate of the first answers (with --against, of --data). A tie counts half. Orders that \
disagree are a tie and counted as order_dependent; a comparison without a verdict in one of its \
orders is left out and counted as no_verdict; those of them that the endpoint refused (a content \
filter, a text too long) are counted as refused and listed with their id or line. win_rate has Wilson's interval over comparisons, \
win_rate_bootstrap one that resamples prompts; position_bias is the share of decisions for the answer \
shown first. Labels are \"a\" (or 0), \"b\" (or 1), \"tie\" (or 0.5), one a person; where there are \
some, the judge's agreement with their majority and Cohen's kappa are printed, and where an item has \
several, how far people agree.

An endpoint's key is read from OPENAI_API_KEY (or the variable that judge.key_variable names) and \
written nowhere. Every answer is kept in the cache folder (EXALIGN_CACHE): the same command after an \
interruption asks no question again that was answered. A reply that was cut, is empty or refuses is no verdict and is not \
kept: the same command asks again. Thoughts (<think>, reasoning_content) are passed over.

Settings, as --set KEY=VALUE:
  judge.temperature            0; \"none\" sends none
  judge.max_tokens             256; 0 sends none, for models that think before they answer
  judge.max_completion_tokens  in place of max_tokens, for endpoints that want this name
  judge.extra.NAME             any further field: judge.extra.reasoning_effort=low
  judge.max_refused            20; comparisons that may be refused before the work ends
  judge.concurrency, judge.timeout, judge.max_retries
  judge.key_header             auto: Authorization, or api-key where the URL has ?api-version=…
  judge.ca_file                certificates by which an https endpoint is trusted, if not the \
system's or those of SSL_CERT_FILE
Proxies are those of HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY; this machine is asked directly.

A judge on this machine, for instance:

  pip install 'transformers[serving]' torch
  transformers serve --port 8000
  exalign judge --data pairs.jsonl --judge openai:http://127.0.0.1:8000/v1 --judge-model FOLDER

  pip install 'llama-cpp-python[server]'
  python -m llama_cpp.server --model FILE.gguf --port 8000
  exalign judge --data pairs.jsonl --judge openai:http://127.0.0.1:8000/v1";

/// Who judges.
#[derive(Clone, Debug, PartialEq)]
pub enum Judges {
    /// A reward model's folder.
    Reward(PathBuf),
    /// An endpoint.
    OpenAi(String),
    /// People.
    Labels,
}

impl std::str::FromStr for Judges {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            Some(("reward", folder)) if !folder.is_empty() => Ok(Self::Reward(folder.into())),
            Some(("openai", url)) if !url.is_empty() => Ok(Self::OpenAi(url.to_owned())),
            None if text == "labels" => Ok(Self::Labels),
            _ => Err("expected reward:FOLDER, openai:URL or labels".to_owned()),
        }
    }
}

/// Runs the command.
pub fn run(args: JudgeArgs, global: &Global) -> Result<Value> {
    let flags = vec![
        ("judge.model", args.judge_model.map(|it| json!(it).to_string())),
        ("judge.template", args.template.map(|it| json!(it).to_string())),
        ("dtype", args.dtype),
    ];
    let config = configuration(global, Stage::Evaluate, flags)?;
    let (data, against, out) = (args.data, args.against, args.out);
    JudgeStage { judge: args.judge, data, against, out, fresh: args.fresh, config }
        .run(&Context::new(global)?)
}

/// Judging, of what by whom.
pub struct JudgeStage {
    pub judge: Judges,
    pub data: PathBuf,
    pub against: Option<PathBuf>,
    pub out: Option<PathBuf>,
    pub fresh: bool,
    pub config: Config,
}

impl JudgeStage {
    pub fn run(self, context: &Context) -> Result<Value> {
        let mut judge: Box<dyn Judge> = match &self.judge {
            Judges::Reward(folder) => Box::new(RewardJudge {
                rewarder: Rewarder::open(folder, &self.config)?,
                source: self.data.clone(),
                device: context.device.clone(),
            }),
            Judges::OpenAi(url) => Box::new(endpoint(url, &self.settings())?),
            Judges::Labels => Box::new(People),
        };
        let comparisons = self.comparisons()?;
        let work = match &self.out {
            Some(out) => match self.record(context)?.start_file(out, self.fresh)? {
                Start::Done(result) => return Ok(result),
                Start::Go(work) => Some(work),
            },
            None => None,
        };
        let judgements = judge.judge(&comparisons)?;
        let result = self.result(&*judge, &comparisons, &judgements);
        if let (Some(out), Some(work)) = (&self.out, work) {
            write_lines(out, comparisons.iter().zip(&judgements).map(|(it, said)| line(it, said)))?;
            // What was not answered may be the next time: the same command asks for it.
            if !judgements.iter().any(|it| it.is_unanswered) {
                work.finish(result.clone())?;
            }
        }
        Ok(result)
    }

    /// The judge's settings; records that may be bad may be refused.
    fn settings(&self) -> JudgeSettings {
        let mut settings = self.config.judge.clone();
        settings.max_refused = settings.max_refused.max(self.config.data.skip_bad);
        settings
    }

    /// What the verdicts depend on; how they are asked for does not count.
    fn record(&self, context: &Context) -> Result<Record> {
        let JudgeSettings { model, template, extra, .. } = &self.config.judge;
        let (mut settings, mut inputs) = (json!({ "seed": self.config.seed }), Vec::new());
        let mut rewarder = None;
        match &self.judge {
            Judges::Labels => settings["judge"] = json!("labels"),
            Judges::Reward(folder) => {
                settings["judge"] = json!("reward");
                settings["dtype"] = json!(self.config.dtype);
                settings["chat"] = json!(self.config.chat);
                rewarder = Some(Rewarder::open(folder, &self.config)?);
            }
            Judges::OpenAi(url) => {
                let all = json!(self.config.judge);
                settings["judge"] = json!({
                    "url": url, "model": model, "template": template, "extra": extra,
                    "temperature": all["temperature"], "max_tokens": all["max_tokens"],
                    "max_completion_tokens": all["max_completion_tokens"],
                });
                if Path::new(template).is_file() {
                    inputs.push(("template", files::hash_file(Path::new(template))?));
                }
            }
        }
        inputs.push(("data", files::hash_file(&self.data)?));
        if let Some(against) = &self.against {
            inputs.push(("against", files::hash_file(against)?));
        }
        let record = Record::new("judge", settings, &context.device_name);
        let record =
            inputs.into_iter().fold(record, |record, (name, hash)| record.input(name, hash));
        match rewarder {
            Some(rewarder) => rewarder.note(record),
            None => Ok(record),
        }
    }

    fn comparisons(&self) -> Result<Vec<Comparison>> {
        let skip_bad = self.config.data.skip_bad;
        if let Some(against) = &self.against {
            if self.judge == Judges::Labels {
                return Err(Error::usage(
                    "--judge labels: expected comparisons with `labels` in --data, found --against; \
                     groups have no labels",
                ));
            }
            return paired(&self.data, against, skip_bad);
        }
        let mut reader = data::read::<Comparison>(&self.data, skip_bad)?;
        let mut comparisons = Vec::new();
        while let Some(located) = reader.next().transpose()? {
            if self.judge == Judges::Labels && located.record.labels.is_empty() {
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

    fn result(
        &self,
        judge: &dyn Judge,
        comparisons: &[Comparison],
        judgements: &[Judgement],
    ) -> Value {
        let seed = self.config.seed;
        let asked: Vec<(String, BothOrders)> = comparisons
            .iter()
            .zip(judgements)
            .map(|(comparison, judgement)| (comparison.prompt_key(), judgement.both))
            .collect();
        let both: Vec<BothOrders> = judgements.iter().map(|it| it.both).collect();
        let rate = WinRate::new(&asked, seed);
        let of = |value: &dyn Fn(&WinRate) -> Value| rate.as_ref().map_or(Value::Null, value);
        let count = |value: fn(&WinRate) -> usize| rate.as_ref().map_or(0, value);
        let no_verdict = both.iter().filter(|it| it.verdict().is_none()).count();
        let refused = judgements.iter().filter(|it| it.refused.is_some()).count();
        if no_verdict > 0 {
            let of_these = match refused {
                0 => String::new(),
                _ => format!(", {refused} of them since the endpoint refused them"),
            };
            tracing::warn!("{no_verdict} of {} comparisons have no verdict{of_these}", both.len());
        }
        let mut result = json!({
            "judge": judge.name(),
            "comparisons": comparisons.len(),
            "win_rate": of(&|it| json!(it.rate)),
            "win_rate_over_prompts": of(&|it| json!(it.rate_over_prompts)),
            "win_rate_bootstrap": of(&|it| json!(it.rate_bootstrap)),
            "wins": count(|it| it.wins), "ties": count(|it| it.ties),
            "losses": count(|it| it.losses), "order_dependent": count(|it| it.order_dependent),
            "no_verdict": no_verdict, "prompts": count(|it| it.num_prompts),
            "prompts_to_tell_apart": of(&|it| json!(it.prompts_to_tell_apart)),
        });
        if let Judges::OpenAi(_) = self.judge {
            let cost = judge.cost();
            result["refused"] = json!(refused);
            result["position_bias"] = json!(position_bias(&both, seed));
            result["requests"] = json!(cost.requests);
            result["cached"] = json!(cost.cached);
            result["tokens"] = json!({
                "prompt": cost.prompt_tokens, "completion": cost.completion_tokens,
                "uncounted_answers": cost.uncounted,
            });
            let left_out = judge.left_out();
            if !left_out.is_empty() {
                result["left_out"] = json!(left_out);
            }
        }
        if self.judge != Judges::Labels {
            let pairs: Vec<(Verdict, Verdict)> = comparisons
                .iter()
                .zip(&both)
                .filter_map(|(it, both)| Some((both.verdict()?, majority(&it.labels)?)))
                .collect();
            if let Some(agreement) = Agreement::new(&pairs, seed) {
                result["people"] = json!(agreement);
            }
        }
        let labels: Vec<Vec<Verdict>> = comparisons.iter().map(|it| it.labels.clone()).collect();
        if let Some(annotators) = Annotators::new(&labels, seed) {
            result["annotators"] = json!(annotators);
        }
        result
    }
}

/// The judge behind an endpoint, its answers kept where everything else is.
pub fn endpoint(url: &str, settings: &JudgeSettings) -> Result<Endpoint> {
    Endpoint::new(url, settings, &cache_folder())
}

/// A reward model: the answer with the higher reward.
struct RewardJudge {
    rewarder: Rewarder,
    /// The file errors name.
    source: PathBuf,
    device: Device,
}

impl Judge for RewardJudge {
    fn name(&self) -> String {
        "reward model".to_owned()
    }

    fn judge(&mut self, comparisons: &[Comparison]) -> Result<Vec<Judgement>> {
        let groups: Vec<Group> = comparisons.iter().map(|it| it.group.clone()).collect();
        let mut tokens = self.rewarder.all_tokens(&self.source, &groups)?;
        for (tokens, line) in tokens.iter_mut().zip(comparisons.iter().map(|it| it.line)) {
            tokens.line = line.unwrap_or(tokens.line);
        }
        let all = Shard::WHOLE.of_groups(&tokens)?;
        let rewards = self.rewarder.rewards(&tokens, &all, &self.device)?;
        let judgement = |rewards: Vec<f64>| {
            let verdict = Verdict::of_scores(rewards[0], rewards[1]);
            Judgement::new(BothOrders::unordered(verdict), json!(rewards))
        };
        Ok(rewards.into_iter().map(judgement).collect())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judge_is_a_kind_and_where_it_is() {
        let judge = |text: &str| text.parse::<Judges>().ok();
        assert_eq!(judge("labels"), Some(Judges::Labels));
        assert_eq!(judge("reward:out/model"), Some(Judges::Reward("out/model".into())));
        assert_eq!(judge("openai:http://h:1/v1"), Some(Judges::OpenAi("http://h:1/v1".to_owned())));
        for none in ["reward", "reward:", "openai:", "gpt", "labels:x"] {
            assert_eq!(judge(none), None, "{none}");
        }
    }
}
