//! The mode's state machine, chosen when the data directory is opened: everything above asks this one.

use crate::Mode;
use bytes::Bytes;
use sqlrep_core::{
    Applied, CheckpointStep, Committed, EntryEnd, EntryId, Epoch, EpochEnd, EpochId, Interactive,
    Interrupt, LogIndex, MachineError, Mismatch, Sealed, StateMachine, Step, Which,
};
use sqlrep_env::UnixMillis;
use sqlrep_replica::{Replica, Sink, Source};
use sqlrep_sql::{Reply, Request, SqlSettings};
use sqlrep_statement_sm::{StatementEpoch, StatementMachine};
use sqlrep_wal_sm::{PageEpoch, PageMachine};
use std::sync::Arc;

/// One of both modes.
pub(crate) enum Machine {
    Statement(Arc<StatementMachine>),
    Page(Arc<PageMachine>),
}

/// Of the same mode as the machine.
pub(crate) enum ModeEpoch {
    Statement(StatementEpoch),
    Page(Box<PageEpoch>),
}

/// Asks whichever it is.
macro_rules! either {
    ($value:expr, $it:ident => $answer:expr) => {
        match $value {
            Self::Statement($it) => $answer,
            Self::Page($it) => $answer,
        }
    };
}

impl Machine {
    /// The machine of `mode` on an open replica.
    ///
    /// # Errors
    ///
    /// The mode's.
    pub(crate) fn open(
        mode: Mode,
        replica: Arc<Replica>,
        settings: SqlSettings,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(match mode {
            Mode::Statement => Self::Statement(StatementMachine::open(replica, settings)?),
            Mode::Page => Self::Page(PageMachine::open(replica, settings)?),
        })
    }

    /// How often a checksum in the log differed from this node's (safety rule 31).
    pub(crate) fn checksum_mismatches(&self) -> u64 {
        either!(self, it => it.checksum_mismatches())
    }
}

/// The last stamp of a version, which its mode keeps beside the pages.
///
/// # Errors
///
/// The mode's: state of another release.
pub(crate) fn last_stamp(mode: Mode, side: &[u8]) -> Result<UnixMillis, MachineError> {
    Ok(match mode {
        Mode::Statement => sqlrep_statement_sm::last_stamp(side)?,
        Mode::Page => sqlrep_wal_sm::last_stamp(side)?,
    })
}

impl Epoch for ModeEpoch {
    type Request = Request;
    type Reply = Reply;

    fn run(&mut self, request: Request) -> Step<Reply> {
        either!(self, it => it.run(request))
    }

    fn run_keyed(&mut self, request: Request) -> Step<Reply> {
        either!(self, it => it.run_keyed(request))
    }

    fn seal(&mut self) -> Option<Sealed> {
        either!(self, it => it.seal())
    }

    fn next_part(&mut self) -> Option<Sealed> {
        either!(self, it => it.next_part())
    }

    fn interactive(&mut self) -> Option<&mut dyn Interactive<Request = Request, Reply = Reply>> {
        either!(self, it => it.interactive())
    }

    fn ended(&mut self) -> Option<EpochEnd> {
        either!(self, it => it.ended())
    }
}

impl StateMachine for Machine {
    type Request = Request;
    type Reply = Reply;
    type Epoch = ModeEpoch;
    type Source = Source;
    type Sink = Sink;

    fn encode_request(&self, request: &Request) -> Bytes {
        either!(self, it => it.encode_request(request))
    }

    fn request_bytes(&self, request: &Request) -> usize {
        either!(self, it => it.request_bytes(request))
    }

    fn decode_request(&self, bytes: &[u8]) -> Result<Request, MachineError> {
        either!(self, it => it.decode_request(bytes))
    }

    fn encode_reply(&self, reply: &Reply) -> Bytes {
        either!(self, it => it.encode_reply(reply))
    }

    fn decode_reply(&self, bytes: &[u8]) -> Result<Reply, MachineError> {
        either!(self, it => it.decode_reply(bytes))
    }

    fn key_reply(&self, reply: &Reply) -> Option<Bytes> {
        either!(self, it => it.key_reply(reply))
    }

    fn executes_ahead(&self) -> bool {
        either!(self, it => it.executes_ahead())
    }

    fn lead(&self, epoch: EpochId) -> (ModeEpoch, Box<dyn Interrupt>) {
        match self {
            Self::Statement(it) => {
                let (epoch, interrupt) = it.lead(epoch);
                (ModeEpoch::Statement(epoch), interrupt)
            }
            Self::Page(it) => {
                let (epoch, interrupt) = it.lead(epoch);
                (ModeEpoch::Page(Box::new(epoch)), interrupt)
            }
        }
    }

    fn prepare(&self, command: Committed<'_>) -> Result<Applied<Reply>, MachineError> {
        either!(self, it => it.prepare(command))
    }

    fn finish(&self, end: EntryEnd) -> Result<(), MachineError> {
        either!(self, it => it.finish(end))
    }

    fn applied(&self) -> EntryEnd {
        either!(self, it => it.applied())
    }

    fn durable(&self) -> EntryEnd {
        either!(self, it => it.durable())
    }

    fn checkpoint_step(
        &self,
        log_durable: EntryId,
        now: bool,
    ) -> Result<CheckpointStep, MachineError> {
        either!(self, it => it.checkpoint_step(log_durable, now))
    }

    fn snapshot(&self, which: Which) -> Result<Option<Source>, MachineError> {
        either!(self, it => it.snapshot(which))
    }

    fn receive(&self, end: EntryEnd) -> Result<Sink, MachineError> {
        either!(self, it => it.receive(end))
    }

    fn install(&self, sink: Sink) -> Result<(), MachineError> {
        either!(self, it => it.install(sink))
    }

    fn checksum_at(&self, index: LogIndex) -> Option<u64> {
        either!(self, it => it.checksum_at(index))
    }

    fn mismatch(&self) -> Option<Mismatch> {
        either!(self, it => it.mismatch())
    }

    fn engine(&self) -> u64 {
        either!(self, it => it.engine())
    }

    fn verify(&self) -> Result<(), MachineError> {
        either!(self, it => it.verify())
    }

    fn distrust(&self, why: &str) -> Result<(), MachineError> {
        either!(self, it => it.distrust(why))
    }

    fn distrusted(&self) -> Option<String> {
        either!(self, it => it.distrusted())
    }
}
