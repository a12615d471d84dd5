//! A verdict in a few lower-case words: an option, and the words that may follow it.

use crate::evaluation::Verdict;

/// What may stand before an option and says nothing about it.
const FILLERS: [&str; 37] = [
    "the",
    "is",
    "it",
    "it's",
    "overall",
    "therefore",
    "thus",
    "so",
    "hence",
    "i",
    "choose",
    "prefer",
    "pick",
    "select",
    "my",
    "final",
    "answer",
    "summary",
    "reply",
    "output",
    "response",
    "option",
    "assistant",
    "model",
    "candidate",
    "text",
    "completion",
    "choice",
    "version",
    "translation",
    "passage",
    "boxed",
    "would",
    "that",
    "verdict",
    "better",
    "best",
];

/// Words after an option that take it back, or name another beside it.
const TURNS: [&str; 14] = [
    "a", "b", "tie", "or", "and", "vs", "versus", "both", "neither", "no", "wait", "actually",
    "rather", "maybe",
];

/// Words that say that an option is the better one.
const BETTER: [&str; 8] =
    ["better", "best", "superior", "stronger", "preferred", "preferable", "winner", "wins"];

/// Words that may stand before those.
const DEGREES: [&str; 12] = [
    "is",
    "the",
    "clearly",
    "slightly",
    "much",
    "far",
    "marginally",
    "significantly",
    "overall",
    "definitely",
    "somewhat",
    "generally",
];

/// Pictures that take an option back, or doubt it.
const DOUBTS: [char; 18] = [
    '❌', '✖', '✗', '✘', '❎', '✕', '👎', '🚫', '⛔', '🛑', '❓', '❔', '⚠', '☒', '🤔', '🤷', '🙅',
    '🆚',
];

/// Whether a character is a picture that only decorates.
fn is_picture(c: char) -> bool {
    let is_one = matches!(
        c,
        '\u{200d}' | '\u{2600}'..='\u{27bf}' | '\u{2b50}' | '\u{fe0f}' | '\u{1f300}'..='\u{1faff}'
    );
    is_one && !DOUBTS.contains(&c)
}

/// What is neither a letter nor a digit.
pub fn is_mark(c: char) -> bool {
    !c.is_alphanumeric()
}

/// The option that a text begins with, whatever explains it; none where what follows may mean
/// another one.
pub fn option(text: &str) -> Option<Verdict> {
    if let Some(verdict) = comparison(text) {
        return Some(verdict);
    }
    let (verdict, after) = leading(text)?;
    let closed = without_closing(after);
    let is_explained = closed.is_empty()
        || closed.starts_with("</")
        || closed.starts_with(['.', ',', ';', '!', '(', '–', '—'])
        || (closed.starts_with('-') && after.starts_with(char::is_whitespace))
        || claim(closed).is_some_and(is_end_of_claim)
        || ["because ", "since "].iter().any(|it| closed.starts_with(it));
    let is_turn = |word: &str| match word {
        "both" | "neither" => verdict != Verdict::Tie,
        word => TURNS.contains(&word) && word != letter(verdict),
    };
    let turns = first_word(closed).is_some_and(is_turn);
    let is_contested = [Verdict::A, Verdict::B]
        .into_iter()
        .filter(|it| *it != verdict)
        .any(|other| claims(closed, other));
    (is_explained && !turns && !is_contested).then_some(verdict)
}

/// The option that is all that a text says.
pub fn whole(text: &str) -> Option<Verdict> {
    if let Some(verdict) = comparison(text) {
        return Some(verdict);
    }
    let (verdict, after) = leading(text)?;
    let closed = without_closing(after);
    let rest = closed.trim_matches(is_mark);
    let is_question =
        closed.contains(['?', '/', '|', '&', '%', '<', '>', '=']) || closed.contains(DOUBTS);
    let is_claim = claim(closed).is_some_and(|rest| {
        let rest = rest.trim_matches(is_mark);
        let other = rest.strip_prefix("than ").and_then(leading);
        let nouns = ["answer", "response", "reply", "summary", "output", "one", "overall"];
        rest.is_empty()
            || nouns.contains(&rest)
            || other.is_some_and(|(_, after)| after.trim_matches(is_mark).is_empty())
    });
    // An element's end says nothing: <answer>b</answer>.
    let is_element = closed.strip_prefix("</").is_some_and(|it| it.ends_with('>'));
    let is_alone = (rest.is_empty() && !is_question) || is_element;
    (is_alone || (is_claim && verdict != Verdict::Tie)).then_some(verdict)
}

/// "a > b", "b >> a", "a = b".
fn comparison(text: &str) -> Option<Verdict> {
    let (first, after) = leading(text)?;
    let after = without_closing(after);
    let sign: String = after.chars().take_while(|it| "<>=≈≻≺~".contains(*it)).collect();
    let (second, end) = leading(&after[sign.len()..])?;
    let is_end = end.trim_matches(is_mark).is_empty() && !end.contains(['?', '<', '>', '=']);
    if sign.is_empty() || !is_end || second != first.swapped() || first == Verdict::Tie {
        return None;
    }
    let all = |signs: &str| sign.chars().all(|it| signs.contains(it));
    match () {
        () if all(">≻") => Some(first),
        () if all("<≺") => Some(second),
        () if all("=≈~") => Some(Verdict::Tie),
        () => None,
    }
}

/// Whether a text says anywhere that `option` is the better one, or gives it a score.
fn claims(text: &str, option: Verdict) -> bool {
    let letter = letter(option);
    let mut at = 0;
    while let Some(found) = text[at..].find(letter) {
        let (start, end) = (at + found, at + found + letter.len());
        let (before, after) = (&text[..start], &text[end..]);
        let is_word =
            !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric);
        let is_scored = without_closing(after).starts_with([':', '=', '(']);
        let has_number = after.trim_start().starts_with(|it: char| it.is_ascii_digit());
        if is_word && (is_scored || has_number || claim(after.trim_start()).is_some()) {
            return true;
        }
        at = end;
    }
    false
}

fn letter(option: Verdict) -> &'static str {
    match option {
        Verdict::A => "a",
        Verdict::B => "b",
        Verdict::Tie => "tie",
    }
}

/// The option that a text begins with, and what is after it; marks and fillers before it left out.
fn leading(text: &str) -> Option<(Verdict, &str)> {
    // Signs that compare or ask are no decoration.
    let opening = |c: char| is_mark(c) && !"?/|&%<≺".contains(c) && !DOUBTS.contains(&c);
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(opening);
        let (word, after) = rest.split_at(word_length(rest));
        match word {
            // The article of "a tie".
            "a" if matches!(first_word(after), Some("tie" | "draw")) => {}
            "a" => return Some((Verdict::A, after)),
            "b" => return Some((Verdict::B, after)),
            "tie" | "tied" | "draw" | "equal" => return Some((Verdict::Tie, after)),
            word if FILLERS.contains(&word) => {}
            _ => return None,
        }
        rest = after;
    }
}

/// How long the first word is, in bytes; "it's" is one.
fn word_length(text: &str) -> usize {
    let mut rest = text.char_indices().skip_while(|(_, c)| !is_mark(*c));
    match (rest.next(), rest.next()) {
        (Some((_, '\'' | '’')), Some((next, c))) if !is_mark(c) => {
            next + text[next..].find(is_mark).unwrap_or(text.len() - next)
        }
        (Some((at, _)), _) => at,
        (None, _) => text.len(),
    }
}

/// What is after the marks that close a word, and the pictures that decorate it.
fn without_closing(after: &str) -> &str {
    let rest = without_closing_marks(after);
    let behind = rest.trim_start_matches(is_picture);
    match behind.len() < rest.len() {
        true => without_closing_marks(behind),
        false => rest,
    }
}

fn without_closing_marks(after: &str) -> &str {
    after
        .trim_start_matches(['*', '_', '`', '"', '”', '’', '»', '\'', ')', ']', '}', '$', '\\'])
        .trim_start()
        .trim_start_matches(['*', '_', '`'])
        .trim_start()
}

fn first_word(text: &str) -> Option<&str> {
    text.split(is_mark).find(|it| !it.is_empty())
}

/// What is after "is better", "wins", "is clearly the better …" at the beginning of a text.
fn claim(text: &str) -> Option<&str> {
    let mut rest = text;
    let mut is_first = true;
    loop {
        let end = rest.find(is_mark).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if BETTER.contains(&word) && (word == "wins" || !is_first) {
            return Some(after);
        }
        if !DEGREES.contains(&word) {
            return None;
        }
        is_first = false;
        rest = after.trim_start();
    }
}

/// Whether a claim is not narrowed by what follows: "in style" does, a reason does not.
fn is_end_of_claim(rest: &str) -> bool {
    let rest = rest.trim_start();
    let reasons = ["because ", "since ", "than ", "overall", "answer", "response", "one", "reply"];
    rest.is_empty()
        || rest.starts_with(['.', ',', ';', '!', '*', '"', ')', '–', '—', '_', '`'])
        || reasons.iter().any(|it| rest.starts_with(it))
}
