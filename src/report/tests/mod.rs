//! Claims about the page, on a report made up here.

mod page;
mod pictures;

use serde_json::json;

use super::*;
use crate::alignment::{Divergence, Takes};
use crate::evaluation::OptimumPoint;
use crate::statistics::Interval;

/// The labels of policies with names such as `exo-rw-b0.5-k4`.
pub fn labels(names: &[&str]) -> Vec<PolicyLabel> {
    names.iter().map(|name| label(name)).collect()
}

fn label(name: &str) -> PolicyLabel {
    let of =
        |label: &str, kind| PolicyLabel { name: name.to_owned(), label: label.to_owned(), kind };
    let objectives = [
        ("exo-pref", "EXO-pref", Divergence::Reverse, Takes::Pairs),
        ("exo-rw", "EXO-rw", Divergence::Reverse, Takes::Rewards),
        ("dpo-rw", "DPO-rw", Divergence::Forward, Takes::Rewards),
        ("dpo", "DPO", Divergence::Forward, Takes::Pairs),
    ];
    match name {
        "sft" => return of("SFT", PolicyKind::Reference),
        "chosen" => return of("Chosen answers", PolicyKind::Chosen),
        "best-of-n" => return of("Best-of-N", PolicyKind::BestOfN),
        "best-of-16" => return of("Best-of-16", PolicyKind::BestOfN),
        _ => {}
    }
    let (found, rest) = objectives
        .into_iter()
        .find_map(|it| Some((it, name.strip_prefix(it.0)?)))
        .unwrap_or_else(|| panic!("{name}"));
    let part = |letter| rest.split('-').find_map(|it| it.strip_prefix(letter)?.parse::<f64>().ok());
    let (beta, count) = (part('b'), part('k').map(|count| count as usize));
    let mut text = found.1.to_owned();
    text += &beta.map_or(String::new(), |beta| format!(", β {beta}"));
    text += &count.map_or(String::new(), |count| format!(", K {count}"));
    let rewards = found.3 == Takes::Rewards;
    let objective = ObjectiveLabel {
        name: found.0.to_owned(),
        label: found.1.to_owned(),
        divergence: found.2,
        takes: found.3,
        rank: 0,
    };
    let trained = Trained {
        objective,
        beta_policy: beta.unwrap_or(0.5),
        beta_reward: rewards.then_some(2.0),
        completions: rewards.then_some(count.unwrap_or(4)),
        online: false,
    };
    of(&text, PolicyKind::Trained(trained))
}

fn around(mean: f64, half: f64) -> Interval {
    Interval { mean, low: mean - half, high: mean + half }
}

/// Reward of the best policy at a KL, the shape the pictures are made of.
fn reachable(kl: f64) -> f64 {
    -0.4 + 2.1 * (2.0 * kl).sqrt() - 0.12 * kl
}

fn series(objective: &str, share: f64, furthest: f64) -> Series {
    let points = (1..=9)
        .map(|it| {
            let kl = furthest * (1.0 - (-0.35 * f64::from(it)).exp());
            let wobble = 0.05 * (f64::from(it) * 2.3 + share * 9.0).sin();
            let reward = -0.4 + (reachable(kl) + 0.4) * share + wobble;
            FrontierPoint {
                step: it as usize * 4,
                reward: around(reward, 0.16),
                kl: around(kl, 0.12 + 0.03 * kl),
            }
        })
        .collect();
    Series { objective: objective.to_owned(), points, ..Series::default() }
}

fn best_of_n() -> Series {
    let point = |n: usize, reward| {
        let kl = (n as f64).ln() - (n as f64 - 1.0) / n as f64;
        FrontierPoint { step: n, reward: around(reward, 0.15), kl: around(kl, 0.0) }
    };
    let points = vec![point(2, 0.31), point(4, 0.72), point(8, 1.07), point(16, 1.32)];
    Series { objective: "best-of-n".to_owned(), points, ..Series::default() }
}

fn optimum_at(beta: f64, kl: f64) -> OptimumPoint {
    OptimumPoint {
        beta,
        reward: around(reachable(kl), 0.1),
        kl: around(kl, 0.1),
        effective_sample_size: 128.0 / (1.0 + kl),
        samples_per_prompt: 128,
    }
}

fn example() -> Report {
    let frontier = vec![
        series("dpo", 0.74, 5.6),
        series("exo-pref", 0.8, 4.4),
        series("dpo-rw", 0.86, 3.1),
        series("exo-rw", 0.93, 3.6),
        best_of_n(),
    ];
    let row = |policy: &str, reward: Interval, kl: Interval, seconds| ResultRow {
        policy: policy.to_owned(),
        reward,
        kl: Some(kl),
        kl_low_variance: Some(kl),
        kl_rao_blackwell: None,
        rule: Some(around(reward.mean / 2.0, 0.1)),
        reward_gain: (policy != "sft").then(|| around(reward.mean + 0.4, 0.13)),
        share_of_optimum: None,
        num_samples: 512,
        learned_from: None,
        seconds,
    };
    let mut results = vec![
        row("sft", around(-0.4, 0.18), around(0.0, 0.0), 41.3),
        row("best-of-16", around(1.32, 0.15), around(1.835, 0.0), 0.0),
    ];
    results.extend(frontier.iter().filter(|it| it.objective != "best-of-n").filter_map(|it| {
        it.points.last().map(|last| row(&it.objective, last.reward, last.kl, 17.5))
    }));
    let curve = |name: &str, metric: &str, start: f64, end: f64| {
        let steps: Vec<f64> = (0..300).map(f64::from).collect();
        let values = steps
            .iter()
            .map(|step| {
                end + (start - end) * (-step / 60.0).exp()
                    + 0.04 * (step * 1.7).sin() * (start - end)
            })
            .collect();
        TrainingCurve { name: name.to_owned(), metric: metric.to_owned(), steps, values }
    };
    let mut curves = vec![curve("sft", "loss", 5.2, 1.9), curve("oracle", "accuracy", 0.5, 0.97)];
    for (name, end) in [("dpo", 0.31), ("exo-pref", 0.4), ("dpo-rw", 1.02), ("exo-rw", 0.09)] {
        curves.push(curve(name, "loss", end * 3.0, end));
        curves.push(curve(name, "reward_margin", 0.0, 2.0 + end));
    }
    let rewards = |shift: f64| {
        (0..512)
            .map(|it| shift + 2.0 * (f64::from(it) * 0.7).sin() + (f64::from(it) * 0.13).cos())
            .collect()
    };
    let distributions = [("sft", -0.4), ("dpo", 2.9), ("exo-rw", 4.1)]
        .map(|(policy, shift)| Distribution { policy: policy.to_owned(), rewards: rewards(shift) });
    let openings = [
        "I watched this on a",
        "The second half of the film",
        "Nobody told me that",
        "From the first scene",
    ];
    let samples = openings
        .iter()
        .map(|prompt| SamplePrompt {
            prompt: (*prompt).to_owned(),
            completions: [("sft", -1.812, None), ("dpo", 2.204, Some(4.91)), ("exo-rw", 3.977, Some(3.18))]
                .into_iter()
                .map(|(policy, reward, kl)| SampleCompletion {
                    policy: policy.to_owned(),
                    text: format!(
                        " quiet evening and it {} The story moves {} and the actors {} the whole way to its end.",
                        if reward < 0.0 { "never found its feet." } else { "won me over at once." },
                        if reward < 0.0 { "nowhere" } else { "with grace" },
                        if kl.is_some() { "shine" } else { "drag" },
                    ),
                    reward,
                    kl,
                })
                .collect(),
        })
        .collect();
    let stage = |name: &str, seconds: f64, cached| StageCost {
        name: name.to_owned(),
        seconds,
        cached,
        key: format!("{name}b94d27b9934d3e08a52e52d7da7dabfac484efe3"),
    };
    let named = ["sft", "chosen", "best-of-16", "best-of-n", "dpo", "exo-pref", "dpo-rw", "exo-rw"];
    Report {
        policies: labels(&named),
        title: "EXO-rw earns 3.6 more log-odds than SFT".to_owned(),
        experiment: "sentiment".to_owned(),
        preset: "quick".to_owned(),
        summary: vec![
            "All four objectives raise the reward over fine-tuning alone. EXO-rw comes closest to the exact optimum: 93 % of the gain that any policy could make at the KL it pays.".to_owned(),
            "DPO drifts furthest from the reference for less reward. The intervals of no aligned policy overlap those of SFT.".to_owned(),
        ],
        results,
        frontier,
        optimum: Some(Optimum {
            point: optimum_at(1.0, 3.3),
            curve: (0..24).map(|it| optimum_at(20.0 * 0.8f64.powi(it), 0.015 * f64::from(it * it))).collect(),
        }),
        comparisons: vec![Comparison {
            ours: "exo-rw".to_owned(),
            theirs: "dpo-rw".to_owned(),
            common_kl: 3.1,
            at_common_kl: around(0.217, 0.1),
            mean_gain: around(0.153, 0.08),
            repetitions: vec![(0, around(0.191, 0.2)), (1, around(0.117, 0.2))],
            at_equal_steps: None,
            variance_components: None,
        }],
        win_rates: vec![WinRateRow {
            policy: "exo-rw".to_owned(),
            opponent: "chosen".to_owned(),
            judge: "the reward model".to_owned(),
            rate: around(0.625, 0.09),
            wins: 58,
            ties: 9,
            losses: 33,
            order_dependent: 4,
            no_verdict: 0,
            prompts_to_tell_apart: Some(119),
        }],
        curves,
        distributions: distributions.to_vec(),
        samples,
        stages: vec![stage("fine-tuning", 41.3, false), stage("sampling groups", 22.9, true), stage("exo-rw", 17.5, false)],
        configuration: json!({
            "seed": 0, "align": { "objective": { "beta_policy": 0.5, "beta_reward": 2.0 }, "training": { "learning_rate": 3e-4 } },
            "comparison": { "objectives": ["dpo", "exo-rw"] }, "model": { "path": null },
        }),
        provenance: vec![
            ("exalign".to_owned(), "0.1.0".to_owned()),
            ("command".to_owned(), "exalign run sentiment --preset quick".to_owned()),
        ],
        ..Report::default()
    }
}

/// A sweep: both objectives with rewards at five β and three K, those on pairs at five β, over five
/// seeds, on conversations.
fn sweep() -> Report {
    let mut report = example();
    let betas = ["0.1", "0.2", "0.5", "1", "2"];
    let mut policies = Vec::new();
    for (rank, beta) in betas.iter().enumerate() {
        let tight = 1.0 - 0.14 * rank as f64;
        for (base, share) in [("dpo", 0.7), ("exo-pref", 0.76)] {
            policies.push((format!("{base}-b{beta}"), share, 5.2 * tight));
        }
        for (base, share) in [("dpo-rw", 0.8), ("exo-rw", 0.86)] {
            for (k, more) in [(2, 0.0), (4, 0.04), (8, 0.07)] {
                policies.push((format!("{base}-b{beta}-k{k}"), share + more, 4.6 * tight));
            }
        }
    }
    report.policies.truncate(4);
    report.policies.extend(policies.iter().map(|it| label(&it.0)));
    report.frontier = policies
        .iter()
        .map(|(policy, share, furthest)| {
            let series = series(policy, *share, *furthest);
            let shifted = |seed: u64| {
                let by = 0.1 * (seed as f64 * 1.7 + share * 31.0).sin();
                series
                    .points
                    .iter()
                    .map(|it| (it.kl.mean * (1.0 + by), it.reward.mean + by))
                    .collect()
            };
            let repetitions =
                (0..5).map(|seed| Repetition { seed, points: shifted(seed) }).collect();
            Series { repetitions, ..series }
        })
        .collect();
    report.results.truncate(2);
    for it in &report.frontier {
        let (Some(last), Some(reference)) = (it.points.last(), report.results.first()) else {
            continue;
        };
        report.results.push(ResultRow {
            policy: it.objective.clone(),
            reward: last.reward,
            kl: Some(last.kl),
            reward_gain: Some(around(last.reward.mean - reference.reward.mean, 0.2)),
            ..reference.clone()
        });
    }
    report.frontier.push(best_of_n());
    let rewards = report.distributions[0].rewards.clone();
    let names = || std::iter::once("sft".to_owned()).chain(policies.iter().map(|it| it.0.clone()));
    report.distributions = names()
        .enumerate()
        .map(|(rank, policy)| {
            let rewards = rewards.iter().map(|it| it + 0.1 * rank as f64).collect();
            Distribution { policy, rewards }
        })
        .collect();
    report.curves.truncate(2);
    for (policy, share, _) in &policies {
        for metric in ["loss", "accuracy", "reward_margin"] {
            let steps: Vec<f64> = (0..40).map(f64::from).collect();
            let values = steps.iter().map(|it| share * (1.0 - (-it / 12.0).exp())).collect();
            let (name, metric) = (policy.clone(), metric.to_owned());
            report.curves.push(TrainingCurve { name, metric, steps, values });
        }
    }
    let conversation = "Human: My tomato plants have yellow leaves at the bottom. What is wrong?\n\nAssistant: \
                        Lower leaves often yellow when the plant lacks nitrogen, or is watered too much.\n\n"
        .repeat(5)
        + "Human: I water them every evening. How can I tell which of the two it is?\n\nAssistant:";
    for sample in &mut report.samples {
        sample.prompt = conversation.clone();
        let one = sample.completions[0].clone();
        sample.completions = names()
            .map(|policy| SampleCompletion { policy, kl: Some(1.5), ..one.clone() })
            .collect();
        sample.completions[1].text = "Check the soil first. ".repeat(70);
    }
    report.stages = (0..5)
        .flat_map(|seed| policies.iter().map(move |it| (seed, it)))
        .map(|(seed, (policy, share, _))| StageCost {
            name: format!("{}, seed {seed}", label(policy).label),
            seconds: 20.0 * share,
            cached: seed == 0,
            key: format!("{policy}{seed}4d27b9934d3e08a52e52d7da7dabfac484efe3"),
        })
        .collect();
    report
}

fn page(report: Report) -> String {
    render(&[NamedReport { name: "run".to_owned(), report }])
}

/// The page without its script and its data: what a reader sees with JavaScript off.
fn visible(html: &str) -> String {
    html.split_once("<script").map(|(before, _)| before.to_owned()).unwrap()
}
