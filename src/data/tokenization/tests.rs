use std::path::Path;

use burn::data::dataset::Dataset;
use proptest::prelude::*;
use serde_json::json;

use super::super::tokenizer::tests::{END, words};
use super::*;

const VOCABULARY: usize = 29;

fn located<R: Record>(line: serde_json::Value) -> Located<R> {
    let fields = super::super::Fields::parse(line.to_string().as_bytes()).unwrap();
    Located {
        file: Path::new("data.jsonl").into(),
        line: 4,
        record: R::from_fields(&fields).unwrap(),
    }
}

fn tokenize<R: Tokenize>(line: serde_json::Value, limits: Limits) -> Result<(TokenGroup, Intake)> {
    let tokenizer = words();
    let tokenization = Tokenization { tokenizer: Some(&tokenizer), limits, vocab_size: VOCABULARY };
    let mut report = Intake::default();
    let group = R::tokenize(&located(line), &tokenization, &mut report)?;
    Ok((group, report))
}

fn tokens<R: Tokenize>(line: serde_json::Value) -> TokenGroup {
    tokenize::<R>(line, Limits::default()).unwrap().0
}

#[test]
fn text_gets_its_special_tokens_and_ids_get_nothing() {
    let group = tokens::<Group>(json!({
        "id": "x", "prompt": "a b", "completions": ["c", "d e", "f", null],
        "completion_ids": [null, null, null, [9]], "finished": [true, false, true, true],
        "rewards": [1, 2, 3, 4],
    }));
    assert_eq!(group.prompt, [0, 3, 4]);
    assert_eq!(group.completions, [vec![5, END], vec![6, 7], vec![8, END], vec![9]]);
    assert_eq!((group.id, group.line), (Some(json!("x")), 4));
    assert_eq!(group.rewards, [1.0, 2.0, 3.0, 4.0]);
    let ids = tokens::<Demonstration>(json!({"prompt": "a", "prompt_ids": [7], "chosen_ids": [8]}));
    assert_eq!((ids.prompt, ids.completions), (vec![7], vec![vec![8]]));
}

#[test]
fn a_text_that_writes_its_end_out_does_not_end_twice() {
    let group = tokens::<Demonstration>(json!({"prompt": "a", "chosen": "b </s>"}));
    assert_eq!(group.completions, [[4, END]]);
    let group = tokens::<Demonstration>(json!({"prompt": "a", "chosen": "b </s> </s>"}));
    assert_eq!(group.completions, [[4, END]]);
    // An end in the middle ends nothing.
    let group = tokens::<Demonstration>(json!({"prompt": "a", "chosen": "b </s> c"}));
    assert_eq!(group.completions, [[4, END, 5, END]]);
    assert_eq!(tokens::<Demonstration>(json!({"text": "b </s> </s>"})).completions, [[4, END]]);
}

#[test]
fn an_empty_prompt_is_what_the_tokenizer_makes_of_it() {
    assert_eq!(tokens::<PromptRecord>(json!({"prompt": ""})).prompt, [0]);
    assert!(tokens::<PromptRecord>(json!({"prompt_ids": []})).prompt.is_empty());
}

#[test]
fn a_long_prompt_loses_its_left_by_its_own_limit_and_by_the_longest_completion() {
    let line = json!({"prompt_ids": [3, 4, 5, 6, 7, 8], "completion_ids": [[9], [10, 11, 12]]});
    let cut = |max_length, max_prompt_length| {
        let limits = Limits { max_length, max_prompt_length, ..Limits::default() };
        let (group, report) = tokenize::<Group>(line.clone(), limits).unwrap();
        assert_eq!(group.completions, [vec![9], vec![10, 11, 12]]);
        assert_eq!(report.prompts, usize::from(group.prompt.len() < 6));
        group.prompt
    };
    assert_eq!(cut(0, 0), [3, 4, 5, 6, 7, 8]);
    assert_eq!(cut(9, 6), [3, 4, 5, 6, 7, 8]);
    assert_eq!(cut(0, 4), [5, 6, 7, 8]);
    assert_eq!(cut(5, 4), [7, 8]);
    assert_eq!(cut(4, 0), [8]);
}

#[test]
fn a_completion_that_leaves_no_room_says_which_limit_would_fit() {
    let limits = Limits { max_length: 3, max_prompt_length: 0, ..Limits::default() };
    let refused = |line| tokenize::<Group>(line, limits).unwrap_err();
    insta::assert_snapshot!(refused(json!({"prompt": "a", "chosen": "b", "rejected": "c d e"})), @"data.jsonl:4: `rejected`: expected at most 2 tokens beside the prompt, found 4; set `data.max_length` to at least 5 if the model allows, or drop the record");
    insta::assert_snapshot!(refused(json!({"prompt_ids": [], "completion_ids": [[3, 4, 5, 6]]})), @"data.jsonl:4: `completions[0]`: expected at most 3 tokens beside the prompt, found 4; set `data.max_length` to at least 4 if the model allows, or drop the record");
}

#[test]
fn a_limit_of_the_model_is_told_from_one_that_a_setting_can_raise() {
    let of_model = |set_by| Limits { max_length: 3, set_by, ..Limits::default() };
    let line = json!({"prompt": "a", "chosen": "b", "rejected": "c d e"});
    let refused = |set_by| tokenize::<Group>(line.clone(), of_model(set_by)).unwrap_err();
    insta::assert_snapshot!(refused(SetBy::Positions), @"data.jsonl:4: `rejected`: expected at most 2 tokens beside the prompt, found 4; the model has no more positions (`max_position_embeddings` in the model's config.json): take one that has 5, or correct the number if it has learned that many, or drop the record");
    insta::assert_snapshot!(refused(SetBy::Window), @"data.jsonl:4: `rejected`: expected at most 2 tokens beside the prompt, found 4; attention sees no further (`sliding_window` in the model's config.json), and what lies beyond is not read: take a model without a window, or with one of 5 tokens, or drop the record");
    let cut = |limits: Limits| {
        let line = json!({"prompt_ids": [3, 4, 5, 6], "completion_ids": [[3]]});
        let (_, intake) = tokenize::<Group>(line, limits).unwrap();
        (intake.prompts, intake.cut_by_model)
    };
    assert_eq!(cut(of_model(SetBy::Window)), (1, Some((3, SetBy::Window))));
    assert_eq!(cut(of_model(SetBy::Setting)), (1, None));
    // The prompt's own limit is shorter, and a setting.
    let shorter = Limits { max_prompt_length: 1, ..of_model(SetBy::Window) };
    assert_eq!(cut(shorter), (1, None));
}

#[test]
fn ids_outside_the_vocabulary_are_refused() {
    let refused = |line| tokenize::<Group>(line, Limits::default()).unwrap_err();
    insta::assert_snapshot!(refused(json!({"prompt_ids": [3], "completion_ids": [[4], [28, 29]]})), @"data.jsonl:4: `completions[1]`: expected token ids below the model's vocabulary size 29, found 29; use the tokenizer of this model or drop the record");
    let tokenizer = words();
    let small =
        Tokenization { tokenizer: Some(&tokenizer), limits: Limits::default(), vocab_size: 10 };
    let text = located::<PromptRecord>(json!({"prompt": "z"}));
    let error = PromptRecord::tokenize(&text, &small, &mut Intake::default()).unwrap_err();
    insta::assert_snapshot!(error, @"data.jsonl:4: `prompt`: expected token ids below the model's vocabulary size 10, found 28; use the tokenizer of this model or drop the record");
}

#[test]
fn a_text_of_no_tokens_is_refused() {
    let error = tokenize::<Demonstration>(json!({"prompt": "a", "chosen": " "}), Limits::default());
    insta::assert_snapshot!(error.unwrap_err(), @"data.jsonl:4: `chosen`: expected at least one token, found a text that has none; drop the record");
}

#[test]
fn a_tokenizer_is_needed_for_text_alone() {
    let none = Tokenization { tokenizer: None, limits: Limits::default(), vocab_size: VOCABULARY };
    let mut report = Intake::default();
    let ids = located::<Group>(json!({"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}));
    assert_eq!(Group::tokenize(&ids, &none, &mut report).unwrap().completions, [[2], [3]]);
    let text = located::<Group>(json!({"prompt_ids": [1], "chosen": "a", "rejected": "b"}));
    insta::assert_snapshot!(Group::tokenize(&text, &none, &mut report).unwrap_err(), @"data.jsonl: `chosen` in line 4 is text, and the model folder has no tokenizer.json; put one there or give token ids");
}

#[test]
fn a_labelled_text_keeps_its_first_tokens() {
    let limits = Limits { max_length: 3, max_prompt_length: 1, ..Limits::default() };
    let line = json!({"text": "a b c d", "label": 1});
    let (group, report) = tokenize::<LabelledText>(line, limits).unwrap();
    assert_eq!((group.prompt, group.completions), (vec![], vec![vec![0, 3, 4]]));
    assert_eq!(group.rewards, [1.0]);
    assert_eq!(report.texts, 1);
}

#[test]
fn a_labelled_answer_keeps_its_tokens_and_its_prompt_loses_its_left() {
    let limits = Limits { max_length: 4, max_prompt_length: 0, ..Limits::default() };
    let line = json!({"prompt": "a b c d e", "completion": "f", "label": 0});
    let (group, report) = tokenize::<LabelledText>(line, limits).unwrap();
    assert_eq!((group.prompt, group.completions), (vec![], vec![vec![6, 7, 8, END]]));
    assert_eq!((report.texts, report.prompts), (0, 1));
    let long = json!({"prompt": "a", "completion": "b c d e f", "label": 0});
    assert!(tokenize::<LabelledText>(long, limits).is_err());
}

#[test]
fn a_models_positions_are_a_limit_too() {
    let limits = |max_length| Limits { max_length, max_prompt_length: 7, ..Limits::default() };
    let of_model = |max_length| Limits { set_by: SetBy::Window, ..limits(max_length) };
    let within = |max_length, positions| limits(max_length).within(positions, SetBy::Window);
    assert_eq!(within(0, 1024), of_model(1024));
    assert_eq!(within(512, 1024), limits(512));
    assert_eq!(within(2048, 1024), of_model(1024));
    assert_eq!(within(512, 0), limits(512));
}

#[test]
fn what_is_cut_and_what_is_skipped_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    let lines = [
        json!({"prompt": "a b c", "chosen": "d", "rejected": "e"}),
        json!({"prompt": "a", "chosen": "d d d d d", "rejected": "e"}), // too long
        json!({"prompt": "a", "chosen": "d", "rejected": "e"}),
        json!({"prompt": "a", "completions": ["d", "e"], "rewards": [1, 1]}), // tied
    ];
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, format!("{lines}{{\n")).unwrap();
    let tokenizer = words();
    let limits = Limits { max_length: 5, max_prompt_length: 0, ..Limits::default() };
    let read = |skip_bad| {
        read_alignment_tokens(&path, skip_bad, Some(&tokenizer), &limits, VOCABULARY, &|_| Ok(()))
    };
    let (groups, report) = read(3).unwrap();
    let groups: Vec<TokenGroup> = groups.iter().collect::<Result<_>>().unwrap();
    assert_eq!(groups.iter().map(|group| group.line).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(groups[0].prompt, [3, 4, 5]);
    insta::assert_snapshot!(report, @"2 records, 1 prompt cut from the left, 3 bad records skipped");
    let error = read(1).unwrap_err().to_string();
    let name = path.display().to_string();
    insta::assert_snapshot!(error.strip_prefix(&name).unwrap(), @":4: `rewards`: expected two different numbers, found 1 twice; drop the pair or pass --skip-bad 2");
}

fn letters(min: usize) -> impl Strategy<Value = String> {
    prop::collection::vec("[a-z]", min..12).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn the_seam_is_where_both_parts_were_encoded_apart(
        prompt in letters(0), completions in prop::collection::vec(letters(1), 1..4)
    ) {
        let tokenizer = words();
        let group = tokens::<Group>(json!({"prompt": prompt, "completions": completions}));
        prop_assert_eq!(group.prompt, tokenizer.encode_prompt(&prompt).unwrap());
        for (ids, text) in group.completions.iter().zip(&completions) {
            let (end, body) = ids.split_last().unwrap();
            prop_assert_eq!(*end, END);
            prop_assert_eq!(body, tokenizer.encode_completion(text).unwrap());
        }
    }

    #[test]
    fn what_is_cut_is_the_left_of_the_prompt_and_no_more_than_needed(
        prompt in prop::collection::vec(3..29u32, 0..12),
        completions in prop::collection::vec(prop::collection::vec(3..29u32, 1..8), 1..4),
        max_length in 0..16usize,
        max_prompt_length in 0..8usize,
    ) {
        let line = json!({"prompt_ids": prompt, "completion_ids": completions});
        let longest = completions.iter().map(Vec::len).max().unwrap();
        let limits = Limits { max_length, max_prompt_length, ..Limits::default() };
        let fits = max_length == 0 || longest + prompt.len().min(1) <= max_length;
        match tokenize::<Group>(line, limits) {
            Err(_) => prop_assert!(!fits),
            Ok((group, _)) => {
                prop_assert!(fits);
                prop_assert_eq!(group.completions, completions);
                prop_assert!(prompt.ends_with(&group.prompt));
                let unlimited = |limit: usize| if limit == 0 { usize::MAX } else { limit };
                let kept = prompt.len()
                    .min(unlimited(max_prompt_length))
                    .min(unlimited(max_length) - longest);
                prop_assert_eq!(group.prompt.len(), kept);
            }
        }
    }
}
