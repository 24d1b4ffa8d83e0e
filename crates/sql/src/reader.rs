//! Running requests that read, on a connection that can't write.
//!
//! 1. All statements of a request see one version of the database.
//! 2. Nothing is written: the VFS takes no lock to write, and a statement of which SQLite says that it would write is
//!    refused before it runs.

use crate::guard::{Facts, Guard};
use crate::pragma::Role;
use crate::step::{self, Arguments, Full, Room, StepError};
use crate::verdict::{self, Halt, refuse};
use crate::{
    Functions, Outcome, Reply, Request, Shape, SqlFailure, SqlSettings, Statement, Written,
};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::{Batch, ffi};
use sqlrep_env::{Clock, Env, Moment};
use sqlrep_store::{Pin, Store};
use sqlrep_vfs::{Connection, Kind};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use rusqlite::InterruptHandle;

/// Rows that a read may answer with, unless it says otherwise.
pub const READ_ROWS_MAX: u64 = 1_000_000;

/// Bytes of rows that a read may answer with, unless it says otherwise.
pub const READ_BYTES_MAX: u64 = 64 << 20;

/// Compiled statements that a reader keeps.
const STATEMENTS_KEPT: usize = 128;

/// Steps between two looks at the clock: about ten microseconds.
const LOOK_STEPS: i32 = 1_000;

/// Says, from any thread, that nobody waits for a read any more.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Stops the reads that were given this, now and later.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether that was said.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one read may take. Not replicated: a read happens on one node.
#[derive(Clone, Debug)]
pub struct ReadLimits {
    /// When it is stopped; none lets it run for ever.
    pub run_until: Option<Moment>,
    /// Stops it before that.
    pub cancel: Cancel,
    /// Rows of all statements together.
    pub rows_max: u64,
    /// Bytes of all values together.
    pub bytes_max: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            run_until: None,
            cancel: Cancel::default(),
            rows_max: READ_ROWS_MAX,
            bytes_max: READ_BYTES_MAX,
        }
    }
}

/// When a read is stopped, as the progress handler sees it.
struct Deadline {
    clock: Arc<dyn Clock>,
    until: Mutex<Until>,
    passed: AtomicBool,
}

#[derive(Clone, Default)]
struct Until {
    moment: Option<Moment>,
    cancel: Cancel,
}

impl Deadline {
    fn until(&self) -> MutexGuard<'_, Until> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Until) {
        *self.until() = until;
        self.passed.store(false, Ordering::Relaxed);
    }

    fn passed(&self) -> bool {
        let until = self.until();
        let late = until
            .moment
            .is_some_and(|moment| self.clock.now() >= moment);
        let passed = late || until.cancel.is_cancelled();
        if passed {
            self.passed.store(true, Ordering::Relaxed);
        }
        passed
    }

    /// What a read that didn't end in time answers.
    fn refusal(&self) -> Halt {
        let cancelled = self.until().cancel.is_cancelled();
        let text = if cancelled {
            "interrupted"
        } else {
            "query timeout"
        };
        refuse(ffi::SQLITE_INTERRUPT, text)
    }
}

/// A connection for reads.
pub struct Reader {
    connection: Connection,
    guard: Guard,
    deadline: Arc<Deadline>,
    statements_max: u32,
}

impl Reader {
    /// Sees the newest entry end, anew for each request.
    ///
    /// # Errors
    ///
    /// [`SqlFailure::Connection`].
    pub fn open(store: &Arc<Store>, env: &Env, settings: &SqlSettings) -> Result<Self, SqlFailure> {
        Self::open_kind(store, env, settings, Kind::Reader)
    }

    /// Sees this version, always.
    ///
    /// # Errors
    ///
    /// [`SqlFailure::Connection`].
    pub fn open_at(
        store: &Arc<Store>,
        env: &Env,
        settings: &SqlSettings,
        pin: Arc<Pin>,
    ) -> Result<Self, SqlFailure> {
        Self::open_kind(store, env, settings, Kind::ReaderAt(pin))
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

    fn open_kind(
        store: &Arc<Store>,
        env: &Env,
        settings: &SqlSettings,
        kind: Kind,
    ) -> Result<Self, SqlFailure> {
        settings.check()?;
        let mut connection =
            Connection::open(store, env, kind).map_err(|source| SqlFailure::Connection {
                operation: "open a connection that reads",
                source,
            })?;
        let guard = Guard::new(Role::Reader, settings);
        let deadline = Arc::new(Deadline {
            clock: env.clock.clone(),
            until: Mutex::default(),
            passed: AtomicBool::new(false),
        });
        let own = deadline.clone();
        let set = |sqlite: &mut rusqlite::Connection| {
            settings.apply(sqlite)?;
            sqlite.execute_batch("PRAGMA query_only=ON")?;
            sqlite.progress_handler(LOOK_STEPS, Some(move || own.passed()))?;
            guard.install(sqlite)
        };
        set(connection.sqlite_mut()).map_err(|error| {
            let (code, message) = verdict::parts(error);
            SqlFailure::Sqlite { code, message }
        })?;
        connection.set_statement_cache_capacity(STATEMENTS_KEPT);
        Ok(Self {
            connection,
            guard,
            deadline,
            statements_max: settings.statements_max,
        })
    }

    /// Stops what runs, from any thread: it answers with the error `interrupted`.
    #[must_use]
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.connection.interrupt_handle()
    }

    /// Runs all statements on one version. [`Written`] has zeros: a reader doesn't know the writer's counters.
    ///
    /// # Errors
    ///
    /// A failure of this node.
    pub fn run(&mut self, request: &Request, limits: &ReadLimits) -> Result<Reply, SqlFailure> {
        self.guard.begin(request.transaction);
        let ran = self.snapshot().and_then(|()| {
            self.deadline.set(Until {
                moment: limits.run_until,
                cancel: limits.cancel.clone(),
            });
            self.statements(request, limits)
        });
        self.guard.own();
        self.deadline.set(Until::default());
        let ended = self.end();
        match ran {
            Ok(reply) => ended.map(|()| reply),
            Err(failure) => Err(failure),
        }
    }

    /// Whether SQLite says that nothing of it would write. What doesn't compile counts as reading: it has the same error
    /// as a read.
    ///
    /// # Errors
    ///
    /// A failure of this node.
    pub fn is_read_only(&mut self, request: &Request) -> Result<bool, SqlFailure> {
        self.all(request, request.transaction, |one, _| step::reads(one))
    }

    /// Whether an open transaction needs the writer for it: something would write, or moves a savepoint.
    ///
    /// # Errors
    ///
    /// A failure of this node.
    pub fn needs_writer(&mut self, request: &Request) -> Result<bool, SqlFailure> {
        let reads = |one: &rusqlite::Statement<'_>, facts: Facts| {
            step::reads(one) && facts.savepoint.is_none()
        };
        self.all(request, true, reads).map(|all| !all)
    }

    /// Whether `what` is true of every statement that compiles.
    fn all(
        &mut self,
        request: &Request,
        transaction: bool,
        what: impl Fn(&rusqlite::Statement<'_>, Facts) -> bool,
    ) -> Result<bool, SqlFailure> {
        self.guard.begin(transaction);
        let asked = self.snapshot().and_then(|()| self.each(request, what));
        self.guard.own();
        self.end()?;
        asked
    }

    /// Pins a version and brings the schema up to it.
    fn snapshot(&self) -> Result<(), SqlFailure> {
        let sqlite = self.connection.sqlite();
        let begin = || {
            if !sqlite.is_autocommit() {
                sqlite.execute_batch("ROLLBACK")?;
            }
            // Not cached: a client's statement of the same text would be taken for ours, and not be judged.
            sqlite.execute_batch("BEGIN")?;
            let mut look = sqlite.prepare_cached("SELECT 1 FROM sqlite_schema LIMIT 1")?;
            look.exists([]).map(drop)
        };
        begin().map_err(|error| self.local(error))?;
        let reset = self.connection.reset_counters();
        reset.map_err(|source| SqlFailure::Connection {
            operation: "begin a read",
            source,
        })
    }

    fn end(&self) -> Result<(), SqlFailure> {
        let sqlite = self.connection.sqlite();
        if sqlite.is_autocommit() {
            return Ok(());
        }
        let ended = sqlite.execute_batch("ROLLBACK");
        ended.map_err(|error| self.local(error))
    }

    /// Our own statements have no errors of their own.
    fn local(&self, error: rusqlite::Error) -> SqlFailure {
        match verdict::judge(&self.connection, &self.guard, error) {
            Halt::Failed(failure) => failure,
            Halt::Refused(error) => SqlFailure::Sqlite {
                code: error.code,
                message: error.message,
            },
        }
    }

    fn statements(&self, request: &Request, limits: &ReadLimits) -> Result<Reply, SqlFailure> {
        let mut reply = Reply::default();
        let mut room = Room {
            rows: limits.rows_max,
            bytes: limits.bytes_max,
        };
        if let Err(halt) = crate::check_count(request, self.statements_max) {
            reply.outcomes.push(crate::failed(halt)?);
            return Ok(reply);
        }
        for statement in &request.statements {
            match self.text(statement, request, limits, &mut room) {
                Ok(outcome) => reply.outcomes.extend(outcome),
                Err(halt) => {
                    reply.outcomes.push(crate::failed(halt)?);
                    if request.transaction || self.deadline.passed.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
        }
        Ok(reply)
    }

    /// A statement's text, which may hold several. The last one's result counts.
    fn text(
        &self,
        statement: &Statement,
        request: &Request,
        limits: &ReadLimits,
        room: &mut Room,
    ) -> Result<Option<Outcome>, Halt> {
        step::check_text(&statement.sql)?;
        let mut arguments = Arguments::new(&statement.parameters);
        let sqlite = self.connection.sqlite();
        self.guard.compile();
        match sqlite.prepare_cached(&statement.sql) {
            Ok(mut one) if !self.guard.facts().special => {
                let outcome = self.one(&mut one, &mut arguments, request, limits, room);
                return outcome;
            }
            Ok(one) => one.discard(),
            Err(_) => {}
        }
        let mut last = None;
        let mut batch = Batch::new(sqlite, &statement.sql);
        loop {
            self.guard.compile();
            let next = batch.next();
            let next = next.map_err(|error| self.judge(error))?;
            let Some(mut one) = next else {
                return Ok(last);
            };
            last = self.one(&mut one, &mut arguments, request, limits, room)?;
        }
    }

    fn one(
        &self,
        statement: &mut rusqlite::Statement<'_>,
        arguments: &mut Arguments<'_>,
        request: &Request,
        limits: &ReadLimits,
        room: &mut Room,
    ) -> Result<Option<Outcome>, Halt> {
        if statement.column_count() == 0 && statement.expanded_sql().is_none() {
            return Ok(None);
        }
        if !step::reads(statement) {
            return Err(crate::would_write());
        }
        arguments.bind(statement)?;
        if self.deadline.passed() {
            return Err(self.deadline.refusal());
        }
        self.guard.run(false);
        let began = self.deadline.clock.now();
        let answers = request.shape != Shape::Execute && statement.column_count() > 0;
        let ran = if answers || request.shape == Shape::Query {
            step::rows(statement, request.qualify_columns, room).map(Outcome::Rows)
        } else {
            step::run(statement).map(|()| Outcome::Written(Written::default()))
        };
        self.guard.own();
        let outcome = ran.map_err(|error| match error {
            StepError::Sqlite(error) => self.judge(error),
            StepError::Full(Full::Rows) => too_much("rows", limits.rows_max),
            StepError::Full(Full::Bytes) => too_much("bytes", limits.bytes_max),
        })?;
        Ok(Some(crate::timed(
            outcome,
            self.deadline.clock.now().since(began),
        )))
    }

    fn judge(&self, error: rusqlite::Error) -> Halt {
        if error.sqlite_error_code() != Some(rusqlite::ErrorCode::OperationInterrupted) {
            return verdict::judge(&self.connection, &self.guard, error);
        }
        if self.deadline.passed.load(Ordering::Relaxed) {
            return self.deadline.refusal();
        }
        refuse(ffi::SQLITE_INTERRUPT, "interrupted")
    }

    fn each(
        &self,
        request: &Request,
        what: impl Fn(&rusqlite::Statement<'_>, Facts) -> bool,
    ) -> Result<bool, SqlFailure> {
        for statement in &request.statements {
            let mut batch = Batch::new(self.connection.sqlite(), &statement.sql);
            loop {
                self.guard.compile();
                match batch.next() {
                    Ok(Some(one)) if !what(&one, self.guard.facts()) => return Ok(false),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => match verdict::judge(&self.connection, &self.guard, error) {
                        Halt::Refused(_) => break,
                        Halt::Failed(failure) => return Err(failure),
                    },
                }
            }
        }
        Ok(true)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reader").field(&self.connection).finish()
    }
}

fn too_much(what: &str, max: u64) -> Halt {
    refuse(
        ffi::SQLITE_TOOBIG,
        format!("the result has more than {max} {what}; ask for less at a time with LIMIT"),
    )
}
