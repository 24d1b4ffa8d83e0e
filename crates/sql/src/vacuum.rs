//! Whether a statement is VACUUM: the one that can't run in a transaction.
//!
//! The authorizer isn't asked about it, and neither about what has nothing to do (`DROP TABLE IF EXISTS nowhere`), so its
//! name tells. It doesn't parse: SQLite has compiled the text by then.

use crate::guard::Facts;
use crate::step;

pub(crate) fn is_vacuum(statement: &rusqlite::Statement<'_>, facts: &Facts) -> bool {
    let quiet = !facts.any && !step::reads(statement);
    // Without a text it is too long to be shown with its parameters, and VACUUM has none.
    quiet && statement.expanded_sql().is_some_and(|sql| begins(&sql))
}

/// Whether the first word is VACUUM, behind what SQLite skips before it.
fn begins(sql: &str) -> bool {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\x0c', '\r', ';', '\u{feff}']);
        let after = if rest.starts_with("--") {
            rest.split_once('\n')
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/")
        } else {
            break;
        };
        rest = after.map_or("", |(_, after)| after);
    }
    let word = rest.get(..6).unwrap_or_default();
    word.eq_ignore_ascii_case("VACUUM")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comments_and_empty_statements_come_before_the_word() {
        for sql in [
            "VACUUM",
            " ;-- x\n\u{feff}/* y */vacuum main",
            "Vacuum/**/;",
        ] {
            assert!(begins(sql), "{sql}");
        }
        for sql in [
            "",
            "-- VACUUM",
            "/* VACUUM",
            "DROP TABLE IF EXISTS vacuum",
            "vacuü",
        ] {
            assert!(!begins(sql), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(before in "[-/*; \\n]{0,8}", word in "\\PC{0,8}") {
            let is_it = begins(&format!("{before}{word}"));
            prop_assert!(!is_it || word.to_ascii_lowercase().contains("vacuum"));
        }
    }
}
