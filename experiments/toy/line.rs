//! One dimension: a Gaussian fitted to a mixture of two Gaussians, on a grid.

use burn::tensor::{Device, Int, Tensor, TensorData};
use exalign::Result;
use exalign::alignment::ObjectiveConfig;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use super::divergence::{Divergence, log_normalized, rows};
use super::policies::{Gaussian, Groups, OBJECTIVES, Problem, fit, plain};

/// What became of the fits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LineFits {
    /// The completions: 321 places.
    pub grid: Vec<f64>,
    /// π* as density.
    pub optimum: Vec<f64>,
    /// The fits, by the number of completions in a group.
    pub fits: Vec<LineFit>,
    /// The way from EXO-rw (α = 0) to DPO-rw (α = 1) in groups of all completions, and the other divergences
    /// between the two.
    pub path: Vec<LineFit>,
}

/// A Gaussian that an objective has ended with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LineFit {
    pub objective: String,
    /// α, where the objective has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// K; none where every group holds all completions.
    pub completions: Option<usize>,
    pub mean: f64,
    pub scale: f64,
    #[serde(flatten)]
    pub divergence: Divergence,
}

/// Sampled group sizes; then all completions at once.
pub const COMPLETIONS: [usize; 5] = [2, 4, 16, 64, 256];
/// The places between EXO-rw and DPO-rw.
const ALPHAS: [f64; 6] = [0.0, 0.02, 0.05, 0.25, 0.5, 1.0];
/// Other divergences that lie between the two.
const BETWEEN: [&str; 2] = ["js-rw", "jeffreys-rw"];
/// Fits of the path.
pub const PATH: usize = ALPHAS.len() + BETWEEN.len();
const POINTS: usize = 321;
const SPACING: f64 = 0.05;
/// Groups an optimizer step.
const GROUPS: usize = 128;
const STEPS: usize = 600;

/// Fits both objectives at every K.
pub fn fits(seed: u64, device: &Device) -> Result<LineFits> {
    let grid: Vec<f64> = (0..POINTS).map(|i| -8.0 + SPACING * i as f64).collect();
    let target: Vec<f64> = grid
        .iter()
        .map(|&x| (0.65 * normal(x, -2.0, 1.0) + 0.35 * normal(x, 3.0, 0.8)).ln())
        .collect();
    let row =
        |values: Vec<f64>| Tensor::<2>::from_data(TensorData::new(values, [1, POINTS]), device);
    let problem = Problem {
        reference: row(vec![-(POINTS as f64).ln(); POINTS]),
        rewards: row(target.clone()),
    };
    let places = row(grid.clone());
    let optimum = log_normalized(&target);
    let mut fits = Vec::new();
    for completions in COMPLETIONS.map(Some).into_iter().chain([None]) {
        for objective in OBJECTIVES {
            let objective = plain(objective)?;
            fits.push(fit_one(&objective, completions, &problem, &places, &optimum, seed)?);
        }
    }
    let mut path = Vec::new();
    for alpha in ALPHAS {
        let objective = ObjectiveConfig { alpha, ..plain("alpha-rw")? };
        let found = fit_one(&objective, None, &problem, &places, &optimum, seed)?;
        path.push(LineFit { alpha: Some(alpha), ..found });
    }
    for objective in BETWEEN {
        path.push(fit_one(&plain(objective)?, None, &problem, &places, &optimum, seed)?);
    }
    let optimum = optimum.iter().map(|it| it.exp() / SPACING).collect();
    Ok(LineFits { grid, optimum, fits, path })
}

fn fit_one(
    objective: &ObjectiveConfig,
    completions: Option<usize>,
    problem: &Problem,
    places: &Tensor<2>,
    optimum: &[f64],
    seed: u64,
) -> Result<LineFit> {
    let policy = Gaussian::new(0.0, 1.5, places.clone());
    // Both objectives see the same groups.
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let policy = fit(policy, objective, problem, STEPS, || match completions {
        Some(count) => drawn(count, &mut random, &places.device()),
        None => problem.whole(),
    })?;
    let (mean, scale) = policy.shape();
    let divergence = Divergence::new(&rows(&policy)[0], optimum);
    let objective = objective.name.to_string();
    Ok(LineFit { objective, alpha: None, completions, mean, scale, divergence })
}

/// Groups of completions drawn from π_sft, which is uniform.
fn drawn(count: usize, random: &mut ChaCha12Rng, device: &Device) -> Groups {
    let completions: Vec<i64> =
        (0..GROUPS * count).map(|_| random.random_range(0..POINTS as i64)).collect();
    Groups {
        prompts: Tensor::zeros([GROUPS], device),
        completions: Tensor::<2, Int>::from_data(
            TensorData::new(completions, [GROUPS, count]),
            device,
        ),
    }
}

impl LineFits {
    /// The fit of an objective at a K.
    pub fn of(&self, objective: &str, completions: Option<usize>) -> Option<&LineFit> {
        self.fits.iter().find(|it| it.objective == objective && it.completions == completions)
    }
}

impl LineFit {
    /// Its density at a place.
    pub fn density(&self, x: f64) -> f64 {
        normal(x, self.mean, self.scale) / (2.0 * std::f64::consts::PI).sqrt()
    }
}

/// The density of a Gaussian but for its constant 1/√2π.
fn normal(x: f64, mean: f64, scale: f64) -> f64 {
    (-0.5 * ((x - mean) / scale).powi(2)).exp() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exo_settles_on_a_mode_and_dpo_covers_both() {
        let line = fits(0, &Device::flex().autodiff()).unwrap();
        // The minimisers that a separate program found on the same grid, to three decimals.
        let exo = line.of("exo-rw", None).unwrap();
        assert!((exo.mean + 1.972).abs() < 2e-3 && (exo.scale - 1.040).abs() < 2e-3, "{exo:?}");
        let dpo = line.of("dpo-rw", None).unwrap();
        assert!((dpo.mean + 0.255).abs() < 2e-3 && (dpo.scale - 2.589).abs() < 2e-3, "{dpo:?}");
        // Each is best at what it minimises.
        assert!(exo.divergence.reverse_kl < dpo.divergence.reverse_kl);
        assert!(dpo.divergence.forward_kl < exo.divergence.forward_kl);

        // Along α the fit goes from one to the other without turning back.
        let scales: Vec<f64> =
            line.path.iter().filter(|it| it.alpha.is_some()).map(|it| it.scale).collect();
        assert_eq!((scales[0], scales[5]), (exo.scale, dpo.scale));
        // Found by a separate program on the same grid, from the same start.
        for (found, expected) in scales[1..5].iter().zip([1.0415, 2.1878, 2.3556, 2.4682]) {
            assert!((found - expected).abs() < 2e-3, "{found} and {expected}");
        }
        assert!(scales.windows(2).all(|pair| pair[0] < pair[1]), "{scales:?}");

        // From small groups neither can tell; as K grows both come to where the whole list ends.
        let distance = |objective: &str, count: usize| {
            let (found, limit) =
                (line.of(objective, Some(count)).unwrap(), line.of(objective, None).unwrap());
            (found.mean - limit.mean).hypot(found.scale - limit.scale)
        };
        for objective in ["exo-rw", "dpo-rw"] {
            assert!(distance(objective, 2) > 10.0 * distance(objective, 256), "{objective}");
            assert!(distance(objective, 256) < 0.05, "{objective}: sampling noise");
        }
        assert!(line.of("exo-rw", Some(4)).unwrap().scale > 1.8, "no mode is seen in four samples");
        let integral: f64 = line.optimum.iter().sum::<f64>() * SPACING;
        assert!((integral - 1.0).abs() < 1e-12);
    }
}
