//! Targets of assignments.

use super::ast::Target;
use super::fault::Outcome;
use super::lexer::Token;
use super::parser::Parser;

impl Parser {
    /// What a value is assigned to: names, tuples of them, with `attributes` those of namespaces.
    pub(super) fn target(&mut self, ends: &[&str], attributes: bool) -> Outcome<Target> {
        let mut targets = vec![self.single_target(attributes)?];
        let mut tuple = false;
        while self.skip_op(",") {
            tuple = true;
            let ended = matches!(self.peek(), Token::BlockEnd | Token::Op(")" | "="));
            if ended || ends.iter().any(|end| self.is_name(end)) {
                break;
            }
            targets.push(self.single_target(attributes)?);
        }
        match targets.pop() {
            Some(target) if !tuple => Ok(target),
            target => {
                targets.extend(target);
                Ok(Target::Tuple(targets))
            }
        }
    }

    fn single_target(&mut self, attributes: bool) -> Outcome<Target> {
        if self.skip_op("(") {
            let target = self.deeper(|it| it.target(&[], attributes))?;
            self.expect_op(")")?;
            return Ok(target);
        }
        let name = self.expect_name()?;
        if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
            return self.fail(&format!("nothing can be assigned to `{name}`"));
        }
        if attributes && self.skip_op(".") {
            return Ok(Target::Attribute(name, self.expect_name()?));
        }
        Ok(Target::Name(name))
    }
}

/// Whether a target is, or has, the name.
pub(super) fn binds(target: &Target, name: &str) -> bool {
    match target {
        Target::Name(it) => &**it == name,
        Target::Tuple(targets) => targets.iter().any(|it| binds(it, name)),
        Target::Attribute(..) => false,
    }
}
