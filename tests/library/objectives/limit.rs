//! What the expected losses tend to as K grows.

use super::*;

const SFT: [f64; 3] = [0.5, 0.3, 0.2];
const REWARDS: [f64; 3] = [0.0, 1.0, -1.0];
const THETA: [f64; 3] = [0.2, -0.1, 0.4];

/// All K-tuples of the three completions up to order, with their probabilities under π_sft.
fn tuples(k: usize) -> Vec<(Vec<usize>, f64)> {
    let log_factorial = |n: usize| (1..=n).map(|i| (i as f64).ln()).sum::<f64>();
    let mut tuples = Vec::new();
    for a in 0..=k {
        for b in 0..=k - a {
            let counts = [a, b, k - a - b];
            let tuple = (0..3).flat_map(|i| std::iter::repeat_n(i, counts[i])).collect();
            let log_weight = log_factorial(k)
                + (0..3)
                    .map(|i| counts[i] as f64 * SFT[i].ln() - log_factorial(counts[i]))
                    .sum::<f64>();
            tuples.push((tuple, log_weight.exp()));
        }
    }
    tuples
}

/// Expected loss over groups of K drawn from π_sft, and its gradient in θ.
fn expected_over_groups(name: &str, k: usize) -> (f64, Vec<f64>) {
    let objective = ObjectiveConfig { beta_policy: 0.4, beta_reward: 0.7, ..named(name) };
    let objective = objective.init().unwrap();
    let policy = TabularPolicy::new(&THETA, &SFT);
    let losses: Vec<Tensor<1>> = (tuples(k).into_iter())
        .map(|(tuple, weight)| {
            let rewards: Vec<f64> = tuple.iter().map(|&i| REWARDS[i]).collect();
            objective.loss(&policy.log_probs(&[tuple]), &matrix(&rewards, k)) * weight
        })
        .collect();
    let expected = Tensor::cat(losses, 0).sum();
    let gradient = policy.gradient(&expected.backward());
    (scalar(expected), gradient)
}

/// Expected entropy of p over groups of K drawn from π_sft.
fn expected_target_entropy(k: usize) -> f64 {
    (tuples(k).into_iter())
        .map(|(tuple, weight)| {
            let rewards: Vec<f64> = tuple.iter().map(|&i| REWARDS[i]).collect();
            let log_p = log_softmax_of(&rewards, 1.0 / 0.7);
            -weight * log_p.iter().map(|p| p.exp() * p).sum::<f64>()
        })
        .sum()
}

#[test]
fn expected_losses_over_groups_are_the_enumerated_ones() {
    // Enumerated in float64 by a separate Python program; gradients by central differences there,
    // good to 1e-8 and given with nine decimals.
    type Row = (usize, f64, f64, Option<([f64; 3], [f64; 3])>);
    let expected: [Row; 4] = [
        (
            2,
            0.2730556053087254,
            0.7393136573147968,
            Some((
                [0.004562709, -0.07764784, 0.073085131],
                [0.000953885, -0.059965326, 0.059011441],
            )),
        ),
        (
            3,
            0.37743783757817306,
            1.1536027583104171,
            Some((
                [-0.000630174, -0.1065331, 0.107163274],
                [0.016467309, -0.092030992, 0.075563683],
            )),
        ),
        (
            4,
            0.4313193060903544,
            1.4437018861060629,
            Some((
                [-0.004700543, -0.121585392, 0.126285935],
                [0.028034669, -0.110677327, 0.082642658],
            )),
        ),
        (8, 0.5117200944471602, 2.138422065879582, None),
    ];
    for (k, exo, dpo, gradients) in expected {
        let (exo_found, exo_gradient) = expected_over_groups("exo-rw", k);
        let (dpo_found, dpo_gradient) = expected_over_groups("dpo-rw", k);
        assert_close(exo_found, exo, DOUBLE, "EXO");
        assert_close(dpo_found, dpo, DOUBLE, "DPO");
        if let Some((exo, dpo)) = gradients {
            assert_all_close(&exo_gradient, &exo, 1e-8, "EXO gradient");
            assert_all_close(&dpo_gradient, &dpo, 1e-8, "DPO gradient");
        }
    }
}

#[test]
fn as_k_grows_exo_tends_to_the_reverse_and_dpo_to_the_forward_divergence() {
    // KL(π̂ ‖ π*), its gradient in θ, and KL(π* ‖ π̂), with π̂ ∝ π_sft^(1−β_π) π_θ^β_π and
    // π* ∝ π_sft e^(r/β_r): float64, a separate Python program.
    const REVERSE: f64 = 0.5868912702205007;
    const REVERSE_GRADIENT: [f64; 3] = [-0.022716344, -0.16891786, 0.191634204];
    const FORWARD: f64 = 0.4275279049832082;

    let exo = [8, 16, 32].map(|k| expected_over_groups("exo-rw", k));
    let dpo = [8, 16, 32].map(|k| expected_over_groups("dpo-rw", k).0 - expected_target_entropy(k));
    let off = |values: [f64; 3], limit: f64| values.map(|value| (value - limit).abs());
    for [at_8, at_16, at_32] in [off([exo[0].0, exo[1].0, exo[2].0], REVERSE), off(dpo, FORWARD)] {
        // The error is c/K + O(1/K²): doubling K halves it, within a quarter at these K.
        assert!((0.375..0.625).contains(&(at_16 / at_8)), "{at_8} {at_16}");
        assert!((0.375..0.625).contains(&(at_32 / at_16)), "{at_16} {at_32}");
    }
    // Removing c/K leaves O(1/K²), of the order 1/32².
    assert_close(2.0 * exo[2].0 - exo[1].0, REVERSE, 5e-3, "reverse KL");
    assert_close(2.0 * dpo[2] - dpo[1], FORWARD, 5e-3, "forward KL");
    for (i, limit) in REVERSE_GRADIENT.into_iter().enumerate() {
        assert_close(2.0 * exo[2].1[i] - exo[1].1[i], limit, 5e-3, "gradient of the reverse KL");
    }
}
