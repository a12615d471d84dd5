use serde_json::{Value, json};

use super::*;

const END: u32 = 0;

/// Letters are tokens, and "o" after a space is one with it.
fn tokenizer() -> Tokenizer {
    let mut vocabulary = json!({"</s>": END, " ": 1, " o": 2});
    for (letter, id) in ('a'..='z').zip(3..) {
        vocabulary[letter.to_string()] = json!(id);
    }
    let end = json!({
        "id": END, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    });
    let inner = json!({
        "version": "1.0", "added_tokens": [end],
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [[" ", "o"]]},
    });
    let inner = tokenizers::Tokenizer::from_bytes(inner.to_string()).unwrap();
    Tokenizer::from_tokenizer(inner, &[END]).unwrap()
}

fn audit_against(records: &str, against: Option<&str>, limits: Limits) -> Result<Audit> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    std::fs::write(&path, records).unwrap();
    let other = folder.path().join("other.jsonl");
    if let Some(text) = against {
        std::fs::write(&other, text).unwrap();
    }
    let tokenizer = tokenizer();
    let auditor =
        Auditor { tokenizer: Some(&tokenizer), limits, vocab_size: 100, skip_bad: 0, show: 1 };
    auditor.audit(&path, against.map(|_| other.as_path()))
}

fn audit(records: &[Value]) -> Audit {
    audit_against(&lines(records), None, Limits::default()).unwrap()
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|it| format!("{it}\n")).collect()
}

fn pair(prompt: &str, chosen: &str, rejected: &str) -> Value {
    json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
}

fn advised(audit: &Audit, words: &str) -> bool {
    audit.advice.iter().any(|it| it.text.contains(words))
}

#[test]
fn a_file_without_problems_is_told_to_go_ahead() {
    let found = audit(&[pair("a", "bc", "de"), pair("b", "cd", "ef")]);
    assert_eq!((found.kind, found.records, found.bad), (Kind::Preferences, 2, 0));
    assert_eq!(found.advice, []);
    assert!(found.is_usable());
    assert_eq!(found.prompts, Some(Lengths { min: 1, median: 1, p95: 1, max: 1 }));
    // With the end-of-text token.
    assert_eq!(found.completions, Some(Lengths { min: 3, median: 3, p95: 3, max: 3 }));
    assert_eq!(found.totals.unwrap().max, 4);
}

#[test]
fn every_kind_is_told_by_its_fields() {
    for (record, kind) in [
        (json!({"prompt": "a"}), Kind::Prompts),
        (json!({"prompt": "a", "chosen": "b"}), Kind::Demonstrations),
        (json!({"prompt": "a", "chosen_ids": [3], "rejected_ids": [4]}), Kind::Preferences),
        (json!({"prompt": "a", "completions": ["b"]}), Kind::Groups),
        (json!({"text": "a", "label": 1}), Kind::LabelledTexts),
    ] {
        assert_eq!(audit(&[record]).kind, kind);
    }
}

#[test]
fn columns_that_a_record_does_not_use_are_counted() {
    let mut text = pair("a", "b", "c");
    text["tools"] = json!([{"name": "f"}]);
    text["note"] = json!("n");
    let found = audit(&[text, pair("a", "c", "d")]);
    let unread = [("note", 1), ("tools", 1)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(found.unread, BTreeMap::from(unread));
}

#[test]
fn all_bad_lines_are_listed_and_the_reasons_of_pairs_named() {
    let records = [
        lines(&[pair("a", "b", "c"), pair("a", "b", "b")]),
        "not JSON\n".to_owned(),
        lines(&[json!({"prompt": "a"}), pair("a", "", "c")]),
    ];
    let found = audit_against(&records.concat(), None, Limits::default()).unwrap();
    assert_eq!((found.records, found.bad, found.equal_sides), (1, 4, 1));
    let lines: Vec<usize> = found.bad_lines.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [2, 3, 4, 5]);
    assert!(!found.is_usable() && advised(&found, "4 lines are bad (1 with equal sides)"));

    let tied = json!({"prompt": "a", "completions": ["b", "c"], "rewards": [1, 1]});
    let fine = json!({"prompt": "a", "completions": ["b", "c"], "rewards": [1, 2]});
    let found = audit(&[tied, fine]);
    assert_eq!((found.records, found.bad, found.ties), (1, 1, 1));

    let error = audit_against("{}\n[\n", None, Limits::default()).unwrap_err().to_string();
    assert!(
        error.contains("expected records, found 2 bad ones; the first, line 1: `prompt`"),
        "{error}"
    );
}

#[test]
fn what_training_cuts_and_refuses_is_counted_with_its_tokens() {
    let records = [
        pair("aaaa", "b", "c"),     //    4 + 2: fits
        pair("aaaaaaa", "b", "cd"), // 7 + 3: loses 4
        pair("a", "bcdefg", "c"),   //  7 with its end and a token of the prompt: 8
    ];
    let limits = Limits { max_length: 6, max_prompt_length: 0, ..Limits::default() };
    let found = audit_against(&lines(&records), None, limits).unwrap();
    let long = &found.too_long;
    assert_eq!((long.cut, long.tokens_lost, long.refused, long.enough), (1, 4, 1, 8));
    assert!(!found.is_usable() && advised(&found, "--set data.max_length=8"));
    // Training agrees.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    std::fs::write(&path, lines(&records)).unwrap();
    let read = |limits| {
        super::super::read_alignment_tokens(&path, 0, Some(&tokenizer()), &limits, 100, &|_| Ok(()))
    };
    assert!(read(limits).unwrap_err().to_string().contains("data.jsonl:3"));
    assert!(read(Limits { max_length: 8, ..limits }).is_ok());

    let limits = Limits { max_length: 0, max_prompt_length: 3, ..Limits::default() };
    let found = audit_against(&lines(&records), None, limits).unwrap();
    assert_eq!((found.too_long.cut, found.too_long.tokens_lost), (2, 5));
    assert!(found.is_usable());

    let limits = Limits { max_length: 2, max_prompt_length: 0, ..Limits::default() };
    let text = lines(&[json!({"text": "abcde", "label": 0}), json!({"text": "ab", "label": 1})]);
    let found = audit_against(&text, None, limits).unwrap();
    assert_eq!((found.too_long.cut, found.too_long.tokens_lost), (1, 3));
}

#[test]
fn repeats_and_contradictions_are_told_apart() {
    let found = audit(&[
        pair("a", "b", "c"),
        pair("a ", "b", "c"), // but for white space
        pair("a", "c", "b"),  //  the other way round
        pair("a", "b", "d"),
        pair("x", "b", "c"),
    ]);
    assert_eq!((found.duplicates, found.contradictions, found.repeated_prompts), (1, 1, 3));
    assert_eq!(found.contradicting_lines, [(1, 3)]);
    assert!(advised(&found, "lines 1 and 3"));
    let text = |label| json!({"text": "abc", "label": label});
    let found = audit(&[text(1), text(1), text(0)]);
    assert_eq!((found.duplicates, found.contradictions), (1, 1));
}

#[test]
fn prompts_of_the_other_file_are_found() {
    let records = lines(&[pair("a", "b", "c"), pair("a", "d", "c"), pair("x", "b", "c")]);
    let other = lines(&[json!({"prompt": "a"}), json!({"prompt": "y"})]);
    let found = audit_against(&records, Some(&other), Limits::default()).unwrap();
    assert_eq!(found.shared_prompts, Some(2));
    assert!(advised(&found, "in the other file"));
}

#[test]
fn a_token_over_the_seam_is_found_and_shown() {
    let found = audit(&[pair("a ", "ok", "b"), pair("a", " ok", " no")]);
    assert_eq!((found.seams.checked, found.seams.merged), (4, 1));
    assert_eq!(found.seams.examples, [r#"line 1: "a " and "ok" meet in " o""#]);
    assert!(advised(&found, "1 of 4 seams"));
}

#[test]
fn endings_that_teach_no_stopping_are_found() {
    let cut = json!({"prompt": "a", "chosen": "b", "finished": false});
    let found = audit(&[cut.clone(), cut]);
    assert_eq!((found.endings.completions, found.endings.cut), (2, 2));
    assert!(advised(&found, "will not learn to stop"));
    let found = audit(&[
        json!({"prompt": "a", "chosen": "b</s>c"}),
        json!({"prompt": "a", "chosen": "b"}),
        json!({"prompt": "a", "chosen_ids": [4]}),
        json!({"prompt": "a", "chosen_ids": [4, END]}),
    ]);
    assert_eq!((found.endings.inside, found.endings.unended, found.endings.cut), (1, 1, 0));
    assert!(advised(&found, "in the middle") && !advised(&found, "learn to stop"));
}

#[test]
fn labels_and_groups_are_described() {
    let text = |letter: char, label: u8| json!({"text": String::from(letter), "label": label});
    let found = audit(&('a'..='j').map(|it| text(it, u8::from(it > 'a'))).collect::<Vec<_>>());
    assert_eq!(found.positive, Some(9));
    assert!(advised(&found, "90 % of the labels are 1"));

    let group = |completions: Value, rewards: Value| json!({"prompt": "a", "completions": completions, "rewards": rewards});
    let found = audit(&[
        group(json!(["b", "cd", "efg"]), json!([1, 2, 3])),
        group(json!(["b", "b", "c"]), json!([5, 5, 5])),
        group(json!(["b", "c"]), Value::Null),
    ]);
    let groups = found.groups.as_ref().unwrap();
    assert_eq!(groups.sizes, BTreeMap::from([(2, 1), (3, 2)]));
    assert_eq!((groups.unlabelled, groups.tied, groups.repeated), (1, 1, 1));
    // √(2/3) and 0.
    assert!((groups.mean_spread.unwrap() - (2.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
    let correlation = found.length_bias.as_ref().unwrap().correlation.unwrap();
    assert_eq!(correlation.mean, 1.0);
    assert!(advised(&found, "exalign label") && advised(&found, "rewards go with length"));
}

#[test]
fn a_length_bias_is_a_share_with_its_interval() {
    let mut records: Vec<Value> = ('a'..='t').map(|it| pair(&it.to_string(), "bcd", "b")).collect();
    records.push(pair("u", "b", "bcd"));
    records.push(pair("v", "b", "c"));
    let found = audit(&records);
    let bias = found.length_bias.as_ref().unwrap();
    let wins = bias.longer_wins.unwrap();
    assert!((wins.mean - 20.0 / 21.0).abs() < 1e-12 && wins.low > 0.7 && wins.high < 1.0);
    assert_eq!(bias.equal_lengths, 1);
    // Of 22 × 22 differences: 20 of +2, one of 0, one of −2, against their negatives.
    let expected = (20.0 * (20.0 + 1.0 + 0.5) + (20.0 + 0.5) + 20.0 * 0.5) / (22.0 * 22.0);
    assert!((bias.auc.unwrap() - expected).abs() < 1e-12, "{:?}", bias.auc);
    assert!(advised(&found, "the longer one"));
}
