//! Evaluates expressions.

use super::arguments::Given;
use super::ast::{Arguments, Comparison, Expr, Literal};
use super::budget;
use super::fault::{Outcome, refuse};
use super::interpreter::Interpreter;
use super::operators;
use super::value::{Dict, Value};

impl<'t> Interpreter<'t> {
    pub fn evaluate(&mut self, expression: &'t Expr, scope: usize) -> Outcome<Value> {
        match expression {
            Expr::Literal(literal) => Ok(constant(literal)),
            Expr::Name(name) => self.lookup(name, scope),
            _ => self.deeper(|it| it.compound(expression, scope)),
        }
    }

    fn compound(&mut self, expression: &'t Expr, scope: usize) -> Outcome<Value> {
        Ok(match expression {
            Expr::Literal(literal) => constant(literal),
            Expr::Name(name) => self.lookup(name, scope)?,
            Expr::List(items) => Value::list(self.all(items, scope)?),
            Expr::Tuple(items) => Value::tuple(self.all(items, scope)?),
            Expr::Dict(items) => {
                let mut dict = Dict::default();
                for (key, value) in items {
                    let key = self.evaluate(key, scope)?;
                    let value = self.evaluate(value, scope)?;
                    dict.insert(key, value)?;
                }
                Value::Dict(dict.into())
            }
            Expr::Chain(first, rest) => {
                let mut left = self.evaluate(first, scope)?;
                for (operator, right) in rest {
                    let right = self.evaluate(right, scope)?;
                    left = operators::binary(*operator, &left, &right)?;
                }
                left
            }
            Expr::Concat(parts) => {
                let mut text = String::new();
                for part in parts {
                    let value = self.evaluate(part, scope)?;
                    let value = self.used(value)?;
                    budget::steps(1)?;
                    match value.as_str() {
                        Some(part) => text.push_str(part),
                        None => text.push_str(&value.print()?),
                    }
                    budget::fits(text.len())?;
                }
                Value::text(text)
            }
            Expr::Negative(it) => operators::signed(&self.evaluate(it, scope)?, true)?,
            Expr::Positive(it) => operators::signed(&self.evaluate(it, scope)?, false)?,
            Expr::Not(it) => Value::Bool(!self.holds(it, scope)?),
            Expr::And(operands) => self.until(operands, scope, false)?,
            Expr::Or(operands) => self.until(operands, scope, true)?,
            Expr::Compare(first, rest) => Value::Bool(self.compare(first, rest, scope)?),
            Expr::Condition(it) => {
                let (test, value, other) = &**it;
                match other {
                    _ if self.holds(test, scope)? => self.evaluate(value, scope)?,
                    Some(other) => self.evaluate(other, scope)?,
                    None => Value::undefined(
                        "the inline if-expression evaluated to false and no else section was \
                         defined.",
                    ),
                }
            }
            Expr::Attribute(object, name) => {
                let object = self.evaluate(object, scope)?;
                self.attribute(&object, name)?
            }
            Expr::Item(it) => {
                let object = self.evaluate(&it.0, scope)?;
                let key = self.evaluate(&it.1, scope)?;
                self.item(&object, &key)?
            }
            Expr::Slice(it) => {
                let (object, given) = &**it;
                let object = self.evaluate(object, scope)?;
                let mut bounds = [None, None, None];
                for (place, bound) in bounds.iter_mut().zip(given) {
                    *place = bound.as_ref().map(|it| self.evaluate(it, scope)).transpose()?;
                }
                operators::slice(&object, bounds)?
            }
            Expr::Call(..) => self.call_expression(expression, scope, None)?,
            Expr::Filter(Some(input), name, arguments) => {
                let mut input = self.evaluate(input, scope)?;
                if !matches!(&**name, "default" | "d") {
                    input = self.used(input)?;
                }
                self.filter_expression(name, input, arguments, scope)?
            }
            Expr::Filter(None, ..) => refuse!("a filter stands alone"),
            Expr::Test(input, name, arguments) => {
                let input = self.evaluate(input, scope)?;
                let given = self.given(arguments, scope)?;
                Value::Bool(self.test(name, &input, &given)?)
            }
        })
    }

    /// Whether an expression is true.
    pub fn holds(&mut self, expression: &'t Expr, scope: usize) -> Outcome<bool> {
        let value = self.evaluate(expression, scope)?;
        Ok(self.used(value)?.is_true())
    }

    fn all(&mut self, items: &'t [Expr], scope: usize) -> Outcome<Vec<Value>> {
        budget::visit(items.len())?;
        items.iter().map(|it| self.evaluate(it, scope)).collect()
    }

    /// The first operand that is as true as `wanted`, or the last.
    fn until(&mut self, operands: &'t [Expr], scope: usize, wanted: bool) -> Outcome<Value> {
        let mut value = Value::None;
        for operand in operands {
            value = self.evaluate(operand, scope)?;
            value = self.used(value)?;
            if value.is_true() == wanted {
                break;
            }
        }
        Ok(value)
    }

    fn compare(
        &mut self,
        first: &'t Expr,
        rest: &'t [(Comparison, Expr)],
        scope: usize,
    ) -> Outcome<bool> {
        let mut left = self.evaluate(first, scope)?;
        for (comparison, right) in rest {
            let right = self.evaluate(right, scope)?;
            budget::steps(1)?;
            if !holds(*comparison, &left, &right)? {
                return Ok(false);
            }
            left = right;
        }
        Ok(true)
    }

    pub fn given(&mut self, arguments: &'t Arguments, scope: usize) -> Outcome<Given> {
        let mut given =
            Given { positional: self.all(&arguments.positional, scope)?, keywords: Vec::new() };
        if let Some(rest) = &arguments.rest {
            let rest = self.evaluate(rest, scope)?;
            given.positional.extend(rest.items()?);
        }
        for (name, value) in &arguments.keywords {
            let value = self.evaluate(value, scope)?;
            given.keywords.push((name.as_ref().into(), value));
        }
        if let Some(rest) = &arguments.keyword_rest {
            let Value::Dict(rest) = self.evaluate(rest, scope)? else {
                refuse!("argument after ** must be a mapping")
            };
            for (key, value) in rest.iter() {
                budget::visit(given.keywords.len())?;
                match key {
                    Value::Text(key) | Value::Safe(key) if given.keyword(key).is_none() => {
                        given.keywords.push((key.clone(), value.clone()));
                    }
                    Value::Text(key) => refuse!("got multiple values for keyword argument '{key}'"),
                    _ => refuse!("keywords must be strings"),
                }
            }
        }
        Ok(given)
    }

    pub fn call_expression(
        &mut self,
        call: &'t Expr,
        scope: usize,
        caller: Option<Value>,
    ) -> Outcome<Value> {
        let Expr::Call(callee, arguments) = call else { refuse!("expected a call") };
        let callee = self.evaluate(callee, scope)?;
        let mut given = self.given(arguments, scope)?;
        given.keywords.extend(caller.map(|caller| ("caller".into(), caller)));
        self.call(&callee, given)
    }

    fn filter_expression(
        &mut self,
        name: &str,
        input: Value,
        arguments: &'t Arguments,
        scope: usize,
    ) -> Outcome<Value> {
        let given = self.given(arguments, scope)?;
        self.filter(name, input, &given)
    }

    /// A text through the filters of a block.
    pub fn filtered(&mut self, filter: &'t Expr, text: Value, scope: usize) -> Outcome<Value> {
        let Expr::Filter(inner, name, arguments) = filter else { refuse!("expected a filter") };
        let input = match inner {
            Some(inner) => self.filtered(inner, text, scope)?,
            None => text,
        };
        self.filter_expression(name, input, arguments, scope)
    }
}

fn constant(literal: &Literal) -> Value {
    match literal {
        Literal::None => Value::None,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Float(value) => Value::Float(*value),
        Literal::Text(text) => Value::text(text),
    }
}

/// `left comparison right`.
pub fn holds(comparison: Comparison, left: &Value, right: &Value) -> Outcome<bool> {
    let order = |sign| left.order(right, sign);
    Ok(match comparison {
        Comparison::Eq => left.equals(right),
        Comparison::Ne => !left.equals(right),
        Comparison::Lt => order("<")?.is_some_and(|it| it.is_lt()),
        Comparison::Le => order("<=")?.is_some_and(|it| it.is_le()),
        Comparison::Gt => order(">")?.is_some_and(|it| it.is_gt()),
        Comparison::Ge => order(">=")?.is_some_and(|it| it.is_ge()),
        Comparison::In => operators::contains(right, left)?,
        Comparison::NotIn => !operators::contains(right, left)?,
    })
}
