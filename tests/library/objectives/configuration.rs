//! How an objective is configured, and what is refused.

use super::*;

fn refusal(config: ObjectiveConfig) -> String {
    config.init().unwrap_err().to_string()
}

#[test]
fn numbers_out_of_range_are_refused_with_a_reason() {
    let base = ObjectiveConfig::default();
    insta::assert_snapshot!(
        refusal(ObjectiveConfig { epsilon: 0.0, ..base.clone() }),
        @"`epsilon` is 0, which makes the reverse KL infinite: the policy gives the rejected completion some probability and the label would give it none; use a small positive value such as 1e-3"
    );
    insta::assert_snapshot!(
        refusal(ObjectiveConfig { epsilon: 0.5, ..base.clone() }),
        @"`epsilon` is the probability that a label is wrong and must lie between 0 and 0.5, exclusive; found 0.5"
    );
    insta::assert_snapshot!(
        refusal(ObjectiveConfig { kl_weight: KlWeight::Number(-1.0), ..named("rloo") }),
        @r#"`kl_weight` must be a number from 0 or "target", found -1"#
    );
    insta::assert_snapshot!(
        refusal(ObjectiveConfig { clip_range: 0.0, ..named("grpo") }),
        @"`clip_range` must be a number above 0 and up to 1, found 0"
    );
    for wrong in [0.0, -0.1, 1e-60, 1e60, f64::NAN, f64::INFINITY] {
        for name in objectives().iter().filter(|it| it.reads.contains(&"beta_policy")) {
            let config = ObjectiveConfig { beta_policy: wrong, ..named(name.name) };
            assert!(refusal(config).starts_with("`beta_policy` must be a positive finite number"));
        }
        for name in rewarded() {
            let config = ObjectiveConfig { beta_reward: wrong, ..named(name) };
            assert!(refusal(config).starts_with("`beta_reward` must be a positive finite number"));
        }
    }
    for wrong in [0.0, -0.1, 0.7, f64::NAN, f64::INFINITY] {
        let config = ObjectiveConfig { epsilon: wrong, ..base.clone() };
        assert!(refusal(config).starts_with("`epsilon` is"));
    }
}

#[test]
fn group_sizes_an_objective_is_not_defined_for_are_refused() {
    let check = |name, k| named(name).init().unwrap().check(k);
    insta::assert_snapshot!(
        check("exo-pref", 4).unwrap_err(),
        @"exo-pref is defined for pairs (chosen, rejected), found a group of 4; use exo-rw with rewards, or make pairs with `exalign pairs`"
    );
    insta::assert_snapshot!(
        check("dpo", 3).unwrap_err(),
        @"dpo is defined for pairs (chosen, rejected), found a group of 3; use dpo-rw with rewards, or make pairs with `exalign pairs`"
    );
    for name in objectives() {
        let takes_one = ["kto", "nll", "ppo"].contains(&name.name);
        assert!(check(name.name, 0).is_err() && check(name.name, 1).is_ok() == takes_one);
        assert!(check(name.name, 2).is_ok());
    }
    assert!(rewarded().into_iter().all(|name| check(name, 64).is_ok()));
}

#[test]
fn the_configuration_reads_its_names_from_the_command_line_and_from_json() {
    let config: ObjectiveConfig =
        serde_json::from_str(r#"{"name": "exo-pref", "labels": "official", "beta_policy": 0.5}"#)
            .unwrap();
    assert_eq!(
        config,
        ObjectiveConfig { labels: Labels::Official, beta_policy: 0.5, ..named("exo-pref") }
    );
    for name in objectives() {
        assert_eq!(name.name.parse::<ObjectiveName>().unwrap(), name);
        assert_eq!(named(name.name).init().unwrap().name(), name.name);
        assert_eq!(serde_json::to_value(name).unwrap(), name.name);
    }
    insta::assert_snapshot!(
        "unheard-of".parse::<ObjectiveName>().unwrap_err(),
        @"unknown objective `unheard-of`; one of exo-pref, exo-rw, dpo, dpo-rw, alpha-pref, alpha-rw, jeffreys-rw, js-rw, dpo-list, cdpo, robust-dpo, dpo-norm, ipo, hinge, nca-pair, apo-zero, apo-down, sppo-hard, kto, simpo, orpo, nll, rloo, grpo, ppo"
    );
    assert!(serde_json::from_str::<ObjectiveConfig>(r#"{"beta": 0.5}"#).is_err());
}

#[test]
fn a_number_that_is_not_finite_is_refused_with_its_field() {
    let objective = named("exo-rw").init().unwrap();
    let error = one_group(&*objective, &[1.0, 2.0], &[1.0, 2.0], &[f64::NAN, 0.0]).unwrap_err();
    assert_eq!(error.to_string(), "`rewards[0]` must be finite, found NaN");
}
