//! The claim the speed rests on: a group read with its prompt encoded once has the log-probs and
//! the gradients of K separate, padded sequences with full logits.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use exalign::data::{GroupBatch, TokenGroup};
use exalign::generation::{Choice, Prompt, Sampling, sample};
use exalign::model::Decoder;
use exalign::model::config::{
    DecoderConfig, FeedForwardKind, NormKind, PositionEncoding, RotaryConfig, RotaryScaling,
};
use exalign::model::weights::initialize;
use exalign::policy::{Policy, token_log_probs_of};
use proptest::prelude::*;

const VOCABULARY: usize = 19;

/// Two shapes that have between them all that a family may have.
fn shape(rotary: bool) -> DecoderConfig {
    DecoderConfig {
        vocab_size: VOCABULARY,
        hidden_size: 16,
        intermediate_size: 24,
        num_layers: 2,
        num_heads: 4,
        num_kv_heads: if rotary { 2 } else { 4 },
        head_dim: 4,
        max_positions: 40,
        window: None,
        norm: if rotary { NormKind::Rms } else { NormKind::Layer },
        norm_epsilon: 1e-5,
        position_encoding: if rotary {
            PositionEncoding::Rotary(RotaryConfig {
                base: 1e4,
                width: 2,
                interleaved: true,
                scaling: RotaryScaling::None,
            })
        } else {
            PositionEncoding::Learned
        },
        feed_forward: if rotary { FeedForwardKind::SwiGlu } else { FeedForwardKind::GeluTanh },
        parallel_residual: !rotary,
        output_norms: rotary,
        query_key_norm: rotary,
        qkv_bias: !rotary,
        output_bias: !rotary,
        feed_forward_bias: !rotary,
        tied_embeddings: !rotary,
        end_of_text: vec![0],
    }
}

/// A decoder with weights large enough for every path to matter.
fn decoder(rotary: bool, device: &Device) -> Decoder {
    struct Larger;
    impl burn::module::ModuleMapper for Larger {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let tensor = if D > 1 { tensor * 10.0 } else { tensor + 0.1 };
                if tensor.device().is_autodiff() { tensor.detach().require_grad() } else { tensor }
            })
        }
    }
    let shape = shape(rotary);
    initialize(Decoder::new(shape.clone(), device), &shape, 5, device).map(&mut Larger)
}

/// Σ log-prob of each completion computed the plain way: one padded row per completion.
fn plain_log_probs(decoder: &Decoder, groups: &[TokenGroup], temperature: f64) -> Tensor<2> {
    let device = decoder.device();
    let rows: Vec<(&TokenGroup, &Vec<u32>)> = groups
        .iter()
        .flat_map(|group| group.completions.iter().map(move |it| (group, it)))
        .collect();
    let longest = rows.iter().map(|(group, it)| group.prompt.len() + it.len()).max().unwrap();
    let (mut tokens, mut scored) = (Vec::new(), Vec::new());
    for (group, completion) in &rows {
        let mut row: Vec<i64> =
            group.prompt.iter().chain(*completion).map(|&it| it.into()).collect();
        let mut weight: Vec<f32> =
            (0..row.len()).map(|j| f32::from(j >= group.prompt.len().max(1))).collect();
        row.resize(longest, 0);
        weight.resize(longest, 0.0);
        tokens.extend(row);
        scored.extend(weight);
    }
    let n = rows.len();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [n, longest]), &device);
    let positions = Tensor::<1, Int>::arange(0..longest as i64, &device)
        .reshape([1, longest])
        .expand([n, longest]);
    let mask = Tensor::<2, Bool>::tril_mask([longest, longest], 0, &device)
        .reshape([1, 1, longest, longest])
        .expand([n, 1, longest, longest]);
    let hidden = decoder.hidden(tokens.clone(), positions, &mask);
    let logits =
        decoder.logits(hidden.reshape([n * longest, 16])).reshape([n, longest, VOCABULARY])
            / temperature;
    let log_probs = log_softmax(logits, 2).slice_dim(1, 0..longest - 1);
    let next = tokens.slice_dim(1, 1..longest).reshape([n, longest - 1, 1]);
    let scored = Tensor::<2>::from_data(TensorData::new(scored, [n, longest]), &device)
        .slice_dim(1, 1..longest);
    let picked: Tensor<2> = log_probs.gather(2, next).squeeze_dim(2);
    (picked * scored).sum_dim(1).reshape([groups.len(), n / groups.len()])
}

/// Every parameter's gradient of Σ wᵢ log πᵢ, with weights that differ for every completion.
fn gradients(decoder: &Decoder, log_probs: Tensor<2>) -> Vec<Vec<f32>> {
    struct Collect<'a>(&'a GradientsParams, Vec<Vec<f32>>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id).expect("every parameter takes part");
            self.1.push(gradient.into_data().try_into_vec().unwrap());
        }
    }
    let [groups, k] = log_probs.dims();
    let weights: Vec<f32> = (0..groups * k).map(|it| (it as f32 * 1.7).sin()).collect();
    let weights =
        Tensor::<2>::from_data(TensorData::new(weights, [groups, k]), &log_probs.device());
    let gradients = GradientsParams::from_grads((log_probs * weights).sum().backward(), decoder);
    let mut collect = Collect(&gradients, Vec::new());
    decoder.visit(&mut collect);
    collect.1
}

fn groups() -> impl Strategy<Value = Vec<TokenGroup>> {
    let tokens = |len: std::ops::Range<usize>| prop::collection::vec(0..VOCABULARY as u32, len);
    (2usize..=8, 1usize..4).prop_flat_map(move |(k, groups)| {
        let group = (tokens(0..7), prop::collection::vec(tokens(1..8), k));
        prop::collection::vec(group, groups).prop_map(|groups| {
            groups
                .into_iter()
                .map(|(prompt, completions)| TokenGroup {
                    id: None,
                    line: 1,
                    prompt,
                    completions,
                    ..TokenGroup::default()
                })
                .collect()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sharing_the_prompt_changes_no_log_prob_and_no_gradient(
        groups in groups(), rotary in any::<bool>(), temperature in prop::sample::select(vec![1.0, 0.8])
    ) {
        let device = Device::flex().autodiff();
        let decoder = decoder(rotary, &device);
        // A first token after an empty prompt is predicted by nothing; a group in which nothing is
        // predicted has no gradient to compare.
        prop_assume!(groups.iter().any(|it| !it.prompt.is_empty()));
        let shared = decoder.log_probs(&GroupBatch::new(&groups, &device), temperature);
        let plain = plain_log_probs(&decoder, &groups, temperature);
        let values = |it: &Tensor<2>| it.to_data().try_into_vec::<f32>().unwrap();
        for (a, b) in values(&shared).into_iter().zip(values(&plain)) {
            // f32 sums of up to 7 log-probs of size 1 to 10.
            prop_assert!((a - b).abs() < 2e-5 * (1.0 + b.abs()), "{a} {b}");
        }
        for (a, b) in gradients(&decoder, shared).into_iter().zip(gradients(&decoder, plain)) {
            let size = b.iter().map(|it| it * it).sum::<f32>().sqrt();
            let difference = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            // f32 rounding of sums over rows and columns in another order.
            prop_assert!(difference <= 2e-5 * size.max(1.0), "{difference} of {size}");
        }
    }

    #[test]
    fn scoring_in_batches_gives_the_per_token_log_probs_of_each_group(groups in groups()) {
        let device = Device::flex();
        let decoder = decoder(true, &device);
        let scored = token_log_probs_of(&decoder, &groups, 1.0, &device, |_| Ok(())).unwrap();
        for (group, scored) in groups.iter().zip(scored) {
            let alone = plain_log_probs(&decoder, std::slice::from_ref(group), 1.0);
            let alone: Vec<f32> = alone.into_data().try_into_vec().unwrap();
            for (tokens, sum) in scored.iter().zip(alone) {
                prop_assert!((tokens.iter().sum::<f32>() - sum).abs() < 2e-5 * (1.0 + sum.abs()));
            }
        }
    }
}

fn prompts() -> Vec<Prompt> {
    [vec![3, 1, 4], vec![1, 5, 9, 2, 6, 5], vec![7]]
        .into_iter()
        .enumerate()
        .map(|(number, ids)| Prompt { number: number as u64, ids })
        .collect()
}

fn sampling(temperature: f64) -> Sampling {
    Sampling {
        num_completions: 5,
        choice: Choice { temperature, top_k: 0, top_p: 1.0 },
        max_new_tokens: 12,
        end_of_text: vec![0, 1],
        stop: None,
        seed: 11,
        log_probs: false,
    }
}

#[test]
fn a_sample_does_not_depend_on_the_batch_it_is_drawn_in() {
    let device = Device::flex();
    for rotary in [false, true] {
        let decoder = decoder(rotary, &device);
        let together = sample(&decoder, &prompts(), &sampling(1.0), &device).unwrap();
        assert!(
            together.iter().flatten().any(|it| it.finished),
            "some must end for the claim to mean much"
        );
        assert!(together.iter().flatten().any(|it| !it.finished));
        for (prompt, together) in prompts().iter().zip(&together) {
            let alone =
                sample(&decoder, std::slice::from_ref(prompt), &sampling(1.0), &device).unwrap();
            assert_eq!(&alone[0], together);
            let fewer = Sampling { num_completions: 2, ..sampling(1.0) };
            let fewer = sample(&decoder, std::slice::from_ref(prompt), &fewer, &device).unwrap();
            assert_eq!(fewer[0], together[..2]);
        }
    }
}

#[test]
fn greedy_sampling_from_the_cache_is_the_argmax_of_the_full_forward() {
    let device = Device::flex();
    for rotary in [false, true] {
        let decoder = decoder(rotary, &device);
        let samples = sample(&decoder, &prompts(), &sampling(0.0), &device).unwrap();
        for (prompt, samples) in prompts().iter().zip(samples) {
            let mut ids = prompt.ids.clone();
            for &token in &samples[0].ids {
                let logits = full_logits(&decoder, &ids, &device);
                let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(logits.iter().position(|&it| it == best), Some(token as usize));
                ids.push(token);
            }
            assert!(samples.iter().all(|it| it == &samples[0]));
        }
    }
}

#[test]
fn the_head_gives_the_log_softmax_of_the_full_logits() {
    let device = Device::flex();
    let decoder = decoder(true, &device);
    let group = TokenGroup {
        id: None,
        line: 1,
        prompt: vec![2, 3],
        completions: vec![vec![4]],
        ..TokenGroup::default()
    };
    let ours: f32 = decoder.log_probs(&GroupBatch::new([&group], &device), 0.7).into_scalar();
    let weights = full_logits(&decoder, &[2, 3], &device);
    let weights: Vec<f64> = weights.iter().map(|&logit| (f64::from(logit) / 0.7).exp()).collect();
    let expected = (weights[4] / weights.iter().sum::<f64>()).ln();
    assert!((f64::from(ours) - expected).abs() < 1e-5);
}

#[test]
fn completions_that_no_token_precedes_have_zeros_that_a_backward_pass_reaches() {
    let device = Device::flex().autodiff();
    let decoder = decoder(true, &device);
    let completions = vec![vec![4], vec![5]];
    let group = TokenGroup { prompt: Vec::new(), completions, ..TokenGroup::default() };
    let log_probs = decoder.log_probs(&GroupBatch::new([&group], &device), 1.0);
    let gradients = log_probs.clone().sum().backward();
    let gradient = decoder.head_weight().grad(&gradients);
    assert!(gradient.is_none_or(|it| it.abs().max().into_scalar::<f32>() == 0.0));
    assert_eq!(log_probs.into_data(), TensorData::from([[0f32, 0.0]]));
}

/// Logits after the last of `ids`.
fn full_logits(decoder: &Decoder, ids: &[u32], device: &Device) -> Vec<f32> {
    let n = ids.len();
    let tokens: Vec<i64> = ids.iter().map(|&it| it.into()).collect();
    let hidden = decoder.hidden(
        Tensor::<2, Int>::from_data(TensorData::new(tokens, [1, n]), device),
        Tensor::<1, Int>::arange(0..n as i64, device).reshape([1, n]),
        &Tensor::<2, Bool>::tril_mask([n, n], 0, device).reshape([1, 1, n, n]),
    );
    let last = hidden.slice_dim(1, n - 1..n).reshape([1, 16]);
    decoder.logits(last).into_data().try_into_vec().unwrap()
}
