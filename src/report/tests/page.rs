//! Claims about the whole page.

use serde_json::json;

use super::*;

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
        "The KL by three estimators",
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
    report.policies[0].label = trap.to_owned();
    report.policies[7].label = trap.to_owned();
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
fn a_report_without_labels_shows_its_policies_by_their_names() {
    let mut json = serde_json::to_value(example()).unwrap();
    json.as_object_mut().unwrap().remove("policies").unwrap();
    let report: Report = serde_json::from_value(json).unwrap();
    assert!(report.policies.is_empty());
    let html = visible(&page(report.clone()));
    assert!(html.contains("exo-rw − dpo-rw") && html.contains(">exo-pref</th>"));
    assert!(frontier_svg(&report).unwrap().contains("dpo-rw, step 36: reward"));
}

#[test]
fn labels_are_flat_in_json() {
    let json = serde_json::to_value(labels(&["sft", "exo-rw-b0.5-k4", "dpo"])).unwrap();
    assert_eq!(json[0], json!({ "name": "sft", "label": "SFT", "kind": "reference" }));
    assert_eq!(
        json[1],
        json!({
            "name": "exo-rw-b0.5-k4", "label": "EXO-rw, β 0.5, K 4", "kind": "trained",
            "objective": {
                "name": "exo-rw", "label": "EXO-rw", "divergence": "reverse", "takes": "rewards", "rank": 0,
            },
            "beta_policy": 0.5, "beta_reward": 2.0, "completions": 4,
        })
    );
    assert!(json[2].get("completions").is_none());
}

#[test]
fn control_characters_are_pictures_on_the_page_and_themselves_in_its_numbers() {
    let mut report = example();
    report.samples[0].prompt = "\u{0}\u{85}\u{1b}[31m'".to_owned();
    report.title = "\u{7}".to_owned();
    let html = page(report.clone());
    assert!(html.contains("␀\u{fffd}␛[31m'") && html.contains("<h1>␇</h1>"));
    assert!(html.chars().all(|letter| letter == '\n' || !letter.is_control()));
    let (_, data) = html.split_once("id=\"report-json\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    assert_eq!(serde_json::from_str::<Report>(data).unwrap(), report);
}
