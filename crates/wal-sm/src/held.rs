//! A client's own transaction on the leader's writer, over the newest version (safety rule 41).
//!
//! ```text
//!   … sealed ── (begin ── statement ── statement ── commit) ── sealed      versions: one more, at commit
//!                                └─ roll back, or anything that ends it: none
//! ```
//!
//! Until its commit nothing of it is a version, so nothing of it can be in a set. Behind it the set holds this one
//! transaction. It doesn't keep time: who may hold it, and how long, is decided above.

use crate::epoch::{PageEpoch, Stopping, scene};
use sqlrep_core::{Closing, EpochEnd, Interactive, Interrupt, Step, Stepped, WriteError};
use sqlrep_sql::{
    Counters, Drafted, Held, Outcome, Reply, Request, SqlError, SqlFailure, Stop, Written,
};
use std::sync::Arc;

/// The transaction that is open.
pub(crate) struct Lent {
    held: Held,
    /// Ends it alone.
    stop: Stop,
}

impl PageEpoch {
    fn lend(&mut self, stop: Stop) -> Result<(), SqlFailure> {
        let writer = self.gather()?;
        let held = Held::begin(writer, stop.clone())?;
        self.lent = Some(Lent { held, stop });
        Ok(())
    }

    fn run_lent(&mut self, lent: &mut Lent, request: &Request) -> Result<Drafted, SqlFailure> {
        let (env, last) = (self.lead.replica.env().clone(), &mut self.last_stamp);
        let writer = self.writer.as_mut().expect("it is lent");
        lent.held.run(writer, request, || scene(&env, last))
    }

    /// Whether the database's counters or pages are others behind it.
    fn commit_lent(&mut self, lent: &mut Lent) -> Result<Result<bool, SqlError>, SqlFailure> {
        let before = self.counters;
        let writer = self.writer.as_mut().expect("it is lent");
        let committed = lent.held.commit(writer, &mut self.counters)?;
        let changed = writer.take_published().is_some() || self.counters != before;
        Ok(committed.map(|()| changed))
    }

    fn end_lent(&mut self, lent: Lent) -> Result<(), SqlFailure> {
        match &mut self.writer {
            Some(writer) => lent.held.roll_back(writer),
            // Closed, and what was open with it.
            None => Ok(()),
        }
    }

    /// The epoch was told to end; whatever a statement gave then may be its doing.
    fn interrupted(&mut self) -> WriteError {
        self.writer = None;
        self.ended = Some(EpochEnd::Interrupted);
        WriteError::NotDone
    }

    /// The client's own end isn't the epoch's.
    fn stopped(&mut self, lent: Lent, failure: SqlFailure) -> WriteError {
        if !lent.stop.is_stopped() || self.stop.is_stopped() {
            return self.failed(failure);
        }
        match self.end_lent(lent) {
            Ok(()) => WriteError::NotDone,
            Err(failure) => self.failed(failure),
        }
    }
}

fn failed(error: SqlError) -> Reply {
    Reply {
        outcomes: vec![Outcome::Failed(error)],
    }
}

/// What is answered to a commit that changed something.
fn committed(counters: Counters) -> Reply {
    let written = Written {
        last_insert_id: counters.last_insert_id,
        rows_affected: counters.rows_affected,
        ..Written::default()
    };
    Reply {
        outcomes: vec![Outcome::Written(written)],
    }
}

impl Interactive for PageEpoch {
    type Request = Request;
    type Reply = Reply;

    fn begin(&mut self, base: Option<u64>) -> Result<Arc<dyn Interrupt>, WriteError> {
        if let Some(error) = self.refusal() {
            return Err(error);
        }
        if base.is_some_and(|base| base != self.version.0) {
            return Err(WriteError::Conflict);
        }
        let stop = Stop::default();
        match self.lend(stop.clone()) {
            Ok(()) => Ok(Arc::new(Stopping(stop))),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    fn step(&mut self, request: Request) -> Result<Stepped<Reply>, WriteError> {
        let mut lent = self.lent.take().ok_or(WriteError::NotDone)?;
        match self.run_lent(&mut lent, &request) {
            Ok(_) if self.stop.is_stopped() => Err(self.interrupted()),
            Ok(Drafted { reply, open }) => {
                self.lent = open.then_some(lent);
                Ok(Stepped { reply, open })
            }
            Err(failure) => Err(self.stopped(lent, failure)),
        }
    }

    fn commit(&mut self) -> Closing<Reply> {
        let Some(mut lent) = self.lent.take() else {
            return Closing::Over(Step::Refused(WriteError::NotDone));
        };
        Closing::Over(match self.commit_lent(&mut lent) {
            Ok(_) if self.stop.is_stopped() => Step::Refused(self.interrupted()),
            Ok(Ok(true)) => {
                self.taken = true;
                let reply = committed(self.counters);
                let key_reply = None;
                Step::Executed { reply, key_reply }
            }
            Ok(Ok(false)) => Step::Answered(Reply::default()),
            Ok(Err(error)) if lent.held.is_open() => {
                self.lent = Some(lent);
                return Closing::Open(failed(error));
            }
            Ok(Err(SqlError { message, .. })) => {
                Step::Refused(WriteError::Unsupported { what: message })
            }
            Err(failure) => Step::Refused(self.failed(failure)),
        })
    }

    fn roll_back(&mut self) {
        let Some(lent) = self.lent.take() else {
            return;
        };
        if let Err(failure) = self.end_lent(lent) {
            self.fail(failure.into());
        }
    }
}
