//! One shell: where its results go, how they look, and what went wrong.
//!
//! Invariant: [`Session::run`] tells of every failure, by its error; nothing is printed for a statement that failed but
//! what came before it in the same line. Between BEGIN and the user's COMMIT or ROLLBACK every statement goes to the
//! transaction's session: one that the server has ended refuses it, so that nothing runs outside by mistake.

use super::command::{DotCommand, HELP};
use super::format::Format;
use super::level::Level;
use super::statements::Statements;
use super::transaction::Control;
use crate::client::{Client, ClientError, Outcome};
use crate::status;
use serde_json::{Value, json};
use sqlrep_env::Clock;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

/// The longest line of a script: a bound for what a file without line ends can take.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// How deep `.read` may nest: a file that reads itself ends here.
const READ_DEPTH_MAX: usize = 16;

/// Why a statement or command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShellError {
    /// SQLite, or a rule of the server.
    #[error("{0}")]
    Sql(String),
    /// A dot command can't be understood or done.
    #[error("{0}")]
    Command(String),
    /// The node.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The results can't be written, or a script can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Whether the shell goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    Quit,
}

/// Asks a node; a seam, so that tests need none.
pub(super) trait Node {
    fn request(&self, statements: &Value, level: &str) -> Result<Vec<Outcome>, ClientError>;
    /// Opens a transaction; its name.
    fn begin(&self, begin: &str, level: &str) -> Result<String, ClientError>;
    fn statements(&self, session: &str, statements: &Value) -> Result<Vec<Outcome>, ClientError>;
    fn end(&self, session: &str, commit: bool) -> Result<(), ClientError>;
    fn status(&self) -> Result<String, ClientError>;
    fn nodes(&self) -> Result<String, ClientError>;
}

impl Node for Client {
    fn request(&self, statements: &Value, level: &str) -> Result<Vec<Outcome>, ClientError> {
        Self::request(self, statements, level)
    }

    fn begin(&self, begin: &str, level: &str) -> Result<String, ClientError> {
        Self::begin(self, begin, level)
    }

    fn statements(&self, session: &str, statements: &Value) -> Result<Vec<Outcome>, ClientError> {
        Self::statements(self, session, statements)
    }

    fn end(&self, session: &str, commit: bool) -> Result<(), ClientError> {
        Self::end(self, session, commit)
    }

    fn status(&self) -> Result<String, ClientError> {
        status::summary(self)
    }

    fn nodes(&self) -> Result<String, ClientError> {
        status::nodes(self)
    }
}

/// A shell's state.
pub(super) struct Session<'a, N> {
    pub(super) node: N,
    pub(super) clock: &'a dyn Clock,
    pub(super) out: &'a mut dyn Write,
    pub(super) format: Format,
    pub(super) level: Level,
    pub(super) timer: bool,
    pub(super) depth: usize,
    /// The session of the transaction that the user has begun and not ended, whatever the server did with it meanwhile.
    pub(super) transaction: Option<String>,
}

impl<N: Node> Session<'_, N> {
    /// Takes in a line: a dot command where no statement is open, else SQL. Runs what is complete.
    pub(super) fn line(
        &mut self,
        line: &str,
        waiting: &mut Statements,
    ) -> Result<Next, ShellError> {
        if waiting.is_empty() && line.trim_start().starts_with('.') {
            let command = DotCommand::parse(line).map_err(ShellError::Command)?;
            return self.command(command);
        }
        waiting.push(line);
        waiting.push("\n");
        while let Some(statement) = waiting.pop() {
            self.run(&statement)?;
        }
        Ok(Next::Go)
    }

    /// Runs a whole script up to its first failure. The last statement needs no semicolon.
    pub(super) fn script(&mut self, mut script: impl BufRead) -> Result<Next, ShellError> {
        let mut waiting = Statements::default();
        let mut line = String::new();
        while read_line(&mut script, &mut line)? {
            if self.line(line.trim_end_matches(['\n', '\r']), &mut waiting)? == Next::Quit {
                return Ok(Next::Quit);
            }
        }
        if let Some(rest) = waiting.rest() {
            self.run(&rest)?;
        }
        Ok(Next::Go)
    }

    /// Runs a statement and prints what it gave.
    pub(super) fn run(&mut self, statement: &str) -> Result<(), ShellError> {
        match Control::of(statement) {
            None => self.ask(&json!([statement])),
            Some(Control::Begin(begin)) => self.begin(begin),
            Some(Control::Commit) => self.end(true),
            Some(Control::Rollback) => self.end(false),
        }
    }

    fn begin(&mut self, begin: &str) -> Result<(), ShellError> {
        if self.transaction.is_some() {
            let text = "cannot start a transaction within a transaction; COMMIT or ROLLBACK first";
            return Err(ShellError::Sql(text.to_owned()));
        }
        self.transaction = Some(self.node.begin(begin, self.level.name())?);
        Ok(())
    }

    /// Ends the transaction for the shell, unless SQLite says that it is still open.
    fn end(&mut self, commit: bool) -> Result<(), ShellError> {
        let Some(session) = self.transaction.take() else {
            let what = if commit { "commit" } else { "rollback" };
            let text = format!("cannot {what} - no transaction is active");
            return Err(ShellError::Sql(text));
        };
        let ended = self.node.end(&session, commit);
        if let Err(ClientError::StillOpen(_)) = &ended {
            self.transaction = Some(session);
        }
        Ok(ended?)
    }

    /// Takes back what is open when the shell ends.
    pub(super) fn close(&mut self) -> Result<(), ShellError> {
        match self.transaction {
            Some(_) => self.end(false),
            None => Ok(()),
        }
    }

    /// In the transaction, if there is one.
    fn request(&self, statements: &Value) -> Result<Vec<Outcome>, ClientError> {
        match &self.transaction {
            Some(session) => self.node.statements(session, statements),
            None => self.node.request(statements, self.level.name()),
        }
    }

    fn ask(&mut self, statements: &Value) -> Result<(), ShellError> {
        let begun = self.clock.now();
        let outcomes = self.request(statements)?;
        let took = self.clock.now().since(begun);
        for outcome in &outcomes {
            if let Some(error) = &outcome.error {
                return Err(ShellError::Sql(error.clone()));
            }
            self.print(&self.format.show(outcome))?;
        }
        if self.timer {
            self.print(&format!("{:.3} ms\n", took.as_secs_f64() * 1000.0))?;
        }
        Ok(())
    }

    fn print(&mut self, text: &str) -> Result<(), ShellError> {
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }

    fn command(&mut self, command: DotCommand) -> Result<Next, ShellError> {
        match command {
            DotCommand::Quit => return Ok(Next::Quit),
            DotCommand::Read(path) => return self.read(&path),
            DotCommand::Help => self.print(HELP)?,
            DotCommand::Consistency(None) => self.print(&format!("{}\n", self.level.name()))?,
            DotCommand::Consistency(Some(level)) => self.level = level,
            DotCommand::Mode(None) => self.print(&format!("{}\n", self.format.name()))?,
            DotCommand::Mode(Some(format)) => self.format = format,
            DotCommand::Timer(on) => self.timer = on,
            DotCommand::Nodes => {
                let nodes = self.node.nodes()?;
                self.print(&nodes)?;
            }
            DotCommand::Status => {
                let status = self.node.status()?;
                self.print(&status)?;
            }
            DotCommand::Tables => self.names(&json!([TABLES]))?,
            DotCommand::Schema(None) => self.names(&json!([SCHEMA]))?,
            DotCommand::Schema(Some(table)) => self.names(&json!([[SCHEMA_OF, table]]))?,
        }
        Ok(Next::Go)
    }

    /// Prints the first column, whatever the format.
    fn names(&mut self, statements: &Value) -> Result<(), ShellError> {
        for outcome in self.request(statements)? {
            if let Some(error) = outcome.error {
                return Err(ShellError::Sql(error));
            }
            for row in &outcome.values {
                let text = row.first().and_then(Value::as_str).unwrap_or_default();
                self.print(&format!("{}\n", crate::terminal::harmless(text)))?;
            }
        }
        Ok(())
    }

    fn read(&mut self, path: &Path) -> Result<Next, ShellError> {
        let told = |error| ShellError::Command(format!("{}: {error}", path.display()));
        if self.depth >= READ_DEPTH_MAX {
            return Err(told(io::Error::other(
                "files that read files nest too deep",
            )));
        }
        let file = File::open(path).map_err(told)?;
        self.depth += 1;
        let done = self.script(BufReader::new(file));
        self.depth -= 1;
        done
    }
}

const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') \
                      AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";

const SCHEMA: &str = "SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL \
                      AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY tbl_name, type DESC, name";

const SCHEMA_OF: &str = "SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL \
                         AND lower(tbl_name) = lower(?) ORDER BY type DESC, name";

/// The next line, if there is one.
fn read_line(from: &mut impl BufRead, line: &mut String) -> io::Result<bool> {
    line.clear();
    let length = Read::take(&mut *from, LINE_BYTES_MAX).read_line(line)?;
    if length as u64 == LINE_BYTES_MAX {
        return Err(io::Error::other("a line is longer than 64 MiB"));
    }
    Ok(length > 0)
}

#[cfg(test)]
mod tests;
