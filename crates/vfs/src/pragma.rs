//! The pragmas that this VFS can't live with.
//!
//! What a client may set is for the authorizer above to say; here is refused only what would break the capture of
//! pages, or reach beyond the connection. SQLite asks while it prepares the statement, pragma functions included.

use sqlrep_store::PageSize;

/// Why the pragma is refused; none if SQLite may go on with it.
pub(crate) fn refusal(name: &str, value: Option<&str>, page_size: PageSize) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let value = value.map(str::to_ascii_lowercase);
    let (allowed, reason) = rule(&name)?;
    match &value {
        // Asking is harmless, but some pragmas act without a value.
        None if !ACTS_ALONE.contains(&name.as_str()) => None,
        Some(value) if allowed.contains(&value.as_str()) => None,
        Some(value) if name == "page_size" && *value == page_size.bytes().to_string() => None,
        _ => Some(format!("PRAGMA {name} is refused: {reason}")),
    }
}

const ACTS_ALONE: [&str; 1] = ["wal_checkpoint"];

/// The values that a pragma may be set to, and why to no other; none if it is none of ours.
fn rule(name: &str) -> Option<(&'static [&'static str], &'static str)> {
    let no_wal = "the database has no WAL, the replicated log is it";
    let whole_process = "it is a setting of the whole process";
    Some(match name {
        "journal_mode" => (
            &["delete", "memory"],
            "a commit is captured from the page cache",
        ),
        // EXCLUSIVE stops the change counter, by which caches notice a new version.
        "locking_mode" => (&["normal"], "readers and the writer never lock each other"),
        "synchronous" => (&["off", "0"], "the replicated log makes commits durable"),
        // SQLite would report success, and the connection would be broken (tried).
        "page_size" => (&[], "it is fixed when the database is made"),
        "mmap_size" => (
            &["0"],
            "pages are versions in memory, there is no file to map",
        ),
        "cache_spill" => (&[], "what a transaction writes would hang on the cache"),
        "wal_checkpoint" | "wal_autocheckpoint" => (&[], no_wal),
        "writable_schema" => (
            &["off", "0", "no", "false"],
            "the schema changes by SQL only",
        ),
        "temp_store_directory" | "data_store_directory" => (&[], whole_process),
        "soft_heap_limit" | "hard_heap_limit" => (&[], whole_process),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_setting_may_be_asked_for_and_set_to_what_it_is() {
        let page_size = PageSize::new(4096).unwrap();
        let refused = |name: &str, value: Option<&str>| refusal(name, value, page_size).is_some();
        assert!(!refused("journal_mode", None));
        assert!(!refused("Journal_Mode", Some("Memory")));
        assert!(refused("journal_mode", Some("wal")));
        assert!(!refused("page_size", Some("4096")));
        assert!(refused("page_size", Some("1024")));
        assert!(refused("wal_checkpoint", None));
        assert!(!refused("user_version", Some("7")));
        let text = refusal("synchronous", Some("FULL"), page_size).unwrap();
        assert_eq!(
            text,
            "PRAGMA synchronous is refused: the replicated log makes commits durable"
        );
    }
}
