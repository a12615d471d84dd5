//! Claims about dropout of what adapters read: the backward pass drops what the forward pass has dropped, however
//! activations are kept, and nothing is dropped but in a step of a training.

use burn::module::Module;
use burn::tensor::Device;
use burn::train::{InferenceStep, TrainStep};
use exalign::deferred::Deferred;
use exalign::kernels::linear::Dropout;
use exalign::model::{ModelFolder, Precision, WeightType};
use exalign::training::{Aligner, Micro, Step, Trainee};

use super::less_memory::{CASES, Collected, adapted, batch, objective, step_with};
use crate::support::families;
use crate::support::formula::drawn_folder;

#[test]
fn entries_are_dropped_again_where_activations_are_computed_again() {
    let device = Device::flex().autodiff();
    for (config, name) in CASES {
        let folder = drawn_folder(config);
        let described = ModelFolder::open(folder.path()).unwrap();
        let decoder = adapted(&described, WeightType::F32, &device);
        for objective in [objective("exo-rw"), objective("ppo")] {
            for most in [0, 2] {
                let run = |recomputing: bool, dropout: Option<Dropout>| {
                    let decoder = match recomputing {
                        true => decoder.clone().recomputing(Deferred::default()),
                        false => decoder.clone(),
                    };
                    step_with(decoder, &objective, batch(3, most, &device), dropout)
                };
                let dropout = Dropout::new(0.3, 1);
                let kept = run(false, Some(dropout));
                assert_eq!(kept, run(true, Some(dropout)), "{name}, {most} at a time");
                let others = [None, Some(Dropout::new(0.3, 2))].map(|other| run(false, other));
                assert!(others.iter().all(|other| *other != kept), "{name}: nothing is dropped");
            }
        }
    }
}

/// All completions as one part are the whole, so that the backward pass of a part is that of what was read.
#[test]
fn a_part_of_a_group_drops_in_its_backward_pass_what_it_dropped_before() {
    let device = Device::flex().autodiff();
    let folder = drawn_folder(families::QWEN3.0);
    let described = ModelFolder::open(folder.path()).unwrap();
    let decoder = adapted(&described, WeightType::F32, &device);
    let objective = objective("exo-rw");
    let run = |most, dropout: Dropout| {
        let aligner = Aligner::new(decoder.clone(), objective.clone(), 0.8);
        let trainee = Trainee::new(aligner, Precision::F32);
        let mut micro_batches = Micro::weighted(vec![(batch(5, most, &device), 2.0, 0)]);
        micro_batches[0].dropout = Some(dropout);
        let step = Step { micro_batches, num_groups: 2, ..Step::default() };
        let output = TrainStep::step(&trainee, step);
        let mut collected = Collected { all: &output.grads, values: Vec::new() };
        trainee.visit(&mut collected);
        (output.item.loss, collected.values)
    };
    let dropout = Dropout::new(0.3, 1);
    let (part, whole) = (run(5, dropout), run(0, dropout.part(0)));
    assert_eq!(part, whole);
}

#[test]
fn nothing_is_dropped_where_nothing_is_trained() {
    let device = Device::flex().autodiff();
    let folder = drawn_folder(families::QWEN3.0);
    let described = ModelFolder::open(folder.path()).unwrap();
    let decoder = adapted(&described, WeightType::F32, &device);
    let trainee = Trainee::new(Aligner::new(decoder, objective("exo-rw"), 0.8), Precision::F32);
    let dropout = Some(Dropout::new(0.3, 1));
    let device = Device::flex();
    let step = |dropout| {
        let micro_batches = Micro::weighted(vec![(batch(3, 0, &device), 2.0, 0)]);
        let step = Step { micro_batches, num_groups: 2, ..Step::default() };
        InferenceStep::step(&trainee.valid(), step.with_dropout(dropout)).loss
    };
    assert_eq!(step(dropout), step(None));
}
