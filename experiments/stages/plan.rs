//! `exalign plan`: how many prompts, samples and seeds tell a difference, by the spread of a run.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use exalign::evaluation::{Sizes, VarianceComponents};
use exalign::report::{Comparison, Report};
use exalign::{Error, Result};

use crate::output::print_text;

/// Options of `exalign plan`.
#[derive(Args, Debug)]
#[command(
    after_help = "A pilot need not be large: two prompts show a spread, fifty show it well. Run a few seeds\n(--set comparison.seeds=3) to learn how much trainings differ; no number of prompts makes up for that.\n\nAn example:\n  exalign run sentiment --set comparison.seeds=3 --out pilot\n  exalign plan pilot --difference 0.05"
)]
pub struct PlanArgs {
    /// The folder of the pilot, a finished run that compares an EXO with a DPO, or an objective on its own samples
    /// with the same on others
    #[arg(value_name = "FOLDER")]
    run: PathBuf,
    /// The difference in reward at the same KL that is to be told from nothing
    #[arg(long, value_name = "REWARD")]
    difference: f64,
    /// The probability of finding it, by a two-sided test at 5 %
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    power: f64,
}

/// Samples of a prompt that a plan shows.
const SAMPLES: [usize; 4] = [1, 2, 4, 8];
/// Seeds that a plan shows.
const SEEDS: [usize; 5] = [1, 3, 5, 10, 20];

/// Runs the command.
pub fn run(args: &PlanArgs) -> Result<()> {
    if !(args.difference > 0.0 && args.difference.is_finite()) {
        let found = args.difference;
        return Err(Error::usage(format!(
            "--difference: expected a number above 0, in units of the reward, found {found}"
        )));
    }
    if !(args.power >= 0.5 && args.power < 1.0) {
        let found = args.power;
        return Err(Error::usage(format!(
            "--power: expected a probability from 0.5 to below 1, such as 0.8, found {found}"
        )));
    }
    let report = Report::read(&args.run)?;
    let comparisons = report.comparisons.iter();
    let planned: Vec<_> =
        comparisons.filter_map(|it| Some((it, it.variance_components?))).collect();
    if planned.is_empty() {
        return Err(Error::file(
            &args.run,
            "expected a report with a comparison of two objectives at the same KL and its spread, found none; \
             compare an EXO and its DPO (comparison.objectives), and let the same `exalign run` write the report again if \
             an earlier version wrote it",
        ));
    }
    for (comparison, spread) in planned {
        print_text(&told(&report, comparison, &spread, args.power))?;
        print_text(&format!("{}\n", needed(&spread, args.difference, args.power)))?;
    }
    Ok(())
}

/// What the pilot found, where its error comes from, and what its sizes tell.
fn told(report: &Report, it: &Comparison, spread: &VarianceComponents, power: f64) -> String {
    let Sizes { prompts, samples, repetitions } = spread.measured_with;
    let within = spread.samples.unwrap_or(0.0) / samples as f64;
    let one = spread.prompts + within;
    let share = |part: f64| 100.0 * part / one.max(f64::MIN_POSITIVE);
    let samples_say = match spread.samples {
        Some(_) => format!(
            "{:.0} % of its variance comes from which prompts are asked, {:.0} % from what is drawn for each.",
            share(spread.prompts),
            share(within)
        ),
        None => {
            "One sample of each prompt does not tell prompts from samples; draw two.".to_owned()
        }
    };
    let trainings_say = match spread.repetitions {
        Some(variance) => format!(
            "Trainings of other seeds differ by a standard deviation of {:.4} beyond that, as far as {repetitions} seeds \
             can tell{}.",
            variance.sqrt(),
            if repetitions < 5 { "; take five for a plan" } else { "" }
        ),
        None => "How much trainings of other seeds differ is not known from one seed: rows with several seeds assume \
                 that they do not."
            .to_owned(),
    };
    format!(
        "{} − {} at the same KL: {} with {prompts} prompts, {samples} samples of each, {repetitions} seeds.\n\
         {samples_say} {trainings_say}\nThese sizes find a difference of {:.4} with a probability of {:.0} %.",
        report.label(&it.ours),
        report.label(&it.theirs),
        it.mean_gain,
        spread.detectable(spread.measured_with, power),
        100.0 * power,
    )
}

/// Prompts by samples and seeds.
fn needed(spread: &VarianceComponents, difference: f64, power: f64) -> Table {
    let mut table = Table::new();
    let header = SAMPLES.map(|samples| match samples {
        1 => "1 sample".to_owned(),
        many => format!("{many} samples"),
    });
    let corner = format!("prompts that tell {difference}");
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(std::iter::once(corner).chain(header));
    for seeds in SEEDS {
        let cells = SAMPLES.map(|samples| {
            spread
                .prompts_needed(difference, power, samples, seeds)
                .map_or_else(|| "none do".to_owned(), |prompts| prompts.to_string())
        });
        let name = match seeds {
            1 => "1 seed, of this training alone".to_owned(),
            many => format!("{many} seeds, each with as many"),
        };
        table.add_row(std::iter::once(name).chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
