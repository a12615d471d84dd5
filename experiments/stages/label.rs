//! `exalign label`: rewards for the completions of groups.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::Args;
use exalign::Result;
use exalign::config::{LabelSettings, Settings, Stage};
use exalign::data::{self, Group, Intake, Located, TokenGroup};
use exalign::rewards::RewardScorer;
use exalign::tuning::reward_folder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scorer::{open_scorer, portion_rewards};
use crate::context::{Context, Global, settings};
use crate::merging::{Mergeable, Whole};
use crate::model_input::set_date;
use crate::output::write_lines;
use crate::shard::{Shard, ShardOutput};
use crate::stage::{self, GROUPS, Input, Keyed, Place, Site, Source, perform};

/// Options of `exalign label`.
#[derive(Args, Debug)]
pub struct LabelArgs {
    /// The reward model: the output folder of `exalign reward`, or the `model` folder in it
    #[arg(long, value_name = "FOLDER")]
    reward: PathBuf,
    /// Groups: {"prompt": .., "completions": [..]}, as texts or messages
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The file for the groups with their "rewards"
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Start over instead of continuing an earlier output
    #[arg(long)]
    fresh: bool,
    /// Label part I of N of the groups, from 1; `exalign merge-shards` joins the parts
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// dtype: type of the weights in memory: f32, bf16 or f16
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<String>,
}

/// Runs the command.
pub fn run(args: LabelArgs, global: &Global) -> Result<Labelling> {
    let settings = settings(global, Stage::Label, vec![("dtype", args.dtype)])?;
    let label =
        Label { reward: args.reward.into(), data: args.data.into(), shard: args.shard, settings };
    let place = Place::File(args.out);
    let summary = perform(label, &place, args.fresh, &Context::new(global)?)?;
    Ok(Labelling { shard: None, ..summary })
}

/// Labelling of groups by a reward model.
pub struct Label {
    pub reward: Source,
    pub data: Source,
    pub shard: Option<Shard>,
    pub settings: LabelSettings,
}

/// What a labelling came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Labelling {
    groups: usize,
    completions: usize,
    mean_reward: f64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    shard: Option<ShardOutput>,
}

/// Groups, and the same as the reward model reads them.
pub struct Unlabelled {
    scorer: RewardScorer,
    groups: Vec<Group>,
    tokens: Vec<TokenGroup>,
}

impl Keyed for Label {
    const NAME: &'static str = "label";

    fn settings(&self) -> Value {
        self.settings.shaping()
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![self.reward.reward_model("reward"), self.data.file("data")]
    }
}

impl stage::Stage for Label {
    type Opened = Unlabelled;
    type Summary = Labelling;
    const FILE: Option<&'static str> = Some(GROUPS);

    fn shard(&self) -> Option<Shard> {
        self.shard
    }

    fn open(&mut self, record: Option<&Path>) -> Result<Unlabelled> {
        let LabelSettings { dtype, data, chat } = &mut self.settings;
        set_date(chat, &[&reward_folder(&self.reward.path)?], record)?;
        let scorer = open_scorer(&self.reward.path, *dtype, chat)?;
        let read = |located: Located<Group>, intake: &mut Intake| {
            let tokens = scorer.tokens(&located, intake)?;
            Ok((located.record, tokens))
        };
        let (read, intake) = data::read_records(&self.data.path, data.skip_bad, read)?;
        let (groups, tokens) = read.into_iter().unzip();
        intake.tell(&self.data.path);
        Ok(Unlabelled { scorer, groups, tokens })
    }

    fn make(self, opened: Unlabelled, site: &Site<'_>) -> Result<Labelling> {
        let Unlabelled { scorer, groups, tokens } = opened;
        let out = site.out()?;
        let portion = self.shard.unwrap_or(Shard::WHOLE).of_groups(&tokens)?;
        let rewards =
            portion.take(&portion_rewards(&scorer, &tokens, &portion, &site.context.device)?);
        drop(tokens);
        let mine: HashSet<usize> = portion.records().into_iter().collect();
        let groups = groups.into_iter().enumerate().filter(|(record, _)| mine.contains(record));
        let labelled: Vec<Group> = groups
            .zip(rewards)
            .map(|((_, group), rewards)| Group { rewards: Some(rewards), ..group })
            .collect();
        write_lines(out, &labelled)?;
        let shard = ShardOutput::of(self.shard, &portion, out)?;
        Ok(Labelling { shard, ..Labelling::of(&labelled) })
    }
}

impl Labelling {
    fn of(groups: &[Group]) -> Self {
        let all: Vec<f64> =
            groups.iter().filter_map(|group| group.rewards.as_ref()).flatten().copied().collect();
        Self {
            groups: groups.len(),
            completions: all.len(),
            mean_reward: all.iter().sum::<f64>() / all.len().max(1) as f64,
            shard: None,
        }
    }
}

impl Mergeable for Label {
    fn merged(whole: &Whole<'_>, _: Vec<Labelling>) -> Result<Labelling> {
        let read = data::read_all::<Group>(whole.out, 0)?;
        let groups: Vec<Group> = read.into_iter().map(|located| located.record).collect();
        Ok(Labelling::of(&groups))
    }

    fn shard_of(summary: &Labelling) -> Option<&ShardOutput> {
        summary.shard.as_ref()
    }
}
