//! The modules that a name or a regular expression of PEFT selects.
//!
//! The expressions are Python's. `fancy-regex` is the nearest crate: it has look-around and back-references.

use fancy_regex::Regex;

/// Whether the whole of `name` matches, as Python's `re.fullmatch` has it.
///
/// # Errors
/// If the pattern is no regular expression that can be read.
pub(super) fn is_full_match(pattern: &str, name: &str) -> Result<bool, String> {
    matches(&format!(r"\A(?:{})\z", in_rust(pattern)), name)
}

/// Whether `name` matches from its start, as Python's `re.match` has it.
pub(super) fn is_match(pattern: &str, name: &str) -> Result<bool, String> {
    matches(&format!(r"\A(?:{})", in_rust(pattern)), name)
}

/// Whether a key of `rank_pattern` or `alpha_pattern` takes the module `name`: an expression for all
/// of the name, or for all of it after a dot.
pub(super) fn takes(key: &str, name: &str) -> Result<bool, String> {
    is_match(&format!(r"(.*\.)?({key})$"), name)
}

/// The number that follows `pattern` (or any part of a name, if none) in the name of a module: the
/// layer it belongs to.
pub(super) fn layer(pattern: Option<&str>, name: &str) -> Result<Option<usize>, String> {
    let expression = match pattern {
        None => r"\A.*?\.[^.]*\.(\d+)\.".to_owned(),
        Some(pattern) => format!(r"\A(?:^|.*?\.)(?:{})\.(?<layer>\d+)\.", in_rust(pattern)),
    };
    let found = compiled(&expression)?.captures(name).map_err(|error| error.to_string())?;
    let number = found.and_then(|it| match pattern {
        None => it.get(1),
        Some(_) => it.name("layer"),
    });
    Ok(number.and_then(|it| it.as_str().parse().ok()))
}

fn matches(expression: &str, name: &str) -> Result<bool, String> {
    compiled(expression)?.is_match(name).map_err(|error| error.to_string())
}

fn compiled(expression: &str) -> Result<Regex, String> {
    Regex::new(expression).map_err(|error| error.to_string())
}

/// A Python expression as Rust spells it.
fn in_rust(pattern: &str) -> String {
    pattern.replace(r"\Z", r"\z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_name_matches_or_does_not() {
        let name = "model.layers.1.self_attn.q_proj";
        for (pattern, expected) in [
            (r".*\.(q|v)_proj", true),
            (r"q_proj", false),
            (r".*q_proj|x", true),
            (r"model\.layers\.1\..*\Z", true),
            (r"^(?!.*layers\.1\.).*q_proj$", false),
            (r"(?i).*SELF_ATTN.*", true),
            (r"(?P<a>m)odel.*", true),
        ] {
            assert_eq!(is_full_match(pattern, name), Ok(expected), "{pattern}");
        }
        assert!(is_full_match("(", name).is_err());
    }

    #[test]
    fn an_expression_that_takes_too_many_steps_is_refused() {
        let name = "a".repeat(60);
        let error = is_full_match("(?:(?!x)a|(?!y)a)*b", &name).unwrap_err();
        assert!(error.contains("backtracking"), "{error}");
    }

    #[test]
    fn a_key_takes_the_end_of_a_name_from_a_dot_on() {
        let name = "model.layers.11.self_attn.q_proj";
        for (key, expected) in [
            ("q_proj", true),
            ("proj", false),
            ("self_attn.q_proj", true),
            ("layers.1.self_attn.q_proj", false),
            ("1.self_attn.q_proj", false),
            (r"^model\.layers\.11\..*", true),
            (r"^layers\.11\..*", false),
            (r".*\.11\..*", true),
            ("k_proj|q_proj", true),
        ] {
            assert_eq!(takes(key, name), Ok(expected), "{key}");
        }
    }

    #[test]
    fn the_first_number_after_a_part_of_the_name_is_the_layer() {
        let name = "model.layers.3.mlp.experts.7.up_proj";
        assert_eq!(layer(None, name), Ok(Some(3)));
        assert_eq!(layer(Some("layers"), name), Ok(Some(3)));
        assert_eq!(layer(Some("experts"), name), Ok(Some(7)));
        assert_eq!(layer(Some("h"), name), Ok(None));
    }
}
