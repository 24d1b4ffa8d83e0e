//! Nodes as an operator runs them: processes with flags, a data directory, two ports, and signals.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlrep_env::{Clock, Moment, SystemClock};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;
use ureq::Agent;

/// How long anything that should happen may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// How long to pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

fn now() -> Moment {
    static CLOCK: OnceLock<SystemClock> = OnceLock::new();
    CLOCK.get_or_init(SystemClock::start).now()
}

/// Looks at a condition until it gives a value, and panics with what it was about at the deadline.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = now().after(LIMIT);
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(now() < deadline, "after {LIMIT:?} still not: {what}");
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// What a client knows of its write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Acknowledged.
    Done,
    /// It certainly didn't happen.
    Refused(String),
    /// It may have happened.
    Unknown(String),
}

/// One node.
pub(crate) struct NodeProcess {
    pub(crate) id: u64,
    pub(crate) directory: PathBuf,
    pub(crate) http: String,
    pub(crate) raft: String,
    child: Option<Child>,
}

/// A cluster on loopback.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<NodeProcess>,
    pub(crate) folder: TempDir,
}

/// Addresses that nothing listens on. Others on this machine may take one meanwhile; tests that lose that race
/// fail with the port in the message.
fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().to_string())
        .collect()
}

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sqlrep-under-test"))
}

pub(crate) fn agent(limit: Duration) -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_global(Some(limit));
    config.build().new_agent()
}

impl NodeProcess {
    /// The command that starts and restarts it.
    pub(crate) fn command(&self, more: &[String]) -> Command {
        let mut command = program();
        command
            .args([
                "node",
                "--mode=statement",
                "--node-id",
                &self.id.to_string(),
            ])
            .args(["--http-addr", &self.http, "--raft-addr", &self.raft])
            .arg("--data-dir")
            .arg(&self.directory)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    pub(crate) fn spawn(&mut self, more: &[String]) {
        assert!(self.child.is_none(), "node {} runs already", self.id);
        let log = self.directory.with_extension("log");
        let log = std::fs::File::options().create(true).append(true).open(log);
        let child = self.command(more).stderr(log.unwrap()).spawn().unwrap();
        self.child = Some(child);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let child = self.child.as_mut().expect("it runs");
        let status = until("the node ends", || child.try_wait().unwrap());
        self.child = None;
        status
    }

    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        let ended = |child: &mut Child| child.try_wait().unwrap().is_some();
        self.child.as_mut().is_some_and(|child| !ended(child))
    }

    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = agent(Duration::from_secs(10)).get(format!("http://{}{path}", self.http));
        let mut answer = answer.call().ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        Some((answer.status().as_u16(), text))
    }

    pub(crate) fn post(
        &self,
        path: &str,
        body: &str,
        limit: Duration,
    ) -> Result<(u16, Value), String> {
        let request = agent(limit).post(format!("http://{}{path}", self.http));
        let mut answer = request
            .header("content-type", "application/json")
            .send(body)
            .map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string();
        let text = text.map_err(|error| error.to_string())?;
        Ok((
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        ))
    }

    /// Whether it serves, and has applied what the leader had committed.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.get("/readyz?sync&timeout=2s"), Some((200, _)))
    }

    pub(crate) fn status(&self) -> Value {
        let (code, text) = self.get("/status").expect("it answers");
        assert_eq!(code, 200);
        serde_json::from_str(&text).unwrap()
    }

    /// One write; every answer is sorted into what the client may believe.
    pub(crate) fn execute(&self, sql: &str) -> Outcome {
        self.write("/db/execute", &serde_json::json!([sql]))
    }

    pub(crate) fn write(&self, path: &str, body: &Value) -> Outcome {
        match self.post(path, &body.to_string(), LIMIT) {
            Err(error) if error.contains("refused") => Outcome::Refused(error),
            Err(error) => Outcome::Unknown(error),
            Ok((200, answer)) if !answer["error"].is_null() => {
                Outcome::Unknown(answer["error"].to_string())
            }
            Ok((200, answer)) if !answer["results"][0]["error"].is_null() => {
                Outcome::Refused(answer["results"][0]["error"].to_string())
            }
            Ok((200, _)) => Outcome::Done,
            Ok((_, answer)) => Outcome::Refused(answer.to_string()),
        }
    }

    /// A write that has to succeed.
    pub(crate) fn must(&self, sql: &str) {
        assert_eq!(
            self.execute(sql),
            Outcome::Done,
            "{sql} on node {}",
            self.id
        );
    }

    /// The rows of a query, or why there are none.
    pub(crate) fn rows(&self, sql: &str, level: &str) -> Result<Value, String> {
        let path = format!("/db/query?level={level}");
        let body = serde_json::json!([sql]).to_string();
        let (status, answer) = self.post(&path, &body, LIMIT)?;
        let result = &answer["results"][0];
        if status != 200 || !answer["error"].is_null() || !result["error"].is_null() {
            return Err(format!("{status} {answer}"));
        }
        Ok(result["values"].clone())
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if self.child.is_some() {
            // A paused one has to run to be waited for; nothing can be done about a failure here.
            self.resume();
            self.kill();
        }
    }
}

impl Cluster {
    /// Founding members that aren't started yet.
    pub(crate) fn of(size: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let addresses = free_addresses(2 * size);
        let nodes = (1..)
            .zip(addresses.chunks_exact(2))
            .map(|(id, pair)| NodeProcess {
                id,
                directory: folder.path().join(format!("node-{id}")),
                http: pair[0].clone(),
                raft: pair[1].clone(),
                child: None,
            })
            .collect();
        Self { nodes, folder }
    }

    /// Starts `size` founding members and waits until all serve.
    pub(crate) fn start(size: usize) -> Self {
        let mut cluster = Self::of(size);
        cluster.start_all();
        cluster
    }

    /// What a founding member is started with beside its own addresses.
    pub(crate) fn founding(&self) -> Vec<String> {
        let addresses: Vec<&str> = self.nodes.iter().map(|node| node.raft.as_str()).collect();
        vec![
            "--bootstrap-expect".to_owned(),
            addresses.len().to_string(),
            "--join".to_owned(),
            addresses.join(","),
        ]
    }

    /// Starts those that don't run, and waits until all serve.
    pub(crate) fn start_all(&mut self) {
        let founding = self.founding();
        for node in &mut self.nodes {
            if !node.is_running() {
                node.spawn(&founding);
            }
        }
        self.ready();
    }

    pub(crate) fn ready(&self) {
        for node in &self.nodes {
            until(&format!("node {} is ready", node.id), || {
                node.is_ready().then_some(())
            });
        }
    }

    /// A node that isn't a founding member, on its own directory and ports.
    pub(crate) fn newcomer(&self, id: u64) -> NodeProcess {
        let addresses = free_addresses(2);
        NodeProcess {
            id,
            directory: self.folder.path().join(format!("node-{id}")),
            http: addresses[0].clone(),
            raft: addresses[1].clone(),
            child: None,
        }
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
    fn agree_on_bytes(&self) {
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
