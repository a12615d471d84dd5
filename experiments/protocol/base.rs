//! The model of an embedded corpus: a small GPT-2 with new weights and the corpus' own tokenizer.

use std::path::Path;

use burn::tensor::Device;
use exalign::data::Tokenizer;
use exalign::model::families::{Family, gpt2_config_json};
use exalign::model::{self, Decoder, weights};
use exalign::{Result, files, memory};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::context::Context;
use crate::grammar::{END_OF_TEXT, Grammar, UNKNOWN};
use crate::stage::{Input, Keyed, Step};
use crate::tasks::Task;

/// `model.*`: the model the experiment starts from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Model {
    /// A Hugging Face folder or hub id; empty: a GPT-2 of the following shape, from nothing.
    pub path: String,
    pub hidden_size: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    pub max_positions: usize,
}

/// The making of the model of an embedded corpus.
pub struct Base {
    pub task: &'static dyn Task,
    pub model: Model,
    pub seed: u64,
}

impl Keyed for Base {
    const NAME: &'static str = "base";

    fn settings(&self) -> Value {
        json!({ "corpus": self.task.corpus(), "model": self.model, "seed": self.seed })
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        Vec::new()
    }
}

impl Step for Base {
    fn fill(self, folder: &Path, context: &Context) -> Result<()> {
        new_model(self.task, &self.model, self.seed, folder, &context.device)
    }
}

/// Writes the model's Hugging Face folder.
fn new_model(
    task: &dyn Task,
    model: &Model,
    seed: u64,
    folder: &Path,
    device: &Device,
) -> Result<()> {
    let tokenizer = Grammar::parse(task.grammar())?.tokenizer(task.special_tokens())?;
    let end_of_text = tokenizer.token_to_id(END_OF_TEXT).unwrap_or(0);
    let json = gpt2_config_json(
        tokenizer.get_vocab_size(true),
        model.hidden_size,
        model.num_layers,
        model.num_heads,
        model.max_positions,
        end_of_text,
    );
    let path = folder.join("config.json");
    let family = Family::of(&path, &json)?;
    let shape = family.shape(&path, &json)?;
    memory::check(
        shape.num_weights().saturating_mul(4),
        &format!("`model`: {} layers of width {}", shape.num_layers, shape.hidden_size),
        "lower model.num_layers, model.hidden_size or model.max_positions",
    )?;
    let decoder = weights::initialize(Decoder::new(shape.clone(), device), &shape, seed, device);
    Tokenizer::from_tokenizer(tokenizer, &[end_of_text])?.save(folder)?;
    let mut tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "unk_token": UNKNOWN,
        "model_max_length": model.max_positions,
        "clean_up_tokenization_spaces": false,
    });
    if let Some(template) = task.chat_template() {
        tokenizer_config["chat_template"] = json!(template);
    }
    files::write_json(&folder.join("tokenizer_config.json"), &tokenizer_config)?;
    model::save(&decoder, &family.bindings(&shape), &json, folder)
}
