//! One machine on a simulated disk, and what it says.

use crate::{PageEpoch, PageMachine};
use bytes::Bytes;
use sqlrep_core::{
    Applied, Committed, EntryEnd, EntryId, Epoch, EpochId, Interrupt, LogIndex, NodeId, Sealed,
    SnapshotSink, SnapshotSource, StateMachine, Step, Term, Which,
};
use sqlrep_disk::{Disk, Loss, SimulatedDisk};
use sqlrep_env::Env;
use sqlrep_replica::{CheckpointPolicy, Replica};
use sqlrep_sql::{Outcome, ReadLimits, Reply, Request, SqlSettings, Value};
use sqlrep_store::{Options, PageNumber, PinKind, Store};
use std::sync::Arc;

/// What stands in the log.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Blank,
    Set(Bytes),
}

/// An entry.
pub(super) type Entry = (EntryId, Payload);

/// Parts of split sets are this small here: 8 pages.
pub(super) const PART_BYTES: usize = 8 * 4096;

pub(super) struct Bed {
    pub(super) node: NodeId,
    pub(super) disk: SimulatedDisk,
    pub(super) env: Env,
    pub(super) machine: Arc<PageMachine>,
}

pub(super) fn id(term: u64, index: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: LogIndex(index),
    }
}

impl Bed {
    pub(super) fn new(node: u64) -> Self {
        Self::on(node, SimulatedDisk::new(node), Env::inline(node))
    }

    fn on(node: u64, disk: SimulatedDisk, env: Env) -> Self {
        let store = Store::open(Options::new(Arc::new(disk.clone()) as Arc<dyn Disk>)).unwrap();
        let replica = Replica::new(store, env.clone(), CheckpointPolicy::default());
        let (replica, settings) = (Arc::new(replica), SqlSettings::default());
        let machine = PageMachine::with_parts(replica, settings, PART_BYTES).unwrap();
        Self {
            node: NodeId::new(node).unwrap(),
            disk,
            env,
            machine,
        }
    }

    /// The node after a loss of power. No epoch may live: its process is gone.
    pub(super) fn crashed(&self, loss: Loss) -> Self {
        Self::on(self.node.into(), self.disk.crash(loss), self.env.clone())
    }

    pub(super) fn lead(&self, term: u64, epoch: u64) -> (PageEpoch, Box<dyn Interrupt>) {
        self.machine.lead(EpochId {
            term: Term(term),
            node: self.node,
            epoch,
        })
    }

    /// Does what comes before an entry's end.
    pub(super) fn prepare(&self, id: EntryId, body: &Bytes) -> Applied<Reply> {
        let command = Committed {
            id,
            body,
            skip: &[],
        };
        self.machine.prepare(command).unwrap()
    }

    pub(super) fn finish(&self, id: EntryId) {
        let end = EntryEnd {
            id: Some(id),
            side: format!("core {id}").into(),
            ..EntryEnd::default()
        };
        self.machine.finish(end).unwrap();
    }

    /// The whole of an entry.
    pub(super) fn apply(&self, (id, payload): &Entry) -> Option<Applied<Reply>> {
        let applied = match payload {
            Payload::Blank => None,
            Payload::Set(body) => Some(self.prepare(*id, body)),
        };
        self.finish(*id);
        applied
    }

    /// How many entries are applied.
    pub(super) fn applied(&self) -> usize {
        let index = self.machine.applied().id.map_or(0, |id| id.index.0);
        usize::try_from(index).unwrap()
    }

    pub(super) fn checkpoint(&self) {
        self.machine
            .checkpoint(id(u64::MAX, u64::MAX), true)
            .unwrap();
    }

    /// Takes over `from`'s newest snapshot, if it has one that is newer.
    pub(super) fn install(&self, from: &Self) {
        let Some(mut source) = from.machine.snapshot(Which::Newest).unwrap() else {
            return;
        };
        if source.end().id <= self.machine.applied().id {
            return;
        }
        let mut sink = self.machine.receive(source.end()).unwrap();
        while let Some(chunk) = source.next().unwrap() {
            sink.write(&chunk).unwrap();
        }
        sink.complete().unwrap();
        self.machine.install(sink).unwrap();
    }

    pub(super) fn checksum(&self) -> u64 {
        self.machine.replica().store().committed().checksum.0
    }

    /// Every page of the applied end.
    pub(super) fn pages(&self) -> Vec<Vec<u8>> {
        let store = self.machine.replica().store();
        let pin = store.pin(PinKind::Backup);
        let page = |number| {
            let mut image = vec![0; store.page_size().bytes() as usize];
            pin.read(PageNumber::new(number).unwrap(), 0, &mut image)
                .unwrap();
            image
        };
        (1..=pin.end().pages.0).map(page).collect()
    }

    /// The rows that a reader sees, or SQLite's error.
    pub(super) fn rows(&self, sql: &str) -> Result<Vec<Vec<Value>>, String> {
        let mut reader = self.machine.replica().reader(&SqlSettings::default());
        let reply = reader.run(&Request::query(sql), &ReadLimits::default());
        match &reply.unwrap().outcomes[..] {
            [Outcome::Rows(rows)] => Ok(rows.values.clone()),
            [Outcome::Failed(error)] => Err(error.message.clone()),
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// The first column of the rows, as whole numbers.
    pub(super) fn numbers(&self, sql: &str) -> Vec<i64> {
        let number = |row: Vec<Value>| match row[..] {
            [Value::Integer(number), ..] => number,
            _ => panic!("{sql}: {row:?}"),
        };
        let rows = self.rows(sql).unwrap_or_default();
        rows.into_iter().map(number).collect()
    }
}

/// Runs a statement; it has to change something and not fail.
pub(super) fn change(epoch: &mut PageEpoch, sql: &str) -> Reply {
    match epoch.run(Request::execute(sql)) {
        Step::Executed { reply, .. } => {
            let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
            assert!(!reply.outcomes.iter().any(failed), "{sql}: {reply:?}");
            reply
        }
        step => panic!("{sql}: {step:?}"),
    }
}

/// The one command of what ran since the last one.
pub(super) fn seal(epoch: &mut PageEpoch) -> Payload {
    let mut parts = parts(epoch);
    assert_eq!(parts.len(), 1, "one command");
    Payload::Set(parts.remove(0))
}

/// All parts of what ran since the last set, while the epoch goes on.
pub(super) fn parts(epoch: &mut PageEpoch) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut next = epoch.seal();
    while let Some(Sealed { body, parts_left }) = next {
        parts.push(body);
        next = (parts_left > 0).then(|| epoch.next_part().expect("it goes on"));
    }
    parts
}
