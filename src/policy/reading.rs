//! Reads many groups in batches: a decoder's log-probability of each token of their completions.

use burn::tensor::{Device, Tensor, TensorData};

use super::decoder::{predicting, scored_log_probs, scored_values};
use crate::data::{GroupBatch, TokenGroup};
use crate::kernels::vocabulary_head::{Predictor, token_divergences, token_log_probs};
use crate::model::weights::all_finite;
use crate::model::{Decoder, DecoderConfig, ValueHead};
use crate::{Error, Result};

/// Refuses groups that a model cannot read: that have ids beyond its vocabulary, as those of another
/// tokenizer may be, or more tokens than it has positions. Devices do not check what they look up.
///
/// # Errors
/// The first such group, by its line.
pub fn check_tokens(shape: &DecoderConfig, groups: &[TokenGroup]) -> Result<()> {
    const REMEDY: &str = "give a model of the same vocabulary and length, or drop the record";
    for group in groups {
        let mut ids = group.completions.iter().flatten().chain(&group.prompt);
        if let Some(id) = ids.find(|&&id| id as usize >= shape.vocab_size) {
            return Err(Error::usage(format!(
                "line {}: expected token ids below {}, the vocabulary size of the model that reads them, \
                 found {id}; {REMEDY}",
                group.line, shape.vocab_size
            )));
        }
        let longest = group.completions.iter().map(Vec::len).max().unwrap_or(0);
        let length = group.prompt.len() + longest;
        if length > shape.max_positions {
            return Err(Error::usage(format!(
                "line {}: expected at most {} tokens, the positions of the model that reads them, found \
                 {length}; {REMEDY}",
                group.line, shape.max_positions
            )));
        }
    }
    Ok(())
}

/// The log-probability of each token of each completion of each group, without autodiff.
///
/// The first token of a completion after an empty prompt has no predictor and no entry.
/// `progress` hears the number of completions finished.
///
/// # Errors
/// [`Error::Numeric`] where a log-probability is not finite; those of `progress`.
pub fn token_log_probs_of(
    decoder: &Decoder,
    groups: &[TokenGroup],
    temperature: f64,
    device: &Device,
    progress: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<Vec<f32>>>> {
    check_tokens(decoder.config(), groups)?;
    let read = |batch: &GroupBatch| [scored_log_probs(decoder, batch, temperature)];
    let [log_probs] = read_tokens(groups, "a log-prob", device, read, progress)?;
    Ok(log_probs)
}

/// What a policy says of groups of tokens, with what is needed to compare it with a reference: the two need not be in
/// memory together.
pub struct Predictions {
    /// The log-probability of each scored token of each completion of each group.
    log_probs: Vec<Vec<Vec<f32>>>,
    /// The hidden states that predict them, batch by batch, `[scored, hidden]`, in the host's memory.
    hidden: Vec<TensorData>,
    /// The vocabulary head, `[vocabulary, hidden]`.
    head: Tensor<2>,
}

/// How far a completion is from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// log π − log π_ref of the completion, in nats.
    pub log_ratio: f64,
    /// Σ over its tokens of KL(π ‖ π_ref) of the next token, over the whole vocabulary, in nats; none where the two
    /// have different vocabularies.
    pub token_kl: Option<f64>,
}

impl Distance {
    /// The unbiased estimate of KL(π ‖ π_ref) from this completion, drawn from π, that varies least.
    pub fn kl(&self) -> f64 {
        self.token_kl.unwrap_or(self.log_ratio)
    }
}

impl Predictions {
    /// Of a decoder, without autodiff. Keeps a hidden state for every token.
    ///
    /// # Errors
    /// As [`token_log_probs_of`].
    pub fn of(
        decoder: &Decoder,
        groups: &[TokenGroup],
        temperature: f64,
        device: &Device,
        progress: impl FnMut(usize) -> Result<()>,
    ) -> Result<Self> {
        check_tokens(decoder.config(), groups)?;
        let (head, mut kept) = (decoder.head_weight(), Vec::new());
        let read = |batch: &GroupBatch| {
            let hidden = predicting(decoder, batch);
            kept.push(hidden.clone().into_data());
            [token_log_probs(hidden, head.clone(), batch.targets.clone(), temperature)]
        };
        let [log_probs] = read_tokens(groups, "a log-prob", device, read, progress)?;
        Ok(Self { log_probs, hidden: kept, head })
    }

    /// How far each completion of each of the same groups is from `reference`.
    ///
    /// # Errors
    /// As [`token_log_probs_of`].
    ///
    /// # Panics
    /// May do so on other groups.
    pub fn against(
        self,
        reference: &Decoder,
        groups: &[TokenGroup],
        temperature: f64,
        device: &Device,
        progress: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Vec<Distance>>> {
        check_tokens(reference.config(), groups)?;
        let head = reference.head_weight();
        if head.dims()[0] != self.head.dims()[0] {
            let theirs = token_log_probs_of(reference, groups, temperature, device, progress)?;
            return Ok(distances(&self.log_probs, &theirs, None));
        }
        // The batches of the same groups are the same.
        let mut ours = self.hidden.into_iter();
        let read = |batch: &GroupBatch| {
            let hidden = predicting(reference, batch);
            let theirs = Predictor { hidden: hidden.clone(), weight: head.clone() };
            let ours = ours.next().expect("as many batches as before");
            let dtype = ours.dtype();
            let ours = Tensor::from_data(ours, (device, dtype));
            let ours = Predictor { hidden: ours, weight: self.head.clone() };
            let divergences = token_divergences(ours, theirs, temperature);
            let targets = batch.targets.clone();
            [token_log_probs(hidden, head.clone(), targets, temperature), divergences]
        };
        let [theirs, divergences] = read_tokens(groups, "a log-prob", device, read, progress)?;
        Ok(distances(&self.log_probs, &theirs, Some(&divergences)))
    }
}

/// From numbers of each token of each completion of each group.
fn distances(
    ours: &[Vec<Vec<f32>>],
    theirs: &[Vec<Vec<f32>>],
    divergences: Option<&Vec<Vec<Vec<f32>>>>,
) -> Vec<Vec<Distance>> {
    let sum = |tokens: &[f32]| tokens.iter().copied().map(f64::from).sum::<f64>();
    let of_completion = |group: usize, completion: usize| Distance {
        log_ratio: sum(&ours[group][completion]) - sum(&theirs[group][completion]),
        token_kl: divergences.map(|it| sum(&it[group][completion])),
    };
    let of_group = |(number, completions): (usize, &Vec<Vec<f32>>)| {
        (0..completions.len()).map(|completion| of_completion(number, completion)).collect()
    };
    ours.iter().enumerate().map(of_group).collect()
}

/// The value of each token of each completion of each group, by `head` from the hidden state before the token,
/// without autodiff.
///
/// # Errors
/// As [`token_log_probs_of`].
pub fn token_values_of(
    (decoder, head): (&Decoder, &ValueHead),
    groups: &[TokenGroup],
    device: &Device,
    progress: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<Vec<f32>>>> {
    check_tokens(decoder.config(), groups)?;
    let read = |batch: &GroupBatch| [scored_values(decoder, head, batch)];
    let [values] = read_tokens(groups, "a value", device, read, progress)?;
    Ok(values)
}

/// N numbers for each scored token of each completion of each group, the first of which is called `what`, `[scored]`
/// of a batch.
fn read_tokens<const N: usize>(
    groups: &[TokenGroup],
    what: &str,
    device: &Device,
    mut read: impl FnMut(&GroupBatch) -> [Tensor<1>; N],
    mut progress: impl FnMut(usize) -> Result<()>,
) -> Result<[Vec<Vec<Vec<f32>>>; N]> {
    let none: Vec<Vec<Vec<f32>>> =
        groups.iter().map(|group| vec![Vec::new(); group.completions.len()]).collect();
    let mut scored = std::array::from_fn(|_| none.clone());
    read_in_batches(groups, |parts, batch_groups| {
        let batch = GroupBatch::new(batch_groups, device);
        if batch.num_scored.iter().any(|&scored| scored > 0) {
            for (values, scored) in read(&batch).into_iter().zip(&mut scored) {
                let mut values = to_f32(values).into_iter();
                let mut lengths = batch.num_scored.iter();
                for part in parts {
                    for completion in part.completions.clone() {
                        let len = lengths.next().copied().unwrap_or(0);
                        let values: Vec<f32> = values.by_ref().take(len).collect();
                        if !all_finite(&values) {
                            return Err(not_finite(what, &groups[part.group], completion));
                        }
                        scored[part.group][completion] = values;
                    }
                }
            }
        }
        progress(parts.iter().map(|part| part.completions.len()).sum())
    })?;
    Ok(scored)
}

/// What to do where a model computes what is not finite.
pub(crate) const NOT_FINITE: &str = "Keep the weights as f32 or bf16 if they are f16 (--dtype), look at an adapter's lora_alpha, or take an \
     earlier checkpoint of the model";

/// Why what a model says of a completion is of no use.
pub fn not_finite(what: &str, group: &TokenGroup, completion: usize) -> Error {
    Error::Numeric(format!(
        "{}: {what} of completion {} is not finite, so that nothing can be concluded from it. {NOT_FINITE}",
        group.name(),
        completion + 1
    ))
}

/// The values of a small tensor as f32.
pub(crate) fn to_f32<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("converted to f32")
}

/// Some of a group's completions.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupPart {
    /// The group.
    pub group: usize,
    /// Its completions.
    pub completions: std::ops::Range<usize>,
}

/// Hands `read` all groups in batches: the same number of completions, similar lengths, a bounded
/// number of tokens. A group with more completions than a row should hold comes in parts, since
/// attention grows with the row's square.
///
/// # Errors
/// Those of `read`.
pub fn read_in_batches(
    groups: &[TokenGroup],
    mut read: impl FnMut(&[GroupPart], &[TokenGroup]) -> Result<()>,
) -> Result<()> {
    /// Tokens of a row.
    const ROW: usize = 2048;
    /// Tokens of a batch.
    const BATCH: usize = 4096;
    let mut parts: Vec<(GroupPart, TokenGroup)> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let longest = group.completions.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let width = (ROW.saturating_sub(group.prompt.len()) / longest).max(1);
        for start in (0..group.completions.len()).step_by(width) {
            let completions = start..(start + width).min(group.completions.len());
            let part = TokenGroup {
                completions: group.completions[completions.clone()].to_vec(),
                prompt: group.prompt.clone(),
                ..TokenGroup::default()
            };
            parts.push((GroupPart { group: index, completions }, part));
        }
    }
    parts.sort_by_key(|(part, group)| (group.completions.len(), group.num_tokens(), part.group));
    let (parts, tokens): (Vec<GroupPart>, Vec<TokenGroup>) = parts.into_iter().unzip();
    let mut start = 0;
    for end in 1..=parts.len() {
        let full = end == parts.len()
            || tokens[end].completions.len() != tokens[start].completions.len()
            || (end + 1 - start) * tokens[end].num_tokens() > BATCH;
        if full {
            read(&parts[start..end], &tokens[start..end])?;
            start = end;
        }
    }
    Ok(())
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::model::ModelFolder;
    use crate::model::families::gpt2_config_json;
    use crate::model::weights::initialize;

    fn decoder(vocabulary: usize, seed: u64) -> Decoder {
        let folder = tempfile::tempdir().unwrap();
        let config = gpt2_config_json(vocabulary, 8, 1, 2, 16, 10);
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let shape = ModelFolder::open(folder.path()).unwrap().shape;
        let device = Device::flex();
        initialize(Decoder::new(shape.clone(), &device), &shape, seed, &device)
    }

    fn group(prompt: Vec<u32>, completions: Vec<Vec<u32>>) -> TokenGroup {
        TokenGroup { prompt, completions, ..TokenGroup::default() }
    }

    fn distances_of(groups: &[TokenGroup], reference: &Decoder) -> Vec<Vec<Distance>> {
        let device = Device::flex();
        let ours = Predictions::of(&decoder(11, 1), groups, 0.8, &device, |_| Ok(())).unwrap();
        ours.against(reference, groups, 0.8, &device, |_| Ok(())).unwrap()
    }

    #[test]
    fn a_completion_has_its_distance_in_whatever_batch_it_is_read() {
        let completion = |number: u32| -> Vec<u32> {
            (0..1 + number % 7).map(|it| (number + 3 * it) % 10).collect()
        };
        // More completions than a row holds, without a prompt and with one.
        let many: Vec<Vec<u32>> = (0..700).map(completion).collect();
        let groups = [
            group(vec![], vec![vec![1, 2], vec![3]]),
            group(vec![4, 5], many.clone()),
            group(vec![6], vec![vec![7, 8, 9]]),
        ];
        let reference = decoder(11, 2);
        let together = distances_of(&groups, &reference);
        for number in [0, 1, 333, 699] {
            let alone = group(vec![4, 5], vec![many[number].clone()]);
            let [alone] = distances_of(&[alone], &reference).remove(0)[..] else { panic!() };
            let found = together[1][number];
            assert!((found.log_ratio - alone.log_ratio).abs() < 1e-5, "{found:?} {alone:?}");
            assert!((found.kl() - alone.kl()).abs() < 1e-5, "{found:?} {alone:?}");
            assert!(alone.kl() > 1e-4 && (alone.kl() - alone.log_ratio).abs() > 1e-5, "{alone:?}");
        }
        // The only token after nothing has no predictor.
        assert_eq!(together[0][1], Distance { log_ratio: 0.0, token_kl: Some(0.0) });
        assert!(together[0][0].kl() > 0.0);
    }

    #[test]
    fn models_of_different_vocabularies_have_log_ratios_alone() {
        let groups = [group(vec![4, 5], vec![vec![1, 2], vec![3]])];
        let found = distances_of(&groups, &decoder(12, 2)).remove(0);
        assert!(found.iter().all(|it| it.token_kl.is_none() && it.log_ratio.abs() > 1e-4));
        assert_eq!(found[0].kl(), found[0].log_ratio);
    }
}
