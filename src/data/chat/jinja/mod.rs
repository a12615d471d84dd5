//! Jinja as `transformers` runs it: jinja2's syntax, Python's values.
//!
//! A template is [read](parse) once into a tree, and [rendered](render) by walking the tree. The language is
//! that of `apply_chat_template`: `trim_blocks` and `lstrip_blocks`, `break` and `continue`, the marks
//! `generation`, `raise_exception`, `strftime_now`, `tojson` without HTML, and a sandbox in which nothing can
//! be changed. A template reads no files and includes nothing; steps, memory, depth and the length of texts
//! are [bounded](budget). A Python feature that is missing here is refused by name.
//!
//! Why not a crate: a template prints what Python prints. `minijinja` has operators, attributes and printing
//! of its own, which no callback reaches (`'%s' % x`, `'a' ~ none`, `tool.items` of a dictionary with such a
//! key, errors where Python has them), and joins lists without asking its fuel. The same interpreter renders
//! the questions of judges.

mod arguments;
mod ast;
mod attributes;
mod braces;
mod budget;
mod call;
mod checks;
mod compare;
mod cursor;
mod dict;
mod escapes;
mod evaluate;
mod expressions;
mod fault;
mod figures;
mod filters;
mod interpreter;
mod json;
mod lexer;
mod lists;
mod loops;
mod names;
mod numbers;
mod operators;
mod parser;
mod percent;
mod print;
mod search;
mod sequence;
mod sort;
mod source;
mod stack;
mod strings;
mod targets;
mod texts;
mod time;
mod trailers;
mod unicode;
mod value;
mod walk;

use chrono::NaiveDateTime;

pub use ast::Template;
pub use fault::Fault;
pub use unicode::is_space;
pub use value::Value;
pub use walk::reads;

/// Statements and expressions that may wait for one another on the stack of whoever renders, and
/// on one of their own.
const MAX_DEPTHS: [usize; 2] = [80, 400];
/// The bytes of a stack that has room for the most, and for what nests in a template.
const STACK: usize = 64 << 20;

/// What a template is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    /// Conversations, at the moment that `strftime_now` takes for now.
    Chat(NaiveDateTime),
    /// Questions: what is undefined can be asked about, and not be used.
    Question,
}

/// Reads a template of conversations.
///
/// # Errors
/// What is wrong with it, and in which line.
pub fn parse(source: &str) -> Result<Template, Fault> {
    on_own_stack(|| parser::parse(source, true))
}

/// Reads a template of questions: blocks take no line's end and no blanks with them.
///
/// # Errors
/// As [`parse`].
pub fn parse_question(source: &str) -> Result<Template, Fault> {
    on_own_stack(|| parser::parse(source, false))
}

/// The text of a template with variables.
///
/// # Errors
/// What the template refuses, or cannot do.
pub fn render(
    template: &Template,
    variables: impl Fn() -> Vec<(String, Value)> + Sync,
    purpose: Purpose,
) -> Result<String, Fault> {
    let [shallow, deep] = MAX_DEPTHS;
    let run = |depth| interpreter::Interpreter::new(template, variables(), purpose, depth).run();
    let result = budget::run(|| run(shallow));
    // A rendering changes nothing, so that it can begin again where there is more room.
    if budget::was_too_deep() { on_own_stack(|| run(deep)) } else { result }
}

/// Runs something within a budget, on a stack that is large enough.
fn on_own_stack<T: Send>(run: impl FnOnce() -> Result<T, Fault> + Send) -> Result<T, Fault> {
    stack::run(STACK, || budget::run(run)).unwrap_or_else(|error| {
        Err(Fault::new(format!("no thread could be started for it: {error}")))
    })
}

#[cfg(test)]
mod tests;
