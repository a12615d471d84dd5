//! Filters by their names.

use std::rc::Rc;

use super::arguments::{Given, whole};
use super::budget;
use super::fault::{Outcome, fault, refuse};
use super::interpreter::Interpreter;
use super::json::Dump;
use super::sequence::Sequence;
use super::value::{Value, View};
use super::{figures, lists, texts};

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
        if let Some(text) = value.as_str() {
            budget::read(text.len())?;
        }
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
                        Ok(Value::generator_until(Vec::new(), Some(fault)))
                    }
                }
            }
            "tojson" => to_json(&value, given),
            "abs" | "int" | "float" | "round" | "filesizeformat" => {
                figures::number(name, &value, given)
            }
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
        let mut given = given.copied()?;
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
        let mut given = given.copied()?;
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
        let (mut made, mut fault) = (Vec::new(), None);
        let mut source = value.source()?;
        loop {
            let step = self.deeper(|it| match source.next()? {
                Some(item) => change(it, item).map(Some),
                None => Ok(None),
            });
            match step {
                Ok(Some(item)) => made.extend(item),
                Ok(None) => break,
                Err(found) => {
                    fault = Some(found);
                    break;
                }
            }
        }
        Ok(Value::generator_until(made, fault))
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
            budget::steps(1)?;
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
            Some(text) if budget::fits_items(text.len()).is_err() => {
                refuse!("the name of an attribute is longer than {}", budget::MAX_ITEMS)
            }
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
            None => blanks(&indent)?,
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
    Ok(Value::text(out))
}

/// As many blanks as an indent has.
pub fn blanks(indent: &Value) -> Outcome<String> {
    let count = usize::try_from(whole(indent)?.max(0)).unwrap_or(usize::MAX);
    budget::fits(count)?;
    budget::read(count)?;
    Ok(" ".repeat(count))
}

/// The items of a value, shared where it is a list.
pub fn shared(value: &Value) -> Outcome<Rc<Sequence>> {
    match value {
        Value::List(items) | Value::Tuple(items) | Value::Group(items) => Ok(items.clone()),
        _ => Ok(Rc::new(value.items()?.into())),
    }
}
