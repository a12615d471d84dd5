//! The figures of a step.

use super::*;

#[test]
fn statistics_are_means_over_the_groups() {
    let h = matrix(&[1.0, 0.0, -1.0, 0.0, 0.0, 0.0], 3);
    let rewards = matrix(&[0.3, 0.1, 0.2, 0.1, 0.2, 0.3], 3);
    let log_probs = GroupLogProbs::new(h.clone(), h.zeros_like());
    for config in all_objectives(0.5, 0.1, 1e-3) {
        let objective = config.init().unwrap();
        if !objective.needs_rewards()
            || objective
                .log_target(&GroupLogProbs::new(rewards.clone(), rewards.clone()), &rewards)
                .is_none()
        {
            continue;
        }
        let statistics = objective.statistics(&log_probs, &rewards);
        let names: Vec<_> = statistics.iter().map(|it| it.name).collect();
        assert_eq!(
            names,
            [
                "accuracy",
                "reward_margin",
                "rewards/chosen",
                "rewards/rejected",
                "logps/chosen",
                "logps/rejected",
                "length/chosen",
                "length/rejected",
                "entropy_q",
                "kl",
            ]
        );
        // First group: 2 of its 3 pairs are ordered alike; second: nothing but ties in h.
        assert_close(statistics[0].mean, (2.0 / 3.0 + 0.5) / 2.0, DOUBLE, "accuracy");
        // First group: 0.5 · (1 − 0); second: 0.
        assert_close(statistics[1].mean, 0.25, DOUBLE, "reward_margin");
        // β_π h: 0.5 · (1 + 0) / 2 and 0; every completion has one token.
        assert_close(statistics[2].mean, 0.25, DOUBLE, "rewards/chosen");
        assert_close(statistics[3].mean, 0.0, DOUBLE, "rewards/rejected");
        assert_eq!((statistics[6].mean, statistics[7].mean), (1.0, 1.0), "lengths");
        // Best and worst by reward: 1 and 0 of the first group, 0 and 0 of the second.
        assert_close(statistics[4].mean, 0.5, DOUBLE, "logps/chosen");
        assert_close(statistics[5].mean, 0.0, DOUBLE, "logps/rejected");
        if config.name.name == "exo-rw" {
            let loss = scalar(objective.loss(&log_probs, &rewards));
            assert_close(statistics[9].mean, loss, DOUBLE, "kl is the loss");
        }
    }
    let pairs = GroupLogProbs::new(matrix(&[2.0, 1.0], 2), matrix(&[0.0; 2], 2));
    let unread = matrix(&[0.0; 2], 2);
    let exo = named("exo-pref").init().unwrap();
    let statistics = exo.statistics(&pairs, &unread);
    assert_eq!(statistics[0], Statistic::new("accuracy", 1.0));
    assert_close(statistics[1].mean, 0.1, DOUBLE, "reward_margin");
    assert_close(statistics[4].mean, 2.0, DOUBLE, "logps/chosen");
    assert_close(statistics[5].mean, 1.0, DOUBLE, "logps/rejected");
    assert_close(statistics[9].mean, scalar(exo.loss(&pairs, &unread)), DOUBLE, "kl is the loss");
    let dpo = named("dpo").init().unwrap().statistics(&pairs, &unread);
    assert!(dpo.iter().all(|it| it.name != "kl"));
}
