//! `exalign merge-shards`: joins the outputs of all shards of a stage.
//!
//! Lines are copied unchanged, in the order of the records they were made from. The shards are checked
//! first: all are from one stage with the same settings and inputs, none is missing, none is given twice,
//! and none has changed since it was written.

use std::path::{Path, PathBuf};

use clap::Args;
use exalign::files::Output;
use exalign::{Error, Result, files};
use serde_json::{Value, json};

use super::evaluate::Evaluate;
use super::label::Label;
use super::sample::Draw;
use super::score::Score;
use crate::merging::{Mergeable, Whole};
use crate::record::{Made, Record, Start, changed_settings};
use crate::shard::{Shard, ShardOutput, in_file_order};
use crate::stage::Keyed;

/// Options of `exalign merge-shards`.
#[derive(Args, Debug)]
pub struct MergeShardsArgs {
    /// The outputs of `--shard 1/n` to `--shard n/n`, in any order
    #[arg(value_name = "FILE", required = true)]
    shards: Vec<PathBuf>,
    /// The file for the whole output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Start over instead of continuing an earlier output
    #[arg(long)]
    fresh: bool,
}

/// Runs the command; what the stage itself would have printed.
pub fn run(args: &MergeShardsArgs) -> Result<Value> {
    let mut parts = args.shards.iter().map(|path| Part::read(path)).collect::<Result<Vec<_>>>()?;
    check(&parts)?;
    parts.sort_by_key(|part| part.shard.index);
    match parts[0].record.made.command.as_str() {
        Draw::NAME => merged::<Draw>(args, &parts).map(|summary| json!(summary)),
        Label::NAME => merged::<Label>(args, &parts).map(|summary| json!(summary)),
        Evaluate::NAME => merged::<Evaluate>(args, &parts).map(|summary| json!(summary.evaluation)),
        Score::NAME => merged::<Score>(args, &parts).map(|summary| json!(summary)),
        other => Err(Error::usage(format!(
            "expected shards of `sample`, `label`, `evaluate` or `score`, found those of `{other}`"
        ))),
    }
}

/// The output of a stage of all its shards.
fn merged<S: Mergeable>(args: &MergeShardsArgs, parts: &[Part]) -> Result<S::Summary> {
    let mut made = parts[0].record.made.clone();
    if let Some(settings) = made.settings.as_object_mut() {
        settings.remove("shard");
    }
    let settings = made.settings.clone();
    let record = Record::new(made, "merged from shards");
    let work = match record.start_file(&args.out, args.fresh)? {
        Start::Done(finished) => return finished.result(),
        Start::Go(work) => work,
    };
    let shards: Vec<S::Summary> =
        parts.iter().map(|part| part.record.result()).collect::<Result<_>>()?;
    let lines = lines::<S>(parts, &shards)?;
    let write = |out: &Path| {
        files::write_atomic(out, |writer| {
            lines.iter().try_for_each(|line| writeln!(writer, "{line}"))
        })
    };
    write(&args.out)?;
    // A pipe cannot be read again for what its lines come to.
    let mut copy = None;
    let out = match Output::resolve(&args.out)? {
        Output::Regular(out) => out,
        Output::Stream(_) => {
            let file = tempfile::NamedTempFile::new();
            let file = copy.insert(file.map_err(Error::io(std::env::temp_dir(), "write"))?);
            write(file.path()).map(|()| file.path().to_owned())?
        }
    };
    let whole = Whole { out: &out, settings: &settings, num_lines: lines.len() };
    let summary = S::merged(&whole, shards)?;
    work.finish(json!(summary), S::owns)?;
    Ok(summary)
}

/// The lines of all parts in the order of the file's records.
fn lines<S: Mergeable>(parts: &[Part], shards: &[S::Summary]) -> Result<Vec<String>> {
    let read = |(part, summary): (&Part, &S::Summary)| {
        let text = std::fs::read_to_string(&part.path).map_err(Error::io(&part.path, "read"))?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let records = S::shard_of(summary).map(|shard| shard.shard_records.clone());
        let records = records.unwrap_or_default();
        if records.len() != lines.len() {
            return Err(Error::file(
                &part.path,
                format!("expected {} lines, found {}", records.len(), lines.len()),
            ));
        }
        Ok((records, lines))
    };
    Ok(in_file_order(parts.iter().zip(shards).map(read).collect::<Result<Vec<_>>>()?))
}

/// One shard's output.
struct Part {
    path: PathBuf,
    record: Record,
    shard: Shard,
}

impl Part {
    fn read(path: &Path) -> Result<Self> {
        let beside = Record::beside(path);
        if !path.is_file() || !beside.is_file() {
            return Err(Error::file(
                path,
                format!(
                    "expected a shard's output with its record {}, found none; run its stage with \
                     --shard, and keep both files",
                    beside.display()
                ),
            ));
        }
        let record = Record::read(&beside)?;
        let shard =
            serde_json::from_value(record.made.settings["shard"].clone()).map_err(|_| {
                Error::file(
                    path,
                    "expected the output of a stage with --shard, found one of all records",
                )
            })?;
        if !record.complete {
            return Err(Error::file(path, "the shard is not finished; start its command again"));
        }
        let content = record.result::<ShardOutput>().map(|output| output.shard_content);
        if content.ok() != Some(files::hash_file(path)?) {
            return Err(Error::file(
                path,
                "its content has changed since the shard was written; make it again with --fresh",
            ));
        }
        Ok(Self { path: path.to_owned(), record, shard })
    }
}

/// Refuses what is not the whole of one stage.
fn check(parts: &[Part]) -> Result<()> {
    let first = &parts[0];
    for part in &parts[1..] {
        let (one, two) = (first.record.device(), part.record.device());
        if one != two {
            tracing::warn!(
                "{} was made on {one}, {} on {two}: together they are not to the bit what one process writes",
                first.path.display(),
                part.path.display()
            );
        }
        if let Some(difference) = difference(&first.record, &part.record) {
            return Err(Error::usage(format!(
                "{} and {} are not shards of one stage: {difference}",
                first.path.display(),
                part.path.display(),
            )));
        }
    }
    let count = first.shard.count;
    for index in 1..=count {
        let mut of_index = parts.iter().filter(|part| part.shard.index == index);
        match (of_index.next(), of_index.next()) {
            (None, _) => {
                return Err(Error::usage(format!(
                    "shard {index}/{count} is missing; run the stage with --shard {index}/{count}"
                )));
            }
            (Some(one), Some(two)) => {
                return Err(Error::usage(format!(
                    "shard {index}/{count} is there twice: {} and {}",
                    one.path.display(),
                    two.path.display()
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

/// In what two shards differ beyond their number.
fn difference(one: &Record, two: &Record) -> Option<String> {
    let (one, two) = (&one.made, &two.made);
    if one.command != two.command {
        return Some(format!("one is of `{}`, the other of `{}`", one.command, two.command));
    }
    let settings = |made: &Made| {
        let mut settings = made.settings.clone();
        if let Some(shard) = settings.get_mut("shard").and_then(Value::as_object_mut) {
            shard.remove("index");
        }
        settings
    };
    if let Some(changed) = changed_settings(&settings(two), &settings(one)).into_iter().next() {
        return Some(changed);
    }
    one.changed_inputs(two).next().map(|name| format!("they were made from another {name}"))
}
