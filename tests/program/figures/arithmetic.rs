//! What figures are made of, by counting and by definition, without the code under test.

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The 2.5 % and 97.5 % quantiles of a statistic over prompts that are drawn anew with replacement.
pub fn resampled(prompts: usize, statistic: impl Fn(&[usize]) -> f64) -> [f64; 2] {
    const RESAMPLES: usize = 8000;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % prompts
    };
    let mut values: Vec<f64> = (0..RESAMPLES)
        .map(|_| statistic(&(0..prompts).map(|_| random()).collect::<Vec<_>>()))
        .collect();
    values.sort_by(f64::total_cmp);
    [values[RESAMPLES / 40], values[RESAMPLES - 1 - RESAMPLES / 40]]
}

/// Wilson's 95 % score interval: the two rates at which the observed one is 1.96 deviations away.
pub fn wilson(rate: f64, trials: f64) -> [f64; 2] {
    let is_outside =
        |at: f64| (rate - at).abs() > 1.959_963_984_54 * (at * (1.0 - at) / trials).sqrt();
    [0.0, 1.0].map(|end: f64| {
        let (mut outside, mut inside) = (end, rate);
        for _ in 0..60 {
            let middle = f64::midpoint(outside, inside);
            if is_outside(middle) { outside = middle } else { inside = middle }
        }
        inside
    })
}

/// Reward and KL of the best of `n`: the reward as the mean over all subsets of `n` different samples,
/// the KL from all ways to draw `n` with replacement.
pub fn best_of(rewards: &[f64], n: usize) -> (f64, f64) {
    let m = rewards.len();
    let (mut best, mut subsets) = (0.0, 0.0);
    let mut wins: Vec<(f64, f64)> = Vec::new();
    for number in 0..m.pow(n as u32) {
        let drawn: Vec<usize> = (0..n).map(|it| number / m.pow(it as u32) % m).collect();
        let most = drawn.iter().map(|&it| rewards[it]).fold(f64::NEG_INFINITY, f64::max);
        if drawn.windows(2).all(|pair| pair[0] < pair[1]) {
            best += most;
            subsets += 1.0;
        }
        match wins.iter_mut().find(|(reward, _)| *reward == most) {
            Some((_, times)) => *times += 1.0,
            None => wins.push((most, 1.0)),
        }
    }
    let ways = m.pow(n as u32) as f64;
    let kl = wins.iter().map(|(reward, times)| {
        let share = rewards.iter().filter(|it| *it == reward).count() as f64 / m as f64;
        times / ways * (times / ways / share).ln()
    });
    (best / subsets, kl.sum())
}

/// Reward, KL and effective number of samples of π* ∝ π_ref exp(r / β), π_ref uniform over the
/// samples.
pub fn tilted(rewards: &[f64], beta: f64) -> (f64, f64, f64) {
    let m = rewards.len() as f64;
    // Less the largest, or a small β leaves no number.
    let largest = rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = rewards.iter().map(|it| ((it - largest) / beta).exp()).sum();
    let weights = || rewards.iter().map(|it| ((it - largest) / beta).exp() / total);
    let reward = weights().zip(rewards).map(|(weight, reward)| weight * reward).sum();
    let kl = weights().filter(|it| *it > 0.0).map(|it| it * (it * m).ln()).sum();
    (reward, kl, 1.0 / weights().map(|it| it * it).sum::<f64>())
}

/// The height of a curve of (x, y) at `x`, its last beyond its end.
pub fn interpolated(curve: &[(f64, f64)], x: f64) -> f64 {
    let piece = curve.windows(2).find(|pair| pair[0].0 <= x && x < pair[1].0);
    piece.map_or(curve[curve.len() - 1].1, |pair| {
        let ((a, low), (b, high)) = (pair[0], pair[1]);
        low + (x - a) / (b - a) * (high - low)
    })
}

/// The area under a curve from 0 to `end`, strip by strip.
pub fn area_under(curve: &[(f64, f64)], end: f64) -> f64 {
    const STRIPS: usize = 400;
    let width = end / STRIPS as f64;
    (0..STRIPS).map(|it| width * interpolated(curve, width * (it as f64 + 0.5))).sum()
}
