//! How results look.
//!
//! `table` and `line` are for people: control characters are shown, not sent. `csv` and `json` are for programs and
//! lossless: what the API's JSON tells is what they say.

use crate::client::Outcome;
use crate::terminal::harmless;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
use std::fmt::Write;

/// A way to show rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns with a frame
    Table,
    /// RFC 4180 with a header; NULL is an empty field
    Csv,
    /// An array of objects, one per row
    Json,
    /// A line per value: name = value
    Line,
}

impl Format {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Line => "line",
        }
    }

    /// Rows as text; empty for a statement without columns.
    pub(super) fn show(self, outcome: &Outcome) -> String {
        let Some(columns) = &outcome.columns else {
            return String::new();
        };
        let rows = &outcome.values;
        match self {
            Self::Table => table(columns, rows),
            Self::Csv => csv(columns, rows),
            Self::Json => json(columns, rows),
            Self::Line => line(columns, rows),
        }
    }
}

/// A value for people and CSV. Text has no quotes; NULL is nothing.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A value for people: NULL is told from an empty text.
fn visible(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        other => harmless(&plain(other)),
    }
}

fn table(columns: &[String], rows: &[Vec<Value>]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(columns.iter().map(|name| harmless(name)));
    for row in rows {
        table.add_row(row.iter().map(visible));
    }
    format!("{table}\n")
}

fn csv(columns: &[String], rows: &[Vec<Value>]) -> String {
    let mut text = String::new();
    csv_row(&mut text, columns.iter().cloned());
    for row in rows {
        csv_row(&mut text, row.iter().map(plain));
    }
    text
}

fn csv_row(text: &mut String, fields: impl Iterator<Item = String>) {
    for (place, field) in fields.enumerate() {
        if place > 0 {
            text.push(',');
        }
        if field.contains([',', '"', '\n', '\r']) {
            text.push('"');
            text.push_str(&field.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(&field);
        }
    }
    text.push('\n');
}

/// By hand, because two columns may have one name, and both are to be seen.
fn json(columns: &[String], rows: &[Vec<Value>]) -> String {
    let object = |row: &Vec<Value>| {
        let pairs = columns.iter().zip(row);
        let pairs = pairs.map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
    };
    let objects: Vec<String> = rows.iter().map(object).collect();
    format!("[{}]\n", objects.join(",\n"))
}

fn line(columns: &[String], rows: &[Vec<Value>]) -> String {
    let names: Vec<String> = columns.iter().map(|name| harmless(name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    for (place, row) in rows.iter().enumerate() {
        if place > 0 {
            text.push('\n');
        }
        for (name, value) in names.iter().zip(row) {
            writeln!(text, "{name:>width$} = {}", visible(value)).expect("a String takes any text");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn rows(columns: &[&str], values: &[&[Value]]) -> Outcome {
        Outcome {
            columns: Some(columns.iter().map(|&name| name.to_owned()).collect()),
            values: values.iter().map(|row| row.to_vec()).collect(),
            ..Outcome::default()
        }
    }

    fn sample() -> Outcome {
        rows(
            &["id", "name"],
            &[
                &[json!(1), json!("a,\"b\"")],
                &[json!(9_223_372_036_854_775_807_i64), Value::Null],
                &[json!(1.5), json!("two\nlines")],
            ],
        )
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let expected = "id,name\n1,\"a,\"\"b\"\"\"\n9223372036854775807,\n1.5,\"two\nlines\"\n";
        assert_eq!(Format::Csv.show(&sample()), expected);
    }

    #[test]
    fn json_keeps_values_and_equal_names() {
        let text = Format::Json.show(&sample());
        let back: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            back[1],
            json!({"id": 9_223_372_036_854_775_807_i64, "name": null})
        );
        let twice = Format::Json.show(&rows(&["a", "a"], &[&[json!(1), json!(2)]]));
        assert_eq!(twice, "[{\"a\":1,\"a\":2}]\n");
        assert_eq!(Format::Json.show(&rows(&["a"], &[])), "[]\n");
    }

    #[test]
    fn lines_align_names() {
        let expected = "  id = 1\nname = a,\"b\"\n\n  id = 9223372036854775807\nname = NULL\n\n  id = 1.5\nname = two\nlines\n";
        assert_eq!(Format::Line.show(&sample()), expected);
    }

    #[test]
    fn tables_have_a_header_and_no_live_escapes() {
        let text = Format::Table.show(&rows(&["x"], &[&[json!("\u{1b}[2J")], &[Value::Null]]));
        assert!(
            text.contains("\\u{1b}[2J") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert!(text.contains("NULL"), "{text}");
        assert!(Format::Table.show(&rows(&["x"], &[])).contains('x'));
    }

    #[test]
    fn a_write_shows_nothing() {
        let written = Outcome {
            rows_affected: Some(1),
            ..Outcome::default()
        };
        assert_eq!(Format::Table.show(&written), "");
    }

    proptest! {
        #[test]
        fn uneven_rows_show_without_a_panic(widths in proptest::collection::vec(0usize..4, 0..4), text in "\\PC{0,6}") {
            let row = |width: &usize| vec![json!(text.as_str()); *width];
            let values: Vec<Vec<Value>> = widths.iter().map(row).collect();
            let outcome = Outcome { columns: Some(vec![text.clone(), "b".to_owned()]), values, ..Outcome::default() };
            for format in [Format::Table, Format::Csv, Format::Json, Format::Line] {
                prop_assert!(format.show(&outcome).ends_with('\n') || outcome.values.iter().all(Vec::is_empty));
            }
        }
    }
}
