//! The rules of the embedded corpora, as rewards: `rule:summarization`.

use std::sync::{Arc, OnceLock};

use exalign::Result;
use exalign::data::{Completion, Group, Passage};
use exalign::rewards::register_rule;

use crate::grammar::Grammar;
use crate::tasks::{TASKS, Task};

/// Adds the rule of every experiment whose corpus has one, under the experiment's name.
pub fn register_all() -> Result<()> {
    TASKS.iter().filter(|task| task.has_rule()).try_for_each(|task| register(*task))
}

fn register(task: &'static dyn Task) -> Result<()> {
    let grammar: OnceLock<Option<Grammar>> = OnceLock::new();
    let rule = move |group: &Group, completion: &Completion| {
        let grammar = grammar.get_or_init(|| Grammar::parse(task.grammar()).ok()).as_ref()?;
        let answer = completion.passage.text.as_deref()?;
        task.rule(grammar, &prompt_text(&group.prompt), answer)
    };
    register_rule(task.name(), Arc::new(rule))
}

/// A prompt as people read it, of a conversation the words alone.
pub fn prompt_text(prompt: &Passage) -> String {
    match (&prompt.text, prompt.messages()) {
        (None, Some(messages)) => {
            let content = messages.iter().filter_map(|message| message["content"].as_str());
            content.collect::<Vec<_>>().join("\n")
        }
        (text, _) => text.clone().unwrap_or_default(),
    }
}
