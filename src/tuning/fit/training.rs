//! What a training takes of memory, and how it is cut so that it fits.

use burn::data::dataset::Dataset;
use burn::tensor::Device;
use serde::Serialize;

use super::{FLOAT, free_memory, weights};
use crate::config::{Recompute, TrainSettings};
use crate::data::TokenGroup;
use crate::files::DiskList;
use crate::memory::{Bytes, in_words};
use crate::model::{Decoder, DecoderConfig, ModelFolder, Precision, WeightType};
use crate::{Error, Result};

/// Most groups of a micro-batch that is chosen: larger ones are not faster.
const MOST_GROUPS: usize = 8;

/// How large a group is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tuning) struct Size {
    /// Tokens of the prompt and of all completions.
    pub tokens: usize,
    /// Tokens of the completions.
    pub scored: usize,
}

impl Size {
    /// Of a group, or of its largest part where `most` of its completions are in memory at once; 0: all.
    fn of(group: &TokenGroup, most: usize) -> Self {
        let most = if most == 0 { usize::MAX } else { most };
        let lengths: Vec<usize> = group.completions.iter().map(Vec::len).collect();
        let scored = lengths.chunks(most.min(lengths.len().max(1))).map(|it| it.iter().sum()).max();
        let scored = scored.unwrap_or(0);
        Self { tokens: group.prompt.len() + scored, scored }
    }
}

/// The sizes of groups, of their largest parts where `most` of their completions are in memory at once.
pub(in crate::tuning) fn sizes(groups: &DiskList<TokenGroup>, most: usize) -> Result<Vec<Size>> {
    (0..groups.len()).map(|number| Ok(Size::of(&groups.get(number)?, most))).collect()
}

/// The groups of a training, as far as memory goes.
pub(in crate::tuning) struct Sizes<'a> {
    /// The sizes of all, of their largest parts where so many of their completions are in memory at once; 0: all.
    pub of: &'a dyn Fn(usize) -> Result<Vec<Size>>,
    /// How to make them smaller, for people.
    pub lower: &'a str,
}

impl Sizes<'_> {
    /// The largest first.
    fn sorted(&self, most: usize) -> Result<Vec<Size>> {
        let mut sizes = (self.of)(most)?;
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        Ok(sizes)
    }
}

/// How to make groups smaller that are read.
pub(in crate::tuning) const LOWER_LENGTH: &str = "shorten the texts (data.max_length)";

/// How a training is cut, and what it then takes of memory, in bytes. The figures are estimates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// Groups in memory at once.
    pub micro_batch_size: usize,
    /// Whether the activations of blocks are computed again in the backward pass.
    pub recompute: bool,
    /// Tokens of the largest micro-batch.
    pub tokens: usize,
    /// All parameters.
    pub parameters: Bytes,
    /// Parameters that are trained.
    pub trained: Bytes,
    /// All weights, as they are kept.
    pub weights: Bytes,
    /// Gradients, and their sum over the micro-batches of a step.
    pub gradients: Bytes,
    /// Adam's two averages.
    pub moments: Bytes,
    /// What the forward pass of a micro-batch keeps for the backward pass.
    pub activations: Bytes,
    /// What a block and the vocabulary head need while they are computed.
    pub working: Bytes,
    /// All of it.
    pub total: Bytes,
    /// What is free; none where the device does not say.
    pub free: Option<Bytes>,
}

/// A training as far as its memory goes.
struct Work<'a> {
    shape: &'a DecoderConfig,
    kept: WeightType,
    parameters: Bytes,
    trained: Bytes,
    batch_size: usize,
    /// Whether passes are computed with bf16 copies of the weights.
    copies: bool,
    /// Of all groups, the largest first.
    sizes: &'a [Size],
}

/// How the training of a model on `groups` is cut so that it fits: the settings' choice where they make one.
///
/// # Errors
/// If it does not fit: with what it takes, and settings that do fit, if there are some.
pub(in crate::tuning) fn fit(
    model: &ModelFolder,
    settings: &TrainSettings,
    groups: &Sizes<'_>,
    device: &Device,
) -> Result<Fit> {
    let sizes = groups.sorted(settings.training.micro_completions)?;
    let (free, limit) = free_memory(device);
    match cut(&work(model, settings, &sizes)?, settings, limit) {
        Ok(fit) => Ok(Fit { free, ..fit }),
        Err(tightest) => Err(Error::usage(format!(
            "the training: expected what fits in the {} of free memory, found {}; {}",
            in_words(free.unwrap_or(0)),
            tightest.in_words(),
            remedy(model, settings, groups, limit)?
        ))),
    }
}

/// Settings with which a training fits that else does not: groups in parts before adapters, which learn something
/// else.
fn remedy(
    model: &ModelFolder,
    settings: &TrainSettings,
    groups: &Sizes<'_>,
    limit: Option<Bytes>,
) -> Result<String> {
    /// Completions of a group that are tried to be in memory at once.
    const PARTS: [usize; 2] = [8, 1];

    let mut smaller = settings.clone();
    smaller.training.micro_batch_size = 0;
    smaller.training.recompute = Recompute::Auto;
    let fits = |settings: &TrainSettings, sizes: &[Size]| {
        let work = work(model, settings, sizes).ok()?;
        cut(&work, settings, limit).ok()
    };
    let given = settings.training.micro_completions;
    let is_smaller = |most: &usize| given == 0 || *most < given;
    let mut parts = Vec::new();
    for most in std::iter::once(given).chain(PARTS.into_iter().filter(is_smaller)) {
        parts.push((most, groups.sorted(most)?));
    }
    let in_parts = |most: usize, before: &str, after: &str| match most {
        _ if most == given => String::new(),
        most => format!("{before}training.micro_completions={most}{after}"),
    };
    for (most, sizes) in &parts {
        if let Some(fit) = fits(&smaller, sizes) {
            return Ok(format!(
                "{}training.micro_batch_size={} and training.recompute={} take {}",
                in_parts(*most, "", ", "),
                fit.micro_batch_size,
                if fit.recompute { "always" } else { "never" },
                in_words(fit.total)
            ));
        }
    }
    if smaller.adapter.rank == 0 {
        smaller.adapter.rank = 16;
    }
    for (most, sizes) in &parts {
        for kept in [WeightType::F32, WeightType::Bf16, WeightType::Q4] {
            smaller.training.base_dtype = kept;
            if let Some(fit) = fits(&smaller, sizes) {
                return Ok(format!(
                    "--lora-rank {} --base-dtype {} --micro-batch-size 0{} takes {}",
                    smaller.adapter.rank,
                    kept.short_name(),
                    in_parts(*most, " --set ", ""),
                    in_words(fit.total)
                ));
            }
        }
    }
    Ok(format!("{}, take a smaller model, or a larger machine", groups.lower))
}

/// The first cut that fits the limit, or the smallest.
fn cut(
    work: &Work<'_>,
    settings: &TrainSettings,
    limit: Option<Bytes>,
) -> std::result::Result<Fit, Box<Fit>> {
    let training = &settings.training;
    let groups: Vec<usize> = match training.micro_batch_size {
        0 => {
            let most = training.batch_size.min(MOST_GROUPS);
            std::iter::successors(Some(most), |groups| (*groups > 1).then_some(groups / 2))
                .collect()
        }
        given => vec![given.min(training.batch_size)],
    };
    let recompute = match training.recompute {
        Recompute::Auto => &[false, true][..],
        Recompute::Always => &[true],
        Recompute::Never => &[false],
    };
    let mut last = None;
    for &recompute in recompute {
        for &groups in &groups {
            let fit = work.fit(groups, recompute);
            if limit.is_none_or(|limit| fit.total <= limit) {
                return Ok(fit);
            }
            last = Some(fit);
        }
    }
    Err(Box::new(last.unwrap_or_else(|| work.fit(1, true))))
}

fn work<'a>(
    model: &'a ModelFolder,
    settings: &TrainSettings,
    sizes: &'a [Size],
) -> Result<Work<'a>> {
    let shape = &model.shape;
    // Parameters have no memory before they are asked for.
    let decoder = Decoder::new(shape.clone(), &Device::default());
    let bindings = model.family.bindings(shape);
    let adapter = &settings.adapter;
    let trained = match adapter.rank {
        0 => shape.num_weights(),
        _ => adapter.num_parameters(&decoder, &bindings)?,
    };
    Ok(Work {
        shape,
        kept: settings.base_type(),
        parameters: shape.num_weights(),
        trained,
        batch_size: settings.training.batch_size,
        copies: settings.training.compute != Precision::F32,
        sizes,
    })
}

impl Work<'_> {
    fn fit(&self, micro_batch_size: usize, recompute: bool) -> Fit {
        let largest = || self.sizes.iter().take(micro_batch_size);
        let tokens: usize = largest().map(|size| size.tokens).sum();
        let scored: usize = largest().map(|size| size.scored).sum();
        let shape = self.shape;
        let (hidden, layers) = (shape.hidden_size as Bytes, shape.num_layers as Bytes);
        let weights = self.weights();
        let sets = if self.batch_size > micro_batch_size { 2 } else { 1 };
        let floats = |per_token: Bytes, tokens: usize| per_token * tokens as Bytes * FLOAT;
        let of_block = self.floats_of_block();
        let activations = match recompute {
            true => floats(hidden * (layers + 1) + of_block, tokens),
            false => floats(of_block * layers + hidden, tokens),
        };
        // Gradients of a block's inner values, and the gradients of hidden states in eight runs.
        let inner = shape.intermediate_size as Bytes;
        let working = floats(4 * inner + 4 * hidden, tokens) + floats(8 * hidden, scored);
        let gradients = sets * self.trained * FLOAT;
        let moments = 2 * self.trained * FLOAT;
        let copies = if self.copies { 2 * self.parameters } else { 0 };
        Fit {
            micro_batch_size,
            recompute,
            tokens,
            parameters: self.parameters,
            trained: self.trained,
            weights: weights + copies,
            gradients,
            moments,
            activations,
            working,
            total: weights + copies + gradients + moments + activations + working,
            free: None,
        }
    }

    fn weights(&self) -> Bytes {
        let own = if self.trained < self.parameters { self.trained * FLOAT } else { 0 };
        own + weights(self.shape, self.kept)
    }

    /// Floats that a block keeps of a token: its inputs and what attention and the feed-forward part multiply.
    fn floats_of_block(&self) -> Bytes {
        let shape = self.shape;
        let queries = (shape.num_heads * shape.head_dim) as Bytes;
        let keys = (shape.num_kv_heads * shape.head_dim) as Bytes;
        // Gate and up, or what goes into GELU and what comes out.
        let of_feed_forward = 2 * shape.intermediate_size as Bytes;
        4 * shape.hidden_size as Bytes + 2 * queries + 2 * keys + of_feed_forward
    }
}

impl Fit {
    /// The settings with what was chosen.
    pub fn applied(&self, mut settings: TrainSettings) -> TrainSettings {
        settings.training.micro_batch_size = self.micro_batch_size;
        settings.training.recompute =
            if self.recompute { Recompute::Always } else { Recompute::Never };
        settings
    }

    /// In a line for people.
    pub fn in_words(&self) -> String {
        let parts = [
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("moments", self.moments),
            ("activations", self.activations),
            ("working memory", self.working),
        ];
        let parts: Vec<String> =
            parts.into_iter().map(|(name, bytes)| format!("{name} {}", in_words(bytes))).collect();
        format!(
            "about {} ({}; {} in micro-batches of {} and at most {} tokens)",
            in_words(self.total),
            parts.join(", "),
            if self.recompute { "activations computed again" } else { "activations kept" },
            match self.micro_batch_size {
                1 => "1 group".to_owned(),
                more => format!("{more} groups"),
            },
            self.tokens
        )
    }
}
