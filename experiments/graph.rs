//! The stages of a run as a graph. A stage is identified by its settings and its inputs.
//!
//! A stage's key is the hash of its settings and of the keys of its inputs, so all keys are known before
//! anything runs. A stage with the key of a stage in an earlier run is copied from there. Copies share their
//! blocks where the disk can, so the folder of either run can change or be deleted. The cache stores paths to
//! earlier runs' folders, not copies. A finished stage is used again only if its files have not changed;
//! otherwise the stage runs again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use exalign::files::{Content, cache_folder};
use exalign::model::ModelFolder;
use exalign::progress::stages::{self, Work};
use exalign::report::StageCost;
use exalign::training::CHECKPOINTS;
use exalign::{Error, Result, files, interrupt};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::output::print_text;
use crate::record::{Made, changed_settings};
use crate::stage::{Source, Step};

/// The file in a stage's folder that marks it as finished, with its settings and inputs.
const MARKER: &str = "stage.json";
/// Differences from the last such stage that a dry run names; the others are counted.
const SHOWN_REASONS: usize = 4;

/// The folder of a stage, made or yet to be made.
#[derive(Clone, Debug)]
pub struct Artifact {
    pub folder: PathBuf,
    pub key: String,
}

impl Artifact {
    /// The model in a folder from outside, known by its content.
    pub fn given(model: &Path) -> Result<Self> {
        let model = Source::from(ModelFolder::open(model)?.path);
        let content = model.model("model").content()?;
        let key = content.into_values().collect::<Vec<_>>().join(" ");
        Ok(Self { folder: model.path, key })
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The same, as an input of another stage.
    pub fn source(&self, name: &str) -> Source {
        Source { path: self.path(name), key: Some(format!("{} {name}", self.key)) }
    }

    /// The whole folder, as an input of another stage.
    pub fn whole(&self) -> Source {
        Source { path: self.folder.clone(), key: Some(self.key.clone()) }
    }
}

/// A stage of a run: its folder, its settings and its inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    /// Its name in the run.
    name: String,
    /// Its folder within the run's.
    folder: String,
    #[serde(flatten)]
    made: Made,
}

/// A finished stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Marker {
    key: String,
    plan: Plan,
    seconds: f64,
    /// The stage's files.
    content: Content,
}

impl Marker {
    fn read(folder: &Path) -> Option<Self> {
        files::read_sealed(&folder.join(MARKER)).ok()
    }

    fn holds(folder: &Path, key: &str) -> Option<Self> {
        Self::read(folder).filter(|marker| marker.key == key)
    }
}

/// The folder of the stage with some key, or of the last one of its kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    folder: PathBuf,
    key: String,
    plan: Plan,
}

/// The stages of one run.
pub struct Graph {
    pub context: Context,
    /// The run's folder.
    pub out: PathBuf,
    /// Say what would run, and run nothing.
    pub dry_run: bool,
    /// Take nothing from other runs.
    pub fresh: bool,
    /// Only list the stages, without a look at what they read.
    pub listing: bool,
    /// The folders of the stages and their work, in their order, as listed.
    listed: Vec<(String, Work)>,
    /// The cost of each stage.
    pub costs: Vec<StageCost>,
    /// The cache folder, which stores the paths to stages' folders.
    cache: PathBuf,
    /// The experiment's identity, which distinguishes its runs from those of other experiments.
    experiment: String,
}

impl Graph {
    pub fn new(
        context: Context,
        out: PathBuf,
        experiment: String,
        dry_run: bool,
        fresh: bool,
    ) -> Self {
        let cache = cache_folder().join("stages");
        let (listing, listed, costs) = (false, Vec::new(), Vec::new());
        Self { context, out, dry_run, fresh, listing, listed, costs, cache, experiment }
    }

    /// Whether stages are listed or forecast, and none is made.
    pub fn is_plan(&self) -> bool {
        self.dry_run || self.listing
    }

    /// The work of all stages as listed.
    pub fn works(&self) -> Vec<Work> {
        self.listed.iter().map(|(_, work)| work.clone()).collect()
    }

    /// The model in a folder from outside.
    pub fn given(&self, model: &Path) -> Result<Artifact> {
        match self.listing {
            true => Ok(Artifact { folder: model.to_owned(), key: String::new() }),
            false => Artifact::given(model),
        }
    }

    /// The stage in `folder` is not needed, though it was listed.
    pub fn leave_out(&mut self, folder: &str) {
        if let Some(index) = self.index(folder) {
            self.listed.remove(index);
            stages::leave_out(index);
        }
    }

    fn index(&self, folder: &str) -> Option<usize> {
        self.listed.iter().position(|(listed, _)| listed == folder)
    }

    /// Makes a stage in `folder`, unless it is there already or an earlier run has left it; the run
    /// calls it `name`.
    pub fn stage(
        &mut self,
        name: String,
        folder: String,
        work: Work,
        step: impl Step,
    ) -> Result<Artifact> {
        let index = self.index(&folder);
        if self.listing {
            let artifact = Artifact { folder: self.out.join(&folder), key: String::new() };
            if index.is_none() {
                self.listed.push((folder, work));
            }
            return Ok(artifact);
        }
        let index = index.unwrap_or_default();
        let plan = Plan { name, folder, made: step.planned_from()? };
        let key = plan.made.key(&self.context.device_name);
        let artifact = Artifact { folder: self.out.join(&plan.folder), key };
        if self.dry_run {
            print_text(&format!("{:<34} {}", plan.name, self.forecast(&plan, &artifact)))?;
            return Ok(artifact);
        }
        // Two runs that need the same stage: one makes it, the other waits and takes it.
        let _lock = self.lock(&plan.name, &artifact.key)?;
        if let Some(marker) = Marker::holds(&artifact.folder, &artifact.key)
            && !marker.content.set_changes_aside(&artifact.folder, CHECKPOINTS)?
        {
            stages::pass(index, &plan.name, marker.seconds, None);
            return self.taken(&plan, &marker, artifact);
        }
        if let Some(from) = self.found_elsewhere(&artifact) {
            match take(&from, &artifact) {
                Ok(marker) => {
                    let origin = from.display().to_string();
                    stages::pass(index, &plan.name, marker.seconds, Some(&origin));
                    return self.taken(&plan, &marker, artifact);
                }
                Err(error) => tracing::warn!("{error}; it is computed again"),
            }
        }
        stages::enter(index, &plan.name);
        let started = Instant::now();
        files::create_dir(&artifact.folder)?;
        files::sweep_folder(&artifact.folder);
        step.fill(&artifact.folder, &self.context)?;
        let seconds = started.elapsed().as_secs_f64();
        let content = Content::of(&artifact.folder, |name| name != MARKER)?;
        let marker = Marker { key: artifact.key.clone(), plan: plan.clone(), seconds, content };
        files::write_sealed(&artifact.folder.join(MARKER), &marker)?;
        self.note_place(&plan, &artifact);
        self.note_cost(&plan, &marker, false);
        stages::leave(seconds);
        Ok(artifact)
    }

    /// A stage that was made before.
    fn taken(&mut self, plan: &Plan, marker: &Marker, artifact: Artifact) -> Result<Artifact> {
        self.note_cost(plan, marker, true);
        self.context.watching.show_finished(&artifact.folder)?;
        Ok(artifact)
    }

    fn note_cost(&mut self, plan: &Plan, marker: &Marker, cached: bool) {
        self.costs.push(StageCost {
            name: plan.name.clone(),
            seconds: marker.seconds,
            cached,
            key: marker.key[..12].to_owned(),
        });
    }

    /// Stores the path to the stage's folder in the cache; if the cache cannot be written, the run goes on.
    fn note_place(&self, plan: &Plan, artifact: &Artifact) {
        let Ok(folder) = artifact.folder.canonicalize() else { return };
        let entry = Entry { folder, key: artifact.key.clone(), plan: plan.clone() };
        for path in [self.place_of(&artifact.key), self.latest_of(plan)] {
            if let Err(error) = files::write_sealed(&path, &entry) {
                tracing::warn!("other runs will not find stage {}: {error}", plan.name);
            }
        }
    }

    fn place_of(&self, key: &str) -> PathBuf {
        self.cache.join(format!("{key}.json"))
    }

    fn latest_of(&self, plan: &Plan) -> PathBuf {
        let name = format!("{}-{}", self.experiment, plan.folder).replace('/', "-");
        self.cache.join("latest").join(format!("{name}.json"))
    }

    fn found_elsewhere(&self, artifact: &Artifact) -> Option<PathBuf> {
        let entry: Entry = files::read_sealed(&self.place_of(&artifact.key)).ok()?;
        let usable = !self.fresh
            && Marker::holds(&entry.folder, &artifact.key).is_some()
            && artifact.folder.canonicalize().ok().as_ref() != Some(&entry.folder);
        usable.then_some(entry.folder)
    }

    /// Whether a stage would run, be copied or stay, and why.
    fn forecast(&self, plan: &Plan, artifact: &Artifact) -> String {
        if Marker::holds(&artifact.folder, &artifact.key).is_some() {
            return "done before".to_owned();
        }
        if let Some(folder) = self.found_elsewhere(artifact) {
            return format!("taken from {}", folder.display());
        }
        let Ok(latest) = files::read_sealed::<Entry>(&self.latest_of(plan)) else {
            return "would run".to_owned();
        };
        let (now, then) = (&plan.made, &latest.plan.made);
        let mut reasons = changed_settings(&now.settings, &then.settings);
        reasons.extend(now.changed_inputs(then).map(|name| format!("other {name}")));
        would_run(reasons)
    }

    fn lock(&self, name: &str, key: &str) -> Result<Option<File>> {
        let folder = self.cache.join("locks");
        if files::create_dir(&folder).is_err() {
            return Ok(None);
        }
        let path = folder.join(&key[..16]);
        let file = File::create(&path).map_err(Error::io(&path, "create"))?;
        let mut waited = false;
        while !files::try_lock(&file, &path) {
            if !waited {
                tracing::info!("stage {name}: another run is computing the same; waiting for it");
                waited = true;
            }
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(Some(file))
    }
}

/// A dry run's message for a stage that exists with other settings or inputs.
fn would_run(mut reasons: Vec<String>) -> String {
    let more = reasons.len().saturating_sub(SHOWN_REASONS);
    reasons.truncate(SHOWN_REASONS);
    if more > 0 {
        reasons.push(format!("and {more} more"));
    }
    match reasons.as_slice() {
        [] => "would run".to_owned(),
        _ => format!("would run: {}", reasons.join(", ")),
    }
}

/// Copies the files of `from` into the stage's folder, all or none.
fn take(from: &Path, artifact: &Artifact) -> Result<Marker> {
    let to = &artifact.folder;
    let damaged = |what: &str| Error::file(from, format!("{what} since that run finished it"));
    let marker = Marker::holds(from, &artifact.key).ok_or_else(|| damaged("was changed"))?;
    files::create_dir(to)?;
    files::sweep(to);
    let copy = files::temporary_folder(to)?;
    for name in marker.content.names() {
        copy_file(&from.join(name), &copy.path().join(name))?;
    }
    // The copy is looked at and not the original, so that copying is checked as well.
    let content = Content::of(copy.path(), |_| true)?;
    if let Some(change) = marker.content.first_difference(&content) {
        return Err(damaged(&change.to_string()));
    }
    let marker = Marker { content, ..marker };
    files::write_sealed(&copy.path().join(MARKER), &marker)?;
    if to.exists() {
        files::carry_aside(to, copy.path())?;
    }
    files::persist_folder(copy, to)?;
    Ok(marker)
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        files::create_dir(folder)?;
    }
    std::fs::copy(from, to).map_err(Error::io(to, "write"))?;
    files::sync_file(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_names_four_reasons_and_counts_the_others() {
        let reasons = |n: usize| (1..=n).map(|i| format!("r{i}")).collect();
        assert_eq!(would_run(reasons(0)), "would run");
        assert_eq!(would_run(reasons(4)), "would run: r1, r2, r3, r4");
        assert_eq!(would_run(reasons(9)), "would run: r1, r2, r3, r4, and 5 more");
    }
}
