//! Logs: to standard error, as text or JSON lines, quiet unless something needs attention.

use clap::ValueEnum;
use serde::Deserialize;
use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged unless something else is asked for. openraft warns of each client that doesn't wait for its own answer,
/// which none of ours does.
pub(crate) const LEVEL_DEFAULT: &str = "warn,openraft=error";

/// Checks a level or filter like `info` or `warn,sqlrep_core=debug`.
///
/// # Errors
///
/// A text that says what may stand there.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(text).map_err(|error| {
        format!("{text:?} is no log level: {error}; give error, warn, info, debug or trace")
    })
}

/// Starts logging for the rest of the process.
///
/// # Errors
///
/// A bad filter, or a program around this one that logs already.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<(), String> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().with_ansi(false).try_init(),
    };
    started.map_err(|error| format!("logging can't start: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_told_from_nonsense() {
        assert!(filter("info").is_ok());
        assert!(filter("warn,sqlrep_core=debug").is_ok());
        let error = filter("a=loud").unwrap_err();
        assert!(error.contains("give error, warn, info"), "{error}");
    }
}
