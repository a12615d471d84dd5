//! Iteration over ranges, generators and lists.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::budget;
use super::fault::{Fault, Outcome};
use super::sequence::{Sequence, nesting_of};
use super::value::Value;

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

/// What is gone once it was read.
#[derive(Debug)]
pub struct Generator {
    items: RefCell<VecDeque<Value>>,
    /// What went wrong after the last of them.
    fault: RefCell<Option<Fault>>,
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

impl Value {
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
}
