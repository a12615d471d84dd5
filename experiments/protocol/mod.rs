//! The paper's protocol, the same for every experiment:
//!
//! data → (a small model from nothing) → fine-tuning → reward model → groups → labels → pairs →
//! EXO and DPO → reward and KL of every checkpoint → the exact optimum, Best-of-N, win rates.
//!
//! Every arrow is a stage of the [graph](crate::graph); with several seeds everything is repeated.

pub mod base;
mod checkpoints;
mod curves;
mod data;
mod findings;
mod frontiers;
pub mod labels;
mod measured;
mod pipeline;
mod reward_model;
mod rule;
pub mod run;
mod sentences;
pub mod settings;
mod table;
mod variants;
mod wins;

use exalign::Result;
use exalign::config::{AlignSettings, DrawSettings};
use exalign::progress::stages;

use measured::{Lineage, Outcome};
use pipeline::Pipeline;
use run::{Run, stage_settings};
use variants::{Comparison, Variant};

/// Runs the experiment, or says what it would run; chat templates take `date` for today.
pub fn run(mut run: Run, date: &str) -> Result<()> {
    let comparison: Comparison = run.config.section("comparison")?;
    wins::check(&run, &comparison)?;
    let align: AlignSettings = stage_settings(&run.config, "align")?;
    let sample: DrawSettings = stage_settings(&run.config, "sample")?;
    let variants = comparison.variants(&align.objective, sample.generation.completions);
    if run.graph.dry_run {
        return repeat(&mut run, &comparison, &variants, date).map(drop);
    }
    // All stages are listed first, so that a run can say how many there are.
    run.graph.listing = true;
    repeat(&mut run, &comparison, &variants, date)?;
    run.graph.listing = false;
    stages::begin(run.graph.works());
    let lineages = repeat(&mut run, &comparison, &variants, date);
    stages::end();
    let lineages = lineages?;
    findings::report(&run, Outcome { comparison, variants, lineages })
}

/// Every repetition of the protocol; nothing where stages are only listed or forecast.
fn repeat(
    run: &mut Run,
    comparison: &Comparison,
    variants: &[Variant],
    date: &str,
) -> Result<Vec<Lineage>> {
    let first = run.config.seed();
    let mut lineages = Vec::new();
    for seed in first..first + comparison.seeds as u64 {
        let place = match comparison.seeds {
            1 => String::new(),
            _ => format!("seed-{seed}/"),
        };
        let config = run.config.of_repetition(seed, date);
        let pipeline = Pipeline { run, config, comparison, seed, place };
        lineages.extend(pipeline.lineage(variants)?);
    }
    Ok(lineages)
}
