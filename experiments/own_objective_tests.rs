//! A test that an objective added by a program appears wherever the library's objectives do.

use clap::CommandFactory;
use exalign::alignment::{ObjectiveConfig, objectives, register};
use exalign::report::{HTML_NAME, PolicyLabel, Report, ResultRow, Style};
use exalign::statistics::Interval;

use crate::command_line::CommandLine;
use crate::own_objective::SQUARES;
use crate::protocol::labels::label_of;
use crate::protocol::settings::comparison_of;

#[test]
fn an_objective_is_added_in_one_place() {
    register(&SQUARES).unwrap();
    for command in ["align", "loss"] {
        let mut line = CommandLine::command();
        let help = line.find_subcommand_mut(command).unwrap().render_long_help().to_string();
        assert!(help.contains("or squares"), "{command}: {help}");
    }
    let sweep = "[comparison]\nobjectives = ['squares', 'exo-rw']\nbeta_policy = [0.5, 1.0]";
    let variants = comparison_of(sweep).unwrap();
    let named: Vec<(String, String)> =
        variants.iter().map(|variant| (variant.folder(), variant.name())).collect();
    let expected = [
        ("squares-b0.5", "Squares, β 0.5"),
        ("squares-b1", "Squares, β 1"),
        ("exo-rw-b0.5", "EXO-rw, β 0.5"),
        ("exo-rw-b1", "EXO-rw, β 1"),
    ];
    assert_eq!(named, expected.map(|(folder, name)| (folder.to_owned(), name.to_owned())));
    // The report knows it by what the table says.
    let policies: Vec<PolicyLabel> = variants.iter().map(label_of).collect();
    let results = policies.iter().map(|policy| ResultRow { policy: policy.name.clone(), ..row() });
    let report = Report { results: results.collect(), policies, ..Report::default() };
    let folder = tempfile::tempdir().unwrap();
    report.write(folder.path()).unwrap();
    let page = std::fs::read_to_string(folder.path().join(HTML_NAME)).unwrap();
    assert!(page.contains("Squares, β 0.5"), "its name on the page");
    let json = serde_json::to_value(&report.policies[0]).unwrap();
    assert_eq!(json["objective"]["name"], "squares");
    let style = |policy| Style::of(&report.policies[policy]);
    assert_ne!(format!("{:?}", style(0)), format!("{:?}", style(2)), "a look of its own");

    let config = ObjectiveConfig { name: "squares".parse().unwrap(), ..ObjectiveConfig::default() };
    assert_eq!(config.init().unwrap().name(), "squares");
    assert!(objectives().iter().any(|entry| entry.name == "squares"));
}

fn row() -> ResultRow {
    ResultRow {
        policy: String::new(),
        reward: Interval { mean: 1.0, low: 0.5, high: 1.5 },
        kl: None,
        kl_low_variance: None,
        kl_rao_blackwell: None,
        share_of_optimum: None,
        reward_gain: None,
        rule: None,
        num_samples: 10,
        learned_from: None,
        seconds: 1.0,
    }
}
