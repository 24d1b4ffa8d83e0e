//! A cluster of three nodes inside this process, without HTTP; loaded by tasks on the same threads, as a program does that
//! embeds them.

use super::cluster::{Asked, COUNTERS, Cluster, Counts, Gathers, Measured, Start, grown};
use super::work::{Job, tables};
use crate::http::nodes::{NODES, READY_MAX, late};
use crate::slice::{Slice, Times};
use crate::wiring::{Addresses, Relays, wired};
use crate::{BenchError, cpu, memory};
use futures_util::future::try_join_all;
use sqlrep_core::{ReadBound, ReadLevel, Retry};
use sqlrep_env::{Clock, Env, Moment};
use sqlrep_node::{Node, NodeOptions};
use sqlrep_replica::LocalReader;
use sqlrep_service::{Database, QueryOptions, Role, WriteOptions};
use sqlrep_sql::{Outcome, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Between two looks for a leader.
const PAUSE: Duration = Duration::from_millis(5);

/// The nodes, and the threads that they share with the load.
pub(crate) struct Inside {
    runtime: Runtime,
    nodes: Vec<Node>,
    env: Env,
    _relays: Option<Relays>,
}

impl Inside {
    /// Starts it and makes the tables.
    pub(crate) fn start(start: &Start, env: &Env) -> Result<Self, BenchError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(BenchError::Runtime)?;
        let (addresses, relays) = wired(env, NODES, start.delay)?;
        let nodes = runtime.block_on(async {
            let nodes = Box::pin(started(start, &addresses)).await?;
            let database = nodes[0].database();
            for sql in tables() {
                late("the cluster takes writes", settled(&*database, &sql)).await?;
            }
            Ok::<_, BenchError>(nodes)
        });
        Ok(Self {
            nodes: nodes?,
            runtime,
            env: env.clone(),
            _relays: relays,
        })
    }

    async fn leader(&self) -> Result<usize, BenchError> {
        let looking = async {
            loop {
                let leads = |node: &Node| node.admin().role() == Role::Leader;
                if let Some(leader) = self.nodes.iter().position(leads) {
                    return Ok(leader);
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        late("a node leads", looking).await
    }

    /// Loads the leader while `read` reads there, on a thread of its own.
    pub(crate) fn beside<T: Send + 'static>(
        &self,
        asked: Asked,
        read: impl FnOnce(&mut LocalReader) -> Result<T, BenchError> + Send + 'static,
    ) -> Result<(Measured, T), BenchError> {
        self.runtime.block_on(async {
            let leader = self.leader().await?;
            let mut reader = self.nodes[leader].reader();
            let read = tokio::task::spawn_blocking(move || read(&mut reader));
            let measured = self.loaded(asked).await?;
            let read = read.await.expect("readers don't panic")?;
            Ok((measured, read))
        })
    }

    async fn loaded(&self, asked: Asked) -> Result<Measured, BenchError> {
        let leader = self.leader().await?;
        let (before, cpu_before) = (self.counts(leader), cpu::used());
        let (slice, refused) = self.clients(leader, asked).await?;
        let cpu = cpu::used().zip(cpu_before);
        let counted = grown(&before, &self.counts(leader));
        let led = self.leader().await? == leader;
        Ok(Measured {
            slice,
            steady: led && refused == 0,
            cpu: cpu.map(|(after, before)| vec![after.saturating_sub(before)]),
            counted,
            resident: memory::resident_of(std::process::id()).map(|bytes| vec![bytes]),
        })
    }

    /// Keeps one request of each client under way until the slice is over; also tells how many were refused.
    async fn clients(&self, leader: usize, asked: Asked) -> Result<(Slice, u64), BenchError> {
        let (clock, next) = (&self.env.clock, Arc::new(AtomicU64::new(asked.first)));
        let began = clock.now();
        let until = began.after(asked.slice);
        let clients = (0..asked.clients).map(|_| {
            let (database, next) = (self.nodes[leader].database(), next.clone());
            tokio::spawn(client(database, clock.clone(), until, asked, next))
        });
        let ended = try_join_all(clients).await;
        let each: Result<Vec<(Vec<Duration>, u64)>, BenchError> = ended
            .expect("clients neither panic nor are they aborted")
            .into_iter()
            .collect();
        let took = clock.now().since(began);
        let each = each?;
        let refused = each.iter().map(|(_, refused)| refused).sum();
        let mut times: Vec<Duration> = each.into_iter().flat_map(|(times, _)| times).collect();
        let slice = Slice {
            operations: f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX)),
            took,
            times: Times::of(&mut times),
            cpu: None,
        };
        Ok((slice, refused))
    }

    fn counts(&self, leader: usize) -> Counts {
        let node = |node: &Node| {
            let metrics = node.status().metrics;
            COUNTERS.map(|name| metrics.get(name).copied().unwrap_or(f64::NAN))
        };
        let mut counts: Counts = self.nodes.iter().map(node).collect();
        counts.rotate_left(leader);
        counts
    }
}

async fn started(start: &Start, addresses: &[Addresses]) -> Result<Vec<Node>, BenchError> {
    let mut nodes = Vec::new();
    for (at, own) in addresses.iter().enumerate() {
        let mut options = NodeOptions::new(start.folder.join(format!("node-{}", at + 1)));
        options.mode = Some(start.mode);
        options.sync_floor = start.sync_floor;
        if start.gathers == Gathers::Nothing {
            (options.gather_requests_max, options.in_flight_entries_max) = (1, 1);
        }
        options.raft_address.clone_from(&own.listens);
        options.raft_advertised = Some(own.raft.clone());
        options.join = addresses.iter().map(|node| node.raft.clone()).collect();
        options.bootstrap_expect = u32::try_from(NODES).ok();
        nodes.push(Box::pin(Node::start(options)).await?);
    }
    for node in &nodes {
        Box::pin(node.ready(READY_MAX)).await?;
    }
    Ok(nodes)
}

/// How long each answer took, and how many requests were refused.
async fn client(
    database: Arc<dyn Database>,
    clock: Arc<dyn Clock>,
    until: Moment,
    asked: Asked,
    next: Arc<AtomicU64>,
) -> Result<(Vec<Duration>, u64), BenchError> {
    let (mut times, mut refused, mut before) = (Vec::new(), 0, clock.now());
    while before < until {
        let job = asked.work.job(next.fetch_add(1, Ordering::Relaxed));
        let done = run(&*database, job).await;
        let now = clock.now();
        match done {
            Ok(()) => times.push(now.since(before)),
            Err(BenchError::Write(_) | BenchError::Query(_)) => {
                refused += 1;
                tokio::task::yield_now().await;
            }
            Err(error) => return Err(error),
        }
        before = now;
    }
    Ok((times, refused))
}

async fn run(database: &dyn Database, job: Job) -> Result<(), BenchError> {
    if !job.reads() {
        return write(database, job.request()).await;
    }
    let options = QueryOptions {
        level: ReadLevel::Weak,
        bound: ReadBound::default(),
        run_max: None,
    };
    let answer = database.query(job.request(), options).await?;
    match answer.reply.outcomes.first() {
        Some(Outcome::Rows(rows)) if rows.values.len() == 1 => Ok(()),
        other => Err(BenchError::Answer(format!("{other:?}"))),
    }
}

/// Runs SQL that may run twice, again while the cluster refuses.
async fn settled(database: &dyn Database, sql: &str) -> Result<(), BenchError> {
    loop {
        match write(database, Request::execute(sql)).await {
            Err(BenchError::Write(error)) if error.retry() == Retry::Safe => {
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

async fn write(database: &dyn Database, request: Request) -> Result<(), BenchError> {
    let statements = request.statements.len();
    let answer = database.execute(request, WriteOptions::default()).await?;
    let written = |outcome: &&Outcome| matches!(outcome, Outcome::Written(_));
    let outcomes = &answer.reply.outcomes;
    if outcomes.iter().filter(written).count() == statements {
        Ok(())
    } else {
        Err(BenchError::Answer(format!("{outcomes:?}")))
    }
}

impl Cluster for Inside {
    fn slice(&self, asked: Asked) -> Result<Measured, BenchError> {
        self.runtime.block_on(self.loaded(asked))
    }

    fn end(self: Box<Self>) -> Result<(), BenchError> {
        let Self { runtime, nodes, .. } = *self;
        for node in nodes {
            runtime.block_on(Box::pin(node.stop()));
        }
        Ok(())
    }
}
