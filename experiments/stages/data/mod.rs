//! `exalign data`: published sets → records.

mod part;
mod shape;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use comfy_table::CellAlignment;
use exalign::config::{DataSettings, Stage};
use exalign::data::Tokenizer;
use exalign::data::published::{Dropped, Published, SetKind, SourceCount, Sources};
use exalign::model::ModelFolder;
use exalign::tuning::plain_tokenizer;
use exalign::{Error, Result, files};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use shape::{Enough, Lengths, Records, Shape};

use crate::context::{Global, settings as settings_of};
use crate::output::{print_line, print_text, table, write_lines};
use crate::record::{Made, Record, Start};
use crate::tasks::{Task, task_parser};

/// Options of `exalign data`.
#[derive(Args, Debug)]
#[command(after_help = "The published sets of each experiment are recognised by their fields:\n  \
                  sentiment      text and label (0, 1, neg, pos, ..), or IMDB's folder of pos/*.txt and neg/*.txt\n  \
                  summarization  subreddit, title, post, summary; OpenAI's comparisons (info, summaries, choice);\n                 \
                  prompt with chosen and rejected. Without comparisons the pairs are a proxy: a post's own\n                 \
                  summary is chosen, the summary of another post, of about the same length, is rejected\n  \
                  dialogue       chosen and rejected, whole dialogues as Anthropic's HH has them, or messages\n  \
                  instruction    instruction (or prompt, question), input, output (or completion, response, answer),\n                 \
                  system, history; prompt, chosen, rejected as texts or messages; messages or ShareGPT's\n                 \
                  conversations; two answers and which is better (AlpacaFarm, SHP, PKU-SafeRLHF, HelpSteer2);\n                 \
                  completion and label (true: a demonstration, false: left out); tools\n\n\
                  A set keeps its own split where file names (or a field `split`) name both sides: train, and \
                  test, valid, dev or eval. Otherwise a hash of each prompt decides whether it is held out. No prompt \
                  is in both splits. Rows that are not used are counted by reason, and columns by name, on standard \
                  output and in FOLDER/data.json:\n\
                  rows read = rows used + rows dropped + bad rows (--skip-bad).")]
pub struct DataArgs {
    /// The experiment that the records are for
    #[arg(value_parser = task_parser())]
    experiment: &'static dyn Task,
    /// Files (.jsonl, .json, .csv, .tsv, .parquet, .arrow, .gz and .zst of these), folders (those of
    /// save_to_disk as well), or hub ids of data sets (owner/name[@revision]; with :PART at its end, only
    /// the files whose path begins with PART)
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The folder for the records
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Files, folders or hub ids to hold out; all PATHs are then for training, whatever their names say;
    /// repeatable
    #[arg(long, value_name = "PATH")]
    held_out_data: Vec<PathBuf>,
    /// Number of prompts to hold out of a set without a split of its own
    #[arg(long, value_name = "N", default_value_t = 512)]
    held_out: usize,
    /// A model whose tokenizer counts tokens; without a model, openings of reviews are counted in words
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Drop records with a longer prompt, in tokens of --model; 0: drop none
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_prompt_tokens: usize,
    /// Drop records with a longer answer, in tokens of --model, its end-of-text included; 0: drop none
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_answer_tokens: usize,
    /// sentiment: length of a review's opening, which is the prompt, in tokens (or words)
    #[arg(long, value_name = "N", default_value_t = 10)]
    opening_tokens: usize,
    /// sentiment: longest part of a review that is read, its opening included, in tokens (or words); 0: all
    #[arg(long, value_name = "N", default_value_t = 0)]
    review_tokens: usize,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
    /// Start over instead of continuing an earlier output
    #[arg(long)]
    fresh: bool,
}

/// What was read, written and dropped: `data.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    experiment: String,
    sources: Vec<SourceCount>,
    /// `published`, or `hash` where the set has none of its own.
    split: String,
    /// Rows.
    read: usize,
    /// Rows that are in one of the files written, or in several.
    #[serde(default)]
    used: usize,
    dropped: Dropped,
    /// Rows that are no examples and were passed over.
    skipped: usize,
    /// Columns that are not used, each with the number of used rows in which it says something.
    #[serde(default)]
    columns_not_used: BTreeMap<String, usize>,
    /// Lists that were written as text and are read as lists, by column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    lists_as_text: BTreeMap<String, usize>,
    /// Records by file.
    written: Vec<(String, usize)>,
    /// What the preferences are where nobody gave any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
}

/// Runs the command.
pub fn run(args: DataArgs, global: &Global) -> Result<()> {
    let config: DataSettings = settings_of(global, Stage::Data, vec![])?;
    let sources = Sources::find(&args.paths, &args.held_out_data)?;
    let lengths = Lengths {
        max_prompt_tokens: args.max_prompt_tokens,
        max_answer_tokens: args.max_answer_tokens,
        opening_tokens: args.opening_tokens,
        review_tokens: args.review_tokens,
    };
    let kind = args.experiment.published();
    lengths.check(kind)?;
    let mut settings = json!({
        "experiment": args.experiment.name(),
        "held_out": args.held_out,
        "lengths": lengths,
        "skip_bad": config.data.skip_bad,
    });
    let folder = args.model.as_deref().map(ModelFolder::open).transpose()?;
    if let Some(folder) = &folder {
        settings["tokenizer"] = json!(needed_tokenizer(folder)?.content_hash());
    }
    let mut made = Made::new("data", settings);
    made.inputs.insert("the set".to_owned(), sources.hash()?);
    let record = Record::new(made, "none");
    let path = args.out.join(MANIFEST);
    let manifest = match record.start_folder(&args.out, args.fresh)? {
        Start::Done(_) => files::read_json(&path)?,
        Start::Go(work) => {
            let published = sources.read(kind, args.held_out, config.data.skip_bad)?;
            let tokenizer = folder.as_ref().map(needed_tokenizer).transpose()?;
            let shape = Shape { kind, tokenizer: tokenizer.as_ref(), lengths };
            let manifest = write(&args, published, &shape)?;
            files::write_json(&path, &manifest)?;
            let is_own =
                |name: &str| name == MANIFEST || manifest.written.iter().any(|it| it.0 == name);
            work.finish(json!(manifest), is_own)?;
            manifest
        }
    };
    match args.json {
        true => print_line(&manifest),
        false => print_text(&manifest.table()),
    }
}

const MANIFEST: &str = "data.json";

/// The tokenizer of a model whose tokens are to be counted.
pub fn needed_tokenizer(folder: &ModelFolder) -> Result<Tokenizer> {
    plain_tokenizer(folder)?.ok_or_else(|| {
        Error::file(&folder.path, "expected tokenizer.json, found none; published sets are text")
    })
}

/// Writes the records of a set.
fn write(args: &DataArgs, mut published: Published, shape: &Shape) -> Result<Manifest> {
    let is_all_held_out = published.train.is_empty() && !published.has_own_split;
    let records = shape.records(&mut published, Enough::ALL)?;
    let is_reviews = args.experiment.published() == SetKind::Reviews;
    let (labelled, held_out_labelled) = match is_reviews {
        true => ("labelled.jsonl", "held-out-labelled.jsonl"),
        false => ("pairs.jsonl", "held-out-pairs.jsonl"),
    };
    let files: [(&str, &[Value]); 6] = [
        ("demonstrations.jsonl", &records.demonstrations),
        (labelled, &records.labelled),
        ("prompts.jsonl", &records.prompts),
        ("held-out.jsonl", &records.held_out),
        ("chosen.jsonl", &records.chosen),
        (held_out_labelled, &records.held_out_labelled),
    ];
    let mut written = Vec::new();
    for (name, records) in files {
        if !records.is_empty() {
            write_lines(&args.out.join(name), records)?;
            written.push((name.to_owned(), records.len()));
        }
    }
    if written.is_empty() {
        return Err(Error::usage(format!(
            "expected examples, found none: {}; check the experiment and the limits",
            in_words(&published.dropped)
        )));
    }
    if is_all_held_out {
        tracing::warn!(
            "no record is left to learn from: the set has no more prompts than are held out (--held-out {}); \
             pass a smaller --held-out, or --held-out 0 to hold out none",
            args.held_out
        );
    }
    Ok(Manifest {
        experiment: args.experiment.name().to_owned(),
        read: published.rows(),
        used: records.used,
        split: if published.has_own_split { "published" } else { "hash" }.to_owned(),
        sources: published.sources,
        dropped: published.dropped,
        skipped: published.skipped,
        columns_not_used: published.columns_not_used,
        lists_as_text: published.lists_as_text,
        written,
        proxy: records.proxy.map(str::to_owned),
    })
}

/// What was dropped and why, on one line.
pub fn in_words(dropped: &Dropped) -> String {
    let parts: Vec<String> =
        dropped.iter().map(|(reason, count)| format!("{count} {}", reason.words())).collect();
    if parts.is_empty() { "nothing dropped".to_owned() } else { parts.join(", ") }
}

impl Manifest {
    fn table(&self) -> String {
        let mut table = table(["", "records"]);
        for source in &self.sources {
            let split = match source.split {
                Some(split) => format!(" ({})", json!(split).as_str().unwrap_or_default()),
                None => String::new(),
            };
            table.add_row([format!("read {}{split}", source.name), source.rows.to_string()]);
        }
        table.add_row(["rows used".to_owned(), self.used.to_string()]);
        for (reason, count) in &self.dropped {
            table.add_row([format!("dropped: {}", reason.words()), count.to_string()]);
        }
        if self.skipped > 0 {
            table.add_row(["dropped: bad rows".to_owned(), self.skipped.to_string()]);
        }
        for (name, count) in &self.written {
            table.add_row([format!("wrote {name}"), count.to_string()]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = table.to_string();
        for (column, count) in &self.lists_as_text {
            text += &format!(
                "\n{count} lists in `{column}` were written as text and are read as lists."
            );
        }
        if !self.columns_not_used.is_empty() {
            let columns = self.columns_not_used.iter();
            let columns: Vec<String> =
                columns.map(|(name, count)| format!("{name} ({count} rows)")).collect();
            text += &format!("\ncolumns not used: {}", columns.join(", "));
        }
        if self.split == "hash" {
            text += "\nNo split of the set's own: held-out prompts are those of the smallest hash.";
        }
        if let Some(proxy) = &self.proxy {
            text += &format!("\nThe pairs are a proxy, since the set has no comparisons: {proxy}.");
        }
        text
    }
}
