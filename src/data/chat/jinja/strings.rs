//! The methods of `str`.

use std::collections::HashSet;

use super::arguments::{Given, text, whole};
use super::budget::{self, fits};
use super::fault::{Outcome, fault, refuse};
use super::search::{begins, lines, partition, search, split};
use super::unicode::{self, DECIMAL, DIGIT, LETTER, NUMERIC, UNPRINTABLE, is_space};
use super::value::Value;

/// The names of the methods, with those that are refused by name.
pub const METHODS: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];

/// Calls a method that returns a text or texts; `format` is called elsewhere.
pub fn call(it: &str, method: &str, given: &Given) -> Outcome<Value> {
    budget::read(it.len())?;
    let made = |text: String| Ok(Value::text(text));
    match method {
        "capitalize" | "casefold" | "lower" | "swapcase" | "title" | "upper" => {
            given.places::<0>(method, 0)?;
            made(cased(it, method)?)
        }
        "strip" | "lstrip" | "rstrip" => strip(it, method, given),
        "center" | "ljust" | "rjust" => justify(it, method, given),
        "zfill" => {
            let [width] = given.places(method, 1)?;
            let width = length(&width.unwrap_or(Value::None))?;
            let (sign, digits) = it.split_at(usize::from(it.starts_with(['+', '-'])));
            let missing = width.saturating_sub(it.chars().count());
            made(format!("{sign}{}{digits}", "0".repeat(missing)))
        }
        "count" | "find" | "index" | "rfind" | "rindex" => search(it, method, given),
        "startswith" | "endswith" => begins(it, method, given).map(Value::Bool),
        "removeprefix" | "removesuffix" => {
            let [part] = given.places(method, 1)?;
            let part = part.unwrap_or(Value::None);
            let part = text(&part, method)?;
            let found = if method == "removeprefix" {
                it.strip_prefix(part)
            } else {
                it.strip_suffix(part)
            };
            made(found.unwrap_or(it).to_owned())
        }
        "partition" | "rpartition" => partition(it, method, given),
        "split" | "rsplit" => split(it, method, given),
        "splitlines" => {
            let [keep] = given.bind(method, ["keepends"], 0)?;
            let keep = keep.is_some_and(|it| it.is_true());
            Ok(Value::list(lines(it, keep)?.into_iter().map(Value::text).collect()))
        }
        "join" => {
            let [items] = given.places(method, 1)?;
            let items = items.unwrap_or(Value::None).items()?;
            let texts = items.iter().enumerate().map(|(index, item)| {
                item.as_str().ok_or_else(|| {
                    let found = item.type_name();
                    fault!("sequence item {index}: expected str instance, {found} found")
                })
            });
            let texts = texts.collect::<Outcome<Vec<_>>>()?;
            let room = texts.len().saturating_mul(it.len());
            fits(room.saturating_add(texts.iter().map(|it| it.len()).sum()))?;
            made(texts.join(it))
        }
        "replace" => {
            let [old, new, count] = given.places(method, 2)?;
            let (old, new) = (old.unwrap_or(Value::None), new.unwrap_or(Value::None));
            let count = count.as_ref().map_or(Ok(-1), whole)?;
            replace(it, text(&old, method)?, text(&new, method)?, count).and_then(made)
        }
        "expandtabs" => {
            let [size] = given.bind(method, ["tabsize"], 0)?;
            let size = size.as_ref().map_or(Ok(8), length)?;
            fits(it.len().saturating_add(it.matches('\t').count().saturating_mul(size)))?;
            made(expand_tabs(it, size))
        }
        "encode" | "maketrans" | "translate" | "format_map" => {
            refuse!("the method `{method}` of a text is not supported in chat templates")
        }
        _ => {
            given.places::<0>(method, 0)?;
            is(it, method).map(Value::Bool)
        }
    }
}

/// A width.
fn length(value: &Value) -> Outcome<usize> {
    let length = usize::try_from(whole(value)?.max(0)).unwrap_or(usize::MAX);
    fits(length).map(|()| length)
}

/// A text in other letters.
pub fn cased(it: &str, method: &str) -> Outcome<String> {
    budget::look_up(it)?;
    Ok(match method {
        "upper" => it.to_uppercase(),
        "lower" => it.to_lowercase(),
        "capitalize" => {
            let mut chars = it.chars();
            let mut out = String::new();
            if let Some(first) = chars.next() {
                unicode::title(first, &mut out);
            }
            // A final sigma is one for what stands before it.
            let rest = it.to_lowercase();
            let skipped = it.chars().next().map_or(0, |it| it.to_lowercase().count());
            out.extend(rest.chars().skip(skipped));
            out
        }
        "title" => {
            let mut inside = false;
            with_small(it, |char, small, out| {
                if inside {
                    out.extend(small);
                } else {
                    unicode::title(char, out);
                }
                inside = char.is_lowercase() || char.is_uppercase() || is_titlecase(char);
            })
        }
        "swapcase" => with_small(it, |char, small, out| {
            if char.is_uppercase() {
                out.extend(small);
            } else {
                out.extend(char.to_uppercase());
            }
        }),
        _ => {
            let folded =
                |it: char| if it == 'ı' { "ı".to_owned() } else { it.to_uppercase().collect() };
            it.chars()
                .map(folded)
                .collect::<String>()
                .chars()
                .flat_map(char::to_lowercase)
                .collect()
        }
    })
}

/// What becomes of a text's characters, each beside itself in small letters: a sigma's hang on
/// what stands around it.
fn with_small(text: &str, mut write: impl FnMut(char, &[char], &mut String)) -> String {
    let small: Vec<char> = text.to_lowercase().chars().collect();
    let mut rest = small.as_slice();
    let mut out = String::new();
    for char in text.chars() {
        let (small, after) = rest.split_at(char.to_lowercase().count().min(rest.len()));
        rest = after;
        write(char, small, &mut out);
    }
    out
}

fn is_titlecase(char: char) -> bool {
    matches!(char, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ' | 'ᾈ'..='ᾏ' | 'ᾘ'..='ᾟ' | 'ᾨ'..='ᾯ' | 'ᾼ' | 'ῌ' | 'ῼ')
}

fn is(it: &str, method: &str) -> Outcome<bool> {
    budget::look_up(it)?;
    let all = |test: &dyn Fn(char) -> bool| !it.is_empty() && it.chars().all(test);
    let upper = |it: char| it.is_uppercase();
    let lower = |it: char| it.is_lowercase();
    Ok(match method {
        "isalnum" => all(&unicode::is_alphanumeric),
        "isalpha" => all(&|it| LETTER.has(it)),
        "isascii" => it.is_ascii(),
        "isdecimal" => all(&|it| DECIMAL.has(it)),
        "isdigit" => all(&|it| DIGIT.has(it)),
        "isnumeric" => all(&|it| NUMERIC.has(it)),
        "isprintable" => !it.chars().any(|it| UNPRINTABLE.has(it)),
        "isspace" => all(&is_space),
        "islower" => it.chars().any(lower) && !it.chars().any(|it| upper(it) || is_titlecase(it)),
        "isupper" => it.chars().any(upper) && !it.chars().any(|it| lower(it) || is_titlecase(it)),
        "istitle" => {
            let (mut found, mut inside) = (false, false);
            for char in it.chars() {
                let first = upper(char) || is_titlecase(char);
                if first && inside || lower(char) && !inside {
                    return Ok(false);
                }
                inside = first || lower(char);
                found |= inside;
            }
            found
        }
        "isidentifier" => {
            let first = it.chars().next().is_some_and(|it| it == '_' || LETTER.has(it));
            first && it.chars().all(|it| it == '_' || unicode::is_alphanumeric(it))
        }
        _ => refuse!("'str' object has no attribute '{method}'"),
    })
}

fn strip(it: &str, method: &str, given: &Given) -> Outcome<Value> {
    let [chars] = given.places(method, 0)?;
    let chars: Option<HashSet<char>> = match chars {
        None | Some(Value::None) => None,
        Some(chars) => Some(text(&chars, method)?.chars().collect()),
    };
    let strips = |it: char| chars.as_ref().map_or(is_space(it), |chars| chars.contains(&it));
    let it = if method == "rstrip" { it } else { it.trim_start_matches(strips) };
    Ok(Value::text(if method == "lstrip" { it } else { it.trim_end_matches(strips) }))
}

fn justify(it: &str, method: &str, given: &Given) -> Outcome<Value> {
    let [width, fill] = given.places(method, 1)?;
    let width = length(&width.unwrap_or(Value::None))?;
    let fill = fill.unwrap_or(Value::text(" "));
    let fill = text(&fill, method)?;
    if fill.chars().count() != 1 {
        refuse!("The fill character must be exactly one character long");
    }
    Ok(Value::text(justified(it, method, width, fill)))
}

/// A text in the midst, at the left or at the right of a width.
pub fn justified(it: &str, method: &str, width: usize, fill: &str) -> String {
    let missing = width.saturating_sub(it.chars().count());
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        // CPython's: the odd one goes left where the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    format!("{}{it}{}", fill.repeat(left), fill.repeat(missing - left))
}

/// `str.replace`.
pub fn replace(it: &str, old: &str, new: &str, count: i128) -> Outcome<String> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    budget::read(it.len() + old.len())?;
    let found = if old.is_empty() { it.chars().count() + 1 } else { it.matches(old).count() };
    fits(it.len().saturating_add(found.min(count).saturating_mul(new.len())))?;
    Ok(it.replacen(old, new, count))
}

fn expand_tabs(it: &str, size: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for char in it.chars() {
        match char {
            '\t' if size == 0 => {}
            '\t' => {
                let blanks = size - column % size;
                out.push_str(&" ".repeat(blanks));
                column += blanks;
            }
            '\n' | '\r' => {
                out.push(char);
                column = 0;
            }
            _ => {
                out.push(char);
                column += 1;
            }
        }
    }
    out
}
