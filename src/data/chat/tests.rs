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
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let tokens = tokens.map(|(name, token)| (name.to_owned(), token.to_owned())).into();
    ChatTemplate::new(PathBuf::from("chat_template.jinja"), text, tokens).unwrap()
}

#[test]
fn conversations_become_the_text_that_transformers_makes_of_them() {
    let cases: Vec<Value> = serde_json::from_str(RENDERED).unwrap();
    assert!(cases.len() >= 16);
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let found = template(name)
            .render(&case["messages"].as_array().unwrap().clone().into(), Ending::GenerationPrompt);
        match case["error"].as_str() {
            Some(message) => assert!(found.unwrap_err().contains(message), "{case}"),
            None => assert_eq!(found.as_deref(), Ok(case["text"].as_str().unwrap()), "{case}"),
        }
    }
}

fn user(content: &str) -> Value {
    serde_json::json!({ "role": "user", "content": content })
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
    let error =
        template(endless).render(&vec![user("hi")].into(), Ending::GenerationPrompt).unwrap_err();
    assert!(error.starts_with("the chat template in chat_template.jinja refuses: "), "{error}");
    assert!(error.contains("fuel"), "{error}");
}

#[test]
fn a_template_reads_no_files() {
    for text in [
        "{% include 'Cargo.toml' %}",
        "{% import 'Cargo.toml' as x %}",
        "{% extends 'Cargo.toml' %}",
    ] {
        let refused = match ChatTemplate::new(PathBuf::from("t"), text, BTreeMap::new()) {
            Ok(template) => {
                template.render(&vec![user("hi")].into(), Ending::GenerationPrompt).is_err()
            }
            Err(_) => true,
        };
        assert!(refused, "{text}");
    }
}

#[test]
fn a_folders_template_is_found_wherever_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let render = || {
        let template = ChatTemplate::from_folder(folder.path()).unwrap();
        template.map(|it| it.render(&vec![user("hi")].into(), Ending::GenerationPrompt).unwrap())
    };
    assert_eq!(render(), None);
    write("chat_template.json", r#"{"chat_template": "json {{ messages[0].content }}"}"#);
    assert_eq!(render().unwrap(), "json hi");
    write(
        "tokenizer_config.json",
        r#"{"bos_token": {"content": "<b>"}, "chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "{{ bos_token }}"}]}"#,
    );
    assert_eq!(render().unwrap(), "<b>");
    write(
        "tokenizer_config.json",
        r#"{"bos_token": "<s>", "chat_template": "one {{ bos_token }}"}"#,
    );
    assert_eq!(render().unwrap(), "one <s>");
    write("chat_template.jinja", "own {{ bos_token }}");
    assert_eq!(render().unwrap(), "own <s>");
    write("chat_template.jinja", "{% if %}");
    assert!(
        ChatTemplate::from_folder(folder.path())
            .unwrap_err()
            .to_string()
            .contains("chat_template.jinja: the chat template cannot be read")
    );
}
