//! `exalign loss`: an objective on given log-probs, in f64 on the CPU.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use exalign::alignment::{Alignment, GroupNumbers, TokenNumbers, evaluate, objective_names};
use exalign::config::{LossSettings, Stage};
use exalign::data::rows;
use exalign::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::objective::ObjectiveFlags;
use crate::context::{Global, settings};
use crate::output::{is_read, print_line};

/// Options of `exalign loss`.
#[derive(Args, Debug)]
#[command(
    after_help = "Each line of --data is a group, {\"policy\": [..], \"reference\": [..], \"rewards\": [..], \"num_tokens\": [..]}:\nthe log-probs of its completions under both models, their rewards, their numbers of tokens. What an objective\ndoes not read may be left out. Pair objectives take the first completion as the chosen one. kto takes\ncompletions of positive reward as desirable, and \"kl\", its estimate of the KL to the reference (default: 0).\ngrpo and ppo read lists of tokens, [[-1.5, -0.2], [-3.1]], and \"proposal\", those under the distribution that drew; ppo\nalso \"values\" when they were drawn and \"new_values\" (default: the same), its advantages whitened over the group.\nPrints {\"loss\": .., \"gradient\": [d loss / d policy log-prob ..]} for each group."
)]
pub struct LossArgs {
    #[arg(long, value_name = "NAME", help = objective_names(|_| true) + ", or a sum: exo-pref+0.1*nll")]
    objective: String,
    /// A file of groups, or - for standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    data: PathBuf,
    #[command(flatten)]
    numbers: ObjectiveFlags,
}

/// Runs the command.
pub fn run(args: &LossArgs, global: &Global) -> Result<()> {
    let mut flags = args.numbers.settings();
    flags.push(("objective.name", Some(args.objective.clone())));
    let settings: LossSettings = settings(global, Stage::Loss, flags)?;
    let objective = settings.objective.init()?;
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

/// What is printed for a group.
#[derive(Debug, Serialize)]
struct LossLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    loss: f64,
    /// One number a completion, or one list a completion where log-probs of tokens were given.
    gradient: Value,
    /// One list a completion, where the objective learns values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    value_gradient: Vec<Vec<f64>>,
}

/// The loss and gradient of the group that `line` describes; it is line `number` of `source`.
fn evaluate_line(
    objective: &dyn Alignment,
    line: &str,
    source: &Path,
    number: usize,
) -> Result<LossLine> {
    let at_line = |error: Error| Error::record(source, number, error.to_string());
    let record: Map<String, Value> = serde_json::from_str(line).map_err(|error| {
        Error::record(
            source,
            number,
            format!("expected a JSON object with `policy`, `reference` and `rewards`: {error}"),
        )
    })?;
    let list = |field: &str, required: bool| numbers(&record, field, required).map_err(at_line);
    let sides = ["policy", "reference", "proposal"];
    let needed = [true, objective.needs_reference(), objective.needs_proposal()];
    let [policy, reference, proposal] = [0, 1, 2].map(|i| side(&record, sides[i], needed[i]));
    let (policy, reference, proposal) =
        (policy.map_err(at_line)?, reference.map_err(at_line)?, proposal.map_err(at_line)?);
    let of_tokens = |field: &str| side(&record, field, false);
    let kl = match record.get("kl") {
        None | Some(Value::Null) => 0.0,
        Some(found) => found.as_f64().ok_or_else(|| {
            at_line(Error::usage(format!("`kl` must be a number, found {found}")))
        })?,
    };
    let group = GroupNumbers {
        policy: &policy.sums,
        reference: &reference.sums,
        proposal: &proposal.sums,
        tokens: TokenNumbers {
            policy: &policy.tokens,
            reference: &reference.tokens,
            proposal: &proposal.tokens,
            values: &of_tokens("values").map_err(at_line)?.tokens,
            new_values: &of_tokens("new_values").map_err(at_line)?.tokens,
        },
        rewards: &list("rewards", objective.needs_rewards())?,
        num_tokens: &list("num_tokens", objective.needs_num_tokens())?,
        mismatched_kl: kl,
    };
    let found = evaluate(objective, &group).map_err(at_line)?;
    let gradient = match objective.needs_tokens() {
        true => json!(found.token_gradient),
        false => json!(found.gradient),
    };
    Ok(LossLine {
        id: record.get("id").cloned(),
        loss: found.loss,
        gradient,
        value_gradient: found.value_gradient,
    })
}

/// Log-probs under one side: of completions, and of their tokens where a list of lists was given.
#[derive(Default)]
struct Side {
    sums: Vec<f64>,
    tokens: Vec<Vec<f64>>,
}

fn side(record: &Map<String, Value>, field: &str, required: bool) -> Result<Side> {
    let lists =
        record.get(field).and_then(Value::as_array).filter(|all| all.iter().any(Value::is_array));
    let Some(lists) = lists else {
        return Ok(Side { sums: numbers(record, field, required)?, tokens: Vec::new() });
    };
    let tokens = |(i, list): (usize, &Value)| -> Result<Vec<f64>> {
        let wrong = |found: &Value| {
            Error::usage(format!(
                "`{field}[{i}]` must be a list of numbers as the others are, found {found}"
            ))
        };
        let list = list.as_array().ok_or_else(|| wrong(list))?;
        list.iter().map(|value| value.as_f64().ok_or_else(|| wrong(value))).collect()
    };
    let tokens: Vec<Vec<f64>> = lists.iter().enumerate().map(tokens).collect::<Result<_>>()?;
    Ok(Side { sums: tokens.iter().map(|list| list.iter().sum()).collect(), tokens })
}

/// The numbers of a field; none when it is absent and not required.
fn numbers(record: &Map<String, Value>, field: &str, required: bool) -> Result<Vec<f64>> {
    let list = match record.get(field) {
        None | Some(Value::Null) if !required => return Ok(Vec::new()),
        None => {
            return Err(Error::usage(format!(
                "`{field}` is missing; a list of numbers, one per completion, is needed"
            )));
        }
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(Error::usage(format!(
                "`{field}` must be a list of numbers, found {other}"
            )));
        }
    };
    list.iter()
        .enumerate()
        .map(|(i, value)| {
            value.as_f64().ok_or_else(|| {
                Error::usage(format!("`{field}[{i}]` must be a number, found {value}"))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use exalign::alignment::{DpoConfig, ExoRwConfig};

    use super::*;

    /// What exo-rw prints for `text`.
    fn exo_rw(text: &str) -> Result<String> {
        let objective = ExoRwConfig::new().init().unwrap();
        let line = evaluate_line(&objective, text, Path::new("groups.jsonl"), 7)?;
        Ok(serde_json::to_string(&line).unwrap())
    }

    #[test]
    fn a_line_of_log_probs_gives_a_line_of_loss_and_gradient() {
        let pair = r#"{"policy": [-3.0, -4.0], "reference": [-3.0, -4.0]}"#;
        // −log σ(0) = log 2 and its slope −β_π / 2.
        let dpo = DpoConfig::new().init().unwrap();
        let line = evaluate_line(&dpo, pair, Path::new("groups.jsonl"), 1).unwrap();
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"loss":0.6931471805599453,"gradient":[-0.05,0.05]}"#
        );
        let group = r#"{"id": "a", "policy": [-3, -4, -5], "reference": [-3, -4, -5], "rewards": [1, 1, 1]}"#;
        let text = exo_rw(group).unwrap();
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(found["id"], "a");
        assert_eq!(found["loss"].as_f64().unwrap(), 0.0);
        assert_eq!(found["gradient"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_bad_line_is_refused_with_its_place_and_field() {
        let refused = |text: &str| exo_rw(text).unwrap_err().to_string();
        insta::assert_snapshot!(
            refused(r#"{"reference": [1, 2], "rewards": [1, 2]}"#),
            @"groups.jsonl:7: `policy` is missing; a list of numbers, one per completion, is needed"
        );
        insta::assert_snapshot!(
            refused(r#"{"policy": [1, 2], "reference": [1, 2]}"#),
            @"groups.jsonl:7: `rewards` is missing; a list of numbers, one per completion, is needed"
        );
        insta::assert_snapshot!(
            refused(r#"{"policy": [1, "x"], "reference": [1, 2], "rewards": [1, 2]}"#),
            @r#"groups.jsonl:7: `policy[1]` must be a number, found "x""#
        );
        insta::assert_snapshot!(
            refused(r#"{"policy": 1, "reference": [1, 2], "rewards": [1, 2]}"#),
            @"groups.jsonl:7: `policy` must be a list of numbers, found 1"
        );
        insta::assert_snapshot!(
            refused(r#"{"policy": [1, 2], "reference": [1, 2, 3], "rewards": [1, 2]}"#),
            @"groups.jsonl:7: `reference` must have one number for each of the 2 completions in `policy`, found 3"
        );
        insta::assert_snapshot!(
            refused(r#"{"policy": [1], "reference": [1], "rewards": [1]}"#),
            @"groups.jsonl:7: exo-rw compares completions of one prompt and needs at least 2 in a group, found 1; sample more completions or drop the group"
        );
        assert!(refused("[1, 2]").starts_with("groups.jsonl:7: expected a JSON object"));
        assert!(refused("{").starts_with("groups.jsonl:7: expected a JSON object"));
    }
}
