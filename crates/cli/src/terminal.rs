//! The one place that writes for people and pipes: results to standard output, messages to standard error.
//!
//! A reader that went away (`sqlrep shell … | head`) is no failure: what it doesn't want is dropped.

use std::io::{self, ErrorKind, Write};

/// Writes a result.
pub(crate) fn out(text: &str) -> io::Result<()> {
    forgiving(write(&mut io::stdout().lock(), text))
}

/// Tells something about the run. Where standard error is gone, nobody can be told.
pub(crate) fn note(text: &str) {
    write(&mut io::stderr().lock(), text).ok();
}

/// An error message in the form that clap's have.
pub(crate) fn error(text: impl std::fmt::Display) {
    note(&format!("error: {text}\n"));
}

fn write(to: &mut impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.flush()
}

fn forgiving(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Control characters made visible, so that data can't steer the terminal.
pub(crate) fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if c.is_control() => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    if text.chars().any(char::is_control) {
        text.chars().map(shown).collect()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_shown_not_sent() {
        assert_eq!(harmless("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\n");
        assert_eq!(harmless("grüße"), "grüße");
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        assert!(forgiving(Err(ErrorKind::BrokenPipe.into())).is_ok());
        assert!(forgiving(Err(ErrorKind::StorageFull.into())).is_err());
    }
}
