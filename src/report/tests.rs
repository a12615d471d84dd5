//! Tests of the page, on a made-up report.

use serde_json::json;

use super::*;
use crate::statistics::Interval;

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
        rule: Some(around(reward.mean / 2.0, 0.1)),
        reward_gain: (policy != "sft").then(|| around(reward.mean + 0.4, 0.13)),
        num_samples: 512,
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
    Report {
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
            name: format!("{}, seed {seed}", text::policy_name(policy)),
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

#[test]
fn a_report_reads_back_as_written_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let report = example();
    report.write(folder.path()).unwrap();
    assert_eq!(Report::read(folder.path()).unwrap(), report);
    assert_eq!(Report::read(&folder.path().join(JSON_NAME)).unwrap(), report);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    // To look at the page after changing it: EXALIGN_REPORT_OUT=FOLDER cargo test --lib report
    if let Ok(kept) = std::env::var("EXALIGN_REPORT_OUT") {
        let kept = Path::new(&kept);
        report.write(kept).unwrap();
        report.write_frontier(&kept.join("frontier.svg")).unwrap();
        let mut other = report.clone();
        other.frontier.iter_mut().for_each(|it| it.points.truncate(4));
        other.optimum = None;
        other.configuration["seed"] = json!(1);
        let runs = [("first", report), ("second", other)]
            .map(|(name, report)| NamedReport { name: name.to_owned(), report });
        write_page(&kept.join("compared.html"), &runs).unwrap();
        write_page(
            &kept.join("sweep.html"),
            &[NamedReport { name: "sweep".to_owned(), report: sweep() }],
        )
        .unwrap();
    }
}

#[test]
fn every_result_stands_on_the_page_without_javascript() {
    let report = example();
    let html = visible(&page(report.clone()));
    for row in &report.results {
        for number in [row.reward, row.kl.unwrap(), row.rule.unwrap()]
            .iter()
            .flat_map(|it| [it.mean, it.low, it.high])
        {
            assert!(html.contains(&text::number(number, 3)), "{number}");
        }
    }
    for known in [
        "EXO-pref",
        "Best-of-16",
        "+3.977",
        "−1.812",
        "align.objective.beta_policy",
        "fine-tuning",
        "π* at β = 1",
        "log-odds",
        "EXO-rw − DPO-rw",
        "+0.153",
        "+0.191",
        "58 won, 9 tied, 33 lost",
        "4 by order",
        "The KL by two estimators",
        "119",
    ] {
        assert!(html.contains(known), "{known}");
    }
    for series in &report.frontier {
        for point in &series.points {
            assert!(html.contains(&text::interval(&point.reward)));
        }
    }
    assert!(!html.contains("NaN") && !html.contains("inf,"));
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    let html = page(example()).replace("http://www.w3.org/2000/svg", "");
    for request in ["http:", "https:", "src=", "url(", "@import", "//cdn"] {
        assert!(!html.contains(request), "{request}");
    }
}

#[test]
fn text_that_looks_like_html_stays_text() {
    let trap = "</script><b onmouseover=\"alert(1)\">{{json}}'&<!--";
    let mut report = example();
    report.title = trap.to_owned();
    report.summary[0] = trap.to_owned();
    report.reward_unit = trap.to_owned();
    report.results[1].policy = trap.to_owned();
    report.frontier[0].objective = trap.to_owned();
    report.curves[0].name = trap.to_owned();
    report.curves[0].metric = trap.to_owned();
    report.distributions[0].policy = trap.to_owned();
    report.samples[0].prompt = trap.to_owned();
    report.samples[0].completions[0].text = trap.to_owned();
    report.stages[0].name = trap.to_owned();
    report.stages[0].key = trap.to_owned();
    report.comparisons[0].ours = trap.to_owned();
    report.win_rates[0].policy = trap.to_owned();
    report.win_rates[0].opponent = trap.to_owned();
    report.win_rates[0].judge = trap.to_owned();
    report.configuration = json!({ trap: trap });
    report.provenance[0] = (trap.to_owned(), trap.to_owned());
    let run = NamedReport { name: trap.to_owned(), report: report.clone() };
    for html in [page(report.clone()), render(&[run.clone(), run])] {
        assert!(!html.contains("<b onmouseover") && !html.contains("<!--"));
        assert_eq!(html.matches("</script>").count(), 2);
    }
    let html = page(report.clone());
    let (_, data) = html.split_once("id=\"report-json\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    assert_eq!(serde_json::from_str::<Report>(data).unwrap(), report);
    assert!(!frontier_svg(&report).unwrap().contains("<b "));
}

#[test]
fn parts_that_are_missing_have_no_heading() {
    let html = page(Report { title: "Nothing".to_owned(), ..Report::default() });
    assert!(!html.contains("<h2") && !html.contains("<section"));
    assert!(frontier_svg(&Report::default()).is_none());
    let error = Report::default().write_frontier(Path::new("frontier.svg")).unwrap_err();
    assert!(error.to_string().starts_with("frontier.svg: nothing to draw"));

    let mut report = example();
    report.frontier.clear();
    report.optimum = None;
    report.samples.clear();
    report.configuration = json!(null);
    let html = page(report);
    assert!(html.contains("id=\"frontier\""), "SFT still has a place on the picture");
    assert!(!html.contains("id=\"samples\"") && !html.contains("id=\"configuration\""));
    assert!(!html.contains("dashed curve"));
}

#[test]
fn a_number_that_is_none_is_refused_with_its_place_and_drawn_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut report = example();
    report.results[2].reward.high = f64::NAN;
    report.frontier[0].points[3].kl.mean = f64::INFINITY;
    report.curves[0].values[7] = f64::NAN;
    report.distributions[0].rewards[0] = f64::NEG_INFINITY;
    let error = report.write(folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("report: `"), "{error}");
    assert!(error.contains("is not a finite number"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(!visible(&page(report)).contains("NaN"));
}

#[test]
fn compared_runs_share_a_picture_and_show_what_differs() {
    let mut other = example();
    other.configuration["seed"] = json!(7);
    let runs = [("first", example()), ("second", other)]
        .map(|(name, report)| NamedReport { name: name.to_owned(), report });
    let html = visible(&render(&runs));
    assert!(html.contains("first and second, compared"));
    assert!(html.contains("EXO-rw · first") && html.contains("EXO-rw · second"));
    let (_, differences) = html.split_once("id=\"differences\"").unwrap();
    let (differences, _) = differences.split_once("</section>").unwrap();
    assert!(differences.contains(">seed<") && !differences.contains("beta_policy"));
    assert!(html.contains("id=\"samples-2\""));
}

#[test]
fn the_picture_alone_has_its_own_colours() {
    let svg = frontier_svg(&example()).unwrap();
    assert!(svg.contains("#0b4a9e") && !svg.contains("var(--"));
    assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
}

#[test]
fn best_of_n_is_a_broken_line_of_its_own_and_not_a_point_besides() {
    let svg = frontier_svg(&example()).unwrap();
    assert!(svg.contains("Best-of-16: reward") && svg.contains("Best-of-2: reward"));
    assert!(!svg.contains("Best-of-N, step") && svg.contains(r#"stroke-dasharray="3 3""#));
    assert_eq!(svg.matches("Best-of-16: reward").count(), 2, "its mark and the description");
    let html = visible(&page(example()));
    assert!(html.contains("N = 8"));
    assert_eq!(html.matches(">Best-of-N<").count(), 2 + 4, "two pictures, four rows");
}

#[test]
fn repetitions_are_drawn_one_by_one_behind_their_mean() {
    let mut report = example();
    let lines =
        |report: &Report| frontier_svg(report).unwrap().matches(r#"stroke-opacity=".3""#).count();
    assert_eq!(lines(&report), 0);
    report.frontier[0].repetitions = (0..3)
        .map(|seed| Repetition { seed, points: vec![(1.0, 0.5 + seed as f64), (2.0, 1.0)] })
        .collect();
    assert_eq!(lines(&report), 3);
    assert!(visible(&page(report.clone())).contains("thin lines the seeds one by one"));
    report.frontier[0].repetitions[1].points[0].1 = f64::NAN;
    assert_eq!(lines(&report), 2);
}

#[test]
fn a_sweep_has_a_legend_to_choose_from_and_a_picture_for_every_beta() {
    let report = sweep();
    let html = visible(&page(report.clone()));
    let entries = html.matches(r#"class="toggle" data-track="#).count();
    assert_eq!(entries, report.frontier.len() + 1, "every way and SFT");
    for number in 0..entries {
        assert!(html.contains(&format!(r#"<g class="track" data-track="{number}">"#)), "{number}");
    }
    let (_, facets) = html.split_once("panels facets").unwrap();
    let (facets, _) = facets.split_once("<details>").unwrap();
    for beta in ["0.1", "0.2", "0.5", "1", "2"] {
        assert!(facets.contains(&format!("<figcaption>β {beta}</figcaption>")), "{beta}");
    }
    assert!(facets.contains("EXO-rw, K 4</span>") && facets.contains("DPO</span>"));
    // Every β has the eight that share it, SFT and Best-of-N: lines and points.
    assert_eq!(facets.matches(r#"<g class="track""#).count(), 5 * 2 * (8 + 2));
    assert!(!html.contains("EXO-rw, β 0.5, K 4, step 36</text>"), "no labels in a crowd");
}

#[test]
fn of_many_policies_the_best_of_each_objective_stand_side_by_side_at_first() {
    let mut report = sweep();
    let winner = report.results.iter_mut().find(|it| it.policy == "exo-rw-b0.5-k2").unwrap();
    winner.reward.mean = 99.0;
    let html = visible(&page(report));
    let (_, choice) = html.split_once(r#"class="choice""#).unwrap();
    let (choice, _) = choice.split_once("</div>").unwrap();
    let pressed: Vec<&str> = choice
        .split("<button")
        .filter(|it| it.contains(r#"aria-pressed="true""#))
        .filter_map(|it| it.rsplit_once("</svg>")?.1.split_once("</button>"))
        .map(|it| it.0)
        .collect();
    assert_eq!(pressed.len(), 5, "{pressed:?}");
    assert!(pressed.contains(&"SFT") && pressed.contains(&"EXO-rw, β 0.5, K 2"), "{pressed:?}");
}

#[test]
fn repeated_stages_are_one_row_and_every_key_stands_below() {
    let report = sweep();
    let html = visible(&page(report.clone()));
    let (_, costs) = html.split_once(r#"id="costs""#).unwrap();
    let (costs, _) = costs.split_once("</section>").unwrap();
    let (kinds, every) = costs.split_once("<details>").unwrap();
    assert_eq!(kinds.matches("<tr>").count(), 1 + report.stages.len() / 5);
    assert!(kinds.contains("4 computed, 1 found"));
    assert_eq!(every.matches("<tr>").count(), 1 + report.stages.len());
}

#[test]
fn runs_of_different_experiments_are_not_compared_by_height() {
    let mut other = example();
    other.experiment = "summarization".to_owned();
    let pair = |other: Report| {
        let named = |name: &str, report| NamedReport { name: name.to_owned(), report };
        visible(&render(&[named("a", example()), named("b", other)]))
    };
    assert!(pair(other).contains("cannot be compared"));
    let alike = pair(example());
    assert!(!alike.contains("cannot be compared"));
    assert!(alike.contains("Nothing: their settings are the same."));
}

#[test]
fn a_second_judge_has_a_table_of_its_own() {
    let mut report = example();
    let mut other = report.win_rates[0].clone();
    other.judge = "<a person>".to_owned();
    report.win_rates.push(other);
    let html = visible(&page(report));
    assert!(
        html.contains("Judged by the reward model") && html.contains("Judged by &lt;a person&gt;")
    );
}

#[test]
fn a_figure_is_whole_by_itself_and_escapes_its_words() {
    let trap = "<b>&\"";
    let curve = |policy: &str, line| Curve {
        name: trap.to_owned(),
        policy: policy.to_owned(),
        line,
        points: vec![(0.0, 0.1), (1.0, 0.4), (2.0, 0.2)],
    };
    let plot = |content| Plot {
        title: trap.to_owned(),
        x_name: trap.to_owned(),
        y_name: String::new(),
        y_holds: None,
        content,
    };
    let lines = [Line::Area, Line::Solid, Line::Dashed, Line::Marked];
    let cells = Cells {
        policy: "exo-rw".to_owned(),
        rows: vec![trap.to_owned(), "b".to_owned()],
        columns: vec!["c".to_owned()],
        shares: vec![vec![0.75], vec![0.25]],
    };
    let figure = Figure {
        description: trap.to_owned(),
        rows: vec![
            vec![plot(Content::Curves(lines.map(|line| curve("optimum", line)).to_vec()))],
            vec![plot(Content::Cells(cells)), plot(Content::Curves(Vec::new()))],
        ],
    };
    let svg = figure.to_svg();
    assert!(!svg.contains("<b>") && !svg.contains("NaN") && !svg.contains("var(--"));
    assert!(svg.contains(">75<") && svg.contains(">25<"));
    assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    let part = Part { id: "part".to_owned(), title: trap.to_owned(), figure, ..Part::default() };
    let article = Article { title: trap.to_owned(), parts: vec![part], ..Article::default() };
    article.write(&path, &json!({ "text": "</script>" })).unwrap();
    let html = std::fs::read_to_string(&path).unwrap();
    assert!(!html.contains("<b>") && html.matches("</script>").count() == 2);
}
