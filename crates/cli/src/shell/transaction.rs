//! BEGIN, COMMIT and ROLLBACK: statements that the shell itself turns into calls of a session.
//!
//! It reads no more of SQL than the first words of a statement.

/// What a statement does to the shell's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// By the API's name.
    Begin(&'static str),
    Commit,
    Rollback,
}

impl Control {
    /// None for every other statement, `ROLLBACK TO` a savepoint among them.
    pub(super) fn of(statement: &str) -> Option<Self> {
        let text = statement.trim().trim_end_matches(';');
        let words: Vec<String> = text
            .split_whitespace()
            .take(4)
            .map(str::to_ascii_uppercase)
            .collect();
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        if words.last() == Some(&"TRANSACTION") && words.len() > 1 {
            words.pop();
        }
        match words[..] {
            ["BEGIN"] | ["BEGIN", "DEFERRED"] => Some(Self::Begin("deferred")),
            // There is one writer at a time either way.
            ["BEGIN", "IMMEDIATE" | "EXCLUSIVE"] => Some(Self::Begin("immediate")),
            ["BEGIN", "READ"] => Some(Self::Begin("read")),
            ["COMMIT" | "END"] => Some(Self::Commit),
            ["ROLLBACK"] => Some(Self::Rollback),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_begins_and_ends_a_transaction_is_known() {
        for (text, control) in [
            ("BEGIN;", Some(Control::Begin("deferred"))),
            ("begin transaction ;", Some(Control::Begin("deferred"))),
            ("Begin Deferred", Some(Control::Begin("deferred"))),
            (
                "BEGIN\nIMMEDIATE TRANSACTION;",
                Some(Control::Begin("immediate")),
            ),
            ("BEGIN EXCLUSIVE", Some(Control::Begin("immediate"))),
            ("BEGIN READ", Some(Control::Begin("read"))),
            ("COMMIT", Some(Control::Commit)),
            ("end transaction;", Some(Control::Commit)),
            ("ROLLBACK;", Some(Control::Rollback)),
            ("ROLLBACK TO a;", None),
            ("ROLLBACK TRANSACTION TO a;", None),
            ("TRANSACTION", None),
            ("BEGIN CONCURRENT", None),
            ("SELECT 'BEGIN'", None),
            ("", None),
        ] {
            assert_eq!(Control::of(text), control, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(BEGIN|END|ROLLBACK)?\\PC{0,20}") {
            Control::of(&text);
        }
    }
}
