//! PPO against numbers computed elsewhere: credit, loss, both gradients, and the weight that follows the KL.
//!
//! Provenance: `ppo.json` was computed by a separate Python program from the papers' formulas in f64, its
//! gradients by automatic differentiation and checked by differences, its whitening checked against TRL 0.29.1.

use burn::tensor::{DType, Tensor, TensorData};
use exalign::alignment::{
    Alignment, Credit, Drawn, Gae, GroupLogProbs, GroupNumbers, ObjectiveConfig, TokenLogProbs,
    TokenNumbers, TokenValues, evaluate,
};
use serde::Deserialize;
use serde_json::json;

use super::{assert_all_close, assert_close, device, numbers, scalar};

#[derive(Deserialize)]
struct Numbers {
    adaptive_kl: Vec<Adaptive>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Adaptive {
    kl_coef: f64,
    target: f64,
    horizon: f64,
    episodes: usize,
    kl: Vec<f64>,
    coefficients: Vec<f64>,
}

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

/// `[group][completion][token]`.
type Tokens = Vec<Vec<Vec<f64>>>;

#[derive(Deserialize)]
struct Found {
    kl_weight: f64,
    gae_lambda: f64,
    clip_range: f64,
    value_clip_range: f64,
    value_weight: f64,
    /// Whether the samples are the policy's own, or those of the group's proposal.
    proposal: String,
    values: Tokens,
    new_values: Tokens,
    raw_advantages: Tokens,
    returns: Tokens,
    advantages: Tokens,
    value_loss: f64,
    loss: f64,
    gradient: Tokens,
    gradient_values: Tokens,
}

fn all() -> Numbers {
    serde_json::from_str(include_str!("ppo.json")).unwrap()
}

impl Found {
    fn objective(&self) -> std::sync::Arc<dyn Alignment> {
        let keys = json!({
            "name": "ppo", "kl_weight": self.kl_weight, "gae_lambda": self.gae_lambda,
            "clip_range": self.clip_range, "value_clip_range": self.value_clip_range,
            "value_weight": self.value_weight,
        });
        serde_json::from_value::<ObjectiveConfig>(keys).unwrap().init().unwrap()
    }

    fn proposal<'a>(&self, group: &'a Group) -> &'a [Vec<f64>] {
        if self.proposal == "policy" { &group.policy } else { &group.proposal }
    }

    /// All completions as they were drawn.
    fn drawn(&self, groups: &[Group]) -> Vec<Drawn> {
        let completion = |(group, values): (&Group, &Vec<Vec<f64>>)| -> Vec<Drawn> {
            let proposal = self.proposal(group);
            let of = |i: usize| {
                let pairs = proposal[i].iter().zip(&group.reference[i]);
                let log_ratios = pairs.map(|(ours, reference)| ours - reference).collect();
                Drawn { log_ratios, values: values[i].clone(), reward: group.rewards[i] }
            };
            (0..proposal.len()).map(of).collect()
        };
        groups.iter().zip(&self.values).flat_map(completion).collect()
    }
}

/// `[groups, K, longest]`, zeros past the end of a completion.
fn table<'a>(groups: impl IntoIterator<Item = &'a [Vec<f64>]>) -> Tensor<3> {
    let groups: Vec<&[Vec<f64>]> = groups.into_iter().collect();
    let longest = groups.iter().copied().flatten().map(Vec::len).max().unwrap();
    let padded = |list: &Vec<f64>| {
        let mut list = list.clone();
        list.resize(longest, 0.0);
        list
    };
    let values: Vec<f64> = groups.iter().copied().flatten().flat_map(padded).collect();
    let shape = [groups.len(), groups[0].len(), longest];
    Tensor::from_data(TensorData::new(values, shape), (&device(), DType::F64))
}

fn ones(group: &Group) -> Vec<Vec<f64>> {
    group.policy.iter().map(|list| vec![1.0; list.len()]).collect()
}

/// Groups of a case as a batch.
fn batch(
    found: &Found,
    groups: &[Group],
    credits: &[Credit],
    range: std::ops::Range<usize>,
) -> GroupLogProbs {
    let k = groups[0].policy.len();
    let part = &groups[range.clone()];
    let of = |side: &dyn Fn(&Group) -> Vec<Vec<f64>>| {
        let lists: Vec<Vec<Vec<f64>>> = part.iter().map(side).collect();
        table(lists.iter().map(Vec::as_slice))
    };
    let credited = |side: fn(&Credit) -> &Vec<f64>| {
        let lists: Vec<Vec<f64>> = credits.iter().map(|it| side(it).clone()).collect();
        table(lists.chunks(k).skip(range.start).take(range.len()))
    };
    let of_range = |tokens: &Tokens| table(tokens[range.clone()].iter().map(Vec::as_slice));
    let count: usize = groups.iter().flat_map(|group| &group.policy).map(Vec::len).sum();
    let policy = of(&|it| it.policy.clone()).require_grad();
    let reference = of(&|it| it.reference.clone());
    let tokens = TokenLogProbs {
        policy: policy.clone(),
        reference: reference.clone(),
        proposal: of(&|it| found.proposal(it).to_vec()),
        mask: of(&ones),
        values: Some(TokenValues {
            new: of_range(&found.new_values).require_grad(),
            old: of_range(&found.values),
            advantages: credited(|it| &it.advantages),
            returns: credited(|it| &it.returns),
            tokens_per_group: count as f64 / groups.len() as f64,
        }),
    };
    let sums = |table: Tensor<3>| table.sum_dim(2).squeeze_dim(2);
    GroupLogProbs { tokens: Some(tokens), ..GroupLogProbs::new(sums(policy), sums(reference)) }
}

/// Loss and both gradients of a batch times its share of a step, the gradients of real tokens alone.
fn loss(objective: &dyn Alignment, log_probs: &GroupLogProbs, share: f64) -> [Vec<f64>; 3] {
    let loss = objective.loss(log_probs, &log_probs.policy.zeros_like()) * share;
    let gradients = loss.backward();
    let tokens = log_probs.tokens.as_ref().unwrap();
    let mask = numbers(tokens.mask.clone());
    let real = |tracked: &Tensor<3>| {
        let slopes = numbers(tracked.grad(&gradients).unwrap());
        assert!(slopes.iter().zip(&mask).all(|(slope, mask)| *mask == 1.0 || *slope == 0.0));
        slopes
            .iter()
            .zip(&mask)
            .filter(|(_, mask)| **mask == 1.0)
            .map(|(slope, _)| *slope)
            .collect()
    };
    let values = tokens.values.as_ref().unwrap();
    [vec![scalar(loss)], real(&tokens.policy), real(&values.new)]
}

fn flat(tokens: &Tokens) -> Vec<f64> {
    tokens.concat().concat()
}

#[test]
fn credit_loss_and_gradients_are_those_of_the_papers() {
    for Case { groups, found } in all().cases {
        for expected in found {
            let objective = expected.objective();
            let gae = objective.gae().unwrap();
            let drawn = expected.drawn(&groups);
            let raw: Vec<f64> =
                drawn.iter().flat_map(|it| gae.unwhitened(gae.kl_weight, it).advantages).collect();
            assert_all_close(&raw, &flat(&expected.raw_advantages), 1e-12, "raw advantages");
            let credits = gae.credit(gae.kl_weight, &drawn);
            let of = |side: fn(&Credit) -> &Vec<f64>| -> Vec<f64> {
                credits.iter().flat_map(side).copied().collect()
            };
            let advantages = of(|it| &it.advantages);
            assert_all_close(&advantages, &flat(&expected.advantages), 1e-10, "advantages");
            assert_all_close(&of(|it| &it.returns), &flat(&expected.returns), 1e-12, "returns");

            let whole = batch(&expected, &groups, &credits, 0..groups.len());
            let [found, by_policy, by_values] = loss(&*objective, &whole, 1.0);
            assert_close(found[0], expected.loss, 1e-10, "loss");
            assert_all_close(&by_policy, &flat(&expected.gradient), 1e-10, "gradient");
            assert_all_close(&by_values, &flat(&expected.gradient_values), 1e-10, "by values");
            let k = groups[0].rewards.len();
            let rewards: Vec<f64> = groups.iter().flat_map(|it| it.rewards.clone()).collect();
            let figures = objective.statistics(&whole, &super::matrix(&rewards, k));
            let figure = figures.iter().find(|it| it.name == "value_loss").unwrap();
            assert_close(figure.mean, expected.value_loss, 1e-10, "value_loss");
        }
    }
}

/// Completions of different lengths: a mean over tokens of parts would depend on the cut.
#[test]
fn any_split_of_a_step_has_the_same_loss_and_gradients() {
    for Case { groups, found } in all().cases {
        for expected in found {
            let objective = expected.objective();
            let gae = objective.gae().unwrap();
            let credits = gae.credit(gae.kl_weight, &expected.drawn(&groups));
            let count = groups.len();
            let whole = batch(&expected, &groups, &credits, 0..count);
            let whole = loss(&*objective, &whole, 1.0);
            for sizes in [&[1, 1, 1][..], &[2, 1], &[1, 2]] {
                let mut first = 0;
                let mut parts = [vec![0.0], Vec::new(), Vec::new()];
                for size in sizes {
                    let part = batch(&expected, &groups, &credits, first..first + size);
                    let share = *size as f64 / count as f64;
                    let [one, by_policy, by_values] = loss(&*objective, &part, share);
                    parts[0][0] += one[0];
                    parts[1].extend(by_policy);
                    parts[2].extend(by_values);
                    first += size;
                }
                for (parts, whole) in parts.iter().zip(&whole) {
                    assert_all_close(parts, whole, 1e-12, &format!("{sizes:?}"));
                }
            }
        }
    }
}

#[test]
fn a_group_alone_is_a_step_and_a_round_of_its_own() {
    for Case { groups, found } in all().cases {
        for mut expected in found {
            let objective = expected.objective();
            let gae = objective.gae().unwrap();
            let group = &groups[..1];
            expected.values.truncate(1);
            let credits = gae.credit(gae.kl_weight, &expected.drawn(group));
            let [one, by_policy, by_values] =
                loss(&*objective, &batch(&expected, group, &credits, 0..1), 1.0);
            let sums = |lists: &[Vec<f64>]| -> Vec<f64> {
                lists.iter().map(|list| list.iter().sum()).collect()
            };
            let proposal = expected.proposal(&group[0]);
            let given = GroupNumbers {
                policy: &sums(&group[0].policy),
                reference: &sums(&group[0].reference),
                proposal: &sums(proposal),
                rewards: &group[0].rewards,
                tokens: TokenNumbers {
                    policy: &group[0].policy,
                    reference: &group[0].reference,
                    proposal,
                    values: &expected.values[0],
                    new_values: &expected.new_values[0],
                },
                ..GroupNumbers::default()
            };
            let found = evaluate(&*objective, &given).unwrap();
            assert_close(found.loss, one[0], 1e-12, "loss");
            assert_all_close(&found.token_gradient.concat(), &by_policy, 1e-12, "gradient");
            assert_all_close(&found.value_gradient.concat(), &by_values, 1e-12, "by values");
            let tokens = TokenNumbers { values: &[], ..given.tokens };
            let missing = evaluate(&*objective, &GroupNumbers { tokens, ..given }).unwrap_err();
            assert!(missing.to_string().starts_with("`values`: ppo reads"), "{missing}");
        }
    }
}

const WHOLE: Gae = Gae { lambda: 1.0, kl_weight: 0.0, kl_target: 0.0, kl_horizon: 1.0 };

#[test]
fn without_values_and_kl_every_token_is_credited_with_the_reward() {
    for (length, reward) in [(1, 0.7), (5, -1.25), (9, 3.0)] {
        let drawn = Drawn { log_ratios: vec![0.3; length], values: vec![0.0; length], reward };
        let credit = WHOLE.unwhitened(0.0, &drawn);
        assert_eq!(credit.advantages, vec![reward; length]);
        assert_eq!(credit.returns, credit.advantages);
    }
    // A token that the policy likes more than the reference costs.
    let drawn = Drawn { log_ratios: vec![0.0, 2.0, 0.0], values: vec![0.0; 3], reward: 1.0 };
    assert_eq!(WHOLE.unwhitened(0.25, &drawn).advantages, [0.5, 0.5, 1.0]);
}

#[test]
fn one_token_in_all_and_equal_ones_are_credited_with_nothing() {
    let drawn = |count: usize| {
        let one = Drawn { log_ratios: vec![0.1], values: vec![0.5], reward: 2.0 };
        WHOLE.credit(0.1, &vec![one; count])
    };
    for count in [1, 4] {
        for Credit { advantages, returns } in drawn(count) {
            assert_eq!(advantages, [0.0]);
            assert_close(returns[0], 1.99, 1e-12, "returns are not whitened");
        }
    }
    assert!(WHOLE.credit(0.1, &[]).is_empty());
}

#[test]
fn the_weight_of_the_kl_follows_the_target_as_published() {
    for case in all().adaptive_kl {
        let gae = Gae { kl_target: case.target, kl_horizon: case.horizon, ..WHOLE };
        let mut kl_weight = case.kl_coef;
        for (kl, expected) in case.kl.iter().zip(&case.coefficients) {
            kl_weight = gae.next_kl_weight(kl_weight, *kl, case.episodes);
            assert_close(kl_weight, *expected, 1e-12, &format!("after {kl}"));
        }
        assert_eq!(WHOLE.next_kl_weight(case.kl_coef, 9.0, case.episodes), case.kl_coef);
    }
    // A horizon of less than a round: a fifth less each time, never below 0.
    let gae = Gae { kl_target: 1.0, kl_horizon: 2.0, ..WHOLE };
    assert_close(gae.next_kl_weight(1.0, 0.0, 1000), 0.8, 1e-12, "a short horizon");
}

#[test]
fn settings_out_of_their_range_are_refused_by_name() {
    for (key, wrong) in [
        ("gae_lambda", json!(1.5)),
        ("gae_lambda", json!(-0.1)),
        ("value_weight", json!(-1.0)),
        ("value_clip_range", json!(0.0)),
        ("kl_target", json!(-6.0)),
        ("kl_horizon", json!(0.0)),
        ("clip_range", json!(0.0)),
    ] {
        let mut keys = json!({ "name": "ppo" });
        keys[key] = wrong;
        let config: ObjectiveConfig = serde_json::from_value(keys).unwrap();
        let refusal = config.init().unwrap_err().to_string();
        assert!(refusal.starts_with(&format!("`{key}` must be ")), "{refusal}");
    }
    let keys = json!({ "name": "ppo", "kl_weight": 0.0, "kl_target": 6.0 });
    let config: ObjectiveConfig = serde_json::from_value(keys).unwrap();
    insta::assert_snapshot!(
        config.init().unwrap_err(),
        @"`kl_weight` must be above 0 to begin with where there is a kl_target, found 0"
    );
}
