//! Conversations → the text a chat model was trained on, through the model's own Jinja template.
//!
//! The template gets what `transformers` gives it: the conversation, the special tokens, a request
//! for the assistant's turn, and the functions `raise_exception`, `strftime_now` and `tojson`. It
//! reads no files, includes nothing, and runs for a bounded number of steps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as Jinja, ValueKind};
use minijinja::{Environment, ErrorKind, Output, State, UndefinedBehavior, context};
use serde::Serialize;
use serde_json::Value;

use crate::files::read_json;
use crate::{Error, Result};

/// Steps a rendering may take.
const FUEL: u64 = 10_000_000;
const NAME: &str = "chat_template";

/// A conversation as chat templates read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// The messages, each with a role.
    pub messages: Vec<Value>,
    /// JSON schemas of the tools.
    pub tools: Option<Vec<Value>>,
    /// Documents.
    pub documents: Option<Vec<Value>>,
    /// Arguments of the template.
    pub template_kwargs: serde_json::Map<String, Value>,
}

impl From<Vec<Value>> for Conversation {
    fn from(messages: Vec<Value>) -> Self {
        Self { messages, ..Self::default() }
    }
}

/// How a conversation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With the beginning of the assistant's next turn.
    GenerationPrompt,
    /// As it stands.
    Closed,
    /// Within its last message.
    Continued,
}

/// A model's chat template.
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    /// `bos_token` and the like.
    special_tokens: BTreeMap<String, String>,
    /// The file it comes from.
    source: PathBuf,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// The template of a model folder: `chat_template.jinja`, `chat_template` of
    /// `tokenizer_config.json` (of several the one named `default`), or `chat_template.json`.
    ///
    /// # Errors
    /// If a file cannot be read or the template is none.
    pub fn from_folder(folder: &Path) -> Result<Option<Self>> {
        let tokenizer_config = folder.join("tokenizer_config.json");
        let settings = existing_json(&tokenizer_config)?;
        let own = folder.join("chat_template.jinja");
        let of_processor = folder.join("chat_template.json");
        let found = if own.is_file() {
            let text = std::fs::read_to_string(&own).map_err(Error::io(&own, "read"))?;
            Some((own, text))
        } else if let Some(text) = template_text(&settings["chat_template"]) {
            Some((tokenizer_config, text))
        } else {
            template_text(&existing_json(&of_processor)?["chat_template"])
                .map(|text| (of_processor, text))
        };
        let tokens =
            special_tokens(&[existing_json(&folder.join("special_tokens_map.json"))?, settings]);
        found.map(|(source, text)| Self::new(source, &text, tokens)).transpose()
    }

    /// A template read from `source`.
    ///
    /// # Errors
    /// If the text is no template.
    pub fn new(
        source: PathBuf,
        text: &str,
        special_tokens: BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut environment = Environment::new();
        let blocks = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(blocks.expect("no delimiter is changed"));
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_fuel(Some(FUEL));
        environment.set_formatter(as_python);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, without_marks(text)).map_err(|error| {
            Error::file(&source, format!("the chat template cannot be read: {}", chain(&error)))
        })?;
        Ok(Self { environment: Arc::new(environment), special_tokens, source })
    }

    /// The text of a conversation, up to where the assistant's next turn begins.
    ///
    /// # Errors
    /// What the template refuses, in one line that names its file.
    pub fn render(
        &self,
        conversation: &Conversation,
        ending: Ending,
    ) -> std::result::Result<String, String> {
        let failed = |error: minijinja::Error| {
            format!("the chat template in {} refuses: {}", self.source.display(), chain(&error))
        };
        let template = self.environment.get_template(NAME).map_err(failed)?;
        template
            .render(context! {
                messages => Jinja::from(Serde(&conversation.messages)),
                add_generation_prompt => ending == Ending::GenerationPrompt,
                tools => (),
                documents => (),
                ..Jinja::from(Serde(&self.special_tokens)),
            })
            .map_err(failed)
    }
}

fn existing_json(path: &Path) -> Result<Value> {
    if path.is_file() { read_json(path) } else { Ok(Value::Null) }
}

/// The template itself, or of a list of named ones the default.
fn template_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(named) => named
            .iter()
            .find(|it| it["name"] == "default")
            .and_then(|it| it["template"].as_str())
            .map(str::to_owned),
        _ => None,
    }
}

/// The special tokens of the files, the later before the earlier.
fn special_tokens(files: &[Value]) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().or(value["content"].as_str()).map(str::to_owned);
    files
        .iter()
        .filter_map(Value::as_object)
        .flatten()
        .filter(|(key, _)| key.ends_with("_token"))
        .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
        .collect()
}

/// The template without the marks that tell the assistant's turns for training; they print nothing.
fn without_marks(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let word = tag.trim_start_matches("{%").trim_end_matches("%}");
        let replaced = match word.trim_matches(['-', '+']).trim() {
            "generation" => tag.replacen("generation", "if true", 1),
            "endgeneration" => tag.replacen("endgeneration", "endif", 1),
            _ => tag.to_owned(),
        };
        plain += before;
        plain += &replaced;
        rest = after;
    }
    plain + rest
}

/// Prints truth values and nothing as Python does.
fn as_python(
    out: &mut Output,
    state: &mut State,
    value: &Jinja,
) -> std::result::Result<(), minijinja::Error> {
    let text = match value.kind() {
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        ValueKind::None => "None",
        _ => return minijinja::escape_formatter(out, state, value),
    };
    Ok(out.write_str(text)?)
}

fn raise_exception(message: String) -> std::result::Result<String, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> std::result::Result<String, minijinja::Error> {
    let items = chrono::format::StrftimeItems::new(format).parse().map_err(|_| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("no date format: {format}"))
    })?;
    Ok(chrono::Local::now().format_with_items(items.iter()).to_string())
}

/// JSON as Python's `json.dumps` writes it.
fn to_json(value: Jinja, options: Kwargs) -> std::result::Result<Jinja, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let wrong = |error: serde_json::Error| {
        minijinja::Error::new(ErrorKind::BadSerialization, error.to_string())
    };
    let mut tree = serde_json::to_value(&value).map_err(wrong)?;
    if sorted == Some(true) {
        tree.sort_all_objects();
    }
    let mut bytes = Vec::new();
    let formatter = PythonJson { indent, depth: 0, filled: false, ascii: ascii == Some(true) };
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    tree.serialize(&mut writer).map_err(wrong)?;
    Ok(Jinja::from_safe_string(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Blanks after commas and colons, or lines of their own with `indent`.
struct PythonJson {
    indent: Option<usize>,
    depth: usize,
    filled: bool,
    ascii: bool,
}

type Written = std::io::Result<()>;

impl PythonJson {
    fn open<W: ?Sized + std::io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> Written {
        self.depth += 1;
        self.filled = false;
        out.write_all(bracket)
    }

    fn close<W: ?Sized + std::io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> Written {
        self.depth -= 1;
        if self.filled {
            self.line(out)?;
        }
        self.filled = true;
        out.write_all(bracket)
    }

    fn item<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> Written {
        match (first, self.indent) {
            (true, _) => {}
            (false, None) => out.write_all(b", ")?,
            (false, Some(_)) => out.write_all(b",")?,
        }
        self.line(out)
    }

    fn line<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> Written {
        match self.indent {
            Some(indent) => {
                out.write_all(b"\n")?;
                out.write_all(" ".repeat(indent * self.depth).as_bytes())
            }
            None => Ok(()),
        }
    }
}

impl serde_json::ser::Formatter for PythonJson {
    fn begin_array<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> Written {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> Written {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> Written {
        self.item(out, first)
    }

    fn end_array_value<W: ?Sized + std::io::Write>(&mut self, _: &mut W) -> Written {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> Written {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> Written {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> Written {
        self.item(out, first)
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> Written {
        out.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + std::io::Write>(&mut self, _: &mut W) -> Written {
        self.filled = true;
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> Written {
        if !self.ascii {
            return out.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => out.write_all(&[byte])?,
                _ => write!(out, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }
}

/// An error with what caused it, in one line.
fn chain(error: &minijinja::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests;
