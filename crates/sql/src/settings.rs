//! Settings that change what SQL answers: equal on every node, so they are kept in the log.
//!
//! It doesn't do: what one read may take (see [`ReadLimits`](crate::ReadLimits)), which may differ between nodes.

use crate::SqlFailure;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Cluster settings of SQL (safety rule 36).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlSettings {
    /// Whether foreign keys are enforced.
    pub foreign_keys: bool,
    /// Whether a trigger may fire itself.
    pub recursive_triggers: bool,
    /// Bytes of one string, BLOB or row. One function call can't be interrupted, so this bounds how long it takes.
    pub value_bytes_max: u32,
    /// Bytes of one statement's text.
    pub sql_bytes_max: u32,
    /// Columns of a table, an index, a result.
    pub columns_max: u32,
    /// Depth of an expression.
    pub expression_depth_max: u32,
    /// Terms of a compound SELECT.
    pub compound_select_max: u32,
    /// Instructions of a compiled statement.
    pub vdbe_operations_max: u32,
    /// Arguments of a function.
    pub function_arguments_max: u32,
    /// Bytes of a LIKE or GLOB pattern.
    pub like_pattern_bytes_max: u32,
    /// Parameters of a statement.
    pub variables_max: u32,
    /// Depth of triggers that fire triggers.
    pub trigger_depth_max: u32,
    /// Statements of one request.
    pub statements_max: u32,
    /// Steps of SQLite's virtual machine that one writing request may take (safety rule 37).
    pub steps_max: u64,
    /// Bytes of rows that one writing request may answer with: every node holds them.
    pub reply_bytes_max: u64,
    /// Distinct pages that one transaction may change.
    pub transaction_pages_max: u32,
}

impl Default for SqlSettings {
    fn default() -> Self {
        Self {
            foreign_keys: false,
            recursive_triggers: false,
            value_bytes_max: 16 << 20,
            sql_bytes_max: 1 << 20,
            columns_max: 2_000,
            expression_depth_max: 1_000,
            compound_select_max: 500,
            vdbe_operations_max: 1_000_000,
            function_arguments_max: 127,
            like_pattern_bytes_max: 50_000,
            variables_max: 32_766,
            trigger_depth_max: 1_000,
            statements_max: 1_024,
            steps_max: 500_000_000,
            reply_bytes_max: 64 << 20,
            transaction_pages_max: 65_536,
        }
    }
}

/// One limit: its name, its value, and what it may be.
type Bound = (&'static str, u64, u64, u64);

impl SqlSettings {
    /// Refuses what SQLite would cut down in silence, or what leaves no room to work.
    ///
    /// # Errors
    ///
    /// [`SqlFailure::Setting`] names the first bad one.
    pub fn check(&self) -> Result<(), SqlFailure> {
        for (name, value, min, max) in self.bounds() {
            if !(min..=max).contains(&value) {
                let reason = format!("it has to be between {min} and {max}");
                return Err(SqlFailure::Setting {
                    name,
                    value,
                    reason,
                });
            }
        }
        Ok(())
    }

    /// Names and values, for people.
    #[must_use]
    pub fn describe(&self) -> BTreeMap<String, String> {
        let switches = [
            ("foreign_keys", self.foreign_keys),
            ("recursive_triggers", self.recursive_triggers),
        ];
        let switches = switches.map(|(name, on)| (name.to_owned(), on.to_string()));
        let limits = self.bounds();
        let limits = limits.map(|(name, value, ..)| (name.to_owned(), value.to_string()));
        switches.into_iter().chain(limits).collect()
    }

    /// The upper ends are those that SQLite is compiled with.
    fn bounds(&self) -> [Bound; 14] {
        [
            (
                "value_bytes_max",
                self.value_bytes_max.into(),
                4_096,
                1_000_000_000,
            ),
            (
                "sql_bytes_max",
                self.sql_bytes_max.into(),
                1_000,
                1_000_000_000,
            ),
            ("columns_max", self.columns_max.into(), 16, 2_000),
            (
                "expression_depth_max",
                self.expression_depth_max.into(),
                10,
                1_000,
            ),
            (
                "compound_select_max",
                self.compound_select_max.into(),
                3,
                500,
            ),
            (
                "vdbe_operations_max",
                self.vdbe_operations_max.into(),
                10_000,
                250_000_000,
            ),
            (
                "function_arguments_max",
                self.function_arguments_max.into(),
                8,
                127,
            ),
            (
                "like_pattern_bytes_max",
                self.like_pattern_bytes_max.into(),
                10,
                50_000,
            ),
            ("variables_max", self.variables_max.into(), 10, 32_766),
            ("trigger_depth_max", self.trigger_depth_max.into(), 1, 1_000),
            ("statements_max", self.statements_max.into(), 1, 1_000_000),
            // Twice as many still fit the 32 bits in which SQLite counts.
            ("steps_max", self.steps_max, 1_000, 1_000_000_000),
            ("reply_bytes_max", self.reply_bytes_max, 1_024, 1 << 40),
            (
                "transaction_pages_max",
                self.transaction_pages_max.into(),
                16,
                u32::MAX.into(),
            ),
        ]
    }

    /// Sets a fresh connection. What protects the capture of pages, the VFS has set already.
    pub(crate) fn apply(&self, sqlite: &rusqlite::Connection) -> rusqlite::Result<()> {
        let switches = [
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, self.foreign_keys),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, true),
            // As in stock SQLite: clients rely on double-quoted strings.
            (DbConfig::SQLITE_DBCONFIG_DQS_DML, true),
            (DbConfig::SQLITE_DBCONFIG_DQS_DDL, true),
        ];
        for (config, on) in switches {
            sqlite.set_db_config(config, on)?;
        }
        for (limit, value) in self.limits() {
            sqlite.set_limit(limit, i32::try_from(value).unwrap_or(i32::MAX))?;
        }
        let recursive = self.recursive_triggers;
        sqlite.execute_batch(&format!("PRAGMA recursive_triggers={recursive}"))
    }

    fn limits(&self) -> [(Limit, u32); 11] {
        [
            (Limit::SQLITE_LIMIT_LENGTH, self.value_bytes_max),
            (Limit::SQLITE_LIMIT_SQL_LENGTH, self.sql_bytes_max),
            (Limit::SQLITE_LIMIT_COLUMN, self.columns_max),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, self.expression_depth_max),
            (
                Limit::SQLITE_LIMIT_COMPOUND_SELECT,
                self.compound_select_max,
            ),
            (Limit::SQLITE_LIMIT_VDBE_OP, self.vdbe_operations_max),
            (
                Limit::SQLITE_LIMIT_FUNCTION_ARG,
                self.function_arguments_max,
            ),
            (
                Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH,
                self.like_pattern_bytes_max,
            ),
            (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, self.variables_max),
            (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, self.trigger_depth_max),
            // More threads would make sorting hang on the machine.
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ]
    }
}
