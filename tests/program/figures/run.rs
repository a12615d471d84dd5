//! The figures of an experiment's report, computed again from the samples, the labels and the models
//! that its stages have left.

use serde_json::{Value, json};

use super::arithmetic::{area_under, best_of, interpolated, mean, resampled, tilted, wilson};
use super::{close, near, parsed};
use crate::support::{Workplace, json_lines, metrics};

/// Small and quick, and with rewards that a policy can raise: two tokens a completion.
const EXPERIMENT: &str = "run sentiment --out run --seed 1 --set model.hidden_size=16 --set model.num_layers=1 \
     --set model.num_heads=2 --set data.demonstrations=64 --set data.labelled=512 --set data.prompts=64 \
     --set data.held_out=24 --set comparison.objectives=[\"dpo-rw\",\"exo-rw\"] \
     --set reward.training.learning_rate=2e-2 --set reward.training.batch_size=16 --set reward.training.epochs=4 \
     --set sample.generation.max_new_tokens=2 --set sample.generation.completions=8 \
     --set evaluate.generation.max_new_tokens=2 --set optimum.generation.max_new_tokens=2 \
     --set optimum.generation.completions=16 --set align.objective.beta_reward=0.2 \
     --set align.training.learning_rate=2e-2 --set align.training.batch_size=16 --set align.training.epochs=3 \
     --set align.optimizer.warmup=0 --set align.checkpoint.every=4";

const VARIANTS: [&str; 2] = ["dpo-rw", "exo-rw"];
const LAST: usize = 12;

/// A run, its report and what it printed.
struct Experiment {
    place: Workplace,
    /// The folders of its repetitions.
    repetitions: Vec<String>,
    report: Value,
    printed: String,
}

impl Experiment {
    fn new(more: &str, repetitions: &[&str]) -> Self {
        let place = Workplace::new();
        let printed = place.succeeds(&format!("{EXPERIMENT} {more}"));
        let report = std::fs::read_to_string(place.path("run/report.json")).unwrap();
        let repetitions = repetitions.iter().map(|it| format!("run/{it}")).collect();
        Self { place, repetitions, report: parsed(&report), printed }
    }

    /// Something of every repetition.
    fn each<T>(&self, of: impl Fn(&str) -> T) -> Vec<T> {
        self.repetitions.iter().map(|it| of(it)).collect()
    }

    fn lines(&self, file: &str) -> Vec<Value> {
        json_lines(&self.place.path(file))
    }

    /// The rewards of a file's groups.
    fn rewards(&self, file: &str) -> Vec<Vec<f64>> {
        self.lines(file).iter().map(|it| floats(&it["rewards"])).collect()
    }

    /// The rewards of each prompt's samples, of π_sft (step 0) or a checkpoint.
    fn drawn(&self, repetition: &str, policy: &str, step: usize) -> Vec<Vec<f64>> {
        self.rewards(&format!("{repetition}evaluations/{policy}/step-{step}.jsonl"))
    }

    fn mean_rewards(&self, repetition: &str, policy: &str, step: usize) -> Vec<f64> {
        self.drawn(repetition, policy, step).iter().map(|it| mean(it)).collect()
    }

    /// The log-ratios of each prompt's samples: those that `exalign score` finds at the temperature
    /// that they were drawn at.
    fn log_ratios(&self, repetition: &str, policy: &str, step: usize) -> Vec<Vec<f64>> {
        let of = |model: &str| -> Vec<Vec<f64>> {
            let printed = self.place.succeeds(&format!(
                "score --model {repetition}{model} --temperature 0.8 \
                 --data {repetition}evaluations/{policy}/step-{step}.jsonl"
            ));
            printed.lines().map(|it| floats(&parsed(it)["log_probs"])).collect()
        };
        let (ours, theirs) = (of(&format!("{policy}/checkpoints/step-{step}")), of("sft/model"));
        let less = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a - b).collect();
        ours.iter().zip(&theirs).map(less).collect()
    }

    /// The KL of each prompt by the sums over tokens that the evaluation noted. What such a sum is stands in
    /// `a_kl_is_that_at_the_temperature_of_both_models`; here, that it agrees with the log-ratios on average.
    fn mean_token_kls(&self, repetition: &str, policy: &str, step: usize) -> Vec<f64> {
        let record = format!("{repetition}evaluations/{policy}/step-{step}.jsonl.run.json");
        let record = parsed(&std::fs::read_to_string(self.place.path(&record)).unwrap());
        let drawn = record["result"]["drawn"].as_array().unwrap().clone();
        let of_prompt = |drawn: &Value| {
            let samples = drawn.as_array().unwrap();
            mean(&samples.iter().map(|it| it["token_kl"].as_f64().unwrap()).collect::<Vec<_>>())
        };
        drawn.iter().map(of_prompt).collect()
    }

    /// The rewards of the many samples of π_sft.
    fn candidates(&self) -> Vec<Vec<Vec<f64>>> {
        self.each(|it| self.rewards(&format!("{it}optimum-labelled/groups.jsonl")))
    }

    fn result(&self, policy: &str) -> &Value {
        let mut rows = self.report["results"].as_array().unwrap().iter();
        rows.find(|it| it["policy"] == policy).unwrap_or_else(|| panic!("no row of {policy}"))
    }

    /// (KL, reward) of a variant's frontier over some prompts of a repetition, as a function of them.
    fn frontier(
        &self,
        repetition: &str,
        policy: &str,
    ) -> impl Fn(&[usize]) -> Vec<(f64, f64)> + use<> {
        let reference = self.mean_rewards(repetition, "sft", 0);
        let points: Vec<(Vec<f64>, Vec<f64>)> = (4..=LAST)
            .step_by(4)
            .map(|step| {
                let rewards = self.mean_rewards(repetition, policy, step);
                (self.mean_token_kls(repetition, policy, step), rewards)
            })
            .collect();
        move |prompts| {
            let over =
                |values: &Vec<f64>| mean(&prompts.iter().map(|&it| values[it]).collect::<Vec<_>>());
            let mut curve: Vec<(f64, f64)> =
                points.iter().map(|(kls, rewards)| (over(kls).max(0.0), over(rewards))).collect();
            curve.sort_by(|a, b| a.0.total_cmp(&b.0));
            curve.insert(0, (0.0, over(&reference)));
            curve
        }
    }

    /// An interval over the prompts of the one repetition, or Student's over the means of two.
    #[track_caller]
    fn interval(&self, found: &Value, values: &[Vec<f64>], tolerance: f64) {
        let means: Vec<f64> = values.iter().map(|it| mean(it)).collect();
        near(&found["mean"], mean(&means), tolerance);
        let [low, high] = match values {
            [only] => resampled(only.len(), |prompts| {
                mean(&prompts.iter().map(|&it| only[it]).collect::<Vec<_>>())
            }),
            _ => student(&means),
        };
        bounds(found, [low, high], values.len() > 1);
    }
}

fn floats(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect()
}

/// Of two values: t(0.975, 1) = 12.7062, the standard error is half their distance.
fn student(means: &[f64]) -> [f64; 2] {
    let [a, b] = means else { panic!("two repetitions") };
    let half = 12.706_204_736 * (a - b).abs() / 2.0;
    [(a + b) / 2.0 - half, (a + b) / 2.0 + half]
}

/// The ends of an interval; where both come from resamples, to a fifteenth of its width.
#[track_caller]
fn bounds(found: &Value, [low, high]: [f64; 2], is_exact: bool) {
    let tolerance = if is_exact { 1e-3 * (high - low) + 1e-9 } else { (high - low) / 15.0 + 1e-9 };
    near(&found["low"], low, tolerance);
    near(&found["high"], high, tolerance);
}

// f32 log-probs, of a few tokens each.
const OF_LOG_PROBS: f64 = 1e-5;
const EXACT: f64 = 1e-9;

#[test]
fn an_experiments_figures_follow_from_its_samples() {
    let run = Experiment::new("", &[""]);
    let policies: Vec<&str> = (run.report["results"].as_array().unwrap().iter())
        .map(|it| it["policy"].as_str().unwrap())
        .collect();
    assert_eq!(policies, ["sft", "chosen", "best-of-4", "dpo-rw", "exo-rw"]);
    rewards_and_kls(&run);
    reward_model(&run);
    best_of_n_and_optimum(&run);
    win_rates(&run);
    frontiers(&run);
    what_the_gain_is_a_share_of(&run);
    what_is_shown(&run);
    printed_table(&run);
    page(&run);
}

#[test]
fn repetitions_are_told_by_their_mean_with_students_interval() {
    // The second seed's reward model is right about half.
    let more = "--set comparison.seeds=2 --set data.held_out=16 --set protocol.refuse_chance=false";
    let run = Experiment::new(more, &["seed-1/", "seed-2/"]);
    rewards_and_kls(&run);
    reward_model(&run);
    best_of_n_and_optimum(&run);
    win_rates(&run);
    frontiers(&run);
    plan(&run);
    differences(&run);
    // A training's time is that of all repetitions.
    for (policy, stage) in [("sft", "fine-tuning"), ("dpo-rw", "DPO-rw"), ("exo-rw", "EXO-rw")] {
        let stages = run.report["stages"].as_array().unwrap().iter();
        let own = stages.filter(|it| it["name"].as_str().unwrap().starts_with(stage));
        let seconds: Vec<f64> = own.map(|it| it["seconds"].as_f64().unwrap()).collect();
        assert_eq!(seconds.len(), 2, "{policy}");
        near(&run.result(policy)["seconds"], seconds.iter().sum(), 1e-9);
    }
}

fn rewards_and_kls(run: &Experiment) {
    let rewards = |policy: &str, step| run.each(|it| run.mean_rewards(it, policy, step));
    let samples = |policy: &str, step| -> usize {
        run.each(|it| run.drawn(it, policy, step).concat().len()).iter().sum()
    };
    let sft = run.result("sft");
    run.interval(&sft["reward"], &rewards("sft", 0), EXACT);
    for kl in ["kl", "kl_low_variance", "kl_rao_blackwell"] {
        assert_eq!(sft[kl], json!({ "mean": 0.0, "low": 0.0, "high": 0.0 }));
    }
    assert_eq!(sft["num_samples"], samples("sft", 0));
    assert!(sft.get("reward_gain").is_none());
    let chosen = run.each(|it| run.rewards(&format!("{it}chosen/groups.jsonl")).concat());
    run.interval(&run.result("chosen")["reward"], &chosen, EXACT);
    assert_eq!(run.result("chosen")["num_samples"], chosen.concat().len());
    for policy in VARIANTS {
        let row = run.result(policy);
        run.interval(&row["reward"], &rewards(policy, LAST), EXACT);
        let ratios = run.each(|it| run.log_ratios(it, policy, LAST));
        let over = |value: fn(f64) -> f64| -> Vec<Vec<f64>> {
            let of =
                |drawn: &Vec<f64>| mean(&drawn.iter().map(|&it| value(it)).collect::<Vec<_>>());
            ratios.iter().map(|prompts| prompts.iter().map(of).collect()).collect()
        };
        run.interval(&row["kl"], &over(|it| it), OF_LOG_PROBS);
        run.interval(&row["kl_low_variance"], &over(|it| (-it).exp() - 1.0 + it), OF_LOG_PROBS);
        assert!(row["kl"]["mean"].as_f64().unwrap() > 0.05, "it has left the reference: {row}");
        let by_token = run.each(|it| run.mean_token_kls(it, policy, LAST));
        run.interval(&row["kl_rao_blackwell"], &by_token, EXACT);
        // The same KL by two estimators on the same samples.
        let (plain, exact) = (&row["kl"], &row["kl_rao_blackwell"]);
        let of = |it: &Value, end: &str| it[end].as_f64().unwrap();
        assert!(
            of(plain, "low") < of(exact, "high") && of(exact, "low") < of(plain, "high"),
            "{row}"
        );
        let gains = run.each(|it| {
            let (ours, theirs) =
                (run.mean_rewards(it, policy, LAST), run.mean_rewards(it, "sft", 0));
            ours.iter().zip(&theirs).map(|(a, b)| a - b).collect::<Vec<_>>()
        });
        run.interval(&row["reward_gain"], &gains, EXACT);
        assert!(row["reward_gain"]["mean"].as_f64().unwrap().abs() > 0.02, "{row}");
        assert_eq!(row["num_samples"], samples(policy, LAST));
    }
}

/// The share of the held-out texts whose reward, by another command, has the sign of their label.
fn reward_model(run: &Experiment) {
    let (mut count, mut shares) = (0.0, Vec::new());
    for repetition in &run.repetitions {
        let records = run.lines(&format!("{repetition}data/held-out-labelled.jsonl"));
        let groups = records.iter().map(|it| json!({ "prompt": "", "completions": [it["text"]] }));
        run.place.lines("texts.jsonl", groups);
        run.place.succeeds(&format!(
            "label --reward {repetition}reward --data texts.jsonl --out texts-labelled.jsonl --fresh"
        ));
        let rewards = run.rewards("texts-labelled.jsonl");
        let is_right = |(record, rewards): (&Value, &Vec<f64>)| {
            f64::from((rewards[0] > 0.0) == (record["label"] == 1))
        };
        shares.push(mean(&records.iter().zip(&rewards).map(is_right).collect::<Vec<_>>()));
        count += records.len() as f64;
    }
    let share = mean(&shares);
    let found = &run.report["reward_model"];
    assert_eq!(found["records"], count);
    near(&found["accuracy"]["mean"], share, EXACT);
    let expected = if shares.len() == 1 { wilson(share, count) } else { student(&shares) };
    bounds(&found["accuracy"], expected, true);
    assert!((0.4..0.99).contains(&share), "neither all nor none: {found}");
    let said = run.report["summary"].as_array().unwrap().iter().any(|it| {
        let share = format!("right about {:.0} % [", 100.0 * share);
        it.as_str().unwrap().contains(&share)
    });
    assert!(said, "{}", run.report["summary"]);
}

/// What `exalign plan` says of the run follows from the spread that its report has.
fn plan(run: &Experiment) {
    let spread = &run.report["comparisons"][0]["variance_components"];
    let [prompts, samples] = ["prompts", "samples"].map(|it| spread[it].as_f64().unwrap());
    let of_training = spread["repetitions"].as_f64().unwrap();
    assert_eq!(
        spread["measured_with"],
        json!({ "prompts": 16, "samples": 4, "repetitions": run.repetitions.len() })
    );
    let printed = run.place.succeeds("plan run --difference 0.3 --power 0.9");
    let row = |start: &str| -> Vec<String> {
        let line = printed.lines().find(|it| it.trim_start().starts_with(start)).unwrap();
        let cells: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        cells[cells.len() - 4..].to_vec()
    };
    // z₀.₉₇₅ + z₀.₉, and t₀.₉₇₅ + t₀.₉ of 19 degrees of freedom.
    for (start, seeds, errors) in
        [("1 seed,", 1.0, 1.959_964 + 1.281_552), ("20 seeds,", 20.0, 2.093_024 + 1.327_728)]
    {
        let of_training = if seeds > 1.0 { of_training } else { 0.0 };
        for (found, count) in row(start).iter().zip([1.0, 2.0, 4.0, 8.0]) {
            let left = (0.3f64 / errors).powi(2) * seeds - of_training;
            let needed = ((prompts + samples / count) / left).ceil().max(2.0);
            let found: f64 = found.parse().unwrap();
            assert!((found - needed).abs() <= 1.0, "{start} {count}: {found} and {needed}");
        }
    }
    assert!(run.place.refuses("plan run --difference 0", 2).contains("--difference"));
    assert!(run.place.refuses("plan run --difference 1 --power 1", 2).contains("--power"));
}

/// `exalign report --differences` draws the comparisons of the report.
fn differences(run: &Experiment) {
    run.place.succeeds("report run --out again/page.html --differences drawn/differences.svg");
    assert!(run.place.path("again/page.html").is_file());
    let svg = std::fs::read_to_string(run.place.path("drawn/differences.svg")).unwrap();
    let all = run.report["comparisons"].as_array().unwrap();
    assert_eq!(svg.matches("<g>").count(), all.len());
    for it in all {
        let mean = it["mean_gain"]["mean"].as_f64().unwrap();
        let said = format!("{:.3} [", mean.abs());
        assert!(svg.contains(&said), "{said}");
    }
}

fn best_of_n_and_optimum(run: &Experiment) {
    let candidates = run.candidates();
    assert!(candidates.iter().flatten().all(|it| it.len() == 16));
    let best = run.result("best-of-4");
    let series = run.report["frontier"].as_array().unwrap().last().unwrap();
    assert_eq!(series["objective"], "best-of-n");
    // Of 16 samples a prompt, N up to 4.
    let [two, four] = series["points"].as_array().unwrap().as_slice() else { panic!("{series}") };
    assert_eq!((&two["step"], &four["step"]), (&json!(2), &json!(4)));
    for (n, point) in [(2, two), (4, four), (4, best)] {
        let of = |prompts: &Vec<Vec<f64>>| -> (Vec<f64>, Vec<f64>) {
            prompts.iter().map(|it| best_of(it, n)).unzip()
        };
        let (rewards, kls): (Vec<_>, Vec<_>) = candidates.iter().map(of).unzip();
        run.interval(&point["reward"], &rewards, EXACT);
        run.interval(&point["kl"], &kls, EXACT);
        // log N − (N − 1)/N, less what 16 samples of discrete tokens leave of it.
        let (n, kl) = (n as f64, point["kl"]["mean"].as_f64().unwrap());
        let bound = n.ln() - (n - 1.0) / n;
        assert!(kl <= bound, "{kl} and {bound}");
        // Where many samples have one reward, the best of them is nearer.
        assert!(kl > bound - 0.05 || run.repetitions.len() > 1, "{kl} and {bound}");
    }
    assert_eq!(best["num_samples"], candidates.concat().concat().len());

    let optimum = &run.report["optimum"];
    // β_π β_r.
    at_beta(run, &optimum["point"], 0.5 * 0.2);
    let mut curve = optimum["curve"].as_array().unwrap().iter();
    for step in 0..=32 {
        let beta = 20.0 * 0.75f64.powi(step);
        let sizes: Vec<f64> = candidates.iter().flatten().map(|it| tilted(it, beta).2).collect();
        // Below four samples there is nothing to show.
        if mean(&sizes) < 4.0 {
            break;
        }
        at_beta(run, curve.next().unwrap(), beta);
    }
    assert_eq!(curve.next(), None);
}

#[track_caller]
fn at_beta(run: &Experiment, point: &Value, beta: f64) {
    near(&point["beta"], beta, EXACT);
    let of = |value: fn((f64, f64, f64)) -> f64| -> Vec<Vec<f64>> {
        let prompts = |it: &Vec<Vec<f64>>| it.iter().map(|it| value(tilted(it, beta))).collect();
        run.candidates().iter().map(prompts).collect()
    };
    run.interval(&point["reward"], &of(|it| it.0), EXACT);
    run.interval(&point["kl"], &of(|it| it.1), EXACT);
    near(&point["effective_sample_size"], mean(&of(|it| it.2).concat()), 1e-6);
    assert_eq!(point["samples_per_prompt"], 16);
}

/// The first answers of a policy and of its opponent to the same prompts.
fn win_rates(run: &Experiment) {
    let first = |file: String| -> Vec<(String, f64)> {
        let groups = run.lines(&file);
        groups.iter().map(|it| (it["prompt"].to_string(), floats(&it["rewards"])[0])).collect()
    };
    let rows = run.report["win_rates"].as_array().unwrap();
    let (mut expected, mut is_one_sided) = (0, false);
    for policy in VARIANTS {
        for opponent in ["sft", "chosen"] {
            let row = rows
                .iter()
                .find(|it| it["policy"] == policy && it["opponent"] == opponent)
                .unwrap();
            expected += 1;
            let (mut counts, mut prompts) = ([0usize; 3], Vec::new());
            for repetition in &run.repetitions {
                let ours = first(format!("{repetition}evaluations/{policy}/step-{LAST}.jsonl"));
                let theirs = first(match opponent {
                    "sft" => format!("{repetition}evaluations/sft/step-0.jsonl"),
                    _ => format!("{repetition}chosen/groups.jsonl"),
                });
                for ((prompt, ours), (same, theirs)) in ours.iter().zip(&theirs) {
                    assert_eq!(prompt, same);
                    counts[if ours > theirs { 0 } else { 1 + usize::from(ours < theirs) }] += 1;
                    prompts.push(prompt.clone());
                }
            }
            let [wins, ties, losses] = counts;
            let names = ["wins", "ties", "losses", "order_dependent", "no_verdict"];
            let found = names.map(|it| row[it].as_u64().unwrap() as usize);
            assert_eq!(found, [wins, ties, losses, 0, 0], "{row}");
            is_one_sided |= wins != losses;
            let n = prompts.len() as f64;
            prompts.sort();
            let recurring: f64 =
                prompts.chunk_by(|a, b| a == b).map(|it| (it.len() as f64).powi(2)).sum();
            let rate = (wins as f64 + ties as f64 / 2.0) / n;
            let [low, high] = wilson(rate, n * n / recurring);
            near(&row["rate"]["mean"], rate, EXACT);
            bounds(&row["rate"], [low, high], true);
            if recurring == n {
                // (z₀.₉₇₅ √m + z₀.₈ √(m − d²))² / d², d the mean and m the square of score − ½.
                let (d, m) = (rate - 0.5, (wins + losses) as f64 / 4.0 / n);
                let needed =
                    (1.959_964 * m.sqrt() + 0.841_621 * (m - d * d).sqrt()).powi(2) / d / d;
                near(&row["prompts_to_tell_apart"], needed.ceil(), 0.1);
            }
            assert_eq!(row["judge"], "the reward model");
        }
    }
    assert_eq!(rows.len(), expected);
    assert!(is_one_sided, "sides that are swapped would not show");
}

fn frontiers(run: &Experiment) {
    let series = run.report["frontier"].as_array().unwrap();
    let curves: Vec<Vec<_>> =
        (VARIANTS.iter()).map(|policy| run.each(|it| run.frontier(it, policy))).collect();
    let everyone: Vec<usize> = (0..run.mean_rewards(&run.repetitions[0], "sft", 0).len()).collect();
    let reach = |variant: usize, repetition: usize| {
        curves[variant][repetition](&everyone).last().unwrap().0
    };
    let all = (0..2).flat_map(|variant| (0..run.repetitions.len()).map(move |it| (variant, it)));
    let common = all.map(|(variant, it)| reach(variant, it)).reduce(f64::min).unwrap();
    for (variant, policy) in VARIANTS.into_iter().enumerate() {
        let found = &series[variant];
        assert_eq!(found["objective"], policy);
        let points = found["points"].as_array().unwrap();
        let steps: Vec<u64> = points.iter().map(|it| it["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [4, 8, 12]);
        for (point, step) in points.iter().zip([4, 8, 12]) {
            let rewards = run.each(|it| run.mean_rewards(it, policy, step));
            run.interval(&point["reward"], &rewards, EXACT);
            let kls = run.each(|it| run.mean_token_kls(it, policy, step));
            run.interval(&point["kl"], &kls, EXACT);
        }
        near(&found["area"]["up_to_kl"], common, OF_LOG_PROBS);
        let area = |it: usize, prompts: &[usize]| {
            let curve = curves[variant][it](prompts);
            area_under(&curve, common) - common * curve[0].1
        };
        let areas: Vec<f64> = (0..run.repetitions.len()).map(|it| area(it, &everyone)).collect();
        near(&found["area"]["area"]["mean"], mean(&areas), 1e-4);
        let expected = match areas.len() {
            1 => resampled(everyone.len(), |prompts| area(0, prompts)),
            _ => student(&areas),
        };
        bounds_within(&found["area"]["area"], expected);
        if run.repetitions.len() > 1 {
            for (it, found) in found["repetitions"].as_array().unwrap().iter().enumerate() {
                assert_eq!(found["seed"], 1 + it);
                let place = &run.repetitions[it];
                for (point, step) in found["points"].as_array().unwrap().iter().zip([4, 8, 12]) {
                    near(&point[0], mean(&run.mean_token_kls(place, policy, step)), EXACT);
                    near(&point[1], mean(&run.mean_rewards(place, policy, step)), EXACT);
                }
            }
        }
    }

    let [comparison] = run.report["comparisons"].as_array().unwrap().as_slice() else {
        panic!("one EXO against one DPO")
    };
    assert_eq!((&comparison["ours"], &comparison["theirs"]), (&json!("exo-rw"), &json!("dpo-rw")));
    let kl = |it: usize| reach(0, it).min(reach(1, it));
    let kls: Vec<f64> = (0..run.repetitions.len()).map(kl).collect();
    near(&comparison["common_kl"], mean(&kls), OF_LOG_PROBS);
    let both =
        |it: usize, prompts: &[usize]| [1, 0].map(|variant: usize| curves[variant][it](prompts));
    let at_end = |it: usize, prompts: &[usize]| {
        let [ours, theirs] = both(it, prompts);
        interpolated(&ours, kl(it)) - interpolated(&theirs, kl(it))
    };
    let over_all = |it: usize, prompts: &[usize]| {
        let [ours, theirs] = both(it, prompts);
        (area_under(&ours, kl(it)) - area_under(&theirs, kl(it))) / kl(it)
    };
    type Difference<'a> = &'a dyn Fn(usize, &[usize]) -> f64;
    let differences: [(&str, Difference); 2] =
        [("at_common_kl", &at_end), ("mean_gain", &over_all)];
    for (name, value) in differences {
        let found = &comparison[name];
        let values: Vec<f64> = (0..run.repetitions.len()).map(|it| value(it, &everyone)).collect();
        near(&found["mean"], mean(&values), 1e-3);
        assert!(values.iter().any(|it| it.abs() > 2e-3), "{name} is too small to show its sign");
        let expected = match values.len() {
            1 => resampled(everyone.len(), |prompts| value(0, prompts)),
            _ => student(&values),
        };
        bounds_within(found, expected);
    }
    let equal = &comparison["at_equal_steps"];
    assert_eq!(equal["step"], LAST);
    type Of<'a> = &'a dyn Fn(&str, &str) -> Vec<f64>;
    let figures: [(&str, Of); 2] = [
        ("reward", &|place, policy| run.mean_rewards(place, policy, LAST)),
        ("kl", &|place, policy| run.mean_token_kls(place, policy, LAST)),
    ];
    for (name, of) in figures {
        let differences = run.each(|it| {
            let (ours, theirs) = (of(it, "exo-rw"), of(it, "dpo-rw"));
            ours.iter().zip(&theirs).map(|(a, b)| a - b).collect::<Vec<_>>()
        });
        run.interval(&equal[name], &differences, EXACT);
    }
    let repetitions = comparison["repetitions"].as_array().unwrap();
    for (it, found) in repetitions.iter().enumerate() {
        assert_eq!(found[0], 1 + it);
        near(&found[1]["mean"], over_all(it, &everyone), 1e-3);
    }
    assert_eq!(repetitions.len(), run.repetitions.len());
}

/// Ends that 1000 resamples know less well, of curves that are integrated in steps.
#[track_caller]
fn bounds_within(found: &Value, [low, high]: [f64; 2]) {
    near(&found["low"], low, (high - low) / 10.0 + 1e-3);
    near(&found["high"], high, (high - low) / 10.0 + 1e-3);
}

/// The sentences, whose figures are the report's.
fn what_the_gain_is_a_share_of(run: &Experiment) {
    let summary: Vec<&str> =
        run.report["summary"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let number =
        |policy: &str, name: &str, part: &str| run.result(policy)[name][part].as_f64().unwrap();
    let raised: Vec<&str> =
        VARIANTS.into_iter().filter(|it| number(it, "reward_gain", "low") > 0.0).collect();
    assert!(!raised.is_empty(), "nothing was gained, so that nothing is a share of it");
    let said = format!(
        "{} of 2 objectives raise the reward over SFT beyond their 95 % interval.",
        raised.len()
    );
    assert!(summary.contains(&said.as_str()), "{summary:?}");
    let names = |policy: &str| if policy == "exo-rw" { "EXO-rw" } else { "DPO-rw" };
    for policy in &raised {
        let share = share_of_optimum(run, policy);
        let prompts: Vec<usize> = (0..24).collect();
        near(&run.result(policy)["share_of_optimum"]["mean"], share(&prompts), 1e-6);
        bounds_within(&run.result(policy)["share_of_optimum"], resampled(24, share));
        let [mean, low, high] =
            ["mean", "low", "high"].map(|it| 100.0 * number(policy, "share_of_optimum", it));
        let said = format!(
            "{} ends with {mean:.0} % [{low:.0}, {high:.0}] of the gain that the exact optimum makes at its KL.",
            names(policy),
        );
        assert!(summary.contains(&said.as_str()), "{said}: {summary:?}");
    }
    let gain = |policy: &str| number(policy, "reward_gain", "mean");
    let best = if gain("exo-rw") > gain("dpo-rw") { "exo-rw" } else { "dpo-rw" };
    assert_eq!(
        run.report["title"],
        format!("{} earns {:.2} log-odds more than SFT", names(best), gain(best))
    );
    let comparison = &run.report["comparisons"][0];
    let said = format!(
        "a difference of {} in reward, averaged over KLs up to {:.2} nats",
        written(&comparison["mean_gain"]),
        comparison["common_kl"].as_f64().unwrap()
    );
    assert!(summary[0].contains(&said), "{said}: {summary:?}");
}

/// What a policy gains over some prompts, as a share of what the tilted samples of π_sft gain at its KL.
fn share_of_optimum(run: &Experiment, policy: &str) -> impl Fn(&[usize]) -> f64 + use<> {
    let rewards = run.mean_rewards("run/", policy, LAST);
    let (reference, kls) =
        (run.mean_rewards("run/", "sft", 0), run.mean_token_kls("run/", policy, LAST));
    let candidates = run.candidates().remove(0);
    let tilted_at = |beta: f64| -> (Vec<f64>, Vec<f64>) {
        candidates.iter().map(|it| tilted(it, beta)).map(|it| (it.1, it.0)).unzip()
    };
    let curve: Vec<_> = (0..=32).map(|step| tilted_at(20.0 * 0.75f64.powi(step))).collect();
    let base: Vec<f64> = candidates.iter().map(|it| mean(it)).collect();
    move |prompts| {
        let over = |values: &[f64]| mean(&prompts.iter().map(|&it| values[it]).collect::<Vec<_>>());
        let mut points = vec![(0.0, over(&base))];
        points.extend(curve.iter().map(|(kls, rewards)| (over(kls), over(rewards))));
        (over(&rewards) - over(&reference)) / (interpolated(&points, over(&kls)) - over(&base))
    }
}

/// Curves, distributions and samples: what the stages have written.
fn what_is_shown(run: &Experiment) {
    let curves = run.report["curves"].as_array().unwrap();
    let expected = [
        ("sft", "sft", "loss"),
        ("reward model", "reward", "loss"),
        ("reward model", "reward", "accuracy"),
    ];
    let figures = [
        "loss",
        "accuracy",
        "reward_margin",
        "logps/chosen",
        "logps/rejected",
        "rewards/chosen",
        "rewards/rejected",
    ];
    let of = |name: &'static str| figures.map(|figure| (name, name, figure));
    let expected = [&expected[..], &of("dpo-rw"), &of("exo-rw")].concat();
    assert_eq!(curves.len(), expected.len());
    for training in run.report["trainings"].as_array().unwrap() {
        let folder = match training["name"].as_str().unwrap() {
            "reward model" => "reward",
            name => name,
        };
        let lines = metrics(&run.place.path("run").join(folder));
        let column =
            |name: &str| lines.iter().map(|it| it[name].as_f64().unwrap()).collect::<Vec<_>>();
        assert_eq!(training["steps"], json!(lines.len()));
        close(&training["clipped"], column("clipped").iter().sum::<f64>() / lines.len() as f64);
        assert!(training["tokens_per_second"].as_f64().unwrap() > 0.0);
        for (name, ends) in training["figures"].as_object().unwrap() {
            let column = column(name);
            assert_eq!(*ends, json!([column[0], column[column.len() - 1]]), "{name}");
        }
    }
    assert_eq!(run.report["trainings"].as_array().unwrap().len(), 4);
    for (curve, (name, folder, metric)) in curves.iter().zip(expected) {
        assert_eq!((&curve["name"], &curve["metric"]), (&json!(name), &json!(metric)));
        let lines = metrics(&run.place.path("run").join(folder));
        let column = |name: &str| -> Vec<f64> {
            lines.iter().map(|it| it[name].as_f64().unwrap()).collect()
        };
        assert_eq!(floats(&curve["values"]), column(metric));
        assert_eq!(floats(&curve["steps"]), column("step"));
    }
    let distributions = run.report["distributions"].as_array().unwrap();
    let policies = [("sft", 0), ("dpo-rw", LAST), ("exo-rw", LAST)];
    for (found, (policy, step)) in distributions.iter().zip(policies) {
        assert_eq!(found["policy"], policy);
        assert_eq!(floats(&found["rewards"]), run.drawn("run/", policy, step).concat());
    }
    let ratios = VARIANTS.map(|it| run.log_ratios("run/", it, LAST));
    let samples = run.report["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 24);
    for (prompt, sample) in samples.iter().enumerate() {
        let completions = sample["completions"].as_array().unwrap();
        let order = ["chosen", "sft", "dpo-rw", "exo-rw"];
        let files = [
            "run/chosen/groups.jsonl".to_owned(),
            "run/evaluations/sft/step-0.jsonl".to_owned(),
            format!("run/evaluations/dpo-rw/step-{LAST}.jsonl"),
            format!("run/evaluations/exo-rw/step-{LAST}.jsonl"),
        ];
        for (at, (found, (policy, file))) in
            completions.iter().zip(order.iter().zip(&files)).enumerate()
        {
            let group = &run.lines(file)[prompt];
            assert_eq!(found["policy"], *policy);
            assert_eq!(sample["prompt"], group["prompt"]);
            assert_eq!(found["text"], group["completions"][0]);
            assert_eq!(found["reward"], group["rewards"][0]);
            match at {
                0 | 1 => assert!(found["kl"].is_null()),
                _ => near(&found["kl"], ratios[at - 2][prompt][0], OF_LOG_PROBS),
            }
        }
        assert_eq!(completions.len(), 4);
    }
}

/// The KL of a row that is shown; Best-of-N has its own from its rewards alone.
fn by_token(row: &Value) -> &Value {
    if row["kl_rao_blackwell"].is_null() { &row["kl"] } else { &row["kl_rao_blackwell"] }
}

fn written(interval: &Value) -> String {
    let [mean, low, high] = ["mean", "low", "high"].map(|it| interval[it].as_f64().unwrap());
    format!("{mean:.3} [{low:.3}, {high:.3}]")
}

/// The table in the terminal has the figures of the report in its columns.
fn printed_table(run: &Experiment) {
    let rows: Vec<String> = (run.printed.lines())
        .map(|it| it.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert!(
        rows.contains(
            &"policy reward (log-odds) gain over SFT KL (nats) samples training".to_owned()
        ),
        "{rows:?}"
    );
    let cost = |name: &str| -> f64 {
        let stages = run.report["stages"].as_array().unwrap().iter();
        stages.filter(|it| it["name"] == name).map(|it| it["seconds"].as_f64().unwrap()).sum()
    };
    let names = [
        ("sft", "SFT", Some("fine-tuning")),
        ("chosen", "Chosen answers", None),
        ("best-of-4", "Best-of-4", None),
        ("dpo-rw", "DPO-rw", Some("DPO-rw")),
        ("exo-rw", "EXO-rw", Some("EXO-rw")),
    ];
    for (policy, name, stage) in names {
        let row = run.result(policy);
        let mut cells = vec![name.to_owned(), written(&row["reward"])];
        for optional in [&row["reward_gain"], by_token(row)] {
            cells.extend((!optional.is_null()).then(|| written(optional)));
        }
        cells.push(row["num_samples"].to_string());
        let seconds = stage.map_or(0.0, cost);
        assert_eq!(row["seconds"].as_f64().unwrap(), seconds);
        cells.extend(stage.map(|_| format!("{seconds:.1} s")));
        assert!(rows.contains(&cells.join(" ")), "{} is no row of {rows:#?}", cells.join(" "));
    }
    let point = &run.report["optimum"]["point"];
    let row = format!(
        "π* at β = 0.1 {} {} {:.0} effective of 16 a prompt",
        written(&point["reward"]),
        written(&point["kl"]),
        point["effective_sample_size"].as_f64().unwrap()
    );
    assert!(rows.contains(&row), "{row} is no row of {rows:#?}");
    for sentence in run.report["summary"].as_array().unwrap() {
        assert!(run.printed.contains(sentence.as_str().unwrap()));
    }
}

/// The heading and the cells with numbers of every row of a page's tables.
fn page_rows(html: &str) -> Vec<Vec<String>> {
    let visible = |html: &str| -> String {
        let texts = html.split('<').map(|it| it.split_once('>').map_or(it, |(_, text)| text));
        texts.collect::<String>().trim().to_owned()
    };
    let rows = html.split("<tr>").skip(1).map(|it| it.split("</tr>").next().unwrap());
    rows.map(|row| {
        let heading = row.split("</th>").next().unwrap();
        let cells = row.split(r#"<td class="n">"#).skip(1);
        let cells = cells.map(|it| visible(it.split("</td>").next().unwrap()));
        std::iter::once(visible(heading)).chain(cells).collect()
    })
    .collect()
}

/// The page, made again by `exalign report`, has the figures of the report in its columns.
fn page(run: &Experiment) {
    run.place.succeeds("report run --out page.html");
    let html = std::fs::read_to_string(run.place.path("page.html")).unwrap();
    let rows = page_rows(&html);
    let number = |it: &Value, decimals: usize| {
        let text = format!("{:.decimals$}", it.as_f64().unwrap().abs());
        let is_zero = text.chars().all(|it| it == '0' || it == '.');
        if it.as_f64().unwrap() < 0.0 && !is_zero { format!("−{text}") } else { text }
    };
    let signed = |it: &Value| {
        let sign = if it.as_f64().unwrap() > 0.0 { "+" } else { "" };
        format!("{sign}{}", number(it, 3))
    };
    let bounds = |it: &Value| format!("[{}, {}]", number(&it["low"], 3), number(&it["high"], 3));
    let plain = |it: &Value| format!("{} {}", number(&it["mean"], 3), bounds(it));
    let with_sign = |it: &Value| format!("{} {}", signed(&it["mean"]), bounds(it));
    let optional = |it: &Value, write: &dyn Fn(&Value) -> String| {
        if it.is_null() { String::new() } else { write(it) }
    };
    let mut expected = Vec::new();
    let names = [
        ("sft", "SFT"),
        ("chosen", "Chosen answers"),
        ("best-of-4", "Best-of-4"),
        ("dpo-rw", "DPO-rw"),
        ("exo-rw", "EXO-rw"),
    ];
    for (policy, name) in names {
        let row = run.result(policy);
        let seconds = row["seconds"].as_f64().unwrap();
        let time = if seconds > 0.0 { format!("{seconds:.1} s") } else { String::new() };
        expected.push(vec![
            name.to_owned(),
            plain(&row["reward"]),
            optional(&row["reward_gain"], &with_sign),
            optional(by_token(row), &plain),
            row["num_samples"].to_string(),
            time,
        ]);
        if !row["kl_low_variance"].is_null() {
            let estimators =
                ["kl", "kl_low_variance", "kl_rao_blackwell"].map(|it| plain(&row[it]));
            expected.push([vec![name.to_owned()], estimators.to_vec()].concat());
        }
    }
    for row in run.report["win_rates"].as_array().unwrap() {
        let name = if row["policy"] == "exo-rw" { "EXO-rw" } else { "DPO-rw" };
        let prompts = &row["prompts_to_tell_apart"];
        expected.push(vec![
            name.to_owned(),
            plain(&row["rate"]),
            format!("{} · {} · {}", row["wins"], row["ties"], row["losses"]),
            if prompts.is_null() { "–".to_owned() } else { prompts.to_string() },
        ]);
    }
    let comparison = &run.report["comparisons"][0];
    expected.push(vec![
        "EXO-rw − DPO-rw".to_owned(),
        with_sign(&comparison["mean_gain"]),
        with_sign(&comparison["at_common_kl"]),
        number(&comparison["common_kl"], 2),
        with_sign(&comparison["at_equal_steps"]["reward"]),
        with_sign(&comparison["at_equal_steps"]["kl"]),
    ]);
    for (series, name) in [(0, "DPO-rw"), (1, "EXO-rw")] {
        expected
            .push(vec![name.to_owned(), plain(&run.report["frontier"][series]["area"]["area"])]);
    }
    for row in expected {
        assert!(rows.contains(&row), "{row:?} is no row of {rows:#?}");
    }
}
