//! The state machine: what `core` calls, handed to the side that does it.

use crate::epoch::{Lead, PageEpoch, SharedState, lock};
use crate::side::Side;
use crate::state::State;
use crate::{PART_IMAGE_BYTES_MAX, PageModeError};
use bytes::Bytes;
use sqlrep_core::{
    Applied, CheckpointStep, Committed, EntryEnd, EntryId, EpochId, Interrupt, LogIndex,
    MachineError, Mismatch, StateMachine, Which,
};
use sqlrep_replica::messages::{self, kept_reply};
use sqlrep_replica::{Replica, ReplicaError, Sink, Source, codec};
use sqlrep_sql::{Reply, Request, SqlSettings, Stop, Writer};
use std::sync::{Arc, Mutex};

/// Page mode on one node.
pub struct PageMachine {
    replica: Arc<Replica>,
    lead: Lead,
    state: SharedState,
}

impl PageMachine {
    /// On an open replica, at its durable position. `settings` are the cluster's.
    ///
    /// # Errors
    ///
    /// State of another release, settings that SQLite doesn't take, or the store's. Damaged pages are none: this state is
    /// distrusted then.
    pub fn open(replica: Arc<Replica>, settings: SqlSettings) -> Result<Arc<Self>, PageModeError> {
        Self::with_parts(replica, settings, PART_IMAGE_BYTES_MAX)
    }

    /// The same with smaller parts of split sets.
    pub(crate) fn with_parts(
        replica: Arc<Replica>,
        settings: SqlSettings,
        part_image_bytes_max: usize,
    ) -> Result<Arc<Self>, PageModeError> {
        let side = Side::decode(&replica.mode_side())?;
        // Settings that can't work are said now and not by the first leadership.
        let opened = Writer::lead(replica.store(), replica.env(), &settings, Stop::default());
        match opened.map(drop).map_err(ReplicaError::from) {
            // The member is out of service from its first moment on, and repairs this.
            Err(error) if error.is_damage() => replica.distrust(&error.to_string())?,
            opened => opened?,
        }
        let state = Arc::new(Mutex::new(State::begin(replica.clone(), side)));
        let lead = Lead {
            replica: replica.clone(),
            settings,
            part_image_bytes_max,
        };
        Ok(Arc::new(Self {
            replica,
            lead,
            state,
        }))
    }

    /// The pages and their readers.
    #[must_use]
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// How often a checksum in the log differed from this node's (safety rule 31). Zero on a healthy node.
    #[must_use]
    pub fn checksum_mismatches(&self) -> u64 {
        lock(&self.state).mismatches()
    }
}

impl StateMachine for PageMachine {
    type Request = Request;
    type Reply = Reply;
    type Epoch = PageEpoch;
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

    fn lead(&self, epoch: EpochId) -> (PageEpoch, Box<dyn Interrupt>) {
        let (epoch, stopping) = PageEpoch::begin(epoch, self.lead.clone(), self.state.clone());
        (epoch, Box::new(stopping))
    }

    fn prepare(&self, command: Committed<'_>) -> Result<Applied<Reply>, MachineError> {
        Ok(lock(&self.state).prepare(&command)?)
    }

    fn finish(&self, end: EntryEnd) -> Result<(), MachineError> {
        Ok(lock(&self.state).finish(end)?)
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
        Ok(lock(&self.state).install(sink)?)
    }

    fn checksum_at(&self, index: LogIndex) -> Option<u64> {
        self.replica.checksum_at(index)
    }

    fn mismatch(&self) -> Option<Mismatch> {
        lock(&self.state).take_mismatch()
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
