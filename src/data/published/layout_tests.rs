//! Tests that every row of each published layout is accounted for.

use std::io::Write;

use serde_json::{Value, json};

use super::*;

fn read(row: Value) -> Result<Example, Refusal> {
    SetKind::Instructions.example(&Fields::parse(row.to_string().as_bytes()).unwrap())
}

fn dropped(row: Value) -> Reason {
    match read(row.clone()) {
        Err(Refusal::Dropped(reason)) => reason,
        other => panic!("{row}: {other:?}"),
    }
}

fn bad(row: Value) -> Problem {
    match read(row.clone()) {
        Err(Refusal::Bad(problem)) => problem,
        other => panic!("{row}: {other:?}"),
    }
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

fn system(text: &str) -> Value {
    json!({"role": "system", "content": text})
}

fn shown(prompt: Value, chosen: Value) -> Result<Example, Refusal> {
    let prompt = conversation::prompt(prompt.as_array().unwrap().clone());
    Ok(Example::Demonstration { prompt, chosen: side(chosen), extras: Extras::default() })
}

fn pair(prompt: Value, chosen: Value, rejected: Value) -> Result<Example, Refusal> {
    let prompt = conversation::prompt(prompt.as_array().unwrap().clone());
    let (chosen, rejected) = (side(chosen), side(rejected));
    Ok(Example::Preference { prompt, chosen, rejected, extras: Extras::default() })
}

fn side(value: Value) -> Passage {
    match value {
        Value::String(text) => Passage::of_text(text),
        Value::Array(messages) => conversation::prompt(messages),
        other => panic!("{other}"),
    }
}

#[test]
fn a_system_text_stands_before_the_question() {
    let row = |system: Value| json!({"system": system, "question": "Why?", "chosen": "So.", "rejected": "No."});
    let with = json!([system("Be brief."), user("Why?")]);
    assert_eq!(read(row(json!("Be brief."))), pair(with.clone(), json!("So."), json!("No.")));
    for nothing in [json!(""), json!(" \n"), Value::Null] {
        assert_eq!(read(row(nothing)), pair(json!([user("Why?")]), json!("So."), json!("No.")));
    }
    // Also beside messages, unless they say it themselves.
    let asked = json!([user("Why?")]);
    let beside = json!({"system_prompt": "Be brief.", "prompt": asked, "response": "So."});
    assert_eq!(read(beside), shown(with.clone(), json!("So.")));
    let twice = json!({"system": "Be brief.", "messages": [system("Be brief."), user("Why?"), assistant("So.")]});
    assert_eq!(read(twice), shown(with, json!("So.")));
    let other = json!({"system": "Be long.", "messages": [system("Be brief."), user("Why?"), assistant("So.")]});
    insta::assert_snapshot!(bad(other), @"`system`: expected the system text that the conversation begins with, found another; drop one of them");
}

#[test]
fn earlier_turns_stand_before_the_instruction() {
    let row = |history: Value| json!({"instruction": "And two?", "input": "", "output": "Four.", "system": "Count.", "history": history});
    let expected = json!([system("Count."), user("One?"), assistant("Two."), user("And two?")]);
    assert_eq!(read(row(json!([["One?", "Two."]]))), shown(expected.clone(), json!("Four.")));
    let messages = json!([user("One?"), assistant("Two.")]);
    assert_eq!(read(row(messages)), shown(expected, json!("Four.")));
    assert_eq!(
        read(row(json!([]))),
        shown(json!([system("Count."), user("And two?")]), json!("Four."))
    );
    insta::assert_snapshot!(bad(row(json!([["One?"]]))), @"`history`: expected a list of exchanges, found a list of 1; write it as [[question, answer], ..]");
}

#[test]
fn the_turns_of_sharegpt_are_messages() {
    let human = |text: &str| json!({"from": "human", "value": text});
    let gpt = |text: &str| json!({"from": "gpt", "value": text});
    let conversation = json!([{"from": "system", "value": "Be kind."}, human("Hi"), gpt("Hello"), human("Bye"), gpt("Farewell")]);
    let asked = json!([system("Be kind."), user("Hi"), assistant("Hello"), user("Bye")]);
    assert_eq!(read(json!({"conversations": conversation})), shown(asked, json!("Farewell")));
    let sides =
        json!({"conversations": [human("Hi")], "chosen": gpt("Hello"), "rejected": gpt("No")});
    assert_eq!(read(sides), pair(json!([user("Hi")]), json!("Hello"), json!("No")));
    let silent = json!([{"from": "system", "value": ""}, human("Hi"), gpt("Hello")]);
    let turns = shown(json!([user("Hi")]), json!("Hello"));
    assert_eq!(read(json!({"conversations": silent})), turns);
    let unknown = json!({"conversations": [human("Hi"), {"from": "martian", "value": "Hello"}]});
    insta::assert_snapshot!(bad(unknown), @r#"`conversations[1].role`: expected user, assistant, system or tool (human, gpt, .. as well), found "martian"; rename the role"#);
    insta::assert_snapshot!(bad(json!({"conversations": [{"who": "me"}]})), @r#"`conversations[0].role`: expected a text, found nothing; write a message as {"role": .., "content": ..}"#);
    assert_eq!(dropped(json!({"conversations": [human("Hi")]})), Reason::NoAnswer);
    assert_eq!(dropped(json!({"conversations": [gpt("Hi")]})), Reason::NoPrompt);
    assert_eq!(dropped(json!({"conversations": [], "output": ""})), Reason::Empty);
}

#[test]
fn tools_and_template_arguments_pass_through() {
    let tools = json!([{"type": "function", "function": {"name": "add", "parameters": {}}}]);
    let row = json!({
        "conversations": [
            {"from": "human", "value": "1 + 2?"},
            {"from": "function_call", "value": "{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": 2}}"},
            {"from": "observation", "value": "3"},
            {"from": "gpt", "value": "Three."},
        ],
        "tools": tools,
        "chat_template_kwargs": {"enable_thinking": false},
    });
    let call =
        json!({"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}});
    let expected = Example::Demonstration {
        prompt: conversation::prompt(vec![
            user("1 + 2?"),
            json!({"role": "assistant", "tool_calls": [call]}),
            json!({"role": "tool", "content": "3"}),
        ]),
        chosen: Passage::of_text("Three."),
        extras: Extras {
            tools: Some(tools),
            chat_template_kwargs: Some(json!({"enable_thinking": false})),
        },
    };
    assert_eq!(read(row), Ok(expected));
    insta::assert_snapshot!(bad(json!({"prompt": "a", "response": "b", "tools": "add"})), @r#"`tools`: expected a list of objects, found "add"; write them as a list in JSON, or drop the column"#);
    // An answer that calls a tool is more than a text.
    let calls = json!({"role": "assistant", "tool_calls": [call]});
    let pairs =
        json!({"prompt": [user("1 + 2?")], "chosen": [calls], "rejected": [assistant("4")]});
    assert_eq!(read(pairs), pair(json!([user("1 + 2?")]), json!([calls]), json!("4")));
}

#[test]
fn tools_may_be_a_text_of_json_and_are_what_records_read() {
    let row = |tools: Value| json!({"prompt": "a", "response": "b", "tools": tools});
    let tools = |row: Value| match read(row) {
        Ok(Example::Demonstration { extras, .. }) => extras.tools,
        other => panic!("{other:?}"),
    };
    let text = json!(r#"[{"type": "function", "function": {"name": "add", "strict": null}}]"#);
    assert_eq!(tools(row(text.clone())), Some(text));
    for none in ["[]", " ", ""] {
        assert_eq!(tools(row(json!(none))), None, "{none:?}");
    }
    insta::assert_snapshot!(bad(row(json!([r#"{"name": "add"}"#]))), @r#"`tools[0]`: expected an object, found "{\"name\": \"add\"}"; write the object itself, and not as text"#);
    insta::assert_snapshot!(bad(row(json!("{\"name\": \"add\"}"))), @r#"`tools`: expected a list of objects, found "{\"name\": \"add\"}"; write them as a list in JSON, or drop the column"#);
}

#[test]
fn whole_conversations_part_where_they_differ() {
    let (hi, how) = (user("Hi"), user("How?"));
    let one = json!([hi, assistant("A"), how, assistant("B")]);
    let two = json!([hi, assistant("A"), how, assistant("C")]);
    let row = |chosen: &Value, rejected: &Value| json!({"prompt": "How?", "chosen": chosen, "rejected": rejected});
    assert_eq!(
        read(row(&one, &two)),
        pair(json!([hi, assistant("A"), how]), json!("B"), json!("C"))
    );
    // What follows the first difference belongs to the answers.
    let other = json!([hi, assistant("D"), how, assistant("E")]);
    let (tail, other_tail) = (
        json!([assistant("A"), how, assistant("B")]),
        json!([assistant("D"), how, assistant("E")]),
    );
    assert_eq!(
        read(json!({"chosen": one, "rejected": other})),
        pair(json!([hi]), tail, other_tail)
    );
    assert_eq!(dropped(row(&one, &one)), Reason::EqualSides);
    assert_eq!(dropped(row(&one, &json!([hi, assistant("A")]))), Reason::DifferentTurns);
    assert_eq!(dropped(row(&one, &json!([how, assistant("A")]))), Reason::NoCommonPrompt);
    // Only the system text differs.
    let framed = json!([system("x"), hi, assistant("A"), how, assistant("B")]);
    assert_eq!(dropped(row(&one, &framed)), Reason::NoCommonPrompt);
    let columns = Fields::parse(
        json!({"prompt": "Else?", "chosen": one, "rejected": two}).to_string().as_bytes(),
    );
    let (_, unused) = SetKind::Instructions.read(&columns.unwrap()).unwrap();
    assert_eq!(unused, ["prompt"], "a prompt that is not said in the conversation is not used");
}

#[test]
fn unwanted_answers_are_no_demonstrations() {
    let row = |label: Value| json!({"prompt": "Hi", "completion": "Hello", "label": label});
    for wanted in [json!(true), json!(1), json!("True")] {
        assert_eq!(read(row(wanted)), shown(json!([user("Hi")]), json!("Hello")));
    }
    for unwanted in [json!(false), json!(0), json!("false")] {
        assert_eq!(dropped(row(unwanted)), Reason::Unwanted);
    }
    let messages = json!([user("Hi"), assistant("Hello")]);
    assert_eq!(dropped(json!({"messages": messages, "label": false})), Reason::Unwanted);
    assert_eq!(dropped(json!({"messages": messages, "kto_tag": false})), Reason::Unwanted);
    insta::assert_snapshot!(bad(row(json!("chat"))), @r#"`label`: expected true or false, found "chat"; write whether the answer is wanted, or drop the column"#);
    let post = json!({"prompt": "Post", "completion": "Sum", "label": false});
    let post = SetKind::Posts.example(&Fields::parse(post.to_string().as_bytes()).unwrap());
    assert_eq!(post, Err(Refusal::Dropped(Reason::Unwanted)));
}

#[test]
fn answers_that_are_not_to_be_learned_from_are_no_demonstrations() {
    let turn = |text: &str, weight: Value| json!({"from": "gpt", "value": text, "weight": weight});
    let human = |text: &str| json!({"from": "human", "value": text, "weight": 0});
    let row = |first: Value, last: Value| json!({"conversations": [human("Hi"), turn("A", first), human("Bye"), turn("B", last)]});
    assert_eq!(dropped(row(json!(1), json!(0))), Reason::Unwanted);
    // Of the turns before the answer nothing is learned, whatever their weight.
    let asked = json!([user("Hi"), assistant("A"), user("Bye")]);
    for first in [json!(0), json!(1.0), Value::Null] {
        let row = row(first.clone(), json!(1));
        let fields = Fields::parse(row.to_string().as_bytes()).unwrap().without_nulls();
        assert_eq!(
            SetKind::Instructions.example(&fields),
            shown(asked.clone(), json!("B")),
            "{first}"
        );
    }
    let answer = json!({"role": "assistant", "content": "A", "train": false});
    assert_eq!(dropped(json!({"prompt": "Hi", "completion": [answer]})), Reason::Unwanted);
    let pair = json!({"prompt": "Hi", "chosen": [answer], "rejected": [assistant("B")]});
    assert_eq!(dropped(pair), Reason::Unwanted);
    let several = json!({"prompt": "Hi", "output": [answer, user("And?"), assistant("B")]});
    insta::assert_snapshot!(bad(several), @"`output`: expected turns that are all learned from, found one of the assistant whose `train` says no; write the turns before the last as `prompt` and the last as `chosen`, which alone is learned from");
}

#[test]
fn two_answers_are_ordered_by_what_says_which_is_better() {
    let (a, b) = (json!("a"), json!("b"));
    let (prompt, first, second) = (
        json!([user("Q")]),
        pair(json!([user("Q")]), a.clone(), b.clone()),
        pair(json!([user("Q")]), b.clone(), a.clone()),
    );
    let safer = |id: i32| json!({"prompt": "Q", "response_0": "a", "response_1": "b", "better_response_id": id, "safer_response_id": 0});
    assert_eq!((read(safer(0)), read(safer(1))), (first.clone(), second.clone()));
    let strength = |by: i32| json!({"prompt": "Q", "response_1": "a", "response_2": "b", "preference_strength": by});
    assert_eq!((read(strength(-2)), read(strength(1))), (first.clone(), second.clone()));
    assert_eq!(dropped(strength(0)), Reason::Tie);
    let forum = |labels: i32| json!({"history": "Q", "human_ref_A": "a", "human_ref_B": "b", "labels": labels});
    assert_eq!((read(forum(1)), read(forum(0))), (first, second));
    let scored = |one: f64, two: f64| json!({"prompt": prompt, "chosen": a, "rejected": b, "chosen-rating": one, "rejected-rating": two});
    assert_eq!(dropped(scored(4.0, 4.0)), Reason::Tie);
    assert_eq!(dropped(scored(3.0, 4.0)), Reason::ScoresDisagree);
    assert!(read(scored(4.0, 3.0)).is_ok());
}

#[test]
fn a_list_of_one_answer_is_that_answer_and_a_list_of_several_is_named() {
    let prompt = json!([user("Q")]);
    let lists = json!({"prompt": "Q", "chosen": ["a"], "rejected": ["b"]});
    assert_eq!(read(lists), pair(prompt.clone(), json!("a"), json!("b")));
    let list = json!({"instruction": "Q", "output": ["a"]});
    assert_eq!(read(list), shown(prompt, json!("a")));
    let several = json!({"prompt": "Q", "chosen": "a", "rejected": ["b", "c"]});
    insta::assert_snapshot!(bad(several), @"`rejected`: expected one answer, found a list of 2; write a row for each, or the better one as `chosen` and a worse one as `rejected`");
    let ranked = json!({"instruction": "Q", "input": "", "output": ["a", "b"]});
    assert!(bad(ranked).starts_with("`output`: expected one answer, found a list of 2"));
    // Whole conversations may be lists of texts.
    let turns = json!({"chosen": ["Q", "a"], "rejected": ["Q", "b"]});
    assert_eq!(read(turns), pair(json!([user("Q")]), json!("a"), json!("b")));
}

#[test]
fn what_no_answer_can_be_made_of_is_refused_by_name() {
    for (row, name) in [
        (json!({"prompt": "Q", "response": "a", "helpfulness": 2}), "helpfulness"),
        (
            json!({"instruction": "Q", "completions": [{"response": "a", "overall_score": 4}]}),
            "completions",
        ),
        (json!({"prompt": "Q", "answers": [{"answer": "a", "rank": 1}]}), "answers"),
        (json!({"question": "Q", "answer": "1", "solution": "2"}), "solution"),
        (json!({"instruction": "Q", "question": "R", "answer": "1"}), "question"),
        (json!({"prompt": "Q", "chosen": "a", "rejected": "b", "label": 1}), "label"),
        (json!({"prompt": [user("Q"), assistant("a")], "completion": "b"}), "prompt"),
        (json!({"messages": [user("Q"), assistant("a")], "input": "more"}), "input"),
        (
            json!({"chosen": "\n\nHuman: Q\n\nAssistant: a", "rejected": "\n\nHuman: Q\n\nAssistant: b"}),
            "chosen",
        ),
        (
            json!({"prompt": "\n\nHuman: Q\n\nAssistant: a\n\nHuman: R\n\nAssistant:", "chosen": " b", "rejected": " c"}),
            "prompt",
        ),
        (json!({"instruction": "\n\nHuman: Q\n\nAssistant:", "output": " b"}), "instruction"),
    ] {
        let problem = bad(row);
        assert!(problem.starts_with(&format!("`{name}`: expected ")), "{problem}");
    }
    assert_eq!(
        dropped(json!({"prompt": "Q", "response": "a", "images": ["x.png"]})),
        Reason::Media
    );
    assert_eq!(
        dropped(json!({"prompt": "Q", "response": "a", "documents": [{"text": "x"}]})),
        Reason::Documents
    );
    let call = json!({"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}});
    insta::assert_snapshot!(bad(json!({"messages": [user("Q"), call]})), @r#"`messages[1].function_call`: expected calls as `tool_calls`, found the older `function_call`; write [{"type": "function", "function": {"name": .., "arguments": ..}}] as `tool_calls`"#);
    let picture = json!([{"role": "user", "content": [{"type": "image"}]}, assistant("a")]);
    assert_eq!(dropped(json!({"messages": picture})), Reason::Media);
    // The other experiments have no place for a system text.
    let post = json!({"post": "Long.", "summary": "Short.", "system": "Be brief."});
    match SetKind::Posts.example(&Fields::parse(post.to_string().as_bytes()).unwrap()) {
        Err(Refusal::Bad(problem)) => {
            assert!(problem.starts_with("`system`: expected"), "{problem}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_tell_texts_apart_by_every_sign_and_by_whose_turn_it_is() {
    let key = |text: &str| passage_key(&Passage::of_text(text));
    let texts =
        ["3+2", "3-2", "3 + 2", "C", "C++", "C#", "a > b", "a < b", "-5", "+5", "?", "!", ""];
    for (number, one) in texts.iter().enumerate() {
        for two in &texts[..number] {
            assert_ne!(key(one), key(two), "{one} and {two}");
        }
    }
    assert_eq!(key(" Is  it\n3+2? "), key("is it 3+2?"));
    let turns =
        |messages: Value| passage_key(&conversation::prompt(messages.as_array().unwrap().clone()));
    let asked = json!([user("a"), assistant("b"), user("c")]);
    assert_ne!(turns(asked.clone()), turns(json!([user("a"), user("b"), user("c")])));
    assert_ne!(
        turns(asked.clone()),
        turns(json!([system("s"), user("a"), assistant("b"), user("c")]))
    );
    assert_ne!(turns(json!([user("a b")])), turns(json!([user("a"), user("b")])));
    assert_eq!(turns(asked.clone()), turns(asked));
}

#[test]
fn a_saved_folder_is_read_by_its_state_and_caches_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::File::create(path).unwrap().write_all(content.as_bytes()).unwrap();
    };
    let row = |prompt: &str| json!({"prompt": prompt, "completion": "x"}).to_string();
    write("dataset_dict.json", r#"{"splits": ["train", "test"]}"#);
    for split in ["train", "test"] {
        write(&format!("{split}/dataset_info.json"), "{}");
        write(
            &format!("{split}/state.json"),
            r#"{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}"#,
        );
        write(&format!("{split}/data-00000-of-00001.arrow"), &row(split));
        write(&format!("{split}/cache-0a1b.arrow"), &row("a cache"));
    }
    let find = || Sources::find(&[folder.path().to_owned()], &[]);
    let published = find().unwrap().read(SetKind::Instructions, 9, 0).unwrap();
    assert!(published.has_own_split);
    assert_eq!((published.train.len(), published.held_out.len(), published.rows()), (1, 1, 2));
    std::fs::remove_file(folder.path().join("train/data-00000-of-00001.arrow")).unwrap();
    let error = find().unwrap_err().to_string();
    assert!(error.contains("expected the file data-00000-of-00001.arrow beside it"), "{error}");
}
