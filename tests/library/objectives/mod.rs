//! Claims about the objectives: their numbers, their invariances, what they tend to, and where they
//! stay finite.

mod goldens;
mod ppo;
mod published;
mod sampled;
mod tabular;

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn::train::TrainStep;
use exalign::alignment::{
    Alignment, GroupLogProbs, GroupNumbers, KlWeight, Labels, LossAndGradient, ObjectiveConfig,
    ObjectiveName, Statistic, TokenNumbers, evaluate, objectives,
};
use exalign::data::{GroupBatch, TokenGroup};
use exalign::model::Precision;
use exalign::policy::{Listed, Policy, Table};
use exalign::training::{Aligner, AlignmentBatch, GivenTokens, Micro, Step, StepOutput, Trainee};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::skipped::or_skip;
use goldens::cases;
use tabular::TabularPolicy;

fn device() -> Device {
    Device::flex().autodiff()
}

fn matrix_of(values: &[f64], k: usize, dtype: DType) -> Tensor<2> {
    let data = TensorData::new(values.to_vec(), [values.len() / k, k]);
    Tensor::from_data(data, (&device(), dtype))
}

/// `[groups, K]` in f64.
fn matrix(values: &[f64], k: usize) -> Tensor<2> {
    matrix_of(values, k, DType::F64)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// One group, evaluated as `exalign loss` does, its completions of 3, 4, .. tokens.
fn one_group(
    objective: &dyn Alignment,
    policy: &[f64],
    reference: &[f64],
    rewards: &[f64],
) -> exalign::Result<LossAndGradient> {
    let num_tokens: Vec<f64> = (0..policy.len()).map(|i| 3.0 + i as f64).collect();
    // Completions of one token where tokens are read, drawn from the reference where that is asked for.
    let (of_policy, of_reference) = (singles(policy), singles(reference));
    let group = GroupNumbers {
        policy,
        reference,
        rewards,
        num_tokens: &num_tokens,
        proposal: if objective.needs_proposal() { reference } else { &[] },
        tokens: TokenNumbers {
            policy: &of_policy,
            reference: &of_reference,
            proposal: &of_reference,
            ..TokenNumbers::default()
        },
        mismatched_kl: 0.0,
    };
    let mut found = evaluate(objective, &group)?;
    if objective.needs_tokens() {
        found.gradient = found.token_gradient.concat();
    }
    Ok(found)
}

fn scalar(tensor: Tensor<1>) -> f64 {
    numbers(tensor)[0]
}

fn named(name: &str) -> ObjectiveConfig {
    ObjectiveConfig { name: name.parse().unwrap(), ..ObjectiveConfig::default() }
}

/// Every objective, the authors' labels included, but ppo, whose tokens have values.
fn all_objectives(beta_policy: f64, beta_reward: f64, epsilon: f64) -> Vec<ObjectiveConfig> {
    let numbers =
        ObjectiveConfig { beta_policy, beta_reward, epsilon, ..ObjectiveConfig::default() };
    let mut all = Vec::new();
    for name in objectives().into_iter().filter(|it| it.name != "ppo") {
        let plain = ObjectiveConfig { name, ..numbers.clone() };
        for form in name.entry().forms {
            let mut config = plain.clone();
            (form.set)(&mut config);
            all.push(config);
        }
        all.push(plain);
    }
    all
}

/// The objectives of the two papers, whose closed forms are known here.
fn classic_objectives(beta_policy: f64, beta_reward: f64, epsilon: f64) -> Vec<ObjectiveConfig> {
    let mut all = all_objectives(beta_policy, beta_reward, epsilon);
    all.retain(|it| ["exo-pref", "exo-rw", "dpo", "dpo-rw"].contains(&it.name.name));
    all
}

fn rewarded() -> [&'static str; 2] {
    ["exo-rw", "dpo-rw"]
}

/// Loss and ∂loss/∂h of groups with log-ratios `h`.
fn run(
    objective: &dyn Alignment,
    h: &[f64],
    rewards: &[f64],
    k: usize,
    dtype: DType,
) -> (f64, Vec<f64>) {
    let policy = matrix_of(h, k, dtype).require_grad();
    let log_probs = GroupLogProbs::new(policy.clone(), policy.zeros_like());
    let loss = objective.loss(&log_probs, &matrix_of(rewards, k, dtype));
    assert_eq!(loss.dtype(), dtype);
    let gradient = policy.grad(&loss.backward()).unwrap();
    (scalar(loss), numbers(gradient))
}

fn run64(objective: &dyn Alignment, h: &[f64], rewards: &[f64], k: usize) -> (f64, Vec<f64>) {
    run(objective, h, rewards, k, DType::F64)
}

/// Completions of one token.
fn singles(log_probs: &[f64]) -> Vec<Vec<f64>> {
    log_probs.iter().map(|&log_prob| vec![log_prob]).collect()
}

fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let difference = (found - expected).abs();
    assert!(
        difference <= tolerance * expected.abs().max(1.0),
        "{what}: found {found}, expected {expected}, off by {difference:e}"
    );
}

fn assert_all_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        assert_close(found, expected, tolerance, &format!("{what} [{i}]"));
    }
}

/// Softmax in log space, of one group.
fn log_softmax_of(values: &[f64], scale: f64) -> Vec<f64> {
    let max = values.iter().map(|v| v * scale).fold(f64::NEG_INFINITY, f64::max);
    let log_sum = values.iter().map(|v| (v * scale - max).exp()).sum::<f64>().ln();
    values.iter().map(|v| v * scale - max - log_sum).collect()
}

fn log_sigmoid_of(z: f64) -> f64 {
    z.min(0.0) - (-z.abs()).exp().ln_1p()
}

/// Loss and ∂loss/∂h of one group by the closed forms of the papers.
fn closed_form(config: &ObjectiveConfig, h: &[f64], rewards: &[f64]) -> (f64, Vec<f64>) {
    let beta = config.beta_policy;
    let log_q = log_softmax_of(h, beta);
    let log_p = log_softmax_of(rewards, 1.0 / config.beta_reward);
    let z = beta * (h[0] - h[1]);
    let (log_w, log_l) = (log_sigmoid_of(z), log_sigmoid_of(-z));
    let pair = |slope: f64| vec![beta * slope, -beta * slope];
    match (config.name.name, config.labels) {
        ("exo-rw", _) => {
            let terms = || log_q.iter().zip(&log_p);
            let kl: f64 = terms().map(|(q, p)| q.exp() * (q - p)).sum();
            (kl, terms().map(|(q, p)| beta * q.exp() * (q - p - kl)).collect())
        }
        ("dpo-rw", _) => {
            let terms = || log_q.iter().zip(&log_p);
            let cross_entropy: f64 = terms().map(|(q, p)| -p.exp() * q).sum();
            (cross_entropy, terms().map(|(q, p)| beta * (q.exp() - p.exp())).collect())
        }
        ("exo-pref", labels) => {
            let (label_w, label_l) = match labels {
                Labels::Paper => ((-config.epsilon).ln_1p(), config.epsilon.ln()),
                Labels::Official => (0.0, -10.0),
            };
            let loss = log_w.exp() * (log_w - label_w) + log_l.exp() * (log_l - label_l);
            (loss, pair((log_w + log_l).exp() * (z - (label_w - label_l))))
        }
        ("dpo", _) => (-log_w, pair(-log_l.exp())),
        (other, _) => panic!("no closed form of {other}"),
    }
}

/// The groups a case's pair objectives see: the higher reward first; where each entry came from.
fn chosen_first(h: &[f64], rewards: &[f64]) -> (Vec<f64>, Vec<usize>) {
    let mut order: Vec<usize> = (0..h.len()).collect();
    for pair in order.chunks_mut(2) {
        if rewards[pair[0]] < rewards[pair[1]] {
            pair.swap(0, 1);
        }
    }
    (order.iter().map(|&i| h[i]).collect(), order)
}

/// Loss and ∂loss/∂h in the order of `h`, pairs chosen by reward.
fn run_ordered(config: &ObjectiveConfig, h: &[f64], rewards: &[f64], k: usize) -> (f64, Vec<f64>) {
    let objective = config.init().unwrap();
    if objective.needs_rewards() {
        return run64(&*objective, h, rewards, k);
    }
    let (ordered, order) = chosen_first(h, rewards);
    let (loss, ordered_gradient) = run64(&*objective, &ordered, rewards, k);
    let mut gradient = vec![0.0; h.len()];
    for (value, place) in ordered_gradient.into_iter().zip(order) {
        gradient[place] = value;
    }
    (loss, gradient)
}

fn config_of(objective: &str, beta_policy: f64, beta_reward: f64, epsilon: f64) -> ObjectiveConfig {
    let (name, labels) = match objective {
        "exo-pref official" => ("exo-pref", Labels::Official),
        name => (name, Labels::Paper),
    };
    ObjectiveConfig { beta_policy, beta_reward, epsilon, labels, ..named(name) }
}

// ---------------------------------------------------------------------------------------- numbers

/// f64 throughout: both sides are good to about 1e-14 of the largest log-probability difference.
const DOUBLE: f64 = 1e-12;

#[test]
fn losses_and_gradients_are_those_of_the_reference_table() {
    for case in cases() {
        for expected in &case.expected {
            let config =
                config_of(&expected.objective, case.beta_policy, case.beta_reward, case.epsilon);
            let what = format!("{config:?}, K = {}", case.k);
            let (loss, gradient) = run_ordered(&config, &case.h, &case.rewards, case.k);
            assert_close(loss, expected.loss, DOUBLE, &what);
            assert_all_close(&gradient, &expected.gradient, DOUBLE, &what);
        }
    }
}

#[test]
fn one_group_evaluated_alone_has_the_reference_gradient_to_nine_digits() {
    for case in cases().iter().filter(|case| case.k > 2) {
        let groups = case.h.len() / case.k;
        for expected in &case.expected {
            let config =
                config_of(&expected.objective, case.beta_policy, case.beta_reward, case.epsilon);
            let lines: Vec<_> = (case.h.chunks(case.k).zip(case.rewards.chunks(case.k)))
                .map(|(h, r)| {
                    one_group(&*config.init().unwrap(), h, &vec![0.0; case.k], r).unwrap()
                })
                .collect();
            let loss = lines.iter().map(|line| line.loss).sum::<f64>() / groups as f64;
            // Relative to each number itself: nothing on the way is in f32.
            assert!((loss / expected.loss - 1.0).abs() < 1e-9);
            let gradient = lines.iter().flat_map(|line| &line.gradient);
            for (found, expected) in gradient.zip(&expected.gradient) {
                assert!((found / groups as f64 / expected - 1.0).abs() < 1e-9);
            }
        }
    }
}

#[test]
fn the_chain_from_logits_to_loss_and_back_is_exact() {
    // The first batch of the reference table (K = 2, three groups) from its closed forms; the
    // expected numbers have the table's provenance: τ, ‖∂loss/∂logits‖ over the whole tensor, and
    // its entries where the first completion begins. EXO with rewards, β_π = β_r = 0.5.
    const ROWS: usize = 6;
    let expected = [
        (
            0.8,
            0.3976859482614002,
            0.39079198132019544,
            [
                -0.02879575158136562,
                -0.009944770734868737,
                -0.002652332463354756,
                -0.0037869598670976713,
                -0.017179151974695734,
                0.06994802822655447,
                -0.007589061605171949,
            ],
        ),
        (
            1.0,
            0.33118191091534416,
            0.3011846976500877,
            [
                -0.020145037717611468,
                -0.008605600296201743,
                -0.002989563062395348,
                -0.003975007133210781,
                -0.013326212294776166,
                0.05597337675079922,
                -0.006931956246603731,
            ],
        ),
    ];
    let input = formula_batch(2, ROWS);
    let rewards: Vec<f64> =
        (0..ROWS).map(|i| (1.7 * i as f64 + 0.4).sin() + 0.25 * (i % 3) as f64).collect();
    let objective = config_of("exo-rw", 0.5, 0.5, 1e-3).init().unwrap();
    for (temperature, loss, norm, first) in expected {
        let (table, h) = log_ratios_of(&input, temperature);
        let policy = h.reshape([3, 2]);
        let log_probs = GroupLogProbs::new(policy.clone(), policy.zeros_like().detach());
        let found = objective.loss(&log_probs, &matrix(&rewards, 2));
        let gradient = table.parameters().grad(&found.backward()).unwrap(); // [rows · seq, vocab]
        assert_close(scalar(found), loss, DOUBLE, "loss");
        let found = scalar(gradient.clone().powi_scalar(2).sum().sqrt());
        assert_close(found, norm, DOUBLE, "norm of the gradient");
        let found = numbers(gradient.narrow(0, 1, 1));
        assert_all_close(&found, &first, DOUBLE, "gradient at the first completion");
    }
}

#[test]
fn a_device_without_autodiff_has_the_same_loss() {
    let plain = |values: &[f64]| {
        let data = TensorData::new(values.to_vec(), [values.len() / 2, 2]);
        Tensor::<2>::from_data(data, (&Device::flex(), DType::F64))
    };
    let (h, rewards) = ([-3.7, -5.7, -1.8, -4.0], [1.0, 0.2, -0.5, 0.4]);
    for config in all_objectives(0.5, 0.5, 1e-3) {
        let objective = config.init().unwrap();
        let log_probs = GroupLogProbs::new(plain(&h), plain(&[0.0; 4]));
        let loss = scalar(objective.loss(&log_probs, &plain(&rewards)));
        assert_eq!(loss, run64(&*objective, &h, &rewards, 2).0);
    }
}

#[test]
fn every_number_of_the_golden_file_is_reproduced() {
    let folder = std::env::var("EXALIGN_GOLDENS").ok();
    let Some(folder) = or_skip(folder, "EXALIGN_GOLDENS names no folder of golden numbers") else {
        return;
    };
    let text = std::fs::read_to_string(Path::new(&folder).join("losses.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let list = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let mut checked = 0;
    for case in file["cases"].as_array().unwrap() {
        let input = (file["inputs"].as_array().unwrap().iter())
            .find(|input| input["name"] == case["input"])
            .unwrap();
        let number = |field: &str| case[field].as_f64().unwrap();
        let k = input["completions_per_group"].as_u64().unwrap() as usize;
        for (key, expected) in case["losses"].as_object().unwrap() {
            let objective = match key.as_str() {
                "exo_pref_unnormalized" => "exo-pref official".to_owned(),
                "dpo_pref" => "dpo".to_owned(),
                name => name.replace('_', "-"),
            };
            let config =
                config_of(&objective, number("beta_pi"), number("beta_r"), number("epsilon"));
            let rewards = list(&input["rewards"]);
            let what = format!("{} {config:?}", case["input"]);
            let (loss, gradient) = run_ordered(&config, &list(&case["h"]), &rewards, k);
            assert_close(loss, expected["value"].as_f64().unwrap(), DOUBLE, &what);
            assert_all_close(&gradient, &list(&expected["grad_h"]), DOUBLE, &what);

            // logits → h → loss → ∂loss/∂logits in one graph.
            let (table, h) = log_ratios_of(input, number("tau"));
            assert_all_close(&numbers(h.clone()), &list(&case["h"]), DOUBLE, "h");
            let h = match config.init().unwrap().needs_rewards() {
                true => h,
                false => h.select(0, indices(&chosen_first(&rewards, &rewards).1)),
            };
            let policy = h.reshape([rewards.len() / k, k]);
            let log_probs = GroupLogProbs::new(policy.clone(), policy.zeros_like().detach());
            let loss = config.init().unwrap().loss(&log_probs, &matrix(&rewards, k));
            let gradient = table.parameters().grad(&loss.backward()).unwrap(); // [rows · seq, vocab]
            let norm = scalar(gradient.clone().powi_scalar(2).sum().sqrt());
            assert_close(norm, expected["grad_logits_norm"].as_f64().unwrap(), DOUBLE, &what);
            let first = input["completion_start"][0].as_u64().unwrap() as usize - 1;
            let first = numbers(gradient.narrow(0, first, 1));
            assert_all_close(&first, &list(&expected["grad_logits_first"]), DOUBLE, &what);
            checked += 1;
        }
    }
    // 11 cases of pairs with five losses, 19 of larger groups with two.
    assert_eq!(checked, 11 * 5 + 19 * 2);
}

/// The batch that the reference table's log-ratios come from, `rows` completions in groups of `k`.
fn formula_batch(k: usize, rows: usize) -> Value {
    const SEQ: usize = 9;
    const VOCAB: usize = 7;
    let logits = |of: fn(f64, f64, f64) -> f64| -> Vec<Vec<Vec<f64>>> {
        let position = |i: usize, j: usize| {
            (0..VOCAB).map(|v| of(i as f64, j as f64, v as f64)).collect::<Vec<_>>()
        };
        (0..rows).map(|i| (0..SEQ).map(|j| position(i, j)).collect()).collect()
    };
    let tokens = |of: fn(usize, usize) -> usize| -> Vec<Vec<usize>> {
        (0..rows).map(|i| (0..SEQ).map(|j| of(i, j)).collect()).collect()
    };
    serde_json::json!({
        "seq_len": SEQ, "vocab": VOCAB, "groups": rows / k, "completions_per_group": k,
        "policy_logits": logits(|i, j, v| {
            (i + 1.0 + 0.7 * j + 1.3 * v).sin() + 0.5 * (0.5 * i * v + 0.3 * j).cos()
        }),
        "ref_logits": logits(|i, j, v| {
            0.8 * (0.9 * i - 0.4 * j + 1.1 * v).cos() + 0.3 * (0.2 * i * j + v).sin()
        }),
        "token_ids": tokens(|i, j| (3 * i + 5 * j + 2) % VOCAB),
        "attention_mask": tokens(|i, j| usize::from(j < 5 + (2 * i) % 5)),
        "completion_start": (0..rows).map(|i| 2 + i / k % 2).collect::<Vec<_>>(),
    })
}

/// ∂loss/∂logits, `[rows, seq, vocab]`, of a batch whose ∂loss/∂h is known: every scored token adds
/// ∂loss/∂h · (onehot − softmax(logits / τ)) / τ where it is predicted.
fn gradient_of_logits(batch: &Value, temperature: f64, gradient_of_h: &[f64]) -> Vec<f64> {
    let mut gradient = Vec::new();
    for (i, slope) in gradient_of_h.iter().enumerate() {
        let start = batch["completion_start"][i].as_u64().unwrap() as usize;
        let positions = batch["policy_logits"][i].as_array().unwrap();
        for (j, logits) in positions.iter().enumerate() {
            let next = j + 1;
            let is_scored = next >= start && batch["attention_mask"][i][next] == 1;
            let logits: Vec<f64> =
                logits.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
            let log_probs = log_softmax_of(&logits, 1.0 / temperature);
            for (token, log_prob) in log_probs.into_iter().enumerate() {
                let is_next = f64::from(batch["token_ids"][i][next] == token);
                let share = slope * (is_next - log_prob.exp()) / temperature;
                gradient.push(if is_scored { share } else { 0.0 });
            }
        }
    }
    gradient
}

#[test]
fn every_objectives_gradient_reaches_the_logits_as_the_closed_forms_say() {
    let mut checked = 0;
    // Of the table one case for each batch and temperature.
    let is_middle =
        |it: &&goldens::Case| (it.beta_policy, it.beta_reward, it.epsilon) == (0.5, 0.5, 0.001);
    for case in cases().iter().filter(is_middle) {
        let batch = formula_batch(case.k, case.h.len());
        let groups = case.h.len() / case.k;
        let betas = [0.1, 0.5, 1.0];
        let all = betas.into_iter().flat_map(|policy| {
            betas.into_iter().flat_map(move |reward| {
                [1e-3, 0.2].into_iter().flat_map(move |it| classic_objectives(policy, reward, it))
            })
        });
        for config in all {
            let objective = config.init().unwrap();
            if case.k > 2 && !objective.needs_rewards() {
                continue;
            }
            let what = format!("{config:?}, K = {}, τ = {}", case.k, case.temperature);
            let order: Vec<usize> = match objective.needs_rewards() {
                true => (0..case.h.len()).collect(),
                false => chosen_first(&case.h, &case.rewards).1,
            };
            let in_order = |of: &[f64]| order.iter().map(|&i| of[i]).collect::<Vec<_>>();
            let (h, rewards) = (in_order(&case.h), in_order(&case.rewards));
            let (mut expected, mut gradient_of_h) = (0.0, vec![0.0; h.len()]);
            let of_groups = h.chunks(case.k).zip(rewards.chunks(case.k)).zip(order.chunks(case.k));
            for ((h, rewards), places) in of_groups {
                let (loss, gradient) = closed_form(&config, h, rewards);
                expected += loss / groups as f64;
                for (&place, slope) in places.iter().zip(gradient) {
                    gradient_of_h[place] = slope / groups as f64;
                }
            }

            let (logits, found_h) = log_ratios_of(&batch, case.temperature);
            assert_all_close(&numbers(found_h.clone()), &case.h, DOUBLE, &what);
            let policy = found_h.select(0, indices(&order)).reshape([groups, case.k]);
            let log_probs = GroupLogProbs::new(policy.clone(), policy.zeros_like().detach());
            let loss = objective.loss(&log_probs, &matrix(&rewards, case.k));
            let gradient = logits.parameters().grad(&loss.clone().backward()).unwrap();
            assert_close(scalar(loss), expected, DOUBLE, &what);
            let expected = gradient_of_logits(&batch, case.temperature, &gradient_of_h);
            assert_all_close(&numbers(gradient), &expected, DOUBLE, &what);
            checked += 1;
        }
    }
    // 9 pairs of β and 2 ε: pairs at two temperatures have five losses, three larger batches two.
    assert_eq!(checked, 9 * 2 * (2 * 5 + 3 * 2));
}

fn indices(order: &[usize]) -> Tensor<1, Int> {
    let order: Vec<i64> = order.iter().map(|&i| i as i64).collect();
    Tensor::from_data(TensorData::new(order.clone(), [order.len()]), &device())
}

/// The policy's logits, a row for every position, and the log-ratio of each completion, `[rows]`: those
/// of a [`Table`] whose prompts are the positions.
fn log_ratios_of(input: &Value, temperature: f64) -> (Table, Tensor<1>) {
    let size = |field: &str| input[field].as_u64().unwrap() as usize;
    let (seq, vocab) = (size("seq_len"), size("vocab"));
    let rows = size("groups") * size("completions_per_group");
    let table = |field: &str| {
        let values: Vec<f64> = (input[field].as_array().unwrap().iter())
            .flat_map(|row| row.as_array().unwrap())
            .flat_map(|position| position.as_array().unwrap())
            .map(|value| value.as_f64().unwrap())
            .collect();
        Table::new(matrix(&values, vocab)) // [rows · seq, vocab]
    };
    // The token after each position, and 1 where it is a real completion token.
    let (mut tokens, mut scored) = (vec![0; rows * seq], vec![0.0; rows * seq]);
    for i in 0..rows {
        for j in input["completion_start"][i].as_u64().unwrap() as usize..seq {
            tokens[i * seq + j - 1] = input["token_ids"][i][j].as_i64().unwrap();
            scored[i * seq + j - 1] = input["attention_mask"][i][j].as_f64().unwrap();
        }
    }
    let positions: Vec<usize> = (0..rows * seq).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [rows * seq, 1]), &device());
    let log_probs =
        |table: &Table| table.log_probs_of(indices(&positions), tokens.clone(), temperature);
    let (policy, reference) = (table("policy_logits"), table("ref_logits"));
    let difference = (log_probs(&policy) - log_probs(&reference)).reshape([rows, seq]);
    let h = (difference * matrix(&scored, seq)).sum_dim(1).reshape([rows]);
    (policy, h)
}

#[test]
fn gradients_are_the_closed_forms() {
    let h = [0.3, -1.7, 2.2, 0.0, -40.0, 35.0];
    let rewards = [1.0, 0.2, -0.5, 0.4, 3.0, -2.0];
    for config in classic_objectives(0.7, 0.4, 0.01) {
        let objective = config.init().unwrap();
        for (h, rewards) in h.chunks(2).zip(rewards.chunks(2)) {
            let (loss, gradient) = run64(&*objective, h, rewards, 2);
            let (expected, expected_gradient) = closed_form(&config, h, rewards);
            assert_close(loss, expected, DOUBLE, &format!("{config:?}"));
            assert_all_close(&gradient, &expected_gradient, DOUBLE, &format!("{config:?}"));
        }
    }
}

#[test]
fn gradients_are_the_slopes_of_the_losses() {
    const STEP: f64 = 1e-5;
    let h = [-5.7, -7.7, -5.2, -6.4];
    let rewards = [1.0, 0.2, -0.5, 0.4];
    for config in all_objectives(0.7, 0.4, 0.01) {
        let objective = config.init().unwrap();
        let k = if objective.check(4).is_ok() { 4 } else { 2 };
        let (_, gradient) = run64(&*objective, &h, &rewards, k);
        for i in 0..h.len() {
            let loss_at = |step: f64| {
                let mut h = h;
                h[i] += step;
                run64(&*objective, &h, &rewards, k).0
            };
            let slope = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
            // Truncation is STEP² ≈ 1e-10, rounding 1e-16 / STEP ≈ 1e-11.
            assert_close(gradient[i], slope, 1e-9, &format!("{config:?}"));
        }
    }
}

#[test]
fn a_small_gradient_keeps_its_digits() {
    // σ(±z) down to e⁻⁶⁰: a sum of terms of size one would leave nothing of the gradient.
    for z in [30.0, 60.0, -30.0, -60.0] {
        for config in classic_objectives(1.0, 0.5, 1e-3) {
            if config.name.name == "dpo-rw" {
                continue; // q − p is a difference of numbers of size one by definition
            }
            let (h, rewards) = ([z, 0.0], [1.0, 0.0]);
            let objective = config.init().unwrap();
            let (_, gradient) = run64(&*objective, &h, &rewards, 2);
            let slope = match config.name.name {
                // q_i [(log q_i − log p_i) − KL] = q_1 q_2 (z − logit p_1) at K = 2.
                "exo-rw" => {
                    (log_sigmoid_of(z) + log_sigmoid_of(-z)).exp() * (z - 1.0 / config.beta_reward)
                }
                _ => closed_form(&config, &h, &rewards).1[0],
            };
            assert!((gradient[0] / slope - 1.0).abs() < 1e-9, "{config:?} z = {z}: {gradient:?}");
            assert!((gradient[1] / slope + 1.0).abs() < 1e-9, "{config:?} z = {z}: {gradient:?}");
        }
    }
}

// ------------------------------------------------------------------------------------- invariances

fn group() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    (2_usize..=8).prop_flat_map(|k| {
        (prop::collection::vec(-20.0..20.0, k), prop::collection::vec(-3.0..3.0, k))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_constant_added_to_h_or_to_rewards_changes_nothing(
        (h, rewards) in group(), by in -50.0..50.0,
    ) {
        for name in rewarded() {
            let objective = named(name).init().unwrap();
            let k = h.len();
            let shifted = |values: &[f64]| values.iter().map(|v| v + by).collect::<Vec<f64>>();
            let (loss, gradient) = run64(&*objective, &h, &rewards, k);
            for (h, rewards) in [(shifted(&h), rewards.clone()), (h.clone(), shifted(&rewards))] {
                // Adding 50 to a reward costs 7e-15, divided by β_r = 0.1 and summed over K.
                let (again, gradient_again) = run64(&*objective, &h, &rewards, k);
                assert_close(again, loss, 1e-11, "loss");
                assert_all_close(&gradient_again, &gradient, 1e-11, "gradient");
            }
        }
    }

    #[test]
    fn the_order_of_completions_changes_nothing((h, rewards) in group(), by in 1_usize..8) {
        for name in rewarded() {
            let objective = named(name).init().unwrap();
            let k = h.len();
            let rotated = |values: &[f64]| {
                let mut values = values.to_vec();
                values.rotate_left(by % k);
                values
            };
            let (loss, gradient) = run64(&*objective, &h, &rewards, k);
            let (again, gradient_again) = run64(&*objective, &rotated(&h), &rotated(&rewards), k);
            assert_close(again, loss, DOUBLE, "loss");
            assert_all_close(&gradient_again, &rotated(&gradient), DOUBLE, "gradient");
        }
    }

    #[test]
    fn exo_rw_is_a_divergence((h, rewards) in group()) {
        let objective = named("exo-rw").init().unwrap();
        let (loss, gradient) = run64(&*objective, &h, &rewards, h.len());
        // Rounding may take it below zero, by less than K · 1e-15 · |log p|.
        prop_assert!(loss >= -1e-12);
        if loss < 1e-12 {
            prop_assert!(gradient.iter().all(|g| g.abs() < 1e-6));
        }
    }

    #[test]
    fn exo_rw_is_zero_exactly_where_q_is_p((_, rewards) in group(), c in -5.0..5.0, off in 0.1..5.0) {
        // β_π h = r / β_r + c makes q = p.
        let objective = ObjectiveConfig { beta_policy: 0.5, beta_reward: 0.25, ..named("exo-rw") }
            .init()
            .unwrap();
        let mut h: Vec<f64> = rewards.iter().map(|r| r / (0.25 * 0.5) + c).collect();
        let (loss, gradient) = run64(&*objective, &h, &rewards, h.len());
        prop_assert!(loss.abs() < 1e-12);
        prop_assert!(gradient.iter().all(|g| g.abs() < 1e-12));
        h[0] += off;
        // q with one entry multiplied by e^δ and renormalised: KL(q ‖ p) = q₀ δ − log Z, above zero.
        let p: Vec<f64> = rewards.iter().map(|r| (r / 0.25).exp()).collect();
        let (p_0, delta): (f64, f64) = (p[0] / p.iter().sum::<f64>(), 0.5 * off);
        let z = 1.0 + p_0 * delta.exp_m1();
        let expected = p_0 * delta.exp() / z * delta - z.ln();
        assert_close(run64(&*objective, &h, &rewards, h.len()).0, expected, 1e-12, "loss");
    }
}

/// A table of policies over eight completions of one prompt, in training.
fn trainee(config: &ObjectiveConfig, temperature: f64) -> Trainee<Aligner<Table>> {
    let logits: Vec<f64> = (0..8).map(|it| (f64::from(it) * 1.3).sin()).collect();
    let policy = Table::new(matrix(&logits, 8));
    Trainee::new(Aligner::new(policy, config.init().unwrap(), temperature), Precision::F32)
}

/// Groups of K completions of the prompt 0, by their numbers; their reference log-probs and rewards.
fn part(groups: std::ops::Range<usize>, k: usize) -> AlignmentBatch {
    part_of(groups, k, 0)
}

/// The same, `most` of the completions at a time where that is no 0.
fn part_of(groups: std::ops::Range<usize>, k: usize, most: usize) -> AlignmentBatch {
    let completion = |group: usize, it: usize| ((3 * group + 2 * it) % 8) as u32;
    let value = |group: usize, it: usize, turn: f64| ((group * k + it) as f64 * turn).sin() * 2.0;
    let values = |turn: f64| -> Vec<f64> {
        groups.clone().flat_map(|group| (0..k).map(move |it| value(group, it, turn))).collect()
    };
    let group = |group| TokenGroup {
        prompt: vec![0],
        completions: (0..k).map(|it| vec![completion(group, it)]).collect(),
        ..TokenGroup::default()
    };
    let all: Vec<TokenGroup> = groups.clone().map(group).collect();
    AlignmentBatch {
        groups: GroupBatch::new(&all, &device()),
        parts: (0..if most == 0 { 0 } else { k })
            .step_by(most.max(1))
            .map(|first| {
                let some = |group: &TokenGroup| TokenGroup {
                    completions: group.completions[first..(first + most).min(k)].to_vec(),
                    ..group.clone()
                };
                GroupBatch::new(&all.iter().map(some).collect::<Vec<_>>(), &device())
            })
            .collect(),
        reference: matrix(&values(1.7), k),
        proposal: None,
        tokens: Some(GivenTokens {
            reference: matrix(&values(1.7), k).unsqueeze_dim(2),
            proposal: matrix(&values(1.7), k).unsqueeze_dim(2),
            values: None,
        }),
        rewards: matrix(&values(0.9), k),
        mismatched_kl: 0.0,
    }
}

/// The gradients of all parameters of a module.
struct Gradient<'a> {
    all: &'a GradientsParams,
    values: Vec<f64>,
}

impl ModuleVisitor for Gradient<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.values.extend(numbers(self.all.get::<D>(param.id).unwrap()));
    }
}

/// Loss, figures and gradient of a step on the table, in parts of so many groups.
fn step_of(trainee: &Trainee<Aligner<Table>>, sizes: &[usize], k: usize) -> (StepOutput, Vec<f64>) {
    step_with(trainee, sizes, k, 0)
}

/// The same, `most` completions at a time where that is no 0.
fn step_with(
    trainee: &Trainee<Aligner<Table>>,
    sizes: &[usize],
    k: usize,
    most: usize,
) -> (StepOutput, Vec<f64>) {
    let mut first = 0;
    let parts = sizes.iter().map(|&size| {
        first += size;
        (part_of(first - size..first, k, most), size as f64, 0)
    });
    let micro_batches = Micro::weighted(parts.collect());
    let step = Step { micro_batches, num_groups: first, ..Step::default() };
    let output = TrainStep::step(trainee, step);
    let mut gradient = Gradient { all: &output.grads, values: Vec::new() };
    trainee.visit(&mut gradient);
    (output.item, gradient.values)
}

#[test]
fn any_split_of_a_step_has_the_same_loss_gradient_and_figures() {
    for config in all_objectives(0.5, 0.5, 1e-3) {
        let k = if config.init().unwrap().check(4).is_ok() { 4 } else { 2 };
        let trainee = trainee(&config, 0.8);
        let (whole, gradient) = step_of(&trainee, &[7], k);
        for sizes in [&[3, 4][..], &[6, 1], &[2, 2, 3], &[1; 7]] {
            let (parts, again) = step_of(&trainee, sizes, k);
            // Losses are told in f32.
            assert_close(parts.loss, whole.loss, 1e-6, "loss");
            for ((name, found), (_, expected)) in
                parts.statistics(1.0).iter().zip(&whole.statistics(1.0))
            {
                assert_close(*found, *expected, DOUBLE, name);
            }
            assert_all_close(&again, &gradient, DOUBLE, "gradient");
        }
        // Some of the completions at a time.
        for most in 1..k {
            let (in_parts, again) = step_with(&trainee, &[3, 4], k, most);
            assert_close(in_parts.loss, whole.loss, 1e-6, "loss");
            assert_all_close(&again, &gradient, DOUBLE, "gradient");
        }
        // The mean of what each group has alone.
        let alone: f64 = (0..7)
            .map(|it| {
                let batch = part(it..it + 1, k);
                let policy = trainee.module.policy.log_probs(&batch.groups, 0.8);
                let (policy, reference) = (numbers(policy), numbers(batch.reference));
                let [of_policy, of_reference] = [&policy, &reference].map(|it| singles(it));
                let group = GroupNumbers {
                    policy: &policy,
                    reference: &reference,
                    rewards: &numbers(batch.rewards),
                    num_tokens: &vec![1.0; k],
                    proposal: &reference,
                    tokens: TokenNumbers {
                        policy: &of_policy,
                        reference: &of_reference,
                        proposal: &of_reference,
                        ..TokenNumbers::default()
                    },
                    ..GroupNumbers::default()
                };
                evaluate(&*config.init().unwrap(), &group).unwrap().loss / 7.0
            })
            .sum();
        assert_close(whole.loss, alone, 1e-6, "mean of the groups");
    }
}

#[test]
fn a_table_of_logits_has_the_same_invariances() {
    let rewards = [0.4, -0.2, 1.1, 0.0, 0.7];
    let reference = [0.1, 0.3, 0.2, 0.25, 0.15];
    let theta = [0.5, -1.0, 0.3, 0.0, 2.0];
    let moved: Vec<f64> = theta.iter().map(|v| v + 3.0).collect();
    let gradient_of = |theta: &[f64], shift: f64, groups: &[Vec<usize>], name| {
        let policy = TabularPolicy::new(theta, &reference);
        let k = groups[0].len();
        let rewards: Vec<f64> = groups.iter().flatten().map(|&i| rewards[i] + shift).collect();
        let loss =
            named(name).init().unwrap().loss(&policy.log_probs(groups), &matrix(&rewards, k));
        let gradient = policy.gradient(&loss.backward());
        (scalar(loss), gradient)
    };
    let groups = [vec![0, 1, 2, 3], vec![4, 4, 0, 2]];
    let reordered = [vec![2, 4, 0, 4], vec![3, 2, 1, 0]];
    for name in rewarded() {
        let (loss, gradient) = gradient_of(&theta, 0.0, &groups, name);
        // A completion that no group holds is moved only by the softmax over all five.
        for (theta, shift, groups) in
            [(&moved[..], 0.0, &groups), (&theta, 7.0, &groups), (&theta, 0.0, &reordered)]
        {
            let (again, gradient_again) = gradient_of(theta, shift, groups, name);
            assert_close(again, loss, DOUBLE, "loss");
            assert_all_close(&gradient_again, &gradient, DOUBLE, "gradient");
        }
    }
}

#[test]
fn identical_models_have_the_known_values() {
    let log_probs = [-12.25, -31.5];
    let loss = |config: &ObjectiveConfig| {
        one_group(&*config.init().unwrap(), &log_probs, &log_probs, &[1.0, 0.0]).unwrap().loss
    };
    // ½ [log ½ − log(1−ε)] + ½ [log ½ − log ε] at ε = 1e-3, to the twelve decimals given.
    assert!((loss(&named("exo-pref")) - 2.761230709098).abs() < 1e-12);
    assert_close(loss(&named("dpo")), 2_f64.ln(), 1e-15, "DPO");
    assert_close(loss(&named("dpo-rw")), 2_f64.ln(), 1e-15, "DPO with rewards");

    let policy = TabularPolicy::new(&[0.5_f64.ln(), 0.3_f64.ln(), 0.2_f64.ln()], &[0.5, 0.3, 0.2]);
    let log_probs = policy.log_probs(&[vec![0, 1], vec![1, 2]]);
    let exo = named("exo-pref").init().unwrap();
    assert!((scalar(exo.loss(&log_probs, &matrix(&[0.0; 4], 2))) - 2.761230709098).abs() < 1e-12);
    let statistics = exo.statistics(&log_probs, &matrix(&[0.0; 4], 2));
    let entropy = statistics.iter().find(|it| it.name == "entropy_q").unwrap().mean;
    assert_close(entropy, 2_f64.ln(), DOUBLE, "q is uniform");
}

#[test]
fn exo_with_two_rewards_is_exo_with_preferences() {
    for epsilon in [1e-3, 0.05, 0.4] {
        for z in [-8.0, -0.3, 0.0, 2.0, 11.0] {
            let pref = ObjectiveConfig { epsilon, ..named("exo-pref") };
            let rw = named("exo-rw");
            // (r_w − r_l) / β_r = logit(1 − ε) makes p = (1 − ε, ε).
            let margin = rw.beta_reward * ((-epsilon).ln_1p() - epsilon.ln());
            let h = [z / pref.beta_policy, 0.0];
            let (loss, gradient) = run64(&*pref.init().unwrap(), &h, &[0.0; 2], 2);
            let (again, gradient_again) = run64(&*rw.init().unwrap(), &h, &[0.7 + margin, 0.7], 2);
            assert_close(again, loss, DOUBLE, "loss");
            assert_all_close(&gradient_again, &gradient, DOUBLE, "gradient");
        }
    }
}

#[test]
fn the_authors_labels_have_the_minimum_at_ten() {
    let config =
        ObjectiveConfig { beta_policy: 1.0, labels: Labels::Official, ..named("exo-pref") };
    let (loss, gradient) = run64(&*config.init().unwrap(), &[10.0, 0.0], &[0.0; 2], 2);
    assert_close(loss, -(-10_f64).exp().ln_1p(), 1e-15, "−log(1 + e⁻¹⁰)");
    assert!(gradient.iter().all(|g| g.abs() < 1e-15));
}

// ------------------------------------------------------------------------------ the limit in K

const SFT: [f64; 3] = [0.5, 0.3, 0.2];
const REWARDS: [f64; 3] = [0.0, 1.0, -1.0];
const THETA: [f64; 3] = [0.2, -0.1, 0.4];

/// All K-tuples of the three completions up to order, with their probabilities under π_sft.
fn tuples(k: usize) -> Vec<(Vec<usize>, f64)> {
    let log_factorial = |n: usize| (1..=n).map(|i| (i as f64).ln()).sum::<f64>();
    let mut tuples = Vec::new();
    for a in 0..=k {
        for b in 0..=k - a {
            let counts = [a, b, k - a - b];
            let tuple = (0..3).flat_map(|i| std::iter::repeat_n(i, counts[i])).collect();
            let log_weight = log_factorial(k)
                + (0..3)
                    .map(|i| counts[i] as f64 * SFT[i].ln() - log_factorial(counts[i]))
                    .sum::<f64>();
            tuples.push((tuple, log_weight.exp()));
        }
    }
    tuples
}

/// Expected loss over groups of K drawn from π_sft, and its gradient in θ.
fn expected_over_groups(name: &str, k: usize) -> (f64, Vec<f64>) {
    let objective = ObjectiveConfig { beta_policy: 0.4, beta_reward: 0.7, ..named(name) };
    let objective = objective.init().unwrap();
    let policy = TabularPolicy::new(&THETA, &SFT);
    let losses: Vec<Tensor<1>> = (tuples(k).into_iter())
        .map(|(tuple, weight)| {
            let rewards: Vec<f64> = tuple.iter().map(|&i| REWARDS[i]).collect();
            objective.loss(&policy.log_probs(&[tuple]), &matrix(&rewards, k)) * weight
        })
        .collect();
    let expected = Tensor::cat(losses, 0).sum();
    let gradient = policy.gradient(&expected.backward());
    (scalar(expected), gradient)
}

/// Expected entropy of p over groups of K drawn from π_sft.
fn expected_target_entropy(k: usize) -> f64 {
    (tuples(k).into_iter())
        .map(|(tuple, weight)| {
            let rewards: Vec<f64> = tuple.iter().map(|&i| REWARDS[i]).collect();
            let log_p = log_softmax_of(&rewards, 1.0 / 0.7);
            -weight * log_p.iter().map(|p| p.exp() * p).sum::<f64>()
        })
        .sum()
}

#[test]
fn expected_losses_over_groups_are_the_enumerated_ones() {
    // Enumerated in float64 by a separate Python program; gradients by central differences there,
    // good to 1e-8 and given with nine decimals.
    type Row = (usize, f64, f64, Option<([f64; 3], [f64; 3])>);
    let expected: [Row; 4] = [
        (
            2,
            0.2730556053087254,
            0.7393136573147968,
            Some((
                [0.004562709, -0.07764784, 0.073085131],
                [0.000953885, -0.059965326, 0.059011441],
            )),
        ),
        (
            3,
            0.37743783757817306,
            1.1536027583104171,
            Some((
                [-0.000630174, -0.1065331, 0.107163274],
                [0.016467309, -0.092030992, 0.075563683],
            )),
        ),
        (
            4,
            0.4313193060903544,
            1.4437018861060629,
            Some((
                [-0.004700543, -0.121585392, 0.126285935],
                [0.028034669, -0.110677327, 0.082642658],
            )),
        ),
        (8, 0.5117200944471602, 2.138422065879582, None),
    ];
    for (k, exo, dpo, gradients) in expected {
        let (exo_found, exo_gradient) = expected_over_groups("exo-rw", k);
        let (dpo_found, dpo_gradient) = expected_over_groups("dpo-rw", k);
        assert_close(exo_found, exo, DOUBLE, "EXO");
        assert_close(dpo_found, dpo, DOUBLE, "DPO");
        if let Some((exo, dpo)) = gradients {
            assert_all_close(&exo_gradient, &exo, 1e-8, "EXO gradient");
            assert_all_close(&dpo_gradient, &dpo, 1e-8, "DPO gradient");
        }
    }
}

#[test]
fn as_k_grows_exo_tends_to_the_reverse_and_dpo_to_the_forward_divergence() {
    // KL(π̂ ‖ π*), its gradient in θ, and KL(π* ‖ π̂), with π̂ ∝ π_sft^(1−β_π) π_θ^β_π and
    // π* ∝ π_sft e^(r/β_r): float64, a separate Python program.
    const REVERSE: f64 = 0.5868912702205007;
    const REVERSE_GRADIENT: [f64; 3] = [-0.022716344, -0.16891786, 0.191634204];
    const FORWARD: f64 = 0.4275279049832082;

    let exo = [8, 16, 32].map(|k| expected_over_groups("exo-rw", k));
    let dpo = [8, 16, 32].map(|k| expected_over_groups("dpo-rw", k).0 - expected_target_entropy(k));
    let off = |values: [f64; 3], limit: f64| values.map(|value| (value - limit).abs());
    for [at_8, at_16, at_32] in [off([exo[0].0, exo[1].0, exo[2].0], REVERSE), off(dpo, FORWARD)] {
        // The error is c/K + O(1/K²): doubling K halves it, within a quarter at these K.
        assert!((0.375..0.625).contains(&(at_16 / at_8)), "{at_8} {at_16}");
        assert!((0.375..0.625).contains(&(at_32 / at_16)), "{at_16} {at_32}");
    }
    // Removing c/K leaves O(1/K²), of the order 1/32².
    assert_close(2.0 * exo[2].0 - exo[1].0, REVERSE, 5e-3, "reverse KL");
    assert_close(2.0 * dpo[2] - dpo[1], FORWARD, 5e-3, "forward KL");
    for (i, limit) in REVERSE_GRADIENT.into_iter().enumerate() {
        assert_close(2.0 * exo[2].1[i] - exo[1].1[i], limit, 5e-3, "gradient of the reverse KL");
    }
}

// --------------------------------------------------------------- a Gaussian and two modes

/// Mean and scale of a Gaussian on a grid, fitted by gradient descent to a mixture of two, with the
/// whole grid as one group: uniform reference, β = 1, rewards = log density of the target.
fn fit_gaussian(name: &str) -> [f64; 2] {
    let grid: Vec<f64> = (0..321).map(|i| -8.0 + 0.05 * i as f64).collect();
    let normal =
        |x: f64, mean: f64, scale: f64| (-0.5 * ((x - mean) / scale).powi(2)).exp() / scale;
    let target: Vec<f64> = (grid.iter())
        .map(|&x| (0.65 * normal(x, -2.0, 1.0) + 0.35 * normal(x, 3.0, 0.8)).ln())
        .collect();
    let objective = ObjectiveConfig { beta_policy: 1.0, beta_reward: 1.0, ..named(name) };
    let objective = objective.init().unwrap();
    let (grid, rewards) = (matrix(&grid, 321), matrix(&target, 321));

    let mut parameters = [0.0, 1.5_f64.ln()]; // mean, log scale
    for _ in 0..1500 {
        let [mean, log_scale] = parameters.map(|value| matrix(&[value], 1).require_grad());
        let deviation = (grid.clone() - mean.clone()) / log_scale.clone().exp(); // [1, 321]
        let policy = log_softmax(deviation.powi_scalar(2) * -0.5, 1); //            [1, 321]
        let log_probs = GroupLogProbs::new(policy.clone(), policy.zeros_like().detach());
        let gradients = objective.loss(&log_probs, &rewards).backward();
        for (parameter, leaf) in parameters.iter_mut().zip([mean, log_scale]) {
            *parameter -= 0.1 * numbers(leaf.grad(&gradients).unwrap())[0];
        }
    }
    [parameters[0], parameters[1].exp()]
}

#[test]
fn exo_seeks_a_mode_where_dpo_covers_both() {
    // Minimisers found on the same grid by a separate program, to three decimals.
    let [mean, scale] = fit_gaussian("exo-rw");
    assert!((mean + 1.972).abs() < 2e-3 && (scale - 1.040).abs() < 2e-3, "EXO: {mean} {scale}");
    let [mean, scale] = fit_gaussian("dpo-rw");
    assert!((mean + 0.255).abs() < 2e-3 && (scale - 2.589).abs() < 2e-3, "DPO: {mean} {scale}");
}

// ------------------------------------------------------------------------------- extremes

#[test]
fn losses_and_gradients_are_finite_at_the_extremes() {
    for dtype in [DType::F32, DType::F64] {
        // f32 has 24 bits: terms of size 1e5 are good to 1e-2; f64 to 1e-11.
        let tolerance = if dtype == DType::F32 { 1e-4 } else { 1e-10 };
        for config in classic_objectives(0.1, 0.1, 1e-3) {
            let objective = config.init().unwrap();
            for k in [2, 3, 17, 64] {
                if objective.check(k).is_err() {
                    continue;
                }
                for z in [0.0, 88.0, 104.0, 746.0, 1e4, -1e4, -746.0, -89.0, -17.0] {
                    for reward in [0.0, 1.0, -1.0, 1e4, -1e4] {
                        let spread =
                            |to: f64| move |i: usize| to * (1.0 - i as f64 / (k - 1) as f64);
                        let h: Vec<f64> = (0..k).map(spread(z / 0.1)).collect();
                        let rewards: Vec<f64> = (0..k).map(spread(reward)).collect();
                        let (loss, gradient) = run(&*objective, &h, &rewards, k, dtype);
                        let (expected, expected_gradient) = closed_form(&config, &h, &rewards);
                        let what = format!("{config:?} {dtype:?} K = {k}, z = {z}, r = {reward}");
                        assert!(loss.is_finite(), "{what}: loss {loss}");
                        assert_close(loss, expected, tolerance, &what);
                        // Measured against the largest term of the gradient, which the K
                        // components share.
                        let scale = 1.0 + (z.abs() + reward.abs() / 0.1) * 0.1;
                        for (found, expected) in gradient.iter().zip(expected_gradient) {
                            let off = (found - expected).abs();
                            assert!(off <= tolerance * scale, "{what}: {found} for {expected}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_group_that_agrees_on_nothing_does_not_poison_its_batch() {
    let h = [1e5, -1e5, 0.5, -0.5];
    for config in all_objectives(0.1, 0.1, 1e-3) {
        let objective = config.init().unwrap();
        if objective.check_log_probs(&h).is_err() {
            continue;
        }
        let (_, gradient) = run(&*objective, &h, &[-1e4, 1e4, 0.1, 0.0], 2, DType::F32);
        let (_, alone) = run(&*objective, &h[2..], &[0.1, 0.0], 2, DType::F32);
        let halves: Vec<f64> = alone.iter().map(|value| value / 2.0).collect(); // mean of two groups
        assert_all_close(&gradient[2..], &halves, 1e-6, &format!("{config:?}")); // f32
    }
}

// ------------------------------------------------------------------ configuration and refusals

fn refusal(config: ObjectiveConfig) -> String {
    config.init().unwrap_err().to_string()
}

#[test]
fn numbers_out_of_range_are_refused_with_a_reason() {
    let base = ObjectiveConfig::default();
    insta::assert_snapshot!(
        refusal(ObjectiveConfig { epsilon: 0.0, ..base.clone() }),
        @"`epsilon` is 0, which makes the reverse KL infinite: the policy gives the rejected completion some probability and the label would give it none; use a small positive value such as 1e-3"
    );
    insta::assert_snapshot!(
        refusal(ObjectiveConfig { epsilon: 0.5, ..base.clone() }),
        @"`epsilon` is the probability that a label is wrong and must lie between 0 and 0.5, exclusive; found 0.5"
    );
    insta::assert_snapshot!(
        refusal(ObjectiveConfig { kl_weight: KlWeight::Number(-1.0), ..named("rloo") }),
        @r#"`kl_weight` must be a number from 0 or "target", found -1"#
    );
    insta::assert_snapshot!(
        refusal(ObjectiveConfig { clip_range: 0.0, ..named("grpo") }),
        @"`clip_range` must be a number above 0 and up to 1, found 0"
    );
    for wrong in [0.0, -0.1, 1e-60, 1e60, f64::NAN, f64::INFINITY] {
        for name in objectives().iter().filter(|it| it.reads.contains(&"beta_policy")) {
            let config = ObjectiveConfig { beta_policy: wrong, ..named(name.name) };
            assert!(refusal(config).starts_with("`beta_policy` must be a positive finite number"));
        }
        for name in rewarded() {
            let config = ObjectiveConfig { beta_reward: wrong, ..named(name) };
            assert!(refusal(config).starts_with("`beta_reward` must be a positive finite number"));
        }
    }
    for wrong in [0.0, -0.1, 0.7, f64::NAN, f64::INFINITY] {
        let config = ObjectiveConfig { epsilon: wrong, ..base.clone() };
        assert!(refusal(config).starts_with("`epsilon` is"));
    }
}

#[test]
fn group_sizes_an_objective_is_not_defined_for_are_refused() {
    let check = |name, k| named(name).init().unwrap().check(k);
    insta::assert_snapshot!(
        check("exo-pref", 4).unwrap_err(),
        @"exo-pref is defined for pairs (chosen, rejected), found a group of 4; use exo-rw with rewards, or make pairs with `exalign pairs`"
    );
    insta::assert_snapshot!(
        check("dpo", 3).unwrap_err(),
        @"dpo is defined for pairs (chosen, rejected), found a group of 3; use dpo-rw with rewards, or make pairs with `exalign pairs`"
    );
    for name in objectives() {
        let takes_one = ["kto", "nll", "ppo"].contains(&name.name);
        assert!(check(name.name, 0).is_err() && check(name.name, 1).is_ok() == takes_one);
        assert!(check(name.name, 2).is_ok());
    }
    assert!(rewarded().into_iter().all(|name| check(name, 64).is_ok()));
}

#[test]
fn the_configuration_reads_its_names_from_the_command_line_and_from_json() {
    let config: ObjectiveConfig =
        serde_json::from_str(r#"{"name": "exo-pref", "labels": "official", "beta_policy": 0.5}"#)
            .unwrap();
    assert_eq!(
        config,
        ObjectiveConfig { labels: Labels::Official, beta_policy: 0.5, ..named("exo-pref") }
    );
    for name in objectives() {
        assert_eq!(name.name.parse::<ObjectiveName>().unwrap(), name);
        assert_eq!(named(name.name).init().unwrap().name(), name.name);
        assert_eq!(serde_json::to_value(name).unwrap(), name.name);
    }
    insta::assert_snapshot!(
        "unheard-of".parse::<ObjectiveName>().unwrap_err(),
        @"unknown objective `unheard-of`; one of exo-pref, exo-rw, dpo, dpo-rw, alpha-pref, alpha-rw, jeffreys-rw, js-rw, dpo-list, cdpo, robust-dpo, dpo-norm, ipo, hinge, nca-pair, apo-zero, apo-down, sppo-hard, kto, simpo, orpo, nll, rloo, grpo, ppo"
    );
    assert!(serde_json::from_str::<ObjectiveConfig>(r#"{"beta": 0.5}"#).is_err());
}

#[test]
fn a_number_that_is_not_finite_is_refused_with_its_field() {
    let objective = named("exo-rw").init().unwrap();
    let error = one_group(&*objective, &[1.0, 2.0], &[1.0, 2.0], &[f64::NAN, 0.0]).unwrap_err();
    assert_eq!(error.to_string(), "`rewards[0]` must be finite, found NaN");
}

// -------------------------------------------------------------------------------- statistics

#[test]
fn statistics_are_means_over_the_groups() {
    let h = matrix(&[1.0, 0.0, -1.0, 0.0, 0.0, 0.0], 3);
    let rewards = matrix(&[0.3, 0.1, 0.2, 0.1, 0.2, 0.3], 3);
    let log_probs = GroupLogProbs::new(h.clone(), h.zeros_like());
    for config in all_objectives(0.5, 0.1, 1e-3) {
        let objective = config.init().unwrap();
        if !objective.needs_rewards()
            || objective
                .log_target(&GroupLogProbs::new(rewards.clone(), rewards.clone()), &rewards)
                .is_none()
        {
            continue;
        }
        let statistics = objective.statistics(&log_probs, &rewards);
        let names: Vec<_> = statistics.iter().map(|it| it.name).collect();
        assert_eq!(
            names,
            [
                "accuracy",
                "reward_margin",
                "rewards/chosen",
                "rewards/rejected",
                "logps/chosen",
                "logps/rejected",
                "length/chosen",
                "length/rejected",
                "entropy_q",
                "kl",
            ]
        );
        // First group: 2 of its 3 pairs are ordered alike; second: nothing but ties in h.
        assert_close(statistics[0].mean, (2.0 / 3.0 + 0.5) / 2.0, DOUBLE, "accuracy");
        // First group: 0.5 · (1 − 0); second: 0.
        assert_close(statistics[1].mean, 0.25, DOUBLE, "reward_margin");
        // β_π h: 0.5 · (1 + 0) / 2 and 0; every completion has one token.
        assert_close(statistics[2].mean, 0.25, DOUBLE, "rewards/chosen");
        assert_close(statistics[3].mean, 0.0, DOUBLE, "rewards/rejected");
        assert_eq!((statistics[6].mean, statistics[7].mean), (1.0, 1.0), "lengths");
        // Best and worst by reward: 1 and 0 of the first group, 0 and 0 of the second.
        assert_close(statistics[4].mean, 0.5, DOUBLE, "logps/chosen");
        assert_close(statistics[5].mean, 0.0, DOUBLE, "logps/rejected");
        if config.name.name == "exo-rw" {
            let loss = scalar(objective.loss(&log_probs, &rewards));
            assert_close(statistics[9].mean, loss, DOUBLE, "kl is the loss");
        }
    }
    let pairs = GroupLogProbs::new(matrix(&[2.0, 1.0], 2), matrix(&[0.0; 2], 2));
    let unread = matrix(&[0.0; 2], 2);
    let exo = named("exo-pref").init().unwrap();
    let statistics = exo.statistics(&pairs, &unread);
    assert_eq!(statistics[0], Statistic::new("accuracy", 1.0));
    assert_close(statistics[1].mean, 0.1, DOUBLE, "reward_margin");
    assert_close(statistics[4].mean, 2.0, DOUBLE, "logps/chosen");
    assert_close(statistics[5].mean, 1.0, DOUBLE, "logps/rejected");
    assert_close(statistics[9].mean, scalar(exo.loss(&pairs, &unread)), DOUBLE, "kl is the loss");
    let dpo = named("dpo").init().unwrap().statistics(&pairs, &unread);
    assert!(dpo.iter().all(|it| it.name != "kl"));
}
