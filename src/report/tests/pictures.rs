//! Claims about pictures.

use serde_json::json;

use super::*;
use crate::report::pictures::differences_svg;
use crate::report::runs::Run;

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
fn differences_have_a_colour_only_where_their_interval_is_without_zero() {
    let compared = |mean: f64, half: f64, later: f64| Comparison {
        ours: "exo-rw".to_owned(),
        theirs: "dpo-rw".to_owned(),
        common_kl: 1.0,
        at_common_kl: around(mean, half),
        mean_gain: around(mean, half),
        repetitions: Vec::new(),
        at_equal_steps: Some(EqualSteps {
            step: 8,
            reward: around(later, 0.05),
            kl: around(0.2, 0.1),
        }),
        variance_components: None,
    };
    let report = |mean, half, later| Report {
        policies: labels(&["exo-rw", "dpo-rw"]),
        comparisons: vec![compared(mean, half, later)],
        ..Report::default()
    };
    let named = |name: &str, report| NamedReport { name: name.to_owned(), report };
    let reports = [
        named("soft", report(0.01, 0.02, 0.04)),
        named("peaked", report(-0.2, 0.1, 0.09)),
        named("near", report(0.3, 0.1, -0.2)),
    ];
    let svg = differences_svg(&Run::all(&reports)).unwrap();
    let groups: Vec<&str> = svg.split("<g>").skip(1).collect();
    let (muted, ahead, behind) = ("#5c6370", "#0b4a9e", "#d9800f");
    let filled = |group: &str, color: &str| group.contains(&format!(r#"r="4" fill="{color}""#));
    let hollow = |group: &str, color: &str| {
        group.contains(&format!(r#"r="4" fill="none" stroke="{color}""#))
    };
    assert!(filled(groups[0], muted) && hollow(groups[0], muted));
    assert!(filled(groups[1], behind) && hollow(groups[1], ahead));
    assert!(filled(groups[2], ahead) && hollow(groups[2], behind));
    assert!(groups[1].contains("peaked · EXO-rw − DPO-rw</text>"));
    assert!(groups[1].contains(
        "−0.200 [−0.300, −0.100] at the same KL, +0.090 [0.040, 0.140] after 8 steps each"
    ));
    assert!(differences_svg(&Run::all(&[named("none", Report::default())])).is_none());
    let page = render(&reports);
    assert!(page.contains("Who is ahead at the same KL") && page.contains("peaked · EXO-rw"));
}

#[test]
fn a_figure_is_whole_by_itself_and_escapes_its_words() {
    let trap = "<b>&\"";
    let curve = |line| Curve {
        name: trap.to_owned(),
        style: Style::OPTIMUM,
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
        style: Style::of_objective(Divergence::Reverse, Takes::Rewards, 0),
        rows: vec![trap.to_owned(), "b".to_owned()],
        columns: vec!["c".to_owned()],
        shares: vec![vec![0.75], vec![0.25]],
    };
    let figure = Figure {
        description: trap.to_owned(),
        rows: vec![
            vec![plot(Content::Curves(lines.map(curve).to_vec()))],
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
