//! What a client asks for.

use crate::{Replay, Value};
use serde::{Deserialize, Serialize};

/// A bound value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Parameter {
    /// Takes the next free position.
    Positional(Value),
    /// Binds `:name`, `@name` and `$name`; the name is without its sigil.
    Named(String, Value),
}

/// SQL text with its parameters. The text may hold several statements separated by `;`; positional
/// parameters are used up from left to right across them, and the last statement's result is the outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// SQL.
    pub sql: String,
    /// Bound values.
    pub parameters: Vec<Parameter>,
}

impl Statement {
    /// Text without parameters.
    #[must_use]
    pub fn text(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            parameters: Vec::new(),
        }
    }

    /// Bytes of text and values.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let parameter = |parameter: &Parameter| match parameter {
            Parameter::Positional(value) => 16 + value.heap_bytes(),
            Parameter::Named(name, value) => 16 + name.len() + value.heap_bytes(),
        };
        self.sql.len() + self.parameters.iter().map(parameter).sum::<usize>()
    }
}

/// Which statements answer with rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// Only those that write and return rows (`RETURNING`); a SELECT runs and answers with counts.
    #[default]
    Execute,
    /// All of them; a statement that would write is an error.
    Query,
    /// Each statement as SQLite sees it: rows if it returns columns, else counts.
    Request,
}

/// The unit of commit: one SQLite transaction around all statements, or one per statement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// In order.
    pub statements: Vec<Statement>,
    /// All or nothing: the first error rolls back and ends the request.
    pub transaction: bool,
    /// Which statements answer with rows.
    pub shape: Shape,
    /// Whether [`Rows::tables`](crate::Rows::tables) is wanted.
    pub qualify_columns: bool,
    /// The COMMIT of a session's transaction: its statements ran before, and count only if they give the same again.
    pub replay: Option<Box<Replay>>,
}

impl Request {
    /// One statement without parameters that writes.
    #[must_use]
    pub fn execute(sql: impl Into<String>) -> Self {
        Self {
            statements: vec![Statement::text(sql)],
            ..Self::default()
        }
    }

    /// One statement without parameters that reads.
    #[must_use]
    pub fn query(sql: impl Into<String>) -> Self {
        Self {
            shape: Shape::Query,
            ..Self::execute(sql)
        }
    }

    /// Bytes of text and values, the measure of request limits.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.statements.iter().map(Statement::size_bytes).sum()
    }
}

/// Which transaction a session opens (<https://sqlite.org/lang_transaction.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Begin {
    /// A reader until its first write.
    Deferred,
    /// A writer at once.
    Immediate,
    /// A reader for good, on a pinned version.
    Read,
}
