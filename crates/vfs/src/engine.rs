//! The SQLite that this program is linked with: is it one we can stand on?
//!
//! The workspace sets SQLite's build flags for its own builds only. A program that embeds these crates builds SQLite
//! its own way, so what it got is checked when a node starts, not assumed.

use crate::error::VfsError;
use rusqlite::Connection;
use xxhash_rust::xxh3::xxh3_64;

/// The oldest version whose behaviour the capture of pages was verified on, as `sqlite3_libversion_number` counts.
const VERSION_MIN: i32 = 3_051_003;

/// What SQL here relies on, as `PRAGMA compile_options` names it.
const NEEDED: [&str; 4] = [
    "ENABLE_COLUMN_METADATA",
    "ENABLE_FTS5",
    "ENABLE_MATH_FUNCTIONS",
    "ENABLE_RTREE",
];

/// The one that puts all page caches behind one mutex, which halves the speed of parallel reads (measured).
const UNWANTED: &str = "ENABLE_MEMORY_MANAGEMENT";

/// What SQLite this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Such as `3.54.1`.
    pub version: String,
    /// Check-in date and hash of the sources.
    pub source_id: String,
    /// As `PRAGMA compile_options` lists them, sorted.
    pub compile_options: Vec<String>,
    /// Hash over source id and compile options. Where it differs between nodes, equal statements may give different
    /// bytes (safety rule 32).
    pub fingerprint: u64,
}

/// Says which SQLite this program is linked with.
///
/// # Errors
///
/// [`VfsError::Engine`] with what is missing, if it can't be used.
pub fn check_engine() -> Result<Engine, VfsError> {
    let (version, source_id, compile_options) = ask().map_err(|source| VfsError::Sqlite {
        operation: "ask SQLite for its version",
        source,
    })?;
    if let Some(reason) = fault(rusqlite::version_number(), &compile_options) {
        return Err(VfsError::Engine { version, reason });
    }
    let all = format!("{source_id}\n{}", compile_options.join("\n"));
    Ok(Engine {
        version,
        source_id,
        compile_options,
        fingerprint: xxh3_64(all.as_bytes()),
    })
}

fn ask() -> rusqlite::Result<(String, String, Vec<String>)> {
    let sqlite = Connection::open_in_memory()?;
    let sql = "SELECT sqlite_version(), sqlite_source_id()";
    let (version, source_id) = sqlite.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let sql = "SELECT compile_options FROM pragma_compile_options ORDER BY 1";
    let mut statement = sqlite.prepare(sql)?;
    let options = statement.query_map([], |row| row.get(0))?;
    Ok((version, source_id, options.collect::<Result<_, _>>()?))
}

/// What is wrong with such an engine.
fn fault(version_number: i32, options: &[String]) -> Option<String> {
    let has = |name: &str| {
        let mut names = options.iter();
        names.any(|option| option.split('=').next() == Some(name))
    };
    if version_number < VERSION_MIN {
        return Some("at least 3.51.3 is needed; update libsqlite3-sys".to_owned());
    }
    if options.iter().any(|option| option == "THREADSAFE=0") || !has("THREADSAFE") {
        return Some(
            "it is built for one thread only; build it with SQLITE_THREADSAFE=1".to_owned(),
        );
    }
    if has(UNWANTED) {
        return Some(format!(
            "it is built with SQLITE_{UNWANTED}, which makes readers wait for each other; take it out of LIBSQLITE3_FLAGS"
        ));
    }
    let missing: Vec<_> = NEEDED.iter().filter(|name| !has(name)).collect();
    if missing.is_empty() {
        return None;
    }
    let flags: Vec<_> = missing
        .iter()
        .map(|name| format!("SQLITE_{name}"))
        .collect();
    Some(format!(
        "it is built without {}; add that to LIBSQLITE3_FLAGS",
        flags.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 32: nodes tell each other which engine they run.
    #[test]
    fn the_engine_of_this_workspace_will_do() {
        let engine = check_engine().unwrap();
        assert_eq!(engine, check_engine().unwrap());
        assert!(engine.version.starts_with("3."));
        assert!(engine.source_id.starts_with("20"));
        // Readers on several threads must not share a mutex.
        assert!(
            !engine
                .compile_options
                .iter()
                .any(|option| option == UNWANTED)
        );
        assert_ne!(engine.fingerprint, 0);
    }

    #[test]
    fn each_fault_is_named_with_what_to_do() {
        let good: Vec<String> = NEEDED
            .iter()
            .map(|name| (*name).to_owned())
            .chain(["THREADSAFE=1".to_owned()])
            .collect();
        assert_eq!(fault(VERSION_MIN, &good), None);
        assert!(fault(VERSION_MIN - 1, &good).unwrap().contains("3.51.3"));
        for gone in 0..good.len() {
            let mut options = good.clone();
            let name = options.remove(gone);
            let name = name.split('=').next().unwrap();
            assert!(fault(VERSION_MIN, &options).unwrap().contains(name));
        }
        let mut options = good.clone();
        options.push(UNWANTED.to_owned());
        assert!(fault(VERSION_MIN, &options).unwrap().contains(UNWANTED));
        let mut options = good;
        options.retain(|option| !option.starts_with("THREADSAFE"));
        options.push("THREADSAFE=0".to_owned());
        assert!(fault(VERSION_MIN, &options).unwrap().contains("thread"));
    }
}
