//! `exalign check`: an audit of a file of records, before a training on it.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{CellAlignment, Table};
use exalign::config::{AlignSettings, Stage};
use exalign::data::audit::{Audit, Auditor, Kind, Lengths, SHOWN, ShownRow};
use exalign::model::ModelFolder;
use exalign::statistics::Interval;
use exalign::tuning::{limits, tokenizer};
use exalign::{Error, Result};
use serde_json::json;

use crate::context::{Global, settings};
use crate::output::{print_line, print_text, table};

/// Options of `exalign check`.
#[derive(Args, Debug)]
#[command(
    after_help = "Rows are shown as the tokens that the model reads: the prompt, then ▸ before each answer and ■ after \
                  the token that ends it. A blank is ·, a line end is ⏎, and │ separates tokens.\n\n\
                  Exit codes: 0 no record is bad, 1 training would refuse some records.\n\
                  The limits are those of training: --set data.max_length=N, data.max_prompt_length=N, and the model's positions."
)]
pub struct CheckArgs {
    /// Records of any kind: JSON Lines, JSON, CSV, Parquet, Arrow
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The model that the records are for: a Hugging Face folder or hub id
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Other records, such as the held-out ones, that should share no prompt with --data
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Number of rows to show as tokens
    #[arg(long, value_name = "N", default_value_t = 2)]
    show: usize,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &CheckArgs, global: &Global) -> Result<()> {
    let AlignSettings { train, .. } = settings(global, Stage::Check, vec![])?;
    let data = &train.data.tokens;
    let folder = ModelFolder::open(&args.model)?;
    let tokenizer = tokenizer(&folder, &train.chat)?;
    folder.check_weights()?;
    let auditor = Auditor {
        tokenizer: tokenizer.as_ref(),
        limits: limits(data, &folder),
        vocab_size: folder.shape.vocab_size,
        skip_bad: data.skip_bad,
        show: args.show,
    };
    let audit = auditor.audit(&args.data, args.against.as_deref())?;
    match args.json {
        true => print_line(&json!(audit))?,
        false => print_text(&described(&audit))?,
    }
    match audit.is_usable() {
        true => Ok(()),
        false => Err(Error::file(
            &args.data,
            "training would refuse it as it is; what to do stands with what was found",
        )),
    }
}

/// Everything as people read it.
fn described(audit: &Audit) -> String {
    let mut text = format!("{} {}", audit.records, audit.kind.words());
    if audit.bad > 0 {
        text += &format!(", {} bad, of {} rows", audit.bad, audit.rows);
    }
    for (form, count) in &audit.forms {
        text += &format!("\n  {count}: {form}");
    }
    if !audit.unread.is_empty() {
        let columns: Vec<String> =
            audit.unread.iter().map(|(name, count)| format!("`{name}` ({count})")).collect();
        text += &format!("\n  not used: {}", columns.join(", "));
    }
    for row in &audit.shown {
        text += &format!("\n\n{}", tokens_of(row));
    }
    text += "\n\n";
    text += &lengths(audit).to_string();
    text += "\n\n";
    text += &findings(audit).to_string();
    if audit.bad > 0 {
        text += &format!(
            "\n\nBad lines{}:",
            if audit.bad > SHOWN { ", the first of them" } else { "" }
        );
        for (line, problem) in &audit.bad_lines {
            text += &format!("\n  {line}: {problem}");
        }
    }
    text += "\n\nWhat to do:";
    if audit.advice.is_empty() {
        text += "\n  nothing: go ahead";
    }
    for advice in &audit.advice {
        text += &format!("\n  {} {}", if advice.is_refused { "✗" } else { "•" }, advice.text);
    }
    text
}

/// A record as the tokens that the model reads.
fn tokens_of(row: &ShownRow) -> String {
    let mut text = format!("Line {} as the model reads it\n", row.line);
    if !row.prompt.is_empty() {
        text += &format!("  prompt ({})  {}\n", row.prompt.len(), joined(&row.prompt));
    }
    let mut answers = row.answers.iter().map(|answer| {
        let len = answer.tokens.len();
        let mut tokens = answer.tokens.clone();
        let end = match answer.end {
            Some(at) => {
                tokens[at] += "■";
                String::new()
            }
            None => "   (no token ends it)".to_owned(),
        };
        format!("  {} ({len})  ▸{}{end}", answer.name, joined(&tokens))
    });
    text += &answers.by_ref().take(MOST_ANSWERS).collect::<Vec<_>>().join("\n");
    match answers.count() {
        0 => text.trim_end().to_owned(),
        more => text + &format!("\n  … and {more} more"),
    }
}

/// Answers of a row that are shown.
const MOST_ANSWERS: usize = 4;

/// Tokens with marks between them; of many, the first and the last.
fn joined(tokens: &[String]) -> String {
    const EACH: usize = 40;
    if tokens.len() <= 2 * EACH + 1 {
        return tokens.join("│");
    }
    let left_out = tokens.len() - 2 * EACH;
    format!(
        "{}│ … {left_out} tokens … │{}",
        tokens[..EACH].join("│"),
        tokens[tokens.len() - EACH..].join("│")
    )
}

fn lengths(audit: &Audit) -> Table {
    let mut table = table(["tokens", "least", "median", "95 %", "most"]);
    let texts = if audit.kind.is_text() { "text" } else { "completion" };
    let rows = [("prompt", audit.prompts), (texts, audit.completions), ("both", audit.totals)];
    for (name, lengths) in rows {
        // Of texts and of prompts alone, one row says it all.
        let is_sum = name == "both" && (audit.prompts.is_none() || audit.completions.is_none());
        if let Some(Lengths { min, median, p95, max }) = lengths.filter(|_| !is_sum) {
            table.add_row([
                name.to_owned(),
                min.to_string(),
                median.to_string(),
                p95.to_string(),
                max.to_string(),
            ]);
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What was found, in the order in which it is read.
fn findings(audit: &Audit) -> Table {
    let mut table = table(["what", "found"]);
    table.add_rows(of_lengths(audit));
    table.add_rows(of_records(audit));
    table.add_rows(of_tokens(audit));
    table.add_rows(of_groups(audit));
    table.add_rows(of_length_bias(audit));
    table
}

/// A row of what was found.
fn found(name: impl Into<String>, value: impl Into<String>) -> [String; 2] {
    [name.into(), value.into()]
}

fn of_lengths(audit: &Audit) -> Vec<[String; 2]> {
    let long = &audit.too_long;
    let limit = |limit: usize| if limit == 0 { "none".to_owned() } else { limit.to_string() };
    let limits = match long.max_prompt_length {
        0 => limit(long.max_length),
        prompt => format!("{}, of the prompt {prompt}", limit(long.max_length)),
    };
    let mut rows = vec![
        found("limit, in tokens", limits),
        found("cut to fit", format!("{} records, {} tokens lost", long.cut, long.tokens_lost)),
    ];
    if audit.kind != Kind::LabelledTexts && audit.completions.is_some() {
        rows.push(found("do not fit", format!("{} records", long.refused)));
    }
    rows
}

fn of_records(audit: &Audit) -> Vec<[String; 2]> {
    let bad = match (audit.equal_sides, audit.ties) {
        (0, 0) => audit.bad.to_string(),
        (sides, ties) => format!("{}, of which {sides} with equal sides, {ties} tied", audit.bad),
    };
    let mut rows = vec![
        found("bad lines", bad),
        found("repeated records", audit.duplicates.to_string()),
        found("repeated prompts", audit.repeated_prompts.to_string()),
    ];
    if matches!(audit.kind, Kind::Preferences | Kind::LabelledTexts) {
        rows.push(found("contradictions", audit.contradictions.to_string()));
    }
    rows.extend(
        audit.shared_prompts.map(|shared| found("prompt in the other file", shared.to_string())),
    );
    rows
}

fn of_tokens(audit: &Audit) -> Vec<[String; 2]> {
    let mut rows = Vec::new();
    rows.extend(audit.end.iter().map(|end| found("a completion ends with", end)));
    if audit.begun_twice > 0 {
        let name = format!("begin with {} twice", audit.begin);
        rows.push(found(name, audit.begun_twice.to_string()));
    }
    if audit.seams.checked > 0 {
        let share = percent(audit.seams.merged, audit.seams.checked);
        let seams = format!("{} of {} ({share})", audit.seams.merged, audit.seams.checked);
        rows.push(found("seams inside a token", seams));
    }
    let endings = &audit.endings;
    if audit.kind != Kind::LabelledTexts && endings.completions > 0 {
        let completions = format!(
            "{}, of which {} cut, {} without end-of-text, {} with one inside",
            endings.completions, endings.cut, endings.unended, endings.inside
        );
        rows.push(found("completions", completions));
    }
    rows
}

fn of_groups(audit: &Audit) -> Vec<[String; 2]> {
    let mut rows = Vec::new();
    if let Some(positive) = audit.positive {
        rows.push(found("label 1", format!("{positive} ({})", percent(positive, audit.records))));
    }
    let Some(groups) = &audit.groups else { return rows };
    let sizes = groups.sizes.iter().map(|(size, count)| format!("{count} of {size}"));
    let rewards = match groups.mean_spread {
        None => "none".to_owned(),
        Some(spread) => format!(
            "{} without, {} all tied, mean spread {spread:.3}",
            groups.unlabelled, groups.tied
        ),
    };
    rows.push(found("groups", sizes.collect::<Vec<_>>().join(", ")));
    rows.push(found("rewards", rewards));
    rows.push(found("groups that repeat a text", groups.repeated.to_string()));
    rows
}

fn of_length_bias(audit: &Audit) -> Vec<[String; 2]> {
    let Some(bias) = &audit.length_bias else { return Vec::new() };
    let longer = bias.longer_wins.map(|Interval { mean, low, high }| {
        let shares = format!("{:.1} % [{:.1}, {:.1}]", 100.0 * mean, 100.0 * low, 100.0 * high);
        let aside = format!("{} pairs of equal length aside", bias.equal_lengths);
        found("longer is chosen", format!("{shares}, {aside}"))
    });
    let auc = bias.auc.map(|auc| found("length tells the label", format!("AUC {auc:.3}")));
    let correlation = bias.correlation.map(|correlation| {
        found("reward with length", format!("Spearman {correlation}, mean of groups"))
    });
    [longer, auc, correlation].into_iter().flatten().collect()
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}
