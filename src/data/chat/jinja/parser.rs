//! Tokens → a template, as jinja2's parser reads statements.

use std::sync::OnceLock;

use super::ast::{Block, Expr, For, Macro, Statement, Template};
use super::budget;
use super::fault::{Fault, Outcome, refuse};
use super::lexer::{Token, tokens};
use super::targets::binds;
use super::{names, walk};

/// Statements and expressions within each other.
const MAX_DEPTH: usize = 100;
/// Attributes, calls, filters and the like behind one another.
const MAX_TRAILERS: usize = 200;
/// The bytes of a template.
const MAX_SOURCE: usize = 1 << 20;

pub(super) struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
    /// Trailers of what is being read, or the most within it.
    trailers: usize,
    template: Template,
    /// Whether `break` and `continue` have a loop to stand in.
    in_loop: bool,
}

/// Reads a template.
pub fn parse(source: &str) -> Outcome<Template> {
    if source.len() > MAX_SOURCE {
        refuse!("it is longer than {MAX_SOURCE} bytes");
    }
    let tokens = tokens(source)?;
    let template = Template::default();
    let mut parser = Parser { tokens, at: 0, depth: 0, trailers: 0, template, in_loop: false };
    let statements = parser.statements_until(&[])?;
    parser.template.body = Block { statements, ..Block::default() };
    walk::check(&parser.template)?;
    names::hide(&parser.template);
    budget::check()?;
    Ok(parser.template)
}

impl Parser {
    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].0
    }

    pub(super) fn peek_second(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].0
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    pub(super) fn fail<T>(&self, message: &str) -> Outcome<T> {
        let line = self.tokens[self.at.min(self.tokens.len() - 1)].1;
        Err(Fault::at(line, message))
    }

    pub(super) fn unexpected<T>(&self, expected: &str) -> Outcome<T> {
        self.fail(&format!("expected {expected}, found {}", describe(self.peek())))
    }

    pub(super) fn is_op(&self, operator: &str) -> bool {
        matches!(self.peek(), Token::Op(it) if *it == operator)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(it) if it == name)
    }

    pub(super) fn skip_op(&mut self, operator: &str) -> bool {
        let found = self.is_op(operator);
        self.at += usize::from(found);
        found
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_op(&mut self, operator: &str) -> Outcome<()> {
        if self.skip_op(operator) { Ok(()) } else { self.unexpected(&format!("`{operator}`")) }
    }

    pub(super) fn expect_name(&mut self) -> Outcome<Box<str>> {
        match self.peek().clone() {
            Token::Name(name) => {
                self.at += 1;
                Ok(name.into())
            }
            _ => self.unexpected("a name"),
        }
    }

    fn expect(&mut self, token: Token) -> Outcome<()> {
        if *self.peek() == token {
            self.at += 1;
            Ok(())
        } else {
            self.unexpected(describe(&token).as_str())
        }
    }

    /// Runs `read` one level deeper.
    pub(super) fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("too many expressions or blocks within each other");
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Runs `read` where what it reads is no part of the trailers read so far.
    pub(super) fn apart<T>(&mut self, read: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        let before = std::mem::take(&mut self.trailers);
        let result = read(self);
        self.trailers = self.trailers.max(before);
        result
    }

    /// Counts what stands behind an expression and holds it.
    pub(super) fn trailer(&mut self) -> Outcome<()> {
        self.trailers += 1;
        if self.trailers > MAX_TRAILERS {
            return self.fail("too many attributes, calls or filters behind each other");
        }
        Ok(())
    }

    /// Statements up to a tag that begins with one of `ends`, its name not taken; up to the end of
    /// the template without any.
    fn statements_until(&mut self, ends: &[&str]) -> Outcome<Vec<Statement>> {
        let mut statements = Vec::new();
        loop {
            match self.next() {
                Token::Data(text) => statements.push(Statement::Data(text.into())),
                Token::VariableBegin => {
                    statements.push(Statement::Print(self.tuple(true, &[], false)?));
                    self.expect(Token::VariableEnd)?;
                }
                Token::BlockBegin => {
                    if ends.iter().any(|end| self.is_name(end)) {
                        return Ok(statements);
                    }
                    let statement = self.deeper(|it| it.statement(&mut statements, ends))?;
                    statements.extend(statement);
                    self.expect(Token::BlockEnd)?;
                }
                _ if ends.is_empty() => return Ok(statements),
                _ => {
                    return self.fail(&format!("the template ends before `{}`", ends.join("`, `")));
                }
            }
        }
    }

    /// What stands between two tags; the name of the second is not taken.
    fn body(&mut self, ends: &[&str]) -> Outcome<Vec<Statement>> {
        self.skip_op(":");
        self.expect(Token::BlockEnd)?;
        self.statements_until(ends)
    }

    /// What stands before the tag `end`, which is taken.
    fn block(&mut self, end: &str) -> Outcome<Block> {
        let statements = self.body(&[end])?;
        self.at += 1;
        Ok(Block { statements, ..Block::default() })
    }

    fn statement(
        &mut self,
        before: &mut Vec<Statement>,
        ends: &[&str],
    ) -> Outcome<Option<Statement>> {
        let Token::Name(tag) = self.peek().clone() else {
            return self.unexpected("the name of a tag");
        };
        self.at += 1;
        Ok(Some(match tag.as_str() {
            "for" => self.for_loop()?,
            "if" => self.condition()?,
            "set" => self.set()?,
            "macro" => {
                let name = self.expect_name()?;
                let parameters = self.parameters()?;
                Statement::Macro(self.macro_body(Some(name), parameters, "endmacro")?)
            }
            "call" => {
                let parameters = if self.is_op("(") { self.parameters()? } else { Vec::new() };
                let call = self.expression()?;
                if !matches!(call, Expr::Call(..)) {
                    return self.fail("expected a call after `call`");
                }
                Statement::Call(call, self.macro_body(None, parameters, "endcall")?)
            }
            "generation" => {
                Statement::Generation(self.macro_body(None, Vec::new(), "endgeneration")?)
            }
            "filter" => {
                let filter = self.filters(None, true)?;
                Statement::Filter(filter, self.block("endfilter")?)
            }
            "with" => self.with()?,
            "print" => {
                while *self.peek() != Token::BlockEnd {
                    let expression = self.expression()?;
                    before.push(Statement::Print(expression));
                    if *self.peek() != Token::BlockEnd {
                        self.expect_op(",")?;
                    }
                }
                return Ok(None);
            }
            "break" | "continue" if !self.in_loop => {
                return self.fail(&format!("`{tag}` stands in no loop"));
            }
            "break" => Statement::Break,
            "continue" => Statement::Continue,
            "block" => self.named()?,
            "autoescape" => {
                let enabled = self.expression()?;
                if !matches!(enabled, Expr::Literal(super::ast::Literal::Bool(false))) {
                    return self.fail("`autoescape` is not supported; a prompt is no HTML");
                }
                Statement::With(Vec::new(), self.block("endautoescape")?)
            }
            "include" | "import" | "from" | "extends" => {
                while *self.peek() != Token::BlockEnd && *self.peek() != Token::End {
                    self.at += 1;
                }
                Statement::Foreign(match tag.as_str() {
                    "include" => "include",
                    "extends" => "extends",
                    _ => "import",
                })
            }
            _ => {
                let expected = if ends.is_empty() {
                    String::new()
                } else {
                    format!("; expected `{}` first", ends.join("` or `"))
                };
                return self.fail(&format!("unknown tag `{tag}`{expected}"));
            }
        }))
    }

    fn for_loop(&mut self) -> Outcome<Statement> {
        let target = self.target(&["in"], false)?;
        if binds(&target, "loop") {
            return self.fail("a loop cannot assign to `loop`");
        }
        if !self.skip_name("in") {
            return self.unexpected("`in`");
        }
        let items = self.tuple(false, &["recursive"], false)?;
        let test = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        let outer = std::mem::replace(&mut self.in_loop, true);
        let statements = self.body(&["endfor", "else"])?;
        self.in_loop = outer;
        let body = Block { statements, ..Block::default() };
        let otherwise = if self.next() == Token::Name("else".into()) {
            Some(self.block("endfor")?)
        } else {
            None
        };
        self.template.loops.push(For { target, items, test, recursive, body, otherwise });
        Ok(Statement::For(self.template.loops.len() - 1))
    }

    fn condition(&mut self) -> Outcome<Statement> {
        let mut branches = Vec::new();
        loop {
            let test = self.tuple(false, &[], false)?;
            let body = self.body(&["elif", "else", "endif"])?;
            branches.push((test, body));
            if self.skip_name("elif") {
                continue;
            }
            let otherwise =
                if self.skip_name("else") { self.body(&["endif"])? } else { Vec::new() };
            self.at += 1;
            return Ok(Statement::If(branches, otherwise));
        }
    }

    fn set(&mut self) -> Outcome<Statement> {
        let target = self.target(&[], true)?;
        if self.skip_op("=") {
            return Ok(Statement::Set(target, self.tuple(true, &[], false)?));
        }
        let filter = if self.is_op("|") { Some(self.filters(None, false)?) } else { None };
        Ok(Statement::SetBlock(target, filter, self.block("endset")?))
    }

    fn with(&mut self) -> Outcome<Statement> {
        let mut assignments = Vec::new();
        while *self.peek() != Token::BlockEnd {
            if !assignments.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.target(&[], false)?;
            self.expect_op("=")?;
            assignments.push((target, self.expression()?));
        }
        Ok(Statement::With(assignments, self.block("endwith")?))
    }

    fn named(&mut self) -> Outcome<Statement> {
        let name = self.expect_name()?;
        let _scoped = self.skip_name("scoped");
        if self.skip_name("required") {
            return self.fail("a required block needs another template, and there is none");
        }
        let outer = std::mem::replace(&mut self.in_loop, false);
        let block = self.block("endblock")?;
        self.in_loop = outer;
        self.skip_name(&name);
        Ok(Statement::Named(block))
    }

    fn parameters(&mut self) -> Outcome<Vec<(Box<str>, Option<Expr>)>> {
        let mut parameters: Vec<(Box<str>, Option<Expr>)> = Vec::new();
        self.expect_op("(")?;
        while !self.is_op(")") {
            if !parameters.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.expect_name()?;
            let default = if self.skip_op("=") { Some(self.expression()?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, it)| it.is_some()) {
                return self.fail("a parameter without a default follows one that has one");
            }
            parameters.push((name, default));
        }
        self.expect_op(")")?;
        Ok(parameters)
    }

    fn macro_body(
        &mut self,
        name: Option<Box<str>>,
        parameters: Vec<(Box<str>, Option<Expr>)>,
        end: &str,
    ) -> Outcome<usize> {
        let outer = std::mem::replace(&mut self.in_loop, false);
        let body = self.block(end)?;
        self.in_loop = outer;
        self.template.macros.push(Macro { name, parameters, body, reads: OnceLock::new() });
        Ok(self.template.macros.len() - 1)
    }
}

pub(super) fn describe(token: &Token) -> String {
    match token {
        Token::Data(_) => "text".to_owned(),
        Token::VariableBegin => "`{{`".to_owned(),
        Token::VariableEnd => "`}}`".to_owned(),
        Token::BlockBegin => "`{%`".to_owned(),
        Token::BlockEnd => "`%}`".to_owned(),
        Token::Name(name) => format!("`{name}`"),
        Token::Text(_) => "a string".to_owned(),
        Token::Int(_) | Token::Float(_) => "a number".to_owned(),
        Token::Op(operator) => format!("`{operator}`"),
        Token::End => "the end of the template".to_owned(),
    }
}
