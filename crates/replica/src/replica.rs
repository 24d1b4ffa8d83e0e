//! Entry ends, checkpoints and installs of one database.

use crate::made::Made;
use crate::{
    CheckpointPolicy, Checkpoints, LocalReader, Memory, Pressure, ReplicaError, Sink, Source,
    entry_end, position, table,
};
use bytes::Bytes;
use sqlrep_core::{CheckpointStep, EntryEnd, EntryId, LogIndex, Which};
use sqlrep_env::{Env, LatencyCounts, Moment};
use sqlrep_sql::{Functions, SqlSettings};
use sqlrep_store::{Checkpoint, Finish, PinKind, Progress, Side, Store, StoreError, Version};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One entry, applied.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The last version it made; none if it changed no page.
    pub version: Option<Version>,
    /// Where it stands, and `core`'s side state behind it.
    pub end: EntryEnd,
    /// The mode's side state behind it.
    pub mode: Bytes,
    /// Whether this end may be checkpointed and sent (safety rules 15 and 33).
    pub anchor: bool,
    /// How long applying took.
    pub took: Duration,
}

/// The replicated state of one database on this node.
pub struct Replica {
    store: Arc<Store>,
    env: Env,
    policy: CheckpointPolicy,
    gathered: Mutex<Gathered>,
    /// Whoever writes the base file holds it: a step of the checkpoint under way, or an install, which ends that
    /// checkpoint (invariant 2).
    base: Mutex<Option<UnderWay>>,
    made: Made,
    functions: Functions,
}

/// A checkpoint between two of its steps.
struct UnderWay {
    checkpoint: Checkpoint,
    began: Moment,
    /// Replay time that had gathered when it began: what it takes back.
    replay: Duration,
}

/// Since the durable position.
struct Gathered {
    replay: Duration,
    last_checkpoint: Moment,
}

impl Replica {
    /// On an open store, at its durable position.
    #[must_use]
    pub fn new(store: Arc<Store>, env: Env, policy: CheckpointPolicy) -> Self {
        let gathered = Gathered {
            replay: Duration::ZERO,
            last_checkpoint: env.clock.now(),
        };
        Self {
            store,
            env,
            policy,
            gathered: Mutex::new(gathered),
            base: Mutex::new(None),
            made: Made::default(),
            functions: Functions::default(),
        }
    }

    /// The same whose connections, all of them, have functions of the program's own.
    #[must_use]
    pub fn with_functions(self, functions: Functions) -> Self {
        Self { functions, ..self }
    }

    /// Functions of the program's own.
    #[must_use]
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// The pages.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Time and randomness.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// A reader of the newest entry end for the caller's own thread.
    #[must_use]
    pub fn reader(&self, settings: &SqlSettings) -> LocalReader {
        LocalReader::new(&self.store, &self.env, settings, &self.functions)
    }

    /// Makes an entry's end the applied one.
    ///
    /// # Errors
    ///
    /// The store's; the node can't go on.
    pub fn finish(&self, finished: Finished) -> Result<(), ReplicaError> {
        let id = finished.end.id.expect("an applied entry has an id");
        let version = finished
            .version
            .unwrap_or_else(|| self.store.committed().version);
        let side = Side {
            table: table(&finished.end.keys),
            core: finished.end.side,
            mode: finished.mode,
        };
        let anchor = finished.anchor;
        self.store.finish(Finish {
            position: position(id),
            version,
            side,
            anchor,
        })?;
        self.gathered().replay += finished.took;
        Ok(())
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The applied end.
    #[must_use]
    pub fn applied(&self) -> EntryEnd {
        entry_end(&self.store.committed())
    }

    /// The end that a restart begins from.
    #[must_use]
    pub fn durable(&self) -> EntryEnd {
        entry_end(&self.store.durable())
    }

    /// The mode's side state at the applied end; empty before the first entry.
    #[must_use]
    pub fn mode_side(&self) -> Bytes {
        self.store.committed().side.mode.clone()
    }

    /// Works for a slice on a checkpoint: on the one under way, else on a new one if it is due, if `now` asks for it or
    /// if memory is used up. With `now` the newest end that may be checkpointed is durable when nothing is left to do.
    ///
    /// # Errors
    ///
    /// The store's. A full disk changes nothing, the next call tries again.
    pub fn checkpoint_step(
        &self,
        log_durable: EntryId,
        now: bool,
    ) -> Result<CheckpointStep, ReplicaError> {
        let mut base = self.base();
        if base.is_none() {
            *base = self.begin(log_durable, now);
        }
        let Some(under_way) = &mut *base else {
            return Ok(CheckpointStep::Done(self.durable()));
        };
        match self.step(&mut under_way.checkpoint) {
            Ok(Progress::More) => Ok(self.more()),
            Ok(Progress::Done(_)) => {
                self.completed(base.take().expect("it was just stepped"));
                // It may have begun before what is asked for now was applied.
                Ok(if now {
                    self.more()
                } else {
                    CheckpointStep::Done(self.durable())
                })
            }
            Err(error) => {
                *base = None;
                self.made.failed();
                Err(error.into())
            }
        }
    }

    fn base(&self) -> MutexGuard<'_, Option<UnderWay>> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, log_durable: EntryId, now: bool) -> Option<UnderWay> {
        if !now && !self.store.hold() && !self.policy.due(&self.pressure()) {
            return None;
        }
        let replay = self.gathered().replay;
        let checkpoint = self.store.begin_checkpoint(Some(position(log_durable)))?;
        Some(UnderWay {
            checkpoint,
            began: self.env.clock.now(),
            replay,
        })
    }

    fn step(&self, checkpoint: &mut Checkpoint) -> Result<Progress, StoreError> {
        let before = checkpoint.written();
        let step = checkpoint.step();
        self.made.wrote(before, checkpoint.written());
        step
    }

    fn more(&self) -> CheckpointStep {
        let patience = self.policy.patience(Memory {
            bytes: self.store.version_bytes(),
            bytes_max: self.store.version_bytes_max(),
        });
        CheckpointStep::More { patience }
    }

    fn completed(&self, ended: UnderWay) {
        let mut gathered = self.gathered();
        gathered.replay = gathered.replay.saturating_sub(ended.replay);
        gathered.last_checkpoint = self.env.clock.now();
        let took = gathered.last_checkpoint.since(ended.began);
        self.made.completed(took);
    }

    /// What checkpoints have done since the start.
    #[must_use]
    pub fn checkpoints(&self) -> Checkpoints {
        self.made.counts()
    }

    /// How long the completed ones took.
    #[must_use]
    pub fn checkpoint_times(&self) -> LatencyCounts {
        self.made.times()
    }

    /// Whether memory is used up and a checkpoint would make room: a leader proposes nothing until then (safety rule 11).
    #[must_use]
    pub fn waits_for_checkpoint(&self) -> bool {
        self.store.hold() && self.store.anchor().position > self.store.durable().position
    }

    /// What has gathered since the durable position.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let due = self.store.checkpoint_due();
        let gathered = self.gathered();
        Pressure {
            replay: gathered.replay,
            image_bytes: due.image_bytes,
            entries: due.entries,
            age: self.env.clock.now().since(gathered.last_checkpoint),
        }
    }

    /// Opens a snapshot; none before the first entry that may be sent. One of [`Which::Durable`] has pages to read only
    /// while the durable end is the newest that may be sent.
    pub fn snapshot(&self, which: Which) -> Option<Source> {
        let pin = self.store.pin_anchor(PinKind::Snapshot);
        match which {
            Which::Newest => {
                pin.end().position?;
                Some(Source::of(self.store.clone(), pin))
            }
            Which::Durable => {
                let durable = self.store.durable();
                durable.position?;
                if pin.end().position == durable.position {
                    Some(Source::of(self.store.clone(), pin))
                } else {
                    Some(Source::description(entry_end(&durable)))
                }
            }
        }
    }

    /// The whole database's checksum at the entry end `index`, while it is known.
    #[must_use]
    pub fn checksum_at(&self, index: LogIndex) -> Option<u64> {
        self.store.checksum_at(index.0).map(|checksum| checksum.0)
    }

    /// Reads every page of the base file back (safety rule 31).
    ///
    /// # Errors
    ///
    /// [`ReplicaError::Damaged`] with the first damaged pages; the store's.
    pub fn verify(&self) -> Result<(), ReplicaError> {
        let pages = self.store.verify_pages()?;
        match pages.first() {
            None => Ok(()),
            Some(first) => Err(ReplicaError::Damaged {
                first: *first,
                count: pages.len(),
            }),
        }
    }

    /// Keeps durably that this database mustn't be used, until another one is installed.
    ///
    /// # Errors
    ///
    /// The store's.
    pub fn distrust(&self, why: &str) -> Result<(), ReplicaError> {
        Ok(self.store.distrust(why)?)
    }

    /// Why this database mustn't be used. Where that can't be read, it mustn't either.
    #[must_use]
    pub fn distrusted(&self) -> Option<String> {
        let unknown =
            |error: StoreError| Some(format!("whether it may be used can't be read: {error}"));
        self.store.distrusted().unwrap_or_else(unknown)
    }

    /// Begins to receive a snapshot that will show `end`.
    #[must_use]
    pub fn receive(&self, end: EntryEnd) -> Sink {
        Sink::new(self.store.clone(), end)
    }

    /// Switches to a complete snapshot; a checkpoint under way ends where it stands. Writer connections are closed before; readers open again by themselves.
    ///
    /// # Errors
    ///
    /// The store's, or the snapshot isn't complete; nothing has changed then.
    pub fn install(&self, sink: Sink) -> Result<(), ReplicaError> {
        let installer = sink.into_installer()?;
        let mut base = self.base();
        *base = None;
        self.store.install(installer)?;
        drop(base);
        let mut gathered = self.gathered();
        gathered.replay = Duration::ZERO;
        gathered.last_checkpoint = self.env.clock.now();
        Ok(())
    }
}
