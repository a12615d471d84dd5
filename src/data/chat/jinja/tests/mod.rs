mod attacks;
mod mutations;

use serde_json::Value as Json;

use super::*;

fn moment() -> NaiveDateTime {
    let day = chrono::NaiveDate::from_ymd_opt(2024, 7, 26).unwrap();
    day.and_hms_opt(9, 5, 3).unwrap()
}

fn rendered(template: &str, variables: &Json) -> Result<String, String> {
    let template = parse(template).map_err(|it| it.to_string())?;
    let variables = variables.as_object().unwrap();
    let given = variables.iter().map(|(name, value)| (name.clone(), Value::from_json(value)));
    render(&template, || given.clone().collect(), Purpose::Chat(moment()))
        .map_err(|it| it.to_string())
}

fn refusal(template: &str) -> String {
    rendered(template, &serde_json::json!({})).unwrap_err()
}

/// Templates over the same variables with the text that transformers 4.57.6 renders at 2024-07-26
/// 09:05:03 in the C locale, or that it refuses them.
#[test]
fn templates_print_what_they_print_in_python() {
    let expected: Json = serde_json::from_str(include_str!("expected.json")).unwrap();
    let cases = expected["cases"].as_array().unwrap();
    assert!(cases.len() > 400);
    for case in cases {
        let template = case["template"].as_str().unwrap();
        let found = rendered(template, &expected["variables"]);
        match case["text"].as_str() {
            Some(text) => assert_eq!(found.as_deref(), Ok(text), "{template}"),
            None => assert!(found.is_err(), "{template} is rendered as {found:?}"),
        }
    }
}

#[test]
fn what_python_could_and_this_does_not_is_refused_by_name() {
    for (template, named) in [
        ("{{ 2 ** 200 }}", "127 bits"),
        ("{{ 'a'.encode() }}", "`encode`"),
        ("{{ '\\N{BULLET}' }}", "\\N"),
        ("{{ [1] | map('string') }}", "a generator is printed"),
        ("{{ range }}", "a function is printed"),
        ("{{ lipsum() }}", "random"),
        ("{{ [1] | random }}", "random"),
        ("{{ 'a' | wordwrap }}", "`wordwrap`"),
        ("{{ self.x() }}", "`self`"),
        ("{% autoescape true %}{% endautoescape %}", "`autoescape`"),
        ("{% include 'x' %}", "`include`"),
        ("{% import 'x' as y %}", "`import`"),
        ("{% extends 'x' %}", "`extends`"),
        ("{{ ('%s' | e) % 'a' }}", "marked safe"),
        ("{{ 'a &copy; b' | striptags }}", "entities"),
    ] {
        assert!(refusal(template).contains(named), "{template}: {}", refusal(template));
    }
}

#[test]
fn entities_and_lengths_of_formats_are_read_as_in_python() {
    let printed = |template: &str| rendered(template, &serde_json::json!({})).unwrap();
    assert_eq!(printed("{{ '<i>a</i>; b &amp; c &lt; d' | striptags }}"), "a; b & c < d");
    assert_eq!(printed("{{ '%ld %hd %Li' % (3, 4, 5) }}"), "3 4 5");
    for format in ["{:+}", "{:=5}", "{:#}", "{:d}"] {
        let template = format!("{{{{ '{format}'.format('a') }}}}");
        assert!(rendered(&template, &serde_json::json!({})).is_err(), "{template}");
    }
    assert_eq!(printed("{{ '{:>3}{:.1}'.format('a', 'bc') }}"), "  ab");
}

/// As jinja2 3.1.6 compiles loops.
#[test]
fn a_loop_that_completes_no_turn_runs_its_else() {
    let no = serde_json::json!({});
    let render = |template: &str| rendered(template, &no).unwrap();
    assert_eq!(render("{% for x in [1, 2] %}{% continue %}{% else %}E{% endfor %}"), "E");
    assert_eq!(render("{% for x in [1] %}{% break %}{% else %}E{% endfor %}"), "E");
    assert_eq!(
        render("{% for x in [1, 2] %}{% if x == 2 %}{% break %}{% endif %}{% else %}E{% endfor %}"),
        ""
    );
    assert_eq!(
        render(
            "{% for x in [1, 2] %}{{ x }}{% for y in [] %}{% else %}{% break %}{% endfor %}{% endfor %}"
        ),
        "1"
    );
    assert_eq!(
        render(
            "{% for x in [1, 2] %}{{ x }}{% filter upper %}a{% continue %}{% endfilter %}{% endfor %}"
        ),
        "12"
    );
    // A name that is set after the loop is the context's within what the loop goes through.
    let talk = serde_json::json!({ "messages": ["a", "b"] });
    let template = "{% for m in messages %}{{ m }}{% endfor %}{% set messages = messages[1:] %}\
                    {% for m in messages %}{{ m }}{% endfor %}";
    assert_eq!(rendered(template, &talk).unwrap(), "abb");
    // What a test let through was unpacked.
    assert_eq!(
        render("{% for a, b in [[1, 2], [3, 4]] if a %}{{ loop.previtem }}{% endfor %}"),
        "(1, 2)"
    );
}

#[test]
fn a_fault_names_its_line() {
    insta::assert_snapshot!(refusal("a\n{% if x %}\n{{ 1 + }}\n{% endif %}"), @"line 3: unexpected `}}`");
    insta::assert_snapshot!(refusal("{% for x in y %}"), @"line 1: the template ends before `endfor`, `else`");
    insta::assert_snapshot!(refusal("\n\n{% trans %}"), @"line 3: unknown tag `trans`");
    insta::assert_snapshot!(refusal("{{ raise_exception('Roles\nalternate') }}"), @"Roles alternate");
    insta::assert_snapshot!(refusal("{{ a.b.c }}"), @"'a' is undefined");
}
