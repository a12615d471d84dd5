//! Claims about trainings that take less memory: activations computed again, groups in parts, and weights in
//! few bits give the same numbers, or as near as is promised.

use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn::train::TrainStep;
use exalign::alignment::{Alignment, ObjectiveConfig, objectives};
use exalign::data::{GroupBatch, TokenGroup};
use exalign::deferred::Deferred;
use exalign::kernels::linear::Dropout;
use exalign::model::adapter::{AdapterFolder, AdapterTarget, Adapters, LoraConfig};
use exalign::model::{Decoder, ModelFolder, Precision, ValueHead, WeightType};
use exalign::training::{Aligner, AlignmentBatch, GivenTokens, GivenValues, Micro, Step, Trainee};

use crate::support::families::{self, Case};
use crate::support::formula::{drawn_folder, formula_folder, load, log_probs_of_tokens};

/// A prompt and completions of several lengths.
fn group(k: usize) -> TokenGroup {
    let token = |i: usize| (i * 7 % 10) as u32;
    let completion = |j: usize| (0..1 + (3 * j + 2) % 4).map(|i| token(3 * j + i)).collect();
    TokenGroup {
        prompt: vec![1, 5, 3],
        completions: (0..k).map(completion).collect(),
        ..TokenGroup::default()
    }
}

/// The batch of two groups, some of their completions at a time where `most` is no 0.
pub fn batch(k: usize, most: usize, device: &Device) -> AlignmentBatch {
    let groups = [group(k), TokenGroup { prompt: vec![2], ..group(k) }];
    let some = |first: usize| {
        let part = |group: &TokenGroup| TokenGroup {
            prompt: group.prompt.clone(),
            completions: group.completions[first..(first + most).min(k)].to_vec(),
            ..TokenGroup::default()
        };
        GroupBatch::new(&groups.each_ref().map(part), device)
    };
    let parts = if most == 0 { Vec::new() } else { (0..k).step_by(most).map(some).collect() };
    let whole = GroupBatch::new(&groups, device);
    let longest = whole.scored_of_completion.dims()[1];
    let waves = |len: usize, turn: f32| -> Vec<f32> {
        (0..len).map(|i| (i as f32 * turn).sin() - 1.0).collect()
    };
    let table = |turn| Tensor::<2>::from_data(TensorData::new(waves(2 * k, turn), [2, k]), device);
    let of_tokens = |turn| {
        let shape = [2, k, longest];
        let values = TensorData::new(waves(2 * k * longest, turn), shape);
        Tensor::<3>::from_data(values, device) * whole.token_mask()
    };
    AlignmentBatch {
        parts,
        reference: table(0.7),
        proposal: None,
        tokens: Some(GivenTokens {
            reference: of_tokens(1.1),
            proposal: of_tokens(1.3),
            values: Some(GivenValues {
                old: of_tokens(0.3),
                advantages: of_tokens(2.3),
                returns: of_tokens(1.9),
                tokens_per_group: 7.0,
            }),
        }),
        rewards: table(1.7),
        mismatched_kl: 0.0,
        groups: whole,
    }
}

/// The gradients of all parameters that have one.
pub struct Collected<'a> {
    pub all: &'a GradientsParams,
    pub values: Vec<f32>,
}

impl ModuleVisitor for Collected<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.all.get::<D>(param.id) {
            self.values.extend(gradient.into_data().try_into_vec::<f32>().unwrap());
        }
    }
}

pub fn objective(name: &str) -> Arc<dyn Alignment> {
    let name = objectives().into_iter().find(|objective| objective.name == name).unwrap();
    ObjectiveConfig { name, ..ObjectiveConfig::default() }.init().unwrap()
}

/// Loss and gradients of a step.
fn step(
    decoder: Decoder,
    objective: &Arc<dyn Alignment>,
    batch: AlignmentBatch,
) -> (f64, Vec<f32>) {
    step_with(decoder, objective, batch, None)
}

/// Loss and gradients of a step, with dropout of what adapters read if there is one.
pub fn step_with(
    decoder: Decoder,
    objective: &Arc<dyn Alignment>,
    batch: AlignmentBatch,
    dropout: Option<Dropout>,
) -> (f64, Vec<f32>) {
    let (hidden, device) = (decoder.config().hidden_size, decoder.device());
    let mut aligner = Aligner::new(decoder, objective.clone(), 0.8);
    if objective.gae().is_some() {
        aligner = aligner.with_value(ValueHead::new(hidden, &device));
    }
    let trainee = Trainee::new(aligner, Precision::F32);
    let micro_batches = Micro::weighted(vec![(batch, 2.0, 0)]);
    let step = Step { micro_batches, num_groups: 2, ..Step::default() };
    let output = TrainStep::step(&trainee, step.with_dropout(dropout));
    let mut collected = Collected { all: &output.grads, values: Vec::new() };
    trainee.visit(&mut collected);
    (output.item.loss, collected.values)
}

/// The adapters of a new training beside a model, with second factors that are not zero.
pub fn adapted(folder: &ModelFolder, kept: WeightType, device: &Device) -> Decoder {
    let config = LoraConfig { rank: 2, alpha: 6.0, ..LoraConfig::none() };
    let bindings = folder.family.bindings(&folder.shape);
    let decoder = Decoder::new(folder.shape.clone(), device);
    let adapters = Adapters::new(&config, &decoder, &bindings, 3).unwrap();
    let folder = folder.clone().kept_as(kept);
    let decoder = folder.load_adapted(decoder, &bindings, Some(adapters), device).unwrap();
    decoder.map(&mut Filled)
}

/// Puts numbers in the place of the zeros that second factors begin with.
struct Filled;

impl burn::module::ModuleMapper for Filled {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let is_zero =
            param.is_require_grad() && param.val().abs().max().into_scalar::<f32>() == 0.0;
        if !is_zero {
            return param;
        }
        param.map(|zeros| {
            let shape = zeros.dims();
            let values = (0..shape.iter().product()).map(|i: usize| (i as f32 * 0.9).sin() * 0.2);
            let values = TensorData::new(values.collect::<Vec<f32>>(), shape);
            Tensor::from_data(values, &zeros.device()).require_grad()
        })
    }
}

pub const CASES: [Case; 4] = [families::GPT2, families::GPT_NEOX, families::QWEN3, families::GLM];

#[test]
fn activations_computed_again_give_the_same_bits() {
    let device = Device::flex().autodiff();
    for (config, name) in CASES {
        let folder = drawn_folder(config);
        let described = ModelFolder::open(folder.path()).unwrap();
        for with_adapters in [false, true] {
            let decoder = match with_adapters {
                true => adapted(&described, WeightType::F32, &device),
                false => load(folder.path(), &device),
            };
            for objective in [objective("exo-rw"), objective("ppo")] {
                let kept = step(decoder.clone(), &objective, batch(3, 0, &device));
                let again = decoder.clone().recomputing(Deferred::default());
                let again = step(again, &objective, batch(3, 0, &device));
                assert!(kept.1.iter().any(|&gradient| gradient != 0.0));
                assert_eq!(kept, again, "{name}, adapters: {with_adapters}");
            }
        }
    }
}

#[test]
fn groups_in_parts_are_whole_groups_but_for_rounding() {
    let device = Device::flex().autodiff();
    let folder = drawn_folder(families::QWEN3.0);
    for name in ["exo-rw", "dpo-rw", "grpo", "ppo"] {
        let objective = objective(name);
        let (loss, whole) = step(load(folder.path(), &device), &objective, batch(5, 0, &device));
        let size = whole.iter().fold(0.0f32, |most, gradient| most.max(gradient.abs()));
        for (most, again) in [(1, false), (2, false), (4, true)] {
            let mut decoder = load(folder.path(), &device);
            if again {
                decoder = decoder.recomputing(Deferred::default());
            }
            let (in_parts, parts) = step(decoder, &objective, batch(5, most, &device));
            // Sums of f32 in another order.
            assert!(
                (in_parts - loss).abs() < 1e-6 * loss.abs().max(1.0),
                "{name}: {in_parts} {loss}"
            );
            assert_eq!(parts.len(), whole.len());
            for (part, whole) in parts.iter().zip(&whole) {
                assert!((part - whole).abs() < 2e-6 * size, "{name}, {most}: {part} {whole}");
            }
        }
    }
}

#[test]
fn weights_in_few_bits_are_near_and_a_part_of_the_model_alone() {
    for (config, name) in families::ALL {
        let folder = drawn_folder(config);
        let described = ModelFolder::open(folder.path()).unwrap();
        let log_probs = |kept: WeightType| {
            let decoder = Decoder::new(described.shape.clone(), &Device::flex());
            let bindings = described.family.bindings(&described.shape);
            let folder = described.clone().kept_as(kept);
            log_probs_of_tokens(&folder.load(decoder, &bindings, &Device::flex()).unwrap())
        };
        let exact = log_probs(WeightType::F32);
        // Weights of 0.5 and few inputs, the worst for blocks of 32; a real model's are far nearer.
        for (kept, most) in [(WeightType::Q8, 0.08), (WeightType::Q4, 0.9)] {
            let far =
                log_probs(kept).iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < most, "{name} {kept:?}: {far}");
            assert!(far > 0.0, "{name} {kept:?} is another computation");
        }
    }
}

#[test]
fn adapters_learn_beside_weights_in_few_bits() {
    let device = Device::flex().autodiff();
    for (config, name) in CASES {
        let folder = drawn_folder(config);
        let described = ModelFolder::open(folder.path()).unwrap();
        let run = |kept: WeightType| {
            let decoder = adapted(&described, kept, &device);
            step(decoder, &objective("exo-rw"), batch(3, 0, &device))
        };
        let (exact, near) = (run(WeightType::F32), run(WeightType::Q8));
        assert_eq!(exact.1.len(), near.1.len(), "{name}: gradients of the factors alone");
        let product =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let cosine = product(&exact.1, &near.1)
            / (product(&exact.1, &exact.1) * product(&near.1, &near.1)).sqrt();
        assert!(cosine > most_near(), "{name}: {cosine}");
    }
}

/// Where the processor multiplies bf16, weights in few bits and what they meet are rounded to it.
fn most_near() -> f64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bf16") {
        return 0.95;
    }
    0.99
}

#[test]
fn ranks_and_alphas_of_single_matrices_are_written_as_peft_reads_them() {
    let base = formula_folder(families::LLAMA.0);
    let described = ModelFolder::open(base.path()).unwrap();
    let bindings = described.family.bindings(&described.shape);
    let device = Device::flex().autodiff();
    for rslora in [false, true] {
        let config = LoraConfig {
            rank: 2,
            alpha: 6.0,
            rslora,
            rank_pattern: [("q_proj".to_owned(), 4)].into(),
            alpha_pattern: [(r"layers\.1\.mlp\.up_proj".to_owned(), 3.0)].into(),
            ..LoraConfig::none()
        };
        let decoder = Decoder::new(described.shape.clone(), &device);
        let adapters = Adapters::new(&config, &decoder, &bindings, 3).unwrap();
        let trained = adapters.attach(load(base.path(), &device), &device).map(&mut Filled);
        let at = base.path().display().to_string();
        let target =
            AdapterTarget { bindings: &bindings, base: &at, reward: None, dtype: DType::F32 };
        let folder = tempfile::tempdir().unwrap();
        let own = Adapters::of(&trained, &config, &bindings).unwrap();
        own.write(&config, target, folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("adapter_config.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["rank_pattern"]["model.layers.0.self_attn.q_proj"], 4);
        assert_eq!(json["alpha_pattern"]["model.layers.1.mlp.up_proj"], 3.0);
        assert!(json["alpha_pattern"].get("model.layers.0.mlp.up_proj").is_none());
        assert_eq!(json["use_rslora"], rslora);
        // Read by its settings, it is the same function.
        let read = AdapterFolder::open(folder.path()).unwrap().read(&decoder, &bindings).unwrap();
        assert_eq!(read, own);
        let merged = log_probs_of_tokens(&load(folder.path(), &Device::flex()));
        let attached = log_probs_of_tokens(&trained.valid());
        for (merged, attached) in merged.iter().zip(attached) {
            assert!((merged - attached).abs() < 1e-5, "{merged} {attached}");
        }
    }
}

#[test]
fn a_pattern_that_takes_no_matrix_or_one_of_several_is_refused() {
    let refusal = |case: Case, config: LoraConfig| {
        let base = formula_folder(case.0);
        let described = ModelFolder::open(base.path()).unwrap();
        let decoder = Decoder::new(described.shape.clone(), &Device::flex());
        let bindings = described.family.bindings(&described.shape);
        Adapters::new(&config, &decoder, &bindings, 0).unwrap_err().to_string()
    };
    let config = |name: &str| LoraConfig {
        rank: 2,
        rank_pattern: [(name.to_owned(), 4)].into(),
        ..LoraConfig::none()
    };
    insta::assert_snapshot!(refusal(families::LLAMA, config("c_attn")), @"`adapter.rank_pattern`: expected names among down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj, found `c_attn`");
    insta::assert_snapshot!(refusal(families::GPT2, config("c_attn")), @"`adapter.rank_pattern`: expected modules of one matrix, found `c_attn`, which holds 3; leave it out, or set adapter.rank");
    insta::assert_snapshot!(refusal(families::LLAMA, config("q_proj(")), @"`adapter.rank_pattern`: expected a regular expression, found `q_proj(`: Parsing error at position 23: Opening parenthesis without closing parenthesis");
}
