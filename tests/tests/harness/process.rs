//! A node in a process of its own.

use super::http::Http;
use super::program::{PROGRAM, bare};
use super::{DEADLINE, PAUSE};
use sqlrep_env::{Clock, SystemClock};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Addresses that nobody listens on, from the operating system. All are held until all are known, so that they differ.
pub(crate) fn free_addresses<const N: usize>() -> [String; N] {
    let held =
        [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"));
    held.each_ref().map(|listener| {
        let address = listener.local_addr().expect("it was just bound");
        address.to_string()
    })
}

/// What a node is started with, again and again.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) http: String,
    pub(crate) raft: String,
    pub(crate) data: PathBuf,
    pub(crate) flags: Vec<String>,
}

impl Spec {
    /// A lone node with its data in `data`.
    pub(crate) fn alone(data: impl Into<PathBuf>) -> Self {
        let [http, raft] = free_addresses();
        Self {
            http,
            raft,
            data: data.into(),
            flags: vec!["--mode=statement".to_owned(), "--node-id=1".to_owned()],
        }
    }

    /// The founding nodes of a cluster, their data in folders below `data`.
    pub(crate) fn cluster<const N: usize>(data: &std::path::Path) -> [Self; N] {
        let raft: [String; N] = free_addresses();
        let http: [String; N] = free_addresses();
        let join = format!("--join={}", raft.join(","));
        std::array::from_fn(|place| Self {
            http: http[place].clone(),
            raft: raft[place].clone(),
            data: data.join((place + 1).to_string()),
            flags: vec![
                "--mode=statement".to_owned(),
                format!("--node-id={}", place + 1),
                format!("--bootstrap-expect={N}"),
                join.clone(),
            ],
        })
    }

    pub(crate) fn start(&self) -> NodeProcess {
        let mut command = bare(Command::new(PROGRAM));
        command
            .arg("node")
            .args(&self.flags)
            .arg(format!("--http-addr={}", self.http))
            .arg(format!("--raft-addr={}", self.raft))
            .arg(format!("--data-dir={}", self.data.display()))
            .stdin(Stdio::null());
        let child = command
            .spawn()
            .expect("the program was built with the tests");
        NodeProcess {
            child,
            http: Http::new(&self.http),
        }
    }
}

/// A running node; dropping it kills it.
pub(crate) struct NodeProcess {
    child: Child,
    pub(crate) http: Http,
}

impl NodeProcess {
    /// Waits until `/readyz` says so; panics when the process ends first or the deadline passes.
    pub(crate) fn ready(&mut self) {
        self.until("ready", |node| {
            let ended = node.child.try_wait().expect("it is our child");
            assert_eq!(ended, None, "the node ended before it was ready");
            let answer = node.http.get("/readyz");
            answer.is_some_and(|answer| answer.status == 200)
        });
    }

    /// Waits until `holds`, asking again and again.
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let clock = SystemClock::start();
        while !holds(self) {
            assert!(clock.now().0 < DEADLINE, "not {what} after {DEADLINE:?}");
            std::thread::park_timeout(PAUSE);
        }
    }

    /// kill -9, and gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        self.until("ended", |node| {
            status = node.child.try_wait().expect("it is our child");
            status.is_some()
        });
        status.expect("until has seen it")
    }

    /// Freezes it (SIGSTOP): connections stay open, nothing moves.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.expect("every Unix has kill").success(), "SIG{name}");
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It may be gone already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
