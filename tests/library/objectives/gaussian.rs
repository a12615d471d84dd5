//! A Gaussian fitted to two modes.

use super::*;

/// Mean and scale of a Gaussian on a grid, fitted by gradient descent to a mixture of two, with the
/// whole grid as one group: uniform reference, β = 1, rewards = log density of the target.
fn fit_gaussian(name: &str) -> [f64; 2] {
    let grid: Vec<f64> = (0..321).map(|i| -8.0 + 0.05 * i as f64).collect();
    let normal =
        |x: f64, mean: f64, scale: f64| (-0.5 * ((x - mean) / scale).powi(2)).exp() / scale;
    let target: Vec<f64> = (grid.iter())
        .map(|&x| (0.65 * normal(x, -2.0, 1.0) + 0.35 * normal(x, 3.0, 0.8)).ln())
        .collect();
    let objective = ObjectiveConfig { beta_policy: 1.0, beta_reward: 1.0, ..named(name) };
    let objective = objective.init().unwrap();
    let (grid, rewards) = (matrix(&grid, 321), matrix(&target, 321));

    let mut parameters = [0.0, 1.5_f64.ln()]; // mean, log scale
    for _ in 0..1500 {
        let [mean, log_scale] = parameters.map(|value| matrix(&[value], 1).require_grad());
        let deviation = (grid.clone() - mean.clone()) / log_scale.clone().exp(); // [1, 321]
        let policy = log_softmax(deviation.powi_scalar(2) * -0.5, 1); //            [1, 321]
        let log_probs = GroupLogProbs::new(policy.clone(), policy.zeros_like().detach());
        let gradients = objective.loss(&log_probs, &rewards).backward();
        for (parameter, leaf) in parameters.iter_mut().zip([mean, log_scale]) {
            *parameter -= 0.1 * numbers(leaf.grad(&gradients).unwrap())[0];
        }
    }
    [parameters[0], parameters[1].exp()]
}

#[test]
fn exo_seeks_a_mode_where_dpo_covers_both() {
    // Minimisers found on the same grid by a separate program, to three decimals.
    let [mean, scale] = fit_gaussian("exo-rw");
    assert!((mean + 1.972).abs() < 2e-3 && (scale - 1.040).abs() < 2e-3, "EXO: {mean} {scale}");
    let [mean, scale] = fit_gaussian("dpo-rw");
    assert!((mean + 0.255).abs() < 2e-3 && (scale - 2.589).abs() < 2e-3, "DPO: {mean} {scale}");
}
