//! Decoder-only transformers: their shape, their arithmetic, their weights.
//!
//! | room | what |
//! |---|---|
//! | [`decoder`] | the transformer, one for all families |
//! | [`families`] | what each family calls its settings and tensors |
//! | [`weights`] | Hugging Face folders in and out |
//! | [`vocabulary_head`] | log-probabilities of targets without holding the logits |
//! | [`cache`] | keys and values of prompts shared by samples |

pub mod attention;
pub mod cache;
pub mod config;
pub mod decoder;
pub mod families;
pub mod reward_model;
pub mod rotary;
pub mod vocabulary_head;
pub mod weights;

pub use config::DecoderConfig;
pub use decoder::Decoder;
pub use reward_model::RewardModel;
pub use weights::ModelFolder;
