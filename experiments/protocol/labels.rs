//! What reports call the policies of a run, and what they are.

use exalign::alignment::{Entry, Form, ObjectiveName, Takes, objectives};
use exalign::report::{ObjectiveLabel, PolicyKind, PolicyLabel, Trained};

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
            let objective = objective_label(objective, None);
            let text = objective.label.clone();
            let beta_reward = (objective.takes == Takes::Rewards).then_some(1.0);
            let trained = Trained {
                objective,
                beta_policy: 1.0,
                beta_reward,
                completions: None,
                online: false,
            };
            label(name, &text, PolicyKind::Trained(trained))
        }
        Err(_) if name == OPTIMUM => label(OPTIMUM, "π*", PolicyKind::Optimum),
        Err(_) => label(name, name, PolicyKind::Other),
    }
}

/// The label of a variant: its objective and its numbers, and what it is called among the others.
pub fn label_of(variant: &Variant) -> PolicyLabel {
    let objective = objective_label(variant.objective.name, variant.form);
    let takes_rewards = objective.takes == Takes::Rewards;
    let reads_beta = variant.objective.name.reads.contains(&"beta_reward");
    let trained = Trained {
        objective,
        beta_policy: variant.objective.beta_policy,
        beta_reward: reads_beta.then_some(variant.objective.beta_reward),
        completions: takes_rewards.then_some(variant.completions),
        online: variant.online,
    };
    label(&variant.folder(), &variant.name(), PolicyKind::Trained(trained))
}

/// What reports say of an objective, or of a form of it.
fn objective_label(objective: ObjectiveName, form: Option<&Form>) -> ObjectiveLabel {
    let Entry { divergence, takes, .. } = *objective.entry();
    let (name, label) = match form {
        None => (objective.name, objective.label),
        Some(form) => (form.name, form.label),
    };
    let alike = objectives().into_iter().map(ObjectiveName::entry);
    let alike = alike.filter(|it| it.divergence == divergence && it.takes == takes);
    let mut names =
        alike.flat_map(|it| [it.name].into_iter().chain(it.forms.iter().map(|form| form.name)));
    ObjectiveLabel {
        name: name.to_owned(),
        label: label.to_owned(),
        divergence,
        takes,
        rank: names.position(|known| known == name).unwrap_or(0),
    }
}

fn label(name: &str, label: &str, kind: PolicyKind) -> PolicyLabel {
    PolicyLabel { name: name.to_owned(), label: label.to_owned(), kind }
}
