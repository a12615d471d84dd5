//! The methods of `str` that look for a part and cut there.

use super::arguments::{Given, text, whole};
use super::budget;
use super::fault::{Outcome, refuse};
use super::operators::slice;
use super::unicode::{self, is_space};
use super::value::Value;

/// The part of a text between two positions in characters, and the first of them.
fn part(it: &str, start: Option<Value>, end: Option<Value>) -> Outcome<(String, usize)> {
    let count = it.chars().count() as i128;
    let first = match &start {
        None | Some(Value::None) => 0,
        Some(start) => whole(start)?,
    };
    let first = if first < 0 { (first + count).max(0) } else { first };
    let part = slice(&Value::text(it), [start, end, None])?;
    Ok((part.as_str().unwrap_or_default().to_owned(), usize::try_from(first).unwrap_or(usize::MAX)))
}

pub fn search(it: &str, method: &str, given: &Given) -> Outcome<Value> {
    let [what, start, end] = given.places(method, 1)?;
    let what = what.unwrap_or(Value::None);
    let what = text(&what, method)?;
    let (part, first) = part(it, start, end)?;
    if first > it.chars().count() {
        return match method {
            "count" => Ok(Value::Int(0)),
            "find" | "rfind" => Ok(Value::Int(-1)),
            _ => refuse!("substring not found"),
        };
    }
    let found = match method {
        "count" if what.is_empty() => return Ok(Value::Int(part.chars().count() as i128 + 1)),
        "count" => return Ok(Value::Int(part.matches(what).count() as i128)),
        "find" | "index" => part.find(what),
        _ => part.rfind(what),
    };
    match found {
        Some(at) => Ok(Value::Int((first + part[..at].chars().count()) as i128)),
        None if method.ends_with("find") => Ok(Value::Int(-1)),
        None => refuse!("substring not found"),
    }
}

pub fn begins(it: &str, method: &str, given: &Given) -> Outcome<bool> {
    let [what, start, end] = given.places(method, 1)?;
    let what = what.unwrap_or(Value::None);
    let (part, first) = part(it, start, end)?;
    let options = match &what {
        Value::Tuple(items) | Value::Group(items) => items.to_vec(),
        _ => vec![what],
    };
    for option in &options {
        let Some(option) = option.as_str() else {
            refuse!("{method} first arg must be str or a tuple of str, not {}", option.type_name())
        };
        budget::read(option.len())?;
        let found =
            if method == "startswith" { part.starts_with(option) } else { part.ends_with(option) };
        if found && first <= it.chars().count() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub fn partition(it: &str, method: &str, given: &Given) -> Outcome<Value> {
    let [separator] = given.places(method, 1)?;
    let separator = separator.unwrap_or(Value::None);
    let separator = text(&separator, method)?;
    if separator.is_empty() {
        refuse!("empty separator");
    }
    let forward = method == "partition";
    let found = if forward { it.split_once(separator) } else { it.rsplit_once(separator) };
    let parts = match found {
        Some((before, after)) => [before, separator, after],
        None if forward => [it, "", ""],
        None => ["", "", it],
    };
    Ok(Value::tuple(parts.into_iter().map(Value::text).collect()))
}

pub fn split(it: &str, method: &str, given: &Given) -> Outcome<Value> {
    let [separator, limit] = given.bind(method, ["sep", "maxsplit"], 0)?;
    let limit = limit.as_ref().map_or(Ok(-1), whole)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let parts = match separator {
        None | Some(Value::None) => {
            budget::fits_items(limit.min(it.split(is_space).filter(|it| !it.is_empty()).count()))?;
            split_at_blanks(it, method == "rsplit", limit)
        }
        Some(separator) => {
            let separator = text(&separator, method)?;
            if separator.is_empty() {
                refuse!("empty separator");
            }
            budget::fits_items(limit.min(it.matches(separator).count()))?;
            let limit = limit.saturating_add(1);
            if method == "split" {
                it.splitn(limit, separator).collect()
            } else {
                let mut parts: Vec<_> = it.rsplitn(limit, separator).collect();
                parts.reverse();
                parts
            }
        }
    };
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

/// Words, at most `limit` cuts between them, from the left or from the right.
pub fn split_at_blanks(it: &str, right: bool, limit: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest =
        if right { it.trim_end_matches(is_space) } else { it.trim_start_matches(is_space) };
    while !rest.is_empty() {
        if parts.len() == limit {
            parts.push(rest);
            break;
        }
        if right {
            let cut = rest
                .rfind(is_space)
                .map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
            parts.push(&rest[cut..]);
            rest = rest[..cut].trim_end_matches(is_space);
        } else {
            let cut = rest.find(is_space).unwrap_or(rest.len());
            parts.push(&rest[..cut]);
            rest = rest[cut..].trim_start_matches(is_space);
        }
    }
    if right {
        parts.reverse();
    }
    parts
}

/// `str.splitlines`.
pub fn lines(it: &str, keep: bool) -> Outcome<Vec<&str>> {
    budget::fits_items(it.matches(unicode::ends_line).count())?;
    let mut lines = Vec::new();
    let mut rest = it;
    while let Some(at) = rest.find(unicode::ends_line) {
        let end = if rest[at..].starts_with("\r\n") {
            at + 2
        } else {
            at + rest[at..].chars().next().map_or(0, char::len_utf8)
        };
        lines.push(&rest[..if keep { end } else { at }]);
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    Ok(lines)
}
