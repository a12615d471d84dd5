//! The figures that the stages print, on models and rewards whose numbers are known.

use serde_json::{Value, json};

use super::{POLICY, close, near, parsed, place};
use crate::support::bigram::{END, V, after_any, language_model, log_prob};
use crate::support::{Workplace, json_lines};

/// A model that goes on from token 1 with `one` and from token 2 with `two`, and else as it likes.
fn after_one_and_two(place: &Workplace, name: &str, one: [f32; V], two: [f32; V]) {
    let mut table = after_any([0.0; V]);
    (table[1], table[2]) = (one, two);
    language_model(&place.path(name), table);
}

/// Always the token.
fn always(token: u32) -> [f32; V] {
    std::array::from_fn(|it| if it == token as usize { 60.0 } else { 0.0 })
}

#[test]
fn a_score_is_the_sum_of_the_log_probs_of_its_tokens_at_its_temperature() {
    let place = place();
    let group = json!({ "id": "x", "prompt_ids": [2, 4], "completion_ids": [[1, 3, 6], [5]] });
    place.lines("groups.jsonl", [group]);
    for temperature in [1.0, 0.8] {
        let line = parsed(&place.succeeds(&format!(
            "score --model policy --data groups.jsonl --per-token --temperature {temperature}"
        )));
        let of = |token| log_prob(&POLICY, token, temperature);
        close(&line["log_probs"][0], of(1) + of(3) + of(6));
        close(&line["log_probs"][1], of(5));
        for (at, token) in [1, 3, 6].into_iter().enumerate() {
            close(&line["token_log_probs"][0][at], of(token));
        }
        assert_eq!((&line["num_tokens"], &line["id"]), (&json!([3, 1]), &json!("x")));
    }
    place.succeeds("score --model policy --data groups.jsonl --out scores.jsonl");
    close(&json_lines(&place.path("scores.jsonl"))[0]["log_probs"][1], log_prob(&POLICY, 5, 1.0));
}

/// What `exalign loss` prints of a line.
fn loss(arguments: &str, line: &Value) -> (f64, Vec<f64>) {
    let place = Workplace::new();
    place.lines("lines.jsonl", [line.clone()]);
    let printed = parsed(&place.succeeds(&format!("loss --data lines.jsonl {arguments}")));
    let gradient = printed["gradient"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap());
    (printed["loss"].as_f64().unwrap(), gradient.collect())
}

#[test]
fn losses_and_gradients_are_the_closed_forms_of_their_objectives() {
    // h = (0.5, −1, 2) of the groups, its first two of the pairs.
    let pair = json!({ "policy": [-1.0, -2.0], "reference": [-1.5, -1.0] });
    let group = json!({
        "policy": [-1.0, -2.0, -3.0], "reference": [-1.5, -1.0, -5.0], "rewards": [0.3, 0.1, -0.2],
    });
    let near = |found: &(f64, Vec<f64>), expected: f64, gradient: &[f64]| {
        assert!((found.0 - expected).abs() < 1e-12, "{found:?} {expected}");
        assert_eq!(found.1.len(), gradient.len());
        for (found, expected) in found.1.iter().zip(gradient) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    };
    // z = 0.5 · 1.5; q = (σ(z), σ(−z)).
    let q = [1.0 / (1.0 + (-0.75f64).exp()), 1.0 / (1.0 + 0.75f64.exp())];
    let reverse =
        |labels: [f64; 2]| q[0] * (q[0].ln() - labels[0]) + q[1] * (q[1].ln() - labels[1]);
    let slope = |labels: [f64; 2]| 0.5 * q[0] * q[1] * (0.75 - (labels[0] - labels[1]));
    let both = |slope: f64| [slope, -slope];
    near(&loss("--objective dpo --beta-policy 0.5", &pair), -q[0].ln(), &both(-0.5 * q[1]));
    let paper = [0.9f64.ln(), 0.1f64.ln()];
    let exo = "--objective exo-pref --beta-policy 0.5 --epsilon 0.1";
    near(&loss(exo, &pair), reverse(paper), &both(slope(paper)));
    let official = [0.0, -10.0];
    let found = loss(&format!("{exo} --labels official"), &pair);
    near(&found, reverse(official), &both(slope(official)));

    let softmax = |values: [f64; 3]| {
        let sum: f64 = values.iter().map(|it| it.exp()).sum();
        values.map(|it| it.exp() / sum)
    };
    let settings = "--beta-policy 0.5 --beta-reward 0.25";
    let (q, p) = (softmax([0.25, -0.5, 1.0]), softmax([1.2, 0.4, -0.8]));
    let kl: f64 = (0..3).map(|it| q[it] * (q[it] / p[it]).ln()).sum();
    let gradient: Vec<f64> = (0..3).map(|it| 0.5 * q[it] * ((q[it] / p[it]).ln() - kl)).collect();
    near(&loss(&format!("--objective exo-rw {settings}"), &group), kl, &gradient);
    let cross_entropy: f64 = (0..3).map(|it| -p[it] * q[it].ln()).sum();
    let gradient: Vec<f64> = (0..3).map(|it| 0.5 * (q[it] - p[it])).collect();
    near(&loss(&format!("--objective dpo-rw {settings}"), &group), cross_entropy, &gradient);
}

#[test]
fn a_sampling_tells_the_share_that_ended_and_the_mean_length() {
    let place = place();
    after_one_and_two(&place, "policy", always(END), always(3));
    let prompt = |last: u32| json!({ "prompt_ids": [4, last] });
    place.lines("prompts.jsonl", [prompt(1), prompt(2), prompt(1), prompt(1)]);
    let printed = parsed(&place.succeeds(
        "sample --model policy --data prompts.jsonl --out out.jsonl --completions 5 --max-new-tokens 1",
    ));
    assert_eq!((&printed["groups"], &printed["samples"]), (&json!(4), &json!(20)));
    close(&printed["finished_share"], 0.75);
    close(&printed["mean_tokens"], 1.0);
    // Three tokens of each sample of the second prompt: 3 goes on with 3.
    let mut table = after_any(always(3));
    table[1] = always(END);
    language_model(&place.path("policy"), table);
    let printed = parsed(&place.succeeds(
        "sample --model policy --data prompts.jsonl --out long.jsonl --completions 5 --max-new-tokens 3",
    ));
    close(&printed["finished_share"], 0.75);
    close(&printed["mean_tokens"], (3.0 * 1.0 + 3.0) / 4.0);
    let drawn = json_lines(&place.path("long.jsonl"));
    assert_eq!(drawn[0]["completion_ids"][4], json!([END]));
    assert_eq!(drawn[1]["completion_ids"][4], json!([3, 3, 3]));
    assert_eq!((&drawn[0]["finished"][0], &drawn[1]["finished"][0]), (&json!(true), &json!(false)));
}

#[test]
fn intervals_have_the_width_that_prompts_give_them() {
    let place = place();
    // Half the prompts end in 3, a reward of 1.5 at a KL of log 8, half in 4, 0.5 at log 2.
    after_one_and_two(&place, "policy", always(3), always(4));
    let seven_to_seven = std::array::from_fn(|it| if it == 4 { 7f32.ln() } else { 0.0 });
    after_one_and_two(&place, "reference", [0.0; V], seven_to_seven);
    place.lines("prompts.jsonl", (0..400).map(|it| json!({ "prompt_ids": [5, 1 + it % 2] })));
    let evaluation = parsed(&place.succeeds(
        "evaluate --policy policy --reference reference --reward rewarder --data prompts.jsonl \
         --completions 3 --max-new-tokens 1",
    ));
    assert_eq!(
        (&evaluation["num_prompts"], &evaluation["num_samples"]),
        (&json!(400), &json!(1200))
    );
    let (ln_8, ln_2) = (8f64.ln(), 2f64.ln());
    let low_variance = |ratio: f64| (-ratio).exp() - 1.0 + ratio;
    for (figure, one, two) in [
        ("reward", 1.5, 0.5),
        ("kl", ln_8, ln_2),
        ("kl_low_variance", low_variance(ln_8), low_variance(ln_2)),
        ("kl_rao_blackwell", ln_8, ln_2),
    ] {
        let found = &evaluation[figure];
        close(&found["mean"], (one + two) / 2.0);
        // 1.96 standard errors of 400 prompts, of which a prompt is half the distance off. 2000
        // resamples know an end to a sixteenth of a standard error; that is once more than three times.
        let (deviation, off) = ((one - two) / 2.0, (one - two) / 40.0 / 4.0);
        near(&found["low"], (one + two) / 2.0 - 1.96 * deviation / 20.0, off);
        near(&found["high"], (one + two) / 2.0 + 1.96 * deviation / 20.0, off);
    }
}

#[test]
fn labels_and_pairs_are_counted() {
    let place = place();
    let group =
        |last: [u32; 3]| json!({ "prompt_ids": [1], "completion_ids": last.map(|it| [2, it]) });
    // Token 3 earns 1.5, token 4 0.5, the others −1: the third and the fourth group have no better one.
    place.lines(
        "groups.jsonl",
        [group([3, 4, 5]), group([4, 1, 2]), group([1, 2, 5]), group([6, 1, 2])],
    );
    let printed =
        parsed(&place.succeeds("label --reward rewarder --data groups.jsonl --out labelled.jsonl"));
    assert_eq!((&printed["groups"], &printed["completions"]), (&json!(4), &json!(12)));
    close(&printed["mean_reward"], (1.5 + 2.0 * 0.5 - 9.0) / 12.0);
    let printed = parsed(&place.succeeds("pairs --data labelled.jsonl --out pairs.jsonl"));
    assert_eq!(printed, json!({ "groups": 4, "pairs": 2, "ties_left_out": 2 }));
}

#[test]
fn shards_put_together_have_the_mean_of_all() {
    let place = place();
    let group = |last: u32| json!({ "prompt_ids": [1], "completion_ids": [[2, last], [1, last]] });
    // Work is dealt out 32 groups at a time: 32 and 8.
    place.lines("groups.jsonl", (0..40).map(|it| group([3, 4, 1, 4, 3][it / 8])));
    for shard in [1, 2] {
        place.succeeds(&format!(
            "label --reward rewarder --data groups.jsonl --out {shard}.jsonl --shard {shard}/2"
        ));
    }
    let printed = parsed(&place.succeeds("merge-shards 1.jsonl 2.jsonl --out all.jsonl"));
    assert_eq!((&printed["groups"], &printed["completions"]), (&json!(40), &json!(80)));
    close(&printed["mean_reward"], (2.0 * 1.5 + 2.0 * 0.5 - 1.0) / 5.0);
}

#[test]
fn a_judge_is_counted_against_an_opponent_and_against_people() {
    let place = place();
    // The first answer of the policy ends in `a`, that of the opponent in `b`.
    let group = |prompt: usize, last: u32| json!({ "prompt_ids": [prompt], "completion_ids": [[2, last], [2, 3]] });
    // Seven wins, one tie, two losses of ours.
    let ours = [3, 3, 3, 3, 4, 4, 4, 1, 1, 1];
    let theirs = [4, 4, 1, 1, 1, 2, 5, 2, 3, 4];
    let lines =
        |lasts: [u32; 10]| lasts.into_iter().enumerate().map(move |(at, it)| group(at % 8, it));
    place.lines("ours.jsonl", lines(ours));
    place.lines("theirs.jsonl", lines(theirs));
    let against = parsed(
        &place.succeeds("judge --data ours.jsonl --against theirs.jsonl --judge reward:rewarder"),
    );
    let counts =
        ["comparisons", "wins", "ties", "losses", "order_dependent", "no_verdict", "prompts"];
    assert_eq!(counts.map(|it| against[it].as_u64().unwrap()), [10, 7, 1, 2, 0, 0, 8]);
    // Wilson's interval at 0.75, of 10 trials and of 10² / (6 · 1 + 2 · 4) of eight prompts.
    for (name, trials) in [("win_rate", 10.0), ("win_rate_over_prompts", 100.0 / 14.0)] {
        let [low, high] = super::arithmetic::wilson(0.75, trials);
        close(&against[name]["mean"], 0.75);
        close(&against[name]["low"], low);
        close(&against[name]["high"], high);
    }
    // Prompts 0 and 1 have two comparisons each, of which one is lost.
    let scores = [
        (1.0, 2.0),
        (1.0, 2.0),
        (1.0, 1.0),
        (1.0, 1.0),
        (1.0, 1.0),
        (1.0, 1.0),
        (1.0, 1.0),
        (0.5, 1.0),
    ];
    let [low, high] = super::arithmetic::resampled(8, |prompts| {
        let sum = |of: fn((f64, f64)) -> f64| prompts.iter().map(|&it| of(scores[it])).sum::<f64>();
        sum(|it| it.0) / sum(|it| it.1)
    });
    near(&against["win_rate_bootstrap"]["mean"], 0.75, 1e-12);
    near(&against["win_rate_bootstrap"]["low"], low, 0.03);
    near(&against["win_rate_bootstrap"]["high"], high, 0.03);
    // Scores of prompts: ½ twice, 1 five times, ½: d = 5/16, m = 5/32.
    let (d, m) = (5.0 / 16.0, 5.0f64 / 32.0);
    let needed = (1.959_964 * m.sqrt() + 0.841_621 * (m - d * d).sqrt()).powi(2) / (d * d);
    assert_eq!(against["prompts_to_tell_apart"], needed.ceil() as u64);
    // From the other side.
    let reverse = parsed(
        &place.succeeds("judge --data theirs.jsonl --against ours.jsonl --judge reward:rewarder"),
    );
    assert_eq!(["wins", "ties", "losses"].map(|it| reverse[it].as_u64().unwrap()), [2, 1, 7]);
    close(&reverse["win_rate"]["mean"], 0.25);

    // The judge says a, a, a, tie, b, b; people a, a, b, tie, b, a.
    let labels = [
        ["a", "a", "b"],
        ["a", "tie", "a"],
        ["a", "b", "b"],
        ["tie", "a", "b"],
        ["b", "b", "b"],
        ["a", "a", "a"],
    ];
    let lasts = [(3, 4), (3, 4), (4, 1), (1, 2), (4, 3), (1, 3)];
    place.lines("labelled.jsonl", lasts.iter().zip(labels).enumerate().map(|(at, ((a, b), labels))| {
        json!({ "prompt_ids": [at], "completion_ids": [[2, a], [2, b]], "labels": labels })
    }));
    let judged = parsed(
        &place.succeeds("judge --data labelled.jsonl --judge reward:rewarder --out verdicts.jsonl"),
    );
    let people = &judged["people"];
    assert_eq!(people["items"], 6);
    // They agree on 1, 2, 4 and 5. By chance: (3 · 3 + 1 · 1 + 2 · 2) / 36.
    close(&people["agreement"]["mean"], 4.0 / 6.0);
    let chance = 14.0 / 36.0;
    close(&people["kappa"]["mean"], (4.0 / 6.0 - chance) / (1.0 - chance));
    let annotators = &judged["annotators"];
    // Pairs of labels that say the same: 1, 1, 1, 0, 3, 3 of 3 each; two items all agree.
    assert_eq!((&annotators["items"], &annotators["unanimous"]), (&json!(6), &json!(2)));
    close(&annotators["pairwise_agreement"]["mean"], 9.0 / 18.0);
    // a 9, tie 2, b 7 of 18.
    let chance = (81.0 + 4.0 + 49.0) / 324.0;
    close(&annotators["fleiss_kappa"], (0.5 - chance) / (1.0 - chance));
    let verdicts = json_lines(&place.path("verdicts.jsonl"));
    let column = |name: &str| -> Vec<&str> {
        verdicts.iter().map(|it| it[name].as_str().unwrap()).collect()
    };
    assert_eq!(column("verdict"), ["a", "a", "a", "tie", "b", "b"]);
    assert_eq!(column("people"), ["a", "a", "b", "tie", "b", "a"]);
    close(&verdicts[2]["grounds"][0], 0.5);
    close(&verdicts[2]["grounds"][1], -1.0);
}
