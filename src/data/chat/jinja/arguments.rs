//! The arguments of a call.

use std::rc::Rc;

use super::budget;
use super::fault::{Outcome, fault, refuse};
use super::value::Value;

/// Arguments as a call gives them.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub positional: Vec<Value>,
    pub keywords: Vec<(Rc<str>, Value)>,
}

impl Given {
    /// Arguments that can be taken from.
    pub fn copied(&self) -> Outcome<Self> {
        budget::hold(size_of::<Value>() * (self.positional.len() + self.keywords.len()))?;
        Ok(self.clone())
    }

    pub fn keyword(&self, name: &str) -> Option<Value> {
        self.keywords.iter().find(|(it, _)| &**it == name).map(|(_, value)| value.clone())
    }

    /// Removes a keyword.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.keywords.iter().position(|(it, _)| &**it == name)?;
        Some(self.keywords.remove(at).1)
    }

    /// The arguments of a function by its parameters' names, of which the first are `required`.
    pub fn bind<const N: usize>(
        &self,
        function: &str,
        names: [&str; N],
        required: usize,
    ) -> Outcome<[Option<Value>; N]> {
        if self.positional.len() > N {
            refuse!(
                "{function}() takes at most {N} arguments, {} were given",
                self.positional.len()
            );
        }
        let mut bound = names.map(|_| None);
        for (place, value) in bound.iter_mut().zip(&self.positional) {
            *place = Some(value.clone());
        }
        for (name, value) in &self.keywords {
            match names.iter().position(|it| *it == &**name) {
                Some(at) if bound[at].is_none() => bound[at] = Some(value.clone()),
                Some(_) => refuse!("{function}() got multiple values for argument '{name}'"),
                None => refuse!("{function}() got an unexpected keyword argument '{name}'"),
            }
        }
        match (0..required).find(|&at| bound[at].is_none()) {
            Some(at) => Err(fault!("{function}() misses the argument '{}'", names[at])),
            None => Ok(bound),
        }
    }

    /// As [`Given::bind`], of a function that takes no keywords.
    pub fn places<const N: usize>(
        &self,
        function: &str,
        required: usize,
    ) -> Outcome<[Option<Value>; N]> {
        if let Some((name, _)) = self.keywords.first() {
            refuse!("{function}() takes no keyword arguments, found '{name}'");
        }
        self.bind(function, [""; N], 0).and_then(|bound| {
            if self.positional.len() < required {
                refuse!(
                    "{function}() takes at least {required} arguments, {} were given",
                    self.positional.len()
                );
            }
            Ok(bound)
        })
    }
}

/// A whole number that a function wants.
pub fn whole(value: &Value) -> Outcome<i128> {
    match value {
        Value::Undefined(why) => Err(fault!("{why}")),
        _ => value.as_int().ok_or_else(|| {
            fault!("'{}' object cannot be interpreted as an integer", value.type_name())
        }),
    }
}

/// A text that a function wants.
pub fn text<'v>(value: &'v Value, function: &str) -> Outcome<&'v str> {
    match value {
        Value::Undefined(why) => Err(fault!("{function}(): {why}")),
        _ => value
            .as_str()
            .ok_or_else(|| fault!("{function}() expected a str, found {}", value.type_name())),
    }
}
