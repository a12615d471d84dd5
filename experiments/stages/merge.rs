//! `exalign merge`: a LoRA adapter into the weights of its base.

use std::path::{Path, PathBuf};

use clap::Args;
use exalign::files::{read_json, write_json};
use exalign::model::adapter::AdapterFolder;
use exalign::model::{ModelFolder, Precision, RewardModel, reward_reading};
use exalign::{Error, Result};
use serde_json::{Value, json};

use super::training::{Subject, load_decoder};
use super::{Context, dtype, plain_tokenizer};
use crate::command_line::Global;
use crate::record::{Record, Start};

/// Options of `exalign merge`.
#[derive(Args, Debug)]
pub struct MergeArgs {
    /// A Hugging Face folder or hub id: the model the adapter was trained on
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// A PEFT folder: adapter_config.json and adapter_model.safetensors
    #[arg(long, value_name = "FOLDER")]
    adapter: PathBuf,
    /// Where the merged model goes
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Start over where an earlier run left something
    #[arg(long)]
    fresh: bool,
    /// What the merged weights are written as: f32, bf16 or f16
    #[arg(long, value_name = "DTYPE", default_value = "f32", value_parser = dtype)]
    dtype: Precision,
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

/// Runs the command.
pub fn run(args: &MergeArgs, global: &Global) -> Result<Value> {
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
    let folder = base.with_adapter(AdapterFolder::open(&args.adapter)?)?;
    let tokenizer = plain_tokenizer(&folder)?;
    let record = Record::new("merge", json!({ "dtype": args.dtype }), &context.device_name)
        .input("model with adapter", folder.content_hash()?)
        .tokenizer(tokenizer.as_ref());
    let merged = Subject::whole(folder.clone(), tokenizer);
    // Loaded before anything is written: an adapter that cannot be merged leaves no folder.
    let save: Box<dyn FnOnce() -> Result<()>> = if folder.is_classifier() {
        let model = RewardModel::load(&folder, 0, device)?;
        let reading = reward_reading(&folder);
        Box::new(move || merged.save_reward_model(&model, &reading, args.dtype, out))
    } else {
        let decoder = load_decoder(&folder, device)?;
        Box::new(move || merged.save_decoder(&decoder, args.dtype, out))
    };
    let work = match record.start_folder(out, args.fresh)? {
        Start::Done(result) => return Ok(result),
        Start::Go(work) => work,
    };
    carry_generation_config(&folder, out)?;
    save()?;
    let result = json!({ "model": out.to_string_lossy() });
    work.finish_folder(result.clone(), |name| name != "run.json")?;
    Ok(result)
}
