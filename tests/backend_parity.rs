//! Claims about backends: whatever is compiled in and finds a device computes what flex computes.
//!
//! Every claim is a test of its own for every backend, called `backend::claim`. A backend that is
//! compiled in and finds no device shows as ignored, and is listed with the reason by `tests/what_was_skipped.rs`;
//! `EXALIGN_REQUIRE_BACKENDS=tch,wgpu` makes that, and a backend that is not compiled in, a failure.
//!
//! # Tolerances
//!
//! | numbers | tolerance | why |
//! |---|---|---|
//! | f32 logits, log-probs, losses | 2e-5 · (1 + size) | two layers of width 8 to 16 are sums of under a hundred products with 2⁻²⁴ relative rounding each; exp and tanh of GPUs are right to some 2⁻²¹ |
//! | f32 gradients | 2e-4 of the parameter's gradient norm, and 1e-6 | the backward pass is twice as deep, and differences of nearly equal log-ratios cancel |
//! | weights after three steps | 2e-5 | three updates of at most the learning rate 1e-2 each, whose relative error is that of the gradients; Adam's ε is 1e-3, above rounding, so that gradients that are zero but for rounding move nothing |
//! | losses of fifty steps | 1e-4 | at a rate of 1e-4 and Adam's usual ε of 1e-8 the weights move by at most 5e-3, and what rounding adds to a gradient is a small share of that |
//! | bf16 log-probs | 0.15 a token | weights and activations have 8 bits: 2⁻⁹ relative rounding in each of some twenty roundings on the way, on logits of size 4 |
//! | f16 log-probs | 0.02 a token | the same with 11 bits |
//! | gradients of passes in bf16 | 0.1 of the gradient's norm | the same roundings, forward and backward, mostly independent of one another |
//! | golden logits and log-probs | 1e-4 | f32 here against f64 there |
//! | tokens | the same | the smallest gap between the best two logits of these models is above the first line |

mod support;

use std::path::Path;
use std::process::ExitCode;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{Adam, AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use burn::train::TrainStep;
use exalign::alignment::{ObjectiveConfig, ObjectiveName, Takes, objectives, register};
use exalign::data::{GroupBatch, TokenGroup};
use exalign::device::{BACKENDS, BackendInfo, open, present};
use exalign::generation::{Choice, Prompt, Sampling, sample};
use exalign::model::{Decoder, ModelFolder, Precision};
use exalign::policy::Policy;
use exalign::training::{Aligner, AlignmentBatch, GivenTokens, Micro, Step, Trainable, Trainee};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use support::families;
use support::formula::{TOKENS, formula_folder, load};
use support::skipped::skipped;

fn exo_rw() -> ObjectiveName {
    "exo-rw".parse().expect("an objective of the table")
}

fn main() -> ExitCode {
    // One that a program adds is held to the same.
    register(&support::own_objective::SQUARES).expect("a new name");
    let trials = BACKENDS
        .iter()
        .filter(|backend| backend.name != "remote")
        .flat_map(trials)
        .chain(misspelt())
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn required() -> Vec<String> {
    let list = std::env::var("EXALIGN_REQUIRE_BACKENDS").unwrap_or_default();
    list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// A requirement that no backend can meet.
fn misspelt() -> Option<Trial> {
    let unknown = |name: &String| BACKENDS.iter().all(|backend| backend.name != name);
    let name = required().into_iter().find(unknown)?;
    let reason = format!("EXALIGN_REQUIRE_BACKENDS: there is no backend `{name}`");
    Some(Trial::test("requirements", move || Err(Failed::from(reason))))
}

/// The claims about one backend.
fn trials(backend: &'static BackendInfo) -> Vec<Trial> {
    let is_required = required().iter().any(|name| name == backend.name);
    let trouble = if !backend.compiled {
        Some(format!("not compiled in: cargo test --features {}", backend.name))
    } else {
        match present(backend.name) {
            Err(problem) => Some(problem),
            Ok(devices) if devices.is_empty() => {
                Some(format!("no device: it needs {}", backend.needs))
            }
            Ok(_) => None,
        }
    };
    match trouble {
        None => claims(backend),
        Some(reason) if is_required => {
            vec![Trial::test(format!("{}::is_required", backend.name), || {
                Err(Failed::from(reason))
            })]
        }
        Some(_) if !backend.compiled => {
            let name = format!("backend_parity::{}", backend.name);
            skipped(&name, "not compiled in: cargo test --features NAME");
            Vec::new()
        }
        Some(reason) => {
            skipped(&format!("backend_parity::{}", backend.name), &reason);
            let name = format!("{}::is_the_same", backend.name);
            vec![Trial::test(name, || Err(Failed::from(reason))).with_ignored_flag(true)]
        }
    }
}

fn claims(backend: &'static BackendInfo) -> Vec<Trial> {
    type Claim = fn(&Device);
    let device = open(backend.name).expect("it is present");
    let trial = |name: &str, lacks: Option<&str>, claim: Claim| {
        let device = device.clone();
        if let Some(reason) = lacks {
            skipped(&format!("backend_parity::{}::{name}", backend.name), reason);
        }
        let run = move || {
            claim(&device);
            Ok(())
        };
        Trial::test(format!("{}::{name}", backend.name), run).with_ignored_flag(lacks.is_some())
    };
    let others: [(&str, Claim); 6] = [
        ("logits_are_those_of_flex", logits_are_those_of_flex),
        ("group_log_probs_are_those_of_flex", group_log_probs_are_those_of_flex),
        (
            "losses_and_gradients_of_all_objectives_are_those_of_flex",
            losses_and_gradients_are_those_of_flex,
        ),
        (
            "three_optimizer_steps_end_at_the_weights_of_flex",
            three_steps_end_at_the_weights_of_flex,
        ),
        ("fifty_steps_have_the_losses_of_flex", fifty_steps_have_the_losses_of_flex),
        ("greedy_completions_are_those_of_flex", greedy_completions_are_those_of_flex),
    ];
    let narrow = |float, reason| (!device.supports_dtype(float)).then_some(reason);
    let bf16 = narrow(DType::BF16, "a device without bf16");
    let f16 = narrow(DType::F16, "a device without f16");
    let goldens = std::env::var_os("EXALIGN_GOLDENS").is_none();
    let goldens = goldens.then_some("EXALIGN_GOLDENS names no folder of golden numbers");
    let mut trials: Vec<Trial> = others
        .into_iter()
        .filter(|_| backend.name != "flex")
        .map(|(name, claim)| trial(name, None, claim))
        .collect();
    trials.extend([
        trial("bf16_log_probs_are_those_of_f32_to_its_rounding", bf16, |device| {
            narrow_log_probs_are_those_of_f32(Precision::Bf16, 0.15, device)
        }),
        trial("f16_log_probs_are_those_of_f32_to_its_rounding", f16, |device| {
            narrow_log_probs_are_those_of_f32(Precision::F16, 0.02, device)
        }),
        trial("passes_in_bf16_move_weights_in_f32", bf16, passes_in_bf16_move_weights_in_f32),
        trial("golden_models_have_the_numbers_of_transformers", goldens, golden_models),
    ]);
    trials
}

/// Every family's tiny model: its name, and how to load it on a device.
fn families() -> Vec<(String, tempfile::TempDir)> {
    let name = |config: &str| {
        let json: Value = serde_json::from_str(config).unwrap();
        json["model_type"].as_str().unwrap().to_owned()
    };
    families::ALL.iter().map(|(config, _)| (name(config), formula_folder(config))).collect()
}

fn groups(k: usize) -> Vec<TokenGroup> {
    let completion = |i: usize, j: usize| -> Vec<u32> {
        (0..2 + (i + j) % 3).map(|t| ((3 * i + 5 * j + 2 * t * t + 1) % 11) as u32).collect()
    };
    (0..3)
        .map(|i| TokenGroup {
            prompt: TOKENS[i..2 * i + 1].to_vec(),
            completions: (0..k).map(|j| completion(i, j)).collect(),
            rewards: (0..k).map(|j| 1.5 - ((i + 2 * j) as f64).sin() - j as f64).collect(),
            ..TokenGroup::default()
        })
        .collect()
}

fn batch(k: usize, device: &Device) -> AlignmentBatch {
    let groups = groups(k);
    let table = |value: &dyn Fn(usize, usize) -> f64| {
        let values: Vec<f32> = (0..groups.len())
            .flat_map(|i| (0..k).map(move |j| (i, j)))
            .map(|(i, j)| value(i, j) as f32)
            .collect();
        Tensor::<2>::from_data(TensorData::new(values, [groups.len(), k]), device)
    };
    AlignmentBatch {
        groups: GroupBatch::new(&groups, device),
        parts: Vec::new(),
        reference: table(&|i, j| -6.0 - ((2 * i + 3 * j) as f64).cos()),
        proposal: None,
        tokens: None,
        rewards: table(&|i, j| groups[i].rewards[j]),
        mismatched_kl: 0.0,
    }
}

/// Log-probs of single tokens under the reference and under whoever drew them.
fn tokens(groups: &GroupBatch) -> GivenTokens {
    let mask = groups.token_mask();
    GivenTokens { reference: mask.clone() * -1.3, proposal: mask * -3.0, values: None }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().unwrap()
}

#[track_caller]
fn assert_close(what: &str, ours: &[f32], flex: &[f32]) {
    assert_eq!(ours.len(), flex.len(), "{what}");
    for (ours, flex) in ours.iter().zip(flex) {
        assert!((ours - flex).abs() < 2e-5 * (1.0 + flex.abs()), "{what}: {ours}, flex {flex}");
    }
}

fn logits(decoder: &Decoder, tokens: &[u32]) -> Vec<f32> {
    let (n, device) = (tokens.len(), decoder.device());
    let ints =
        |values: Vec<i64>| Tensor::<2, Int>::from_data(TensorData::new(values, [1, n]), &device);
    let mask = Tensor::<2, Bool>::tril_mask([n, n], 0, &device).reshape([1, 1, n, n]);
    let hidden = decoder.hidden(
        ints(tokens.iter().map(|&token| token.into()).collect()),
        ints((0..n as i64).collect()),
        &mask,
    );
    let width = decoder.config().hidden_size;
    values(decoder.logits(hidden.reshape([n, width])))
}

fn logits_are_those_of_flex(device: &Device) {
    for (name, folder) in families() {
        let of = |device: &Device| logits(&load(folder.path(), device), &TOKENS);
        assert_close(&name, &of(device), &of(&Device::flex()));
    }
}

fn group_log_probs(folder: &Path, device: &Device) -> Vec<f32> {
    values(load(folder, device).log_probs(&GroupBatch::new(&groups(3), device), 0.8))
}

fn group_log_probs_are_those_of_flex(device: &Device) {
    for (name, folder) in families() {
        let of = |device: &Device| group_log_probs(folder.path(), device);
        assert_close(&name, &of(device), &of(&Device::flex()));
    }
}

type Subject = Trainee<Aligner<Decoder>>;

/// A family's model under an objective, and the batch it is trained on.
fn subject(
    folder: &Path,
    name: ObjectiveName,
    compute: Precision,
    device: &Device,
) -> (Subject, AlignmentBatch) {
    let device = device.clone().autodiff();
    let objective = ObjectiveConfig { name, beta_policy: 0.5, ..ObjectiveConfig::default() };
    let aligner = Aligner::new(load(folder, &device), objective.init().unwrap(), 0.8);
    let k = if name.takes == Takes::Pairs { 2 } else { 3 };
    (Trainee::new(aligner, compute), batch(k, &device))
}

/// Every parameter's path and values of something.
struct Collect<F> {
    path: Vec<String>,
    of: F,
    found: Vec<(String, Vec<f32>)>,
}

/// What is collected of a parameter.
trait Of {
    fn values<const D: usize>(&self, param: &Param<Tensor<D>>) -> Vec<f32>;
}

struct Weights;

impl Of for Weights {
    fn values<const D: usize>(&self, param: &Param<Tensor<D>>) -> Vec<f32> {
        values(param.val())
    }
}

impl Of for &GradientsParams {
    fn values<const D: usize>(&self, param: &Param<Tensor<D>>) -> Vec<f32> {
        values(self.get::<D>(param.id).expect("every parameter takes part"))
    }
}

impl<F: Of> ModuleVisitor for Collect<F> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push((self.path.join("."), self.of.values(param)));
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}

fn collect<M: Module>(module: &M, of: impl Of) -> Vec<(String, Vec<f32>)> {
    let mut visitor = Collect { path: Vec::new(), of, found: Vec::new() };
    module.visit(&mut visitor);
    visitor.found
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&it| f64::from(it).powi(2)).sum::<f64>().sqrt()
}

fn losses_and_gradients_are_those_of_flex(device: &Device) {
    for (family, folder) in families() {
        for objective in objectives().into_iter().filter(|it| it.name != "ppo") {
            let of = |device: &Device| {
                let (subject, mut batch) =
                    subject(folder.path(), objective, Precision::F32, device);
                batch.tokens = (objective.name == "grpo").then(|| tokens(&batch.groups));
                let (loss, _) = subject.module.loss(&batch);
                let value = values(loss.clone());
                let gradients = GradientsParams::from_grads(loss.backward(), &subject);
                (value, collect(&subject, &gradients))
            };
            let ((loss, ours), (flex_loss, flex)) = (of(device), of(&Device::flex()));
            let what = format!("{family}, {objective:?}");
            assert_close(&what, &loss, &flex_loss);
            assert!(norm(&flex.iter().flat_map(|(_, it)| it.clone()).collect::<Vec<_>>()) > 1e-3);
            for ((name, ours), (_, flex)) in ours.iter().zip(&flex) {
                let difference: Vec<f32> = ours.iter().zip(flex).map(|(a, b)| a - b).collect();
                let (far, size) = (norm(&difference), norm(flex));
                assert!(far < 1e-6 + 2e-4 * size, "{what}: {name}: {far} off, of {size}");
            }
        }
    }
}

fn three_steps_end_at_the_weights_of_flex(device: &Device) {
    for (family, folder) in families() {
        let of = |device: &Device| {
            let (mut subject, batch) = subject(folder.path(), exo_rw(), Precision::F32, device);
            let adam: Adam = AdamConfig::new().with_beta_2(0.95).with_epsilon(1e-3).build();
            let mut optimizer: ModuleOptimizer = adam.into();
            let mut losses = Vec::new();
            for _ in 0..3 {
                let output = TrainStep::step(&subject, step(&batch));
                losses.push(output.item.loss as f32);
                subject = optimizer.step(1e-2, subject, output.grads);
            }
            (losses, collect(&subject, Weights))
        };
        let ((losses, ours), (flex_losses, flex)) = (of(device), of(&Device::flex()));
        assert_close(&family, &losses, &flex_losses);
        assert!(losses[2] < losses[0], "{family}: training changes nothing: {losses:?}");
        for ((name, ours), (_, flex)) in ours.iter().zip(&flex) {
            assert_close(&format!("{family}: {name}"), ours, flex);
        }
    }
}

fn fifty_steps_have_the_losses_of_flex(device: &Device) {
    for (family, folder) in families() {
        let of = |device: &Device| -> Vec<f64> {
            let (mut subject, batch) = subject(folder.path(), exo_rw(), Precision::F32, device);
            let adam: Adam = AdamConfig::new().with_beta_2(0.95).with_epsilon(1e-8).build();
            let mut optimizer: ModuleOptimizer = adam.into();
            let one = |_| {
                let output = TrainStep::step(&subject, step(&batch));
                subject = optimizer.step(1e-4, subject.clone(), output.grads);
                output.item.loss
            };
            (0..50).map(one).collect()
        };
        let (ours, flex) = (of(device), of(&Device::flex()));
        assert!(flex[49] < flex[0] - 1e-2, "{family}: training changes nothing: {flex:?}");
        for (number, (ours, flex)) in ours.iter().zip(&flex).enumerate() {
            assert!((ours - flex).abs() < 1e-4, "{family}: step {number}: {ours}, flex {flex}");
        }
    }
}

/// A step of one batch.
fn step(batch: &AlignmentBatch) -> Step<AlignmentBatch> {
    Step {
        micro_batches: vec![Micro { batch: batch.clone(), share: 1.0, device: 0, dropout: None }],
        num_groups: 3,
        ..Step::default()
    }
}

fn passes_in_bf16_move_weights_in_f32(device: &Device) {
    for (family, folder) in families() {
        let of = |compute: Precision, device: &Device| {
            let (subject, batch) = subject(folder.path(), exo_rw(), compute, device);
            let output = TrainStep::step(&subject, step(&batch));
            (subject, output)
        };
        let (mut subject, output) = of(Precision::Bf16, device);
        let (exact, exact_output) = of(Precision::F32, &Device::flex());
        let (loss, exact_loss) = (output.item.loss, exact_output.item.loss);
        assert!(loss != exact_loss, "{family}: nothing was rounded");
        assert!((loss - exact_loss).abs() < 0.1 * (1.0 + exact_loss.abs()), "{family}: {loss}");
        let flat = |of: Vec<(String, Vec<f32>)>| -> Vec<f32> {
            of.into_iter().flat_map(|(_, values)| values).collect()
        };
        let before = flat(collect(&subject, Weights));
        let rate = 1e-6; // of weights around 0.1 that is below what bf16 tells apart
        let adam: Adam = AdamConfig::new().build();
        let mut optimizer: ModuleOptimizer = adam.into();
        let ours = flat(collect(&subject, &output.grads));
        let exact = flat(collect(&exact, &exact_output.grads));
        subject = optimizer.step(rate, subject, output.grads);
        let difference: Vec<f32> = ours.iter().zip(&exact).map(|(a, b)| a - b).collect();
        let (far, size) = (norm(&difference), norm(&exact));
        assert!(far < 0.1 * size, "{family}: {far} off, of {size}");
        let after = flat(collect(&subject, Weights));
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!(2 * moved > before.len(), "{family}: {moved} of {} weights moved", before.len());
        let furthest = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest < 2.0 * rate as f32, "{family}: {furthest}");
    }
}

/// The most probable completions of two prompts of different length.
fn greedy(decoder: &Decoder, prompts: &[Vec<u32>], tokens: usize) -> Vec<Vec<u32>> {
    let number =
        |(number, ids): (usize, &Vec<u32>)| Prompt { number: number as u64, ids: ids.clone() };
    let prompts: Vec<Prompt> = prompts.iter().enumerate().map(number).collect();
    let sampling = Sampling {
        num_completions: 1,
        choice: Choice { temperature: 0.0, top_k: 0, top_p: 1.0 },
        max_new_tokens: tokens,
        end_of_text: vec![],
        stop: None,
        seed: 0,
        log_probs: false,
    };
    let drawn = sample(decoder, &prompts, &sampling, &decoder.device()).unwrap();
    drawn.into_iter().map(|samples| samples[0].ids.clone()).collect()
}

fn greedy_completions_are_those_of_flex(device: &Device) {
    let prompts = [TOKENS[..3].to_vec(), TOKENS[..6].to_vec()];
    for (family, folder) in families() {
        let of = |device: &Device| greedy(&load(folder.path(), device), &prompts, 8);
        assert_eq!(of(device), of(&Device::flex()), "{family}");
    }
}

fn narrow_log_probs_are_those_of_f32(precision: Precision, per_token: f32, device: &Device) {
    for (family, folder) in families() {
        let exact = group_log_probs(folder.path(), &Device::flex());
        let folder = ModelFolder::open(folder.path()).unwrap().kept_as(precision);
        let decoder = Decoder::new(folder.shape.clone(), device);
        let decoder = folder.load(decoder, &folder.family.bindings(&folder.shape), device).unwrap();
        let batch = GroupBatch::new(&groups(3), device);
        let narrow = values(decoder.log_probs(&batch, 0.8));
        assert!(narrow != exact, "{family}: nothing was rounded");
        for ((narrow, exact), tokens) in narrow.iter().zip(&exact).zip(&batch.num_scored) {
            let allowed = per_token * (*tokens as f32) / 0.8;
            assert!((narrow - exact).abs() < allowed, "{family}: {narrow}, f32 {exact}");
        }
    }
}

fn golden_models(device: &Device) {
    let folder = std::env::var("EXALIGN_GOLDENS").expect("it names the folder of golden models");
    let mut models = 0;
    for entry in std::fs::read_dir(Path::new(&folder).join("models")).unwrap() {
        let path = entry.unwrap().path();
        let golden: Value =
            serde_json::from_str(&std::fs::read_to_string(path.join("golden.json")).unwrap())
                .unwrap();
        let decoder = load(&path, device);
        let ids = |value: &Value| -> Vec<u32> {
            value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
        };
        let rows = golden["input_ids"].as_array().unwrap().len();
        let prompts: Vec<Vec<u32>> = (0..rows)
            .map(|i| {
                let len = ids(&golden["attention_mask"][i]).iter().sum::<u32>() as usize;
                ids(&golden["input_ids"][i])[..len].to_vec()
            })
            .collect();
        let near = |ours: f32, theirs: &Value, what: &str| {
            let far = (f64::from(ours) - theirs.as_f64().unwrap()).abs();
            assert!(far < 1e-4, "{}: {what}: {ours}, expected {theirs}", path.display());
        };
        for (i, tokens) in prompts.iter().enumerate() {
            let start = golden["completion_start"][i].as_u64().unwrap() as usize;
            let expected = golden["logits"][i].as_array().unwrap().iter();
            let expected = expected.flat_map(|row| row.as_array().unwrap());
            for (ours, theirs) in logits(&decoder, tokens).into_iter().zip(expected) {
                near(ours, theirs, "a logit");
            }
            let group = TokenGroup {
                prompt: tokens[..start].to_vec(),
                completions: vec![tokens[start..].to_vec()],
                ..TokenGroup::default()
            };
            let ours = decoder.log_probs(&GroupBatch::new([&group], device), 1.0);
            near(values(ours)[0], &golden["completion_logprob"][i], "a completion");
        }
        for (i, found) in greedy(&decoder, &prompts, 12).into_iter().enumerate() {
            assert_eq!(found, ids(&golden["greedy"][i]), "{}: row {i}", path.display());
        }
        models += 1;
    }
    assert!(models > 0, "{folder}/models is empty");
}
