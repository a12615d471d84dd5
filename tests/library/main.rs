//! Claims about the library, checked in one process. One binary holds them all, because every further
//! one compiles `support` and links burn again; `cargo test --release --test library peft::` runs one file.

#[path = "../support/mod.rs"]
mod support;

mod adapter;
mod decoder;
mod dropout;
mod less_memory;
mod mutated;
mod objectives;
mod peft;
mod reward_model;
mod sampling;
mod shared_prompt;
mod smollm2;
mod weights;
