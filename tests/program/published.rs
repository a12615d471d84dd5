//! Claims about `exalign data` and `exalign check`: from sets as they are published to records that
//! training takes, with every row accounted for.

use std::collections::HashSet;

use crate::support::hub_server::{COMMIT, HubServer, NAME};
use crate::support::{Workplace, json_lines, text};
use serde_json::{Value, json};

fn count(manifest: &Value, reason: &str) -> u64 {
    manifest["dropped"][reason].as_u64().unwrap_or(0)
}

fn data(place: &Workplace, arguments: &str) -> Value {
    let printed = place.succeeds(&format!("data {arguments} --json"));
    serde_json::from_str(&printed).unwrap()
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|it| !it.starts_with('.'));
    names.sort();
    names
}

/// A tokenizer of letters, blanks and line ends for the model, whose vocabulary has room for it.
const LETTERS: &str = "abcdefghijklmnopqrs \n";

#[test]
fn reviews_become_openings_and_labelled_texts() {
    let place = Workplace::new();
    std::fs::create_dir(place.path("imdb")).unwrap();
    let review = |words: &str, label: &str| json!({"text": words, "label": label});
    place.lines(
        "imdb/train.jsonl",
        [
            review("a good film <br />said the man", "pos"),
            review("a bad film said the man", "neg"),
            review("too short", "neg"),
            review("the test film is fine", "pos"),
        ],
    );
    place.lines(
        "imdb/test.jsonl",
        [review("The test film is fine", "pos"), review("a good deed, no more", "neg")],
    );
    let manifest = data(&place, "sentiment imdb --out out --opening-tokens 3");
    let lines = |name: &str| json_lines(&place.path("out").join(name));
    assert_eq!(
        lines("demonstrations.jsonl"),
        [
            json!({"prompt": "a good film", "chosen": " \nsaid the man"}),
            json!({"prompt": "a bad film", "chosen": " said the man"}),
        ]
    );
    assert_eq!(
        lines("labelled.jsonl"),
        [
            json!({"text": "a good film \nsaid the man", "label": 1}),
            json!({"text": "a bad film said the man", "label": 0}),
        ]
    );
    assert_eq!(
        lines("prompts.jsonl"),
        [json!({"prompt": "a good film"}), json!({"prompt": "a bad film"})]
    );
    assert_eq!(
        lines("held-out.jsonl"),
        [json!({"prompt": "The test film"}), json!({"prompt": "a good deed,"})]
    );
    assert_eq!(lines("chosen.jsonl")[1]["completions"], json!([" no more"]));
    assert_eq!((count(&manifest, "too-short"), count(&manifest, "held-out-prompt")), (1, 1));
    assert_eq!(manifest["read"], 6);
    assert_eq!(manifest["split"], "published");

    // With a tokenizer the seam is where the review's own tokens meet, and a cut review does not end.
    place.with_letters(LETTERS);
    data(&place, "sentiment imdb --out tokens --model model --opening-tokens 4 --review-tokens 8");
    let record = &json_lines(&place.path("tokens/demonstrations.jsonl"))[0];
    assert_eq!(record["prompt"], "a go");
    assert_eq!(
        (&record["prompt_ids"], &record["chosen_ids"]),
        (&json!([0, 19, 6, 14]), &json!([14, 3, 19, 5]))
    );
    assert_eq!(record["finished"], false);
    place.succeeds("sft --model model --data tokens/demonstrations.jsonl --out sft --max-steps 1");
}

#[test]
fn posts_without_comparisons_get_mismatched_pairs_that_say_so() {
    let place = Workplace::new();
    let post = |i: usize| json!({"subreddit": "x", "title": format!("t{i}"), "post": format!("post {i}"), "summary": format!("summary {i}")});
    place.lines("posts.jsonl", (0..20).map(post));
    let manifest = data(&place, "summarization posts.jsonl --out out --held-out 5");
    let pairs = json_lines(&place.path("out/pairs.jsonl"));
    assert_eq!((manifest["split"].as_str(), pairs.len()), (Some("hash"), 15));
    let side = |name: &str| -> HashSet<String> {
        pairs.iter().map(|it| it[name].as_str().unwrap().to_owned()).collect()
    };
    // Every summary is chosen once and rejected once.
    assert_eq!(side("chosen").len(), 15);
    assert_eq!(side("chosen"), side("rejected"));
    for pair in &pairs {
        assert_ne!(pair["chosen"], pair["rejected"]);
        assert_eq!(pair["source"], "proxy: the summary of another post");
        let prompt = pair["prompt"].as_str().unwrap();
        assert!(prompt.starts_with("SUBREDDIT: r/x\nTITLE: t") && prompt.ends_with("\nTL;DR:"));
        let number = pair["chosen"].as_str().unwrap().trim_start_matches(" summary ");
        assert!(prompt.contains(&format!("POST: post {number}\n")), "{pair}");
    }
    assert!(manifest["proxy"].is_string());
    let again = place.succeeds("data summarization posts.jsonl --out out --held-out 5");
    assert!(again.contains("proxy") && again.contains("wrote held-out.jsonl"), "{again}");
    let refused = place.refuses("data summarization posts.jsonl --out out --held-out 6", 2);
    assert!(refused.contains("held_out: 5 → 6"), "{refused}");
}

#[test]
fn dialogues_and_instructions_become_pairs_prompts_and_answers() {
    let place = Workplace::new();
    let dialogue = |first: &str, chosen: &str, rejected: &str| {
        let start = format!("\n\nHuman: {first}\n\nAssistant:");
        json!({"chosen": format!("{start} {chosen}"), "rejected": format!("{start} {rejected}")})
    };
    place.lines(
        "mine-test.jsonl",
        [
            dialogue("one", "a", "b"),
            dialogue("one", "a", "c"),
            dialogue("two", "d", "d"),
            dialogue("three", "e", "f"),
        ],
    );
    place.lines("others.jsonl", [dialogue("three", "g", "h")]);
    let manifest = data(&place, "dialogue mine-test.jsonl --held-out-data others.jsonl --out out");
    let lines = |name: &str| json_lines(&place.path("out").join(name));
    let prompt = "\n\nHuman: one\n\nAssistant:";
    assert_eq!(
        lines("pairs.jsonl"),
        [
            json!({"prompt": prompt, "chosen": " a", "rejected": " b"}),
            json!({"prompt": prompt, "chosen": " a", "rejected": " c"}),
        ]
    );
    // The same answer to the same prompt is shown once, and the prompt sampled for once.
    assert_eq!(lines("demonstrations.jsonl"), [json!({"prompt": prompt, "chosen": " a"})]);
    assert_eq!(lines("prompts.jsonl").len(), 1);
    assert_eq!(lines("held-out-pairs.jsonl").len(), 1);
    assert_eq!((count(&manifest, "equal-sides"), count(&manifest, "held-out-prompt")), (1, 1));

    place.lines(
        "train.jsonl",
        [
            json!({"instruction": "add", "input": "one", "output": "two"}),
            json!({"prompt": "say a", "chosen": "a", "rejected": "b"}),
        ],
    );
    data(&place, "instruction train.jsonl --out chat --held-out 0");
    let user = |content: &str| json!([{"role": "user", "content": content}]);
    assert_eq!(
        json_lines(&place.path("chat/demonstrations.jsonl")),
        [json!({"messages": user("add\n\none"), "chosen": "two"})]
    );
    assert_eq!(json_lines(&place.path("chat/prompts.jsonl")), [json!({"messages": user("say a")})]);
    assert_eq!(
        names(&place.path("chat")),
        ["data.json", "demonstrations.jsonl", "pairs.jsonl", "prompts.jsonl", "run.json"]
    );
}

#[test]
fn what_is_too_long_is_left_out_and_counted() {
    let place = Workplace::new();
    place.with_letters(LETTERS);
    let row =
        |prompt: &str, chosen: &str| json!({"prompt": prompt, "chosen": chosen, "rejected": "b"});
    place.lines("pairs.jsonl", [row("abc", "a"), row("abcdefgh", "a"), row("abd", "abcdefgh")]);
    let refused =
        place.refuses("data summarization pairs.jsonl --out out --max-prompt-tokens 4", 2);
    assert!(refused.contains("add --model"), "{refused}");
    // An answer has its space and its end-of-text token.
    let arguments = "summarization pairs.jsonl --out long --model model --held-out 0 --max-prompt-tokens 4 --max-answer-tokens 3";
    let manifest = data(&place, arguments);
    assert_eq!((count(&manifest, "long-prompt"), count(&manifest, "long-answer")), (1, 1));
    assert_eq!(json_lines(&place.path("long/pairs.jsonl")).len(), 1);
}

#[test]
fn wrong_data_says_what_to_do_and_writes_nothing() {
    let place = Workplace::new();
    place.write(
        "bad.jsonl",
        "{\"text\": \"a b c\", \"label\": 1}\n{\"text\": \"a\", \"label\": \"so so\"}\n",
    );
    insta::assert_snapshot!(place.refuses("data sentiment bad.jsonl --out out", 1), @r#"error: bad.jsonl:2: `label`: expected 0, 1, negative or positive, found "so so"; write 1 for the class to be rewarded and 0 for the other or pass --skip-bad 1"#);
    assert!(!place.path("out/data.json").exists());
    let manifest = data(
        &place,
        "sentiment bad.jsonl --out out --skip-bad 1 --fresh --held-out 0 --opening-tokens 1",
    );
    assert_eq!(manifest["skipped"], 1);
    place.lines("short.jsonl", [json!({"text": "a", "label": 1})]);
    insta::assert_snapshot!(place.refuses("data sentiment short.jsonl --out none", 2), @"error: expected examples, found none: 1 no longer than an opening; check the experiment and the limits");
}

#[test]
fn a_data_set_on_the_hub_is_fetched_by_its_part_and_read_again_offline() {
    let place = Workplace::new();
    let set = place.path("set");
    std::fs::create_dir_all(set.join("helpful")).unwrap();
    std::fs::create_dir_all(set.join("harmless")).unwrap();
    let dialogue = |reply: &str| {
        let start = "\n\nHuman: hi\n\nAssistant:";
        json!({"chosen": format!("{start} {reply}"), "rejected": format!("{start} no")}).to_string()
    };
    std::fs::write(set.join("helpful/train.jsonl"), dialogue("yes")).unwrap();
    std::fs::write(set.join("harmless/train.jsonl"), dialogue("never")).unwrap();
    std::fs::write(set.join("README.md"), "A set.").unwrap();
    let server = HubServer::start(&set);
    let run = |arguments: &str, environment: &[(&str, &str)]| {
        let mut command = place.exalign();
        command.args(["data", "dialogue", "--held-out", "0"]).args(arguments.split_whitespace());
        command.env("HF_ENDPOINT", &server.endpoint).env("HF_HOME", place.path("hf"));
        for name in ["HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"] {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied()).output().unwrap()
    };
    let output = run(&format!("{NAME}:helpful --out helpful"), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(json_lines(&place.path("helpful/pairs.jsonl"))[0]["chosen"], " yes");
    let asked = server.behaviour.lock().unwrap().asked.clone();
    assert!(asked.iter().all(|it| !it.contains("harmless") && !it.contains("README")), "{asked:?}");
    let snapshot = place.path("hf/hub/datasets--owner--tiny/snapshots").join(COMMIT);
    assert!(snapshot.join("helpful/train.jsonl").is_file());

    let offline = [("HF_HUB_OFFLINE", "1")];
    assert!(run(&format!("{NAME}:helpful --out again"), &offline).status.success());
    let message =
        |output: &std::process::Output| text(&output.stderr).lines().last().unwrap().to_owned();
    let output = run(&format!("{NAME}:harmless --out other"), &offline);
    assert!(
        message(&output).contains("since HF_HUB_OFFLINE is set, found none"),
        "{}",
        message(&output)
    );
    let output = run(&format!("{NAME}@v1 --out all"), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(json_lines(&place.path("all/pairs.jsonl")).len(), 2);
    let output = run("owner/none --out none", &[]);
    assert!(
        message(&output).contains("expected a data set of this name and revision"),
        "{}",
        message(&output)
    );
    let output = run(&format!("{NAME}:nothing --out none"), &[]);
    assert!(message(&output).contains("expected data: .jsonl"), "{}", message(&output));
}

#[test]
fn check_ends_in_what_to_do_and_its_exit_code_says_whether_training_takes_the_file() {
    let place = Workplace::new();
    place.with_letters(LETTERS);
    let pair = |prompt: &str, chosen: &str, rejected: &str| json!({"prompt": prompt, "chosen": chosen, "rejected": rejected});
    place.lines("fine.jsonl", [pair("a", "bc", "de"), pair("b", "cd", "ef")]);
    let printed = place.succeeds("check --data fine.jsonl --model model");
    assert!(
        printed.starts_with("2 preference pairs\n") && printed.ends_with("nothing: go ahead\n"),
        "{printed}"
    );

    place.lines("held-out.jsonl", [json!({"prompt": "a"})]);
    let printed =
        place.succeeds("check --data fine.jsonl --model model --against held-out.jsonl --json");
    let found: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&found["kind"], &found["shared_prompts"]), (&json!("preferences"), &json!(1)));

    // The model has 32 positions.
    let long = "abcdefgh".repeat(5);
    place.lines(
        "problems.jsonl",
        [pair("a", "b", "b"), pair("a", &long, "c"), pair(&long, "c", "d"), pair(&long, "d", "c")],
    );
    let output = place
        .exalign()
        .args(["check", "--data", "problems.jsonl", "--model", "model"])
        .output()
        .unwrap();
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    for line in [
        "  1: `chosen` and `rejected` are the same text; drop the pair",
        "✗ 1 line is bad (1 with equal sides): correct or drop the lines above, or pass --skip-bad 1",
        "✗ 1 record has a completion that does not fit: the model has no more positions (`max_position_embeddings` in \
         the model's config.json): take one that has 42",
        "• 2 prompts lose tokens from the left",
        "• 1 record contradicts an earlier one (lines 3 and 4)",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    assert!(text(&output.stderr).contains("error: problems.jsonl: training would refuse it"));
    // Training agrees about what it takes and what not.
    let align = "align --objective dpo --model model --out out --max-steps 1 --data";
    place.refuses(&format!("{align} problems.jsonl"), 1);
    place.succeeds(&format!("{align} fine.jsonl"));
}

#[test]
fn a_run_takes_published_data_and_says_which_size_it_cannot_fill() {
    let place = Workplace::new();
    place.with_letters(LETTERS);
    let review = |i: usize| {
        let letter = |n: usize| char::from(b'a' + (n % 19) as u8);
        let words: String =
            (0..6).flat_map(|n| [letter(i + n), letter(i * 5 + n * n), ' ']).collect();
        json!({"text": words.trim_end(), "label": i % 2})
    };
    place.lines("train.jsonl", (0..18).map(review));
    place.lines("test.jsonl", (18..24).map(review));
    let run = "run sentiment --preset small --model model --data train.jsonl --data test.jsonl \
               --set data.opening_tokens=4 --set data.review_tokens=12 --set data.demonstrations=8 \
               --set data.labelled=8 --set data.prompts=4 --set comparison.objectives=['dpo'] \
               --set data.held_out=";
    let refused = place.refuses(&format!("{run}60 --out run"), 2);
    assert!(
        refused.contains("data.held_out: expected 60 records in the published data, found"),
        "{refused}"
    );
    let planned = place.succeeds(&format!("{run}4 --dry-run --out other"));
    assert!(planned.contains("data"), "{planned}");
}

/// Rows read = rows used + rows dropped by reason + bad rows.
fn accounted(manifest: &Value) {
    let number = |value: &Value| value.as_u64().unwrap();
    let dropped: u64 = manifest["dropped"].as_object().unwrap().values().map(number).sum();
    let sum = number(&manifest["used"]) + dropped + number(&manifest["skipped"]);
    assert_eq!(number(&manifest["read"]), sum, "{manifest}");
}

#[test]
fn every_row_of_every_layout_is_used_or_counted() {
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let says = |from: &str, value: &str| json!({"from": from, "value": value});
    let dialogue = |first: &str, reply: &str| format!("\n\nHuman: {first}\n\nAssistant: {reply}");
    // Of each layout good rows, rows that are dropped, and one that is bad; in turns, with numbers in
    // the prompts, so that some are held out.
    type Layout<'a> = (&'a str, &'a str, Box<dyn Fn(usize, &str) -> Vec<Value> + 'a>);
    let layouts: Vec<Layout> = vec![
        (
            "alpaca",
            "instruction",
            Box::new(|_, q| {
                vec![
                    json!({"instruction": q, "input": "", "output": "a", "system": "s", "history": [["x", "y"]]}),
                    json!({"instruction": q, "input": "", "output": "b", "system": "s", "history": [["x", "y"]]}),
                    json!({"instruction": q, "output": ""}),
                    json!({"instruction": q, "output": "a", "images": ["x.png"]}),
                ]
            }),
        ),
        (
            "orca",
            "instruction",
            Box::new(|_, q| {
                vec![
                    json!({"system": "", "question": q, "chosen": "a", "rejected": "b"}),
                    json!({"system": "s", "question": q, "chosen": "a", "rejected": "a"}),
                ]
            }),
        ),
        (
            "sharegpt",
            "instruction",
            Box::new(|_, q| {
                vec![
                    json!({"conversations": [says("human", q), says("gpt", "a")]}),
                    json!({"conversations": [says("human", q)]}),
                ]
            }),
        ),
        (
            "unpaired",
            "instruction",
            Box::new(|n, q| {
                vec![
                    json!({"prompt": q, "completion": "a", "label": n % 2 == 0}),
                    json!({"messages": [turn("user", q), turn("assistant", "b")], "label": n % 2 == 1}),
                ]
            }),
        ),
        (
            "scored",
            "instruction",
            Box::new(|n, q| {
                vec![
                    json!({"prompt": q, "chosen": [turn("user", q), turn("assistant", "a")], "rejected": [turn("user", q), turn("assistant", "b")], "score_chosen": n % 4, "score_rejected": 1}),
                ]
            }),
        ),
        (
            "pairs and demonstrations",
            "instruction",
            Box::new(|n, q| {
                vec![match n % 2 {
                    0 => json!({"prompt": q, "chosen": "a", "rejected": "b"}),
                    _ => json!({"prompt": q, "response": "a", "source": "web"}),
                }]
            }),
        ),
        (
            "safe",
            "instruction",
            Box::new(|n, q| {
                vec![
                    json!({"prompt": q, "response_0": "a", "response_1": "b", "better_response_id": n % 3}),
                ]
            }),
        ),
        (
            "dialogues",
            "dialogue",
            Box::new(|_, q| {
                vec![
                    json!({"chosen": dialogue(q, "a"), "rejected": dialogue(q, "b")}),
                    json!({"chosen": dialogue(q, "a"), "rejected": dialogue("else", "b")}),
                ]
            }),
        ),
        (
            "posts",
            "summarization",
            Box::new(|_, q| {
                vec![
                    json!({"subreddit": "x", "title": "t", "post": q, "summary": format!("about {q}")}),
                    json!({"subreddit": "x", "title": "t", "post": q, "summary": "more"}),
                ]
            }),
        ),
        (
            "reviews",
            "sentiment",
            Box::new(|n, q| {
                vec![
                    json!({"text": format!("{q} is good for all"), "label": n % 2}),
                    json!({"text": q, "label": 1}),
                    json!({"text": format!("{q} {q} {q}"), "label": -1}),
                ]
            }),
        ),
    ];
    for (name, experiment, rows) in layouts {
        let place = Workplace::new();
        let mut all: Vec<Value> = (0..8).flat_map(|n| rows(n, &format!("case {n}"))).collect();
        all.extend(rows(0, "case 0")); // said before
        all.push(json!({"nothing": "of it"}));
        let read = all.len();
        place.lines("rows.jsonl", all);
        let manifest = data(
            &place,
            &format!(
                "{experiment} rows.jsonl --out out --held-out 3 --opening-tokens 3 --skip-bad 1"
            ),
        );
        assert_eq!((&manifest["read"], &manifest["skipped"]), (&json!(read), &json!(1)), "{name}");
        assert!(manifest["used"].as_u64().unwrap() > 1, "{name}: {manifest}");
        accounted(&manifest);
        let has_pairs = place.path("out/pairs.jsonl").exists();
        let is_compared =
            ["orca", "scored", "pairs and demonstrations", "safe", "dialogues", "posts"];
        assert_eq!(
            has_pairs,
            is_compared.contains(&name),
            "{name}: pairs are invented of posts alone"
        );
        assert_eq!(manifest["proxy"].is_string(), name == "posts");
    }
}

#[test]
fn a_set_that_is_held_out_as_a_whole_is_said_to_be() {
    let place = Workplace::new();
    let row = |i: usize| json!({"prompt": format!("p{i}"), "chosen": "a", "rejected": "b"});
    place.lines("rows.jsonl", (0..3).map(row));
    let said = |held_out: &str| {
        let arguments = format!("data instruction rows.jsonl --out out --fresh {held_out}");
        let output = place.exalign().args(arguments.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    for held_out in ["", "--held-out 3"] {
        let said = said(held_out);
        assert!(said.contains("no record is left to learn from"), "{said}");
        assert!(said.contains("pass a smaller --held-out"), "{said}");
    }
    assert!(!said("--held-out 2").contains("no record is left"));
}

#[test]
fn columns_that_are_not_used_are_listed_once() {
    let place = Workplace::new();
    let row = |i: usize| json!({"prompt": format!("p{i}"), "chosen": "a", "rejected": "b", "margin": i, "source": "web", "note": ""});
    place.lines("rows.jsonl", (0..4).map(row));
    let manifest = data(&place, "instruction rows.jsonl --out out --held-out 0");
    assert_eq!(manifest["columns_not_used"], json!({"margin": 4, "source": 4}));
    let printed = place.succeeds("data instruction rows.jsonl --out out --held-out 0");
    assert!(printed.contains("columns not used: margin (4 rows), source (4 rows)"), "{printed}");
    assert!(printed.contains("rows used"), "{printed}");
}

#[test]
fn tools_and_answers_of_several_messages_reach_the_records() {
    let place = Workplace::new();
    let tools = json!([{"type": "function", "function": {"name": "add"}}]);
    let user = json!({"role": "user", "content": "1 + 2?"});
    let call = json!({"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {}}}]});
    let answer = json!({"role": "assistant", "content": "3"});
    place.lines(
        "rows.jsonl",
        [json!({"prompt": [user], "chosen": [call], "rejected": [answer], "tools": tools, "chat_template_kwargs": {"x": 1}})],
    );
    data(&place, "instruction rows.jsonl --out out --held-out 0");
    let lines = |name: &str| json_lines(&place.path("out").join(name));
    let extras = |mut record: Value| {
        record["tools"] = tools.clone();
        record["chat_template_kwargs"] = json!({"x": 1});
        record
    };
    let pair = json!({"prompt": [user], "chosen": [call], "rejected": [answer]});
    assert_eq!(lines("pairs.jsonl"), [extras(pair)]);
    assert_eq!(
        lines("demonstrations.jsonl"),
        [extras(json!({"prompt": [user], "chosen": [call]}))]
    );
    assert_eq!(lines("prompts.jsonl"), [extras(json!({"messages": [user]}))]);
}

#[test]
fn data_in_any_form_is_read_wherever_a_file_is_given() {
    let place = Workplace::new();
    place.with_letters(LETTERS);
    let table = "prompt,chosen,rejected\na,bc,de\nb,\"c\nd\",ef\n";
    place.write("pairs.csv", table);
    place.write("pairs", &table.replace(',', "\t"));
    place.write("pairs.json", r#"[{"prompt": "a", "chosen": "bc", "rejected": "de"}, {"prompt": "b", "chosen": "c\nd", "rejected": "ef"}]"#);
    let scores: Vec<String> = ["pairs.csv", "pairs", "pairs.json"]
        .iter()
        .map(|name| place.succeeds(&format!("score --model model --data {name}")))
        .collect();
    assert_eq!(scores[0].lines().count(), 2);
    assert!(scores.iter().all(|it| *it == scores[0]), "{scores:?}");
    let printed = place.succeeds("check --data pairs --model model");
    assert!(printed.starts_with("2 preference pairs\n"), "{printed}");
    place.succeeds("align --objective dpo --model model --out out --max-steps 1 --data pairs.csv");
    place.write("pairs.zip", "PK\u{3}\u{4} and more");
    insta::assert_snapshot!(place.refuses("score --model model --data pairs.zip", 1), @"error: pairs.zip: expected rows as JSON Lines, JSON, CSV, TSV, Parquet or Arrow, found a zip archive; unpack it and give the files inside");
}
