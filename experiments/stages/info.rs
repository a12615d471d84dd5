//! `exalign info`: devices compiled in and found; a model's shape.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets};
use exalign::Result;
use exalign::device::{self, BackendInfo};
use exalign::model::ModelFolder;

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
        "--device",
        "runs on",
        "found",
        "memory",
        "computes in",
    ]);
    for backend in &device::BACKENDS {
        for row in rows(backend) {
            table.add_row(row);
        }
    }
    let default = device::fastest().unwrap_or_else(|error| error.to_string());
    let mut text = format!(
        "exalign {}, burn 0.22.1\n{table}\nwithout --device: {default}",
        env!("CARGO_PKG_VERSION")
    );
    if let Some(path) = &args.model {
        text += &format!("\n\n{}", describe(&ModelFolder::open(path)?));
    }
    Ok(text)
}

/// What there is to say of a backend: a row for each of its devices, or one that says what is
/// missing.
fn rows(backend: &BackendInfo) -> Vec<[String; 5]> {
    let nothing = |name: &str, why: String| {
        vec![[name.to_owned(), backend.what.to_owned(), why, String::new(), String::new()]]
    };
    if !backend.compiled {
        let command =
            format!("not in this binary: cargo build --release --features {}", backend.name);
        return nothing(backend.name, command);
    }
    if backend.name == "remote" {
        return nothing("remote:HOST:PORT", format!("needs {}", backend.needs));
    }
    match device::found(backend) {
        Err(problem) => nothing(backend.name, problem),
        Ok(devices) if devices.is_empty() => {
            nothing(backend.name, format!("none; needs {}", backend.needs))
        }
        Ok(devices) => devices
            .into_iter()
            .map(|it| {
                let memory = it.memory.map_or("not told".to_owned(), gibibytes);
                [it.name, backend.what.to_owned(), it.model, memory, it.floats.join(", ")]
            })
            .collect(),
    }
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
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
