//! Claims about the program, checked by running it. One binary holds them all, because every further
//! one compiles `support` and links burn again; `cargo test --release --test program judge::` runs one file.

#[path = "../support/mod.rs"]
mod support;

mod command_line;
mod conversations;
mod devices;
mod dropout;
mod faults;
mod figures;
mod finished;
mod hub;
mod judge;
mod limits;
mod many_records;
mod memory;
mod not_finite;
mod objectives;
mod online;
mod ppo;
mod published;
mod remote;
mod resume;
mod rewards;
mod shards;
mod terminal;
mod toy;
mod validation;
mod watch;
