//! Server-sent events, as the WHATWG standard defines them.

/// One event: its kind ("message" where it has none) and its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: String,
    pub data: String,
}

/// Whether a body is a stream of events, by its form.
pub fn is_stream(body: &str) -> bool {
    let body = body.trim_start_matches('\u{feff}').trim_start();
    ["data:", "event:", "id:", "retry:", ":"].iter().any(|it| body.starts_with(it))
}

/// The events of a stream that have data, up to its end: lines end in CR LF, LF or CR, an empty line
/// ends an event, several lines of data are one text, lines that begin with a colon are comments.
/// What stands at the end without an empty line is an event as well: some servers leave it out.
pub fn events(body: &str) -> Vec<Event> {
    let body = body.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    let mut all = Vec::new();
    let (mut kind, mut data) = (String::new(), Vec::<&str>::new());
    for line in body.split('\n').chain([""]) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                let kind = std::mem::take(&mut kind);
                let data = std::mem::take(&mut data);
                all.extend(together(kind, &data));
            }
            "event" => value.clone_into(&mut kind),
            "data" => data.push(value),
            // Comments, ids, times to reconnect after, and what the standard does not know.
            _ => {}
        }
    }
    all
}

/// The event of some lines of data. Lines that are objects of their own are an event each, which
/// servers mean that leave out the empty line.
fn together(kind: String, data: &[&str]) -> Vec<Event> {
    if data.is_empty() {
        return Vec::new();
    }
    let kind = if kind.is_empty() { "message".to_owned() } else { kind };
    let is_own = |line: &&str| {
        line.trim() == "[DONE]" || serde_json::from_str::<serde_json::Value>(line).is_ok()
    };
    let event = |data: String| Event { kind: kind.clone(), data };
    match data.len() > 1 && data.iter().all(is_own) {
        true => data.iter().map(|it| event((*it).to_owned())).collect(),
        false => vec![event(data.join("\n"))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(body: &str) -> Vec<String> {
        events(body).into_iter().map(|it| it.data).collect()
    }

    #[test]
    fn fields_comments_and_line_ends_are_read_as_the_standard_says() {
        for ends in ["\n", "\r\n", "\r"] {
            let lines = [
                "\u{feff}: keep-alive",
                "",
                "retry: 100",
                "id: 7",
                "event: delta",
                "data:{\"a\":",
                "data: 1}",
                "",
                ": ping",
                "data:  x ",
                "unknown: y",
                "data",
                "",
                "event: nothing",
                "",
                "data: last",
            ];
            let all = events(&lines.join(ends));
            let kinds: Vec<&str> = all.iter().map(|it| it.kind.as_str()).collect();
            let data: Vec<&str> = all.iter().map(|it| it.data.as_str()).collect();
            assert_eq!(data, ["{\"a\":\n1}", " x \n", "last"], "{ends:?}");
            assert_eq!(kinds, ["delta", "message", "message"]);
        }
    }

    #[test]
    fn objects_on_lines_of_their_own_are_events_of_their_own() {
        assert_eq!(data("data: {\"a\": 1}\ndata: {\"b\": 2}\ndata: [DONE]\n").len(), 3);
        assert_eq!(data("data: {\ndata: \"a\": 1}\n\n"), ["{\n\"a\": 1}"]);
    }

    #[test]
    fn a_stream_is_told_by_its_form() {
        for stream in ["data: {}", "\u{feff}: hello", "\r\nevent: x", "id: 1\ndata: 2"] {
            assert!(is_stream(stream), "{stream}");
        }
        for other in ["{\"data\": 1}", "<html>", "", "[1]"] {
            assert!(!is_stream(other), "{other}");
        }
    }
}
