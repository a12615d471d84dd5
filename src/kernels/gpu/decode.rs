//! The attention on GPUs: one launch for prompt and completion together.
//!
//! A cube has the queries of one sample that share a key head. Its units divide the keys among them for the
//! scores, and the entries of the output for the sums of values.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Int, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::{CubeCount, CubeDim};

/// Units of a cube, where the device has as many.
const UNITS: u32 = 128;
/// Scores that a cube holds in its shared memory.
const SCORES: usize = (crate::device::GPU_SHARED_MEMORY / 4) - UNITS as usize;

/// Keys or values as the kernel reads them: of the prompts `[groups, kv_heads, prompt, head_dim]`, and of the
/// completions so far, one a sample, `[samples, kv_heads, capacity, head_dim]`.
pub struct Remembered {
    /// Of the prompts.
    pub prompts: Tensor<4>,
    /// Of the completions.
    pub completions: Tensor<4>,
}

/// Whether the kernel attends from so many queries of a key head to so many keys, on the device of `x`.
pub fn takes(x: &Tensor<4>, queries: usize, keys: usize) -> bool {
    let device = x.device();
    !device.is_autodiff() && crate::device::has_gpu_kernels(&device) && queries * keys <= SCORES
}

/// The same values, in memory in the order of their indices, as [`attend`] reads them.
pub fn in_order(prompts: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as DecodeOps>::in_order_of_memory(prompts.into_dispatch()))
}

/// What the queries make of the values, `[samples, kv_heads, queries, head_dim]`.
///
/// - `query`: scaled, of the same shape, the samples of a group next to one another
/// - `prompts`: of every group the tokens of its prompt, `[groups]`
/// - `len`: tokens of a completion so far
pub fn attend(
    query: Tensor<4>,
    keys: Remembered,
    values: Remembered,
    prompts: Tensor<1, Int>,
    len: usize,
) -> Tensor<4> {
    let mixed = <Dispatch as DecodeOps>::attend_to_cache(
        query.into_dispatch(),
        keys.prompts.into_dispatch(),
        keys.completions.into_dispatch(),
        values.prompts.into_dispatch(),
        values.completions.into_dispatch(),
        prompts.into_dispatch(),
        len,
    );
    Tensor::from_dispatch(mixed)
}

/// The attention as burn dispatches it.
#[backend_extension(Cube)]
pub trait DecodeOps: Backend {
    /// As [`in_order`] says.
    fn in_order_of_memory(values: FloatTensor<Self>) -> FloatTensor<Self>;

    /// As [`attend`] says.
    fn attend_to_cache(
        query: FloatTensor<Self>,
        prompt_keys: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        prompt_values: FloatTensor<Self>,
        values: FloatTensor<Self>,
        prompts: IntTensor<Self>,
        len: usize,
    ) -> FloatTensor<Self>;
}

impl DecodeOps for CubeBackend {
    fn in_order_of_memory(values: CubeTensor) -> CubeTensor {
        into_contiguous(values)
    }

    fn attend_to_cache(
        query: CubeTensor,
        prompt_keys: CubeTensor,
        keys: CubeTensor,
        prompt_values: CubeTensor,
        values: CubeTensor,
        prompts: CubeTensor,
        len: usize,
    ) -> CubeTensor {
        let [query, prompt_keys, keys, prompt_values, values, prompts] =
            [query, prompt_keys, keys, prompt_values, values, prompts].map(into_contiguous);
        let [samples, heads, queries, width] = query.shape().dims();
        let groups = prompt_keys.shape()[0];
        let client = query.client.clone();
        let types = [dtype_to_storage_type(query.dtype), dtype_to_storage_type(prompts.dtype)];
        let out = empty_device_contiguous_dtype(
            client.clone(),
            query.device.clone(),
            query.shape(),
            query.dtype,
        );
        let units = UNITS.min(client.properties().hardware.max_units_per_cube);
        kernel::attend::launch(
            &client,
            CubeCount::Static((samples * heads) as u32, 1, 1),
            CubeDim::new_1d(units),
            query.into_tensor_arg(),
            prompt_keys.into_tensor_arg(),
            keys.into_tensor_arg(),
            prompt_values.into_tensor_arg(),
            values.into_tensor_arg(),
            prompts.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            len as u32,
            (samples / groups) as u32,
            queries,
            width,
            units as usize,
            types,
        );
        out
    }
}

mod kernel {
    use cubecl::prelude::*;

    use super::SCORES;

    /// Of the shapes that [`attend`](super::attend) says, `[len, per_group]` at run time.
    #[cube(launch)]
    pub fn attend<F: Float, I: Int>(
        query: &Tensor<F>,
        prompt_keys: &Tensor<F>,
        keys: &Tensor<F>,
        prompt_values: &Tensor<F>,
        values: &Tensor<F>,
        prompts: &Tensor<I>,
        out: &mut Tensor<F>,
        len: u32,
        per_group: u32,
        #[comptime] queries: usize,
        #[comptime] width: usize,
        #[comptime] units: usize,
        #[define(F, I)] _types: [ElemType; 2],
    ) {
        let mut scores = Shared::<[f32]>::new_slice(SCORES);
        let mut parts = Shared::<[f32]>::new_slice(units);
        let unit = UNIT_POS as usize;
        let cube = CUBE_POS;
        let heads = query.shape(1);
        let sample = cube / heads;
        let head = cube % heads;
        let group = sample / per_group as usize;
        let prompt = usize::cast_from(prompts[group]);
        let count = prompt + len as usize;
        let of_query = cube * queries * width;
        let of_prompt = (group * heads + head) * prompt_keys.shape(2) * width;
        let of_own = cube * keys.shape(2) * width;

        let mut key = unit;
        while key < count {
            #[unroll]
            for q in 0..queries {
                let mut sum = 0.0f32;
                if key < prompt {
                    for d in 0..width {
                        sum += f32::cast_from(query[of_query + q * width + d])
                            * f32::cast_from(prompt_keys[of_prompt + key * width + d]);
                    }
                } else {
                    for d in 0..width {
                        sum += f32::cast_from(query[of_query + q * width + d])
                            * f32::cast_from(keys[of_own + (key - prompt) * width + d]);
                    }
                }
                scores[q * count + key] = sum;
            }
            key += units;
        }

        #[unroll]
        for q in 0..queries {
            // Each unit goes over the scores that it wrote.
            let mut most = f32::min_value();
            let mut key = unit;
            while key < count {
                most = max(most, scores[q * count + key]);
                key += units;
            }
            parts[unit] = most;
            sync_cube();
            for other in 0..units {
                most = max(most, parts[other]);
            }
            sync_cube();
            let mut sum = 0.0f32;
            let mut key = unit;
            while key < count {
                let weight = (scores[q * count + key] - most).exp();
                scores[q * count + key] = weight;
                sum += weight;
                key += units;
            }
            parts[unit] = sum;
            sync_cube();
            let mut total = 0.0f32;
            for other in 0..units {
                total += parts[other];
            }
            sync_cube();
            let mut key = unit;
            while key < count {
                scores[q * count + key] /= total;
                key += units;
            }
        }
        sync_cube();

        let mut entry = unit;
        while entry < queries * width {
            let q = entry / width;
            let d = entry % width;
            let mut sum = 0.0f32;
            for key in 0..prompt {
                sum += scores[q * count + key]
                    * f32::cast_from(prompt_values[of_prompt + key * width + d]);
            }
            for key in 0..len as usize {
                sum += scores[q * count + prompt + key]
                    * f32::cast_from(values[of_own + key * width + d]);
            }
            out[of_query + entry] = F::cast_from(sum);
            entry += units;
        }
    }
}
