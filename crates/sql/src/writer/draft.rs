//! A session's transaction while it is open: statements on a private writer over a pinned version.
//!
//! ```text
//!   run ─► on the private writer; text, scene and digest of the outcome are kept
//!   commit ─► the private writer commits, for nobody to see ─► a Request with all of it, for the log
//! ```
//!
//! A statement that fails leaves the transaction open, as in SQLite. It is over where SQLite ends it (`OR ROLLBACK`,
//! `RAISE(ROLLBACK)`), and where a statement that wrote was refused by a bound of ours: SQLite can't take back one
//! statement of those. A text that only read and was refused so isn't kept: its replay would show nothing.
//!
//! Invariant: what is kept, replayed on the pinned version, gives the digest.

use super::{Counters, Run, Scene, Writer};
use crate::budget::Stop;
use crate::pragma::Role;
use crate::replay::{Digest, Replay};
use crate::verdict::{Halt, refuse};
use crate::{
    Functions, Outcome, Reply, Request, Shape, SqlError, SqlFailure, SqlSettings, Statement,
};
use rusqlite::{InterruptHandle, ffi};
use sqlrep_env::{Env, UnixMillis};
use sqlrep_store::{Pin, Store};
use sqlrep_vfs::Kind;
use std::fmt;
use std::sync::Arc;

/// A transaction that isn't in the log yet.
pub struct Draft {
    writer: Writer,
    counters: Counters,
    kept: Request,
    replay: Replay,
    digest: Digest,
    bytes: usize,
    wrote: bool,
    open: bool,
}

/// What running statements gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Drafted {
    /// One outcome per text that holds a statement.
    pub reply: Reply,
    /// Whether the transaction is still open; once it isn't, nothing of it will ever be done.
    pub open: bool,
}

impl Draft {
    /// Begins on `pin`. The settings are the cluster's.
    ///
    /// # Errors
    ///
    /// [`SqlFailure::Connection`], or settings that make no sense.
    pub fn begin(
        store: &Arc<Store>,
        env: &Env,
        settings: &SqlSettings,
        pin: Arc<Pin>,
    ) -> Result<Self, SqlFailure> {
        Self::of(store, env, settings, (Kind::Private(pin), Role::Writer))
    }

    /// The same where only the leader will replay it, on [`Writer::lead`]'s connection.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn lead(
        store: &Arc<Store>,
        env: &Env,
        settings: &SqlSettings,
        pin: Arc<Pin>,
    ) -> Result<Self, SqlFailure> {
        Self::of(store, env, settings, (Kind::Private(pin), Role::Leader))
    }

    /// The same with functions of the program's own.
    ///
    /// # Errors
    ///
    /// What SQLite said.
    pub fn with_functions(self, functions: &Functions) -> Result<Self, SqlFailure> {
        functions.install(self.writer.connection.sqlite())?;
        Ok(self)
    }

    fn of(
        store: &Arc<Store>,
        env: &Env,
        settings: &SqlSettings,
        private: (Kind, Role),
    ) -> Result<Self, SqlFailure> {
        settings.check()?;
        let mut writer = Writer::open_kind(store, env, settings, private, Stop::default())?;
        let nothing = Scene {
            now: UnixMillis(0),
            seed: 0,
        };
        writer.run.begin(&writer.connection, true, nothing)?;
        writer.run.open(&writer.connection)?;
        Ok(Self {
            writer,
            counters: Counters::default(),
            kept: Request {
                transaction: true,
                shape: Shape::Request,
                ..Request::default()
            },
            replay: Replay::default(),
            digest: Digest::default(),
            bytes: 0,
            wrote: false,
            open: true,
        })
    }

    /// Stops what runs, from any thread. The transaction is over then, if what ran could write.
    #[must_use]
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.writer.connection.interrupt_handle()
    }

    /// Texts kept for the COMMIT.
    #[must_use]
    pub fn texts(&self) -> usize {
        self.kept.statements.len()
    }

    /// Bytes of them, as [`Request::size_bytes`] counts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Runs the statements of `request`, each with a scene of its own. Rows are answered wherever there are columns; the
    /// rows of all together are bounded as those of a request.
    ///
    /// # Errors
    ///
    /// A failure of this node: the transaction is over.
    pub fn run(
        &mut self,
        request: &Request,
        mut scene: impl FnMut() -> Scene,
    ) -> Result<Drafted, SqlFailure> {
        let request = Request {
            transaction: true,
            shape: Shape::Request,
            qualify_columns: request.qualify_columns,
            statements: request.statements.clone(),
            replay: None,
        };
        self.writer.run.room = self.writer.run.whole_room();
        let mut reply = Reply::default();
        for statement in &request.statements {
            if !self.open {
                break;
            }
            let text = self.text(&request, statement, scene());
            let outcome = text.inspect_err(|_| self.open = false)?;
            reply.outcomes.extend(outcome);
        }
        let open = self.open;
        Ok(Drafted { reply, open })
    }

    fn text(
        &mut self,
        request: &Request,
        statement: &Statement,
        scene: Scene,
    ) -> Result<Option<Outcome>, SqlFailure> {
        let Writer { connection, run } = &mut self.writer;
        let text = run.session_text(connection, request, statement, scene, &mut self.counters)?;
        let refused = text.marked.ruled;
        if connection.sqlite().is_autocommit() || (refused && text.marked.touched) {
            self.give_up()?;
        } else if !refused {
            self.keep(statement, scene, text.outcome.as_ref());
            self.wrote |= text.marked.touched;
        }
        Ok(text.outcome)
    }

    fn keep(&mut self, statement: &Statement, scene: Scene, outcome: Option<&Outcome>) {
        self.digest.add(outcome);
        self.bytes += statement.size_bytes();
        self.kept.statements.push(statement.clone());
        self.replay.scenes.push(scene.into());
    }

    fn give_up(&mut self) -> Result<(), SqlFailure> {
        self.open = false;
        let Writer { connection, run } = &mut self.writer;
        run.roll_back(connection)
            .map_err(|error| run.local(connection, error))
    }

    /// Commits privately and answers what has to be replicated: none if nothing of it could write. An error of SQLite's
    /// leaves the transaction open where SQLite does, a deferred constraint perhaps; [`is_open`](Self::is_open) tells.
    ///
    /// # Errors
    ///
    /// A failure of this node: the transaction is over.
    pub fn commit(&mut self) -> Result<Result<Option<Request>, SqlError>, SqlFailure> {
        let Writer { connection, run } = &mut self.writer;
        match run.commit_draft(connection, self.open) {
            Ok(()) => {}
            Err(Halt::Refused(error)) => {
                self.open &= !connection.sqlite().is_autocommit();
                return Ok(Err(error));
            }
            Err(Halt::Failed(failure)) => {
                self.open = false;
                return Err(failure);
            }
        }
        self.open = false;
        if !self.wrote {
            return Ok(Ok(None));
        }
        let mut request = std::mem::take(&mut self.kept);
        self.replay.digest = self.digest.finish();
        request.replay = Some(Box::new(std::mem::take(&mut self.replay)));
        Ok(Ok(Some(request)))
    }

    /// Whether it can still be committed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }
}

impl Run {
    fn commit_draft(&self, connection: &sqlrep_vfs::Connection, open: bool) -> Result<(), Halt> {
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
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("texts", &self.texts())
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}
