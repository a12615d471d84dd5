//! Posts with summaries: TL;DR (Völske et al. 2017) as filtered by Stiennon et al. 2020, and their human
//! comparisons of summaries.

use serde_json::Value;

use super::columns::Columns;
use super::instructions::is_wanted;
use super::{Example, Extras, Reason, Refusal};
use crate::data::Passage;

/// A post with the summary its writer gave, or a comparison of two summaries.
pub(super) fn example(columns: &Columns) -> Result<Example, Refusal> {
    if columns.has("summaries") {
        return comparison(columns);
    }
    // Laid out by others already: the prompt, and one or two answers.
    if columns.is_there("prompt") {
        let prompt = Passage::of_text(columns.text("prompt")?.unwrap_or_default().trim_end());
        // Some call the summary a label; of an answer beside it, a label says whether it is wanted.
        let answers = ["chosen", "completion", "summary"];
        let is_label = !answers.iter().any(|name| columns.has(name));
        if !is_label {
            is_wanted(columns)?;
        }
        let names = if is_label { &["label"][..] } else { &answers[..] };
        let Some((name, _)) = columns.first(names) else {
            let remedy = "call the summary `completion`, or the two `chosen` and `rejected`";
            return Err(columns.missing("completion", "a summary", remedy));
        };
        let chosen = answer(&columns.text(name)?.unwrap_or_default());
        return match columns.is_there("rejected") {
            true => {
                let rejected = answer(&columns.text("rejected")?.unwrap_or_default());
                Example::preference(prompt, chosen, rejected, Extras::default())
            }
            false => Example::demonstration(prompt, chosen, Extras::default()),
        };
    }
    let Some((name, _)) = columns.first(&["post", "content", "body"]) else {
        let remedy = "call the columns `subreddit`, `title`, `post` and `summary`";
        return Err(columns.missing("post", "the text of a post", remedy));
    };
    let post = columns.text(name)?.unwrap_or_default();
    let Some(summary) = columns.text("summary")? else {
        return Err(columns.missing("summary", "the summary of the post", "drop the record"));
    };
    let text = |name| columns.text(name).map(Option::unwrap_or_default);
    let prompt = prompt(&text("subreddit")?, &text("title")?, &post)?;
    Example::demonstration(prompt, answer(&summary), Extras::default())
}

/// `info.{subreddit, title, post}`, `summaries[2].text`, `choice`.
fn comparison(columns: &Columns) -> Result<Example, Refusal> {
    let info = columns.get("info").unwrap_or(&Value::Null);
    let text = |name: &str| info[name].as_str().unwrap_or_default();
    if info["post"].is_null() && !info["article"].is_null() {
        // Comparisons of news summaries lie in the same folder.
        return Err(Refusal::Dropped(Reason::OtherSet));
    }
    let summaries = columns.get("summaries").and_then(Value::as_array);
    let summary = |i: usize| summaries?.get(i)?["text"].as_str().map(answer);
    let (Some(one), Some(two), false) = (summary(0), summary(1), text("post").is_empty()) else {
        return Err(columns
            .problem(
                "summaries",
                "two objects with `text`, and `info` with `post`",
                "give the comparisons as they are published",
            )
            .into());
    };
    let prompt = prompt(text("subreddit"), text("title"), text("post"))?;
    match columns.number("choice")? {
        Some(0.0) => Example::preference(prompt, one, two, Extras::default()),
        Some(1.0) => Example::preference(prompt, two, one, Extras::default()),
        _ => Err(columns.problem("choice", "0 or 1", "drop the record").into()),
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
fn answer(summary: &str) -> Passage {
    Passage::of_text(match summary.trim() {
        "" => String::new(),
        summary => format!(" {summary}"),
    })
}
