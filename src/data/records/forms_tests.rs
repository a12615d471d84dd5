//! Tests of the forms in which records are written.

use serde_json::{Value, json};

use super::*;

fn parse<R: Record>(line: &Value) -> Result<R, Problem> {
    Fields::parse(line.to_string().as_bytes()).and_then(|fields| R::from_fields(&fields))
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

fn talk() -> Vec<Value> {
    vec![json!({"role": "system", "content": "be brief"}), user("hi")]
}

fn with(answer: &str) -> Value {
    let mut messages = talk();
    messages.push(assistant(answer));
    json!(messages)
}

fn messages(passage: &Passage) -> &[Value] {
    passage.messages().unwrap_or_default()
}

#[test]
fn a_pair_says_the_same_in_every_form() {
    let expected: Group = parse(&json!({
        "prompt": talk(), "chosen": [assistant("ho")], "rejected": [assistant("no")],
    }))
    .unwrap();
    assert_eq!(messages(&expected.prompt), talk());
    assert_eq!(messages(&expected.completions[0].passage), [assistant("ho")]);
    assert_eq!(expected.rewards, Some(vec![1.0, 0.0]));
    for form in [
        // The prompt within both sides, and within them and apart, as messages and as text.
        json!({"chosen": with("ho"), "rejected": with("no")}),
        json!({"prompt": talk(), "chosen": with("ho"), "rejected": with("no")}),
        json!({"prompt": "hi", "chosen": with("ho"), "rejected": with("no")}),
        // A side that is a single message.
        json!({"prompt": talk(), "chosen": assistant("ho"), "rejected": assistant("no")}),
        json!({"messages": talk(), "chosen": [assistant("ho")], "rejected": [assistant("no")]}),
        // What a table adds.
        json!({
            "prompt": talk(), "chosen": [{"role": "assistant", "content": "ho", "tool_calls": null}],
            "rejected": [{"content": "no", "role": "assistant", "name": null}], "tools": [],
            "chat_template_kwargs": null,
        }),
    ] {
        assert_eq!(parse::<Group>(&form).unwrap(), expected, "{form}");
    }
    let group = json!({"messages": talk(), "completions": [[assistant("ho")], [assistant("no")]], "rewards": [1, 0]});
    let group = Group { is_preference: true, ..parse(&group).unwrap() };
    assert_eq!(group, expected);
}

#[test]
fn the_prompt_of_two_texts_is_what_both_begin_with() {
    let parted = |chosen: &str, rejected: &str| {
        let group: Group = parse(&json!({"chosen": chosen, "rejected": rejected})).unwrap();
        let texts = group.completions.iter().map(|it| it.passage.text.clone().unwrap());
        (group.prompt.text.unwrap(), texts.collect::<Vec<_>>())
    };
    let texts = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
    // The blank belongs to the answers.
    assert_eq!(
        parted("The sky is blue.", "The sky is green."),
        ("The sky is".to_owned(), texts([" blue.", " green."]))
    );
    assert_eq!(parted("é1", "é2"), ("é".to_owned(), texts(["1", "2"])));
    // Answers of a dialogue may begin alike.
    let dialogue = |answer: &str| format!("\n\nHuman: Hi\n\nAssistant: I think {answer}");
    assert_eq!(
        parted(&dialogue("so."), &dialogue("not.")),
        ("\n\nHuman: Hi\n\nAssistant:".to_owned(), texts([" I think so.", " I think not."]))
    );
}

#[test]
fn what_a_template_reads_beside_the_messages_travels_with_the_prompt() {
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"x": null}}});
    let line = json!({
        "messages": talk(), "chosen": "ho", "rejected": "no",
        "tools": json!([tool]).to_string(), "documents": [{"title": "t", "text": "x"}],
        "chat_template_kwargs": {"enable_thinking": false, "other": null},
    });
    let group: Group = parse(&line).unwrap();
    let conversation = group.prompt.conversation.as_ref().unwrap();
    // TRL keeps the nulls of tools that are a text.
    assert_eq!(conversation.tools, Some(vec![tool]));
    assert_eq!(conversation.documents.as_ref().unwrap()[0]["title"], "t");
    assert_eq!(json!(conversation.template_kwargs), json!({"enable_thinking": false}));
    // And is written and read again.
    let again: Group = parse(&json!(group)).unwrap();
    assert_eq!(Group { is_preference: true, ..again }, group);
    assert_eq!(parse::<Group>(&json!(AsPreference(&group))).unwrap(), group);
}

#[test]
fn what_a_form_leaves_unused_is_named() {
    let idle = |line: Value| {
        let fields = Fields::parse(line.to_string().as_bytes()).unwrap();
        let found = Group::idle(&fields);
        assert_eq!(Demonstration::idle(&fields), found);
        assert_eq!(PromptRecord::idle(&fields), found);
        found
    };
    let beside = |prompt: Value, chosen: Value, rejected: Value| {
        json!({
            "prompt": prompt, "chosen": chosen, "rejected": rejected, "tools": [{"name": "f"}],
            "documents": [], "chat_template_kwargs": {"enable_thinking": false},
        })
    };
    // No template writes a text.
    let text = beside(json!("a"), json!("b"), json!("c"));
    assert_eq!(idle(text), ["tools", "chat_template_kwargs"]);
    assert!(idle(beside(json!(talk()), json!("b"), json!("c"))).is_empty());
    assert!(idle(beside(Value::Null, with("ho"), with("no"))).is_empty());

    // A prompt as text beside the turns that say it, and beside others.
    let said = |prompt: &str| {
        idle(json!({"prompt": prompt, "chosen": with("ho"), "rejected": with("no")})).is_empty()
    };
    assert!(said("hi") && said(" hi\n"));
    assert!(said("<|system|>\nbe brief<|end|>\n<|user|>\nhi<|end|>\n<|assistant|>\n"));
    assert!(!said("Something else entirely."));
    assert!(!said("hi, be brief"), "the turns in another order");
    let groups = json!({"prompt": "else", "completions": [with("ho"), with("no")]});
    assert_eq!(idle(groups), ["prompt"]);
}

#[test]
fn a_prompt_that_begins_the_answer_is_written_so_that_it_is_read_again() {
    let prompt: PromptRecord = parse(&json!({"prompt": [user("hi"), assistant("Well,")]})).unwrap();
    assert_eq!(messages(&prompt.prompt).len(), 2);
    assert_eq!(parse::<PromptRecord>(&json!(prompt)).unwrap(), prompt);
}

#[test]
fn a_demonstration_is_an_answer_or_all_of_a_text() {
    let demonstration = |line: &Value| parse::<Demonstration>(line).unwrap();
    let answer = demonstration(&json!({"prompt": talk(), "completion": [assistant("ho")]}));
    for form in [
        json!({"prompt": talk(), "chosen": [assistant("ho")], "rejected": [assistant("no")]}),
        json!({"chosen": with("ho"), "rejected": with("no")}),
        json!({"completion": with("ho")}),
        json!({"prompt": "hi", "chosen": with("ho"), "rejected": with("no")}),
    ] {
        let is_preference = form.get("rejected").is_some();
        let expected = Demonstration { is_preference, ..answer.clone() };
        assert_eq!(demonstration(&form), expected, "{form}");
    }
    assert!(!answer.is_whole);
    let whole = demonstration(&json!({"messages": with("ho")}));
    assert!(whole.is_whole && whole.prompt.is_empty());
    assert_eq!(json!(messages(&whole.completion.passage)), with("ho"));
    assert!(demonstration(&json!({"text": "ho"})).is_whole);
    let text = demonstration(&json!({"prompt": "hi", "completion": " ho"}));
    assert_eq!(text.completion.passage, Passage::of_text(" ho"));
}

#[test]
fn a_completion_whose_label_is_false_is_no_demonstration() {
    let passed_over = |line: Value| {
        Demonstration::passed_over(&Fields::parse(line.to_string().as_bytes()).unwrap())
    };
    for label in
        [json!(false), json!(0), json!(0.0), json!(-1), json!("False"), json!("0"), json!("-1")]
    {
        let line = json!({"prompt": "a", "completion": "b", "label": label});
        assert_eq!(passed_over(line), Some("`label` is false"));
        assert!(passed_over(json!({"messages": with("ho"), "label": label})).is_some());
    }
    for label in [json!(true), json!(1), json!(null), json!("true"), json!("1")] {
        assert_eq!(passed_over(json!({"prompt": "a", "completion": "b", "label": label})), None);
        let line = json!({"prompt": "a", "completion": "b", "label": label}).to_string();
        Demonstration::from_fields(&Fields::parse(line.as_bytes()).unwrap()).unwrap();
    }
    let unclear = Fields::parse(br#"{"prompt": "a", "completion": "b", "label": "bad"}"#).unwrap();
    let error = Demonstration::from_fields(&unclear).unwrap_err();
    insta::assert_snapshot!(error, @r#"`label`: expected true or false, found "bad"; a label says whether to learn from a completion; correct it, or drop the column"#);
}

#[test]
fn a_turn_that_is_not_learned_from_is_no_demonstration() {
    let turn = |more: Value| {
        let mut turn = assistant("ho");
        turn.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        turn
    };
    let passed_over = |line: Value| {
        Demonstration::passed_over(&Fields::parse(line.to_string().as_bytes()).unwrap())
    };
    for no in [json!({"weight": 0}), json!({"weight": 0.0}), json!({"train": false})] {
        let words = "`weight` or `train` of the last turn says that it is not learned from";
        let ends = json!({"messages": [user("hi"), turn(no.clone())]});
        assert_eq!(passed_over(ends), Some(words), "{no}");
        assert!(passed_over(json!({"prompt": talk(), "chosen": [turn(no.clone())]})).is_some());
        let line = json!({"messages": [user("hi"), turn(no), user("and?"), assistant("ha")]});
        assert_eq!(passed_over(line.clone()), None);
        assert!(parse::<Demonstration>(&line).is_err(), "all of a conversation is learned from");
        // An answer alone is learned from, and scored.
        parse::<Answered>(&line).unwrap();
        let apart = json!({"prompt": &line["messages"].as_array().unwrap()[..3], "chosen": "ha"});
        parse::<Demonstration>(&apart).unwrap();
    }
    let yes = turn(json!({"weight": 1, "train": true}));
    let asked = json!({"role": "user", "content": "hi", "weight": 0});
    let line = json!({"messages": [asked, yes, user("and?"), yes]});
    assert_eq!(passed_over(line.clone()), None);
    parse::<Demonstration>(&line).unwrap();
    let earlier = json!({"messages": [user("hi"), turn(json!({"weight": 0})), user("and?"), yes]});
    insta::assert_snapshot!(parse::<Demonstration>(&earlier).unwrap_err(), @"`messages`: expected turns that are all learned from, found one of the assistant whose `weight` says no; write the turns before the last as `prompt` and the last as `chosen`, which alone is learned from");
}

#[test]
fn a_completion_with_a_label_is_a_labelled_text_and_no_group() {
    let line = json!({"prompt": talk(), "completion": [assistant("ho")], "label": false});
    let text: LabelledText = parse(&line).unwrap();
    assert!(!text.label && text.is_conversation());
    assert_eq!(messages(text.prompt.as_ref().unwrap()), talk());
    insta::assert_snapshot!(parse::<Group>(&line).unwrap_err(), @"`label`: expected `chosen` and `rejected`, or `completions` with `rewards`, found a completion with a label of its own (unpaired preferences); nothing compares them with another: align on them with `--objective kto`, or train a classifier of them with `exalign reward` and label groups with it");
    let answered: Answered = parse(&line).unwrap();
    assert_eq!(messages(&answered.group.completions[0].passage), [assistant("ho")]);
}

#[test]
fn a_prompt_is_found_in_records_of_every_kind() {
    let prompt = |line: Value| parse::<PromptRecord>(&line).unwrap().prompt;
    let expected = Passage::of_messages(talk());
    for line in [
        json!({"prompt": talk()}),
        json!({"messages": talk()}),
        json!({"messages": with("ho")}),
        json!({"chosen": with("ho"), "rejected": with("no")}),
        json!({"prompt": talk(), "completion": [assistant("ho")], "label": true}),
    ] {
        assert_eq!(prompt(line.clone()), expected, "{line}");
    }
    assert_eq!(prompt(json!({"chosen": "a b", "rejected": "a c"})), Passage::of_text("a"));
}

#[test]
fn columns_whose_meaning_would_be_lost_are_refused_by_name() {
    let refused = |line: Value| parse::<Group>(&line).unwrap_err();
    insta::assert_snapshot!(refused(json!({"system": "be brief", "prompt": "a", "chosen": "b", "rejected": "c"})), @r#"`system`: expected no such column, found "be brief"; write it into the conversation as messages, or let `exalign data instruction` do so"#);
    insta::assert_snapshot!(refused(json!({"question": "a", "chosen": "b", "rejected": "c"})), @r#"`question`: expected no such column, found "a"; call the column `prompt`, or let `exalign data instruction` write the records"#);
    insta::assert_snapshot!(refused(json!({"conversations": [{"from": "human", "value": "a"}]})), @"`conversations`: expected no such column, found a list of 1; write `messages`, each with `role` and `content` (not `from` and `value`), or let `exalign data instruction` do so");
    insta::assert_snapshot!(refused(json!({"images": ["a.png"], "prompt": "a", "chosen": "b", "rejected": "c"})), @"`images`: expected no such column, found a list of 1; only text is read: drop the column, or the record");
    insta::assert_snapshot!(refused(json!({"prompt": "a", "completions": ["b", "c"], "labels": [true, false]})), @"`labels`: expected no labels of steps, found stepwise supervision; its `completions` are steps of one answer, which no objective here compares: give `rewards`, or drop the file");
    // A column that says nothing loses nothing.
    parse::<Group>(
        &json!({"system": " ", "history": [], "prompt": "a", "chosen": "b", "rejected": "c"}),
    )
    .unwrap();
}

#[test]
fn forms_that_do_not_fit_together_are_refused() {
    let refused = |line: Value| parse::<Group>(&line).unwrap_err();
    insta::assert_snapshot!(refused(json!({"prompt": "a", "chosen": [assistant("b")], "rejected": [assistant("c")]})), @r#"`prompt`: expected messages, since `chosen` is a list of messages, found text; write [{"role": "user", "content": ..}]"#);
    insta::assert_snapshot!(refused(json!({"prompt": talk(), "chosen": [assistant("b")], "rejected": "c"})), @"`rejected`: expected messages as in the other answers, found text; write all answers in one way");
    insta::assert_snapshot!(refused(json!({"chosen": [assistant("b")], "rejected": [assistant("c")]})), @"`prompt`: expected a prompt, or messages that `chosen` and `rejected` begin with, found none; write `prompt`");
    insta::assert_snapshot!(refused(json!({"chosen": "b", "rejected": "c"})), @"`prompt`: expected a string, found only `chosen`, `rejected`; write `prompt`, or token ids as `prompt_ids`");
    insta::assert_snapshot!(refused(json!({"prompt": talk(), "chosen": [assistant("b")], "rejected": [assistant("b")]})), @"`chosen` and `rejected` are the same text; drop the pair");
    insta::assert_snapshot!(refused(json!({"prompt": [{"from": "human", "value": "a"}], "chosen": "b", "rejected": "c"})), @r#"`prompt[0].role`: expected a string, found a message with `from` and `value`; write a message as {"role": .., "content": ..}"#);
    insta::assert_snapshot!(refused(json!({"prompt": [{"role": "user", "content": [{"type": "image"}]}], "chosen": "b", "rejected": "c"})), @"`prompt[0].content[0]`: expected a part of the type text, found one of the type image; only text is read: drop the record");
    insta::assert_snapshot!(refused(json!({"prompt": talk(), "chosen": [assistant("b")], "rejected": [assistant("c")], "finished": [true, false]})), @"`finished`: expected true for messages, since a template ends their turn, found false; give the cut `rejected` as text or token ids");
    insta::assert_snapshot!(parse::<Demonstration>(&json!({"messages": talk()})).unwrap_err(), @"`messages`: expected a conversation that ends with the assistant's turn, or an answer beside it as `chosen`, found neither; add the answer or drop the record");
}
