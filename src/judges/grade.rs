//! The grade in a grader's answer. In doubt there is none: a grader can be asked again, but a misread grade is
//! never noticed.
//!
//! The first of these that the answer holds is read: a JSON object with a `grade`; the last line that opens with a grade
//! ("Grade: 7", "**Final grade:** 7/10") or holds "[[7]]"; one that opens with a rating or a score; one that names any of
//! them further on; a last line that is nothing but a number.

use serde_json::Value;

use super::said::said;

/// The words that name a grade.
const NAMES: [&str; 3] = ["grade", "rating", "score"];

/// Decoration around a number or its name.
const DECORATION: [char; 14] =
    ['*', '_', '`', '"', '\'', '“', '”', '(', ')', '[', ']', '#', ' ', '\t'];

/// The grade that an answer holds; where grades have a `scale`, one within it.
pub fn grade_in(answer: &str, scale: Option<[f64; 2]>) -> Option<f64> {
    let said = said(answer);
    let found = match in_object(&said) {
        Some(found) => found,
        None => in_lines(&said, scale),
    };
    let is_within = |grade: &f64| scale.is_none_or(|[low, high]| (low..=high).contains(grade));
    found.filter(is_within)
}

/// What an answer says that ends in a JSON object with a grade.
fn in_object(said: &str) -> Option<Option<f64>> {
    let (from, to) = (said.find('{')?, said.rfind('}')?);
    let object: Value = serde_json::from_str(said.get(from..=to)?).ok()?;
    let grade = NAMES.iter().find_map(|name| object.get(name))?;
    let of_text = || grade.as_str().and_then(|text| text.trim().parse().ok());
    Some(grade.as_f64().or_else(of_text).filter(|it: &f64| it.is_finite()))
}

fn in_lines(said: &str, scale: Option<[f64; 2]>) -> Option<f64> {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let [grade, others @ ..] = &NAMES;
    // What is asked for before its other names, and what opens a line before what a sentence says of it.
    let ways: [(&[&str], bool); 4] =
        [(&[grade], true), (others, true), (&[grade], false), (others, false)];
    for (names, opens) in ways {
        for (at, line) in lines.iter().enumerate().rev() {
            if let Some(value) = names.iter().find_map(|name| named(line, name, opens)) {
                // A heading has its grade on the next line.
                let value = if value.is_empty() { lines.get(at + 1).copied()? } else { value };
                return number(value, scale);
            }
            if line.contains("[[") {
                return number(line.rsplit("[[").next()?, scale);
            }
        }
    }
    let last = lines.last()?;
    let is_bare = !last.chars().any(char::is_alphabetic) || last.contains("out of");
    number(last, scale).filter(|_| is_bare)
}

/// What follows the name of a grade and a colon in a line; empty where nothing does. Where the name is to open the line,
/// words such as "final" may stand before it.
fn named<'a>(line: &'a str, name: &str, opens: bool) -> Option<&'a str> {
    const OPENING: [&str; 6] = ["final", "overall", "total", "my", "the", "so"];
    let mut found = line.match_indices(name).filter(|(at, _)| {
        let is_word = |text: Option<char>| text.is_none_or(|c| !c.is_alphanumeric());
        is_word(line[..*at].chars().next_back()) && is_word(line[at + name.len()..].chars().next())
    });
    let (at, _) = if opens { found.next()? } else { found.last()? };
    let mut before = line[..at].split(|c| DECORATION.contains(&c)).filter(|word| !word.is_empty());
    if opens && !before.all(|word| OPENING.contains(&word)) {
        return None;
    }
    let behind = line[at + name.len()..].trim_start_matches(DECORATION);
    let value = behind.trim_start_matches([':', '：', '=']).trim_start_matches(DECORATION);
    let value = value.strip_prefix("is ").unwrap_or(value);
    let is_said = value.len() < behind.len() || behind.starts_with(|c: char| c.is_ascii_digit());
    is_said.then(|| value.trim_matches(DECORATION))
}

/// The number that a text begins with, where nothing behind it may mean another.
fn number(text: &str, scale: Option<[f64; 2]>) -> Option<f64> {
    let text = text.trim_start_matches(DECORATION);
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let sign = usize::from(text.starts_with('-'));
    let end = text[sign..].find(|c| !is_part(c)).map_or(text.len(), |end| sign + end);
    let value: f64 = text[..end].trim_end_matches('.').parse().ok()?;
    let rest = text[end..].trim_start_matches(DECORATION);
    let of = rest.strip_prefix('/').or_else(|| rest.strip_prefix("out of")).map(str::trim_start);
    let rest = match of {
        None => rest,
        Some(of) => {
            let end = of.find(|c| !is_part(c)).unwrap_or(of.len());
            let best: f64 = of[..end].trim_end_matches('.').parse().ok()?;
            if scale.is_some_and(|[_, high]| high != best) || value > best {
                return None;
            }
            of[end..].trim_start_matches(DECORATION)
        }
    };
    let explains = rest.starts_with([',', '.', ';', ':', '—', '–']) || rest.starts_with("- ");
    let is_clear = rest.is_empty() || explains || text[end..].trim_start().starts_with('(');
    (is_clear && !rest.contains(|c: char| c.is_ascii_digit())).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grade_is_read_as_graders_write_it_and_in_doubt_there_is_none() {
        for (answer, grade) in [
            ("Grade: 7", Some(7.0)),
            ("It is short.\n\n**Grade:** 7/10", Some(7.0)),
            ("Grade: **7**", Some(7.0)),
            ("**Grade: 7.5**", Some(7.5)),
            ("Grade: 7 out of 10.", Some(7.0)),
            ("Final grade: 8\n", Some(8.0)),
            ("Grade: 7 (clear, but long)", Some(7.0)),
            ("Grade: 7, since it is clear", Some(7.0)),
            ("The grade is 9.", Some(9.0)),
            ("Grade:\n6", Some(6.0)),
            ("Grade: 3\nOn reflection:\nGrade: 4", Some(4.0)),
            ("My rating: [[5]]", Some(5.0)),
            ("<think>Grade: 2</think>Grade: 5", Some(5.0)),
            ("{\"reason\": \"ok\", \"grade\": 8}", Some(8.0)),
            ("```json\n{\"grade\": \"8\"}\n```", Some(8.0)),
            ("**7**", Some(7.0)),
            ("7/10", Some(7.0)),
            ("Grade: 3\n\nFor comparison, a perfect answer would have score: 10", Some(3.0)),
            ("Grade: 6\nSuggested upgrade: 8", Some(6.0)),
            ("Grade: 6 out of 10\nDegrade: 2", Some(6.0)),
            ("Grade: 6\nStyle score: 9", Some(6.0)),
            ("Grade: 9\nThe score is 4.", Some(9.0)),
            ("Grade: 6\nHere a grade: 9 would be too much.", Some(6.0)),
            ("Style score: 9\nOverall rating: 4", Some(4.0)),
            ("Grade: 7 or 8", None),
            ("Grade: 7-8", None),
            ("Grade: 7/5", None),
            ("Grade: 70/100", None),
            ("Grade: 11", None),
            ("Grade: 0", None),
            ("Grade: seven", None),
            ("Grade: N", None),
            ("a grade from 1 to 10", None),
            ("There are 7 reasons", None),
            ("<think>Grade: 2", None),
            ("{\"grade\": null}", None),
            ("", None),
        ] {
            assert_eq!(grade_in(answer, Some([1.0, 10.0])), grade, "{answer}");
        }
        assert_eq!(grade_in("Score: -2", None), Some(-2.0));
        assert_eq!(grade_in("Score: 70/100", None), Some(70.0));
    }
}
