//! Losses and gradients against independent numbers: the reference table, closed forms, slopes.

use super::*;

#[test]
fn losses_and_gradients_are_those_of_the_reference_table() {
    for case in cases() {
        for expected in &case.expected {
            let config =
                config_of(&expected.objective, case.beta_policy, case.beta_reward, case.epsilon);
            let what = format!("{config:?}, K = {}", case.k);
            let (loss, gradient) = run_ordered(&config, &case.h, &case.rewards, case.k);
            assert_close(loss, expected.loss, DOUBLE, &what);
            assert_all_close(&gradient, &expected.gradient, DOUBLE, &what);
        }
    }
}

#[test]
fn one_group_evaluated_alone_has_the_reference_gradient_to_nine_digits() {
    for case in cases().iter().filter(|case| case.k > 2) {
        let groups = case.h.len() / case.k;
        for expected in &case.expected {
            let config =
                config_of(&expected.objective, case.beta_policy, case.beta_reward, case.epsilon);
            let lines: Vec<_> = (case.h.chunks(case.k).zip(case.rewards.chunks(case.k)))
                .map(|(h, r)| {
                    one_group(&*config.init().unwrap(), h, &vec![0.0; case.k], r).unwrap()
                })
                .collect();
            let loss = lines.iter().map(|line| line.loss).sum::<f64>() / groups as f64;
            // Relative to each number itself: nothing on the way is in f32.
            assert!((loss / expected.loss - 1.0).abs() < 1e-9);
            let gradient = lines.iter().flat_map(|line| &line.gradient);
            for (found, expected) in gradient.zip(&expected.gradient) {
                assert!((found / groups as f64 / expected - 1.0).abs() < 1e-9);
            }
        }
    }
}

#[test]
fn the_chain_from_logits_to_loss_and_back_is_exact() {
    // The first batch of the reference table (K = 2, three groups) from its closed forms; the
    // expected numbers have the table's provenance: τ, ‖∂loss/∂logits‖ over the whole tensor, and
    // its entries where the first completion begins. EXO with rewards, β_π = β_r = 0.5.
    const ROWS: usize = 6;
    let expected = [
        (
            0.8,
            0.3976859482614002,
            0.39079198132019544,
            [
                -0.02879575158136562,
                -0.009944770734868737,
                -0.002652332463354756,
                -0.0037869598670976713,
                -0.017179151974695734,
                0.06994802822655447,
                -0.007589061605171949,
            ],
        ),
        (
            1.0,
            0.33118191091534416,
            0.3011846976500877,
            [
                -0.020145037717611468,
                -0.008605600296201743,
                -0.002989563062395348,
                -0.003975007133210781,
                -0.013326212294776166,
                0.05597337675079922,
                -0.006931956246603731,
            ],
        ),
    ];
    let input = formula_batch(2, ROWS);
    let rewards: Vec<f64> =
        (0..ROWS).map(|i| (1.7 * i as f64 + 0.4).sin() + 0.25 * (i % 3) as f64).collect();
    let objective = config_of("exo-rw", 0.5, 0.5, 1e-3).init().unwrap();
    for (temperature, loss, norm, first) in expected {
        let (table, h) = log_ratios_of(&input, temperature);
        let policy = h.reshape([3, 2]);
        let log_probs = GroupLogProbs::new(policy.clone(), policy.zeros_like().detach());
        let found = objective.loss(&log_probs, &matrix(&rewards, 2));
        let gradient = table.parameters().grad(&found.backward()).unwrap(); // [rows · seq, vocab]
        assert_close(scalar(found), loss, DOUBLE, "loss");
        let found = scalar(gradient.clone().powi_scalar(2).sum().sqrt());
        assert_close(found, norm, DOUBLE, "norm of the gradient");
        let found = numbers(gradient.narrow(0, 1, 1));
        assert_all_close(&found, &first, DOUBLE, "gradient at the first completion");
    }
}

#[test]
fn a_device_without_autodiff_has_the_same_loss() {
    let plain = |values: &[f64]| {
        let data = TensorData::new(values.to_vec(), [values.len() / 2, 2]);
        Tensor::<2>::from_data(data, (&Device::flex(), DType::F64))
    };
    let (h, rewards) = ([-3.7, -5.7, -1.8, -4.0], [1.0, 0.2, -0.5, 0.4]);
    for config in all_objectives(0.5, 0.5, 1e-3) {
        let objective = config.init().unwrap();
        let log_probs = GroupLogProbs::new(plain(&h), plain(&[0.0; 4]));
        let loss = scalar(objective.loss(&log_probs, &plain(&rewards)));
        assert_eq!(loss, run64(&*objective, &h, &rewards, 2).0);
    }
}

#[test]
fn every_number_of_the_golden_file_is_reproduced() {
    let folder = std::env::var("EXALIGN_GOLDENS").ok();
    let Some(folder) = or_skip(folder, "EXALIGN_GOLDENS names no folder of golden numbers") else {
        return;
    };
    let text = std::fs::read_to_string(Path::new(&folder).join("losses.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let list = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let mut checked = 0;
    for case in file["cases"].as_array().unwrap() {
        let input = (file["inputs"].as_array().unwrap().iter())
            .find(|input| input["name"] == case["input"])
            .unwrap();
        let number = |field: &str| case[field].as_f64().unwrap();
        let k = input["completions_per_group"].as_u64().unwrap() as usize;
        for (key, expected) in case["losses"].as_object().unwrap() {
            let objective = match key.as_str() {
                "exo_pref_unnormalized" => "exo-pref official".to_owned(),
                "dpo_pref" => "dpo".to_owned(),
                name => name.replace('_', "-"),
            };
            let config =
                config_of(&objective, number("beta_pi"), number("beta_r"), number("epsilon"));
            let rewards = list(&input["rewards"]);
            let what = format!("{} {config:?}", case["input"]);
            let (loss, gradient) = run_ordered(&config, &list(&case["h"]), &rewards, k);
            assert_close(loss, expected["value"].as_f64().unwrap(), DOUBLE, &what);
            assert_all_close(&gradient, &list(&expected["grad_h"]), DOUBLE, &what);

            // logits → h → loss → ∂loss/∂logits in one graph.
            let (table, h) = log_ratios_of(input, number("tau"));
            assert_all_close(&numbers(h.clone()), &list(&case["h"]), DOUBLE, "h");
            let h = match config.init().unwrap().needs_rewards() {
                true => h,
                false => h.select(0, indices(&chosen_first(&rewards, &rewards).1)),
            };
            let policy = h.reshape([rewards.len() / k, k]);
            let log_probs = GroupLogProbs::new(policy.clone(), policy.zeros_like().detach());
            let loss = config.init().unwrap().loss(&log_probs, &matrix(&rewards, k));
            let gradient = table.parameters().grad(&loss.backward()).unwrap(); // [rows · seq, vocab]
            let norm = scalar(gradient.clone().powi_scalar(2).sum().sqrt());
            assert_close(norm, expected["grad_logits_norm"].as_f64().unwrap(), DOUBLE, &what);
            let first = input["completion_start"][0].as_u64().unwrap() as usize - 1;
            let first = numbers(gradient.narrow(0, first, 1));
            assert_all_close(&first, &list(&expected["grad_logits_first"]), DOUBLE, &what);
            checked += 1;
        }
    }
    // 11 cases of pairs with five losses, 19 of larger groups with two.
    assert_eq!(checked, 11 * 5 + 19 * 2);
}

/// The batch that the reference table's log-ratios come from, `rows` completions in groups of `k`.
fn formula_batch(k: usize, rows: usize) -> Value {
    const SEQ: usize = 9;
    const VOCAB: usize = 7;
    let logits = |of: fn(f64, f64, f64) -> f64| -> Vec<Vec<Vec<f64>>> {
        let position = |i: usize, j: usize| {
            (0..VOCAB).map(|v| of(i as f64, j as f64, v as f64)).collect::<Vec<_>>()
        };
        (0..rows).map(|i| (0..SEQ).map(|j| position(i, j)).collect()).collect()
    };
    let tokens = |of: fn(usize, usize) -> usize| -> Vec<Vec<usize>> {
        (0..rows).map(|i| (0..SEQ).map(|j| of(i, j)).collect()).collect()
    };
    serde_json::json!({
        "seq_len": SEQ, "vocab": VOCAB, "groups": rows / k, "completions_per_group": k,
        "policy_logits": logits(|i, j, v| {
            (i + 1.0 + 0.7 * j + 1.3 * v).sin() + 0.5 * (0.5 * i * v + 0.3 * j).cos()
        }),
        "ref_logits": logits(|i, j, v| {
            0.8 * (0.9 * i - 0.4 * j + 1.1 * v).cos() + 0.3 * (0.2 * i * j + v).sin()
        }),
        "token_ids": tokens(|i, j| (3 * i + 5 * j + 2) % VOCAB),
        "attention_mask": tokens(|i, j| usize::from(j < 5 + (2 * i) % 5)),
        "completion_start": (0..rows).map(|i| 2 + i / k % 2).collect::<Vec<_>>(),
    })
}

/// ∂loss/∂logits, `[rows, seq, vocab]`, of a batch whose ∂loss/∂h is known: every scored token adds
/// ∂loss/∂h · (onehot − softmax(logits / τ)) / τ where it is predicted.
fn gradient_of_logits(batch: &Value, temperature: f64, gradient_of_h: &[f64]) -> Vec<f64> {
    let mut gradient = Vec::new();
    for (i, slope) in gradient_of_h.iter().enumerate() {
        let start = batch["completion_start"][i].as_u64().unwrap() as usize;
        let positions = batch["policy_logits"][i].as_array().unwrap();
        for (j, logits) in positions.iter().enumerate() {
            let next = j + 1;
            let is_scored = next >= start && batch["attention_mask"][i][next] == 1;
            let logits: Vec<f64> =
                logits.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
            let log_probs = log_softmax_of(&logits, 1.0 / temperature);
            for (token, log_prob) in log_probs.into_iter().enumerate() {
                let is_next = f64::from(batch["token_ids"][i][next] == token);
                let share = slope * (is_next - log_prob.exp()) / temperature;
                gradient.push(if is_scored { share } else { 0.0 });
            }
        }
    }
    gradient
}

#[test]
fn every_objectives_gradient_reaches_the_logits_as_the_closed_forms_say() {
    let mut checked = 0;
    // Of the table one case for each batch and temperature.
    let is_middle =
        |it: &&goldens::Case| (it.beta_policy, it.beta_reward, it.epsilon) == (0.5, 0.5, 0.001);
    for case in cases().iter().filter(is_middle) {
        let batch = formula_batch(case.k, case.h.len());
        let groups = case.h.len() / case.k;
        let betas = [0.1, 0.5, 1.0];
        let all = betas.into_iter().flat_map(|policy| {
            betas.into_iter().flat_map(move |reward| {
                [1e-3, 0.2].into_iter().flat_map(move |it| classic_objectives(policy, reward, it))
            })
        });
        for config in all {
            let objective = config.init().unwrap();
            if case.k > 2 && !objective.needs_rewards() {
                continue;
            }
            let what = format!("{config:?}, K = {}, τ = {}", case.k, case.temperature);
            let order: Vec<usize> = match objective.needs_rewards() {
                true => (0..case.h.len()).collect(),
                false => chosen_first(&case.h, &case.rewards).1,
            };
            let in_order = |of: &[f64]| order.iter().map(|&i| of[i]).collect::<Vec<_>>();
            let (h, rewards) = (in_order(&case.h), in_order(&case.rewards));
            let (mut expected, mut gradient_of_h) = (0.0, vec![0.0; h.len()]);
            let of_groups = h.chunks(case.k).zip(rewards.chunks(case.k)).zip(order.chunks(case.k));
            for ((h, rewards), places) in of_groups {
                let (loss, gradient) = closed_form(&config, h, rewards);
                expected += loss / groups as f64;
                for (&place, slope) in places.iter().zip(gradient) {
                    gradient_of_h[place] = slope / groups as f64;
                }
            }

            let (logits, found_h) = log_ratios_of(&batch, case.temperature);
            assert_all_close(&numbers(found_h.clone()), &case.h, DOUBLE, &what);
            let policy = found_h.select(0, indices(&order)).reshape([groups, case.k]);
            let log_probs = GroupLogProbs::new(policy.clone(), policy.zeros_like().detach());
            let loss = objective.loss(&log_probs, &matrix(&rewards, case.k));
            let gradient = logits.parameters().grad(&loss.clone().backward()).unwrap();
            assert_close(scalar(loss), expected, DOUBLE, &what);
            let expected = gradient_of_logits(&batch, case.temperature, &gradient_of_h);
            assert_all_close(&numbers(gradient), &expected, DOUBLE, &what);
            checked += 1;
        }
    }
    // 9 pairs of β and 2 ε: pairs at two temperatures have five losses, three larger batches two.
    assert_eq!(checked, 9 * 2 * (2 * 5 + 3 * 2));
}

fn indices(order: &[usize]) -> Tensor<1, Int> {
    let order: Vec<i64> = order.iter().map(|&i| i as i64).collect();
    Tensor::from_data(TensorData::new(order.clone(), [order.len()]), &device())
}

/// The policy's logits, a row for every position, and the log-ratio of each completion, `[rows]`: those
/// of a [`Table`] whose prompts are the positions.
fn log_ratios_of(input: &Value, temperature: f64) -> (Table, Tensor<1>) {
    let size = |field: &str| input[field].as_u64().unwrap() as usize;
    let (seq, vocab) = (size("seq_len"), size("vocab"));
    let rows = size("groups") * size("completions_per_group");
    let table = |field: &str| {
        let values: Vec<f64> = (input[field].as_array().unwrap().iter())
            .flat_map(|row| row.as_array().unwrap())
            .flat_map(|position| position.as_array().unwrap())
            .map(|value| value.as_f64().unwrap())
            .collect();
        Table::new(matrix(&values, vocab)) // [rows · seq, vocab]
    };
    // The token after each position, and 1 where it is a real completion token.
    let (mut tokens, mut scored) = (vec![0; rows * seq], vec![0.0; rows * seq]);
    for i in 0..rows {
        for j in input["completion_start"][i].as_u64().unwrap() as usize..seq {
            tokens[i * seq + j - 1] = input["token_ids"][i][j].as_i64().unwrap();
            scored[i * seq + j - 1] = input["attention_mask"][i][j].as_f64().unwrap();
        }
    }
    let positions: Vec<usize> = (0..rows * seq).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [rows * seq, 1]), &device());
    let log_probs =
        |table: &Table| table.log_probs_of(indices(&positions), tokens.clone(), temperature);
    let (policy, reference) = (table("policy_logits"), table("ref_logits"));
    let difference = (log_probs(&policy) - log_probs(&reference)).reshape([rows, seq]);
    let h = (difference * matrix(&scored, seq)).sum_dim(1).reshape([rows]);
    (policy, h)
}

#[test]
fn gradients_are_the_closed_forms() {
    let h = [0.3, -1.7, 2.2, 0.0, -40.0, 35.0];
    let rewards = [1.0, 0.2, -0.5, 0.4, 3.0, -2.0];
    for config in classic_objectives(0.7, 0.4, 0.01) {
        let objective = config.init().unwrap();
        for (h, rewards) in h.chunks(2).zip(rewards.chunks(2)) {
            let (loss, gradient) = run64(&*objective, h, rewards, 2);
            let (expected, expected_gradient) = closed_form(&config, h, rewards);
            assert_close(loss, expected, DOUBLE, &format!("{config:?}"));
            assert_all_close(&gradient, &expected_gradient, DOUBLE, &format!("{config:?}"));
        }
    }
}

#[test]
fn gradients_are_the_slopes_of_the_losses() {
    const STEP: f64 = 1e-5;
    let h = [-5.7, -7.7, -5.2, -6.4];
    let rewards = [1.0, 0.2, -0.5, 0.4];
    for config in all_objectives(0.7, 0.4, 0.01) {
        let objective = config.init().unwrap();
        let k = if objective.check(4).is_ok() { 4 } else { 2 };
        let (_, gradient) = run64(&*objective, &h, &rewards, k);
        for i in 0..h.len() {
            let loss_at = |step: f64| {
                let mut h = h;
                h[i] += step;
                run64(&*objective, &h, &rewards, k).0
            };
            let slope = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
            // Truncation is STEP² ≈ 1e-10, rounding 1e-16 / STEP ≈ 1e-11.
            assert_close(gradient[i], slope, 1e-9, &format!("{config:?}"));
        }
    }
}

#[test]
fn a_small_gradient_keeps_its_digits() {
    // σ(±z) down to e⁻⁶⁰: a sum of terms of size one would leave nothing of the gradient.
    for z in [30.0, 60.0, -30.0, -60.0] {
        for config in classic_objectives(1.0, 0.5, 1e-3) {
            if config.name.name == "dpo-rw" {
                continue; // q − p is a difference of numbers of size one by definition
            }
            let (h, rewards) = ([z, 0.0], [1.0, 0.0]);
            let objective = config.init().unwrap();
            let (_, gradient) = run64(&*objective, &h, &rewards, 2);
            let slope = match config.name.name {
                // q_i [(log q_i − log p_i) − KL] = q_1 q_2 (z − logit p_1) at K = 2.
                "exo-rw" => {
                    (log_sigmoid_of(z) + log_sigmoid_of(-z)).exp() * (z - 1.0 / config.beta_reward)
                }
                _ => closed_form(&config, &h, &rewards).1[0],
            };
            assert!((gradient[0] / slope - 1.0).abs() < 1e-9, "{config:?} z = {z}: {gradient:?}");
            assert!((gradient[1] / slope + 1.0).abs() < 1e-9, "{config:?} z = {z}: {gradient:?}");
        }
    }
}
