//! Templates that multiply work, memory or depth, and the limit that each meets.

use super::{refusal, rendered};

/// A template that does something `count` times, after it set `ns.t` to `first`.
fn again(first: &str, what: &str, count: usize) -> String {
    format!(
        "{{% set ns = namespace(t={first}) %}}{{% for i in range({count}) %}}{what}{{% endfor %}}"
    )
}

fn printed(template: &str) -> String {
    rendered(template, &serde_json::json!({})).unwrap()
}

const STEPS: &str = "it does not end within 10000000 steps";
const BYTES: &str = "its texts and lists are longer than 512 MiB together";
const NESTING: &str = "lists or dictionaries stand more than 256 deep in each other";
const DEPTH: &str = "macros, loops or expressions stand too deep in each other";
const LENGTH: &str = "longer than 16777216";

#[test]
fn what_does_not_end_is_stopped() {
    for (template, limit) in [
        (again("1", "{% for j in range(9999) %}{% for k in range(9999) %}{% endfor %}{% endfor %}", 9999), STEPS),
        (again("[1] * 999999", "{% set x = 2 in ns.t %}", 9999), STEPS),
        (again("[1] * 999999", "{% set x = ns.t.count(2) %}", 9999), STEPS),
        (again("[1] * 999999", "{% set x = ns.t == [1] * 999999 %}", 9999), STEPS),
        (again("'a' * 9999999", "{% set x = ns.t | length %}", 9999), STEPS),
        (again("'a' * 9999999", "{% set x = ns.t.find('b') %}", 9999), STEPS),
        (again("'a' * 9999999", "{% set x = ns.t.isalpha() %}", 9999), STEPS),
        (again("'a' * 9999999", "{% set x = ns.t[-1] %}", 9999), STEPS),
        (again("'a' * 9999999", "{% set x = ns.t[::-1] %}", 9999), STEPS),
        (again("'a' * 9999999", "{% set x = 'b' in ns.t %}", 9999), STEPS),
        (again("'a' * 9999999", "{% set x = ns.t < ns.t ~ 'a' %}", 9999), STEPS),
        (again("'a' * 9999999", "{% set x = '%.0s' % ns.t %}", 9999), STEPS),
        (again("1", "{% set x = range(99999) | reverse %}", 9999), STEPS),
        (again("1", "{% set x = [1] | batch(999999, 0) %}", 9999), STEPS),
        (again("1", "{% set x = ('a', 'b') | map(*['upper'] * 99999) %}", 9999), STEPS),
        ("{{ dict(range(100000) | batch(2)) }}".to_owned(), STEPS),
        ("{{ ('<a>' * 4000000) | striptags }}".to_owned(), STEPS),
        ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}".to_owned(), STEPS),
    ] {
        assert_eq!(refusal(&template), limit, "{template:.120}");
    }
    // What takes no time however long it is.
    assert_eq!(printed(&again("'a' * 9999999", "{% if ns.t %}{% endif %}", 9999)), "");
    assert_eq!(printed("{{ ('a' * 9999999).strip('b' * 9999999 ~ 'a') }}"), "");
    assert_eq!(printed("{{ ('Σ' * 999999).title() | length }}"), "999999");
    assert_eq!(printed("{{ '{:09999999,}'.format(1) | length }}"), "9999999");
}

#[test]
fn what_grows_is_stopped() {
    for (template, limit) in [
        (again("'ab'", "{% set ns.t = ns.t ~ ns.t %}", 60), LENGTH),
        (again("'ab'", "{% set ns.t = ns.t + ns.t %}", 60), LENGTH),
        (again("[1]", "{% set ns.t = ns.t + ns.t %}", 60), "longer than 1048576"),
        (again("[]", "{% set ns.t = ns.t + ['a' * 9999999] %}", 999), BYTES),
        (again("[]", "{% set ns.t = ns.t + [[0] * 999999] %}", 999), BYTES),
        (again("'&' * 9999999", "{% set ns.t = ns.t | forceescape %}", 9), "longer than 67108864"),
        (again("'a' * 9999999", "{{ ns.t }}", 9), "longer than 67108864"),
        (again("'a' * 9999999", "{% set x = ns.t.split('a') %}", 9), "longer than 1048576"),
        (again("'a' * 9999999", "{% for c in ns.t %}{% endfor %}", 9), "longer than 1048576"),
        (again("'a' * 9999999", "{% set x = ([ns.t] * 99) | join %}", 9), LENGTH),
        (again("'\\n' * 9999999", "{% set x = ns.t.splitlines() %}", 9), "longer than 1048576"),
    ] {
        assert!(refusal(&template).contains(limit), "{template:.120}: {}", refusal(&template));
    }
    for (expression, limit) in [
        ("'a' * 999999999", LENGTH),
        ("[0] * 999999999", "longer than 1048576"),
        ("'a'.center(999999999)", LENGTH),
        ("'a' | center(999999999)", LENGTH),
        ("'7'.zfill(999999999)", LENGTH),
        ("('a\n' * 9999) | indent(9999999999)", LENGTH),
        ("('a\n' * 9999) | indent(' ' * 9999)", LENGTH),
        ("[[1]] | tojson(indent=9999999999)", LENGTH),
        ("([[1]] * 9999) | tojson(indent=9999)", LENGTH),
        ("[[1]] | tojson(indent='-' * 9999999)", LENGTH),
        ("'{:>999999999}'.format(1)", "wider than 16777216"),
        ("'{:{}}'.format(1, 999999999)", "wider than 16777216"),
        ("'{:.70000f}'.format(1.5)", "precision above 10000"),
        ("'%999999999d' % 1", "wider than 16777216"),
        ("'%*d' % (999999999, 1)", "wider than 16777216"),
        ("'%.70000f' % 1.5", "precision above 10000"),
        ("('a' * 99999).replace('a', 'b' * 99999)", LENGTH),
        ("('a' * 99999) | replace('', 'b' * 99999)", LENGTH),
        ("('b' * 999).join(['a'] * 99999)", LENGTH),
        ("('\t' * 9999).expandtabs(9999999)", LENGTH),
        ("[1] | batch(999999999, 0)", "longer than 1048576"),
        ("[1] | slice(999999999)", "longer than 1048576"),
        ("([{}] * 99) | map(attribute='a.' * 999999)", "longer than 1048576"),
        ("2 ** 999999999", "more than 127 bits"),
        ("range(999999999)", "Range too big"),
        ("strftime_now('%99999d')", "wider than 1024"),
        ("strftime_now('%1000d' * 99999)", LENGTH),
    ] {
        let refusal = refusal(&format!("{{{{ {expression} }}}}"));
        assert!(refusal.contains(limit), "{expression}: {refusal}");
    }
}

/// Sixty lists of which each holds the one before twice are 2⁶⁰ to go through.
#[test]
fn what_is_shared_is_counted_as_often_as_it_is_seen() {
    for (first, twice) in
        [("[1]", "[ns.t, ns.t]"), ("(1,)", "(ns.t, ns.t)"), ("[1]", "{'a': ns.t, 'b': ns.t}")]
    {
        let made = again(first, &format!("{{% set ns.t = {twice} %}}"), 60);
        let two = made.replace("ns", "other") + &made;
        for (expression, limit) in [
            ("ns.t", LENGTH),
            ("ns.t | string", LENGTH),
            ("ns.t | tojson", LENGTH),
            ("'%r' % [ns.t]", LENGTH),
            ("'{}'.format(ns.t)", LENGTH),
            ("ns.t == other.t", STEPS),
            ("ns.t in [other.t]", STEPS),
            ("[other.t].index(ns.t)", STEPS),
        ] {
            let refusal = refusal(&format!("{two}{{{{ {expression} }}}}"));
            assert!(refusal.contains(limit), "{twice}: {expression}: {refusal}");
        }
    }
    let tuples = again("(1,)", "{% set ns.t = (ns.t, ns.t) %}", 60);
    assert_eq!(refusal(&format!("{tuples}{{{{ {{ns.t: 1}} }}}}")), STEPS);
    assert_eq!(refusal(&format!("{tuples}{{{{ [ns.t] | unique | list }}}}")), STEPS);
}

#[test]
fn what_nests_is_stopped() {
    for inside in [
        "[ns.t]",
        "(ns.t,)",
        "{'a': ns.t}",
        "{'a': ns.t}.items()",
        "{'a': ns.t}.get",
        "joiner(ns.t)",
        "cycler(ns.t)",
        "[ns.t] | reverse",
        "[[1, ns.t]] | groupby(0)",
    ] {
        let template = again("1", &format!("{{% set ns.t = {inside} %}}"), 99_999);
        assert_eq!(refusal(&template), NESTING, "{inside}");
    }
    let loops = again("1", "{% for x in [ns.t] %}{% set ns.t = loop %}{% endfor %}", 99_999);
    assert_eq!(refusal(&loops), NESTING);
    let deep = |count: usize| again("1", "{% set ns.t = [ns.t] %}", count) + "{{ ns.t | tojson }}";
    assert_eq!(printed(&deep(200)).len(), 401);
}

/// As jinja2 3.1.6 prints them.
#[test]
fn a_namespace_may_hold_itself_and_many_others() {
    let own = "{% set ns = namespace() %}{% set ns.s = [ns] %}";
    let text = printed(&format!("{own}{{{{ ns.s }}}} {{{{ ns.s == [ns] }}}}"));
    assert_eq!(text, "[<Namespace {'s': [<Namespace {...}>]}>] True");
    assert!(refusal(&format!("{own}{{{{ ns.s | tojson }}}}")).contains("not JSON serializable"));
    let chain = "{% set h = namespace(c=namespace()) %}{% set first = h.c %}\
                 {% for i in range(99999) %}{% set ns = h.c %}{% set ns.n = namespace() %}\
                 {% set h.c = ns.n %}{% endfor %}";
    assert_eq!(printed(chain), "");
    assert_eq!(refusal(&format!("{chain}{{{{ first }}}}")), NESTING);
    let asked = again(
        "1",
        "{% for x in [1] %}{% set c = loop.changed(ns.t) %}{% set ns.t = loop %}{% endfor %}",
        99_999,
    );
    assert_eq!(printed(&asked), "");
}

#[test]
fn what_calls_itself_is_stopped() {
    for template in [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(a=f()) %}{% endmacro %}{{ f() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ 'a' | map(*['map'] * 9999) | list }}",
    ] {
        assert_eq!(refusal(template), DEPTH, "{template}");
    }
    let counts = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% else %}end{% endif %}{% endmacro %}";
    assert_eq!(printed(&format!("{counts}{{{{ f(60) }}}}")), "end");
}

/// What is read in a loop may be long, what is read by recursion is bounded.
#[test]
fn a_deep_source_is_refused_and_a_long_one_is_read() {
    let many = 100_000;
    for (begin, end) in [("(", ")"), ("[", "]"), ("{1: ", "}"), ("f(", ")"), ("a[", "]")] {
        let template = format!("{{{{ {}1{} }}}}", begin.repeat(many), end.repeat(many));
        assert!(
            refusal(&template).contains("within each other"),
            "{begin}: {}",
            refusal(&template)
        );
    }
    for begin in ["-", "not ", "+"] {
        let template = format!("{{{{ {}1 }}}}", begin.repeat(many));
        assert!(refusal(&template).contains("within each other"), "{begin}");
    }
    for trailer in [".b", "[0]", "()", "|e", " if a"] {
        let template = format!("{{{{ a{} }}}}", trailer.repeat(many));
        assert!(refusal(&template).contains("behind each other"), "{trailer}");
    }
    for tag in ["if a", "for a in b", "with", "macro a()", "call a()", "block a", "filter e"] {
        let template = format!("{{% {tag} %}}").repeat(many / 2);
        assert!(refusal(&template).contains("within each other"), "{tag}: {}", refusal(&template));
    }
    for operator in ["+", "~", "*", "//", "**", " and ", " or ", "=="] {
        let template = format!("{{% if {} %}}end{{% endif %}}", vec!["1"; many].join(operator));
        assert_eq!(printed(&template), "end", "{operator}");
    }
    let branches = format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(many / 2));
    assert_eq!(printed(&branches), "");
    assert_eq!(printed(&"{{ 1 }}".repeat(many)).len(), many);
    assert_eq!(refusal(&" ".repeat(2 << 20)), "it is longer than 1048576 bytes");
    assert!(refusal(&format!("{{{{ {} }}}}", "a".repeat(many))).contains("a name is longer"));
    let names: String = (0..20_000).map(|it| format!("{{% set a{it} = 1 %}}")).collect();
    let loops = names + &"{% for x in y %}{% endfor %}".repeat(15_000);
    assert_eq!(refusal(&loops), BYTES);
}

#[test]
fn the_largest_numbers_do_no_harm() {
    let with_least = |expression: &str| {
        let least = "(-170141183460469231731687303715884105727 - 1)";
        format!("{{{{ {} }}}}", expression.replace("LEAST", least))
    };
    for (expression, text) in [
        ("[1, 2, 3][::LEAST]", "[3]"),
        ("'abc'[LEAST:]", "abc"),
        ("'abc'[::-(LEAST + 1)]", "a"),
        ("range(9)[::LEAST] | list", "[8]"),
        ("'a' | truncate(-(LEAST + 1), leeway=-(LEAST + 1))", "a"),
        ("[1, 2].index(1, LEAST)", "0"),
    ] {
        assert_eq!(printed(&with_least(expression)), text, "{expression}");
    }
    for expression in ["-LEAST", "LEAST | abs", "LEAST // -1", "LEAST * 2", "LEAST - 1"] {
        let refusal = refusal(&with_least(expression));
        assert!(refusal.contains("more than 127 bits"), "{expression}: {refusal}");
    }
    let steps = "range(0, 2 ** 62, 2 ** 61)[::2 ** 62][::2 ** 62]";
    assert!(refusal(&format!("{{{{ {steps} }}}}")).contains("more than 127 bits"));
    assert!(refusal("{{ raise_exception('a' * 9999999) }}").len() < 1000);
    assert!(refusal("{{ {}['a' * 9999999].b }}").len() < 1000);
}

/// Every letter with every flag: what is no field stays as it is.
#[test]
fn no_format_of_a_date_does_harm() {
    for flag in ["", "#", "-", "_", "0", "^", "E", "O", "#0", "^5", "09", "#9"] {
        for letter in (' '..='~').chain(['é', '日']) {
            let letter = if letter == '\'' || letter == '\\' { '%' } else { letter };
            printed(&format!("{{{{ strftime_now('%{flag}{letter}') }}}}"));
        }
        printed(&format!("{{{{ strftime_now('%{flag}') }}}}"));
    }
    assert_eq!(printed("{{ strftime_now('%#z|%Q|%#|%') }}"), "|%Q|%#|%");
}

/// A long conversation with many tools is rendered as any other.
#[test]
fn long_conversations_are_rendered() {
    let talk: Vec<_> = (0..200)
        .map(|turn| {
            let role = if turn % 2 == 0 { "user" } else { "assistant" };
            serde_json::json!({ "role": role, "content": format!("{turn} ").repeat(1300) })
        })
        .collect();
    let tools: Vec<_> = (0..300)
        .map(|index| {
            let fields: serde_json::Map<_, _> = (0..20)
                .map(|field| (format!("field{field}"), serde_json::json!({ "type": "string" })))
                .collect();
            let parameters = serde_json::json!({ "type": "object", "properties": fields });
            serde_json::json!({ "name": format!("tool{index}"), "parameters": parameters })
        })
        .collect();
    let variables = serde_json::json!({ "messages": talk, "tools": tools });
    // The slowest of ways: the whole text again for every turn.
    let template = "{% set ns = namespace(text='') %}{{ tools | tojson(indent=4) }}\
                    {% for m in messages %}{% set ns.text = ns.text + '<' ~ m.role ~ '>' ~ \
                    m.content.strip().split('</think>')[-1] | trim ~ '\n' %}{% endfor %}\
                    {{ ns.text }}";
    let text = rendered(template, &variables).unwrap();
    assert!(text.len() > 1 << 20, "{}", text.len());
}
