//! A test that an objective added by a program appears wherever the library's objectives do.

use clap::CommandFactory;
use exalign::alignment::{ObjectiveConfig, objectives, register};

use crate::command_line::CommandLine;
use crate::own_objective::SQUARES;
use crate::protocol::settings::comparison_of;

#[test]
fn an_objective_is_added_in_one_place() {
    register(&SQUARES).unwrap();
    for command in ["align", "loss"] {
        let mut line = CommandLine::command();
        let help = line.find_subcommand_mut(command).unwrap().render_long_help().to_string();
        assert!(help.contains("dpo-rw or squares"), "{command}: {help}");
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
    let config = ObjectiveConfig { name: "squares".parse().unwrap(), ..ObjectiveConfig::default() };
    assert_eq!(config.init().unwrap().name(), "squares");
    assert!(objectives().iter().any(|entry| entry.name == "squares"));
}
