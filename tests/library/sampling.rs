//! Claims about sampling: what is drawn has the probabilities that the model gives, and ends where
//! it should.

use std::collections::HashMap;

use crate::support::{END, VOCABULARY, Workplace};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use exalign::generation::{Choice, Prompt, Sampling, Stop, sample};
use exalign::model::{Decoder, ModelFolder};

/// A tiny decoder whose next token is far from uniform.
fn decoder(device: &Device) -> Decoder {
    struct Larger;
    impl ModuleMapper for Larger {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| if D > 1 { tensor * 12.0 } else { tensor })
        }
    }
    let place = Workplace::new();
    let folder = ModelFolder::open(place.path("model")).unwrap();
    let decoder = Decoder::new(folder.shape.clone(), device);
    let bindings = folder.family.bindings(&folder.shape);
    folder.load(decoder, &bindings, device).unwrap().map(&mut Larger)
}

/// Exact probabilities of the token after `ids`: softmax at the temperature, all but the kept ones
/// struck out, written without the code under test.
fn next(decoder: &Decoder, ids: &[u32], choice: &Choice, device: &Device) -> Vec<f64> {
    let n = ids.len();
    let row =
        |values: Vec<i64>| Tensor::<2, Int>::from_data(TensorData::new(values, [1, n]), device);
    let hidden = decoder.hidden(
        row(ids.iter().map(|&id| id.into()).collect()),
        row((0..n as i64).collect()),
        &Tensor::<2, Bool>::tril_mask([n, n], 0, device).reshape([1, 1, n, n]),
    );
    let last = hidden.slice_dim(1, n - 1..n).reshape([1, decoder.config().hidden_size]);
    let logits: Vec<f32> = decoder.logits(last).into_data().try_into_vec().unwrap();
    let weights: Vec<f64> =
        logits.iter().map(|&it| (f64::from(it) / choice.temperature).exp()).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    if choice.top_k > 0 {
        order.truncate(choice.top_k);
    }
    let of_kept: f64 = order.iter().map(|&it| weights[it]).sum();
    let mut kept = Vec::new();
    let mut reached = 0.0;
    for token in order {
        if reached < choice.top_p * of_kept {
            reached += weights[token];
            kept.push(token);
        }
    }
    let mut probabilities = vec![0.0; weights.len()];
    for token in kept {
        probabilities[token] = weights[token] / reached;
    }
    probabilities
}

fn sampling(choice: Choice, num_completions: usize, max_new_tokens: usize) -> Sampling {
    let (end_of_text, stop) = (vec![], None);
    let (seed, log_probs) = (11, false);
    Sampling { num_completions, choice, max_new_tokens, end_of_text, stop, seed, log_probs }
}

#[test]
fn pairs_of_tokens_are_drawn_with_their_exact_probabilities() {
    const DRAWS: usize = 30_000;
    let device = Device::flex();
    let decoder = decoder(&device);
    let prompt = vec![3, 7, 1];
    for choice in [
        Choice { temperature: 1.0, top_k: 0, top_p: 1.0 },
        Choice { temperature: 0.6, top_k: 5, top_p: 1.0 },
        Choice { temperature: 1.4, top_k: 0, top_p: 0.7 },
        Choice { temperature: 1.0, top_k: 6, top_p: 0.8 },
    ] {
        let prompts = [Prompt { number: 0, ids: prompt.clone() }];
        let drawn =
            sample(&decoder, &prompts, &sampling(choice.clone(), DRAWS, 2), &device).unwrap();
        let mut counts: HashMap<Vec<u32>, f64> = HashMap::new();
        for sample in drawn.concat() {
            *counts.entry(sample.ids).or_default() += 1.0;
        }
        // Pearson's χ², cells that are expected fewer than five times taken together.
        let (mut statistic, mut cells) = (0.0, 0);
        let mut rest = [0.0; 2];
        let first = next(&decoder, &prompt, &choice, &device);
        for (one, p_one) in first.iter().enumerate().filter(|(_, p)| **p > 0.0) {
            let second =
                next(&decoder, &[prompt.clone(), vec![one as u32]].concat(), &choice, &device);
            for (two, p_two) in second.iter().enumerate().filter(|(_, p)| **p > 0.0) {
                let expected = p_one * p_two * DRAWS as f64;
                let found = counts.remove(&vec![one as u32, two as u32]).unwrap_or(0.0);
                if expected < 5.0 {
                    rest = [rest[0] + expected, rest[1] + found];
                } else {
                    statistic += (found - expected).powi(2) / expected;
                    cells += 1;
                }
            }
        }
        assert!(counts.is_empty(), "{choice:?}: drawn against the rule: {counts:?}");
        if rest[0] >= 5.0 {
            statistic += (rest[1] - rest[0]).powi(2) / rest[0];
            cells += 1;
        }
        let freedom = f64::from(cells - 1);
        // Four standard deviations of χ² above its mean; the seed is fixed.
        let limit = freedom + 4.0 * (2.0 * freedom).sqrt();
        assert!(statistic < limit, "{choice:?}: χ² = {statistic} at {freedom} degrees");
        assert!(cells > 10, "{choice:?}: {cells} cells say too little");
    }
}

#[test]
fn any_of_several_end_of_text_tokens_ends_a_completion() {
    let device = Device::flex();
    let decoder = decoder(&device);
    let prompts = [Prompt { number: 0, ids: vec![3, 7] }];
    let ends = vec![END, 4, 9];
    let free = Choice { temperature: 1.0, top_k: 0, top_p: 1.0 };
    let sampling = Sampling { end_of_text: ends.clone(), ..sampling(free, 200, 12) };
    let drawn = sample(&decoder, &prompts, &sampling, &device).unwrap().concat();
    for sample in &drawn {
        let end = sample.ids.iter().position(|id| ends.contains(id));
        assert_eq!(sample.finished, end.is_some());
        assert_eq!(sample.ids.len(), end.map_or(12, |end| end + 1));
    }
    let ended_by = |token| drawn.iter().any(|it| it.finished && it.ids.last() == Some(&token));
    assert!(ends.into_iter().all(ended_by), "a token that was never drawn shows nothing");
}

#[test]
fn a_stop_rule_ends_a_completion_without_finishing_it() {
    let device = Device::flex();
    let decoder = decoder(&device);
    let prompts = [Prompt { number: 0, ids: vec![3, 7] }, Prompt { number: 1, ids: vec![5] }];
    let free = Choice { temperature: 1.0, top_k: 0, top_p: 1.0 };
    let plain = sampling(free, 40, 10);
    let enough = |ids: &[u32]| ids.iter().sum::<u32>() > 2 * VOCABULARY as u32;
    let stopping = Sampling { stop: Some(Stop::when(enough)), ..plain.clone() };
    let whole = sample(&decoder, &prompts, &plain, &device).unwrap().concat();
    let cut = sample(&decoder, &prompts, &stopping, &device).unwrap().concat();
    for (whole, cut) in whole.iter().zip(&cut) {
        let len = (1..=10).find(|&len| enough(&whole.ids[..len])).unwrap_or(10);
        assert_eq!(cut.ids, whole.ids[..len], "the tokens before the stop are the same");
        assert!(!cut.finished);
    }
    assert!(cut.iter().any(|it| it.ids.len() < 10));
}

#[test]
fn no_completion_reaches_beyond_the_models_positions() {
    let device = Device::flex();
    let decoder = decoder(&device);
    let positions = decoder.config().max_positions;
    let prompts =
        [Prompt { number: 0, ids: vec![1; positions - 3] }, Prompt { number: 1, ids: vec![2] }];
    let free = Choice { temperature: 1.0, top_k: 0, top_p: 1.0 };
    let drawn = sample(&decoder, &prompts, &sampling(free, 2, 8), &device).unwrap();
    assert!(drawn[0].iter().all(|it| it.ids.len() == 3));
    assert!(drawn[1].iter().all(|it| it.ids.len() == 8));
}
