//! Alignment with groups, pairs or labelled completions, the reference read from its store.

use std::path::Path;
use std::sync::Arc;

use burn::data::dataset::Dataset;
use burn::tensor::Device;

use super::batches::Source;
use super::fit::{Fit, LOWER_LENGTH, Sizes, fit, sizes};
use super::reference::{TokenLogProbs, reference_token_log_probs};
use super::referenced::{
    Batching, Mismatched, Referenced, alignment_batch, any_weighted, prepare, referenced,
};
use super::subject::Subject;
use super::train::{Train, Trained};
use super::validation::{check, read_both};
use super::{TrainingSite, check_same_tokens, limits, tokenizer};
use crate::alignment::{Alignment, ObjectiveConfig, Takes};
use crate::config::{AlignSettings, TrainSettings};
use crate::data::{self, TokenGroup, Tokenizer, today};
use crate::files::DiskList;
use crate::model::{Decoder, ModelFolder};
use crate::training::{Aligner, Measure};
use crate::{Error, Result};

/// The files of an alignment: Hugging Face folders and records.
#[derive(Clone, Copy, Debug)]
pub struct AlignFiles<'a> {
    /// The model to start from.
    pub model: &'a Path,
    /// The reference, π_sft; mostly the same.
    pub reference: &'a Path,
    /// Groups with rewards, pairs, or completions with labels.
    pub data: &'a Path,
    /// The same to validate on, if at all.
    pub validation: Option<&'a Path>,
}

/// Aligns a model: `site.out/model` is the aligned one, a Hugging Face or PEFT folder. Where the site has
/// checkpoints, the training goes on from the newest one; that they are of the same files and settings is
/// for the caller to know.
///
/// # Errors
/// A record that cannot be learned from, with its file and line; settings out of their range; what
/// [`Training::run`](crate::training::Training::run) refuses.
pub fn align(
    files: AlignFiles<'_>,
    mut settings: AlignSettings,
    site: &TrainingSite<'_>,
) -> Result<Trained> {
    let chat = &mut settings.train.chat;
    if chat.date.is_empty() {
        chat.date = today();
    }
    let folders = [ModelFolder::open(files.model)?, ModelFolder::open(files.reference)?];
    let compared = Compared::open(folders, files.data, files.validation, &settings)?;
    compared.train(settings, site)
}

/// A model, its reference and what it is aligned with, as tokens.
pub struct Compared {
    folder: ModelFolder,
    reference: ModelFolder,
    tokenizer: Option<Tokenizer>,
    objective: Arc<dyn Alignment>,
    groups: DiskList<TokenGroup>,
    held_out: DiskList<TokenGroup>,
}

impl Compared {
    /// Reads what the model of `folder` is aligned with, and what it is validated on.
    ///
    /// # Errors
    /// A record that cannot be learned from, with its file and line; settings that contradict each other.
    pub fn open(
        [folder, reference]: [ModelFolder; 2],
        path: &Path,
        validation: Option<&Path>,
        settings: &AlignSettings,
    ) -> Result<Self> {
        let AlignSettings { train, objective, drift } = settings;
        check(train, Some(drift), validation)?;
        let objective = objective.init()?;
        if objective.gae().is_some() {
            return Err(Error::usage(format!(
                "{}: values of tokens are learned in rounds, while the policy draws; give --online and --reward, \
                 with prompts as --data",
                objective.name()
            )));
        }
        // Rounded as the policy is, so that the two are alike where nothing is learned yet.
        let reference = reference.kept_as(train.reference_type());
        let tokenizer = tokenizer(&folder, &train.chat)?;
        check_same_tokens(&folder, tokenizer.as_ref(), &reference)?;
        let data = &train.data.tokens;
        let limits = limits(data, &folder);
        let read = |path: &Path| {
            let takes = |num_completions| objective.check(num_completions);
            let read = match objective.entry().takes {
                Takes::Labels => data::read_unpaired_tokens,
                Takes::Pairs | Takes::Rewards => data::read_alignment_tokens,
            };
            let (groups, intake) = read(
                path,
                data.skip_bad,
                tokenizer.as_ref(),
                &limits,
                folder.shape.vocab_size,
                &takes,
            )?;
            intake.tell(path);
            check_proposals(&*objective, &groups, path)?;
            Ok(groups)
        };
        let (groups, held_out) = read_both(path, validation, train, read)?;
        Ok(Self { folder, reference, tokenizer, objective, groups, held_out })
    }

    /// What the training takes of memory, and how it is cut to fit.
    ///
    /// # Errors
    /// If it cannot fit.
    pub fn fit(&self, settings: &TrainSettings, device: &Device) -> Result<Fit> {
        let of = |most| sizes(&self.groups, most);
        fit(&self.folder, settings, &Sizes { of: &of, lower: LOWER_LENGTH }, device)
    }

    /// Trains, or goes on from the newest checkpoint at the site.
    ///
    /// # Errors
    /// As [`Training::run`](crate::training::Training::run).
    pub fn train(self, settings: AlignSettings, site: &TrainingSite<'_>) -> Result<Trained> {
        let device = site.device();
        let fitted = self.fit(&settings.train, device)?;
        let Self { folder, reference, tokenizer, objective, groups, held_out } = self;
        let AlignSettings { train, objective: ObjectiveConfig { temperature, .. }, drift } =
            settings;
        let train = fitted.applied(train);
        let drift = (drift.kl_budget > 0.0).then(|| {
            let policy = (&folder, tokenizer.as_ref());
            let of = (temperature, train.seed);
            let measured =
                super::validation::drift(&drift, policy, (&reference, device), &held_out, of)?;
            let measure: Measure<Aligner<Decoder>> =
                Arc::new(move |step, aligner| measured.figures(step, &aligner.policy));
            Ok((measure, drift.kl_budget))
        });
        let drift = drift.transpose()?;
        let max_length = limits(&train.data.tokens, &folder).max_length;
        let weighted = any_weighted([&groups, &held_out])?;
        let groups = [groups, held_out].map(Arc::new);
        let mismatched = groups.clone().map(|groups| Mismatched { groups, max_length });
        let mut parts: Vec<&dyn Dataset<TokenGroup, Error>> = vec![&*groups[0], &*groups[1]];
        if objective.needs_mismatched_kl() {
            parts.extend([&mismatched[0] as &dyn Dataset<_, _>, &mismatched[1]]);
        }
        let log_probs = match objective.needs_reference() {
            true => reference_token_log_probs(&reference, temperature, &parts, device)?,
            false => parts.iter().map(|_| TokenLogProbs::Zeros).collect(),
        };
        let [records, held_out] = referenced(groups, mismatched, log_probs);
        let batching = Batching {
            tokens: objective.needs_tokens(),
            completions: train.training.micro_completions,
            weighted,
        };
        let trained_on = device.clone().autodiff();
        let subject = Subject::new(folder, tokenizer, &train)?;
        let saved = subject.clone();
        Train {
            name: objective.name(),
            settings: &train,
            source: Source::of_all(records, &train),
            held_out: Some(Arc::new(held_out)),
            drift,
            load: &|checkpoint| {
                let decoder = subject.load_decoder(checkpoint, &trained_on)?;
                Ok(Aligner::new(decoder, objective.clone(), temperature))
            },
            save: Arc::new(move |aligner: &Aligner<_>, precision, target| {
                saved.save_decoder(&aligner.policy, precision, target)
            }),
            beside: None,
            batch: Arc::new(move |records: &[Referenced], device| {
                (alignment_batch(records, batching, device), records.len() as f64)
            }),
            prepare: objective.needs_mismatched_kl().then(|| prepare(temperature, device)),
        }
        .run(site)
    }
}

/// Refuses groups without the log-probs that they were drawn with, where the objective needs them.
fn check_proposals(
    objective: &dyn Alignment,
    groups: &DiskList<TokenGroup>,
    path: &Path,
) -> Result<()> {
    if !objective.needs_proposal() {
        return Ok(());
    }
    for group in groups.iter() {
        let TokenGroup { line, log_probs, .. } = group?;
        if log_probs.is_empty() {
            return Err(Error::record(
                path,
                line,
                format!(
                    "`log_probs`: {} learns from samples and the log-probs they were drawn with, found none; draw \
                     them with `exalign sample --log-probs`, or let it draw its own: `exalign align --online`",
                    objective.name()
                ),
            ));
        }
    }
    Ok(())
}
