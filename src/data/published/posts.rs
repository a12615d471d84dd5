//! Posts with summaries: TL;DR (Völske et al. 2017) as it was filtered by Stiennon et al. 2020, and
//! their human comparisons of summaries.

use serde_json::Value;

use super::{Example, Reason, Refusal};
use crate::data::{Fields, Passage};

/// A post with the summary its writer gave, or a comparison of two summaries.
pub(super) fn example(fields: &Fields) -> Result<Example, Refusal> {
    if fields.has("summaries") {
        return comparison(fields);
    }
    // Laid out by others already: the prompt, and one or two answers.
    if let Some(prompt) = fields.text("prompt")? {
        let prompt = Passage::of_text(prompt.trim_end());
        let Some((name, _)) = fields.first(&["chosen", "completion", "label", "summary"]) else {
            let remedy = "call the summary `completion`, or the two `chosen` and `rejected`";
            return Err(fields.missing("completion", "a summary", remedy).into());
        };
        let chosen = answer(&fields.text(name)?.unwrap_or_default());
        return match fields.text("rejected")? {
            Some(rejected) => Example::preference(prompt, chosen, answer(&rejected)),
            None => Example::demonstration(prompt, chosen),
        };
    }
    let Some((name, _)) = fields.first(&["post", "content", "body"]) else {
        let remedy = "call the columns `subreddit`, `title`, `post` and `summary`";
        return Err(fields.missing("post", "the text of a post", remedy).into());
    };
    let post = fields.text(name)?.unwrap_or_default();
    let Some(summary) = fields.text("summary")? else {
        return Err(fields.missing("summary", "the summary of the post", "drop the record").into());
    };
    let text = |name| fields.text(name).map(Option::unwrap_or_default);
    let prompt = prompt(&text("subreddit")?, &text("title")?, &post)?;
    Example::demonstration(prompt, answer(&summary))
}

/// `info.{subreddit, title, post}`, `summaries[2].text`, `choice`.
fn comparison(fields: &Fields) -> Result<Example, Refusal> {
    let info = fields.get("info").unwrap_or(&Value::Null);
    let text = |name: &str| info[name].as_str().unwrap_or_default();
    if info["post"].is_null() && !info["article"].is_null() {
        // Comparisons of news summaries lie in the same folder.
        return Err(Refusal::Dropped(Reason::OtherSet));
    }
    let summaries = fields.get("summaries").and_then(Value::as_array);
    let summary = |i: usize| summaries?.get(i)?["text"].as_str().map(answer);
    let (Some(one), Some(two), false) = (summary(0), summary(1), text("post").is_empty()) else {
        return Err(fields
            .missing(
                "summaries",
                "two objects with `text`, and `info` with `post`",
                "give the comparisons as they are published",
            )
            .into());
    };
    let prompt = prompt(text("subreddit"), text("title"), text("post"))?;
    match fields.number("choice")? {
        Some(0.0) => Example::preference(prompt, one, two),
        Some(1.0) => Example::preference(prompt, two, one),
        _ => Err(fields.missing("choice", "0 or 1", "drop the record").into()),
    }
}

/// The prompt's form in Stiennon et al. 2020.
fn prompt(subreddit: &str, title: &str, post: &str) -> Result<Passage, Refusal> {
    let (subreddit, title, post) = (subreddit.trim(), title.trim(), post.trim());
    if post.is_empty() {
        return Err(Refusal::Dropped(Reason::Empty));
    }
    let subreddit = subreddit.trim_start_matches('/');
    let subreddit = subreddit.strip_prefix("r/").unwrap_or(subreddit);
    Ok(Passage::of_text(format!("SUBREDDIT: r/{subreddit}\nTITLE: {title}\nPOST: {post}\nTL;DR:")))
}

/// A completion begins with one space.
fn answer(summary: &str) -> String {
    match summary.trim() {
        "" => String::new(),
        summary => format!(" {summary}"),
    }
}
