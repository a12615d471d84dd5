//! Seconds of an alignment step on a decoder of SmolLM2-135M's shape, by part: the reference's
//! forward pass, the policy's forward and backward pass, the update; and of its kernels beside the
//! plain operations they stand for.
//!
//! ```text
//! cargo bench --bench step -- [groups=4] [micro=1] [completions=2] [prompt=350] [completion=40] [steps=2]
//! ```
//!
//! One JSON object a line. Weights and tokens are random: their values change no time.

use std::sync::Arc;
use std::time::Instant;

use burn::optim::ModuleOptimizer;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::tensor::Device;
use burn::train::TrainStep;
use exalign::alignment::ExoRwConfig;
use exalign::data::TokenGroup;
use exalign::model::Precision;
use exalign::model::weights::with_stable_ids;
use exalign::policy::{Policy, token_log_probs_of};
use exalign::training::{Aligner, FusedAdam, Step, Trainee};
use support::{SMOLLM2_135M, decoder, group, micro_batch, number, peak_memory_bytes};

mod support;

#[path = "../experiments/allocator.rs"]
#[allow(unsafe_code, reason = "the program's own allocator settings")]
mod allocator;

fn main() {
    allocator::keep_freed_memory();
    let (num_groups, micro) = (number("groups", 4), number("micro", 1));
    let (completions, prompt) = (number("completions", 2), number("prompt", 350));
    let (completion, steps) = (number("completion", 40), number("steps", 2));
    let groups: Vec<TokenGroup> =
        (0..num_groups).map(|it| group(it, prompt, completions, completion)).collect();

    let inference = Device::flex();
    let reference = decoder(&SMOLLM2_135M, &inference);
    let started = Instant::now();
    let scored = token_log_probs_of(&reference, &groups, 1.0, &inference, |_| Ok(()))
        .expect("nothing interrupts it");
    report("reference", started, &[("completions", scored.len() * completions)]);
    drop(reference);

    let device = Device::flex().autodiff();
    let objective = ExoRwConfig::new().init().expect("defaults");
    let mut trainee = with_stable_ids(Trainee::new(
        Aligner::new(decoder(&SMOLLM2_135M, &device), Arc::new(objective), 1.0),
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
            micro_batches,
            num_groups,
            num_tokens: groups.iter().map(TokenGroup::num_tokens).sum(),
            ..Step::default()
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
