//! Every figure that a command prints, against numbers computed by hand: on models whose next token
//! depends on the last one alone.

mod arithmetic;
mod files;
mod run;
mod stages;
mod training;

use crate::support::bigram::{END, V, after_any, language_model, log_prob, reward_model};
use crate::support::{Workplace, json_lines, metrics};
use serde_json::{Value, json};

const REWARDS: [f32; V] = [-1.0, -1.0, -1.0, 1.5, 0.5, -1.0, -1.0, -1.0];

/// Tokens 1 to 6, not all alike.
const POLICY: [f32; V] = [-9.0, 0.0, 1.0, 2.0, 0.5, -1.0, 0.25, -9.0];
const REFERENCE: [f32; V] = [-9.0, 1.0, 0.0, 0.5, 1.5, 0.0, -0.5, -9.0];

pub fn place() -> Workplace {
    let place = Workplace::new();
    language_model(&place.path("policy"), after_any(POLICY));
    language_model(&place.path("reference"), after_any(REFERENCE));
    reward_model(&place.path("rewarder"), REWARDS);
    place.lines("prompts.jsonl", (0..6).map(|it| json!({ "prompt_ids": [it, 2] })));
    place
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[track_caller]
pub fn close(found: &Value, expected: f64) {
    near(found, expected, 1e-5);
}

#[track_caller]
fn near(found: &Value, expected: f64, tolerance: f64) {
    let found = found.as_f64().unwrap();
    assert!((found - expected).abs() <= tolerance, "expected {expected}, found {found}");
}

#[test]
fn a_policy_that_is_known_to_be_better_earns_its_reward_at_its_kl() {
    let place = place();
    // Always token 3, which the reference gives one in eight.
    let mut always = [0.0; V];
    always[3] = 60.0;
    language_model(&place.path("policy"), after_any(always));
    language_model(&place.path("reference"), after_any([0.0; V]));
    let evaluation = parsed(&place.succeeds(
        "evaluate --policy policy --reference reference --reward rewarder --data prompts.jsonl \
         --completions 2 --max-new-tokens 2 --out drawn.jsonl",
    ));
    for end in ["mean", "low", "high"] {
        close(&evaluation["reward"][end], 1.5);
        close(&evaluation["kl"][end], 2.0 * 8f64.ln());
        // exp(−l) − 1 + l
        close(&evaluation["kl_low_variance"][end], 1.0 / 64.0 - 1.0 + 2.0 * 8f64.ln());
        close(&evaluation["kl_rao_blackwell"][end], 2.0 * 8f64.ln());
    }
    assert_eq!((&evaluation["num_prompts"], &evaluation["num_samples"]), (&json!(6), &json!(12)));
    for group in json_lines(&place.path("drawn.jsonl")) {
        assert_eq!(group["completion_ids"], json!([[3, 3], [3, 3]]));
        (0..2).for_each(|it| close(&group["rewards"][it], 1.5));
    }
}

#[test]
fn a_kl_is_that_at_the_temperature_of_both_models() {
    let place = place();
    let evaluation = parsed(&place.succeeds(
        "evaluate --policy policy --reference reference --reward rewarder --data prompts.jsonl \
         --completions 8 --max-new-tokens 3 --temperature 0.8 --out drawn.jsonl",
    ));
    let drawn = json_lines(&place.path("drawn.jsonl"));
    let at = |policy: f64, reference: f64| -> f64 {
        let ratio = |ids: &Value| -> f64 {
            let ids = ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32);
            let of = |id| log_prob(&POLICY, id, policy) - log_prob(&REFERENCE, id, reference);
            ids.map(of).sum()
        };
        let ratios =
            drawn.iter().flat_map(|it| it["completion_ids"].as_array().unwrap()).map(ratio);
        ratios.sum::<f64>() / 48.0
    };
    close(&evaluation["kl"]["mean"], at(0.8, 0.8));
    // After any token the next ones are distributed alike: a completion's divergence is that of one token times its
    // tokens.
    let next = |temperature: f64| -> f64 {
        let of = |table, id| log_prob(table, id, temperature);
        let term = |id| of(&POLICY, id).exp() * (of(&POLICY, id) - of(&REFERENCE, id));
        (0..V as u32).map(term).sum()
    };
    let tokens: usize = drawn
        .iter()
        .flat_map(|it| it["completion_ids"].as_array().unwrap())
        .map(|ids| ids.as_array().unwrap().len())
        .sum();
    close(&evaluation["kl_rao_blackwell"]["mean"], next(0.8) * tokens as f64 / 48.0);
    assert!((next(1.0) - next(0.8)).abs() > 0.01);
    for (policy, reference) in [(1.0, 0.8), (0.8, 1.0), (1.0, 1.0)] {
        assert!((at(policy, reference) - at(0.8, 0.8)).abs() > 0.01);
    }
    assert!(at(0.8, 0.8) > 0.1);
    // Another command's numbers of the same completions.
    let score = |model: &str| -> f64 {
        let printed =
            place.succeeds(&format!("score --model {model} --data drawn.jsonl --temperature 0.8"));
        let sums = printed.lines().map(parsed);
        let sums = sums.flat_map(|it| it["log_probs"].as_array().unwrap().clone());
        sums.map(|it| it.as_f64().unwrap()).sum()
    };
    close(&evaluation["kl"]["mean"], (score("policy") - score("reference")) / 48.0);
    let rewards = drawn.iter().flat_map(|it| it["rewards"].as_array().unwrap());
    close(
        &evaluation["reward"]["mean"],
        rewards.map(|it| it.as_f64().unwrap()).sum::<f64>() / 48.0,
    );
}

#[test]
fn samples_have_the_frequencies_of_their_temperature() {
    let place = place();
    place.lines("prompts.jsonl", [json!({ "prompt_ids": [1] })]);
    for temperature in [0.5, 1.0, 2.0] {
        place.succeeds(&format!(
            "sample --model policy --data prompts.jsonl --out at-{temperature}.jsonl --completions 6000 \
             --max-new-tokens 1 --temperature {temperature}"
        ));
        let drawn = &json_lines(&place.path(&format!("at-{temperature}.jsonl")))[0];
        let mut counts = [0; V];
        for ids in drawn["completion_ids"].as_array().unwrap() {
            counts[ids[0].as_u64().unwrap() as usize] += 1;
        }
        for (token, count) in counts.into_iter().enumerate() {
            let expected = log_prob(&POLICY, token as u32, temperature).exp();
            let found = f64::from(count) / 6000.0;
            // Four standard deviations.
            let tolerance = 4.0 * (expected * (1.0 - expected) / 6000.0).sqrt() + 1e-3;
            assert!(
                (found - expected).abs() < tolerance,
                "{token} at {temperature}: {found} {expected}"
            );
        }
    }
}

#[test]
fn the_first_loss_of_an_alignment_has_its_closed_form_at_any_temperature() {
    let place = place();
    let groups = (0..4).map(|it| {
        json!({
            "prompt_ids": [it], "completion_ids": [[1, 2], [3, 4], [5, 6]], "rewards": [1.0, 0.0, -0.5],
        })
    });
    place.lines("groups.jsonl", groups);
    // h = 0: q is uniform, whatever the temperature, where policy and reference have the same.
    let (beta, uniform) = (0.5f64, 1f64 / 3.0);
    let log_p = |reward: f64| -> f64 {
        let sum: f64 = [1.0f64, 0.0, -0.5].iter().map(|it| (it / beta).exp()).sum();
        reward / beta - sum.ln()
    };
    let reverse: f64 = [1.0, 0.0, -0.5].map(|it| uniform * (uniform.ln() - log_p(it))).iter().sum();
    for (objective, expected) in [("exo-rw", reverse), ("dpo-rw", 3f64.ln())] {
        place.succeeds(&format!(
            "align --objective {objective} --model policy --data groups.jsonl --out {objective} \
             --temperature 0.8 --beta-reward {beta} --beta-policy 2 --set training.max_steps=1"
        ));
        close(&metrics(&place.path(objective))[0]["loss"], expected);
    }
}

#[test]
fn pairs_have_the_better_completion_first_and_bradley_terry_its_frequencies() {
    let place = place();
    let group = |rewards: [f64; 3]| json!({ "prompt_ids": [1], "completion_ids": [[1], [2], [3]], "rewards": rewards });
    place.lines("groups.jsonl", [group([0.5, 2.0, -1.0]), group([3.0, 1.0, 2.0])]);
    place.succeeds("pairs --data groups.jsonl --out pairs.jsonl");
    let pairs = json_lines(&place.path("pairs.jsonl"));
    let ids = |pair: &Value| (pair["chosen_ids"].clone(), pair["rejected_ids"].clone());
    assert_eq!(ids(&pairs[0]), (json!([2]), json!([3])));
    assert_eq!(ids(&pairs[1]), (json!([1]), json!([2])));
    // σ((r₁ − r₂) / β_r) with a difference of 1.
    let two = json!({ "prompt_ids": [1], "completion_ids": [[1], [2]], "rewards": [1.0, 0.0] });
    place.lines("groups.jsonl", std::iter::repeat_n(two, 4000));
    for beta in [0.5f64, 2.0] {
        place.succeeds(&format!(
            "pairs --data groups.jsonl --out pairs-{beta}.jsonl --method bradley-terry --beta-reward {beta}"
        ));
        let pairs = json_lines(&place.path(&format!("pairs-{beta}.jsonl")));
        let first = pairs.iter().filter(|it| it["chosen_ids"] == json!([1])).count();
        let (found, expected) = (first as f64 / 4000.0, 1.0 / (1.0 + (-1.0 / beta).exp()));
        let tolerance = 4.0 * (expected * (1.0 - expected) / 4000.0).sqrt();
        assert!((found - expected).abs() < tolerance, "{beta}: {found} {expected}");
    }
}

#[test]
fn rewards_are_those_of_the_last_token_and_decide_who_wins() {
    let place = place();
    let group = |a: u32, b: u32| json!({ "prompt_ids": [1], "completion_ids": [[2, a], [2, b]] });
    // A wins, B wins, a tie, A wins.
    place.lines("groups.jsonl", [group(3, 4), group(1, 4), group(1, 2), group(4, 5)]);
    let labelled =
        place.succeeds("label --reward rewarder --data groups.jsonl --out labelled.jsonl");
    close(&parsed(&labelled)["mean_reward"], (1.5 + 0.5 - 1.0 + 0.5 - 1.0 - 1.0 + 0.5 - 1.0) / 8.0);
    let rewards: Vec<Value> =
        json_lines(&place.path("labelled.jsonl")).iter().map(|it| it["rewards"].clone()).collect();
    close(&rewards[0][0], 1.5);
    close(&rewards[0][1], 0.5);
    let judged = parsed(&place.succeeds("judge --data groups.jsonl --judge reward:rewarder"));
    close(&judged["win_rate"]["mean"], (1.0 + 0.0 + 0.5 + 1.0) / 4.0);
}

#[test]
fn a_trained_reward_model_ranks_label_one_above_label_zero() {
    let place = place();
    let row =
        |it: u32| json!({ "prompt_ids": [1], "completion_ids": [2, 3 + it % 2], "label": it % 2 });
    place.lines("labels.jsonl", (0..16).map(row));
    place.succeeds(
        "reward --model policy --data labels.jsonl --out reward --learning-rate 0.05 \
         --set training.batch_size=8 --set training.epochs=10 --set optimizer.warmup=0",
    );
    place.lines("groups.jsonl", [json!({ "prompt_ids": [1], "completion_ids": [[2, 3], [2, 4]] })]);
    place.succeeds("label --reward reward --data groups.jsonl --out labelled.jsonl");
    let rewards = &json_lines(&place.path("labelled.jsonl"))[0]["rewards"];
    let [bad, good] = [0, 1].map(|it| rewards[it].as_f64().unwrap());
    assert!(good > 1.0 && bad < -1.0, "{good} {bad}");
}

const TRAINING: &str = "--data groups.jsonl --learning-rate 1e-2 --set training.batch_size=8 --set training.epochs=2 \
     --set optimizer.warmup=0 --set optimizer.schedule=constant";

fn with_groups(count: usize) -> Workplace {
    let place = place();
    let group = |it: usize| {
        let completion = |k: usize| -> Vec<usize> {
            (0..1 + (it + k) % 3).map(|t| 1 + (it + k * 2 + t) % 6).collect()
        };
        json!({
            "prompt_ids": [1 + it % 6], "completion_ids": [completion(0), completion(1), completion(3)],
            "rewards": [(it % 3) as f64, 0.5, -(it as f64) / 7.0],
        })
    };
    place.lines("groups.jsonl", (0..count).map(group));
    place
}

/// The tensor of the trained model whose name ends so.
fn tensor(place: &Workplace, model: &str, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(place.path(model).join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let name = tensors.names().into_iter().find(|it| it.ends_with(name)).unwrap().to_owned();
    let data = tensors.tensor(&name).unwrap().data().to_vec();
    data.as_chunks().0.iter().map(|it| f32::from_le_bytes(*it)).collect()
}

#[test]
fn a_short_last_micro_batch_counts_by_its_groups() {
    let place = with_groups(20);
    let run = |size: usize| {
        place.succeeds(&format!(
            "align --objective exo-rw --model policy --out by-{size} {TRAINING} --set training.micro_batch_size={size} \
             --set optimizer.epsilon=1e-3"
        ));
        let steps = metrics(&place.path(&format!("by-{size}")));
        let of = |name: &str| -> Vec<f64> {
            steps.iter().map(|it| it[name].as_f64().unwrap()).collect()
        };
        (of("loss"), of("grad_norm"), tensor(&place, &format!("by-{size}/model"), "lm_head.weight"))
    };
    let (whole, parts) = (run(8), run(3));
    assert_eq!(whole.0.len(), 6);
    let near =
        |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + b.abs()));
    assert!(near(&whole.0, &parts.0), "{:?} {:?}", whole.0, parts.0);
    assert!(near(&whole.1, &parts.1), "{:?} {:?}", whole.1, parts.1);
    // A large ε: Adam makes much of what is rounded otherwise where a gradient is nearly nothing.
    assert!(whole.2.iter().zip(&parts.2).all(|(a, b)| (a - b).abs() < 1e-4));
}

#[test]
fn weight_decay_shrinks_what_has_no_gradient_by_its_closed_form() {
    let place = with_groups(8);
    place.succeeds(&format!(
        "align --objective exo-rw --model policy --out out {TRAINING} --set optimizer.weight_decay=0.5"
    ));
    // Token 7 is nowhere read: its row of the embedding gets no gradient in the two steps.
    let row = &tensor(&place, "out/model", "embed_tokens.weight")[7 * V..];
    let expected = (1.0f64 - 1e-2 * 0.5).powi(2);
    assert!((f64::from(row[END as usize]) - expected).abs() < 1e-6, "{row:?} {expected}");
    place.succeeds(&format!("align --objective exo-rw --model policy --out plain {TRAINING}"));
    assert_eq!(tensor(&place, "plain/model", "embed_tokens.weight")[7 * V + 7], 1.0);
}

#[test]
fn a_gradient_above_the_bound_is_clipped_and_one_below_it_is_not() {
    let place = with_groups(16);
    let weights = |name: &str, bound: f64| {
        // A large ε makes the update follow the size of the gradient.
        place.succeeds(&format!(
            "align --objective exo-rw --model policy --out {name} {TRAINING} --set training.max_steps=1 \
             --set optimizer.epsilon=1 --set optimizer.clip_norm={bound}"
        ));
        let norm = metrics(&place.path(name))[0]["grad_norm"].as_f64().unwrap();
        let moved = |it: &str| {
            let (before, after) =
                (tensor(&place, "policy", it), tensor(&place, &format!("{name}/model"), it));
            after.iter().zip(before).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
        };
        (norm, moved("lm_head.weight"))
    };
    let (norm, free) = weights("free", 0.0);
    assert!(norm > 1e-3 && free > 1e-6, "{norm} {free}");
    let (_, above) = weights("above", 2.0 * norm);
    assert_eq!(above, free);
    // First step: the update is g / (|g| + 1) entry by entry, nearly g where it is small.
    let (reported, clipped) = weights("clipped", norm / 10.0);
    assert_eq!(reported, norm, "metrics tell the norm before clipping");
    assert!((clipped / free - 0.1).abs() < 0.02, "{clipped} {free}");
}
