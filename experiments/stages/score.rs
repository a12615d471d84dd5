//! `exalign score`: log-probabilities of given completions.

use std::path::PathBuf;

use clap::Args;
use exalign::config::Stage;
use exalign::data::{self, Answered, TokenGroup};
use exalign::model::ModelFolder;
use exalign::policy::token_log_probs_of;
use exalign::progress::Progress;
use exalign::{Error, Result, files, interrupt};
use serde_json::{Value, json};

use super::merge_shards::shard_result;
use super::{
    Context, configuration, limits, print_line, tokenizer, training, with_date, write_lines,
};
use crate::command_line::Global;
use crate::record::{Record as RunRecord, Start};
use crate::shard::{Portion, Shard};

/// Options of `exalign score`.
#[derive(Args, Debug)]
pub struct ScoreArgs {
    /// A Hugging Face or PEFT folder, or a hub id (owner/name[@revision]): the model
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Groups, pairs or demonstrations, as texts or messages; JSON Lines, CSV, Parquet, ..
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where the lines go [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Start over where an earlier run left something
    #[arg(long)]
    fresh: bool,
    /// Score a part of the records, i of n from 1; `exalign merge-shards` puts them together
    #[arg(long, value_name = "I/N", requires = "out")]
    shard: Option<Shard>,
    /// Divides the logits, τ
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Add "token_log_probs", one list per completion
    #[arg(long)]
    per_token: bool,
    /// dtype: what the weights are kept as in memory: f32, bf16 or f16
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<String>,
}

/// Runs the command.
pub fn run(args: ScoreArgs, global: &Global) -> Result<()> {
    let config = configuration(global, Stage::Evaluate, vec![("dtype", args.dtype.clone())])?;
    if !(args.temperature > 0.0 && args.temperature.is_finite()) {
        return Err(Error::usage(format!(
            "--temperature: expected a number above 0, found {}",
            args.temperature
        )));
    }
    let context = Context::new(global)?;
    let folder = ModelFolder::open(&args.model)?.kept_as(config.dtype);
    let kept = args.out.as_ref().filter(|_| !args.fresh).map(|it| RunRecord::beside(it));
    let config = with_date(config, &[&folder], kept.as_deref())?;
    let tokenizer = tokenizer(&folder, &config)?;
    let (groups, intake) = data::read_tokens::<Answered>(
        &args.data,
        config.data.skip_bad,
        tokenizer.as_ref(),
        &limits(&config, &folder),
        folder.shape.vocab_size,
    )?;
    intake.tell(&args.data);
    let portion = args.shard.unwrap_or(Shard::WHOLE).of_groups(&groups)?;
    let Some(out) = &args.out else {
        let mut lines = lines(&args, &groups, &portion, &folder, &context)?;
        return lines.try_for_each(|line| print_line(&line));
    };
    let settings = json!({
        "temperature": args.temperature, "per_token": args.per_token, "dtype": config.dtype,
        "data": config.data, "chat": config.chat,
    });
    let record = RunRecord::new("score", settings, &context.device_name)
        .shard(args.shard)
        .input("model", folder.content_hash()?)
        .tokenizer(tokenizer.as_ref())
        .input("data", files::hash_file(&args.data)?);
    let Start::Go(work) = record.start_file(out, args.fresh)? else { return Ok(()) };
    write_lines(out, lines(&args, &groups, &portion, &folder, &context)?)?;
    let result = json!({ "records": portion.records().len() });
    work.finish(match args.shard {
        Some(_) => shard_result(result, out, &portion)?,
        None => result,
    })
}

/// What is written of each group of a portion.
fn lines<'a>(
    args: &'a ScoreArgs,
    groups: &'a [TokenGroup],
    portion: &Portion,
    folder: &ModelFolder,
    context: &Context,
) -> Result<impl Iterator<Item = Value> + use<'a>> {
    let decoder = training::load_decoder(folder, &context.device)?;
    let records = portion.records();
    let completions = records.iter().map(|&it| groups[it].completions.len()).sum();
    let mut progress = Progress::new("scoring", "completions", 0, completions);
    let scored = portion.by_record(groups, |block| {
        token_log_probs_of(&decoder, block, args.temperature, &context.device, |finished| {
            progress.advance(finished, "");
            interrupt::check()
        })
    })?;
    progress.finish();
    Ok(records.into_iter().map(move |record| line(args, &groups[record], &scored[record])))
}

/// What is written of a group whose completions have these log-probs, token by token.
fn line(args: &ScoreArgs, group: &TokenGroup, completions: &[Vec<f32>]) -> Value {
    let sum = |tokens: &Vec<f32>| tokens.iter().copied().map(f64::from).sum::<f64>();
    let mut line = json!({
        "log_probs": completions.iter().map(sum).collect::<Vec<_>>(),
        "num_tokens": completions.iter().map(Vec::len).collect::<Vec<_>>(),
    });
    if let Some(id) = &group.id {
        line["id"] = id.clone();
    }
    if args.per_token {
        line["token_log_probs"] = json!(completions);
    }
    line
}
