//! Sentiment (Ji et al. 2024, section 5.1): reviews continued, the reward a classifier's log-odds.
//!
//! data → (a small model from nothing) → fine-tuning → oracle → groups → labels → pairs →
//! EXO and DPO → the reward–KL frontier, and where its exact optimum lies.

mod corpus;
mod data;
mod findings;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use exalign::alignment::ObjectiveName;
use exalign::config::Stage;
use exalign::data::{self as records, Group, Tokenizer};
use exalign::evaluation::{OptimumPoint, optimum};
use exalign::model::families::{Family, gpt2_config_json};
use exalign::model::{self, Decoder, weights};
use exalign::training::Checkpoints;
use exalign::{Result, files};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::record::{Record, Start};
use crate::run::{Preset, Run};
use crate::stages::align::Align;
use crate::stages::evaluate::{Evaluate, Evaluated};
use crate::stages::label::Label;
use crate::stages::pairs::{Method, Pairs};
use crate::stages::reward::Reward;
use crate::stages::sample::SampleStage;
use crate::stages::sft::Sft;
use data::{Files, Sizes};

/// The experiment's stages, as its presets call them.
pub const STAGES: [(&str, Stage); 7] = [
    ("sft", Stage::Sft),
    ("reward", Stage::Reward),
    ("sample", Stage::Sample),
    ("align", Stage::Align),
    ("pairs", Stage::Sample),
    ("evaluate", Stage::Evaluate),
    ("optimum", Stage::Sample),
];

/// The text of a preset.
pub fn preset(preset: Preset) -> &'static str {
    match preset {
        Preset::Quick => include_str!("../../assets/presets/sentiment/quick.toml"),
        Preset::Small => include_str!("../../assets/presets/sentiment/small.toml"),
        Preset::Paper => include_str!("../../assets/presets/sentiment/paper.toml"),
    }
}

/// The model the experiment starts from.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Model {
    /// A Hugging Face folder; empty: a GPT-2 of the following shape, from nothing.
    path: String,
    hidden_size: usize,
    num_layers: usize,
    num_heads: usize,
    max_positions: usize,
}

/// What the experiment compares.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Comparison {
    /// Objectives, in the order of the table.
    objectives: Vec<ObjectiveName>,
    /// How pairs are made for the objectives that take pairs.
    pairs: String,
    /// Held-out prompts the report shows samples of.
    shown_prompts: usize,
}

/// A policy on the frontier.
pub struct Measured {
    /// `sft`, or the objective.
    pub policy: String,
    /// Optimizer steps; 0 for the reference itself.
    pub step: usize,
    pub evaluated: Evaluated,
}

/// Everything the report is made of.
pub struct Outcome {
    pub measured: Vec<Measured>,
    /// The exact optimum at the objectives' β, and along all β.
    pub optimum: OptimumPoint,
    pub optimum_curve: Vec<OptimumPoint>,
    pub objectives: Vec<ObjectiveName>,
    pub shown_prompts: usize,
}

/// Runs the experiment, or says what it would run.
pub fn run(mut run: Run) -> Result<()> {
    let sizes: Sizes = run.config.section("data")?;
    let model: Model = run.config.section("model")?;
    let comparison: Comparison = run.config.section("comparison")?;
    let files = Files::new(&run.path("data"));

    let base = base_model(&mut run, &model)?;
    make_data(&mut run, &files, &sizes, &base, model.path.is_empty())?;
    let sft = run.path("sft").join("model");
    let reward = run.path("reward").join("model");
    fine_tune(&mut run, &base, &files, &sft, &reward)?;
    let (groups, pairs) = label_groups(&mut run, &files, &sft, &reward, &comparison)?;
    for &objective in &comparison.objectives {
        align(&mut run, objective, &sft, &groups, &pairs)?;
    }
    let measured = measure(&mut run, &comparison, &files, &sft, &reward)?;
    let (optimum, optimum_curve) = find_optimum(&mut run, &files, &sft, &reward)?;
    if run.dry_run {
        return Ok(());
    }
    let outcome = Outcome {
        measured,
        optimum,
        optimum_curve,
        objectives: comparison.objectives,
        shown_prompts: comparison.shown_prompts,
    };
    findings::report(&run, &outcome)
}

/// The folder of the model to start from; made first where there is none.
fn base_model(run: &mut Run, model: &Model) -> Result<PathBuf> {
    if !model.path.is_empty() {
        return Ok(PathBuf::from(&model.path));
    }
    let folder = run.path("base");
    let seed = run.config.seed();
    run.stage("base model", &folder.clone(), |context| {
        let record = Record::new(
            "base model",
            json!({ "model": model, "seed": seed }),
            &context.device_name,
        );
        match record.start_folder(&folder, false)? {
            Start::Done(result) => Ok(result),
            Start::Go(work) => {
                new_model(model, seed, &folder, &context.device)?;
                work.finish(Value::Null)?;
                Ok(Value::Null)
            }
        }
    })?;
    Ok(folder)
}

/// A GPT-2 with new weights and the corpus' tokenizer.
fn new_model(model: &Model, seed: u64, folder: &Path, device: &Device) -> Result<()> {
    let tokenizer = corpus::tokenizer()?;
    let end_of_text = tokenizer.token_to_id(corpus::END_OF_TEXT).unwrap_or(0);
    let json = gpt2_config_json(
        tokenizer.get_vocab_size(true),
        model.hidden_size,
        model.num_layers,
        model.num_heads,
        model.max_positions,
        end_of_text,
    );
    let path = folder.join("config.json");
    let family = Family::of(&path, &json)?;
    let shape = family.shape(&path, &json)?;
    let decoder = weights::initialize(Decoder::new(shape.clone(), device), &shape, seed, device);
    Tokenizer::from_tokenizer(tokenizer, &[end_of_text])?.save(folder)?;
    let tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": corpus::END_OF_TEXT,
        "pad_token": corpus::END_OF_TEXT,
        "unk_token": corpus::UNKNOWN,
        "model_max_length": model.max_positions,
        "clean_up_tokenization_spaces": false,
    });
    files::write_json(&folder.join("tokenizer_config.json"), &tokenizer_config)?;
    model::save(&decoder, &family.bindings(&shape), &json, folder)
}

fn make_data(
    run: &mut Run,
    files: &Files,
    sizes: &Sizes,
    base: &Path,
    embedded: bool,
) -> Result<()> {
    let folder = run.path("data");
    let seed = run.config.seed();
    run.stage("data", &folder.clone(), |context| {
        let record =
            Record::new("data", json!({ "data": sizes, "seed": seed }), &context.device_name);
        match record.start_folder(&folder, false)? {
            Start::Done(result) => Ok(result),
            Start::Go(work) => {
                if embedded {
                    data::embedded(files, sizes, seed)?;
                } else {
                    data::imdb(files, sizes, seed, base)?;
                }
                work.finish(Value::Null)?;
                Ok(Value::Null)
            }
        }
    })
}

fn fine_tune(run: &mut Run, base: &Path, files: &Files, sft: &Path, reward: &Path) -> Result<()> {
    let stage = Sft {
        model: base.to_owned(),
        data: files.demonstrations.clone(),
        out: folder_of(sft),
        fresh: false,
        config: run.settings("sft")?,
    };
    run.stage("fine-tuning", &folder_of(sft), |context| stage.run(context))?;
    let stage = Reward {
        model: base.to_owned(),
        data: files.labelled.clone(),
        out: folder_of(reward),
        fresh: false,
        config: run.settings("reward")?,
    };
    run.stage("oracle", &folder_of(reward), |context| stage.run(context))
}

/// Groups with rewards and pairs, drawn from π_sft.
fn label_groups(
    run: &mut Run,
    files: &Files,
    sft: &Path,
    reward: &Path,
    comparison: &Comparison,
) -> Result<(PathBuf, PathBuf)> {
    let path = |name: &str| run.path("groups").join(format!("{name}.jsonl"));
    let (samples, groups, pairs) = (path("samples"), path("labelled"), path("pairs"));
    let stage = SampleStage {
        model: sft.to_owned(),
        data: files.prompts.clone(),
        out: samples.clone(),
        fresh: false,
        config: run.settings("sample")?,
    };
    run.stage("sampling groups", &samples, |context| stage.run(context))?;
    let stage = Label {
        reward: reward.to_owned(),
        data: samples,
        out: groups.clone(),
        fresh: false,
        config: run.settings("sample")?,
    };
    run.stage("labelling groups", &groups, |context| stage.run(context))?;
    let stage = Pairs {
        data: groups.clone(),
        out: pairs.clone(),
        fresh: false,
        method: Method::named(&comparison.pairs)?,
        beta_reward: run.settings("align")?.objective.beta_reward,
        seed: run.config.seed(),
        skip_bad: 0,
    };
    run.stage("making pairs", &pairs, |context| stage.run(context))?;
    Ok((groups, pairs))
}

fn align(
    run: &mut Run,
    objective: ObjectiveName,
    sft: &Path,
    groups: &Path,
    pairs: &Path,
) -> Result<()> {
    let mut config = run.settings("align")?;
    config.objective.name = objective;
    let takes_pairs = matches!(objective, ObjectiveName::ExoPref | ObjectiveName::Dpo);
    let out = run.path(objective.as_str());
    let stage = Align {
        model: sft.to_owned(),
        reference: sft.to_owned(),
        data: if takes_pairs { pairs } else { groups }.to_owned(),
        out: out.clone(),
        fresh: false,
        config,
    };
    run.stage(objective.as_str(), &out, |context| stage.run(context))
}

/// Reward and KL of π_sft and of every checkpoint of every objective.
fn measure(
    run: &mut Run,
    comparison: &Comparison,
    files: &Files,
    sft: &Path,
    reward: &Path,
) -> Result<Vec<Measured>> {
    let mut policies = vec![("sft".to_owned(), 0, sft.to_owned())];
    for objective in &comparison.objectives {
        let checkpoints = Checkpoints::new(&run.path(objective.as_str()), 0);
        policies.extend(
            checkpoints
                .steps()
                .into_iter()
                .map(|step| (objective.to_string(), step, checkpoints.path(step))),
        );
    }
    let mut measured = Vec::new();
    for (policy, step, folder) in policies {
        let name = if step == 0 { policy.clone() } else { format!("{policy}-{step}") };
        let out = run.path("evaluations").join(format!("{name}.jsonl"));
        let stage = Evaluate {
            policy: folder,
            reference: sft.to_owned(),
            reward: reward.to_owned(),
            data: files.held_out.clone(),
            config: run.settings("evaluate")?,
        };
        let mut evaluated = None;
        run.stage(&format!("evaluating {name}"), &out, |context| {
            let (found, result) = stage.run_kept(&out, context)?;
            evaluated = Some(found);
            Ok(result)
        })?;
        measured.extend(evaluated.map(|evaluated| Measured { policy, step, evaluated }));
    }
    Ok(measured)
}

/// The exact optimum, from many labelled samples of π_sft for the held-out prompts.
fn find_optimum(
    run: &mut Run,
    files: &Files,
    sft: &Path,
    reward: &Path,
) -> Result<(OptimumPoint, Vec<OptimumPoint>)> {
    let path = |name: &str| run.path("optimum").join(format!("{name}.jsonl"));
    let (samples, labelled) = (path("samples"), path("labelled"));
    let stage = SampleStage {
        model: sft.to_owned(),
        data: files.held_out.clone(),
        out: samples.clone(),
        fresh: false,
        config: run.settings("optimum")?,
    };
    run.stage("sampling for the optimum", &samples, |context| stage.run(context))?;
    let stage = Label {
        reward: reward.to_owned(),
        data: samples,
        out: labelled.clone(),
        fresh: false,
        config: run.settings("optimum")?,
    };
    run.stage("labelling for the optimum", &labelled, |context| stage.run(context))?;
    let rewards: Vec<Vec<f64>> = if run.dry_run {
        vec![vec![0.0]]
    } else {
        records::read_all::<Group>(&labelled, 0)?
            .into_iter()
            .filter_map(|it| it.record.rewards)
            .collect()
    };
    let objective = run.settings("align")?.objective;
    let seed = run.config.seed();
    let at = |beta: f64| optimum(&rewards, beta, seed);
    // From the loosest tie to the reference to one at which the estimate rests on few samples.
    let curve = (0..=24)
        .map(|it| at(20.0 * 0.75f64.powi(it)))
        .take_while(|it| it.effective_sample_size >= 4.0)
        .collect();
    Ok((at(objective.beta_policy * objective.beta_reward), curve))
}

/// `DIR` of `DIR/model`.
fn folder_of(model: &Path) -> PathBuf {
    model.parent().unwrap_or(model).to_owned()
}
