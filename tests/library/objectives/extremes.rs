//! Numbers at the ends of their range.

use super::*;

#[test]
fn losses_and_gradients_are_finite_at_the_extremes() {
    for dtype in [DType::F32, DType::F64] {
        // f32 has 24 bits: terms of size 1e5 are good to 1e-2; f64 to 1e-11.
        let tolerance = if dtype == DType::F32 { 1e-4 } else { 1e-10 };
        for config in classic_objectives(0.1, 0.1, 1e-3) {
            let objective = config.init().unwrap();
            for k in [2, 3, 17, 64] {
                if objective.check(k).is_err() {
                    continue;
                }
                for z in [0.0, 88.0, 104.0, 746.0, 1e4, -1e4, -746.0, -89.0, -17.0] {
                    for reward in [0.0, 1.0, -1.0, 1e4, -1e4] {
                        let spread =
                            |to: f64| move |i: usize| to * (1.0 - i as f64 / (k - 1) as f64);
                        let h: Vec<f64> = (0..k).map(spread(z / 0.1)).collect();
                        let rewards: Vec<f64> = (0..k).map(spread(reward)).collect();
                        let (loss, gradient) = run(&*objective, &h, &rewards, k, dtype);
                        let (expected, expected_gradient) = closed_form(&config, &h, &rewards);
                        let what = format!("{config:?} {dtype:?} K = {k}, z = {z}, r = {reward}");
                        assert!(loss.is_finite(), "{what}: loss {loss}");
                        assert_close(loss, expected, tolerance, &what);
                        // Measured against the largest term of the gradient, which the K
                        // components share.
                        let scale = 1.0 + (z.abs() + reward.abs() / 0.1) * 0.1;
                        for (found, expected) in gradient.iter().zip(expected_gradient) {
                            let off = (found - expected).abs();
                            assert!(off <= tolerance * scale, "{what}: {found} for {expected}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_group_that_agrees_on_nothing_does_not_poison_its_batch() {
    let h = [1e5, -1e5, 0.5, -0.5];
    for config in all_objectives(0.1, 0.1, 1e-3) {
        let objective = config.init().unwrap();
        if objective.check_log_probs(&h).is_err() {
            continue;
        }
        let (_, gradient) = run(&*objective, &h, &[-1e4, 1e4, 0.1, 0.0], 2, DType::F32);
        let (_, alone) = run(&*objective, &h[2..], &[0.1, 0.0], 2, DType::F32);
        let halves: Vec<f64> = alone.iter().map(|value| value / 2.0).collect(); // mean of two groups
        assert_all_close(&gradient[2..], &halves, 1e-6, &format!("{config:?}")); // f32
    }
}
