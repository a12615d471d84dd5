//! Validation while training: which records it is over, when it is, and what is taken over them.

use std::path::Path;
use std::sync::Arc;

use burn::data::dataset::Dataset;
use burn::tensor::Device;

use super::batches::{MakeBatch, Prepare, Records};
use super::{end_of_text, load_decoder};
use crate::config::{BestBy, DriftSettings, TrainSettings};
use crate::data::{TokenGroup, Tokenizer};
use crate::files::DiskList;
use crate::generation::{Choice, Sampling};
use crate::model::ModelFolder;
use crate::training::{
    Drift, Measure, Rules, Trainable, Validation, hold_out, means, micro_batches,
};
use crate::{Error, Result};

/// Refuses settings of validation that contradict each other or that have no records.
pub(super) fn check(
    settings: &TrainSettings,
    drift: Option<&DriftSettings>,
    file: Option<&Path>,
) -> Result<()> {
    let share = settings.validation.share;
    if let (Some(file), true) = (file, share > 0.0) {
        return Err(Error::usage(format!(
            "validation.share: expected 0 beside --validation {}, found {share}; give one of the two",
            file.display()
        )));
    }
    if file.is_some() || share > 0.0 {
        return Ok(());
    }
    const REMEDY: &str = "give --validation FILE, or hold records out: --set validation.share=0.1";
    if settings.checkpoint.best != BestBy::None {
        return Err(Error::usage(format!(
            "checkpoint.best: expected records to tell the best model by, found none; {REMEDY}"
        )));
    }
    match drift {
        Some(drift) if drift.kl_budget > 0.0 => Err(Error::usage(format!(
            "--kl-budget: expected prompts to measure the drift on, found none; {REMEDY}"
        ))),
        _ => Ok(()),
    }
}

/// The records to train on, and those to validate on: of a file of their own, or held out.
pub(super) fn read_both(
    data: &Path,
    file: Option<&Path>,
    settings: &TrainSettings,
    read: impl Fn(&Path) -> Result<DiskList<TokenGroup>>,
) -> Result<(DiskList<TokenGroup>, DiskList<TokenGroup>)> {
    let groups = read(data)?;
    let share = settings.validation.share;
    if let Some(file) = file {
        return Ok((groups, read(file)?));
    }
    if share == 0.0 {
        let none = groups.select(&[]);
        return Ok((groups, none));
    }
    let count = groups.len();
    let (kept, held_out) = hold_out(&groups, share, settings.seed)?;
    if held_out.is_empty() {
        return Err(Error::file(
            data,
            "validation.share: expected records of two prompts or more to hold some out, found those of one; give \
             --validation FILE",
        ));
    }
    tracing::info!(
        "validation: {} of {count} records are held out, those of {:.0} % of the prompts (validation.share, seed {})",
        held_out.len(),
        share * 100.0,
        settings.seed
    );
    Ok((groups.select(&kept), groups.select(&held_out)))
}

/// How a training of `num_steps` steps is validated on `records`; none where there are none.
///
/// # Errors
/// If a record cannot be read.
pub(super) fn validation<T: Trainable, I: AsRef<TokenGroup> + Clone + Send + Sync + 'static>(
    settings: &TrainSettings,
    num_steps: usize,
    records: Option<Records<I>>,
    batch: MakeBatch<I, T::Batch>,
    prepare: Option<Prepare<T, I>>,
    drift: Option<(Measure<T>, f64)>,
    device: Device,
) -> Result<Option<Validation<T>>> {
    let Some(records) = records.filter(|records| !records.is_empty()) else { return Ok(None) };
    let every = match settings.validation.every {
        0 => num_steps.div_ceil(10).max(1),
        every => every,
    };
    let count = records.len();
    let size = |record: usize| {
        let record = records.get(record)?;
        Ok((record.as_ref().completions.len(), record.as_ref().num_tokens()))
    };
    let sizes: Vec<(usize, usize)> = (0..count).map(size).collect::<Result<_>>()?;
    let parts = micro_batches(count, settings.training.micro_batch_size, |record| sizes[record]);
    let (drift, kl_budget) = drift.unzip();
    let measure = move |step: usize, module: &T| {
        let mut prepared = None;
        if let Some(prepare) = &prepare {
            let mut all = records.get_many((0..count).collect())?;
            prepare(module, &mut all)?;
            prepared = Some(all);
        }
        let batches = parts.iter().map(|part| {
            let part: Vec<I> = match &prepared {
                Some(all) => part.iter().map(|&record| all[record].clone()).collect(),
                None => records.get_many(part.clone())?,
            };
            Ok(batch(&part, &device))
        });
        let mut figures = means(module, batches)?;
        if let Some(drift) = &drift {
            figures.extend(drift(step, module)?);
        }
        Ok(figures)
    };
    let rules = Rules { best: settings.checkpoint.best, kl_budget };
    Ok(Some(Validation { every, measure: Arc::new(measure), rules }))
}

/// How the drift of `policy` from `reference` is measured on the prompts of `groups`; it loads the
/// reference.
pub(super) fn drift(
    settings: &DriftSettings,
    (policy, tokenizer): (&ModelFolder, Option<&Tokenizer>),
    (reference, device): (&ModelFolder, &Device),
    groups: &DiskList<TokenGroup>,
    (temperature, seed): (f64, u64),
) -> Result<Drift> {
    let prompts = Drift::prompts(groups.iter(), settings.prompts)?;
    if prompts.len() < 2 {
        return Err(Error::usage(format!(
            "--kl-budget: expected two validation prompts or more, for an interval, found {}; give more validation \
             records, with a prompt each",
            prompts.len()
        )));
    }
    let choice = Choice { temperature, top_k: 0, top_p: 1.0 };
    Ok(Drift {
        reference: load_decoder(reference, device)?,
        prompts,
        sampling: Sampling {
            num_completions: 1,
            choice,
            max_new_tokens: settings.max_new_tokens,
            end_of_text: end_of_text(policy, tokenizer),
            stop: None,
            seed,
            log_probs: false,
        },
        device: device.clone(),
    })
}
