//! Claims about reward models: their rewards are the scores of `transformers`' classifiers, and what
//! cannot be read as one reward is refused.

use std::path::Path;

use crate::support::families;
use crate::support::formula::{TOKENS, formula_folder, read_tensors, write_tensors};
use burn::tensor::Device;
use exalign::data::{GroupBatch, RewardReading, TokenGroup};
use exalign::model::{ModelFolder, Precision, RewardModel};
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
    insta::assert_snapshot!(error.replace(&folder.path().display().to_string(), "M"), @"M: expected a model of 1 or 2 labels, whose score or log-odds are the reward, found 3 labels");
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
