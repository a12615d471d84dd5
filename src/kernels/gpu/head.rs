//! The vocabulary head in chunks of positions: a launch for the log-sum-exps of a chunk's logits, and one for their
//! gradient.
//!
//! The products are those of every other layer, so that logits are rounded to the type of the hidden states.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::CubeDim;

use super::{by_entry, cubes, empty_f32, empty_like};
use crate::kernels::product::ProductOps;
use crate::kernels::vocabulary_head::{Saved, chunks_of, rows};

/// Logits of a chunk; 64 Mi are 128 MiB in bf16.
const CHUNK: usize = 1 << 26;
/// Planes of a cube.
const PLANES: usize = 8;

/// A chunk's logits, not scaled, of the type of `hidden`.
fn logits(hidden: CubeTensor, weight: &CubeTensor) -> CubeTensor {
    into_contiguous(CubeBackend::product(hidden, CubeBackend::float_transpose(weight.clone())))
}

/// Log-probabilities and log-sum-exps in f32, each `[tokens]`.
pub fn forward(
    hidden: &CubeTensor,
    weight: &CubeTensor,
    targets: CubeTensor,
    inverse_temperature: f64,
) -> (CubeTensor, CubeTensor) {
    let (tokens, vocabulary) = (hidden.shape()[0], weight.shape()[0]);
    let targets = into_contiguous(targets);
    let per_token = || empty_f32(hidden, Shape::new([tokens]));
    let (log_probs, log_sums) = (per_token(), per_token());
    let plane = hidden.client.properties().hardware.plane_size_max;
    for range in chunks_of(CHUNK, tokens, vocabulary) {
        let logits = logits(rows::<CubeBackend>(hidden, &range), weight);
        let types = [logits.dtype, targets.dtype].map(dtype_to_storage_type);
        kernel::log_sums::launch(
            &logits.client.clone(),
            cubes(range.len()),
            CubeDim::new_2d(plane, PLANES as u32),
            logits.into_tensor_arg(),
            targets.clone().into_tensor_arg(),
            log_probs.clone().into_tensor_arg(),
            log_sums.clone().into_tensor_arg(),
            range.start as u32,
            inverse_temperature as f32,
            PLANES,
            types,
        );
    }
    (log_probs, log_sums)
}

/// Gradients with respect to `hidden` and `weight`, where they are wanted.
pub fn backward(
    saved: Saved<CubeTensor, CubeTensor>,
    grad: CubeTensor,
    for_hidden: bool,
    for_weight: bool,
) -> (Option<CubeTensor>, Option<CubeTensor>) {
    let Saved { hidden, weight, targets, log_sums, inverse_temperature } = saved;
    let (tokens, vocabulary) = (hidden.shape()[0], weight.shape()[0]);
    let [targets, log_sums, grad] = [targets, log_sums, grad].map(into_contiguous);
    // The gradient in the order that the weight has in memory: it may be the transpose of a layer's.
    let strides = weight.meta.strides();
    let is_transposed = strides[0] < strides[1];
    let mut of_hidden = Vec::new();
    let mut of_weight: Option<CubeTensor> = None;
    for range in chunks_of(CHUNK, tokens, vocabulary) {
        let hidden = rows::<CubeBackend>(&hidden, &range);
        let logits = logits(hidden.clone(), &weight);
        let of_logits = empty_like(&logits);
        let types = [logits.dtype, targets.dtype].map(dtype_to_storage_type);
        let (count, dim) = by_entry(logits.shape().num_elements());
        kernel::gradient::launch(
            &logits.client.clone(),
            count,
            dim,
            logits.into_tensor_arg(),
            targets.clone().into_tensor_arg(),
            log_sums.clone().into_tensor_arg(),
            grad.clone().into_tensor_arg(),
            of_logits.clone().into_tensor_arg(),
            range.start as u32,
            inverse_temperature as f32,
            types,
        );
        if for_weight {
            let share = if is_transposed {
                CubeBackend::product(CubeBackend::float_transpose(hidden), of_logits.clone())
            } else {
                CubeBackend::product(CubeBackend::float_transpose(of_logits.clone()), hidden)
            };
            of_weight = Some(match of_weight {
                Some(sum) => CubeBackend::float_add(sum, share),
                None => share,
            });
        }
        if for_hidden {
            of_hidden.push(CubeBackend::product(of_logits, weight.clone()));
        }
    }
    let of_weight =
        of_weight.map(|it| if is_transposed { CubeBackend::float_transpose(it) } else { it });
    (for_hidden.then(|| CubeBackend::float_cat(of_hidden, 0)), of_weight)
}

mod kernel {
    use cubecl::prelude::*;

    /// A cube has a row.
    #[cube(launch)]
    pub fn log_sums<F: Float, I: Int>(
        logits: &Tensor<F>,
        targets: &Tensor<I>,
        log_probs: &mut Tensor<f32>,
        log_sums: &mut Tensor<f32>,
        start: u32,
        inverse_temperature: f32,
        #[comptime] planes: usize,
        #[define(F, I)] _types: [ElemType; 2],
    ) {
        let mut parts = Shared::<[f32]>::new_slice(planes);
        let row = CUBE_POS;
        if row >= logits.shape(0) {
            terminate!();
        }
        let vocabulary = logits.shape(1);
        let unit = UNIT_POS_X as usize;
        let units = CUBE_DIM_X as usize;
        let plane = UNIT_POS_Y as usize;
        let at = row * vocabulary;

        let mut most = f32::min_value();
        let mut entry = plane * units + unit;
        while entry < vocabulary {
            most = max(most, f32::cast_from(logits[at + entry]));
            entry += planes * units;
        }
        let of_plane = plane_max(most);
        if unit == 0 {
            parts[plane] = of_plane;
        }
        sync_cube();
        let mut largest = parts[0];
        #[unroll]
        for other in 1..planes {
            largest = max(largest, parts[other]);
        }
        sync_cube();

        let mut sum = 0.0f32;
        let mut entry = plane * units + unit;
        while entry < vocabulary {
            let logit = f32::cast_from(logits[at + entry]);
            sum += ((logit - largest) * inverse_temperature).exp();
            entry += planes * units;
        }
        let of_plane = plane_sum(sum);
        if unit == 0 {
            parts[plane] = of_plane;
        }
        sync_cube();
        if UNIT_POS == 0 {
            let mut total = parts[0];
            #[unroll]
            for other in 1..planes {
                total += parts[other];
            }
            let log_sum = largest * inverse_temperature + total.ln();
            let token = start as usize + row;
            let target = usize::cast_from(targets[token]);
            let logit = f32::cast_from(logits[at + target]);
            log_sums[token] = log_sum;
            log_probs[token] = logit * inverse_temperature - log_sum;
        }
    }

    /// A unit for every logit.
    #[cube(launch)]
    pub fn gradient<F: Float, I: Int>(
        logits: &Tensor<F>,
        targets: &Tensor<I>,
        log_sums: &Tensor<f32>,
        grad: &Tensor<f32>,
        out: &mut Tensor<F>,
        start: u32,
        inverse_temperature: f32,
        #[define(F, I)] _types: [ElemType; 2],
    ) {
        let at = ABSOLUTE_POS;
        if at >= out.len() {
            terminate!();
        }
        let vocabulary = logits.shape(1);
        let token = start as usize + at / vocabulary;
        let target = usize::cast_from(targets[token]);
        let logit = f32::cast_from(logits[at]) * inverse_temperature;
        let mut slope = -(logit - log_sums[token]).exp();
        if at % vocabulary == target {
            slope += 1.0;
        }
        out[at] = F::cast_from(slope * grad[token] * inverse_temperature);
    }
}
