//! A replicated counter on three members in one process: a state machine, a log in memory, no SQL, no socket.
//!
//! Run it with `cargo run -p sqlrep-core --example counter`.

use bytes::Bytes;
use sqlrep_core::memory::{MemoryLog, Switchboard};
use sqlrep_core::{
    Applied, CheckpointStep, ClusterId, Committed, DirectoryId, EntryEnd, EntryId, Epoch, EpochId,
    Genesis, Interrupt, KeyLimits, MachineError, Member, NoPeerService, NodeId, Parts, Peer,
    ReadBound, ReadLevel, Retry, Route, Settings, SnapshotSink, SnapshotSource, StateMachine, Step,
    Which,
};
use sqlrep_env::Env;
use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The counter: the state now, the one being prepared, and the one a restart would begin from.
#[derive(Default)]
struct Counter(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    applied: (u64, EntryEnd),
    next: Option<u64>,
    durable: (u64, EntryEnd),
}

impl Counter {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn value(&self) -> u64 {
        self.lock().applied.0
    }
}

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

    fn seal(&mut self) -> Vec<Bytes> {
        let numbers = std::mem::take(&mut self.0).into_iter();
        let body: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
        if body.is_empty() {
            return Vec::new();
        }
        vec![body.into()]
    }
}

/// Nothing here takes long.
struct NothingToInterrupt;

impl Interrupt for NothingToInterrupt {
    fn interrupt(&self) {}
}

/// A snapshot, on its way out or in.
struct Snapshot(Option<u64>, EntryEnd);

impl SnapshotSource for Snapshot {
    fn end(&self) -> EntryEnd {
        self.1.clone()
    }
    fn next(&mut self) -> Result<Option<Bytes>, MachineError> {
        Ok(self.0.take().map(bytes))
    }
}

impl SnapshotSink for Snapshot {
    fn end(&self) -> EntryEnd {
        self.1.clone()
    }
    fn write(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        self.0 = Some(number(chunk)?);
        Ok(())
    }
    fn complete(&mut self) -> Result<(), MachineError> {
        Ok(())
    }
}

impl StateMachine for Counter {
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
    fn lead(&self, _epoch: EpochId) -> (Adding, Box<dyn Interrupt>) {
        (Adding::default(), Box::new(NothingToInterrupt))
    }
    fn prepare(&self, command: Committed<'_>) -> Result<Applied<u64>, MachineError> {
        let mut inner = self.lock();
        let (mut value, mut replies) = (inner.applied.0, Vec::new());
        for request in command.body.chunks(8) {
            value = value.wrapping_add(number(request)?);
            replies.push(value);
        }
        inner.next = Some(value);
        Ok(Applied::Replies(replies))
    }
    fn finish(&self, end: EntryEnd) -> Result<(), MachineError> {
        let mut inner = self.lock();
        let value = inner.next.take().unwrap_or(inner.applied.0);
        inner.applied = (value, end);
        Ok(())
    }
    fn applied(&self) -> EntryEnd {
        self.lock().applied.1.clone()
    }
    fn durable(&self) -> EntryEnd {
        self.lock().durable.1.clone()
    }
    fn checkpoint_step(
        &self,
        log_durable: EntryId,
        _now: bool,
    ) -> Result<CheckpointStep, MachineError> {
        let mut inner = self.lock();
        if inner.applied.1.id <= Some(log_durable) {
            inner.durable = inner.applied.clone();
        }
        Ok(CheckpointStep::Done(inner.durable.1.clone()))
    }
    fn snapshot(&self, which: Which) -> Result<Option<Snapshot>, MachineError> {
        let inner = self.lock();
        let (value, end) = match which {
            Which::Durable => inner.durable.clone(),
            Which::Newest => inner.applied.clone(),
        };
        Ok(end.id.map(|_| Snapshot(Some(value), end)))
    }
    fn receive(&self, end: EntryEnd) -> Result<Snapshot, MachineError> {
        Ok(Snapshot(None, end))
    }
    fn install(&self, sink: Snapshot) -> Result<(), MachineError> {
        let mut inner = self.lock();
        inner.applied = (sink.0.unwrap_or_default(), sink.1);
        inner.durable = inner.applied.clone();
        Ok(())
    }
}

async fn start(
    board: &Switchboard,
    node: NodeId,
    machine: Arc<Counter>,
) -> Result<Member<Counter>, Box<dyn Error>> {
    let parts = Parts {
        node,
        directory: DirectoryId(node.get()),
        machine,
        log: Arc::new(MemoryLog::default()),
        transport: Arc::new(board.plug(node)),
        service: Arc::new(NoPeerService),
        genesis: Some(Genesis {
            cluster: ClusterId(node.get()),
            settings: Bytes::new(),
        }),
        env: Env::inline(node.get()),
        keys: KeyLimits::default(),
        settings: Settings::fast(),
    };
    Ok(Member::start(parts).await?)
}

/// Adds one through each of three members; the value as the last of them shows it.
pub(crate) async fn count() -> Result<u64, Box<dyn Error>> {
    let board = Switchboard::default();
    let (mut members, mut peers) = (Vec::new(), BTreeMap::<NodeId, Peer>::new());
    for node in [1u64, 2, 3] {
        let (node, machine) = (NodeId::try_from(node)?, Arc::new(Counter::default()));
        peers.insert(node, Switchboard::peer(node));
        members.push((start(&board, node, machine.clone()).await?, machine));
    }
    members[0].0.bootstrap(peers).await?;
    let wait_max = Duration::from_secs(10);
    for (member, _) in &members {
        member.write(1, Route::Forward, wait_max).await?;
    }
    let (last, machine) = &members[2];
    let bound = ReadBound::default();
    last.permit(ReadLevel::Linearizable, bound).await?;
    let value = machine.value();
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
