//! `RaftStateMachine` over [`StateMachine`]: abort, prepare, finish, replies, in this order for each entry; and
//! the two answers about snapshots.
//!
//! Invariant 1 (safety rule 15): before Raft runs, a snapshot is exactly the durable position with its
//! members; afterwards it is the newest entry end, pinned for sending.
//! Invariant 2 (safety rule 16): where the state isn't trusted, entries are acknowledged to openraft unapplied; the
//! state's own position stays where it is, and a repair applies them later.
//! Invariant 3: no snapshot is built that covers more than Raft has handed over, though a repair may have made that durable.

use super::snapshot::Carrier;
use super::wire::{entry_out, stored};
use super::{LogId, Membership, SnapshotMeta, TypeConfig, log_id};
use crate::answered::answered;
use crate::codec::CodecError;
use crate::member::{Applier, Halt, Shared, Side, Stuck};
use crate::{
    Entry, EntryEnd, MachineError, Retry, SnapshotSink, SnapshotSource, StateMachine, Which,
    WriteError,
};
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use sqlrep_env::Actor;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Entries handed to the apply worker at once.
const CHUNK_ENTRIES: usize = 64;

/// The apply worker's queue: openraft asks one thing at a time.
pub(crate) const JOBS_MAX: usize = 16;

/// What may heal by itself, a full disk perhaps, is tried again this often.
const RETRY_EVERY: Duration = Duration::from_millis(500);

type Snapshot<M> = openraft::alias::SnapshotOf<TypeConfig, Carrier<M>>;

/// The state as openraft sees it.
pub(crate) struct MachineAdapter<M: StateMachine> {
    shared: Arc<Shared<M>>,
    worker: Actor<Applier<M>>,
}

impl<M: StateMachine> MachineAdapter<M> {
    pub(crate) fn new(shared: Arc<Shared<M>>, worker: Actor<Applier<M>>) -> Self {
        Self { shared, worker }
    }

    /// Runs `job` on the apply worker.
    async fn on_worker<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Applier<M>) -> T + Send + 'static,
    ) -> io::Result<T> {
        answered(&self.worker, job).await.map_err(|none| {
            none.assert_ended("openraft asks one thing at a time, and one repair runs");
            io::Error::other("the apply worker has ended")
        })
    }

    /// Applies entries of one leadership.
    async fn apply_group(&self, mut entries: VecDeque<Entry>) -> io::Result<()> {
        let Some(first) = entries.front() else {
            return Ok(());
        };
        self.shared.epochs.keep_only(first.id.term).await;
        self.shared.hand_over(entries.back().map(|last| last.id));
        let mut last_failed = None;
        while !self.shared.is_skipping() {
            let applied = self
                .on_worker(move |applier| applier.apply(entries))
                .await?;
            let Err(Stuck { rest, halt }) = applied else {
                return Ok(());
            };
            let failed = rest.front().map(|entry| entry.id);
            let error = match halt {
                Halt::Failed(error) => error,
                Halt::Behind => {
                    self.shared.reached(failed).await;
                    entries = rest;
                    continue;
                }
            };
            if error.retry == Retry::Safe {
                tracing::warn!(entry = ?failed, %error, "an entry waits to be applied");
                tokio::time::sleep(RETRY_EVERY).await;
            } else if failed == last_failed {
                self.shared.quarantine(&error);
            }
            (entries, last_failed) = (rest, failed);
        }
        let cause = "it is committed, but this node's state can't apply it".to_owned();
        self.shared
            .in_flight
            .fail_all(&WriteError::Unknown { cause });
        Ok(())
    }

    fn described(&self, end: &EntryEnd) -> io::Result<Option<Snapshot<M>>> {
        let Some(id) = end.id else { return Ok(None) };
        let last_log_id = Some(log_id(id));
        let last_membership = members(end)?;
        Ok(Some(Snapshot::<M> {
            meta: SnapshotMeta {
                last_log_id,
                last_membership,
            },
            snapshot: Carrier::Position,
        }))
    }

    async fn newest(&self) -> io::Result<Option<Snapshot<M>>> {
        let machine = self.shared.machine.clone();
        let opened = self.on_worker(move |_| machine.snapshot(Which::Newest));
        let Some(source) = opened.await?.map_err(io::Error::other)? else {
            return Ok(None);
        };
        let described = self.described(&source.end())?;
        Ok(described.map(|described| Snapshot::<M> {
            snapshot: Carrier::Source(source),
            ..described
        }))
    }
}

fn members(end: &EntryEnd) -> Result<Membership, CodecError> {
    let side = Side::open(&end.side)?;
    stored(side.members_at, side.members)
}

/// Splits off the leading entries of one term.
pub(crate) fn one_leadership(entries: &mut VecDeque<Entry>) -> VecDeque<Entry> {
    let term = entries.front().map(|entry| entry.id.term);
    let other = entries.iter().position(|entry| Some(entry.id.term) != term);
    let rest = entries.split_off(other.unwrap_or(entries.len()));
    std::mem::replace(entries, rest)
}

impl<M: StateMachine> RaftStateMachine<TypeConfig> for MachineAdapter<M> {
    type SnapshotData = Carrier<M>;
    type SnapshotBuilder = Builder<M>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Membership)> {
        let end = self.shared.machine.applied();
        self.shared.hand_over(end.id);
        Ok((end.id.map(log_id), members(&end)?))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.ready_chunks(CHUNK_ENTRIES);
        while let Some(chunk) = chunks.next().await {
            let mut entries = VecDeque::with_capacity(chunk.len());
            let mut responders: Vec<ApplyResponder<TypeConfig>> = Vec::new();
            for item in chunk {
                let (entry, responder) = item?;
                entries.push_back(entry_out(entry));
                responders.extend(responder);
            }
            while !entries.is_empty() {
                self.apply_group(one_leadership(&mut entries)).await?;
            }
            for responder in responders {
                responder.send(());
            }
        }
        Ok(())
    }

    /// None while nothing is durable: openraft may purge what a built snapshot covers. None too where a repair is ahead of
    /// openraft, which takes a snapshot of what it hasn't handed over for impossible.
    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder<M>> {
        let durable = self.shared.machine.durable();
        if durable.id.map(|id| id.index.0) >= Some(self.shared.handed.load(Ordering::SeqCst)) {
            return None;
        }
        let snapshot = self.described(&durable);
        match snapshot {
            Ok(None) => None,
            Ok(Some(snapshot)) => Some(Builder(Some(Ok(snapshot)))),
            Err(error) => Some(Builder(Some(Err(error)))),
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder<M> {
        let nothing = || io::Error::other("nothing is durable yet");
        let built = self.try_create_snapshot_builder(true).await;
        built.unwrap_or_else(|| Builder(Some(Err(nothing()))))
    }

    async fn install_snapshot(&mut self, _: &SnapshotMeta, snapshot: Carrier<M>) -> io::Result<()> {
        let Carrier::Sink(sink) = snapshot else {
            let what = "the state is behind its own durable position, which can't be";
            return Err(io::Error::other(what));
        };
        self.shared.epochs.bar().await;
        let end = sink.end().id;
        let installed = self.on_worker(move |applier| applier.install_trusted(sink));
        installed.await?.map_err(|error: MachineError| {
            tracing::error!(%error, "a snapshot that was received whole can't be installed");
            io::Error::other(error)
        })?;
        self.shared.hand_over(end);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot<M>>> {
        if self.shared.started.load(Ordering::Acquire) {
            self.newest().await
        } else {
            self.described(&self.shared.machine.durable())
        }
    }
}

/// Tells openraft what is durable, once.
pub(crate) struct Builder<M: StateMachine>(Option<io::Result<Snapshot<M>>>);

impl<M: StateMachine> RaftSnapshotBuilder<TypeConfig> for Builder<M> {
    type SnapshotData = Carrier<M>;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot<M>> {
        let used = || Err(io::Error::other("a snapshot builder builds once"));
        self.0.take().unwrap_or_else(used)
    }
}
