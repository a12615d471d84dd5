//! Weights in and out of safetensors files, and new weights.
//!
//! Reading takes one tensor at a time, so its peak memory is the model and one tensor. A matrix that is bf16 in the
//! file, is kept as bf16 and is not trained stays in the file, which is mapped. An error lists all tensors that are
//! missing, unexpected or misshapen. Writing holds one tensor at a time and goes through a temporary file and
//! a rename.

mod files;
mod initialize;
mod load;
mod number;
mod packing;
mod parameters;
mod save;

pub(crate) use files::{INDEX, SINGLE, all_finite, shards};
pub use files::{SafetensorsFiles, weight_files};
pub use initialize::initialize;
pub use load::Load;
pub use parameters::with_stable_ids;
pub use save::{Saving, save};

pub(super) use load::shapes;
pub(super) use packing::Packing;
pub(super) use parameters::ParameterPath;
pub(super) use save::write_tensors;

/// A shape for messages, `none` where there is no tensor.
pub(super) fn shown(shape: Option<&[usize]>) -> String {
    shape.map_or("none".to_owned(), |shape| format!("{shape:?}"))
}

/// The first few of a list, and how many more there are.
pub(super) fn abridged(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
