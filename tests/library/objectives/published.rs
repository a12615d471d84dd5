//! The objectives of other papers and libraries, against numbers computed elsewhere.
//!
//! Provenance: `published.json` was computed with 50 digits from the papers' formulas by a separate Python
//! program, with gradients derived by hand, and checked there against TRL 0.29.1's own loss functions and
//! automatic differentiation (largest difference 1e-12).

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use exalign::alignment::{GroupLogProbs, GroupNumbers, ObjectiveConfig, evaluate, objectives};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{assert_all_close, assert_close, device, numbers};

/// One group, and what an objective makes of it.
#[derive(Deserialize)]
struct Case {
    objective: String,
    settings: BTreeMap<String, Value>,
    policy: Vec<f64>,
    #[serde(default)]
    reference: Vec<f64>,
    #[serde(default)]
    rewards: Vec<f64>,
    num_tokens: Vec<f64>,
    #[serde(default)]
    kl: f64,
    loss: f64,
    gradient: Vec<f64>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("published.json")).unwrap()
}

impl Case {
    fn config(&self) -> ObjectiveConfig {
        let mut keys = json!(self.settings);
        keys["name"] = json!(self.objective);
        serde_json::from_value(keys).unwrap()
    }

    fn group(&self) -> GroupNumbers<'_> {
        GroupNumbers {
            policy: &self.policy,
            reference: &self.reference,
            rewards: &self.rewards,
            num_tokens: &self.num_tokens,
            mismatched_kl: self.kl,
            ..GroupNumbers::default()
        }
    }
}

#[test]
fn losses_and_gradients_are_the_published_ones() {
    for case in cases() {
        let objective = case.config().init().unwrap();
        let found = evaluate(&*objective, &case.group()).unwrap();
        let what = format!("{} {:?} {:?}", case.objective, case.settings, case.policy);
        assert_close(found.loss, case.loss, 1e-11, &what);
        assert_all_close(&found.gradient, &case.gradient, 1e-11, &what);
    }
}

#[test]
fn every_objective_has_published_numbers() {
    let cases = cases();
    for name in objectives() {
        let count = cases.iter().filter(|case| case.objective == name.name).count();
        let elsewhere = ["exo-pref", "exo-rw", "dpo", "dpo-rw", "nll", "rloo", "grpo", "ppo"];
        let is_elsewhere = elsewhere.contains(&name.name);
        assert!(is_elsewhere || count >= 2, "{}: {count} cases", name.name);
    }
}

#[test]
fn what_an_objective_needs_is_missed_by_its_name_and_what_it_does_not_need_is_not() {
    for case in cases() {
        let objective = case.config().init().unwrap();
        let without = |field: &str| {
            let mut group = case.group();
            match field {
                "reference" => group.reference = &[],
                "rewards" => group.rewards = &[],
                _ => group.num_tokens = &[],
            }
            evaluate(&*objective, &group).map(|found| found.loss)
        };
        for (field, is_needed) in [
            ("reference", objective.needs_reference()),
            ("rewards", objective.needs_rewards()),
            ("num_tokens", objective.needs_num_tokens()),
        ] {
            match without(field) {
                Err(error) => {
                    assert!(is_needed, "{}: {field}: {error}", case.objective);
                    assert!(error.to_string().contains(&format!("`{field}`")), "{error}");
                }
                // Rewards tell which completion is the best, where they are there.
                Ok(_) if field == "rewards" && case.objective.contains("nll") => {}
                Ok(loss) => {
                    assert!(!is_needed, "{}: {field}", case.objective);
                    assert_close(loss, case.loss, 1e-11, &format!("{} {field}", case.objective));
                }
            }
        }
    }
}

#[test]
fn the_ends_of_alpha_are_exo_and_dpo() {
    let (policy, reference) = ([-30.0, -41.5, -35.25, -33.0], [-31.0, -40.0, -36.0, -33.5]);
    let rewards = [0.3, -1.0, 0.25, 0.3];
    let group = |k: usize| GroupNumbers {
        policy: &policy[..k],
        reference: &reference[..k],
        rewards: &rewards[..k],
        ..GroupNumbers::default()
    };
    let found = |name: &str, alpha: f64, epsilon: f64, k: usize| {
        let name = name.parse().unwrap();
        let config = ObjectiveConfig { name, alpha, epsilon, ..ObjectiveConfig::default() };
        evaluate(&*config.init().unwrap(), &group(k)).unwrap()
    };
    for k in 2..=4 {
        assert_eq!(found("alpha-rw", 0.0, 1e-3, k), found("exo-rw", 0.5, 1e-3, k));
        assert_eq!(found("alpha-rw", 1.0, 1e-3, k), found("dpo-rw", 0.5, 1e-3, k));
    }
    let (ours, exo) = (found("alpha-pref", 0.0, 1e-3, 2), found("exo-pref", 0.5, 1e-3, 2));
    assert_close(ours.loss, exo.loss, 1e-14, "exo-pref");
    assert_all_close(&ours.gradient, &exo.gradient, 1e-14, "exo-pref");
    let (ours, dpo) = (found("alpha-pref", 1.0, 0.0, 2), found("dpo", 0.5, 1e-3, 2));
    assert_close(ours.loss, dpo.loss, 1e-12, "dpo");
    assert_all_close(&ours.gradient, &dpo.gradient, 1e-12, "dpo");
    // Near the ends the divergence is that at the end, but for the entropy in dpo-rw's loss.
    let (near, exo) = (found("alpha-rw", 1e-9, 1e-3, 4), found("exo-rw", 0.5, 1e-3, 4));
    assert_close(near.loss, exo.loss, 1e-7, "near EXO");
    assert_all_close(&near.gradient, &exo.gradient, 1e-7, "near EXO");
    let (near, dpo) = (found("alpha-rw", 1.0 - 1e-9, 1e-3, 4), found("dpo-rw", 0.5, 1e-3, 4));
    assert_all_close(&near.gradient, &dpo.gradient, 1e-7, "near DPO");
}

#[test]
fn numbers_out_of_their_range_are_refused_by_their_key() {
    let refusal = |set: &str, name: &str| {
        let (key, value) = set.split_once('=').unwrap();
        let value: f64 = value.parse().unwrap();
        let config: ObjectiveConfig =
            serde_json::from_value(json!({ "name": name, key: value })).unwrap();
        config.init().unwrap_err().to_string()
    };
    for (set, name) in [
        ("alpha=1.5", "alpha-rw"),
        ("alpha=-0.1", "alpha-pref"),
        ("epsilon=0.5", "alpha-pref"),
        ("label_smoothing=0.5", "robust-dpo"),
        ("label_smoothing=-0.1", "cdpo"),
        ("gamma=-1", "simpo"),
        ("desirable_weight=0", "kto"),
        ("undesirable_weight=-1", "kto"),
        ("nll_weight=-1", "exo-rw"),
    ] {
        let found = refusal(set, name);
        let key = set.split_once('=').unwrap().0;
        assert!(found.starts_with(&format!("`{key}`")), "{set}: {found}");
    }
    for name in ["exo-pref+", "0*dpo", "-1*dpo", "dpo*2", "exo-pref+other", "x*dpo"] {
        let config: Result<ObjectiveConfig, _> = serde_json::from_value(json!({ "name": name }));
        assert!(config.is_err(), "{name}");
    }
}

#[test]
fn a_completion_of_probability_one_leaves_orpo_finite() {
    let objective =
        "orpo".parse().map(|name| ObjectiveConfig { name, ..ObjectiveConfig::default() });
    let objective = objective.unwrap().init().unwrap();
    for pair in [[0.0f32, -3.0], [-3.0, 0.0], [0.0, 0.0]] {
        let policy = Tensor::<2>::from_data([pair], &device()).require_grad();
        let log_probs = GroupLogProbs::new(policy.clone(), policy.zeros_like().detach());
        let loss = objective.loss(&log_probs, &policy.zeros_like().detach());
        let gradient = policy.grad(&loss.backward()).unwrap();
        let found = [numbers(loss), numbers(gradient)].concat();
        assert!(found.iter().all(|it| it.is_finite()), "{pair:?}: {found:?}");
    }
}

#[test]
fn a_sum_refuses_what_one_of_its_terms_refuses() {
    for (name, fewest, most) in
        [("exo-pref+0.1*nll", 2, 2), ("exo-rw+nll", 2, 64), ("kto+nll", 1, 64)]
    {
        let config = ObjectiveConfig { name: name.parse().unwrap(), ..ObjectiveConfig::default() };
        let objective = config.init().unwrap();
        assert!(objective.check(fewest - 1).is_err() && objective.check(fewest).is_ok(), "{name}");
        assert!(
            objective.check(most).is_ok() && objective.check(3).is_ok() == (most > 2),
            "{name}"
        );
    }
    let config = ObjectiveConfig { nll_weight: 0.5, ..ObjectiveConfig::default() };
    assert!(config.init().unwrap().check(3).is_err(), "exo-pref with a weight is on pairs still");
}
