//! Loops, and what they know of themselves.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::OnceLock;

use super::ast::{Block, For, Target};
use super::budget;
use super::fault::Outcome;
use super::interpreter::{Flow, Interpreter};
use super::value::{Items, Loop, Value};

impl Interpreter<'_> {
    /// Runs the body of a loop for every item, in the scope around the loop. A `break` in its
    /// `else` is one of the loop around it.
    pub fn run_loop(
        &mut self,
        index: usize,
        items: &Value,
        outer: usize,
        depth: usize,
    ) -> Outcome<Flow> {
        let For { target, test, recursive, body, otherwise, .. } = &self.template.loops[index];
        let length = items.length().ok().filter(|_| test.is_none());
        let test = test.as_ref().map(|_| (index, outer));
        let source = items.source()?;
        let nesting = items.nesting();
        budget::nest(1 + nesting);
        let state = Rc::new(Loop {
            recursive: recursive.then_some(index),
            outer,
            depth,
            index: Cell::new(0),
            items: RefCell::new(Items { source, ahead: VecDeque::new(), test }),
            length,
            previous: RefCell::default(),
            current: RefCell::default(),
            changed: Cell::default(),
            nesting,
        });
        let (mut count, mut completed) = (0, false);
        while let Some(item) = self.next_item(&state)? {
            state.index.set(count);
            count += 1;
            state.previous.replace(state.current.replace(Some(item.clone())));
            let flow = self.within(Some(outer), body, |it, scope| {
                it.assign(scope, "loop", Value::Loop(state.clone()));
                it.set(target, item, scope)?;
                it.statements(&body.statements, scope)
            })?;
            completed |= flow == Flow::Onwards;
            if flow == Flow::Break {
                break;
            }
        }
        // As jinja2 compiles it: what `break` or `continue` leaves early does not count.
        match otherwise {
            Some(block) if !completed => self.block(block, outer),
            _ => Ok(Flow::Onwards),
        }
    }

    fn next_item(&mut self, state: &Loop) -> Outcome<Option<Value>> {
        let ahead = state.items.borrow_mut().ahead.pop_front();
        if ahead.is_some() { Ok(ahead) } else { self.pull(state) }
    }

    /// The next item that passes the loop's test.
    pub fn pull(&mut self, state: &Loop) -> Outcome<Option<Value>> {
        loop {
            budget::steps(1)?;
            let (item, test) = {
                let mut items = state.items.borrow_mut();
                (items.source.next()?, items.test)
            };
            let (Some(item), Some((index, outer))) = (&item, test) else { return Ok(item) };
            let it = &self.template.loops[index];
            let Some(test) = &it.test else { return Ok(Some(item.clone())) };
            let passed = self.within(Some(outer), &NO_BLOCK, |this, scope| {
                this.set(&it.target, item.clone(), scope)?;
                let passes = this.evaluate(test, scope)?.is_true();
                passes.then(|| this.value_of(&it.target, item, scope)).transpose()
            })?;
            if passed.is_some() {
                return Ok(passed);
            }
        }
    }

    /// An item as its names have it: what was unpacked is a tuple.
    fn value_of(&self, target: &Target, item: &Value, scope: usize) -> Outcome<Value> {
        Ok(match target {
            Target::Name(name) => self.lookup(name, scope)?,
            Target::Tuple(targets) => {
                let values = targets.iter().map(|it| self.value_of(it, item, scope));
                Value::tuple(values.collect::<Outcome<_>>()?)
            }
            Target::Attribute(..) => item.clone(),
        })
    }

    /// `loop.name`.
    pub fn loop_attribute(
        &mut self,
        state: &Rc<Loop>,
        value: &Value,
        name: &str,
    ) -> Outcome<Option<Value>> {
        let index = state.index.get();
        let count = |number: usize| Some(Value::Int(number as i128));
        Ok(match name {
            "index0" => count(index),
            "index" => count(index + 1),
            "length" => count(self.loop_length(state)?),
            "revindex0" => count(self.loop_length(state)?.saturating_sub(index + 1)),
            "revindex" => count(self.loop_length(state)?.saturating_sub(index)),
            "first" => Some(Value::Bool(index == 0)),
            "last" => Some(Value::Bool(self.look_ahead(state)?.is_none())),
            "depth0" => count(state.depth),
            "depth" => count(state.depth + 1),
            "previtem" if index == 0 => Some(Value::undefined("there is no previous item")),
            "previtem" => state.previous.borrow().clone(),
            "nextitem" => {
                let next = self.look_ahead(state)?;
                Some(next.unwrap_or_else(|| Value::undefined("there is no next item")))
            }
            "cycle" | "changed" => Some(Value::Method(Rc::new((value.clone(), name.into())))),
            _ => None,
        })
    }

    fn loop_length(&mut self, state: &Loop) -> Outcome<usize> {
        if let Some(length) = state.length {
            return Ok(length);
        }
        while let Some(item) = self.pull(state)? {
            state.items.borrow_mut().ahead.push_back(item);
        }
        Ok(state.items.borrow().ahead.len() + state.index.get() + 1)
    }

    fn look_ahead(&mut self, state: &Loop) -> Outcome<Option<Value>> {
        let ahead = state.items.borrow().ahead.front().cloned();
        if ahead.is_some() {
            return Ok(ahead);
        }
        let next = self.pull(state)?;
        state.items.borrow_mut().ahead.extend(next.clone());
        Ok(next)
    }
}

/// A block that hides nothing.
static NO_BLOCK: Block = Block { statements: Vec::new(), hidden: OnceLock::new() };
