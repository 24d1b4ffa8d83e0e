//! The smallest replicated state: a sum, and how many numbers went into it.

use bytes::Bytes;
use sqlrep_core::{
    Applied, CheckpointStep, Committed, EntryEnd, EntryId, Epoch, EpochId, Interrupt, MachineError,
    Retry, SnapshotSink, SnapshotSource, StateMachine, Step, Which,
};
use std::io;
use std::sync::{Mutex, MutexGuard};

#[derive(Clone, Default)]
struct State {
    /// Numbers in the order of the log.
    numbers: Vec<u64>,
    end: EntryEnd,
}

/// The state machine: a request adds a number, its reply is the sum behind it.
#[derive(Default)]
pub(crate) struct Sum(Mutex<State>);

impl Sum {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.state().numbers.clone()
    }
}

fn malformed() -> MachineError {
    MachineError::new(io::Error::from(io::ErrorKind::InvalidData), Retry::Useless)
}

fn number(bytes: &[u8]) -> Result<u64, MachineError> {
    let bytes = bytes.try_into().map_err(|_| malformed())?;
    Ok(u64::from_le_bytes(bytes))
}

fn bytes(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

/// The leader's side: gathers numbers.
pub(crate) struct Adding(Vec<u8>);

impl Epoch for Adding {
    type Request = u64;
    type Reply = u64;

    fn run(&mut self, request: u64) -> Step<u64> {
        self.0.extend(request.to_le_bytes());
        Step::Encoded
    }

    fn seal(&mut self) -> Vec<Bytes> {
        match std::mem::take(&mut self.0) {
            none if none.is_empty() => Vec::new(),
            numbers => vec![numbers.into()],
        }
    }
}

struct Brief;

impl Interrupt for Brief {
    fn interrupt(&self) {
        // Adding a number takes no time.
    }
}

impl StateMachine for Sum {
    type Request = u64;
    type Reply = u64;
    type Epoch = Adding;
    type Source = Snapshot;
    type Sink = Snapshot;

    fn encode_request(&self, request: &u64) -> Bytes {
        bytes(*request)
    }

    fn decode_request(&self, bytes: &[u8]) -> Result<u64, MachineError> {
        number(bytes)
    }

    fn encode_reply(&self, reply: &u64) -> Bytes {
        bytes(*reply)
    }

    fn decode_reply(&self, bytes: &[u8]) -> Result<u64, MachineError> {
        number(bytes)
    }

    fn lead(&self, _id: EpochId) -> (Adding, Box<dyn Interrupt>) {
        (Adding(Vec::new()), Box::new(Brief))
    }

    fn prepare(&self, command: Committed<'_>) -> Result<Applied<u64>, MachineError> {
        let mut state = self.state();
        let mut replies = Vec::new();
        for bytes in command.body.chunks(8) {
            state.numbers.push(number(bytes)?);
            replies.push(state.numbers.iter().sum());
        }
        Ok(Applied::Replies(replies))
    }

    fn finish(&self, end: EntryEnd) -> Result<(), MachineError> {
        self.state().end = end;
        Ok(())
    }

    fn applied(&self) -> EntryEnd {
        self.state().end.clone()
    }

    fn durable(&self) -> EntryEnd {
        self.applied()
    }

    fn checkpoint_step(
        &self,
        _log_durable: EntryId,
        _now: bool,
    ) -> Result<CheckpointStep, MachineError> {
        Ok(CheckpointStep::Done(self.applied()))
    }

    fn snapshot(&self, _which: Which) -> Result<Option<Snapshot>, MachineError> {
        let state = self.state().clone();
        Ok(state.end.id.is_some().then_some(Snapshot {
            state,
            complete: false,
        }))
    }

    fn receive(&self, end: EntryEnd) -> Result<Snapshot, MachineError> {
        let numbers = Vec::new();
        Ok(Snapshot {
            state: State { numbers, end },
            complete: false,
        })
    }

    fn install(&self, sink: Snapshot) -> Result<(), MachineError> {
        *self.state() = sink.state;
        Ok(())
    }
}

/// All numbers in one chunk.
pub(crate) struct Snapshot {
    state: State,
    complete: bool,
}

impl SnapshotSource for Snapshot {
    fn end(&self) -> EntryEnd {
        self.state.end.clone()
    }

    fn next(&mut self) -> Result<Option<Bytes>, MachineError> {
        if std::mem::replace(&mut self.complete, true) {
            return Ok(None);
        }
        let numbers = self.state.numbers.iter();
        let chunk: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
        Ok(Some(chunk.into()))
    }
}

impl SnapshotSink for Snapshot {
    fn end(&self) -> EntryEnd {
        self.state.end.clone()
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        let numbers = chunk.chunks(8).map(number);
        self.state.numbers = numbers.collect::<Result<_, _>>()?;
        Ok(())
    }

    fn complete(&mut self) -> Result<(), MachineError> {
        self.complete = true;
        Ok(())
    }
}
