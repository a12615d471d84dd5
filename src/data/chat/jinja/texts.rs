//! Filters of texts.

use super::arguments::{Given, whole};
use super::budget;
use super::fault::{Outcome, fault, refuse};
use super::filters::blanks;
use super::operators::{escape, escaped};
use super::unicode::is_alphanumeric;
use super::value::{Dict, Value};
use super::{search, strings};

/// Filters that take a value as text.
pub fn filter(name: &str, value: &Value, given: &Given) -> Outcome<Value> {
    let made = |text: String| Ok(super::operators::like(value, text));
    match name {
        "upper" | "lower" | "capitalize" => {
            given.places::<0>(name, 0)?;
            made(strings::cased(&value.print()?, name)?)
        }
        "title" => {
            given.places::<0>(name, 0)?;
            let text = value.print()?;
            budget::look_up(&text)?;
            made(title(&text))
        }
        "string" => {
            given.places::<0>(name, 0)?;
            if value.as_str().is_some() {
                Ok(value.clone())
            } else {
                Ok(Value::text(value.print()?))
            }
        }
        "trim" => {
            let [chars] = given.bind(name, ["chars"], 0)?;
            let given = Given { positional: chars.into_iter().collect(), keywords: Vec::new() };
            strings::call(&value.print()?, "strip", &given)
        }
        "center" => {
            let [width] = given.bind(name, ["width"], 0)?;
            let width = width.as_ref().map_or(Ok(80), whole)?.max(0);
            let width = usize::try_from(width).unwrap_or(usize::MAX);
            budget::fits(width)?;
            made(strings::justified(&value.print()?, name, width, " "))
        }
        "replace" => {
            let [old, new, count] = given.bind(name, ["old", "new", "count"], 2)?;
            let (old, new) = (old.unwrap_or(Value::None), new.unwrap_or(Value::None));
            let count = count.filter(|it| !matches!(it, Value::None));
            let count = count.as_ref().map_or(Ok(-1), whole)?;
            let text = strings::replace(&value.print()?, &old.print()?, &new.print()?, count)?;
            Ok(Value::text(text))
        }
        "format" => {
            let text = value.print()?;
            if given.keywords.is_empty() {
                let values = Value::tuple(given.positional.clone());
                return super::percent::format(&text, &values).map(Value::text);
            }
            if !given.positional.is_empty() {
                refuse!("can't handle positional and keyword arguments at the same time");
            }
            let mut dict = Dict::default();
            for (key, value) in &given.keywords {
                dict.insert(Value::Text(key.clone()), value.clone())?;
            }
            super::percent::format(&text, &Value::Dict(dict.into())).map(Value::text)
        }
        "indent" => indent(value, given),
        "truncate" => truncate(value, given),
        "wordcount" => {
            given.places::<0>(name, 0)?;
            let text = value.print()?;
            budget::look_up(&text)?;
            let words = text.split(|it| it != '_' && !is_alphanumeric(it));
            Ok(Value::Int(words.filter(|it| !it.is_empty()).count() as i128))
        }
        "escape" | "e" => {
            given.places::<0>(name, 0)?;
            let text =
                if value.as_str().is_some() { escaped(value) } else { escape(&value.print()?) };
            Ok(Value::safe(text))
        }
        "forceescape" => {
            given.places::<0>(name, 0)?;
            Ok(Value::safe(escape(&value.print()?)))
        }
        "safe" => {
            given.places::<0>(name, 0)?;
            Ok(Value::safe(value.print()?))
        }
        "striptags" => {
            given.places::<0>(name, 0)?;
            strip_tags(value.print()?).map(Value::text)
        }
        "urlencode" => {
            given.places::<0>(name, 0)?;
            url_encode(value).map(Value::text)
        }
        "xmlattr" => {
            let [space] = given.bind(name, ["autospace"], 0)?;
            xml_attributes(value, space.is_none_or(|it| it.is_true())).map(Value::text)
        }
        _ => {
            given.places::<0>(name, 0)?;
            let text = value.repr()?;
            if text.chars().count() > 79 || matches!(value, Value::Dict(_)) {
                refuse!("the filter `pprint` of what takes more than a line is not supported");
            }
            Ok(Value::text(text))
        }
    }
}

fn title(text: &str) -> String {
    let mut out = String::new();
    let mut first = true;
    for char in text.chars() {
        if first {
            out.extend(char.to_uppercase());
        } else {
            out.extend(char.to_lowercase());
        }
        first = super::unicode::is_space(char) || "-({[<".contains(char);
    }
    out
}

fn indent(value: &Value, given: &Given) -> Outcome<Value> {
    let [width, first, blank] = given.bind("indent", ["width", "first", "blank"], 0)?;
    let width = match &width {
        None => " ".repeat(4),
        Some(width) => match width.as_str() {
            Some(text) => text.to_owned(),
            None => blanks(width)?,
        },
    };
    let Some(text) = value.as_str() else {
        if let Value::Undefined(why) = value {
            refuse!("{why}");
        }
        refuse!("unsupported operand type(s) for +=: '{}' and 'str'", value.type_name())
    };
    let holds = |it: Option<Value>| it.is_some_and(|it| it.is_true());
    let (first, blank) = (holds(first), holds(blank));
    let text = format!("{text}\n");
    let lines = search::lines(&text, false)?;
    budget::fits(lines.len().saturating_mul(width.len()).saturating_add(text.len()))?;
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        let indented = if index == 0 { first } else { blank || !line.is_empty() };
        if index > 0 {
            out.push('\n');
        }
        if indented {
            out.push_str(&width);
        }
        out.push_str(line);
    }
    Ok(super::operators::like(value, out))
}

fn truncate(value: &Value, given: &Given) -> Outcome<Value> {
    let names = ["length", "killwords", "end", "leeway"];
    let [length, kill, end, leeway] = given.bind("truncate", names, 0)?;
    let length = length.as_ref().map_or(Ok(255), whole)?;
    let leeway = leeway.filter(|it| !matches!(it, Value::None));
    let leeway = leeway.as_ref().map_or(Ok(5), whole)?;
    let end = end.unwrap_or(Value::text("..."));
    let end = super::arguments::text(&end, "truncate")?;
    let kept = length.saturating_sub(end.chars().count() as i128);
    if kept < 0 || leeway < 0 {
        refuse!("expected length >= {}, got {length}", end.chars().count());
    }
    if value.length()? as i128 <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let text = super::arguments::text(value, "truncate")?;
    let text: String = text.chars().take(usize::try_from(kept).unwrap_or(0)).collect();
    let text = match text.rsplit_once(' ') {
        Some((before, _)) if !kill.is_some_and(|it| it.is_true()) => before,
        _ => &text,
    };
    Ok(super::operators::like(value, text.to_owned() + end))
}

fn strip_tags(mut text: String) -> Outcome<String> {
    for (open, close) in [("<!--", "-->"), ("<", ">")] {
        while let Some(start) = text.find(open) {
            let Some(end) = text[start..].find(close) else { break };
            budget::read(text.len())?;
            text.replace_range(start..start + end + close.len(), "");
        }
    }
    let text = search::split_at_blanks(&text, false, usize::MAX).join(" ");
    budget::read(text.len())?;
    let signs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#34;", "\""), ("&#39;", "'")];
    let plain = signs.iter().fold(text.clone(), |text, (name, sign)| text.replace(name, sign));
    let others = plain.replace("&amp;", "").contains('&');
    if others && plain.contains(';') {
        return Err(fault!("the filter `striptags` of a text with entities is not supported"));
    }
    Ok(plain.replace("&amp;", "&"))
}

fn url_encode(value: &Value) -> Outcome<String> {
    let pairs = match value {
        Value::Dict(dict) => dict.view(super::value::View::Items),
        _ if value.as_str().is_some() => return Ok(quoted(&value.print()?, "/")),
        _ => match value.items() {
            Ok(pairs) => pairs,
            Err(_) => return Ok(quoted(&value.print()?, "/")),
        },
    };
    let pairs = pairs.iter().map(|pair| match pair.items()?.as_slice() {
        [key, value] => {
            let quoted = |it: &Value| Ok(quoted(&it.print()?, "").replace("%20", "+"));
            Ok(format!("{}={}", quoted(key)?, quoted(value)?))
        }
        _ => Err(fault!("urlencode: expected pairs")),
    });
    Ok(pairs.collect::<Outcome<Vec<_>>>()?.join("&"))
}

fn quoted(text: &str, safe: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        let char = char::from(byte);
        if char.is_ascii_alphanumeric() || "_.-~".contains(char) || safe.contains(char) {
            out.push(char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn xml_attributes(value: &Value, space: bool) -> Outcome<String> {
    let Value::Dict(dict) = value else {
        refuse!("'{}' object has no attribute 'items'", value.type_name())
    };
    let mut parts = Vec::new();
    for (key, value) in dict.iter() {
        if matches!(value, Value::None | Value::Undefined(_)) {
            continue;
        }
        let name = super::arguments::text(key, "xmlattr")?;
        if name.contains([' ', '\t', '\n', '\r', '\x0b', '\x0c', '/', '>', '=']) {
            refuse!("Invalid character in attribute name: {}", key.repr()?);
        }
        let value = match value {
            Value::Safe(text) => text.to_string(),
            _ => escape(&value.print()?),
        };
        parts.push(format!("{}=\"{value}\"", escape(name)));
    }
    let text = parts.join(" ");
    Ok(if space && !text.is_empty() { format!(" {text}") } else { text })
}
