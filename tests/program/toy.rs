//! Claims about `exalign run toy`: its numbers are the method's, its figure is the one in `assets`.

use crate::support::Workplace;
use serde_json::Value;

/// The numbers in a text, and the text without them.
fn taken_apart(text: &str) -> (Vec<f64>, String) {
    let (mut numbers, mut rest, mut digits) = (Vec::new(), String::new(), String::new());
    for letter in text.chars().chain([' ']) {
        if letter.is_ascii_digit() || (letter == '.' && !digits.is_empty()) {
            digits.push(letter);
        } else {
            if !digits.is_empty() {
                numbers.push(digits.trim_end_matches('.').parse().unwrap());
                digits.clear();
            }
            rest.push(letter);
        }
    }
    (numbers, rest)
}

#[test]
fn the_toy_ends_where_the_method_says_and_draws_the_committed_figure() {
    let place = Workplace::new();
    let printed = place.succeeds("run toy --out toy");
    let toy: Value =
        serde_json::from_str(&std::fs::read_to_string(place.path("toy/toy.json")).unwrap())
            .unwrap();
    let fit = |objective: &str| {
        let fits = toy["line"]["fits"].as_array().unwrap().iter();
        let mut whole =
            fits.filter(|it| it["objective"] == objective && it["completions"].is_null());
        let fit = whole.next().unwrap();
        [fit["mean"].as_f64().unwrap(), fit["scale"].as_f64().unwrap()]
    };
    // Found on the same grid by a separate program, to three decimals.
    for (objective, expected) in [("exo-rw", [-1.972, 1.040]), ("dpo-rw", [-0.255, 2.589])] {
        for (found, expected) in fit(objective).into_iter().zip(expected) {
            assert!((found - expected).abs() < 2e-3, "{objective}: {found} and {expected}");
        }
    }
    assert!(
        printed.contains("-1.97") && printed.contains("EXO-rw") && printed.contains("π*"),
        "{printed}"
    );

    // Made by `exalign run toy`. Other processors round otherwise, which may move a line by a
    // fraction of a pixel.
    let committed = include_str!("../../assets/toy.svg");
    let drawn = std::fs::read_to_string(place.path("toy/toy.svg")).unwrap();
    let ((committed, words), (drawn, drawn_words)) = (taken_apart(committed), taken_apart(&drawn));
    assert_eq!(
        drawn_words, words,
        "made by another version? `exalign run toy --out …` makes it anew"
    );
    for (found, expected) in drawn.iter().zip(&committed) {
        assert!((found - expected).abs() <= 1.0, "{found} and {expected}");
    }

    let page = std::fs::read_to_string(place.path("toy/report.html")).unwrap();
    assert!(page.contains("EXO seeks a mode where DPO covers both") && page.contains("reverse_kl"));
    assert_eq!(place.succeeds("run toy --out toy"), printed, "it is not computed twice");
    assert!(place.refuses("run toy --out toy --seed 7", 2).contains("seed: 0 → 7"));
}

#[test]
fn what_the_toy_does_not_read_is_refused() {
    let place = Workplace::new();
    for flag in ["--model model", "--data model", "--preset paper", "--set seed=1"] {
        let message = place.refuses(&format!("run toy {flag}"), 2);
        let name = flag.split(' ').next().unwrap();
        assert!(message.contains(&format!("{name}: `run toy` has one size")), "{message}");
    }
    assert!(place.succeeds("run toy --dry-run").contains("would run"));
    assert!(!place.path("runs").exists(), "a dry run writes nothing");
}
