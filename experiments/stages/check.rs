//! `exalign check`: an audit of a file of records, before a training on it.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{CellAlignment, Table};
use exalign::config::{AlignSettings, Stage};
use exalign::data::audit::{Audit, Auditor, Kind, Lengths, SHOWN, ShownRow};
use exalign::model::ModelFolder;
use exalign::statistics::Interval;
use exalign::{Error, Result};
use serde_json::json;

use crate::context::{Global, settings};
use crate::model_input::{limits, tokenizer};
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

fn findings(audit: &Audit) -> Table {
    let mut table = table(["what", "found"]);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    let long = &audit.too_long;
    let limit = |limit: usize| if limit == 0 { "none".to_owned() } else { limit.to_string() };
    row(
        "limit, in tokens",
        match long.max_prompt_length {
            0 => limit(long.max_length),
            prompt => format!("{}, of the prompt {prompt}", limit(long.max_length)),
        },
    );
    row("cut to fit", format!("{} records, {} tokens lost", long.cut, long.tokens_lost));
    if audit.kind != Kind::LabelledTexts && audit.completions.is_some() {
        row("do not fit", format!("{} records", long.refused));
    }
    row(
        "bad lines",
        match (audit.equal_sides, audit.ties) {
            (0, 0) => audit.bad.to_string(),
            (sides, ties) => {
                format!("{}, of which {sides} with equal sides, {ties} tied", audit.bad)
            }
        },
    );
    row("repeated records", audit.duplicates.to_string());
    row("repeated prompts", audit.repeated_prompts.to_string());
    if matches!(audit.kind, Kind::Preferences | Kind::LabelledTexts) {
        row("contradictions", audit.contradictions.to_string());
    }
    if let Some(shared) = audit.shared_prompts {
        row("prompt in the other file", shared.to_string());
    }
    if let Some(end) = &audit.end {
        row("a completion ends with", end.clone());
    }
    if audit.begun_twice > 0 {
        row(&format!("begin with {} twice", audit.begin), audit.begun_twice.to_string());
    }
    if audit.seams.checked > 0 {
        let share = percent(audit.seams.merged, audit.seams.checked);
        row(
            "seams inside a token",
            format!("{} of {} ({share})", audit.seams.merged, audit.seams.checked),
        );
    }
    let endings = &audit.endings;
    if audit.kind != Kind::LabelledTexts && endings.completions > 0 {
        row(
            "completions",
            format!(
                "{}, of which {} cut, {} without end-of-text, {} with one inside",
                endings.completions, endings.cut, endings.unended, endings.inside
            ),
        );
    }
    if let Some(positive) = audit.positive {
        row("label 1", format!("{positive} ({})", percent(positive, audit.records)));
    }
    if let Some(groups) = &audit.groups {
        let sizes: Vec<String> =
            groups.sizes.iter().map(|(size, count)| format!("{count} of {size}")).collect();
        row("groups", sizes.join(", "));
        row(
            "rewards",
            match groups.mean_spread {
                None => "none".to_owned(),
                Some(spread) => format!(
                    "{} without, {} all tied, mean spread {spread:.3}",
                    groups.unlabelled, groups.tied
                ),
            },
        );
        row("groups that repeat a text", groups.repeated.to_string());
    }
    if let Some(bias) = &audit.length_bias {
        if let Some(Interval { mean, low, high }) = bias.longer_wins {
            row(
                "longer is chosen",
                format!(
                    "{:.1} % [{:.1}, {:.1}], {} pairs of equal length aside",
                    100.0 * mean,
                    100.0 * low,
                    100.0 * high,
                    bias.equal_lengths
                ),
            );
        }
        if let Some(auc) = bias.auc {
            row("length tells the label", format!("AUC {auc:.3}"));
        }
        if let Some(correlation) = bias.correlation {
            row("reward with length", format!("Spearman {correlation}, mean of groups"));
        }
    }
    table
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}
