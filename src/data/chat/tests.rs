use serde_json::json;

use super::*;

/// Conversations on templates of our own, and what transformers 4.57.6 (`apply_chat_template` with
/// a generation prompt) makes of them: a text, or the template's refusal.
const RENDERED: &str = include_str!("rendered.json");

fn template(name: &str) -> ChatTemplate {
    let text = match name {
        "chatml" => include_str!("templates/chatml.jinja"),
        "tools" => include_str!("templates/tools.jinja"),
        "turns" => include_str!("templates/turns.jinja"),
        "summary" => include_str!("templates/summary.jinja"),
        text => text,
    };
    let Value::Object(tokens) = json!({ "bos_token": "<s>", "eos_token": "</s>" }) else {
        panic!()
    };
    let texts = [(DEFAULT.to_owned(), text.to_owned())].into();
    ChatTemplate::new(PathBuf::from("chat_template.jinja"), &texts, tokens).unwrap()
}

fn user(content: impl Into<Value>) -> Value {
    json!({ "role": "user", "content": content.into() })
}

fn assistant(content: impl Into<Value>) -> Value {
    json!({ "role": "assistant", "content": content.into() })
}

fn text(template: &ChatTemplate, messages: Vec<Value>) -> String {
    template.render(&messages.into(), Ending::GenerationPrompt).unwrap()
}

#[test]
fn conversations_become_the_text_that_transformers_makes_of_them() {
    let cases: Vec<Value> = serde_json::from_str(RENDERED).unwrap();
    assert!(cases.len() >= 16);
    for case in cases {
        let messages = case["messages"].as_array().unwrap().clone();
        let found = template(case["template"].as_str().unwrap())
            .render(&messages.into(), Ending::GenerationPrompt);
        match case["error"].as_str() {
            Some(message) => assert!(found.unwrap_err().contains(message), "{case}"),
            None => assert_eq!(found.as_deref(), Ok(case["text"].as_str().unwrap()), "{case}"),
        }
    }
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
    let error = template(endless).render(&vec![user("hi")].into(), Ending::Closed).unwrap_err();
    assert!(error.starts_with("the chat template in chat_template.jinja refuses: "), "{error}");
}

const TURNS: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

#[test]
fn a_text_ends_where_it_is_asked_to() {
    let render =
        |text: &str, messages: Vec<Value>, ending| template(text).render(&messages.into(), ending);
    let talk = || vec![user("a"), assistant(" b ")];
    let turns = |ending| render(TURNS, talk(), ending).unwrap();
    assert_eq!(turns(Ending::GenerationPrompt), "<user>a</>\n<assistant> b </>\n<assistant>");
    assert_eq!(turns(Ending::Closed), "<user>a</>\n<assistant> b </>\n");
    assert_eq!(turns(Ending::Continued), "<user>a</>\n<assistant> b ");
    // A template that trims takes the blanks before the tag as well (transformers 4.57.6).
    let trims = TURNS.replace("m.content", "m.content | trim");
    assert_eq!(render(&trims, talk(), Ending::Continued).unwrap(), "<user>a</>\n<assistant>b");
    let parts = json!([{ "type": "text", "text": "x" }, { "type": "text", "text": "y" }]);
    let listed =
        TURNS.replace("{{ m.content }}", "{% for p in m.content %}{{ p.text }}{% endfor %}");
    let talk = vec![assistant(parts)];
    assert_eq!(render(&listed, talk, Ending::Continued).unwrap(), "<assistant>xy");

    let lost = TURNS.replace("m.content", "'-'");
    let error = render(&lost, vec![assistant("b")], Ending::Continued).unwrap_err();
    assert!(error.contains("changed by the chat template"), "{error}");
    let error = render(TURNS, vec![assistant(Value::Null)], Ending::Continued).unwrap_err();
    assert!(error.contains("text to continue"), "{error}");
}

#[test]
fn tools_documents_and_arguments_reach_the_template() {
    let text = "{{ bos_token }}{{ tools | map(attribute='name') | join if tools else 'no tools' }};{{ documents[0].title if documents else tools is none }};{{ enable_thinking }};{{ level }}";
    let settings = ChatSettings {
        template_kwargs: json!({ "enable_thinking": false, "level": "setting" })
            .as_object()
            .unwrap()
            .clone(),
        ..ChatSettings::default()
    };
    let plain = template(text);
    let set = template(text).with_settings(&settings).unwrap();
    let mut talk: Conversation = vec![user("a")].into();
    let render = |it: &ChatTemplate, talk: &Conversation| it.render(talk, Ending::Closed).unwrap();
    assert_eq!(render(&plain, &talk), "<s>no tools;True;;");
    assert_eq!(render(&set, &talk), "<s>no tools;True;False;setting");
    talk.tools = Some(vec![json!({ "name": "f" })]);
    talk.documents = Some(vec![json!({ "title": "T" })]);
    talk.template_kwargs.insert("level".to_owned(), json!("record"));
    talk.template_kwargs.insert("bos_token".to_owned(), json!("<b>"));
    assert_eq!(render(&set, &talk), "<b>f;T;False;record");

    talk.template_kwargs.insert("messages".to_owned(), json!([]));
    let error = plain.render(&talk, Ending::Closed).unwrap_err();
    assert!(error.starts_with("`chat_template_kwargs.messages`: "), "{error}");
    let settings = ChatSettings { template_kwargs: talk.template_kwargs, ..settings };
    let error = plain.with_settings(&settings).unwrap_err().to_string();
    assert!(error.starts_with("`chat.template_kwargs.messages`: "), "{error}");
}

#[test]
fn what_is_no_conversation_is_refused() {
    let refused = |talk: Conversation| template(TURNS).render(&talk, Ending::Closed).unwrap_err();
    assert_eq!(refused(Vec::new().into()), "expected messages, found none");
    assert_eq!(
        refused(vec![user("a"), json!("b")].into()),
        "`messages[1]`: expected an object, found \"b\""
    );
    let tools = Some(vec![json!(1)]);
    assert_eq!(
        refused(Conversation { tools, ..vec![user("a")].into() }),
        "`tools[0]`: expected an object, found 1"
    );
}

#[test]
fn the_date_is_taken_once_or_set() {
    let dated = template("{{ strftime_now('%d %B %Y %H:%M:%S') }}");
    assert!(dated.reads_date() && !template(TURNS).reads_date());
    let set = |date: &str| {
        let settings = ChatSettings { date: date.to_owned(), ..ChatSettings::default() };
        template("{{ strftime_now('%d %B %Y %H:%M:%S') }}").with_settings(&settings)
    };
    let now = text(&dated, vec![user("a")]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(text(&dated.clone(), vec![user("a")]), now);
    assert_eq!(text(&set("2024-07-26").unwrap(), vec![user("a")]), "26 July 2024 00:00:00");
    assert_eq!(text(&set("2024-07-26 09:05").unwrap(), vec![user("a")]), "26 July 2024 09:05:00");
    assert_eq!(text(&set(&today()).unwrap(), vec![user("a")])[..11], now[..11]);
    for wrong in ["today", "26.7.2024", "2024-02-30", "2024-7-2", "2024-07-26 9", "24-07-26"] {
        let error = set(wrong).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("`chat.date`: expected a date such as 2024-07-26, found {wrong:?}")
        );
    }
}

#[test]
fn parts_are_read_by_the_template_or_joined() {
    let content = || json!([{ "type": "text", "text": "x" }, { "type": "text", "text": "y" }]);
    assert!(!template(TURNS).reads_parts());
    assert_eq!(text(&template(TURNS), vec![user(content())]), "<user>x\ny</>\n<assistant>");
    let reads = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endif %}{% endfor %}";
    assert!(template(reads).reads_parts());
    assert_eq!(text(&template(reads), vec![user(content()), assistant("z")]), "[x][y]z");
    // One that reads parts of the user alone.
    let users = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content | map(attribute='text') | join('+') }}{% else %}{{ m.content + '!' }}{% endif %}{% endfor %}";
    assert_eq!(text(&template(users), vec![user(content()), assistant(content())]), "x+yx\ny!");

    for text in [TURNS, reads] {
        let image =
            json!([{ "type": "text", "text": "x" }, { "type": "image_url", "image_url": {} }]);
        let error = template(text).render(&vec![user(image)].into(), Ending::Closed).unwrap_err();
        assert!(
            error.starts_with(
                "`messages[0].content[1]`: expected a part of type `text`, found `image_url`"
            ),
            "{error}"
        );
    }
    let thought = json!([{ "type": "thinking", "thinking": "x" }]);
    let error = template(TURNS).render(&vec![user(thought)].into(), Ending::Closed).unwrap_err();
    assert!(error.contains("reads no others"), "{error}");
}

#[test]
fn a_folders_template_is_found_wherever_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let render = |tools: bool| {
        let template = ChatTemplate::from_folder(folder.path()).unwrap();
        let tools = tools.then(Vec::new);
        let talk = Conversation { tools, ..vec![user("hi")].into() };
        template.map(|it| it.render(&talk, Ending::GenerationPrompt))
    };
    let found = |tools: bool| render(tools).unwrap().unwrap();
    assert!(render(false).is_none());
    write("chat_template.json", r#"{"chat_template": "json {{ messages[0].content }}"}"#);
    assert_eq!(found(false), "json hi");
    write(
        "tokenizer_config.json",
        r#"{"bos_token": {"content": "<b>"}, "chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "{{ bos_token }}"}]}"#,
    );
    assert_eq!((found(false), found(true)), ("<b>".to_owned(), "t".to_owned()));
    write("tokenizer_config.json", r#"{"chat_template": {"rag": "r", "tool_use": "t"}}"#);
    assert_eq!(found(true), "t");
    let error = render(false).unwrap().unwrap_err();
    assert!(error.contains("called `default` among several, found `rag`, `tool_use`"), "{error}");
    write(
        "tokenizer_config.json",
        r#"{"bos_token": "<s>", "chat_template": "one {{ bos_token }}"}"#,
    );
    assert_eq!((found(false), found(true)), ("one <s>".to_owned(), "one <s>".to_owned()));
    write("chat_template.jinja", "own {{ bos_token }}\n");
    assert_eq!(found(true), "own <s>");
    write("additional_chat_templates/tool_use.jinja", "more");
    assert_eq!((found(false), found(true)), ("own <s>".to_owned(), "more".to_owned()));
    write("additional_chat_templates/tool_use.jinja", "{% if %}");
    assert_eq!(found(false), "own <s>");
    assert!(render(true).unwrap().unwrap_err().contains("`tool_use`"));
    write("chat_template.jinja", "{% if %}");
    let error = ChatTemplate::from_folder(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("chat_template.jinja: the chat template cannot be read: line 1"),
        "{error}"
    );
}

/// What a template is given of special tokens, by what the folder says; as transformers 4.57.6
/// has it.
#[test]
fn special_tokens_are_those_of_the_folder_and_of_its_class() {
    let show = "{{ [bos_token, eos_token, pad_token, image_token, additional_special_tokens] }}";
    let tokens = |files: &[(&str, Value)]| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("chat_template.jinja"), show).unwrap();
        for (name, json) in files {
            std::fs::write(folder.path().join(name), json.to_string()).unwrap();
        }
        text(&ChatTemplate::from_folder(folder.path()).unwrap().unwrap(), vec![user("a")])
    };
    let config = "tokenizer_config.json";
    let map = "special_tokens_map.json";
    let none = "[Undefined, Undefined, Undefined, Undefined, Undefined]";
    assert_eq!(tokens(&[]), none);
    assert_eq!(tokens(&[(config, json!({ "bos_token": null, "image_token": "<i>" }))]), none);
    let llama = json!({ "tokenizer_class": "LlamaTokenizer", "eos_token": "<end>" });
    assert_eq!(tokens(&[(config, llama)]), "['<s>', '<end>', Undefined, Undefined, Undefined]");
    assert_eq!(
        tokens(&[("config.json", json!({ "model_type": "qwen2" }))]),
        "[Undefined, '<|endoftext|>', '<|endoftext|>', Undefined, Undefined]"
    );
    let extra = json!({ "extra_special_tokens": { "image_token": "<i>" }, "additional_special_tokens": ["<a>", { "content": "<b>" }] });
    assert_eq!(
        tokens(&[(config, extra)]),
        "[Undefined, Undefined, Undefined, '<i>', ['<a>', '<b>']]"
    );
    let old = json!({ "bos_token": "<old>", "pad_token": "<p>" });
    let new = json!({ "bos_token": "<new>" });
    assert_eq!(
        tokens(&[(config, new.clone()), (map, old.clone())]),
        "['<old>', Undefined, '<p>', Undefined, Undefined]"
    );
    let mut described = new;
    described["added_tokens_decoder"] = json!({});
    assert_eq!(
        tokens(&[(config, described), (map, old)]),
        "['<new>', Undefined, Undefined, Undefined, Undefined]"
    );
}
