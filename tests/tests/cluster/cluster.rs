//! A cluster on loopback, and what has to hold of it after every story.

use crate::process::{NodeProcess, free_addresses};
use crate::waiting::{LIMIT, until, until_within};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use tempfile::TempDir;

/// A cluster on loopback.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<NodeProcess>,
    folder: TempDir,
    /// What all are started with.
    flags: Vec<String>,
}

impl Cluster {
    /// Founding members that aren't started yet.
    pub(crate) fn of(size: usize) -> Self {
        Self::with(size, &[])
    }

    /// As [`of`](Self::of), all of them with `flags`.
    pub(crate) fn with(size: usize, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let addresses = free_addresses(2 * size);
        let nodes = (1..)
            .zip(addresses.chunks_exact(2))
            .map(|(id, pair)| NodeProcess::new(id, folder.path(), &pair[0], &pair[1]))
            .collect();
        Self {
            nodes,
            folder,
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        }
    }

    /// Starts `size` founding members and waits until all serve.
    pub(crate) fn start(size: usize) -> Self {
        let mut cluster = Self::of(size);
        cluster.start_all();
        cluster
    }

    /// What a founding member is started with beside its own addresses.
    pub(crate) fn founding(&self) -> Vec<String> {
        let mut flags = self.joining();
        flags.push(format!("--bootstrap-expect={}", self.nodes.len()));
        flags
    }

    /// What a later member is started with.
    pub(crate) fn joining(&self) -> Vec<String> {
        let addresses: Vec<&str> = self.nodes.iter().map(|node| node.raft.as_str()).collect();
        let join = format!("--join={}", addresses.join(","));
        self.flags.iter().cloned().chain([join]).collect()
    }

    /// Starts those that don't run, and waits until all serve.
    pub(crate) fn start_all(&mut self) {
        self.start_all_within(LIMIT);
    }

    /// The same for nodes that need longer.
    pub(crate) fn start_all_within(&mut self, limit: Duration) {
        let founding = self.founding();
        for node in &mut self.nodes {
            if !node.is_running() {
                node.spawn(&founding);
            }
        }
        self.ready_within(limit);
    }

    pub(crate) fn ready(&self) {
        self.ready_within(LIMIT);
    }

    fn ready_within(&self, limit: Duration) {
        for node in &self.nodes {
            until_within(limit, &format!("node {} is ready", node.id), || {
                node.is_ready().then_some(())
            });
        }
    }

    /// A node that isn't a founding member, on its own directory and ports.
    pub(crate) fn newcomer(&self, id: u64) -> NodeProcess {
        let addresses = free_addresses(2);
        NodeProcess::new(id, self.folder.path(), &addresses[0], &addresses[1])
    }

    /// Where the leader stands in `nodes`, told by a node that runs.
    pub(crate) fn leader(&mut self) -> usize {
        until("somebody leads", || {
            let running: Vec<bool> = self.nodes.iter_mut().map(NodeProcess::is_running).collect();
            (0..self.nodes.len()).filter(|at| running[*at]).find(|at| {
                let state = self.nodes[*at].get("/status");
                state.is_some_and(|(_, text)| text.contains("\"state\":\"Leader\""))
            })
        })
    }

    /// Every node shows the same rows, at level none, once it has caught up.
    pub(crate) fn agree(&self, sql: &str) -> Value {
        let first = until("a linearizable read", || {
            self.nodes[0].rows(sql, "linearizable").ok()
        });
        for node in &self.nodes {
            until(&format!("node {} shows what node 1 shows", node.id), || {
                (node.rows(sql, "none").ok()? == first).then_some(())
            });
        }
        first
    }

    /// Every acknowledged id is there once, refused ones aren't, unknown ones at most once.
    pub(crate) fn check(&self, done: &BTreeSet<u64>, refused: &BTreeSet<u64>) {
        let rows = self.agree("SELECT id FROM ledger ORDER BY id");
        let found: Vec<u64> = rows
            .as_array()
            .map(|rows| rows.iter().map(|row| row[0].as_u64().unwrap()).collect())
            .unwrap_or_default();
        let distinct: BTreeSet<u64> = found.iter().copied().collect();
        assert_eq!(distinct.len(), found.len(), "a write was done twice");
        let lost: Vec<_> = done.difference(&distinct).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let ghosts: Vec<_> = refused.intersection(&distinct).collect();
        assert!(ghosts.is_empty(), "refused and present: {ghosts:?}");
        self.agree_on_bytes();
    }

    /// All databases have one checksum at one applied index.
    pub(crate) fn agree_on_bytes(&self) {
        until("checksums at one index are equal", || {
            let seen: Vec<(Value, Value)> = self
                .nodes
                .iter()
                .map(|node| {
                    let status = node.status();
                    (
                        status["store"]["db_applied_index"].clone(),
                        status["sqlrep"]["checksum"].clone(),
                    )
                })
                .collect();
            let same_index = seen.iter().all(|one| one.0 == seen[0].0);
            if same_index {
                assert!(seen.iter().all(|one| one.1 == seen[0].1), "{seen:?}");
            }
            same_index.then_some(())
        });
    }
}
