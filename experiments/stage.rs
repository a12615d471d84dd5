//! Stages: what a stage reads, which settings shape it, how it runs, what it returns.
//!
//! One declaration ([`Keyed`]) of inputs and settings serves commands and experiments. A command starts a
//! [`Stage`] by [`perform`], which continues or refuses an output by its [`Record`]. An experiment gives a
//! [`Step`] a folder of its run, and the [graph](crate::graph) copies the step from an earlier run if nothing
//! has changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use exalign::data::Tokenizer;
use exalign::model::ModelFolder;
use exalign::tuning::{TrainingSite, reward_folder};
use exalign::{Error, Result, files};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::context::Context;
use crate::record::{Made, Record, Start};
use crate::rewarding::Rewarding;
use crate::shard::Shard;

/// The file of groups or pairs in the folder of a stage.
pub const GROUPS: &str = "groups.jsonl";

/// Work with a key: its inputs and the settings that shape its output.
pub trait Keyed {
    /// The name of the command, or of the kind of stage in an experiment.
    const NAME: &'static str;

    /// The settings that shape its output.
    fn settings(&self) -> Value;

    /// Its inputs.
    fn inputs(&self) -> Vec<Input<'_>>;

    /// The rewards that it asks for.
    fn rewards(&self) -> Option<&Rewarding> {
        None
    }

    /// Its settings and inputs, with inputs identified by their content.
    fn made_from(&self) -> Result<Made> {
        let mut made = Made::new(Self::NAME, self.settings());
        for input in self.inputs() {
            made.inputs.extend(input.content()?);
        }
        if let Some(rewards) = self.rewards() {
            made.inputs.extend(rewards.content()?);
        }
        Ok(made)
    }

    /// Its settings and inputs, with the outputs of other stages identified by their keys.
    fn planned_from(&self) -> Result<Made> {
        let mut made = Made::new(Self::NAME, self.settings());
        for input in self.inputs() {
            match &input.source.key {
                Some(key) => made.inputs.extend([(input.planned_name().to_owned(), key.clone())]),
                None => made.inputs.extend(input.content()?),
            }
        }
        if let Some(rewards) = self.rewards() {
            made.inputs.extend(rewards.planned()?);
        }
        Ok(made)
    }
}

/// A stage with a command of its own.
pub trait Stage: Keyed + Sized {
    /// Its inputs, opened and checked.
    type Opened;
    /// Its result.
    type Summary: Serialize + DeserializeOwned;
    /// Its output's name in a folder of a run, where the output is a file.
    const FILE: Option<&'static str> = None;

    /// The part of the records that it works on.
    fn shard(&self) -> Option<Shard> {
        None
    }

    /// Opens and checks its inputs, before anything is written. `record` is the output's record, as an
    /// earlier start left it.
    fn open(&mut self, record: Option<&Path>) -> Result<Self::Opened>;

    /// Does the work.
    fn make(self, opened: Self::Opened, site: &Site<'_>) -> Result<Self::Summary>;

    /// Whether a file in the output's folder, by its path within, is the stage's own.
    fn owns(_name: &str) -> bool {
        false
    }

    /// Called when the output is finished, now or before: removes what was kept beside it meanwhile.
    fn finished(_place: &Place) {}

    /// Whether no work is left.
    fn is_finished(_summary: &Self::Summary) -> bool {
        true
    }
}

/// A stage of an experiment: it fills a folder.
pub trait Step: Keyed + Sized {
    /// Fills `folder`.
    fn fill(self, folder: &Path, context: &Context) -> Result<()>;
}

impl<S: Stage> Step for S {
    fn fill(self, folder: &Path, context: &Context) -> Result<()> {
        let place = match S::FILE {
            Some(file) => Place::File(folder.join(file)),
            None => Place::Folder(folder.to_owned()),
        };
        perform(self, &place, false, context).map(|_| ())
    }
}

/// The place of a stage's output.
pub enum Place {
    /// A folder, with its record in it.
    Folder(PathBuf),
    /// A file, with its record beside it.
    File(PathBuf),
    /// Nothing is kept.
    Nowhere,
}

impl Place {
    /// A file, or nowhere.
    pub fn file_or_nowhere(out: Option<PathBuf>) -> Self {
        out.map_or(Self::Nowhere, Self::File)
    }

    fn record(&self) -> Option<PathBuf> {
        match self {
            Self::Folder(folder) => Some(Record::within(folder)),
            Self::File(file) => Some(Record::beside(file)),
            Self::Nowhere => None,
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) | Self::File(path) => Some(path),
            Self::Nowhere => None,
        }
    }
}

/// The place where a stage works.
pub struct Site<'a> {
    out: Option<&'a Path>,
    /// The output's key.
    pub key: String,
    pub context: &'a Context,
}

impl Site<'_> {
    /// The output, where one is kept.
    pub fn kept(&self) -> Option<&Path> {
        self.out
    }

    /// The place of a training.
    pub fn training(&self) -> Result<TrainingSite<'_>> {
        let out = self.out()?;
        let Context { watching, .. } = self.context;
        Ok(TrainingSite { out, devices: self.context.devices(), watch: watching.of(out) })
    }

    /// The output of a stage that always has one.
    pub fn out(&self) -> Result<&Path> {
        self.out.ok_or_else(|| Error::usage("--out: expected a place, found none"))
    }
}

/// Starts a stage, continues it, or returns the result of a finished one.
///
/// # Errors
/// Errors of the stage; an existing output that was made with other settings or inputs.
pub fn perform<S: Stage>(
    mut stage: S,
    place: &Place,
    fresh: bool,
    context: &Context,
) -> Result<S::Summary> {
    let record = place.record().filter(|_| !fresh);
    let opened = stage.open(record.as_deref())?;
    let mut made = match place {
        Place::Nowhere => Made::new(S::NAME, stage.settings()),
        _ => stage.made_from()?,
    };
    if let Some(shard) = stage.shard() {
        made.settings["shard"] = json!(shard);
    }
    let key = made.key(&context.device_name);
    let record = Record::new(made, &context.device_name);
    let start = match place {
        Place::Folder(folder) => record.start_folder(folder, fresh)?,
        Place::File(file) => record.start_file(file, fresh)?,
        Place::Nowhere => record.unkept(),
    };
    match start {
        Start::Done(finished) => {
            S::finished(place);
            place.path().map_or(Ok(()), |path| context.watching.show_finished(path))?;
            finished.result()
        }
        Start::Go(work) => {
            let summary = stage.make(opened, &Site { out: place.path(), key, context })?;
            if S::is_finished(&summary) {
                work.finish(json!(summary), S::owns)?;
                S::finished(place);
            }
            Ok(summary)
        }
    }
}

/// An input of a stage.
pub struct Input<'a> {
    /// Its name in records and errors.
    pub name: &'static str,
    pub kind: Kind,
    pub source: &'a Source,
}

/// The kind of an input, which decides which of its files shape the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// Files that are identified by their key alone.
    Known,
    /// A language model, with its tokenizer, chat template and generation settings.
    Model,
    /// A model that reads no text: its weights and its shape.
    Weights,
    /// A reward model, with its tokenizer and chat template.
    RewardModel,
}

/// The place of an input.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub path: PathBuf,
    /// The key of the stage that made it; none for an input from outside, which is identified by its
    /// content.
    pub key: Option<String>,
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self { path, key: None }
    }
}

impl Source {
    pub fn file<'a>(&'a self, name: &'static str) -> Input<'a> {
        Input { name, kind: Kind::File, source: self }
    }

    pub fn known<'a>(&'a self, name: &'static str) -> Input<'a> {
        Input { name, kind: Kind::Known, source: self }
    }

    pub fn model<'a>(&'a self, name: &'static str) -> Input<'a> {
        Input { name, kind: Kind::Model, source: self }
    }

    pub fn weights<'a>(&'a self, name: &'static str) -> Input<'a> {
        Input { name, kind: Kind::Weights, source: self }
    }

    /// The rewards of the reward model alone.
    pub fn rewarding(&self) -> Result<Rewarding> {
        Rewarding::model(&self.path, self.key.clone())
    }

    pub fn reward_model<'a>(&'a self, name: &'static str) -> Input<'a> {
        Input { name, kind: Kind::RewardModel, source: self }
    }
}

impl Input<'_> {
    /// The name in plans.
    fn planned_name(&self) -> &'static str {
        match self.kind {
            Kind::RewardModel => "reward model",
            _ => self.name,
        }
    }

    /// Everything of it that shapes the stage, by name, each with the hash of its content.
    pub fn content(&self) -> Result<BTreeMap<String, String>> {
        let path = &self.source.path;
        let hash = match self.kind {
            Kind::File => files::hash_file(path)?,
            Kind::Known => self.source.key.clone().unwrap_or_default(),
            Kind::Weights => ModelFolder::open(path)?.content_hash()?,
            Kind::Model => return model_content(self.name, &ModelFolder::open(path)?, TEXT),
            Kind::RewardModel => {
                return model_content(
                    self.name,
                    &reward_folder(path)?,
                    "the reward model's tokenizer",
                );
            }
        };
        Ok(BTreeMap::from([(self.name.to_owned(), hash)]))
    }
}

/// The name of a language model's tokenizer and chat template in records and errors.
pub const TEXT: &str = "the tokenizer or chat template";

/// The hash of a model, by `name`, and of the files by which it reads texts, by `text`.
pub fn model_content(
    name: &str,
    folder: &ModelFolder,
    text: &str,
) -> Result<BTreeMap<String, String>> {
    let hash = Tokenizer::hash_of(folder.tokenizer_folder(), &folder.shape.end_of_text)?;
    Ok(BTreeMap::from([(name.to_owned(), folder.content_hash()?), (text.to_owned(), hash)]))
}
