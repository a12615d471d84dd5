//! Fine-tuning on demonstrations.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;

use super::batches::Source;
use super::fit::{Fit, LOWER_LENGTH, Sizes, fit, sizes};
use super::subject::Subject;
use super::train::{Train, Trained};
use super::validation::{check, read_both};
use super::{TrainingSite, limits, tokenizer};
use crate::Result;
use crate::config::TrainSettings;
use crate::data::{self, Demonstration, GroupBatch, TokenGroup, Tokenizer};
use crate::files::DiskList;
use crate::model::ModelFolder;
use crate::training::FineTuner;

/// A model and its demonstrations as tokens.
pub struct Demonstrated {
    folder: ModelFolder,
    tokenizer: Option<Tokenizer>,
    groups: DiskList<TokenGroup>,
    held_out: DiskList<TokenGroup>,
}

impl Demonstrated {
    /// Reads demonstrations for the model of `folder`, and those of validation.
    ///
    /// # Errors
    /// A record that cannot be learned from, with its file and line; settings that contradict each other.
    pub fn open(
        folder: ModelFolder,
        data: &Path,
        validation: Option<&Path>,
        settings: &TrainSettings,
    ) -> Result<Self> {
        check(settings, None, validation)?;
        let tokenizer = tokenizer(&folder, &settings.chat)?;
        let tokens = &settings.data.tokens;
        let read = |path: &Path| {
            let (groups, intake) = data::read_tokens::<Demonstration>(
                path,
                tokens.skip_bad,
                tokenizer.as_ref(),
                &limits(tokens, &folder),
                folder.shape.vocab_size,
            )?;
            intake.tell(path);
            Ok(groups)
        };
        let (groups, held_out) = read_both(data, validation, settings, read)?;
        Ok(Self { folder, tokenizer, groups, held_out })
    }

    /// What the training takes of memory, and how it is cut to fit.
    ///
    /// # Errors
    /// If it cannot fit.
    pub fn fit(&self, settings: &TrainSettings, device: &Device) -> Result<Fit> {
        let of = |_| sizes(&self.groups, 0);
        fit(&self.folder, settings, &Sizes { of: &of, lower: LOWER_LENGTH }, device)
    }

    /// Trains, or goes on from the newest checkpoint at the site.
    ///
    /// # Errors
    /// As [`Training::run`](crate::training::Training::run).
    pub fn train(self, settings: &TrainSettings, site: &TrainingSite<'_>) -> Result<Trained> {
        let settings = &self.fit(settings, site.device())?.applied(settings.clone());
        let Self { folder, tokenizer, groups, held_out } = self;
        let device = site.device().clone().autodiff();
        let subject = Subject::new(folder, tokenizer, settings)?;
        let saved = subject.clone();
        Train {
            name: "fine-tuning",
            settings,
            source: Source::of_all(groups, settings),
            held_out: Some(Arc::new(held_out)),
            drift: None,
            load: &|checkpoint| {
                Ok(FineTuner { decoder: subject.load_decoder(checkpoint, &device)? })
            },
            save: Arc::new(move |tuner: &FineTuner, precision, target| {
                saved.save_decoder(&tuner.decoder, precision, target)
            }),
            beside: None,
            batch: Arc::new(|groups: &[TokenGroup], device| {
                let batch = GroupBatch::new(groups, device);
                let tokens = batch.num_scored.iter().sum::<usize>();
                (batch, tokens as f64)
            }),
            prepare: None,
        }
        .run(site)
    }
}
