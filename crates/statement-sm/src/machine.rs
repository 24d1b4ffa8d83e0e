//! The state machine: what `core` calls, handed to the side that does it.

use crate::apply::Apply;
use crate::batch::{Batch, request_bytes};
use crate::epoch::NothingRuns;
use crate::side::Side;
use crate::{StatementEpoch, StatementError, codec};
use bytes::Bytes;
use sqlrep_core::{
    Applied, CheckpointStep, Committed, EntryEnd, EntryId, EpochId, Interrupt, LogIndex,
    MachineError, Mismatch, StateMachine, Which,
};
use sqlrep_replica::{Replica, ReplicaError, Sink, Source};
use sqlrep_sql::{Outcome, Reply, Request, SqlSettings, Writer, Written};
use sqlrep_vfs::check_engine;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A forwarded request or its reply is no longer: what one frame between nodes holds.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Statement mode on one node.
pub struct StatementMachine {
    replica: Arc<Replica>,
    /// Used by the apply worker, and by who asks for figures.
    apply: Mutex<Apply>,
    /// Fingerprint of the SQLite that executes (safety rule 32).
    engine: u64,
}

impl StatementMachine {
    /// On an open replica, at its durable position. `settings` are the cluster's, and so the same on every node: a fresh node
    /// has them from whoever forms the cluster, a joining one from the cluster, a restarted one from its own files.
    ///
    /// # Errors
    ///
    /// State of another release, settings that SQLite doesn't take, or the store's. Damaged pages are none: this state is
    /// distrusted then.
    pub fn open(replica: Arc<Replica>, settings: SqlSettings) -> Result<Arc<Self>, StatementError> {
        let side = Side::decode(&replica.mode_side())?;
        // Settings that can't work are said now and not by the first entry.
        let opened = Writer::open(replica.store(), replica.env(), &settings);
        match opened.map(drop).map_err(ReplicaError::from) {
            // The member is out of service from its first moment on, and repairs this.
            Err(error) if error.is_damage() => replica.distrust(&error.to_string())?,
            opened => opened?,
        }
        let engine = check_engine().map_err(ReplicaError::from)?.fingerprint;
        let apply = Mutex::new(Apply::begin(replica.clone(), settings, side));
        Ok(Arc::new(Self {
            replica,
            apply,
            engine,
        }))
    }

    /// The pages and their readers.
    #[must_use]
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// How often the leader's checksum of an earlier entry differed from this node's (safety rule 31). Zero on a healthy node.
    #[must_use]
    pub fn checksum_mismatches(&self) -> u64 {
        self.apply().mismatches()
    }

    fn apply(&self) -> MutexGuard<'_, Apply> {
        self.apply.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn message(what: String) -> StatementError {
    StatementError::Message { what }
}

impl StateMachine for StatementMachine {
    type Request = Request;
    type Reply = Reply;
    type Epoch = StatementEpoch;
    type Source = Source;
    type Sink = Sink;

    fn encode_request(&self, request: &Request) -> Bytes {
        codec::encode(request)
    }

    fn request_bytes(&self, request: &Request) -> usize {
        request_bytes(request)
    }

    fn decode_request(&self, bytes: &[u8]) -> Result<Request, MachineError> {
        Ok(codec::decode::<_, MESSAGE_BYTES_MAX>(bytes).map_err(message)?)
    }

    fn encode_reply(&self, reply: &Reply) -> Bytes {
        codec::encode(reply)
    }

    fn decode_reply(&self, bytes: &[u8]) -> Result<Reply, MachineError> {
        Ok(codec::decode::<_, MESSAGE_BYTES_MAX>(bytes).map_err(message)?)
    }

    /// Rows aren't kept, and how long a statement ran is no replicated state.
    fn key_reply(&self, reply: &Reply) -> Option<Bytes> {
        let kept = |outcome: &Outcome| match outcome {
            Outcome::Written(written) => Some(Outcome::Written(Written {
                took: Duration::ZERO,
                ..written.clone()
            })),
            Outcome::Failed(error) => Some(Outcome::Failed(error.clone())),
            Outcome::Rows(_) => None,
        };
        let outcomes = reply.outcomes.iter().map(kept).collect::<Option<_>>()?;
        Some(self.encode_reply(&Reply { outcomes }))
    }

    fn lead(&self, _: EpochId) -> (StatementEpoch, Box<dyn Interrupt>) {
        let side = Side::decode(&self.replica.mode_side());
        let side = side.expect("it was read when it was installed, or written by this release");
        let epoch = StatementEpoch::begin(self.replica.clone(), side);
        (epoch, Box::new(NothingRuns))
    }

    fn prepare(&self, command: Committed<'_>) -> Result<Applied<Reply>, MachineError> {
        let batch = Batch::decode(command.body)?;
        let replies = self.apply().prepare(&batch, command.skip)?;
        Ok(Applied::Replies(replies))
    }

    fn finish(&self, end: EntryEnd) -> Result<(), MachineError> {
        Ok(self.apply().finish(end)?)
    }

    fn applied(&self) -> EntryEnd {
        self.replica.applied()
    }

    fn durable(&self) -> EntryEnd {
        self.replica.durable()
    }

    fn checkpoint_step(
        &self,
        log_durable: EntryId,
        now: bool,
    ) -> Result<CheckpointStep, MachineError> {
        Ok(self.replica.checkpoint_step(log_durable, now)?)
    }

    fn snapshot(&self, which: Which) -> Result<Option<Source>, MachineError> {
        Ok(self.replica.snapshot(which))
    }

    fn receive(&self, end: EntryEnd) -> Result<Sink, MachineError> {
        Ok(self.replica.receive(end))
    }

    fn install(&self, sink: Sink) -> Result<(), MachineError> {
        Ok(self.apply().install(sink)?)
    }

    fn checksum_at(&self, index: LogIndex) -> Option<u64> {
        self.replica.checksum_at(index)
    }

    fn mismatch(&self) -> Option<Mismatch> {
        self.apply().take_mismatch()
    }

    fn engine(&self) -> u64 {
        self.engine
    }

    fn verify(&self) -> Result<(), MachineError> {
        Ok(self.replica.verify()?)
    }

    fn distrust(&self, why: &str) -> Result<(), MachineError> {
        Ok(self.replica.distrust(why)?)
    }

    fn distrusted(&self) -> Option<String> {
        self.replica.distrusted()
    }
}
