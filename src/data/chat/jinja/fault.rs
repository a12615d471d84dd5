//! The errors that stop a template.

use std::fmt;

pub type Outcome<T> = Result<T, Fault>;

/// Why a template cannot be read or rendered, in one line.
#[derive(Clone, Debug)]
pub struct Fault(String);

impl Fault {
    pub fn new(message: impl AsRef<str>) -> Self {
        Self(clipped(message.as_ref()).replace(['\n', '\r'], " "))
    }

    pub fn at(line: usize, message: &str) -> Self {
        Self::new(format!("line {line}: {message}"))
    }
}

/// The beginning of a text that a message names.
pub fn clipped(text: &str) -> &str {
    const LENGTH: usize = 500;
    text.char_indices().nth(LENGTH).map_or(text, |(end, _)| &text[..end])
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A fault with a formatted message.
macro_rules! fault {
    ($($message:tt)*) => { $crate::data::chat::jinja::fault::Fault::new(format!($($message)*)) };
}

/// Returns a fault with a formatted message.
macro_rules! refuse {
    ($($message:tt)*) => { return Err($crate::data::chat::jinja::fault::Fault::new(format!($($message)*))) };
}

pub(super) use {fault, refuse};
