//! The tokens that a reward model reads, and the token at which its reward is read.

use serde_json::json;

use super::{Intake, Passage, Tokenization, Tokenize};
use crate::Result;
use crate::data::{Group, Located, TokenGroup};

/// How a reward model reads: the convention it was trained with, as its `config.json` says.
///
/// A reward is read at the last token that is not the padding, as `transformers`'
/// `AutoModelForSequenceClassification` does. A conversation is all that the template writes of it
/// with the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RewardReading {
    /// Whether a training of this program made the model. It has seen every text end alike; models of others
    /// read the ends that a text or ids have, and no other.
    pub is_own: bool,
    /// Whether the token that ends a turn stands behind a completion that is text.
    pub ends_text: bool,
    /// `pad_token_id`.
    pub padding: Option<u32>,
}

/// What [`RewardReading::name`] says of one that reads the token that ends a turn.
pub(crate) const ENDS: &str = "end";

impl RewardReading {
    /// As a model folder's settings say it.
    pub fn name(&self) -> &'static str {
        if self.ends_text { ENDS } else { "text" }
    }

    /// The tokens of a group as the reward model reads them: of texts and messages where there are
    /// any, since the policy's tokenizer may be another, of ids otherwise. A completion that was cut
    /// is read as one that ended by itself; to a model of others, a text that stands for itself has no end
    /// but the one written in it.
    ///
    /// # Errors
    /// If it cannot be tokenized, or is too long.
    pub fn tokens(
        &self,
        located: &Located<Group>,
        tokenization: &Tokenization<'_>,
        intake: &mut Intake,
    ) -> Result<TokenGroup> {
        let mut own = located.clone();
        let group = &mut own.record;
        // They are those of the policy's tokens.
        group.log_probs = None;
        let has_words = |it: &Passage| it.text.is_some() || it.conversation.is_some();
        let can_read = tokenization.tokenizer.is_some();
        let has_template = tokenization.tokenizer.is_some_and(|it| it.chat_template().is_some());
        // Without a template of its own, it reads the tokens that the policy was asked with.
        let is_read = match &group.prompt.conversation {
            Some(_) => can_read && (has_template || group.prompt.ids.is_none()),
            None => can_read,
        };
        if is_read && has_words(&group.prompt) {
            group.prompt.ids = None;
        }
        let is_talk = group.prompt.conversation.is_some();
        let begun = is_read.then(|| take_begun(group)).flatten();
        for completion in &mut group.completions {
            if is_read && has_words(&completion.passage) {
                completion.passage.ids = None;
                self.spell_out(&mut completion.passage, is_talk, begun.as_deref(), tokenization)?;
            }
            completion.finished = self.is_own || is_talk;
        }
        let mut tokens = Group::tokenize(&own, tokenization, intake)?;
        let is_templated = own.record.prompt.conversation.is_some() && is_read;
        for (completion, ids) in own.record.completions.iter().zip(&mut tokens.completions) {
            let written_by_template = is_templated && completion.passage.ids.is_none();
            self.settle(ids, written_by_template, tokenization);
            tokenization.check(located, "completions", ids)?;
        }
        Ok(tokens)
    }

    /// A text answer to a conversation as the message it is, so that all that the template writes of it
    /// is read; one that has no tokens as the token that ends it.
    fn spell_out(
        &self,
        answer: &mut Passage,
        is_talk: bool,
        begun: Option<&str>,
        tokenization: &Tokenization<'_>,
    ) -> Result<()> {
        let (Some(text), Some(tokenizer)) = (&answer.text, tokenization.tokenizer) else {
            return Ok(());
        };
        if is_talk {
            let text = format!("{}{text}", begun.unwrap_or_default());
            let message = json!({ "role": "assistant", "content": text });
            *answer = Passage::of_messages(vec![message]);
        } else if let Some(end) = tokenizer.end_of_text()
            && tokenizer.encode_continuation(text)?.is_empty()
        {
            *answer = Passage::of_ids([end]);
        }
        Ok(())
    }

    /// Makes the token that the reward is read at the last one. The ends that sampling or a text has put there
    /// are taken off before the one that a model of our own has learned from.
    pub fn settle(
        &self,
        ids: &mut Vec<u32>,
        written_by_template: bool,
        tokenization: &Tokenization<'_>,
    ) {
        let is_levelled = self.is_own && !written_by_template;
        if let (true, Some(tokenizer)) = (is_levelled, tokenization.tokenizer) {
            drop_last(ids, |id| tokenizer.all_end_of_text().contains(&id));
            if self.ends_text {
                ids.extend(tokenizer.end_of_text());
            }
        }
        drop_last(ids, |id| self.padding == Some(id));
    }
}

/// Takes the answer that the prompt has begun out of it, where all completions are texts that go on with it.
fn take_begun(group: &mut Group) -> Option<String> {
    let goes_on = |it: &Passage| it.text.is_some() && it.conversation.is_none();
    if !group.completions.iter().all(|it| goes_on(&it.passage)) {
        return None;
    }
    let conversation = group.prompt.conversation.as_mut()?;
    let begun = conversation.begun()?.to_owned();
    conversation.messages.pop();
    Some(begun)
}

/// Takes tokens from the end while they are of a kind; the first stays.
fn drop_last(ids: &mut Vec<u32>, is_one: impl Fn(u32) -> bool) {
    while ids.len() > 1 && ids.last().is_some_and(|&last| is_one(last)) {
        ids.pop();
    }
}
