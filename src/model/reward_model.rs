//! A decoder with a scalar head: reward models and classifiers.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::adapter::{AdapterFolder, Adapters, WEIGHTS};
use super::families::{Binding, SCORE};
use super::folder::{CONFIG, ModelFolder, classifier_json, save};
use super::weights::initialize;
use super::{Decoder, DecoderConfig};
use crate::data::{ENDS, GroupBatch, RewardReading};
use crate::{Error, Result};
use serde_json::Value;

/// A decoder whose last hidden state of a text is read as one number.
#[derive(Module, Debug)]
pub struct RewardModel {
    /// The trunk; its vocabulary head is not used and not saved.
    pub decoder: Decoder,
    /// `[hidden, labels]`, without bias, always f32. A training has one label; with two, the reward is the
    /// log-odds of the second.
    pub score: Linear,
}

impl RewardModel {
    fn new(shape: &DecoderConfig, device: &Device) -> Self {
        // The trunk needs no vocabulary head of its own.
        let trunk = DecoderConfig { tied_embeddings: true, ..shape.clone() };
        let score = LinearConfig::new(shape.hidden_size, 1).with_bias(false).init(device);
        Self { decoder: Decoder::new(trunk, device), score }
    }

    /// The reward of each completion, read at its last token, `[groups, K]`.
    pub fn rewards(&self, batch: &GroupBatch) -> Tensor<2> {
        let last = self.decoder.hidden_at(
            batch.tokens.clone(),
            batch.positions.clone(),
            &batch.attention,
            &batch.last_tokens,
        );
        let scores = self.score.forward(last.cast(DType::F32)); // [groups · K, labels]
        let rewards = match scores.dims()[1] {
            2 => scores.clone().narrow(1, 1, 1) - scores.narrow(1, 0, 1),
            _ => scores,
        };
        rewards.reshape([batch.num_groups, batch.num_completions])
    }

    /// Loads a saved reward model, or starts one on the trunk of a model without a scalar head, with a new head
    /// drawn from `seed`. A head of two labels is read as the log-odds of the second.
    ///
    /// # Errors
    /// If the folder has a head of more labels than two, of two that are no classes, or of another name, or cannot
    /// be loaded.
    pub fn load(folder: &ModelFolder, seed: u64, device: &Device) -> Result<Self> {
        Self::load_adapted(folder, seed, &|_| Ok(None), device)
    }

    /// The same, the trunk frozen and the adapters that `adapters` makes for the model beside it, if it makes some.
    ///
    /// # Errors
    /// The same, and those of `adapters`.
    pub fn load_adapted(
        folder: &ModelFolder,
        seed: u64,
        adapters: &dyn Fn(&Self) -> Result<Option<Adapters>>,
        device: &Device,
    ) -> Result<Self> {
        // Whatever the folder calls itself: a head that was trained is never drawn anew.
        let head = folder.score()?;
        if head.is_none() {
            folder.refuse_other_heads()?;
        }
        let model = Self::new(&folder.shape, device);
        let adapters = adapters(&model)?.map(|adapters| adapters.under("decoder."));
        let Self { decoder, score } = model;
        let bindings = folder.family.trunk_bindings(&folder.shape, "");
        let decoder = folder.load_trunk(decoder, &bindings, adapters, device)?;
        let Some(head) = head else {
            if folder.is_classifier() {
                tracing::warn!(
                    "{}: expected the head `{SCORE}` of a reward model, found none; it starts with a new one, drawn \
                     from the seed",
                    folder.path.display()
                );
            }
            return Ok(Self { decoder, score: initialize(score, &folder.shape, seed, device) });
        };
        let head = match head.as_slice() {
            [label] => label.clone(),
            [no, yes] => {
                tell_of_two_labels(folder)?;
                yes.iter().zip(no).map(|(yes, no)| yes - no).collect()
            }
            labels => {
                return Err(Error::file(
                    &folder.path,
                    format!(
                        "expected a model of 1 or 2 labels, whose score or log-odds are the reward, \
                         found {} labels; {ONE_LABEL}",
                        labels.len()
                    ),
                ));
            }
        };
        Ok(Self { decoder, score }.with_head(head, device))
    }

    /// Loads a reward model that has a head already.
    ///
    /// # Errors
    /// The same as [`load`](Self::load); if the folder has no head.
    pub fn load_trained(folder: &ModelFolder, device: &Device) -> Result<Self> {
        trained_head(folder)?;
        Self::load(folder, 0, device)
    }

    /// The same with every label of the head, to be written again.
    ///
    /// # Errors
    /// The same.
    pub fn load_labels(folder: &ModelFolder, device: &Device) -> Result<Self> {
        let rows = trained_head(folder)?;
        let mut model = Self::load(folder, 0, device)?;
        let shape = [rows.len(), folder.shape.hidden_size];
        let head = Tensor::<2>::from_data(TensorData::new(rows.concat(), shape), device);
        model.score.weight = Param::from_tensor(head.transpose()); // [hidden, labels]
        Ok(model)
    }

    /// The model with another scalar head, `[hidden]`.
    pub fn with_head(mut self, head: Vec<f32>, device: &Device) -> Self {
        let shape = [head.len(), 1];
        let head = Tensor::<2>::from_data(TensorData::new(head, shape), device);
        let head = if device.is_autodiff() { head.require_grad() } else { head };
        self.score.weight = Param::from_tensor(head);
        self
    }

    /// Where each of its parameters is stored.
    pub fn bindings(folder: &ModelFolder) -> Vec<Binding> {
        let mut bindings = folder.family.trunk_bindings(&folder.shape, "decoder.");
        bindings.push(Binding::score());
        bindings
    }

    /// Writes the folder `AutoModelForSequenceClassification` loads, with the dtype that `config`,
    /// the `config.json` of its trunk, names, and with the padding of `reading` where `config` has none.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(
        &self,
        described: &ModelFolder,
        reading: &RewardReading,
        config: &Value,
        folder: &Path,
    ) -> Result<()> {
        let labels = self.score.weight.dims()[1];
        let mut json = classifier_json(config, described.family, labels);
        if json[PADDING].is_null()
            && let Some(padding) = reading.padding
        {
            json[PADDING] = padding.into();
        }
        if reading.is_own {
            json[READS] = reading.name().into();
        }
        save(self, &Self::bindings(described), &json, folder)
    }
}

/// The key of `config.json` that says at which token the reward of a text is read: `end`, the token
/// that ends a turn, which stands behind the text then, or `text`, the text's own last token.
pub(super) const READS: &str = "reward_reads";

/// The key of `config.json` that names the padding.
const PADDING: &str = "pad_token_id";

/// What to do with a head of several labels.
const ONE_LABEL: &str = "keep the row of the label that is to be rewarded: save the head as `score.weight` [1, hidden], \
                         and name that label alone in id2label and label2id of config.json";

/// The head of a folder, which must have one.
fn trained_head(folder: &ModelFolder) -> Result<Vec<Vec<f32>>> {
    if let Some(head) = folder.score()? {
        return Ok(head);
    }
    folder.refuse_other_heads()?;
    Err(match &folder.adapter {
        Some(adapter) => Error::file(
            adapter.path.join(WEIGHTS),
            format!(
                "expected the head `{SCORE}` of a reward model, found none here and none in the base; save the adapter \
                 with modules_to_save=[\"score\"], or train one with `exalign reward`"
            ),
        ),
        None => Error::file(
            &folder.path,
            format!(
                "expected the head `{SCORE}` of a reward model, found none in the weights; train one with \
                 `exalign reward`, or fetch the folder again"
            ),
        ),
    })
}

/// Says which of two labels is rewarded, by their names.
///
/// # Errors
/// If the two are no classes of which a text has one, but scores of their own.
fn tell_of_two_labels(folder: &ModelFolder) -> Result<()> {
    let names = &folder.json["id2label"];
    let name = |label: usize| {
        let named = names.get(label.to_string()).or(names.get(label)).and_then(Value::as_str);
        named.map_or(format!("LABEL_{label}"), str::to_owned)
    };
    let [no, yes] = [name(0), name(1)];
    let problem = &folder.json["problem_type"];
    if ["regression", "multi_label_classification"].iter().any(|it| problem == it) {
        return Err(Error::file(
            folder.path.join(CONFIG),
            format!(
                "`problem_type`: expected two classes, whose log-odds are the reward, or one label, found {problem} \
                 with `{no}` and `{yes}`, each a score of its own; {ONE_LABEL}"
            ),
        ));
    }
    let place = folder.path.display();
    if is_reversed(&no, &yes) {
        tracing::warn!(
            "{place}: the reward is the log-odds of label 1, `{yes}`, over label 0, `{no}`; the names suggest the \
             reverse: if they are right, exchange the rows of `{SCORE}` and the names in id2label"
        );
    } else {
        tracing::info!(
            "{place}: the reward is the log-odds of label 1, `{yes}`, over label 0, `{no}`"
        );
    }
    Ok(())
}

/// Whether the names of labels suggest that the first is the better one.
fn is_reversed(first: &str, second: &str) -> bool {
    const GOOD: [&str; 7] =
        ["positive", "pos", "chosen", "preferred", "accepted", "good", "better"];
    const BAD: [&str; 6] = ["negative", "neg", "rejected", "bad", "worse", "wrong"];
    let is_among = |name: &str, words: &[&str]| {
        let name = name.to_lowercase();
        let mut parts = name.split(|letter: char| !letter.is_alphanumeric());
        parts.any(|part| words.contains(&part))
    };
    let is_first_better = is_among(first, &GOOD) && !is_among(second, &GOOD);
    let is_second_worse = is_among(second, &BAD) && !is_among(first, &BAD);
    is_first_better || is_second_worse
}

/// How a reward model reads, as its `config.json` or the notes in its `adapter_config.json` say. One that says nothing
/// was made by others, and reads texts as they are.
pub fn reward_reading(folder: &ModelFolder) -> RewardReading {
    // An adapter was trained with the padding that its base was given for it.
    if let Some(reads) = folder.adapter.as_ref().and_then(AdapterFolder::reward_reads) {
        let padding = reward_padding(folder);
        return RewardReading { is_own: true, ends_text: reads == ENDS, padding };
    }
    let reads = &folder.json[READS];
    RewardReading {
        is_own: !reads.is_null(),
        ends_text: reads == ENDS,
        padding: token(&folder.json[PADDING]),
    }
}

/// The padding of a reward model that is trained from `folder`: its own, else the token that ends a text.
pub fn reward_padding(folder: &ModelFolder) -> Option<u32> {
    let (padding, ends) = (&folder.json[PADDING], &folder.json["eos_token_id"]);
    token(if padding.is_null() { ends.get(0).unwrap_or(ends) } else { padding })
}

fn token(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

#[cfg(test)]
mod tests {
    use super::is_reversed;

    #[test]
    fn names_of_labels_suggest_the_reverse_where_the_first_is_the_better_one() {
        for [first, second] in [
            ["POSITIVE", "NEGATIVE"],
            ["chosen", "LABEL_1"],
            ["LABEL_0", "rejected"],
            ["is good", "is bad"],
        ] {
            assert!(is_reversed(first, second), "{first} {second}");
            assert!(!is_reversed(second, first), "{second} {first}");
        }
        for [first, second] in [["LABEL_0", "LABEL_1"], ["good", "better"], ["worse", "bad"]] {
            assert!(!is_reversed(first, second), "{first} {second}");
        }
    }
}
