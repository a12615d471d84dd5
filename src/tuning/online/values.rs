//! What a round keeps for an objective that learns a value of each token: the values when it was drawn, and the
//! weight of the KL in its rewards, which may follow the KL of the round before.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::round::{self, Beside};
use crate::alignment::{Credit, Drawn, Gae};
use crate::data::TokenGroup;
use crate::files::read_sealed;
use crate::tuning::referenced::Valued;
use crate::{Error, Result};

/// The values of a round.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OldValues {
    /// The value of every token, `[group][completion][token]`.
    pub values: Vec<Vec<Vec<f32>>>,
    /// The weight of the KL in the round's rewards.
    pub kl_weight: f64,
    /// The mean over completions of log μ − log π_sft, and their number: what the next round's weight is of.
    pub kl: f64,
    pub completions: usize,
    pub seconds: f64,
}

impl OldValues {
    /// Of groups that were drawn, and their log-probs under the reference.
    pub fn new(
        values: Vec<Vec<Vec<f32>>>,
        kl_weight: f64,
        (groups, reference): (&[TokenGroup], &[Vec<Vec<f32>>]),
        seconds: f64,
    ) -> Self {
        let drawn = drawn(&values, groups, reference);
        let kls = drawn.iter().map(|it| it.log_ratios.iter().sum::<f64>());
        let completions = drawn.len();
        let kl = kls.sum::<f64>() / completions as f64;
        Self { values, kl_weight, kl, completions, seconds }
    }

    /// What each group's values and the policy learn from.
    pub fn valued(
        &self,
        gae: &Gae,
        groups: &[TokenGroup],
        reference: &[Vec<Vec<f32>>],
    ) -> Vec<Valued> {
        let mut credits = self.credits(gae, groups, reference).into_iter();
        let narrow = |list: Vec<f64>| list.into_iter().map(|it| it as f32).collect();
        let group = |values: &Vec<Vec<f32>>| {
            let credits = credits.by_ref().take(values.len());
            let (advantages, returns) =
                credits.map(|it| (narrow(it.advantages), narrow(it.returns))).unzip();
            Valued { values: values.clone(), advantages, returns }
        };
        self.values.iter().map(group).collect()
    }

    /// Figures of the round: the weight of the KL, and the share of the returns' variance that values explain.
    pub fn figures(
        &self,
        gae: &Gae,
        groups: &[TokenGroup],
        reference: &[Vec<Vec<f32>>],
    ) -> [(String, f64); 2] {
        let credits = self.credits(gae, groups, reference);
        let returns = credits.into_iter().flat_map(|it| it.returns);
        let values = self.values.iter().flatten().flatten().map(|&it| f64::from(it));
        let (returns, errors): (Vec<f64>, Vec<f64>) =
            returns.zip(values).map(|(returned, value)| (returned, returned - value)).unzip();
        let explained = match variance(&returns) {
            0.0 => 0.0,
            whole => 1.0 - variance(&errors) / whole,
        };
        [("kl_weight".to_owned(), self.kl_weight), ("explained_variance".to_owned(), explained)]
    }

    fn credits(
        &self,
        gae: &Gae,
        groups: &[TokenGroup],
        reference: &[Vec<Vec<f32>>],
    ) -> Vec<Credit> {
        gae.credit(self.kl_weight, &drawn(&self.values, groups, reference))
    }
}

/// The weight of the KL in the rewards of a round of a number, counted from 0: that of the round before, led by
/// its KL.
pub(super) fn kl_weight(gae: &Gae, folder: &Path, number: usize) -> Result<f64> {
    if number == 0 || gae.kl_target == 0.0 {
        return Ok(gae.kl_weight);
    }
    let path = round::path(folder, number - 1).with_extension("json");
    let before: Beside = read_sealed(&path)?;
    let OldValues { kl_weight, kl, completions, .. } = before
        .values
        .ok_or_else(|| Error::file(&path, "expected the values of a round, found none"))?;
    Ok(gae.next_kl_weight(kl_weight, kl, completions))
}

/// All completions in their order.
fn drawn(
    values: &[Vec<Vec<f32>>],
    groups: &[TokenGroup],
    reference: &[Vec<Vec<f32>>],
) -> Vec<Drawn> {
    let wide = |list: &[f32]| list.iter().map(|&it| f64::from(it)).collect::<Vec<f64>>();
    let completion = |group: usize, i: usize| {
        let values = wide(&values[group][i]);
        let log_ratios = match reference.get(group) {
            None => vec![0.0; values.len()], // the KL has no weight
            Some(reference) => {
                let ours = wide(&groups[group].log_probs[i]);
                ours.into_iter().zip(wide(&reference[i])).map(|(a, b)| a - b).collect()
            }
        };
        Drawn { log_ratios, values, reward: groups[group].rewards[i] }
    };
    let of_group = |group: usize| (0..values[group].len()).map(move |i| (group, i));
    (0..values.len()).flat_map(of_group).map(|(group, i)| completion(group, i)).collect()
}

fn variance(numbers: &[f64]) -> f64 {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    numbers.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / count
}
