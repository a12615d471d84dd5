//! A cursor over the tokens that a parser reads one after the other.

use super::fault::{Fault, Outcome};
use super::lexer::Token;
use super::parser::Parser;

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

    pub(super) fn expect(&mut self, token: Token) -> Outcome<()> {
        if *self.peek() == token {
            self.at += 1;
            Ok(())
        } else {
            self.unexpected(describe(&token).as_str())
        }
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
