//! A replicated counter on three members in one process: a state machine, a log in memory, no SQL, no socket.
//!
//! Run it with `cargo run -p sqlrep-core --example counter`.

use bytes::Bytes;
use sqlrep_core::memory::{Ends, Switchboard, Whole};
use sqlrep_core::{
    Applied, CheckpointStep, Committed, EntryEnd, EntryId, Epoch, EpochId, Interrupt, MachineError,
    Member, NodeId, NothingRuns, Peer, ReadBound, ReadLevel, Retry, Route, Sealed, StateMachine,
    Step, Which,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The counter at its entry ends.
#[derive(Default)]
struct Counter(Ends<u64>);

/// Eight bytes of a log, a peer or a snapshot.
fn number(bytes: &[u8]) -> Result<u64, MachineError> {
    let malformed = |_| {
        let what = io::Error::new(io::ErrorKind::InvalidData, "a number has eight bytes");
        MachineError::new(what, Retry::Useless)
    };
    let eight = <[u8; 8]>::try_from(bytes);
    eight.map(u64::from_le_bytes).map_err(malformed)
}

fn bytes(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

/// The leader's side: what came in since the last entry.
#[derive(Default)]
struct Adding(Vec<u64>);

impl Epoch for Adding {
    type Request = u64;
    type Reply = u64;

    fn run(&mut self, request: u64) -> Step<u64> {
        self.0.push(request);
        Step::Encoded
    }

    fn seal(&mut self) -> Option<Sealed> {
        let numbers = std::mem::take(&mut self.0).into_iter();
        let body: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
        (!body.is_empty()).then(|| Sealed::whole(body.into()))
    }
}

impl StateMachine for Counter {
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
    fn lead(&self, _epoch: EpochId) -> (Adding, Box<dyn Interrupt>) {
        (Adding::default(), Box::new(NothingRuns))
    }
    fn prepare(&self, command: Committed<'_>) -> Result<Applied<u64>, MachineError> {
        let (mut value, mut replies) = (self.0.state(), Vec::new());
        for request in command.body.chunks(8) {
            value = value.wrapping_add(number(request)?);
            replies.push(value);
        }
        self.0.prepare(value);
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
        let whole = |(value, end)| Whole {
            end,
            bytes: bytes(value).into(),
            sent: 0,
        };
        Ok(self.0.at(which).map(whole))
    }
    fn receive(&self, end: EntryEnd) -> Result<Whole, MachineError> {
        Ok(Whole {
            end,
            ..Whole::default()
        })
    }
    fn install(&self, sink: Whole) -> Result<(), MachineError> {
        self.0.install(number(&sink.bytes)?, sink.end);
        Ok(())
    }
}

/// Adds one through each of three members; the value as the last of them shows it.
pub(crate) async fn count() -> Result<u64, Box<dyn Error>> {
    let board = Switchboard::default();
    let (mut members, mut peers) = (Vec::new(), BTreeMap::<NodeId, Peer>::new());
    for node in [1u64, 2, 3] {
        let (node, machine) = (NodeId::try_from(node)?, Arc::new(Counter::default()));
        peers.insert(node, Switchboard::peer(node));
        let member = Member::start(board.parts(node, machine.clone())).await?;
        members.push((member, machine));
    }
    members[0].0.bootstrap(peers).await?;
    let wait_max = Duration::from_secs(10);
    for (member, _) in &members {
        member.write(1, Route::Forward, wait_max).await?;
    }
    let (last, machine) = &members[2];
    let bound = ReadBound::default();
    last.permit(ReadLevel::Linearizable, bound).await?;
    let value = machine.0.state();
    for (member, _) in &members {
        member.stop().await;
    }
    Ok(value)
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "an example shows what it did")]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("three members counted to {}", Box::pin(count()).await?);
    Ok(())
}
