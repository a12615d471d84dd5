//! Calls: functions, methods, macros, recursive loops.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::arguments::{Given, whole};
use super::ast::Macro;
use super::braces;
use super::budget;
use super::fault::{Outcome, fault, refuse};
use super::interpreter::Interpreter;
use super::strings;
use super::time::strftime;
use super::value::{Closure, Cycler, Dict, Function, Joiner, Loop, Range, Value, View};

/// The longest range that jinja2's sandbox makes.
const MAX_RANGE: usize = 100_000;

impl<'t> Interpreter<'t> {
    pub fn call(&mut self, callee: &Value, given: Given) -> Outcome<Value> {
        match callee {
            Value::Undefined(why) => Err(fault!("{why}")),
            Value::Function(function) => self.function(*function, given),
            Value::Macro(closure) => self.call_macro(closure, given),
            Value::Method(method) => self.method(&method.0, &method.1, &given),
            Value::Loop(state) => self.recurse(state, &given),
            Value::Joiner(joiner) => {
                given.places::<0>("joiner", 0)?;
                let first = !joiner.used.replace(true);
                Ok(if first { Value::text("") } else { joiner.separator.clone() })
            }
            _ => Err(fault!("'{}' object is not callable", callee.type_name())),
        }
    }

    fn function(&mut self, function: Function, mut given: Given) -> Outcome<Value> {
        match function {
            Function::Range => range(&given),
            Function::Dict => Ok(Value::Dict(Rc::new(dict("dict", &given)?))),
            Function::Namespace => {
                let namespace = Rc::new(RefCell::new(dict("namespace", &given)?));
                self.keep(&namespace)?;
                Ok(Value::Namespace(namespace))
            }
            Function::Cycler => {
                if given.positional.is_empty() {
                    refuse!("at least one item has to be provided");
                }
                let items = std::mem::take(&mut given.positional);
                given.places::<0>("cycler", 0)?;
                let items = items.into();
                Ok(Value::Cycler(Rc::new(Cycler { items, at: Cell::new(0) })))
            }
            Function::Joiner => {
                let [separator] = given.bind("joiner", ["sep"], 0)?;
                let separator = separator.unwrap_or(Value::text(", "));
                let joiner = Joiner { separator, used: Cell::new(false) };
                let joiner = Value::Joiner(Rc::new(joiner));
                budget::list(1, joiner.nesting());
                Ok(joiner)
            }
            Function::Lipsum => refuse!("lipsum() is random; a prompt is not"),
            Function::RaiseException => {
                let [message] = given.bind("raise_exception", ["message"], 1)?;
                refuse!("{}", message.unwrap_or(Value::None).print()?)
            }
            Function::StrftimeNow => {
                let [format] = given.bind("strftime_now", ["format"], 1)?;
                let format = format.unwrap_or(Value::None);
                let format = super::arguments::text(&format, "strftime_now")?;
                strftime(&self.moment, format).map(Value::text)
            }
        }
    }

    fn call_macro(&mut self, closure: &Closure, mut given: Given) -> Outcome<Value> {
        let definition = &self.template.macros[closure.index];
        let block = &definition.body;
        let (text, ()) = self.captured(|it| {
            it.deeper(|it| {
                it.within(Some(closure.scope), block, |it, scope| {
                    it.bind_parameters(definition, &mut given, scope)?;
                    it.statements(&block.statements, scope).map(|_| ())
                })
            })
        })?;
        Ok(Value::text(text))
    }

    /// Gives a macro's parameters their values: what was given, then the defaults in order.
    fn bind_parameters(
        &mut self,
        definition: &'t Macro,
        given: &mut Given,
        scope: usize,
    ) -> Outcome<()> {
        let Macro { name, parameters, reads, .. } = definition;
        let [reads_caller, reads_kwargs, reads_varargs] = reads.get().copied().unwrap_or_default();
        let macro_name = name.as_deref().unwrap_or("caller");
        let count = parameters.len().min(given.positional.len());
        let extra = given.positional.split_off(count);
        let mut values = std::mem::take(&mut given.positional).into_iter();
        let mut missing = Vec::new();
        for (parameter, default) in parameters {
            let value = values.next().or_else(|| given.take(parameter));
            let nothing = || Value::undefined(format!("parameter '{parameter}' was not provided"));
            if value.is_none() {
                missing.push((parameter, default));
            }
            self.assign(scope, parameter, value.unwrap_or_else(nothing));
        }
        if reads_caller {
            let caller = given.take("caller").filter(|it| !matches!(it, Value::None));
            let caller = caller.unwrap_or_else(|| Value::undefined("No caller defined"));
            self.assign(scope, "caller", caller);
        }
        if reads_kwargs {
            let mut dict = Dict::default();
            for (key, value) in given.keywords.drain(..) {
                dict.insert(Value::Text(key), value)?;
            }
            self.assign(scope, "kwargs", Value::Dict(Rc::new(dict)));
        } else if let Some((keyword, _)) = given.keywords.first() {
            refuse!("macro '{macro_name}' takes no keyword argument '{keyword}'");
        }
        if reads_varargs {
            self.assign(scope, "varargs", Value::tuple(extra));
        } else if !extra.is_empty() {
            refuse!("macro '{macro_name}' takes not more than {} argument(s)", parameters.len());
        }
        for (parameter, default) in missing {
            if let Some(default) = default {
                let value = self.evaluate(default, scope)?;
                self.assign(scope, parameter, value);
            }
        }
        Ok(())
    }

    fn recurse(&mut self, state: &Loop, given: &Given) -> Outcome<Value> {
        let Some(index) = state.recursive else {
            refuse!("The loop must have the 'recursive' marker to be called recursively.")
        };
        let [items] = given.bind("loop", ["iterable"], 1)?;
        let items = items.unwrap_or(Value::None);
        let (text, _) = self.captured(|it| {
            it.deeper(|it| it.run_loop(index, &items, state.outer, state.depth + 1))
        })?;
        Ok(Value::text(text))
    }

    fn method(&mut self, value: &Value, name: &str, given: &Given) -> Outcome<Value> {
        match value {
            Value::Text(text) if name == "format" => {
                budget::read(text.len())?;
                let mut lookup = |value: &Value, name: &str, attribute: bool| {
                    if attribute {
                        self.attribute(value, name)
                    } else {
                        let index = name.parse().map_or(Value::text(name), Value::Int);
                        self.item(value, &index)
                    }
                };
                braces::format(text, given, &mut lookup).map(Value::text)
            }
            Value::Text(text) => strings::call(text, name, given),
            Value::Safe(text) => match name {
                "format" | "join" | "replace" => {
                    refuse!("`{name}` of a text marked safe is not supported in chat templates")
                }
                _ => Ok(match strings::call(text, name, given)? {
                    Value::Text(text) => Value::Safe(text),
                    other => other,
                }),
            },
            Value::Dict(dict) => dict_method(dict, value, name, given),
            Value::Loop(state) => self.loop_method(state, name, given),
            Value::Cycler(cycler) => {
                given.places::<0>(name, 0)?;
                let at = cycler.at.get();
                let reset = name == "reset";
                cycler.at.set(if reset { 0 } else { (at + 1) % cycler.items.len() });
                Ok(if reset { Value::None } else { cycler.items[at].clone() })
            }
            Value::Float(number) => Ok(Value::Bool(number.fract() == 0.0)),
            _ => sequence_method(value, name, given),
        }
    }

    fn loop_method(&mut self, state: &Loop, name: &str, given: &Given) -> Outcome<Value> {
        let values = &given.positional;
        if name == "cycle" {
            if values.is_empty() {
                refuse!("no items for cycling given");
            }
            return Ok(values[state.index.get() % values.len()].clone());
        }
        let values = Value::tuple(values.clone());
        let Some(at) = state.changed.get() else {
            state.changed.set(Some(self.changed.len()));
            self.changed.push(values);
            return Ok(Value::Bool(true));
        };
        let same = self.changed[at].equals(&values);
        self.changed[at] = values;
        Ok(Value::Bool(!same))
    }
}

fn range(given: &Given) -> Outcome<Value> {
    let [first, second, step] = given.places("range", 1)?;
    let number = |value: &Option<Value>| value.as_ref().map(whole).transpose();
    let (first, second) = (number(&first)?.unwrap_or(0), number(&second)?);
    let step = number(&step)?.unwrap_or(1);
    if step == 0 {
        refuse!("range() arg 3 must not be zero");
    }
    let range = match second {
        Some(stop) => Range { start: first, stop, step },
        None => Range { start: 0, stop: first, step },
    };
    if [range.start, range.stop, range.step].iter().any(|it| it.unsigned_abs() > 1 << 62)
        || range.len() > MAX_RANGE
    {
        refuse!("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({MAX_RANGE}).");
    }
    Ok(Value::Range(range))
}

/// `dict(mapping or pairs, **keywords)`.
fn dict(function: &str, given: &Given) -> Outcome<Dict> {
    let mut dict = match given.positional.as_slice() {
        [] => Dict::default(),
        [Value::Dict(dict)] => {
            budget::list(2 * dict.len(), dict.nesting());
            (**dict).clone()
        }
        [pairs] => {
            let mut dict = Dict::default();
            for pair in pairs.items()? {
                match <[Value; 2]>::try_from(pair.items()?) {
                    Ok([key, value]) => dict.insert(key, value)?,
                    Err(pair) => refuse!(
                        "dictionary update sequence element has length {}; 2 is required",
                        pair.len()
                    ),
                }
            }
            dict
        }
        more => refuse!("{function} expected at most 1 argument, got {}", more.len()),
    };
    for (key, value) in &given.keywords {
        dict.insert(Value::Text(key.clone()), value.clone())?;
    }
    Ok(dict)
}

fn dict_method(dict: &Rc<Dict>, value: &Value, name: &str, given: &Given) -> Outcome<Value> {
    let view = match name {
        "get" => {
            let [key, default] = given.places("get", 1)?;
            let key = key.unwrap_or(Value::None);
            key.hashable()?;
            return Ok(dict.get(&key).cloned().or(default).unwrap_or(Value::None));
        }
        "copy" => {
            given.places::<0>(name, 0)?;
            return Ok(value.clone());
        }
        "keys" => View::Keys,
        "values" => View::Values,
        "items" => View::Items,
        _ => refuse!("`{name}` of a dictionary is not supported in chat templates"),
    };
    given.places::<0>(name, 0)?;
    Ok(Value::View(view, dict.clone()))
}

fn sequence_method(value: &Value, name: &str, given: &Given) -> Outcome<Value> {
    if name == "copy" {
        given.places::<0>(name, 0)?;
        return Ok(value.clone());
    }
    let items = value.items()?;
    budget::visit(items.len())?;
    if name == "count" {
        let [wanted] = given.places(name, 1)?;
        let wanted = wanted.unwrap_or(Value::None);
        return Ok(Value::Int(items.iter().filter(|it| it.equals(&wanted)).count() as i128));
    }
    let [wanted, start, stop] = given.places(name, 1)?;
    let wanted = wanted.unwrap_or(Value::None);
    let bound = |value: Option<Value>, default: usize| -> Outcome<usize> {
        let Some(value) = value else { return Ok(default) };
        let index = whole(&value)?;
        let index = if index < 0 { (index + items.len() as i128).max(0) } else { index };
        Ok(usize::try_from(index).unwrap_or(usize::MAX).min(items.len()))
    };
    let (start, stop) = (bound(start, 0)?, bound(stop, items.len())?);
    let found = (start..stop).find(|&at| items[at].equals(&wanted));
    match found {
        Some(at) => Ok(Value::Int(at as i128)),
        None => Err(fault!("{} is not in {}", wanted.repr()?, value.type_name())),
    }
}
