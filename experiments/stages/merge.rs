//! `exalign merge`: adds a LoRA adapter into the weights of its base.

use std::path::{Path, PathBuf};

use clap::Args;
use exalign::files::{read_json, write_json};
use exalign::model::adapter::AdapterFolder;
use exalign::model::{ModelFolder, Precision, RewardModel, reward_reading};
use exalign::tuning::{Subject, load_decoder, plain_tokenizer};
use exalign::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::context::{Context, Global};
use crate::model_input::dtype;
use crate::record::{Made, Record, Start};
use crate::stage::{TEXT, model_content};

/// Options of `exalign merge`.
#[derive(Args, Debug)]
pub struct MergeArgs {
    /// The model that the adapter was trained on: a Hugging Face folder or hub id
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// The adapter: a PEFT folder with adapter_config.json and adapter_model.safetensors
    #[arg(long, value_name = "FOLDER")]
    adapter: PathBuf,
    /// The folder for the merged model
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Start over instead of continuing an earlier output
    #[arg(long)]
    fresh: bool,
    /// Type of the merged weights: f32, bf16 or f16
    #[arg(long, value_name = "DTYPE", default_value = "f32", value_parser = dtype)]
    dtype: Precision,
}

/// What a merging came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Merged {
    model: String,
}

/// Writes the base's generation_config.json, which adapters seldom come with: the tokenizer's
/// companions, written after it, are the adapter's where it has a tokenizer.
fn carry_generation_config(folder: &ModelFolder, out: &Path) -> Result<()> {
    let file = folder.path.join("generation_config.json");
    if !file.is_file() {
        return Ok(());
    }
    write_json(&out.join("generation_config.json"), &read_json::<Value>(&file)?)
}

/// Says so where the adapter names another model than the one it is merged into.
fn tell_of_another_base(adapter: &AdapterFolder, base: &ModelFolder) {
    let Some(named) = adapter.base_name() else { return };
    let of = |path: &Path| path.canonicalize().ok();
    let is_same_folder =
        adapter.base().is_ok_and(|path| path.is_dir() && of(&path) == of(&base.path));
    // A revision stands behind the name of a published model, and a copy of the model may have that name.
    let plain = |name: &str| name.split('@').next().unwrap_or(name).to_owned();
    let published = base.json["_name_or_path"].as_str();
    let names = [Some(base.name.as_str()), published].into_iter().flatten();
    if !is_same_folder && !names.map(plain).any(|name| name == plain(named)) {
        tracing::info!(
            "{}: the adapter was trained on `{named}` (base_model_name_or_path), and is merged into `{}`",
            adapter.path.display(),
            base.name
        );
    }
}

/// Runs the command.
pub fn run(args: &MergeArgs, global: &Global) -> Result<Merged> {
    let out = &args.out;
    if out.join("config.json").exists() && !Record::within(out).exists() {
        return Err(Error::file(
            out,
            "expected a folder without a model, found config.json; merge into a new folder",
        ));
    }
    let context = Context::new(global)?;
    let device = &context.device;
    let base = ModelFolder::open(&args.model)?;
    let adapter = AdapterFolder::open(&args.adapter)?;
    tell_of_another_base(&adapter, &base);
    let folder = base.with_adapter(adapter)?;
    let tokenizer = plain_tokenizer(&folder)?;
    let mut made = Made::new("merge", json!({ "dtype": args.dtype }));
    made.inputs = model_content("model with adapter", &folder, TEXT)?;
    let record = Record::new(made, &context.device_name);
    let merged = Subject::whole(folder.clone(), tokenizer);
    // Loaded before anything is written: an adapter that cannot be merged leaves no folder.
    let save: Box<dyn FnOnce() -> Result<()>> = if folder.is_classifier() {
        let model = RewardModel::load_labels(&folder, device)?;
        let reading = reward_reading(&folder);
        Box::new(move || merged.save_reward_model(&model, &reading, args.dtype, out))
    } else {
        let decoder = load_decoder(&folder, device)?;
        Box::new(move || merged.save_decoder(&decoder, args.dtype, out))
    };
    let work = match record.start_folder(out, args.fresh)? {
        Start::Done(finished) => return finished.result(),
        Start::Go(work) => work,
    };
    carry_generation_config(&folder, out)?;
    save()?;
    let merged = Merged { model: out.to_string_lossy().into_owned() };
    work.finish(json!(merged), |name| name != "run.json")?;
    Ok(merged)
}
