//! Trainings of whole model folders on files of records, as settings say: fine-tuning, reward models,
//! alignment.
//!
//! | room | what |
//! |---|---|
//! | `align`, `sft`, `reward` | what each training reads, and its batches |
//! | `train`, `batches` | the part that all share: order, steps, validation, the trained folder |
//! | `subject` | the model, whole or by adapters |
//! | `referenced`, `reference` | groups with the log-probs of the reference, from their store |
//! | `online` | alignment on the policy's own samples |
//! | `drawing` | prompts of a file, and completions drawn for them |
//! | `validation` | the records held out, the drift from the reference |
//! | `fit` | the memory of a training and of a drawing, and how it is cut to fit |
//! | `input` | a folder's tokenizer, limits and weights |
//!
//! Invariant: nothing here knows a command or where outputs lie; the caller says where, and answers for
//! files and settings being those of an earlier start.

mod align;
mod batches;
mod drawing;
mod fit;
mod input;
mod online;
mod reference;
mod referenced;
mod reward;
mod sft;
mod subject;
mod train;
mod validation;

use std::path::Path;

use burn::tensor::Device;

use crate::training::Watch;

pub use align::{AlignFiles, Compared, align};
pub use drawing::{PromptToComplete, draw, read_prompts, sampling};
pub use fit::{DrawingFit, Fit};
pub use input::{
    check_same_tokens, end_of_text, limits, load_decoder, plain_tokenizer, reads_date,
    reward_folder, tokenizer,
};
pub use online::{Online, ROUNDS};
pub use reward::Labelled;
pub use sft::Demonstrated;
pub use subject::Subject;
pub use train::Trained;

/// Where a training computes, writes and shows its figures.
#[derive(Clone, Debug)]
pub struct TrainingSite<'a> {
    /// The folder of metrics, checkpoints and the trained model.
    pub out: &'a Path,
    /// The devices, without autodiff: the model is on the first, gradients are computed on all.
    pub devices: Vec<Device>,
    /// Where figures are shown, besides `metrics.jsonl`.
    pub watch: Watch,
}

impl<'a> TrainingSite<'a> {
    /// In a folder on one device, shown nowhere else.
    pub fn new(out: &'a Path, device: Device) -> Self {
        Self { out, devices: vec![device], watch: Watch::default() }
    }

    /// The device of the model.
    fn device(&self) -> &Device {
        &self.devices[0]
    }
}
