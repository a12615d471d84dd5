//! Filters by their names.

use std::rc::Rc;

use super::arguments::{Given, whole};
use super::fault::{Outcome, fault, refuse};
use super::interpreter::Interpreter;
use super::json::Dump;
use super::operators;
use super::value::{Generator, Value, View};
use super::{lists, texts};

/// All filters there are.
const NAMES: [&str; 54] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
    "xmlattr",
];

/// Whether there is such a filter.
pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

impl Interpreter<'_> {
    /// `value | name(given)`.
    pub fn filter(&mut self, name: &str, value: Value, given: &Given) -> Outcome<Value> {
        match name {
            "map" => self.map(&value, given),
            "select" | "reject" => self.select(&value, given, name == "select", false),
            "selectattr" | "rejectattr" => self.select(&value, given, name == "selectattr", true),
            "sort" | "unique" | "min" | "max" | "groupby" | "join" | "sum" => {
                self.by_attribute(name, &value, given)
            }
            "attr" => {
                let [name] = given.bind("attr", ["name"], 1)?;
                let name = name.unwrap_or(Value::None).print()?;
                let found = self.own_attribute(&value, &name)?;
                Ok(found.unwrap_or_else(|| super::attributes::nothing(&value, &Value::text(&name))))
            }
            "default" | "d" => {
                let [default, boolean] = given.bind("default", ["default_value", "boolean"], 0)?;
                let boolean = boolean.is_some_and(|it| it.is_true());
                let replaced = value.is_undefined() || boolean && !value.is_true();
                Ok(if replaced { default.unwrap_or(Value::text("")) } else { value })
            }
            "length" | "count" => {
                given.places::<0>(name, 0)?;
                Ok(Value::Int(value.length()? as i128))
            }
            "list" => {
                given.places::<0>(name, 0)?;
                Ok(Value::list(value.items()?))
            }
            "items" => {
                given.places::<0>(name, 0)?;
                match value {
                    Value::Undefined(_) => Ok(Value::generator(Vec::new())),
                    Value::Dict(dict) => Ok(Value::generator(dict.view(View::Items))),
                    // As Python's generator, which complains when it is read.
                    _ => {
                        let fault = fault!("Can only get item pairs from a mapping.");
                        let made = Generator { fault: Some(fault).into(), ..Generator::default() };
                        Ok(Value::Generator(Rc::new(made)))
                    }
                }
            }
            "tojson" => to_json(&value, given),
            "abs" | "int" | "float" | "round" | "filesizeformat" => number(name, &value, given),
            "batch" | "slice" | "first" | "last" | "reverse" | "dictsort" => {
                lists::filter(name, &value, given)
            }
            "random" => refuse!("`random` is random; a prompt is not"),
            "urlize" | "wordwrap" => {
                refuse!("the filter `{name}` is not supported in chat templates")
            }
            _ if exists(name) => texts::filter(name, &value, given),
            _ => refuse!("No filter named '{name}'."),
        }
    }

    fn map(&mut self, value: &Value, given: &Given) -> Outcome<Value> {
        if !value.is_true() {
            return Ok(Value::generator(Vec::new()));
        }
        let mut given = given.clone();
        let attribute = given.take("attribute").filter(|_| given.positional.is_empty());
        if let Some(attribute) = attribute {
            let default = given.take("default").filter(|it| !matches!(it, Value::None));
            if let Some((name, _)) = given.keywords.first() {
                refuse!("Unexpected keyword argument '{name}'");
            }
            let parts = attribute_parts(&attribute)?;
            return self.each(value, |it, item| it.get(&item, &parts, default.as_ref()).map(Some));
        }
        if given.positional.is_empty() {
            refuse!("map requires a filter argument");
        }
        let name = given.positional.remove(0).print()?;
        self.each(value, |it, item| it.filter(&name, item, &given).map(Some))
    }

    fn select(
        &mut self,
        value: &Value,
        given: &Given,
        wanted: bool,
        by_attribute: bool,
    ) -> Outcome<Value> {
        if !value.is_true() {
            return Ok(Value::generator(Vec::new()));
        }
        let mut given = given.clone();
        let mut parts = Vec::new();
        if by_attribute {
            if given.positional.is_empty() {
                refuse!("Missing parameter for attribute name");
            }
            parts = attribute_parts(&given.positional.remove(0))?;
        }
        let test = match given.positional.is_empty() {
            true => None,
            false => Some(given.positional.remove(0).print()?),
        };
        self.each(value, |it, item| {
            let tested = it.get(&item, &parts, None)?;
            let holds = match &test {
                Some(test) => it.test(test, &tested, &given)?,
                None => tested.is_true(),
            };
            Ok((holds == wanted).then_some(item))
        })
    }

    /// What becomes of every item; what goes wrong shows when the item is taken.
    fn each(
        &mut self,
        value: &Value,
        mut change: impl FnMut(&mut Self, Value) -> Outcome<Option<Value>>,
    ) -> Outcome<Value> {
        let Value::Generator(made) = Value::generator(Vec::new()) else { refuse!("no generator") };
        let mut source = value.source()?;
        loop {
            self.charge_items(1)?;
            let step = source.next().and_then(|item| match item {
                Some(item) => change(self, item).map(Some),
                None => Ok(None),
            });
            match step {
                Ok(Some(item)) => made.items.borrow_mut().extend(item),
                Ok(None) => break,
                Err(fault) => {
                    made.fault.replace(Some(fault));
                    break;
                }
            }
        }
        Ok(Value::Generator(made))
    }

    /// An attribute of an attribute, as deep as there are parts.
    pub fn get(
        &mut self,
        value: &Value,
        parts: &[Value],
        default: Option<&Value>,
    ) -> Outcome<Value> {
        let mut value = value.clone();
        for part in parts {
            value = self.item(&value, part)?;
            if let (true, Some(default)) = (value.is_undefined(), default) {
                value = default.clone();
            }
        }
        Ok(value)
    }
}

/// `a.0.b` as keys.
pub fn attribute_parts(attribute: &Value) -> Outcome<Vec<Value>> {
    Ok(match attribute {
        Value::None => Vec::new(),
        _ => match attribute.as_str() {
            Some(text) => text
                .split('.')
                .map(|part| match part.parse::<i128>() {
                    Ok(index) if part.bytes().all(|it| it.is_ascii_digit()) => Value::Int(index),
                    _ => Value::text(part),
                })
                .collect(),
            None => vec![attribute.clone()],
        },
    })
}

fn to_json(value: &Value, given: &Given) -> Outcome<Value> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sorted] = given.bind("tojson", names, 0)?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(whole(&indent)?.clamp(0, 1024)).unwrap_or(0)),
        }),
    };
    let separators = match separators {
        None | Some(Value::None) => {
            let comma = if indent.is_some() { "," } else { ", " };
            (comma.to_owned(), ": ".to_owned())
        }
        Some(pair) => match pair.items()?.as_slice() {
            [comma, colon] => (comma.print()?, colon.print()?),
            _ => refuse!("tojson: expected two separators"),
        },
    };
    let holds = |it: Option<Value>| it.is_some_and(|it| it.is_true());
    let dump = Dump { ascii: holds(ascii), indent, separators, sorted: holds(sorted) };
    let mut out = String::new();
    dump.write(value, 0, &mut out)?;
    Ok(Value::Text(out.into()))
}

fn number(name: &str, value: &Value, given: &Given) -> Outcome<Value> {
    match name {
        "abs" => {
            given.places::<0>(name, 0)?;
            match value {
                Value::Float(number) => Ok(Value::Float(number.abs())),
                _ => match value.as_int() {
                    Some(number) => operators::signed(&Value::Int(number), number < 0),
                    None => refuse!("bad operand type for abs(): '{}'", value.type_name()),
                },
            }
        }
        "int" => {
            let [default, base] = given.bind(name, ["default", "base"], 0)?;
            let base = base.as_ref().map_or(Ok(10), whole)?;
            Ok(to_int(value, base)?.map_or(default.unwrap_or(Value::Int(0)), Value::Int))
        }
        "float" => {
            let [default] = given.bind(name, ["default"], 0)?;
            Ok(to_float(value)?.map_or(default.unwrap_or(Value::Float(0.0)), Value::Float))
        }
        "filesizeformat" => {
            let [binary] = given.bind(name, ["binary"], 0)?;
            let bytes = to_float(value)?.ok_or_else(|| fault!("could not convert to float"))?;
            Ok(Value::text(file_size(bytes, binary.is_some_and(|it| it.is_true()))))
        }
        _ => {
            let [precision, method] = given.bind(name, ["precision", "method"], 0)?;
            let precision = precision.as_ref().map_or(Ok(0), whole)?.clamp(-400, 400) as i32;
            let method = method.map_or(Ok("common".to_owned()), |it| it.print())?;
            round(value, precision, &method)
        }
    }
}

fn to_int(value: &Value, base: i128) -> Outcome<Option<i128>> {
    if let Value::Undefined(why) = value {
        refuse!("{why}");
    }
    if let Some(text) = value.as_str() {
        if let Some(number) = parse_int(text, base) {
            return Ok(Some(number));
        }
    } else if let Some(number) = value.as_int() {
        return Ok(Some(number));
    }
    match to_float(value)? {
        Some(number) if number.is_infinite() && value.as_str().is_none() => {
            refuse!("cannot convert float infinity to integer")
        }
        number => number.filter(|it| it.is_finite()).map(operators::truncated).transpose(),
    }
}

/// `int(text, base)`.
fn parse_int(text: &str, base: i128) -> Option<i128> {
    let text = text.trim_matches(super::unicode::is_space);
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let prefix =
        |prefix: &str| lower.strip_prefix(prefix).map(|it| it.strip_prefix('_').unwrap_or(it));
    let (base, digits) = match base {
        0 => match (prefix("0x"), prefix("0o"), prefix("0b")) {
            (Some(rest), ..) => (16, rest),
            (_, Some(rest), _) => (8, rest),
            (.., Some(rest)) => (2, rest),
            _ => (10, lower.as_str()),
        },
        16 => (16, prefix("0x").unwrap_or(&lower)),
        8 => (8, prefix("0o").unwrap_or(&lower)),
        2 => (2, prefix("0b").unwrap_or(&lower)),
        base => (u32::try_from(base).ok().filter(|it| (2..=36).contains(it))?, lower.as_str()),
    };
    plain(digits).and_then(|digits| i128::from_str_radix(&format!("{sign}{digits}"), base).ok())
}

/// Digits without the `_` between them.
fn plain(digits: &str) -> Option<String> {
    let wrong =
        digits.starts_with(['_', '+', '-']) || digits.ends_with('_') || digits.contains("__");
    (!wrong && !digits.is_empty()).then(|| digits.replace('_', ""))
}

/// `float(value)`.
fn to_float(value: &Value) -> Outcome<Option<f64>> {
    if let Value::Undefined(why) = value {
        refuse!("{why}");
    }
    let Some(text) = value.as_str() else { return Ok(value.as_float()) };
    let text = text.trim_matches(super::unicode::is_space);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    Ok(plain(unsigned).and_then(|_| text.replace('_', "").parse().ok()))
}

fn round(value: &Value, precision: i32, method: &str) -> Outcome<Value> {
    if !matches!(method, "common" | "ceil" | "floor") {
        refuse!("method must be common, ceil or floor");
    }
    let Some(number) = value.as_float() else {
        refuse!("type {} doesn't define __round__ method", value.type_name())
    };
    if method != "common" {
        let scale = 10_f64.powi(precision);
        let scaled = number * scale;
        let whole = if method == "ceil" { scaled.ceil() } else { scaled.floor() };
        return Ok(Value::Float(whole / scale));
    }
    if let (Some(whole), true) = (value.as_int(), precision >= 0) {
        return Ok(Value::Int(whole));
    }
    if precision >= 0 {
        let digits = usize::try_from(precision).unwrap_or(0);
        return Ok(Value::Float(format!("{number:.digits$}").parse().unwrap_or(number)));
    }
    let scale = 10_f64.powi(-precision);
    let rounded = (number / scale).round_ties_even() * scale;
    Ok(if value.as_int().is_some() {
        Value::Int(operators::truncated(rounded)?)
    } else {
        Value::Float(rounded)
    })
}

fn file_size(bytes: f64, binary: bool) -> String {
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return "1 Byte".to_owned();
    }
    if bytes < base {
        return format!("{} Bytes", bytes.trunc());
    }
    let letters = if binary { "KMGTPEZY" } else { "kMGTPEZY" };
    let mut power = 2;
    let mut letter = 'Y';
    for it in letters.chars() {
        letter = it;
        if bytes < base.powi(power) {
            break;
        }
        power += 1;
    }
    let unit = base.powi(power.min(9));
    format!("{:.1} {letter}{}B", base * bytes / unit, if binary { "i" } else { "" })
}

/// The items of a value, shared where it is a list.
pub fn shared(value: &Value) -> Outcome<Rc<Vec<Value>>> {
    match value {
        Value::List(items) | Value::Tuple(items) | Value::Group(items) => Ok(items.clone()),
        _ => value.items().map(Rc::new),
    }
}
