//! `exalign loss`: an objective on given log-probs, in f64 on the CPU.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use exalign::alignment::{ObjectiveConfig, ObjectiveName, evaluate_line, objective_names};
use exalign::data::rows;
use exalign::{Error, Result};
use serde_json::json;

use crate::output::{is_read, print_line};

/// Options of `exalign loss`.
#[derive(Args, Debug)]
#[command(
    after_help = "Reads {\"policy\": [..], \"reference\": [..], \"rewards\": [..]} on each line: the log-probs of a group's\ncompletions under both models. Pair objectives take the first completion as the chosen one.\nPrints {\"loss\": .., \"gradient\": [d loss / d policy log-prob ..]} for each."
)]
pub struct LossArgs {
    #[arg(long, value_name = "NAME", help = objective_names(|_| true))]
    objective: ObjectiveName,
    /// A file of groups, or - for standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    data: PathBuf,
    /// Sharpness of the policy side, β_π
    #[arg(long, default_value_t = ObjectiveConfig::default().beta_policy)]
    beta_policy: f64,
    /// Temperature of the rewards, β_r
    #[arg(long, default_value_t = ObjectiveConfig::default().beta_reward)]
    beta_reward: f64,
    /// Label smoothing of exo-pref
    #[arg(long, default_value_t = ObjectiveConfig::default().epsilon)]
    epsilon: f64,
    /// paper, or official for the unnormalised labels of the official code
    #[arg(long, default_value = "paper")]
    labels: String,
}

/// Runs the command.
pub fn run(args: &LossArgs) -> Result<()> {
    let labels = serde_json::from_value(json!(args.labels)).map_err(|_| {
        Error::usage(format!("--labels: expected `paper` or `official`, found `{}`", args.labels))
    })?;
    let objective = ObjectiveConfig {
        name: args.objective,
        beta_policy: args.beta_policy,
        beta_reward: args.beta_reward,
        epsilon: args.epsilon,
        labels,
        ..ObjectiveConfig::default()
    }
    .init()?;
    let (source, reader): (&Path, Box<dyn BufRead>) = if args.data.as_os_str() == "-" {
        (Path::new("standard input"), Box::new(std::io::stdin().lock()))
    } else {
        let file = std::fs::File::open(&args.data).map_err(Error::io(&args.data, "read"))?;
        (&args.data, Box::new(BufReader::new(file)))
    };
    // One more than a row may have, to see that it has more.
    let max = rows::max_row_bytes();
    let mut reader = reader.take(0);
    for number in 0.. {
        if !is_read() {
            break;
        }
        let mut line = String::new();
        reader.set_limit(max as u64 + 1);
        if reader.read_line(&mut line).map_err(Error::io(source, "read"))? == 0 {
            break;
        }
        if line.len() > max {
            let message = format!("expected at most {max} bytes in a line, found more; cut it");
            return Err(Error::record(source, number + 1, message));
        }
        let line = line.trim_end_matches(['\r', '\n']);
        if !line.trim().is_empty() {
            print_line(&json!(evaluate_line(&*objective, line, source, number + 1)?))?;
        }
    }
    Ok(())
}
