//! Three nodes of this machine, each a process of its own on loopback: started, killed with -9, started again.
//!
//! Invariant 1: no node outlives [`Nodes`]; one whose bench dies, however it dies, stops when its standard input closes.
//! Invariant 2: a node is restarted by the very command that started it.

use super::client::{bare, once, post};
use crate::{BenchError, cpu};
use serde_json::Value;
use sqlrep_env::Env;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};

/// Nodes of the measured cluster.
pub(crate) const NODES: usize = 3;

/// Where ports begin and how many there are: below those that systems give to outgoing connections, so that a node that
/// is killed and started again finds its own free.
const PORTS: std::ops::Range<u16> = 20_000..31_000;

/// How long nodes may take to be ready.
pub(crate) const READY_MAX: Duration = Duration::from_secs(60);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// One node.
struct Node {
    http: String,
    raft: String,
    running: Option<(Child, ChildStdin)>,
}

/// The cluster.
pub(crate) struct Nodes {
    program: PathBuf,
    folder: PathBuf,
    sync_floor: Option<Duration>,
    nodes: Vec<Node>,
}

/// Ports that nothing listens on.
fn free_addresses(env: &Env, count: usize) -> Result<Vec<String>, BenchError> {
    let all = PORTS.end - PORTS.start;
    let first = u16::try_from(env.entropy.next() % u64::from(all)).expect("it is below");
    let tried = (0..all).map(|step| PORTS.start + (first + step) % all);
    let free = tried.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let found: Vec<String> = free
        .take(count)
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    if found.len() < count {
        let error = std::io::ErrorKind::AddrInUse.into();
        return Err(BenchError::Runtime(error));
    }
    Ok(found)
}

impl Nodes {
    /// Starts a new cluster in `folder` and waits until every node is ready.
    pub(crate) async fn start(
        program: &Path,
        folder: &Path,
        sync_floor: Option<Duration>,
        env: &Env,
    ) -> Result<Self, BenchError> {
        let addresses = free_addresses(env, 2 * NODES)?;
        let node = |pair: &[String]| Node {
            http: pair[0].clone(),
            raft: pair[1].clone(),
            running: None,
        };
        let mut nodes = Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            sync_floor,
            nodes: addresses.chunks_exact(2).map(node).collect(),
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
        let join: Vec<&str> = self.nodes.iter().map(|node| node.raft.as_str()).collect();
        let mut command = Command::new(&self.program);
        command
            .args(["node", "--mode=statement", "--stop-with-stdin"])
            .args([
                "--log-level=off".to_owned(),
                format!("--node-id={}", node + 1),
            ])
            .arg(format!("--http-addr={}", self.nodes[node].http))
            .arg(format!("--raft-addr={}", self.nodes[node].raft))
            .arg(format!("--bootstrap-expect={NODES}"))
            .arg(format!("--join={}", join.join(",")))
            .arg("--data-dir")
            .arg(self.folder.join(format!("node-{}", node + 1)));
        if let Some(floor) = self.sync_floor {
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
        &self.nodes[node].http
    }

    /// Waits until a node serves linearizable reads.
    pub(crate) async fn ready(&mut self, node: usize) -> Result<(), BenchError> {
        let mut request = Vec::new();
        bare(&mut request, "GET", "/readyz?sync&timeout=1s");
        let address = self.nodes[node].http.clone();
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
    async fn status(&self, node: usize, name: &str) -> Result<Value, BenchError> {
        let mut request = Vec::new();
        bare(&mut request, "GET", &format!("/status?key=sqlrep.{name}"));
        let (_, body) = once(self.http(node), &request).await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        serde_json::from_slice(&body).map_err(|_| BenchError::Answer(text))
    }

    /// One of a node's counters or gauges.
    pub(crate) async fn metric(&self, node: usize, name: &str) -> Result<f64, BenchError> {
        let all = self.status(node, "metrics").await?;
        all.get(name)
            .and_then(Value::as_f64)
            .ok_or_else(|| BenchError::Answer(format!("no metric {name}")))
    }

    /// CPU time of each node since its start.
    pub(crate) fn cpu(&self) -> Vec<Option<Duration>> {
        let used = |node: &Node| {
            let (child, _) = node.running.as_ref()?;
            cpu::used_by(child.id()?)
        };
        self.nodes.iter().map(used).collect()
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

async fn late<T>(
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
