//! `exalign score`: log-probabilities of given completions.

use std::path::{Path, PathBuf};

use burn::data::dataset::Dataset;
use clap::Args;
use exalign::config::{ScoreSettings, Settings, Stage};
use exalign::data::{self, Answered, TokenGroup};
use exalign::files::{DiskList, DiskListWriter};
use exalign::model::ModelFolder;
use exalign::policy::token_log_probs_of;
use exalign::progress::Progress;
use exalign::tuning::{limits, load_decoder, tokenizer};
use exalign::{Error, Result, interrupt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::context::{Context, Global, settings};
use crate::merging::{Mergeable, Whole};
use crate::model_input::set_date;
use crate::output::{print_line, write_lines_as_made};
use crate::shard::{Portion, Shard, ShardOutput};
use crate::stage::{self, Input, Keyed, Place, Site, Source, perform};

/// Options of `exalign score`.
#[derive(Args, Debug)]
pub struct ScoreArgs {
    /// The model: a Hugging Face or PEFT folder, or a hub id (owner/name[@revision])
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Groups, pairs or demonstrations, as texts or messages; JSON Lines, CSV, Parquet, ..
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The file for the scores, one line a record [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Start over instead of continuing an earlier output
    #[arg(long)]
    fresh: bool,
    /// Score part I of N of the records, from 1; `exalign merge-shards` joins the parts
    #[arg(long, value_name = "I/N", requires = "out")]
    shard: Option<Shard>,
    /// Divides the logits, τ
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Add "token_log_probs", one list per completion
    #[arg(long)]
    per_token: bool,
    /// dtype: type of the weights in memory: f32, bf16, f16, q8 or q4
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<String>,
}

/// Runs the command.
pub fn run(args: ScoreArgs, global: &Global) -> Result<()> {
    let settings = settings(global, Stage::Score, vec![("dtype", args.dtype)])?;
    if !(args.temperature > 0.0 && args.temperature.is_finite()) {
        return Err(Error::usage(format!(
            "--temperature: expected a number above 0, found {}",
            args.temperature
        )));
    }
    let score = Score {
        model: args.model.into(),
        data: args.data.into(),
        shard: args.shard,
        temperature: args.temperature,
        per_token: args.per_token,
        settings,
    };
    let place = Place::file_or_nowhere(args.out);
    perform(score, &place, args.fresh, &Context::new(global)?).map(|_| ())
}

/// The log-probs of given completions under a model.
pub struct Score {
    pub model: Source,
    pub data: Source,
    pub shard: Option<Shard>,
    pub temperature: f64,
    /// Whether the log-prob of every token is written as well.
    pub per_token: bool,
    pub settings: ScoreSettings,
}

/// What a scoring came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scored {
    records: usize,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    shard: Option<ShardOutput>,
}

/// A model and what it is to score, as tokens.
pub struct Given {
    folder: ModelFolder,
    groups: DiskList<TokenGroup>,
    portion: Portion,
}

impl Keyed for Score {
    const NAME: &'static str = "score";

    fn settings(&self) -> Value {
        let mut settings = self.settings.shaping();
        settings["temperature"] = json!(self.temperature);
        settings["per_token"] = json!(self.per_token);
        settings
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![self.model.model("model"), self.data.file("data")]
    }
}

impl stage::Stage for Score {
    type Opened = Given;
    type Summary = Scored;

    fn shard(&self) -> Option<Shard> {
        self.shard
    }

    fn open(&mut self, record: Option<&Path>) -> Result<Given> {
        let ScoreSettings { dtype, data, chat } = &mut self.settings;
        let folder = ModelFolder::open(&self.model.path)?.kept_as(*dtype);
        set_date(chat, &[&folder], record)?;
        let (groups, intake) = data::read_tokens::<Answered>(
            &self.data.path,
            data.skip_bad,
            tokenizer(&folder, chat)?.as_ref(),
            &limits(data, &folder),
            folder.shape.vocab_size,
        )?;
        intake.tell(&self.data.path);
        let portion = self.shard.unwrap_or(Shard::WHOLE).of_groups(groups.iter())?;
        Ok(Given { folder, groups, portion })
    }

    fn make(self, opened: Given, site: &Site<'_>) -> Result<Scored> {
        let scored = self.log_probs(&opened, site.context)?;
        let records = opened.portion.records();
        let mut lines = records.iter().zip(scored.iter()).map(|(&record, scored)| {
            Ok::<_, Error>(self.line(&opened.groups.get(record)?, &scored?))
        });
        let mut shard = None;
        match site.kept() {
            None => lines.try_for_each(|line| print_line(&line?))?,
            Some(out) => {
                write_lines_as_made(out, |file| lines.try_for_each(|line| file.put(&line?)))?;
                shard = ShardOutput::of(self.shard, opened.portion.records(), out)?;
            }
        }
        Ok(Scored { records: records.len(), shard })
    }
}

impl Mergeable for Score {
    fn merged(whole: &Whole<'_>, _: Vec<Scored>) -> Result<Scored> {
        Ok(Scored { records: whole.num_lines, shard: None })
    }

    fn shard_of(summary: &Scored) -> Option<&ShardOutput> {
        summary.shard.as_ref()
    }
}

impl Score {
    /// The log-prob of every token of a portion's completions, in the order of its records.
    fn log_probs(&self, opened: &Given, context: &Context) -> Result<DiskList<Vec<Vec<f32>>>> {
        let Given { folder, groups, portion } = opened;
        let decoder = load_decoder(folder, &context.device)?;
        let mut progress = Progress::new("scoring", "records", 0, portion.blocks.concat().len());
        let mut scored = DiskListWriter::default();
        for block in &portion.blocks {
            let groups = groups.get_many(block.clone())?;
            let check = |_| interrupt::check();
            let (temperature, device) = (self.temperature, &context.device);
            let of_block = token_log_probs_of(&decoder, &groups, temperature, device, check)?;
            of_block.iter().try_for_each(|log_probs| scored.push(log_probs))?;
            progress.advance(block.len(), "");
        }
        progress.finish();
        Ok(scored.finish()?.select(&portion.places()))
    }

    /// What is written of a group whose completions have these log-probs, token by token.
    fn line(&self, group: &TokenGroup, completions: &[Vec<f32>]) -> Value {
        let sum = |tokens: &Vec<f32>| tokens.iter().copied().map(f64::from).sum::<f64>();
        let mut line = json!({
            "log_probs": completions.iter().map(sum).collect::<Vec<_>>(),
            "num_tokens": completions.iter().map(Vec::len).collect::<Vec<_>>(),
        });
        if let Some(id) = &group.id {
            line["id"] = id.clone();
        }
        if self.per_token {
            line["token_log_probs"] = json!(completions);
        }
        line
    }
}
