//! Logs and errors on standard error.
//!
//! Foreign text reaches a terminal without control characters, no secret is shown, and a closed or full
//! standard error changes no result.

use std::io::{IsTerminal, Write};

use exalign::progress::terminal;
use exalign::{Error, printable, secrets};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use crate::context::{Color, Global, LogFormat};

/// Standard error, beside the bars. What cannot be written there is lost; the work goes on.
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        terminal::write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = std::io::stderr().flush();
        Ok(())
    }
}

/// [`StandardError`] for events that are JSON, each written at once.
struct JsonOnStandardError;

impl Write for JsonOnStandardError {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let event = match serde_json::from_slice(bytes) {
            Ok(event) => format!("{}\n", secrets::redact_json(event)),
            Err(_) => secrets::redact(&String::from_utf8_lossy(bytes)),
        };
        StandardError.write_all(printable::json(&event).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        StandardError.flush()
    }
}

/// Says on one line why the command fails.
pub fn say_error(error: &Error) {
    let message = printable::message(&secrets::redact(&error.to_string()));
    let _ = writeln!(StandardError, "error: {message}");
}

/// Logs go to standard error: warnings and news by default, more with -v, less with -q.
pub fn start_logging(global: &Global) {
    let level = match i16::from(global.verbose) - i16::from(global.quiet) {
        ..=-2 => "error",
        -1 => "warn",
        0 => "info",
        1 => "debug",
        2.. => "trace",
    };
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|filter| EnvFilter::try_new(filter).ok())
        .unwrap_or_else(|| EnvFilter::new(format!("warn,exalign={level}")));
    let color = match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    match global.log_format {
        LogFormat::Pretty => subscriber
            .with_writer(|| StandardError)
            .with_ansi(color)
            .with_target(false)
            .without_time()
            .fmt_fields(debug_fn(write_field).delimited(" "))
            .init(),
        LogFormat::Json => subscriber.with_writer(|| JsonOnStandardError).json().init(),
    }
}

/// A field of a log line, the message among them.
fn write_field(
    writer: &mut Writer<'_>,
    field: &tracing::field::Field,
    value: &dyn std::fmt::Debug,
) -> std::fmt::Result {
    let value = printable::message(&secrets::redact(&format!("{value:?}")));
    match field.name() {
        "message" => writer.write_str(&value),
        // What events of other crates' logs say of themselves.
        name if name.starts_with("log.") => Ok(()),
        name => write!(writer, "{name}={value}"),
    }
}
