//! Objectives over samples of any distribution, against numbers computed elsewhere, and the two properties that
//! make them one method with reinforcement learning.
//!
//! Provenance: `sampled.json` was computed by a separate Python program from the papers' formulas, with 50 digits
//! or by automatic differentiation in f64, and checked there against the losses of TRL 0.29.1.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor, TensorData};
use exalign::alignment::{
    Alignment, ExoRwConfig, GroupLogProbs, GroupNumbers, ObjectiveConfig, TokenNumbers, evaluate,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{assert_all_close, assert_close, device};

/// Groups, and what objectives make of them.
#[derive(Deserialize)]
struct Case {
    groups: Vec<Group>,
    found: Vec<Found>,
}

/// Log-probs of every token, and rewards.
#[derive(Deserialize)]
struct Group {
    policy: Vec<Vec<f64>>,
    reference: Vec<Vec<f64>>,
    proposal: Vec<Vec<f64>>,
    rewards: Vec<f64>,
}

#[derive(Deserialize)]
struct Found {
    objective: String,
    settings: BTreeMap<String, Value>,
    /// Whether the samples are the policy's own, or those of the group's proposal.
    proposal: String,
    loss: f64,
    #[serde(default)]
    gradient: Vec<Vec<f64>>,
    #[serde(default)]
    token_gradient: Vec<Vec<Vec<f64>>>,
    effective_sample_size: Option<f64>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("sampled.json")).unwrap()
}

fn sums(lists: &[Vec<f64>]) -> Vec<f64> {
    lists.iter().map(|list| list.iter().sum()).collect()
}

impl Found {
    fn objective(&self) -> std::sync::Arc<dyn Alignment> {
        let mut keys = json!(self.settings);
        keys["name"] = json!(self.objective);
        serde_json::from_value::<ObjectiveConfig>(keys).unwrap().init().unwrap()
    }

    fn proposal<'a>(&self, group: &'a Group) -> &'a [Vec<f64>] {
        if self.proposal == "policy" { &group.policy } else { &group.proposal }
    }
}

#[test]
fn losses_and_gradients_are_those_of_the_papers_whatever_the_samples_come_from() {
    for Case { groups, found } in cases() {
        for expected in found {
            let what = format!("{} {:?}", expected.objective, expected.settings);
            let objective = expected.objective();
            let count = groups.len() as f64;
            let mut loss = 0.0;
            for (i, group) in groups.iter().enumerate() {
                let proposal = expected.proposal(group);
                let numbers = GroupNumbers {
                    policy: &sums(&group.policy),
                    reference: &sums(&group.reference),
                    proposal: &sums(proposal),
                    rewards: &group.rewards,
                    tokens: TokenNumbers {
                        policy: &group.policy,
                        reference: &group.reference,
                        proposal,
                        ..TokenNumbers::default()
                    },
                    ..GroupNumbers::default()
                };
                let one = evaluate(&*objective, &numbers).unwrap();
                loss += one.loss / count;
                let scaled = |slopes: &[f64]| -> Vec<f64> {
                    slopes.iter().map(|slope| slope / count).collect()
                };
                if let Some(gradient) = expected.gradient.get(i) {
                    assert_all_close(&scaled(&one.gradient), gradient, 1e-10, &what);
                }
                if let Some(gradient) = expected.token_gradient.get(i) {
                    let ours = scaled(&one.token_gradient.concat());
                    assert_all_close(&ours, &gradient.concat(), 1e-10, &what);
                }
            }
            assert_close(loss, expected.loss, 1e-10, &what);
        }
    }
}

fn rows(lists: &[Vec<f64>]) -> Tensor<2> {
    let shape = [lists.len(), lists[0].len()];
    Tensor::from_data(TensorData::new(lists.concat(), shape), &device())
}

#[test]
fn the_effective_sample_size_is_that_of_the_tempered_policy() {
    for Case { groups, found } in cases() {
        let of = |side: fn(&Group) -> &Vec<Vec<f64>>| -> Vec<Vec<f64>> {
            groups.iter().map(|group| sums(side(group))).collect()
        };
        let rewards: Vec<Vec<f64>> = groups.iter().map(|group| group.rewards.clone()).collect();
        for expected in found {
            let Some(size) = expected.effective_sample_size else { continue };
            let proposal: Vec<Vec<f64>> =
                groups.iter().map(|group| sums(expected.proposal(group))).collect();
            let log_probs = GroupLogProbs {
                proposal: Some(rows(&proposal)),
                ..GroupLogProbs::new(rows(&of(|it| &it.policy)), rows(&of(|it| &it.reference)))
            };
            let statistics = expected.objective().statistics(&log_probs, &rows(&rewards));
            let found = statistics.iter().find(|it| it.name == "effective_sample_size").unwrap();
            assert_close(found.mean, size, 1e-6, &format!("{:?}", expected.settings));
        }
    }
}

/// log softmax.
fn normalised(logits: &[f64]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits.iter().map(|logit| logit - sum.ln()).collect()
}

const POLICY: [f64; 5] = [0.3, -0.4, 1.1, 0.0, -1.2];
const REFERENCE: [f64; 5] = [0.8, 0.1, -0.5, 0.4, -0.2];
const REWARDS: [f64; 5] = [0.2, 1.0, 0.7, -0.6, 0.1];

/// Every way to draw `k` completions of five as counts, with its probability under `log_mu`.
fn draws(k: usize, log_mu: &[f64]) -> Vec<(Vec<usize>, f64)> {
    let mut all: Vec<(Vec<usize>, f64)> = vec![(Vec::new(), 0.0)];
    for (index, log_mu) in log_mu.iter().enumerate() {
        let is_last = index + 1 == POLICY.len();
        all = all
            .into_iter()
            .flat_map(|(drawn, log_weight)| {
                let left = k - drawn.len();
                let counts = if is_last { left..=left } else { 0..=left };
                counts.map(move |count| {
                    let mut drawn = drawn.clone();
                    drawn.extend(std::iter::repeat_n(index, count));
                    let factorial: f64 = (1..=count).map(|it| (it as f64).ln()).sum();
                    (drawn, log_weight + count as f64 * log_mu - factorial)
                })
            })
            .collect();
    }
    let factorial: f64 = (1..=k).map(|it| (it as f64).ln()).sum();
    all.into_iter().map(|(drawn, weight)| (drawn, (weight + factorial).exp())).collect()
}

/// The expected gradient of an objective by the policy's logits over groups of `k` draws from μ, exactly.
fn expected_gradient(objective: &dyn Alignment, k: usize, log_mu: &[f64]) -> Vec<f64> {
    let (policy, reference) = (normalised(&POLICY), normalised(&REFERENCE));
    let (drawn, probabilities): (Vec<Vec<usize>>, Vec<f64>) = draws(k, log_mu).into_iter().unzip();
    let table = |all: &[f64]| {
        let values: Vec<f64> = drawn.iter().flatten().map(|&it| all[it]).collect();
        let data = TensorData::new(values, [drawn.len(), k]);
        Tensor::<2>::from_data(data, (&device(), DType::F64))
    };
    // Every draw is a group of one batch.
    let of_policy = table(&policy).require_grad();
    let log_probs = GroupLogProbs {
        proposal: Some(table(log_mu)),
        ..GroupLogProbs::new(of_policy.clone(), table(&reference))
    };
    let loss = objective.loss(&log_probs, &table(&REWARDS));
    let slopes: Vec<f64> =
        of_policy.grad(&loss.backward()).unwrap().into_data().iter::<f64>().collect();
    let mut by_log_prob = [0.0; 5];
    for (group, probability) in probabilities.iter().enumerate() {
        for (place, &it) in drawn[group].iter().enumerate() {
            // The loss is a mean over the groups.
            by_log_prob[it] += probability * slopes[group * k + place] * drawn.len() as f64;
        }
    }
    // log π_i = logit_i − log Σ exp: each slope loses its share of the sum.
    let sum: f64 = by_log_prob.iter().sum();
    by_log_prob.iter().zip(&policy).map(|(slope, log)| slope - log.exp() * sum).collect()
}

/// A divergence between q and p, given by their logs.
type Loss = fn(&[f64], &[f64]) -> f64;

/// The gradient of a divergence between q ∝ π_sft (π_θ/π_sft)^β_π and p ∝ π_sft exp(r/β_r) by the logits, by
/// central differences.
fn limit(beta_policy: f64, beta_reward: f64, loss: Loss) -> Vec<f64> {
    let reference = normalised(&REFERENCE);
    let at = |logits: &[f64]| {
        let policy = normalised(logits);
        let q: Vec<f64> =
            (0..5).map(|i| reference[i] + beta_policy * (policy[i] - reference[i])).collect();
        let p: Vec<f64> = (0..5).map(|i| reference[i] + REWARDS[i] / beta_reward).collect();
        loss(&normalised(&q), &normalised(&p))
    };
    let slope = |i: usize| {
        let moved = |by: f64| {
            let mut logits = POLICY;
            logits[i] += by;
            at(&logits)
        };
        (moved(1e-5) - moved(-1e-5)) / 2e-5
    };
    (0..5).map(slope).collect()
}

fn distance(one: &[f64], two: &[f64]) -> f64 {
    one.iter().zip(two).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// With more draws the expected gradient tends to that of the reverse (forward) KL, whatever was drawn from. What
/// is missing halves with each doubling of K, so that twice the one less the other is nearer by an order.
#[test]
fn the_expected_gradient_tends_to_that_of_the_divergence_whatever_the_samples_come_from() {
    let reverse = |q: &[f64], p: &[f64]| q.iter().zip(p).map(|(q, p)| q.exp() * (q - p)).sum();
    let forward = |q: &[f64], p: &[f64]| -q.iter().zip(p).map(|(q, p)| p.exp() * q).sum::<f64>();
    let other = normalised(&[-0.5, 0.2, 0.3, 0.9, 0.6]);
    let proposals = [normalised(&POLICY), normalised(&REFERENCE), other];
    let losses: [(&str, Loss); 2] = [("exo-rw", reverse), ("dpo-rw", forward)];
    for (name, loss) in losses {
        for (beta_policy, beta_reward) in [(1.0, 0.5), (0.5, 0.5)] {
            let name = name.parse().unwrap();
            let config =
                ObjectiveConfig { name, beta_policy, beta_reward, ..ObjectiveConfig::default() };
            let objective = config.init().unwrap();
            let goal = limit(beta_policy, beta_reward, loss);
            for log_mu in &proposals {
                let found = |k: usize| expected_gradient(&*objective, k, log_mu);
                let (few, many) = (found(16), found(32));
                let size = distance(&goal, &[0.0; 5]);
                let extrapolated: Vec<f64> =
                    few.iter().zip(&many).map(|(few, many)| 2.0 * many - few).collect();
                let [of_few, of_many, of_both] =
                    [&few, &many, &extrapolated].map(|it| distance(it, &goal) / size);
                let what =
                    format!("{name} β_π {beta_policy} μ {log_mu:?}: {of_few} {of_many} {of_both}");
                assert!(of_many < 0.6 * of_few && of_many < 0.12, "{what}");
                assert!(of_both < 0.6 * of_many, "{what}");
            }
        }
    }
}

/// On the policy's own samples, with β_π = 1, EXO with rewards is REINFORCE with a leave-one-out baseline.
#[test]
fn exo_on_its_own_samples_is_rloo() {
    let beta = 0.3;
    let exo = ExoRwConfig { beta_policy: 1.0, beta_reward: beta }.init().unwrap();
    let rloo = ObjectiveConfig {
        name: "rloo".parse().unwrap(),
        beta_policy: 1.0,
        beta_reward: beta,
        ..ObjectiveConfig::default()
    };
    let rloo = rloo.init().unwrap();
    for Case { groups, .. } in cases() {
        for group in &groups {
            let k = group.rewards.len() as f64;
            let numbers = GroupNumbers {
                policy: &sums(&group.policy),
                reference: &sums(&group.reference),
                proposal: &sums(&group.policy),
                rewards: &group.rewards,
                ..GroupNumbers::default()
            };
            let of_exo = evaluate(&exo, &numbers).unwrap().gradient;
            let of_rloo = evaluate(&*rloo, &numbers).unwrap().gradient;
            let scaled: Vec<f64> =
                of_rloo.iter().map(|slope| slope * (k - 1.0) / (k * beta)).collect();
            assert_all_close(&of_exo, &scaled, 1e-12, "EXO and RLOO");
        }
    }
}
