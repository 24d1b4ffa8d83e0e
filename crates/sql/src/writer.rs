//! Running requests that write, so that every node gets the same bytes and the same answers.
//!
//! A request is given its time and its seed, counts from zero, and may take so many steps of SQLite's virtual machine;
//! the rest follows from the database and from what ran on this connection since it was opened (safety rules 33
//! to 40).
//!
//! 1. Each statement runs between a BEGIN and a COMMIT of ours, so that it can be judged by what it did before it counts.
//!    VACUUM alone can't: nothing in it is to be judged.
//! 2. A refused transaction leaves nothing in the store, not even a version; a refused statement in a transaction of its own
//!    leaves what SQLite leaves.
//! 3. No clock, no cache and no thread has a say in an answer.

mod draft;
mod held;
mod open;
mod replay;
mod savepoints;

pub use draft::Draft;
pub use held::{Drafted, Held};

use crate::budget::Budget;
use crate::drawn::{self, Marks};
use crate::guard::{Facts, Guard, vacuum_alone};
use crate::step::{self, Arguments, Full, Room, StepError};
use crate::vacuum::is_vacuum;
use crate::verdict::{self, Halt, refuse};
use crate::{
    Outcome, Reply, Request, Shape, SqlError, SqlFailure, SqlSettings, Statement, Written,
};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::{Batch, ffi};
use savepoints::Savepoints;
use serde::{Deserialize, Serialize};
use sqlrep_env::{Clock, UnixMillis};
use sqlrep_store::Version;
use sqlrep_vfs::Connection;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Compiled statements that a writer keeps.
const STATEMENTS_KEPT: usize = 256;

/// The replies of one entry together hold at most this many times `reply_bytes_max`: every node holds them all at once.
const ENTRY_REPLIES: u64 = 4;

/// The requests of one entry may take this many times what one may take in steps, and change this many times what one
/// transaction may change in pages: no entry keeps the nodes at work for hours, or fills their memory. What passes the line is done,
/// what would begin behind it isn't.
const ENTRY_WORK: u64 = 2;

/// What one request of an entry sees as now and as random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scene {
    /// The entry's time stamp.
    pub now: UnixMillis,
    /// Where `random()` and `randomblob()` begin.
    pub seed: u64,
}

/// The last values that any statement of the database's writer set: replicated state, which HTTP replies repeat
/// (safety rule 38).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Rowid of the last INSERT.
    pub last_insert_id: i64,
    /// Rows of the last INSERT, UPDATE or DELETE.
    pub rows_affected: u64,
}

/// The connection that applies entries of SQL.
pub struct Writer {
    connection: Connection,
    run: Run,
}

/// Everything of a writer but its connection.
struct Run {
    /// Other nodes run the same.
    replayed: bool,
    guard: Guard,
    budget: Budget,
    marks: Arc<Marks>,
    clock: Arc<dyn Clock>,
    settings: SqlSettings,
    /// Texts of one statement whose compiled form may be kept, with what the authorizer saw.
    known: BTreeMap<String, Facts>,
    /// Savepoints of the request that are open.
    savepoints: Savepoints,
    room: Room,
    /// What `room` held when the request began.
    room_given: u64,
    /// Bytes left for the replies of this entry.
    entry_room: u64,
    /// Steps left for this entry.
    entry_steps: u64,
    /// Pages left for this entry.
    entry_pages: u64,
    /// The budget is used up.
    spent: bool,
    /// What the statements of a session's text did, beside their outcome.
    marked: Marked,
    /// Whether a statement set the first, the second of [`Counters`] since the request began.
    set: (bool, bool),
}

/// What a text did.
#[derive(Clone, Copy, Debug, Default)]
struct Marked {
    /// One of its statements could write, or moved a savepoint.
    touched: bool,
    /// A statement was refused for a bound or a rule that SQLite doesn't know: what it did is still there.
    ruled: bool,
}

impl Writer {
    /// Runs a request as the unit of commit.
    ///
    /// # Errors
    ///
    /// A failure of this node: nothing may be answered. What runs is rolled back; what earlier statements of a request that
    /// isn't one transaction committed is still the store's newest version: the caller aborts the entry and opens a new writer.
    pub fn run(
        &mut self,
        request: &Request,
        scene: Scene,
        counters: &mut Counters,
    ) -> Result<Reply, SqlFailure> {
        let before = *counters;
        let ran = self.run.request(&self.connection, request, scene, counters);
        self.run.guard.own();
        self.run.entry_room -= self.run.room_given - self.run.room.bytes;
        let steps = self.run.budget.used(self.run.spent);
        self.run.entry_steps = self.run.entry_steps.saturating_sub(steps);
        if ran.is_err() {
            *counters = before;
            // The failure itself is what is reported.
            drop(self.run.roll_back(&self.connection));
        }
        ran
    }

    /// An entry of several requests begins: their replies, steps and pages share bounds. Which of them these refuse is a
    /// function of the entry, and so the same on every node.
    pub fn begin_entry(&mut self) {
        let run = &mut self.run;
        let each = run.settings.reply_bytes_max;
        run.entry_room = each.saturating_mul(ENTRY_REPLIES);
        run.entry_steps = run.settings.steps_max.saturating_mul(ENTRY_WORK);
        run.entry_pages = u64::from(run.settings.transaction_pages_max) * ENTRY_WORK;
        // What was committed in an entry that was given up.
        let _given_up = self.connection.take_pages_committed();
    }

    /// Newest version published since the last call.
    #[must_use]
    pub fn take_published(&self) -> Option<Version> {
        self.connection.take_published()
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writer").field(&self.connection).finish()
    }
}

impl Run {
    fn request(
        &mut self,
        connection: &Connection,
        request: &Request,
        scene: Scene,
        counters: &mut Counters,
    ) -> Result<Reply, SqlFailure> {
        self.begin(connection, request.transaction, scene)?;
        if let Err(halt) = crate::check_count(request, self.settings.statements_max) {
            let outcomes = vec![crate::failed(halt)?];
            return Ok(Reply { outcomes });
        }
        if let Err(halt) = self.check_entry(connection) {
            let outcomes = vec![crate::failed(halt)?];
            return Ok(Reply { outcomes });
        }
        if let Some(replay) = &request.replay {
            return self.replay(connection, request, replay, counters);
        }
        if request.transaction {
            return self.transaction(connection, request, counters);
        }
        let mut outcomes = Vec::new();
        for statement in &request.statements {
            match self.text(connection, statement, request, counters) {
                Ok(outcome) => outcomes.extend(outcome),
                Err(halt) => outcomes.push(crate::failed(halt)?),
            }
            if self.spent {
                break;
            }
        }
        Ok(Reply { outcomes })
    }

    /// Whether a transaction may begin in this entry.
    fn check_entry(&mut self, connection: &Connection) -> Result<(), Halt> {
        let pages = connection.take_pages_committed();
        self.entry_pages = self.entry_pages.saturating_sub(pages);
        if self.entry_pages > 0 && self.entry_steps > 0 {
            return Ok(());
        }
        self.spent = true;
        Err(refuse(
            ffi::SQLITE_INTERRUPT,
            "what stands before it in the same log entry used up what one entry may do (steps_max, \
             transaction_pages_max); it wasn't begun, send it again",
        ))
    }

    fn begin(
        &mut self,
        connection: &Connection,
        transaction: bool,
        scene: Scene,
    ) -> Result<(), SqlFailure> {
        self.guard.own();
        self.guard.begin(transaction);
        self.roll_back(connection)
            .map_err(|error| self.local(connection, error))?;
        connection.set_time(Some(scene.now));
        connection.set_random(Some(scene.seed));
        self.budget.refill();
        self.savepoints.clear();
        self.spent = false;
        self.set = (false, false);
        self.room_given = self.settings.reply_bytes_max.min(self.entry_room);
        self.room = Room {
            rows: u64::MAX,
            bytes: self.room_given,
        };
        let reset = connection.reset_counters();
        reset.map_err(|source| SqlFailure::Connection {
            operation: "begin a request",
            source,
        })
    }

    /// All or nothing. An error of the COMMIT stands in the place of the last outcome.
    fn transaction(
        &mut self,
        connection: &Connection,
        request: &Request,
        counters: &mut Counters,
    ) -> Result<Reply, SqlFailure> {
        let before = *counters;
        let mut outcomes = Vec::new();
        let ran = self.statements(connection, request, counters, &mut outcomes);
        let Err(halt) = ran else {
            return Ok(Reply { outcomes });
        };
        let failed = crate::failed(halt)?;
        self.roll_back(connection)
            .map_err(|error| self.local(connection, error))?;
        // What was compiled for a schema that is gone.
        self.forget(connection);
        *counters = before;
        outcomes.push(failed);
        Ok(Reply { outcomes })
    }

    fn statements(
        &mut self,
        connection: &Connection,
        request: &Request,
        counters: &mut Counters,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), Halt> {
        self.own(connection, "BEGIN IMMEDIATE")
            .map_err(|error| self.local(connection, error))?;
        for statement in &request.statements {
            outcomes.extend(self.text(connection, statement, request, counters)?);
        }
        let ended = self
            .savepoints
            .check()
            .and_then(|()| self.commit(connection));
        ended.inspect_err(|_| drop(outcomes.pop()))
    }

    fn commit(&self, connection: &Connection) -> Result<(), Halt> {
        self.own(connection, "COMMIT")
            .map_err(|error| self.judge(connection, error))
    }

    /// A statement's text, which may hold several. The last one's result counts.
    fn text(
        &mut self,
        connection: &Connection,
        statement: &Statement,
        request: &Request,
        counters: &mut Counters,
    ) -> Result<Option<Outcome>, Halt> {
        step::check_text(&statement.sql)?;
        let mut arguments = Arguments::new(&statement.parameters);
        let sqlite = connection.sqlite();
        if let Some(facts) = self.known.get(&statement.sql).cloned() {
            self.guard.compile();
            let one = sqlite.prepare_cached(&statement.sql);
            let mut one = one.map_err(|error| self.judge(connection, error))?;
            let mut call = Call {
                connection,
                request,
                facts: &facts,
                arguments: &mut arguments,
                counters,
            };
            return self.one(&mut one, &mut call).map(Some);
        }
        let mut last = None;
        let mut count = 0;
        let mut keep = None;
        let mut batch = Batch::new(sqlite, &statement.sql);
        loop {
            self.guard.compile();
            let next = batch.next();
            let Some(mut one) = next.map_err(|error| self.judge(connection, error))? else {
                break;
            };
            let facts = self.guard.facts();
            count += 1;
            let vacuum = is_vacuum(&one, &facts);
            if vacuum && !(count == 1 && stands_alone(request) && matches!(batch.next(), Ok(None)))
            {
                return Err(refuse(ffi::SQLITE_AUTH, vacuum_alone()));
            }
            let mut call = Call {
                connection,
                request,
                facts: &facts,
                arguments: &mut arguments,
                counters,
            };
            let ran = self.one(&mut one, &mut call);
            if facts.changes_schema || vacuum {
                self.forget(connection);
            }
            last = Some(ran?);
            self.savepoints.track(facts.savepoint.as_ref());
            keep = Some(facts).filter(|facts| count == 1 && facts.cacheable());
        }
        if let Some(facts) = keep {
            self.remember(connection, &statement.sql, facts);
        }
        Ok(last)
    }

    fn remember(&mut self, connection: &Connection, sql: &str, facts: Facts) {
        if self.known.len() >= STATEMENTS_KEPT {
            self.forget(connection);
        }
        self.known.insert(sql.to_owned(), facts);
    }

    /// A statement compiled for an earlier schema takes two steps more, to find that out.
    fn forget(&mut self, connection: &Connection) {
        self.known.clear();
        connection.sqlite().flush_prepared_statement_cache();
    }

    /// One statement: in a transaction of its own, unless the request is one.
    fn one(
        &mut self,
        statement: &mut rusqlite::Statement<'_>,
        call: &mut Call<'_, '_>,
    ) -> Result<Outcome, Halt> {
        let connection = call.connection;
        if call.request.shape == Shape::Query && !step::reads(statement) {
            return Err(crate::would_write());
        }
        self.marked.touched |= !step::reads(statement) || call.facts.savepoint.is_some();
        call.arguments.bind(statement)?;
        self.guard.own();
        let own_transaction = !call.request.transaction && !is_vacuum(statement, call.facts);
        if own_transaction {
            self.check_entry(connection)?;
            self.own(connection, "BEGIN IMMEDIATE")
                .map_err(|error| self.local(connection, error))?;
        }
        let total = connection.total_changes();
        let ran = self.stepped(statement, call);
        if !own_transaction {
            return ran.map(|(outcome, after)| {
                *call.counters = after;
                outcome
            });
        }
        let ran = ran.and_then(|ran| self.commit(connection).map(|()| ran));
        match ran {
            Ok((outcome, after)) => {
                *call.counters = after;
                Ok(outcome)
            }
            Err(halt) => Err(self.end_refused(connection, total, halt)),
        }
    }

    /// Ends the transaction of a refused statement as SQLite would have: `OR FAIL` keeps the rows before the bad one, and what
    /// a trigger did for it. With ABORT SQLite has undone the statement already: what is committed then is what was there.
    fn end_refused(&self, connection: &Connection, total: u64, halt: Halt) -> Halt {
        let keeps = matches!(&halt, Halt::Refused(error) if error.code & 0xff == ffi::SQLITE_CONSTRAINT)
            && connection.total_changes() != total
            && !self.refused_rowid();
        if keeps && !connection.sqlite().is_autocommit() {
            match self.commit(connection) {
                Ok(()) => return halt,
                Err(Halt::Failed(failure)) => return failure.into(),
                Err(Halt::Refused(_)) => {}
            }
        }
        match self.roll_back(connection) {
            Ok(()) => halt,
            Err(error) => self.local(connection, error).into(),
        }
    }

    fn stepped(
        &mut self,
        statement: &mut rusqlite::Statement<'_>,
        call: &mut Call<'_, '_>,
    ) -> Result<(Outcome, Counters), Halt> {
        let connection = call.connection;
        connection.begin_statement();
        self.marks.begin();
        let began = self.clock.now();
        self.guard.run(is_vacuum(statement, call.facts));
        self.budget.begin(statement);
        let ran = if answers_rows(call.request.shape, statement) {
            step::rows(statement, call.request.qualify_columns, &mut self.room).map(Some)
        } else {
            step::run(statement).map(|()| None)
        };
        let enough = self.budget.end(statement);
        self.guard.own();
        let rows = self.judge_end(connection, ran, enough)?;
        if let Err(halt) = self.check_bytes(call) {
            self.marked.ruled = true;
            return Err(halt);
        }
        let counters = self.counted(call);
        let outcome = rows.map_or_else(|| written(counters), Outcome::Rows);
        let took = self.clock.now().since(began);
        Ok((crate::timed(outcome, took), counters))
    }

    /// A failure of this node first, then the budget, then SQLite's error: each is the same on all nodes only if the ones
    /// before are none.
    fn judge_end<T>(
        &mut self,
        connection: &Connection,
        ran: Result<T, StepError>,
        enough: bool,
    ) -> Result<T, Halt> {
        let ran = ran.map_err(|error| match error {
            StepError::Sqlite(error) if !enough && is_interrupt(&error) => self.spend(),
            StepError::Sqlite(error) => self.judge(connection, error),
            StepError::Full(full) => self.too_much(full),
        });
        match ran {
            Err(Halt::Failed(failure)) => Err(failure.into()),
            _ if !enough => Err(self.spend()),
            ran => ran,
        }
    }

    fn spend(&mut self) -> Halt {
        self.spent = true;
        self.marked.ruled = true;
        let max = self.settings.steps_max;
        refuse(
            ffi::SQLITE_INTERRUPT,
            format!(
                "the request takes more than {max} steps of SQLite's virtual machine (steps_max); split it, or add an index"
            ),
        )
    }

    fn too_much(&mut self, full: Full) -> Halt {
        debug_assert_eq!(full, Full::Bytes);
        self.marked.ruled = true;
        let max = self.settings.reply_bytes_max;
        refuse(
            ffi::SQLITE_TOOBIG,
            format!(
                "the request answers with more than {max} bytes (reply_bytes_max); ask for less, or send a query"
            ),
        )
    }

    fn check_bytes(&self, call: &Call<'_, '_>) -> Result<(), Halt> {
        if self.refused_rowid() {
            return Err(drawn::largest_rowid());
        }
        let made = call.facts.table_from_select().filter(|_| self.replayed);
        let Some(table) = made else {
            return Ok(());
        };
        let drawn = drawn::has_drawn_column(call.connection.sqlite(), table);
        match drawn.map_err(|error| self.local(call.connection, error))? {
            false => Ok(()),
            true => Err(drawn::drawn_column(table)),
        }
    }

    fn refused_rowid(&self) -> bool {
        self.replayed && self.marks.largest_rowid()
    }

    fn counted(&mut self, call: &Call<'_, '_>) -> Counters {
        let connection = call.connection;
        let mut counters = *call.counters;
        if let Some(rowid) = connection.inserted_rowid() {
            counters.last_insert_id = rowid;
            self.set.0 = true;
        } else if !self.replayed && self.marks.largest_rowid() {
            // The one rowid that can't be told from none.
            counters.last_insert_id = i64::MAX;
            self.set.0 = true;
        }
        if call.facts.changes_rows && !call.facts.changes_schema {
            counters.rows_affected = connection.changes();
            self.set.1 = true;
        }
        counters
    }

    fn judge(&self, connection: &Connection, error: rusqlite::Error) -> Halt {
        verdict::judge(connection, &self.guard, error)
    }

    /// One of our own statements.
    fn own(&self, connection: &Connection, sql: &str) -> rusqlite::Result<()> {
        self.guard.own();
        let mut statement = connection.sqlite().prepare_cached(sql)?;
        statement.execute([]).map(drop)
    }

    fn roll_back(&self, connection: &Connection) -> rusqlite::Result<()> {
        if connection.sqlite().is_autocommit() {
            return Ok(());
        }
        self.own(connection, "ROLLBACK")
    }

    /// Our own statements have no errors of their own.
    fn local(&self, connection: &Connection, error: rusqlite::Error) -> SqlFailure {
        match self.judge(connection, error) {
            Halt::Failed(failure) => failure,
            Halt::Refused(SqlError { code, message }) => SqlFailure::Sqlite { code, message },
        }
    }
}

/// One statement with its surroundings.
struct Call<'a, 'p> {
    connection: &'a Connection,
    request: &'a Request,
    facts: &'a Facts,
    arguments: &'a mut Arguments<'p>,
    counters: &'a mut Counters,
}

fn stands_alone(request: &Request) -> bool {
    !request.transaction && request.statements.len() == 1
}

fn answers_rows(shape: Shape, statement: &rusqlite::Statement<'_>) -> bool {
    match shape {
        Shape::Query => true,
        Shape::Request => statement.column_count() > 0,
        Shape::Execute => statement.column_count() > 0 && !step::reads(statement),
    }
}

fn written(counters: Counters) -> Outcome {
    Outcome::Written(Written {
        last_insert_id: counters.last_insert_id,
        rows_affected: counters.rows_affected,
        ..Written::default()
    })
}

fn is_interrupt(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlrep_disk::SimulatedDisk;
    use sqlrep_env::Env;
    use sqlrep_store::{Options, Store};

    /// Rule 36: what a statement sorts may be larger than memory, and a full disk under it is no answer.
    #[test]
    fn a_full_disk_under_a_sort_is_a_failure_of_this_node() {
        let disk = SimulatedDisk::new(1);
        let store = Store::open(Options {
            transaction_bytes_max: 0,
            ..Options::new(Arc::new(disk.clone()))
        });
        let (store, env) = (store.unwrap(), Env::inline(1));
        let mut writer = Writer::open(&store, &env, &SqlSettings::default()).unwrap();
        let scene = Scene {
            now: UnixMillis(1),
            seed: 1,
        };
        let sql = "CREATE TABLE t AS WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 9000) \
                   SELECT printf('%01000d', i) AS v FROM i ORDER BY v DESC";
        let (request, mut counters) = (Request::execute(sql), Counters::default());
        disk.set_free_bytes(Some(1 << 20));
        writer.begin_entry();
        let failure = writer.run(&request, scene, &mut counters).unwrap_err();
        assert!(matches!(failure, SqlFailure::Store { .. }), "{failure}");
        assert!(!failure.is_final(), "a full disk may become empty");
        disk.set_free_bytes(None);
        writer.begin_entry();
        let reply = writer.run(&request, scene, &mut counters).unwrap();
        assert!(
            matches!(reply.outcomes[..], [Outcome::Written(_)]),
            "{reply:?}"
        );
    }
}
