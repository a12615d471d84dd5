//! `exalign pairs`: groups with rewards → preference pairs.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use exalign::config::Stage;
use exalign::data::{self, AsPreference, Completion, Group, Located};
use exalign::{Error, Result, files};
use rand::seq::index;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Context, configuration, write_lines_as_made};
use crate::command_line::Global;
use crate::record::{Record, Start};

/// Options of `exalign pairs`.
#[derive(Args, Debug)]
pub struct PairsArgs {
    /// Groups with rewards, JSON Lines
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where the pairs go: {"prompt", "chosen", "rejected"} with token ids where the groups have them
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How a pair is made of a group
    #[arg(long, value_enum, default_value_t)]
    method: Method,
    /// bradley-terry: temperature of the rewards, β_r
    #[arg(long, value_name = "BETA", default_value_t = 1.0)]
    beta_reward: f64,
    /// Start over where an earlier run left something
    #[arg(long)]
    fresh: bool,
}

/// How a pair is made of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The completions of highest and lowest reward.
    #[default]
    BestWorst,
    /// Two at random; the first is chosen with probability σ((r₁ − r₂) / β_r). The labels then have
    /// the optimum that objectives with rewards have at the same β_r.
    BradleyTerry,
}

/// Runs the command.
pub fn run(args: PairsArgs, global: &Global) -> Result<Value> {
    let config = configuration(global, Stage::Sample, vec![])?;
    if !(args.beta_reward > 0.0 && args.beta_reward.is_finite()) {
        return Err(Error::usage(format!(
            "--beta-reward: expected a number above 0, found {}",
            args.beta_reward
        )));
    }
    Pairs {
        data: args.data,
        out: args.out,
        fresh: args.fresh,
        method: args.method,
        beta_reward: args.beta_reward,
        seed: config.seed,
        skip_bad: config.data.skip_bad,
    }
    .run(&Context::new(global)?)
}

/// Making pairs, from where to where.
pub struct Pairs {
    pub data: PathBuf,
    pub out: PathBuf,
    pub fresh: bool,
    pub method: Method,
    /// Temperature of the rewards, read by [`Method::BradleyTerry`].
    pub beta_reward: f64,
    pub seed: u64,
    pub skip_bad: usize,
}

impl Pairs {
    pub fn run(self, context: &Context) -> Result<Value> {
        let mut settings = json!({ "method": self.method, "seed": self.seed });
        if self.method == Method::BradleyTerry {
            settings["beta_reward"] = json!(self.beta_reward);
        }
        let record = Record::new("pairs", settings, &context.device_name)
            .input("data", files::hash_file(&self.data)?);
        let work = match record.start_file(&self.out, self.fresh)? {
            Start::Done(result) => return Ok(result),
            Start::Go(work) => work,
        };
        let (mut num_groups, mut num_pairs) = (0, 0);
        let intake = write_lines_as_made(&self.out, |lines| {
            let take = |located: Located<Group>, _: &mut _| {
                located.check_for_alignment()?;
                if let Some(pair) = self.pair(num_groups, &located.record) {
                    lines.put(&AsPreference(&pair))?;
                    num_pairs += 1;
                }
                num_groups += 1;
                Ok(())
            };
            data::read_records(&self.data, self.skip_bad, take).map(|(_, intake)| intake)
        })?;
        intake.tell(&self.data);
        let result = json!({
            "groups": num_groups, "pairs": num_pairs, "ties_left_out": num_groups - num_pairs,
        });
        work.finish(result.clone())?;
        Ok(result)
    }

    /// A pair of the group, none where the two are tied or alike.
    fn pair(&self, number: u64, group: &Group) -> Option<Group> {
        let rewards = group.rewards.as_ref()?;
        let (chosen, rejected) = match self.method {
            Method::BestWorst => {
                let by_reward = |a: &usize, b: &usize| rewards[*a].total_cmp(&rewards[*b]);
                ((0..rewards.len()).max_by(by_reward)?, (0..rewards.len()).min_by(by_reward)?)
            }
            Method::BradleyTerry => {
                let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(self.seed);
                random.set_stream(number);
                let two = index::sample(&mut random, rewards.len(), 2);
                let (a, b) = (two.index(0), two.index(1));
                let first_wins = 1.0 / (1.0 + ((rewards[b] - rewards[a]) / self.beta_reward).exp());
                if random.random::<f64>() < first_wins { (a, b) } else { (b, a) }
            }
        };
        let tied = self.method == Method::BestWorst && rewards[chosen] == rewards[rejected];
        let same = |a: &Completion, b: &Completion| {
            a.passage == b.passage || (a.passage.text.is_some() && a.passage.text == b.passage.text)
        };
        if tied || same(&group.completions[chosen], &group.completions[rejected]) {
            return None;
        }
        Some(Group {
            completions: vec![
                group.completions[chosen].clone(),
                group.completions[rejected].clone(),
            ],
            rewards: Some(vec![rewards[chosen], rewards[rejected]]),
            ..group.clone()
        })
    }
}
