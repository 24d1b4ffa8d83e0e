//! Page mode's transaction that may write, on the leader (safety rule 41).
//!
//! ```text
//!   deferred ─► reads: a reader at a pinned version ─┐ first write, or savepoint
//!   immediate ───────────────────────────────────────┴─► waits in line for the writer ─► has it, until it is over
//!                                                             statement ─► runs on the newest version
//!                                                             commit    ─► its pages are the next entry
//! ```
//!
//! A reader becomes the writer only if its version is the newest: else what it was shown would be another state than what it
//! writes on. While it has the writer nothing else is written; so there is no conflict at COMMIT.
//!
//! Invariant: it ends with the leadership that it began in, also where that is won again.

use super::ground::Ground;
use super::reading::{IsTooMuch, Reading};
use super::transaction::{Ran, Transaction};
use crate::WRITE_WAIT_MAX;
use crate::front::SqlMachine;
use async_trait::async_trait;
use sqlrep_core::{Committing, Leadership, LogIndex, Reserved, Stepped, WriteError, Written};
use sqlrep_service::{Committed, End, SessionError, SessionOptions, WRITER_WAIT_MAX};
use sqlrep_sql::{Outcome, Reader, Reply, Request};
use std::sync::Arc;

pub(super) struct Holding<M: SqlMachine> {
    ground: Arc<Ground<M>>,
    options: SessionOptions,
    leadership: Leadership<M>,
    state: State<M>,
}

enum State<M: SqlMachine> {
    /// It was shown nothing yet.
    Deferred,
    Reading(Box<Reading<M>>),
    Writing(Box<Reserved<M>>),
}

const NEEDS_WRITER: IsTooMuch = Reader::needs_writer;

impl<M: SqlMachine> Holding<M> {
    /// Begins as a reader.
    pub(super) fn deferred(
        ground: Arc<Ground<M>>,
        options: SessionOptions,
    ) -> Result<Self, SessionError> {
        let leadership = ground.member.leadership()?;
        Ok(Self {
            ground,
            options,
            leadership,
            state: State::Deferred,
        })
    }

    /// Begins as the writer, after its wait in line.
    pub(super) async fn immediate(
        ground: Arc<Ground<M>>,
        options: SessionOptions,
    ) -> Result<Self, SessionError> {
        let wait_max = options.total_max.min(WRITER_WAIT_MAX);
        let mut begun = Self::deferred(ground, options)?;
        let writer = begun.ground.member.reserve(None, wait_max).await?;
        begun.state = State::Writing(Box::new(writer));
        Ok(begun)
    }

    /// Reads if that is enough. Else it needs the writer, on the version with this number if it was shown one.
    async fn read(&mut self, request: &Request) -> Result<Result<Ran, Option<u64>>, SessionError> {
        match &mut self.state {
            State::Writing(_) => Ok(Err(None)),
            State::Reading(reading) => {
                let ran = reading.attempt(request.clone(), NEEDS_WRITER).await?;
                Ok(ran.ok_or(Some(reading.version())))
            }
            State::Deferred => {
                let mut reading = Reading::begin(self.ground.clone(), &self.options).await?;
                let ran = reading.attempt(request.clone(), NEEDS_WRITER).await?;
                if ran.is_some() {
                    self.state = State::Reading(Box::new(reading));
                }
                Ok(ran.ok_or(None))
            }
        }
    }

    /// Waits in line for the writer. An error leaves the transaction a reader, unless it says that it is over.
    async fn reserved(&mut self, base: Option<u64>) -> Result<Reserved<M>, SessionError> {
        let reserved = self.ground.member.reserve(base, WRITER_WAIT_MAX).await;
        reserved.map_err(|error| match error {
            WriteError::Conflict => SessionError::Outdated,
            error => of(error),
        })
    }

    /// Where the log stands, for a transaction that did nothing.
    fn index(&self) -> LogIndex {
        let applied = self.ground.replica.applied().id;
        applied.map_or(LogIndex(0), |id| id.index)
    }
}

/// Why a transaction is over that has lost the writer.
fn lost(error: WriteError) -> End {
    match error {
        WriteError::NotLeader { .. } | WriteError::NotDone => End::LeaderChanged,
        WriteError::Stopped => End::NodeStopped,
        error => End::Failed(error.to_string()),
    }
}

/// A refusal that only says that the leadership is over.
fn of(error: WriteError) -> SessionError {
    match error {
        WriteError::NotLeader { .. } | WriteError::NotDone => {
            SessionError::Ended(End::LeaderChanged)
        }
        error => error.into(),
    }
}

fn refused(reply: Reply) -> SessionError {
    match reply.outcomes.into_iter().next() {
        Some(Outcome::Failed(error)) => SessionError::Open(error),
        _ => SessionError::Ended(End::Failed("its COMMIT gave no answer".to_owned())),
    }
}

fn committed(written: Written<Reply>) -> Committed {
    Committed {
        at: written.at.index,
        wrote: !written.reply.outcomes.is_empty(),
    }
}

#[async_trait]
impl<M: SqlMachine> Transaction for Holding<M> {
    async fn run(&mut self, request: Request) -> Result<Ran, SessionError> {
        let base = match self.read(&request).await? {
            Ok(ran) => return Ok(ran),
            Err(base) => base,
        };
        if !matches!(self.state, State::Writing(_)) {
            self.state = State::Writing(Box::new(self.reserved(base).await?));
        }
        let State::Writing(writer) = &mut self.state else {
            let what = "its writer is lost".to_owned();
            return Err(SessionError::Ended(End::Failed(what)));
        };
        let ran = writer.run(request).await;
        let Stepped { reply, open } = ran.map_err(|error| SessionError::Ended(lost(error)))?;
        let over = (!open).then_some(End::Statement);
        Ok(Ran { reply, over })
    }

    async fn commit(&mut self) -> Result<Committed, SessionError> {
        match &mut self.state {
            State::Deferred => Ok(Committed {
                at: self.index(),
                wrote: false,
            }),
            State::Reading(reading) => reading.commit().await,
            State::Writing(writer) => match writer.commit(WRITE_WAIT_MAX).await.map_err(of)? {
                Committing::Done(written) => Ok(committed(written)),
                Committing::Open(reply) => Err(refused(reply)),
            },
        }
    }

    async fn lost(&mut self) -> End {
        match &mut self.state {
            State::Writing(writer) => lost(writer.lost().await),
            State::Deferred | State::Reading(_) => {
                self.leadership.lost().await;
                End::LeaderChanged
            }
        }
    }
}
