//! One repetition of the protocol: its stages, and what each reads of the others.

use std::path::{Path, PathBuf};

use exalign::Result;
use exalign::config::{
    AlignSettings, DrawSettings, ExperimentConfig, Generation, OnlineSettings, PairSettings,
    RecordData, Settings, TrainSettings,
};
use exalign::progress::stages::Work;

use super::base::{Base, Model};
use super::checkpoints::EvaluateCheckpoints;
use super::data::{self, Corpus, FirstCompletions, Sizes};
use super::measured::Lineage;
use super::reward_model;
use super::run::{Run, stage_settings};
use super::settings::{Protocol, Start};
use super::variants::{Comparison, PairsFrom, Variant};
use crate::graph::Artifact;
use crate::stage::{GROUPS, Keyed, Source, Step};
use crate::stages::align::Align;
use crate::stages::label::Label;
use crate::stages::online::AlignOnline;
use crate::stages::pairs::Pairs;
use crate::stages::reward::Reward;
use crate::stages::sample::Draw;
use crate::stages::sft::Sft;

/// One repetition of the protocol.
pub struct Pipeline<'a> {
    pub run: &'a mut Run,
    /// The settings with the repetition's seed.
    pub config: ExperimentConfig,
    pub comparison: &'a Comparison,
    pub seed: u64,
    /// Where its stages lie within the run's folder; empty, or ending in a slash.
    pub place: String,
}

/// The models that everything after them reads.
struct Models {
    /// π_sft; the model that the run starts from where that needs no fine-tuning.
    sft: Source,
    reward: Source,
}

impl Pipeline<'_> {
    /// All stages; none is returned from a dry run.
    pub fn lineage(mut self, variants: &[Variant]) -> Result<Option<Lineage>> {
        let (base, data) = self.material()?;
        let models = self.models(&base, &data)?;
        let sizes: Sizes = self.config.section("data")?;
        let prompts = (data.source(data::PROMPTS), sizes.prompts);
        let labels = self.samples("sample", "groups", &models, prompts)?;
        let pairs = self.pairs(&labels, &data)?;
        let reference = self.evaluate("sft", &models, &data, None)?;
        let mut evaluations = Vec::new();
        for variant in variants {
            if variant.online {
                let aligned = self.align_online(variant, &models, &data, sizes.prompts)?;
                let evaluated = self.evaluate(&variant.folder(), &models, &data, Some(&aligned))?;
                evaluations.push(evaluated);
                continue;
            }
            let groups = match variant.takes_pairs() {
                true => pairs.clone(),
                false => self.smaller_groups(variant, &labels)?,
            };
            let aligned = self.align(variant, &models, groups)?;
            evaluations.push(self.evaluate(&variant.folder(), &models, &data, Some(&aligned))?);
        }
        // Many samples for the held-out prompts: what the optimum and Best-of-N are estimated from.
        let held_out = (data.source(data::HELD_OUT), sizes.held_out);
        let candidates = self.samples("optimum", "candidates", &models, held_out)?;
        let chosen = self.chosen(&models, &data, sizes.held_out)?;
        if self.run.graph.is_plan() {
            return Ok(None);
        }
        Lineage::read(self.seed, self.place, &reference, &evaluations, &candidates, chosen.as_ref())
            .map(Some)
    }

    /// Makes a stage, which the run calls `name`, in `folder` of the repetition.
    fn stage<S: Step>(&mut self, name: &str, folder: &str, step: S) -> Result<Artifact> {
        self.sized_stage(name, folder, (S::NAME, 1.0), step)
    }

    /// As [`stage`](Self::stage), with the kind of work and its amount, by which the time of a stage is
    /// estimated from others.
    fn sized_stage(
        &mut self,
        name: &str,
        folder: &str,
        (kind, amount): (&str, f64),
        step: impl Step,
    ) -> Result<Artifact> {
        let work = Work { kind: kind.to_owned(), amount };
        let name = match self.place.as_str() {
            "" => name.to_owned(),
            _ => format!("{name}, seed {}", self.seed),
        };
        self.run.graph.stage(name, format!("{}{folder}", self.place), work, step)
    }

    fn settings<T: Settings>(&self, stage: &str) -> Result<T> {
        stage_settings(&self.config, stage)
    }

    /// The model to start from and the records.
    fn material(&mut self) -> Result<(Artifact, Artifact)> {
        let model: Model = self.config.section("model")?;
        let sizes: Sizes = self.config.section("data")?;
        let (task, seed) = (self.run.task, self.seed);
        let base = match model.path.is_empty() {
            true => self.stage("base model", "base", Base { task, model, seed })?,
            false => self.run.graph.given(Path::new(&model.path))?,
        };
        let published = match sizes.path.is_empty() {
            false if !self.run.graph.listing => {
                Some(Source { path: PathBuf::new(), key: Some(sizes.sources()?.hash()?) })
            }
            _ => None,
        };
        let corpus = Corpus { task, sizes, seed, base: base.whole(), published };
        let data = self.stage("data", "data", corpus)?;
        Ok((base, data))
    }

    /// Whether the data has a file that not every set gives; a plan of data that was not made yet assumes it.
    fn is_there(&self, data: &Artifact, file: &str) -> bool {
        let is_open = self.run.graph.is_plan() && !data.folder.exists();
        is_open || data.path(file).exists()
    }

    fn models(&mut self, base: &Artifact, data: &Artifact) -> Result<Models> {
        let protocol: Protocol = self.config.section("protocol")?;
        let mut sft = base.whole();
        if protocol.fine_tune {
            let fine_tuning = Sft {
                model: base.whole(),
                data: data.source(data::DEMONSTRATIONS),
                validation: None,
                settings: self.settings("sft")?,
            };
            sft = self.stage("fine-tuning", "sft", fine_tuning)?.source("model");
        }
        let settings: TrainSettings = self.settings("reward")?;
        // Records that the settings hold out of the data are told of instead.
        let is_measured =
            settings.validation.share == 0.0 && self.is_there(data, data::HELD_OUT_LABELLED);
        let reward = Reward {
            model: match protocol.reward_from {
                Start::Base => base.whole(),
                Start::Sft => sft.clone(),
            },
            data: data.source(data::LABELLED),
            validation: is_measured.then(|| data.source(data::HELD_OUT_LABELLED)),
            settings,
        };
        let reward = self.stage("reward model", "reward", reward)?;
        if is_measured && protocol.refuse_chance && !self.run.graph.is_plan() {
            reward_model::refuse_chance(&reward.folder, &data.folder)?;
        }
        Ok(Models { sft, reward: reward.whole() })
    }

    /// Samples of π_sft for so many `prompts` with the settings of `stage`, labelled.
    fn samples(
        &mut self,
        stage: &str,
        name: &str,
        models: &Models,
        (prompts, num_prompts): (Source, usize),
    ) -> Result<Artifact> {
        let settings: DrawSettings = self.settings(stage)?;
        let amount = (num_prompts * settings.generation.completions) as f64;
        let draw = Draw { model: models.sft.clone(), data: prompts, shard: None, settings };
        let (of_draw, of_label) = ((Draw::NAME, amount), (Label::NAME, amount));
        let (title, folder) = (format!("sampling {name}"), format!("{stage}-drawn"));
        let drawn = self.sized_stage(&title, &folder, of_draw, draw)?;
        let label = Label {
            reward: models.reward.rewarding()?,
            data: drawn.source(GROUPS),
            shard: None,
            device: self.run.graph.context.device.clone(),
            settings: self.settings(stage)?,
        };
        let (title, folder) = (format!("labelling {name}"), format!("{stage}-labelled"));
        self.sized_stage(&title, &folder, of_label, label)
    }

    /// The rewards of the answers that people gave to the held-out prompts, where there are any.
    fn chosen(
        &mut self,
        models: &Models,
        data: &Artifact,
        num_prompts: usize,
    ) -> Result<Option<Artifact>> {
        if !self.is_there(data, data::CHOSEN) {
            self.run.graph.leave_out(&format!("{}chosen", self.place));
            return Ok(None);
        }
        let label = Label {
            reward: models.reward.rewarding()?,
            data: data.source(data::CHOSEN),
            shard: None,
            device: self.run.graph.context.device.clone(),
            settings: self.settings("evaluate")?,
        };
        let work = (Label::NAME, num_prompts as f64);
        self.sized_stage("labelling chosen answers", "chosen", work, label).map(Some)
    }

    /// What the objectives on pairs learn from.
    fn pairs(&mut self, groups: &Artifact, data: &Artifact) -> Result<Source> {
        let method = match self.comparison.pairs_from()? {
            PairsFrom::Data => return Ok(data.source(data::LABELLED)),
            PairsFrom::Groups(method) => method,
        };
        let sample: DrawSettings = self.settings("sample")?;
        let align: AlignSettings = self.settings("align")?;
        let whole = RecordData { skip_bad: 0, max_row_bytes: sample.data.max_row_bytes };
        let pairs = Pairs {
            data: groups.source(GROUPS),
            method,
            beta_reward: align.objective.beta_reward,
            settings: PairSettings { seed: self.seed, data: whole },
        };
        Ok(self.stage("making pairs", "pairs", pairs)?.source(GROUPS))
    }

    /// The first K completions of each group, where a variant takes fewer than were drawn.
    fn smaller_groups(&mut self, variant: &Variant, groups: &Artifact) -> Result<Source> {
        let Some(count) = variant.fewer_completions else { return Ok(groups.source(GROUPS)) };
        let first = FirstCompletions { groups: groups.source(GROUPS), count };
        let name = format!("groups of {count}");
        Ok(self.stage(&name, &format!("groups-k{count}"), first)?.source(GROUPS))
    }

    fn align(&mut self, variant: &Variant, models: &Models, groups: Source) -> Result<Artifact> {
        let mut settings: AlignSettings = self.settings("align")?;
        settings.objective = variant.objective.clone();
        let completions = match variant.takes_pairs() {
            true => 2,
            false => variant.completions,
        };
        let amount = (completions * settings.train.training.epochs) as f64;
        let align = Align {
            model: models.sft.clone(),
            reference: models.sft.clone(),
            data: groups,
            validation: None,
            settings,
        };
        self.sized_stage(&variant.name(), &variant.folder(), (Align::NAME, amount), align)
    }

    /// Alignment on the policy's own samples of the same prompts, as many of each at a time.
    fn align_online(
        &mut self,
        variant: &Variant,
        models: &Models,
        data: &Artifact,
        num_prompts: usize,
    ) -> Result<Artifact> {
        let mut align: AlignSettings = self.settings("align")?;
        align.objective = variant.objective.clone();
        let draw: DrawSettings = self.settings("sample")?;
        let generation = Generation { completions: variant.completions, ..draw.generation };
        let amount = (num_prompts * generation.completions * align.train.training.epochs) as f64;
        let align = AlignOnline {
            model: models.sft.clone(),
            reference: models.sft.clone(),
            prompts: data.source(data::PROMPTS),
            reward: models.reward.rewarding()?,
            device: self.run.graph.context.device.clone(),
            settings: OnlineSettings { align, generation, online: self.config.section("online")? },
        };
        let work = (AlignOnline::NAME, amount);
        self.sized_stage(&variant.name(), &variant.folder(), work, align)
    }

    /// Reward and KL of a policy's checkpoints, or of π_sft itself.
    fn evaluate(
        &mut self,
        name: &str,
        models: &Models,
        data: &Artifact,
        aligned: Option<&Artifact>,
    ) -> Result<Artifact> {
        let kind = match aligned {
            Some(_) => EvaluateCheckpoints::NAME,
            None => "evaluate the reference",
        };
        let evaluate = EvaluateCheckpoints {
            aligned: aligned.map(Artifact::whole),
            reference: models.sft.clone(),
            reward: models.reward.clone(),
            data: data.source(data::HELD_OUT),
            settings: self.settings("evaluate")?,
        };
        let (title, folder) = (format!("evaluating {name}"), format!("evaluations/{name}"));
        self.sized_stage(&title, &folder, (kind, 1.0), evaluate)
    }
}
