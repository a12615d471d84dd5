//! What reports call the policies of a run, and what they are.

use exalign::alignment::{Labels, ObjectiveName};
use exalign::report::{Divergence, ObjectiveLabel, PolicyKind, PolicyLabel, Takes, Trained};

use super::variants::Variant;

/// π_sft, in reports' data.
pub const REFERENCE: &str = "sft";
/// The answers that people gave.
pub const CHOSEN: &str = "chosen";
/// π*, the exact optimum.
const OPTIMUM: &str = "optimum";
/// Best-of-N along N.
pub const BEST_OF_N: &str = "best-of-n";

/// The label of π_sft.
pub fn reference() -> PolicyLabel {
    label(REFERENCE, "SFT", PolicyKind::Reference)
}

/// The label of the answers that people gave.
pub fn chosen() -> PolicyLabel {
    label(CHOSEN, "Chosen answers", PolicyKind::Chosen)
}

/// The label of Best-of-N along N.
pub fn best_of_n() -> PolicyLabel {
    label(BEST_OF_N, "Best-of-N", PolicyKind::BestOfN)
}

/// The label of Best-of-N at one N.
pub fn best_of(n: usize) -> PolicyLabel {
    label(&format!("best-of-{n}"), &format!("Best-of-{n}"), PolicyKind::BestOfN)
}

/// The label of π* (`optimum`), or of what an objective trained at β_π = β_r = 1; of anything else its
/// name alone.
pub fn named(name: &str) -> PolicyLabel {
    match name.parse::<ObjectiveName>() {
        Ok(objective) => {
            let objective = objective_label(objective, Labels::Paper);
            let text = objective.label.clone();
            let trained =
                Trained { objective, beta_policy: 1.0, beta_reward: Some(1.0), completions: None };
            label(name, &text, PolicyKind::Trained(trained))
        }
        Err(_) if name == OPTIMUM => label(OPTIMUM, "π*", PolicyKind::Optimum),
        Err(_) => label(name, name, PolicyKind::Other),
    }
}

/// The label of a variant: its objective, and what the run varies of its numbers.
pub fn label_of(variant: &Variant) -> PolicyLabel {
    let objective = objective_label(variant.objective, variant.labels);
    let mut text = objective.label.clone();
    for part in &variant.varied {
        text += &match part.split_at(1) {
            ("b", value) => format!(", β {value}"),
            ("r", value) => format!(", β_r {value}"),
            (_, value) => format!(", K {value}"),
        };
    }
    let reads_rewards = objective.takes == Takes::Rewards;
    let trained = Trained {
        objective,
        beta_policy: variant.beta_policy,
        beta_reward: reads_rewards.then_some(variant.beta_reward),
        completions: reads_rewards.then_some(variant.completions),
    };
    label(&variant.folder(), &text, PolicyKind::Trained(trained))
}

/// What reports say of an objective.
pub fn objective_label(name: ObjectiveName, labels: Labels) -> ObjectiveLabel {
    let (label, divergence, takes) = match name {
        ObjectiveName::ExoPref => ("EXO-pref", Divergence::Reverse, Takes::Pairs),
        ObjectiveName::ExoRw => ("EXO-rw", Divergence::Reverse, Takes::Rewards),
        ObjectiveName::Dpo => ("DPO", Divergence::Forward, Takes::Pairs),
        ObjectiveName::DpoRw => ("DPO-rw", Divergence::Forward, Takes::Rewards),
    };
    let (name, label, rank) = match labels {
        Labels::Paper => (name.to_string(), label.to_owned(), 0),
        Labels::Official => (format!("{name}-official"), format!("{label} (official labels)"), 1),
    };
    ObjectiveLabel { name, label, divergence, takes, rank }
}

fn label(name: &str, label: &str, kind: PolicyKind) -> PolicyLabel {
    PolicyLabel { name: name.to_owned(), label: label.to_owned(), kind }
}
