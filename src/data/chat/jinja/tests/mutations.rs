//! Templates made from others by cutting, splicing and repeating.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::rendered;

/// What is put into templates.
const PIECES: [&str; 78] = [
    "{{ ",
    " }}",
    "{% ",
    " %}",
    "{%- ",
    " -%}",
    "{# ",
    " #}",
    "for x in ",
    "endfor",
    "if ",
    "elif ",
    "else",
    "endif",
    "set x = ",
    "set ns.t = ",
    "endset",
    "macro f(x) ",
    "endmacro",
    "f(x)",
    "call f(x) ",
    "endcall",
    "filter upper ",
    "endfilter",
    "recursive ",
    "loop(x) ",
    "loop.changed(x) ",
    "loop ",
    "break ",
    "continue ",
    "ns.t ",
    "namespace(t=x) ",
    "x ",
    "messages ",
    "messages[0].content ",
    "range(99999) ",
    "999999999999 ",
    "-170141183460469231731687303715884105728 ",
    "0 ",
    "1.5e308 ",
    "'Σß\\u0130' ",
    "'a' * 999999 ",
    "[x, x] ",
    "(x,) ",
    "{'a': x, x: 1} ",
    "+ ",
    "~ ",
    "* ",
    "** ",
    "% ",
    "// ",
    "- ",
    "not ",
    "and ",
    "or ",
    "in ",
    "is ",
    "== ",
    "< ",
    "( ",
    ") ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    ".",
    ":",
    "| ",
    "| tojson(indent=99999) ",
    "| map('map') | list ",
    "| groupby(0) ",
    "| batch(99999, x) | list ",
    ".join(x) ",
    ".replace(x, x) ",
    ".format(x, x) ",
    "'{:>9999999,}{0!r:^{1}}%(a)s%-*.*f' ",
    "strftime_now('%#z%9999c') ",
];

/// Templates to begin with.
fn seeds() -> Vec<String> {
    let expected: Json = serde_json::from_str(include_str!("expected.json")).unwrap();
    let cases = expected["cases"].as_array().unwrap().iter();
    let cases = cases.map(|case| case["template"].as_str().unwrap().to_owned());
    let whole = [
        include_str!("../../templates/chatml.jinja"),
        include_str!("../../templates/tools.jinja"),
        include_str!("../../templates/turns.jinja"),
        include_str!("../../templates/summary.jinja"),
    ];
    let own = [
        "{% set ns = namespace(t='ab') %}{% for i in range(60) %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.t | string | length }}",
        "{% macro f(x) %}{% for y in x recursive %}{{ loop(y) if y is iterable else y }}{% endfor %}{% endmacro %}{{ f([[1, 2], [3, [4]]]) }}",
        "{% for m in messages %}{{ '%-9s|%05.2f' % (m.role, loop.index) ~ '{:>9}'.format(m.content[:3]) }}{% endfor %}",
        "{{ messages | map(attribute='content') | map('title') | sort | unique | join(', ') | indent(3) }}",
        "{{ {'a': [1, {'b': (2, none)}]} | tojson(indent=2) }}{{ dict(a=1) | dictsort }}{{ [3, 1] | sum }}",
    ];
    own.iter().chain(&whole).map(|it| (*it).to_owned()).chain(cases).collect()
}

/// A text in words, blanks and signs.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |it: char| it == '_' || it.is_alphanumeric();
        let end = match is_word(first) {
            true => rest.find(|it| !is_word(it)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (word, after) = rest.split_at(end);
        words.push(word);
        rest = after;
    }
    words
}

/// A change of a template: what, where, how long, and with which of others.
pub type Edit = (u8, usize, usize, usize);

fn edited(template: &str, (what, at, length, choice): Edit, seeds: &[String]) -> String {
    let mut words = words(template);
    let at = at % (words.len() + 1);
    let end = (at + length % 24).min(words.len());
    let part = words[at..end].concat();
    let piece = PIECES[choice % PIECES.len()];
    let other = &seeds[choice % seeds.len()];
    let (piece, end) = match what % 8 {
        0 | 1 => (piece.to_owned(), at),
        2 => (piece.to_owned(), end),
        3 => (String::new(), end),
        4 => (part.repeat(2), end),
        5 => (part.repeat(1 << (choice % 12)), end),
        6 => (other.clone(), at),
        _ => (format!("{{% for i in range(9999) %}}{part}{{% endfor %}}"), end),
    };
    words.splice(at..end, [piece.as_str()]);
    words.concat()
}

/// A template made of a seed.
pub fn mutated(seed: usize, edits: &[Edit]) -> String {
    let seeds = seeds();
    let first = seeds[seed % seeds.len()].clone();
    edits.iter().fold(first, |template, edit| edited(&template, *edit, &seeds))
}

/// Renders a template, and says how long it took.
pub fn attempt(template: &str) -> (Result<String, String>, Duration) {
    let variables = json!({
        "messages": [
            { "role": "user", "content": "hi there" },
            { "role": "assistant", "content": "yes\nno" },
        ],
        "x": [1, "a", [2.5, null], { "a": "b" }],
        "add_generation_prompt": true,
    });
    let start = Instant::now();
    (rendered(template, &variables), start.elapsed())
}

proptest! {
    // PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_template_ends(
        seed in 0..10_000_usize,
        edits in prop::collection::vec((any::<u8>(), 0..5000_usize, 0..5000_usize, 0..5000_usize), 1..8),
    ) {
        let (found, time) = attempt(&mutated(seed, &edits));
        prop_assert!(time < Duration::from_secs(60), "{time:?}");
        if let Err(message) = found {
            prop_assert!(!message.contains('\n') && message.chars().count() <= 600, "{message}");
        }
    }
}
