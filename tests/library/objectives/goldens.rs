//! Reference values of the group losses: h, rewards and parameters in, losses and gradients out.
//!
//! Provenance: computed in float64 from the equations of Ji et al. 2024 and Rafailov et al. 2023
//! with hand-derived gradients by a separate Python program, and checked there against the authors'
//! implementation and automatic differentiation (largest difference 5e-15).
//!
//! `loss` is the mean over the groups, `gradient` is ∂loss/∂h with the mean's 1/groups in it. The
//! pair losses take the completion with the higher reward as chosen.

use serde::Deserialize;

/// One batch of log-ratios and what each objective makes of it.
#[derive(Deserialize)]
pub struct Case {
    /// Completions of a group; adjacent entries of `h` belong together.
    pub k: usize,
    /// What divided the logits that `h` comes from.
    pub temperature: f64,
    pub beta_policy: f64,
    pub beta_reward: f64,
    pub epsilon: f64,
    pub h: Vec<f64>,
    pub rewards: Vec<f64>,
    pub expected: Vec<Expected>,
}

/// Loss and gradient under one objective.
#[derive(Deserialize)]
pub struct Expected {
    pub objective: String,
    pub loss: f64,
    pub gradient: Vec<f64>,
}

/// All cases.
pub fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("goldens.json")).unwrap()
}
