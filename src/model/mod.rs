//! Decoder-only transformers: their shape, their arithmetic, their weights.
//!
//! | room | what |
//! |---|---|
//! | [`decoder`] | the transformer, one for all families |
//! | [`families`] | what each family calls its settings and tensors |
//! | [`adapter`] | LoRA: factors beside the weights, PEFT folders |
//! | [`norm`] | the normalisations over the hidden width |
//! | [`value_head`] | a value of every token, for reinforcement learning |
//! | [`folder`] | Hugging Face folders in and out |
//! | `published` | models on the hub: which files are read |
//! | `quantization` | quantised folders, refused by their method |
//! | [`precision`] | what weights are kept and written as |
//! | [`weights`] | parameters from and to safetensors files |
//! | [`cache`] | keys and values of prompts shared by samples |
//! | `recompute` | blocks whose activations the backward pass computes again |
//! | `text` | how a model folder reads text |

pub mod adapter;
pub mod attention;
pub mod cache;
pub mod config;
pub mod decoder;
pub mod families;
pub mod folder;
pub mod norm;
pub mod precision;
mod published;
mod quantization;
mod recompute;
pub mod reward_model;
pub mod rotary;
mod text;
pub mod value_head;
pub mod weights;

pub use config::DecoderConfig;
pub use decoder::Decoder;
pub use folder::{ModelFolder, save};
pub use precision::{Precision, WeightType};
pub use reward_model::{RewardModel, reward_padding, reward_reading};
pub use text::{check_same_tokens, plain_tokenizer, reads_date, reward_folder, tokenizer};
pub use value_head::ValueHead;
