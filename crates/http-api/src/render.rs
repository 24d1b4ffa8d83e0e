//! A reply as JSON, as rqlite's clients read it: written straight into the body, nothing built in between.
//!
//! How a value shows follows from its storage class and from the declared type of its column. A column without one is
//! named after its first row's value.

use crate::{date, json};
use sqlrep_sql::{Outcome, Reply, Rows, SqlError, Value, Written};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the client asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Format {
    /// Rows as objects.
    pub(crate) associative: bool,
    /// BLOBs as arrays of numbers.
    pub(crate) blob_array: bool,
    /// How long things took.
    pub(crate) timings: bool,
    /// SQLite's codes beside error texts: our own.
    pub(crate) codes: bool,
    /// Whether this is the answer of a read, whose associative errors have rows too.
    pub(crate) read: bool,
}

/// What stands beside the results.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Envelope {
    /// How long the request took.
    pub(crate) took: Option<Duration>,
    /// Where it stands in the log.
    pub(crate) raft_index: Option<u64>,
    /// Whether an earlier request did it: our own.
    pub(crate) replayed: bool,
}

/// The whole body.
pub(crate) fn reply(reply: &Reply, format: Format, envelope: Envelope) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(b"{\"results\":[");
    for (at, outcome) in reply.outcomes.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match outcome {
            Outcome::Written(written) => self::written(&mut out, written, format),
            Outcome::Rows(rows) if format.associative => associative(&mut out, rows, format),
            Outcome::Rows(rows) => self::rows(&mut out, rows, format),
            Outcome::Failed(error) => failed(&mut out, error, format),
        }
    }
    out.push(b']');
    if let Some(took) = envelope.took {
        time(&mut out, took);
    }
    if let Some(index) = envelope.raft_index.filter(|index| *index > 0) {
        out.extend_from_slice(b",\"raft_index\":");
        json::integer(&mut out, index);
    }
    if envelope.replayed {
        out.extend_from_slice(REPLAYED);
    }
    out.push(b'}');
    out
}

const REPLAYED: &[u8] = b",\"replayed\":true";

/// The body of a request that was done before and whose results weren't kept.
pub(crate) fn not_kept(text: &str) -> Vec<u8> {
    let mut out = error(text);
    out.pop();
    out.extend_from_slice(REPLAYED);
    out.push(b'}');
    out
}

/// The body of a request that gave no results.
pub(crate) fn error(text: &str) -> Vec<u8> {
    let mut out = b"{\"results\":[],\"error\":".to_vec();
    json::string(&mut out, text);
    out.push(b'}');
    out
}

/// A comma before every field but an object's first.
fn name(out: &mut Vec<u8>, name: &[u8]) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.extend_from_slice(name);
}

fn time(out: &mut Vec<u8>, took: Duration) {
    if !took.is_zero() {
        name(out, b"\"time\":");
        json::float(out, took.as_secs_f64());
    }
}

fn written(out: &mut Vec<u8>, written: &Written, format: Format) {
    out.push(b'{');
    if written.last_insert_id != 0 {
        name(out, b"\"last_insert_id\":");
        json::integer(out, written.last_insert_id);
    }
    if written.rows_affected != 0 {
        name(out, b"\"rows_affected\":");
        json::integer(out, written.rows_affected);
    }
    if format.timings {
        time(out, written.took);
    }
    if format.associative {
        name(out, b"\"rows\":null");
    }
    out.push(b'}');
}

fn failed(out: &mut Vec<u8>, error: &SqlError, format: Format) {
    out.push(b'{');
    if format.associative && format.read {
        name(out, b"\"rows\":[]");
    }
    name(out, b"\"error\":");
    json::string(out, &error.message);
    if format.codes {
        name(out, b"\"code\":");
        json::integer(out, error.code);
    }
    out.push(b'}');
}

fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn rows(out: &mut Vec<u8>, rows: &Rows, format: Format) {
    let columns = Columns::of(rows);
    out.push(b'{');
    if !rows.columns.is_empty() {
        name(out, b"\"columns\":");
        list(out, 0..rows.columns.len(), |out, at| columns.name(out, at));
        name(out, b"\"types\":");
        list(out, 0..rows.columns.len(), |out, at| {
            json::string(out, columns.type_of(at));
        });
    }
    if !rows.values.is_empty() {
        name(out, b"\"values\":");
        list(out, &rows.values, |out, row| {
            list(out, row.iter().zip(&columns.kinds), |out, (one, kind)| {
                value(out, one, *kind, format);
            });
        });
    }
    if format.timings {
        time(out, rows.took);
    }
    out.push(b'}');
}

/// Keys in the order of their bytes; of columns with one name the last counts.
fn associative(out: &mut Vec<u8>, rows: &Rows, format: Format) {
    let columns = Columns::of(rows);
    let order: BTreeMap<String, usize> = (0..rows.columns.len())
        .map(|at| (columns.qualified(at), at))
        .collect();
    let keys: Vec<(Vec<u8>, usize)> = order
        .into_iter()
        .map(|(key, at)| {
            let mut text = Vec::new();
            json::string(&mut text, &key);
            text.push(b':');
            (text, at)
        })
        .collect();
    out.push(b'{');
    if !keys.is_empty() {
        name(out, b"\"types\":{");
        for (key, at) in &keys {
            name(out, key);
            json::string(out, columns.type_of(*at));
        }
        out.push(b'}');
    }
    name(out, b"\"rows\":");
    list(out, &rows.values, |out, row| {
        out.push(b'{');
        for (key, at) in &keys {
            name(out, key);
            let one = row.get(*at).unwrap_or(&Value::Null);
            value(out, one, columns.kinds[*at], format);
        }
        out.push(b'}');
    });
    if format.timings {
        time(out, rows.took);
    }
    out.push(b'}');
}

struct Columns<'a> {
    rows: &'a Rows,
    kinds: Vec<Kind>,
}

impl<'a> Columns<'a> {
    fn of(rows: &'a Rows) -> Self {
        let mut columns = Self {
            rows,
            kinds: Vec::new(),
        };
        columns.kinds = (0..rows.columns.len())
            .map(|at| Kind::of(columns.declared(at)))
            .collect();
        columns
    }

    fn declared(&self, at: usize) -> &'a str {
        self.rows
            .types
            .get(at)
            .and_then(Option::as_deref)
            .unwrap_or_default()
    }

    fn table(&self, at: usize) -> Option<&'a str> {
        self.rows.tables.as_ref()?.get(at)?.as_deref()
    }

    fn name(&self, out: &mut Vec<u8>, at: usize) {
        match self.table(at) {
            Some(_) => json::string(out, &self.qualified(at)),
            None => json::string(out, &self.rows.columns[at]),
        }
    }

    fn qualified(&self, at: usize) -> String {
        let column = &self.rows.columns[at];
        self.table(at)
            .map_or_else(|| column.clone(), |table| format!("{table}.{column}"))
    }

    /// The declared type; without one, what the first row shows. A BLOB shows as text there.
    fn type_of(&self, at: usize) -> &'a str {
        let declared = self.declared(at);
        if !declared.is_empty() {
            return declared;
        }
        match self.rows.values.first().and_then(|row| row.get(at)) {
            Some(Value::Integer(_)) => "integer",
            Some(Value::Real(_)) => "real",
            Some(Value::Text(_) | Value::Blob(_)) => "text",
            Some(Value::Null) | None => "",
        }
    }
}

/// What a declared type changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Integers are true or false.
    Boolean,
    /// Integers and texts are dates.
    Date,
    /// BLOBs are texts.
    Text,
    /// Nothing.
    Other,
}

impl Kind {
    fn of(declared: &str) -> Self {
        const TEXTS: [&str; 6] = [
            "varchar",
            "varying character",
            "nchar",
            "native character",
            "nvarchar",
            "clob",
        ];
        match declared {
            "boolean" => Self::Boolean,
            "date" | "datetime" | "timestamp" => Self::Date,
            "" | "text" | "json" => Self::Text,
            _ if TEXTS.iter().any(|text| declared.starts_with(text)) => Self::Text,
            _ => Self::Other,
        }
    }
}

fn value(out: &mut Vec<u8>, value: &Value, kind: Kind, format: Format) {
    match (value, kind) {
        (Value::Null, _) => out.extend_from_slice(b"null"),
        (Value::Integer(number), Kind::Boolean) => {
            let word: &[u8] = if *number > 0 { b"true" } else { b"false" };
            out.extend_from_slice(word);
        }
        (Value::Integer(number), Kind::Date) => date::integer(out, *number),
        (Value::Integer(number), _) => json::integer(out, number),
        (Value::Real(number), _) => json::float(out, *number),
        (Value::Text(text), Kind::Date) => date::text(out, text),
        (Value::Text(text), _) => json::string(out, text),
        (Value::Blob(bytes), Kind::Text) => json::bytes_as_text(out, bytes),
        (Value::Blob(bytes), _) if format.blob_array => json::byte_array(out, bytes),
        (Value::Blob(bytes), _) => json::base64(out, bytes),
    }
}
