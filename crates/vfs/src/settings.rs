//! What every connection is set to before its first statement.
//!
//! Two reasons: pages must come out of the pager the way the capture needs it, and SQL from clients is a
//! stranger's code. Which SQL they may run is decided above, by an authorizer.

use crate::context::Context;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Result};

/// On or off for good.
const CONFIG: [(DbConfig, bool); 6] = [
    // Neither the schema table nor shadow tables nor raw pages can be written by SQL.
    (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
    // What a schema calls must be harmless: it may have been written by another client.
    (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
    (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
    // VACUUM lifts these two for its own temporary file.
    (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false),
];

/// What connections answer to the pragmas that operators ask for: name, of one that reads, of one that writes. There is no
/// journal on disk, no WAL, and nothing to wait for, whatever their names say.
pub const PRAGMAS: [(&str, &str, &str); 4] = [
    ("busy_timeout", "5000", "5000"),
    ("journal_mode", "delete", "delete"),
    ("synchronous", "2", "0"),
    ("wal_autocheckpoint", "1000", "1000"),
];

/// Sets a fresh connection.
pub(crate) fn apply(sqlite: &Connection, context: &Context, writes: bool) -> Result<()> {
    for (config, on) in CONFIG {
        sqlite.set_db_config(config, on)?;
    }
    sqlite.load_extension_disable()?;
    let page_bytes = context.page_size().bytes();
    // The page size before anything reads the file: SQLite would read an empty database by its default size.
    sqlite.execute_batch(&format!(
        "PRAGMA page_size={page_bytes}; PRAGMA mmap_size=0; PRAGMA cell_size_check=ON;"
    ))?;
    if writes {
        // DELETE: the journal is a temporary file of ours. Not OFF: ROLLBACK and the undoing of a failed statement need it.
        // FILE: temporary files are ours, too.
        sqlite.execute_batch(
            "PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF; PRAGMA temp_store=FILE;",
        )?;
    }
    Ok(())
}
