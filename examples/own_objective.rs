//! An objective of one's own, without a fork: defined here, registered, and trained with.
//!
//! ```sh
//! cargo run --release --example own_objective -- MODEL pairs.jsonl OUT
//! ```
//!
//! MODEL is a Hugging Face folder, the records are those that `exalign align` reads, and `OUT/model` is the
//! aligned model.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use exalign::alignment::{Alignment, Divergence, Entry, GroupLogProbs, Takes, register};
use exalign::config::{AlignSettings, Settings, Sources, Stage};
use exalign::tuning::{AlignFiles, TrainingSite, align};

/// What the table of objectives knows of ours: its name on command lines, its data, how it is built.
static EXPONENTIAL: Entry = Entry {
    name: "exponential",
    label: "Exponential",
    about: "the exponential loss of the margin",
    takes: Takes::Pairs,
    divergence: Divergence::Other,
    reads: &["beta_policy"],
    forms: &[],
    build: |config| Ok(Arc::new(Exponential { beta_policy: config.beta_policy })),
};

/// exp(−β_π (h_chosen − h_rejected)), mean over pairs.
#[derive(Debug)]
struct Exponential {
    beta_policy: f64,
}

impl Alignment for Exponential {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let h = log_probs.log_ratios(); //                               [pairs, 2], chosen first
        let margin = h.clone().narrow(1, 0, 1) - h.narrow(1, 1, 1); //   [pairs, 1]
        (margin * -self.beta_policy).exp().mean() //                     [1]
    }

    fn entry(&self) -> &'static Entry {
        &EXPONENTIAL
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }
}

fn main() -> exalign::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, out] = &arguments[..] else {
        return Err(exalign::Error::usage("expected MODEL DATA OUT"));
    };
    register(&EXPONENTIAL)?;
    let set =
        ["objective.name=exponential", "training.batch_size=4", "training.learning_rate=1e-4"];
    let sources = Sources { set: set.map(str::to_owned).to_vec(), ..Sources::default() };
    let settings = AlignSettings::load(Stage::Align, &sources)?;
    let (model, data, out) = (Path::new(model), Path::new(data), Path::new(out));
    let files = AlignFiles { model, reference: model, data, validation: None };
    let device = exalign::device::open(&exalign::device::fastest()?)?;
    let trained = align(files, settings, &TrainingSite::new(out, device))?;
    println!("{} steps, last loss {:?}: {}", trained.steps, trained.loss, trained.model);
    Ok(())
}
