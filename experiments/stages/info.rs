//! `exalign info`: the devices that are compiled in and found, or the shape of a model.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets};
use exalign::Result;
use exalign::data::{RewardReading, Tokenizer};
use exalign::device::{self, BackendInfo};
use exalign::model::{ModelFolder, reward_reading};
use exalign::tuning::plain_tokenizer;

/// Options of `exalign info`.
#[derive(Args, Debug)]
pub struct InfoArgs {
    /// The model to describe: a Hugging Face or PEFT folder, or a hub id
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
}

/// Runs the command; the text to print.
pub fn run(args: &InfoArgs) -> Result<String> {
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
        let folder = ModelFolder::open(path)?;
        let tokenizer = plain_tokenizer(&folder)?;
        text += &format!("\n\n{}", describe(&folder, tokenizer.as_ref()));
        for warning in tokenizer.iter().flat_map(Tokenizer::warnings) {
            text += &format!("\n{warning}");
        }
        // Only told: what there is to say of the model is said all the same.
        if let Err(error) = folder.check_weights() {
            text += &format!("\n{error}");
        }
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

fn describe(folder: &ModelFolder, tokenizer: Option<&Tokenizer>) -> String {
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
    ];
    for (name, value) in rows.into_iter().chain(of_text(folder, tokenizer)) {
        table.add_row([name.to_owned(), value]);
    }
    table.to_string()
}

/// What there is to say of texts and conversations.
fn of_text(folder: &ModelFolder, tokenizer: Option<&Tokenizer>) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let Some(tokenizer) = tokenizer else {
        rows.push(("tokenizer", "none: records need token ids".to_owned()));
        rows.push(("completions end with", format!("{:?}", folder.shape.end_of_text)));
        return rows;
    };
    let named = |id: &u32| format!("{} ({id})", tokenizer.token(*id).unwrap_or_default());
    let all = |ids: &[u32]| match ids {
        [] => "nothing".to_owned(),
        ids => ids.iter().map(named).collect::<Vec<_>>().join(", "),
    };
    rows.push(("texts begin with", all(tokenizer.front())));
    let ends = tokenizer.ends();
    rows.push(match &ends.turn {
        Some((id, source)) => {
            ("completions end with", format!("{}: {}", named(id), source.words()))
        }
        None => ("completions end with", "no token: none is named".to_owned()),
    });
    rows.push(("sampling stops at", all(&ends.all)));
    rows.push(match tokenizer.chat_template() {
        Some(template) => {
            let date = if template.reads_date() { ", reads the date (chat.date)" } else { "" };
            ("chat template", format!("{}{date}", template.source().display()))
        }
        None => ("chat template", "none".to_owned()),
    });
    if folder.is_classifier() {
        let RewardReading { is_own, ends_text, padding } = reward_reading(folder);
        let text = match (is_own, ends_text) {
            (true, true) => "with the token that ends it",
            (true, false) => "without the tokens that end it",
            (false, _) => "as it stands",
        };
        let before = match padding {
            Some(id) => format!("the last token that is not the padding {}", named(&id)),
            None => "the last token".to_owned(),
        };
        let what =
            format!("{before}, of a text {text}, of a conversation as its template writes it");
        rows.push(("reward is read at", what));
    }
    rows
}
