//! Which pragmas a client may use: an allow-list. Everything else is refused with a reason.
//!
//! A pragma is fit for a writing request if its result follows from the bytes of the database, or from a cluster
//! setting (safety rules 35 and 40).

use crate::SqlSettings;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Writes, on every node alike.
    Writer,
    /// Writes once; its pages travel.
    Leader,
    Reader,
}

/// Judges a pragma, or the table-valued function of the same name.
///
/// # Errors
///
/// What to tell the client.
pub(crate) fn judge(
    name: &str,
    value: Option<&str>,
    role: Role,
    settings: &SqlSettings,
) -> Result<(), String> {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "table_info" | "table_xinfo" | "index_list" | "index_info" | "index_xinfo"
        | "foreign_key_list" | "foreign_key_check" => Ok(()),
        "user_version" | "application_id" => Ok(()),
        "schema_version" | "page_count" | "freelist_count" | "page_size" if value.is_none() => {
            Ok(())
        }
        "foreign_keys" => switch(&name, value, settings.foreign_keys),
        "recursive_triggers" => switch(&name, value, settings.recursive_triggers),
        "integrity_check" | "quick_check" | "table_list" | "database_list" | "function_list"
        | "module_list" | "collation_list" | "pragma_list" | "compile_options" => match role {
            Role::Reader | Role::Leader => Ok(()),
            Role::Writer => Err(format!(
                "PRAGMA {name} isn't allowed in a request that writes; send it as a query"
            )),
        },
        _ => Err(format!("PRAGMA {name} isn't allowed: {}", reason(&name))),
    }
}

/// Whether a pragma that SQLite's own virtual tables use for themselves.
pub(crate) fn internal(name: &str) -> bool {
    ["data_version", "page_size"].contains(&name.to_ascii_lowercase().as_str())
}

/// A cluster setting may be read, and set to what it is.
fn switch(name: &str, value: Option<&str>, is: bool) -> Result<(), String> {
    let Some(value) = value else {
        return Ok(());
    };
    let value = value.to_ascii_lowercase();
    let on = ["on", "yes", "true", "1"].contains(&value.as_str());
    let off = ["off", "no", "false", "0"].contains(&value.as_str());
    if (is && on) || (!is && off) {
        return Ok(());
    }
    let is = if is { "ON" } else { "OFF" };
    Err(format!(
        "PRAGMA {name} can't be set by a client: it is a setting of the whole cluster and is {is}"
    ))
}

fn reason(name: &str) -> &'static str {
    match name {
        "journal_mode" | "wal_checkpoint" | "wal_autocheckpoint" | "journal_size_limit" => {
            "the replicated log takes the place of a journal"
        }
        "synchronous" | "fullfsync" | "checkpoint_fullfsync" => {
            "the replicated log makes commits durable"
        }
        "locking_mode" | "busy_timeout" | "read_uncommitted" => {
            "readers and the writer never lock each other"
        }
        "page_size" | "max_page_count" | "encoding" | "auto_vacuum" | "incremental_vacuum"
        | "secure_delete" => "the format of the file is fixed when the database is made",
        "mmap_size"
        | "cache_size"
        | "cache_spill"
        | "temp_store"
        | "threads"
        | "shrink_memory"
        | "soft_heap_limit"
        | "hard_heap_limit"
        | "temp_store_directory"
        | "data_store_directory" => "memory and files are the server's business",
        "writable_schema"
        | "schema_version"
        | "legacy_alter_table"
        | "trusted_schema"
        | "cell_size_check"
        | "ignore_check_constraints" => "it would break what protects the database",
        "optimize" | "analysis_limit" => "what it does depends on the node; run ANALYZE instead",
        "defer_foreign_keys" => {
            "it is a state of one connection; declare the constraint DEFERRABLE INITIALLY DEFERRED"
        }
        "case_sensitive_like" => "it is a state of one connection; use GLOB",
        "query_only" => "it is a state of one connection; send a query to read",
        _ => {
            "only pragmas that read the schema or check the database, user_version and application_id can be used"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules 35 and 40: what isn't on the list is refused, with a reason for those that people try.
    #[test]
    fn only_what_is_listed_may_be_used() {
        let settings = SqlSettings::default();
        let refused = |name, value, role| judge(name, value, role, &settings).err();
        assert_eq!(refused("Table_Info", Some("t"), Role::Writer), None);
        assert_eq!(refused("user_version", Some("3"), Role::Writer), None);
        assert_eq!(refused("integrity_check", None, Role::Reader), None);
        assert!(refused("integrity_check", None, Role::Writer).is_some());
        assert_eq!(refused("integrity_check", None, Role::Leader), None);
        assert!(refused("journal_mode", Some("wal"), Role::Leader).is_some());
        assert_eq!(refused("page_size", None, Role::Writer), None);
        assert!(refused("page_size", Some("4096"), Role::Writer).is_some());
        assert_eq!(refused("foreign_keys", Some("Off"), Role::Writer), None);
        assert!(refused("foreign_keys", Some("ON"), Role::Reader).is_some());
        for name in [
            "optimize",
            "auto_vacuum",
            "encoding",
            "analysis_limit",
            "data_version",
            "no_such",
        ] {
            for role in [Role::Writer, Role::Reader] {
                let text = refused(name, None, role).unwrap();
                assert!(
                    text.starts_with(&format!("PRAGMA {name} isn't allowed: ")),
                    "{text}"
                );
            }
        }
        // For virtual tables themselves only.
        assert!(internal("Data_Version"));
        assert!(!internal("user_version"));
    }
}
