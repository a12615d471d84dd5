//! Claims about endpoints that refuse, cut, stream or wrap what they say: one comparison spoils no
//! other, and what was not read for certain is no verdict.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use super::{comparisons, finished, judge, refusal, run, verdicts};
use crate::support::judge_server::{Fault, JudgeServer, Reply, Taste, verdict_on};
use crate::support::{Workplace, json_lines, text};

const ONE: &str = "--set judge.concurrency=1";

fn said(request: &Value) -> Value {
    json!({ "role": "assistant", "content": verdict_on(request) })
}

fn completion(message: Value, reason: &str) -> Value {
    json!({
        "choices": [{ "index": 0, "message": message, "finish_reason": reason }],
        "usage": { "prompt_tokens": 100, "completion_tokens": 10 },
    })
}

fn error(message: &str, code: &str) -> String {
    json!({ "error": { "message": message, "code": code } }).to_string()
}

fn is_about(request: &Value, words: &str) -> bool {
    request["messages"][0]["content"].as_str().unwrap().contains(words)
}

fn answers(server: &JudgeServer, answer: impl Fn(&Value) -> Option<Reply> + Send + 'static) {
    server.with(|state| state.answer = Some(Box::new(answer)));
}

#[test]
fn parameters_that_an_endpoint_refuses_are_found_out_once_and_named() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 4);
    let expected = verdicts(run(&place, &server.url, ""));
    let server = JudgeServer::start();
    answers(&server, |request| {
        let message = ["temperature", "max_tokens"]
            .into_iter()
            .find(|it| request.get(*it).is_some())
            .map(|it| format!("Unsupported parameter: '{it}' is not supported with this model."))?;
        Some(Reply::new("400 Bad Request", error(&message, "unsupported_parameter")))
    });
    let output = judge(&place, &server.url, ONE).output().unwrap();
    let stderr = text(&output.stderr);
    for setting in ["judge.temperature", "judge.max_completion_tokens"] {
        assert_eq!(stderr.matches(setting).count(), 1, "{stderr}");
    }
    let mut result = finished(&output);
    assert_eq!(result["left_out"], json!(["temperature"]));
    result.as_object_mut().unwrap().remove("left_out");
    assert_eq!(verdicts(result), expected);
    server.with(|state| {
        let last = state.requests.last().unwrap();
        assert_eq!((&last["max_completion_tokens"], last.get("temperature")), (&json!(256), None));
        assert_eq!(state.times.len(), 8 + 2, "the first question tells");
    });
    let again = run(&place, &server.url, "");
    assert_eq!((&again["requests"], &again["left_out"]), (&json!(0), &json!(["temperature"])));

    // Where it is refused without one as well, and where a field of the user's own is.
    answers(&server, |_| {
        Some(Reply::new("400 Bad Request", error("temperature: out of order", "invalid")))
    });
    insta::assert_snapshot!(refusal(&place, &server.url, "--judge-model n --set judge.concurrency=1", 1), @r#"error: URL: refuses with status 400 ({"error":{"message":"temperature: out of order","code":"invalid"}}); change judge.temperature"#);
    answers(&server, |_| {
        Some(Reply::new("400 Bad Request", error("unknown field 'effort'", "unknown_parameter")))
    });
    insta::assert_snapshot!(refusal(&place, &server.url, "--set judge.extra.effort=low --set judge.concurrency=1", 1), @r#"error: URL: refuses with status 400 ({"error":{"message":"unknown field 'effort'","code":"unknown_parameter"}}); change judge.extra.effort"#);
}

#[test]
fn an_endpoint_that_answers_in_streams_only_is_asked_for_streams() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 4);
    let expected = verdicts(run(&place, &server.url, ""));
    let server = JudgeServer::start();
    answers(&server, |request| {
        if request["stream"] == json!(false) {
            let message =
                "This model only supports stream mode, please enable the stream parameter.";
            return Some(Reply::new("400 Bad Request", error(message, "invalid_parameter")));
        }
        let piece = json!({"choices": [{"delta": said(request), "finish_reason": "stop"}]});
        let headers = "Content-Type: text/event-stream\r\n";
        let body = format!("data: {piece}\n\ndata: [DONE]\n\n");
        Some(Reply { headers, ..Reply::new("200 OK", body) })
    });
    let output = judge(&place, &server.url, ONE).output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(stderr.matches("answers in streams only").count(), 1, "{stderr}");
    assert_eq!(verdicts(finished(&output)), expected);
    assert_eq!(server.num_requests(), 8 + 1, "the first question tells");
    assert_eq!(run(&place, &server.url, "")["requests"], 0);
}

#[test]
fn settings_that_shape_answers_are_asked_anew_and_are_part_of_what_an_output_was_made_from() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 2);
    let url = &server.url;
    run(&place, url, "--out verdicts.jsonl");
    for (count, setting) in [
        "judge.temperature=0.5",
        "judge.temperature=none",
        "judge.max_tokens=0",
        "judge.max_completion_tokens=9",
        "judge.extra.reasoning_effort=low",
    ]
    .into_iter()
    .enumerate()
    {
        run(&place, url, &format!("--set {setting}"));
        assert_eq!(server.num_requests(), 4 * (count + 2), "{setting}");
        let key = setting.split('=').next().unwrap();
        let message = refusal(&place, url, &format!("--out verdicts.jsonl --set {setting}"), 2);
        assert!(message.contains(&format!("other settings: {key}: ")), "{message}");
    }
    server.with(|state| assert_eq!(state.requests.last().unwrap()["reasoning_effort"], "low"));
    insta::assert_snapshot!(refusal(&place, url, "--set judge.extra.stream=true", 2), @"error: `--set judge.extra.stream`: expected a field that exalign does not send itself, found `stream`; leave it out");
    insta::assert_snapshot!(refusal(&place, url, "--set judge.temperature=cold", 2), @r#"error: `--set judge.temperature`: expected a number, or "none", found "cold""#);
    insta::assert_snapshot!(refusal(&place, url, "--set judge.extra=low", 2), @r#"error: `--set judge.extra`: expected fields, such as judge.extra.name=value, found "low""#);
}

/// Refuses what is about the third, the fifth and the seventh question, each for another reason.
fn picky(request: &Value) -> Option<Reply> {
    if is_about(request, "Question 2?") {
        let filtered = error("The prompt was filtered.", "content_filter");
        return Some(Reply::new("400 Bad Request", filtered));
    }
    if is_about(request, "Question 4?") {
        let long = error("The maximum context length is 64 tokens.", "context_length_exceeded");
        return Some(Reply::new("400 Bad Request", long));
    }
    if is_about(request, "Question 6?") {
        let ended = completion(json!({ "content": "Verdict: A" }), "content_filter");
        return Some(Reply::new("200 OK", ended.to_string()));
    }
    None
}

#[test]
fn comparisons_that_an_endpoint_refuses_are_counted_and_spoil_no_other() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 10);
    answers(&server, picky);
    let output = judge(&place, &server.url, "--out verdicts.jsonl").output().unwrap();
    let (result, stderr) = (finished(&output), text(&output.stderr));
    let counts = ["comparisons", "refused", "no_verdict", "requests"];
    assert_eq!(counts.map(|it| result[it].as_u64().unwrap()), [10, 3, 3, 20]);
    for id in ["id 2", "id 4", "id 6"] {
        assert_eq!(stderr.matches(&format!("{id} has no verdict")).count(), 1, "{stderr}");
    }
    let lines = json_lines(&place.path("verdicts.jsonl"));
    assert!(lines[2]["refused"].as_str().unwrap().contains("filtered"), "{}", lines[2]);
    assert_eq!((&lines[6]["verdict"], lines[3].get("refused")), (&Value::Null, None));

    // One more than may be refused: the work ends, and what was answered is kept.
    let url = &server.url;
    insta::assert_snapshot!(refusal(&place, url, "--judge-model m --set judge.max_refused=1 --set judge.concurrency=1", 1), @r#"error: URL: refuses 2 comparisons, the first id 2: status 400 ({"error":{"message":"The prompt was filtered.","code":"content_filter"}}); drop such comparisons, or ask a model without this filter (answers so far are kept), or raise judge.max_refused (1) or --skip-bad"#);
    let before = server.num_requests();
    let rest = run(&place, url, "--judge-model m --set judge.max_refused=1 --set data.skip_bad=5");
    let kept = rest["cached"].as_u64().unwrap() as usize;
    assert!((6..10).contains(&kept), "{rest}");
    assert_eq!(server.num_requests() - before, 20 - kept, "{rest}");
}

#[test]
fn an_endpoint_that_refuses_everything_ends_the_work_early_and_says_why() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 30);
    let url = &server.url;
    answers(&server, |_| Some(Reply::new("422 Unprocessable Entity", "{\"detail\": \"no\"}")));
    insta::assert_snapshot!(refusal(&place, url, ONE, 1), @r#"error: URL: refuses all of 4 comparisons, the first id 0: status 422 ({"detail": "no"}); check judge.model, judge.temperature, judge.max_tokens, judge.extra and the template"#);
    // Four comparisons in one order or both, and what was under way.
    assert!((7..=10).contains(&server.num_requests()), "{}", server.num_requests());
    place.lines("pairs.jsonl", [json!({"prompt": "p", "chosen": "x", "rejected": "y"})]);
    answers(&server, |_| Some(Reply::new("413 Payload Too Large", "")));
    insta::assert_snapshot!(refusal(&place, url, ONE, 1), @"error: URL: refuses the only comparison, the first line 1: status 413 (nothing); drop or shorten such comparisons, ask a model with a longer context, or lower judge.max_tokens");
}

#[test]
fn a_question_that_an_endpoint_never_answers_is_given_up_and_the_others_are_not() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 4);
    answers(&server, |request| {
        is_about(request, "Question 1?").then(|| Reply::new("529 Overloaded", "<html>"))
    });
    let more = "--set judge.concurrency=1 --set judge.max_retries=1 --set judge.first_wait=0.001";
    // Both orders in a row: the endpoint may be gone.
    let message = refusal(&place, &server.url, more, 1);
    assert!(message.contains("529") && message.contains("start the command again"), "{message}");
    let more = "--set judge.concurrency=2 --set judge.max_retries=1 --set judge.first_wait=0.2";
    answers(&server, |request| {
        let is_backward =
            request["messages"][0]["content"].as_str().unwrap().contains("_a>\nother");
        (is_about(request, "Question 1?") && is_backward)
            .then(|| Reply::new("529 Overloaded", "<html>"))
    });
    let result = run(&place, &server.url, more);
    assert_eq!((&result["refused"], &result["no_verdict"]), (&json!(1), &json!(1)));
}

#[test]
fn a_verdict_is_read_whatever_form_the_reply_has() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 3);
    let expected = verdicts(run(&place, &server.url, ""));
    let parts = |request: &Value| {
        let thought =
            json!({"type": "thinking", "thinking": [{"type": "text", "text": "Verdict: tie"}]});
        completion(
            json!({"content": [thought, {"type": "text", "text": verdict_on(request)}]}),
            "stop",
        )
    };
    let object = |value: Value| Reply::new("200 OK", value.to_string());
    type Form = Box<dyn Fn(&Value) -> Reply + Send>;
    let forms: Vec<(&str, Form)> = vec![
        ("parts", Box::new(move |it| object(parts(it)))),
        (
            "thoughts",
            Box::new(move |it| {
                let text = format!("<think>Verdict: tie</think>\n{}", verdict_on(it));
                object(completion(
                    json!({"content": text, "reasoning_content": "Verdict: tie"}),
                    "stop",
                ))
            }),
        ),
        ("completions", Box::new(move |it| object(json!({"choices": [{"text": verdict_on(it)}]})))),
        (
            "two choices",
            Box::new(move |it| {
                let other = json!({"index": 1, "message": {"content": "Verdict: tie"}});
                object(json!({"choices": [other, {"index": 0, "message": said(it)}]}))
            }),
        ),
        (
            "gzip",
            Box::new(|it| {
                let mut packed =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packed.write_all(completion(said(it), "stop").to_string().as_bytes()).unwrap();
                let headers = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
                Reply { status: "200 OK", headers, body: packed.finish().unwrap() }
            }),
        ),
        (
            "stream",
            Box::new(|it| {
                let piece = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
                let text = verdict_on(it);
                let (first, rest) = text.split_at(5);
                let body = format!(
                    "\u{feff}: keep-alive\r\n\r\nevent: message\r\nid: 1\r\ndata:{}\r\n\r\n: ping\r\n\r\ndata: {}\r\n\r\ndata: {}\r\n\r\ndata: [DONE]\r\n\r\n",
                    piece(json!({"role": "assistant", "content": first})),
                    piece(json!({"content": [{"type": "text", "text": rest}]})),
                    json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
                );
                Reply {
                    status: "200 OK",
                    headers: "Content-Type: text/event-stream\r\n",
                    body: body.into(),
                }
            }),
        ),
    ];
    for (name, form) in forms {
        answers(&server, move |request| Some(form(request)));
        let result = run(&place, &server.url, &format!("--judge-model {}", name.replace(' ', "-")));
        assert_eq!(verdicts(result), expected, "{name}");
    }
}

#[test]
fn what_was_cut_or_says_nothing_is_no_verdict_and_is_asked_again() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 2);
    let expected = verdicts(run(&place, &server.url, ""));
    let whole = |message: Value| completion(message, "stop");
    for (name, reply, warning) in [
        ("cut", completion(json!({"content": "Verdict: A"}), "length"), "judge.max_tokens (256)"),
        (
            "thinking",
            completion(json!({"content": null, "reasoning": "Verdict: A"}), "length"),
            "judge.max_tokens (256)",
        ),
        ("unclosed", whole(json!({"content": "<think>Verdict: A"})), "said nothing"),
        ("empty", whole(json!({"content": ""})), "said nothing"),
        (
            "reasoned",
            whole(json!({"content": "", "reasoning_content": "Verdict: A"})),
            "4 of 4 replies are no verdicts, since all their words stand in `reasoning_content`",
        ),
        (
            "refusal",
            whole(json!({"content": null, "refusal": "Verdict: A is not mine to give."})),
            "said nothing",
        ),
    ] {
        let body = reply.to_string();
        answers(&server, move |_| Some(Reply::new("200 OK", body.clone())));
        let more = format!("--judge-model {name} --out {name}.jsonl");
        let output = judge(&place, &server.url, &more).output().unwrap();
        let stderr = text(&output.stderr);
        assert!(stderr.contains(warning), "{name}: {stderr}");
        let result = finished(&output);
        assert_eq!((&result["no_verdict"], &result["refused"]), (&json!(2), &json!(0)), "{name}");
        server.with(|state| state.answer = None);
        let again = run(&place, &server.url, &more);
        assert_eq!(
            (verdicts(again.clone()), &again["cached"]),
            (expected.clone(), &json!(0)),
            "{name}"
        );
    }
}

#[test]
fn errors_with_status_200_and_waits_in_milliseconds_are_what_they_are() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 2);
    let busy = std::sync::atomic::AtomicUsize::new(0);
    answers(&server, move |_| match busy.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Some(Reply::new(
            "200 OK",
            json!({"error": {"code": 429, "message": "wait"}}).to_string(),
        )),
        1 => Some(Reply {
            headers: "Retry-After-Ms: 300\r\n",
            ..Reply::new("429 Too Many Requests", "")
        }),
        _ => None,
    });
    let result = run(&place, &server.url, ONE);
    assert_eq!((&result["requests"], &result["no_verdict"]), (&json!(4 + 2), &json!(0)));
    server.with(|state| assert!((state.times[2] - state.times[1]).as_millis() >= 300));
    answers(&server, |_| {
        let wrong = json!({"error": {"type": "authentication_error", "message": "no such key"}});
        Some(Reply::new("200 OK", wrong.to_string()))
    });
    insta::assert_snapshot!(refusal(&place, &server.url, "--judge-model m --set judge.concurrency=1", 1), @r#"error: URL: refuses with status 200 and the error 401 ({"type":"authentication_error","message":"no such key"}); check the key in OPENAI_API_KEY"#);
}

#[test]
fn an_address_at_which_there_is_no_chat_api_is_named_at_once() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 3);
    let url = &server.url;
    let mut asked = 0;
    let mut message = |reply: fn() -> Reply| {
        answers(&server, move |_| Some(reply()));
        let message = refusal(&place, url, ONE, 1);
        asked += 1;
        assert_eq!(server.num_requests(), asked, "{message}");
        message
    };
    insta::assert_snapshot!(message(|| Reply::new("200 OK", "{\"error\": \"Unexpected endpoint or method. (POST /chat/completions)\"}")), @r#"error: URL: refuses with status 200 and the error 404 ("Unexpected endpoint or method. (POST /chat/completions)"); check the URL, which ends in /v1 mostly, and judge.model (default); URL/models lists those that it has"#);
    insta::assert_snapshot!(message(|| Reply::new("200 OK", "<!doctype html><title>A chat</title>")), @r#"error: URL: answers with a page, "A chat", where a reply in JSON is expected; check the URL, which ends in /v1 mostly"#);
    insta::assert_snapshot!(message(|| Reply { headers: "Location: https://me:secret@example.org/v1/chat/completions\r\n", ..Reply::new("308 Permanent Redirect", "") }), @"error: URL: refuses with status 308 Permanent Redirect (Location: https://…@example.org/v1/chat/completions); give the URL that it points to");
}

#[test]
fn an_https_address_of_a_server_without_tls_is_named_at_once() {
    let place = Workplace::new();
    comparisons(&place, 2);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        // Kept open: a connection that is closed early may lose what was sent.
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            open.push(stream);
        }
    });
    let output = judge(&place, &url, ONE).output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("does not speak TLS"), "{stderr}");
    assert!(stderr.trim_end().ends_with("write http:// in place of https://"), "{stderr}");
    assert!(!stderr.contains("trying again"), "{stderr}");
}

#[test]
fn an_answer_that_comes_too_late_is_told_with_the_setting_that_waits_longer() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 1);
    server.with(|state| state.faults.extend([Fault::Slow(Duration::from_secs(2)); 2]));
    let more = format!("{ONE} --set judge.timeout=0.25 --set judge.max_retries=1");
    insta::assert_snapshot!(refusal(&place, &server.url, &more, 1), @"error: URL: gives no whole answer within judge.timeout (0.25 s), 2 times; raise the time, such as with --set judge.timeout=0.5, and start the command again to go on, answers so far are kept");
}

#[test]
fn a_key_that_no_header_can_hold_is_refused_before_anything_is_asked() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 1);
    let output = judge(&place, &server.url, "").env("OPENAI_API_KEY", "“sk-x”").output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), server.num_requests()), (Some(2), 0), "{stderr}");
    assert!(stderr.contains("OPENAI_API_KEY: expected a key of printable ASCII"), "{stderr}");
    assert!(!stderr.contains("sk-x"), "{stderr}");
}

#[test]
fn an_address_with_a_version_is_asked_with_it_and_gets_its_key_in_its_own_header() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 1);
    let url = format!("{}/chat/completions?api-version=2024-10-21", server.url);
    run(&place, &url, "");
    run(&place, &server.url, "--set judge.key_header=x-key");
    server.with(|state| {
        assert_eq!(state.paths[0], "/v1/chat/completions?api-version=2024-10-21");
        assert_eq!(
            (state.headers[0].get("api-key"), &state.keys[0]),
            (Some(&super::KEY.to_owned()), &None)
        );
        assert_eq!(
            (state.headers[2].get("x-key"), &state.keys[2]),
            (Some(&super::KEY.to_owned()), &None)
        );
        assert_eq!(state.times.len(), 4, "another version is another endpoint");
    });
}

#[test]
fn an_endpoint_with_a_certificate_of_its_own_is_asked_where_the_user_names_who_signed_it() {
    let place = Workplace::new();
    comparisons(&place, 1);
    let authority = include_bytes!("../../support/certificates/authority.pem");
    // Signed by an authority, and one that has signed itself and is marked as an authority.
    let signed = include_bytes!("../../support/certificates/server.pem");
    let own = include_bytes!("../../support/certificates/own.pem");
    std::fs::write(place.path("authority.pem"), authority).unwrap();
    std::fs::write(place.path("own.pem"), own).unwrap();
    for (certificate, file, other) in [
        (signed.as_slice(), "authority.pem", "own.pem"),
        (own.as_slice(), "own.pem", "authority.pem"),
    ] {
        let server = JudgeServer::with_certificate(certificate);
        let message = refusal(&place, &server.url, &format!("--set judge.ca_file={other}"), 1);
        assert!(message.contains("its certificate is not trusted"), "{message}");
        assert!(message.contains("judge.ca_file or SSL_CERT_FILE"), "{message}");
        let result = run(&place, &server.url, &format!("--set judge.ca_file={file}"));
        assert_eq!(result["requests"], 2);
        let mut by_variable = judge(&place, &server.url, "--judge-model m");
        let output = by_variable.env("SSL_CERT_FILE", place.path(file)).output().unwrap();
        assert_eq!(finished(&output)["requests"], 2);
    }
    // It is one for 127.0.0.1.
    let server = JudgeServer::with_certificate(own);
    let elsewhere = server.url.replace("127.0.0.1", "localhost");
    let message = refusal(&place, &elsewhere, "--set judge.ca_file=own.pem", 1);
    assert!(message.contains("its certificate is not trusted"), "{message}");
}

#[test]
fn this_machine_is_asked_directly_whatever_proxy_is_set() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 1);
    let mut command = judge(&place, &server.url, "");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:9");
    }
    let output = command.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    assert_eq!(finished(&output)["requests"], 2);
}

#[test]
fn a_taste_for_silence_and_a_fault_are_still_told_apart() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    comparisons(&place, 2);
    server.with(|state| {
        state.taste = Taste::Silent;
        state.faults.push_back(Fault::Status("400 Bad Request", None));
    });
    let result = run(&place, &server.url, ONE);
    assert_eq!((&result["no_verdict"], &result["refused"]), (&json!(2), &json!(1)));
}
