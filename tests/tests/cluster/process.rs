//! A node as an operator runs it: a process with flags, a data directory, two ports, and signals. It never outlives
//! its handle.

use crate::MODE;
use crate::client::Client;
use crate::command::{Run, program, run};
use crate::waiting::until;
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::net::TcpListener;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// One node. What clients can do, it can be asked directly.
pub(crate) struct NodeProcess {
    pub(crate) id: u64,
    pub(crate) directory: PathBuf,
    pub(crate) client: Client,
    pub(crate) raft: String,
    child: Option<Child>,
}

/// Where addresses of nodes begin and how many there are: below those that systems give to outgoing connections, since a
/// node that is killed and started again has to find its port free, and hundreds of connections come and go meanwhile.
const PORTS: std::ops::Range<u16> = 20_000..31_000;

/// Addresses that nothing listens on, each handed out once by this process. Another process may take one meanwhile; tests
/// that lose that race fail with the port in the message.
pub(crate) fn free_addresses(count: usize) -> Vec<String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let all = PORTS.end - PORTS.start;
    let first = u16::try_from(std::process::id() * 97 % u32::from(all)).unwrap();
    let free = std::iter::repeat_with(|| {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % all;
        format!("127.0.0.1:{}", PORTS.start + next)
    });
    let tried = free.take(usize::from(all));
    let found: Vec<String> = tried
        .filter(|address| TcpListener::bind(address).is_ok())
        .take(count)
        .collect();
    assert_eq!(found.len(), count, "no free ports");
    found
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

/// Sends a signal to a process of this test.
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(pid(child), signal).unwrap();
}

impl NodeProcess {
    /// A node that isn't started yet, its data in a folder of `folder`.
    pub(crate) fn new(id: u64, folder: &Path, http: &str, raft: &str) -> Self {
        Self {
            id,
            directory: folder.join(format!("node-{id}")),
            client: Client::new(http),
            raft: raft.to_owned(),
            child: None,
        }
    }

    /// The command that starts and restarts it.
    pub(crate) fn command(&self, more: &[String]) -> Command {
        let mut command = program();
        command
            .args(["node", &format!("--mode={MODE}")])
            .args(["--node-id", &self.id.to_string()])
            .args(["--http-addr", &self.http, "--raft-addr", &self.raft])
            .arg("--data-dir")
            .arg(&self.directory)
            .args(more);
        command
    }

    pub(crate) fn spawn(&mut self, more: &[String]) {
        self.spawn_as(self.command(more));
    }

    /// Starts it by a command of the caller's.
    pub(crate) fn spawn_as(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "node {} runs already", self.id);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(command.stderr(log.unwrap()).spawn().unwrap());
    }

    /// Runs a command line that can't work to its end.
    pub(crate) fn refused(&self, more: &[&str]) -> Run {
        let more: Vec<String> = more.iter().map(|&one| one.to_owned()).collect();
        run(self.command(&more), "")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.with_extension("log")
    }

    /// What it has said on standard error in all its lives.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap()
    }

    /// How often it has opened its directory, where it logs that.
    pub(crate) fn lives(&self) -> usize {
        self.said().matches("log to replay").count()
    }

    /// The running process.
    pub(crate) fn pid(&self) -> Pid {
        pid(self.child.as_ref().expect("it runs"))
    }

    fn signal(&self, what: Signal) {
        signal(self.child.as_ref().expect("it runs"), what);
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
        self.ended()
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
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

    /// Its generations: databases that it has or receives.
    pub(crate) fn generations(&self) -> Vec<u64> {
        let Ok(entries) = std::fs::read_dir(self.directory.join("db")) else {
            return Vec::new();
        };
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        numbers
    }
}

impl Deref for NodeProcess {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nothing can be done about a failure to tell of a failure.
            let said = std::fs::read(self.log_path()).unwrap_or_default();
            drop(std::io::stderr().write_all(&said));
        }
        if self.child.is_some() {
            // A paused one has to run to be waited for; nothing can be done about a failure here.
            self.resume();
            self.kill();
        }
    }
}
