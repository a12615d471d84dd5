//! Tokens → expressions, as jinja2's parser reads them.

use super::ast::{Comparison, Expr, Literal, Operator};
use super::fault::Outcome;
use super::lexer::Token;
use super::parser::{Parser, describe};

impl Parser {
    pub(super) fn expression(&mut self) -> Outcome<Expr> {
        self.deeper(|it| it.apart(Self::condition_expression))
    }

    fn condition_expression(&mut self) -> Outcome<Expr> {
        let mut value = self.or()?;
        while self.skip_name("if") {
            self.trailer()?;
            let test = self.or()?;
            let other = if self.skip_name("else") { Some(self.expression()?) } else { None };
            value = Expr::Condition(Box::new((test, value, other)));
        }
        Ok(value)
    }

    /// An expression, or a tuple without parentheses around it.
    pub(super) fn tuple(
        &mut self,
        with_condition: bool,
        ends: &[&str],
        parentheses: bool,
    ) -> Outcome<Expr> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            let end = matches!(self.peek(), Token::VariableEnd | Token::BlockEnd | Token::Op(")"));
            if end || ends.iter().any(|end| self.is_name(end)) {
                break;
            }
            let item = if with_condition {
                self.expression()
            } else {
                self.deeper(|it| it.apart(Self::or))
            };
            items.push(item?);
            if !self.skip_op(",") {
                break;
            }
            is_tuple = true;
        }
        match items.pop() {
            Some(item) if !is_tuple => Ok(item),
            None if !parentheses => self.unexpected("an expression"),
            item => {
                items.extend(item);
                Ok(Expr::Tuple(items))
            }
        }
    }

    fn or(&mut self) -> Outcome<Expr> {
        let mut operands = vec![self.and()?];
        while self.skip_name("or") {
            operands.push(self.and()?);
        }
        Ok(single(operands, Expr::Or))
    }

    fn and(&mut self) -> Outcome<Expr> {
        let mut operands = vec![self.not()?];
        while self.skip_name("and") {
            operands.push(self.not()?);
        }
        Ok(single(operands, Expr::And))
    }

    fn not(&mut self) -> Outcome<Expr> {
        if self.skip_name("not") {
            return Ok(Expr::Not(Box::new(self.deeper(Self::not)?)));
        }
        self.compare()
    }

    fn compare(&mut self) -> Outcome<Expr> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let comparison = match self.peek() {
                Token::Op("==") => Comparison::Eq,
                Token::Op("!=") => Comparison::Ne,
                Token::Op("<") => Comparison::Lt,
                Token::Op("<=") => Comparison::Le,
                Token::Op(">") => Comparison::Gt,
                Token::Op(">=") => Comparison::Ge,
                Token::Name(name) if name == "in" => Comparison::In,
                Token::Name(name) if name == "not" => match self.peek_second() {
                    Token::Name(name) if name == "in" => {
                        self.next();
                        Comparison::NotIn
                    }
                    _ => break,
                },
                _ => break,
            };
            self.next();
            rest.push((comparison, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    fn sum(&mut self) -> Outcome<Expr> {
        let operators = [("+", Operator::Add), ("-", Operator::Sub)];
        self.chain(&operators, Self::concat)
    }

    fn concat(&mut self) -> Outcome<Expr> {
        let mut parts = vec![self.product()?];
        while self.skip_op("~") {
            parts.push(self.product()?);
        }
        Ok(single(parts, Expr::Concat))
    }

    fn product(&mut self) -> Outcome<Expr> {
        let operators = [
            ("*", Operator::Mul),
            ("/", Operator::Div),
            ("//", Operator::FloorDiv),
            ("%", Operator::Mod),
        ];
        self.chain(&operators, Self::power)
    }

    fn power(&mut self) -> Outcome<Expr> {
        self.chain(&[("**", Operator::Pow)], |it| it.unary(true))
    }

    fn chain(
        &mut self,
        operators: &[(&str, Operator)],
        operand: impl Fn(&mut Self) -> Outcome<Expr>,
    ) -> Outcome<Expr> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some(&(_, operator)) = operators.iter().find(|(sign, _)| self.is_op(sign)) {
            self.next();
            rest.push((operator, operand(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Chain(Box::new(first), rest) })
    }

    fn unary(&mut self, with_filter: bool) -> Outcome<Expr> {
        self.apart(|it| it.operand(with_filter))
    }

    fn operand(&mut self, with_filter: bool) -> Outcome<Expr> {
        let value = if self.skip_op("-") {
            Expr::Negative(Box::new(self.deeper(|it| it.unary(false))?))
        } else if self.skip_op("+") {
            Expr::Positive(Box::new(self.deeper(|it| it.unary(false))?))
        } else {
            self.primary()?
        };
        let value = self.postfix(value)?;
        if with_filter { self.filters_and_tests(value) } else { Ok(value) }
    }

    pub(super) fn primary(&mut self) -> Outcome<Expr> {
        let literal = match self.peek().clone() {
            Token::Name(name) => match name.as_str() {
                "true" | "True" => Literal::Bool(true),
                "false" | "False" => Literal::Bool(false),
                "none" | "None" => Literal::None,
                _ => {
                    self.next();
                    return Ok(Expr::Name(name.into()));
                }
            },
            Token::Text(mut text) => {
                while let Token::Text(more) = self.peek_second().clone() {
                    self.next();
                    text += &more;
                }
                Literal::Text(text.into())
            }
            Token::Int(value) => Literal::Int(value),
            Token::Float(value) => Literal::Float(value),
            Token::Op("(") => {
                self.next();
                let value = self.deeper(|it| it.tuple(true, &[], true))?;
                self.expect_op(")")?;
                return Ok(value);
            }
            Token::Op("[") => {
                self.next();
                return Ok(Expr::List(self.items("]", Self::expression)?));
            }
            Token::Op("{") => {
                self.next();
                return Ok(Expr::Dict(self.items("}", |it| {
                    let key = it.expression()?;
                    it.expect_op(":")?;
                    Ok((key, it.expression()?))
                })?));
            }
            token => return self.fail(&format!("unexpected {}", describe(&token))),
        };
        self.next();
        Ok(Expr::Literal(literal))
    }

    /// Items with commas between them, up to `close`, which is taken.
    fn items<T>(&mut self, close: &str, item: impl Fn(&mut Self) -> Outcome<T>) -> Outcome<Vec<T>> {
        let mut items = Vec::new();
        while !self.is_op(close) {
            if !items.is_empty() {
                self.expect_op(",")?;
                if self.is_op(close) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        self.expect_op(close)?;
        Ok(items)
    }

    pub(super) fn postfix(&mut self, mut value: Expr) -> Outcome<Expr> {
        while matches!(self.peek(), Token::Op("." | "[" | "(")) {
            self.trailer()?;
            value = match self.is_op("(") {
                true => Expr::Call(Box::new(value), self.arguments()?),
                false => self.subscript(value)?,
            };
        }
        Ok(value)
    }

    fn filters_and_tests(&mut self, mut value: Expr) -> Outcome<Expr> {
        loop {
            value = match self.peek() {
                Token::Op("|") => self.filters(Some(value), false)?,
                Token::Op("(") => Expr::Call(Box::new(value), self.arguments()?),
                Token::Name(name) if name == "is" => self.test(value)?,
                _ => return Ok(value),
            };
            self.trailer()?;
        }
    }

    fn subscript(&mut self, value: Expr) -> Outcome<Expr> {
        if self.skip_op(".") {
            return match self.next() {
                Token::Name(name) => Ok(Expr::Attribute(Box::new(value), name.into())),
                Token::Int(index) => {
                    Ok(Expr::Item(Box::new((value, Expr::Literal(Literal::Int(index))))))
                }
                _ => self.fail("expected a name or a number after `.`"),
            };
        }
        self.expect_op("[")?;
        let start = if self.is_op(":") { None } else { Some(self.expression()?) };
        if !self.skip_op(":") {
            return match start {
                Some(key) if self.is_op(",") => {
                    let mut keys = vec![key];
                    while self.skip_op(",") {
                        keys.push(self.expression()?);
                    }
                    self.expect_op("]")?;
                    Ok(Expr::Item(Box::new((value, Expr::Tuple(keys)))))
                }
                Some(key) => {
                    self.expect_op("]")?;
                    Ok(Expr::Item(Box::new((value, key))))
                }
                None => self.unexpected("an index"),
            };
        }
        let stop = self.bound()?;
        let step = if self.skip_op(":") { self.bound()? } else { None };
        self.expect_op("]")?;
        Ok(Expr::Slice(Box::new((value, [start, stop, step]))))
    }

    fn bound(&mut self) -> Outcome<Option<Expr>> {
        if self.is_op(":") || self.is_op("]") { Ok(None) } else { self.expression().map(Some) }
    }
}

fn single(mut operands: Vec<Expr>, many: impl FnOnce(Vec<Expr>) -> Expr) -> Expr {
    match operands.pop() {
        Some(operand) if operands.is_empty() => operand,
        operand => {
            operands.extend(operand);
            many(operands)
        }
    }
}
