//! Executes statements, with their scopes and within the budget.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::Purpose;
use super::arguments::Given;
use super::ast::{Block, Statement, Target, Template};
use super::budget;
use super::fault::{Outcome, refuse};
use super::value::{Closure, Dict, Function, Value};

/// Names that are looked through in a step.
const NAMES: usize = 16;

/// How a block ended.
#[derive(Clone, Copy, PartialEq)]
pub enum Flow {
    Onwards,
    Break,
    Continue,
}

/// Names with their values, in the block `outer`.
struct Scope<'t> {
    outer: Option<usize>,
    names: Vec<(&'t str, Value)>,
    /// Whether a macro keeps it.
    kept: bool,
}

/// A template being rendered.
pub struct Interpreter<'t> {
    pub template: &'t Template,
    pub purpose: Purpose,
    context: HashMap<String, Value>,
    scopes: Vec<Scope<'t>>,
    out: String,
    /// What loops were last asked about by `changed`.
    pub changed: Vec<Value>,
    /// All that hold values which can change, so that none keeps itself or a long chain of others.
    namespaces: Vec<Rc<RefCell<Dict>>>,
    depth: usize,
    max_depth: usize,
}

impl<'t> Interpreter<'t> {
    pub fn new(
        template: &'t Template,
        variables: impl IntoIterator<Item = (String, Value)>,
        purpose: Purpose,
        max_depth: usize,
    ) -> Self {
        let context = variables.into_iter().collect();
        let (scopes, changed, namespaces) = (Vec::new(), Vec::new(), Vec::new());
        let out = String::new();
        Self { template, purpose, context, scopes, out, changed, namespaces, depth: 0, max_depth }
    }

    pub fn run(mut self) -> Outcome<String> {
        let template = self.template;
        let ran = self.within(None, &template.body, |it, scope| {
            it.statements(&template.body.statements, scope)
        });
        self.namespaces.iter().for_each(|it| drop(it.take()));
        ran.map(|_| self.out)
    }

    /// Keeps a namespace up to the end.
    pub fn keep(&mut self, namespace: &Rc<RefCell<Dict>>) -> Outcome<()> {
        self.namespaces.push(namespace.clone());
        budget::hold(size_of::<Dict>())
    }

    /// Runs something one level deeper.
    pub fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        budget::steps(1)?;
        if self.depth == self.max_depth {
            budget::too_deep()?;
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    /// Runs something in a new scope, in which the block's own names hide the context's.
    pub fn within<T>(
        &mut self,
        outer: Option<usize>,
        block: &'t Block,
        run: impl FnOnce(&mut Self, usize) -> Outcome<T>,
    ) -> Outcome<T> {
        let hidden = block.hidden.get().map_or(&[][..], Vec::as_slice);
        budget::visit(hidden.len())?;
        let own = hidden.iter().map(|name| &**name);
        let hides =
            |name: &&str| self.context.contains_key(*name) || Function::named(name).is_some();
        let names = own.filter(hides).map(|name| (name, undefined_name(name))).collect();
        let scope = self.scopes.len();
        self.scopes.push(Scope { outer, names, kept: false });
        let result = run(self, scope);
        if self.scopes.len() == scope + 1 && !self.scopes[scope].kept {
            self.scopes.pop();
        } else {
            budget::hold(size_of::<Scope<'_>>())?;
        }
        result
    }

    /// What is written while something runs.
    pub fn captured<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<(String, T)> {
        let outer = std::mem::take(&mut self.out);
        let result = run(self);
        let text = std::mem::replace(&mut self.out, outer);
        Ok((text, result?))
    }

    /// Refuses what is undefined where it must not be used.
    pub fn used(&self, value: Value) -> Outcome<Value> {
        match &value {
            Value::Undefined(why) if self.purpose == Purpose::Question => refuse!("{why}"),
            _ => Ok(value),
        }
    }

    pub fn write(&mut self, value: &Value) -> Outcome<()> {
        match value.as_str() {
            Some(text) => self.write_text(text),
            None => self.write_text(&value.print()?),
        }
    }

    pub fn write_text(&mut self, text: &str) -> Outcome<()> {
        budget::grow(self.out.len(), text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    pub fn lookup(&self, name: &str, scope: usize) -> Outcome<Value> {
        let mut at = Some(scope);
        while let Some(scope) = at.map(|at| &self.scopes[at]) {
            budget::steps(scope.names.len() / NAMES)?;
            if let Some((_, value)) = scope.names.iter().find(|(it, _)| *it == name) {
                return Ok(value.clone());
            }
            at = scope.outer;
        }
        Ok(match (self.context.get(name), Function::named(name)) {
            (Some(value), _) => value.clone(),
            (None, Some(function)) => Value::Function(function),
            (None, None) => undefined_name(name),
        })
    }

    pub fn assign(&mut self, scope: usize, name: &'t str, value: Value) {
        let names = &mut self.scopes[scope].names;
        _ = budget::steps(names.len() / NAMES);
        match names.iter_mut().find(|(it, _)| *it == name) {
            Some((_, place)) => *place = value,
            None => {
                _ = budget::hold(size_of::<(&str, Value)>());
                names.push((name, value));
            }
        }
    }

    pub fn statements(&mut self, statements: &'t [Statement], scope: usize) -> Outcome<Flow> {
        for statement in statements {
            let flow = self.deeper(|it| it.statement(statement, scope))?;
            if flow != Flow::Onwards {
                return Ok(flow);
            }
        }
        Ok(Flow::Onwards)
    }

    fn statement(&mut self, statement: &'t Statement, scope: usize) -> Outcome<Flow> {
        match statement {
            Statement::Data(text) => self.write_text(text)?,
            Statement::Print(expression) => {
                let value = self.evaluate(expression, scope)?;
                let value = self.used(value)?;
                self.write(&value)?;
            }
            Statement::If(branches, otherwise) => {
                for (test, body) in branches {
                    if self.holds(test, scope)? {
                        return self.statements(body, scope);
                    }
                }
                return self.statements(otherwise, scope);
            }
            Statement::For(index) => {
                let items = self.evaluate(&self.template.loops[*index].items, scope)?;
                let items = self.used(items)?;
                return self.run_loop(*index, &items, scope, 0);
            }
            Statement::Macro(index) => {
                let closure = self.closure(*index, scope);
                if let Some(name) = &self.template.macros[*index].name {
                    self.assign(scope, name, closure);
                }
            }
            Statement::Set(target, expression) => {
                let value = self.evaluate(expression, scope)?;
                self.set(target, value, scope)?;
            }
            Statement::SetBlock(target, filter, block) => {
                let (text, flow) = self.captured(|it| it.block(block, scope))?;
                // What a loop's end cuts short is lost.
                if flow != Flow::Onwards {
                    return Ok(flow);
                }
                let value = match filter {
                    Some(filter) => self.filtered(filter, Value::text(text), scope)?,
                    None => Value::text(text),
                };
                self.set(target, value, scope)?;
            }
            Statement::With(assignments, block) => {
                let values = assignments.iter().map(|(_, value)| self.evaluate(value, scope));
                let values = values.collect::<Outcome<Vec<_>>>()?;
                return self.within(Some(scope), block, |it, inner| {
                    for ((target, _), value) in assignments.iter().zip(values) {
                        it.set(target, value, inner)?;
                    }
                    it.statements(&block.statements, inner)
                });
            }
            Statement::Filter(filter, block) => {
                let (text, flow) = self.captured(|it| it.block(block, scope))?;
                if flow != Flow::Onwards {
                    return Ok(flow);
                }
                let value = self.filtered(filter, Value::text(text), scope)?;
                self.write(&value)?;
            }
            Statement::Call(call, index) => {
                let caller = self.closure(*index, scope);
                let value = self.call_expression(call, scope, Some(caller))?;
                self.write(&value)?;
            }
            Statement::Generation(index) => {
                let closure = self.closure(*index, scope);
                let value = self.call(&closure, Given::default())?;
                self.write(&value)?;
            }
            // Nothing but what the whole template has can be seen there.
            Statement::Named(block) => return self.block(block, 0),
            Statement::Break => return Ok(Flow::Break),
            Statement::Continue => return Ok(Flow::Continue),
            Statement::Foreign(tag) => {
                refuse!("`{tag}` needs another template, and a chat template is alone")
            }
        }
        Ok(Flow::Onwards)
    }

    pub fn block(&mut self, block: &'t Block, scope: usize) -> Outcome<Flow> {
        self.within(Some(scope), block, |it, inner| it.statements(&block.statements, inner))
    }

    /// A macro that keeps the scopes around it.
    fn closure(&mut self, index: usize, scope: usize) -> Value {
        let mut at = Some(scope);
        while let Some(scope) = at.map(|at| &mut self.scopes[at]).filter(|it| !it.kept) {
            scope.kept = true;
            at = scope.outer;
        }
        let name = self.template.macros[index].name.as_deref().map(Rc::from);
        Value::Macro(Rc::new(Closure { index, name, scope }))
    }

    pub fn set(&mut self, target: &'t Target, value: Value, scope: usize) -> Outcome<()> {
        match target {
            Target::Name(name) => self.assign(scope, name, value),
            Target::Attribute(name, attribute) => match self.lookup(name, scope)? {
                Value::Namespace(dict) => {
                    dict.borrow_mut().insert(Value::text(attribute), value)?;
                }
                Value::Undefined(_) => refuse!("'{name}' is undefined"),
                _ => refuse!("cannot assign attribute on non-namespace object"),
            },
            Target::Tuple(targets) => {
                let values = value.items()?;
                if values.len() != targets.len() {
                    refuse!("expected {} values to unpack, found {}", targets.len(), values.len());
                }
                for (target, value) in targets.iter().zip(values) {
                    self.set(target, value, scope)?;
                }
            }
        }
        Ok(())
    }
}

pub fn undefined_name(name: &str) -> Value {
    Value::undefined(format!("'{name}' is undefined"))
}
