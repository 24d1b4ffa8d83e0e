//! The smallest replicated state: a sum, and how many numbers went into it.

use bytes::Bytes;
use sqlrep_core::memory::{Ends, Whole};
use sqlrep_core::{
    Applied, CheckpointStep, Committed, EntryEnd, EntryId, Epoch, EpochId, Interrupt, MachineError,
    NothingRuns, Retry, Sealed, StateMachine, Step, Which,
};
use std::io;

/// The state machine: numbers in the order of the log; a request adds one, its reply is the sum behind it.
#[derive(Default)]
pub(crate) struct Sum(Ends<Vec<u64>>);

impl Sum {
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.0.state()
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

    fn seal(&mut self) -> Option<Sealed> {
        let numbers = std::mem::take(&mut self.0);
        (!numbers.is_empty()).then(|| Sealed::whole(numbers.into()))
    }
}

impl StateMachine for Sum {
    type Request = u64;
    type Reply = u64;
    type Epoch = Adding;
    type Source = Whole;
    type Sink = Whole;

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
        (Adding(Vec::new()), Box::new(NothingRuns))
    }

    fn prepare(&self, command: Committed<'_>) -> Result<Applied<u64>, MachineError> {
        let (mut numbers, mut replies) = (self.0.state(), Vec::new());
        for bytes in command.body.chunks(8) {
            numbers.push(number(bytes)?);
            replies.push(numbers.iter().sum());
        }
        self.0.prepare(numbers);
        Ok(Applied::Replies(replies))
    }

    fn finish(&self, end: EntryEnd) -> Result<(), MachineError> {
        self.0.finish(end);
        Ok(())
    }

    fn applied(&self) -> EntryEnd {
        self.0.applied()
    }

    fn durable(&self) -> EntryEnd {
        self.0.durable()
    }

    fn checkpoint_step(&self, log: EntryId, _now: bool) -> Result<CheckpointStep, MachineError> {
        Ok(CheckpointStep::Done(self.0.checkpoint(log)))
    }

    fn snapshot(&self, which: Which) -> Result<Option<Whole>, MachineError> {
        let whole = |(numbers, end): (Vec<u64>, EntryEnd)| {
            let numbers = numbers.iter();
            let bytes = numbers.flat_map(|number| number.to_le_bytes()).collect();
            Whole {
                end,
                bytes,
                ..Whole::default()
            }
        };
        Ok(self.0.at(which).map(whole))
    }

    fn receive(&self, end: EntryEnd) -> Result<Whole, MachineError> {
        let bytes = Vec::new();
        Ok(Whole {
            end,
            bytes,
            ..Whole::default()
        })
    }

    fn install(&self, sink: Whole) -> Result<(), MachineError> {
        let numbers = sink.bytes.chunks(8).map(number);
        self.0.install(numbers.collect::<Result<_, _>>()?, sink.end);
        Ok(())
    }
}
