//! Exact alignment of language models: EXO and DPO on burn.
//!
//! Alignment maximises E\[r\] − β·KL(π ‖ π_sft). DPO fits the optimum π* with the forward KL, which covers
//! mass. EXO (Ji et al. 2024) minimises the reverse KL, as reinforcement learning does, at DPO's cost: it
//! draws K completions once from π_sft, and renormalises policy and target over those K.
//!
//! # Layout
//!
//! A room is a module with one subject. It uses only rooms further down in this table; within a row, a room
//! uses only those to its right. Only loaders, stores, checkpoints, reports and settings touch the disk.
//!
//! | room | what it does | what it never does |
//! |---|---|---|
//! | [`tuning`] | a model folder, a file of records and settings → a trained model folder | know a command |
//! | [`training`] | steps, the loop for burn's Learner, checkpoints, resuming | know what an objective computes |
//! | [`generation`] | draws completions, with the cache of the prompt shared | read files |
//! | [`rewards`] | what reward models, programs, rules and graders give completions | say who asks |
//! | [`judges`] | say which of two answers is better, or how good one is; the one room that asks an endpoint | count verdicts |
//! | [`config`] | the settings of the stages, from all of their sources | know an experiment |
//! | [`report`](mod@report) | one HTML page and its JSON | compute a figure |
//! | [`evaluation`] | reward, KL, the exact optimum, win rates, agreement | run a model or ask a judge |
//! | [`reference`](mod@reference) | the store of reference log-probs | hold a model |
//! | [`policy`] | Σ log-prob of completions: by the decoder, each prompt encoded once, and by tables | know what the log-probs are for |
//! | [`model`] | the decoder, families, weights in and out | draw a token or compute a loss |
//! | [`alignment`] | the [`Alignment`](alignment::Alignment) trait and its objectives | see a model, a token or a file |
//! | [`data`] | files → records → token ids → batches | guess: bad data is refused with its line |
//! | [`kernels`] | faster forms of operations that are slow in burn's backends, and the vocabulary head, forward and backward | know a model |
//! | [`deferred`] | parts of a backward pass that are computed again when it comes to them | know what they compute |
//! | [`layout`] | which tokens of a batch see which, as the attention of a device reads it | know a token |
//! | [`hub`] | models and data sets by their hub id | read the files that it fetches |
//! | [`statistics`] | means and shares with their intervals | know what the numbers measure |
//! | [`device`], [`files`], [`memory`], [`progress`], [`interrupt`] | devices, files that are complete or absent, free memory, progress bars and the stages of a run, Ctrl-C | |
//! | [`printable`], [`secrets`], `panics`, `error` | foreign text for terminals, keys that are never shown, panics as messages, the one error type | |
//!
//! The program (`experiments/`) has the command line, the stages and the experiments. Only the program knows
//! the paths of files.
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
//! - On the CPU, all groups of a batch follow one another in one row, and the [attention
//!   kernel](kernels::attention) knows where each group begins. Elsewhere a group is one row of a batch,
//!   under a block mask ([`layout`]). Prompts are shared by masks and not by slices, because burn's backward
//!   pass of a slice costs as much as the whole source.
//! - The vocabulary head is a custom operation with its own backward pass
//!   ([`kernels::vocabulary_head`]): the logits of all positions are never held at once.
//! - The training loop is our own [strategy](training::Training) for burn's Learner, because burn's
//!   saves by epoch, sums gradients and clips every tensor apart.
//! - Weights in bf16 that are not trained stay in their files, which are mapped; all others are read tensor by
//!   tensor. `unsafe` is only in that mapping, in the matrix products of [`kernels`], and in the program's settings
//!   of the allocator.
//!
//! # From a program
//!
//! [`tuning::align`] aligns a model folder on a file of records, with [`config::AlignSettings`] from the same sources
//! as the command line's, and [`alignment::register`] adds an objective first: `examples/own_objective.rs`.
//! [`tuning::Demonstrated`] fine-tunes and [`tuning::Labelled`] trains reward models. [`tuning::load_decoder`] and
//! [`generation::sample`] draw completions: tokens in, tokens out, several a prompt.
//!
//! # Crates, and why each
//!
//! `burn` models, autodiff, optimizers, backends · `tokenizers` the token ids of `transformers` ·
//! `safetensors` weights that other libraries read · `config` layered settings · `clap` the command line ·
//! `tracing-subscriber` logs · `indicatif` progress · `maud` the page of a report, escaped by construction · `comfy-table` tables in the terminal · `blake3` content
//! keys · `tempfile` files that appear complete · `memmap2` and `bytes` weights that stay in their files · `rmp-serde` lists on disk · `flate2` gzip · `parquet` and `arrow` published tables ·
//! `rand_chacha` random numbers that are the same everywhere · `prost` and `base64` tokenizers published as
//! sentencepiece or tiktoken files, and with `crc32c` the event files of TensorBoard · `rustix` the modes of a terminal, and the end of a program with all that it started · `shlex` command lines in words · `gemm` matrix products inside kernels, as in burn's CPU backend · `burn-cubecl`, `cubecl`, `cubek` kernels of GPUs · `pulp`
//! the widest vectors of a processor, chosen at run time · `chrono` today's date for chat templates · `ureq`
//! the hub and judges behind an endpoint, without an asynchronous runtime, and `rustls` endpoints with their
//! own certificates · `rayon` all cores · `half` and `bytemuck` narrow floats and bytes · `statrs` and
//! `rand_distr` distributions · `fancy-regex` the patterns of tokenizers and judges · `toml` settings ·
//! `zstd` compressed records · `ctrlc` and `libc` signals and files · `nvml-wrapper` the memory of NVIDIA
//! GPUs · `strsim` "did you mean".
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
//! let log_probs = GroupLogProbs::new(policy.clone(), row([-12.0, -11.5, -13.0]));
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
pub mod deferred;
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
pub mod tuning;

pub use error::{Error, Result};

#[cfg(test)]
mod rooms;
#[cfg(test)]
#[path = "../tests/support/skipped.rs"]
mod skipped;
