//! A transaction that stays open on a writer from call to call, until its client ends it.
//!
//! ```text
//!   begin ─► BEGIN IMMEDIATE ─► run ─► run ─► … ─► commit: the writer's newest version
//!                                 └────────────── roll_back, or SQLite does it (`OR ROLLBACK`): nothing
//! ```
//!
//! A statement that fails leaves the transaction open, as in SQLite. It is over where SQLite ends it, and where a statement that
//! wrote was refused by a bound of ours: SQLite can't take back one statement of those.
//!
//! The writer is the leader's own, where what is committed counts, or a [`Draft`](super::Draft)'s private one. Nothing else may run on it
//! meanwhile.

use super::replay::Text;
use super::{Counters, Run, Scene, Writer};
use crate::budget::Stop;
use crate::verdict::{Halt, refuse};
use crate::{Reply, Request, Shape, SqlError, SqlFailure, Statement};
use rusqlite::ffi;
use sqlrep_env::UnixMillis;
use sqlrep_vfs::Connection;

/// What running statements gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Drafted {
    /// One outcome per text that holds a statement.
    pub reply: Reply,
    /// Whether the transaction is still open; once it isn't, nothing of it will ever be done.
    pub open: bool,
}

/// An open transaction of a writer that is handed in with each call.
#[derive(Debug)]
pub struct Held {
    /// Its own: they count from zero (safety rule 38).
    counters: Counters,
    open: bool,
}

impl Held {
    /// Begins on the newest version. `stop` ends this transaction alone.
    ///
    /// # Errors
    ///
    /// A failure of this node.
    pub fn begin(writer: &mut Writer, stop: Stop) -> Result<Self, SqlFailure> {
        let nothing = Scene {
            now: UnixMillis(0),
            seed: 0,
        };
        let Writer { connection, run } = writer;
        run.begin(connection, true, nothing)?;
        run.open(connection)?;
        run.budget.stop_by(Some(stop));
        Ok(Self {
            counters: Counters::default(),
            open: true,
        })
    }

    /// Runs the statements of `request`, each with a scene of its own. Rows are answered wherever there are columns; rows and
    /// steps of all together are bounded as those of a request.
    ///
    /// # Errors
    ///
    /// A failure of this node, or `stop`: the transaction has to be rolled back.
    pub fn run(
        &mut self,
        writer: &mut Writer,
        request: &Request,
        scene: impl FnMut() -> Scene,
    ) -> Result<Drafted, SqlFailure> {
        if let Err(halt) = crate::check_count(request, writer.run.settings.statements_max) {
            let outcomes = vec![crate::failed(halt)?];
            let (reply, open) = (Reply { outcomes }, self.open);
            return Ok(Drafted { reply, open });
        }
        writer.run.budget.refill();
        writer.run.spent = false;
        self.texts(writer, request, scene, |_, _, _| ())
    }

    /// The same within the steps that are left; `kept` hears of each text that is part of the transaction.
    pub(super) fn texts(
        &mut self,
        writer: &mut Writer,
        request: &Request,
        mut scene: impl FnMut() -> Scene,
        mut kept: impl FnMut(&Statement, Scene, &Text),
    ) -> Result<Drafted, SqlFailure> {
        let request = Request {
            transaction: true,
            shape: Shape::Request,
            qualify_columns: request.qualify_columns,
            statements: request.statements.clone(),
            replay: None,
        };
        writer.run.room = writer.run.whole_room();
        let mut reply = Reply::default();
        for statement in &request.statements {
            if !self.open {
                break;
            }
            let scene = scene();
            let text = self.text(writer, &request, statement, scene);
            let text = text.inspect_err(|_| self.open = false)?;
            if self.open && !text.marked.ruled {
                kept(statement, scene, &text);
            }
            reply.outcomes.extend(text.outcome);
        }
        let open = self.open;
        Ok(Drafted { reply, open })
    }

    fn text(
        &mut self,
        writer: &mut Writer,
        request: &Request,
        statement: &Statement,
        scene: Scene,
    ) -> Result<Text, SqlFailure> {
        let Writer { connection, run } = writer;
        let text = run.session_text(connection, request, statement, scene, &mut self.counters)?;
        let refused = text.marked.ruled && text.marked.touched;
        if connection.sqlite().is_autocommit() || refused {
            self.take_back(writer)?;
        }
        Ok(text)
    }

    /// Commits; `counters` are the database's. An error of SQLite's leaves the transaction open where SQLite does, a deferred
    /// constraint perhaps; [`is_open`](Self::is_open) tells.
    ///
    /// # Errors
    ///
    /// A failure of this node: the transaction is over.
    pub fn commit(
        &mut self,
        writer: &mut Writer,
        counters: &mut Counters,
    ) -> Result<Result<(), SqlError>, SqlFailure> {
        let Writer { connection, run } = writer;
        match run.commit_held(connection, self.open) {
            Ok(()) => {
                self.end(writer);
                writer.run.count(self.counters, counters);
                Ok(Ok(()))
            }
            Err(Halt::Refused(error)) => {
                if connection.sqlite().is_autocommit() {
                    self.end(writer);
                }
                Ok(Err(error))
            }
            Err(Halt::Failed(failure)) => {
                self.end(writer);
                Err(failure)
            }
        }
    }

    /// Takes it back.
    ///
    /// # Errors
    ///
    /// A failure of this node.
    pub fn roll_back(mut self, writer: &mut Writer) -> Result<(), SqlFailure> {
        self.take_back(writer)
    }

    fn take_back(&mut self, writer: &mut Writer) -> Result<(), SqlFailure> {
        self.end(writer);
        let Writer { connection, run } = writer;
        run.roll_back(connection)
            .map_err(|error| run.local(connection, error))?;
        // What was compiled for a schema that is gone.
        run.forget(connection);
        Ok(())
    }

    fn end(&mut self, writer: &Writer) {
        self.open = false;
        writer.run.guard.own();
        writer.run.budget.stop_by(None);
    }

    /// Whether it can still be committed.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }
}

impl Run {
    fn commit_held(&self, connection: &Connection, open: bool) -> Result<(), Halt> {
        if !open {
            return Err(refuse(
                ffi::SQLITE_ABORT,
                "the transaction was rolled back; begin another one",
            ));
        }
        self.savepoints
            .check()
            .and_then(|()| self.commit(connection))
    }

    /// What a session's transaction set is what the database repeats from now on.
    pub(super) fn count(&self, own: Counters, counters: &mut Counters) {
        if self.set.0 {
            counters.last_insert_id = own.last_insert_id;
        }
        if self.set.1 {
            counters.rows_affected = own.rows_affected;
        }
    }
}
