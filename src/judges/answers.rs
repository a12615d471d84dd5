//! The answers of endpoints on disk, one file each, named by endpoint and request.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::said::said;
use crate::{Result, files};

/// An endpoint's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub text: String,
    /// What it cost; none where the endpoint does not say.
    pub tokens: Option<Tokens>,
    /// Settings that the endpoint refused and that it was asked without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl Answer {
    /// Whether it says nothing, thoughts left out.
    pub fn is_empty(&self) -> bool {
        said(&self.text).is_empty()
    }
}

/// Tokens of a question and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
}

/// The answers of one endpoint.
#[derive(Clone, Debug)]
pub struct Answers {
    folder: PathBuf,
    url: String,
}

impl Answers {
    /// Those kept under `cache` of the endpoint at `url`.
    pub fn new(cache: &Path, url: &str) -> Self {
        Self { folder: cache.join("judge"), url: url.to_owned() }
    }

    /// The answer to a request; none where it was not asked, its file is damaged, or the answer says
    /// nothing.
    pub fn get(&self, request: &Value) -> Option<Answer> {
        files::read_sealed(&self.path(request)).ok().filter(|answer: &Answer| !answer.is_empty())
    }

    /// Keeps an answer, unless it says nothing. Its file appears whole or not at all.
    pub fn keep(&self, request: &Value, answer: &Answer) -> Result<()> {
        match answer.is_empty() {
            true => Ok(()),
            false => files::write_sealed(&self.path(request), answer),
        }
    }

    fn path(&self, request: &Value) -> PathBuf {
        let text = json!(["a judge's answer, 1", self.url, request]).to_string();
        self.folder.join(format!("{}.json", blake3::hash(text.as_bytes()).to_hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_by_endpoint_and_request_and_damage_is_noticed() {
        let cache = tempfile::tempdir().unwrap();
        let answers = Answers::new(cache.path(), "http://one/v1");
        let request = json!({"model": "m", "messages": []});
        let tokens = Some(Tokens { prompt: 3, completion: 1 });
        let answer = Answer { text: "A".to_owned(), tokens, left_out: Vec::new() };
        answers.keep(&request, &answer).unwrap();
        assert_eq!(answers.get(&request), Some(answer));
        assert_eq!(answers.get(&json!({"model": "n", "messages": []})), None);
        assert_eq!(Answers::new(cache.path(), "http://two/v1").get(&request), None);
        let whole = std::fs::read_to_string(answers.path(&request)).unwrap();
        for damaged in ["{\"text\": ", &whole.replace("\"A\"", "\"B\"")] {
            std::fs::write(answers.path(&request), damaged).unwrap();
            assert_eq!(answers.get(&request), None, "{damaged}");
        }
    }

    #[test]
    fn an_answer_that_says_nothing_is_not_kept_and_not_found_where_it_was() {
        let cache = tempfile::tempdir().unwrap();
        let answers = Answers::new(cache.path(), "http://one/v1");
        let request = json!({"model": "m", "messages": []});
        for text in ["", " \n", "<think>A"] {
            let answer = Answer { text: text.to_owned(), ..Answer::default() };
            answers.keep(&request, &answer).unwrap();
            assert!(!answers.path(&request).exists(), "{text}");
            files::write_sealed(&answers.path(&request), &answer).unwrap();
            assert_eq!(answers.get(&request), None, "{text}");
            std::fs::remove_file(answers.path(&request)).unwrap();
        }
    }
}
