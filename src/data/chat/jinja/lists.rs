//! Filters of lists.

use std::rc::Rc;

use super::arguments::{Given, whole};
use super::ast::Operator;
use super::budget;
use super::fault::{Outcome, fault, refuse};
use super::filters::{attribute_parts, shared};
use super::interpreter::Interpreter;
use super::operators::binary;
use super::sort::sort_by_key;
use super::value::{Value, View};

/// Filters that look at nothing but the list.
pub fn filter(name: &str, value: &Value, given: &Given) -> Outcome<Value> {
    match name {
        "first" => {
            given.places::<0>(name, 0)?;
            let empty = || Value::undefined("No first item, sequence was empty.");
            Ok(value.source()?.next()?.unwrap_or_else(empty))
        }
        "last" => {
            given.places::<0>(name, 0)?;
            if matches!(value, Value::Generator(_)) {
                refuse!("'generator' object is not reversible");
            }
            let empty = || Value::undefined("No last item, sequence was empty.");
            Ok(shared(value)?.last().cloned().unwrap_or_else(empty))
        }
        "reverse" => {
            given.places::<0>(name, 0)?;
            if let Some(text) = value.as_str() {
                let reversed = text.chars().rev().collect();
                return Ok(super::operators::like(value, reversed));
            }
            let mut items = value.items().map_err(|_| fault!("argument must be iterable"))?;
            items.reverse();
            // Python reverses what it cannot go through backwards as a list.
            let listed = matches!(value, Value::Generator(_));
            Ok(if listed { Value::list(items) } else { Value::generator(items) })
        }
        "dictsort" => dict_sort(value, given),
        "batch" => {
            let [count, fill] = given.bind(name, ["linecount", "fill_with"], 1)?;
            let count = size(&count.unwrap_or(Value::None))?;
            let items = value.items()?;
            let mut batches: Vec<_> = items.chunks(count.max(1)).map(<[Value]>::to_vec).collect();
            if let (Some(last), Some(fill)) = (batches.last_mut(), not_none(fill)) {
                last.resize(count.max(last.len()), fill);
            }
            Ok(Value::generator(batches.into_iter().map(Value::list).collect()))
        }
        _ => slices(value, given),
    }
}

fn not_none(value: Option<Value>) -> Option<Value> {
    value.filter(|it| !matches!(it, Value::None))
}

fn size(value: &Value) -> Outcome<usize> {
    match usize::try_from(whole(value)?) {
        Ok(size) => budget::fits_items(size).and_then(|()| budget::visit(size)).map(|()| size),
        _ => Err(fault!("expected a size, found {}", value.repr()?)),
    }
}

fn slices(value: &Value, given: &Given) -> Outcome<Value> {
    let [count, fill] = given.bind("slice", ["slices", "fill_with"], 1)?;
    let count = size(&count.unwrap_or(Value::None))?;
    let fill = not_none(fill);
    let items = value.items()?;
    if count == 0 {
        refuse!("integer division or modulo by zero");
    }
    let (each, extra) = (items.len() / count, items.len() % count);
    let mut rest = items.as_slice();
    let mut made = Vec::new();
    for index in 0..count {
        let (part, after) = rest.split_at(each + usize::from(index < extra));
        rest = after;
        let mut part = part.to_vec();
        part.extend(fill.clone().filter(|_| index >= extra));
        made.push(Value::list(part));
    }
    Ok(Value::generator(made))
}

fn dict_sort(value: &Value, given: &Given) -> Outcome<Value> {
    let names = ["case_sensitive", "by", "reverse"];
    let [case_sensitive, by, reverse] = given.bind("dictsort", names, 0)?;
    let by = by.map_or(Ok("key".to_owned()), |it| it.print())?;
    let place = match by.as_str() {
        "key" => 0,
        "value" => 1,
        _ => refuse!("You can only sort by either \"key\" or \"value\""),
    };
    let case_sensitive = case_sensitive.is_some_and(|it| it.is_true());
    let Value::Dict(dict) = value else {
        if let Value::Undefined(why) = value {
            refuse!("{why}");
        }
        refuse!("'{}' object has no attribute 'items'", value.type_name())
    };
    let mut pairs = dict.view(View::Items);
    let key = |pair: &Value| match pair {
        Value::Tuple(pair) => Ok(cased(&pair[place], case_sensitive)),
        _ => Ok(Value::None),
    };
    sort_by_key(&mut pairs, key, reverse.is_some_and(|it| it.is_true()))?;
    Ok(Value::list(pairs))
}

/// Texts in small letters, unless case counts.
fn cased(value: &Value, case_sensitive: bool) -> Value {
    match value.as_str() {
        Some(text) if !case_sensitive && budget::read(text.len()).is_ok() => {
            Value::text(text.to_lowercase())
        }
        _ => value.clone(),
    }
}

impl Interpreter<'_> {
    /// Filters that look at an attribute of the items.
    pub fn by_attribute(&mut self, name: &str, value: &Value, given: &Given) -> Outcome<Value> {
        match name {
            "join" => {
                let [separator, attribute] = given.bind(name, ["d", "attribute"], 0)?;
                let separator = separator.map_or(Ok(String::new()), |it| it.print())?;
                let parts = attribute_parts(&attribute.unwrap_or(Value::None))?;
                let mut text = String::new();
                for (index, item) in shared(value)?.iter().enumerate() {
                    budget::steps(1)?;
                    let item = self.get(item, &parts, None)?.print()?;
                    budget::fits(text.len() + separator.len() + item.len())?;
                    if index > 0 {
                        text.push_str(&separator);
                    }
                    text.push_str(&item);
                }
                Ok(Value::text(text))
            }
            "sum" => {
                let [attribute, start] = given.bind(name, ["attribute", "start"], 0)?;
                let parts = attribute_parts(&attribute.unwrap_or(Value::None))?;
                let mut sum = start.unwrap_or(Value::Int(0));
                if sum.as_str().is_some() {
                    refuse!("sum() can't sum strings [use ''.join(seq) instead]");
                }
                for item in shared(value)?.iter() {
                    let item = self.get(item, &parts, None)?;
                    sum = binary(Operator::Add, &sum, &item)?;
                }
                Ok(sum)
            }
            "sort" => {
                let names = ["reverse", "case_sensitive", "attribute"];
                let [reverse, case_sensitive, attribute] = given.bind(name, names, 0)?;
                let case_sensitive = case_sensitive.is_some_and(|it| it.is_true());
                let keys = attribute_lists(attribute)?;
                let mut items = value.items()?;
                budget::visit(items.len() * 16)?;
                let key = |item: &Value| {
                    let parts = keys.iter().map(|parts| {
                        self.get(item, parts, None).map(|it| cased(&it, case_sensitive))
                    });
                    parts.collect::<Outcome<Vec<_>>>().map(Value::list)
                };
                sort_by_key(&mut items, key, reverse.is_some_and(|it| it.is_true()))?;
                Ok(Value::list(items))
            }
            "groupby" => self.group_by(value, given),
            "unique" => {
                let [case_sensitive, attribute] =
                    given.bind(name, ["case_sensitive", "attribute"], 0)?;
                let keyed = self.keyed(value, case_sensitive, attribute, None)?;
                let mut seen: Vec<Value> = Vec::new();
                let mut unique = Vec::new();
                for (key, item) in keyed {
                    key.hashable()?;
                    budget::visit(seen.len())?;
                    if !seen.iter().any(|it| it.equals(&key)) {
                        seen.push(key);
                        unique.push(item);
                    }
                }
                Ok(Value::generator(unique))
            }
            _ => {
                let [case_sensitive, attribute] =
                    given.bind(name, ["case_sensitive", "attribute"], 0)?;
                let mut keyed = self.keyed(value, case_sensitive, attribute, None)?.into_iter();
                let Some(mut best) = keyed.next() else {
                    return Ok(Value::undefined("No aggregated item, sequence was empty."));
                };
                for next in keyed {
                    let order = match name {
                        "min" => next.0.order(&best.0, "<")?,
                        _ => best.0.order(&next.0, "<")?,
                    };
                    if order.is_some_and(|it| it.is_lt()) {
                        best = next;
                    }
                }
                Ok(best.1)
            }
        }
    }

    /// Items with what they are compared by.
    fn keyed(
        &mut self,
        value: &Value,
        case_sensitive: Option<Value>,
        attribute: Option<Value>,
        default: Option<&Value>,
    ) -> Outcome<Vec<(Value, Value)>> {
        let case_sensitive = case_sensitive.is_some_and(|it| it.is_true());
        let parts = attribute_parts(&attribute.unwrap_or(Value::None))?;
        let items = shared(value)?;
        budget::visit(items.len() * 16)?;
        let key = |item: &Value| {
            let key = cased(&self.get(item, &parts, default)?, case_sensitive);
            Ok((key, item.clone()))
        };
        items.iter().map(key).collect()
    }

    fn group_by(&mut self, value: &Value, given: &Given) -> Outcome<Value> {
        let names = ["attribute", "default", "case_sensitive"];
        let [attribute, default, case_sensitive] = given.bind("groupby", names, 1)?;
        let default = not_none(default);
        let parts = attribute_parts(attribute.as_ref().unwrap_or(&Value::None))?;
        let mut keyed = self.keyed(value, case_sensitive, attribute, default.as_ref())?;
        sort_by_key(&mut keyed, |(key, _)| Ok(key.clone()), false)?;
        let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
        for (key, item) in keyed {
            match groups.last_mut() {
                Some((last, items)) if last.equals(&key) => items.push(item),
                _ => groups.push((key, vec![item])),
            }
        }
        // Groups are told apart by small letters and called as their first item is written.
        let mut made = Vec::new();
        for (_, items) in groups {
            let name = self.get(&items[0], &parts, default.as_ref())?;
            made.push(Value::Group(Rc::new(vec![name, Value::list(items)].into())));
        }
        Ok(Value::list(made))
    }
}

/// `a,b.c` as lists of keys.
fn attribute_lists(attribute: Option<Value>) -> Outcome<Vec<Vec<Value>>> {
    match attribute.as_ref().and_then(Value::as_str) {
        Some(text) => {
            budget::fits_items(text.len())?;
            text.split(',').map(|it| attribute_parts(&Value::text(it))).collect()
        }
        None => Ok(vec![attribute_parts(&attribute.unwrap_or(Value::None))?]),
    }
}
