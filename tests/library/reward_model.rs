//! Claims about reward models: their rewards are the scores of `transformers`' classifiers, a trained head is
//! never lost, and what cannot be read as one reward is refused.

use std::path::Path;

use crate::support::formula::{
    TOKENS, formula_folder, read_tensors, refusal as policy_refusal, write_tensors,
};
use crate::support::{Workplace, families, text};
use burn::tensor::Device;
use exalign::data::{GroupBatch, RewardReading, TokenGroup};
use exalign::model::{ModelFolder, Precision, RewardModel};
use exalign::rewards::RewardScorer;
use serde_json::{Value, json};

/// The classifier of `labels` labels on the trunk of a formula's model; its head follows the same
/// formula.
fn classifier(config: &str, labels: usize) -> tempfile::TempDir {
    let folder = formula_folder(config);
    let described = ModelFolder::open(folder.path()).unwrap();
    let mut json: Value = serde_json::from_str(config).unwrap();
    json["architectures"] = json!([described.family.classifier_architecture]);
    let names: Vec<String> = (0..labels).map(|label| format!("LABEL_{label}")).collect();
    json["id2label"] = json!(names);
    std::fs::write(folder.path().join("config.json"), json.to_string()).unwrap();

    let file = folder.path().join("model.safetensors");
    let hidden = described.shape.hidden_size;
    let bytes = std::fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut values: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .filter(|(name, _)| name != described.family.head)
        .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
        .collect();
    let score: Vec<f32> = (0..labels * hidden)
        .map(|i| ((1.3 * i as f64 + "score.weight".len() as f64).sin() * 0.35) as f32)
        .collect();
    let score = bytemuck::cast_slice(&score).to_vec();
    values.push(("score.weight".to_owned(), vec![labels, hidden], score));
    write_tensors(&file, &values);
    folder
}

/// The rewards of the tokens and of the first five, the first three being the prompt.
fn rewards(folder: &Path) -> exalign::Result<Vec<f32>> {
    let device = Device::flex();
    let model = RewardModel::load(&ModelFolder::open(folder)?, 0, &device)?;
    let group = TokenGroup {
        prompt: TOKENS[..3].to_vec(),
        completions: vec![TOKENS[3..].to_vec(), TOKENS[3..5].to_vec()],
        ..TokenGroup::default()
    };
    Ok(model.rewards(&GroupBatch::new([&group], &device)).into_data().try_into_vec().unwrap())
}

/// Of transformers 4.57.6 (f64, CPU): the score of one label; of two, the second's less the first's.
const SCORES: [(families::Case, usize, [f64; 2]); 8] = [
    (families::GPT2, 1, [0.5897286798051815, 1.0554599990089912]),
    (families::GPT2, 2, [-2.294373473155898, -2.5882169318469015]),
    (families::GPT_NEOX, 1, [1.3038397213759867, -0.713993813394831]),
    (families::GPT_NEOX, 2, [-0.6955541291884542, 0.702966942101064]),
    (families::QWEN3, 1, [-0.06593669935380286, -0.5513891780675726]),
    (families::QWEN3, 2, [1.3324380876366388, 0.548720289997154]),
    (families::GLM, 1, [0.007379978893887085, -0.16420315564007004]),
    (families::GLM, 2, [0.5635252045473076, 0.2942197946788211]),
];

#[test]
fn rewards_are_the_scores_or_log_odds_of_transformers() {
    for ((config, _), labels, expected) in SCORES {
        let found = rewards(classifier(config, labels).path()).unwrap();
        for (found, expected) in found.iter().zip(expected) {
            // Two layers in f32 against f64.
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{config}: {found} {expected}");
        }
    }
}

#[test]
fn a_saved_reward_model_gives_the_same_rewards() {
    for (config, _) in families::ALL {
        let (first, second) = (classifier(config, 1), tempfile::tempdir().unwrap());
        let folder = ModelFolder::open(first.path()).unwrap();
        let model = RewardModel::load(&folder, 0, &Device::flex()).unwrap();
        model.save(&folder, &RewardReading::default(), &folder.json, second.path()).unwrap();
        assert_eq!(rewards(first.path()).unwrap(), rewards(second.path()).unwrap());
        let file = |folder: &Path| read_tensors(&folder.join("model.safetensors"));
        assert_eq!(file(first.path()), file(second.path()));
    }
}

#[test]
fn three_labels_are_no_reward() {
    let folder = classifier(families::QWEN2.0, 3);
    let error = rewards(folder.path()).unwrap_err().to_string();
    insta::assert_snapshot!(error.replace(&folder.path().display().to_string(), "M"), @"M: expected a model of 1 or 2 labels, whose score or log-odds are the reward, found 3 labels; keep the row of the label that is to be rewarded: save the head as `score.weight` [1, hidden], and name that label alone in id2label and label2id of config.json");
}

#[test]
fn rewards_of_narrow_weights_are_those_of_f32_within_their_rounding() {
    for (config, _) in families::ALL {
        let folder = classifier(config, 1);
        let exact = rewards(folder.path()).unwrap();
        for (precision, tolerance) in [(Precision::Bf16, 0.05), (Precision::F16, 0.01)] {
            let described = ModelFolder::open(folder.path()).unwrap().kept_as(precision);
            let device = Device::flex();
            let model = RewardModel::load(&described, 0, &device).unwrap();
            let group = TokenGroup {
                prompt: TOKENS[..3].to_vec(),
                completions: vec![TOKENS[3..].to_vec(), TOKENS[3..5].to_vec()],
                ..TokenGroup::default()
            };
            let found = model.rewards(&GroupBatch::new([&group], &device)).into_data();
            for (found, exact) in found.try_into_vec::<f32>().unwrap().iter().zip(&exact) {
                assert!((found - exact).abs() < tolerance, "{precision:?}: {found} {exact}");
            }
        }
    }
}

/// Changes a setting of a folder's `config.json`.
fn set(folder: &Path, key: &str, value: Value) {
    let file = folder.join("config.json");
    let mut config = json_of(&file);
    config[key] = value;
    std::fs::write(file, config.to_string()).unwrap();
}

fn json_of(file: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// The head of the adapters here: twice that of [`classifier`].
fn doubled(labels: usize) -> Vec<f32> {
    let folder = classifier(families::LLAMA.0, labels);
    let head = read_tensors(&folder.path().join("model.safetensors")).remove("score.weight");
    head.unwrap().iter().map(|it| it * 2.0).collect()
}

/// An adapter of a Llama that changes nothing but the head, as peft saves it with
/// `modules_to_save=["score"]`.
fn adapter(base: &Path, task: Value, labels: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "peft_type": "LORA", "task_type": task, "r": 2, "lora_alpha": 4,
        "base_model_name_or_path": base, "target_modules": ["q_proj"], "modules_to_save": ["score"],
    });
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    let bytes = |values: Vec<f32>| -> Vec<u8> { bytemuck::cast_slice(&values).to_vec() };
    let mut tensors =
        vec![("base_model.model.score.weight".to_owned(), vec![labels, 8], bytes(doubled(labels)))];
    for layer in 0..2 {
        let name = |factor: &str| {
            format!("base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{factor}.weight")
        };
        tensors.push((name("A"), vec![2, 8], bytes(vec![0.5; 16])));
        tensors.push((name("B"), vec![16, 2], bytes(vec![0.0; 32])));
    }
    write_tensors(&folder.path().join("adapter_model.safetensors"), &tensors);
    folder
}

/// What is said of a folder that is asked for rewards, its path left out.
fn refusal(folder: &Path) -> String {
    let opened = ModelFolder::open(folder).unwrap();
    let error = RewardScorer::new(opened, None)
        .and_then(|scorer| scorer.load(&Device::flex()))
        .unwrap_err();
    error.to_string().replace(&folder.display().to_string(), "M")
}

#[test]
fn a_stored_head_is_the_head_whatever_the_folder_calls_itself() {
    for architectures in [json!(["LlamaForRewardModel"]), Value::Null, json!(["LlamaModel"])] {
        for labels in [1, 2] {
            let folder = classifier(families::LLAMA.0, labels);
            let expected = rewards(folder.path()).unwrap();
            set(folder.path(), "architectures", architectures.clone());
            assert_eq!(rewards(folder.path()).unwrap(), expected, "{architectures} {labels}");
        }
    }
    let folder = classifier(families::LLAMA.0, 3);
    set(folder.path(), "architectures", Value::Null);
    let error = rewards(folder.path()).unwrap_err().to_string();
    assert!(error.contains("1 or 2 labels") && error.contains("found 3 labels"), "{error}");
}

#[test]
fn an_adapter_without_a_task_is_what_its_base_is_and_its_head_comes_first() {
    for labels in [1, 2] {
        let base = classifier(families::LLAMA.0, labels);
        // Twice the head gives twice the reward, to the bit.
        let expected: Vec<f32> = rewards(base.path()).unwrap().iter().map(|it| it * 2.0).collect();
        for task in [Value::Null, json!("SEQ_CLS")] {
            let adapter = adapter(base.path(), task.clone(), labels);
            assert_eq!(rewards(adapter.path()).unwrap(), expected, "{task}");
            let folder = ModelFolder::open(adapter.path()).unwrap();
            assert!(folder.is_classifier(), "{task}");
            RewardScorer::new(folder, None).unwrap();
        }
        // A training may go on from a head beside a language model, too.
        let plain = formula_folder(families::LLAMA.0);
        let adapter = adapter(plain.path(), Value::Null, labels);
        assert_eq!(rewards(adapter.path()).unwrap(), expected);
        assert!(!ModelFolder::open(adapter.path()).unwrap().is_classifier());
    }
}

#[test]
fn what_gives_no_rewards_is_refused_with_what_says_so() {
    let folder = classifier(families::LLAMA.0, 1);
    let over = adapter(folder.path(), json!("CAUSAL_LM"), 1);
    insta::assert_snapshot!(refusal(over.path()), @r#"M/adapter_config.json: `task_type`: of a reward model, expected "SEQ_CLS", or null over a base whose `architectures` are ["LlamaForSequenceClassification"], found "CAUSAL_LM" over ["LlamaForSequenceClassification"]; correct it, or give a reward model, as `exalign reward` makes one"#);
    set(folder.path(), "architectures", json!(["LlamaForRewardModel"]));
    insta::assert_snapshot!(refusal(folder.path()), @r#"M/config.json: `architectures`: expected ["LlamaForSequenceClassification"] of a reward model, found ["LlamaForRewardModel"]; correct it if the head `score.weight` of this folder gives rewards"#);
    let plain = formula_folder(families::LLAMA.0);
    insta::assert_snapshot!(refusal(plain.path()), @r#"M: expected a reward model (LlamaForSequenceClassification), found ["LlamaForCausalLM"]; `exalign reward` makes one"#);
}

#[test]
fn a_classifier_without_its_head_gives_no_rewards_and_may_be_trained() {
    let folder = formula_folder(families::LLAMA.0);
    set(folder.path(), "architectures", json!(["LlamaForSequenceClassification"]));
    insta::assert_snapshot!(refusal(folder.path()), @"M: expected the head `score.weight` of a reward model, found none in the weights; train one with `exalign reward`, or fetch the folder again");
    assert_eq!(rewards(folder.path()).unwrap().len(), 2);
}

#[test]
fn a_merge_keeps_every_label_by_its_name_and_the_padding_of_the_base() {
    let place = Workplace::new();
    let merged = |base: &Path, out: &str| {
        set(base, "eos_token_id", json!(4));
        set(base, "pad_token_id", Value::Null);
        let adapter = adapter(base, json!("SEQ_CLS"), 2);
        let (base, own) = (base.display(), adapter.path().display());
        place.succeeds(&format!("merge --model {base} --adapter {own} --out {out}"));
        let out = place.path(out);
        assert_eq!(rewards(&out).unwrap(), rewards(adapter.path()).unwrap());
        let score = &read_tensors(&out.join("model.safetensors"))["score.weight"];
        assert_eq!(score, &doubled(2));
        let config = json_of(&out.join("config.json"));
        assert_eq!(config["pad_token_id"], Value::Null);
        assert_eq!(config["architectures"], json!(["LlamaForSequenceClassification"]));
        [config["id2label"].clone(), config["label2id"].clone()]
    };
    let named = classifier(families::LLAMA.0, 2);
    let names = [json!({"0": "worse", "1": "better"}), json!({"worse": 0, "better": 1})];
    set(named.path(), "id2label", names[0].clone());
    set(named.path(), "label2id", names[1].clone());
    assert_eq!(merged(named.path(), "named"), names);
    // A language model has no labels yet.
    let names = [json!({"0": "LABEL_0", "1": "LABEL_1"}), json!({"LABEL_0": 0, "LABEL_1": 1})];
    assert_eq!(merged(formula_folder(families::LLAMA.0).path(), "plain"), names);
}

#[test]
fn an_adapter_of_a_reward_model_is_no_policy() {
    let base = formula_folder(families::LLAMA.0);
    for task in ["SEQ_CLS", "TOKEN_CLS"] {
        let own = adapter(base.path(), json!(task), 1);
        let said = policy_refusal(own.path());
        let start = format!(
            "M/adapter_config.json: `task_type`: of a language model, expected \"CAUSAL_LM\" or null, found \"{task}\""
        );
        assert!(said.starts_with(&start) && said.contains("--reward"), "{said}");
        assert_eq!(rewards(own.path()).unwrap().len(), 2);
    }
    for task in [Value::Null, json!("CAUSAL_LM")] {
        let own = adapter(base.path(), task, 1);
        let said = policy_refusal(own.path());
        let start = "M/adapter_model.safetensors: expected the adapter of a language model, found the head \
                     `base_model.model.score.weight`";
        assert!(said.starts_with(start) && said.contains("--reward"), "{said}");
    }
}

/// Changes the tensors of a file: names, shapes and bytes.
fn change(file: &Path, change: impl Fn(&mut Vec<(String, Vec<usize>, Vec<u8>)>)) {
    let bytes = std::fs::read(file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors();
    let owned =
        tensors.into_iter().map(|(name, it)| (name, it.shape().to_vec(), it.data().to_vec()));
    let mut tensors: Vec<_> = owned.collect();
    change(&mut tensors);
    write_tensors(file, &tensors);
}

#[test]
fn a_head_of_another_name_is_named_with_what_to_save_it_as() {
    for head in
        ["v_head.summary.weight", "value_head.weight", "score_head.weight", "score.0.weight"]
    {
        let folder = classifier(families::LLAMA.0, 1);
        change(&folder.path().join("model.safetensors"), |tensors| {
            tensors.iter_mut().find(|it| it.0 == "score.weight").unwrap().0 = head.to_owned();
        });
        let expected = format!(
            "expected the head `score.weight` [1, 8] of a reward model, found `{head}` [1, 8]; if the head is one \
             matrix, save it as `score.weight`"
        );
        let said = refusal(folder.path());
        assert!(said.starts_with(&format!("M: {expected}")), "{said}");
        // A training does not draw another in its place either.
        let said = rewards(folder.path()).unwrap_err().to_string();
        assert!(said.contains(&expected), "{said}");
    }
    let folder = classifier(families::LLAMA.0, 1);
    change(&folder.path().join("model.safetensors"), |tensors| {
        tensors.push(("score.bias".to_owned(), vec![1], vec![0; 4]));
    });
    insta::assert_snapshot!(refusal(folder.path()), @"M: the weights do not fit config.json; unexpected tensors: score.bias");
    let base = formula_folder(families::LLAMA.0);
    let own = adapter(base.path(), json!("SEQ_CLS"), 1);
    let file = own.path().join("adapter_model.safetensors");
    change(&file, |tensors| tensors.retain(|it| !it.0.contains("score")));
    insta::assert_snapshot!(refusal(own.path()), @r#"M/adapter_model.safetensors: expected the head `score.weight` of a reward model, found none here and none in the base; save the adapter with modules_to_save=["score"], or train one with `exalign reward`"#);
}

#[test]
fn two_labels_that_are_no_classes_are_no_reward() {
    for problem in ["regression", "multi_label_classification"] {
        let folder = classifier(families::LLAMA.0, 2);
        set(folder.path(), "problem_type", json!(problem));
        let said = rewards(folder.path()).unwrap_err().to_string();
        let expected = format!(
            "found \"{problem}\" with `LABEL_0` and `LABEL_1`, each a score of its own; keep the row"
        );
        assert!(
            said.contains("config.json: `problem_type`: ") && said.contains(&expected),
            "{said}"
        );
    }
    let one = classifier(families::LLAMA.0, 1);
    set(one.path(), "problem_type", json!("regression"));
    rewards(one.path()).unwrap();
}

#[test]
fn of_two_labels_it_is_said_which_is_rewarded() {
    let place = Workplace::new();
    place
        .lines("groups.jsonl", [json!({"prompt_ids": [1, 5], "completion_ids": [[3, 7], [2, 9]]})]);
    let folder = classifier(families::LLAMA.0, 2);
    let said = || {
        let reward = folder.path().to_str().unwrap();
        let arguments =
            ["label", "--reward", reward, "--data", "groups.jsonl", "--out", "o.jsonl", "--fresh"];
        let output = place.exalign().args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let stderr = said();
    let told = "the reward is the log-odds of label 1, `LABEL_1`, over label 0, `LABEL_0`";
    assert_eq!(stderr.matches(told).count(), 1, "{stderr}");
    set(folder.path(), "id2label", json!({"0": "POSITIVE", "1": "NEGATIVE"}));
    let stderr = said();
    let told = "label 1, `NEGATIVE`, over label 0, `POSITIVE`; the names suggest the reverse";
    assert_eq!(stderr.matches(told).count(), 1, "{stderr}");
}
