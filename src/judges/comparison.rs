//! A comparison: two answers to one prompt, and people's labels.

use serde_json::Value;

use crate::data::{Completion, Fields, Group, Passage, Problem, Record};
use crate::evaluation::Verdict;

/// Two answers to one prompt: `prompt` or `messages`, `completions: [a, b]`, and perhaps
/// `labels: ["a", "tie", ..]`, one a person. `chosen` and `rejected` stand for two completions and the
/// label "a".
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The prompt with its two answers.
    pub group: Group,
    /// What people said.
    pub labels: Vec<Verdict>,
    /// The line that it was read from, where it was.
    pub line: Option<usize>,
}

impl Comparison {
    /// Two answers to `prompt` that nobody has labelled.
    pub fn new(id: Option<Value>, prompt: Passage, answers: [Completion; 2]) -> Self {
        let group = Group { id, prompt, completions: answers.to_vec(), ..Group::default() };
        Self { group, labels: Vec::new(), line: None }
    }

    /// What messages call it: its id, its line, or its place among all, counted from 0.
    pub fn called(&self, place: usize) -> String {
        match (&self.group.id, self.line) {
            (Some(Value::String(id)), _) => format!("id {id}"),
            (Some(id), _) if !id.is_null() => format!("id {id}"),
            (_, Some(line)) => format!("line {line}"),
            _ => format!("comparison {}", place + 1),
        }
    }

    /// The prompt as people read it, the turns of a conversation with their roles; none where there
    /// are only token ids.
    pub fn prompt_text(&self) -> Option<String> {
        self.group.prompt.words()
    }

    /// The two answers' texts; none where there are only token ids.
    pub fn answer_texts(&self) -> Option<[String; 2]> {
        let [a, b] = self.group.completions.as_slice() else { return None };
        Some([a.passage.words()?, b.passage.words()?])
    }

    /// What tells the prompt from others.
    pub fn prompt_key(&self) -> String {
        let Passage { text, ids, .. } = &self.group.prompt;
        let messages = self.group.prompt.messages();
        serde_json::json!([
            text,
            messages,
            if text.is_none() && messages.is_none() { ids } else { &None }
        ])
        .to_string()
    }
}

impl Record for Comparison {
    fn from_fields(fields: &Fields) -> Result<Self, Problem> {
        let is_preference = !fields.has("completions") && !fields.has("completion_ids");
        let mut group = Group::from_fields(fields)?;
        if group.completions.len() != 2 {
            return Err(format!(
                "`completions`: expected 2 to compare, found {}; keep two of them or drop the record",
                group.completions.len()
            ));
        }
        group.rewards = None;
        let labels = match fields.get("labels") {
            None if is_preference => vec![Verdict::A],
            None => Vec::new(),
            Some(Value::Array(labels)) => labels
                .iter()
                .enumerate()
                .map(|(place, it)| {
                    label(it).ok_or_else(|| refused(&format!("labels[{place}]"), it))
                })
                .collect::<Result<_, _>>()?,
            Some(other) => return Err(refused("labels", other)),
        };
        Ok(Self { group, labels, line: None })
    }
}

/// "a" or 0, "b" or 1, "tie" or 0.5.
fn label(value: &Value) -> Option<Verdict> {
    match (value.as_str(), value.as_f64()) {
        (Some("a" | "A"), _) => Some(Verdict::A),
        (Some("b" | "B"), _) => Some(Verdict::B),
        (Some("tie" | "Tie"), _) => Some(Verdict::Tie),
        (_, Some(0.0)) => Some(Verdict::A),
        (_, Some(1.0)) => Some(Verdict::B),
        (_, Some(0.5)) => Some(Verdict::Tie),
        _ => None,
    }
}

fn refused(field: &str, found: &Value) -> Problem {
    let expected = if field == "labels" {
        "a list of \"a\", \"b\" or \"tie\""
    } else {
        "\"a\" (or 0), \"b\" (or 1) or \"tie\""
    };
    format!("`{field}`: expected {expected}, found {found}; correct or drop the record")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Comparison, Problem> {
        Comparison::from_fields(&Fields::parse(line.as_bytes())?)
    }

    #[test]
    fn labels_are_words_or_the_place_of_the_better_answer() {
        let labels = |line: &str| read(line).unwrap().labels;
        let line = |labels: &str| {
            format!(r#"{{"prompt": "p", "completions": ["x", "y"], "labels": {labels}}}"#)
        };
        assert_eq!(labels(&line(r#"["a", "B", "tie"]"#)), [Verdict::A, Verdict::B, Verdict::Tie]);
        assert_eq!(labels(&line("[0, 1, 0.5]")), [Verdict::A, Verdict::B, Verdict::Tie]);
        assert_eq!(labels(r#"{"prompt": "p", "completions": ["x", "y"]}"#), []);
        assert_eq!(labels(r#"{"prompt": "p", "chosen": "x", "rejected": "y"}"#), [Verdict::A]);
    }

    #[test]
    fn what_is_no_comparison_is_refused() {
        let refusal = |line: &str| read(line).unwrap_err();
        insta::assert_snapshot!(refusal(r#"{"prompt": "p", "completions": ["x", "y", "z"]}"#), @"`completions`: expected 2 to compare, found 3; keep two of them or drop the record");
        insta::assert_snapshot!(refusal(r#"{"prompt": "p", "completions": ["x", "y"], "labels": ["a", 2]}"#), @r#"`labels[1]`: expected "a" (or 0), "b" (or 1) or "tie", found 2; correct or drop the record"#);
        insta::assert_snapshot!(refusal(r#"{"prompt": "p", "completions": ["x", "y"], "labels": "a"}"#), @r#"`labels`: expected a list of "a", "b" or "tie", found "a"; correct or drop the record"#);
    }

    #[test]
    fn a_conversation_is_shown_with_its_roles() {
        let shown = |messages: &str| {
            let line = format!(r#"{{"messages": {messages}, "completions": ["x", "y"]}}"#);
            read(&line).unwrap().prompt_text().unwrap()
        };
        let hello = r#"{"role": "user", "content": "Hello"}"#;
        assert_eq!(shown(&format!("[{hello}]")), "Hello");
        let turns = format!(r#"[{hello}, {{"role": "assistant", "content": "Hi"}}, {hello}]"#);
        assert_eq!(shown(&turns), "user: Hello\n\nassistant: Hi\n\nuser: Hello");
    }

    #[test]
    fn a_turn_in_parts_is_its_texts_a_line_each() {
        let parts =
            serde_json::json!([{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]);
        let prompt =
            Passage::of_messages(vec![serde_json::json!({"role": "user", "content": parts})]);
        let answer = Completion::finished(Passage::of_text("x"));
        let comparison = Comparison::new(None, prompt, [answer.clone(), answer]);
        assert_eq!(comparison.prompt_text().unwrap(), "Hel\nlo");
    }
}
