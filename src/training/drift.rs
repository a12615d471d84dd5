//! The drift of a policy in training, KL(π ‖ π_ref), by samples: one completion a prompt, drawn from the
//! policy and read by both models.
//!
//!   KL(π ‖ π_ref) ≈ mean over prompts of Σ over tokens of KL(π(· | x, y before) ‖ π_ref(same)),   y ∼ π(· | x)
//!
//! The samples are a function of the weights, the seed and the step.

use burn::tensor::Device;

use super::course::DRIFT;
use super::validation::Figures;
use crate::Result;
use crate::data::TokenGroup;
use crate::generation::{Prompt, Sampling, sample};
use crate::interrupt;
use crate::model::Decoder;
use crate::policy::{Distance, Predictions};
use crate::statistics::bootstrap;

/// Prompts that are completed at once.
const BATCH: usize = 16;

/// How the drift is measured.
#[derive(Clone, Debug)]
pub struct Drift {
    /// The reference, on `device`.
    pub reference: Decoder,
    /// Prompts, none empty.
    pub prompts: Vec<Vec<u32>>,
    /// How completions are drawn: one of each prompt, from the whole distribution. The seed is that of
    /// the training; each step has its own.
    pub sampling: Sampling,
    /// The device of both models, without autodiff.
    pub device: Device,
}

impl Drift {
    /// Of `count` prompts of `groups` at most, evenly over their order, each prompt once.
    ///
    /// # Errors
    /// The first error among the groups.
    pub fn prompts(
        groups: impl IntoIterator<Item = Result<TokenGroup>>,
        count: usize,
    ) -> Result<Vec<Vec<u32>>> {
        let mut distinct: Vec<Vec<u32>> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for group in groups {
            let prompt = group?.prompt;
            if !prompt.is_empty() && seen.insert(prompt.clone()) {
                distinct.push(prompt);
            }
        }
        let taken = count.min(distinct.len());
        Ok((0..taken).map(|it| distinct[it * distinct.len() / taken].clone()).collect())
    }

    /// The mean of `policy` after `step` steps in nats, as `kl`, with the ends of its 95 % bootstrap
    /// interval over prompts, as `kl_low` and `kl_high`.
    ///
    /// # Errors
    /// Where a logit or a log-prob is not finite; [`Interrupted`](crate::Error::Interrupted).
    pub fn figures(&self, step: usize, policy: &Decoder) -> Result<Figures> {
        let sampling =
            Sampling { seed: seed_of(self.sampling.seed, step), ..self.sampling.clone() };
        let groups = self.drawn(policy, &sampling)?;
        let kl = bootstrap(&self.kls(policy, &groups)?, sampling.seed);
        let figures = DRIFT.map(str::to_owned).into_iter().zip([kl.mean, kl.low, kl.high]);
        Ok(figures.collect())
    }

    /// Every prompt with one completion.
    fn drawn(&self, policy: &Decoder, sampling: &Sampling) -> Result<Vec<TokenGroup>> {
        let mut order: Vec<usize> = (0..self.prompts.len()).collect();
        order.sort_by_key(|&number| (self.prompts[number].len(), number));
        let mut groups = vec![TokenGroup::default(); self.prompts.len()];
        for numbers in order.chunks(BATCH) {
            let prompt = |&number: &usize| Prompt {
                number: number as u64,
                ids: self.prompts[number].clone(),
            };
            let prompts: Vec<Prompt> = numbers.iter().map(prompt).collect();
            let samples = sample(policy, &prompts, sampling, &self.device)?;
            for (&number, samples) in numbers.iter().zip(samples) {
                groups[number] = TokenGroup {
                    line: number + 1,
                    prompt: self.prompts[number].clone(),
                    completions: samples.into_iter().map(|sample| sample.ids).collect(),
                    ..TokenGroup::default()
                };
            }
        }
        Ok(groups)
    }

    /// The KL by the completion of each group.
    fn kls(&self, policy: &Decoder, groups: &[TokenGroup]) -> Result<Vec<f64>> {
        let temperature = self.sampling.choice.temperature;
        let check = |_| interrupt::check();
        let ours = Predictions::of(policy, groups, temperature, &self.device, check)?;
        let distances = ours.against(&self.reference, groups, temperature, &self.device, check)?;
        Ok(distances.concat().iter().map(Distance::kl).collect())
    }
}

/// The seed of the samples after a step.
fn seed_of(seed: u64, step: usize) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("exalign drift");
    hasher.update(&seed.to_le_bytes()).update(&(step as u64).to_le_bytes());
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::generation::Choice;
    use crate::model::ModelFolder;
    use crate::model::families::gpt2_config_json;
    use crate::model::weights::initialize;

    fn decoder(seed: u64) -> Decoder {
        let folder = tempfile::tempdir().unwrap();
        let config = gpt2_config_json(11, 8, 1, 1, 16, 10);
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let shape = ModelFolder::open(folder.path()).unwrap().shape;
        let device = Device::flex();
        initialize(Decoder::new(shape.clone(), &device), &shape, seed, &device)
    }

    fn drift(num_prompts: u32) -> Drift {
        Drift {
            reference: decoder(1),
            prompts: (0..num_prompts).map(|it| vec![it % 9, 1 + it / 9]).collect(),
            sampling: Sampling {
                num_completions: 1,
                choice: Choice { temperature: 0.8, top_k: 0, top_p: 1.0 },
                max_new_tokens: 6,
                end_of_text: vec![10],
                stop: None,
                seed: 3,
                log_probs: false,
            },
            device: Device::flex(),
        }
    }

    #[test]
    fn a_policy_that_is_its_reference_has_not_drifted_and_another_has() {
        let drift = drift(20);
        let names: Vec<String> = DRIFT.map(str::to_owned).to_vec();
        let same = drift.figures(5, &decoder(1)).unwrap();
        assert_eq!(same, names.iter().cloned().zip([0.0; 3]).collect::<Figures>());
        let other = drift.figures(5, &decoder(2)).unwrap();
        let [kl, low, high] = [0, 1, 2].map(|it| other[it].1);
        assert!(low < kl && kl < high, "{other:?}");
        assert_eq!(drift.figures(5, &decoder(2)).unwrap(), other, "seed and step decide");
        assert_ne!(drift.figures(6, &decoder(2)).unwrap(), other);
    }

    #[test]
    fn prompts_are_spread_over_the_records_each_once_and_none_empty() {
        let group = |prompt: Vec<u32>| Ok(TokenGroup { prompt, ..TokenGroup::default() });
        let groups = || (0..20).map(|it| group(vec![it / 2])).chain([group(Vec::new())]);
        let of = |count| Drift::prompts(groups(), count).unwrap().concat();
        assert_eq!(of(5), [0, 2, 4, 6, 8]);
        assert_eq!(of(100), (0..10).collect::<Vec<u32>>());
    }
}
