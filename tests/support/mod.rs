//! A tiny model, groups for it, and the program to run on them.
#![allow(dead_code, reason = "each binary uses its part")]

pub mod bigram;
pub mod families;
#[cfg(unix)]
pub mod faulty;
pub mod formula;
pub mod hub_server;
pub mod judge_server;
pub mod own_objective;
pub mod skipped;

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use burn::tensor::Device;
use exalign::model::families::gpt2_config_json;
use exalign::model::{self, Decoder, ModelFolder, weights};
use serde_json::{Value, json};

pub const VOCABULARY: usize = 23;
pub const END: u32 = 22;

/// A run of the whole experiment small enough for a test.
pub const SMALL_EXPERIMENT: &str = "run sentiment --out run --set model.hidden_size=16 --set model.num_layers=1 \
     --set model.num_heads=2 --set data.demonstrations=64 --set data.labelled=64 --set data.prompts=32 \
     --set data.held_out=16 --set align.training.batch_size=16 --set align.training.epochs=1 \
     --set align.checkpoint.every=1 --set optimum.generation.completions=8 --set protocol.refuse_chance=false --seed 1";

/// A folder to work in, with a tiny GPT-2 and without a tokenizer: records hold token ids.
pub struct Workplace {
    pub folder: tempfile::TempDir,
}

impl Workplace {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        let config = gpt2_config_json(VOCABULARY, 16, 2, 2, 32, END);
        std::fs::create_dir(&model).unwrap();
        std::fs::write(model.join("config.json"), config.to_string()).unwrap();
        let described = ModelFolder::open(&model).unwrap();
        let device = Device::flex();
        let decoder = Decoder::new(described.shape.clone(), &device);
        let decoder = weights::initialize(decoder, &described.shape, 1, &device);
        model::save(&decoder, &described.family.bindings(&described.shape), &config, &model)
            .unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn lines(&self, name: &str, records: impl IntoIterator<Item = Value>) -> PathBuf {
        let text: String = records.into_iter().map(|record| format!("{record}\n")).collect();
        self.write(name, &text)
    }

    /// Groups of K completions with rewards, all different.
    pub fn groups(&self, name: &str, count: usize, k: usize) -> PathBuf {
        self.lines(name, (0..count).map(|i| {
            let completion = |j: usize| -> Vec<usize> { (0..3 + (i + j) % 4).map(|t| (7 * i + 5 * j + 3 * t * t) % 22).chain([22]).collect() };
            let rewards: Vec<f64> = (0..k).map(|j| ((i * 3 + j * 5) as f64).sin() * 2.0).collect();
            json!({
                "id": format!("g{i}"), "prompt_ids": [(i * 5) % 22, (i * 7 + 1) % 22],
                "completion_ids": (0..k).map(completion).collect::<Vec<_>>(), "rewards": rewards,
            })
        }))
    }

    /// A model folder `huge` of a shape that no machine has room for; its weights are never asked for.
    pub fn huge(&self) {
        let config = std::fs::read_to_string(self.path("model/config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&config).unwrap();
        config["n_layer"] = json!(1000);
        config["n_embd"] = json!(1 << 17);
        std::fs::create_dir(self.path("huge")).unwrap();
        self.write("huge/config.json", &config.to_string());
    }

    /// Gives the model a tokenizer of `letters`, whose ids are their places, beside the end [`END`].
    pub fn with_letters(&self, letters: &str) {
        self.letters_of("model", letters);
    }

    /// The same for the model of a folder.
    pub fn letters_of(&self, folder: &str, letters: &str) {
        let mut vocabulary = json!({ "</s>": END });
        for (id, letter) in letters.chars().enumerate() {
            vocabulary[letter.to_string()] = json!(id);
        }
        let end = json!({
            "id": END, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        });
        let tokenizer = json!({
            "version": "1.0", "added_tokens": [end],
            "model": { "type": "BPE", "vocab": vocabulary, "merges": [] }, "decoder": { "type": "Fuse" },
        });
        self.write(&format!("{folder}/tokenizer.json"), &tokenizer.to_string());
    }

    /// `exalign` in this folder, with a cache of its own and no settings from outside.
    pub fn exalign(&self) -> Command {
        let mut command = Command::cargo_bin("exalign").unwrap();
        command
            .current_dir(self.folder.path())
            .env("EXALIGN_CACHE", self.path("cache"))
            .env_remove("RUST_LOG");
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("EXALIGN_") && name.contains("__"))
        {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command line that must succeed; its standard output.
    pub fn succeeds(&self, arguments: &str) -> String {
        let output = self.exalign().args(arguments.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "exalign {arguments}\n{}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a command line that must fail with `code`; the one line it says, this folder left out.
    pub fn refuses(&self, arguments: &str, code: i32) -> String {
        let output = self.exalign().args(arguments.split_whitespace()).output().unwrap();
        self.refusal(&output, arguments, code)
    }

    pub fn refusal(&self, output: &Output, arguments: &str, code: i32) -> String {
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "exalign {arguments}\n{stderr}");
        assert!(
            output.stdout.is_empty(),
            "results and errors do not mix: {}",
            text(&output.stdout)
        );
        let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "one line says what is wrong: {stderr}");
        errors[0].replace(&format!("{}/", self.folder.path().display()), "")
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// metrics.jsonl without what differs from run to run: times and memory.
pub fn metrics(dir: &Path) -> Vec<Value> {
    let mut lines = json_lines(&dir.join("metrics.jsonl"));
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.remove("seconds");
        line.remove("peak_memory_bytes");
    }
    lines
}
