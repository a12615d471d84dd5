//! What work takes of memory, before any is taken.
//!
//! | part | what |
//! |---|---|
//! | `training` | a training, and how it is cut to fit |
//! | `drawing` | completions that are drawn |

mod drawing;
mod training;

use burn::tensor::Device;

use crate::device::has_own_memory;
use crate::memory::{Bytes, available};
use crate::model::{DecoderConfig, WeightType};

pub use drawing::DrawingFit;
pub use training::Fit;
pub(super) use training::{LOWER_LENGTH, Size, Sizes, fit, sizes};

/// Bytes of an f32.
const FLOAT: Bytes = 4;
/// The share of the free memory that work is cut to.
const SHARE: f64 = 0.9;

/// The free memory, and what work may take of it; none where the device does not say.
fn free_memory(device: &Device) -> (Option<Bytes>, Option<Bytes>) {
    let free = if has_own_memory(device) { None } else { available().map(Bytes::from) };
    (free, free.map(|free| (free as f64 * SHARE) as Bytes))
}

/// Bytes of all weights as they are kept.
fn weights(shape: &DecoderConfig, kept: WeightType) -> Bytes {
    let size = kept.precision().dtype().size() as Bytes;
    match kept.format() {
        Some(format) => {
            let of_blocks = shape.num_block_weights();
            let packed = of_blocks * format.num_bytes(1024) as Bytes / 1024;
            packed + (shape.num_weights() - of_blocks) * size
        }
        None => shape.num_weights() * size,
    }
}
