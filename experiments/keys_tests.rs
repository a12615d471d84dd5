//! Tests that a stage's key changes with every setting and every file that the stage reads, and with nothing
//! else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use exalign::config::{
    AlignSettings, DrawSettings, JudgingSettings, LabelSettings, PairSettings, RewardsSettings,
    ScoreSettings, Settings, Sources, Stage, TrainSettings,
};
use serde_json::{Value, json};

use crate::judging::JudgeSpec;
use crate::protocol::base::{Base, Model};
use crate::rewarding::Rewarding;
use crate::stage::{Keyed, Step};
use crate::stages::align::Align;
use crate::stages::evaluate::Evaluate;
use crate::stages::judge::Judging;
use crate::stages::label::Label;
use crate::stages::pairs::{Method, Pairs};
use crate::stages::reward::Reward;
use crate::stages::sample::Draw;
use crate::stages::score::Score;
use crate::stages::sft::Sft;
use crate::tasks::task;

fn load<T: Settings>(stage: Stage, set: Option<&str>) -> Option<T> {
    let set = set.into_iter().map(str::to_owned).collect();
    T::load(stage, &Sources { set, ..Sources::default() }).ok()
}

/// Every setting there is with another value than its default, as `--set` takes it.
fn changes() -> BTreeMap<String, String> {
    let defaults = include_str!("../assets/defaults/common.toml");
    let defaults: BTreeMap<String, Value> = toml::from_str(defaults).unwrap();
    let mut keys = BTreeMap::new();
    for (section, value) in defaults {
        match value {
            Value::Object(inner) => {
                keys.extend(
                    inner.into_iter().map(|(key, value)| (format!("{section}.{key}"), value)),
                );
            }
            value => {
                keys.insert(section, value);
            }
        }
    }
    keys.into_iter()
        .map(|(key, value)| (key.clone(), format!("{key}={}", other(&key, &value))))
        .collect()
}

/// Another value that a key may have.
fn other(key: &str, value: &Value) -> String {
    match (key, value) {
        ("dtype" | "training.compute", _) => "bf16".to_owned(),
        ("training.base_dtype", _) => "q8".to_owned(),
        ("training.recompute", _) => "always".to_owned(),
        ("optimizer.schedule", _) => "constant".to_owned(),
        ("checkpoint.best", _) => "loss".to_owned(),
        ("optimizer.betas", _) => "[0.8, 0.9]".to_owned(),
        ("objective.name", _) => "dpo".to_owned(),
        ("objective.labels", _) => "official".to_owned(),
        ("objective.kl_weight", _) => "0.5".to_owned(),
        ("chat.date", _) => "2024-07-26".to_owned(),
        ("generation.top_p", _) => "0.5".to_owned(),
        (_, Value::Bool(it)) => (!it).to_string(),
        (_, Value::Number(number)) if number.is_f64() => {
            json!(number.as_f64().unwrap() * 0.5 + 0.125).to_string()
        }
        (_, Value::Number(number)) => (number.as_u64().unwrap() + 1).to_string(),
        (_, Value::Array(_)) => "[\"x\"]".to_owned(),
        (_, Value::Object(_)) => "{x = 1}".to_owned(),
        (_, Value::String(_)) => "x".to_owned(),
        (_, Value::Null) => unreachable!("no default is null"),
    }
}

/// The keys that a stage has when each setting is another in turn, by the setting; none for those
/// that it refuses.
fn keys<T: Settings>(stage: Stage, key: impl Fn(T) -> String) -> BTreeMap<String, Option<bool>> {
    let usual = key(load(stage, None).unwrap());
    let changed = |(name, set): (String, String)| {
        let changes = load::<T>(stage, Some(&set)).map(|settings| key(settings) != usual);
        (name, changes)
    };
    changes().into_iter().map(changed).collect()
}

/// The settings that change a key, and those that are taken and do not.
fn told(keys: BTreeMap<String, Option<bool>>) -> String {
    let of = |wanted| {
        let names = keys.iter().filter(|(_, changes)| **changes == Some(wanted));
        names.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
    };
    format!("{}\nwithout effect: {}", of(true), of(false))
}

fn key_of(stage: &impl Keyed) -> String {
    stage.planned_from().unwrap().key("flex")
}

/// Inputs with keys of their own, so that no file is read.
fn source(name: &str) -> crate::stage::Source {
    crate::stage::Source { path: PathBuf::from(name), key: Some(name.to_owned()) }
}

#[test]
fn the_type_of_weights_beside_adapters_changes_the_key() {
    let key = |set: &[&str]| {
        let set = set.iter().map(|&set| set.to_owned()).collect();
        let settings = TrainSettings::load(Stage::Sft, &Sources { set, ..Sources::default() });
        let (model, data) = (source("model"), source("data"));
        key_of(&Sft { model, data, validation: None, settings: settings.unwrap() })
    };
    let kept = |kept: &str| key(&["adapter.rank=2", &format!("training.base_dtype={kept}")]);
    assert_eq!(kept("f32"), key(&["adapter.rank=2"]));
    assert_ne!(kept("q8"), kept("f32"));
    assert_ne!(kept("q8"), kept("q4"));
}

#[test]
fn every_setting_changes_the_keys_of_the_stages_that_read_it_and_of_no_other() {
    let model = || source("model");
    let data = || source("data");
    let sft = keys(Stage::Sft, |settings: TrainSettings| {
        key_of(&Sft { model: model(), data: data(), validation: None, settings })
    });
    insta::assert_snapshot!(told(sft.clone()), @r"
    adapter.alpha adapter.alpha_pattern adapter.dropout adapter.rank adapter.rank_pattern adapter.rslora adapter.target_modules chat.date chat.template_kwargs checkpoint.best checkpoint.every checkpoint.keep data.max_length data.max_prompt_length data.shuffle data.skip_bad dtype optimizer.betas optimizer.clip_norm optimizer.epsilon optimizer.schedule optimizer.warmup optimizer.weight_decay seed training.batch_size training.compute training.epochs training.learning_rate training.max_steps training.micro_batch_size training.micro_completions validation.share
    without effect: data.max_row_bytes training.recompute validation.every
    ");
    let reward = keys(Stage::Reward, |settings: TrainSettings| {
        key_of(&Reward { model: model(), data: data(), validation: None, settings })
    });
    assert_eq!(reward, sft);
    let align = keys(Stage::Align, |settings: AlignSettings| {
        let validation = None;
        key_of(&Align { model: model(), reference: model(), data: data(), validation, settings })
    });
    insta::assert_snapshot!(told(align), @r"
    adapter.alpha adapter.alpha_pattern adapter.dropout adapter.rank adapter.rank_pattern adapter.rslora adapter.target_modules chat.date chat.template_kwargs checkpoint.best checkpoint.every checkpoint.keep data.max_length data.max_prompt_length data.shuffle data.skip_bad dtype objective.beta_policy objective.epsilon objective.labels objective.name objective.nll_weight objective.temperature optimizer.betas optimizer.clip_norm optimizer.epsilon optimizer.schedule optimizer.warmup optimizer.weight_decay seed training.batch_size training.compute training.epochs training.learning_rate training.max_steps training.micro_batch_size training.micro_completions validation.share
    without effect: data.max_row_bytes drift.kl_budget drift.max_new_tokens drift.prompts objective.alpha objective.beta_reward objective.clip_range objective.clip_range_high objective.desirable_weight objective.gae_lambda objective.gamma objective.grpo_deviation objective.grpo_length objective.ipo_average objective.kl_horizon objective.kl_target objective.kl_weight objective.label_smoothing objective.undesirable_weight objective.value_clip_range objective.value_weight training.recompute validation.every
    ");
    // With records to validate on and a budget.
    let validated = keys(Stage::Align, |mut settings: AlignSettings| {
        if settings.drift.kl_budget == 0.0 {
            settings.drift.kl_budget = 3.0;
        }
        let validation = Some(data());
        key_of(&Align { model: model(), reference: model(), data: data(), validation, settings })
    });
    insta::assert_snapshot!(told(validated), @r"
    adapter.alpha adapter.alpha_pattern adapter.dropout adapter.rank adapter.rank_pattern adapter.rslora adapter.target_modules chat.date chat.template_kwargs checkpoint.best checkpoint.every checkpoint.keep data.max_length data.max_prompt_length data.shuffle data.skip_bad drift.kl_budget drift.max_new_tokens drift.prompts dtype objective.beta_policy objective.epsilon objective.labels objective.name objective.nll_weight objective.temperature optimizer.betas optimizer.clip_norm optimizer.epsilon optimizer.schedule optimizer.warmup optimizer.weight_decay seed training.batch_size training.compute training.epochs training.learning_rate training.max_steps training.micro_batch_size training.micro_completions validation.every validation.share
    without effect: data.max_row_bytes objective.alpha objective.beta_reward objective.clip_range objective.clip_range_high objective.desirable_weight objective.gae_lambda objective.gamma objective.grpo_deviation objective.grpo_length objective.ipo_average objective.kl_horizon objective.kl_target objective.kl_weight objective.label_smoothing objective.undesirable_weight objective.value_clip_range objective.value_weight training.recompute
    ");
    let sft = |validation: Option<&str>| {
        let validation = validation.map(source);
        let settings = load(Stage::Sft, None).unwrap();
        key_of(&Sft { model: model(), data: data(), validation, settings })
    };
    assert_ne!(sft(None), sft(Some("held out")));
    assert_ne!(sft(Some("other")), sft(Some("held out")));
    let sample = keys(Stage::Sample, |settings: DrawSettings| {
        key_of(&Draw { model: model(), data: data(), shard: None, settings })
    });
    insta::assert_snapshot!(told(sample.clone()), @r"
    chat.date chat.template_kwargs data.max_length data.max_prompt_length data.skip_bad dtype generation.batch_size generation.completions generation.ignore_eos generation.log_probs generation.max_new_tokens generation.stop generation.temperature generation.top_k generation.top_p seed
    without effect: data.max_row_bytes
    ");
    let evaluate = keys(Stage::Evaluate, |settings: DrawSettings| {
        key_of(&Evaluate {
            policy: model(),
            reference: model(),
            reward: model(),
            data: data(),
            shard: None,
            settings,
        })
    });
    assert_eq!(evaluate, sample);
    let label = keys(Stage::Label, |settings: LabelSettings| {
        let reward = model().rewarding().unwrap();
        let device = Device::flex();
        key_of(&Label { reward, data: data(), shard: None, device, settings })
    });
    insta::assert_snapshot!(told(label), @r"
    chat.date chat.template_kwargs data.skip_bad dtype
    without effect: data.max_row_bytes seed
    ");
    let score = keys(Stage::Score, |settings: ScoreSettings| {
        let (temperature, per_token) = (1.0, false);
        key_of(&Score {
            model: model(),
            data: data(),
            shard: None,
            temperature,
            per_token,
            settings,
        })
    });
    insta::assert_snapshot!(told(score), @r"
    chat.date chat.template_kwargs data.max_length data.max_prompt_length data.skip_bad dtype
    without effect: data.max_row_bytes seed
    ");
    let pairs = keys(Stage::Pairs, |settings: PairSettings| {
        key_of(&Pairs { data: data(), method: Method::BradleyTerry, beta_reward: 1.0, settings })
    });
    insta::assert_snapshot!(told(pairs), @r"
    data.skip_bad seed
    without effect: data.max_row_bytes
    ");
}

#[test]
fn rewards_that_are_asked_for_are_told_apart_by_what_they_depend_on() {
    let label = |text: &str, rewards| {
        let reward = Rewarding::new(text.parse().unwrap(), rewards);
        let (device, settings) = (Device::flex(), load(Stage::Label, None).unwrap());
        key_of(&Label { reward, data: source("data"), shard: None, device, settings })
    };
    let text = "openai:http://127.0.0.1:1/v1*2,command:x y";
    let asked = keys(Stage::Label, |settings: RewardsSettings| label(text, settings));
    insta::assert_snapshot!(told(asked), @"judge.extra judge.max_completion_tokens judge.max_tokens judge.model judge.temperature reward.template
without effect: judge.ca_file judge.concurrency judge.first_wait judge.key_header judge.key_variable judge.max_refused judge.max_retries judge.max_wait judge.template judge.timeout reward.restarts reward.timeout seed");
    let defaults = || RewardsSettings::defaults().unwrap();
    let usual = label(text, defaults());
    for other in
        ["openai:http://127.0.0.1:1/v1,command:x y", "openai:http://127.0.0.1:1/v1*2,command:x"]
    {
        assert_ne!(label(other, defaults()), usual, "{other}");
    }
}

#[test]
fn every_setting_of_an_endpoint_that_verdicts_depend_on_changes_the_key_of_judging() {
    let judge = keys(Stage::Judge, |settings: JudgingSettings| {
        let judge = JudgeSpec::of_command("openai:http://127.0.0.1:1/v1").unwrap();
        key_of(&Judging::of(judge, source("data"), None, Device::flex(), settings))
    });
    insta::assert_snapshot!(told(judge), @r"
    judge.extra judge.max_completion_tokens judge.max_tokens judge.model judge.temperature judge.template seed
    without effect: chat.date chat.template_kwargs data.max_row_bytes data.skip_bad dtype judge.ca_file judge.concurrency judge.first_wait judge.key_header judge.key_variable judge.max_refused judge.max_retries judge.max_wait judge.timeout
    ");
}

/// A folder with a model, its tokenizer, and every further file that a model folder may have.
fn model_folder(folder: &Path) {
    let model = Model {
        path: String::new(),
        hidden_size: 8,
        num_layers: 1,
        num_heads: 1,
        max_positions: 16,
    };
    let context = crate::context::Context::new(&crate::context::Global {
        device: Some("flex".to_owned()),
        ..crate::context::Global::default()
    });
    Base { task: task("instruction").unwrap(), model, seed: 1 }
        .fill(folder, &context.unwrap())
        .unwrap();
    std::fs::write(folder.join("generation_config.json"), r#"{"eos_token_id": 0}"#).unwrap();
    std::fs::write(folder.join("chat_template.jinja"), "{{ messages }}").unwrap();
    std::fs::write(folder.join("special_tokens_map.json"), "{}").unwrap();
}

#[test]
fn every_file_of_a_model_changes_the_keys_of_the_stages_that_read_it() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("model");
    model_folder(&folder);
    let records = place.path().join("records.jsonl");
    std::fs::write(&records, "{}\n").unwrap();
    let settings = || load::<AlignSettings>(Stage::Align, None).unwrap();
    let align = |model: &Path, reference: &Path| {
        let stage = Align {
            model: model.to_owned().into(),
            reference: reference.to_owned().into(),
            data: records.clone().into(),
            validation: None,
            settings: settings(),
        };
        stage.made_from().unwrap().key("flex")
    };
    let other = place.path().join("other");
    model_folder(&other);
    let usual = align(&folder, &other);
    let mut text = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let content = std::fs::read(&path).unwrap();
        let changed = match name.ends_with(".json") {
            // The same JSON, written otherwise.
            true => [content.as_slice(), b"\n"].concat(),
            false => content.iter().rev().copied().collect(),
        };
        std::fs::write(&path, &changed).unwrap();
        assert_ne!(align(&folder, &other), usual, "{name}");
        std::fs::write(&path, &content).unwrap();
        // A reference reads no text.
        let path = other.join(&name);
        std::fs::write(&path, &changed).unwrap();
        if align(&folder, &other) == usual {
            text.push(name);
        }
        std::fs::write(&path, &content).unwrap();
    }
    assert_eq!(align(&folder, &other), usual);
    text.sort();
    let expected = [
        "chat_template.jinja",
        "generation_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(text, expected);
    std::fs::write(&records, "{} \n").unwrap();
    assert_ne!(align(&folder, &other), usual);
}
