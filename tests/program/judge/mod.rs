//! Claims about `exalign judge`: verdicts are asked for in both orders and never twice, whatever the
//! endpoint does; the key stays a secret; what people said is counted as statisticians count it.

mod endpoints;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::support::judge_server::{Fault, JudgeServer, Taste};
use crate::support::{SMALL_EXPERIMENT, Workplace, json_lines, text};
use serde_json::{Value, json};

const KEY: &str = "sk-loopback-3f9a1c";

/// `count` comparisons, the first answer longer in three of four; the ninth and every tenth after it
/// as long as the other.
fn comparisons(place: &Workplace, count: usize) {
    place.lines(
        "pairs.jsonl",
        (0..count).map(|i| {
            let a = format!("answer {i:03}{}", if i % 4 == 0 { "" } else { " with more words" });
            let b = if i % 10 == 5 { "x".repeat(a.len()) } else { format!("other {i:03} a bit") };
            json!({ "id": i, "prompt": format!("Question {i}?"), "completions": [a, b] })
        }),
    );
}

/// `exalign judge` with quick retries, to be run or killed.
fn judge(place: &Workplace, url: &str, more: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exalign"));
    command
        .current_dir(place.folder.path())
        .args(["judge", "--data", "pairs.jsonl", "--judge", &format!("openai:{url}")])
        .args(["--set", "judge.first_wait=0.02"])
        .args(more.split_whitespace())
        .env("EXALIGN_CACHE", place.path("cache"))
        .env("OPENAI_API_KEY", KEY)
        .env("NO_PROXY", "127.0.0.1")
        .env_remove("RUST_LOG");
    command
}

fn finished(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn run(place: &Workplace, url: &str, more: &str) -> Value {
    finished(&judge(place, url, more).output().unwrap())
}

/// The last line of a run that fails with `code`.
fn refusal(place: &Workplace, url: &str, more: &str, code: i32) -> String {
    let output = judge(place, url, more).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
    text(&output.stderr).lines().last().unwrap().replace(url, "URL")
}

/// A result without what asking for it has cost.
fn verdicts(mut result: Value) -> Value {
    for name in ["judge", "requests", "cached", "tokens"] {
        result.as_object_mut().unwrap().remove(name);
    }
    result
}

#[test]
fn both_orders_are_asked_once_each_at_temperature_0_and_counted() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 20);
    let result = run(&place, &server.url, "--out verdicts.jsonl --judge-model m");
    let counts = [
        "comparisons",
        "wins",
        "ties",
        "losses",
        "order_dependent",
        "no_verdict",
        "requests",
        "cached",
    ];
    assert_eq!(counts.map(|it| result[it].as_u64().unwrap()), [20, 13, 2, 5, 0, 0, 40, 0]);
    assert_eq!(result["win_rate"]["mean"], 0.7);
    assert_eq!(result["position_bias"]["mean"], 0.5);
    assert_eq!(
        result["tokens"],
        json!({"prompt": 4000, "completion": 400, "uncounted_answers": 0})
    );
    server.with(|state| {
        assert!(state.asked.values().all(|times| *times == 1));
        for request in &state.requests {
            assert_eq!((&request["temperature"], &request["model"]), (&json!(0), &json!("m")));
        }
        let expected = format!("Bearer {KEY}");
        assert!(state.keys.iter().all(|key| key.as_deref() == Some(&expected)));
    });
    let lines = json_lines(&place.path("verdicts.jsonl"));
    assert_eq!(lines.len(), 20);
    assert_eq!(lines[4]["id"], 4);
    assert_eq!((&lines[4]["forward"], &lines[4]["backward"]), (&json!("b"), &json!("b")));
    assert_eq!(lines[4]["grounds"][1], "One says more.\n**Verdict:** A");
    assert_eq!(lines[5]["verdict"], "tie");
    // With its output there it is done; without, everything is in the cache.
    assert_eq!(run(&place, &server.url, "--out verdicts.jsonl --judge-model m"), result);
    let again = run(&place, &server.url, "--judge-model m");
    assert_eq!((&again["requests"], &again["cached"]), (&json!(0), &json!(40)));
    assert_eq!((verdicts(again), server.num_requests()), (verdicts(result), 40));
    run(&place, &server.url, "--judge-model other");
    assert_eq!(server.num_requests(), 80, "another model is another judge");
}

#[test]
fn whatever_goes_wrong_on_the_way_the_verdicts_are_the_same_and_nothing_is_asked_needlessly() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 4);
    let expected = run(&place, &server.url, "");
    // A port where nobody listens yet.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut late = judge(
        &place,
        &format!("http://{address}/v1"),
        "--set judge.concurrency=1 --set judge.timeout=1 --set judge.max_retries=12",
    );
    let late = late.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let server = JudgeServer::on(TcpListener::bind(address).unwrap());
    let faults = [
        // The first question has seen the refused connections.
        Fault::Slow(Duration::ZERO),
        Fault::Hangup,
        Fault::Slow(Duration::from_millis(1500)),
        Fault::Status("500 Internal Server Error", None),
        Fault::Cut,
        Fault::NotJson,
        Fault::Status("429 Too Many Requests", Some("1")),
        Fault::NoVerdict,
    ];
    server.with(|state| state.faults.extend(faults));
    let output = late.wait_with_output().unwrap();
    let result = finished(&output);
    assert!(text(&output.stderr).contains("Connection refused"), "{}", text(&output.stderr));
    assert_eq!(verdicts(result), verdicts(expected));
    server.with(|state| {
        // Eight questions, one of them again after each of six faults, and once with a reminder.
        assert_eq!(state.times.len(), 8 + 6 + 1);
        assert_eq!(state.asked.len(), 8 + 1);
        assert!(
            state.times[7] - state.times[6] >= Duration::from_secs(1),
            "Retry-After is honoured"
        );
    });
}

#[test]
fn a_run_that_is_killed_continues_without_asking_a_question_twice() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 12);
    server.with(|state| state.answer_at_most = Some(10));
    let more = "--set judge.concurrency=3 --out verdicts.jsonl";
    let mut first = judge(&place, &server.url, more);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    server.until(|state| state.waiting == 3);
    first.kill().unwrap(); // SIGKILL
    first.wait().unwrap();
    let mut unanswered = server.with(|state| {
        assert_eq!(state.asked.len(), 13);
        state.answer_at_most = None;
        state.requests[..].iter().map(|it| it["messages"][0]["content"].clone()).collect::<Vec<_>>()
    });
    server.until(|state| state.waiting == 0);
    assert!(!place.path("verdicts.jsonl").exists());
    let result = run(&place, &server.url, more);
    assert_eq!((&result["cached"], &result["requests"]), (&json!(10), &json!(14)));
    assert_eq!(json_lines(&place.path("verdicts.jsonl")).len(), 12);
    server.with(|state| {
        // Twice came only the three that the first run got no answer to.
        unanswered.retain(|it| state.asked[it.as_str().unwrap()] > 1);
        assert_eq!((unanswered.len(), state.times.len(), state.asked.len()), (3, 10 + 3 + 14, 24));
    });
}

#[test]
fn ctrl_c_ends_with_130_and_the_same_command_continues() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 6);
    // Nobody is let in: the one that waits for the endpoint's next try is stopped in its sleep.
    let fault = Fault::Status("503 Service Unavailable", Some("60"));
    server.with(|state| state.faults.extend([fault]));
    let mut child = judge(&place, &server.url, "--set judge.concurrency=1");
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    server.until(|state| state.answered == 1);
    std::thread::sleep(Duration::from_millis(200));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert_eq!(run(&place, &server.url, "")["requests"], 12);
}

#[test]
fn the_key_is_in_no_file_and_no_log_even_where_the_endpoint_repeats_it() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 3);
    let mut everything = judge(&place, &server.url, "--out verdicts.jsonl -vv");
    let output = everything.env("RUST_LOG", "trace").output().unwrap();
    finished(&output);
    server.with(|state| state.faults.extend([Fault::WrongKey; 8]));
    let mut wrong = judge(&place, &server.url, "--judge-model other -vv");
    let refused = wrong.env("RUST_LOG", "trace").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    for output in [&output, &refused] {
        assert!(!text(&output.stderr).contains(KEY), "{}", text(&output.stderr));
        assert!(!text(&output.stdout).contains(KEY));
    }
    let last = text(&refused.stderr).lines().last().unwrap().replace(&server.url, "URL");
    insta::assert_snapshot!(last, @r#"error: URL: refuses with status 401 Unauthorized ({"error":"incorrect key: Bearer …"}); check the key in OPENAI_API_KEY"#);
    let mut seen = 0;
    search(place.folder.path(), &mut |path| {
        let bytes = std::fs::read(path).unwrap();
        assert!(!bytes.windows(KEY.len()).any(|it| it == KEY.as_bytes()), "{}", path.display());
        seen += 1;
    });
    assert!(seen >= 6 + 3, "answers, verdicts, their record, the pairs: {seen}");
}

/// The key in every part of an answer, in whatever way JSON lets it be written, and a secret of the
/// user's own fields.
#[test]
fn what_an_endpoint_repeats_of_keys_in_its_answers_is_kept_nowhere() {
    const OWN: &str = "own/secret-77";
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 5);
    let hidden: String = KEY.bytes().map(|it| format!("\\u{it:04x}")).collect();
    let streamed = |text: &str| {
        let pieces = [&text[..text.len() - 9], &text[text.len() - 9..]].map(|piece| {
            format!("data: {}\n\n", json!({"choices": [{"delta": {"content": piece}}]}))
        });
        format!("{}data: [DONE]\n\n", pieces.concat())
    };
    server.with(|state| {
        state.answer = Some(Box::new(move |request| {
            let text = request["messages"][0]["content"].as_str().unwrap();
            let said = |it: &str| json!({"choices": [{"message": {"content": it}}]}).to_string();
            let body = match () {
                () if text.contains("Question 0?") => said(&format!("{KEY} {OWN} Verdict: A")),
                () if text.contains("Question 1?") => {
                    said("Verdict: A, SECRET").replace("SECRET", &hidden)
                }
                () if text.contains("Question 2?") => streamed(&format!("Verdict: A {KEY}")),
                () if text.contains("Question 3?") => {
                    json!({"error": {"message": format!("{KEY} is over the content policy"),
                        "param": KEY, "code": 400}})
                    .to_string()
                }
                () => json!({"choices": [{"message": {"refusal": format!("not for {KEY}")}}]})
                    .to_string(),
            };
            let status = if text.contains("Question 3?") { "400 Bad Request" } else { "200 OK" };
            Some(crate::support::judge_server::Reply::new(status, body))
        }));
    });
    let more = format!(
        "--out verdicts.jsonl -vv --set judge.extra.api_key={OWN} --set judge.max_refused=9"
    );
    let output = judge(&place, &server.url, &more).env("RUST_LOG", "trace").output().unwrap();
    finished(&output);
    server.with(|state| assert_eq!(state.requests[0]["api_key"], OWN, "the endpoint has it"));
    let lines = std::fs::read_to_string(place.path("verdicts.jsonl")).unwrap();
    assert!(lines.contains("… … Verdict: A") && lines.contains("Verdict: A …"), "{lines}");
    assert!(lines.contains("not for …") && lines.contains("… is over"), "{lines}");
    for secret in [KEY, OWN] {
        for said in [&output.stdout, &output.stderr] {
            assert!(!text(said).contains(secret), "{}", text(said));
        }
        let mut seen = 0;
        search(place.folder.path(), &mut |path| {
            let bytes = std::fs::read(path).unwrap();
            let holds = bytes.windows(secret.len()).any(|it| it == secret.as_bytes());
            assert!(!holds, "{} holds {secret}", path.display());
            seen += 1;
        });
        assert!(seen >= 6 + 2, "answers, verdicts and their record: {seen}");
    }
}

fn search(folder: &Path, look: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { search(&path, look) } else { look(&path) }
    }
}

#[test]
fn what_will_not_pass_ends_the_work_at_once_and_says_what_to_do() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 3);
    let url = &server.url;
    let one = "--set judge.concurrency=1";
    server.with(|state| state.faults.push_back(Fault::Status("405 Method Not Allowed", None)));
    insta::assert_snapshot!(refusal(&place, url, one, 1), @r#"error: URL: refuses with status 405 Method Not Allowed ({"error": "not now"}); check the URL, which ends in /v1 mostly"#);
    assert_eq!(server.num_requests(), 1);
    server
        .with(|state| state.faults.push_back(Fault::Status("429 Too Many Requests", Some("3600"))));
    insta::assert_snapshot!(refusal(&place, url, one, 1), @r#"error: URL: answers with status 429 Too Many Requests ({"error": "not now"}), and asks to wait 3600 s; start the command again then (answers so far are kept), or raise judge.max_wait"#);
    assert_eq!(server.num_requests(), 2);
    let elsewhere = format!("{url}/v2");
    insta::assert_snapshot!(refusal(&place, &elsewhere, one, 1), @"error: URL: refuses with status 404 Not Found ({}); check the URL, which ends in /v1 mostly, and judge.model (default); URL/models lists those that it has");
    // Two answers arrive, then the endpoint is down for good.
    let down = std::iter::repeat_n(Fault::Hangup, 3);
    let before = server.num_requests();
    server.with(|state| {
        state.faults.extend([Fault::Slow(Duration::ZERO); 2]);
        state.faults.extend(down);
    });
    let message = refusal(&place, url, &format!("{one} --set judge.max_retries=2"), 1);
    assert!(
        message.ends_with(", 3 times; start the command again to go on, answers so far are kept"),
        "{message}"
    );
    assert_eq!(server.num_requests() - before, 5);
    let rest = run(&place, url, one);
    assert_eq!((&rest["cached"], &rest["requests"]), (&json!(2), &json!(4)));
    insta::assert_snapshot!(refusal(&place, "ftp://me:secret@host", one, 2), @"error: --judge openai:URL: expected the endpoint's base such as http://127.0.0.1:8000/v1, found one with a user or a mark; keys go into the environment");
    insta::assert_snapshot!(refusal(&place, url, "--template poetry", 2), @"error: `judge.template`: expected one of generic, summarization, dialogue, instruction or a file, found `poetry`");
}

#[test]
fn a_judge_that_takes_the_first_wins_nobody_anything_and_is_found_out() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 8);
    server.with(|state| state.taste = Taste::First);
    let result = run(&place, &server.url, "");
    assert_eq!((&result["ties"], &result["order_dependent"]), (&json!(8), &json!(8)));
    assert_eq!(result["position_bias"], json!({"mean": 1.0, "low": 1.0, "high": 1.0}));
    assert_eq!(
        (&result["win_rate"]["mean"], &result["prompts_to_tell_apart"]),
        (&json!(0.5), &Value::Null)
    );
}

// (A, B), (A, A), (tie, B) and (B, tie) of the two orders, by the answers' names: of the six decisions the
// answer shown first has the two of the first question, one of the second and one of the third.
#[test]
fn the_share_of_decisions_for_the_answer_shown_first_is_counted() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    let comparison =
        |i: usize| json!({"prompt": format!("Question {i}?"), "completions": ["alpha", "omega"]});
    place.lines("pairs.jsonl", (0..4).map(comparison));
    server.with(|state| {
        state.answer = Some(Box::new(|request| {
            let text = request["messages"][0]["content"].as_str().unwrap();
            let number = (0..4).find(|it| text.contains(&format!("Question {it}?"))).unwrap();
            let is_forward = text.find("alpha") < text.find("omega");
            // What is shown first is A to the judge.
            let verdict = match (number, is_forward) {
                (0, _) | (1, true) | (2, false) => "A",
                (1, false) | (3, true) => "B",
                _ => "tie",
            };
            let message = json!({"content": format!("Verdict: {verdict}")});
            let body = json!({"choices": [{"message": message}]}).to_string();
            Some(crate::support::judge_server::Reply::new("200 OK", body))
        }));
    });
    let result = run(&place, &server.url, "--out verdicts.jsonl");
    near(&result["position_bias"]["mean"], 4.0 / 6.0, 1e-12);
    let counts = ["wins", "ties", "losses", "order_dependent", "no_verdict"];
    assert_eq!(counts.map(|it| result[it].as_u64().unwrap()), [1, 3, 0, 3, 0]);
    near(&result["win_rate"]["mean"], 2.5 / 4.0, 1e-12);
    let lines = json_lines(&place.path("verdicts.jsonl"));
    let orders: Vec<[&str; 2]> = (lines.iter())
        .map(|it| ["forward", "backward"].map(|name| it[name].as_str().unwrap()))
        .collect();
    assert_eq!(orders, [["a", "b"], ["a", "a"], ["tie", "b"], ["b", "tie"]]);
}

#[test]
fn a_judge_that_says_no_verdict_is_reminded_once_and_left_out() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 3);
    server.with(|state| state.taste = Taste::Silent);
    let output = judge(&place, &server.url, "--out verdicts.jsonl").output().unwrap();
    let (result, stderr) = (finished(&output), text(&output.stderr));
    let end = "none of 6 replies holds a verdict; one ends with \"Who can tell?\"; ask in judge.template for a last line such as \"Verdict: A\"";
    assert!(stderr.contains(end), "{stderr}");
    assert_eq!((&result["no_verdict"], &result["win_rate"]), (&json!(3), &Value::Null));
    assert_eq!((&result["requests"], server.num_requests()), (&json!(12), 12));
    let lines = json_lines(&place.path("verdicts.jsonl"));
    assert!(lines.iter().all(|it| it["verdict"].is_null() && it["grounds"][0] == "Who can tell?"));
}

#[test]
fn the_same_comparison_twice_and_the_same_answer_twice_are_not_asked_twice() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    let pair = |a: &str, b: &str| json!({"prompt": "Why?", "completions": [a, b]});
    place.lines(
        "pairs.jsonl",
        [
            pair("Because.", "So."),
            pair("Because.", "So."),
            pair("So.", "Because."),
            pair("So.", " So."),
        ],
    );
    let result = run(&place, &server.url, "");
    assert_eq!(server.num_requests(), 2);
    let counts = ["wins", "losses", "ties", "prompts"].map(|it| result[it].as_u64().unwrap());
    assert_eq!(counts, [2, 1, 1, 1]);
    let width =
        |name: &str| result[name]["high"].as_f64().unwrap() - result[name]["low"].as_f64().unwrap();
    assert!(width("win_rate_over_prompts") > width("win_rate"), "one prompt is one prompt");
}

fn labels(i: usize) -> Vec<&'static str> {
    (0..3).map(|j| label(i, j)).collect()
}

/// What annotator `j` says of item `i`.
fn label(i: usize, j: usize) -> &'static str {
    match (7 * i * i + 3 * i + 5 * j * (i % 3)) % 11 {
        0..5 => "a",
        5..9 => "b",
        _ => "tie",
    }
}

fn near(found: &Value, expected: f64, tolerance: f64) {
    let found = found.as_f64().unwrap();
    assert!((found - expected).abs() < tolerance, "{found} and {expected}");
}

// By statsmodels 0.14 and NumPy on the same labels: majorities, the score interval at (21 + 11/2) / 40,
// fleiss_kappa and cohens_kappa of every two annotators, proportion_confint(method="wilson"), the
// quantiles of 100000 resamples of items, Connor's number of prompts.
#[test]
fn three_labels_an_item_come_to_what_statsmodels_says() {
    let place = Workplace::new();
    place.lines(
        "labelled.jsonl",
        (0..40).map(
            |i| json!({"prompt": format!("{i}"), "completions": ["x", "y"], "labels": labels(i)}),
        ),
    );
    let result: Value =
        serde_json::from_str(&place.succeeds("judge --data labelled.jsonl --judge labels"))
            .unwrap();
    let counts = ["comparisons", "wins", "ties", "losses", "prompts_to_tell_apart"];
    assert_eq!(counts.map(|it| result[it].as_u64().unwrap()), [40, 21, 11, 8, 52]);
    near(&result["win_rate"]["mean"], 0.6625, 1e-12);
    near(&result["win_rate"]["low"], 0.507_568_996_881_097_7, 1e-12);
    near(&result["win_rate"]["high"], 0.788_953_982_729_784_2, 1e-12);
    let annotators = &result["annotators"];
    assert_eq!((&annotators["items"], &annotators["unanimous"]), (&json!(40), &json!(18)));
    near(&annotators["pairwise_agreement"]["mean"], 0.616_666_666_666_666_7, 1e-12);
    // 2000 resamples know a quantile's place to about a fiftieth of the interval.
    near(&annotators["pairwise_agreement"]["low"], 0.508_333, 0.02);
    near(&annotators["pairwise_agreement"]["high"], 0.725, 0.02);
    near(&annotators["fleiss_kappa"], 0.362_439_362_439_362_4, 1e-12);
    let pairs = [
        (0.625, 0.470_324_391_373_011, 0.366_420_274_551_214_4, 0.128_728_303_404_327),
        (0.725, 0.571_650_441_937_894_3, 0.537_815_126_050_420_1, 0.113_844_153_265_780_2),
        (0.5, 0.351_995_269_334_653_75, 0.209_486_166_007_905_1, 0.118_308_053_598_795_8),
    ];
    for (found, (agreement, low, kappa, error)) in
        annotators["pairs"].as_array().unwrap().iter().zip(pairs)
    {
        near(&found["agreement"]["mean"], agreement, 1e-12);
        near(&found["agreement"]["low"], low, 1e-12);
        near(&found["kappa"]["mean"], kappa, 1e-12);
        near(&found["kappa_standard_error"], error, 1e-12);
        let width =
            found["kappa"]["high"].as_f64().unwrap() - found["kappa"]["low"].as_f64().unwrap();
        assert!((width / (2.0 * 1.96 * error) - 1.0).abs() < 0.15, "{found}");
    }
}

// A judge that takes the longer answer, against the majorities of the same labels; by statsmodels.
#[test]
fn a_judges_agreement_with_people_is_what_statsmodels_says() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 40);
    let labelled =
        json_lines(&place.path("pairs.jsonl")).into_iter().enumerate().map(|(i, mut it)| {
            it["labels"] = json!(labels(i));
            it
        });
    place.lines("pairs.jsonl", labelled);
    let result = run(&place, &server.url, "");
    let people = &result["people"];
    assert_eq!(people["items"], 40);
    near(&people["agreement"]["mean"], 0.375, 1e-12);
    near(&people["agreement"]["low"], 0.242_229_791_672_332_7, 1e-12);
    near(&people["agreement"]["high"], 0.529_675_608_626_989, 1e-12);
    near(&people["kappa"]["mean"], -0.075_268_817_204_301_2, 1e-12);
    near(&people["kappa_standard_error"], 0.098_533_328_901_047_07, 1e-12);
}

#[test]
fn files_that_cannot_be_judged_say_so_with_their_line() {
    let place = Workplace::new();
    let group = |prompt: &str| json!({"prompt": prompt, "completions": ["x", "z"]});
    place.lines("ours.jsonl", [group("one"), group("two")]);
    place.lines("theirs.jsonl", [group("one"), group("three")]);
    insta::assert_snapshot!(place.refuses("judge --data ours.jsonl --judge labels", 1), @r#"error: ours.jsonl:1: `labels`: expected at least one label, such as ["a", "tie"], found none; label or drop the record or pass --skip-bad 1"#);
    insta::assert_snapshot!(place.refuses("judge --data ours.jsonl --against theirs.jsonl --judge reward:model", 1), @"error: model: expected a reward model (GPT2ForSequenceClassification), found [\"GPT2LMHeadModel\"]; `exalign reward` makes one");
    insta::assert_snapshot!(place.refuses("judge --data ours.jsonl --against theirs.jsonl --judge labels", 2), @"error: --judge labels: expected comparisons with `labels` in --data, found --against; groups have no labels");
    let (server, url) = (JudgeServer::start(), "http://127.0.0.1:9");
    let arguments = format!("judge --data ours.jsonl --against theirs.jsonl --judge openai:{url}");
    insta::assert_snapshot!(place.refuses(&arguments, 1), @"error: ours.jsonl:2: `prompt`: expected a group for the same prompt in theirs.jsonl, found none (left); sample both for the same prompts, or drop the record or pass --skip-bad 1");
    place.lines("ids.jsonl", [json!({"prompt_ids": [1], "completion_ids": [[2], [3]]})]);
    insta::assert_snapshot!(place.refuses(&format!("judge --data ids.jsonl --judge openai:{}", server.url), 2), @"error: --judge openai:URL: expected prompts and answers as text, found token ids alone; an endpoint reads text only");
    assert_eq!(server.num_requests(), 0);
}

#[test]
fn a_reward_model_prefers_what_it_gives_more_reward_and_two_files_are_paired_by_prompt() {
    let place = Workplace::new();
    place.lines(
        "train.jsonl",
        (0..8)
            .map(|i| json!({"prompt_ids": [i], "chosen_ids": [2, 3], "rejected_ids": [4, 5 + i]})),
    );
    place.succeeds(
        "reward --model model --data train.jsonl --out reward --set training.batch_size=4",
    );
    let group = |i: u32, token: u32| json!({"prompt_ids": [i], "completion_ids": [[token, 3 + i % 5], [1]]});
    place.lines("ours.jsonl", (0..10).map(|i| group(i, 2 + i)));
    place.lines("theirs.jsonl", (0..10).rev().map(|i| group(i, 12)));
    let against =
        "judge --data ours.jsonl --against theirs.jsonl --judge reward:reward --out verdicts.jsonl";
    let result: Value = serde_json::from_str(&place.succeeds(against)).unwrap();
    let rewards = |name: &str| -> Vec<f64> {
        place.succeeds(&format!(
            "label --reward reward --data {name}.jsonl --out {name}-labelled.jsonl"
        ));
        let groups = json_lines(&place.path(&format!("{name}-labelled.jsonl")));
        groups.iter().map(|it| it["rewards"][0].as_f64().unwrap()).collect()
    };
    let (ours, mut theirs) = (rewards("ours"), rewards("theirs"));
    theirs.reverse();
    let wins = ours.iter().zip(&theirs).filter(|(a, b)| a > b).count();
    let losses = ours.iter().zip(&theirs).filter(|(a, b)| a < b).count();
    assert!(wins > 0 && losses > 0, "{wins} {losses}");
    assert_eq!((&result["wins"], &result["losses"]), (&json!(wins), &json!(losses)));
    for (line, (a, b)) in
        json_lines(&place.path("verdicts.jsonl")).iter().zip(ours.iter().zip(&theirs))
    {
        near(&line["grounds"][0], *a, 1e-4);
        near(&line["grounds"][1], *b, 1e-4);
    }
}

#[test]
fn a_reward_that_is_no_number_is_refused_with_the_record_it_is_for() {
    let place = Workplace::new();
    let pair =
        |i: u32| json!({"prompt_ids": [i], "chosen_ids": [2, 3], "rejected_ids": [4, 5 + i]});
    place.lines("train.jsonl", (0..4).map(pair));
    place.succeeds(
        "reward --model model --data train.jsonl --out reward --set training.batch_size=4",
    );
    // The row of token 9 is beyond what can be computed with: the reward of what holds it is no number.
    let path = place.path("reward/model/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let (_, embedding) =
        header.as_object().unwrap().iter().find(|(name, _)| name.ends_with("wte.weight")).unwrap();
    let at = 8 + length + embedding["data_offsets"][0].as_u64().unwrap() as usize;
    let width = embedding["shape"][1].as_u64().unwrap() as usize;
    let row = at + 9 * width * 4;
    for entry in bytes[row..row + 4 * width].chunks_mut(4) {
        entry.copy_from_slice(&f32::MAX.to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    place.write(
        "pairs.jsonl",
        "{\"prompt_ids\": [1], \"completion_ids\": [[2], [3]]}\n\n{\"prompt_ids\": [1], \"completion_ids\": [[2], [9]]}\n",
    );
    insta::assert_snapshot!(place.refuses("judge --data pairs.jsonl --judge reward:reward", 1), @"error: line 3: the reward of completion 2 is not finite, so that nothing can be concluded from it. Keep the weights as f32 or bf16 if they are f16 (--dtype), look at an adapter's lora_alpha, or take an earlier checkpoint of the model");
}

#[test]
fn an_experiment_reports_the_win_rates_of_its_judge_and_asks_it_once() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    let judged = format!(
        "{SMALL_EXPERIMENT} --set comparison.judged_prompts=5 --set comparison.judge=openai:{}",
        server.url
    );
    let report = || -> Value {
        serde_json::from_slice(&std::fs::read(place.path("run/report.json")).unwrap()).unwrap()
    };
    // A judge that sends the run away does not take the rest of the report with it.
    server.with(|state| state.faults.extend([Fault::WrongKey; 100]));
    let output = place.exalign().args(judged.split_whitespace()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let summary = report()["summary"].as_array().unwrap().last().unwrap().to_string();
    assert!(summary.contains("There are no win rates, since the judge failed"), "{summary}");
    assert_eq!(report()["win_rates"], json!([]));
    server.with(|state| state.faults.clear());
    let refused = server.num_requests();

    place.succeeds(&judged);
    let rows = report()["win_rates"].clone();
    let rows = rows.as_array().unwrap();
    let opponents: Vec<&str> = rows.iter().map(|it| it["opponent"].as_str().unwrap()).collect();
    assert_eq!(opponents, ["sft", "chosen"].repeat(4));
    for row in rows {
        let count = |name: &str| row[name].as_u64().unwrap();
        assert_eq!(
            count("wins") + count("ties") + count("losses") + count("no_verdict"),
            5,
            "{row}"
        );
        let rate = (count("wins") as f64 + count("ties") as f64 / 2.0) / 5.0;
        near(&row["rate"]["mean"], rate, 1e-12);
        assert_eq!(row["judge"], format!("default at {}", server.url));
    }
    let results = report()["results"].clone();
    let both = results.as_array().unwrap().iter().filter(|it| it["kl_low_variance"].is_object());
    assert_eq!(both.count(), 5, "SFT and four objectives have both estimates of the KL");
    let asked = server.num_requests();
    assert!(asked > refused);
    place.succeeds(&judged);
    assert_eq!(server.num_requests(), asked);
    let refused = place.refuses("run sentiment --out other --set comparison.judge=rule", 2);
    insta::assert_snapshot!(refused, @"error: comparison.judge: expected reward or openai:URL, found rule, which sentiment does not have on this data");
}
