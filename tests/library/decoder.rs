//! Claims about the decoder: its numbers are those of `transformers`, its folders survive the way
//! in and out, and a folder that cannot be loaded says why.
//!
//! Models whose weights follow a formula (`support/families`) come with numbers of transformers 4.57.6
//! (f64, CPU). Further golden models lie outside the project; `EXALIGN_GOLDENS` names their folder.

use std::path::{Path, PathBuf};

use std::collections::HashMap;

use crate::support::families;
use crate::support::formula::{
    TOKENS, drawn_folder, formula_folder, load, log_probs_of_tokens, next_token_log_probs,
    read_tensors, refusal, write_tensors,
};
use crate::support::skipped::or_skip;
use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{AllocationProperty, Bool, DType, Device, Int, Tensor, TensorData};
use exalign::data::{GroupBatch, TokenGroup};
use exalign::generation::{Choice, Prompt, Sampling, sample};
use exalign::model::folder::with_precision;
use exalign::model::{self, Decoder, ModelFolder, Precision};
use exalign::policy::{Policy, scored_log_probs};
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// Every configuration with its name and what transformers computes for it.
fn known_models() -> impl Iterator<Item = (&'static str, &'static str, Value)> {
    let mut numbers = families::numbers();
    let cases = families::ALL.into_iter().chain(families::SETTINGS);
    cases.map(move |(config, name)| (config, name, numbers[name].take()))
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect()
}

/// Refuses numbers that are further apart than `tolerance`.
fn assert_near(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let difference = (f64::from(*found) - expected).abs();
        assert!(difference <= tolerance, "{what}: {found}, expected {expected} ± {tolerance:.1e}");
    }
}

fn golden_models() -> Vec<PathBuf> {
    let folder = std::env::var("EXALIGN_GOLDENS").ok();
    let Some(folder) = or_skip(folder, "EXALIGN_GOLDENS names no folder of golden numbers") else {
        return Vec::new();
    };
    let mut models: Vec<PathBuf> = std::fs::read_dir(Path::new(&folder).join("models"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(
        !models.is_empty(),
        "EXALIGN_GOLDENS is set, and there are no models in {folder}/models"
    );
    models.sort();
    models
}

fn golden(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("golden.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The real tokens of each row and where its completion begins.
fn rows(golden: &Value) -> Vec<(Vec<u32>, usize)> {
    (0..golden["input_ids"].as_array().unwrap().len())
        .map(|i| {
            let len = ids(&golden["attention_mask"][i]).iter().sum::<u32>() as usize;
            (
                ids(&golden["input_ids"][i])[..len].to_vec(),
                golden["completion_start"][i].as_u64().unwrap() as usize,
            )
        })
        .collect()
}

fn logits(decoder: &Decoder, tokens: &[u32], device: &Device) -> Vec<f32> {
    let n = tokens.len();
    let ints =
        |values: Vec<i64>| Tensor::<2, Int>::from_data(TensorData::new(values, [1, n]), device);
    let mask = Tensor::<2, Bool>::tril_mask([n, n], 0, device).reshape([1, 1, n, n]);
    let hidden = decoder.hidden(
        ints(tokens.iter().map(|&token| token.into()).collect()),
        ints((0..n as i64).collect()),
        &mask,
    );
    let width = decoder.config().hidden_size;
    decoder.logits(hidden.reshape([n, width])).into_data().try_into_vec().unwrap()
}

#[test]
fn logits_are_those_of_the_golden_models() {
    let device = Device::flex();
    for folder in golden_models() {
        let (decoder, golden) = (load(&folder, &device), golden(&folder));
        for (i, (tokens, _)) in rows(&golden).into_iter().enumerate() {
            let expected = golden["logits"][i]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|row| row.as_array().unwrap());
            for (ours, theirs) in logits(&decoder, &tokens, &device).into_iter().zip(expected) {
                let difference = (f64::from(ours) - theirs.as_f64().unwrap()).abs();
                assert!(difference < 1e-4, "{}: row {i} differs by {difference}", folder.display());
            }
        }
    }
}

#[test]
fn completion_log_probs_are_those_of_the_golden_models() {
    let device = Device::flex();
    for folder in golden_models() {
        let (decoder, golden) = (load(&folder, &device), golden(&folder));
        for (i, (tokens, start)) in rows(&golden).into_iter().enumerate() {
            let group = TokenGroup {
                prompt: tokens[..start].to_vec(),
                completions: vec![tokens[start..].to_vec()],
                ..TokenGroup::default()
            };
            let ours: f32 =
                decoder.log_probs(&GroupBatch::new([&group], &device), 1.0).into_scalar();
            let theirs = golden["completion_logprob"][i].as_f64().unwrap();
            assert!(
                (f64::from(ours) - theirs).abs() < 1e-4,
                "{}: {ours} {theirs}",
                folder.display()
            );
        }
    }
}

/// Every parameter's gradient, written where the parameter would be: name → values.
fn gradients_by_name(
    folder: &ModelFolder,
    decoder: Decoder,
    gradients: GradientsParams,
) -> HashMap<String, Vec<f32>> {
    struct Replace(GradientsParams);
    impl ModuleMapper for Replace {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let gradient = self.0.remove::<D>(param.id).expect("every parameter takes part");
            Param::initialized(param.id, gradient)
        }
    }
    let as_weights = decoder.map(&mut Replace(gradients));
    let written = tempfile::tempdir().unwrap();
    model::save(&as_weights, &folder.family.bindings(&folder.shape), &folder.json, written.path())
        .unwrap();
    read_tensors(&written.path().join("model.safetensors"))
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&it| f64::from(it).powi(2)).sum::<f64>().sqrt()
}

/// Every parameter's gradient of the mean of −log p over all tokens of all rows but each row's first.
fn gradients(path: &Path, rows: &[&[u32]]) -> HashMap<String, Vec<f32>> {
    let device = Device::flex().autodiff();
    let folder = ModelFolder::open(path).unwrap();
    let decoder = load(path, &device);
    // Rows of different length, one at a time.
    let total: usize = rows.iter().map(|tokens| tokens.len() - 1).sum();
    let loss = rows
        .iter()
        .map(|tokens| {
            let group = TokenGroup {
                prompt: tokens[..1].to_vec(),
                completions: vec![tokens[1..].to_vec()],
                ..TokenGroup::default()
            };
            scored_log_probs(&decoder, &GroupBatch::new([&group], &device), 1.0).sum()
                / -(total as f64)
        })
        .reduce(|sum, row| sum + row)
        .unwrap();
    let gradients = GradientsParams::from_grads(loss.backward(), &decoder);
    gradients_by_name(&folder, decoder, gradients)
}

#[test]
fn every_parameters_gradient_is_that_of_transformers() {
    for (config, name, numbers) in known_models() {
        let found = gradients(drawn_folder(config).path(), &[&TOKENS]);
        let expected = numbers["gradients"].as_object().unwrap();
        assert_eq!(found.len(), expected.len(), "{name}");
        for (tensor, expected) in expected {
            let (found, expected) = (&found[tensor], floats(expected));
            let entries = [0, 1, 2].map(|third| found[third * found.len() / 3]);
            let found = [&[norm(found) as f32], &entries[..]].concat();
            // f32 against f64 through two layers and back: 9e-6 of the norm at most, found in ChatGLM.
            let tolerance = 2e-5 * expected[0] + 1e-7;
            assert_near(&found, &expected, tolerance, &format!("{name}: {tensor}"));
        }
    }
}

#[test]
fn every_parameters_gradient_is_that_of_the_golden_models() {
    for path in golden_models() {
        let golden = golden(&path);
        let rows = rows(&golden);
        let rows: Vec<&[u32]> = rows.iter().map(|(tokens, _)| &tokens[..]).collect();
        let ours = gradients(&path, &rows);
        for (name, expected) in golden["grad"].as_object().unwrap() {
            let length = expected["norm"].as_f64().unwrap();
            // Both sides in f32: 1.5e-6 of the norm at most.
            let tolerance = 1e-5 * length + 1e-7;
            let what = format!("{}: {name}", path.display());
            assert_near(&[norm(&ours[name]) as f32], &[length], tolerance, &what);
            let first = floats(&expected["first"]);
            assert_near(&ours[name][..first.len()], &first, tolerance, &what);
        }
    }
}

const fn greedy(max_new_tokens: usize) -> Sampling {
    Sampling {
        num_completions: 1,
        choice: Choice { temperature: 0.0, top_k: 0, top_p: 1.0 },
        max_new_tokens,
        end_of_text: vec![],
        stop: None,
        seed: 0,
        log_probs: false,
    }
}

#[test]
fn greedy_continuations_are_those_of_transformers() {
    let device = Device::flex();
    for (config, name, numbers) in known_models() {
        let expected = &numbers["greedy"];
        // Far more than what f32 is away.
        assert!(expected["margin"].as_f64().unwrap() > 0.01);
        let decoder = load(drawn_folder(config).path(), &device);
        let prompt = Prompt { number: 0, ids: ids(&expected["prompt"]) };
        let drawn = sample(&decoder, &[prompt], &greedy(8), &device).unwrap();
        assert_eq!(drawn[0][0].ids, ids(&expected["tokens"]), "{name}");
    }
}

#[test]
fn greedy_continuations_are_those_of_the_golden_models() {
    let device = Device::flex();
    for path in golden_models() {
        let (decoder, golden) = (load(&path, &device), golden(&path));
        let prompts: Vec<Prompt> = rows(&golden)
            .into_iter()
            .enumerate()
            .map(|(number, (ids, _))| Prompt { number: number as u64, ids })
            .collect();
        for (i, drawn) in
            sample(&decoder, &prompts, &greedy(12), &device).unwrap().iter().enumerate()
        {
            assert_eq!(drawn[0].ids, ids(&golden["greedy"][i]), "{}: row {i}", path.display());
        }
    }
}

#[test]
fn every_configuration_that_is_there_is_tried() {
    let numbers = families::numbers();
    let mut tried: Vec<&str> = known_models().map(|(_, name, _)| name).collect();
    tried.sort_unstable();
    assert!(tried.iter().eq(numbers.as_object().unwrap().keys()));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/families");
    let files = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let configs = files.filter(|it| it.extension().is_some_and(|it| it == "json"));
    assert_eq!(configs.count(), tried.len() + 1, "a config.json each, and numbers.json");
}

#[test]
fn log_probs_and_logits_are_those_of_transformers() {
    let device = Device::flex();
    for (config, name, numbers) in known_models() {
        let decoder = load(drawn_folder(config).path(), &device);
        // Two layers in f32 against f64: 1.8e-6 at most.
        let tolerance = 5e-6;
        let found = log_probs_of_tokens(&decoder);
        assert_near(&found, &floats(&numbers["log_probs"]), tolerance, name);
        let logits = logits(&decoder, &TOKENS, &device);
        let last = &logits[logits.len() - decoder.config().vocab_size..];
        assert_near(last, &floats(&numbers["logits"]), tolerance, name);
    }
}

#[test]
fn a_folder_written_again_holds_the_same_bits() {
    for (config, _) in families::ALL {
        let (first, second) = (formula_folder(config), tempfile::tempdir().unwrap());
        let described = ModelFolder::open(first.path()).unwrap();
        let decoder = load(first.path(), &Device::flex());
        let bindings = described.family.bindings(&described.shape);
        model::save(&decoder, &bindings, &described.json, second.path()).unwrap();
        let file =
            |folder: &tempfile::TempDir| read_tensors(&folder.path().join("model.safetensors"));
        assert_eq!(file(&first), file(&second));
        assert_eq!(ModelFolder::open(second.path()).unwrap().shape, described.shape);
    }
}

#[test]
fn weights_written_narrow_are_the_rounded_weights_and_load_as_them() {
    for (config, _) in families::ALL {
        let (first, second) = (formula_folder(config), tempfile::tempdir().unwrap());
        let described = ModelFolder::open(first.path()).unwrap();
        let decoder = load(first.path(), &Device::flex());
        let bindings = described.family.bindings(&described.shape);
        let json = with_precision(&described.json, Precision::Bf16);
        model::save(&decoder, &bindings, &json, second.path()).unwrap();

        let bytes = std::fs::read(second.path().join("model.safetensors")).unwrap();
        let written = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (name, exact) in read_tensors(&first.path().join("model.safetensors")) {
            let view = written.tensor(&name).unwrap();
            assert_eq!(view.dtype(), safetensors::Dtype::BF16);
            let bits: Vec<u16> = bytemuck::pod_collect_to_vec(view.data());
            let rounded = exact.iter().map(|&it| half::bf16::from_f32(it).to_bits());
            assert!(bits.into_iter().eq(rounded), "{config}: {name}");
        }
        // Kept in bf16 or read into f32, the weights are the same; the arithmetic is not.
        let wide = next_token_log_probs(second.path());
        let narrow = {
            let folder = ModelFolder::open(second.path()).unwrap().kept_as(Precision::Bf16);
            let decoder = Decoder::new(folder.shape.clone(), &Device::flex());
            let decoder = folder.load(decoder, &bindings, &Device::flex()).unwrap();
            log_probs_of_tokens(&decoder)
        };
        for (wide, narrow) in wide.iter().zip(&narrow) {
            assert!((wide - narrow).abs() < 0.15, "{config}: {wide} {narrow}");
        }
    }
}

/// Every parameter: whether it stays in a file, and its values.
#[derive(Default)]
struct Parameters(Vec<(bool, Vec<f32>)>);

impl ModuleVisitor for Parameters {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let value = if value.device().is_autodiff() { value.inner() } else { value };
        let values = value.clone().cast(DType::F32).into_data().try_into_vec().unwrap();
        let stored = value.try_into_primitive::<Flex>().unwrap();
        let is_mapped = stored.data_arc().property() == AllocationProperty::File;
        assert!(!is_mapped || stored.bytes().len() == 2 * values.len(), "no more than it needs");
        self.0.push((is_mapped, values));
    }
}

#[test]
fn weights_that_are_bf16_stay_in_their_file_and_are_what_reading_them_gives() {
    for (config, _) in families::ALL {
        let (first, second) = (formula_folder(config), tempfile::tempdir().unwrap());
        let described = ModelFolder::open(first.path()).unwrap();
        let bindings = described.family.bindings(&described.shape);
        let json = with_precision(&described.json, Precision::Bf16);
        model::save(&load(first.path(), &Device::flex()), &bindings, &json, second.path()).unwrap();
        let parameters = |precision: Precision, device: Device| {
            let folder = ModelFolder::open(second.path()).unwrap().kept_as(precision);
            let decoder = Decoder::new(folder.shape.clone(), &device);
            let mut parameters = Parameters::default();
            folder.load(decoder, &bindings, &device).unwrap().visit(&mut parameters);
            parameters.0
        };
        let read = parameters(Precision::F32, Device::flex());
        let mapped = parameters(Precision::Bf16, Device::flex());
        assert!(read.iter().zip(&mapped).all(|(read, mapped)| read.1 == mapped.1), "{config}");
        assert!(read.iter().all(|(is_mapped, _)| !is_mapped), "{config}");
        assert!(mapped.iter().any(|&(is_mapped, _)| is_mapped), "{config}");
        // What trains is written to.
        let trained = parameters(Precision::Bf16, Device::flex().autodiff());
        assert!(trained.iter().all(|(is_mapped, _)| !is_mapped), "{config}");
        if config == families::LLAMA.0 {
            let matrices = mapped.iter().filter(|it| it.0).count();
            assert_eq!(matrices, 2 + 7 * described.shape.num_layers, "{config}");
        }
    }
}

#[test]
fn a_value_that_f16_cannot_hold_is_refused() {
    let (folder, target) = (formula_folder(families::QWEN2.0), tempfile::tempdir().unwrap());
    let described = ModelFolder::open(folder.path()).unwrap();
    let mut decoder = load(folder.path(), &Device::flex());
    decoder.tokens.weight = decoder.tokens.weight.map(|weight| weight * 1e6);
    let bindings = described.family.bindings(&described.shape);
    let json = with_precision(&described.json, Precision::F16);
    let error = model::save(&decoder, &bindings, &json, target.path()).unwrap_err().to_string();
    insta::assert_snapshot!(error.replace(&target.path().display().to_string(), "M"), @"M/model.safetensors: `model.embed_tokens.weight`: expected values that F16 can hold, found larger ones; write f32 or bf16 instead");
    assert!(!target.path().join("model.safetensors").exists());
}

#[test]
fn weights_in_shards_and_without_prefix_are_the_same_weights() {
    let folder = formula_folder(families::GPT2.0);
    let whole = next_token_log_probs(folder.path());
    let file = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut shards = [Vec::new(), Vec::new()];
    let mut map = serde_json::Map::new();
    for (i, (name, view)) in tensors.tensors().into_iter().enumerate() {
        // The first release of GPT-2 has no prefix.
        let name = name.trim_start_matches("transformer.").to_owned();
        map.insert(name.clone(), json!(format!("shard-{}.safetensors", i % 2)));
        shards[i % 2].push((name, view.shape().to_vec(), view.data().to_vec()));
    }
    std::fs::remove_file(&file).unwrap();
    for (i, shard) in shards.iter().enumerate() {
        write_tensors(&folder.path().join(format!("shard-{i}.safetensors")), shard);
    }
    let index = json!({ "metadata": {}, "weight_map": map });
    std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    assert_eq!(next_token_log_probs(folder.path()), whole);
}

#[test]
fn what_does_not_fit_is_listed_at_once() {
    let folder = formula_folder(families::LLAMA.0);
    let file = folder.path().join("model.safetensors");
    let mut values: Vec<(String, Vec<usize>, Vec<u8>)> = {
        let bytes = std::fs::read(&file).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let owned =
            |(name, it): (String, TensorView)| (name, it.shape().to_vec(), it.data().to_vec());
        tensors.tensors().into_iter().map(owned).collect()
    };
    values.retain(|(name, ..)| name != "model.norm.weight");
    values.push(("model.extra".to_owned(), vec![1], vec![0; 4]));
    let head = values.iter_mut().find(|(name, ..)| name == "lm_head.weight").unwrap();
    head.1.reverse();
    write_tensors(&file, &values);
    insta::assert_snapshot!(
        refusal(folder.path()),
        @"M: the weights do not fit config.json; unexpected tensors: model.extra; missing tensors: model.norm.weight; misshapen tensors: lm_head.weight (expected [11, 8], found [8, 11])"
    );
}

#[test]
fn a_weight_file_cut_in_half_and_a_foreign_architecture_are_refused_with_the_reason() {
    let folder = formula_folder(families::GPT2.0);
    let file = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refusal(folder.path()).contains("the file is cut"), "{}", refusal(folder.path()));
    std::fs::write(&file, &bytes[..100]).unwrap();
    assert!(
        refusal(folder.path()).contains("expected a safetensors file"),
        "{}",
        refusal(folder.path())
    );
    std::fs::write(folder.path().join("config.json"), r#"{"model_type": "mamba"}"#).unwrap();
    insta::assert_snapshot!(
        refusal(folder.path()),
        @"M/config.json: `model_type`: expected one of gpt2, gpt_neox, llama, mistral, qwen2, qwen3, glm, glm4, chatglm, found `mamba`; this architecture is not supported"
    );
    insta::assert_snapshot!(
        refusal(&folder.path().join("nowhere")),
        @"M: expected a Hugging Face model folder, found none; give the path of a folder with config.json, model.safetensors and tokenizer.json, or a hub id such as owner/name@revision"
    );
}

#[test]
fn a_folder_of_models_or_of_adapters_by_name_is_refused_with_their_names() {
    let folder = tempfile::tempdir().unwrap();
    for (name, file) in
        [("two", "adapter_config.json"), ("model", "config.json"), ("one", "adapter_config.json")]
    {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join(file), "{}").unwrap();
    }
    std::fs::create_dir(folder.path().join("logs")).unwrap();
    let error = ModelFolder::open(folder.path()).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "expected a folder with config.json or adapter_config.json, found a folder of such folders; name one of \
             them: model, one, two"
        ),
        "{error}"
    );
}
