//! The attention on GPUs: one launch for prompt and completion together.
//!
//! A cube has the queries of one sample that share a key head. Its planes divide the keys among them for the
//! scores, and its units the entries of the output for the sums of values: neighbours read what lies side by side.

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
const UNITS: u32 = 256;
/// Entries of the queries of a cube, at most.
const ENTRIES: usize = 1024;
/// Scores that a cube holds in its shared memory.
const SCORES: usize = (crate::device::GPU_SHARED_MEMORY / 4) - UNITS as usize - ENTRIES;

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
    let (device, width) = (x.device(), x.dims()[3]);
    !device.is_autodiff()
        && crate::device::has_gpu_kernels(&device)
        && queries * keys <= SCORES
        && queries * width <= ENTRIES
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
            client.properties().hardware.plane_size_max as usize,
            types,
        );
        out
    }
}

mod kernel {
    use cubecl::prelude::*;

    use super::{ENTRIES, SCORES};

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
        #[comptime] plane: usize,
        #[define(F, I)] _types: [ElemType; 2],
    ) {
        let mut scores = Shared::<[f32]>::new_slice(SCORES);
        let mut asked = Shared::<[f32]>::new_slice(ENTRIES);
        let mut parts = Shared::<[f32]>::new_slice(units);
        let unit = UNIT_POS as usize;
        let lane = unit % plane;
        let planes = comptime!(units / plane);
        let entries = comptime!(queries * width);
        let cube = CUBE_POS;
        let heads = query.shape(1);
        let sample = cube / heads;
        let head = cube % heads;
        let group = sample / per_group as usize;
        let prompt = usize::cast_from(prompts[group]);
        let count = prompt + len as usize;
        let of_query = cube * entries;
        let of_prompt = (group * heads + head) * prompt_keys.shape(2) * width;
        let of_own = cube * keys.shape(2) * width;

        let mut entry = unit;
        while entry < entries {
            asked[entry] = f32::cast_from(query[of_query + entry]);
            entry += units;
        }
        sync_cube();

        // A plane has a key, its units the entries of the head.
        let mut key = unit / plane;
        while key < count {
            #[unroll]
            for q in 0..queries {
                let mut sum = 0.0f32;
                let mut d = lane;
                if key < prompt {
                    while d < width {
                        let entry = f32::cast_from(prompt_keys[of_prompt + key * width + d]);
                        sum += asked[q * width + d] * entry;
                        d += plane;
                    }
                } else {
                    while d < width {
                        let entry = f32::cast_from(keys[of_own + (key - prompt) * width + d]);
                        sum += asked[q * width + d] * entry;
                        d += plane;
                    }
                }
                let score = plane_sum(sum);
                if lane == 0 {
                    scores[q * count + key] = score;
                }
            }
            key += planes;
        }
        sync_cube();

        #[unroll]
        for q in 0..queries {
            let mut most = f32::min_value();
            let mut key = unit;
            while key < count {
                most = max(most, scores[q * count + key]);
                key += units;
            }
            let of_plane = plane_max(most);
            if lane == 0 {
                parts[unit / plane] = of_plane;
            }
            sync_cube();
            let mut largest = parts[0];
            #[unroll]
            for other in 1..planes {
                largest = max(largest, parts[other]);
            }
            sync_cube();
            let mut sum = 0.0f32;
            let mut key = unit;
            while key < count {
                let weight = (scores[q * count + key] - largest).exp();
                scores[q * count + key] = weight;
                sum += weight;
                key += units;
            }
            let of_plane = plane_sum(sum);
            if lane == 0 {
                parts[unit / plane] = of_plane;
            }
            sync_cube();
            let mut total = parts[0];
            #[unroll]
            for other in 1..planes {
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

        // Several units share the keys of an entry of the output, where there are more units than entries.
        let shares = comptime!(if units > entries { units / entries } else { 1 });
        let share = unit / entries % shares;
        let mut entry = unit;
        if comptime!(shares > 1) {
            entry = unit % entries;
            if unit >= shares * entries {
                entry = entries; // has nothing to do
            }
        }
        while entry < entries {
            let q = entry / width;
            let d = entry % width;
            let mut sum = 0.0f32;
            let mut key = share;
            while key < prompt {
                sum += scores[q * count + key]
                    * f32::cast_from(prompt_values[of_prompt + key * width + d]);
                key += shares;
            }
            let mut key = share;
            while key < len as usize {
                sum += scores[q * count + prompt + key]
                    * f32::cast_from(values[of_own + key * width + d]);
                key += shares;
            }
            if comptime!(shares > 1) {
                parts[unit] = sum;
                entry = entries;
            } else {
                out[of_query + entry] = F::cast_from(sum);
                entry += units;
            }
        }
        if comptime!(shares > 1) {
            sync_cube();
            if unit < entries {
                let mut total = 0.0f32;
                #[unroll]
                for other in 0..shares {
                    total += parts[other * entries + unit];
                }
                out[of_query + unit] = F::cast_from(total);
            }
        }
    }
}
