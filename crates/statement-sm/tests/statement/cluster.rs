//! Members of one cluster in one process, on one thread, with a paused clock and simulated disks.

use super::bed::*;
use bytes::Bytes;
use sqlrep_core::memory::{MemoryLog, Switchboard};
use sqlrep_core::{
    ClusterId, DirectoryId, EntryId, Genesis, KeyLimits, LogStore, Member, NoPeerService, NodeId,
    Parts, Peer, ReadBound, ReadLevel, Route, Settings, StateMachine, WriteError,
};
use sqlrep_disk::SimulatedDisk;
use sqlrep_env::Env;
use sqlrep_raft_log::{LogIdentity, Options, RaftLog};
use sqlrep_sql::{Reply, Request, SqlSettings, Value};
use sqlrep_statement_sm::StatementMachine;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Where a node's log comes from when it starts.
pub(crate) trait Logs {
    /// The log of `node`, whose data directory is `disk`; what it held before is there again.
    fn open(&self, node: u64, disk: &SimulatedDisk, env: &Env) -> Arc<dyn LogStore>;
}

/// Logs that outlive their members, and power losses too.
#[derive(Default)]
pub(crate) struct MemoryLogs(Mutex<BTreeMap<u64, MemoryLog>>);

impl Logs for MemoryLogs {
    fn open(&self, node: u64, _: &SimulatedDisk, _: &Env) -> Arc<dyn LogStore> {
        Arc::new(self.0.lock().unwrap().entry(node).or_default().clone())
    }
}

/// Logs on the members' disks, beside the pages.
pub(crate) struct DiskLogs;

impl Logs for DiskLogs {
    fn open(&self, id: u64, disk: &SimulatedDisk, env: &Env) -> Arc<dyn LogStore> {
        let identity = LogIdentity {
            node: node(id),
            directory: DirectoryId(id),
        };
        let options = Options {
            segment_bytes: 256 << 10,
            ..Options::default()
        };
        let disk = Arc::new(disk.clone());
        RaftLog::open(disk, env, options, identity).unwrap()
    }
}

impl MemoryLogs {
    fn forget(&self, node: u64) {
        self.0.lock().unwrap().remove(&node);
    }
}

/// One member with what it runs on.
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) disk: SimulatedDisk,
    pub(crate) machine: Arc<StatementMachine>,
    pub(crate) log: Arc<dyn LogStore>,
    pub(crate) member: Member<StatementMachine>,
}

pub(crate) struct Cluster<L> {
    pub(crate) board: Switchboard,
    pub(crate) settings: SqlSettings,
    pub(crate) seed: u64,
    pub(crate) logs: L,
    pub(crate) nodes: BTreeMap<u64, Node>,
    /// Starts so far, so that no two lives of a node have one entropy.
    starts: u64,
}

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn peer(id: u64) -> Peer {
    Peer {
        directory: DirectoryId(id),
        ..Switchboard::peer(node(id))
    }
}

impl<L: Logs> Cluster<L> {
    /// Starts `size` members and forms a cluster of them.
    pub(crate) async fn form(size: u64, seed: u64, logs: L, settings: SqlSettings) -> Self {
        let board = Switchboard::default();
        let nodes = BTreeMap::new();
        let mut cluster = Self {
            board,
            settings,
            seed,
            logs,
            nodes,
            starts: 0,
        };
        for id in 1..=size {
            cluster.start(id, SimulatedDisk::new(seed * 100 + id)).await;
        }
        let members = (1..=size).map(|id| (node(id), peer(id))).collect();
        cluster.nodes[&1].member.bootstrap(members).await.unwrap();
        cluster
    }

    /// Starts a member on `disk`.
    pub(crate) async fn start(&mut self, id: u64, disk: SimulatedDisk) {
        self.starts += 1;
        let env = Env::inline(self.seed * 1_000_003 + self.starts);
        let machine = open_machine(&disk, &env, &self.settings);
        let log = self.logs.open(id, &disk, &env);
        let parts = Parts {
            node: node(id),
            directory: DirectoryId(id),
            machine: machine.clone(),
            log: log.clone(),
            transport: Arc::new(self.board.plug(node(id))),
            service: Arc::new(NoPeerService),
            genesis: Some(Genesis {
                cluster: ClusterId(1000 + id),
                settings: Bytes::new(),
            }),
            keys: KeyLimits::default(),
            env,
            settings: Settings::default(),
        };
        let member = Member::start(parts).await.unwrap();
        self.nodes.insert(
            id,
            Node {
                id,
                disk,
                machine,
                log,
                member,
            },
        );
    }

    /// Stops a member and answers its disk.
    pub(crate) async fn stop(&mut self, id: u64) -> SimulatedDisk {
        let node = self.nodes.remove(&id).unwrap();
        node.member.stop().await;
        node.disk
    }

    /// Stops all, as a deployment that restarts does, and starts them again.
    pub(crate) async fn restart(&mut self) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        let mut disks = Vec::new();
        for id in &ids {
            disks.push((*id, self.stop(*id).await));
        }
        for (id, disk) in disks {
            // What a stopped process leaves, and its lock is free.
            self.start(id, disk.crash(sqlrep_disk::Loss::Nothing)).await;
        }
    }

    /// The member that can confirm that it leads.
    pub(crate) async fn leader(&self) -> &Node {
        for _ in 0..2000 {
            for node in self.nodes.values() {
                let wait_max = Some(Duration::from_millis(300));
                let bound = ReadBound {
                    wait_max,
                    ..ReadBound::default()
                };
                if node.member.permit(ReadLevel::Weak, bound).await.is_ok() {
                    return node;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody leads after 20 s");
    }

    /// Writes through the leader; what is certainly not done is tried again.
    pub(crate) async fn write(&self, request: Request) -> (Reply, EntryId) {
        for _ in 0..100 {
            match self.leader().await.write(request.clone()).await {
                Ok(answer) => return answer,
                Err(error) => {
                    assert_eq!(error.retry(), sqlrep_core::Retry::Safe, "{error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        panic!("not written in 100 tries");
    }

    pub(crate) async fn execute(&self, sql: &str) -> Reply {
        self.write(Request::execute(sql)).await.0
    }

    /// Waits until all members have applied the same entry, and checks that all pages are equal. Answers their checksum.
    pub(crate) async fn agreed(&self) -> u64 {
        for _ in 0..2000 {
            let ends: Vec<_> = self
                .nodes
                .values()
                .map(|node| node.machine.applied().id)
                .collect();
            let last = self
                .nodes
                .values()
                .map(|node| node.log.state().last)
                .max()
                .unwrap();
            if ends.iter().all(|end| *end == last) {
                return self.equal();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ends: Vec<_> = self
            .nodes
            .values()
            .map(|node| node.machine.applied().id)
            .collect();
        panic!("no agreement after 20 s: {ends:?}");
    }

    fn equal(&self) -> u64 {
        let (_, first) = self.nodes.first_key_value().unwrap();
        let expected = pages(&first.machine);
        for node in self.nodes.values() {
            assert!(
                pages(&node.machine) == expected,
                "node {} differs from node {}",
                node.id,
                first.id
            );
            assert_eq!(node.machine.checksum_mismatches(), 0, "node {}", node.id);
        }
        first.machine.replica().store().committed().checksum.0
    }

    /// The first column of the first row on every node; the same on all.
    pub(crate) fn value(&self, sql: &str) -> Value {
        let mut values = self
            .nodes
            .values()
            .map(|node| value(&node.machine, &self.settings, sql));
        let first = values.next().unwrap();
        assert!(values.all(|value| value == first), "{sql}");
        first
    }
}

impl Cluster<MemoryLogs> {
    /// Members on logs in memory.
    pub(crate) async fn of(size: u64, seed: u64) -> Self {
        Self::form(size, seed, MemoryLogs::default(), SqlSettings::default()).await
    }

    /// Takes a stopped node everything it had.
    pub(crate) fn forget(&self, id: u64) {
        assert!(!self.nodes.contains_key(&id), "it is stopped before");
        self.logs.forget(id);
    }
}

impl Node {
    pub(crate) async fn write(&self, request: Request) -> Result<(Reply, EntryId), WriteError> {
        let written = self.member.write(request, Route::Here, 5 * SECOND).await?;
        Ok((written.reply, written.at))
    }

    pub(crate) fn checkpoint(&self) -> EntryId {
        let log_durable = self.log.durable().unwrap();
        let end = self.machine.checkpoint(log_durable, true).unwrap();
        end.id
            .expect("the first entry of a leadership is a reset point")
    }
}
