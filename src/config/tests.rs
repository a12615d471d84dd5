//! Tests of settings: the order of sources, and the errors.

use serde::{Deserialize, Serialize};

use super::{
    AlignSettings, Checkpoint, DriftSettings, ExperimentConfig, Generation, JudgeSettings,
    LearningRateSchedule, Optimizer, Section, Settings, Sources, Stage, TrainSettings, Training,
    TrainingData, ValidationSettings,
};
use crate::alignment::{KlWeight, Labels, ObjectiveConfig};
use crate::data::ChatSettings;
use crate::model::Precision;
use crate::model::adapter::LoraConfig;

/// Every setting there is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct All {
    seed: u64,
    dtype: Precision,
    training: Training,
    optimizer: Optimizer,
    checkpoint: Checkpoint,
    validation: ValidationSettings,
    drift: DriftSettings,
    data: TrainingData,
    generation: Generation,
    objective: ObjectiveConfig,
    adapter: LoraConfig,
    judge: JudgeSettings,
    chat: ChatSettings,
}

impl Settings for All {
    fn sections(&self) -> Vec<&dyn Section> {
        vec![
            &self.training,
            &self.optimizer,
            &self.checkpoint,
            &self.validation,
            &self.drift,
            &self.data,
            &self.generation,
            &self.objective,
            &self.adapter,
            &self.judge,
            &self.chat,
        ]
    }
}

fn set(pairs: &[&str]) -> Sources {
    Sources { set: pairs.iter().map(|&pair| pair.to_owned()).collect(), ..Sources::default() }
}

fn load(pairs: &[&str]) -> All {
    All::load(Stage::Align, &set(pairs)).unwrap()
}

fn refusal(pair: &str) -> String {
    let error = All::load(Stage::Align, &set(&[pair])).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

/// The refusal of a file with this content, its folder left out.
fn file_refusal(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.toml");
    std::fs::write(&file, text).unwrap();
    let error =
        All::load(Stage::Align, &Sources { file: Some(file), ..Sources::default() }).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.to_string().replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn defaults_of_align_are_the_plain_method() {
    let config = load(&[]);
    assert_eq!(
        (config.training.learning_rate, config.training.batch_size, config.training.epochs),
        (1e-6, 64, 1)
    );
    assert_eq!(config.optimizer.schedule, LearningRateSchedule::Cosine);
    assert_eq!((config.optimizer.betas, config.optimizer.epsilon), ([0.9, 0.95], 1e-8));
    assert_eq!((config.optimizer.clip_norm, config.optimizer.weight_decay), (1.0, 0.0));
    let objective = &config.objective;
    assert_eq!((objective.name, objective.labels), ("exo-pref".parse().unwrap(), Labels::Paper));
    assert_eq!((objective.beta_policy, objective.beta_reward), (0.1, 0.1));
    assert_eq!((objective.temperature, objective.epsilon), (1.0, 1e-3));
    assert!(config.data.shuffle);
}

#[test]
fn fine_tuning_and_reward_models_have_their_own_rates() {
    let sft = All::load(Stage::Sft, &Sources::default()).unwrap().training;
    assert_eq!((sft.learning_rate, sft.batch_size), (1e-5, 128));
    assert_eq!(All::load(Stage::Reward, &Sources::default()).unwrap().training.learning_rate, 1e-5);
    for stage in [Stage::Sample, Stage::Evaluate] {
        All::load(stage, &Sources::default()).unwrap();
    }
}

#[test]
fn each_source_stands_over_the_one_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.toml");
    std::fs::write(
        &file,
        "seed = 1\n[training]\nepochs = 2\nbatch_size = 2\nmicro_batch_size = 2\nmax_steps = 2\n",
    )
    .unwrap();
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut sources = Sources {
        file: Some(file),
        environment: vec![
            variable("EXALIGN_TRAINING__BATCH_SIZE", "3"),
            variable("EXALIGN_TRAINING__MICRO_BATCH_SIZE", "3"),
            variable("EXALIGN_TRAINING__MAX_STEPS", "3"),
            variable("EXALIGN_DATA", "/not/a/setting"),
            variable("PATH", "/bin"),
        ],
        set: vec!["training.micro_batch_size=4".to_owned(), "training.max_steps=4".to_owned()],
        flags: vec![("training.max_steps".to_owned(), "5".to_owned())],
    };
    let config = All::load(Stage::Align, &sources).unwrap();
    let training = &config.training;
    assert_eq!(config.seed, 1);
    assert_eq!(
        (training.epochs, training.batch_size, training.micro_batch_size, training.max_steps),
        (2, 3, 4, 5)
    );
    assert_eq!(training.learning_rate, 1e-6);
    sources.set.push("training.micro_batch_size=7".to_owned());
    assert_eq!(All::load(Stage::Align, &sources).unwrap().training.micro_batch_size, 7);
}

#[test]
fn a_variable_with_one_underscore_is_a_setting_without_a_section_or_refused_with_its_spelling() {
    let load = |name: &str, value: &str| {
        let environment = vec![(name.to_owned(), value.to_owned())];
        All::load(Stage::Align, &Sources { environment, ..Sources::default() })
    };
    assert_eq!(load("EXALIGN_SEED", "5").unwrap().seed, 5);
    insta::assert_snapshot!(load("EXALIGN_TRAINING_EPOCHS", "7").unwrap_err(), @"`EXALIGN_TRAINING_EPOCHS`: expected two underscores between a section and its key, found one; write EXALIGN_TRAINING__EPOCHS");
    assert_eq!(load("EXALIGN_CACHE", "7").unwrap().training.epochs, 1);
}

#[test]
fn values_are_toml_or_else_strings() {
    let config = load(&[
        "optimizer.betas=[0.9, 0.99]",
        "optimizer.schedule=constant",
        "objective.name=\"dpo-rw\"",
    ]);
    assert_eq!(config.optimizer.betas, [0.9, 0.99]);
    assert_eq!(config.optimizer.schedule, LearningRateSchedule::Constant);
    assert_eq!(config.objective.name.name, "dpo-rw");
    assert!(!load(&["data.shuffle=false"]).data.shuffle);
}

#[test]
fn a_whole_number_stands_for_a_number() {
    let config =
        load(&["optimizer.clip_norm=1", "optimizer.betas=[0, 0.5]", "objective.temperature = 2"]);
    assert_eq!((config.optimizer.betas, config.objective.temperature), ([0.0, 0.5], 2.0));
    assert_eq!(load(&["optimizer.clip_norm=1"]), load(&["optimizer.clip_norm=1.0"]));
}

#[test]
fn a_number_may_begin_with_its_point() {
    for (set, same) in [(".2", "0.2"), ("+.5e-1", "0.05"), ("-.5", "-0.5")] {
        let [set, same] = [set, same]
            .map(|it| All::load(Stage::Align, &self::set(&[&format!("adapter.dropout={it}")])));
        match same {
            Ok(same) => assert_eq!(set.unwrap(), same),
            Err(same) => assert_eq!(set.unwrap_err().to_string(), same.to_string()),
        }
    }
    // A text that begins with a point stays one.
    assert_eq!(load(&["judge.model=.2b"]).judge.model, ".2b");
}

#[test]
fn an_unknown_key_is_refused_with_its_source_and_the_nearest_known_key() {
    insta::assert_snapshot!(refusal("trainin.epochs=2"), @"`--set trainin.epochs`: unknown key; did you mean `training.epochs`?");
    insta::assert_snapshot!(refusal("epochs=2"), @"`--set epochs`: unknown key; put its section before it, for example `training.epochs`");
    insta::assert_snapshot!(refusal("training=2"), @"`--set training`: unknown key; it is a section; set its keys, for example `training.base_dtype`");
    insta::assert_snapshot!(refusal("training.epochs.x=2"), @"`--set training.epochs.x`: unknown key; did you mean `training.epochs`?");
    insta::assert_snapshot!(refusal("training.epochs"), @"`--set training.epochs`: expected key=value, for example training.epochs=2");
    insta::assert_snapshot!(file_refusal("[optimizer]\nwarm_up = 3\n"), @"run.toml: unknown key `optimizer.warm_up`; did you mean `optimizer.warmup`?");
    insta::assert_snapshot!(file_refusal("[optimiser]\n"), @"run.toml: unknown key `optimiser`; did you mean `optimizer`?");
    insta::assert_snapshot!(file_refusal("\"training.epochs\" = 3\n"), @"run.toml: unknown key `training.epochs`; write `epochs` under `[training]`");
    let sources = Sources {
        environment: vec![("EXALIGN_TRAINING__EPOCH".to_owned(), "2".to_owned())],
        ..Sources::default()
    };
    insta::assert_snapshot!(All::load(Stage::Sft, &sources).unwrap_err(), @"`EXALIGN_TRAINING__EPOCH`: unknown key; did you mean `EXALIGN_TRAINING__EPOCHS`?");
}

#[test]
fn an_empty_section_of_a_file_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.toml");
    std::fs::write(&file, "[training]\n").unwrap();
    assert_eq!(
        All::load(Stage::Align, &Sources { file: Some(file), ..Sources::default() }).unwrap(),
        load(&[])
    );
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_line() {
    insta::assert_snapshot!(file_refusal("seed = 1\n[training\n"), @"run.toml:2: expected TOML: unclosed table, expected `]`");
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_what_was_expected() {
    insta::assert_snapshot!(refusal("training.epochs=two"), @r#"`--set training.epochs`: expected a whole number from 0, found "two""#);
    insta::assert_snapshot!(refusal("training.epochs=1.5"), @"`--set training.epochs`: expected a whole number from 0, found 1.5");
    insta::assert_snapshot!(refusal("seed=-1"), @"`--set seed`: expected a whole number from 0, found -1");
    insta::assert_snapshot!(refusal("data.shuffle=1"), @"`--set data.shuffle`: expected true or false, found 1");
    insta::assert_snapshot!(refusal("optimizer.betas=[0.9]"), @"`--set optimizer.betas`: expected a list of 2 numbers, such as [0.9, 0.95], found [0.9]");
    insta::assert_snapshot!(refusal("optimizer.betas=[0.9, true]"), @"`--set optimizer.betas`: expected a list of 2 numbers, such as [0.9, 0.95], found [0.9, true]");
    insta::assert_snapshot!(refusal("objective.name=exo-perf"), @r#"`--set objective.name`: expected one of exo-pref, exo-rw, dpo, dpo-rw, alpha-pref, alpha-rw, jeffreys-rw, js-rw, dpo-list, cdpo, robust-dpo, dpo-norm, ipo, hinge, nca-pair, apo-zero, apo-down, sppo-hard, kto, simpo, orpo, nll, rloo, grpo, ppo, found "exo-perf""#);
    insta::assert_snapshot!(refusal("optimizer.schedule=linear"), @r#"`--set optimizer.schedule`: expected one of cosine, constant, found "linear""#);
    insta::assert_snapshot!(refusal("objective.labels=3"), @"`--set objective.labels`: expected one of paper, official, found 3");
    insta::assert_snapshot!(file_refusal("[training]\nepochs = \"two\"\n"), @r#"run.toml: `training.epochs`: expected a whole number from 0, found "two""#);
}

#[test]
fn a_value_out_of_its_range_is_refused_with_the_range_and_its_source() {
    for (pair, expected) in [
        ("training.learning_rate=0", "a number above 0, found 0"),
        ("training.learning_rate=nan", "a number above 0, found NaN"),
        ("training.learning_rate=inf", "a number above 0, found inf"),
        ("training.epochs=0", "at least 1, found 0"),
        ("training.batch_size=0", "at least 1, found 0"),
        (
            "training.base_dtype=f16",
            "f32, bf16, q8 or q4 (the gradients of f16 vanish without a scale), found f16",
        ),
        ("optimizer.betas=[0.9, 1.0]", "two numbers in [0, 1), found [0.9, 1.0]"),
        ("optimizer.epsilon=0", "a number above 0, found 0"),
        ("optimizer.weight_decay=-1", "a number from 0, found -1"),
        ("optimizer.clip_norm=-1", "a number from 0 (0 does not clip), found -1"),
        ("generation.completions=0", "at least 1, found 0"),
        (
            "generation.temperature=-1",
            "a number from 0 (0 takes the most probable token), found -1",
        ),
        (
            "training.compute=f16",
            "f32 or bf16 (the gradients of f16 vanish without a scale), found f16",
        ),
        ("generation.top_p=0", "a number in (0, 1], found 0"),
        ("generation.top_p=1.5", "a number in (0, 1], found 1.5"),
        ("generation.max_new_tokens=0", "at least 1, found 0"),
        ("generation.batch_size=0", "at least 1, found 0"),
        ("objective.temperature=0", "a number above 0, found 0"),
        ("judge.concurrency=0", "at least 1, found 0"),
        ("judge.timeout=0", "seconds above 0, a day at most, found 0"),
        ("judge.first_wait=-1", "seconds from 0, a day at most, found -1"),
        ("judge.max_wait=1e9", "seconds from 0, a day at most, found 1000000000"),
    ] {
        let key = pair.split('=').next().unwrap();
        assert_eq!(refusal(pair), format!("`--set {key}`: expected {expected}"));
    }
    insta::assert_snapshot!(file_refusal("[training]\nbatch_size = 0\n"), @"run.toml: `training.batch_size`: expected at least 1, found 0");
    insta::assert_snapshot!(refusal("objective.epsilon=0"), @"`--set objective.epsilon`: `epsilon` is 0, which makes the reverse KL infinite: the policy gives the rejected completion some probability and the label would give it none; use a small positive value such as 1e-3");
    insta::assert_snapshot!(refusal("objective.beta_policy=0"), @"`--set objective.beta_policy`: `beta_policy` must be a positive finite number (within the range of f32), found 0");
    for (given, expected) in [
        ("0.04", KlWeight::Number(0.04)),
        ("1", KlWeight::Number(1.0)),
        ("target", KlWeight::Target),
    ] {
        let set = format!("objective.kl_weight={given}");
        assert_eq!(
            All::load(Stage::Align, &self::set(&[&set])).unwrap().objective.kl_weight,
            expected
        );
    }
    let flag = Sources {
        flags: vec![("training.learning_rate".to_owned(), "-1".to_owned())],
        ..Sources::default()
    };
    insta::assert_snapshot!(All::load(Stage::Sft, &flag).unwrap_err(), @"`--learning-rate`: expected a number above 0, found -1");
}

const STAGES: [(&str, Stage); 2] = [("sft", Stage::Sft), ("align", Stage::Align)];

fn experiment(preset: &str, pairs: &[&str]) -> crate::Result<ExperimentConfig> {
    ExperimentConfig::load(&[preset], &STAGES, &set(pairs))
}

const PRESET: &str =
    "seed = 7\n[report]\ntitle = \"x\"\nshown = 3\n[align.objective]\nbeta_policy = 0.5\n";

#[test]
fn a_preset_lies_over_the_defaults_of_its_stages_and_under_the_sources() {
    #[derive(serde::Deserialize)]
    struct Report {
        title: String,
        shown: usize,
    }
    let config = experiment(PRESET, &["align.objective.beta_reward=2", "report.shown=4"]).unwrap();
    let align: AlignSettings = config.stage("align").unwrap();
    assert_eq!((align.objective.beta_policy, align.objective.beta_reward), (0.5, 2.0));
    assert_eq!((align.train.seed, align.train.training.learning_rate), (7, 1e-6));
    assert_eq!(config.stage::<TrainSettings>("sft").unwrap().training.batch_size, 128);
    let report: Report = config.section("report").unwrap();
    assert_eq!((report.title.as_str(), report.shown), ("x", 4));
    assert_eq!(
        experiment(PRESET, &["seed=8"]).unwrap().stage::<TrainSettings>("sft").unwrap().seed,
        8
    );
    assert_eq!(
        experiment(PRESET, &["optimum=1"]).unwrap_err().exit_code(),
        2,
        "a section that the preset does not have"
    );
}

#[test]
fn an_experiment_takes_keys_with_their_stage_and_names_the_source_of_a_bad_value() {
    let refusal = |pair: &str| experiment(PRESET, &[pair]).unwrap_err().to_string();
    insta::assert_snapshot!(refusal("training.epochs=2"), @"`--set training.epochs`: unknown key; put its section before it, for example `align.training.epochs`");
    insta::assert_snapshot!(refusal("align.objective.beta_polcy=2"), @"`--set align.objective.beta_polcy`: unknown key; did you mean `align.objective.beta_policy`?");
    insta::assert_snapshot!(refusal("align.seed=2"), @"`--set align.seed`: unknown key; did you mean `seed`?");
    insta::assert_snapshot!(refusal("align.training.batch_size=0"), @"`--set align.training.batch_size`: expected at least 1, found 0");
    insta::assert_snapshot!(refusal("report.shown=many"), @r#"`--set report.shown`: expected a whole number from 0, found "many""#);
    insta::assert_snapshot!(experiment("[align.trainin]\nepochs = 1\n", &[]).unwrap_err(), @"the preset: unknown key `align.trainin.epochs`; did you mean `align.training.epochs`?");
    insta::assert_snapshot!(experiment("[align.training]\nepochs = 0\n", &[]).unwrap_err(), @"`align.training.epochs`: expected at least 1, found 0");
}

#[test]
fn arguments_of_a_chat_template_have_keys_of_their_own() {
    let kwargs = |pairs: &[&str]| serde_json::json!(load(pairs).chat.template_kwargs);
    assert_eq!(kwargs(&[]), serde_json::json!({}));
    assert_eq!(
        kwargs(&[
            "chat.template_kwargs.enable_thinking=false",
            "chat.template_kwargs.Level=high",
            "chat.template_kwargs.deep.n=2"
        ]),
        serde_json::json!({ "enable_thinking": false, "Level": "high", "deep": { "n": 2 } })
    );
    for pair in [
        "chat.template_kwargs={enable_thinking = false, day = 2024-07-26}",
        r#"chat.template_kwargs={"enable_thinking": false, "day": "2024-07-26"}"#,
    ] {
        let expected = serde_json::json!({ "enable_thinking": false, "day": "2024-07-26" });
        assert_eq!(kwargs(&[pair]), expected, "{pair}");
    }
    let environment =
        vec![("EXALIGN_CHAT__TEMPLATE_KWARGS__ENABLE_THINKING".to_owned(), "true".to_owned())];
    let sources = Sources { environment, ..Sources::default() };
    let found = All::load(Stage::Sft, &sources).unwrap().chat.template_kwargs;
    assert_eq!(serde_json::json!(found), serde_json::json!({ "enable_thinking": true }));

    let preset = "[align]\nchat.template_kwargs = {thinking = true}\n";
    let config = experiment(preset, &["align.chat.template_kwargs.depth=3"]).unwrap();
    let found = config.stage::<AlignSettings>("align").unwrap().train.chat.template_kwargs;
    assert_eq!(serde_json::json!(found), serde_json::json!({ "thinking": true, "depth": 3 }));
}

#[test]
fn other_keys_of_chat_are_known_and_of_their_type() {
    insta::assert_snapshot!(refusal("chat.template_kwarg.x=1"), @"`--set chat.template_kwarg.x`: unknown key; did you mean `chat.template_kwargs`?");
    insta::assert_snapshot!(refusal("chat.template_kwargs=5"), @"`--set chat.template_kwargs`: expected fields, such as chat.template_kwargs.name=value, found 5");
    insta::assert_snapshot!(refusal("chat.template_kwargs.tools=1"), @"`--set chat.template_kwargs.tools`: expected an argument of the template's own, found one that every template is given; leave it out");
    insta::assert_snapshot!(refusal("chat.dat=2024-07-26"), @"`--set chat.dat`: unknown key; did you mean `chat.date`?");
    insta::assert_snapshot!(refusal("chat.date=5"), @"`--set chat.date`: expected a string, found 5");
    insta::assert_snapshot!(refusal("chat.date=tomorrow"), @r#"`--set chat.date`: expected a date such as 2024-07-26, found "tomorrow""#);
    insta::assert_snapshot!(file_refusal("[chat]\ntemplate_kwargs = [1]\n"), @"run.toml: `chat.template_kwargs`: expected fields, such as chat.template_kwargs.name=value, found [1]");
    assert_eq!(load(&["chat.date=2024-07-26"]).chat.date, "2024-07-26");
    assert_eq!(load(&["chat.date=2024-07-26 09:05"]).chat.date, "2024-07-26 09:05:00");
}

#[test]
fn a_stage_takes_its_own_settings_and_no_others() {
    let load = |stage, set: &str| super::DrawSettings::load(stage, &self::set(&[set]));
    assert_eq!(load(Stage::Sample, "generation.top_k=3").unwrap().generation.top_k, 3);
    insta::assert_snapshot!(load(Stage::Sample, "training.epochs=2").unwrap_err(), @"`--set training.epochs`: expected a setting that `exalign sample` reads, found one that it does not; leave it out");
    insta::assert_snapshot!(load(Stage::Sample, "data.shuffle=false").unwrap_err(), @"`--set data.shuffle`: expected a setting that `exalign sample` reads, found one that it does not; leave it out");
    let preset = "[align.generation]\ntop_k = 3\n";
    insta::assert_snapshot!(experiment(preset, &[]).unwrap_err(), @"the preset: unknown key `align.generation.top_k`; did you mean `align.validation.every`?");
}

#[test]
fn a_file_and_the_environment_may_have_settings_of_several_commands() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.toml");
    std::fs::write(&file, "[training]\nepochs = 2\n[generation]\ntop_k = 3\n").unwrap();
    let environment = vec![("EXALIGN_OPTIMIZER__WARMUP".to_owned(), "5".to_owned())];
    let sources = Sources { file: Some(file.clone()), environment, ..Sources::default() };
    let draw = super::DrawSettings::load(Stage::Sample, &sources).unwrap();
    assert_eq!(draw.generation.top_k, 3);
    let train = TrainSettings::load(Stage::Sft, &sources).unwrap();
    assert_eq!((train.training.epochs, train.optimizer.warmup), (2, 5));
    std::fs::write(&file, "[training]\nepochs = 'two'\n").unwrap();
    let error = super::DrawSettings::load(Stage::Sample, &sources).unwrap_err().to_string();
    assert!(error.ends_with("expected a whole number from 0, found \"two\""), "{error}");
}

#[test]
fn the_defaults_of_an_objective_are_written_where_settings_are_explained() {
    assert_eq!(load(&[]).objective, ObjectiveConfig::default());
}

#[test]
fn no_word_is_refused_without_those_that_may_stand_there() {
    // Keys whose default is a word either take any, or are refused with their choices.
    let defaults = toml::Table::try_from(load(&[])).unwrap();
    let words = |section: &str, table: &toml::Table| -> Vec<String> {
        let words = table.iter().filter(|(_, value)| value.is_str());
        words.map(|(key, _)| format!("{section}{key}")).collect()
    };
    let mut keys = words("", &defaults);
    for (section, value) in &defaults {
        keys.extend(value.as_table().iter().flat_map(|table| words(&format!("{section}."), table)));
    }
    let chosen: Vec<String> = keys
        .into_iter()
        .filter_map(|key| {
            let error = All::load(Stage::Align, &set(&[&format!("{key}=nonsense")])).err()?;
            Some(error.to_string())
        })
        .collect();
    insta::assert_snapshot!(chosen.join("\n"), @r#"
    `--set dtype`: expected one of f32, bf16, f16, q8, q4, found "nonsense"
    `--set chat.date`: expected a date such as 2024-07-26, found "nonsense"
    `--set checkpoint.best`: expected one of none, loss, accuracy, reward, found "nonsense"
    `--set objective.kl_weight`: expected a number, or "target", found "nonsense"
    `--set objective.labels`: expected one of paper, official, found "nonsense"
    `--set objective.name`: expected one of exo-pref, exo-rw, dpo, dpo-rw, alpha-pref, alpha-rw, jeffreys-rw, js-rw, dpo-list, cdpo, robust-dpo, dpo-norm, ipo, hinge, nca-pair, apo-zero, apo-down, sppo-hard, kto, simpo, orpo, nll, rloo, grpo, ppo, found "nonsense"
    `--set optimizer.schedule`: expected one of cosine, constant, found "nonsense"
    `--set training.base_dtype`: expected one of f32, bf16, f16, q8, q4, found "nonsense"
    `--set training.compute`: expected one of f32, bf16, f16, found "nonsense"
    `--set training.recompute`: expected one of auto, always, never, found "nonsense"
    "#);
}
