//! Arguments, filters and tests behind an expression.

use super::ast::{Arguments, Expr};
use super::fault::Outcome;
use super::lexer::Token;
use super::parser::Parser;

impl Parser {
    pub(super) fn arguments(&mut self) -> Outcome<Arguments> {
        self.expect_op("(")?;
        let mut found = Arguments::default();
        let mut comma = false;
        while !self.is_op(")") {
            if comma {
                self.expect_op(",")?;
                if self.is_op(")") {
                    break;
                }
            }
            comma = true;
            let named =
                matches!((self.peek(), self.peek_second()), (Token::Name(_), Token::Op("=")));
            let ended = found.keyword_rest.is_some();
            if self.skip_op("*") && found.rest.is_none() && !ended {
                found.rest = Some(Box::new(self.expression()?));
            } else if self.skip_op("**") && !ended {
                found.keyword_rest = Some(Box::new(self.expression()?));
            } else if named && !ended {
                let name = self.expect_name()?;
                self.expect_op("=")?;
                found.keywords.push((name, self.expression()?));
            } else if found.rest.is_none() && found.keywords.is_empty() && !ended {
                found.positional.push(self.expression()?);
            } else {
                return self.fail("arguments stand in the wrong order");
            }
        }
        self.expect_op(")")?;
        Ok(found)
    }

    fn dotted_name(&mut self) -> Outcome<Box<str>> {
        let mut name = self.expect_name()?.into_string();
        while self.skip_op(".") {
            name += ".";
            name += &self.expect_name()?;
        }
        Ok(name.into())
    }

    /// `| filter | filter`; with `inline` the first has no `|`.
    pub(super) fn filters(&mut self, mut value: Option<Expr>, inline: bool) -> Outcome<Expr> {
        let mut inline = inline;
        while inline || self.skip_op("|") {
            inline = false;
            self.trailer()?;
            let name = self.dotted_name()?;
            let arguments = if self.is_op("(") { self.arguments()? } else { Arguments::default() };
            value = Some(Expr::Filter(value.map(Box::new), name, arguments));
        }
        match value {
            Some(value) => Ok(value),
            None => self.unexpected("a filter"),
        }
    }

    pub(super) fn test(&mut self, value: Expr) -> Outcome<Expr> {
        self.next();
        let negated = self.skip_name("not");
        let name = self.dotted_name()?;
        let mut arguments = Arguments::default();
        let argument = match self.peek() {
            Token::Op("(") => {
                arguments = self.arguments()?;
                false
            }
            Token::Name(name) if name == "is" => {
                return self.fail("tests cannot follow each other");
            }
            Token::Name(name) => !matches!(name.as_str(), "else" | "or" | "and"),
            Token::Text(_) | Token::Int(_) | Token::Float(_) | Token::Op("[" | "{") => true,
            _ => false,
        };
        if argument {
            let argument = self.primary()?;
            arguments.positional.push(self.postfix(argument)?);
        }
        let test = Expr::Test(Box::new(value), name, arguments);
        Ok(if negated { Expr::Not(Box::new(test)) } else { test })
    }
}
