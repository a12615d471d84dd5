//! A model's answer, without the thoughts before it.
//!
//! Servers deliver thoughts in three ways: apart from the answer (`reasoning_content`, which nobody reads),
//! between the model's own marks, or as channels. After a thought that was not closed there is no answer.
//!
//! Some servers let a model run on after the token that ends its turn. What it writes there is no answer.

/// Marks around thoughts: where one begins, where it ends.
const THOUGHTS: [(&str, &str); 10] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("[think]", "[/think]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|start_thinking|>", "<|end_thinking|>"),
    ("<|thought_start|>", "<|thought_end|>"),
];

/// Texts of special tokens that some servers leave at the end of an answer.
const ENDS: [&str; 4] = ["</s>", "<eos>", "<end_of_turn>", "<end▁of▁sentence>"];

/// Texts of tokens that end a turn, and that may be followed by turns that the model made up.
const TURN_ENDS: [&str; 3] = ["<|im_end|>", "<|eot_id|>", "</s>"];

/// The answer in lower case, without thoughts, without what follows its turn, and without the special tokens at
/// its end.
pub fn said(answer: &str) -> String {
    without_thoughts(first_turn(answer)).to_lowercase()
}

/// The text up to the first token that ends a turn. Within a line, such a token may be quoted, or be the end of text
/// that is struck out; so it counts where its line ends or another special token follows.
fn first_turn(text: &str) -> &str {
    let is_end = |(at, token): &(usize, &str)| {
        let behind = text[at + token.len()..].trim_start_matches([' ', '\t', '\r']);
        let is_last = behind.is_empty() || behind.starts_with('\n') || behind.starts_with("<|");
        let is_struck = *token == "</s>" && text[..*at].contains("<s>");
        is_last && !is_struck && !text[..*at].trim().is_empty()
    };
    let ends = TURN_ENDS.iter().flat_map(|token| text.match_indices(token)).filter(is_end);
    ends.map(|(at, _)| at).min().map_or(text, |at| &text[..at])
}

/// The answer without thoughts and without the special tokens at its end.
pub fn without_thoughts(answer: &str) -> String {
    let mut text = last_channel(answer).to_owned();
    for (open, close) in THOUGHTS {
        text = without(&text, open, close);
    }
    without_ends(&text).trim().to_owned()
}

/// The same of a completion of `prompt`. A prompt that ends with the beginning of a thought, as some chat templates
/// ask for an answer, has the completion begin within it.
pub fn completion_without_thoughts(prompt: &str, completion: &str) -> String {
    let before = prompt.trim_end().to_ascii_lowercase();
    match THOUGHTS.iter().find(|(open, _)| before.ends_with(open)) {
        Some((open, _)) => without_thoughts(&format!("{open}{completion}")),
        None => without_thoughts(completion),
    }
}

/// What stands outside of `open` … `close`. An end without a beginning ends a thought that began in
/// the question; a beginning without an end has nothing after it.
fn without(text: &str, open: &str, close: &str) -> String {
    // Of the same length, so that places in the one are those in the other.
    let lower = text.to_ascii_lowercase();
    let mut at = 0;
    let mut kept = String::new();
    loop {
        let (begins, ends) = (lower[at..].find(open), lower[at..].find(close));
        match (begins, ends) {
            (Some(begin), Some(end)) if begin < end => kept.push_str(&text[at..at + begin]),
            (_, Some(_)) => kept.clear(),
            (Some(begin), None) => {
                kept.push_str(&text[at..at + begin]);
                return kept;
            }
            (None, None) => {
                kept.push_str(&text[at..]);
                return kept;
            }
        }
        at = ends.map_or(text.len(), |end| at + end + close.len());
    }
}

/// The last message of the channel `final` where there are channels, and nothing where none of them
/// is final.
fn last_channel(text: &str) -> &str {
    const CHANNEL: &str = "<|channel|>";
    let lower = text.to_ascii_lowercase();
    if lower.contains(CHANNEL) {
        let starts = lower.match_indices(CHANNEL).map(|(at, mark)| at + mark.len());
        let ends = lower.match_indices(CHANNEL).map(|(at, _)| at).skip(1).chain([text.len()]);
        let finals =
            starts.zip(ends).filter(|(at, _)| lower[*at..].trim_start().starts_with("final"));
        const MESSAGE: &str = "<|message|>";
        let message = finals.last().and_then(|(at, end)| {
            let begin = at + lower[at..end].find(MESSAGE)? + MESSAGE.len();
            Some(&text[begin..end])
        });
        return message.unwrap_or_default();
    }
    // The same with its special tokens left out.
    const LEFT: &str = "assistantfinal";
    match lower.rfind(LEFT) {
        Some(at) if lower.trim_start().starts_with("analysis") => &text[at + LEFT.len()..],
        _ => text,
    }
}

/// Without the special tokens at the end.
fn without_ends(text: &str) -> &str {
    let mut text = text.trim_end();
    loop {
        let lower = text.to_ascii_lowercase();
        let marked = text.ends_with("|>").then(|| text.rfind("<|")).flatten();
        let ended =
            || ENDS.iter().find(|end| lower.ends_with(*end)).map(|end| text.len() - end.len());
        match marked.or_else(ended) {
            Some(end) => text = text[..end].trim_end(),
            None => return text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thought_that_the_prompt_begins_ends_in_the_completion_or_not_at_all() {
        for (prompt, completion, expected) in [
            ("q<think>\n", "so 42, let me check", ""),
            ("q<think>\n", "so 42?</think>\n7", "7"),
            ("q <THINK> ", "a <think>b</think> c", "c"),
            ("q◁think▷", "42", ""),
            ("q<think></think>\n", "42", "42"),
            ("q</think>", "42", "42"),
            ("<think> q", "42", "42"),
            ("", "<think>42", ""),
        ] {
            let found = completion_without_thoughts(prompt, completion);
            assert_eq!(found, expected, "{prompt}{completion}");
        }
    }

    #[test]
    fn thoughts_are_passed_over_however_they_are_marked() {
        for (answer, expected) in [
            ("Verdict: A", "verdict: a"),
            ("<think>Verdict: B?</think>\nVerdict: A", "verdict: a"),
            ("<THINK>b</THINK> A", "a"),
            ("Verdict: B?</think>\n\nA", "a"),
            ("<think>B", ""),
            ("Well. <thinking>B</thinking> A", "well.  a"),
            ("<think>one <think>two</think> three</think> A", "a"),
            ("◁think▷B◁/think▷A", "a"),
            ("[THINK]B[/THINK]A", "a"),
            ("<seed:think>B</seed:think>A", "a"),
            ("<|START_THINKING|>B<|END_THINKING|>A", "a"),
            (
                "<|channel|>analysis<|message|>B<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>",
                "a",
            ),
            ("<|channel|>analysis<|message|>Verdict: B", ""),
            ("<|channel|>final <|constrain|>json<|message|>A", "a"),
            ("analysisThey want one. B?assistantfinalA", "a"),
            ("A<|im_end|>", "a"),
            ("A</s><|eot_id|> ", "a"),
            ("A<|im_end|>\n<|im_start|>user\nB?", "a"),
            ("A<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nB", "a"),
            ("A</s>\n[INST] B [/INST]", "a"),
            ("<think>B</think>A<|im_end|>\n<|im_start|>assistant\n</think>B", "a"),
            ("<|im_end|>\nA", "<|im_end|>\na"),
            ("A ends in <|im_end|>, B does not", "a ends in <|im_end|>, b does not"),
            ("It has <s>bold</s>\nA", "it has <s>bold</s>\na"),
        ] {
            assert_eq!(said(answer), expected, "{answer}");
        }
    }
}
