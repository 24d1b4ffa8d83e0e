//! Three nodes of this machine, each a process of its own on loopback: started, killed with -9, started again.
//!
//! Invariant 1: no node outlives [`Nodes`]; one whose bench dies, however it dies, stops when its standard input closes.
//! Invariant 2: a node is restarted by the very command that started it.

use super::client::{bare, once, post};
use crate::wiring::{Addresses, Relays, wired};
use crate::{BenchError, cpu, memory};
use serde_json::Value;
use sqlrep_env::Env;
use sqlrep_node::Mode;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};

/// Nodes of the measured cluster.
pub(crate) const NODES: usize = 3;

/// How long nodes may take to be ready.
pub(crate) const READY_MAX: Duration = Duration::from_secs(60);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// What is started, and where.
pub(crate) struct Cluster {
    /// Runs a node when called with `node` and a node's flags.
    pub(crate) program: PathBuf,
    /// An existing folder for the nodes' data.
    pub(crate) folder: PathBuf,
    pub(crate) mode: Mode,
    pub(crate) sync_floor: Option<Duration>,
    /// Added to each direction between nodes.
    pub(crate) delay: Option<Duration>,
    /// Further flags of each node.
    pub(crate) flags: Vec<String>,
}

/// One node.
struct Node {
    at: Addresses,
    running: Option<(Child, ChildStdin)>,
}

/// The running cluster.
pub(crate) struct Nodes {
    cluster: Cluster,
    nodes: Vec<Node>,
    _relays: Option<Relays>,
}

impl Nodes {
    /// Starts a new cluster in `folder` and waits until every node is ready.
    pub(crate) async fn start(cluster: Cluster, env: &Env) -> Result<Self, BenchError> {
        let (addresses, relays) = wired(env, NODES, cluster.delay)?;
        let node = |at| Node { at, running: None };
        let mut nodes = Self {
            cluster,
            nodes: addresses.into_iter().map(node).collect(),
            _relays: relays,
        };
        for node in 0..NODES {
            nodes.start_one(node)?;
        }
        for node in 0..NODES {
            nodes.ready(node).await?;
        }
        Ok(nodes)
    }

    /// Starts a node that doesn't run.
    pub(crate) fn start_one(&mut self, node: usize) -> Result<(), BenchError> {
        let mut command = self.command(node);
        let mut child = command.spawn().map_err(BenchError::Runtime)?;
        let leash = child.stdin.take().expect("asked for in the command");
        self.nodes[node].running = Some((child, leash));
        Ok(())
    }

    fn command(&self, node: usize) -> Command {
        let raft = |node: &Node| node.at.raft.clone();
        let join: Vec<String> = self.nodes.iter().map(raft).collect();
        let at = &self.nodes[node].at;
        let mut command = Command::new(&self.cluster.program);
        command
            .args(["node", "--stop-with-stdin", "--log-level=off"])
            .arg(format!("--mode={}", self.cluster.mode))
            .arg(format!("--node-id={}", node + 1))
            .arg(format!("--http-addr={}", at.http))
            .arg(format!("--raft-addr={}", at.listens))
            .arg(format!("--raft-adv-addr={}", at.raft))
            .arg(format!("--bootstrap-expect={NODES}"))
            .arg(format!("--join={}", join.join(",")))
            .arg("--data-dir")
            .arg(self.cluster.folder.join(format!("node-{}", node + 1)))
            .args(&self.cluster.flags);
        if let Some(floor) = self.cluster.sync_floor {
            command.arg(format!("--sync-floor={}us", floor.as_micros()));
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SQLREP_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.kill_on_drop(true);
        command
    }

    /// kill -9, and waits for the end.
    pub(crate) async fn kill(&mut self, node: usize) -> Result<(), BenchError> {
        let running = self.nodes[node].running.take();
        let (mut child, _leash) = running.expect("only running nodes are killed");
        child.kill().await.map_err(BenchError::Runtime)
    }

    /// Ends all.
    pub(crate) async fn end(mut self) -> Result<(), BenchError> {
        for node in 0..NODES {
            if self.nodes[node].running.is_some() {
                self.kill(node).await?;
            }
        }
        Ok(())
    }

    pub(crate) fn http(&self, node: usize) -> &str {
        &self.nodes[node].at.http
    }

    /// Waits until a node serves linearizable reads.
    pub(crate) async fn ready(&mut self, node: usize) -> Result<(), BenchError> {
        let mut request = Vec::new();
        bare(&mut request, "GET", "/readyz?sync&timeout=1s");
        let address = self.nodes[node].at.http.clone();
        let asked = async {
            loop {
                if matches!(once(&address, &request).await, Ok((200, _))) {
                    return Ok(());
                }
                self.alive(node)?;
                tokio::time::sleep(PAUSE).await;
            }
        };
        late("a node is ready", asked).await
    }

    fn alive(&mut self, node: usize) -> Result<(), BenchError> {
        let Some((child, _)) = &mut self.nodes[node].running else {
            return Ok(());
        };
        match child.try_wait().map_err(BenchError::Runtime)? {
            Some(status) => Err(BenchError::Ended {
                node: node + 1,
                status,
            }),
            None => Ok(()),
        }
    }

    /// Which node leads.
    pub(crate) async fn leader(&self) -> Result<usize, BenchError> {
        let asked = async {
            loop {
                for node in (0..NODES).filter(|node| self.nodes[*node].running.is_some()) {
                    if self
                        .status(node, "role")
                        .await
                        .is_ok_and(|role| role == "Leader")
                    {
                        return Ok(node);
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        late("a node leads", asked).await
    }

    /// What a node tells of itself under this name.
    pub(crate) async fn status(&self, node: usize, name: &str) -> Result<Value, BenchError> {
        let mut request = Vec::new();
        bare(&mut request, "GET", &format!("/status?key=sqlrep.{name}"));
        let (_, body) = once(self.http(node), &request).await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        serde_json::from_slice(&body).map_err(|_| BenchError::Answer(text))
    }

    /// One of a node's counters or gauges.
    pub(crate) async fn metric(&self, node: usize, name: &str) -> Result<f64, BenchError> {
        let [value] = self.metrics(node, [name]).await?;
        Ok(value)
    }

    /// Some of them, of one moment.
    pub(crate) async fn metrics<const N: usize>(
        &self,
        node: usize,
        names: [&str; N],
    ) -> Result<[f64; N], BenchError> {
        let all = self.status(node, "metrics").await?;
        let mut values = [0.0; N];
        for (value, name) in values.iter_mut().zip(names) {
            let found = all.get(name).and_then(Value::as_f64);
            *value = found.ok_or_else(|| BenchError::Answer(format!("no metric {name}")))?;
        }
        Ok(values)
    }

    /// CPU time of each node since its start.
    pub(crate) fn cpu(&self) -> Vec<Option<Duration>> {
        let used = |node: &Node| {
            let (child, _) = node.running.as_ref()?;
            cpu::used_by(child.id()?)
        };
        self.nodes.iter().map(used).collect()
    }

    /// Bytes of memory that each node has now.
    pub(crate) fn resident(&self) -> Option<Vec<u64>> {
        let of = |node: &Node| {
            let (child, _) = node.running.as_ref()?;
            memory::resident_of(child.id()?)
        };
        self.nodes.iter().map(of).collect()
    }

    /// The most bytes of memory that each node ever had.
    pub(crate) fn most_resident(&self) -> Option<Vec<u64>> {
        let of = |node: &Node| {
            let (child, _) = node.running.as_ref()?;
            memory::most_resident_of(child.id()?)
        };
        self.nodes.iter().map(of).collect()
    }

    /// Runs SQL that may run twice, again while nodes refuse: a new cluster may change its leader.
    pub(crate) async fn settle(&self, sql: &str) -> Result<(), BenchError> {
        let tried = async {
            loop {
                match self.execute(sql).await {
                    Err(BenchError::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
                    done => return done,
                }
            }
        };
        late("the cluster takes writes", tried).await
    }

    /// Runs SQL without parameters on the leader.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), BenchError> {
        let mut request = Vec::new();
        let body = serde_json::json!([sql]).to_string();
        post(&mut request, "/db/execute", &body);
        let (status, body) = once(self.http(self.leader().await?), &request).await?;
        let answer = super::client::Answer {
            status,
            body: &body,
        };
        if answer.is_done() {
            Ok(())
        } else {
            Err(answer.refused())
        }
    }
}

/// What is waited for while nodes get ready.
pub(crate) async fn late<T>(
    what: &'static str,
    asked: impl Future<Output = Result<T, BenchError>>,
) -> Result<T, BenchError> {
    match tokio::time::timeout(READY_MAX, asked).await {
        Ok(outcome) => outcome,
        Err(_) => Err(BenchError::Late {
            what,
            waited: READY_MAX,
        }),
    }
}
