//! `exalign pairs`: groups with rewards → preference pairs.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use exalign::config::{PairSettings, Settings, Stage};
use exalign::data::{self, AsPreference, Group, Located};
use exalign::{Error, Result};
use rand::seq::index;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::context::{Context, Global, settings};
use crate::output::write_lines_as_made;
use crate::stage::{self, GROUPS, Input, Keyed, Place, Site, Source, perform};

/// Options of `exalign pairs`.
#[derive(Args, Debug)]
pub struct PairsArgs {
    /// Groups with rewards, JSON Lines
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The file for the pairs: {"prompt", "chosen", "rejected"}, with token ids where the groups have them
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How a pair is made of a group
    #[arg(long, value_enum, default_value_t)]
    method: Method,
    /// bradley-terry: temperature of the rewards, β_r
    #[arg(long, value_name = "BETA", default_value_t = 1.0)]
    beta_reward: f64,
    /// Start over instead of continuing an earlier output
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
    /// Two random completions; the first is chosen with probability σ((r₁ − r₂) / β_r). Trained on
    /// these labels, pair objectives share the optimum of the reward objectives at the same β_r.
    BradleyTerry,
}

/// Runs the command.
pub fn run(args: PairsArgs, global: &Global) -> Result<Paired> {
    let settings = settings(global, Stage::Pairs, vec![])?;
    if !(args.beta_reward > 0.0 && args.beta_reward.is_finite()) {
        return Err(Error::usage(format!(
            "--beta-reward: expected a number above 0, found {}",
            args.beta_reward
        )));
    }
    let pairs = Pairs {
        data: args.data.into(),
        method: args.method,
        beta_reward: args.beta_reward,
        settings,
    };
    perform(pairs, &Place::File(args.out), args.fresh, &Context::new(global)?)
}

/// The making of pairs of groups.
pub struct Pairs {
    pub data: Source,
    pub method: Method,
    /// Temperature of the rewards, read by [`Method::BradleyTerry`].
    pub beta_reward: f64,
    pub settings: PairSettings,
}

/// What the making of pairs came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Paired {
    groups: u64,
    pairs: u64,
    ties_left_out: u64,
}

impl Keyed for Pairs {
    const NAME: &'static str = "pairs";

    fn settings(&self) -> Value {
        let mut settings = self.settings.shaping();
        settings["method"] = json!(self.method);
        if self.method == Method::BradleyTerry {
            settings["beta_reward"] = json!(self.beta_reward);
        }
        settings
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![self.data.file("data")]
    }
}

impl stage::Stage for Pairs {
    // Groups are read while pairs are written, so that none has to stay in memory.
    type Opened = ();
    type Summary = Paired;
    const FILE: Option<&'static str> = Some(GROUPS);

    fn open(&mut self, _: Option<&Path>) -> Result<()> {
        Ok(())
    }

    fn make(self, (): (), site: &Site<'_>) -> Result<Paired> {
        let (mut num_groups, mut num_pairs) = (0, 0);
        let intake = write_lines_as_made(site.out()?, |lines| {
            let take = |located: Located<Group>, _: &mut _| {
                located.check_for_alignment()?;
                if let Some(pair) = self.pair(num_groups, &located.record) {
                    lines.put(&AsPreference(&pair))?;
                    num_pairs += 1;
                }
                num_groups += 1;
                Ok(())
            };
            let skip_bad = self.settings.data.skip_bad;
            data::read_records(&self.data.path, skip_bad, take).map(|(_, intake)| intake)
        })?;
        intake.tell(&self.data.path);
        Ok(Paired { groups: num_groups, pairs: num_pairs, ties_left_out: num_groups - num_pairs })
    }
}

impl Pairs {
    /// A pair of the group, none where the two are tied or alike.
    fn pair(&self, number: u64, group: &Group) -> Option<Group> {
        let rewards = group.rewards.as_ref()?;
        let (chosen, rejected) = match self.method {
            Method::BestWorst => {
                let by_reward = |a: &usize, b: &usize| rewards[*a].total_cmp(&rewards[*b]);
                ((0..rewards.len()).max_by(by_reward)?, (0..rewards.len()).min_by(by_reward)?)
            }
            Method::BradleyTerry => {
                let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(self.settings.seed);
                random.set_stream(number);
                let two = index::sample(&mut random, rewards.len(), 2);
                let (a, b) = (two.index(0), two.index(1));
                let first_wins = 1.0 / (1.0 + ((rewards[b] - rewards[a]) / self.beta_reward).exp());
                if random.random::<f64>() < first_wins { (a, b) } else { (b, a) }
            }
        };
        let tied = self.method == Method::BestWorst && rewards[chosen] == rewards[rejected];
        let [ours, theirs] = [chosen, rejected].map(|it| &group.completions[it].passage);
        // Other tokens may spell the same text.
        let same_text = ours.text.is_some() && ours.text == theirs.text;
        if tied || same_text || ours.is_same(theirs) {
            return None;
        }
        Some(Group {
            completions: vec![
                group.completions[chosen].clone(),
                group.completions[rejected].clone(),
            ],
            rewards: Some(vec![rewards[chosen], rewards[rejected]]),
            log_probs: None,
            reward_parts: Vec::new(),
            ..group.clone()
        })
    }
}
