//! `exalign evaluate`: reward and KL of a policy over held-out prompts, with intervals.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use clap::Args;
use exalign::config::{DrawSettings, Generation, Settings, Stage};
use exalign::data::{self, Group, TokenGroup, Tokenizer};
use exalign::evaluation::{Drawn, Evaluation};
use exalign::generation::Sample;
use exalign::model::ModelFolder;
use exalign::policy::{Distance, Predictions};
use exalign::progress::Progress;
use exalign::rewards::RewardScorer;
use exalign::tuning::{
    PromptToComplete, check_same_tokens, draw, load_decoder, read_prompts, reward_folder, sampling,
    tokenizer,
};
use exalign::{Error, Result, interrupt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sample::{GenerationFlags, portion};
use super::scorer::portion_rewards;
use crate::context::{Context, Global, settings};
use crate::merging::{Mergeable, Whole};
use crate::model_input::set_date;
use crate::output::write_lines;
use crate::record::Record;
use crate::shard::{Portion, Shard, ShardOutput, in_file_order};
use crate::stage::{self, GROUPS, Input, Keyed, Place, Site, Source, perform};

/// Options of `exalign evaluate`.
#[derive(Args, Debug)]
pub struct EvaluateArgs {
    /// The policy: a Hugging Face or PEFT folder, or a hub id (owner/name[@revision])
    #[arg(long, value_name = "MODEL")]
    policy: PathBuf,
    /// The reference model of the KL, π_sft
    #[arg(long, value_name = "MODEL")]
    reference: PathBuf,
    /// The reward model: the output folder of `exalign reward`, or the `model` folder in it
    #[arg(long, value_name = "FOLDER")]
    reward: PathBuf,
    /// Held-out prompts: {"prompt": a text or messages}
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The file for the drawn groups with their rewards
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Start over instead of continuing an earlier output
    #[arg(long)]
    fresh: bool,
    /// Evaluate on part I of N of the prompts, from 1; `exalign merge-shards` joins the parts
    #[arg(long, value_name = "I/N", requires = "out")]
    shard: Option<Shard>,
    #[command(flatten)]
    generation: GenerationFlags,
}

/// Runs the command.
pub fn run(args: EvaluateArgs, global: &Global) -> Result<Evaluation> {
    let settings = settings(global, Stage::Evaluate, args.generation.settings())?;
    let evaluate = Evaluate {
        policy: args.policy.into(),
        reference: args.reference.into(),
        reward: args.reward.into(),
        data: args.data.into(),
        shard: args.shard,
        settings,
    };
    let place = Place::file_or_nowhere(args.out);
    let evaluated = perform(evaluate, &place, args.fresh, &Context::new(global)?)?;
    let evaluation = evaluated.evaluation;
    tracing::info!("reward {}   KL {} nats", evaluation.reward, evaluation.best_kl());
    Ok(evaluation)
}

/// The evaluation of a policy against a reference.
pub struct Evaluate {
    pub policy: Source,
    pub reference: Source,
    pub reward: Source,
    pub data: Source,
    pub shard: Option<Shard>,
    pub settings: DrawSettings,
}

/// What an evaluation came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct EvaluationSummary {
    pub evaluation: Evaluation,
    /// Rewards and log-ratios of what was drawn, prompt by prompt.
    pub drawn: Vec<Vec<Drawn>>,
    pub seconds: f64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    shard: Option<ShardOutput>,
}

/// Everything that an evaluation reads, before weights are loaded.
pub struct Opened {
    policy: ModelFolder,
    reference: ModelFolder,
    scorer: RewardScorer,
    tokenizer: Option<Tokenizer>,
    prompts: Vec<PromptToComplete>,
}

impl Keyed for Evaluate {
    const NAME: &'static str = "evaluate";

    fn settings(&self) -> Value {
        self.settings.shaping()
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![
            self.policy.model("policy"),
            self.reference.weights("reference"),
            self.reward.reward_model("reward"),
            self.data.file("data"),
        ]
    }
}

impl stage::Stage for Evaluate {
    type Opened = Opened;
    type Summary = EvaluationSummary;
    const FILE: Option<&'static str> = Some(GROUPS);

    fn shard(&self) -> Option<Shard> {
        self.shard
    }

    fn open(&mut self, record: Option<&Path>) -> Result<Opened> {
        check_generation(&self.settings.generation)?;
        let policy = ModelFolder::open(&self.policy.path)?.kept_as(self.settings.dtype);
        let reference = ModelFolder::open(&self.reference.path)?.kept_as(self.settings.dtype);
        let read = [&policy, &reward_folder(&self.reward.path)?];
        set_date(&mut self.settings.chat, &read, record)?;
        let DrawSettings { dtype, chat, .. } = &self.settings;
        let scorer = RewardScorer::open(&self.reward.path, *dtype, chat)?;
        let tokenizer = tokenizer(&policy, &self.settings.chat)?;
        check_same_tokens(&policy, tokenizer.as_ref(), &reference)?;
        let prompts =
            read_prompts(&self.data.path, self.settings.asked(), &policy, tokenizer.as_ref())?;
        Ok(Opened { policy, reference, scorer, tokenizer, prompts })
    }

    /// Draws from the policy at τ, takes the log-probs of what was drawn under both models at τ and the
    /// divergence of the two at each token, and scores it.
    fn make(self, opened: Opened, site: &Site<'_>) -> Result<EvaluationSummary> {
        let started = Instant::now();
        let Opened { prompts, scorer, .. } = &opened;
        let device = &site.context.device;
        let portion = portion(self.shard, prompts, self.settings.generation.batch_size)?;
        let (samples, distances) = self.drawn(&opened, &portion, device)?;
        let mut groups: Vec<Group> = prompts
            .iter()
            .zip(&samples)
            .map(|(prompt, samples)| prompt.group(samples, opened.tokenizer.as_ref()))
            .collect::<Result<_>>()?;
        let scored = scorer.all_tokens(&self.data.path, &groups)?;
        let rewards = portion_rewards(scorer, &scored, &portion, device)?;
        let drawn = |(rewards, distances): (&Vec<f64>, &Vec<Distance>)| -> Vec<Drawn> {
            let both = rewards.iter().zip(distances);
            both.map(|(&reward, &Distance { log_ratio, token_kl })| Drawn {
                reward,
                log_ratio,
                token_kl,
            })
            .collect()
        };
        let drawn: Vec<Vec<Drawn>> = rewards.iter().zip(&distances).map(drawn).collect();
        let drawn = portion.take(&drawn);
        let mut shard = None;
        if let Some(out) = site.kept() {
            groups = portion.take(&groups);
            for (group, rewards) in groups.iter_mut().zip(portion.take(&rewards)) {
                group.rewards = Some(rewards);
            }
            write_lines(out, &groups)?;
            shard = ShardOutput::of(self.shard, portion.records(), out)?;
        }
        let evaluation = Evaluation::new(&drawn, self.settings.seed);
        let seconds = started.elapsed().as_secs_f64();
        Ok(EvaluationSummary { evaluation, drawn, seconds, shard })
    }
}

/// Samples by prompt.
type Samples = Vec<Vec<Sample>>;

impl Evaluate {
    /// Samples of a portion's prompts with how far they are from the reference, each by the prompt's number in the
    /// file.
    fn drawn(
        &self,
        opened: &Opened,
        portion: &Portion,
        device: &Device,
    ) -> Result<(Samples, Vec<Vec<Distance>>)> {
        let Opened { policy, reference, tokenizer, prompts, .. } = opened;
        let Generation { temperature, batch_size, .. } = self.settings.generation;
        let decoder = load_decoder(policy, device)?;
        let mine = portion.records();
        let num_prompts = mine.len();
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); prompts.len()];
        let mut progress = Progress::new("sampling", "prompts", 0, mine.len());
        let sampling =
            sampling(&self.settings.generation, self.settings.seed, policy, tokenizer.as_ref())?;
        draw(&decoder, prompts, (mine, 0), &sampling, batch_size, |numbers, drawn| {
            progress.advance(numbers.len(), "");
            for (number, drawn) in numbers.into_iter().zip(drawn) {
                samples[number] = drawn;
            }
            Ok(())
        })?;
        progress.finish();

        let tokens =
            |(number, (prompt, samples)): (usize, (&PromptToComplete, &Vec<Sample>))| TokenGroup {
                id: prompt.record.id.clone(),
                line: number + 1,
                prompt: prompt.ids.clone(),
                completions: samples.iter().map(|sample| sample.ids.clone()).collect(),
                ..TokenGroup::default()
            };
        let tokens: Vec<TokenGroup> =
            prompts.iter().zip(&samples).enumerate().map(tokens).collect();
        let mut ours = Vec::new();
        for block in portion.items(&tokens) {
            let check = |_| interrupt::check();
            ours.push(Predictions::of(&decoder, &block, temperature, device, check)?);
        }
        drop(decoder);
        let decoder = load_decoder(reference, device)?;
        let mut ours = ours.into_iter();
        let mut progress = Progress::new("log-probs of the reference", "prompts", 0, num_prompts);
        let distances = portion.by_record(&tokens, |block| {
            let ours = ours.next().expect("one for each block");
            let check = |_| interrupt::check();
            let distances = ours.against(&decoder, block, temperature, device, check)?;
            progress.advance(block.len(), "");
            Ok(distances)
        })?;
        progress.finish();
        Ok((samples, distances))
    }
}

impl Mergeable for Evaluate {
    fn merged(whole: &Whole<'_>, shards: Vec<EvaluationSummary>) -> Result<EvaluationSummary> {
        let seed = whole.settings["seed"].as_u64().unwrap_or_default();
        let seconds = shards.iter().map(|shard| shard.seconds).sum();
        let drawn = in_file_order(shards.into_iter().map(|shard| {
            let records = shard.shard.map(|output| output.shard_records).unwrap_or_default();
            (records, shard.drawn)
        }));
        let evaluation = Evaluation::new(&drawn, seed);
        Ok(EvaluationSummary { evaluation, drawn, seconds, shard: None })
    }

    fn shard_of(summary: &EvaluationSummary) -> Option<&ShardOutput> {
        summary.shard.as_ref()
    }
}

/// An evaluation that was kept in a file.
pub struct Evaluated {
    pub evaluation: Evaluation,
    /// The completions with their rewards.
    pub groups: Vec<Group>,
    /// Rewards and log-ratios of the same.
    pub drawn: Vec<Vec<Drawn>>,
}

impl Evaluated {
    /// The evaluation in the file `out` and its record.
    pub fn read(out: &Path) -> Result<Self> {
        let groups = data::read_all::<Group>(out, 0)?;
        let groups = groups.into_iter().map(|located| located.record).collect();
        let record = Record::read(&Record::beside(out))?;
        let EvaluationSummary { evaluation, drawn, .. } = record.result()?;
        Ok(Self { evaluation, groups, drawn })
    }
}

/// Refuses to draw from what has no KL, or another one than is computed.
pub fn check_generation(generation: &Generation) -> Result<()> {
    let (top_k, top_p) = (generation.top_k, generation.top_p);
    if generation.temperature == 0.0 {
        return Err(Error::usage(
            "generation.temperature: expected a number above 0, found 0: the KL is that of the policy at \
             this temperature, and at 0 there is none; `exalign sample --temperature 0` takes the most \
             probable tokens",
        ));
    }
    if top_k > 0 || top_p < 1.0 {
        return Err(Error::usage(format!(
            "generation.top_k, generation.top_p: expected 0 and 1, found {top_k} and {top_p}: the KL is that of the \
             whole policy, of which they cut the tail; `exalign sample` and `label` measure the reward alone"
        )));
    }
    Ok(())
}
