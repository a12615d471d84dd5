//! Files → records → token ids → batches.
//!
//! ```text
//! pairs.jsonl.gz ─ read ─▶ Located<Group> ─ Tokenization ─▶ TokenGroup ─▶ GroupBatch
//! ```
//!
//! [`read`] streams records of one kind from JSON Lines, plain or gzip; [`read_tokens`] goes on to
//! token ids. Everything that can be wrong with data is refused here, with its file and line:
//! whatever takes a [`TokenGroup`] may rely on completions that are not empty, on rewards that are
//! finite and on ids inside the vocabulary.

pub mod audit;
mod batch;
mod chat;
mod fields;
mod lines;
pub mod published;
mod reader;
mod records;
mod sight;
mod token_group;
mod tokenization;
mod tokenizer;

pub use batch::GroupBatch;
pub use chat::{ChatSettings, ChatTemplate, Conversation, Ending, today};
pub use fields::{Fields, Problem};
pub use reader::{Located, Reader, has_labels, read, read_all};
pub use records::{
    AsPreference, Completion, Demonstration, Group, LabelledText, Passage, PromptRecord, Record,
};
pub use sight::Sight;
pub use token_group::{TokenGroup, hash_groups};
pub use tokenization::{
    Limits, Tokenization, Tokenize, TruncationReport, read_alignment_tokens, read_tokens,
};
pub use tokenizer::{COMPANIONS, Tokenizer, companion_files};
