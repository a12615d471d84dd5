//! Every objective through the program: the first loss of a training is what `exalign loss` says of the
//! log-probs that `exalign score` finds.

use exalign::alignment::{Takes, objectives};
use serde_json::{Value, json};

use crate::figures::{close, place};
use crate::support::skipped::or_skip;
use crate::support::{Workplace, metrics, text};

/// Prompts and completions of different lengths.
const PROMPTS: [&[u32]; 4] = [&[3, 4], &[0], &[5, 1, 2], &[6]];
const COMPLETIONS: [[&[u32]; 3]; 4] = [
    [&[3, 2], &[3], &[5, 6, 4]],
    [&[3, 6, 2, 3], &[2, 2], &[1, 5, 3]],
    [&[3], &[4, 4, 4], &[2, 6]],
    [&[5, 3], &[1], &[3, 0, 2, 2]],
];
const REWARDS: [[f64; 3]; 4] =
    [[0.9, -0.4, 0.2], [0.5, -0.1, -0.3], [1.5, 0.3, 0.1], [0.25, -2.0, -0.5]];

/// The groups of the first `k` completions; the best one first.
fn groups(k: usize) -> Vec<Value> {
    (0..PROMPTS.len())
        .map(|i| {
            json!({
                "prompt_ids": PROMPTS[i], "completion_ids": &COMPLETIONS[i][..k],
                "rewards": &REWARDS[i][..k], "finished": vec![false; k],
            })
        })
        .collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The sums and numbers of tokens of a file's completions under a model.
fn scored(place: &Workplace, model: &str, data: &str) -> Vec<Value> {
    lines(&place.succeeds(&format!("score --model {model} --data {data} --temperature 0.8")))
}

/// The mean loss of groups as `exalign loss` has it.
fn mean_loss(place: &Workplace, objective: &str, data: &str, k: usize, kl: f64) -> f64 {
    let sides = ["policy", "reference"].map(|model| scored(place, model, data));
    let records = (0..PROMPTS.len()).map(|i| {
        json!({
            "policy": sides[0][i]["log_probs"], "reference": sides[1][i]["log_probs"],
            "num_tokens": sides[0][i]["num_tokens"], "rewards": &REWARDS[i][..k], "kl": kl,
        })
    });
    place.lines("scored.jsonl", records);
    let arguments = format!("loss --objective {objective} --data scored.jsonl --beta-policy 0.7");
    let losses = lines(&place.succeeds(&arguments));
    losses.iter().map(|line| line["loss"].as_f64().unwrap()).sum::<f64>() / losses.len() as f64
}

/// One step of a training on a file; its metrics.
fn first_step(place: &Workplace, objective: &str, data: &str, with: &str) -> Value {
    let out = format!("out-{objective}").replace(['*', '+'], "-");
    place.succeeds(&format!(
        "align --objective {objective} --model policy --data {data} --out {out} --temperature 0.8 --beta-policy 0.7 \
         --max-steps 1 --batch-size 4 --micro-batch-size 1 {with}"
    ));
    metrics(&place.path(&out)).remove(0)
}

/// z₀: the log-ratio of each prompt with the first completion of the next one.
fn mismatched_kl(place: &Workplace) -> f64 {
    let count = PROMPTS.len();
    place.lines(
        "mismatched.jsonl",
        (0..count).map(|i| {
            let completion = COMPLETIONS[(i + 1) % count][0];
            json!({ "prompt_ids": PROMPTS[i], "completion_ids": [completion], "finished": [false] })
        }),
    );
    let sides = ["policy", "reference"].map(|model| scored(place, model, "mismatched.jsonl"));
    let sum =
        |side: &[Value]| side.iter().map(|it| it["log_probs"][0].as_f64().unwrap()).sum::<f64>();
    (sum(&sides[0]) - sum(&sides[1])) / count as f64
}

#[test]
fn the_first_loss_of_every_objective_is_that_of_the_scored_groups() {
    let place = place();
    place.lines("groups.jsonl", groups(3));
    place.lines("pairs.jsonl", groups(2));
    let kl = mismatched_kl(&place);
    assert!(kl > 0.05, "the estimate counts: {kl}");
    // Those of reinforcement learning need samples with the log-probs that they were drawn with.
    let needs_samples = ["rloo", "grpo", "ppo"];
    let named = objectives().into_iter().filter(|it| !needs_samples.contains(&it.name));
    let named = named.map(|it| (it.name, it.takes));
    let sums = [("exo-pref+0.1*nll", Takes::Pairs), ("0.5*kto+simpo", Takes::Pairs)];
    for (name, takes) in named.chain(sums) {
        let (data, k) = match takes {
            Takes::Pairs => ("pairs.jsonl", 2),
            Takes::Rewards | Takes::Labels => ("groups.jsonl", 3),
        };
        let needs_none = ["simpo", "orpo", "nll"].contains(&name);
        let reference = if needs_none { "" } else { "--reference reference" };
        let found = first_step(&place, name, data, reference);
        let expected = mean_loss(&place, name, data, k, kl);
        close(&found["loss"], expected);
        if needs_none {
            let message = place.refuses(
                &format!("align --objective {name} --model policy --reference reference --data {data} --out no"),
                2,
            );
            assert!(message.contains(&format!("{name} needs no reference")), "{message}");
        }
    }
}

#[test]
fn kto_learns_from_completions_with_labels_of_their_own() {
    let place = place();
    let unpaired = |label: fn(usize) -> Value| {
        (0..PROMPTS.len())
            .map(move |i| {
                json!({
                    "prompt_ids": PROMPTS[i], "completion_ids": COMPLETIONS[i][0], "label": label(i),
                    "finished": false,
                })
            })
            .collect::<Vec<_>>()
    };
    place.lines("unpaired.jsonl", unpaired(|i| json!(i % 2 == 0)));
    let with = "--reference reference --desirable-weight 1.5";
    let found = first_step(&place, "kto", "unpaired.jsonl", with);
    let kl = mismatched_kl(&place);
    close(&found["kl"], kl);
    let sums = ["policy", "reference"].map(|model| scored(&place, model, "unpaired.jsonl"));
    let of = |side: &[Value], i: usize| side[i]["log_probs"][0].as_f64().unwrap();
    let losses = (0..PROMPTS.len()).map(|i| {
        let gain = 0.7 * (of(&sums[0], i) - of(&sums[1], i) - kl);
        match i % 2 {
            0 => 1.5 / (1.0 + gain.exp()),
            _ => 1.0 / (1.0 + (-gain).exp()),
        }
    });
    close(&found["loss"], losses.sum::<f64>() / PROMPTS.len() as f64);
    // Whatever the parts of the step: z₀ is that of the whole.
    let whole = "--reference reference --desirable-weight 1.5 --set training.micro_batch_size=4 --out whole";
    place.succeeds(&format!(
        "align --objective kto --model policy --data unpaired.jsonl --temperature 0.8 --beta-policy 0.7 --max-steps 1 \
         --batch-size 4 {whole}"
    ));
    close(&metrics(&place.path("whole"))[0]["loss"], found["loss"].as_f64().unwrap());

    // Chosen and rejected are all desirable and all other completions.
    for (side, name) in ["logps/chosen", "logps/rejected"].into_iter().enumerate() {
        let sum =
            (0..PROMPTS.len()).filter(|i| i % 2 == side).map(|i| of(&sums[0], i)).sum::<f64>();
        close(&found[name], sum / 2.0);
    }
    assert!(found.get("reward_margin").is_none());
    // Policy and reference are rounded alike: nothing is learned yet, and z₀ is 0.
    place.succeeds(
        "align --objective kto --model policy --data unpaired.jsonl --out narrow --max-steps 1 --compute bf16",
    );
    let narrow = metrics(&place.path("narrow")).remove(0);
    assert_eq!(narrow["kl"], 0.0);
    // Where the processor multiplies bf16, a log-ratio may be a rounding away from 0.
    #[cfg(target_arch = "x86_64")]
    let is_exact = !is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let is_exact = true;
    assert!(!is_exact || narrow["accuracy"] == 0.5, "{narrow}");

    // Others compare completions, and say who does not.
    let message =
        place.refuses("align --objective dpo --model policy --data unpaired.jsonl --out no", 1);
    assert!(message.contains("--objective kto"), "{message}");
    place.lines("bad.jsonl", unpaired(|_| json!("good")));
    let message =
        place.refuses("align --objective kto --model policy --data bad.jsonl --out no", 1);
    assert!(message.contains("bad.jsonl:1: `label`"), "{message}");
    for (field, value, found) in [("label", json!(null), "`label`"), ("text", json!("a"), "`text`")]
    {
        let mut record = unpaired(|_| json!(true)).remove(0);
        record[field] = value;
        place.lines("bad.jsonl", [record]);
        let message =
            place.refuses("align --objective kto --model policy --data bad.jsonl --out no", 1);
        assert!(message.contains(&format!("bad.jsonl:1: {found}")), "{message}");
    }
}

#[test]
fn settings_of_objectives_are_read_from_everywhere_and_refused_by_name() {
    let place = place();
    place.lines("scored.jsonl", [json!({ "policy": [-1.0, -2.0], "reference": [-1.5, -1.5] })]);
    let loss = |with: &str| {
        lines(&place.succeeds(&format!("loss --data scored.jsonl {with}")))[0]["loss"].clone()
    };
    assert_eq!(
        loss("--objective cdpo --label-smoothing 0.2"),
        loss("--objective cdpo --set objective.label_smoothing=0.2")
    );
    assert_ne!(loss("--objective cdpo --label-smoothing 0.2"), loss("--objective dpo"));
    assert_eq!(loss("--objective cdpo --label-smoothing 0"), loss("--objective dpo"));
    let refuses = |with: &str| place.refuses(&format!("loss --data scored.jsonl {with}"), 2);
    for (with, key) in [
        ("--objective alpha-pref --alpha 2", "alpha"),
        ("--objective robust-dpo --label-smoothing 0.5", "label_smoothing"),
        ("--objective dpo --nll-weight=-1", "nll_weight"),
        ("--objective exo-pref --epsilon 0", "epsilon"),
        ("--objective exo-pref+other", "found \"exo-pref+other\""),
    ] {
        let message = refuses(with);
        assert!(message.contains(key), "{with}: {message}");
    }
    for (objective, field) in [("ipo", "num_tokens"), ("dpo-list", "rewards")] {
        let message =
            place.refuses(&format!("loss --data scored.jsonl --objective {objective}"), 1);
        assert!(message.contains(&format!("scored.jsonl:1: `{field}` is missing")), "{message}");
    }
}

#[test]
fn the_figures_of_kto_are_means_over_completions_whatever_their_groups() {
    let place = place();
    // Groups of 1, 2, 3 and 1 completions.
    let group = |i: usize| {
        let k = 1 + i % 3;
        json!({
            "prompt_ids": PROMPTS[i], "completion_ids": &COMPLETIONS[i][..k], "rewards": &REWARDS[i][..k],
            "finished": vec![false; k],
        })
    };
    place.lines("mixed.jsonl", (0..PROMPTS.len()).map(group));
    let found = first_step(&place, "kto", "mixed.jsonl", "--reference reference");
    let sides = ["policy", "reference"].map(|model| scored(&place, model, "mixed.jsonl"));
    let of = |side: usize, i: usize, j: usize| sides[side][i]["log_probs"][j].as_f64().unwrap();
    let all: Vec<(usize, usize)> =
        (0..PROMPTS.len()).flat_map(|i| (0..1 + i % 3).map(move |j| (i, j))).collect();
    let mean = |desirable: bool, number: &dyn Fn(usize, usize) -> f64| {
        let own = all.iter().filter(|(i, j)| (REWARDS[*i][*j] > 0.0) == desirable);
        let numbers: Vec<f64> = own.map(|&(i, j)| number(i, j)).collect();
        numbers.iter().sum::<f64>() / numbers.len() as f64
    };
    for (side, desirable) in [("chosen", true), ("rejected", false)] {
        close(&found[format!("logps/{side}")], mean(desirable, &|i, j| of(0, i, j)));
        let reward = |i, j| 0.7 * (of(0, i, j) - of(1, i, j));
        close(&found[format!("rewards/{side}")], mean(desirable, &reward));
        close(
            &found[format!("length/{side}")],
            mean(desirable, &|i, j| COMPLETIONS[i][j].len() as f64),
        );
    }
    let kl = found["kl"].as_f64().unwrap();
    let is_right =
        |&(i, j): &(usize, usize)| (of(0, i, j) - of(1, i, j) > kl) == (REWARDS[i][j] > 0.0);
    let right = all.iter().filter(|it| is_right(it)).count();
    close(&found["accuracy"], right as f64 / all.len() as f64);
}

#[test]
fn the_effective_sample_size_does_not_depend_on_the_micro_batches() {
    let place = place();
    // Every other group says by which log-probs it was drawn.
    let mut all = groups(3);
    for group in all.iter_mut().step_by(2) {
        let completions = group["completion_ids"].as_array().unwrap();
        let drawn = |ids: &Value| vec![json!(-1.5); ids.as_array().unwrap().len()];
        group["log_probs"] = json!(completions.iter().map(drawn).collect::<Vec<_>>());
    }
    place.lines("groups.jsonl", all);
    let size = |micro: usize| {
        place.succeeds(&format!(
            "align --objective exo-rw --model policy --reference reference --data groups.jsonl --out {micro} --max-steps 1 \
             --batch-size 4 --micro-batch-size {micro}"
        ));
        metrics(&place.path(&micro.to_string()))[0]["effective_sample_size"].clone()
    };
    let whole = size(4).as_f64().unwrap();
    assert!(1.0 < whole && whole < 3.0, "{whole}");
    for micro in [1, 2] {
        close(&size(micro), whole);
    }
}

#[test]
fn a_setting_without_effect_is_refused_where_this_command_alone_is_given_it() {
    let place = place();
    place.lines("pairs.jsonl", groups(2));
    let align = |more: &str| {
        format!("align --objective dpo --model policy --data pairs.jsonl --out out {more}")
    };
    let refused = |more: &str| place.refuses(&align(more), 2);
    insta::assert_snapshot!(refused("--label-smoothing 0.3"), @"error: `--label-smoothing`: expected a setting that dpo reads, found one that it does not; leave it out, or choose an objective that does: cdpo or robust-dpo");
    insta::assert_snapshot!(refused("--set objective.gamma=3"), @"error: `--set objective.gamma`: expected a setting that dpo reads, found one that it does not; leave it out, or choose an objective that does: simpo");
    insta::assert_snapshot!(refused("--alpha 32"), @"error: `--alpha`: expected a setting that dpo reads, found one that it does not; leave it out, or choose an objective that does: alpha-pref or alpha-rw; did you mean --lora-alpha?");
    insta::assert_snapshot!(refused("--lora-targets c_attn"), @"error: `--lora-targets`: expected adapters to be trained, found adapter.rank = 0, which trains all weights; give a rank (--lora-rank 16), or leave it out");
    insta::assert_snapshot!(refused("--set adapter={dropout=0.1}"), @"error: `--set adapter`: expected adapters to be trained, found adapter.rank = 0, which trains all weights; give a rank (--lora-rank 16), or leave it out");
    assert!(!place.path("out").exists());
    // One script gives the objectives that are compared the same options.
    let shared = align("--beta-reward 2 --epsilon 0.01 --labels official --max-steps 1");
    let output = place.exalign().args(shared.split_whitespace()).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("`--beta-reward`: dpo does not read it: it has no effect"), "{said}");
    assert_eq!(said.matches("does not read it").count(), 3, "{said}");
    std::fs::remove_dir_all(place.path("out")).unwrap();
    // A file and the environment serve several commands.
    place.write("all.toml", "[objective]\ngamma = 3\n[adapter]\nalpha = 32\n");
    place.succeeds(&align("--config all.toml --max-steps 1"));
    place.succeeds("check --data pairs.jsonl --model policy --set objective.gamma=3");
    // One term of a sum reads it.
    place.succeeds("align --objective dpo+simpo --gamma 3 --model policy --data pairs.jsonl --out sum --max-steps 1");
}

#[test]
fn a_warm_up_as_long_as_the_training_is_told() {
    let place = place();
    place.lines("pairs.jsonl", groups(2));
    let warned = |warmup: usize| {
        let align = format!(
            "align --objective dpo --model policy --data pairs.jsonl --out {warmup} --max-steps 1 --set \
             optimizer.warmup={warmup}"
        );
        let output = place.exalign().args(align.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
            .matches("the learning rate rises over 5 steps, and the training has 1")
            .count()
    };
    assert_eq!((warned(5), warned(0)), (1, 0));
}

#[test]
fn a_program_trains_with_an_objective_of_its_own() {
    // Cargo builds examples before it runs all tests, but not for one binary of them.
    let beside = assert_cmd::cargo::cargo_bin("exalign");
    let example = beside.parent().unwrap().join("examples/own_objective");
    let example = example.exists().then_some(example);
    let Some(example) = or_skip(example, "the examples were not built (cargo build --examples)")
    else {
        return;
    };
    let place = place();
    place.lines("pairs.jsonl", groups(2));
    let mut command = assert_cmd::Command::new(example);
    command.current_dir(place.path("")).env("EXALIGN_CACHE", place.path("cache"));
    let output = command.args(["policy", "pairs.jsonl", "out"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).starts_with("1 steps, last loss Some("),
        "{}",
        text(&output.stdout)
    );
    // exp(−0) at the first step, where policy and reference are the same.
    close(&metrics(&place.path("out"))[0]["loss"], 1.0);
    assert!(place.path("out/model/model.safetensors").exists());
}
