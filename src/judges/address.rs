//! The address of an endpoint: its base, which messages show, and the URL of requests.

use crate::{Error, Result};

/// An endpoint's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// As in `http://127.0.0.1:8000/v1`, without a query.
    pub base: String,
    /// `?api-version=…`, which Azure's addresses have; empty elsewhere.
    query: String,
}

impl Address {
    /// The address that a user writes as the endpoint's base or as its address for chats.
    ///
    /// # Errors
    /// If it is none, or holds what may be a secret.
    pub fn parse(url: &str) -> Result<Self> {
        let url = url.trim();
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let rest = ["http://", "https://"].iter().find_map(|it| {
            let (scheme, rest) = path.split_at_checked(it.len())?;
            scheme.eq_ignore_ascii_case(it).then_some(rest)
        });
        match rest {
            // Nothing of the address is shown that may be a secret.
            _ if url.contains(['@', '#']) => {
                Err(refused("found one with a user or a mark; keys go into the environment"))
            }
            Some(_) if !is_version(query) => Err(refused(
                "found one with a query other than ?api-version=…; keys go into the environment, other \
                 fields into judge.extra",
            )),
            Some(rest)
                if !rest.trim_matches('/').is_empty() && !rest.contains(char::is_whitespace) =>
            {
                let base = path.trim_end_matches('/').trim_end_matches("/chat/completions");
                let query = if query.is_empty() { String::new() } else { format!("?{query}") };
                Ok(Self { base: base.trim_end_matches('/').to_owned(), query })
            }
            _ => Err(refused(&format!("found `{path}`"))),
        }
    }

    /// What is asked.
    pub fn chat(&self) -> String {
        format!("{}/chat/completions{}", self.base, self.query)
    }

    /// What answers are kept under: the base, and the version where there is one.
    pub fn identity(&self) -> String {
        format!("{}{}", self.base, self.query)
    }

    /// Whether it is of the form that wants its key in the header `api-key`.
    pub fn has_version(&self) -> bool {
        !self.query.is_empty()
    }

    /// Whether it is asked through TLS.
    pub fn is_secure(&self) -> bool {
        self.base.to_ascii_lowercase().starts_with("https:")
    }

    /// The host without its port, in lower case, and the port where one is written.
    pub fn host(&self) -> (String, Option<&str>) {
        let authority = self.base.split("//").nth(1).unwrap_or_default();
        let authority = authority.split('/').next().unwrap_or_default();
        let (host, port) = match authority.strip_prefix('[').and_then(|it| it.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => authority
                .split_once(':')
                .map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        (host.to_ascii_lowercase(), port)
    }
}

/// Nothing, or a version and nothing else.
fn is_version(query: &str) -> bool {
    let is_value = |it: &str| {
        it.len() <= 40 && it.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
    };
    query.is_empty() || query.strip_prefix("api-version=").is_some_and(is_value)
}

fn refused(why: &str) -> Error {
    Error::usage(format!(
        "--judge openai:URL: expected the endpoint's base such as http://127.0.0.1:8000/v1, {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_or_without_what_follows() {
        let chat = |url: &str| Address::parse(url).unwrap().chat();
        assert_eq!(chat("http://h:8000/v1/"), "http://h:8000/v1/chat/completions");
        assert_eq!(chat("https://h/v1/chat/completions"), "https://h/v1/chat/completions");
        assert_eq!(chat("HTTPS://h/v1"), "HTTPS://h/v1/chat/completions");
        let version = "https://h/openai/deployments/d";
        for given in ["", "/", "/chat/completions", "/chat/completions/"] {
            let given = format!("{version}{given}?api-version=2024-10-21");
            assert_eq!(chat(&given), format!("{version}/chat/completions?api-version=2024-10-21"));
        }
        let address = Address::parse(&format!("{version}?api-version=1")).unwrap();
        assert_eq!((address.base.as_str(), address.has_version()), (version, true));
        assert_ne!(
            address.identity(),
            Address::parse(&format!("{version}?api-version=2")).unwrap().identity()
        );
        for (url, host) in [
            ("http://Localhost:1/v1", ("localhost", Some("1"))),
            ("https://[::1]:8/v1", ("::1", Some("8"))),
            ("https://h", ("h", None)),
        ] {
            assert_eq!(Address::parse(url).unwrap().host(), (host.0.to_owned(), host.1));
        }
    }

    #[test]
    fn secrets_in_an_address_are_refused_unread() {
        let refusal = |url: &str| Address::parse(url).unwrap_err().to_string();
        insta::assert_snapshot!(refusal("localhost:8000"), @"--judge openai:URL: expected the endpoint's base such as http://127.0.0.1:8000/v1, found `localhost:8000`");
        insta::assert_snapshot!(refusal("https://h/v1?key=secret"), @"--judge openai:URL: expected the endpoint's base such as http://127.0.0.1:8000/v1, found one with a query other than ?api-version=…; keys go into the environment, other fields into judge.extra");
        for secret in [
            "http://me:secret@h/v1",
            "https://h/v1#secret",
            "https://h/v1?secret",
            "https://h/v1?api-version=1&key=secret",
            "localhost/v1?key=secret",
        ] {
            assert!(!refusal(secret).contains("secret"), "{secret}");
        }
    }
}
