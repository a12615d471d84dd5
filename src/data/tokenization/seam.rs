//! The seam: a prompt as the model reads it, and a completion as its continuation.

use std::cell::OnceCell;

use serde_json::Value;

use super::unwritten::words_of;
use super::{Intake, Tokenization, no_tokens, prompt_field};
use crate::data::{ChatTemplate, Completion, Conversation, Ending, Located, Passage, Tokenizer};
use crate::{Error, Result};

/// A prompt and its ids.
pub(super) struct Asked<'p> {
    passage: &'p Passage,
    ending: Ending,
    pub ids: Vec<u32>,
    written: OnceCell<Written>,
}

impl Asked<'_> {
    /// What the template has written of it.
    pub fn text(&self) -> Option<&str> {
        self.written.get().map(|it| it.text.as_str())
    }
}

/// The text that a prompt's ids stand for.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub text: String,
    /// Whether the tokenizer puts its special tokens in front; a template has written its own.
    pub is_fronted: bool,
}

impl Written {
    fn encode(&self, tokenizer: &Tokenizer, more: &str) -> Result<Vec<u32>> {
        let whole = format!("{}{more}", self.text);
        match self.is_fronted {
            true => tokenizer.encode_prompt(&whole),
            false => tokenizer.encode_completion(&whole),
        }
    }
}

impl Tokenization<'_> {
    /// The ids of a prompt, or of a text or conversation that stands for itself.
    pub(super) fn asked<'p, R>(
        &self,
        located: &Located<R>,
        passage: &'p Passage,
        ending: Ending,
    ) -> Result<Asked<'p>> {
        let field = prompt_field(passage);
        let mut asked = Asked { passage, ending, ids: Vec::new(), written: OnceCell::new() };
        asked.ids = match &passage.ids {
            Some(ids) => ids.clone(),
            None => {
                let tokenizer = self.needed(located, field)?;
                let written = self.written(located, &asked)?;
                written.encode(tokenizer, "").map_err(|it| of_field(located, field, &it))?
            }
        };
        self.check(located, field, &asked.ids)?;
        Ok(asked)
    }

    /// The text of a prompt, rendered once.
    fn written<'a, R>(&self, located: &Located<R>, asked: &'a Asked) -> Result<&'a Written> {
        if let Some(written) = asked.written.get() {
            return Ok(written);
        }
        let written = match &asked.passage.conversation {
            Some(conversation) => Written {
                text: self.render(located, conversation, asked.ending)?,
                is_fronted: false,
            },
            None => {
                Written { text: asked.passage.text.clone().unwrap_or_default(), is_fronted: true }
            }
        };
        Ok(asked.written.get_or_init(|| written))
    }

    fn render<R>(
        &self,
        located: &Located<R>,
        conversation: &Conversation,
        ending: Ending,
    ) -> Result<String> {
        let template = self.tokenizer.and_then(Tokenizer::chat_template).ok_or_else(|| {
            let other = self.tokenizer.and_then(Tokenizer::other_template);
            let found = other.map_or("its folder; put a chat_template.jinja there".to_owned(), |file| {
                format!(
                    "the adapter's folder, whose tokenizer is read; copy the chat template of the base there, which \
                     is in {}",
                    file.display()
                )
            });
            located.error(format!(
                "`messages`: expected a model with a chat template to read them with, found none in {found}, or \
                 write the conversation out as `prompt`"
            ))
        })?;
        template
            .render(conversation, ending)
            .map_err(|problem| located.error(format!("`messages`: {problem}")))
    }

    /// The ids of a completion after its prompt, the token that ends it among them. Ids of the record
    /// get none, nor does a text that was cut or that writes one out itself.
    pub(super) fn completion<R>(
        &self,
        located: &Located<R>,
        field: &str,
        asked: &Asked,
        completion: &Completion,
        intake: &mut Intake,
    ) -> Result<Vec<u32>> {
        let Completion { passage, finished } = completion;
        if let Some(ids) = &passage.ids {
            self.check(located, field, ids)?;
            return Ok(ids.clone());
        }
        let tokenizer = self.needed(located, field)?;
        let answered = match (&asked.passage.conversation, &passage.conversation, &passage.text) {
            (Some(prompt), Some(answer), _) => {
                let mut whole = prompt.clone();
                whole.messages.extend(answer.messages.iter().cloned());
                Some(whole)
            }
            (Some(prompt), None, Some(text)) if *finished => Some(match asked.ending {
                Ending::Continued => prompt.continued(text),
                _ => prompt.answered(text),
            }),
            _ => None,
        };
        let mut needs_end = asked.passage.conversation.is_none();
        let mut ids = match answered {
            Some(whole) => {
                let whole = self.render(located, &whole, Ending::Closed)?;
                let prompt = &self.written(located, asked)?.text;
                let rest = whole.strip_prefix(prompt.as_str()).ok_or_else(|| {
                    let answer = passage.conversation.as_ref().and_then(|it| it.messages.first());
                    let template = tokenizer.chat_template();
                    let problem = goes_on_otherwise(prompt, &whole, answer, field, template);
                    located.error(format!("`{field}`: {problem}"))
                })?;
                let line = located.line;
                match &passage.conversation {
                    Some(it) => intake.search.look_at_answer(line, rest, words_of(&it.messages)),
                    None => intake.search.look_at_answer(line, rest, passage.text.as_deref()),
                }
                let mut ids = self.after(located, field, asked, rest, tokenizer, intake)?;
                // A text ends with the token that ends turns, as what is sampled does; messages are all
                // that the template writes of them.
                if passage.conversation.is_none() {
                    match tokenizer.end_within(&ids) {
                        Some(end) => ids.truncate(end + 1),
                        // The template writes none behind the last turn.
                        None => needs_end = true,
                    }
                }
                ids
            }
            None => {
                let text = passage.text.as_deref().unwrap_or_default();
                self.after(located, field, asked, text, tokenizer, intake)?
            }
        };
        if ids.is_empty() {
            return Err(located.error(no_tokens(field)));
        }
        if needs_end {
            self.end(located, field, completion, &mut ids)?;
        }
        self.check(located, field, &ids)?;
        Ok(ids)
    }

    /// The ids of `text` after the prompt's: what the ids of both together have after them, or where
    /// those do not begin with the prompt's, the text's own ids, with nothing put in front.
    fn after<R>(
        &self,
        located: &Located<R>,
        field: &str,
        asked: &Asked,
        text: &str,
        tokenizer: &Tokenizer,
        intake: &mut Intake,
    ) -> Result<Vec<u32>> {
        let failed = |error: Error| of_field(located, field, &error);
        let is_known = asked.passage.text.is_some() || asked.passage.conversation.is_some();
        if !is_known {
            return tokenizer.encode_continuation(text).map_err(failed);
        }
        let written = self.written(located, asked)?;
        let joint = written.encode(tokenizer, text).map_err(failed)?;
        match joint.strip_prefix(asked.ids.as_slice()) {
            Some(rest) if !rest.is_empty() || text.is_empty() => Ok(rest.to_vec()),
            _ => {
                let across = joint.iter().zip(&asked.ids).take_while(|(one, two)| one == two);
                let across = joint.get(across.count()).copied();
                intake.note_seam(located.line, &written.text, text, across, tokenizer);
                tokenizer.encode_continuation(text).map_err(failed)
            }
        }
    }

    /// Ends a text that ended by itself: with the end that it writes out, or with the token that ends a turn.
    pub(super) fn end<R>(
        &self,
        located: &Located<R>,
        field: &str,
        completion: &Completion,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let Completion { passage, finished } = completion;
        let (None, true, Some(tokenizer)) = (&passage.ids, finished, self.tokenizer) else {
            return Ok(());
        };
        let Some(end_of_text) = tokenizer.end_of_text() else {
            return Err(Error::usage(
                "the model names no end-of-text token to end completions with; set \
                 `eos_token_id` in its config.json, or `finished` to false in the records",
            ));
        };
        match tokenizer.end_within(ids) {
            Some(end) => ids.truncate(end + 1),
            None => {
                self.check(located, field, &[end_of_text])?;
                ids.push(end_of_text);
            }
        }
        Ok(())
    }
}

/// The error of a tokenizer about a field of a record.
fn of_field<R>(located: &Located<R>, field: &str, error: &Error) -> Error {
    located.error(format!("`{field}`: {error}"))
}

/// Arguments by which templates begin a thought where an answer is asked for, or do not.
const BEGINS_THOUGHT: [&str; 2] = ["enable_thinking", "thinking"];

/// Why the text of a conversation with its answer, which the record calls `field`, has no prompt in front of it.
fn goes_on_otherwise(
    prompt: &str,
    whole: &str,
    answer: Option<&Value>,
    field: &str,
    template: Option<&ChatTemplate>,
) -> String {
    const SHOWN: usize = 30;
    if let Some(role) = answer.map(|it| &it["role"]).filter(|role| *role != "assistant") {
        return format!(
            "expected an answer that begins with a message of role \"assistant\", found role {role}; correct it"
        );
    }
    let same = prompt.chars().zip(whole.chars()).take_while(|(one, two)| one == two).count();
    let from = |text: &str| -> String { text.chars().skip(same).take(SHOWN).collect() };
    let argument =
        BEGINS_THOUGHT.iter().find(|name| template.is_some_and(|template| template.reads(name)));
    let argument = argument.map_or(String::new(), |name| {
        format!("set the template's argument to suit the answers (--set chat.template_kwargs.{name}=false), or ")
    });
    let ids = match field.split_once('[') {
        Some(_) => "completion_ids".to_owned(),
        None => format!("{field}_ids"),
    };
    format!(
        "expected the chat template to write the conversation with its answer as it writes the prompt \
         that asks for it, found {:?} where the prompt has {:?}; {argument}give `prompt` as the text that the \
         template writes, or token ids as `{ids}`",
        from(whole),
        from(prompt)
    )
}
