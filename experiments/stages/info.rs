//! `exalign info`: devices compiled in and found; a model's shape.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets};
use exalign::model::ModelFolder;
use exalign::{Result, device};

use crate::command_line::Global;

/// Options of `exalign info`.
#[derive(Args, Debug)]
pub struct InfoArgs {
    /// A Hugging Face or PEFT folder or hub id to describe
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
}

/// Runs the command; the text to print.
pub fn run(args: &InfoArgs, _: &Global) -> Result<String> {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "device",
        "runs on",
        "in this binary",
    ]);
    for backend in &device::BACKENDS {
        let state = match (backend.compiled, device::present(backend.name)) {
            (true, true) => "yes".to_owned(),
            (true, false) => "yes, but no driver was found".to_owned(),
            (false, _) => format!("no: cargo build --release --features {}", backend.name),
        };
        table.add_row([backend.name, backend.what, &state]);
    }
    let mut text = format!("exalign {}, burn 0.22.1\n{table}", env!("CARGO_PKG_VERSION"));
    if let Some(path) = &args.model {
        text += &format!("\n\n{}", describe(&ModelFolder::open(path)?));
    }
    Ok(text)
}

fn describe(folder: &ModelFolder) -> String {
    let shape = &folder.shape;
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_header([&folder.path.display().to_string(), ""]);
    let kind = if folder.is_classifier() { "reward model or classifier" } else { "language model" };
    let rows = [
        ("family", format!("{}, a {kind}", folder.family.model_type)),
        ("layers", shape.num_layers.to_string()),
        (
            "hidden width",
            format!(
                "{}, {} inside the feed-forward part",
                shape.hidden_size, shape.intermediate_size
            ),
        ),
        (
            "attention",
            format!(
                "{} heads of {}, {} for keys and values",
                shape.num_heads, shape.head_dim, shape.num_kv_heads
            ),
        ),
        (
            "vocabulary",
            format!("{}{}", shape.vocab_size, if shape.tied_embeddings { ", tied" } else { "" }),
        ),
        ("positions", shape.max_positions.to_string()),
        ("end of text", format!("{:?}", shape.end_of_text)),
        (
            "tokenizer.json",
            if folder.path.join("tokenizer.json").is_file() { "yes" } else { "no" }.to_owned(),
        ),
    ];
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    table.to_string()
}
