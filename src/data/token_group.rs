//! A group as token ids, the form that models and stores use.

use serde::{Deserialize, Serialize};

/// A prompt and its completions as token ids.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenGroup {
    /// The record's `id`.
    pub id: Option<serde_json::Value>,
    /// The line the record stands in, counted from 1.
    pub line: usize,
    /// The prompt; may be empty.
    pub prompt: Vec<u32>,
    /// The completions, none of them empty, end-of-text tokens included.
    pub completions: Vec<Vec<u32>>,
    /// One finite number a completion; empty where the record has none.
    pub rewards: Vec<f64>,
    /// The log-prob of every token of every completion under the distribution that it was drawn from; empty
    /// where the record has none: it was drawn from the reference then.
    pub log_probs: Vec<Vec<f32>>,
}

impl AsRef<Self> for TokenGroup {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl TokenGroup {
    /// How a message names the record: by its `id`, else by its line.
    pub fn name(&self) -> String {
        match &self.id {
            Some(serde_json::Value::String(id)) => id.clone(),
            Some(id) => id.to_string(),
            None => format!("line {}", self.line),
        }
    }

    /// Tokens of the prompt and of all completions.
    pub fn num_tokens(&self) -> usize {
        self.prompt.len() + self.completions.iter().map(Vec::len).sum::<usize>()
    }

    /// Refuses a completion that no model says anything of: one token, with none before it.
    ///
    /// # Errors
    /// What is wrong, the completion called as `field` calls it.
    pub fn check_predicted(&self, field: impl Fn(usize) -> String) -> Result<(), String> {
        match self.completions.iter().position(|it| self.prompt.len() + it.len() < 2) {
            Some(alone) => Err(format!(
                "`{}`: expected a token with another one before it, found one token after an empty prompt; \
                 give the prompt a token (many models have one that begins texts) or drop the record",
                field(alone)
            )),
            None => Ok(()),
        }
    }

    /// Puts a pair's better completion first; other groups stay as they are.
    pub fn chosen_first(&mut self) {
        if let [first, second] = self.rewards[..]
            && first < second
        {
            self.rewards.swap(0, 1);
            self.completions.swap(0, 1);
            if let [first, second] = &mut self.log_probs[..] {
                std::mem::swap(first, second);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(prompt: &[u32], completions: &[&[u32]]) -> TokenGroup {
        TokenGroup {
            id: None,
            line: 1,
            prompt: prompt.to_vec(),
            completions: completions.iter().map(|ids| ids.to_vec()).collect(),
            ..TokenGroup::default()
        }
    }

    #[test]
    fn a_pairs_better_completion_comes_first_and_larger_groups_keep_their_order() {
        let with = |rewards: &[f64]| {
            let completions: Vec<&[u32]> = [&[3][..], &[4, 5], &[6]][..rewards.len()].to_vec();
            TokenGroup { rewards: rewards.to_vec(), ..group(&[1], &completions) }
        };
        let ordered = |mut group: TokenGroup| {
            group.chosen_first();
            group.completions
        };
        assert_eq!(ordered(with(&[-1.0, 2.0])), [vec![4, 5], vec![3]]);
        assert_eq!(ordered(with(&[2.0, -1.0])), [vec![3], vec![4, 5]]);
        assert_eq!(ordered(with(&[0.0, 1.0, 2.0])), [vec![3], vec![4, 5], vec![6]]);
    }
}
