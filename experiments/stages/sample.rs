//! `exalign sample`: completions of prompts. Each prompt is encoded once for all its completions.
//!
//! Finished batches are kept beside the output, so a stopped sampling continues where it was.

use std::path::{Path, PathBuf};

use clap::Args;
use exalign::Result;
use exalign::config::{DrawSettings, Settings, Stage};
use exalign::data::{self, Completion, Group, Tokenizer};
use exalign::generation::Sample;
use exalign::model::ModelFolder;
use exalign::progress::Progress;
use exalign::tuning::{
    DrawingFit, PromptToComplete, draw, load_decoder, read_prompts, sampling, tokenizer,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::context::{Context, Global, settings};
use crate::merging::{Mergeable, Whole};
use crate::model_input::set_date;
use crate::output::write_lines;
use crate::partial::{self, Partial};
use crate::shard::{Portion, Shard, ShardOutput, order_by};
use crate::stage::{self, GROUPS, Input, Keyed, Place, Site, Source, perform};

/// Options of `exalign sample`.
#[derive(Args, Debug)]
pub struct SampleArgs {
    /// The model to sample from: a Hugging Face or PEFT folder, or a hub id (owner/name[@revision])
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Prompts: {"prompt": a text or messages}; JSON Lines, CSV, Parquet, ..
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The file for the groups: {"prompt", "completions", "completion_ids", "finished"}
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Start over instead of continuing an earlier output
    #[arg(long)]
    fresh: bool,
    /// Sample for part I of N of the prompts, from 1; `exalign merge-shards` joins the parts
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// generation.log_probs: write the log-prob of every drawn token, as "log_probs"
    #[arg(long)]
    log_probs: bool,
    /// Say how much memory the drawing takes, and end
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    generation: GenerationFlags,
}

/// Options that stand for `generation.*` settings.
#[derive(Args, Debug, Default)]
pub struct GenerationFlags {
    /// generation.completions: completions for every prompt, K
    #[arg(long, value_name = "K")]
    completions: Option<usize>,
    /// generation.temperature: divides the logits; 0 takes the most probable token
    #[arg(long)]
    temperature: Option<f64>,
    /// generation.top_p: draw from the most probable tokens that together reach this probability; 1:
    /// from all
    #[arg(long)]
    top_p: Option<f64>,
    /// generation.top_k: draw from this many most probable tokens; 0: from all
    #[arg(long)]
    top_k: Option<usize>,
    /// generation.max_new_tokens: longest completion, in tokens
    #[arg(long, value_name = "TOKENS")]
    max_new_tokens: Option<usize>,
    /// generation.stop: a text that ends the completion in which it appears; repeatable
    #[arg(long, value_name = "TEXT")]
    stop: Option<Vec<String>>,
    /// dtype: type of the weights in memory: f32, bf16, f16, q8 or q4
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<String>,
}

impl GenerationFlags {
    /// As settings.
    pub fn settings(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("generation.completions", self.completions.map(|it| it.to_string())),
            ("generation.temperature", self.temperature.map(|it| format!("{it:?}"))),
            ("generation.top_p", self.top_p.map(|it| format!("{it:?}"))),
            ("generation.top_k", self.top_k.map(|it| it.to_string())),
            ("generation.max_new_tokens", self.max_new_tokens.map(|it| it.to_string())),
            ("dtype", self.dtype.clone()),
            ("generation.stop", self.stop.as_ref().map(|it| json!(it).to_string())),
        ]
    }
}

/// What the command prints.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// What was drawn.
    Drawn(Sampled),
    /// What the drawing would take.
    Planned(DrawingFit),
}

/// Runs the command.
pub fn run(args: SampleArgs, global: &Global) -> Result<Answer> {
    let mut flags = args.generation.settings();
    flags.push(("generation.log_probs", args.log_probs.then(|| "true".to_owned())));
    let settings = settings(global, Stage::Sample, flags)?;
    let mut draw =
        Draw { model: args.model.into(), data: args.data.into(), shard: args.shard, settings };
    let context = Context::new(global)?;
    if args.dry_run {
        let Asked { folder, prompts, .. } = stage::Stage::open(&mut draw, None)?;
        let fit = DrawingFit::of(&folder, &draw.settings.generation, &prompts, &context.device)?;
        tracing::info!("the drawing takes {}", fit.in_words());
        return Ok(Answer::Planned(fit));
    }
    let summary = perform(draw, &Place::File(args.out), args.fresh, &context)?;
    Ok(Answer::Drawn(Sampled { shard: None, ..summary }))
}

/// The drawing of completions.
pub struct Draw {
    pub model: Source,
    pub data: Source,
    pub shard: Option<Shard>,
    pub settings: DrawSettings,
}

/// What a sampling came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sampled {
    groups: usize,
    samples: usize,
    /// The share of samples that ended by themselves.
    finished_share: f64,
    mean_tokens: f64,
    seconds: f64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    shard: Option<ShardOutput>,
}

/// A model and the prompts it is to complete.
pub struct Asked {
    folder: ModelFolder,
    tokenizer: Option<Tokenizer>,
    prompts: Vec<PromptToComplete>,
}

impl Keyed for Draw {
    const NAME: &'static str = "sample";

    fn settings(&self) -> Value {
        self.settings.shaping()
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![self.model.model("model"), self.data.file("data")]
    }
}

impl stage::Stage for Draw {
    type Opened = Asked;
    type Summary = Sampled;
    const FILE: Option<&'static str> = Some(GROUPS);

    fn shard(&self) -> Option<Shard> {
        self.shard
    }

    fn open(&mut self, record: Option<&Path>) -> Result<Asked> {
        let folder = ModelFolder::open(&self.model.path)?.kept_as(self.settings.dtype);
        set_date(&mut self.settings.chat, &[&folder], record)?;
        let tokenizer = tokenizer(&folder, &self.settings.chat)?;
        let prompts =
            read_prompts(&self.data.path, self.settings.asked(), &folder, tokenizer.as_ref())?;
        Ok(Asked { folder, tokenizer, prompts })
    }

    fn make(self, opened: Asked, site: &Site<'_>) -> Result<Sampled> {
        let Asked { folder, tokenizer, prompts } = opened;
        let out = site.out()?;
        let mut partial: Partial<Vec<Sample>> = Partial::open(out, &site.key)?;
        let batch_size = self.settings.generation.batch_size;
        let portion = portion(self.shard, &prompts, batch_size)?;
        let mut missing = portion.records();
        missing.retain(|number| !partial.made.contains_key(number));
        let started = std::time::Instant::now();
        let mut num_tokens = 0;
        if !missing.is_empty() {
            let device = &site.context.device;
            DrawingFit::of(&folder, &self.settings.generation, &prompts, device)?;
            let decoder = load_decoder(&folder, device)?;
            let mut progress =
                Progress::new("sampling", "prompts", partial.made.len(), portion.records().len());
            let sampling = sampling(
                &self.settings.generation,
                self.settings.seed,
                &folder,
                tokenizer.as_ref(),
            )?;
            draw(&decoder, &prompts, (missing, 0), &sampling, batch_size, |numbers, samples| {
                num_tokens += samples.iter().flatten().map(|drawn| drawn.ids.len()).sum::<usize>();
                let rate = num_tokens as f64 / started.elapsed().as_secs_f64();
                progress.advance(numbers.len(), &format!("{rate:.0} tokens/s"));
                partial.append(&numbers, samples)
            })?;
            progress.finish();
        }
        let group =
            |&number: &usize| prompts[number].group(&partial.made[&number], tokenizer.as_ref());
        let groups: Vec<Group> = portion.records().iter().map(group).collect::<Result<_>>()?;
        write_lines(out, &groups)?;
        let seconds = started.elapsed().as_secs_f64();
        let shard = ShardOutput::of(self.shard, portion.records(), out)?;
        Ok(Sampled { shard, ..Sampled::of(&groups, seconds) })
    }

    fn finished(place: &Place) {
        if let Place::File(out) = place {
            partial::remove(out);
        }
    }
}

impl Sampled {
    fn of(groups: &[Group], seconds: f64) -> Self {
        let samples = || groups.iter().flat_map(|group| &group.completions);
        let tokens = |sample: &Completion| sample.passage.ids.as_ref().map_or(0, Vec::len);
        let num_samples = samples().count();
        let share = |count: usize| count as f64 / num_samples.max(1) as f64;
        Self {
            groups: groups.len(),
            samples: num_samples,
            finished_share: share(samples().filter(|sample| sample.finished).count()),
            mean_tokens: share(samples().map(tokens).sum()),
            seconds,
            shard: None,
        }
    }
}

impl Mergeable for Draw {
    fn merged(whole: &Whole<'_>, shards: Vec<Sampled>) -> Result<Sampled> {
        let read = data::read_all::<Group>(whole.out, 0)?;
        let groups: Vec<Group> = read.into_iter().map(|located| located.record).collect();
        Ok(Sampled::of(&groups, shards.iter().map(|shard| shard.seconds).sum()))
    }

    fn shard_of(summary: &Sampled) -> Option<&ShardOutput> {
        summary.shard.as_ref()
    }
}

/// The prompts of a shard, in the batches that [`draw`] makes of all of them.
pub fn portion(
    shard: Option<Shard>,
    prompts: &[PromptToComplete],
    batch_size: usize,
) -> Result<Portion> {
    let order = order_by(prompts, |one, two| one.ids.len().cmp(&two.ids.len()));
    shard.unwrap_or(Shard::WHOLE).of(&order, batch_size)
}
