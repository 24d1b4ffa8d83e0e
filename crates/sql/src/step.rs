//! One compiled statement: binding values, stepping, taking its rows.

use crate::verdict::{Halt, refuse};
use crate::{Parameter, Rows, Value};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Row, Statement, ToSql, ffi};
use std::time::Duration;

/// The parameters of a text, used up from left to right by its statements.
pub(crate) struct Arguments<'a> {
    all: &'a [Parameter],
    positional: std::vec::IntoIter<&'a Value>,
}

impl<'a> Arguments<'a> {
    pub(crate) fn new(all: &'a [Parameter]) -> Self {
        let positional = all.iter().filter_map(|one| match one {
            Parameter::Positional(value) => Some(value),
            Parameter::Named(..) => None,
        });
        Self {
            all,
            positional: positional.collect::<Vec<_>>().into_iter(),
        }
    }

    /// Binds all that `statement` has room for. A name that nothing was given for takes the next position.
    pub(crate) fn bind(&mut self, statement: &mut Statement<'_>) -> Result<(), Halt> {
        let wanted = statement.parameter_count();
        for index in 1..=wanted {
            let named = statement
                .parameter_name(index)
                .and_then(|name| self.named(name));
            let Some(value) = named.or_else(|| self.positional.next()) else {
                let given = self.all.len();
                let text = format!("not enough args to execute query: want {wanted} got {given}");
                return Err(refuse(ffi::SQLITE_RANGE, text));
            };
            let bound = statement.raw_bind_parameter(index, value);
            bound.map_err(|error| {
                let (code, message) = crate::verdict::parts(error);
                refuse(code, message)
            })?;
        }
        Ok(())
    }

    fn named(&self, sigil_and_name: &str) -> Option<&'a Value> {
        let asked = sigil_and_name.get(1..)?;
        self.all.iter().rev().find_map(|one| match one {
            Parameter::Named(name, value) if name == asked => Some(value),
            _ => None,
        })
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Real(real) => ValueRef::Real(*real),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(integer) => Self::Integer(integer),
            ValueRef::Real(real) => Self::Real(real),
            ValueRef::Text(text) => Self::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
}

/// What rows may still take, over all statements of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// Which room ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Rows,
    Bytes,
}

/// Why stepping ended early.
pub(crate) enum StepError {
    Sqlite(rusqlite::Error),
    Full(Full),
}

impl From<rusqlite::Error> for StepError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Runs a bound statement to its end and throws its rows away.
pub(crate) fn run(statement: &mut Statement<'_>) -> Result<(), StepError> {
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(())
}

/// Runs a bound statement to its end and keeps its rows. Columns are asked for behind the first step: only then the
/// statement is certainly compiled for the schema that it reads.
pub(crate) fn rows(
    statement: &mut Statement<'_>,
    tables: bool,
    room: &mut Room,
) -> Result<Rows, StepError> {
    let mut table = None;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        let row_statement: &Statement<'_> = row.as_ref();
        let table = table.get_or_insert_with(|| columns(row_statement, tables));
        take(row, table, room).map_err(StepError::Full)?;
    }
    drop(rows);
    Ok(table.unwrap_or_else(|| columns(statement, tables)))
}

fn columns(statement: &Statement<'_>, tables: bool) -> Rows {
    let (columns, types) = statement
        .columns()
        .map(|column| {
            let declared = column.decl_type().map(str::to_ascii_lowercase);
            (column.name().to_owned(), declared)
        })
        .unzip();
    let tables = tables.then(|| {
        let columns = statement.columns_with_metadata();
        let name = |name: &str| name.to_owned();
        columns
            .map(|column| column.table_name().map(name))
            .collect()
    });
    Rows {
        columns,
        types,
        tables,
        values: Vec::new(),
        took: Duration::ZERO,
    }
}

fn take(row: &Row<'_>, table: &mut Rows, room: &mut Room) -> Result<(), Full> {
    room.rows = room.rows.checked_sub(1).ok_or(Full::Rows)?;
    let mut values = Vec::with_capacity(table.columns.len());
    for index in 0..table.columns.len() {
        let value = row.get_ref(index).expect("the statement has this column");
        let bytes = size_of::<Value>() + heap_bytes(value);
        let left = room.bytes.checked_sub(bytes as u64);
        room.bytes = left.ok_or(Full::Bytes)?;
        values.push(value.into());
    }
    table.values.push(values);
    Ok(())
}

/// Before it is copied.
fn heap_bytes(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 0,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
    }
}

/// A text that SQLite would only read up to its first NUL.
pub(crate) fn check_text(sql: &str) -> Result<(), Halt> {
    match sql.bytes().position(|byte| byte == 0) {
        None => Ok(()),
        Some(at) => Err(refuse(
            ffi::SQLITE_ERROR,
            format!("the SQL text has a NUL character at byte {at}; bind it as a parameter"),
        )),
    }
}

/// Whether SQLite says that it writes nothing. EXPLAIN only reads, whatever it explains.
pub(crate) fn reads(statement: &Statement<'_>) -> bool {
    statement.readonly() || statement.is_explain() != 0
}
