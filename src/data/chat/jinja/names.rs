//! Which names a block hides from its beginning, as jinja2's compiler decides it.
//!
//! A name that a block sets before it reads it is the block's own: what stands inside, and runs
//! before, finds nothing, though the context may have a value. A name that only some branches set
//! is looked up in the context where they do not.

use std::collections::{HashMap, HashSet};

use super::ast::{Expr, For, Macro, Statement, Target, Template};
use super::walk::{names_of, names_of_block};

/// Fills in [`super::ast::Block::hidden`] and [`Macro::reads`].
pub fn hide(template: &mut Template) {
    let mut body = std::mem::take(&mut template.body);
    let mut loops = std::mem::take(&mut template.loops);
    let mut macros = std::mem::take(&mut template.macros);
    for index in 0..macros.len() {
        let mut read = HashSet::new();
        names_of_block(&macros[index].body, &loops, &macros, &mut read);
        let parameters = &macros[index].parameters;
        let own = |name: &str| parameters.iter().any(|(it, _)| &**it == name);
        macros[index].reads =
            ["caller", "kwargs", "varargs"].map(|name| read.contains(name) && !own(name));
    }
    // Blocks in the order in which they stand in each other, outer before inner.
    let mut work = vec![(Place::Body, Scope::default())];
    while let Some((place, mut scope)) = work.pop() {
        let block = match place {
            Place::Body => &body,
            Place::Loop(index) => &loops[index].body,
            Place::Otherwise(index) => match &loops[index].otherwise {
                Some(block) => block,
                None => continue,
            },
            Place::Macro(index) => &macros[index].body,
        };
        scope.analyze(&block.statements);
        let hidden = scope.hidden();
        scope.inner(&block.statements, &loops, &macros, &mut work);
        let block = match place {
            Place::Body => &mut body,
            Place::Loop(index) => &mut loops[index].body,
            Place::Otherwise(index) => match &mut loops[index].otherwise {
                Some(block) => block,
                None => continue,
            },
            Place::Macro(index) => &mut macros[index].body,
        };
        block.hidden = hidden;
    }
    *template = Template { body, loops, macros };
}

#[derive(Clone, Copy)]
enum Place {
    Body,
    Loop(usize),
    Otherwise(usize),
    Macro(usize),
}

/// How a scope comes to a name's first value.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    /// From the context, an outer scope or a parameter.
    Given,
    /// Not at all: it is set here first.
    Nothing,
}

#[derive(Clone, Default)]
struct Scope {
    outer: HashSet<String>,
    own: HashMap<String, Load>,
    stores: HashSet<String>,
}

impl Scope {
    fn within(&self) -> Self {
        let outer = self.outer.iter().chain(self.own.keys()).cloned().collect();
        Self { outer, ..Self::default() }
    }

    fn declare(&mut self, target: &Target) {
        match target {
            Target::Name(name) => self.parameter(name),
            Target::Tuple(targets) => targets.iter().for_each(|it| self.declare(it)),
            Target::Attribute(..) => {}
        }
    }

    fn parameter(&mut self, name: &str) {
        self.own.insert(name.to_owned(), Load::Given);
        self.stores.insert(name.to_owned());
    }

    fn load(&mut self, name: &str) {
        if !self.outer.contains(name) {
            self.own.entry(name.to_owned()).or_insert(Load::Given);
        }
    }

    fn loads(&mut self, expression: &Expr) {
        names_of(expression, &mut |name| self.load(name));
    }

    fn store(&mut self, target: &Target) {
        match target {
            Target::Name(name) => self.store_name(name),
            Target::Tuple(targets) => targets.iter().for_each(|it| self.store(it)),
            Target::Attribute(namespace, _) => self.load(namespace),
        }
    }

    fn store_name(&mut self, name: &str) {
        self.stores.insert(name.to_owned());
        let outer = self.outer.contains(name);
        let load = if outer { Load::Given } else { Load::Nothing };
        self.own.entry(name.to_owned()).or_insert(load);
    }

    /// Reads and writes of the scope itself, in their order.
    fn analyze(&mut self, statements: &[Statement]) {
        for statement in statements {
            match statement {
                Statement::Print(value) => self.loads(value),
                Statement::Set(target, value) => {
                    self.loads(value);
                    self.store(target);
                }
                Statement::SetBlock(target, ..) => self.store(target),
                Statement::With(assignments, _) => {
                    assignments.iter().for_each(|(_, value)| self.loads(value));
                }
                Statement::Filter(value, _) | Statement::Call(value, _) => self.loads(value),
                Statement::If(branches, otherwise) => self.branches(branches, otherwise),
                _ => {}
            }
        }
    }

    fn branches(&mut self, branches: &[(Expr, Vec<Statement>)], otherwise: &[Statement]) {
        let [(test, body), more @ ..] = branches else { return };
        self.loads(test);
        let [mut first, mut middle, mut last] = [(); 3].map(|()| self.clone());
        first.analyze(body);
        more.iter().for_each(|branch| middle.branches(std::slice::from_ref(branch), &[]));
        last.analyze(otherwise);
        let before = self.stores.clone();
        for branch in [first, middle, last] {
            self.own.extend(branch.own);
            self.stores.extend(branch.stores);
        }
        for name in self.stores.difference(&before) {
            self.own.insert(name.clone(), Load::Given);
        }
    }

    fn hidden(&self) -> Vec<Box<str>> {
        let hidden = self.own.iter().filter(|(_, load)| **load == Load::Nothing);
        hidden.map(|(name, _)| name.as_str().into()).collect()
    }

    /// The scopes that stand in this one.
    fn inner(
        &self,
        statements: &[Statement],
        loops: &[For],
        macros: &[Macro],
        work: &mut Vec<(Place, Self)>,
    ) {
        for statement in statements {
            match statement {
                Statement::For(index) => {
                    let mut scope = self.within();
                    scope.parameter("loop");
                    scope.declare(&loops[*index].target);
                    work.push((Place::Loop(*index), scope));
                    work.push((Place::Otherwise(*index), self.within()));
                }
                Statement::Macro(index) | Statement::Generation(index) => {
                    work.push((Place::Macro(*index), self.of_macro(&macros[*index])));
                }
                Statement::Call(_, index) => {
                    work.push((Place::Macro(*index), self.of_macro(&macros[*index])));
                }
                Statement::If(branches, otherwise) => {
                    for (_, body) in branches {
                        self.inner(body, loops, macros, work);
                    }
                    self.inner(otherwise, loops, macros, work);
                }
                Statement::SetBlock(_, _, block)
                | Statement::With(_, block)
                | Statement::Filter(_, block)
                | Statement::Named(block) => {
                    // Nobody sets a name there that something inside reads before.
                    let mut scope = self.within();
                    scope.analyze(&block.statements);
                    scope.inner(&block.statements, loops, macros, work);
                }
                _ => {}
            }
        }
    }

    fn of_macro(&self, definition: &Macro) -> Self {
        let mut scope = self.within();
        for (name, _) in &definition.parameters {
            scope.parameter(name);
        }
        ["caller", "kwargs", "varargs"].iter().for_each(|name| scope.parameter(name));
        scope
    }
}
