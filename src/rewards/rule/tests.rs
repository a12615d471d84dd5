use super::*;
use crate::data::Passage;

fn group(others: Value, completions: &[&str]) -> Located<Group> {
    let completion = |text: &&str| Completion::finished(Passage::of_text(*text));
    let group = Group {
        completions: completions.iter().map(completion).collect(),
        others: others.as_object().unwrap().clone(),
        ..Group::default()
    };
    Located::numbered("g.jsonl", [group]).remove(0)
}

fn rewards(rule: &str, others: Value, completions: &[&str]) -> Vec<f64> {
    let mut rule = Rule::parse(rule).unwrap();
    let group = group(others, completions);
    rule.look_at(&group, &mut Intake::default()).unwrap();
    rule.score(&[group]).unwrap().remove(0)
}

fn refusal(rule: &str, others: Value) -> String {
    let group = group(others, &["1"]);
    let looked = |rule: Rule| rule.look_at(&group, &mut Intake::default());
    match Rule::parse(rule).map(looked) {
        Ok(outcome) => outcome.unwrap_err().to_string(),
        Err(problem) => problem,
    }
}

#[test]
fn rules_compare_the_answer_without_its_thoughts() {
    let answer = || json!({"answer": "Paris"});
    let completions =
        [" Paris\n", "paris", "<think>Paris?</think>Paris", "Rome? </think> Paris", "<think>Paris"];
    assert_eq!(rewards("exact", answer(), &completions), [1.0, 0.0, 1.0, 1.0, 0.0]);
    assert_eq!(rewards("exact:city", json!({"city": ["Rome", "Paris"]}), &["Paris"]), [1.0]);
    assert_eq!(rewards("exact", json!({"answer": 4}), &["4", "4.0"]), [1.0, 0.0]);
    let numbers = ["<think>18?</think>It is 72.", "72.00", "It is 18", "none", "<think>72"];
    assert_eq!(rewards("number", json!({"answer": 72}), &numbers), [1.0, 1.0, 0.0, 0.0, 0.0]);
    let long = ["1082152022374638", "1,082,152,022,374,638.0", "1082152022374000"];
    for answer in [json!("1082152022374638"), json!(1_082_152_022_374_638_u64)] {
        assert_eq!(rewards("number", json!({ "answer": answer }), &long), [1.0, 1.0, 0.0]);
    }
    let solution = json!({"solution": "8*9=<<8*9=72>>72\n#### 72"});
    assert_eq!(rewards("number:solution", solution, &numbers), [1.0, 1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn a_completion_begins_within_the_thought_that_its_prompt_begins() {
    let completions = ["so 42, let me check", "so 41?</think> 42"];
    let rewards = |prompt: Passage| {
        let mut group = group(json!({"answer": 42}), &completions);
        group.record.prompt = prompt;
        Rule::parse("number").unwrap().score(&[group]).unwrap().remove(0)
    };
    assert_eq!(rewards(Passage::of_text("q<think>\n")), [0.0, 1.0]);
    assert_eq!(rewards(Passage::of_text("q\n")), [1.0, 1.0]);
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let begun = vec![turn("user", "q"), turn("assistant", "<think>\n")];
    assert_eq!(rewards(Passage::of_messages(begun)), [0.0, 1.0]);
    // What a user writes begins no thought.
    assert_eq!(rewards(Passage::of_messages(vec![turn("user", "<think>")])), [1.0, 1.0]);
}

#[test]
fn patterns_see_the_whole_completion() {
    let texts = ["<think>x</think>y", "y"];
    assert_eq!(rewards("regex:/^<think>.*</think>/", json!({}), &texts), [1.0, 0.0]);
    assert_eq!(rewards("regex", json!({"answer": "(?i)^Y$"}), &texts), [0.0, 1.0]);
}

#[test]
fn a_record_that_says_nothing_right_is_refused_and_never_scored_alike() {
    insta::assert_snapshot!(refusal("number", json!({"solution": "2"})), @"g.jsonl:1: `answer`: expected the right answer, for rule:number:answer, found only `solution`; name another field, or add it");
    insta::assert_snapshot!(refusal("number", json!({"answer": null})), @"g.jsonl:1: `answer`: expected the right answer, for rule:number:answer, found null; name another field, or add it");
    insta::assert_snapshot!(refusal("exact", json!({})), @"g.jsonl:1: `answer`: expected the right answer, for rule:exact:answer, found no field beside those of the prompt; name another field, or add it");
    insta::assert_snapshot!(refusal("number", json!({"answer": "two"})), @r#"g.jsonl:1: `answer`: expected one number, found no number in "two"; write the number alone, or behind #### or in \boxed{}"#);
    insta::assert_snapshot!(refusal("number", json!({"answer": "2 of 3"})), @r#"g.jsonl:1: `answer`: expected one number, found 2 numbers in "2 of 3"; write the number alone, or behind #### or in \boxed{}"#);
    insta::assert_snapshot!(refusal("exact", json!({"answer": {"a": 1}})), @"g.jsonl:1: `answer`: expected a text or a number, found a list or an object; write the right answer, or a list of several");
    insta::assert_snapshot!(refusal("regex", json!({"answer": "(a"})), @"g.jsonl:1: `answer`: expected a pattern, found `(a`: Parsing error at position 2: Opening parenthesis without closing parenthesis");
    insta::assert_snapshot!(refusal("regex:/(a/", json!({})), @"expected a pattern, found `(a`: Parsing error at position 2: Opening parenthesis without closing parenthesis");
    insta::assert_snapshot!(refusal("nummer", json!({})), @"expected a rule, one of exact, number, regex, letters, found `nummer`");
    insta::assert_snapshot!(refusal("exact:a*b", json!({})), @"expected a field's name, found `a*b`; a pattern stands between slashes, and a weight is a number");
}

#[test]
fn a_program_adds_rules_of_its_own_under_new_names() {
    let rule = |_: &Group, completion: &Completion| {
        completion.passage.text.as_ref().map(|text| text.len() as f64)
    };
    register_rule("letters", Arc::new(rule)).unwrap();
    assert_eq!(rewards("letters", json!({}), &["a", "abc"]), [1.0, 3.0]);
    assert!(register_rule("letters", Arc::new(rule)).is_err());
    assert!(register_rule("exact", Arc::new(rule)).is_err());
}
