//! `exalign align --online`: rounds of drawing, rewarding and steps on the policy's own samples.

use std::path::Path;

use burn::tensor::Device;
use clap::Args;
use exalign::config::{OnlineSettings, Settings};
use exalign::model::{ModelFolder, WeightType};
use exalign::rewards::{Opening, RewardSpecs};
use exalign::tuning::{Online, ROUNDS, Trained};
use exalign::{Error, Result};
use serde_json::Value;

use super::training::{is_of_training, shaping};
use crate::model_input::set_date;
use crate::rewarding::{self, Rewarding};
use crate::stage::{self, Input, Keyed, Site, Source};

/// Options of `exalign align --online`.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "On the policy's own samples")]
pub struct OnlineFlags {
    /// Align on completions that the policy draws itself, round by round; --data has prompts then
    #[arg(long, requires = "reward")]
    pub online: bool,
    /// The rewards, with commas between: reward:DIR (a reward model; a bare DIR is one too),
    /// command:PROGRAM (JSON Lines in, JSON Lines out), rule:NAME, openai:URL; *W behind one is its weight
    #[arg(long, value_name = "SPEC[,SPEC]", value_parser = rewarding::parse, requires = "online")]
    pub reward: Option<RewardSpecs>,
    /// online.rounds: rounds of draw, reward and steps; 0: so many that every prompt comes epochs times
    #[arg(long, value_name = "N", requires = "online")]
    rounds: Option<usize>,
    /// online.prompts_per_round: prompts whose completions are drawn in a round
    #[arg(long, value_name = "N", requires = "online")]
    prompts_per_round: Option<usize>,
    /// online.steps_per_round: optimizer steps on the completions of a round
    #[arg(long, value_name = "N", requires = "online")]
    steps_per_round: Option<usize>,
    /// generation.completions: completions for every prompt, K
    #[arg(long, value_name = "K", requires = "online")]
    completions: Option<usize>,
    /// generation.max_new_tokens: longest completion, in tokens
    #[arg(long, value_name = "TOKENS", requires = "online")]
    max_new_tokens: Option<usize>,
}

impl OnlineFlags {
    /// As settings; completions are drawn at the `temperature` of the objective where that is given.
    pub fn settings(&self, temperature: Option<f64>) -> Vec<(&'static str, Option<String>)> {
        let count = |value: Option<usize>| value.map(|value| value.to_string());
        vec![
            ("online.rounds", count(self.rounds)),
            ("online.prompts_per_round", count(self.prompts_per_round)),
            ("online.steps_per_round", count(self.steps_per_round)),
            ("generation.completions", count(self.completions)),
            ("generation.max_new_tokens", count(self.max_new_tokens)),
            ("generation.temperature", temperature.map(|value| format!("{value:?}"))),
        ]
    }
}

/// Alignment of a model on completions of prompts that it draws itself.
pub struct AlignOnline {
    pub model: Source,
    pub reference: Source,
    pub prompts: Source,
    pub reward: Rewarding,
    /// Where reward models compute.
    pub device: Device,
    pub settings: OnlineSettings,
}

impl Keyed for AlignOnline {
    const NAME: &'static str = "align --online";

    fn settings(&self) -> Value {
        let mut settings = shaping(self.settings.shaping(), None);
        self.reward.shape(&mut settings);
        settings
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let mut inputs = vec![self.model.model("model"), self.prompts.file("data")];
        if self.settings.align.objective.needs_reference() {
            inputs.push(self.reference.weights("reference"));
        }
        inputs
    }

    fn rewards(&self) -> Option<&Rewarding> {
        Some(&self.reward)
    }
}

impl stage::Stage for AlignOnline {
    type Opened = Online;
    type Summary = Trained;

    fn open(&mut self, record: Option<&Path>) -> Result<Online> {
        let folder = ModelFolder::open(&self.model.path)?;
        let mut folders = self.reward.specs.models()?;
        folders.insert(0, folder.clone());
        let chat = &mut self.settings.align.train.chat;
        set_date(chat, &folders.iter().collect::<Vec<_>>(), record)?;
        let reference = ModelFolder::open(&self.reference.path)?;
        let rewards = self.reward.specs.open(&Opening {
            device: &self.device,
            dtype: WeightType::F32,
            chat: &self.settings.align.train.chat,
            settings: &self.reward.settings,
        })?;
        Online::open([folder, reference], &self.prompts.path, &self.settings, rewards)
    }

    fn make(self, opened: Online, site: &Site<'_>) -> Result<Trained> {
        opened.train(self.settings, &site.training()?)
    }

    fn owns(name: &str) -> bool {
        is_of_training(name) || name.starts_with(&format!("{ROUNDS}/"))
    }
}

/// The rewards that were given with --online.
pub fn given(reward: Option<RewardSpecs>) -> Result<RewardSpecs> {
    reward.ok_or_else(|| Error::usage("--online: expected --reward SPEC, found none"))
}
