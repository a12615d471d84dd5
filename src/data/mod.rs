//! Files → records → token ids → batches.
mod batch;
pub use batch::GroupBatch;

/// A group as token ids.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenGroup {
    /// `id`.
    pub id: Option<serde_json::Value>,
    /// line
    pub line: usize,
    /// prompt
    pub prompt: Vec<u32>,
    /// completions
    pub completions: Vec<Vec<u32>>,
    /// rewards
    pub rewards: Vec<f64>,
}

impl TokenGroup {
    /// Tokens of the prompt and of all completions.
    pub fn num_tokens(&self) -> usize {
        self.prompt.len() + self.completions.iter().map(Vec::len).sum::<usize>()
    }
}
