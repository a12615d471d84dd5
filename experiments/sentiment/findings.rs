//! What the experiment found: the table in the terminal and the report.

use comfy_table::{Table, presets};
use exalign::Result;
use exalign::report::{Report, ResultRow};

use super::Outcome;
use crate::run::Run;

/// Prints the table and writes the report.
pub fn report(run: &Run, outcome: &Outcome) -> Result<()> {
    let mut results = Vec::new();
    for measured in &outcome.measured {
        results.push(ResultRow {
            policy: format!("{}-{}", measured.policy, measured.step),
            reward: measured.evaluated.evaluation.reward,
            kl: measured.evaluated.evaluation.kl,
            reward_gain: None,
            num_samples: measured.evaluated.evaluation.num_samples,
            seconds: 0.0,
        });
    }
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(["policy", "reward", "KL", "samples"]);
    for row in &results {
        table.add_row([
            row.policy.clone(),
            row.reward.to_string(),
            row.kl.to_string(),
            row.num_samples.to_string(),
        ]);
    }
    println!("{table}");
    println!("{:?}", outcome.optimum);
    for p in &outcome.optimum_curve {
        println!("{:.3} {} {} {:.1}", p.beta, p.reward, p.kl, p.effective_sample_size);
    }
    Report { results, stages: run.costs.clone() }.write(&run.out)
}
