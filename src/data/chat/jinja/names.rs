//! Which names a block hides from its beginning, as jinja2's compiler decides it.
//!
//! A name that a block sets before reading it belongs to the block: code inside the block that runs before
//! the assignment finds nothing, though the context may have a value. A name that only some branches set is
//! looked up in the context in the other branches.

use std::collections::{HashMap, HashSet};

use super::ast::{Block, Expr, Macro, Statement, Target, Template};
use super::budget;
use super::walk::{names_of, names_of_block};

/// Fills in [`Block::hidden`] and [`Macro::reads`].
pub fn hide(template: &Template) {
    for it in &template.macros {
        let mut read = HashSet::new();
        names_of_block(&it.body, &template.loops, &template.macros, &mut read);
        let own = |name: &str| it.parameters.iter().any(|(it, _)| &**it == name);
        let reads = ["caller", "kwargs", "varargs"];
        it.reads.get_or_init(|| reads.map(|name| read.contains(name) && !own(name)));
    }
    Scope::default().block(&template.body, template);
}

/// About the bytes of a name in a scope.
const NAME: usize = 64;

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
        // Where the budget ends, the template is refused, whatever is found here.
        if budget::hold(NAME * (self.outer.len() + self.own.len())).is_err() {
            return Self::default();
        }
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
    fn analyze(&mut self, statements: &[Statement], template: &Template) {
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
                // What stands in a loop is not the scope's own, but what it goes through.
                Statement::For(index) => self.loads(&template.loops[*index].items),
                Statement::Macro(index) => {
                    if let Some(name) = &template.macros[*index].name {
                        self.store_name(name);
                    }
                }
                Statement::If(branches, otherwise) => {
                    self.branches(branches, otherwise, template);
                }
                _ => {}
            }
        }
    }

    fn branches(
        &mut self,
        branches: &[(Expr, Vec<Statement>)],
        otherwise: &[Statement],
        template: &Template,
    ) {
        let [(test, body), more @ ..] = branches else { return };
        let names = self.outer.len() + self.own.len() + self.stores.len();
        if budget::hold(4 * NAME * names).is_err() {
            return;
        }
        self.loads(test);
        let [mut first, mut middle, mut last] = [(); 3].map(|()| self.clone());
        first.analyze(body, template);
        more.iter().for_each(|branch| middle.branches(std::slice::from_ref(branch), &[], template));
        last.analyze(otherwise, template);
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

    /// Settles a block that has this scope, and those that stand in it.
    fn block(mut self, block: &Block, template: &Template) {
        self.analyze(&block.statements, template);
        block.hidden.get_or_init(|| self.hidden());
        self.inner(&block.statements, template);
    }

    fn inner(&self, statements: &[Statement], template: &Template) {
        for statement in statements {
            match statement {
                Statement::For(index) => {
                    let it = &template.loops[*index];
                    let mut scope = self.within();
                    scope.parameter("loop");
                    scope.declare(&it.target);
                    scope.block(&it.body, template);
                    if let Some(block) = &it.otherwise {
                        self.within().block(block, template);
                    }
                }
                Statement::Macro(index)
                | Statement::Generation(index)
                | Statement::Call(_, index) => {
                    let it = &template.macros[*index];
                    self.of_macro(it).block(&it.body, template);
                }
                Statement::If(branches, otherwise) => {
                    branches.iter().for_each(|(_, body)| self.inner(body, template));
                    self.inner(otherwise, template);
                }
                Statement::SetBlock(_, _, block) | Statement::Filter(_, block) => {
                    self.within().block(block, template);
                }
                Statement::With(assignments, block) => {
                    let mut scope = self.within();
                    assignments.iter().for_each(|(target, _)| scope.declare(target));
                    scope.block(block, template);
                }
                // Such a block sees the context alone.
                Statement::Named(block) => Self::default().block(block, template),
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
