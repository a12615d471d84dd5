//! A finished round in its files: `rounds/round-0001.jsonl` has the groups as any command reads them, with their
//! rewards and the log-probs they were drawn with; `round-0001.json` beside it what else the training needs, and
//! the hash of the groups.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::values::OldValues;
use crate::alignment::{Gae, best, worst};
use crate::data::{Group, TokenGroup, read_all};
use crate::files::{create_dir, hash_file, read_sealed, write_atomic, write_sealed};
use crate::tuning::referenced::Referenced;
use crate::{Error, Result};

/// The folder of rounds, within that of the training.
pub const ROUNDS: &str = "rounds";

/// A round as steps take it.
#[derive(Debug)]
pub(super) struct Round {
    /// What the objective learns from.
    pub records: Vec<Referenced>,
    /// What each part took, in seconds.
    pub seconds: Vec<(&'static str, f64)>,
    /// Figures over all of its samples.
    pub figures: Vec<(String, f64)>,
}

/// What the training needs of a round besides its groups.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Beside {
    /// The hash of the groups' file.
    pub groups: String,
    /// The log-prob of every token under the reference, `[group][completion][token]`; empty where the
    /// objective needs none.
    pub reference: Vec<Vec<Vec<f32>>>,
    pub draw_seconds: f64,
    pub reward_seconds: f64,
    pub reference_seconds: f64,
    pub figures: Vec<(String, f64)>,
    /// What an objective that learns values needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<OldValues>,
}

/// The file of a round's groups, the number counted from 0.
pub(super) fn path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("round-{:04}.jsonl", number + 1))
}

/// Writes a round. It is there once its second file is.
pub(super) fn write(folder: &Path, number: usize, groups: &[Group], beside: Beside) -> Result<()> {
    create_dir(folder)?;
    let path = path(folder, number);
    write_atomic(&path, |writer| {
        groups.iter().try_for_each(|group| {
            serde_json::to_writer(&mut *writer, group)?;
            writer.write_all(b"\n")
        })
    })?;
    let groups = hash_file(&path)?;
    write_sealed(&path.with_extension("json"), &Beside { groups, ..beside })
}

/// Reads a round; none where it is not there whole.
pub(super) fn read(folder: &Path, number: usize) -> Result<Option<(Vec<Group>, Beside)>> {
    let path = path(folder, number);
    let beside = path.with_extension("json");
    if !beside.exists() || !path.exists() {
        return Ok(None);
    }
    let found: Beside = match read_sealed(&beside) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!("passing over a damaged round: {error}");
            return Ok(None);
        }
    };
    if hash_file(&path)? != found.groups {
        tracing::warn!("passing over a damaged round: {} has changed", path.display());
        return Ok(None);
    }
    let groups = read_all::<Group>(&path, 0)?;
    Ok(Some((groups.into_iter().map(|located| located.record).collect(), found)))
}

/// How an objective learns from a round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Learning<'a> {
    /// Whether it takes the best and the worst completion of each group, where they differ.
    pub pairs: bool,
    /// How it credits tokens, where it learns a value of each.
    pub gae: Option<&'a Gae>,
}

impl Round {
    /// Of what its files hold, as it is learned from.
    pub fn new(
        path: &Path,
        (groups, beside): (Vec<Group>, Beside),
        learning: Learning<'_>,
    ) -> Result<Self> {
        let Beside { reference, figures, values, .. } = beside;
        let group = |(group, line): (&Group, usize)| {
            let damaged = || Error::record(path, line, "is no group of a round".to_owned());
            tokens(group, line).ok_or_else(damaged)
        };
        let groups: Vec<TokenGroup> = groups.iter().zip(1..).map(group).collect::<Result<_>>()?;
        let mut seconds = vec![
            ("draw", beside.draw_seconds),
            ("reward", beside.reward_seconds),
            ("reference", beside.reference_seconds),
        ];
        seconds.extend(values.iter().map(|values| ("values", values.seconds)));
        let mut valued = match (learning.gae, values) {
            (None, _) => Vec::new(),
            (Some(gae), Some(values)) => values.valued(gae, &groups, &reference),
            (Some(_), None) => {
                return Err(Error::file(path, "expected the values of a round, found none"));
            }
        }
        .into_iter();
        let mut reference = reference.into_iter();
        let mut records = Vec::with_capacity(groups.len());
        for group in groups {
            let zeros = || group.log_probs.iter().map(|list| vec![0.0; list.len()]).collect();
            let reference: Vec<Vec<f32>> = reference.next().unwrap_or_else(zeros);
            match learning.pairs {
                false => records.push(Referenced::new(group, reference).with_values(valued.next())),
                true => records.extend(best_and_worst(group, reference)),
            }
        }
        Ok(Self { records, seconds, figures })
    }
}

/// The tokens of a drawn group, with its rewards and log-probs.
pub(super) fn tokens(group: &Group, line: usize) -> Option<TokenGroup> {
    let ids = group.completions.iter().map(|it| it.passage.ids.clone());
    Some(TokenGroup {
        id: group.id.clone(),
        line,
        prompt: group.prompt.ids.clone()?,
        completions: ids.collect::<Option<_>>()?,
        rewards: group.rewards.clone().unwrap_or_default(),
        log_probs: group.log_probs.clone()?,
    })
}

/// The pair of the best and the worst completion, the first of equal ones; none where all are equal.
fn best_and_worst(tokens: TokenGroup, reference: Vec<Vec<f32>>) -> Option<Referenced> {
    let rewards = &tokens.rewards;
    let (best, worst) = (best(rewards), worst(rewards));
    if rewards[best] == rewards[worst] {
        return None;
    }
    let of = |lists: &[Vec<f32>]| [best, worst].map(|it| lists[it].clone()).to_vec();
    let pair = TokenGroup {
        completions: [best, worst].map(|it| tokens.completions[it].clone()).to_vec(),
        rewards: vec![rewards[best], rewards[worst]],
        log_probs: of(&tokens.log_probs),
        ..tokens.clone()
    };
    Some(Referenced::new(pair, of(&reference)))
}
