//! The settings of each stage: exactly those that the stage reads.
//!
//! A stage can read only the settings of its struct, no source can set any other, and the whole struct is
//! part of the stage's key. So no setting can be forgotten in a key.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml::Table;

use super::sections::{
    Checkpoint, DriftSettings, Generation, JudgeSettings, OnlineRounds, Optimizer, RecordData,
    RewardSettings, Section, TokenData, Training, TrainingData, ValidationSettings, Violation,
};
use super::sources::{Known, Sources, internal, merge, parse_toml, typed};
use crate::Result;
use crate::alignment::ObjectiveConfig;
use crate::data::ChatSettings;
use crate::kernels::linear::Dropout;
use crate::model::adapter::LoraConfig;
use crate::model::{Precision, WeightType};

/// A stage with settings and defaults of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Turning published sets into records: [`DataSettings`].
    Data,
    /// Fine-tuning: [`TrainSettings`].
    Sft,
    /// Reward models and classifiers: [`TrainSettings`].
    Reward,
    /// Sampling: [`DrawSettings`].
    Sample,
    /// Labelling: [`LabelSettings`].
    Label,
    /// Making pairs: [`PairSettings`].
    Pairs,
    /// Alignment: [`AlignSettings`].
    Align,
    /// Alignment on the policy's own samples: [`OnlineSettings`].
    Online,
    /// Evaluation: [`DrawSettings`].
    Evaluate,
    /// Judging: [`JudgingSettings`].
    Judge,
    /// Judging by an endpoint within an experiment: [`EndpointSettings`].
    Endpoint,
    /// Log-probs of given completions: [`ScoreSettings`].
    Score,
    /// Losses of given log-probs: [`LossSettings`].
    Loss,
    /// An audit: it reads [`AlignSettings`], so that the settings of a training can be passed to it.
    Check,
}

impl Stage {
    /// The name of its command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Sft => "sft",
            Self::Reward => "reward",
            Self::Sample => "sample",
            Self::Label => "label",
            Self::Pairs => "pairs",
            Self::Align | Self::Online => "align",
            Self::Evaluate => "evaluate",
            Self::Judge | Self::Endpoint => "judge",
            Self::Score => "score",
            Self::Loss => "loss",
            Self::Check => "check",
        }
    }

    /// Every setting, with the stage's defaults: the common defaults, overridden by the stage's own.
    pub(super) fn all(self) -> Result<Table> {
        let mut table = parse_toml(
            "assets/defaults/common.toml",
            include_str!("../../assets/defaults/common.toml"),
        )?;
        let own = match self {
            Self::Sft => include_str!("../../assets/defaults/sft.toml"),
            Self::Reward => include_str!("../../assets/defaults/reward.toml"),
            Self::Align | Self::Online | Self::Check => {
                include_str!("../../assets/defaults/align.toml")
            }
            _ => "",
        };
        merge(&mut table, parse_toml("assets/defaults", own)?);
        Ok(table)
    }

    /// The defaults of the settings that the stage reads.
    pub(super) fn defaults(self) -> Result<Table> {
        (self.form().read)(self.all()?)
    }

    /// The first value of the stage's settings that is out of its range.
    pub(super) fn violation(self, table: Table) -> Result<Option<Violation>> {
        (self.form().violation)(table)
    }

    fn form(self) -> Form {
        match self {
            Self::Data => Form::of::<DataSettings>(),
            Self::Sft | Self::Reward => Form::of::<TrainSettings>(),
            Self::Sample | Self::Evaluate => Form::of::<DrawSettings>(),
            Self::Label => Form::of::<Asking<LabelSettings>>(),
            Self::Pairs => Form::of::<PairSettings>(),
            Self::Align | Self::Check => Form::of::<AlignSettings>(),
            Self::Online => Form::of::<Asking<OnlineSettings>>(),
            Self::Judge => Form::of::<JudgingSettings>(),
            Self::Endpoint => Form::of::<EndpointSettings>(),
            Self::Score => Form::of::<ScoreSettings>(),
            Self::Loss => Form::of::<LossSettings>(),
        }
    }
}

/// Operations on the settings of a stage that is known only at run time.
struct Form {
    read: fn(Table) -> Result<Table>,
    violation: fn(Table) -> Result<Option<Violation>>,
}

impl Form {
    fn of<T: Settings>() -> Self {
        Self {
            read: read::<T>,
            violation: |table| Ok(typed::<T>("the configuration", table)?.violation()),
        }
    }
}

/// The part of all settings that a `T` reads.
fn read<T: Settings>(all: Table) -> Result<Table> {
    let own: T = typed("the defaults", all)?;
    Table::try_from(own).map_err(internal)
}

/// Keys that change how the work is done, but not its result.
const WITHOUT_EFFECT: [(&str, &str); 13] = [
    ("data", "max_row_bytes"),
    ("reward", "timeout"),
    ("reward", "restarts"),
    ("judge", "key_variable"),
    ("judge", "key_header"),
    ("judge", "ca_file"),
    ("judge", "concurrency"),
    ("judge", "timeout"),
    ("training", "recompute"),
    ("judge", "max_retries"),
    ("judge", "first_wait"),
    ("judge", "max_wait"),
    ("judge", "max_refused"),
];

/// The settings of a stage.
pub trait Settings: Serialize + DeserializeOwned {
    /// Its sections.
    fn sections(&self) -> Vec<&dyn Section>;

    /// The settings of `stage` from all sources.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong type or out of its range; the message names the source.
    fn load(stage: Stage, sources: &Sources) -> Result<Self> {
        let all = stage.all()?;
        let defaults = read::<Self>(all.clone())?;
        let known = Known { defaults: &defaults, all: &all, reader: stage.name() };
        let resolved = sources.resolve(&known)?;
        let settings: Self = typed("the configuration", resolved.table.clone())?;
        match settings.violation() {
            None => Ok(settings),
            Some((key, message)) => Err(resolved.complain(&key, &message)),
        }
    }

    /// The first key whose value is out of its range, and why.
    fn violation(&self) -> Option<Violation> {
        self.sections().into_iter().find_map(Section::violation)
    }

    /// Refuses a setting that `sources` give to this command alone and that has no effect beside the others, or warns
    /// of it where it may be given to several commands alike.
    ///
    /// # Errors
    /// The first such setting, with the way out.
    fn refuse_unread(&self, sources: &Sources) -> Result<()> {
        sources.tell(|key| self.sections().into_iter().find_map(|section| section.idle(key)))?;
        sources.refuse(|key| self.sections().into_iter().find_map(|section| section.unread(key)))
    }

    /// `data.max_row_bytes`, where the stage reads records.
    fn max_row_bytes(&self) -> Option<usize> {
        self.sections().into_iter().find_map(Section::max_row_bytes)
    }

    /// The settings that shape the stage's output.
    fn shaping(&self) -> Value {
        without_effect(serde_json::json!(self))
    }
}

/// Settings without those that have no effect on the output.
fn without_effect(mut all: Value) -> Value {
    for (section, key) in WITHOUT_EFFECT {
        if let Some(section) = all.get_mut(section).and_then(Value::as_object_mut) {
            section.remove(key);
        }
    }
    for (section, key, default) in NEW {
        if let Some(section) = all.get_mut(section).and_then(Value::as_object_mut)
            && section.get(key) == serde_json::from_str(default).ok().as_ref()
        {
            section.remove(key);
        }
    }
    all
}

/// Settings that earlier versions had not, with the value, as JSON, by which a stage does what it did then.
const NEW: [(&str, &str, &str); 7] = [
    ("generation", "log_probs", "false"),
    ("training", "base_dtype", "\"f32\""),
    ("training", "micro_completions", "0"),
    ("adapter", "rslora", "false"),
    ("adapter", "rank_pattern", "{}"),
    ("adapter", "alpha_pattern", "{}"),
    ("adapter", "dropout", "0.0"),
];

/// The settings of `data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct DataSettings {
    pub data: RecordData,
}

impl Settings for DataSettings {
    fn sections(&self) -> Vec<&dyn Section> {
        vec![&self.data]
    }
}

/// The settings of `sft` and `reward`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct TrainSettings {
    pub seed: u64,
    pub dtype: Precision,
    pub training: Training,
    pub optimizer: Optimizer,
    pub checkpoint: Checkpoint,
    pub validation: ValidationSettings,
    pub data: TrainingData,
    pub adapter: LoraConfig,
    pub chat: ChatSettings,
}

impl TrainSettings {
    /// What frozen weights are kept as: those beside adapters. Weights that are trained are f32.
    pub fn base_type(&self) -> WeightType {
        if self.adapter.rank > 0 { self.training.base_dtype } else { WeightType::F32 }
    }

    /// Dropout of what adapters read, where they are trained with it.
    pub fn dropout(&self) -> Option<Dropout> {
        let LoraConfig { rank, dropout, .. } = self.adapter;
        (rank > 0 && dropout > 0.0).then(|| Dropout::new(dropout, self.seed))
    }

    /// What the reference is kept as, so that it is the policy as it begins.
    pub fn reference_type(&self) -> WeightType {
        match self.base_type() {
            WeightType::F32 => self.training.compute.into(),
            kept => kept,
        }
    }
}

/// What the sections say together.
impl Section for TrainSettings {
    fn violation(&self) -> Option<Violation> {
        let kept = self.training.base_dtype;
        (self.adapter.rank == 0 && kept != WeightType::F32).then(|| {
            let message = format!(
                "expected f32 where the whole model is trained, found {}; train adapters beside frozen weights \
                 (--lora-rank 16), or leave it out",
                kept.short_name()
            );
            ("training.base_dtype".to_owned(), message)
        })
    }
}

impl Settings for TrainSettings {
    fn sections(&self) -> Vec<&dyn Section> {
        vec![
            self,
            &self.training,
            &self.optimizer,
            &self.checkpoint,
            &self.validation,
            &self.data,
            &self.adapter,
            &self.chat,
        ]
    }
}

/// The settings of `align`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct AlignSettings {
    #[serde(flatten)]
    pub train: TrainSettings,
    pub objective: ObjectiveConfig,
    pub drift: DriftSettings,
}

impl Settings for AlignSettings {
    fn sections(&self) -> Vec<&dyn Section> {
        let mut sections = self.train.sections();
        sections.extend([&self.objective as &dyn Section, &self.drift]);
        sections
    }

    fn shaping(&self) -> Value {
        // What the objective does not read is no setting of it.
        let objective = self.objective.without_unread();
        let mut shaping = self.train.shaping();
        shaping["objective"] = serde_json::json!(objective);
        shaping["drift"] = serde_json::json!(self.drift);
        shaping
    }
}

/// The settings of `align --online`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct OnlineSettings {
    #[serde(flatten)]
    pub align: AlignSettings,
    pub generation: Generation,
    pub online: OnlineRounds,
}

impl Settings for OnlineSettings {
    fn sections(&self) -> Vec<&dyn Section> {
        let mut sections = self.align.sections();
        sections.extend([&self.generation as &dyn Section, &self.online]);
        sections
    }

    fn shaping(&self) -> Value {
        let mut shaping = self.align.shaping();
        shaping["generation"] = serde_json::json!(self.generation);
        shaping["online"] = serde_json::json!(self.online);
        shaping
    }
}

/// The settings of stages that draw completions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct DrawSettings {
    pub seed: u64,
    pub dtype: WeightType,
    pub generation: Generation,
    pub data: TokenData,
    pub chat: ChatSettings,
}

impl DrawSettings {
    /// What prompts are read by.
    pub fn asked(&self) -> (&Generation, &TokenData) {
        (&self.generation, &self.data)
    }
}

impl Settings for DrawSettings {
    fn sections(&self) -> Vec<&dyn Section> {
        vec![&self.generation, &self.data, &self.chat]
    }
}

/// The settings of a labelling by a reward model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct LabelSettings {
    pub dtype: WeightType,
    pub data: RecordData,
    pub chat: ChatSettings,
}

impl Settings for LabelSettings {
    fn sections(&self) -> Vec<&dyn Section> {
        vec![&self.data, &self.chat]
    }
}

/// The settings of rewards that are asked for: programs and endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct RewardsSettings {
    pub reward: RewardSettings,
    pub judge: JudgeSettings,
}

impl RewardsSettings {
    /// The defaults.
    ///
    /// # Errors
    /// If the files of defaults do not have them.
    pub fn defaults() -> Result<Self> {
        typed("the defaults", Stage::Label.all()?)
    }
}

impl Settings for RewardsSettings {
    fn sections(&self) -> Vec<&dyn Section> {
        vec![&self.reward, &self.judge]
    }
}

/// The settings of a stage that asks for rewards, with those by which programs and endpoints are asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asking<T> {
    /// Those of the stage itself.
    #[serde(flatten)]
    pub own: T,
    /// Those by which rewards are asked for.
    #[serde(flatten)]
    pub rewards: RewardsSettings,
}

impl<T: Settings> Settings for Asking<T> {
    fn sections(&self) -> Vec<&dyn Section> {
        let mut sections = self.own.sections();
        sections.extend(self.rewards.sections());
        sections
    }
}

/// The settings of `score`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct ScoreSettings {
    pub dtype: WeightType,
    pub data: TokenData,
    pub chat: ChatSettings,
}

impl Settings for ScoreSettings {
    fn sections(&self) -> Vec<&dyn Section> {
        vec![&self.data, &self.chat]
    }
}

/// The settings of `loss`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct LossSettings {
    pub objective: ObjectiveConfig,
}

impl Settings for LossSettings {
    fn sections(&self) -> Vec<&dyn Section> {
        vec![&self.objective]
    }
}

/// The settings of `pairs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct PairSettings {
    pub seed: u64,
    pub data: RecordData,
}

impl Settings for PairSettings {
    fn sections(&self) -> Vec<&dyn Section> {
        vec![&self.data]
    }
}

/// The settings of `judge`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct JudgingSettings {
    pub seed: u64,
    pub dtype: WeightType,
    pub data: RecordData,
    pub chat: ChatSettings,
    pub judge: JudgeSettings,
}

impl Settings for JudgingSettings {
    fn sections(&self) -> Vec<&dyn Section> {
        vec![&self.data, &self.chat, &self.judge]
    }
}

/// The settings of an experiment's judge behind an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct EndpointSettings {
    pub judge: JudgeSettings,
}

impl Settings for EndpointSettings {
    fn sections(&self) -> Vec<&dyn Section> {
        vec![&self.judge]
    }
}
