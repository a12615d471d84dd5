//! The paper's protocol, the same for every experiment:
//!
//! data → (a small model from nothing) → fine-tuning → reward model → groups → labels → pairs →
//! EXO and DPO → reward and KL of every checkpoint → the exact optimum, Best-of-N, win rates.
//!
//! Every arrow is a stage of the [graph](crate::graph); with several seeds everything is repeated.

pub mod base;
mod curves;
mod data;
mod findings;
mod frontiers;
pub mod labels;
mod measured;
mod rule;
mod sentences;
mod table;
mod variants;
mod wins;

use std::path::{Path, PathBuf};

use exalign::alignment::{Labels, ObjectiveName};
use exalign::config::{Config, ExperimentConfig, Stage};
use exalign::data::Tokenizer;
use exalign::model::ModelFolder;
use exalign::training::{Checkpoints, Keeping};
use exalign::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::graph::{Artifact, Plan};
use crate::run::Run;
use crate::stages::align::Align;
use crate::stages::evaluate::{Evaluate, check_generation};
use crate::stages::label::Label;
use crate::stages::pairs::{Method, Pairs};
use crate::stages::plain_tokenizer;
use crate::stages::reward::Reward;
use crate::stages::sample::SampleStage;
use crate::stages::sft::Sft;
use crate::tasks::Task;
use base::Model;
use data::Sizes;
use measured::{Lineage, Outcome};
use variants::{Comparison, PairsFrom, Variant};

/// What the presets of all experiments have in common.
pub const COMMON: &str = include_str!("../../assets/presets/common.toml");

/// The stages, as presets call them.
pub const STAGES: [(&str, Stage); 8] = [
    ("sft", Stage::Sft),
    ("reward", Stage::Reward),
    ("sample", Stage::Sample),
    ("align", Stage::Align),
    ("pairs", Stage::Sample),
    ("evaluate", Stage::Evaluate),
    ("optimum", Stage::Sample),
    ("judge", Stage::Evaluate),
];

/// `protocol.*`
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Protocol {
    fine_tune: bool,
    reward_from: Start,
}

/// What a reward model starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Start {
    Base,
    Sft,
}

/// Refuses settings that make no sense together, before anything is written.
pub fn check(config: &ExperimentConfig) -> Result<()> {
    let drawn = config.stage("sample")?.generation.completions;
    config.section::<Comparison>("comparison")?.check(drawn)?;
    let (evaluate, optimum) = (config.stage("evaluate")?, config.stage("optimum")?);
    check_generation(&evaluate.generation)?;
    let of = |config: &Config| {
        let it = &config.generation;
        (it.temperature, it.top_k, it.top_p)
    };
    if of(&evaluate) != of(&optimum) {
        return Err(Error::usage(format!(
            "optimum.generation: expected the temperature, top_k and top_p of evaluate.generation, {:?}, found {:?}: \
             the optimum of another reference is no bound for these policies",
            of(&evaluate),
            of(&optimum)
        )));
    }
    if config.stage("align")?.checkpoint.every == 0 {
        return Err(Error::usage(
            "align.checkpoint.every: expected at least 1, found 0; the report shows the policy at its checkpoints",
        ));
    }
    Ok(())
}

/// Runs the experiment, or says what it would run.
pub fn run(mut run: Run) -> Result<()> {
    let comparison: Comparison = run.config.section("comparison")?;
    wins::check(&run, &comparison)?;
    let variants = comparison.variants(&run.settings("align", 0)?, &run.settings("sample", 0)?);
    let first = run.config.seed();
    let mut lineages = Vec::new();
    for seed in first..first + comparison.seeds as u64 {
        let place = match comparison.seeds {
            1 => String::new(),
            _ => format!("seed-{seed}/"),
        };
        let lineage =
            Pipeline { run: &mut run, comparison: &comparison, seed, place }.lineage(&variants)?;
        lineages.extend(lineage);
    }
    if run.graph.dry_run {
        return Ok(());
    }
    findings::report(&run, Outcome { comparison, variants, lineages })
}

/// One repetition of the protocol.
struct Pipeline<'a> {
    run: &'a mut Run,
    comparison: &'a Comparison,
    seed: u64,
    /// Where its stages lie within the run's folder; empty, or ending in a slash.
    place: String,
}

/// The models that everything after them reads.
struct Models {
    sft: Artifact,
    reward: Artifact,
}

impl Models {
    fn sft_path(&self) -> PathBuf {
        // A model that was given needs no fine-tuning and lies in its own folder.
        let inner = self.sft.path("model");
        if ModelFolder::is_at(&inner) { inner } else { self.sft.folder.clone() }
    }
}

impl Pipeline<'_> {
    /// All stages; none is returned from a dry run.
    fn lineage(mut self, variants: &[Variant]) -> Result<Option<Lineage>> {
        let (base, data) = self.material()?;
        let models = self.models(&base, &data)?;
        let labels = self.labelled_groups(&models, &data)?;
        let pairs = self.pairs(&labels, &data)?;
        let reference = self.evaluate("sft", &models, &data, None)?;
        let mut evaluations = Vec::new();
        for variant in variants {
            let groups = match variant.takes_pairs() {
                true => pairs.clone(),
                false => (self.smaller_groups(variant, &labels)?, GROUPS),
            };
            let aligned = self.align(variant, &models, &groups)?;
            evaluations.push(self.evaluate(&variant.folder(), &models, &data, Some(&aligned))?);
        }
        let candidates = self.candidates(&models, &data)?;
        let chosen = self.chosen(&models, &data)?;
        if self.run.graph.dry_run {
            return Ok(None);
        }
        Lineage::read(self.seed, self.place, &reference, &evaluations, &candidates, chosen.as_ref())
            .map(Some)
    }

    fn plan(&self, kind: &str, name: &str, folder: &str, settings: serde_json::Value) -> Plan {
        let name = match self.place.as_str() {
            "" => name.to_owned(),
            _ => format!("{name}, seed {}", self.seed),
        };
        Plan::new(kind, name, format!("{}{folder}", self.place), settings)
    }

    /// The model to start from and the records.
    fn material(&mut self) -> Result<(Artifact, Artifact)> {
        let model: Model = self.run.config.section("model")?;
        let sizes: Sizes = self.run.config.section("data")?;
        let (task, seed) = (self.run.task, self.seed);
        let base = if model.path.is_empty() {
            let plan = self.plan(
                "base",
                "base model",
                "base",
                json!({ "corpus": corpus(task), "model": model, "seed": seed }),
            );
            self.run.graph.stage(plan, |folder, context| {
                base::new_model(task, &model, seed, folder, &context.device)
            })?
        } else {
            let folder = ModelFolder::open(Path::new(&model.path))?;
            let tokenizer = plain_tokenizer(&folder)?;
            let hash = tokenizer.as_ref().map(Tokenizer::content_hash).unwrap_or_default();
            Artifact::given(&folder.path, format!("{} {hash}", folder.content_hash()?))
        };
        let settings =
            json!({ "task": task.name(), "corpus": corpus(task), "data": sizes, "seed": seed });
        let mut plan = self.plan("data", "data", "data", settings).reads("base model", &base);
        if !sizes.path.is_empty() {
            plan.inputs.insert("published data".to_owned(), sizes.sources()?.hash()?);
        }
        let data = self
            .run
            .graph
            .stage(plan, |folder, _| data::write(task, &sizes, seed, &base.folder, folder))?;
        Ok((base, data))
    }

    fn models(&mut self, base: &Artifact, data: &Artifact) -> Result<Models> {
        let protocol: Protocol = self.run.config.section("protocol")?;
        let sft = if protocol.fine_tune {
            let config = self.run.settings("sft", self.seed)?;
            let plan = self
                .plan("sft", "fine-tuning", "sft", shaping(&config, &TRAINING))
                .reads("base model", base)
                .reads("data", data);
            let (model, records) = (base.folder.clone(), data.path(data::DEMONSTRATIONS));
            self.run.graph.stage(plan, |out, context| {
                let out = out.to_owned();
                Sft { model, data: records, out, fresh: false, config }.run(context)?;
                Ok(())
            })?
        } else {
            base.clone()
        };
        let start = match protocol.reward_from {
            Start::Base => base.folder.clone(),
            Start::Sft if protocol.fine_tune => sft.path("model"),
            Start::Sft => sft.folder.clone(),
        };
        let config = self.run.settings("reward", self.seed)?;
        let plan = self
            .plan("reward", "reward model", "reward", shaping(&config, &TRAINING))
            .reads("start", if protocol.reward_from == Start::Base { base } else { &sft })
            .reads("data", data);
        let records = data.path(data::LABELLED);
        let reward = self.run.graph.stage(plan, |out, context| {
            let out = out.to_owned();
            Reward { model: start, data: records, out, fresh: false, config }.run(context)?;
            Ok(())
        })?;
        Ok(Models { sft, reward })
    }

    /// Samples of π_sft for the records in `prompts` with the settings of `stage`, labelled.
    fn samples(
        &mut self,
        stage: &str,
        name: &str,
        models: &Models,
        data: &Artifact,
        prompts: &str,
    ) -> Result<Artifact> {
        let config = self.run.settings(stage, self.seed)?;
        let mut settings = shaping(&config, &DRAWING);
        settings["prompts"] = json!(prompts);
        let plan = self
            .plan("sample", &format!("sampling {name}"), &format!("{stage}-drawn"), settings)
            .reads("model", &models.sft)
            .reads("data", data);
        let (model, records) = (models.sft_path(), data.path(prompts));
        let drawn_with = config.clone();
        let drawn = self.run.graph.stage(plan, |out, context| {
            let out = out.join(GROUPS);
            let config = drawn_with;
            SampleStage { model, data: records, out, fresh: false, shard: None, config }
                .run(context)?;
            Ok(())
        })?;
        self.label(
            &format!("labelling {name}"),
            &format!("{stage}-labelled"),
            models,
            &drawn,
            config,
        )
    }

    fn label(
        &mut self,
        name: &str,
        folder: &str,
        models: &Models,
        groups: &Artifact,
        config: Config,
    ) -> Result<Artifact> {
        let plan = self
            .plan("label", name, folder, json!({ "dtype": config.dtype, "chat": config.chat }))
            .reads("reward model", &models.reward)
            .reads("groups", groups);
        let (reward, data) = (models.reward.folder.clone(), groups.path(GROUPS));
        self.run.graph.stage(plan, |out, context| {
            let out = out.join(GROUPS);
            Label { reward, data, out, fresh: false, shard: None, config }.run(context)?;
            Ok(())
        })
    }

    /// Groups to learn from.
    fn labelled_groups(&mut self, models: &Models, data: &Artifact) -> Result<Artifact> {
        self.samples("sample", "groups", models, data, data::PROMPTS)
    }

    /// Many samples for the held-out prompts: what the optimum and Best-of-N are estimated from.
    fn candidates(&mut self, models: &Models, data: &Artifact) -> Result<Artifact> {
        self.samples("optimum", "candidates", models, data, data::HELD_OUT)
    }

    /// The rewards of the answers that people gave to the held-out prompts, where there are any.
    fn chosen(&mut self, models: &Models, data: &Artifact) -> Result<Option<Artifact>> {
        let config = self.run.settings("evaluate", self.seed)?;
        let plan = self
            .plan(
                "chosen",
                "labelling chosen answers",
                "chosen",
                json!({ "dtype": config.dtype, "chat": config.chat }),
            )
            .reads("reward model", &models.reward)
            .reads("data", data);
        let (reward, answers) = (models.reward.folder.clone(), data.path(data::CHOSEN));
        if !self.run.graph.dry_run && !answers.exists() {
            return Ok(None);
        }
        self.run
            .graph
            .stage(plan, |out, context| {
                let out = out.join(GROUPS);
                Label { reward, data: answers, out, fresh: false, shard: None, config }
                    .run(context)?;
                Ok(())
            })
            .map(Some)
    }

    /// What the objectives on pairs learn from: a stage and the file in it.
    fn pairs(&mut self, groups: &Artifact, data: &Artifact) -> Result<(Artifact, &'static str)> {
        let method = match self.comparison.pairs_from()? {
            PairsFrom::Data => return Ok((data.clone(), data::LABELLED)),
            PairsFrom::Groups(method) => method,
        };
        let beta_reward = self.run.settings("align", self.seed)?.objective.beta_reward;
        let seed = self.seed;
        let mut settings = json!({ "method": method });
        if method == Method::BradleyTerry {
            settings["beta_reward"] = json!(beta_reward);
            settings["seed"] = json!(seed);
        }
        let plan = self.plan("pairs", "making pairs", "pairs", settings).reads("groups", groups);
        let data = groups.path(GROUPS);
        let made = self.run.graph.stage(plan, |out, context| {
            let out = out.join(GROUPS);
            Pairs { data, out, fresh: false, method, beta_reward, seed, skip_bad: 0 }
                .run(context)?;
            Ok(())
        })?;
        Ok((made, GROUPS))
    }

    /// The first K completions of each group, where a variant takes fewer than were drawn.
    fn smaller_groups(&mut self, variant: &Variant, groups: &Artifact) -> Result<Artifact> {
        let Some(count) = variant.fewer_completions else { return Ok(groups.clone()) };
        let plan = self
            .plan(
                "first completions",
                &format!("groups of {count}"),
                &format!("groups-k{count}"),
                json!({ "completions": count }),
            )
            .reads("groups", groups);
        let from = groups.path(GROUPS);
        self.run
            .graph
            .stage(plan, |out, _| data::first_completions(&from, count, &out.join(GROUPS)))
    }

    fn align(
        &mut self,
        variant: &Variant,
        models: &Models,
        (groups, file): &(Artifact, &str),
    ) -> Result<Artifact> {
        let mut config = self.run.settings("align", self.seed)?;
        config.objective.name = variant.objective;
        config.objective.labels = variant.labels;
        config.objective.beta_policy = variant.beta_policy;
        config.objective.beta_reward = variant.beta_reward;
        // What an objective does not read is no setting of it.
        if variant.takes_pairs() {
            config.objective.beta_reward = 1.0;
        }
        if variant.objective != ObjectiveName::ExoPref {
            config.objective.labels = Labels::Paper;
        }
        let plan = self
            .plan("align", &variant.name(), &variant.folder(), shaping(&config, &ALIGNING))
            .reads("model", &models.sft)
            .reads("groups", groups);
        let (model, data) = (models.sft_path(), groups.path(file));
        self.run.graph.stage(plan, |out, context| {
            let (reference, out) = (model.clone(), out.to_owned());
            Align { model, reference, data, out, fresh: false, config }.run(context)?;
            Ok(())
        })
    }

    /// Reward and KL of a policy's checkpoints, or of π_sft itself.
    fn evaluate(
        &mut self,
        name: &str,
        models: &Models,
        data: &Artifact,
        aligned: Option<&Artifact>,
    ) -> Result<Artifact> {
        let config = self.run.settings("evaluate", self.seed)?;
        let policy = aligned.unwrap_or(&models.sft);
        let plan = self
            .plan(
                "evaluate",
                &format!("evaluating {name}"),
                &format!("evaluations/{name}"),
                shaping(&config, &DRAWING),
            )
            .reads("policy", policy)
            .reads("reference", &models.sft)
            .reads("reward model", &models.reward)
            .reads("data", data);
        let (reference, reward) = (models.sft_path(), models.reward.folder.clone());
        let prompts = data.path(data::HELD_OUT);
        self.run.graph.stage(plan, |out, context| {
            let policies = match aligned {
                None => vec![(0, reference.clone())],
                Some(aligned) => {
                    let checkpoints = Checkpoints::new(&aligned.folder, Keeping::default());
                    let steps = checkpoints.steps();
                    if steps.is_empty() {
                        return Err(Error::file(
                            &aligned.folder,
                            "expected checkpoints to evaluate, found none; they were removed since: remove this \
                             folder's stage.json to train again",
                        ));
                    }
                    steps.into_iter().map(|step| (step, checkpoints.path(step))).collect()
                }
            };
            for (step, policy) in policies {
                let evaluate = Evaluate {
                    policy,
                    reference: reference.clone(),
                    reward: reward.clone(),
                    data: prompts.clone(),
                    shard: None,
                    config: config.clone(),
                };
                evaluate.run_kept(&out.join(measured::file_of(step)), false, context)?;
            }
            Ok(())
        })
    }
}

/// The settings that shape what a training leaves.
const TRAINING: [&str; 5] = ["training", "optimizer", "data", "chat", "adapter"];
/// Those of an alignment, whose checkpoints are looked at as well.
const ALIGNING: [&str; 7] =
    ["training", "optimizer", "data", "chat", "adapter", "objective", "checkpoint"];
/// Those of what draws completions.
const DRAWING: [&str; 3] = ["generation", "data", "chat"];

/// Some sections of a stage's settings: with others it would leave the same.
fn shaping(config: &Config, sections: &[&str]) -> serde_json::Value {
    let all = json!(config);
    let shaping = ["seed", "dtype"].iter().chain(sections);
    shaping.map(|name| ((*name).to_owned(), all[*name].clone())).collect()
}

/// The embedded corpus of an experiment, as a hash.
fn corpus(task: &dyn Task) -> String {
    let parts = [task.grammar(), task.chat_template().unwrap_or_default()];
    blake3::hash(json!(parts).to_string().as_bytes()).to_hex()[..12].to_owned()
}

/// The file of groups in a stage's folder.
const GROUPS: &str = "groups.jsonl";

#[cfg(test)]
mod tests {
    use exalign::config::Sources;

    use super::*;
    use crate::run::Preset;
    use crate::tasks::TASKS;

    fn preset(task: &dyn Task, preset: Preset) -> ExperimentConfig {
        let sources = Sources::default();
        ExperimentConfig::load(&[COMMON, task.preset(preset)], &STAGES, &sources).unwrap()
    }

    #[test]
    fn every_preset_loads_and_compares_something() {
        for task in TASKS {
            for size in [Preset::Quick, Preset::Small, Preset::Paper] {
                let config = preset(task, size);
                let stages: Vec<Config> =
                    STAGES.iter().map(|(name, _)| config.stage(name).unwrap()).collect();
                assert_eq!(stages.len(), 8);
                config.section::<Protocol>("protocol").unwrap();
                config.section::<Model>("model").unwrap();
                config.section::<Sizes>("data").unwrap();
                let comparison: Comparison = config.section("comparison").unwrap();
                let stage = |name| config.stage(name).unwrap();
                comparison.check(stage("sample").generation.completions).unwrap();
                assert!(comparison.variants(&stage("align"), &stage("sample")).len() >= 4);
            }
        }
    }

    #[test]
    fn the_paper_presets_have_the_papers_values() {
        // Ji et al. 2024, section 5 and appendix: β, epochs of the reward model, new tokens, length.
        let values =
            [(0.1, 3, 500, 512), (0.5, 1, 75, 650), (0.5, 1, 200, 512), (0.5, 1, 200, 512)];
        for (task, (beta, epochs, new_tokens, max_length)) in TASKS.into_iter().zip(values) {
            let paper = preset(task, Preset::Paper);
            let stage = |name| paper.stage(name).unwrap();
            if paper.section::<Protocol>("protocol").unwrap().fine_tune {
                let sft = stage("sft").training;
                let expected = if task.name() == "sentiment" { 5 } else { 1 };
                assert_eq!((sft.learning_rate, sft.batch_size, sft.epochs), (1e-5, 128, expected));
            }
            let reward = stage("reward").training;
            assert_eq!((reward.learning_rate, reward.epochs), (1e-5, epochs), "{}", task.name());
            let align = stage("align");
            let training = &align.training;
            let found = (training.learning_rate, training.batch_size, training.epochs);
            assert_eq!(found, (1e-6, 64, 1));
            assert_eq!((align.objective.beta_policy, align.objective.beta_reward), (beta, beta));
            assert_eq!((align.objective.temperature, align.objective.epsilon), (0.8, 1e-3));
            assert_eq!(align.data.max_length, max_length);
            for name in ["sample", "evaluate"] {
                let it = stage(name).generation;
                let found = (it.temperature, it.completions, it.max_new_tokens, it.top_k);
                assert_eq!(found, (0.8, 4, new_tokens, 0), "{}", task.name());
            }
            assert_eq!(paper.section::<Sizes>("data").unwrap().held_out, 512);
        }
    }
}
