//! Jinja as `transformers` runs it: jinja2's syntax, Python's values.
//!
//! A template is [read](parse) once into a tree, and [rendered](render) by walking it. It has what
//! `apply_chat_template` gives one: `trim_blocks` and `lstrip_blocks`, `break` and `continue`, the
//! marks `generation`, `raise_exception`, `strftime_now`, `tojson` without HTML, and a sandbox in
//! which nothing can be changed. It reads no files and includes nothing; steps, depth and the
//! length of texts are bounded. What Python could and this does not is refused by name.
//!
//! Why not a crate: what a template prints is what Python prints. `minijinja` has operators,
//! attributes and printing of its own, which no callback reaches (`'%s' % x`, `'a' ~ none`,
//! `tool.items` of a dictionary with such a key, errors where Python has them).

mod arguments;
mod ast;
mod attributes;
mod braces;
mod call;
mod checks;
mod compare;
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
mod sort;
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
pub use parser::parse;
pub use unicode::is_space;
pub use value::Value;
pub use walk::reads;

/// The text of a template with variables, at a moment.
///
/// # Errors
/// What the template refuses, or cannot do.
pub fn render(
    template: &Template,
    variables: impl IntoIterator<Item = (String, Value)>,
    moment: NaiveDateTime,
) -> Result<String, Fault> {
    interpreter::Interpreter::new(template, variables, moment).run()
}

#[cfg(test)]
mod tests;
