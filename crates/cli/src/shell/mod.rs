//! `sqlrep shell`: SQL to a node over HTTP, from a terminal, a pipe or `-c`.
//!
//! At a terminal an error is shown and the shell goes on; a pipe and `-c` end at the first one with code 1, because
//! what follows in a script mostly builds on what came before. Each statement is a request of its own, or one of the
//! session that BEGIN opens and COMMIT or ROLLBACK ends; what is open when the shell ends is taken back.

mod command;
mod format;
mod level;
mod session;
mod statements;
mod transaction;

pub(crate) use format::Format;
pub(crate) use level::Level;

use crate::arguments::ShellArguments;
use crate::client::Client;
use crate::exit::Exit;
use crate::terminal;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};
use session::{Next, Node, Session, ShellError};
use sqlrep_env::SystemClock;
use statements::Statements;
use std::io::{self, ErrorKind, IsTerminal};
use std::path::PathBuf;

/// Lines that the history keeps.
const HISTORY_LINES_MAX: usize = 1000;

/// Runs a shell.
pub(crate) fn run(arguments: &ShellArguments) -> Exit {
    let client = Client::new(arguments.node.target.clone());
    let target = client.target().clone();
    let clock = SystemClock::start();
    let mut out = io::stdout();
    let mut session = Session {
        node: client,
        clock: &clock,
        out: &mut out,
        format: arguments.format,
        level: arguments.level,
        timer: false,
        depth: 0,
        transaction: None,
    };
    let done = match &arguments.command {
        Some(text) => session.script(text.as_bytes()).map(drop),
        None if io::stdin().is_terminal() => {
            terminal::note(&format!("sqlrep shell, {target}; .help lists commands\n"));
            interactive(&mut session)
        }
        None => session.script(io::stdin().lock()).map(drop),
    };
    let closed = session.close();
    ended(done.and(closed))
}

fn ended(done: Result<(), ShellError>) -> Exit {
    match done {
        Ok(()) => Exit::Ok,
        // Whoever read the results has enough.
        Err(ShellError::Io(error)) if error.kind() == ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            terminal::error(error);
            Exit::Failed
        }
    }
}

fn interactive<N: Node>(session: &mut Session<'_, N>) -> Result<(), ShellError> {
    let told = |error: ReadlineError| ShellError::Io(io::Error::other(error));
    let config = Config::builder()
        .max_history_size(HISTORY_LINES_MAX)
        .map_err(told)?
        .build();
    let mut editor: Editor<(), FileHistory> = Editor::with_config(config).map_err(told)?;
    let history = history_file();
    if let Some(path) = &history {
        remember(editor.load_history(path));
    }
    let end = prompt(session, &mut editor);
    if let Some(path) = &history {
        remember(editor.save_history(path));
    }
    end.map_err(told)
}

fn prompt<N: Node>(
    session: &mut Session<'_, N>,
    editor: &mut Editor<(), FileHistory>,
) -> Result<(), ReadlineError> {
    let mut waiting = Statements::default();
    loop {
        let prompt = match (waiting.is_empty(), &session.transaction) {
            (true, None) => "sqlrep> ",
            (true, Some(_)) => "sqlrep*> ",
            (false, _) => "   ...> ",
        };
        let line = match editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                waiting.clear();
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error),
        };
        editor.add_history_entry(&line)?;
        match session.line(&line, &mut waiting) {
            Ok(Next::Quit) => return Ok(()),
            Ok(Next::Go) => {}
            Err(error) => {
                waiting.clear();
                terminal::error(error);
            }
        }
    }
}

/// A shell without history is still a shell: only what a user can act on is told.
fn remember(result: rustyline::Result<()>) {
    match result {
        Ok(()) => {}
        Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => terminal::note(&format!("warning: the shell's history: {error}\n")),
    }
}

fn history_file() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(PathBuf::from(home).join(".sqlrep_history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_a_normal_end() {
        let closed = ShellError::Io(ErrorKind::BrokenPipe.into());
        assert_eq!(ended(Err(closed)), Exit::Ok);
        assert_eq!(ended(Err(ShellError::Sql("x".to_owned()))), Exit::Failed);
    }
}
