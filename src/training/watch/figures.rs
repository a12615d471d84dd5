//! The figures of a line of metrics, by the names that TRL logs where they mean the same.

use serde_json::Value;

/// The part of the data that a figure is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The records of the step.
    Train,
    /// The records of the validation.
    Validation,
}

impl Split {
    /// The first part of a tag.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "eval",
        }
    }
}

/// One figure of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub split: Split,
    pub name: String,
    pub value: f64,
}

impl Figure {
    /// The name in TensorBoard, such as `train/loss`.
    pub fn tag(&self) -> String {
        format!("{}/{}", self.split.prefix(), self.name)
    }
}

/// Names that differ: in `metrics.jsonl`, and in TRL, by its trainers of policies and by its `RewardTrainer`.
const RENAMED: [(&str, [&str; 2]); 2] = [
    ("accuracy", ["rewards/accuracies", "accuracy"]),
    ("reward_margin", ["rewards/margins", "margin"]),
];

/// Whether a line of metrics is of a reward model: that of a policy has the rewards of a side.
fn is_of_rewards(line: &Value) -> bool {
    ["rewards/chosen", "rewards/rejected"].iter().all(|name| line.get(name).is_none())
}

/// All figures of a line of metrics, the losses first; tokens a second where both are there.
pub fn figures(line: &Value) -> Vec<Figure> {
    let trainer = usize::from(is_of_rewards(line));
    let fields = line.as_object().into_iter().flatten().filter(|(name, _)| *name != "step");
    let mut figures: Vec<Figure> = fields
        .filter_map(|(name, value)| {
            let (split, name) = match name.strip_prefix("validation/") {
                Some(name) => (Split::Validation, name),
                // Of the time before the first step, which has no line of its own.
                None if name.starts_with("validation_before/") => return None,
                None => (Split::Train, name.as_str()),
            };
            let renamed = RENAMED.iter().find(|(ours, _)| *ours == name);
            let name = renamed.map_or(name, |(_, theirs)| theirs[trainer]).to_owned();
            Some(Figure { split, name, value: value.as_f64()? })
        })
        .collect();
    if let (Some(tokens), Some(seconds)) = (line["tokens"].as_f64(), line["seconds"].as_f64())
        && seconds > 0.0
    {
        let name = "tokens_per_second".to_owned();
        figures.push(Figure { split: Split::Train, name, value: tokens / seconds });
    }
    // The first is what a screen of plots opens with.
    figures.sort_by_key(|figure| figure.name != "loss");
    figures
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_have_the_names_of_trl_and_others_keep_theirs() {
        let line = json!({
            "step": 3, "loss": 0.5, "accuracy": 1, "reward_margin": -2.0, "rewards/chosen": 0.25,
            "kl": null, "note": "text", "tokens": 100, "seconds": 0.5,
            "validation/loss": 0.75, "validation/accuracy": 0.5,
        });
        let tags: Vec<(String, f64)> =
            figures(&line).iter().map(|figure| (figure.tag(), figure.value)).collect();
        let expected = [
            ("train/loss", 0.5),
            ("eval/loss", 0.75),
            ("train/rewards/accuracies", 1.0),
            ("train/rewards/margins", -2.0),
            ("train/rewards/chosen", 0.25),
            ("train/tokens", 100.0),
            ("train/seconds", 0.5),
            ("eval/rewards/accuracies", 0.5),
            ("train/tokens_per_second", 200.0),
        ];
        assert_eq!(tags, expected.map(|(tag, value)| (tag.to_owned(), value)));
    }

    #[test]
    fn figures_of_a_reward_model_have_the_names_of_its_trainer() {
        let line = json!({
            "step": 1, "loss": 0.5, "accuracy": 0.75, "reward_margin": 0.25, "validation/accuracy": 0.5,
        });
        let tags: Vec<String> = figures(&line).iter().map(Figure::tag).collect();
        assert_eq!(tags, ["train/loss", "train/accuracy", "train/margin", "eval/accuracy"]);
    }
}
