//! Every node's side: executes entries, one after the other, on one connection.
//!
//! Invariant 1: what ran on `writer` since it was opened is what the log holds since the last reset point, or
//! `history` says that it isn't (safety rule 33).
//! Invariant 2: a version above the committed one belongs to `prepared`.
//!
//! # When an entry can't be executed
//!
//! A failure of this node alone (disk, memory, rot) closes the connection and drops what the entry did. If the entry is
//! the first since a reset point, a new connection is exactly what every other node has, and the entry may be tried
//! again. If it isn't, the connection's history is lost: no later try would give the bytes that the others have, so every later
//! one is refused until a restart, or an install, begins at a reset point again. `core` takes the node out of service then.

use crate::StatementError;
use crate::batch::Batch;
use crate::side::Side;
use sqlrep_core::{EntryEnd, LogIndex, Mismatch};
use sqlrep_env::{Moment, UnixMillis};
use sqlrep_replica::{Finished, Replica, Sink};
use sqlrep_sql::{Counters, Reply, SqlSettings, Writer};
use sqlrep_store::Version;
use std::sync::Arc;

/// The apply worker's value.
pub(crate) struct Apply {
    replica: Arc<Replica>,
    settings: SqlSettings,
    /// None behind a reset point and after a start: it is opened for the next entry.
    writer: Option<Writer>,
    history: History,
    /// Behind the applied end.
    side: Side,
    prepared: Option<Prepared>,
    /// Proofs that didn't fit.
    mismatches: u64,
    /// The newest of them, until it is asked for.
    mismatch: Option<Mismatch>,
}

/// What the apply connection has seen since the last reset point.
#[derive(Clone, Debug)]
enum History {
    /// Nothing: a new connection is as good as it.
    None,
    /// What the log holds, and all of it.
    Whole,
    /// Something else than the log holds.
    Lost(Arc<StatementError>),
}

/// An entry that was executed and isn't finished.
struct Prepared {
    began: Moment,
    version: Option<Version>,
    side: Side,
    reset: bool,
    proof: Option<(u64, u64)>,
    history_before: History,
}

impl Apply {
    /// Begins at the applied end, which is a reset point.
    pub(crate) fn begin(replica: Arc<Replica>, settings: SqlSettings, side: Side) -> Self {
        Self {
            replica,
            settings,
            writer: None,
            history: History::None,
            side,
            prepared: None,
            mismatches: 0,
            mismatch: None,
        }
    }

    pub(crate) fn mismatches(&self) -> u64 {
        self.mismatches
    }

    pub(crate) fn take_mismatch(&mut self) -> Option<Mismatch> {
        self.mismatch.take()
    }

    /// Executes a batch; its replies, one per request.
    pub(crate) fn prepare(
        &mut self,
        batch: &Batch,
        skip: &[bool],
    ) -> Result<Vec<Reply>, StatementError> {
        if let Some(unfinished) = self.prepared.take() {
            let what = "its end couldn't be kept".to_owned();
            self.undo(unfinished.history_before, StatementError::Side { what });
        }
        if let History::Lost(cause) = &self.history {
            return Err(StatementError::HistoryLost {
                cause: cause.clone(),
            });
        }
        let began = self.replica.env().clock.now();
        let history_before = std::mem::replace(&mut self.history, History::Whole);
        match self.run(batch, skip) {
            Ok((replies, side)) => {
                self.replica.store().close_version();
                self.prepared = Some(Prepared {
                    began,
                    version: self.writer.as_ref().and_then(Writer::take_published),
                    side,
                    reset: batch.reset,
                    proof: batch.proof,
                    history_before,
                });
                Ok(replies)
            }
            Err(error) => Err(self.undo(history_before, error)),
        }
    }

    fn run(&mut self, batch: &Batch, skip: &[bool]) -> Result<(Vec<Reply>, Side), StatementError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            closed => closed.insert(Writer::open(
                self.replica.store(),
                self.replica.env(),
                &self.settings,
            )?),
        };
        writer.begin_entry();
        self.replica.store().open_version();
        let mut counters = Counters {
            last_insert_id: self.side.last_insert_id,
            rows_affected: self.side.rows_affected,
        };
        let mut replies = Vec::with_capacity(batch.requests.len());
        for (place, request) in batch.requests.iter().enumerate() {
            let skipped = skip.get(place).is_some_and(|skip| *skip);
            replies.push(if skipped {
                Reply::default()
            } else {
                writer.run(request, batch.scene(place), &mut counters)?
            });
        }
        let side = Side {
            last_stamp: UnixMillis(batch.stamp_unix_ms),
            last_insert_id: counters.last_insert_id,
            rows_affected: counters.rows_affected,
        };
        Ok((replies, side))
    }

    /// Drops what an entry did and answers why. The connection goes first: its cache would survive the versions it shows.
    fn undo(&mut self, before: History, error: StatementError) -> StatementError {
        self.writer = None;
        self.replica.store().abort();
        self.history = before;
        match self.history {
            History::None => error,
            History::Whole | History::Lost(_) => self.lose(error),
        }
    }

    fn lose(&mut self, error: StatementError) -> StatementError {
        let cause = match &self.history {
            History::Lost(cause) => cause.clone(),
            History::None | History::Whole => Arc::new(error),
        };
        self.history = History::Lost(cause.clone());
        StatementError::HistoryLost { cause }
    }

    /// Makes an entry's end the applied one. Where nothing was executed, the end is as good as a reset point if the
    /// connection has no history: so a cluster without SQL has positions and snapshots too.
    pub(crate) fn finish(&mut self, end: EntryEnd) -> Result<(), StatementError> {
        let now = self.replica.env().clock.now();
        let untouched = matches!(self.history, History::None);
        let (version, side, anchor, began) = match &self.prepared {
            Some(done) => (done.version, done.side, done.reset, done.began),
            None => (None, self.side, untouched, now),
        };
        self.replica.finish(Finished {
            version,
            end,
            mode: side.encode(),
            anchor,
            took: now.since(began),
        })?;
        self.side = side;
        if let Some(done) = self.prepared.take() {
            self.compare(done.proof);
            if done.reset {
                (self.writer, self.history) = (None, History::None);
            }
        }
        Ok(())
    }

    /// Holds the leader's checksum of an earlier entry against this node's.
    fn compare(&mut self, proof: Option<(u64, u64)>) {
        let Some((index, theirs)) = proof else { return };
        let Some(ours) = self.replica.store().checksum_at(index) else {
            return; // From before this process, or before an install.
        };
        if ours.0 != theirs {
            self.mismatches += 1;
            self.mismatch = Some(Mismatch {
                index: LogIndex(index),
                ours: ours.0,
                recorded: theirs,
            });
        }
    }

    /// Switches to a complete snapshot, which is a reset point.
    pub(crate) fn install(&mut self, sink: Sink) -> Result<(), StatementError> {
        let side = Side::decode(sink.mode_side())?;
        self.prepared = None;
        self.writer = None;
        self.replica.store().abort();
        if let Err(error) = self.replica.install(sink) {
            return Err(match self.history {
                History::None => error.into(),
                History::Whole | History::Lost(_) => self.lose(error.into()),
            });
        }
        (self.side, self.history) = (side, History::None);
        Ok(())
    }
}
