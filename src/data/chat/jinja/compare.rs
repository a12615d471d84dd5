//! `==` and `<` as Python has them.

use std::cmp::Ordering;
use std::rc::Rc;

use super::budget;
use super::fault::{Outcome, fault};
use super::value::{Dict, Value, View};

impl Value {
    /// `self == other`.
    pub fn equals(&self, other: &Self) -> bool {
        use Value::{Bool, Float, Group, Int, List, None, Range, Tuple, Undefined};
        match (self, other) {
            (Undefined(_), Undefined(_)) | (None, None) => true,
            (Bool(_) | Int(_) | Float(_), Bool(_) | Int(_) | Float(_)) => {
                order_numbers(self, other) == Some(Ordering::Equal)
            }
            (List(a), List(b)) | (Tuple(a) | Group(a), Tuple(b) | Group(b)) => {
                Rc::ptr_eq(a, b)
                    || a.len() == b.len() && a.iter().zip(&**b).all(|(a, b)| goes_on(a, b))
            }
            (Self::Dict(a), Self::Dict(b)) => Rc::ptr_eq(a, b) || same_entries(a, b),
            (Range(a), Range(b)) => {
                a.len() == b.len() && a.values().zip(b.values()).all(|(a, b)| goes_on(&a, &b))
            }
            (Self::View(a, x), Self::View(b, y)) => match (a, b) {
                (View::Keys, View::Keys) => {
                    x.len() == y.len()
                        && x.iter().all(|(key, _)| budget::steps(1).is_ok() && y.get(key).is_some())
                }
                (View::Items, View::Items) => same_entries(x, y),
                _ => false,
            },
            (Self::Generator(a), Self::Generator(b)) => Rc::ptr_eq(a, b),
            (Self::Namespace(a), Self::Namespace(b)) => Rc::ptr_eq(a, b),
            (Self::Loop(a), Self::Loop(b)) => Rc::ptr_eq(a, b),
            (Self::Macro(a), Self::Macro(b)) => Rc::ptr_eq(a, b),
            (Self::Cycler(a), Self::Cycler(b)) => Rc::ptr_eq(a, b),
            (Self::Joiner(a), Self::Joiner(b)) => Rc::ptr_eq(a, b),
            (Self::Function(a), Self::Function(b)) => a == b,
            (Self::Method(a), Self::Method(b)) => a.1 == b.1 && a.0.equals(&b.0),
            _ => match (self.as_str(), other.as_str()) {
                (Some(a), Some(b)) => a.len() == b.len() && budget::read(a.len()).is_ok() && a == b,
                _ => false,
            },
        }
    }

    /// The order of two values, none where NaN is one; `sign` is what errors name.
    pub fn order(&self, other: &Self, sign: &str) -> Outcome<Option<Ordering>> {
        use Value::{Bool, Float, Group, Int, List, Tuple, Undefined};
        match (self, other) {
            (Undefined(why), _) | (_, Undefined(why)) => Err(fault!("{why}")),
            (Bool(_) | Int(_) | Float(_), Bool(_) | Int(_) | Float(_)) => {
                Ok(order_numbers(self, other))
            }
            (List(a), List(b)) | (Tuple(a) | Group(a), Tuple(b) | Group(b)) => {
                match a.iter().zip(&**b).find(|(a, b)| !goes_on(a, b)) {
                    Some((a, b)) => a.order(b, sign),
                    None => Ok(Some(a.len().cmp(&b.len()))),
                }
            }
            _ => match (self.as_str(), other.as_str()) {
                (Some(a), Some(b)) => {
                    budget::read(a.len().min(b.len()))?;
                    Ok(Some(a.cmp(b)))
                }
                _ => Err(fault!(
                    "'{sign}' not supported between instances of '{}' and '{}'",
                    self.type_name(),
                    other.type_name()
                )),
            },
        }
    }
}

/// Whether two items are equal, so that the next are looked at.
fn goes_on(a: &Value, b: &Value) -> bool {
    budget::steps(1).is_ok() && a.equals(b)
}

fn same_entries(a: &Dict, b: &Dict) -> bool {
    let same = |key: &Value, value: &Value| b.get(key).is_some_and(|it| goes_on(it, value));
    a.len() == b.len() && a.iter().all(|(key, value)| same(key, value))
}

fn order_numbers(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Float(float), _) => order_mixed(b.as_int()?, *float).map(Ordering::reverse),
        (_, Value::Float(float)) => order_mixed(a.as_int()?, *float),
        _ => Some(a.as_int()?.cmp(&b.as_int()?)),
    }
}

/// A whole number beside a float, without rounding it.
fn order_mixed(whole: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float.abs() >= 1e38 {
        return 0.0.partial_cmp(&float);
    }
    let floor = float.floor();
    let order = whole.cmp(&(floor as i128));
    Some(if order == Ordering::Equal && float > floor { Ordering::Less } else { order })
}
