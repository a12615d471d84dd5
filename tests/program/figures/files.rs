//! The figures that are told of files, sets and models, before anything is computed with them.

use serde_json::{Value, json};

use super::{near, parsed, place};
use crate::support::{Workplace, families, formula};

/// The cells of the rows of a printed table, and other lines, each with its blanks taken together.
fn rows(printed: &str) -> Vec<String> {
    printed.lines().map(|it| it.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[track_caller]
fn assert_rows(printed: &str, expected: &[&str]) {
    let rows = rows(printed);
    for row in expected {
        assert!(rows.iter().any(|it| it == row), "`{row}` is no row of {rows:#?}");
    }
}

/// `a` is 0, `b` 1, .., a blank 21.
const LETTERS: &str = "abcdefghijklmnopqrstu ";

#[test]
fn a_check_of_groups_counts_lengths_rewards_and_what_is_cut() {
    let place = place();
    let group = |prompt: usize, lengths: [usize; 3], rewards: Value| {
        let completion = |it: usize| vec![1 + it; lengths[it]];
        json!({
            "prompt_ids": vec![0; prompt], "completion_ids": [completion(0), completion(1), completion(2)],
            "rewards": rewards,
        })
    };
    place.lines(
        "groups.jsonl",
        [
            // Rewards in the order of lengths, in the opposite one, and half of each.
            group(1, [1, 2, 3], json!([0.0, 1.0, 2.0])),
            group(2, [1, 2, 3], json!([2.0, 1.0, 0.0])),
            group(3, [1, 2, 3], json!([1.0, 0.0, 2.0])),
            group(4, [2, 3, 6], json!([7.0, 7.0, 7.0])),
            group(11, [1, 1, 1], Value::Null),
        ],
    );
    let check = "check --data groups.jsonl --model policy --set data.max_length=9";
    let found = parsed(&place.succeeds(&format!("{check} --json")));
    assert_eq!(
        (&found["records"], &found["rows"], &found["bad"]),
        (&json!(5), &json!(5), &json!(0))
    );
    let lengths =
        |min, median, p95, max| json!({ "min": min, "median": median, "p95": p95, "max": max });
    assert_eq!(found["prompts"], lengths(1, 3, 11, 11));
    // 1 2 3 three times, 2 3 6, 1 1 1.
    assert_eq!(found["completions"], lengths(1, 2, 3, 6));
    // 4, 5, 6, 10 and 12.
    assert_eq!(found["totals"], lengths(4, 6, 12, 12));
    let long = &found["too_long"];
    let counts =
        ["max_length", "cut", "tokens_lost", "refused"].map(|it| long[it].as_u64().unwrap());
    // One token of the fourth, three of the last.
    assert_eq!(counts, [9, 2, 4, 0]);
    let groups = &found["groups"];
    assert_eq!(groups["sizes"], json!({ "3": 5 }));
    assert_eq!((&groups["unlabelled"], &groups["tied"]), (&json!(1), &json!(1)));
    // √(2/3) of three, 0 of the fourth.
    near(&groups["mean_spread"], 0.75 * (2.0f64 / 3.0).sqrt(), 1e-12);
    // Spearman's 1, −1 and ½.
    near(&found["length_bias"]["correlation"]["mean"], 1.0 / 6.0, 1e-12);
    near(&found["length_bias"]["correlation"]["low"], -1.0, 1e-12);
    near(&found["length_bias"]["correlation"]["high"], 1.0, 1e-12);
    assert_rows(
        &place.succeeds(check),
        &[
            "5 groups",
            "tokens least median 95 % most",
            "prompt 1 3 11 11",
            "completion 1 2 3 6",
            "both 4 6 12 12",
            "limit, in tokens 9",
            "cut to fit 2 records, 4 tokens lost",
            "do not fit 0 records",
            "groups 5 of 3",
            "rewards 1 without, 1 all tied, mean spread 0.612",
            "reward with length Spearman 0.167 [-1.000, 1.000], mean of groups",
        ],
    );
}

#[test]
fn groups_without_rewards_have_no_spread() {
    let place = place();
    place.lines("groups.jsonl", [json!({ "prompt_ids": [1], "completion_ids": [[2], [3]] })]);
    let check = "check --data groups.jsonl --model policy";
    assert_rows(&place.succeeds(check), &["groups 1 of 2", "rewards none"]);
    let found = parsed(&place.succeeds(&format!("{check} --json")));
    assert_eq!(found["groups"]["mean_spread"], Value::Null);
}

#[test]
fn a_check_of_pairs_and_texts_counts_labels_ends_and_repeats() {
    let place = Workplace::new();
    place.with_letters(LETTERS);
    let pair = |prompt: &str, chosen: &str, rejected: &str| json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected });
    place.lines(
        "pairs.jsonl",
        [
            pair("a", "bcd", "b"),
            pair("b", "bcd", "c"),
            pair("c", "b", "bcd"),
            pair("d", "bc", "cb"),
            pair("a", "bcd", "b"),
            pair("a", "b", "bcd"),
        ],
    );
    place.lines("held-out.jsonl", [json!({ "prompt": "a" }), json!({ "prompt": "z" })]);
    let check = "check --data pairs.jsonl --model model --against held-out.jsonl";
    let found = parsed(&place.succeeds(&format!("{check} --json")));
    let counts = ["records", "duplicates", "repeated_prompts", "contradictions", "shared_prompts"];
    assert_eq!(counts.map(|it| found[it].as_u64().unwrap()), [6, 1, 2, 1, 3]);
    // Longer are 3 of 5.
    let bias = &found["length_bias"];
    near(&bias["longer_wins"]["mean"], 0.6, 1e-12);
    let [low, high] = super::arithmetic::wilson(0.6, 5.0);
    near(&bias["longer_wins"]["low"], low, 1e-9);
    near(&bias["longer_wins"]["high"], high, 1e-9);
    assert_eq!(bias["equal_lengths"], 1);
    near(&bias["auc"], pairwise(&[2.0, 2.0, -2.0, 0.0, 2.0, -2.0]), 1e-12);
    // Each with its end.
    assert_eq!(found["completions"], json!({ "min": 2, "median": 3, "p95": 4, "max": 4 }));
    assert_eq!(found["endings"], json!({ "completions": 12, "cut": 0, "unended": 0, "inside": 0 }));
    assert_rows(
        &place.succeeds(check),
        &[
            "repeated records 1",
            "repeated prompts 2",
            "contradictions 1",
            "prompt in the other file 3",
            "seams inside a token 0 of 12 (0.0 %)",
            "completions 12, of which 0 cut, 0 without end-of-text, 0 with one inside",
            &format!(
                "longer is chosen 60.0 % [{:.1}, {:.1}], 1 pairs of equal length aside",
                100.0 * low,
                100.0 * high
            ),
            &format!(
                "length tells the label AUC {:.3}",
                pairwise(&[2.0, 2.0, -2.0, 0.0, 2.0, -2.0])
            ),
        ],
    );
    let text = |letters: &str, label: u8| json!({ "text": letters, "label": label });
    place.lines("texts.jsonl", [text("abc", 1), text("de", 1), text("f", 0), text("ghi", 1)]);
    let printed = place.succeeds("check --data texts.jsonl --model model");
    // Of three texts of label 1, all are longer than the other.
    assert_rows(
        &printed,
        &["4 labelled texts", "label 1 3 (75.0 %)", "length tells the label AUC 1.000"],
    );
}

/// Of every two, one as it is and one turned round: how often the first is the larger, ties as half.
fn pairwise(differences: &[f64]) -> f64 {
    let wins = differences.iter().flat_map(|a| differences.iter().map(move |b| a + b)).map(|it| {
        if it > 0.0 {
            1.0
        } else if it == 0.0 {
            0.5
        } else {
            0.0
        }
    });
    wins.sum::<f64>() / differences.len().pow(2) as f64
}

#[test]
fn a_published_set_is_told_by_the_number_of_its_rows() {
    let place = Workplace::new();
    let start = "\n\nHuman: one\n\nAssistant:";
    let dialogue = |prompt: &str, chosen: &str, rejected: &str| {
        let start = start.replace("one", prompt);
        json!({ "chosen": format!("{start} {chosen}"), "rejected": format!("{start} {rejected}") })
    };
    place.lines(
        "train.jsonl",
        [
            dialogue("one", "a", "b"),
            dialogue("two", "a", "b"),
            dialogue("three", "same", "same"),
            dialogue("four", "a", "b"),
            dialogue("four", "a", "c"),
        ],
    );
    place.lines("test.jsonl", [dialogue("four", "c", "d"), dialogue("five", "e", "f")]);
    let data = "data dialogue train.jsonl --held-out-data test.jsonl --out out";
    let found = parsed(&place.succeeds(&format!("{data} --json")));
    // The two of `four` are held out, and one has equal sides.
    assert_eq!((&found["read"], &found["used"]), (&json!(7), &json!(4)));
    assert_eq!(found["dropped"], json!({ "equal-sides": 1, "held-out-prompt": 2 }));
    assert_rows(
        &place.succeeds(data),
        &[
            "rows used 4",
            "wrote demonstrations.jsonl 2",
            "wrote pairs.jsonl 2",
            "wrote prompts.jsonl 2",
            "wrote held-out.jsonl 2",
            "wrote chosen.jsonl 2",
            "wrote held-out-pairs.jsonl 2",
        ],
    );
}

#[test]
fn info_tells_the_shape_of_a_model() {
    let place = place();
    assert_rows(
        &place.succeeds("info --model policy"),
        &[
            "family llama, a language model",
            "layers 1",
            "hidden width 8, 8 inside the feed-forward part",
            "attention 2 heads of 4, 2 for keys and values",
            "vocabulary 8",
            "positions 64",
            "completions end with [7]",
        ],
    );
    assert_rows(
        &place.succeeds("info --model rewarder"),
        &["family llama, a reward model or classifier"],
    );
    formula::formula_of(&place.path("shared"), families::LLAMA.0);
    assert_rows(
        &place.succeeds("info --model shared"),
        &["attention 4 heads of 4, 2 for keys and values"],
    );
    let place = Workplace::new();
    assert_rows(
        &place.succeeds("info --model model"),
        &[
            "family gpt2, a language model",
            "layers 2",
            "hidden width 16, 64 inside the feed-forward part",
            "attention 2 heads of 8, 2 for keys and values",
            "vocabulary 23, tied",
            "positions 32",
            "completions end with [22]",
        ],
    );
}
