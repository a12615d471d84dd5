//! Seconds of an alignment step on a decoder of SmolLM2-135M's shape, by part: the reference's
//! forward pass, the policy's forward and backward pass, the update; and of its kernels beside the
//! plain operations they stand for.
//!
//! ```text
//! cargo bench --bench step -- [groups=4] [micro=1] [completions=2] [prompt=350] [completion=40] [steps=2]
//! ```
//!
//! One JSON object a line. Weights and tokens are random: their values change no time.

use std::time::Instant;

use burn::optim::ModuleOptimizer;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::tensor::{Device, Tensor};
use burn::train::TrainStep;
use exalign::alignment::ExoRwConfig;
use exalign::data::{GroupBatch, TokenGroup};
use exalign::log_probs::{Policy, token_log_probs_of};
use exalign::model::config::{
    DecoderConfig, FeedForwardKind, NormKind, PositionEncoding, RotaryConfig, RotaryScaling,
};
use exalign::model::weights::{initialize, with_stable_ids};
use exalign::model::{Decoder, Precision};
use exalign::training::{Aligner, AlignmentBatch, FusedAdam, Micro, Step, Trainee};

#[path = "../experiments/allocator.rs"]
#[allow(unsafe_code, reason = "the program's own allocator settings")]
mod allocator;

fn main() {
    allocator::keep_freed_memory();
    let number = |name: &str, otherwise: usize| {
        let prefix = format!("{name}=");
        std::env::args()
            .find_map(|it| it.strip_prefix(&prefix).and_then(|it| it.parse().ok()))
            .unwrap_or(otherwise)
    };
    let (num_groups, micro) = (number("groups", 4), number("micro", 1));
    let (completions, prompt) = (number("completions", 2), number("prompt", 350));
    let (completion, steps) = (number("completion", 40), number("steps", 2));
    let groups: Vec<TokenGroup> =
        (0..num_groups).map(|it| group(it, prompt, completions, completion)).collect();

    let inference = Device::flex();
    let reference = decoder(&inference);
    let started = Instant::now();
    let scored = token_log_probs_of(&reference, &groups, 1.0, &inference, |_| Ok(()))
        .expect("nothing interrupts it");
    report("reference", started, &[("completions", scored.len() * completions)]);
    drop(reference);

    let device = Device::flex().autodiff();
    let objective = ExoRwConfig::new().init().expect("defaults");
    let mut trainee = with_stable_ids(Trainee::new(
        Aligner::new(decoder(&device), objective, 1.0),
        Precision::F32,
    ));
    let mut optimizer: ModuleOptimizer = FusedAdam::new([0.9, 0.999], 1e-8).into();
    for number in 1..=steps {
        let step = Instant::now();
        let micro_batches =
            groups.chunks(micro).map(|groups| micro_batch(groups, num_groups, &device));
        let micro_batches: Vec<_> = micro_batches.collect();
        if number == 1 {
            let started = Instant::now();
            let log_probs = trainee.module.policy.log_probs(&micro_batches[0].batch.groups, 1.0);
            report("forward of a micro-batch", started, &[("groups", micro)]);
            let started = Instant::now();
            log_probs.sum().backward();
            report("backward of a micro-batch", started, &[("groups", micro)]);
        }
        let started = Instant::now();
        let input = Step {
            epoch: 0,
            micro_batches,
            num_groups,
            num_tokens: groups.iter().map(TokenGroup::num_tokens).sum(),
            records: Vec::new(),
        };
        let output = TrainStep::step(&trainee, input);
        report("gradient", started, &[("groups", num_groups)]);
        let started = Instant::now();
        let rate = ModuleLearningRate::from(1e-6);
        trainee = TrainStep::optimize(trainee, &mut optimizer, rate, output.grads);
        report("update", started, &[]);
        report("step", step, &[("number", number)]);
    }
}

/// A decoder of SmolLM2-135M's shape.
fn decoder(device: &Device) -> Decoder {
    let shape = DecoderConfig {
        vocab_size: 49152,
        hidden_size: 576,
        intermediate_size: 1536,
        num_layers: 30,
        num_heads: 9,
        num_kv_heads: 3,
        head_dim: 64,
        max_positions: 8192,
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
fn group(number: usize, prompt: usize, completions: usize, completion: usize) -> TokenGroup {
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

fn micro_batch(groups: &[TokenGroup], of: usize, device: &Device) -> Micro<AlignmentBatch> {
    let batch = GroupBatch::new(groups, device);
    let [rows, k] = [batch.num_groups, batch.num_completions];
    let rewards = groups.iter().flat_map(|it| it.rewards.iter().map(|&it| it as f32));
    let rewards = Tensor::<1>::from_floats(&rewards.collect::<Vec<f32>>()[..], device);
    let batch = AlignmentBatch {
        groups: batch,
        reference: Tensor::zeros([rows, k], device),
        rewards: rewards.reshape([rows, k]),
    };
    Micro { batch, share: groups.len() as f64 / of as f64, device: 0 }
}

fn report(what: &str, started: Instant, more: &[(&str, usize)]) {
    let mut line = serde_json::json!({
        "part": what, "seconds": started.elapsed().as_secs_f64(),
        "peak_memory_bytes": peak_memory_bytes(),
    });
    for (name, value) in more {
        line[name] = (*value).into();
    }
    println!("{line}");
}

/// The most memory the process ever held, in bytes; 0 where the system does not tell.
fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
