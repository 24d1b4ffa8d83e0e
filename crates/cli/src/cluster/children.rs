//! Child processes that stop when their standard input closes.
//!
//! Invariant 1: no child outlives its [`Children`]: it stops in order, or is killed after a bounded wait.
//! Invariant 2: every child's end is told exactly once, by [`Children::ended`] or [`Children::stop`].

use crate::exit::Exit;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a child may take to stop in order: handing over, draining, a checkpoint.
const STOP_MAX: Duration = Duration::from_secs(20);

/// How a child ended.
#[derive(Debug)]
pub(super) struct Ended {
    id: u32,
    status: io::Result<ExitStatus>,
    /// It didn't stop in time.
    killed: bool,
}

impl Ended {
    /// It stopped when it was told to, with code 0.
    pub(super) fn in_order(&self) -> bool {
        !self.killed && self.status.as_ref().is_ok_and(ExitStatus::success)
    }

    /// What it means for the whole: the child's own code where it has one.
    pub(super) fn exit(&self) -> Exit {
        let code = self.status.as_ref().ok().and_then(ExitStatus::code);
        match code.and_then(Exit::of_code) {
            None | Some(Exit::Ok) => Exit::Failed,
            Some(exit) => exit,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id;
        match &self.status {
            Err(error) => write!(f, "node {id} can't be waited for: {error}"),
            Ok(_) if self.killed => write!(
                f,
                "node {id} didn't stop within {STOP_MAX:?} and was killed"
            ),
            Ok(status) => match status.code().and_then(Exit::of_code) {
                Some(exit) => write!(f, "node {id} ended with {status}: {}", exit.meaning()),
                None => write!(f, "node {id} ended with {status}"),
            },
        }
    }
}

/// The children.
pub(super) struct Children {
    tending: JoinSet<Ended>,
    stop: watch::Sender<bool>,
}

impl Default for Children {
    fn default() -> Self {
        Self {
            tending: JoinSet::new(),
            stop: watch::Sender::new(false),
        }
    }
}

impl Children {
    /// Starts a child. Its settings come from `flags` alone, not from this process's environment.
    ///
    /// # Errors
    ///
    /// It can't be started.
    pub(super) fn start(&mut self, id: u32, program: &Path, flags: &[String]) -> io::Result<()> {
        let mut command = Command::new(program);
        command
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SQLREP_") {
                command.env_remove(name);
            }
        }
        // Ctrl-C at the terminal reaches this process alone, which then stops its children.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn()?;
        let leash = child.stdin.take().expect("asked for above");
        self.tending
            .spawn(tend(id, child, leash, self.stop.subscribe()));
        Ok(())
    }

    /// The next child that ends; none once all have.
    pub(super) async fn ended(&mut self) -> Option<Ended> {
        let next = self.tending.join_next().await?;
        Some(next.expect("tending neither panics nor is aborted"))
    }

    /// Stops all that still run.
    pub(super) async fn stop(mut self) -> Vec<Ended> {
        self.stop.send_replace(true);
        let mut all = Vec::new();
        while let Some(ended) = self.ended().await {
            all.push(ended);
        }
        all
    }
}

async fn tend(
    id: u32,
    mut child: Child,
    leash: ChildStdin,
    mut stop: watch::Receiver<bool>,
) -> Ended {
    tokio::select! {
        status = child.wait() => return Ended { id, status, killed: false },
        _ = stop.wait_for(|stop| *stop) => {}
    }
    drop(leash);
    match tokio::time::timeout(STOP_MAX, child.wait()).await {
        Ok(status) => Ended {
            id,
            status,
            killed: false,
        },
        Err(_) => {
            let killed = child.kill().await;
            let status = match killed {
                Ok(()) => child.wait().await,
                Err(error) => Err(error),
            };
            Ended {
                id,
                status,
                killed: true,
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn start(children: &mut Children, id: u32, script: &str) {
        let flags = ["-c".to_owned(), script.to_owned()];
        let started = children.start(id, Path::new("/bin/sh"), &flags);
        started.expect("every Unix has a shell");
    }

    #[tokio::test]
    async fn closing_the_leash_stops_in_order() {
        let mut children = Children::default();
        start(&mut children, 1, "cat");
        start(&mut children, 2, "cat; exit 5");
        let mut ended = children.stop().await;
        ended.sort_by_key(|one| one.id);
        assert!(ended[0].in_order());
        assert!(!ended[1].in_order());
        assert_eq!(ended[1].exit(), Exit::Disk);
        assert!(ended[1].to_string().contains("write or fsync failed"));
    }

    #[tokio::test]
    async fn a_child_that_dies_is_told_once() {
        let mut children = Children::default();
        start(&mut children, 1, "exit 4");
        start(&mut children, 2, "cat");
        let dead = children.ended().await.unwrap();
        assert_eq!((dead.id, dead.exit()), (1, Exit::AddressInUse));
        let rest = children.stop().await;
        assert_eq!(rest.iter().map(|one| one.id).collect::<Vec<_>>(), [2]);
    }

    #[tokio::test]
    async fn a_signal_is_a_failure() {
        let mut children = Children::default();
        start(&mut children, 1, "kill -9 $$");
        let dead = children.ended().await.unwrap();
        assert!(!dead.in_order());
        assert_eq!(dead.exit(), Exit::Failed);
    }
}
