//! Claims about whatever is read: damaged, hostile or nonsense, it ends in a value or in an error, never
//! in a panic, an abort or without end.
//!
//! Inputs are made by formula, changed by a few of [`Mutation`] and read in this process. Every run tries
//! the same changes. `EXALIGN_CASES` tries more of each kind, `EXALIGN_SEED` others; for a look at memory,
//! under `prlimit --as=4000000000`. The input at work stands in the target folder as `mutated-KIND`, where
//! it can be found after an abort.

mod adapters;
mod models;
mod mutation;
mod records;
mod state;
mod tokenizers;
