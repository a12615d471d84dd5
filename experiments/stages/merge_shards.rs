//! `exalign merge-shards`: the outputs of all shards of a stage as the one output of the whole.
//!
//! The lines are taken as they are and put in the order of the records they were made from. What
//! is merged is checked first: shards of one stage, with the same settings and inputs, none
//! missing, none twice, none changed since it was written.

use std::path::{Path, PathBuf};

use clap::Args;
use exalign::files::Output;
use exalign::{Error, Result, files};
use serde_json::{Value, json};

use super::{evaluate, label, sample};
use crate::record::{Record, Start, changed_settings};
use crate::shard::{Portion, Shard};

/// Options of `exalign merge-shards`.
#[derive(Args, Debug)]
pub struct MergeShardsArgs {
    /// What `--shard 1/n` to `--shard n/n` wrote, in any order
    #[arg(value_name = "FILE", required = true)]
    shards: Vec<PathBuf>,
    /// Where the whole goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Start over where an earlier run left something
    #[arg(long)]
    fresh: bool,
}

/// Runs the command.
pub fn run(args: &MergeShardsArgs) -> Result<Value> {
    let mut parts = args.shards.iter().map(|path| Part::read(path)).collect::<Result<Vec<_>>>()?;
    check(&parts)?;
    parts.sort_by_key(|part| part.shard.index);
    let mut record = parts[0].record.clone();
    if let Some(settings) = record.settings.as_object_mut() {
        settings.remove("shard");
    }
    let mut whole = Record::new(&record.command, record.settings, "merged from shards");
    whole.inputs = record.inputs;
    let command = whole.command.clone();
    let settings = whole.settings.clone();
    let work = match whole.start_file(&args.out, args.fresh)? {
        Start::Done(result) => return Ok(shown(&command, result)),
        Start::Go(work) => work,
    };
    let lines = merged(&parts)?;
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
    let results: Vec<&Value> = parts.iter().map(|part| &part.record.result).collect();
    let result = match command.as_str() {
        "sample" => sample::merged_result(&out, &results)?,
        "label" => label::merged_result(&out)?,
        "evaluate" => evaluate::merged_result(&settings, &results)?,
        _ => json!({ "records": lines.len() }),
    };
    work.finish(result.clone())?;
    Ok(shown(&command, result))
}

/// What is printed: what the stage itself would have.
fn shown(command: &str, result: Value) -> Value {
    if command == "evaluate" { result["evaluation"].clone() } else { result }
}

/// What a stage leaves in its record beside its result, so that its shards can be merged.
pub fn shard_result(mut result: Value, out: &Path, portion: &Portion) -> Result<Value> {
    result["shard_records"] = json!(portion.records());
    result["shard_content"] = json!(files::hash_file(out)?);
    Ok(result)
}

/// A result without what is only there for merging.
pub fn without_shard(mut result: Value) -> Value {
    if let Some(fields) = result.as_object_mut() {
        fields.retain(|name, _| !name.starts_with("shard_"));
    }
    result
}

/// The values of every shard, put in the order of the whole file's records.
pub fn in_file_order<T>(parts: impl IntoIterator<Item = (Vec<usize>, Vec<T>)>) -> Vec<T> {
    let mut all: Vec<(usize, T)> =
        parts.into_iter().flat_map(|(records, values)| records.into_iter().zip(values)).collect();
    all.sort_by_key(|(record, _)| *record);
    all.into_iter().map(|(_, value)| value).collect()
}

/// The records of the file that a shard's lines were made from.
pub fn records_of(result: &Value) -> Vec<usize> {
    serde_json::from_value(result["shard_records"].clone()).unwrap_or_default()
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
        let shard = serde_json::from_value(record.settings["shard"].clone()).map_err(|_| {
            Error::file(
                path,
                "expected the output of a stage with --shard, found one of all records",
            )
        })?;
        if !record.complete {
            return Err(Error::file(path, "the shard is not finished; start its command again"));
        }
        if record.result["shard_content"] != json!(files::hash_file(path)?) {
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
    if one.command != two.command {
        return Some(format!("one is of `{}`, the other of `{}`", one.command, two.command));
    }
    let settings = |record: &Record| {
        let mut settings = record.settings.clone();
        if let Some(shard) = settings.get_mut("shard").and_then(Value::as_object_mut) {
            shard.remove("index");
        }
        settings
    };
    if let Some(changed) = changed_settings(&settings(two), &settings(one)).into_iter().next() {
        return Some(changed);
    }
    let other = one.inputs.iter().find(|(name, hash)| two.inputs.get(*name) != Some(hash));
    other.map(|(name, _)| format!("they were made from another {name}"))
}

/// The lines of all parts in the order of the file's records.
fn merged(parts: &[Part]) -> Result<Vec<String>> {
    let read = |part: &Part| {
        let text = std::fs::read_to_string(&part.path).map_err(Error::io(&part.path, "read"))?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let records = records_of(&part.record.result);
        if records.len() != lines.len() {
            return Err(Error::file(
                &part.path,
                format!("expected {} lines, found {}", records.len(), lines.len()),
            ));
        }
        Ok((records, lines))
    };
    Ok(in_file_order(parts.iter().map(read).collect::<Result<Vec<_>>>()?))
}
