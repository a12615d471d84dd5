//! `exalign label`: rewards for the completions of groups.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::data::dataset::Dataset;
use burn::tensor::Device;
use clap::Args;
use exalign::config::{Asking, LabelSettings, Settings, Stage};
use exalign::data::{self, Fields, Group, Intake, Located, Record, Tolerance};
use exalign::files::DiskList;
use exalign::progress::Progress;
use exalign::rewards::{Opening, RewardSpecs, Rewards};
use exalign::{Error, Result, interrupt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::context::{Context, Global, settings};
use crate::merging::{Mergeable, Whole};
use crate::model_input::set_date;
use crate::output::write_lines_as_made;
use crate::partial::{self, Partial};
use crate::rewarding::{self, Rewarding};
use crate::shard::{Portion, Shard, ShardOutput};
use crate::stage::{self, GROUPS, Input, Keyed, Place, Site, Source, perform};

/// Options of `exalign label`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct LabelArgs {
    /// The rewards, with commas between: reward:DIR (a reward model; a bare DIR is one too),
    /// command:PROGRAM, rule:NAME or openai:URL; *W behind one is its weight in the sum
    #[arg(long, value_name = "SPEC[,SPEC]", value_parser = rewarding::parse)]
    reward: RewardSpecs,
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
    /// dtype: type of the weights in memory: f32, bf16, f16, q8 or q4
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<String>,
}

const HELP: &str = "\
reward:DIR       the output folder of `exalign reward`, or the `model` folder in it
command:PROGRAM  a program that is started once. It reads a group a line, as `exalign sample` writes it, and \
answers {\"rewards\": [..]} a line, in order, or with the group's \"id\" in any order
rule:NAME[:FIELD]  1 for right, 0 for wrong: exact (the text in FIELD), number (the last number), regex (a \
pattern in FIELD, or rule:regex:/PATTERN/); FIELD is `answer` where none is named
openai:URL       a grade for each completion alone, from an endpoint that speaks the OpenAI API

--reward reward:rm*1.0,command:./len.py*0.1 adds two rewards; the output has their sum as \"rewards\", and \
each before it was weighted in \"reward_parts\". A program that ends or gives no answer in time is started \
again; the same command continues a stopped labelling. A completion that an endpoint refuses or gives no grade \
ends the work; with --skip-bad N up to N such groups and bad records are left out, and their lines are printed as \
\"skipped_lines\".

Settings, as --set KEY=VALUE:
  reward.timeout   120; seconds until a program's next answer
  reward.restarts  2; how often in a run a program is started again
  reward.template  grade; the question to an endpoint, or a file with {{ prompt }} and {{ completion }}
  judge.model, judge.max_tokens, .. as in `exalign judge --help`: how an endpoint is asked";

/// Runs the command.
pub fn run(args: LabelArgs, global: &Global) -> Result<Labelling> {
    let Asking { own: settings, rewards } =
        settings(global, Stage::Label, vec![("dtype", args.dtype)])?;
    let context = Context::new(global)?;
    let label = Label {
        reward: Rewarding::new(args.reward, rewards),
        data: args.data.into(),
        shard: args.shard,
        device: context.device.clone(),
        settings,
    };
    let place = Place::File(args.out);
    let summary = perform(label, &place, args.fresh, &context)?;
    Ok(Labelling { shard: None, ..summary })
}

/// Labelling of groups.
pub struct Label {
    pub reward: Rewarding,
    pub data: Source,
    pub shard: Option<Shard>,
    /// Where reward models compute.
    pub device: Device,
    pub settings: LabelSettings,
}

/// What a labelling came to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Labelling {
    groups: usize,
    completions: usize,
    mean_reward: f64,
    /// Lines of the groups that an endpoint gave no rewards and that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    skipped_lines: Vec<usize>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    shard: Option<ShardOutput>,
}

/// Groups that were checked, with their sizes: completions and tokens; and their rewards, opened.
pub struct Unlabelled {
    rewards: Rewards,
    groups: Groups,
    sizes: Vec<(usize, usize)>,
    /// How many groups may still turn out to be without rewards.
    tolerance: Tolerance,
}

/// Groups on disk.
struct Groups {
    file: Arc<Path>,
    /// The line that each stands in, and the group as JSON.
    records: DiskList<(usize, String)>,
}

impl Groups {
    fn get(&self, record: usize) -> Result<Located<Group>> {
        let (line, json) = self.records.get(record)?;
        let group = Fields::parse(json.as_bytes()).and_then(|fields| Group::from_fields(&fields));
        let record = group.map_err(|problem| Error::record(&self.file, line, problem))?;
        Ok(Located { file: self.file.clone(), line, record })
    }
}

/// The rewards of a group: their sum, and those of each reward where there are several.
type Labelled = (Vec<f64>, Vec<(String, Vec<f64>)>);

impl Keyed for Label {
    const NAME: &'static str = "label";

    fn settings(&self) -> Value {
        let mut settings = self.settings.shaping();
        self.reward.shape(&mut settings);
        settings
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![self.data.file("data")]
    }

    fn rewards(&self) -> Option<&Rewarding> {
        Some(&self.reward)
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
        let models = self.reward.specs.models()?;
        set_date(&mut self.settings.chat, &models.iter().collect::<Vec<_>>(), record)?;
        let rewards = self.opened()?;
        let (mut file, mut sizes) = (Arc::from(&*self.data.path), Vec::new());
        let read = |located: Located<Group>, intake: &mut Intake| {
            let size = (located.record.completions.len(), rewards.look_at(&located, intake)?);
            let json = json!(located.record).to_string();
            sizes.push(size);
            file = located.file;
            Ok((located.line, json))
        };
        let (records, mut intake) =
            data::list_records(&self.data.path, self.settings.data.skip_bad, read)?;
        // The others are carried into the output.
        intake.unread.retain(|name, _| Group::reads().contains(&name.as_str()));
        intake.tell(&self.data.path);
        let tolerance = Tolerance::of_output(self.settings.data.skip_bad, intake.skipped);
        Ok(Unlabelled { rewards, groups: Groups { file, records }, sizes, tolerance })
    }

    fn make(self, opened: Unlabelled, site: &Site<'_>) -> Result<Labelling> {
        let Unlabelled { mut rewards, groups, sizes, mut tolerance } = opened;
        let out = site.out()?;
        let portion = self.shard.unwrap_or(Shard::WHOLE).of_sizes(&sizes)?;
        let mut partial: Partial<Labelled> = Partial::open(out, &site.key)?;
        let done = label(&mut rewards, (&groups, &sizes), &portion, (&mut partial, &mut tolerance));
        if rewards.is_in_doubt() {
            partial::remove(out);
        }
        let mut labelling = Labelling { skipped_lines: done?, ..Labelling::default() };
        let labelled: Vec<usize> =
            portion.records().into_iter().filter(|it| partial.made.contains_key(it)).collect();
        if labelled.is_empty() {
            let skipped = labelling.skipped_lines.len();
            return Err(Error::file(
                &groups.file,
                format!(
                    "expected groups that get rewards, but all {skipped} were left out; see why above"
                ),
            ));
        }
        write_lines_as_made(out, |lines| {
            for &record in &labelled {
                let Some((rewards, reward_parts)) = partial.made.remove(&record) else { continue };
                let group = groups.get(record)?.record;
                labelling.add(&rewards);
                lines.put(&Group { rewards: Some(rewards), reward_parts, ..group })?;
            }
            Ok(())
        })?;
        let shard = ShardOutput::of(self.shard, labelled, out)?;
        Ok(Labelling { shard, ..labelling.with_mean() })
    }

    fn finished(place: &Place) {
        if let Place::File(out) = place {
            partial::remove(out);
        }
    }
}

impl Label {
    fn opened(&self) -> Result<Rewards> {
        let LabelSettings { dtype, chat, .. } = &self.settings;
        let (device, settings) = (&self.device, &self.reward.settings);
        self.reward.specs.open(&Opening { device, dtype: *dtype, chat, settings })
    }
}

/// Gives the groups of a portion rewards, block by block, where they have none yet. Returns the lines of the groups
/// that were left out. Nothing is kept of these: a labelling that goes on asks for them again.
fn label(
    rewards: &mut Rewards,
    (groups, sizes): (&Groups, &[(usize, usize)]),
    portion: &Portion,
    (partial, tolerance): (&mut Partial<Labelled>, &mut Tolerance),
) -> Result<Vec<usize>> {
    let count = |record: &usize| sizes[*record].0;
    let is_done = |partial: &Partial<Labelled>, block: &[usize]| {
        block.iter().all(|record| partial.made.contains_key(record))
    };
    let all: usize = portion.records().iter().map(count).sum();
    let done = portion.blocks.iter().filter(|block| is_done(partial, block));
    let done: usize = done.flatten().map(count).sum();
    let mut progress = Progress::new("labelling", "completions", done, all);
    let mut skipped = Vec::new();
    for block in &portion.blocks {
        if is_done(partial, block) {
            continue;
        }
        interrupt::check()?;
        let located: Vec<Located<Group>> =
            block.iter().map(|&record| groups.get(record)).collect::<Result<_>>()?;
        let (places, scores) = rewards.score_within(&located, tolerance)?;
        let is_left_out = |place: &usize| places.binary_search(place).is_err();
        skipped.extend((0..block.len()).filter(is_left_out).map(|place| located[place].line));
        let labelled = (0..places.len()).map(|index| {
            let mut group = Group::default();
            scores.write_into(index, &mut group);
            (group.rewards.unwrap_or_default(), group.reward_parts)
        });
        let numbers: Vec<usize> = places.iter().map(|&place| block[place]).collect();
        partial.append(&numbers, labelled.collect())?;
        progress.advance(block.iter().map(count).sum(), "");
    }
    progress.finish();
    rewards.close()?;
    skipped.sort_unstable();
    Ok(skipped)
}

impl Labelling {
    /// Counts a group, its rewards as a sum.
    fn add(&mut self, rewards: &[f64]) {
        self.groups += 1;
        self.completions += rewards.len();
        rewards.iter().for_each(|reward| self.mean_reward += reward);
    }

    /// With the sum of rewards as their mean.
    fn with_mean(self) -> Self {
        let mean_reward = self.mean_reward / self.completions.max(1) as f64;
        Self { mean_reward, ..self }
    }
}

impl Mergeable for Label {
    fn merged(whole: &Whole<'_>, shards: Vec<Labelling>) -> Result<Labelling> {
        let skipped = shards.into_iter().flat_map(|shard| shard.skipped_lines);
        let mut labelling = Labelling { skipped_lines: skipped.collect(), ..Labelling::default() };
        labelling.skipped_lines.sort_unstable();
        for located in data::read::<Group>(whole.out, 0)? {
            labelling.add(&located?.record.rewards.unwrap_or_default());
        }
        Ok(labelling.with_mean())
    }

    fn shard_of(summary: &Labelling) -> Option<&ShardOutput> {
        summary.shard.as_ref()
    }
}
