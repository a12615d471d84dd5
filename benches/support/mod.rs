//! What the benchmarks share: a decoder of known shape, groups of tokens, memory.

#![allow(dead_code, reason = "every benchmark uses a part")]

use burn::tensor::{Device, Tensor};
use exalign::data::{GroupBatch, TokenGroup};
use exalign::model::Decoder;
use exalign::model::config::{
    DecoderConfig, FeedForwardKind, NormKind, PositionEncoding, RotaryConfig, RotaryScaling,
};
use exalign::model::weights::initialize;
use exalign::training::{AlignmentBatch, Micro};

/// `name=NUMBER` of the command line.
pub fn number(name: &str, otherwise: usize) -> usize {
    given(name).and_then(|it| it.parse().ok()).unwrap_or(otherwise)
}

/// `name=VALUE` of the command line.
pub fn given(name: &str) -> Option<String> {
    let prefix = format!("{name}=");
    std::env::args().find_map(|it| it.strip_prefix(&prefix).map(str::to_owned))
}

/// What makes one model of a family larger than another.
pub struct Shape {
    pub name: &'static str,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    pub num_kv_heads: usize,
}

pub const SMOLLM2_135M: Shape = Shape {
    name: "SmolLM2-135M",
    hidden_size: 576,
    intermediate_size: 1536,
    num_layers: 30,
    num_heads: 9,
    num_kv_heads: 3,
};

/// A decoder of this shape; its weights are random.
pub fn decoder(shape: &Shape, device: &Device) -> Decoder {
    let shape = DecoderConfig {
        vocab_size: 49152,
        hidden_size: shape.hidden_size,
        intermediate_size: shape.intermediate_size,
        num_layers: shape.num_layers,
        num_heads: shape.num_heads,
        num_kv_heads: shape.num_kv_heads,
        head_dim: 64,
        max_positions: 8192,
        window: None,
        norm: NormKind::Rms,
        norm_epsilon: 1e-5,
        position_encoding: PositionEncoding::Rotary(RotaryConfig {
            base: 1e5,
            width: 64,
            interleaved: false,
            scaling: RotaryScaling::None,
        }),
        feed_forward: FeedForwardKind::SwiGlu,
        parallel_residual: false,
        output_norms: false,
        query_key_norm: false,
        qkv_bias: false,
        output_bias: false,
        feed_forward_bias: false,
        tied_embeddings: true,
        end_of_text: vec![2],
    };
    initialize(Decoder::new(shape.clone(), device), &shape, 5, device)
}

/// A group of tokens that look random.
pub fn group(number: usize, prompt: usize, completions: usize, completion: usize) -> TokenGroup {
    let token = |it: usize| ((it * 7919 + number * 104_729) % 49_152) as u32;
    TokenGroup {
        line: number,
        prompt: (0..prompt).map(token).collect(),
        completions: (1..=completions)
            .map(|k| (k * 1000..k * 1000 + completion).map(token).collect())
            .collect(),
        rewards: (0..completions).map(|it| it as f64).collect(),
        ..TokenGroup::default()
    }
}

pub fn micro_batch(groups: &[TokenGroup], of: usize, device: &Device) -> Micro<AlignmentBatch> {
    let batch = GroupBatch::new(groups, device);
    let [rows, k] = [batch.num_groups, batch.num_completions];
    let rewards = groups.iter().flat_map(|it| it.rewards.iter().map(|&it| it as f32));
    let rewards = Tensor::<1>::from_floats(&rewards.collect::<Vec<f32>>()[..], device);
    let batch = AlignmentBatch {
        groups: batch,
        parts: Vec::new(),
        reference: Tensor::zeros([rows, k], device),
        proposal: None,
        tokens: None,
        rewards: rewards.reshape([rows, k]),
        mismatched_kl: 0.0,
    };
    Micro { batch, share: groups.len() as f64 / of as f64, device: 0, dropout: None }
}

/// The most memory the process ever held, in bytes; 0 where the system does not tell.
pub fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Lets [`peak_memory_bytes`] begin anew, where the system can.
pub fn forget_peak_memory() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
