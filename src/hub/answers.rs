//! The answers of a hub, checked before use: a commit, an etag and file names become parts of paths, so a hub
//! that could choose them freely could choose where files are written.

use crate::files::is_below;

/// A commit: hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit(String);

/// What the hub calls a file's content: letters, digits, `-`, `_`, `=` and `+`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etag(String);

/// The path of a file within its repository: names with `/` between them, and no way out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(String);

impl Commit {
    /// None if the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_one =
            (1..=64).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_hexdigit());
        is_one.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Etag {
    /// Reads it as it stands in a header: in quotes, and with `W/` before where it is a weak one. None
    /// if it is none that can be the name of a file.
    pub fn parse(header: &str) -> Option<Self> {
        let text = header.trim();
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        let is_plain = |it: u8| it.is_ascii_alphanumeric() || b"-_=+".contains(&it);
        let is_one = (1..=200).contains(&text.len()) && text.bytes().all(is_plain);
        is_one.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FileName {
    /// None if the text leads anywhere but below its folder, on any system.
    pub fn parse(text: &str) -> Option<Self> {
        is_below(text).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hexadecimal_digits_are_a_commit() {
        assert!(Commit::parse("0123456789abcdefABCDEF").is_some());
        for no in ["", "/abs", "../..", "main", "0123/..", "0123\n", "\0", " 01", "0x01"] {
            assert_eq!(Commit::parse(no), None, "{no:?}");
        }
        assert_eq!(Commit::parse(&"a".repeat(65)), None);
    }

    #[test]
    fn only_plain_words_are_an_etag() {
        for (header, etag) in [
            ("\"5f3a-1b2c\"", "5f3a-1b2c"),
            ("W/\"abc=\"", "abc="),
            ("d41d8cd98f00b204e9800998ecf8427e-12", "d41d8cd98f00b204e9800998ecf8427e-12"),
        ] {
            assert_eq!(Etag::parse(header).unwrap().as_str(), etag);
        }
        for no in ["", "\"\"", "../../x", "/abs", "a/b", "a\\b", "..", "a.part", "a\0b", "a b", "ä"]
        {
            assert_eq!(Etag::parse(no), None, "{no:?}");
        }
        assert_eq!(Etag::parse(&"a".repeat(201)), None);
    }

    #[test]
    fn a_file_name_leads_down_only() {
        for name in ["config.json", "data/train-00000.parquet", "a b/ü.txt", "..a/b..", ".hidden"]
        {
            assert_eq!(FileName::parse(name).unwrap().as_str(), name);
        }
        for no in [
            "", "/", "/abs", "..", "../x", "a/../b", "a/./b", "./a", "a//b", "a/", "a\\..\\b",
            "\\x", "a\0b", "a\nb",
        ] {
            assert_eq!(FileName::parse(no), None, "{no:?}");
        }
        assert_eq!(FileName::parse(&"a".repeat(256)), None);
    }
}
