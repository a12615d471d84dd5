//! Claims about hub ids, tried on a server on loopback: a model is fetched once, into the cache that
//! Python keeps too, and what goes wrong is said in words.

use std::path::Path;

use crate::support::formula::write_tensors;
use crate::support::hub_server::{self, COMMIT, HubServer, NAME};
use crate::support::{Workplace, text};
use assert_cmd::Command;
use serde_json::json;

struct Case {
    place: Workplace,
    server: HubServer,
}

impl Case {
    fn new() -> Self {
        let place = Workplace::new();
        let server = HubServer::start(&place.path("model"));
        place.lines("data.jsonl", [json!({"prompt_ids": [1, 2], "completion_ids": [[3, 4], [5]]})]);
        Self { place, server }
    }

    /// Scores the record with `model`, in an environment of its own.
    fn score(&self, model: &str, environment: &[(&str, &str)]) -> std::process::Output {
        let mut command = Command::cargo_bin("exalign").unwrap();
        command
            .args(["score", "--data", "data.jsonl", "--model", model])
            .current_dir(self.place.folder.path())
            .env("HF_ENDPOINT", &self.server.endpoint)
            .env("HF_HOME", self.place.path("hf"));
        for name in ["HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN_PATH"] {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied()).output().unwrap()
    }

    fn succeeds(&self, model: &str, environment: &[(&str, &str)]) -> String {
        let output = self.score(model, environment);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The last line of what a failing command says, what changes from run to run left out.
    fn refusal(&self, model: &str, environment: &[(&str, &str)]) -> String {
        let output = self.score(model, environment);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        let all = text(&output.stderr);
        all.lines()
            .last()
            .unwrap()
            .replace(&self.server.endpoint, "HUB")
            .replace(&self.place.folder.path().display().to_string(), "HERE")
    }

    fn asked(&self) -> usize {
        self.server.behaviour.lock().unwrap().asked.len()
    }
}

#[test]
fn a_model_is_fetched_once_and_is_the_model_of_its_folder() {
    let case = Case::new();
    let fetched = case.succeeds(NAME, &[]);
    assert_eq!(fetched, case.succeeds("model", &[]));
    let before = case.asked();
    assert_eq!(case.succeeds(NAME, &[]), fetched);
    assert_eq!(case.asked(), before + 1, "only the description is asked for again");
    assert_eq!(case.succeeds(NAME, &[("HF_HUB_OFFLINE", "1")]), fetched);
    assert_eq!(case.asked(), before + 1, "offline asks nothing");
    assert_eq!(case.succeeds(NAME, &[("HF_ENDPOINT", "http://127.0.0.1:9")]), fetched);
    assert_eq!(case.succeeds(&format!("{NAME}@v1"), &[]), fetched);
}

#[test]
fn the_cache_is_laid_out_as_pythons() {
    let case = Case::new();
    case.succeeds(&format!("{NAME}@v1"), &[("HF_HUB_CACHE", "elsewhere")]);
    let model = case.place.path("elsewhere").join("models--owner--tiny");
    assert_eq!(std::fs::read_to_string(model.join("refs/v1")).unwrap(), COMMIT);
    let weights = model.join("snapshots").join(COMMIT).join("model.safetensors");
    let blob = std::fs::canonicalize(&weights).unwrap();
    assert_eq!(blob.parent().unwrap(), std::fs::canonicalize(model.join("blobs")).unwrap());
    assert_eq!(blob.file_name().unwrap(), "etag-of-model-safetensors");
    let own = std::fs::read(case.place.path("model").join("model.safetensors")).unwrap();
    assert!(std::fs::read(weights).unwrap() == own);
    assert!(!case.place.path("hf").exists());

    // The folders that Python takes, in its order; the login is in its home, wherever the cache is.
    case.server.behaviour.lock().unwrap().token = Some("hf_secret".to_owned());
    std::fs::create_dir_all(case.place.path("hf")).unwrap();
    case.place.write("hf/token", "hf_secret\n");
    case.succeeds(NAME, &[("HF_HUB_CACHE", "other")]);
    assert!(case.place.path("other/models--owner--tiny").is_dir());
    std::fs::remove_dir_all(case.place.path("hf")).unwrap();
    case.place.write("login", "hf_secret");
    case.succeeds(NAME, &[("HF_HOME", ""), ("XDG_CACHE_HOME", "xdg"), ("HF_TOKEN_PATH", "login")]);
    assert!(case.place.path("xdg/huggingface/hub/models--owner--tiny").is_dir());
}

#[test]
fn a_download_that_is_cut_goes_on_and_never_passes_for_whole() {
    let case = Case::new();
    // More often than is tried again at once.
    case.server.behaviour.lock().unwrap().cuts = 3;
    insta::assert_snapshot!(case.refusal(NAME, &[]), @"error: owner/tiny@main: cannot be fetched from HUB: Too many retries: io: Peer disconnected; start the command again to go on, or give the model's folder");
    let snapshot = case.place.path("hf/hub/models--owner--tiny/snapshots").join(COMMIT);
    assert!(!snapshot.join("model.safetensors").exists());
    assert_eq!(case.succeeds(NAME, &[]), case.succeeds("model", &[]));
}

#[test]
fn a_token_is_sent_and_its_lack_is_named() {
    let case = Case::new();
    case.server.behaviour.lock().unwrap().token = Some("hf_secret".to_owned());
    insta::assert_snapshot!(case.refusal(NAME, &[]), @"error: owner/tiny@main: HUB lets nobody read it without a token (status 401); set HF_TOKEN, or check the id");
    let wrong = case.refusal(NAME, &[("HF_TOKEN", "hf_other")]);
    insta::assert_snapshot!(wrong, @"error: owner/tiny@main: HUB does not let the owner of HF_TOKEN read it (status 401); accept the model's licence there, or check the id");
    assert!(!wrong.contains("hf_other"));
    case.succeeds(NAME, &[("HF_TOKEN", "hf_secret")]);
}

#[test]
fn what_is_not_there_is_said_to_be_missing() {
    let case = Case::new();
    insta::assert_snapshot!(case.refusal("owner/none", &[]), @"error: owner/none@main: expected a model of this name and revision on HUB, found none; check both, and set HF_TOKEN if it is private");
    insta::assert_snapshot!(case.refusal("owner/tiny@v9", &[]), @"error: owner/tiny@v9: expected a model of this name and revision on HUB, found none; check both, and set HF_TOKEN if it is private");
    insta::assert_snapshot!(case.refusal(NAME, &[("HF_HUB_OFFLINE", "1")]), @"error: owner/tiny@main: expected it in HERE/hf/hub, since HF_HUB_OFFLINE is set, found none; unset it, or give the model's folder");
    insta::assert_snapshot!(case.refusal("no-such-folder", &[]), @"error: no-such-folder: expected a Hugging Face model folder, found none; give the path of a folder with config.json, model.safetensors and tokenizer.json, or a hub id such as owner/name@revision");
    let refused = case.refusal("owner/other", &[("HF_ENDPOINT", "http://127.0.0.1:9")]);
    assert!(refused.contains("cannot be fetched from http://127.0.0.1:9"), "{refused}");
}

#[test]
fn weights_in_shards_come_with_their_index() {
    let case = Case::new();
    let whole = case.succeeds("model", &[]);
    {
        let mut behaviour = case.server.behaviour.lock().unwrap();
        let bytes = behaviour.files.remove("model.safetensors").unwrap();
        let index = json!({"weight_map": {"all": "model-00001-of-00001.safetensors"}});
        behaviour.files.insert("model-00001-of-00001.safetensors".to_owned(), bytes);
        behaviour
            .files
            .insert("model.safetensors.index.json".to_owned(), index.to_string().into_bytes());
        behaviour.files.insert("pytorch_model.bin".to_owned(), vec![0; 64]);
    }
    assert_eq!(case.succeeds(NAME, &[]), whole);
    let asked = &case.server.behaviour.lock().unwrap().asked;
    assert!(!asked.iter().any(|path| path.ends_with(".bin")));
}

#[test]
fn of_the_copies_of_the_weights_only_those_that_are_read_are_fetched() {
    let case = Case::new();
    let whole = case.succeeds("model", &[]);
    {
        let mut behaviour = case.server.behaviour.lock().unwrap();
        for name in ["consolidated.safetensors", "original.safetensors", "model.fp16.safetensors"] {
            behaviour.files.insert(name.to_owned(), vec![0; 64]);
        }
        let index = json!({"weight_map": {"all": "model-00001-of-00001.safetensors"}}).to_string();
        behaviour.files.insert("model.safetensors.index.json".to_owned(), index.into_bytes());
        behaviour.files.insert("model-00001-of-00001.safetensors".to_owned(), vec![0; 64]);
    }
    assert_eq!(case.succeeds(NAME, &[]), whole);
    let fetched = |case: &Case| -> Vec<String> {
        let asked = &case.server.behaviour.lock().unwrap().asked;
        let files = asked.iter().filter_map(|path| path.strip_prefix("/lfs/"));
        let mut files: Vec<String> = files.map(str::to_owned).collect();
        files.dedup();
        files
    };
    assert_eq!(fetched(&case), ["model.safetensors"]);

    let sharded = Case::new();
    {
        let mut behaviour = sharded.server.behaviour.lock().unwrap();
        let bytes = behaviour.files.remove("model.safetensors").unwrap();
        let index = json!({"weight_map": {"all": "model-00001-of-00001.safetensors"}}).to_string();
        behaviour.files.insert("model.safetensors.index.json".to_owned(), index.into_bytes());
        behaviour.files.insert("model-00001-of-00001.safetensors".to_owned(), bytes);
        behaviour.files.insert("consolidated.safetensors".to_owned(), vec![0; 64]);
    }
    assert_eq!(sharded.succeeds(NAME, &[]), whole);
    assert_eq!(fetched(&sharded), ["model-00001-of-00001.safetensors"]);
}

#[test]
fn an_adapters_base_is_fetched_in_the_revision_that_it_names() {
    let case = Case::new();
    let place = &case.place;
    std::fs::create_dir(place.path("adapter")).unwrap();
    let settings = |base: &str| {
        let config = json!({ "peft_type": "LORA", "r": 2, "target_modules": ["c_attn"],
            "base_model_name_or_path": base, "revision": "v1" });
        place.write("adapter/adapter_config.json", &config.to_string());
    };
    // Factors of zeros: the numbers are those of the base.
    let factor = |layer: usize, name: &str, shape: [usize; 2]| {
        let name = format!("base_model.model.transformer.h.{layer}.attn.c_attn.{name}.weight");
        (name, shape.to_vec(), vec![0; 4 * shape[0] * shape[1]])
    };
    let factors = [0, 1].map(|it| [factor(it, "lora_A", [2, 16]), factor(it, "lora_B", [48, 2])]);
    write_tensors(&place.path("adapter/adapter_model.safetensors"), &factors.concat());
    settings(NAME);
    assert_eq!(case.succeeds("adapter", &[]), case.succeeds("model", &[]));
    let asked = case.server.behaviour.lock().unwrap().asked.clone();
    assert!(asked.iter().any(|path| path.ends_with("/revision/v1")), "{asked:?}");
    settings("owner/none");
    insta::assert_snapshot!(case.refusal("adapter", &[]), @"error: adapter/adapter_config.json: `base_model_name_or_path`: `owner/none@v1` cannot be opened (owner/none@v1: expected a model of this name and revision on HUB, found none; check both, and set HF_TOKEN if it is private); correct base_model_name_or_path there, or give the model yourself: exalign merge --model BASE --adapter adapter --out FOLDER");
}

/// All files and links below a folder, by their paths in it.
fn tree(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, into: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() && !path.is_symlink() {
                true => walk(root, &path, into),
                false => into.push(path.strip_prefix(root).unwrap().display().to_string()),
            }
        }
    }
    let mut paths = Vec::new();
    walk(folder, folder, &mut paths);
    paths.sort();
    paths
}

#[test]
fn a_commit_or_an_etag_that_is_a_path_is_refused_before_anything_is_written() {
    let case = Case::new();
    let before = tree(case.place.folder.path());
    let outside = case.place.path("outside").display().to_string();
    let refused = |change: &dyn Fn(&mut hub_server::Behaviour, &str), found: &str| {
        change(&mut case.server.behaviour.lock().unwrap(), found);
        let message = case.refusal(NAME, &[]);
        assert_eq!(tree(case.place.folder.path()), before, "{message}");
        message
    };
    let sha: &dyn Fn(&mut hub_server::Behaviour, &str) = &|it, text| it.sha = Some(text.to_owned());
    insta::assert_snapshot!(refused(sha, "../../../../outside"), @r#"error: owner/tiny@main: cannot be fetched from HUB: the commit is "../../../../outside", expected hexadecimal digits (`sha`); nothing was written; start the command again to go on, or give the model's folder"#);
    for found in [outside.as_str(), "..", "", "main", "a\0b", "0123\\..\\x"] {
        assert!(refused(sha, found).contains("the commit is"), "{found:?}");
    }
    case.server.behaviour.lock().unwrap().sha = None;
    for found in ["../../x", &outside, "..", "a/b", "..\\x", "\"\"", "x.part"] {
        let message = refused(&|it, text| it.etag = Some(text.to_owned()), found);
        assert!(message.contains("the etag is"), "{message}");
    }
    case.server.behaviour.lock().unwrap().etag = None;
    let commit: &dyn Fn(&mut hub_server::Behaviour, &str) =
        &|it, text| it.repo_commit = Some(text.to_owned());
    assert!(refused(commit, "../../../x").contains("(`x-repo-commit`)"));
    assert!(refused(commit, "ffff").contains("expected a file of the commit 0123"));
    case.server.behaviour.lock().unwrap().repo_commit = None;
    // The small files are there by then; the weights lie elsewhere.
    case.server.behaviour.lock().unwrap().linked_etag = Some("../../../x".to_owned());
    let message = case.refusal(NAME, &[]);
    assert!(message.contains("the etag is") && message.contains("../../../x"), "{message}");
    assert_eq!(tree(&case.place.path("hf")).iter().filter(|it| it.ends_with('x')).count(), 0);
    assert!(!case.place.path("hf/hub/x").exists() && !case.place.path("hf/x").exists());
    case.server.behaviour.lock().unwrap().linked_etag = None;
    assert_eq!(case.succeeds(NAME, &[]), case.succeeds("model", &[]));
}

#[test]
fn a_file_of_a_data_set_whose_name_leads_out_of_it_is_refused_before_anything_is_written() {
    let case = Case::new();
    let outside = case.place.path("outside.jsonl").display().to_string();
    let mut set = case.place.exalign();
    set.args(["data", "sentiment", NAME, "--out", "records"])
        .env("HF_ENDPOINT", &case.server.endpoint)
        .env("HF_HOME", case.place.path("hf"));
    let before = tree(case.place.folder.path());
    for name in
        ["../outside.jsonl", "a/../../outside.jsonl", "..\\outside.jsonl", "a\0.jsonl", &outside]
    {
        case.server.behaviour.lock().unwrap().named =
            vec!["good.jsonl".to_owned(), name.to_owned()];
        let message = case.place.refusal(&set.output().unwrap(), "data", 1);
        assert!(message.contains("the name of a file is"), "{message}");
        assert_eq!(tree(case.place.folder.path()), before, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn links_in_the_cache_that_lead_out_of_it_are_neither_read_nor_written_through() {
    use std::os::unix::fs::symlink;
    let case = Case::new();
    let repository = case.place.path("hf/hub/models--owner--tiny");
    let victim = case.place.write("victim", "untouched");
    for folder in ["blobs", "refs"] {
        std::fs::create_dir_all(repository.join(folder)).unwrap();
    }
    for link in ["blobs/etag-of-config-json.part", "blobs/etag-of-config-json.lock", "refs/main"] {
        symlink(&victim, repository.join(link)).unwrap();
    }
    case.succeeds(NAME, &[]);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    let config = repository.join("snapshots").join(COMMIT).join("config.json");
    std::fs::remove_file(&config).unwrap();
    std::fs::copy(case.place.path("model/config.json"), &victim).unwrap();
    symlink(&victim, &config).unwrap();
    for environment in [vec![], vec![("HF_HUB_OFFLINE", "1")]] {
        let message = case.refusal(NAME, &environment);
        assert!(message.contains("found a link that leads out of it, to HERE/victim"), "{message}");
    }
    // What another program noted as the commit is a path as well.
    std::fs::write(repository.join("refs/main"), "../../../../model").unwrap();
    let message = case.refusal(NAME, &[("HF_HUB_OFFLINE", "1")]);
    assert!(message.contains("since HF_HUB_OFFLINE is set, found none"), "{message}");
}

#[test]
fn the_token_goes_to_no_other_host_and_is_in_no_message() {
    let case = Case::new();
    {
        let mut behaviour = case.server.behaviour.lock().unwrap();
        behaviour.token = Some("hf_secret".to_owned());
        behaviour.elsewhere = Some(case.server.endpoint.replace("127.0.0.1", "localhost"));
    }
    case.succeeds(NAME, &[("HF_TOKEN", "hf_secret")]);
    let tokens = case.server.behaviour.lock().unwrap().tokens.clone();
    let (own, others): (Vec<_>, Vec<_>) =
        tokens.iter().partition(|(host, _)| host.starts_with("127.0.0.1"));
    assert!(own.len() > 2 && own.iter().all(|it| it.1.is_some()), "{tokens:?}");
    assert!(!others.is_empty() && others.iter().all(|it| it.1.is_none()), "{tokens:?}");
    let hidden = [("HF_ENDPOINT", "http://me:sesame-9@127.0.0.1:9"), ("HF_TOKEN", "hf_secret")];
    let message = case.refusal("owner/other", &hidden);
    assert!(message.contains("http://…@127.0.0.1:9") && !message.contains("sesame"), "{message}");
}
