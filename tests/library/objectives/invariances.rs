//! What must not change a loss or its gradient: order, shifts, splits into parts.

use super::*;

fn group() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    (2_usize..=8).prop_flat_map(|k| {
        (prop::collection::vec(-20.0..20.0, k), prop::collection::vec(-3.0..3.0, k))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_constant_added_to_h_or_to_rewards_changes_nothing(
        (h, rewards) in group(), by in -50.0..50.0,
    ) {
        for name in rewarded() {
            let objective = named(name).init().unwrap();
            let k = h.len();
            let shifted = |values: &[f64]| values.iter().map(|v| v + by).collect::<Vec<f64>>();
            let (loss, gradient) = run64(&*objective, &h, &rewards, k);
            for (h, rewards) in [(shifted(&h), rewards.clone()), (h.clone(), shifted(&rewards))] {
                // Adding 50 to a reward costs 7e-15, divided by β_r = 0.1 and summed over K.
                let (again, gradient_again) = run64(&*objective, &h, &rewards, k);
                assert_close(again, loss, 1e-11, "loss");
                assert_all_close(&gradient_again, &gradient, 1e-11, "gradient");
            }
        }
    }

    #[test]
    fn the_order_of_completions_changes_nothing((h, rewards) in group(), by in 1_usize..8) {
        for name in rewarded() {
            let objective = named(name).init().unwrap();
            let k = h.len();
            let rotated = |values: &[f64]| {
                let mut values = values.to_vec();
                values.rotate_left(by % k);
                values
            };
            let (loss, gradient) = run64(&*objective, &h, &rewards, k);
            let (again, gradient_again) = run64(&*objective, &rotated(&h), &rotated(&rewards), k);
            assert_close(again, loss, DOUBLE, "loss");
            assert_all_close(&gradient_again, &rotated(&gradient), DOUBLE, "gradient");
        }
    }

    #[test]
    fn exo_rw_is_a_divergence((h, rewards) in group()) {
        let objective = named("exo-rw").init().unwrap();
        let (loss, gradient) = run64(&*objective, &h, &rewards, h.len());
        // Rounding may take it below zero, by less than K · 1e-15 · |log p|.
        prop_assert!(loss >= -1e-12);
        if loss < 1e-12 {
            prop_assert!(gradient.iter().all(|g| g.abs() < 1e-6));
        }
    }

    #[test]
    fn exo_rw_is_zero_exactly_where_q_is_p((_, rewards) in group(), c in -5.0..5.0, off in 0.1..5.0) {
        // β_π h = r / β_r + c makes q = p.
        let objective = ObjectiveConfig { beta_policy: 0.5, beta_reward: 0.25, ..named("exo-rw") }
            .init()
            .unwrap();
        let mut h: Vec<f64> = rewards.iter().map(|r| r / (0.25 * 0.5) + c).collect();
        let (loss, gradient) = run64(&*objective, &h, &rewards, h.len());
        prop_assert!(loss.abs() < 1e-12);
        prop_assert!(gradient.iter().all(|g| g.abs() < 1e-12));
        h[0] += off;
        // q with one entry multiplied by e^δ and renormalised: KL(q ‖ p) = q₀ δ − log Z, above zero.
        let p: Vec<f64> = rewards.iter().map(|r| (r / 0.25).exp()).collect();
        let (p_0, delta): (f64, f64) = (p[0] / p.iter().sum::<f64>(), 0.5 * off);
        let z = 1.0 + p_0 * delta.exp_m1();
        let expected = p_0 * delta.exp() / z * delta - z.ln();
        assert_close(run64(&*objective, &h, &rewards, h.len()).0, expected, 1e-12, "loss");
    }
}

/// A table of policies over eight completions of one prompt, in training.
fn trainee(config: &ObjectiveConfig, temperature: f64) -> Trainee<Aligner<Table>> {
    let logits: Vec<f64> = (0..8).map(|it| (f64::from(it) * 1.3).sin()).collect();
    let policy = Table::new(matrix(&logits, 8));
    Trainee::new(Aligner::new(policy, config.init().unwrap(), temperature), Precision::F32)
}

/// Groups of K completions of the prompt 0, by their numbers; their reference log-probs and rewards.
fn part(groups: std::ops::Range<usize>, k: usize) -> AlignmentBatch {
    part_of(groups, k, 0)
}

/// The same, `most` of the completions at a time where that is no 0.
fn part_of(groups: std::ops::Range<usize>, k: usize, most: usize) -> AlignmentBatch {
    let completion = |group: usize, it: usize| ((3 * group + 2 * it) % 8) as u32;
    let value = |group: usize, it: usize, turn: f64| ((group * k + it) as f64 * turn).sin() * 2.0;
    let values = |turn: f64| -> Vec<f64> {
        groups.clone().flat_map(|group| (0..k).map(move |it| value(group, it, turn))).collect()
    };
    let group = |group| TokenGroup {
        prompt: vec![0],
        completions: (0..k).map(|it| vec![completion(group, it)]).collect(),
        ..TokenGroup::default()
    };
    let all: Vec<TokenGroup> = groups.clone().map(group).collect();
    AlignmentBatch {
        groups: GroupBatch::new(&all, &device()),
        parts: (0..if most == 0 { 0 } else { k })
            .step_by(most.max(1))
            .map(|first| {
                let some = |group: &TokenGroup| TokenGroup {
                    completions: group.completions[first..(first + most).min(k)].to_vec(),
                    ..group.clone()
                };
                GroupBatch::new(&all.iter().map(some).collect::<Vec<_>>(), &device())
            })
            .collect(),
        reference: matrix(&values(1.7), k),
        proposal: None,
        tokens: Some(GivenTokens {
            reference: matrix(&values(1.7), k).unsqueeze_dim(2),
            proposal: matrix(&values(1.7), k).unsqueeze_dim(2),
            values: None,
        }),
        rewards: matrix(&values(0.9), k),
        mismatched_kl: 0.0,
    }
}

/// The gradients of all parameters of a module.
struct Gradient<'a> {
    all: &'a GradientsParams,
    values: Vec<f64>,
}

impl ModuleVisitor for Gradient<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.values.extend(numbers(self.all.get::<D>(param.id).unwrap()));
    }
}

/// Loss, figures and gradient of a step on the table, in parts of so many groups.
fn step_of(trainee: &Trainee<Aligner<Table>>, sizes: &[usize], k: usize) -> (StepOutput, Vec<f64>) {
    step_with(trainee, sizes, k, 0)
}

/// The same, `most` completions at a time where that is no 0.
fn step_with(
    trainee: &Trainee<Aligner<Table>>,
    sizes: &[usize],
    k: usize,
    most: usize,
) -> (StepOutput, Vec<f64>) {
    let mut first = 0;
    let parts = sizes.iter().map(|&size| {
        first += size;
        (part_of(first - size..first, k, most), size as f64, 0)
    });
    let micro_batches = Micro::weighted(parts.collect());
    let step = Step { micro_batches, num_groups: first, ..Step::default() };
    let output = TrainStep::step(trainee, step);
    let mut gradient = Gradient { all: &output.grads, values: Vec::new() };
    trainee.visit(&mut gradient);
    (output.item, gradient.values)
}

#[test]
fn any_split_of_a_step_has_the_same_loss_gradient_and_figures() {
    for config in all_objectives(0.5, 0.5, 1e-3) {
        let k = if config.init().unwrap().check(4).is_ok() { 4 } else { 2 };
        let trainee = trainee(&config, 0.8);
        let (whole, gradient) = step_of(&trainee, &[7], k);
        for sizes in [&[3, 4][..], &[6, 1], &[2, 2, 3], &[1; 7]] {
            let (parts, again) = step_of(&trainee, sizes, k);
            // Losses are told in f32.
            assert_close(parts.loss, whole.loss, 1e-6, "loss");
            for ((name, found), (_, expected)) in
                parts.statistics(1.0).iter().zip(&whole.statistics(1.0))
            {
                assert_close(*found, *expected, DOUBLE, name);
            }
            assert_all_close(&again, &gradient, DOUBLE, "gradient");
        }
        // Some of the completions at a time.
        for most in 1..k {
            let (in_parts, again) = step_with(&trainee, &[3, 4], k, most);
            assert_close(in_parts.loss, whole.loss, 1e-6, "loss");
            assert_all_close(&again, &gradient, DOUBLE, "gradient");
        }
        // The mean of what each group has alone.
        let alone: f64 = (0..7)
            .map(|it| {
                let batch = part(it..it + 1, k);
                let policy = trainee.module.policy.log_probs(&batch.groups, 0.8);
                let (policy, reference) = (numbers(policy), numbers(batch.reference));
                let [of_policy, of_reference] = [&policy, &reference].map(|it| singles(it));
                let group = GroupNumbers {
                    policy: &policy,
                    reference: &reference,
                    rewards: &numbers(batch.rewards),
                    num_tokens: &vec![1.0; k],
                    proposal: &reference,
                    tokens: TokenNumbers {
                        policy: &of_policy,
                        reference: &of_reference,
                        proposal: &of_reference,
                        ..TokenNumbers::default()
                    },
                    ..GroupNumbers::default()
                };
                evaluate(&*config.init().unwrap(), &group).unwrap().loss / 7.0
            })
            .sum();
        assert_close(whole.loss, alone, 1e-6, "mean of the groups");
    }
}

#[test]
fn a_table_of_logits_has_the_same_invariances() {
    let rewards = [0.4, -0.2, 1.1, 0.0, 0.7];
    let reference = [0.1, 0.3, 0.2, 0.25, 0.15];
    let theta = [0.5, -1.0, 0.3, 0.0, 2.0];
    let moved: Vec<f64> = theta.iter().map(|v| v + 3.0).collect();
    let gradient_of = |theta: &[f64], shift: f64, groups: &[Vec<usize>], name| {
        let policy = TabularPolicy::new(theta, &reference);
        let k = groups[0].len();
        let rewards: Vec<f64> = groups.iter().flatten().map(|&i| rewards[i] + shift).collect();
        let loss =
            named(name).init().unwrap().loss(&policy.log_probs(groups), &matrix(&rewards, k));
        let gradient = policy.gradient(&loss.backward());
        (scalar(loss), gradient)
    };
    let groups = [vec![0, 1, 2, 3], vec![4, 4, 0, 2]];
    let reordered = [vec![2, 4, 0, 4], vec![3, 2, 1, 0]];
    for name in rewarded() {
        let (loss, gradient) = gradient_of(&theta, 0.0, &groups, name);
        // A completion that no group holds is moved only by the softmax over all five.
        for (theta, shift, groups) in
            [(&moved[..], 0.0, &groups), (&theta, 7.0, &groups), (&theta, 0.0, &reordered)]
        {
            let (again, gradient_again) = gradient_of(theta, shift, groups, name);
            assert_close(again, loss, DOUBLE, "loss");
            assert_all_close(&gradient_again, &gradient, DOUBLE, "gradient");
        }
    }
}

#[test]
fn identical_models_have_the_known_values() {
    let log_probs = [-12.25, -31.5];
    let loss = |config: &ObjectiveConfig| {
        one_group(&*config.init().unwrap(), &log_probs, &log_probs, &[1.0, 0.0]).unwrap().loss
    };
    // ½ [log ½ − log(1−ε)] + ½ [log ½ − log ε] at ε = 1e-3, to the twelve decimals given.
    assert!((loss(&named("exo-pref")) - 2.761230709098).abs() < 1e-12);
    assert_close(loss(&named("dpo")), 2_f64.ln(), 1e-15, "DPO");
    assert_close(loss(&named("dpo-rw")), 2_f64.ln(), 1e-15, "DPO with rewards");

    let policy = TabularPolicy::new(&[0.5_f64.ln(), 0.3_f64.ln(), 0.2_f64.ln()], &[0.5, 0.3, 0.2]);
    let log_probs = policy.log_probs(&[vec![0, 1], vec![1, 2]]);
    let exo = named("exo-pref").init().unwrap();
    assert!((scalar(exo.loss(&log_probs, &matrix(&[0.0; 4], 2))) - 2.761230709098).abs() < 1e-12);
    let statistics = exo.statistics(&log_probs, &matrix(&[0.0; 4], 2));
    let entropy = statistics.iter().find(|it| it.name == "entropy_q").unwrap().mean;
    assert_close(entropy, 2_f64.ln(), DOUBLE, "q is uniform");
}

#[test]
fn exo_with_two_rewards_is_exo_with_preferences() {
    for epsilon in [1e-3, 0.05, 0.4] {
        for z in [-8.0, -0.3, 0.0, 2.0, 11.0] {
            let pref = ObjectiveConfig { epsilon, ..named("exo-pref") };
            let rw = named("exo-rw");
            // (r_w − r_l) / β_r = logit(1 − ε) makes p = (1 − ε, ε).
            let margin = rw.beta_reward * ((-epsilon).ln_1p() - epsilon.ln());
            let h = [z / pref.beta_policy, 0.0];
            let (loss, gradient) = run64(&*pref.init().unwrap(), &h, &[0.0; 2], 2);
            let (again, gradient_again) = run64(&*rw.init().unwrap(), &h, &[0.7 + margin, 0.7], 2);
            assert_close(again, loss, DOUBLE, "loss");
            assert_all_close(&gradient_again, &gradient, DOUBLE, "gradient");
        }
    }
}

#[test]
fn the_authors_labels_have_the_minimum_at_ten() {
    let config =
        ObjectiveConfig { beta_policy: 1.0, labels: Labels::Official, ..named("exo-pref") };
    let (loss, gradient) = run64(&*config.init().unwrap(), &[10.0, 0.0], &[0.0; 2], 2);
    assert_close(loss, -(-10_f64).exp().ln_1p(), 1e-15, "−log(1 + e⁻¹⁰)");
    assert!(gradient.iter().all(|g| g.abs() < 1e-15));
}
