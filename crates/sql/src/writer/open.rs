//! Opening the connection that writes, for every node that executes, or for the one that does.

use super::{Marked, Marks, Run, STATEMENTS_KEPT, Savepoints, Writer};
use crate::budget::{Budget, Stop};
use crate::guard::{Guard, VERSION_FUNCTIONS, version_function};
use crate::pragma::Role;
use crate::step::Room;
use crate::{Functions, SqlFailure, SqlSettings, verdict};
use rusqlite::functions::FunctionFlags;
use rusqlite::hooks::Action;
use sqlrep_env::Env;
use sqlrep_store::Store;
use sqlrep_vfs::{Connection, Kind};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Writer {
    /// Opens the writer of `store`; there is at most one.
    ///
    /// # Errors
    ///
    /// [`SqlFailure::Connection`], or settings that make no sense.
    pub fn open(store: &Arc<Store>, env: &Env, settings: &SqlSettings) -> Result<Self, SqlFailure> {
        Self::of(store, env, settings, Role::Writer, Stop::default())
    }

    /// Opens it where it alone executes and its pages travel: what differs between nodes or runs is free to. `stop` ends it
    /// from another thread.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn lead(
        store: &Arc<Store>,
        env: &Env,
        settings: &SqlSettings,
        stop: Stop,
    ) -> Result<Self, SqlFailure> {
        Self::of(store, env, settings, Role::Leader, stop)
    }

    /// The same with functions of the program's own.
    ///
    /// # Errors
    ///
    /// What SQLite said.
    pub fn with_functions(self, functions: &Functions) -> Result<Self, SqlFailure> {
        functions.install(self.connection.sqlite())?;
        Ok(self)
    }

    fn of(
        store: &Arc<Store>,
        env: &Env,
        settings: &SqlSettings,
        role: Role,
        stop: Stop,
    ) -> Result<Self, SqlFailure> {
        settings.check()?;
        let kind = Kind::Writer {
            normalize_version: role == Role::Writer,
        };
        Self::open_kind(store, env, settings, (kind, role), stop)
    }

    pub(super) fn open_kind(
        store: &Arc<Store>,
        env: &Env,
        settings: &SqlSettings,
        (kind, role): (Kind, Role),
        stop: Stop,
    ) -> Result<Self, SqlFailure> {
        let mut connection =
            Connection::open(store, env, kind).map_err(|source| SqlFailure::Connection {
                operation: "open the connection that writes",
                source,
            })?;
        connection.set_transaction_pages_max(settings.transaction_pages_max);
        connection.set_statement_cache_capacity(STATEMENTS_KEPT);
        let installed = Run::install(connection.sqlite_mut(), env, settings, role, stop);
        let run = installed.map_err(|error| {
            let (code, message) = verdict::parts(error);
            SqlFailure::Sqlite { code, message }
        })?;
        Ok(Self { connection, run })
    }
}

impl Run {
    fn install(
        sqlite: &mut rusqlite::Connection,
        env: &Env,
        settings: &SqlSettings,
        role: Role,
        stop: Stop,
    ) -> rusqlite::Result<Self> {
        settings.apply(sqlite)?;
        let replayed = role == Role::Writer;
        for (name, arguments) in VERSION_FUNCTIONS.into_iter().filter(|_| replayed) {
            // A column default may call them past the authorizer.
            let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
            sqlite.create_scalar_function(name, arguments, flags, move |_| {
                let text = version_function(name);
                Err::<i64, _>(rusqlite::Error::UserFunctionError(text.into()))
            })?;
        }
        let guard = Guard::new(role, settings);
        let budget = Budget::install(sqlite, settings.steps_max, stop)?;
        let marks = Arc::new(Marks::default());
        let own = marks.clone();
        sqlite.update_hook(Some(move |action, _: &str, _: &str, rowid| {
            // Where only one node executes, all that hangs on it is the last insert id.
            if replayed || action == Action::SQLITE_INSERT {
                own.note(rowid);
            }
        }))?;
        guard.install(sqlite)?;
        Ok(Self {
            replayed,
            guard,
            budget,
            marks,
            clock: env.clock.clone(),
            settings: settings.clone(),
            known: BTreeMap::new(),
            savepoints: Savepoints::default(),
            room: Room { rows: 0, bytes: 0 },
            room_given: 0,
            entry_room: u64::MAX,
            entry_steps: u64::MAX,
            entry_pages: u64::MAX,
            spent: false,
            marked: Marked::default(),
            set: (false, false),
        })
    }
}
