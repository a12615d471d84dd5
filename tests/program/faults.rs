//! Every stage with a disk that is full or broken, a process that is killed, a power cut: the same
//! command afterwards ends with the same bytes.
//!
//! `EXALIGN_FAULTS` is how many operations of every stage each fault happens to, or `all`.

#![cfg(unix)]

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::faulty::{Disk, Fault, entries, library};
use crate::support::{Workplace, text};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};

const FAULTS: [Fault; 5] = [
    Fault::Error("ENOSPC"),
    Fault::Error("EIO"),
    Fault::Error("EACCES"),
    Fault::Kill,
    Fault::PowerCut,
];

const TRAINING: &str = "--set training.batch_size=4 --set training.max_steps=3 --set training.epochs=3 \
     --set checkpoint.every=2 --seed 3";

/// A folder with everything that the stages read.
fn material() -> Workplace {
    let place = Workplace::new();
    place.groups("groups.jsonl", 9, 3);
    place.lines("prompts.jsonl", (0..6).map(|it| json!({ "prompt_ids": [it, it * 2] })));
    place.lines(
        "texts.jsonl",
        (0..9).map(|it| json!({ "prompt_ids": [it, 3], "completion_ids": [it + 1, it * 2, 22] })),
    );
    place.lines("labels.jsonl", (0..8).map(|it| {
        json!({ "prompt_ids": [it], "completion_ids": [it + 3, it + 1], "label": it % 2 == 0 })
    }));
    place.lines("reviews.jsonl", (0..40).map(|it| {
        json!({ "text": format!("a film of {it} minutes, and then some more to say of it"), "label": it % 2 })
    }));
    place.succeeds(
        "reward --model model --data labels.jsonl --out rewarder --set training.max_steps=1",
    );
    place.succeeds(
        "align --objective exo-rw --model model --data groups.jsonl --out adapter --lora-rank 2 \
         --set training.max_steps=1",
    );
    std::fs::remove_dir_all(place.path("cache")).unwrap();
    place
}

/// What the program's folder holds: the content of every file but of those that tell times or lock.
fn essence(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = contents(root);
    // The cache is several processes': what one leaves there is swept a day later.
    found.retain(|name, _| !(name.starts_with("cache/") && name.contains(".part-")));
    let root = root.to_str().unwrap();
    for (name, content) in &mut found {
        if name.ends_with("adapter_config.json") {
            *content = text(content).replace(root, "ROOT").into_bytes();
        }
    }
    found
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for path in entries(folder) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inner = contents(&path);
            found.extend(inner.into_iter().map(|(inside, it)| (format!("{name}/{inside}"), it)));
        } else if name == "metrics.jsonl" {
            found.insert(name, json!(crate::support::metrics(folder)).to_string().into_bytes());
        } else if !["run.json", "state.json", "checksums.json"].iter().any(|it| name.ends_with(it))
            && !name.ends_with(".lock")
        {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

/// The numbers that a stage prints, but for times.
fn printed(stdout: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(stdout).unwrap_or(Value::Null);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("seconds");
    }
    value
}

/// How many operations of a stage a fault happens to.
fn cases() -> usize {
    match std::env::var("EXALIGN_FAULTS").as_deref() {
        Ok("all") => usize::MAX,
        Ok(number) => number.parse().unwrap(),
        Err(_) => 2,
    }
}

fn survives(command: &str) {
    if library().is_none() {
        return;
    }
    let material = material();
    let whole = Disk::with(material.folder.path());
    let output = whole.exalign(command, Fault::None, 0);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (expected, said) = (essence(&whole.root()), printed(&output.stdout));
    let operations = whole.operations();
    let count = operations.len();
    assert!(count > 8, "no operation of {command} was seen");
    let mut random = ChaCha12Rng::seed_from_u64(count as u64);
    stays_when_the_power_goes_afterwards(&material, command, &expected, &mut random);
    for fault in FAULTS {
        let chosen: Vec<usize> = match cases() {
            cases if cases < count => (0..cases).map(|_| random.random_range(0..count)).collect(),
            _ => (0..count).collect(),
        };
        for at in chosen {
            let case = format!("{fault:?} at operation {} of {command}", operations[at]);
            let disk = Disk::with(material.folder.path());
            let output = disk.exalign(command, fault, at + 1);
            let stderr = text(&output.stderr);
            match fault {
                Fault::Error(_) if !output.status.success() => {
                    assert_eq!(output.status.code(), Some(1), "{case}: {stderr}");
                    let errors = stderr.lines().filter(|it| it.starts_with("error: ")).count();
                    assert_eq!(errors, 1, "{case}: {stderr}");
                    assert!(!stderr.contains("panicked"), "{case}: {stderr}");
                }
                // Nothing depends on the operation, or this time there were not as many.
                _ if output.status.success() => {
                    assert_eq!(printed(&output.stdout), said, "{case}");
                    assert!(matches!(fault, Fault::Error(_)) || at + 9 > count, "{case}");
                }
                _ => assert_eq!(output.status.code(), None, "{case}: {stderr}"),
            }
            if fault == Fault::PowerCut {
                disk.start_again(&mut random);
            }
            let again = disk.exalign(command, Fault::Error("none"), 0);
            assert!(again.status.success(), "{case}, then: {}", text(&again.stderr));
            assert_eq!(printed(&again.stdout), said, "{case}");
            let found = essence(&disk.root());
            let names = |of: &BTreeMap<String, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&found), names(&expected), "{case}");
            for (name, content) in &found {
                assert!(*content == expected[name], "{case}: {name} differs");
            }
        }
    }
}

/// What a command has finished is on the disk when the command ends.
fn stays_when_the_power_goes_afterwards(
    material: &Workplace,
    command: &str,
    expected: &BTreeMap<String, Vec<u8>>,
    random: &mut ChaCha12Rng,
) {
    for _ in 0..3 {
        let disk = Disk::with(material.folder.path());
        assert!(disk.exalign(command, Fault::PowerCut, usize::MAX).status.success());
        disk.start_again(random);
        let found = essence(&disk.root());
        for (name, content) in expected {
            assert!(
                found.get(name) == Some(content),
                "{command}, then a power cut: {name} is lost"
            );
        }
    }
}

macro_rules! stages {
    ($($name:ident: $command:expr;)*) => {$(
        #[test]
        fn $name() {
            survives($command);
        }
    )*};
}

stages! {
    sft_survives: &format!("sft --model model --data texts.jsonl --out out {TRAINING}");
    reward_survives: &format!("reward --model model --data labels.jsonl --out out {TRAINING}");
    align_survives: &format!("align --objective exo-rw --model model --data groups.jsonl --out out {TRAINING}");
    align_with_adapters_survives: &format!("align --objective dpo-rw --model model --data groups.jsonl --out out --lora-rank 2 {TRAINING}");
    sample_survives: "sample --model model --data prompts.jsonl --out out.jsonl --completions 2 --max-new-tokens 5 --set generation.batch_size=2";
    label_survives: "label --reward rewarder --data groups.jsonl --out out.jsonl";
    pairs_survives: "pairs --data groups.jsonl --out out.jsonl";
    score_survives: "score --model model --data groups.jsonl --out out.jsonl";
    evaluate_survives: "evaluate --policy model --reference model --reward rewarder --data prompts.jsonl --out out.jsonl --completions 2 --max-new-tokens 5";
    merge_survives: "merge --model model --adapter adapter/model --out out";
    data_survives: "data sentiment --out out --held-out 4 reviews.jsonl";
}
