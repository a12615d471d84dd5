//! The results of a run: its table in the terminal and its report.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use exalign::Result;
use exalign::config::AlignSettings;
use exalign::data::{Completion, Group, Passage};
use exalign::evaluation::{
    Drawn, OptimumPoint, best_of_n, frontier_area, frontier_reach, optimum, paired_gain,
};
use exalign::report::{
    Area, Distribution, FrontierPoint, Optimum, Repetition, Report, ResultRow, SampleCompletion,
    SamplePrompt, Series, policy_name,
};
use exalign::secrets::redact_json;
use exalign::statistics::{Interval, bootstrap, student};

use super::curves::curves;
use super::measured::{Lineage, Measured, Outcome};
use super::run::{Run, stage_settings};
use super::{sentences, wins};
use crate::grammar::Grammar;
use crate::output::print_text;
use crate::record::command_line;

/// Writes the report, prints its table and says where it is. What a judge that is gone leaves
/// unasked does not take the rest with it: the report lacks its win rates then, and says so.
pub fn report(run: &Run, outcome: Outcome) -> Result<()> {
    let rule = Rule::new(run)?;
    let judged = wins::win_rates(run, &outcome, &rule);
    let mut report = build(run, &outcome, &rule)?;
    let unjudged = match judged {
        Ok(win_rates) => {
            report.win_rates = win_rates;
            None
        }
        Err(error) => {
            report.summary.push(format!(
                "There are no win rates, since the judge failed ({error}); the same command asks what is left."
            ));
            Some(error)
        }
    };
    let out = &run.graph.out;
    report.write(out)?;
    report.write_frontier(&out.join("frontier.svg"))?;
    print_text(&format!("{}\n{}", table(&report), report.summary.join("\n")))?;
    print_text(&format!("\nreport: {}", out.join("report.html").display()))?;
    unjudged.map_or(Ok(()), Err)
}

/// Everything but the win rates.
fn build(run: &Run, outcome: &Outcome, rule: &Rule) -> Result<Report> {
    let seed = run.config.seed();
    let results = results(run, outcome, rule, seed);
    let comparisons = sentences::comparisons(outcome);
    let optimum = optimum_of(run, outcome)?;
    let common_kl = common_kl(outcome);
    let mut frontier: Vec<Series> =
        (0..outcome.variants.len()).map(|variant| series(outcome, variant, common_kl)).collect();
    frontier.extend(best_of_series(outcome));
    let shown = outcome.comparison.shown_prompts;
    Ok(Report {
        title: sentences::title(&results, run.task.reward_unit()),
        experiment: run.task.name().to_owned(),
        preset: run.preset.name().to_owned(),
        summary: sentences::summary(outcome, &results, &comparisons, &optimum),
        reward_unit: run.task.reward_unit().to_owned(),
        frontier,
        comparisons,
        win_rates: Vec::new(),
        optimum: Some(optimum),
        curves: curves(run, outcome),
        distributions: distributions(outcome),
        samples: outcome.lineages.first().map_or(Vec::new(), |it| samples(outcome, it, shown)),
        stages: run.graph.costs.clone(),
        configuration: redact_json(run.config.to_json()),
        provenance: provenance(run),
        results,
    })
}

/// The rule that good answers follow, where the run's texts have one.
pub struct Rule<'a> {
    run: &'a Run,
    grammar: Option<Grammar>,
}

impl<'a> Rule<'a> {
    pub fn new(run: &'a Run) -> Result<Self> {
        // It is one of the embedded corpus; about published texts it says nothing.
        let embedded = run.config.section::<super::data::Sizes>("data")?.path.is_empty();
        let grammar = embedded.then(|| Grammar::parse(run.task.grammar())).transpose()?;
        Ok(Self { run, grammar })
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        let rule = |grammar| self.run.task.rule(grammar, "", "");
        self.grammar.as_ref().and_then(rule).is_some()
    }

    /// The score of one completion of a group.
    pub fn score(&self, group: &Group, completion: &Completion) -> Option<f64> {
        let answer = completion.passage.text.as_deref()?;
        self.run.task.rule(self.grammar.as_ref()?, &prompt_text(&group.prompt), answer)
    }

    /// Mean score of each group's completions.
    fn means(&self, groups: &[Group]) -> Option<Vec<f64>> {
        groups
            .iter()
            .map(|group| {
                let scores: Option<Vec<f64>> =
                    group.completions.iter().map(|it| self.score(group, it)).collect();
                scores.filter(|it| !it.is_empty()).map(|it| mean(&it))
            })
            .collect()
    }
}

/// A prompt as people read it, of a conversation the words alone.
pub fn prompt_text(prompt: &Passage) -> String {
    match (&prompt.text, prompt.messages()) {
        (None, Some(messages)) => {
            let content = messages.iter().filter_map(|it| it["content"].as_str());
            content.collect::<Vec<_>>().join("\n")
        }
        (text, _) => text.clone().unwrap_or_default(),
    }
}

/// A prompt for the report: of a conversation, who says what.
fn shown_prompt(prompt: &Passage) -> String {
    prompt.words().unwrap_or_default()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// One repetition's interval over prompts, or Student's over the means of several.
fn over_repetitions(intervals: &[Interval]) -> Option<Interval> {
    match intervals {
        [] => None,
        [only] => Some(*only),
        several => Some(student(&several.iter().map(|it| it.mean).collect::<Vec<_>>())),
    }
}

/// The reference, the answers people gave, Best-of-N, and each variant at the end of its training.
fn results(run: &Run, outcome: &Outcome, rule: &Rule, seed: u64) -> Vec<ResultRow> {
    let lineages = &outcome.lineages;
    let pooled = |value: &dyn Fn(&Lineage) -> Option<Interval>| {
        over_repetitions(&lineages.iter().filter_map(value).collect::<Vec<_>>())
    };
    let policy = |name: &str, stage: &str, of: &dyn Fn(&Lineage) -> Option<&Measured>| {
        let evaluation = |it: &Lineage| of(it).map(|it| it.evaluated.evaluation.clone());
        let trained = name != "sft";
        Some(ResultRow {
            policy: name.to_owned(),
            reward: pooled(&|it| Some(evaluation(it)?.reward))?,
            kl: pooled(&|it| Some(evaluation(it)?.kl)),
            kl_low_variance: pooled(&|it| Some(evaluation(it)?.kl_low_variance)),
            reward_gain: pooled(&|it| Some(gain(of(it)?, &it.reference, seed))).filter(|_| trained),
            rule: pooled(&|it| Some(bootstrap(&rule.means(&of(it)?.evaluated.groups)?, seed))),
            num_samples: lineages.iter().filter_map(|it| Some(evaluation(it)?.num_samples)).sum(),
            seconds: seconds(run, stage),
        })
    };
    let mut rows: Vec<ResultRow> =
        policy("sft", "fine-tuning", &|it| Some(&it.reference)).into_iter().collect();
    let chosen = |it: &Lineage| -> Option<Vec<f64>> {
        Some(
            it.chosen
                .as_ref()?
                .iter()
                .filter_map(|it| it.rewards.as_ref()?.first().copied())
                .collect(),
        )
    };
    if let Some(reward) = pooled(&|it| Some(bootstrap(&chosen(it)?, seed))) {
        rows.push(ResultRow {
            policy: "chosen".to_owned(),
            reward,
            kl: None,
            kl_low_variance: None,
            reward_gain: None,
            rule: pooled(&|it| Some(bootstrap(&rule.means(it.chosen.as_ref()?)?, seed))),
            num_samples: lineages.iter().filter_map(|it| Some(chosen(it)?.len())).sum(),
            seconds: 0.0,
        });
    }
    if let Some(point) = usable_n(outcome).last().and_then(|&largest| best_of(outcome, largest)) {
        rows.push(ResultRow {
            policy: format!("best-of-{}", point.step),
            reward: point.reward,
            kl: Some(point.kl),
            kl_low_variance: None,
            reward_gain: None,
            rule: None,
            num_samples: lineages.iter().flat_map(|it| &it.candidates).map(Vec::len).sum(),
            seconds: 0.0,
        });
    }
    rows.extend(outcome.variants.iter().enumerate().filter_map(|(index, variant)| {
        policy(&variant.folder(), &variant.name(), &|it| it.last(index))
    }));
    rows
}

/// What `ours` earns over `theirs`, paired by prompt.
fn gain(ours: &Measured, theirs: &Measured, seed: u64) -> Interval {
    let drawn = |it: &Measured| -> Vec<Vec<Drawn>> { it.evaluated.drawn.clone() };
    paired_gain(&drawn(ours), &drawn(theirs), seed)
}

/// What the training of a policy took, in all repetitions.
fn seconds(run: &Run, stage: &str) -> f64 {
    let of_stage = |name: &str| name == stage || name.starts_with(&format!("{stage}, seed"));
    run.graph.costs.iter().filter(|cost| of_stage(&cost.name)).map(|cost| cost.seconds).sum()
}

/// Best-of-`n`, whose N stands where others have their step.
fn best_of(outcome: &Outcome, n: usize) -> Option<FrontierPoint> {
    let points = outcome.lineages.iter().map(|it| best_of_n(&it.candidates, n, it.seed));
    let (rewards, kls): (Vec<_>, Vec<_>) = points.map(|it| (it.reward, it.kl)).unzip();
    let (reward, kl) = (over_repetitions(&rewards)?, over_repetitions(&kls)?);
    Some(FrontierPoint { step: n, reward, kl })
}

/// The N that the samples allow: an estimate wants several times N of them.
fn usable_n(outcome: &Outcome) -> Vec<usize> {
    let candidates = outcome.lineages.iter().flat_map(|it| &it.candidates);
    let samples = candidates.map(Vec::len).min().unwrap_or(0);
    let mut usable: Vec<usize> = outcome.comparison.best_of.clone();
    usable.retain(|&n| n > 0 && n <= samples / 4);
    usable.sort_unstable();
    usable
}

/// The KL that all variants of all repetitions reach.
fn common_kl(outcome: &Outcome) -> f64 {
    let reaches = outcome.lineages.iter().flat_map(|it| {
        let reference = &it.reference.evaluated.drawn;
        (0..it.variants.len()).map(|variant| frontier_reach(&it.frontier(variant), reference))
    });
    reaches.reduce(f64::min).unwrap_or(0.0)
}

/// The area under a variant's frontier up to `kl`; none where not all leave the reference.
fn area(outcome: &Outcome, variant: usize, kl: f64) -> Option<Area> {
    let of_lineage = |it: &Lineage| {
        frontier_area(&it.frontier(variant), &it.reference.evaluated.drawn, kl, it.seed)
    };
    let areas: Vec<Interval> = outcome.lineages.iter().map(of_lineage).collect();
    over_repetitions(&areas).filter(|_| kl > 0.0).map(|area| Area { up_to_kl: kl, area })
}

fn series(outcome: &Outcome, variant: usize, common_kl: f64) -> Series {
    // Repetitions take the same steps; a step counts where all have it.
    let mut steps: BTreeMap<usize, Vec<(Interval, Interval)>> = BTreeMap::new();
    for it in outcome.lineages.iter().flat_map(|it| &it.variants[variant]) {
        let evaluation = &it.evaluated.evaluation;
        steps.entry(it.step).or_default().push((evaluation.reward, evaluation.kl));
    }
    let points: Vec<FrontierPoint> = steps
        .into_iter()
        .filter(|(_, points)| points.len() == outcome.lineages.len())
        .filter_map(|(step, points)| {
            let (rewards, kls): (Vec<_>, Vec<_>) = points.into_iter().unzip();
            Some(FrontierPoint {
                step,
                reward: over_repetitions(&rewards)?,
                kl: over_repetitions(&kls)?,
            })
        })
        .collect();
    let repetitions = repetitions(outcome, variant, &points);
    let area = area(outcome, variant, common_kl);
    Series { objective: outcome.variants[variant].folder(), points, repetitions, area }
}

/// Each repetition's own way along `points`, where there are several.
fn repetitions(outcome: &Outcome, variant: usize, points: &[FrontierPoint]) -> Vec<Repetition> {
    let way = |it: &Lineage| {
        let steps = points.iter().filter_map(|point| {
            let found = it.variants[variant].iter().find(|it| it.step == point.step)?;
            let evaluation = &found.evaluated.evaluation;
            Some((evaluation.kl.mean, evaluation.reward.mean))
        });
        Repetition { seed: it.seed, points: steps.collect() }
    };
    match outcome.lineages.as_slice() {
        [] | [_] => Vec::new(),
        several => several.iter().map(way).collect(),
    }
}

/// Best-of-N as a frontier over N.
fn best_of_series(outcome: &Outcome) -> Option<Series> {
    let points: Vec<FrontierPoint> =
        usable_n(outcome).into_iter().filter_map(|n| best_of(outcome, n)).collect();
    (!points.is_empty()).then(|| Series {
        objective: "best-of-n".to_owned(),
        points,
        ..Series::default()
    })
}

/// The exact optimum at the first variant's β and along all β.
fn optimum_of(run: &Run, outcome: &Outcome) -> Result<Optimum> {
    let AlignSettings { objective, .. } = stage_settings(&run.config, "align")?;
    let beta = outcome
        .variants
        .first()
        .map_or(objective.beta_policy * objective.beta_reward, |variant| variant.beta());
    // From the loosest tie to the reference to one at which the estimate rests on few samples.
    let curve: Vec<OptimumPoint> = (0..=32)
        .map(|it| optimum_at(outcome, 20.0 * 0.75f64.powi(it)))
        .take_while(|it| it.effective_sample_size >= sentences::FEW_SAMPLES)
        .collect();
    Ok(Optimum { point: optimum_at(outcome, beta), curve })
}

/// The exact optimum at a β, over all repetitions.
fn optimum_at(outcome: &Outcome, beta: f64) -> OptimumPoint {
    let points: Vec<OptimumPoint> =
        outcome.lineages.iter().map(|it| optimum(&it.candidates, beta, it.seed)).collect();
    let all = |value: fn(&OptimumPoint) -> f64| points.iter().map(value).collect::<Vec<_>>();
    match points.as_slice() {
        [only] => only.clone(),
        several => OptimumPoint {
            beta,
            reward: student(&all(|it| it.reward.mean)),
            kl: student(&all(|it| it.kl.mean)),
            effective_sample_size: mean(&all(|it| it.effective_sample_size)),
            samples_per_prompt: several.iter().map(|it| it.samples_per_prompt).min().unwrap_or(0),
        },
    }
}

fn table(report: &Report) -> Table {
    let unit = match report.reward_unit.as_str() {
        "" => "reward".to_owned(),
        unit => format!("reward ({unit})"),
    };
    let ruled = report.results.iter().any(|it| it.rule.is_some());
    let mut header = vec!["policy", unit.as_str(), "gain over SFT", "KL (nats)"];
    if ruled {
        header.push("by the rule");
    }
    header.extend(["samples", "training"]);
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    let written = |it: Option<Interval>| it.map_or(String::new(), |it| it.to_string());
    for row in &report.results {
        let mut cells = vec![
            policy_name(&row.policy),
            row.reward.to_string(),
            written(row.reward_gain),
            written(row.kl),
        ];
        if ruled {
            cells.push(written(row.rule));
        }
        cells.push(row.num_samples.to_string());
        cells.push(if row.seconds > 0.0 { format!("{:.1} s", row.seconds) } else { String::new() });
        table.add_row(cells);
    }
    if let Some(optimum) = &report.optimum {
        let point = &optimum.point;
        let mut cells = vec![
            // As f32, a product of settings shows no rounding.
            format!("π* at β = {}", point.beta as f32),
            point.reward.to_string(),
            String::new(),
            point.kl.to_string(),
        ];
        if ruled {
            cells.push(String::new());
        }
        cells.push(format!(
            "{:.0} effective of {} a prompt",
            point.effective_sample_size, point.samples_per_prompt
        ));
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn distributions(outcome: &Outcome) -> Vec<Distribution> {
    let rewards = |of: &dyn Fn(&Lineage) -> Option<&Measured>| -> Vec<f64> {
        let drawn = outcome.lineages.iter().filter_map(of).flat_map(|it| &it.evaluated.drawn);
        drawn.flatten().map(|it| it.reward).collect()
    };
    let mut all = vec![Distribution {
        policy: "sft".to_owned(),
        rewards: rewards(&|it| Some(&it.reference)),
    }];
    all.extend(outcome.variants.iter().enumerate().map(|(index, variant)| Distribution {
        policy: variant.folder(),
        rewards: rewards(&|it| it.last(index)),
    }));
    all
}

/// The first completion of every policy for the first prompts, beside the answers people gave.
fn samples(outcome: &Outcome, lineage: &Lineage, count: usize) -> Vec<SamplePrompt> {
    let finals: Vec<(String, &Measured)> = std::iter::once(("sft".to_owned(), &lineage.reference))
        .chain(
            outcome
                .variants
                .iter()
                .enumerate()
                .filter_map(|(index, it)| Some((it.folder(), lineage.last(index)?))),
        )
        .collect();
    let num_prompts = finals.iter().map(|(_, it)| it.evaluated.groups.len()).min().unwrap_or(0);
    (0..num_prompts.min(count))
        .map(|prompt| {
            let chosen = lineage.chosen.as_ref().and_then(|groups| {
                let group = groups.get(prompt)?;
                Some(SampleCompletion {
                    policy: "chosen".to_owned(),
                    text: group.completions.first()?.passage.text.clone()?,
                    reward: *group.rewards.as_ref()?.first()?,
                    kl: None,
                })
            });
            let drawn = finals.iter().filter_map(|(policy, it)| {
                let drawn = it.evaluated.drawn[prompt].first()?;
                let passage = &it.evaluated.groups[prompt].completions.first()?.passage;
                Some(SampleCompletion {
                    policy: policy.clone(),
                    text: passage.text.clone().unwrap_or_default(),
                    reward: drawn.reward,
                    kl: (it.step > 0).then_some(drawn.log_ratio),
                })
            });
            SamplePrompt {
                prompt: shown_prompt(&lineage.reference.evaluated.groups[prompt].prompt),
                completions: chosen.into_iter().chain(drawn).collect(),
            }
        })
        .collect()
}

fn provenance(run: &Run) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    vec![
        pair("exalign", env!("CARGO_PKG_VERSION").to_owned()),
        pair("burn", "0.22.1".to_owned()),
        pair("device", run.graph.context.device_name.clone()),
        pair("seed", run.config.seed().to_string()),
        pair("command", command_line().join(" ")),
        pair(
            "method",
            "Ji et al. 2024, Towards Efficient Exact Optimization of Language Model Alignment; Rafailov et al. 2023 \
             (DPO)"
                .to_owned(),
        ),
    ]
}
