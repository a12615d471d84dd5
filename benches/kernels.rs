//! Each kernel of the CPU beside the plain operations it stands for, in one run, in turn.
//!
//! ```text
//! cargo bench --bench kernels -- [tokens=1720] [repeats=11]
//! ```
//!
//! One JSON object a line: median milliseconds of both and their ratio, forward alone and forward with
//! backward. Shapes are those of SmolLM2-135M; `tokens` are 4 groups of a prompt of 350 and two
//! completions of 40.

use std::sync::Arc;
use std::time::Instant;

use burn::nn::{RmsNorm, RmsNormConfig};
use burn::tensor::activation::{gelu, sigmoid, silu, softmax};
use burn::tensor::module::layer_norm;
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};
use exalign::kernels;
use exalign::kernels::attention::{Heads, attend};
use exalign::kernels::gelu::Gelu;
use exalign::layout::SharedPrompt;
use support::number;

mod support;

#[path = "../experiments/allocator.rs"]
#[allow(unsafe_code, reason = "the program's own allocator settings")]
mod allocator;

const HIDDEN: usize = 576;
const INNER: usize = 1536;
const HEADS: Heads = Heads { queries: 9, keys: 3, width: 64 };

/// A function of three inputs.
type Function<'a> = &'a dyn Fn([Tensor<3>; 3]) -> Tensor<3>;

fn main() {
    allocator::keep_freed_memory();
    let bench = Bench { tokens: number("tokens", 1720), repeats: number("repeats", 11) };

    bench.compare(
        "SiLU·up",
        [INNER, INNER, 1],
        &|[gate, up, _]| kernels::swiglu::swiglu(gate, up),
        &|[gate, up, _]| silu(gate) * up,
    );
    bench.compare(
        "GELU by tanh",
        [INNER, 1, 1],
        &|[x, ..]| kernels::gelu::gelu(x, Gelu::Tanh),
        &|[x, ..]| {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let inner = (x.clone() * x.clone() * (0.044715 * root) + root) * x.clone();
            x * sigmoid(inner * 2.0)
        },
    );
    bench.compare(
        "GELU by erf",
        [INNER, 1, 1],
        &|[x, ..]| kernels::gelu::gelu(x, Gelu::Erf),
        &|[x, ..]| gelu(x),
    );
    // x, and a weight out of the second input.
    let factors = |x: Tensor<3>, weight: Tensor<3>| -> [Tensor<2>; 2] {
        [x.squeeze_dim(0), weight.slice([0..1, 0..HIDDEN]).squeeze_dim(0)]
    };
    bench.compare(
        "product with a weight",
        [HIDDEN, INNER, 1],
        &|[x, weight, _]| {
            let [x, weight] = factors(x, weight);
            kernels::linear::product(x, weight).unsqueeze()
        },
        &|[x, weight, _]| {
            let [x, weight] = factors(x, weight);
            x.matmul(weight).unsqueeze()
        },
    );
    bench.compare(
        "product with a weight in bf16",
        [HIDDEN, INNER, 1],
        &|[x, weight, _]| {
            let [x, weight] = factors(x, weight);
            kernels::linear::product(x, kernels::cast::to_bf16(weight)).unsqueeze()
        },
        &|[x, weight, _]| {
            let [x, weight] = factors(x, weight).map(|it| it.cast(DType::BF16));
            x.matmul(weight).cast(DType::F32).unsqueeze()
        },
    );
    let norm = |x: &Tensor<3>| -> RmsNorm { RmsNormConfig::new(HIDDEN).init(&x.device()) };
    bench.compare(
        "RMS norm",
        [HIDDEN, 1, 1],
        &|[x, ..]| kernels::rms_norm::rms_norm(&norm(&x), x),
        &|[x, ..]| norm(&x).forward(x),
    );
    let scales =
        |x: &Tensor<3>| (Tensor::ones([HIDDEN], &x.device()), Tensor::zeros([HIDDEN], &x.device()));
    bench.compare(
        "LayerNorm",
        [HIDDEN, 1, 1],
        &|[x, ..]| {
            let (gamma, beta) = scales(&x);
            kernels::layer_norm::layer_norm(x, gamma, beta, 1e-5)
        },
        &|[x, ..]| {
            let (gamma, beta) = scales(&x);
            layer_norm(x, gamma, Some(beta), 1e-5)
        },
    );
    let groups = Arc::new(bench.groups());
    let hidden = bench.hidden(&groups);
    let widths = [HEADS.queries, HEADS.keys, HEADS.keys].map(|it| it * HEADS.width);
    bench.compare(
        "attention",
        widths,
        &|[query, key, value]| attend(query, key, value, groups.clone(), HEADS),
        &|inputs| plain_attention(inputs, &hidden),
    );
}

struct Bench {
    tokens: usize,
    repeats: usize,
}

impl Bench {
    /// Both in turn, so that what else the machine does meets both.
    fn compare(&self, name: &str, widths: [usize; 3], kernel: Function, plain: Function) {
        for (what, backward) in [("forward", false), ("forward and backward", true)] {
            let mut times = [Vec::new(), Vec::new()];
            for _ in 0..=self.repeats {
                times[0].push(self.time(widths, kernel, backward));
                times[1].push(self.time(widths, plain, backward));
            }
            let [kernel, plain] = times.map(|it| median(&it[1..])); // the first warms up
            let line = serde_json::json!({
                "kernel": name, "pass": what, "tokens": self.tokens,
                "plain_ms": plain, "kernel_ms": kernel, "ratio": plain / kernel,
            });
            println!("{line}");
        }
    }

    /// Milliseconds of one call.
    fn time(&self, widths: [usize; 3], function: Function, backward: bool) -> f64 {
        let device = if backward { Device::flex().autodiff() } else { Device::flex() };
        let input = |(index, width): (usize, usize)| {
            let count = self.tokens * width;
            let value = |it: usize| ((it * 7919 + index * 104_729) % 4001) as f32 / 1000.0 - 2.0;
            let values: Vec<f32> = (0..count).map(value).collect();
            let x = Tensor::from_data(TensorData::new(values, [1, self.tokens, width]), &device);
            if backward { x.require_grad() } else { x }
        };
        let mut index = 0;
        let inputs = widths.map(|width| {
            index += 1;
            input((index, width))
        });
        // Of tensors that somebody else holds, as those of a decoder are.
        let held = inputs.clone();
        let started = Instant::now();
        let out = function(inputs);
        if backward {
            let gradients = out.sum().backward();
            std::hint::black_box(held[0].grad(&gradients));
        } else {
            std::hint::black_box(out);
        }
        1e3 * started.elapsed().as_secs_f64()
    }

    /// Four groups of two completions that fill the tokens.
    fn groups(&self) -> Vec<SharedPrompt> {
        let len = self.tokens / 4;
        let completion = len * 40 / 430;
        let group = |index| SharedPrompt {
            start: index * len,
            prompt: len - 2 * completion,
            completions: vec![completion; 2],
        };
        (0..4).map(group).collect()
    }

    /// What no token of a group may see, a row a group: `[4, 1, row, row]`.
    fn hidden(&self, groups: &[SharedPrompt]) -> Tensor<4, Bool> {
        let len = self.tokens / 4;
        let mut hidden = vec![true; 4 * len * len];
        for (index, group) in groups.iter().enumerate() {
            for (part, prompt) in group.parts_and_prompts() {
                for token in part.clone() {
                    let row = (index * len + token - group.start) * len;
                    hidden[row..row + prompt.len()].fill(false);
                    hidden[row + part.start - group.start..=row + token - group.start].fill(false);
                }
            }
        }
        Tensor::from_data(TensorData::new(hidden, [4, 1, len, len]), &Device::flex())
    }
}

/// Attention by masked scores, a group a row of the batch.
fn plain_attention([query, key, value]: [Tensor<3>; 3], hidden: &Tensor<4, Bool>) -> Tensor<3> {
    let [_, tokens, width] = query.dims();
    let row = tokens / 4;
    let split = |x: Tensor<3>, count: usize| {
        x.slice([0..1, 0..4 * row]).reshape([4, row, count, HEADS.width]).swap_dims(1, 2)
    };
    let shared = |x: Tensor<3>| {
        let sharing = HEADS.queries / HEADS.keys;
        let heads = split(x, HEADS.keys).reshape([4, HEADS.keys, 1, row, HEADS.width]);
        heads.repeat_dim(2, sharing).reshape([4, HEADS.queries, row, HEADS.width])
    };
    let hidden = match query.device().is_autodiff() {
        true => hidden.clone().to_device(&query.device()),
        false => hidden.clone(),
    };
    let scores = split(query, HEADS.queries).matmul(shared(key).swap_dims(2, 3));
    let scores = scores / (HEADS.width as f64).sqrt();
    let hidden = hidden.expand([4, HEADS.queries, row, row]);
    let mixed = softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3).matmul(shared(value));
    mixed.swap_dims(1, 2).reshape([1, 4 * row, width])
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
