use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse<R: Record>(line: &str) -> Result<R, Problem> {
    Fields::parse(line.as_bytes()).and_then(|fields| R::from_fields(&fields))
}

fn group(line: &str) -> Group {
    parse(line).unwrap()
}

fn refused<R: Record + std::fmt::Debug>(line: &str) -> Problem {
    parse::<R>(line).unwrap_err()
}

#[test]
fn a_preference_is_a_group_of_two_with_the_chosen_first() {
    let pair = group(r#"{"id": 7, "prompt": "a", "chosen": "b", "rejected": "c", "more": {}}"#);
    let spelled = r#"{"id": 7, "prompt": "a", "completions": ["b", "c"], "finished": [true, true], "rewards": [1, 0], "more": {}}"#;
    // Rewards alone make no preference: what is drawn may have the same.
    let drawn = group(spelled);
    assert_eq!(pair, Group { is_preference: true, ..drawn.clone() });
    assert_eq!([0, 1].map(|i| pair.completion_field(i)), ["chosen", "rejected"]);
    assert_eq!([0, 1].map(|i| drawn.completion_field(i)), ["completions[0]", "completions[1]"]);
    assert_eq!(
        serde_json::to_string(&pair).unwrap(),
        spelled
            .replace(": ", ":")
            .replace(", ", ",")
            .replace("[1,0]", "[1.0,0.0]")
            .replace("true, true", "true,true")
    );
    assert_eq!(group(&serde_json::to_string(&AsPreference(&pair)).unwrap()), pair);
}

#[test]
fn fields_without_a_meaning_are_carried_behind_the_others_and_those_with_one_are_not() {
    let line = r#"{"answer": "4", "prompt": "a", "chosen": "b", "rejected": "c", "label": 1, "input": "", "level": null, "rewards": null, "tests": [{"in": null}]}"#;
    let prompt: PromptRecord = parse(line).unwrap();
    let written = r#"{"prompt":"a","answer":"4","level":null,"tests":[{"in":null}]}"#;
    assert_eq!(serde_json::to_string(&prompt).unwrap(), written);
    let pair = group(line);
    let written = r#"{"prompt":"a","chosen":"b","rejected":"c","finished":[true,true],"answer":"4","level":null,"tests":[{"in":null}]}"#;
    assert_eq!(serde_json::to_string(&AsPreference(&pair)).unwrap(), written);
    // A program may fill the fields with anything: those of the form are written once.
    let twice = Group { others: json!({"prompt": "x"}).as_object().unwrap().clone(), ..pair };
    assert_eq!(serde_json::to_string(&twice).unwrap().matches("prompt").count(), 1);
}

#[test]
fn parts_of_rewards_have_one_number_a_completion() {
    let line = |parts: &str| {
        format!(
            r#"{{"prompt":"a","completions":["b","c"],"finished":[true,true],"rewards":[1.5,2.0],"reward_parts":{parts}}}"#
        )
    };
    let whole = line(r#"{"short":[1.0,2.0],"right":[0.5,0.0]}"#);
    assert_eq!(serde_json::to_string(&group(&whole)).unwrap(), whole);
    insta::assert_snapshot!(refused::<Group>(&line(r#"{"short": [1]}"#)), @"`reward_parts.short`: expected 2, one a completion, found 1; correct or drop the record");
    insta::assert_snapshot!(refused::<Group>(&line(r#"{"short": [1, null]}"#)), @"`reward_parts`: `short[1]`: expected a finite number, found null; correct or drop the record");
    insta::assert_snapshot!(refused::<Group>(&line("[1]")), @"`reward_parts`: expected an object of lists, found a list of 1; correct or drop the field");
}

#[test]
fn ids_may_stand_for_text_or_beside_it() {
    let ids = group(r#"{"prompt_ids": [1], "completion_ids": [[2], [3, 4]]}"#);
    assert_eq!(ids.prompt, Passage::of_ids([1]));
    assert_eq!(ids.completions[1], Completion::finished(Passage::of_ids([3, 4])));
    let both = group(
        r#"{"prompt": "a", "completions": ["", null], "completion_ids": [[2], [3]], "finished": [true, false]}"#,
    );
    let empty_text = Passage { text: Some(String::new()), ..Passage::of_ids([2]) };
    assert_eq!(both.completions[0], Completion::finished(empty_text));
    assert_eq!(both.completions[1], Completion { passage: Passage::of_ids([3]), finished: false });
    let pair = group(
        r#"{"prompt_ids": [], "chosen_ids": [1], "rejected_ids": [2], "finished": [false, true]}"#,
    );
    assert!(pair.prompt.is_empty() && !pair.completions[0].finished);
}

#[test]
fn a_missing_field_is_named_beside_those_that_are_there() {
    insta::assert_snapshot!(refused::<Group>(r#"{"title": "a", "chosen": "b", "rejected": "c"}"#), @"`prompt`: expected a string, found only `title`, `chosen`, `rejected`; write `prompt`, or token ids as `prompt_ids`");
    insta::assert_snapshot!(refused::<Group>(r#"{"prompt": "a", "chosen": "b"}"#), @"`rejected`: expected a string, found only `prompt`, `chosen`; write `rejected`, or token ids as `rejected_ids`");
    insta::assert_snapshot!(refused::<Group>(r#"{"prompt": "a"}"#), @"`completions`: expected a list of strings, found only `prompt`; write `completions`, `completion_ids`, or `chosen` and `rejected`");
    insta::assert_snapshot!(refused::<Demonstration>("{}"), @"`prompt`: expected a string, found an empty object; write `prompt`, or token ids as `prompt_ids`");
    insta::assert_snapshot!(refused::<PromptRecord>(r#"{"prompt": null}"#), @"`prompt`: expected a string, found null; write `prompt`, or token ids as `prompt_ids`");
    insta::assert_snapshot!(refused::<LabelledText>(r#"{"text": "a"}"#), @"`label`: expected 0 or 1, found only `text`; write 1 for the class to be rewarded and 0 for the other");
}

#[test]
fn a_conversation_stands_for_a_prompt() {
    let line =
        r#"{"messages": [{"role": "user", "content": "hi", "name": "Ann"}], "prompt_ids": [3]}"#;
    let prompt = parse::<PromptRecord>(line).unwrap().prompt;
    assert_eq!(prompt.ids, Some(vec![3]));
    assert_eq!(prompt.messages().unwrap()[0]["name"], "Ann");
    assert_eq!(
        json!(PromptRecord { prompt, ..PromptRecord::default() }),
        serde_json::from_str::<Value>(line).unwrap()
    );

    insta::assert_snapshot!(refused::<PromptRecord>(r#"{"messages": "hi"}"#), @r#"`messages`: expected a list of messages, found "hi"; correct or drop the record"#);
    insta::assert_snapshot!(refused::<PromptRecord>(r#"{"messages": []}"#), @"`messages`: expected at least one message, found none; drop the record");
    insta::assert_snapshot!(refused::<PromptRecord>(r#"{"messages": [{"content": "hi"}]}"#), @r#"`messages[0].role`: expected a string, found nothing; write a message as {"role": .., "content": ..}"#);
    insta::assert_snapshot!(refused::<PromptRecord>(r#"{"messages": [{"role": "user", "content": ["hi"]}]}"#), @r#"`messages[0].content[0]`: expected a part of the type text, found "hi"; only text is read: drop the record"#);
    insta::assert_snapshot!(refused::<PromptRecord>(r#"{"prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}"#), @"`messages`: expected either a conversation or `prompt`, found both; drop one of them");
}

#[test]
fn a_field_of_the_wrong_type_is_refused() {
    insta::assert_snapshot!(refused::<Group>(r#"{"prompt": ["a"], "completions": ["b"]}"#), @"`prompt`: expected a string, found a list of 1; correct or drop the record");
    insta::assert_snapshot!(refused::<Group>(r#"{"prompt": "a", "completions": "b"}"#), @r#"`completions`: expected a list of strings, found "b"; correct or drop the record"#);
    insta::assert_snapshot!(refused::<Group>(r#"{"prompt": "a", "completions": ["b", null]}"#), @"`completions[1]`: expected a string, found null; correct or drop the record");
    insta::assert_snapshot!(refused::<Group>(r#"{"prompt": "a", "completion_ids": [[1], [2, -3]]}"#), @"`completion_ids[1][1]`: expected a token id, a whole number from 0 on, found -3; correct or drop the record");
    insta::assert_snapshot!(refused::<Group>(r#"{"prompt": "a", "completions": ["b"], "finished": ["yes"]}"#), @r#"`finished[0]`: expected true or false, found "yes"; correct or drop the record"#);
    insta::assert_snapshot!(refused::<LabelledText>(r#"{"text": "a", "label": 2}"#), @"`label`: expected 0 or 1, found 2; write 1 for the class to be rewarded and 0 for the other");
    assert!(parse::<LabelledText>(r#"{"text": "a", "label": true}"#).unwrap().label);
}

#[test]
fn empty_completions_and_lists_that_do_not_match_are_refused() {
    insta::assert_snapshot!(refused::<Group>(r#"{"prompt": "a", "completions": ["b", ""]}"#), @"`completions[1]`: expected a completion of at least one token, found an empty text; drop the record");
    insta::assert_snapshot!(refused::<Group>(r#"{"prompt": "a", "chosen_ids": [1], "rejected_ids": []}"#), @"`rejected`: expected a completion of at least one token, found no token ids; drop the record");
    insta::assert_snapshot!(refused::<Demonstration>(r#"{"prompt": "a", "chosen": ""}"#), @"`chosen`: expected a completion of at least one token, found an empty text; drop the record");
    insta::assert_snapshot!(refused::<Group>(r#"{"prompt": "a", "completions": []}"#), @"`completions`: expected at least one completion, found a list of 0; drop the record");
    insta::assert_snapshot!(refused::<Group>(r#"{"prompt": "a", "completions": ["b", "c"], "rewards": [1]}"#), @"`rewards`: expected 2, one a completion, found 1; correct or drop the record");
    insta::assert_snapshot!(refused::<Group>(r#"{"prompt": "a", "completions": ["b", "c"], "completion_ids": [[1]]}"#), @"`completion_ids`: expected 2, one a completion, found 1; correct or drop the record");
    insta::assert_snapshot!(refused::<Group>(r#"{"prompt": "a", "chosen": "b", "rejected": "b"}"#), @"`chosen` and `rejected` are the same text; drop the pair");
}

#[test]
fn alignment_refuses_groups_that_compare_nothing() {
    let refused = |line: &str| group(line).check_for_alignment().unwrap_err();
    insta::assert_snapshot!(refused(r#"{"prompt": "a", "completions": ["b"], "rewards": [1]}"#), @"`completions`: expected at least 2, found 1; an objective compares the completions of a prompt: drop the record");
    insta::assert_snapshot!(refused(r#"{"prompt": "a", "completions": ["b", "c"]}"#), @"`rewards`: expected 2 numbers, found none; add them with `exalign label`");
    insta::assert_snapshot!(refused(r#"{"prompt": "a", "completions": ["b", "c"], "rewards": [2.5, 2.5]}"#), @"`rewards`: expected two different numbers, found 2.5 twice; drop the pair");
    insta::assert_snapshot!(refused(r#"{"prompt": "a", "completions": ["b", "b"], "rewards": [2, 1]}"#), @"`completions[0]` and `completions[1]` are the same text; drop the pair");
    let mut infinite = group(r#"{"prompt": "a", "completions": ["b", "c"], "rewards": [2, 1]}"#);
    infinite.check_for_alignment().unwrap();
    infinite.rewards = Some(vec![0.0, f64::NEG_INFINITY]);
    insta::assert_snapshot!(infinite.check_for_alignment().unwrap_err(), @"`rewards[1]`: expected a finite number, found -inf; correct or drop the record");
    infinite.rewards = Some(vec![0.0]);
    insta::assert_snapshot!(infinite.check_for_alignment().unwrap_err(), @"`rewards`: expected 2, one a completion, found 1; correct or drop the record");
}

fn passages(min: usize) -> impl Strategy<Value = Passage> {
    let text = || proptest::string::string_regex(&format!("(?s).{{{min},8}}")).unwrap();
    let ids = move || prop::collection::vec(any::<u32>(), min..5);
    prop_oneof![
        text().prop_map(Passage::of_text),
        ids().prop_map(Passage::of_ids),
        (text(), ids())
            .prop_map(|(text, ids)| Passage { text: Some(text), ..Passage::of_ids(ids) }),
    ]
}

fn groups() -> impl Strategy<Value = Group> {
    let completion = (passages(1), any::<bool>())
        .prop_map(|(passage, finished)| Completion { passage, finished });
    let rewards = prop::option::of(prop::collection::vec(prop::num::f64::NORMAL, 5));
    (prop::option::of(any::<i64>()), passages(0), prop::collection::vec(completion, 1..5), rewards)
        .prop_map(|(id, prompt, completions, rewards)| Group {
            id: id.map(Value::from),
            prompt,
            rewards: rewards.map(|all| all[..completions.len()].to_vec()),
            completions,
            ..Group::default()
        })
}

proptest! {
    #[test]
    fn a_group_survives_being_written_and_read(written in groups()) {
        let line = serde_json::to_string(&written).unwrap();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(group(&line), written);
    }

    #[test]
    fn a_prompt_survives_being_written_and_read(prompt in passages(0)) {
        let written = PromptRecord { id: Some(json!("x")), prompt, ..PromptRecord::default() };
        let line = serde_json::to_string(&written).unwrap();
        prop_assert_eq!(parse::<PromptRecord>(&line).unwrap(), written);
    }

    #[test]
    fn no_line_makes_the_reader_panic(line in r#"(?s)[{}\[\]",:a-zN0-9.eé\\ -]{0,40}"#) {
        if let Err(problem) = parse::<Group>(&line) {
            prop_assert!(!problem.contains('\n'), "{}", problem);
        }
    }
}
