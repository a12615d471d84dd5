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
    if args.out.join("config.json").exists() {
        return Err(Error::file(
            &args.out,
            "expected a folder without a model, found config.json; merge into a new folder",
        ));
    }
    let device = Context::new(global)?.device;
    let base = ModelFolder::open(&args.model)?;
    let folder = base.with_adapter(AdapterFolder::open(&args.adapter)?)?;
    let merged = Subject::whole(folder.clone(), plain_tokenizer(&folder)?);
    if folder.is_classifier() {
        let model = RewardModel::load(&folder, 0, &device)?;
        carry_generation_config(&folder, &args.out)?;
        merged.save_reward_model(&model, &reward_reading(&folder), args.dtype, &args.out)?;
    } else {
        let decoder = load_decoder(&folder, &device)?;
        carry_generation_config(&folder, &args.out)?;
        merged.save_decoder(&decoder, args.dtype, &args.out)?;
    }
    Ok(json!({ "model": args.out }))
}
