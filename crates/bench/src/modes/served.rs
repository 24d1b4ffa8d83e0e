//! A cluster of three processes, loaded over HTTP by one thread of this one.

use super::cluster::{Asked, COUNTERS, Cluster, Counts, Measured, Start, grown};
use super::work::tables;
use crate::BenchError;
use crate::http::load::{connections, load};
use crate::http::nodes::{self, NODES, Nodes};
use sqlrep_env::Env;
use std::path::Path;
use tokio::runtime::Runtime;

/// The cluster, and the thread that loads it.
pub(super) struct Served {
    runtime: Runtime,
    nodes: Nodes,
    env: Env,
}

impl Served {
    /// Starts it and makes the tables.
    pub(super) fn start(program: &Path, start: Start, env: &Env) -> Result<Self, BenchError> {
        let runtime = crate::http::runtime()?;
        let cluster = nodes::Cluster {
            program: program.to_owned(),
            folder: start.folder,
            mode: start.mode,
            sync_floor: start.sync_floor,
            delay: start.delay,
            flags: Vec::new(),
        };
        let nodes = runtime.block_on(async {
            let nodes = Nodes::start(cluster, env).await?;
            for sql in tables() {
                nodes.settle(&sql).await?;
            }
            Ok::<_, BenchError>(nodes)
        });
        Ok(Self {
            nodes: nodes?,
            runtime,
            env: env.clone(),
        })
    }

    async fn loaded(&self, asked: Asked) -> Result<Measured, BenchError> {
        let nodes = &self.nodes;
        let leader = nodes.leader().await?;
        let mut clients = connections(nodes.http(leader), asked.clients).await?;
        let form = |number, out: &mut Vec<u8>| asked.work.job(asked.first + number).http(out);
        let before = self.counts(leader).await?;
        let clock = &*self.env.clock;
        let load = load(nodes, clock, &mut clients, asked.slice, &form).await?;
        let counted = grown(&before, &self.counts(leader).await?);
        let led = nodes.leader().await? == leader;
        let cpu: Option<Vec<_>> = load.nodes.iter().copied().collect();
        Ok(Measured {
            slice: load.slice,
            steady: led && load.refused == 0,
            cpu: cpu.map(|all| from_leader(leader, all)),
            counted,
            resident: nodes.resident().map(|all| from_leader(leader, all)),
        })
    }

    async fn counts(&self, leader: usize) -> Result<Counts, BenchError> {
        let mut counts = Vec::new();
        for node in 0..NODES {
            counts.push(self.nodes.metrics(node, COUNTERS).await?);
        }
        Ok(from_leader(leader, counts))
    }
}

/// The leader's first.
fn from_leader<T>(leader: usize, mut all: Vec<T>) -> Vec<T> {
    all.rotate_left(leader);
    all
}

impl Cluster for Served {
    fn slice(&self, asked: Asked) -> Result<Measured, BenchError> {
        self.runtime.block_on(self.loaded(asked))
    }

    fn end(self: Box<Self>) -> Result<(), BenchError> {
        self.runtime.block_on(self.nodes.end())
    }
}
