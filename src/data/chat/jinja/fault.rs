//! What stops a template.

use std::fmt;

pub type Outcome<T> = Result<T, Fault>;

/// Why a template cannot be read or rendered, in one line.
#[derive(Clone, Debug)]
pub struct Fault(String);

impl Fault {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into().replace(['\n', '\r'], " "))
    }

    pub fn at(line: usize, message: &str) -> Self {
        Self::new(format!("line {line}: {message}"))
    }
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
