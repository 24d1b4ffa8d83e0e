//! One machine on a simulated disk, without Raft: the test is the log.

use bytes::Bytes;
use sqlrep_core::{
    Applied, Committed, EntryEnd, EntryId, Epoch, EpochId, LogIndex, MachineError, NodeId,
    SnapshotSink, SnapshotSource, StateMachine, Step, Term, Which,
};
use sqlrep_disk::{Disk, Loss, SimulatedDisk};
use sqlrep_env::Env;
use sqlrep_replica::{CheckpointPolicy, Replica};
use sqlrep_sql::{Outcome, Reply, Request, SqlSettings, Value};
use sqlrep_statement_sm::{StatementEpoch, StatementMachine};
use sqlrep_store::{Options, PageNumber, PinKind, Store};
use std::sync::Arc;

/// One node of a log that the test keeps.
pub(crate) struct Bed {
    pub(crate) disk: SimulatedDisk,
    pub(crate) env: Env,
    pub(crate) machine: Arc<StatementMachine>,
    pub(crate) settings: SqlSettings,
}

pub(crate) fn open_machine(
    disk: &SimulatedDisk,
    env: &Env,
    settings: &SqlSettings,
) -> Arc<StatementMachine> {
    let store = Store::open(Options::new(Arc::new(disk.clone()) as Arc<dyn Disk>)).unwrap();
    let replica = Replica::new(store, env.clone(), CheckpointPolicy::default());
    StatementMachine::open(Arc::new(replica), settings.clone()).unwrap()
}

pub(crate) fn id(index: u64) -> EntryId {
    EntryId {
        term: Term(1),
        index: LogIndex(index),
    }
}

pub(crate) fn begin(machine: &StatementMachine) -> StatementEpoch {
    let epoch = EpochId {
        term: Term(1),
        node: NodeId::new(1).unwrap(),
        epoch: 1,
    };
    machine.lead(epoch).0
}

/// One body of all `requests`.
pub(crate) fn sealed(epoch: &mut StatementEpoch, requests: &[Request]) -> Bytes {
    for request in requests {
        assert!(
            matches!(epoch.run(request.clone()), Step::Encoded),
            "{request:?}"
        );
    }
    let sealed = epoch.seal().expect("something was taken in");
    assert_eq!(sealed.parts_left, 0);
    sealed.body
}

impl Bed {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, SqlSettings::default())
    }

    pub(crate) fn with(seed: u64, settings: SqlSettings) -> Self {
        Self::on(SimulatedDisk::new(seed), Env::inline(seed), settings)
    }

    pub(crate) fn on(disk: SimulatedDisk, env: Env, settings: SqlSettings) -> Self {
        let machine = open_machine(&disk, &env, &settings);
        Self {
            disk,
            env,
            machine,
            settings,
        }
    }

    /// The node after a loss of power: what is in no checkpoint has to come from the log again.
    pub(crate) fn crashed(&self, loss: Loss) -> Self {
        Self::on(
            self.disk.crash(loss),
            self.env.clone(),
            self.settings.clone(),
        )
    }

    /// Executes a body, without its end.
    pub(crate) fn prepare(&self, index: u64, body: &Bytes) -> Result<Vec<Reply>, MachineError> {
        let command = Committed {
            id: id(index),
            body,
            skip: &[],
        };
        match self.machine.prepare(command)? {
            Applied::Replies(replies) => Ok(replies),
            other => panic!("{other:?}"),
        }
    }

    /// Ends the entry at `index`.
    pub(crate) fn finish(&self, index: u64) {
        let side = format!("core {index}").into();
        let end = EntryEnd {
            id: Some(id(index)),
            side,
            ..EntryEnd::default()
        };
        self.machine.finish(end).unwrap();
    }

    /// Applies a body as the entry at `index`.
    pub(crate) fn apply(&self, index: u64, body: &Bytes) -> Vec<Reply> {
        let replies = self.prepare(index, body).unwrap();
        self.finish(index);
        replies
    }

    /// Leads for one entry of one request, at the next index; nothing but an SQL error may go wrong.
    pub(crate) fn write(&self, sql: &str) -> Reply {
        let body = sealed(&mut begin(&self.machine), &[Request::execute(sql)]);
        self.apply(self.next(), &body).remove(0)
    }

    pub(crate) fn next(&self) -> u64 {
        self.machine.applied().id.map_or(1, |id| id.index.0 + 1)
    }

    pub(crate) fn durable(&self) -> Option<u64> {
        self.machine.durable().id.map(|id| id.index.0)
    }

    pub(crate) fn checkpoint(&self) -> Option<u64> {
        let end = self.machine.checkpoint(id(u64::MAX), true).unwrap();
        end.id.map(|id| id.index.0)
    }

    /// Takes over `from`'s newest snapshot.
    pub(crate) fn install(&self, from: &Self) {
        let mut source = from.machine.snapshot(Which::Newest).unwrap().unwrap();
        let mut sink = self.machine.receive(source.end()).unwrap();
        while let Some(chunk) = source.next().unwrap() {
            sink.write(&chunk).unwrap();
        }
        sink.complete().unwrap();
        self.machine.install(sink).unwrap();
    }

    pub(crate) fn checksum(&self) -> u64 {
        self.machine.replica().store().committed().checksum.0
    }

    /// Every page of the applied end.
    pub(crate) fn pages(&self) -> Vec<Vec<u8>> {
        pages(&self.machine)
    }

    /// The first column of the first row, as a reader sees it.
    pub(crate) fn value(&self, sql: &str) -> Value {
        value(&self.machine, &self.settings, sql)
    }
}

pub(crate) fn pages(machine: &StatementMachine) -> Vec<Vec<u8>> {
    let store = machine.replica().store();
    let pin = store.pin(PinKind::Backup);
    let page = |number| {
        let mut image = vec![0; store.page_size().bytes() as usize];
        pin.read(PageNumber::new(number).unwrap(), 0, &mut image)
            .unwrap();
        image
    };
    (1..=pin.end().pages.0).map(page).collect()
}

pub(crate) fn value(machine: &StatementMachine, settings: &SqlSettings, sql: &str) -> Value {
    let mut reader = machine.replica().reader(settings);
    let reply = reader.run(&Request::query(sql), &limits()).unwrap();
    match &reply.outcomes[..] {
        [Outcome::Rows(rows)] => rows.values[0][0].clone(),
        other => panic!("{sql}: {other:?}"),
    }
}

pub(crate) fn limits() -> sqlrep_sql::ReadLimits {
    sqlrep_sql::ReadLimits::default()
}

/// Replies without what nodes may differ in: how long they took.
pub(crate) fn timeless(mut reply: Reply) -> Reply {
    for outcome in &mut reply.outcomes {
        match outcome {
            Outcome::Written(written) => written.took = std::time::Duration::ZERO,
            Outcome::Rows(rows) => rows.took = std::time::Duration::ZERO,
            Outcome::Failed(_) => {}
        }
    }
    reply
}

/// The error of a reply's last outcome.
pub(crate) fn error_of(reply: &Reply) -> &str {
    match reply.outcomes.last() {
        Some(Outcome::Failed(error)) => &error.message,
        other => panic!("no error: {other:?}"),
    }
}

/// Panics if anything in it failed.
pub(crate) fn good(reply: &Reply) {
    for outcome in &reply.outcomes {
        assert!(!matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }
}
