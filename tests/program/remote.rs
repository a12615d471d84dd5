//! Claims about remote devices: two processes over loopback compute what one does, nobody is served
//! without the token, and a server that disappears costs the steps since the last checkpoint.
#![cfg(feature = "remote")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Workplace, json_lines, metrics, text};
use serde_json::{Value, json};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// `exalign serve-device` on flex; ended when it is dropped.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(place: &Workplace, listen: &str) -> Self {
        let mut process = Command::new(assert_cmd::cargo::cargo_bin("exalign"))
            .args(["serve-device", "--device", "flex", "--token-file"])
            .arg(place.write("token", TOKEN))
            .args(["--listen", listen])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        Self { process, address: said["listening"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn client(place: &Workplace, arguments: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("exalign"));
    command
        .args(arguments.split_whitespace())
        .current_dir(place.folder.path())
        .env("EXALIGN_CACHE", place.path("cache-of-the-client"))
        .env("EXALIGN_TOKEN_FILE", place.write("token", TOKEN))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn succeeds(place: &Workplace, arguments: &str) {
    let output = client(place, arguments).output().unwrap();
    assert!(output.status.success(), "exalign {arguments}\n{}", text(&output.stderr));
}

const TRAINING: &str = "--set training.learning_rate=1e-3 --set training.batch_size=8 --set training.micro_batch_size=3 \
     --set training.epochs=3 --set checkpoint.every=2 --seed 5";

fn align(out: &str) -> String {
    format!("align --objective exo-rw --model model --data groups.jsonl --out {out} {TRAINING}")
}

/// The losses of two trainings, equal but for the order of sums on the way.
fn assert_same_losses(one: &Path, two: &Path) {
    let losses = |dir: &Path| -> Vec<f64> {
        metrics(dir).iter().map(|line| line["loss"].as_f64().unwrap()).collect()
    };
    let (one, two) = (losses(one), losses(two));
    assert_eq!(one.len(), two.len());
    assert!(!one.is_empty());
    for (one, two) in one.iter().zip(&two) {
        assert!((one - two).abs() < 1e-5 * (1.0 + one.abs()), "{one} {two}");
    }
}

#[test]
fn sampling_scoring_and_alignment_give_the_numbers_of_one_process() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 20, 3);
    place.lines("prompts.jsonl", (0..6).map(|i| json!({"prompt_ids": [i, (i * 3) % 22]})));
    let server = Server::start(&place, "127.0.0.1:0");
    let both = |command: &str, out: &str| {
        place.succeeds(&format!("{command} --out here-{out} --device flex"));
        succeeds(
            &place,
            &format!("{command} --out there-{out} --device remote:{}", server.address),
        );
        (place.path(&format!("here-{out}")), place.path(&format!("there-{out}")))
    };
    let (here, there) = both(
        "sample --model model --data prompts.jsonl --completions 3 --max-new-tokens 5 --seed 2",
        "samples.jsonl",
    );
    assert_eq!(json_lines(&here), json_lines(&there));
    let (here, there) = both("score --model model --data groups.jsonl", "scores.jsonl");
    for (here, there) in json_lines(&here).iter().zip(json_lines(&there)) {
        for (k, here) in here["log_probs"].as_array().unwrap().iter().enumerate() {
            let (here, there) = (here.as_f64().unwrap(), there["log_probs"][k].as_f64().unwrap());
            assert!((here - there).abs() < 1e-5 * (1.0 + here.abs()), "{here} {there}");
        }
    }
    let (here, there) = both(align("x").split(" --out x").collect::<String>().as_str(), "aligned");
    assert_same_losses(&here, &there);
}

#[test]
fn two_remote_devices_train_together_as_one() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 20, 3);
    let servers = [Server::start(&place, "127.0.0.1:0"), Server::start(&place, "127.0.0.1:0")];
    let devices = servers.each_ref().map(|it| format!("remote:{}", it.address)).join(",");
    place.succeeds(&format!("{} --device flex", align("one")));
    succeeds(&place, &format!("{} --device {devices}", align("two")));
    assert_same_losses(&place.path("one"), &place.path("two"));
}

#[test]
fn nobody_is_served_without_the_token() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 2, 2);
    place.write("empty", "\n");
    let message = place.refuses("serve-device --device flex --token-file empty", 2);
    assert!(
        message.contains("empty: expected a token of at least 16 characters, found 0"),
        "{message}"
    );
    assert!(place.refuses("serve-device --device flex", 2).contains("EXALIGN_TOKEN_FILE"));

    let server = Server::start(&place, "127.0.0.1:0");
    let score =
        format!("score --model model --data groups.jsonl --device remote:{}", server.address);
    let output = client(&place, &score)
        .env_remove("EXALIGN_TOKEN_FILE")
        .env("EXALIGN_TOKEN", "another token of some length")
        .output()
        .unwrap();
    let message = place.refusal(&output, &score, 1);
    assert!(message.contains("with the same token"), "{message}");
    assert!(!message.contains("another token"), "a message must not hold the token: {message}");
    let output = client(&place, &score).env_remove("EXALIGN_TOKEN_FILE").output().unwrap();
    assert!(place.refusal(&output, &score, 2).contains("EXALIGN_TOKEN_FILE must name the file"));
}

#[test]
fn a_server_that_disappears_is_one_line_and_the_same_command_continues() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 40, 4);
    place.succeeds(&format!("{} --device flex", align("whole")));
    let server = Server::start(&place, "127.0.0.1:0");
    let address = server.address.clone();
    let arguments = format!("{} --device remote:{address}", align("lost"));
    let process = client(&place, &arguments).spawn().unwrap();
    let checkpoints = place.path("lost").join("checkpoints");
    while !checkpoints.join("step-4").exists() && !checkpoints.join("step-6").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(server);
    let output = process.wait_with_output().unwrap();
    let message = place.refusal(&output, &arguments, 1);
    assert!(message.contains(&format!("remote:{address}: the device was lost")), "{message}");
    let done = metrics(&place.path("lost")).len();
    assert!((4..15).contains(&done), "{done} steps before it was lost; the claim was not tried");

    let server = Server::start(&place, &address);
    succeeds(&place, &arguments);
    assert_same_losses(&place.path("whole"), &place.path("lost"));
    drop(server);
    let message = place.refusal(
        &client(&place, &arguments.replace("lost", "other")).output().unwrap(),
        "",
        1,
    );
    assert!(message.contains("no session"), "{message}");
}
