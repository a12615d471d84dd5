//! Where the sentiment experiment's records come from: the embedded corpus, or IMDB reviews.

use std::path::{Path, PathBuf};

use exalign::data::{self, LabelledText, Tokenizer};
use exalign::model::ModelFolder;
use exalign::{Error, Result, files};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::corpus;
use crate::stages::tokenizer;

/// How many records of each kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sizes {
    /// Where IMDB's train.jsonl(.gz) and test.jsonl(.gz) lie; empty for the embedded corpus.
    pub path: String,
    /// Reviews to fine-tune on.
    pub demonstrations: usize,
    /// Reviews with labels for the oracle.
    pub labelled: usize,
    /// Prompts to sample groups from.
    pub prompts: usize,
    /// Prompts to evaluate on, from the test split.
    pub held_out: usize,
    /// Tokens of a review that are its opening, the prompt.
    pub opening_tokens: usize,
    /// Tokens of a review that are read at most, opening included.
    pub review_tokens: usize,
}

/// The files of records, each for its stage.
pub struct Files {
    /// For fine-tuning.
    pub demonstrations: PathBuf,
    /// For the oracle.
    pub labelled: PathBuf,
    /// For sampling groups.
    pub prompts: PathBuf,
    /// For evaluation.
    pub held_out: PathBuf,
}

impl Files {
    /// Under `folder`.
    pub fn new(folder: &Path) -> Self {
        let file = |name: &str| folder.join(format!("{name}.jsonl"));
        Self {
            demonstrations: file("demonstrations"),
            labelled: file("labelled"),
            prompts: file("prompts"),
            held_out: file("held-out"),
        }
    }

    fn write(&self, records: [Vec<Value>; 4]) -> Result<()> {
        let files = [&self.demonstrations, &self.labelled, &self.prompts, &self.held_out];
        for (file, records) in files.into_iter().zip(records) {
            files::write_atomic(file, |writer| {
                records.iter().try_for_each(|record| writeln!(writer, "{record}"))
            })?;
        }
        Ok(())
    }
}

/// Writes records drawn from the embedded grammar: training and held-out reviews are disjoint.
pub fn embedded(files: &Files, sizes: &Sizes, seed: u64) -> Result<()> {
    let training = sizes.demonstrations.max(sizes.labelled).max(sizes.prompts);
    let (train, held_out) = corpus::split(seed, training, sizes.held_out)?;
    let demonstrations = train
        .iter()
        .take(sizes.demonstrations)
        .map(|it| json!({ "prompt": it.opening, "chosen": it.rest }))
        .collect();
    let labelled = train
        .iter()
        .take(sizes.labelled)
        .map(|it| json!({ "text": format!("{}{}", it.opening, it.rest), "label": u8::from(it.label) }))
        .collect();
    let prompts = |reviews: &[corpus::Review], count| {
        reviews.iter().take(count).map(|it| json!({ "prompt": it.opening })).collect()
    };
    files.write([
        demonstrations,
        labelled,
        prompts(&train, sizes.prompts),
        prompts(&held_out, sizes.held_out),
    ])
}

/// Writes records of IMDB reviews, as token ids of `model`'s tokenizer, so that the seam between
/// opening and rest is where the review's own tokens meet.
pub fn imdb(files: &Files, sizes: &Sizes, seed: u64, model: &Path) -> Result<()> {
    let folder = ModelFolder::open(model)?;
    let tokenizer = tokenizer(&folder)?.ok_or_else(|| {
        Error::file(model, "expected tokenizer.json, found none; the reviews are text")
    })?;
    let train = reviews(&sizes.path, "train", seed)?;
    let test = reviews(&sizes.path, "test", seed)?;
    let training = sizes.demonstrations.max(sizes.labelled).max(sizes.prompts);
    let train = tokens(&train, training, sizes, &tokenizer, "train")?;
    let test = tokens(&test, sizes.held_out, sizes, &tokenizer, "test")?;
    let prompt = |it: &Review| -> Result<Value> {
        Ok(json!({ "prompt": tokenizer.decode(it.opening())?, "prompt_ids": it.opening() }))
    };
    let prompts =
        |reviews: &[Review], count| reviews.iter().take(count).map(prompt).collect::<Result<_>>();
    let demonstrations = train
        .iter()
        .take(sizes.demonstrations)
        .map(|it| {
            let mut record = prompt(it)?;
            let mut rest = it.rest().to_vec();
            // A review that was cut does not end; one that was not, does.
            rest.extend(tokenizer.end_of_text().filter(|_| !it.cut));
            record["chosen_ids"] = json!(rest);
            record["finished"] = json!(!it.cut);
            Ok(record)
        })
        .collect::<Result<_>>()?;
    let labelled = train
        .iter()
        .take(sizes.labelled)
        .map(|it| json!({ "text_ids": it.ids, "label": u8::from(it.label) }))
        .collect();
    files.write([
        demonstrations,
        labelled,
        prompts(&train, sizes.prompts)?,
        prompts(&test, sizes.held_out)?,
    ])
}

/// A review's first tokens.
struct Review {
    ids: Vec<u32>,
    opening: usize,
    label: bool,
    cut: bool,
}

impl Review {
    fn opening(&self) -> &[u32] {
        &self.ids[..self.opening]
    }

    fn rest(&self) -> &[u32] {
        &self.ids[self.opening..]
    }
}

/// The reviews of a split, shuffled.
fn reviews(path: &str, split: &str, seed: u64) -> Result<Vec<LabelledText>> {
    if path.is_empty() {
        return Err(Error::usage(
            "data.path: expected the folder of IMDB's train.jsonl(.gz) and test.jsonl(.gz); give it with --data",
        ));
    }
    let folder = Path::new(path);
    let file = [format!("{split}.jsonl.gz"), format!("{split}.jsonl")]
        .into_iter()
        .map(|name| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            Error::file(
                folder,
                format!("expected {split}.jsonl.gz or {split}.jsonl, found neither"),
            )
        })?;
    let mut reviews: Vec<LabelledText> =
        data::read_all::<LabelledText>(&file, 0)?.into_iter().map(|it| it.record).collect();
    reviews.shuffle(&mut rand_chacha::ChaCha12Rng::seed_from_u64(seed));
    Ok(reviews)
}

fn tokens(
    reviews: &[LabelledText],
    count: usize,
    sizes: &Sizes,
    tokenizer: &Tokenizer,
    split: &str,
) -> Result<Vec<Review>> {
    let mut kept = Vec::with_capacity(count);
    for review in reviews {
        if kept.len() == count {
            return Ok(kept);
        }
        let Some(text) = &review.text.text else { continue };
        // The published files mark paragraphs with HTML.
        let mut ids = tokenizer.encode_prompt(&text.replace("<br />", "\n"))?;
        let cut = ids.len() > sizes.review_tokens;
        ids.truncate(sizes.review_tokens);
        if ids.len() > sizes.opening_tokens {
            kept.push(Review { ids, opening: sizes.opening_tokens, label: review.label, cut });
        }
    }
    if kept.len() < count {
        return Err(Error::usage(format!(
            "{}: expected {count} reviews longer than {} tokens in the {split} split, found {}; lower the \
             numbers under `data`",
            sizes.path,
            sizes.opening_tokens,
            kept.len()
        )));
    }
    Ok(kept)
}
