//! Text → tokens, as jinja2's lexer cuts it with `trim_blocks` and `lstrip_blocks`.

use super::fault::{Fault, Outcome};
use super::unicode::is_space;

/// A token of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Data(String),
    VariableBegin,
    VariableEnd,
    BlockBegin,
    BlockEnd,
    Name(String),
    Text(String),
    Int(i128),
    Float(f64),
    Op(&'static str),
    End,
}

/// Longest first.
const OPERATORS: [&str; 24] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|",
];
const SEPARATORS: [&str; 2] = [",", ";"];

/// The bytes of a name.
const MAX_NAME: usize = 1000;

/// The tokens of a template, each with its line.
pub fn tokens(source: &str) -> Outcome<Vec<(Token, usize)>> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { source, at: 0, line: 1, line_starts: true, tokens: Vec::new() };
    lexer.root()?;
    lexer.push(Token::End);
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: usize,
    /// Whether the last match ended with a line.
    line_starts: bool,
    tokens: Vec<(Token, usize)>,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn fail<T>(&self, message: &str) -> Outcome<T> {
        Err(Fault::at(self.line, message))
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((token, self.line));
    }

    fn take(&mut self, length: usize) -> &'s str {
        let (taken, _) = self.rest().split_at(length);
        self.at += length;
        self.line += taken.matches('\n').count();
        self.line_starts = taken.ends_with('\n');
        taken
    }

    /// Texts and the tags between them.
    fn root(&mut self) -> Outcome<()> {
        loop {
            let rest = self.rest();
            let begins = |&at: &usize| rest[at + 1..].starts_with(['{', '%', '#']);
            let Some(start) = rest.match_indices('{').map(|(at, _)| at).find(begins) else {
                if !rest.is_empty() {
                    self.push(Token::Data(rest.to_owned()));
                }
                return Ok(());
            };
            let kind = rest.as_bytes()[start + 1];
            let after = &rest[start + 2..];
            let raw = (kind == b'%').then(|| raw_begin(after)).flatten();
            let sign = after.chars().next().filter(|it| matches!(it, '-' | '+'));
            self.data(&rest[..start], sign, kind == b'{');
            self.take(start + 2 + raw.unwrap_or(usize::from(sign.is_some())));
            match kind {
                _ if raw.is_some() => self.raw()?,
                b'{' => self.tag(Token::VariableBegin, Token::VariableEnd)?,
                b'%' => self.tag(Token::BlockBegin, Token::BlockEnd)?,
                _ => self.comment()?,
            }
        }
    }

    /// The text before a tag, with the blanks taken from its end that the tag does not want.
    fn data(&mut self, text: &str, sign: Option<char>, variable: bool) {
        let line = text.rfind('\n').map_or(0, |at| at + 1);
        let text = if sign == Some('-') {
            text.trim_end_matches(is_space)
        } else if sign.is_none()
            && !variable
            && (line > 0 || self.line_starts)
            && text[line..].chars().all(is_space)
        {
            &text[..line]
        } else {
            text
        };
        if !text.is_empty() {
            self.push(Token::Data(text.to_owned()));
        }
    }

    fn comment(&mut self) -> Outcome<()> {
        let Some(end) = self.rest().find("#}") else {
            return self.fail("a comment has no end");
        };
        let strips = self.rest()[..end].ends_with('-');
        self.take(end + 2);
        self.after_block(strips, self.rest_was_plus(end));
        Ok(())
    }

    fn rest_was_plus(&self, end: usize) -> bool {
        end > 0 && self.source[..self.at - 2].ends_with('+')
    }

    /// The blanks after the end of a block: all of them, one line's end, or none.
    fn after_block(&mut self, strips: bool, keeps: bool) {
        if strips {
            self.skip_blanks();
        } else if !keeps && self.rest().starts_with('\n') {
            self.take(1);
        }
    }

    fn skip_blanks(&mut self) {
        let blanks = self.rest().len() - self.rest().trim_start_matches(is_space).len();
        if blanks > 0 {
            self.take(blanks);
        }
    }

    /// What stands between `{% raw %}` and `{% endraw %}`.
    fn raw(&mut self) -> Outcome<()> {
        let rest = self.rest();
        let found = rest.match_indices("{%").find_map(|(start, _)| {
            let after = &rest[start + 2..];
            let sign = after.chars().next().filter(|it| matches!(it, '-' | '+'));
            let word = after[usize::from(sign.is_some())..].trim_start_matches(is_space);
            let end = word.strip_prefix("endraw")?.trim_start_matches(is_space);
            let marked = end.chars().next().filter(|it| matches!(it, '-' | '+'));
            let end = end[usize::from(marked.is_some())..].strip_prefix("%}")?;
            Some((start, sign, marked, rest.len() - end.len()))
        });
        let Some((start, sign, marked, length)) = found else {
            return self.fail("a raw block has no end");
        };
        self.data(&rest[..start], sign, false);
        self.take(length);
        self.after_block(marked == Some('-'), marked == Some('+'));
        Ok(())
    }

    /// What stands in a tag.
    fn tag(&mut self, begin: Token, end: Token) -> Outcome<()> {
        let block = end == Token::BlockEnd;
        let close = if block { "%}" } else { "}}" };
        self.push(begin);
        let mut open = Vec::new();
        loop {
            let rest = self.rest();
            let sign = rest.chars().next().filter(|&it| it == '-' || block && it == '+');
            if open.is_empty() && rest[usize::from(sign.is_some())..].starts_with(close) {
                self.push(end);
                self.take(2 + usize::from(sign.is_some()));
                if block {
                    self.after_block(sign == Some('-'), sign == Some('+'));
                } else if sign == Some('-') {
                    self.skip_blanks();
                }
                return Ok(());
            }
            let Some(first) = rest.chars().next() else {
                return self.fail("a tag has no end");
            };
            if is_space(first) {
                self.skip_blanks();
            } else if first.is_ascii_digit() {
                self.number()?;
            } else if first == '_' || first.is_alphanumeric() {
                let name = |it: char| it != '_' && !it.is_alphanumeric();
                let length = rest.find(name).unwrap_or(rest.len());
                if length > MAX_NAME {
                    return self.fail(&format!("a name is longer than {MAX_NAME}"));
                }
                self.push(Token::Name(rest[..length].to_owned()));
                self.take(length);
            } else if matches!(first, '\'' | '"') {
                self.string(first)?;
            } else {
                self.operator(&mut open)?;
            }
        }
    }

    fn operator(&mut self, open: &mut Vec<char>) -> Outcome<()> {
        let rest = self.rest();
        let mut known = OPERATORS.iter().chain(&SEPARATORS);
        let Some(&operator) = known.find(|it| rest.starts_with(**it)) else {
            let char = rest.chars().next().unwrap_or_default();
            return self.fail(&format!("unexpected `{char}`"));
        };
        match operator {
            "{" => open.push('}'),
            "(" => open.push(')'),
            "[" => open.push(']'),
            "}" | ")" | "]" => match open.pop() {
                Some(expected) if rest.starts_with(expected) => {}
                Some(expected) => {
                    return self.fail(&format!("expected `{expected}`, found `{operator}`"));
                }
                None => return self.fail(&format!("unexpected `{operator}`")),
            },
            _ => {}
        }
        self.push(Token::Op(operator));
        self.take(operator.len());
        Ok(())
    }

    fn number(&mut self) -> Outcome<()> {
        let rest = self.rest();
        let after_dot = self.source[..self.at].ends_with('.');
        if let Some(length) = float_length(rest).filter(|_| !after_dot) {
            let value = rest[..length].replace('_', "").parse().map_err(|_| self.too_large())?;
            self.push(Token::Float(value));
            self.take(length);
            return Ok(());
        }
        let lower = rest.get(..2).unwrap_or("").to_ascii_lowercase();
        let (radix, prefix) = match lower.as_str() {
            "0x" => (16, 2),
            "0o" => (8, 2),
            "0b" => (2, 2),
            _ => (10, 0),
        };
        let mut length = prefix + run(&rest[prefix..], radix);
        if radix == 10 && rest.starts_with('0') {
            length = rest.find(|it| it != '0' && it != '_').unwrap_or(rest.len());
        }
        let digits = rest[prefix..length].replace('_', "");
        let value = i128::from_str_radix(&digits, radix).map_err(|_| self.too_large())?;
        self.push(Token::Int(value));
        self.take(length);
        Ok(())
    }

    fn too_large(&self) -> Fault {
        Fault::at(self.line, "a number is too large")
    }

    fn string(&mut self, quote: char) -> Outcome<()> {
        let rest = self.rest();
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|&(_, it)| {
            let ends = it == quote && !escaped;
            escaped = it == '\\' && !escaped;
            ends
        });
        let Some((end, _)) = end else {
            return self.fail(&format!("unexpected `{quote}`: a string has no end"));
        };
        let text = super::escapes::unescape(&rest[1..end])
            .map_err(|message| Fault::at(self.line, &message))?;
        self.push(Token::Text(text));
        self.take(end + 1);
        Ok(())
    }
}

/// The length of what follows `{%` in the tag that begins a raw block.
fn raw_begin(after: &str) -> Option<usize> {
    let word = after.strip_prefix(['-', '+']).unwrap_or(after).trim_start_matches(is_space);
    let end = word.strip_prefix("raw")?.trim_start_matches(is_space);
    let rest = match end.strip_prefix("-%}") {
        Some(rest) => rest.trim_start_matches(is_space),
        None => end.strip_prefix("%}")?,
    };
    Some(after.len() - rest.len())
}

/// The length of digits, `_` between them.
fn run(text: &str, radix: u32) -> usize {
    let digit = |it: char| it.is_digit(radix);
    let mut length = 0;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let between = char == '_' && chars.peek().is_some_and(|&next| digit(next));
        if !digit(char) && !between {
            break;
        }
        length += 1;
    }
    length
}

/// The length of a number with a fraction or an exponent, if one stands here.
fn float_length(text: &str) -> Option<usize> {
    let whole = run(text, 10);
    let fraction = text[whole..].strip_prefix('.').map_or(0, |rest| run(rest, 10));
    let mantissa = if fraction > 0 { whole + 1 + fraction } else { whole };
    let exponent = text[mantissa..].strip_prefix(['e', 'E']).map_or(0, |rest| {
        let sign = usize::from(rest.starts_with(['+', '-']));
        match run(&rest[sign..], 10) {
            0 => 0,
            digits => 1 + sign + digits,
        }
    });
    (fraction > 0 || exponent > 0).then_some(mantissa + exponent)
}
