//! The settings of an experiment: its presets, its stages, and combinations that are refused.

use exalign::alignment::objective_names;
use exalign::config::{
    AlignSettings, BestBy, DrawSettings, ExperimentConfig, Section, Sources, Stage, TrainSettings,
};
use exalign::{Error, Result};
use serde::{Deserialize, Serialize};

use super::variants::{Comparison, Variant};
use crate::stages::evaluate::check_generation;

/// What the presets of all experiments have in common.
pub const COMMON: &str = include_str!("../../assets/presets/common.toml");

/// The stages, as presets call them.
pub const STAGES: [(&str, Stage); 7] = [
    ("sft", Stage::Sft),
    ("reward", Stage::Reward),
    ("sample", Stage::Sample),
    ("align", Stage::Align),
    ("evaluate", Stage::Evaluate),
    ("optimum", Stage::Sample),
    ("judge", Stage::Endpoint),
];

/// `protocol.*`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Protocol {
    pub fine_tune: bool,
    pub reward_from: Start,
    pub refuse_chance: bool,
}

/// What a reward model starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    Base,
    Sft,
}

/// Refuses settings that make no sense together, before anything is written.
pub fn check(config: &ExperimentConfig) -> Result<()> {
    let draw = |stage: &str| config.stage::<DrawSettings>(stage);
    let comparison: Comparison = config.section("comparison")?;
    comparison.check(draw("sample")?.generation.completions)?;
    let (evaluate, optimum) = (draw("evaluate")?, draw("optimum")?);
    check_generation(&evaluate.generation)?;
    let of = |settings: &DrawSettings| {
        let generation = &settings.generation;
        (generation.temperature, generation.top_k, generation.top_p)
    };
    if of(&evaluate) != of(&optimum) {
        return Err(Error::usage(format!(
            "optimum.generation: expected the temperature, top_k and top_p of evaluate.generation, {:?}, found {:?}: \
             the optimum of another reference is no bound for these policies",
            of(&evaluate),
            of(&optimum)
        )));
    }
    let checkpoint = config.stage::<AlignSettings>("align")?.train.checkpoint;
    if checkpoint.best != BestBy::None {
        return Err(Error::usage(
            "align.checkpoint.best: expected \"none\" in a run, found another; the report shows the policy at all \
             of its checkpoints, and its end is the last step",
        ));
    }
    if checkpoint.every == 0 {
        return Err(Error::usage(
            "align.checkpoint.every: expected at least 1, found 0; the report shows the policy at its checkpoints",
        ));
    }
    Ok(())
}

/// Refuses a setting that `sources` give to this run alone and that none of its stages reads. All objectives of
/// a run share `align.objective`: one of them has to read the setting.
pub fn refuse_unread(config: &ExperimentConfig, sources: &Sources) -> Result<()> {
    let comparison: Comparison = config.section("comparison")?;
    let drawn = config.stage::<DrawSettings>("sample")?.generation.completions;
    let align: AlignSettings = config.stage("align")?;
    let variants = comparison.variants(&align.objective, drawn);
    let adapters = [
        ("sft", config.stage::<TrainSettings>("sft")?.adapter),
        ("reward", config.stage::<TrainSettings>("reward")?.adapter),
        ("align", align.train.adapter),
    ];
    sources.refuse(|key| {
        let (stage, key) = key.split_once('.')?;
        let (_, adapter) = adapters.iter().find(|(name, _)| *name == stage)?;
        if let Some(of_objective) = key.strip_prefix("objective.") {
            let is_read = |variant: &Variant| variant.objective.unread(key).is_none();
            return (!variants.iter().any(is_read)).then(|| {
                format!(
                    "expected a setting that an objective of comparison.objectives reads, found one that none of them \
                     does; leave it out, or add an objective that does: {}",
                    objective_names(|entry| entry.reads.contains(&of_objective))
                )
            });
        }
        adapter.unread(key)
    })
}

/// What an experiment compares whose preset is `preset` over what all have in common.
#[cfg(test)]
pub fn comparison_of(preset: &str) -> Result<Vec<Variant>> {
    let sources = Sources::default();
    let config = ExperimentConfig::load(&[COMMON, preset], &STAGES, &sources)?;
    let comparison: Comparison = config.section("comparison")?;
    let drawn = config.stage::<DrawSettings>("sample")?.generation.completions;
    comparison.check(drawn)?;
    let align: AlignSettings = config.stage("align")?;
    Ok(comparison.variants(&align.objective, drawn))
}

#[cfg(test)]
mod tests {
    use exalign::config::{EndpointSettings, LabelSettings};

    use super::super::base::Model;
    use super::super::data::Sizes;
    use super::*;
    use crate::tasks::{Preset, TASKS, Task};

    fn preset(task: &dyn Task, preset: Preset) -> ExperimentConfig {
        let sources = Sources::default();
        ExperimentConfig::load(&[COMMON, task.preset(preset)], &STAGES, &sources).unwrap()
    }

    #[test]
    fn every_preset_loads_and_compares_something() {
        for &task in TASKS {
            for size in [Preset::Quick, Preset::Small, Preset::Paper] {
                let config = preset(task, size);
                let draw = |name| config.stage::<DrawSettings>(name).unwrap();
                for stage in ["sft", "reward"] {
                    config.stage::<TrainSettings>(stage).unwrap();
                }
                for stage in ["sample", "evaluate", "optimum"] {
                    draw(stage);
                    config.stage::<LabelSettings>(stage).unwrap();
                }
                config.stage::<EndpointSettings>("judge").unwrap();
                config.section::<Protocol>("protocol").unwrap();
                config.section::<Model>("model").unwrap();
                config.section::<Sizes>("data").unwrap();
                let comparison: Comparison = config.section("comparison").unwrap();
                let align: AlignSettings = config.stage("align").unwrap();
                let drawn = draw("sample").generation.completions;
                comparison.check(drawn).unwrap();
                assert!(comparison.variants(&align.objective, drawn).len() >= 4);
            }
        }
    }

    #[test]
    fn a_setting_that_no_stage_of_a_run_reads_is_refused_where_this_run_alone_is_given_it() {
        let refused = |set: &[&str]| {
            let set = set.iter().map(|&set| set.to_owned()).collect();
            let sources = Sources { set, ..Sources::default() };
            let texts = [COMMON, TASKS[0].preset(Preset::Quick)];
            let config = ExperimentConfig::load(&texts, &STAGES, &sources).unwrap();
            refuse_unread(&config, &sources).err().map_or(String::new(), |it| it.to_string())
        };
        let both = "comparison.objectives=['dpo', 'exo-rw']";
        assert_eq!(refused(&[both, "align.objective.beta_reward=2"]), "");
        insta::assert_snapshot!(refused(&[both, "align.objective.gamma=2"]), @"`--set align.objective.gamma`: expected a setting that an objective of comparison.objectives reads, found one that none of them does; leave it out, or add an objective that does: simpo");
        insta::assert_snapshot!(refused(&["sft.adapter.alpha=2"]), @"`--set sft.adapter.alpha`: expected adapters to be trained, found adapter.rank = 0, which trains all weights; give a rank (--lora-rank 16), or leave it out");
        assert_eq!(refused(&["sft.adapter.alpha=2", "sft.adapter.rank=4"]), "");
    }

    #[test]
    fn the_paper_presets_have_the_papers_values() {
        // Ji et al. 2024, section 5 and appendix: β, epochs of the reward model, new tokens, length.
        let values =
            [(0.1, 3, 500, 512), (0.5, 1, 75, 650), (0.5, 1, 200, 512), (0.5, 1, 200, 512)];
        for (task, (beta, epochs, new_tokens, max_length)) in TASKS.iter().zip(values) {
            let paper = preset(*task, Preset::Paper);
            let train = |name| paper.stage::<TrainSettings>(name).unwrap().training;
            if paper.section::<Protocol>("protocol").unwrap().fine_tune {
                let sft = train("sft");
                let expected = if task.name() == "sentiment" { 5 } else { 1 };
                assert_eq!((sft.learning_rate, sft.batch_size, sft.epochs), (1e-5, 128, expected));
            }
            let reward = train("reward");
            assert_eq!((reward.learning_rate, reward.epochs), (1e-5, epochs), "{}", task.name());
            let align: AlignSettings = paper.stage("align").unwrap();
            let training = &align.train.training;
            let found = (training.learning_rate, training.batch_size, training.epochs);
            assert_eq!(found, (1e-6, 64, 1));
            assert_eq!((align.objective.beta_policy, align.objective.beta_reward), (beta, beta));
            assert_eq!((align.objective.temperature, align.objective.epsilon), (0.8, 1e-3));
            assert_eq!(align.train.data.tokens.max_length, max_length);
            for name in ["sample", "evaluate"] {
                let it = paper.stage::<DrawSettings>(name).unwrap().generation;
                let found = (it.temperature, it.completions, it.max_new_tokens, it.top_k);
                assert_eq!(found, (0.8, 4, new_tokens, 0), "{}", task.name());
            }
            assert_eq!(paper.section::<Sizes>("data").unwrap().held_out, 512);
        }
    }
}
