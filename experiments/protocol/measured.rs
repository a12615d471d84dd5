//! The results of a run's stages, read from their folders.

use std::path::Path;

use exalign::Result;
use exalign::data::{self as records, Group};
use exalign::evaluation::Samples;
use exalign::statistics::{Interval, student};

use super::variants::{Comparison, Variant};
use crate::graph::Artifact;
use crate::stage::GROUPS;
use crate::stages::evaluate::Evaluated;

/// The file of a checkpoint's evaluation in its stage's folder.
pub fn file_of(step: usize) -> String {
    format!("step-{step}.jsonl")
}

/// A checkpoint and what it came to.
pub struct Measured {
    pub step: usize,
    pub evaluated: Evaluated,
}

/// One repetition of the protocol.
pub struct Lineage {
    pub seed: u64,
    /// Where its stages lie within the run's folder.
    pub place: String,
    /// π_sft.
    pub reference: Measured,
    /// The checkpoints of every variant, in the order of training.
    pub variants: Vec<Vec<Measured>>,
    /// The rewards of many samples of π_sft for each held-out prompt.
    pub candidates: Vec<Vec<f64>>,
    /// The answers people gave to the held-out prompts, with their rewards.
    pub chosen: Option<Vec<Group>>,
}

/// Everything the report is made of.
pub struct Outcome {
    pub comparison: Comparison,
    pub variants: Vec<Variant>,
    pub lineages: Vec<Lineage>,
}

impl Lineage {
    pub fn read(
        seed: u64,
        place: String,
        reference: &Artifact,
        evaluations: &[Artifact],
        candidates: &Artifact,
        chosen: Option<&Artifact>,
    ) -> Result<Self> {
        let groups = |artifact: &Artifact| -> Result<Vec<Group>> {
            let located = records::read_all::<Group>(&artifact.path(GROUPS), 0)?;
            Ok(located.into_iter().map(|it| it.record).collect())
        };
        let candidates = groups(candidates)?.into_iter().filter_map(|it| it.rewards).collect();
        let reference =
            Measured { step: 0, evaluated: Evaluated::read(&reference.path(&file_of(0)))? };
        Ok(Self {
            seed,
            place,
            reference,
            variants: evaluations
                .iter()
                .map(|artifact| checkpoints(&artifact.folder))
                .collect::<Result<_>>()?,
            candidates,
            chosen: chosen.map(groups).transpose()?,
        })
    }

    /// A variant at the end of its training.
    pub fn last(&self, variant: usize) -> Option<&Measured> {
        self.variants.get(variant)?.last()
    }

    /// A variant after so many steps.
    pub fn at(&self, variant: usize, step: usize) -> Option<&Measured> {
        self.variants.get(variant)?.iter().find(|it| it.step == step)
    }

    /// The samples of a variant's checkpoints.
    pub fn frontier(&self, variant: usize) -> Vec<&Samples> {
        self.variants[variant].iter().map(|it| &it.evaluated.drawn).collect()
    }
}

/// One repetition's interval over prompts, or Student's over the means of several.
pub fn over_repetitions(intervals: &[Interval]) -> Option<Interval> {
    match intervals {
        [] => None,
        [only] => Some(*only),
        several => Some(student(&several.iter().map(|it| it.mean).collect::<Vec<_>>())),
    }
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn checkpoints(folder: &Path) -> Result<Vec<Measured>> {
    let mut steps: Vec<usize> = std::fs::read_dir(folder)
        .map_err(exalign::Error::io(folder, "read"))?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_prefix("step-")?.strip_suffix(".jsonl")?.parse().ok()
        })
        .collect();
    steps.sort_unstable();
    steps
        .into_iter()
        .map(|step| Ok(Measured { step, evaluated: Evaluated::read(&folder.join(file_of(step)))? }))
        .collect()
}
