//! The state machine: what `core` calls, handed to the side that does it.

use crate::apply::Apply;
use crate::batch::Batch;
use crate::side::Side;
use crate::{StatementEpoch, StatementError};
use bytes::Bytes;
use sqlrep_core::{
    Applied, CheckpointStep, Committed, EntryEnd, EntryId, EpochId, Interrupt, LogIndex,
    MachineError, Mismatch, NothingRuns, StateMachine, Which,
};
use sqlrep_replica::messages::{self, kept_reply};
use sqlrep_replica::{Replica, ReplicaError, Sink, Source, codec};
use sqlrep_sql::{Reply, Request, SqlSettings, Writer};
use sqlrep_vfs::check_engine;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
        messages::request_bytes(request)
    }

    fn decode_request(&self, bytes: &[u8]) -> Result<Request, MachineError> {
        Ok(messages::request(bytes)?)
    }

    fn encode_reply(&self, reply: &Reply) -> Bytes {
        codec::encode(reply)
    }

    fn decode_reply(&self, bytes: &[u8]) -> Result<Reply, MachineError> {
        Ok(messages::reply(bytes)?)
    }

    fn key_reply(&self, reply: &Reply) -> Option<Bytes> {
        kept_reply(reply)
    }

    fn executes_ahead(&self) -> bool {
        false
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
