//! Conversations → the text a chat model was trained on, through the model's own Jinja template.
//!
//! The text equals what `apply_chat_template` of `transformers` 4.57.6 makes of the same
//! conversation, character by character: same choice among named templates, same variables, same
//! [language](jinja). Two things are ours: the date that a template reads is taken once, or
//! [set](ChatSettings::date), and content in parts is joined where a template [reads none].
//!
//! [reads none]: ChatTemplate::reads_parts

mod conversation;
mod folder;
pub(crate) mod jinja;
mod parts;
mod settings;
mod special_tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use chrono::NaiveDateTime;
use serde_json::{Map, Value};

pub use conversation::{Conversation, Ending};
pub use settings::{ChatSettings, today};

use crate::{Error, Result};

/// The template that is taken when nothing else is said.
const DEFAULT: &str = "default";
/// The template that is taken for conversations with tools.
const TOOL_USE: &str = "tool_use";

/// A model's chat template, or its several by their names.
#[derive(Clone)]
pub struct ChatTemplate {
    /// What could be read of each, or what is wrong with it.
    named: Arc<BTreeMap<String, std::result::Result<jinja::Template, String>>>,
    /// `bos_token` and the like.
    special_tokens: Arc<Map<String, Value>>,
    /// Arguments of every conversation.
    kwargs: Arc<Map<String, Value>>,
    /// What `strftime_now` takes for now.
    moment: NaiveDateTime,
    /// The file it comes from.
    source: PathBuf,
    /// Of which roles it reads content in parts.
    reads_parts: Arc<OnceLock<[bool; parts::ROLES.len()]>>,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// The template of a model folder: `chat_template.jinja` with the files of
    /// `additional_chat_templates`, else `chat_template` of `tokenizer_config.json` (one, or several
    /// with names), else `chat_template.json`.
    ///
    /// # Errors
    /// If a file cannot be read or the template is none.
    pub fn from_folder(folder: &Path) -> Result<Option<Self>> {
        let Some((source, texts)) = folder::templates(folder)? else { return Ok(None) };
        Self::new(source, &texts, special_tokens::of_folder(folder)?).map(Some)
    }

    /// Templates by their names, read from `source`.
    fn new(
        source: PathBuf,
        texts: &BTreeMap<String, String>,
        special_tokens: Map<String, Value>,
    ) -> Result<Self> {
        let parse = |text: &str| jinja::parse(text).map_err(|fault| fault.to_string());
        let named: BTreeMap<_, _> =
            texts.iter().map(|(name, text)| (name.clone(), parse(text))).collect();
        if let Some(Err(fault)) = named.get(DEFAULT) {
            let message = format!("the chat template cannot be read: {fault}");
            return Err(Error::file(&source, message));
        }
        Ok(Self {
            named: Arc::new(named),
            special_tokens: Arc::new(special_tokens),
            kwargs: Arc::default(),
            moment: settings::now(),
            source,
            reads_parts: Arc::default(),
        })
    }

    /// The template with arguments for every conversation, and the date it takes for today's.
    ///
    /// # Errors
    /// If a setting makes no sense.
    pub fn with_settings(self, settings: &ChatSettings) -> Result<Self> {
        if let Some((key, message)) = settings.violation() {
            return Err(Error::usage(format!("`{key}`: {message}")));
        }
        Ok(Self {
            kwargs: Arc::new(settings.template_kwargs.clone()),
            moment: settings.moment().unwrap_or(self.moment),
            reads_parts: Arc::default(),
            ..self
        })
    }

    /// The text of a conversation.
    ///
    /// # Errors
    /// What the template or transformers refuses, in one line.
    pub fn render(
        &self,
        conversation: &Conversation,
        ending: Ending,
    ) -> std::result::Result<String, String> {
        conversation.check()?;
        let messages = self.readable(&conversation.messages)?;
        match ending {
            Ending::GenerationPrompt => self.run(conversation, &messages, true),
            Ending::Closed => self.run(conversation, &messages, false),
            Ending::Continued => {
                let marked = conversation::mark_final(messages)?;
                let text = self.run(conversation, &marked.messages, false)?;
                marked.cut(&text)
            }
        }
    }

    /// The text of messages as the template makes it.
    fn run(
        &self,
        conversation: &Conversation,
        messages: &[Value],
        prompt: bool,
    ) -> std::result::Result<String, String> {
        let template = self.template(conversation.tools.is_some())?;
        let given = |values: &Option<Vec<Value>>| match values {
            Some(values) => list(values),
            None => jinja::Value::None,
        };
        let variables = || {
            // The later of the same name counts.
            let kwargs = self.special_tokens.iter().chain(self.kwargs.iter());
            let kwargs = kwargs.chain(&conversation.template_kwargs);
            let kwargs = kwargs.map(|(name, value)| (name.clone(), jinja::Value::from_json(value)));
            let own = [
                ("messages", list(messages)),
                ("tools", given(&conversation.tools)),
                ("documents", given(&conversation.documents)),
                ("add_generation_prompt", jinja::Value::Bool(prompt)),
            ];
            let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
            kwargs.chain(own).collect()
        };
        jinja::render(template, variables, jinja::Purpose::Chat(self.moment)).map_err(|fault| {
            format!("the chat template in {} refuses: {fault}", self.source.display())
        })
    }

    /// The template for a conversation with or without tools.
    fn template(&self, tools: bool) -> std::result::Result<&jinja::Template, String> {
        let name = if tools && self.named.contains_key(TOOL_USE) { TOOL_USE } else { DEFAULT };
        match self.named.get(name) {
            Some(Ok(template)) => Ok(template),
            Some(Err(fault)) => Err(format!(
                "the chat template `{name}` in {} cannot be read: {fault}",
                self.source.display()
            )),
            None => {
                let names: Vec<_> = self.named.keys().map(String::as_str).collect();
                Err(format!(
                    "{}: expected a chat template called `default` among several, found `{}`; put \
                     the one to use into chat_template.jinja",
                    self.source.display(),
                    names.join("`, `")
                ))
            }
        }
    }

    /// Whether the template reads what day it is.
    pub fn reads_date(&self) -> bool {
        self.reads("strftime_now")
    }

    /// Whether the template reads the variable, such as an argument of its own.
    pub(crate) fn reads(&self, variable: &str) -> bool {
        self.named.values().flatten().any(|it| jinja::reads(it, variable))
    }

    /// Whether the template reads a user's content in parts. Of roles whose parts it does not
    /// read, text parts are joined, a line each.
    pub fn reads_parts(&self) -> bool {
        self.reads_parts_of("user")
    }

    /// The file the template comes from.
    pub fn source(&self) -> &Path {
        &self.source
    }
}

fn list(values: &[Value]) -> jinja::Value {
    jinja::Value::list(values.iter().map(jinja::Value::from_json).collect())
}

#[cfg(test)]
mod tests;
