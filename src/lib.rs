//! Exact alignment of language models: EXO and DPO on burn.
//!
//! Alignment maximises E\[r\] − β·KL(π ‖ π_sft). DPO fits the optimum π* with the forward KL and
//! covers mass; EXO (Ji et al. 2024) minimises the reverse KL, the one reinforcement learning
//! minimises, at DPO's cost: over K completions drawn once from π_sft, both sides renormalised.
//!
//! # Layout
//!
//! A room uses only rooms further down in this table, and of those in one row only the ones behind
//! it. Only loaders, stores, checkpoints, reports and settings touch the disk.
//!
//! | room | what it does | what it never does |
//! |---|---|---|
//! | [`training`] | steps, the loop for burn's Learner, checkpoints, resuming | know what an objective computes |
//! | [`generation`] | completions from a shared prompt cache | read files |
//! | [`judges`] | who says which of two answers is better; the one room that asks an endpoint | count verdicts |
//! | [`config`] | the settings of the stages, from all of their sources | know an experiment |
//! | [`report`](mod@report) | one HTML page and its JSON | compute a figure |
//! | [`evaluation`] | reward, KL, the exact optimum, win rates, agreement | run a model or ask a judge |
//! | [`rewards`] | what a reward model gives completions | say who asks |
//! | [`reference`](mod@reference) | the store of reference log-probs | hold a model |
//! | [`policy`] | Σ log-prob of completions: the decoder, each prompt encoded once, and tables | know why they are wanted |
//! | [`model`] | the decoder, families, weights in and out | draw a token or compute a loss |
//! | [`alignment`] | the [`Alignment`](alignment::Alignment) trait and its objectives | see a model, a token or a file |
//! | [`data`] | files → records → token ids → batches | guess: what is wrong is refused with its line |
//! | [`kernels`] | what burn's CPU backend is slow at, and the vocabulary head, forward and backward | know a model |
//! | [`layout`] | which tokens of a batch see which, as the attention of a device reads it | know a token |
//! | [`hub`] | models and data sets by their hub id | read what it fetches |
//! | [`statistics`] | means and shares with their intervals | know of what |
//! | [`device`], [`files`], [`memory`], [`progress`], [`interrupt`] | devices, files that are whole or absent, what fits in memory, bars, Ctrl-C | |
//! | [`printable`], [`secrets`], `panics`, `error` | foreign text for terminals, keys that are never shown, panics as messages, the one error type | |
//!
//! The program (`experiments/`) has the command line, the stages and the experiments; it is the
//! only one that knows where things lie.
//!
//! # The way of the data
//!
//! ```text
//! pairs.jsonl ─ data::read_tokens ─▶ TokenGroup ─ GroupBatch::new ─▶ [prompt | c₁ | … | c_K], one row a group
//!      GroupBatch ─ Policy::log_probs ─▶ [groups, K] ─┐
//!      ReferenceStore ─────────────────▶ [groups, K] ─┼─ Alignment::loss ─▶ backward ─▶ mean gradient
//!      rewards ────────────────────────▶ [groups, K] ─┘   (one training::Step) ─▶ clip ─▶ Adam ─▶ checkpoint
//! ```
//!
//! # Where this differs from what one would expect
//!
//! - On the CPU all groups of a batch follow one another in one row, and one [attention
//!   kernel](kernels::attention) knows where they begin; elsewhere a group is one row of a batch,
//!   with a block mask ([`layout`]): burn's backward pass of a slice costs the whole source, so the
//!   shared prompt is a matter of masks, not of slices.
//! - The vocabulary head is a custom operation with its own backward pass
//!   ([`kernels::vocabulary_head`]): logits of all positions are never held.
//! - The training loop is our own [strategy](training::Training) for burn's Learner, because burn's
//!   saves by epoch, sums gradients and clips tensors apart.
//! - Weights are read tensor by tensor and not memory-mapped: `unsafe` stands in the matrix products of
//!   [`kernels`] alone, and in the program's choice of an allocator.
//!
//! # Crates, and why each
//!
//! `burn` models, autodiff, optimizers, backends · `tokenizers` the same ids as everybody ·
//! `safetensors` weights others can read · `config` layered settings · `clap` the command line ·
//! `tracing-subscriber` logs · `indicatif` progress · `maud` the report's page, escaped by construction · `comfy-table` tables in the terminal ·
//! `blake3` content keys · `tempfile` files that appear whole · `flate2` gzip · `parquet` and `arrow` tables as sets are published · `rand_chacha` random
//! numbers that are the same everywhere · `prost` and `base64` tokenizers published as
//! sentencepiece or tiktoken files · `gemm` the matrix products inside kernels, the same that burn's CPU backend uses · `pulp`
//! the widest vectors a processor has, chosen when it runs · `chrono` the date for those that ask ·
//! `ureq` the hub and judges behind an endpoint, without an asynchronous runtime, and `rustls` the certificates of their own that they have · `rayon` all cores · `half` and `bytemuck` narrow floats and bytes · `statrs` and `rand_distr` distributions · `fancy-regex` the patterns of tokenizers and judges · `toml` settings · `zstd` compressed records · `ctrlc` and `libc` signals and files · `nvml-wrapper` the memory of NVIDIA GPUs · `strsim` "did you mean".
//!
//! # Example
//!
//! One group of three completions, the reverse KL to its rewards, and the gradient that training
//! follows:
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use exalign::alignment::{Alignment, ExoRwConfig, GroupLogProbs};
//!
//! let device = Device::flex().autodiff();
//! let row = |values: [f32; 3]| Tensor::<2>::from_data([values], &device);
//! let policy = row([-12.0, -11.0, -14.0]).require_grad(); // Σ log π_θ of each completion
//! let log_probs = GroupLogProbs { policy: policy.clone(), reference: row([-12.0, -11.5, -13.0]) };
//!
//! let objective = ExoRwConfig::new().with_beta_policy(0.5).with_beta_reward(1.0).init()?;
//! let loss = objective.loss(&log_probs, &row([1.0, 0.0, 2.0])); // KL(q ‖ p), [1]
//! let gradients = loss.clone().backward();
//! let gradient: Vec<f32> = policy.grad(&gradients).unwrap().into_data().try_into_vec()?;
//!
//! assert!(loss.into_scalar::<f32>() > 0.0);
//! assert!(gradient[2] < 0.0, "descent makes the completion of the highest reward more likely");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod alignment;
pub mod config;
pub mod data;
pub mod device;
mod error;
pub mod evaluation;
pub mod files;
pub mod generation;
pub mod hub;
pub mod interrupt;
pub mod judges;
pub mod kernels;
pub mod layout;
pub mod memory;
pub mod model;
mod panics;
pub mod policy;
pub mod printable;
pub mod progress;
pub mod reference;
pub mod report;
pub mod rewards;
pub mod secrets;
pub mod statistics;
pub mod training;

pub use error::{Error, Result};

#[cfg(test)]
mod rooms;
#[cfg(test)]
#[path = "../tests/support/skipped.rs"]
mod skipped;
