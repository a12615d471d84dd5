//! Python's `repr` of lists and dictionaries → JSON.
//!
//! `to_csv` of pandas writes a column of lists this way: `[{'role': 'user', 'content': "it's"}]`. In a column
//! of NumPy arrays, line ends replace the commas between dictionaries.

use serde_json::{Map, Value};

/// What a text is as a literal.
#[derive(Debug, PartialEq)]
pub(super) enum Literal {
    /// A list or dictionary as a whole.
    Whole(Value),
    /// The beginning of one, or one with a fault and its closing bracket.
    Broken,
    /// Neither: a text.
    None,
}

impl Literal {
    /// Reads what Python's `repr` or JSON wrote.
    pub fn parse(text: &str) -> Self {
        if let Ok(value) = serde_json::from_str(text) {
            return Self::Whole(value);
        }
        let mut reader = Reader { rest: text, depth: 0, is_cut: false };
        match reader.value() {
            Some(value) if reader.rest.trim_start().is_empty() => Self::Whole(value),
            Some(_) => Self::None,
            None if reader.is_cut || reader.rest.trim().is_empty() => Self::Broken,
            None if text.trim_end().ends_with([']', '}']) => Self::Broken,
            None => Self::None,
        }
    }
}

/// Lists and dictionaries in one another are read to this depth.
const MAX_DEPTH: usize = 64;

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
    /// Whether a text was open where the source ended.
    is_cut: bool,
}

impl Reader<'_> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes `token` where it comes next.
    fn takes(&mut self, token: &str) -> bool {
        self.skip_blanks();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self) -> Option<Value> {
        self.skip_blanks();
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let value = match self.rest.chars().next()? {
            '[' => self.list("[", "]"),
            '(' => self.list("(", ")"),
            '{' => self.dictionary(),
            '\'' | '"' => self.string().map(Value::from),
            _ if self.takes("array(") => self.array(),
            _ => self.word(),
        };
        self.depth -= 1;
        value
    }

    fn list(&mut self, open: &str, close: &str) -> Option<Value> {
        let mut items = Vec::new();
        self.takes(open).then_some(())?;
        loop {
            if self.takes(close) {
                return Some(items.into());
            }
            items.push(self.value()?);
            // NumPy writes none between dictionaries.
            let is_separated = self.takes(",") || items.last().is_some_and(Value::is_object);
            if !is_separated {
                return self.takes(close).then(|| items.into());
            }
        }
    }

    /// What stands in `array(.., dtype=object)`.
    fn array(&mut self) -> Option<Value> {
        let value = self.value()?;
        if self.takes(",") && self.takes("dtype=") {
            let word = self.rest.find(')')?;
            self.rest = &self.rest[word..];
        }
        self.takes(")").then_some(value)
    }

    fn dictionary(&mut self) -> Option<Value> {
        let mut fields = Map::new();
        self.takes("{").then_some(())?;
        loop {
            if self.takes("}") {
                return Some(fields.into());
            }
            self.skip_blanks();
            let name = self.string()?;
            self.takes(":").then_some(())?;
            fields.insert(name, self.value()?);
            if !self.takes(",") {
                return self.takes("}").then(|| fields.into());
            }
        }
    }

    /// A number, or one of Python's three words.
    fn word(&mut self) -> Option<Value> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "None" => Some(Value::Null),
            "True" => Some(true.into()),
            "False" => Some(false.into()),
            number => serde_json::from_str(number).ok(),
        }
    }

    fn string(&mut self) -> Option<String> {
        let mut chars = self.rest.chars();
        let quote = chars.next().filter(|it| matches!(it, '\'' | '"'))?;
        let mut text = String::new();
        loop {
            let Some(char) = chars.next() else {
                self.is_cut = true;
                return None;
            };
            match char {
                '\\' => text.extend(escape(&mut chars)?),
                '\n' => return None,
                char if char == quote => break,
                char => text.push(char),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }
}

/// What stands for itself behind a backslash; nothing for an escaped line end.
fn escape(chars: &mut std::str::Chars) -> Option<Option<char>> {
    let kind = chars.next()?;
    let mut number = |digits: usize| {
        let code: String = chars.by_ref().take(digits).collect();
        let code = u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == digits)?;
        char::from_u32(code)
    };
    Some(Some(match kind {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        'x' => number(2)?,
        'u' => number(4)?,
        'U' => number(8)?,
        '0' => '\0',
        '\n' => return Some(None),
        char @ ('\\' | '\'' | '"') => char,
        _ => return None,
    }))
}
