//! The figures of `metrics.jsonl`, in closed form on models whose next token depends on the last alone.

use serde_json::{Value, json};

use super::{POLICY, REFERENCE, REWARDS, close, near, parsed, place};
use crate::support::bigram::{V, log_prob};
use crate::support::metrics;

/// How much a loss changes with the log-prob of a token after another: (after, token, slope).
type Slope = (usize, u32, f64);

/// The norm over all parameters of the gradient of the loss with these slopes, of a model with the same
/// `row` of logits after every token, at a temperature.
///
/// Only the embedding, the last norm and the head have a gradient: the block's matrices are zero, and
/// so is what each of them is fed or passes on. With E the identity, x = e_i is normalised to √V e_i,
/// and logit j is √V W_ji.
fn gradient_norm(row: &[f32; V], slopes: &[Slope], temperature: f64) -> f64 {
    let root = (V as f64).sqrt();
    let weight = |j: usize| f64::from(row[j]) / root; // of every column
    let (mut head, mut norm, mut embedding) = ([[0.0; V]; V], [0.0; V], [[0.0; V]; V]);
    for &(after, token, slope) in slopes {
        let mut of_hidden = 0.0; // of every entry of the normalised state alike
        for (j, entries) in head.iter_mut().enumerate() {
            let is_token = if j == token as usize { 1.0 } else { 0.0 };
            let of_logit =
                slope * (is_token - log_prob(row, j as u32, temperature).exp()) / temperature;
            entries[after] += of_logit * root;
            norm[after] += of_logit * weight(j) * root;
            of_hidden += of_logit * weight(j);
        }
        // The normalisation takes the part along x away and divides by 1/√V.
        for (k, entry) in embedding[after].iter_mut().enumerate() {
            *entry += if k == after { 0.0 } else { of_hidden * root };
        }
    }
    let all = head.as_flattened().iter().chain(&norm).chain(embedding.as_flattened());
    all.map(|it| it * it).sum::<f64>().sqrt()
}

/// The slopes of the log-probs of a completion's tokens after the last of the prompt.
fn slopes(last: usize, completion: &[u32], slope: f64) -> Vec<Slope> {
    let before = std::iter::once(last).chain(completion.iter().map(|&it| it as usize));
    before.zip(completion).map(|(after, &token)| (after, token, slope)).collect()
}

#[test]
fn a_step_of_an_alignment_has_the_figures_of_its_closed_form() {
    let place = place();
    const LAST: [usize; 2] = [4, 0];
    let completions: [[&[u32]; 3]; 2] = [[&[1, 2], &[3], &[5, 6, 4]], [&[6], &[2, 2], &[1, 5]]];
    let rewards = [[0.2, 1.0, -0.5], [0.7, -0.1, 0.1]];
    let group = |at: usize| {
        json!({
            "prompt_ids": [3, LAST[at]], "completion_ids": completions[at], "rewards": rewards[at],
        })
    };
    place.lines("groups.jsonl", [group(0), group(1)]);
    let (beta_policy, beta_reward, temperature) = (0.6, 0.5, 0.8);
    let sums = |row: &[f32; V], at: usize| {
        completions[at].map(|it| it.iter().map(|&id| log_prob(row, id, temperature)).sum::<f64>())
    };
    let softmax = |values: [f64; 3]| {
        let sum: f64 = values.iter().map(|it| it.exp()).sum();
        values.map(|it| it.exp() / sum)
    };
    for objective in ["exo-rw", "dpo-rw"] {
        place.succeeds(&format!(
            "align --objective {objective} --model policy --reference reference --data groups.jsonl --out {objective} \
             --temperature {temperature} --beta-policy {beta_policy} --beta-reward {beta_reward} --max-steps 1"
        ));
        let [line] = metrics(&place.path(objective)).try_into().unwrap();
        let (mut loss, mut kl, mut entropy, mut accuracy, mut margin) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let (mut chosen, mut rejected, mut all) = (0.0, 0.0, Vec::new());
        for at in 0..2 {
            let (ours, theirs, r) = (sums(&POLICY, at), sums(&REFERENCE, at), rewards[at]);
            let h: [f64; 3] = std::array::from_fn(|it| ours[it] - theirs[it]);
            let (q, p) =
                (softmax(h.map(|it| it * beta_policy)), softmax(r.map(|it| it / beta_reward)));
            let divergence: f64 = (0..3).map(|it| q[it] * (q[it] / p[it]).ln()).sum();
            let cross_entropy: f64 = (0..3).map(|it| -p[it] * q[it].ln()).sum();
            kl += divergence / 2.0;
            entropy += (0..3).map(|it| -q[it] * q[it].ln()).sum::<f64>() / 2.0;
            loss += if objective == "exo-rw" { divergence } else { cross_entropy } / 2.0;
            let ordered = [(0, 1), (0, 2), (1, 2)].into_iter();
            let agreeing = ordered.filter(|&(i, j)| (h[i] > h[j]) == (r[i] > r[j])).count();
            accuracy += agreeing as f64 / 3.0 / 2.0;
            // Rewards are highest at 1 and lowest at 2, in the second group at 0 and 1.
            let (best, worst) = [(1, 2), (0, 1)][at];
            margin += beta_policy * (h[best] - h[worst]) / 2.0;
            chosen += ours[best] / 2.0;
            rejected += ours[worst] / 2.0;
            for (it, completion) in completions[at].iter().enumerate() {
                let of_ratio = match objective {
                    "exo-rw" => q[it] * ((q[it] / p[it]).ln() - divergence),
                    _ => q[it] - p[it],
                };
                all.extend(slopes(LAST[at], completion, beta_policy * of_ratio / 2.0));
            }
        }
        for (name, expected) in [
            ("loss", loss),
            ("kl", kl),
            ("entropy_q", entropy),
            ("accuracy", accuracy),
            ("reward_margin", margin),
            ("logps/chosen", chosen),
            ("logps/rejected", rejected),
            ("grad_norm", gradient_norm(&POLICY, &all, temperature)),
        ] {
            near(&line[name], expected, 2e-5);
        }
        // Prompts once: 2 + 6 and 2 + 5.
        let whole = ["step", "epoch", "groups", "tokens"].map(|it| line[it].as_u64().unwrap());
        assert_eq!(whole, [1, 0, 2, 15]);
    }
}

#[test]
fn pairs_have_the_first_completion_as_the_chosen_one() {
    let place = place();
    let pair = json!({ "prompt_ids": [3, 4], "chosen_ids": [1, 2], "rejected_ids": [3] });
    place.lines("pairs.jsonl", [pair]);
    let of =
        |row: &[f32; V], ids: &[u32]| ids.iter().map(|&id| log_prob(row, id, 1.0)).sum::<f64>();
    let [chosen, rejected] = [&[1, 2][..], &[3]].map(|it| of(&POLICY, it));
    let z = 0.4 * ((chosen - of(&REFERENCE, &[1, 2])) - (rejected - of(&REFERENCE, &[3])));
    let (q, e) = (1.0 / (1.0 + (-z).exp()), 0.02f64);
    let reverse = q * (q / (1.0 - e)).ln() + (1.0 - q) * ((1.0 - q) / e).ln();
    assert!(z < -0.1, "the wrong order: {z}");
    for (objective, more, loss, slope) in [
        ("dpo", "", -q.ln(), -0.4 * (1.0 - q)),
        (
            "exo-pref",
            "--set objective.epsilon=0.02",
            reverse,
            0.4 * q * (1.0 - q) * (z - ((1.0 - e) / e).ln()),
        ),
    ] {
        place.succeeds(&format!(
            "align --objective {objective} --model policy --reference reference --data pairs.jsonl --out {objective} \
             --beta-policy 0.4 {more} --max-steps 1"
        ));
        let line = &metrics(&place.path(objective))[0];
        let all = [slopes(4, &[1, 2], slope), slopes(4, &[3], -slope)].concat();
        for (name, expected) in [
            ("loss", loss),
            ("accuracy", 0.0),
            ("reward_margin", z),
            ("logps/chosen", chosen),
            ("logps/rejected", rejected),
            ("grad_norm", gradient_norm(&POLICY, &all, 1.0)),
        ] {
            near(&line[name], expected, 2e-5);
        }
    }
}

#[test]
fn fine_tuning_tells_the_mean_over_tokens_and_its_gradient() {
    let place = place();
    let (one, two): (&[u32], &[u32]) = (&[1, 2, 5], &[4]);
    let line = |prompt: u32, ids: &[u32]| json!({ "prompt_ids": [3, prompt], "chosen_ids": ids });
    place.lines("demonstrations.jsonl", [line(1, one), line(6, two)]);
    for size in [1, 2] {
        let printed = parsed(&place.succeeds(&format!(
            "sft --model policy --data demonstrations.jsonl --out by-{size} --max-steps 1 --micro-batch-size {size}"
        )));
        let line = &metrics(&place.path(&format!("by-{size}")))[0];
        let loss = -one.iter().chain(two).map(|&it| log_prob(&POLICY, it, 1.0)).sum::<f64>() / 4.0;
        let all = [slopes(1, one, -0.25), slopes(6, two, -0.25)].concat();
        near(&line["loss"], loss, 1e-5);
        near(&line["grad_norm"], gradient_norm(&POLICY, &all, 1.0), 1e-5);
        assert_eq!((&line["groups"], &line["tokens"]), (&json!(2), &json!(8)));
        near(&printed["loss"], loss, 1e-5);
        assert_eq!(printed["steps"], 1);
    }
}

#[test]
fn a_reward_model_tells_its_loss_its_accuracy_and_its_margin() {
    let place = place();
    let log_sigmoid = |margin: f64| -(-margin).exp().ln_1p();
    let check = |out: &str, margins: &[f64]| {
        place.succeeds(&format!(
            "reward --model rewarder --data {out}.jsonl --out {out} --max-steps 1"
        ));
        let line = &metrics(&place.path(out))[0];
        let mean = |value: &dyn Fn(f64) -> f64| {
            margins.iter().map(|&it| value(it)).sum::<f64>() / margins.len() as f64
        };
        close(&line["loss"], -mean(&log_sigmoid));
        close(&line["reward_margin"], mean(&|it| it));
        close(&line["accuracy"], mean(&|it| if it > 0.0 { 1.0 } else { 0.0 }));
        assert_eq!(line["groups"], margins.len());
    };
    // Rewards of the last tokens: 1.5 of 3, 0.5 of 4, −1 of the others; equal ones are not told apart.
    let pair = |chosen: u32, rejected: u32| json!({ "prompt_ids": [1], "chosen_ids": [2, chosen], "rejected_ids": [6, rejected] });
    place.lines("pairs.jsonl", [pair(3, 4), pair(5, 4), pair(3, 1), pair(5, 1)]);
    check("pairs", &[1.0, -1.5, 2.5, 0.0]);
    let text = |last: u32, label: u32| json!({ "text_ids": [2, last], "label": label });
    place.lines("texts.jsonl", [text(3, 1), text(4, 0), text(5, 0)]);
    check("texts", &[1.5, -0.5, 1.0]);
    assert_eq!(REWARDS[3..6], [1.5, 0.5, -1.0]);
}

#[test]
fn a_learning_rate_rises_in_its_warm_up_and_falls_as_a_cosine() {
    let place = place();
    let line = |it: u32| json!({ "prompt_ids": [3], "chosen_ids": [1 + it % 6] });
    place.lines("demonstrations.jsonl", (0..8).map(line));
    let rates = |out: &str, schedule: &str| -> Vec<(u64, f64)> {
        place.succeeds(&format!(
            "sft --model policy --data demonstrations.jsonl --out {out} --batch-size 2 --epochs 2 --learning-rate 0.02 \
             --set optimizer.warmup=3 --set optimizer.schedule={schedule}"
        ));
        let number =
            |it: &Value| (it["epoch"].as_u64().unwrap(), it["learning_rate"].as_f64().unwrap());
        metrics(&place.path(out)).iter().map(number).collect()
    };
    // A third more each step; then 0.01 (1 + cos(π k / 5)), the golden section's cosines.
    let rising = [0.02 / 3.0, 0.04 / 3.0, 0.02];
    let falling =
        [0.02, 0.018_090_169_944, 0.013_090_169_944, 0.006_909_830_056, 0.001_909_830_056];
    let cosine = rates("cosine", "cosine");
    assert_eq!(cosine.len(), 8);
    for (at, (epoch, rate)) in cosine.into_iter().enumerate() {
        let expected = if at < 3 { rising[at] } else { falling[at - 3] };
        assert!((rate - expected).abs() < 1e-9, "step {at}: {rate} {expected}");
        assert_eq!(epoch, at as u64 / 4);
    }
    for (at, (_, rate)) in rates("constant", "constant").into_iter().enumerate() {
        assert!((rate - rising[at.min(2)]).abs() < 1e-12, "step {at}: {rate}");
    }
}
