//! Files → records → token ids → batches.
//!
//! ```text
//! pairs.jsonl.gz ─ read ─▶ Located<Group> ─ Tokenization ─▶ TokenGroup ─▶ GroupBatch
//! ```
//!
//! [`read`] streams records of one kind from files of every format that [`rows`] reads; [`read_tokens`] goes
//! on to token ids. Wrong data is refused here, with its file and line. So code that takes a [`TokenGroup`]
//! may rely on completions that are not empty, on finite rewards and on ids inside the vocabulary.

pub mod audit;
mod batch;
mod chat;
mod ends;
mod fields;
pub mod published;
mod reader;
mod records;
pub mod rows;
mod token_group;
mod tokenization;
mod tokenizer;

pub use batch::GroupBatch;
pub(crate) use chat::jinja;
pub use chat::{ChatSettings, ChatTemplate, Conversation, Ending, today};
pub use ends::{EndSource, Ends};
pub use fields::{Fields, Problem};
pub use reader::{Census, Located, Reader, Tolerance, has_labels, read, read_all};
pub use records::{
    Answered, AsPreference, Completion, Demonstration, Group, LabelledText, Passage, PromptRecord,
    Record, Unpaired,
};
pub use token_group::TokenGroup;
pub(crate) use tokenization::ENDS;
pub use tokenization::{
    Intake, Limits, RewardReading, SetBy, Tokenization, Tokenize, Unwritten, list_records,
    read_alignment_tokens, read_records, read_tokens, read_unpaired_tokens,
};
pub(crate) use tokenizer::GENERATION;
pub use tokenizer::{COMPANIONS, Tokenizer, companion_files};
