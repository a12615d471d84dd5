//! Tests of conversations as token ids, with a tokenizer of bytes and a template of our own. The expected ids
//! are those of TRL: template(prompt + completion) without template(prompt, generation prompt).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::{AddedToken, Tokenizer as Inner};

use super::*;
use crate::data::{ChatSettings, EndSource, Fields};

/// Turns in angle brackets, with what else a template reads.
const TEMPLATE: &str = "{% for t in tools or [] %}<tool {{ t.name }}>{% endfor %}\
    {% for m in messages %}<|turn|>{{ m.role }}\n\
    {% if m.role == 'assistant' and loop.last %}<thought></thought>{% endif %}\
    {{ m.content }}<|end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|turn|>assistant\n\
    {% if thinking is defined and not thinking %}<thought></thought>{% endif %}{% endif %}";

const SPECIAL: [&str; 4] = ["<|turn|>", "<|end|>", "<|endoftext|>", "<|pad|>"];

/// A tokenizer of bytes: ids are easy to read back.
fn bytes(template: Option<&str>) -> Tokenizer {
    let alphabet = ByteLevel::alphabet();
    let mut letters: Vec<char> = alphabet.into_iter().collect();
    letters.sort_unstable();
    let mut builder = BPE::builder();
    builder = builder.vocab_and_merges(
        letters.into_iter().map(String::from).zip(0..).collect::<tokenizers::models::bpe::Vocab>(),
        vec![],
    );
    let model = builder.build().unwrap();
    let mut inner = Inner::new(model);
    let level = ByteLevel::new(false, true, true);
    inner.with_pre_tokenizer(Some(level)).with_decoder(Some(level));
    inner.add_special_tokens(&SPECIAL.map(|it| AddedToken::from(it, true)));
    let folder = tempfile::tempdir().unwrap();
    inner.save(folder.path().join("tokenizer.json"), false).unwrap();
    let mut config =
        json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"});
    if let Some(template) = template {
        config["chat_template"] = json!(template);
    }
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    Tokenizer::from_folder(folder.path(), &[259]).unwrap()
}

fn located<R: Record>(line: &Value) -> Located<R> {
    let fields = Fields::parse(line.to_string().as_bytes()).unwrap();
    let record = R::from_fields(&fields).unwrap();
    Located { file: Path::new("data.jsonl").into(), line: 1, record }
}

fn read<R: Tokenize>(tokenizer: &Tokenizer, line: &Value) -> Result<(TokenGroup, Intake)> {
    let tokenization =
        Tokenization { tokenizer: Some(tokenizer), limits: Limits::default(), vocab_size: 999 };
    let mut intake = Intake::default();
    let tokens = R::tokenize(&located(line), &tokenization, &mut intake)?;
    Ok((tokens, intake))
}

/// The texts of the prompt and of the completions.
fn texts<R: Tokenize>(tokenizer: &Tokenizer, line: &Value) -> (String, Vec<String>) {
    let tokens = read::<R>(tokenizer, line).unwrap().0;
    (tokenizer.decode_all(&tokens.prompt).unwrap(), decoded(tokenizer, &tokens.completions))
}

fn decoded(tokenizer: &Tokenizer, completions: &[Vec<u32>]) -> Vec<String> {
    completions.iter().map(|ids| tokenizer.decode_all(ids).unwrap()).collect()
}

/// A group's tokens as a reward model reads them.
fn rewarded(tokenizer: &Tokenizer, reading: RewardReading, line: &Value) -> TokenGroup {
    let tokenization =
        Tokenization { tokenizer: Some(tokenizer), limits: Limits::default(), vocab_size: 999 };
    reading.tokens(&located(line), &tokenization, &mut Intake::default()).unwrap()
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

#[test]
fn a_completion_is_what_the_template_writes_after_the_prompt() {
    let tokenizer = bytes(Some(TEMPLATE));
    let prompt = "<|turn|>user\nhi<|end|>\n<|turn|>assistant\n";
    let sides = ["<thought></thought>ho<|end|>\n", "<thought></thought>no<|end|>\n"];
    // A text ends where its turn ends, as what is sampled does.
    let line = json!({"messages": [user("hi")], "chosen": "ho", "rejected": "no"});
    let (found, completions) = texts::<Group>(&tokenizer, &line);
    let cut = sides.map(|it| it.trim_end().to_owned());
    assert_eq!((found.as_str(), completions), (prompt, cut.to_vec()));
    for line in [
        json!({"prompt": [user("hi")], "chosen": [assistant("ho")], "rejected": [assistant("no")]}),
        json!({"chosen": [user("hi"), assistant("ho")], "rejected": [user("hi"), assistant("no")]}),
    ] {
        let (found, completions) = texts::<Group>(&tokenizer, &line);
        assert_eq!(
            (found.as_str(), completions),
            (prompt, sides.map(str::to_owned).to_vec()),
            "{line}"
        );
    }
    // A completion of several messages.
    let line = json!({
        "prompt": [user("hi")],
        "completion": [assistant("a"), {"role": "tool", "content": "b"}, assistant("c")],
    });
    let (_, completions) = texts::<Demonstration>(&tokenizer, &line);
    assert_eq!(
        completions,
        ["a<|end|>\n<|turn|>tool\nb<|end|>\n<|turn|>assistant\n<thought></thought>c<|end|>\n"]
    );
    // Cut text has no end, and nothing is written behind it.
    let line =
        json!({"messages": [user("hi")], "completions": ["ho", "no"], "finished": [false, true]});
    assert_eq!(texts::<Group>(&tokenizer, &line).1, ["ho", sides[1].trim_end()]);
}

#[test]
fn arguments_and_tools_of_a_record_reach_the_template() {
    let tokenizer = bytes(Some(TEMPLATE));
    let line = json!({
        "messages": [user("hi")], "chosen": "ho", "rejected": "no",
        "tools": [{"name": "clock"}], "chat_template_kwargs": {"thinking": false},
    });
    let (prompt, completions) = texts::<Group>(&tokenizer, &line);
    assert_eq!(
        prompt,
        "<tool clock><|turn|>user\nhi<|end|>\n<|turn|>assistant\n<thought></thought>"
    );
    assert_eq!(completions, ["ho<|end|>", "no<|end|>"]);
    // The setting for all records says the same.
    let kwargs = json!({"thinking": false}).as_object().unwrap().clone();
    let settings = ChatSettings { template_kwargs: kwargs, date: String::new() };
    let line = json!({"messages": [user("hi")], "chosen": "ho", "rejected": "no"});
    let (prompt, _) = texts::<Group>(&tokenizer.with_chat(&settings).unwrap(), &line);
    assert!(prompt.ends_with("<thought></thought>"), "{prompt}");
}

#[test]
fn nulls_of_tools_stay_where_the_tools_are_a_text() {
    let template = "{{ tools[0] | tojson }}{% for m in messages %}{{ m.content }}{% endfor %}";
    let written = |tools: Value| {
        let line = json!({"prompt": [user("hi")], "tools": tools});
        texts::<PromptRecord>(&bytes(Some(template)), &line).0
    };
    let tools = json!([{"name": "add", "default": null}]);
    assert_eq!(written(json!(tools.to_string())), r#"{"name": "add", "default": null}hi"#);
    // TRL drops those of a list, with which Arrow fills what an object has not.
    assert_eq!(written(tools), r#"{"name": "add"}hi"#);
}

#[test]
fn a_template_that_writes_the_prompt_otherwise_with_its_answer_is_refused() {
    // The request for an answer begins a thought that a finished answer does not have.
    let template = TEMPLATE.replace("<|turn|>assistant\n", "<|turn|>assistant\n<think>");
    let line = json!({"messages": [user("hi")], "chosen": "ho", "rejected": "no"});
    let error = read::<Group>(&bytes(Some(&template)), &line).unwrap_err();
    insta::assert_snapshot!(error, @r#"data.jsonl:1: `chosen`: expected the chat template to write the conversation with its answer as it writes the prompt that asks for it, found "ought></thought>ho<|end|>\n" where the prompt has "ink>"; set the template's argument to suit the answers (--set chat.template_kwargs.thinking=false), or give `prompt` as the text that the template writes, or token ids as `chosen_ids`"#);
    // No argument is named that the template does not read.
    let template = "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|turn|>assistant\n<think>{% endif %}";
    let line = json!({"messages": [user("hi")], "completions": ["why</think>ho", "no"]});
    let error = read::<Group>(&bytes(Some(template)), &line).unwrap_err();
    insta::assert_snapshot!(error, @r#"data.jsonl:1: `completions[0]`: expected the chat template to write the conversation with its answer as it writes the prompt that asks for it, found "ho<|end|>\n" where the prompt has "<think>"; give `prompt` as the text that the template writes, or token ids as `completion_ids`"#);
    // What is said to work works.
    let prompt = "<|turn|>user\nhi<|end|>\n<|turn|>assistant\n<think>";
    let line = json!({"prompt": prompt, "completions": ["why</think>ho", "no"]});
    let written = ["why</think>ho<|end|>", "no<|end|>"].map(str::to_owned).to_vec();
    assert_eq!(texts::<Group>(&bytes(Some(template)), &line), (prompt.to_owned(), written));
    let line = json!({"messages": [user("hi")], "completion_ids": [[1], [2]]});
    assert_eq!(texts::<Group>(&bytes(Some(template)), &line).0, prompt);
}

#[test]
fn a_prompt_that_ends_with_the_assistants_turn_is_continued_there() {
    let template =
        "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}";
    let line = json!({"prompt": [user("hi"), assistant("Well,")]});
    let (prompt, _) = texts::<PromptRecord>(&bytes(Some(template)), &line);
    assert_eq!(prompt, "<|turn|>user\nhi<|end|>\n<|turn|>assistant\nWell,");
}

#[test]
fn completions_go_on_with_the_turn_that_their_prompt_has_begun() {
    let tokenizer = bytes(Some(TEMPLATE));
    let begun = [user("hi"), assistant("The sea")];
    let sampled =
        json!({"messages": begun, "completions": [" is", " was"], "finished": [true, false]});
    let (prompt, completions) = texts::<Group>(&tokenizer, &sampled);
    let asked = "<|turn|>user\nhi<|end|>\n<|turn|>assistant\n";
    assert_eq!(prompt, format!("{asked}<thought></thought>The sea"));
    assert_eq!(completions, [" is<|end|>", " was"]);
    // Whatever the rewards are.
    for rewards in [json!([1, 0]), json!([1, 0.5]), json!([0, 1])] {
        let mut labelled = sampled.clone();
        labelled["rewards"] = rewards;
        assert_eq!(texts::<Group>(&tokenizer, &labelled), (prompt.clone(), completions.clone()));
    }
    // One answer goes on too, with a label or without.
    let one = json!({"prompt": begun, "completion": " is", "label": true});
    let whole = format!("{prompt} is<|end|>");
    let first = (prompt.clone(), vec![" is<|end|>".to_owned()]);
    assert_eq!(texts::<Demonstration>(&tokenizer, &one), first);
    assert_eq!(texts::<Answered>(&tokenizer, &one), first);
    assert_eq!(texts::<LabelledText>(&tokenizer, &one), (String::new(), vec![whole]));
    // As one turn, whatever a reward model reads of it.
    let read = rewarded(&tokenizer, RewardReading::default(), &sampled);
    assert_eq!(tokenizer.decode_all(&read.prompt).unwrap(), asked);
    let turns = decoded(&tokenizer, &read.completions);
    assert_eq!(turns, ["is", "was"].map(|it| format!("<thought></thought>The sea {it}<|end|>\n")));
    // Messages are turns of their own.
    let answers = json!({"messages": begun, "completions": [[assistant("a")], [assistant("b")]]});
    let template = "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|turn|>assistant\n{% endif %}";
    let (prompt, completions) = texts::<Group>(&bytes(Some(template)), &answers);
    assert_eq!(prompt, format!("{asked}The sea<|end|>\n<|turn|>assistant\n"));
    assert_eq!(completions, ["a<|end|>\n", "b<|end|>\n"]);
    // So are the sides of a preference, also where only the chosen one is learned from.
    let pair = json!({"prompt": begun, "chosen": "a", "rejected": "b"});
    let chosen = (prompt, vec!["a<|end|>".to_owned()]);
    assert_eq!(texts::<Demonstration>(&bytes(Some(template)), &pair), chosen);
    let (prompt, sides) = texts::<Group>(&bytes(Some(template)), &pair);
    assert_eq!((prompt, sides[0].clone()), (chosen.0, chosen.1[0].clone()));
}

#[test]
fn a_text_ends_also_where_the_template_ends_no_turn() {
    let template = "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}{% endfor %}\
        {% if add_generation_prompt %}<|turn|>assistant\n{% endif %}";
    let tokenizer = bytes(Some(template));
    let line = json!({"messages": [user("hi")], "chosen": "ho", "rejected": "no"});
    assert_eq!(texts::<Group>(&tokenizer, &line).1, ["ho<|endoftext|>", "no<|endoftext|>"]);
    // Messages are all that the template writes of them.
    let line = json!({"messages": [user("hi")], "chosen": [assistant("ho")], "rejected": [assistant("no")]});
    assert_eq!(texts::<Group>(&tokenizer, &line).1, ["ho", "no"]);
}

#[test]
fn of_several_ends_behind_a_turn_the_first_that_stops_sampling_counts() {
    let template = |ends: &str| {
        format!(
            "{{% for m in messages %}}<|turn|>{{{{ m.role }}}}\n{{{{ m.content }}}}{ends}{{% endfor %}}\
             {{% if add_generation_prompt %}}<|turn|>assistant\n{{% endif %}}"
        )
    };
    let line = json!({"messages": [user("hi")], "chosen": "ho", "rejected": "no"});
    // The end of the turn, then that of the text: both stop sampling.
    let tokenizer = bytes(Some(&template("<|end|>\n<|endoftext|>")));
    let chosen = |tokenizer: &Tokenizer| texts::<Group>(tokenizer, &line).1[0].clone();
    assert_eq!(tokenizer.ends().turn.map(|(id, _)| id), Some(258));
    assert_eq!(chosen(&tokenizer), "ho<|end|>\n<|endoftext|>");
    // A mark of the answer that no setting names is no end.
    let tokenizer = bytes(Some(&template("<|end|><|endoftext|>")));
    assert_eq!(chosen(&tokenizer), "ho<|end|><|endoftext|>");
    // Where the settings name both, the first is where sampling stops.
    let folder = tempfile::tempdir().unwrap();
    bytes(Some(&template("<|end|>\n<|endoftext|>"))).save(folder.path()).unwrap();
    let both = Tokenizer::from_folder(folder.path(), &[258, 257]).unwrap();
    assert_eq!(both.ends().turn.map(|(id, _)| id), Some(257));
    assert_eq!(chosen(&both), "ho<|end|>");
}

#[test]
fn a_pair_whose_tokens_are_the_same_is_refused() {
    let template =
        "{% for m in messages %}{{ m.content.split('</think>')[-1] }}<|end|>{% endfor %}";
    let tokenizer = bytes(Some(template));
    let line = json!({"messages": [user("hi")], "chosen": "<think>a</think>4", "rejected": "<think>b</think>4"});
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    std::fs::write(&path, format!("{line}\n")).unwrap();
    let limits = Limits::default();
    let read = read_alignment_tokens(&path, 0, Some(&tokenizer), &limits, 999, &|_| Ok(()));
    let error = read.unwrap_err().to_string();
    let name = path.display().to_string();
    insta::assert_snapshot!(error.strip_prefix(&name).unwrap(), @":1: `chosen` and `rejected` are the same tokens: the chat template leaves out what they differ in; write them so that it does not, or drop the pair or pass --skip-bad 1");
}

/// What the template leaves out of records.
fn left_out<R: Tokenize>(template: &str, lines: &[Value]) -> Unwritten {
    let tokenizer = bytes(Some(template));
    let tokenization =
        Tokenization { tokenizer: Some(&tokenizer), limits: Limits::default(), vocab_size: 999 };
    let mut intake = Intake::default();
    for (line, number) in lines.iter().zip(1..) {
        let located = Located { line: number, ..located::<R>(line) };
        R::tokenize(&located, &tokenization, &mut intake).unwrap();
    }
    intake.unwritten()
}

/// A pair whose sides have fields beside their content.
fn pair_with(fields: &Value) -> Value {
    let side = |content: &str| {
        let mut message = assistant(content);
        for (name, value) in fields.as_object().unwrap() {
            message[name] = value.clone();
        }
        json!([message])
    };
    json!({"prompt": [user("hi")], "chosen": side("ho"), "rejected": side("no")})
}

#[test]
fn fields_that_the_template_does_not_write_are_counted() {
    let plain = "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|turn|>assistant\n{% endif %}";
    let mut with_context = pair_with(&json!({"tool_calls": [], "reasoning_content": " "}));
    with_context["tools"] = json!([{"name": "clock"}]);
    with_context["documents"] = json!([{"title": "t", "text": "x"}]);
    let lines = [
        vec![pair_with(&json!({"reasoning_content": "why", "id": 7})); 6],
        vec![pair_with(&json!({"tool_calls": [{"function": {"name": "clock"}}]})), with_context],
    ]
    .concat();
    let found = left_out::<Group>(plain, &lines);
    insta::assert_snapshot!(found.words().unwrap(), @"the chat template does not write `documents` of 1 record, `reasoning_content` of 6 records, `tool_calls` of 1 record, `tools` of 1 record, and the model does not read it: give `prompt` and the answers as texts that hold it, or take a template that writes it");
    assert_eq!(found.notes().collect::<Vec<_>>(), [("messages.id".to_owned(), 6)]);
    // Every kind of record is looked at.
    assert_eq!(left_out::<Demonstration>(plain, &lines), found);
    let whole: Vec<Value> = lines
        .iter()
        .map(|line| {
            let messages = [line["prompt"][0].clone(), line["chosen"][0].clone()];
            json!({"messages": messages, "tools": line["tools"], "documents": line["documents"]})
        })
        .collect();
    assert_eq!(left_out::<Demonstration>(plain, &whole), found);
    let prompts = [json!({"messages": [user("hi")], "tools": [{"name": "clock"}]})];
    let tools = BTreeMap::from([("tools".to_owned(), 1)]);
    assert_eq!(left_out::<PromptRecord>(plain, &prompts).fields, tools);

    // A template that writes a field in one record is trusted with all.
    let writes = plain.replace(
        "{{ m.content }}",
        "{% if loop.last and m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}\
         {% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}{{ m.content }}",
    );
    let writes = format!("{{{{ tools }}}}{{{{ documents }}}}{writes}");
    let mut thoughts = pair_with(&json!({"reasoning_content": "why"}));
    thoughts["prompt"] = json!([user("a"), {"role": "assistant", "content": "b", "reasoning_content": "old"}, user("c")]);
    let found = left_out::<Group>(&writes, &[lines, vec![thoughts]].concat());
    assert_eq!((found.words(), found.notes().count()), (None, 1));
}

#[test]
fn answers_of_which_the_template_leaves_a_part_out_are_counted() {
    let drops = "{% for m in messages %}<|turn|>{{ m.role }}\n\
        {{ m.content.split('</think>')[-1] | trim }}<|end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|turn|>assistant\n{% endif %}";
    let thought = "<think>\nwhy\n</think>\n\nho";
    let group = |answers: [Value; 2]| json!({"prompt": [user("hi")], "completions": answers});
    let lines = [
        group([json!(" ho "), json!("no")]),
        group([json!(thought), json!(thought)]),
        group([json!([assistant("ho")]), json!([assistant(thought)])]),
    ];
    let found = left_out::<Group>(drops, &lines);
    assert_eq!((found.answers, found.first_answer), (2, Some(2)));
    insta::assert_snapshot!(found.words().unwrap(), @"the chat template does not write a part of the answer of 2 records (the first in line 2), and the model does not read it: give `prompt` and the answers as texts that hold it, or take a template that writes it");
    let whole = [json!({"messages": [user("hi"), assistant(thought)]})];
    assert_eq!(left_out::<Demonstration>(drops, &whole).answers, 1);
    // Other white space loses nothing, nor do thoughts of earlier turns.
    let spaces = drops.replace(
        "m.content.split('</think>')[-1] | trim",
        "m.content.replace('\\n', ' ') if loop.last else m.content.split('</think>')[-1]",
    );
    let mut earlier = group([json!(thought), json!("no")]);
    earlier["prompt"] = json!([user("a"), assistant(thought), user("b")]);
    assert_eq!(left_out::<Group>(&spaces, &[lines.to_vec(), vec![earlier]].concat()).words(), None);
}

#[test]
fn an_answer_of_another_role_is_refused_by_its_role() {
    let answer = json!([{"role": "Assistant", "content": "ho"}]);
    let line = json!({"messages": [user("hi")], "chosen": answer, "rejected": [assistant("no")]});
    let error = read::<Group>(&bytes(Some(TEMPLATE)), &line).unwrap_err();
    insta::assert_snapshot!(error, @r#"data.jsonl:1: `chosen`: expected an answer that begins with a message of role "assistant", found role "Assistant"; correct it"#);
}

#[test]
fn an_end_that_is_an_added_token_and_not_called_special_is_found() {
    let alphabet = ByteLevel::alphabet();
    let letters = alphabet.into_iter().map(String::from).zip(0..);
    let vocabulary = letters.collect::<tokenizers::models::bpe::Vocab>();
    let mut inner =
        Inner::new(BPE::builder().vocab_and_merges(vocabulary, vec![]).build().unwrap());
    let level = ByteLevel::new(false, true, true);
    inner.with_pre_tokenizer(Some(level)).with_decoder(Some(level));
    inner.add_special_tokens(&[AddedToken::from("<|endoftext|>", true)]);
    inner.add_tokens(&[AddedToken::from("<|turn|>", false), AddedToken::from("<|end|>", false)]);
    let folder = tempfile::tempdir().unwrap();
    inner.save(folder.path().join("tokenizer.json"), false).unwrap();
    let config = json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>",
        "chat_template": TEMPLATE});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    std::fs::write(
        folder.path().join("generation_config.json"),
        r#"{"eos_token_id": 256, "top_k": 7}"#,
    )
    .unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path(), &[256]).unwrap();
    assert_eq!(tokenizer.ends().turn, Some((258, EndSource::Template)));
    let line = json!({"messages": [user("hi")], "chosen": "ho", "rejected": "no"});
    let sides = texts::<Group>(&tokenizer, &line).1;
    assert_eq!(sides, ["ho", "no"].map(|it| format!("<thought></thought>{it}<|end|>")));

    // Other programs stop there too.
    let saved = tempfile::tempdir().unwrap();
    tokenizer.save(saved.path()).unwrap();
    let read = |folder: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(folder.join("generation_config.json")).unwrap())
            .unwrap()
    };
    assert_eq!(read(saved.path()), json!({"eos_token_id": [258, 256], "top_k": 7}));
    // What names it already is copied as it is.
    let again = Tokenizer::from_folder(saved.path(), &[258, 256]).unwrap();
    let copied = tempfile::tempdir().unwrap();
    again.save(copied.path()).unwrap();
    let bytes = |folder: &Path| std::fs::read(folder.join("generation_config.json")).unwrap();
    assert_eq!(bytes(copied.path()), bytes(saved.path()));
}

#[test]
fn all_of_a_conversation_or_text_is_learned_from_but_its_first_token() {
    let tokenizer = bytes(Some(TEMPLATE));
    let line = json!({"messages": [user("hi"), assistant("ho")]});
    let (first, rest) = texts::<Demonstration>(&tokenizer, &line);
    assert_eq!(first, "<|turn|>");
    assert_eq!(rest, ["user\nhi<|end|>\n<|turn|>assistant\n<thought></thought>ho<|end|>\n"]);
    // A text ends with the token that ends turns.
    let (first, rest) = texts::<Demonstration>(&tokenizer, &json!({"text": "abc"}));
    assert_eq!((first.as_str(), rest), ("a", vec!["bc<|end|>".to_owned()]));
    // Of the same conversation, only the answer is scored.
    let (prompt, answer) = texts::<Answered>(&tokenizer, &line);
    assert!(prompt.ends_with("<|turn|>assistant\n"), "{prompt}");
    assert_eq!(answer, ["<thought></thought>ho<|end|>\n"]);
}

#[test]
fn the_token_that_ends_a_turn_is_the_templates_then_the_tokenizers_then_the_models() {
    let end = |tokenizer: &Tokenizer| {
        let (id, source) = tokenizer.ends().turn.unwrap();
        (tokenizer.token(id).unwrap(), source)
    };
    let with = bytes(Some(TEMPLATE));
    assert_eq!(end(&with), ("<|end|>".to_owned(), EndSource::Template));
    // All that end a turn stop a completion: the template's, the tokenizer's, the model's.
    assert_eq!(with.all_end_of_text(), [257, 258, 259]);
    assert_eq!(end(&bytes(None)), ("<|endoftext|>".to_owned(), EndSource::Tokenizer));
    // What begins the next turn is no end of this one.
    let open = "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}\n{% endfor %}<|turn|>assistant\n";
    assert_eq!(end(&bytes(Some(open))).1, EndSource::Tokenizer);
    let text = json!({"prompt": "a", "chosen": "b"});
    assert_eq!(texts::<Demonstration>(&with, &text).1, ["b<|end|>"]);
    // A template writes a line end behind it; sampling stops before.
    let written = json!({"prompt": "a", "chosen": "b<|end|>\n"});
    assert_eq!(texts::<Demonstration>(&with, &written).1, ["b<|end|>"]);
    assert_eq!(texts::<Demonstration>(&bytes(None), &text).1, ["b<|endoftext|>"]);
}

#[test]
fn a_reward_model_reads_the_whole_turn_at_the_last_token_that_is_not_padding() {
    let tokenizer = bytes(Some(TEMPLATE));
    let completions = |reading, line: &Value| {
        decoded(&tokenizer, &rewarded(&tokenizer, reading, line).completions)
    };
    let others = RewardReading::default();
    let talk =
        json!({"messages": [user("hi")], "completions": ["ho", "no"], "finished": [true, false]});
    // Cut or not, it is read as a turn that ended; what a template writes behind it counts.
    assert_eq!(
        completions(others, &talk),
        ["<thought></thought>ho<|end|>\n", "<thought></thought>no<|end|>\n"]
    );
    let text = json!({"prompt": "a", "completions": ["ho", "no"], "finished": [true, false]});
    assert_eq!(completions(others, &text), ["ho", "no"]);
    let ours = RewardReading { is_own: true, ends_text: true, padding: Some(258) };
    assert_eq!(completions(ours, &text), ["ho<|end|>", "no<|end|>"]);
    // transformers reads before the padding, be it the end token.
    let padded = RewardReading { padding: Some(257), ..ours };
    assert_eq!(completions(padded, &text), ["ho", "no"]);
    // Ids alone end alike too.
    let ids = json!({"prompt_ids": [1], "completion_ids": [[2, 257], [3]]});
    assert_eq!(completions(ours, &ids).len(), 2);
    assert_eq!(rewarded(&tokenizer, ours, &ids).completions, [[2, 257], [3, 257]]);
}

#[test]
fn a_reward_model_of_others_reads_the_ends_that_stand_in_a_text_and_no_other() {
    let tokenizer = bytes(Some(TEMPLATE));
    let completions = |reading, line: &Value| {
        decoded(&tokenizer, &rewarded(&tokenizer, reading, line).completions)
    };
    let others = |padding: Option<u32>| RewardReading { padding, ..RewardReading::default() };
    // The ids of `<|end|>`, `<|endoftext|>` and `<|pad|>` are 257, 258 and 259.
    let written = ["ok<|endoftext|>", "ok<|end|>", "ok<|pad|><|pad|>", "ok"];
    let text = json!({"prompt": "a", "completions": written});
    // Without padding, transformers reads at the last token of all, else at the last that is no padding.
    assert_eq!(completions(others(None), &text), written);
    let padded = ["ok<|endoftext|>", "ok<|end|>", "ok", "ok"];
    assert_eq!(completions(others(Some(259)), &text), padded);
    let padded_by_end = ["ok", "ok<|end|>", "ok<|pad|><|pad|>", "ok"];
    assert_eq!(completions(others(Some(258)), &text), padded_by_end);
    let ids = json!({"prompt_ids": [97], "completion_ids": [[98, 257], [98]]});
    assert_eq!(rewarded(&tokenizer, others(None), &ids).completions, [vec![98, 257], vec![98]]);
    // A classifier of our own has learned from texts without their ends.
    let ours = RewardReading { is_own: true, ..RewardReading::default() };
    assert_eq!(completions(ours, &text), ["ok"; 4]);
}
