//! Values as Python has them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::budget;
pub use super::dict::Dict;
use super::fault::{Fault, Outcome, fault};
use super::sequence::{Sequence, nesting_of};

/// A value of a template.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing, and why: what errors say.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Rc<str>),
    /// Text that is not to be escaped (`markupsafe.Markup`).
    Safe(Rc<str>),
    List(Rc<Sequence>),
    Tuple(Rc<Sequence>),
    /// A tuple `(grouper, list)`.
    Group(Rc<Sequence>),
    Dict(Rc<Dict>),
    Range(Range),
    View(View, Rc<Dict>),
    Generator(Rc<Generator>),
    Namespace(Rc<RefCell<Dict>>),
    Cycler(Rc<Cycler>),
    Joiner(Rc<Joiner>),
    Loop(Rc<Loop>),
    Macro(Rc<Closure>),
    Method(Rc<(Value, Rc<str>)>),
    Function(Function),
}

/// `range(start, stop, step)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub start: i128,
    pub stop: i128,
    pub step: i128,
}

impl Range {
    pub fn len(self) -> usize {
        let Self { start, stop, step } = self;
        let (low, high) = if step > 0 { (start, stop) } else { (stop, start) };
        if low >= high { 0 } else { ((high - low - 1) / step.abs() + 1) as usize }
    }

    pub fn at(self, index: usize) -> Value {
        Value::Int(self.start + self.step * index as i128)
    }

    pub fn values(self) -> impl Iterator<Item = Value> {
        (0..self.len()).map(move |index| self.at(index))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View {
    Keys,
    Values,
    Items,
}

/// What is gone once it was read.
#[derive(Debug)]
pub struct Generator {
    items: RefCell<VecDeque<Value>>,
    /// What went wrong after the last of them.
    fault: RefCell<Option<Fault>>,
    nesting: usize,
}

#[derive(Debug)]
pub struct Cycler {
    pub items: Sequence,
    pub at: Cell<usize>,
}

#[derive(Debug)]
pub struct Joiner {
    pub separator: Value,
    pub used: Cell<bool>,
}

/// A macro and the scope it stands in.
#[derive(Debug)]
pub struct Closure {
    pub index: usize,
    pub name: Option<Rc<str>>,
    pub scope: usize,
}

/// What a loop knows of itself.
#[derive(Debug)]
pub struct Loop {
    /// Which, where it may be called.
    pub recursive: Option<usize>,
    pub outer: usize,
    pub depth: usize,
    pub index: Cell<usize>,
    pub items: RefCell<Items>,
    /// The number of items, where the iterable knows it.
    pub length: Option<usize>,
    pub previous: RefCell<Option<Value>>,
    pub current: RefCell<Option<Value>>,
    /// Where the interpreter keeps what `changed` was last asked about.
    pub changed: Cell<Option<usize>>,
    /// How deep what it goes through nests.
    pub nesting: usize,
}

/// The items of a loop that are still to come.
#[derive(Debug, Default)]
pub struct Items {
    pub source: Source,
    /// Looked at, not yet taken.
    pub ahead: VecDeque<Value>,
    /// The loop whose test they have to pass.
    pub test: Option<(usize, usize)>,
}

/// Where items come from.
#[derive(Debug)]
pub enum Source {
    Listed(Rc<Sequence>, usize),
    Generator(Rc<Generator>),
}

impl Default for Source {
    fn default() -> Self {
        Self::Listed(Rc::default(), 0)
    }
}

impl Source {
    pub fn next(&mut self) -> Outcome<Option<Value>> {
        match self {
            Self::Listed(items, at) => {
                *at += 1;
                Ok(items.get(*at - 1).cloned())
            }
            Self::Generator(generator) => generator.next(),
        }
    }
}

impl Generator {
    pub fn next(&self) -> Outcome<Option<Value>> {
        match self.items.borrow_mut().pop_front() {
            Some(item) => Ok(Some(item)),
            None => self.fault.borrow_mut().take().map_or(Ok(None), Err),
        }
    }
}

/// What the environment offers by name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    Range,
    Dict,
    Namespace,
    Cycler,
    Joiner,
    Lipsum,
    RaiseException,
    StrftimeNow,
}

impl Function {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "range" => Self::Range,
            "dict" => Self::Dict,
            "namespace" => Self::Namespace,
            "cycler" => Self::Cycler,
            "joiner" => Self::Joiner,
            "lipsum" => Self::Lipsum,
            "raise_exception" => Self::RaiseException,
            "strftime_now" => Self::StrftimeNow,
            _ => return None,
        })
    }
}

impl Value {
    pub fn text(text: impl AsRef<str>) -> Self {
        budget::text(text.as_ref().len());
        Self::Text(text.as_ref().into())
    }

    pub fn safe(text: impl AsRef<str>) -> Self {
        budget::text(text.as_ref().len());
        Self::Safe(text.as_ref().into())
    }

    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items.into()))
    }

    pub fn tuple(items: Vec<Self>) -> Self {
        Self::Tuple(Rc::new(items.into()))
    }

    pub fn undefined(why: impl AsRef<str>) -> Self {
        budget::text(why.as_ref().len());
        Self::Undefined(why.as_ref().into())
    }

    pub fn generator(items: Vec<Self>) -> Self {
        Self::generator_until(items, None)
    }

    /// A generator that complains after its items.
    pub fn generator_until(items: Vec<Self>, fault: Option<Fault>) -> Self {
        let nesting = nesting_of(&items);
        budget::list(items.len(), nesting);
        let (items, fault) = (RefCell::new(items.into()), RefCell::new(fault));
        Self::Generator(Rc::new(Generator { items, fault, nesting }))
    }

    /// A method of a value.
    pub fn method(&self, name: &str) -> Self {
        let method = Self::Method(Rc::new((self.clone(), name.into())));
        budget::list(1, method.nesting());
        method
    }

    /// How deep lists, dictionaries and the like nest in the value. What a namespace holds can
    /// change, and does not count.
    pub fn nesting(&self) -> usize {
        match self {
            Self::List(items) | Self::Tuple(items) | Self::Group(items) => items.nesting(),
            Self::Dict(dict) | Self::View(_, dict) => dict.nesting(),
            Self::Generator(generator) => generator.nesting,
            Self::Cycler(cycler) => cycler.items.nesting(),
            Self::Joiner(joiner) => 1 + joiner.separator.nesting(),
            Self::Loop(state) => 1 + state.nesting,
            Self::Method(method) => 1 + method.0.nesting(),
            _ => 0,
        }
    }

    /// JSON as Python reads it.
    pub fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::None,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Self::Int(value.into()),
                (None, Some(value)) => Self::Int(value.into()),
                (None, None) => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::text(text),
            Json::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            Json::Object(map) => {
                let mut dict = Dict::default();
                for (key, value) in map {
                    // Texts are hashable.
                    let _ = dict.insert(Self::text(key), Self::from_json(value));
                }
                Self::Dict(Rc::new(dict))
            }
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Safe(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number; truth values are some.
    pub fn as_int(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Bool(value) => Some(i128::from(*value)),
            _ => None,
        }
    }

    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            _ => self.as_int().map(|value| value as f64),
        }
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    /// What Python calls the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::Safe(_) => "Markup",
            Self::List(_) => "list",
            Self::Tuple(_) | Self::Group(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Range(_) => "range",
            Self::View(View::Keys, _) => "dict_keys",
            Self::View(View::Values, _) => "dict_values",
            Self::View(View::Items, _) => "dict_items",
            Self::Generator(_) => "generator",
            Self::Namespace(_) => "Namespace",
            Self::Cycler(_) => "Cycler",
            Self::Joiner(_) => "Joiner",
            Self::Loop(_) => "LoopContext",
            Self::Macro(_) => "Macro",
            Self::Method(_) => "builtin_function_or_method",
            Self::Function(_) => "function",
        }
    }

    pub fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Loop(it) => it.length != Some(0),
            Self::Text(text) | Self::Safe(text) => !text.is_empty(),
            _ => self.length().map_or(true, |length| length > 0),
        }
    }

    /// `len(value)`.
    pub fn length(&self) -> Outcome<usize> {
        Ok(match self {
            Self::Undefined(_) => 0,
            Self::Text(text) | Self::Safe(text) => {
                budget::read(text.len())?;
                text.chars().count()
            }
            Self::List(items) | Self::Tuple(items) | Self::Group(items) => items.len(),
            Self::Dict(dict) | Self::View(_, dict) => dict.len(),
            Self::Range(range) => range.len(),
            Self::Loop(it) if it.length.is_some() => it.length.unwrap_or(0),
            _ => return Err(fault!("object of type '{}' has no len()", self.type_name())),
        })
    }

    /// Refuses what no key can be.
    pub fn hashable(&self) -> Outcome<()> {
        budget::steps(1)?;
        match self {
            Self::List(_) | Self::Dict(_) => Err(fault!("unhashable type: '{}'", self.type_name())),
            Self::Tuple(items) | Self::Group(items) => items.iter().try_for_each(Self::hashable),
            _ => Ok(()),
        }
    }

    /// Where items come from when the value is looped over.
    pub fn source(&self) -> Outcome<Source> {
        let listed = |items: Vec<Self>| Source::Listed(Rc::new(items.into()), 0);
        Ok(match self {
            Self::Undefined(_) => Source::default(),
            Self::Text(text) | Self::Safe(text) => {
                budget::read(text.len())?;
                budget::fits_items(text.chars().count())?;
                let mut buffer = [0; 4];
                listed(text.chars().map(|it| Self::text(it.encode_utf8(&mut buffer))).collect())
            }
            Self::List(items) | Self::Tuple(items) | Self::Group(items) => {
                Source::Listed(items.clone(), 0)
            }
            Self::Dict(dict) => listed(dict.keys()),
            Self::View(view, dict) => listed(dict.view(*view)),
            Self::Range(range) => listed(range.values().collect()),
            Self::Generator(generator) => Source::Generator(generator.clone()),
            _ => return Err(fault!("'{}' object is not iterable", self.type_name())),
        })
    }

    /// All items of the value.
    pub fn items(&self) -> Outcome<Vec<Self>> {
        let mut items = Vec::new();
        let mut source = self.source()?;
        while let Some(item) = source.next()? {
            budget::steps(1)?;
            items.push(item);
        }
        Ok(items)
    }
}
