//! Walks over a template's expressions.

use std::collections::HashSet;

use super::ast::{Arguments, Block, Expr, For, Macro, Statement, Template};
use super::fault::{Outcome, fault, refuse};
use super::{checks, filters};

/// Refuses what jinja2's compiler refuses before anything runs: filters and tests that are not,
/// unless a condition guards them, and a macro that reads its parameter `caller`.
pub fn check(template: &Template) -> Outcome<()> {
    if reads(template, "self") {
        refuse!("`self` is not supported; a chat template has no blocks to call");
    }
    for it in &template.macros {
        let caller = it.parameters.iter().any(|(name, it)| &**name == "caller" && it.is_none());
        let mut read = HashSet::new();
        names_of_block(&it.body, &template.loops, &template.macros, &mut read);
        if caller && read.contains("caller") {
            refuse!("the parameter `caller` of a macro must be omitted or have a default");
        }
    }
    let mut found = None;
    let mut check = |it: &Expr, soft: bool| match it {
        Expr::Filter(_, name, _) if !soft && !filters::exists(name) => {
            found.get_or_insert_with(|| fault!("No filter named '{name}'."));
        }
        Expr::Test(_, name, _) if !soft && !checks::exists(name) => {
            found.get_or_insert_with(|| fault!("No test named '{name}'."));
        }
        _ => {}
    };
    expressions(&template.body.statements, template, false, &mut check);
    for it in &template.loops {
        it.test.iter().for_each(|test| each(test, false, &mut check));
        expressions(&it.body.statements, template, false, &mut check);
        if let Some(block) = &it.otherwise {
            expressions(&block.statements, template, false, &mut check);
        }
    }
    for it in &template.macros {
        let defaults = it.parameters.iter().filter_map(|(_, default)| default.as_ref());
        defaults.for_each(|default| each(default, false, &mut check));
        expressions(&it.body.statements, template, false, &mut check);
    }
    found.map_or(Ok(()), Err)
}

/// The expressions of statements, but of loops' and macros' bodies, and whether they stand in a
/// condition.
fn expressions(
    statements: &[Statement],
    template: &Template,
    soft: bool,
    found: &mut dyn FnMut(&Expr, bool),
) {
    let block = |it: &Block, found: &mut dyn FnMut(&Expr, bool)| {
        expressions(&it.statements, template, false, found);
    };
    for statement in statements {
        match statement {
            Statement::Print(value) | Statement::Set(_, value) | Statement::Call(value, _) => {
                each(value, soft, found);
            }
            Statement::If(branches, otherwise) => {
                for (test, body) in branches {
                    each(test, true, found);
                    expressions(body, template, true, found);
                }
                expressions(otherwise, template, true, found);
            }
            Statement::For(index) => each(&template.loops[*index].items, soft, found),
            Statement::SetBlock(_, filter, body) => {
                filter.iter().for_each(|it| each(it, false, found));
                block(body, found);
            }
            Statement::With(assignments, body) => {
                assignments.iter().for_each(|(_, value)| each(value, soft, found));
                block(body, found);
            }
            Statement::Filter(filter, body) => {
                each(filter, false, found);
                block(body, found);
            }
            Statement::Named(body) => block(body, found),
            _ => {}
        }
    }
}

/// All names that a block and what stands in it read.
pub fn names_of_block(block: &Block, loops: &[For], macros: &[Macro], found: &mut HashSet<String>) {
    fn statements(
        list: &[Statement],
        loops: &[For],
        macros: &[Macro],
        found: &mut HashSet<String>,
    ) {
        for statement in list {
            let mut read = |value: &Expr| {
                names_of(value, &mut |name| {
                    found.insert(name.to_owned());
                });
            };
            match statement {
                Statement::Print(value) | Statement::Set(_, value) => read(value),
                Statement::If(branches, _) => branches.iter().for_each(|(test, _)| read(test)),
                Statement::For(index) => {
                    read(&loops[*index].items);
                    loops[*index].test.iter().for_each(read);
                }
                Statement::SetBlock(_, filter, _) => filter.iter().for_each(read),
                Statement::With(assignments, _) => assignments.iter().for_each(|(_, it)| read(it)),
                Statement::Filter(value, _) | Statement::Call(value, _) => read(value),
                _ => {}
            }
            match statement {
                Statement::If(branches, otherwise) => {
                    branches.iter().for_each(|(_, body)| statements(body, loops, macros, found));
                    statements(otherwise, loops, macros, found);
                }
                Statement::For(index) => {
                    let it = &loops[*index];
                    statements(&it.body.statements, loops, macros, found);
                    if let Some(block) = &it.otherwise {
                        statements(&block.statements, loops, macros, found);
                    }
                }
                Statement::Macro(index)
                | Statement::Generation(index)
                | Statement::Call(_, index) => {
                    let it = &macros[*index];
                    statements(&it.body.statements, loops, macros, found);
                }
                Statement::SetBlock(_, _, block)
                | Statement::With(_, block)
                | Statement::Filter(_, block) => {
                    statements(&block.statements, loops, macros, found);
                }
                _ => {}
            }
        }
    }
    statements(&block.statements, loops, macros, found);
}

/// Whether a template reads a name anywhere.
pub fn reads(template: &Template, name: &str) -> bool {
    let mut found = HashSet::new();
    names_of_block(&template.body, &template.loops, &template.macros, &mut found);
    for it in &template.macros {
        for (_, default) in &it.parameters {
            default.iter().for_each(|value| {
                names_of(value, &mut |name| {
                    found.insert(name.to_owned());
                });
            });
        }
    }
    found.contains(name)
}

/// The names that an expression reads.
pub fn names_of(expression: &Expr, found: &mut dyn FnMut(&str)) {
    each(expression, false, &mut |it, _| {
        if let Expr::Name(name) = it {
            found(name);
        }
    });
}

/// Calls `found` with an expression and all within it, and whether they stand in a condition.
fn each(expression: &Expr, soft: bool, found: &mut dyn FnMut(&Expr, bool)) {
    found(expression, soft);
    let arguments = |it: &Arguments, found: &mut dyn FnMut(&Expr, bool)| {
        it.positional.iter().for_each(|value| each(value, soft, found));
        it.keywords.iter().for_each(|(_, value)| each(value, soft, found));
        it.rest.iter().chain(&it.keyword_rest).for_each(|value| each(value, soft, found));
    };
    match expression {
        Expr::Literal(_) | Expr::Name(_) => {}
        Expr::List(items)
        | Expr::Tuple(items)
        | Expr::Concat(items)
        | Expr::And(items)
        | Expr::Or(items) => items.iter().for_each(|it| each(it, soft, found)),
        Expr::Dict(items) => items.iter().for_each(|(key, value)| {
            each(key, soft, found);
            each(value, soft, found);
        }),
        Expr::Chain(first, rest) => {
            each(first, soft, found);
            rest.iter().for_each(|(_, it)| each(it, soft, found));
        }
        Expr::Compare(first, rest) => {
            each(first, soft, found);
            rest.iter().for_each(|(_, it)| each(it, soft, found));
        }
        Expr::Negative(it) | Expr::Positive(it) | Expr::Not(it) | Expr::Attribute(it, _) => {
            each(it, soft, found);
        }
        Expr::Condition(it) => {
            let (test, value, other) = &**it;
            [test, value].into_iter().chain(other).for_each(|it| each(it, true, found));
        }
        Expr::Item(it) => {
            each(&it.0, soft, found);
            each(&it.1, soft, found);
        }
        Expr::Slice(it) => {
            let (value, bounds) = &**it;
            let bounds = bounds.iter().flatten();
            std::iter::once(value).chain(bounds).for_each(|it| each(it, soft, found));
        }
        Expr::Call(callee, given) => {
            each(callee, soft, found);
            arguments(given, found);
        }
        Expr::Filter(value, _, given) => {
            value.iter().for_each(|it| each(it, soft, found));
            arguments(given, found);
        }
        Expr::Test(value, _, given) => {
            each(value, soft, found);
            arguments(given, found);
        }
    }
}
