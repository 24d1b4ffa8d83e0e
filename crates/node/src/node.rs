//! A running node: its parts, its background tasks, its end.
//!
//! ```text
//!   open (data directory) ─► Member::start ─► enter: form a cluster or join one ─► serve
//!   stop: admit nothing ─► drain ─► hand over ─► Raft ends ─► checkpoint ─► log closed ─► lock released
//! ```
//!
//! Invariant 1: the lock of the data directory is released last.
//! Invariant 2: a failure that makes what is written untrustworthy is told by [`Node::failed`] and never healed by going on.

use crate::front::Front;
use crate::machine::Machine;
use crate::{Failure, NodeError, NodeOptions};
use sqlrep_core::{
    IdempotencyKey, LogStore, MemberError, NodeId, ReadError, StateMachine, WriteError,
};
use sqlrep_env::{Actor, Env};
use sqlrep_raft_log::RaftLog;
use sqlrep_replica::{LocalReader, Replica};
use sqlrep_service::{
    Admin, Answer, Database, QueryOptions, Session, SessionError, SessionOptions, Status,
    WriteOptions,
};
use sqlrep_sql::Request;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// How a node's entering a cluster stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entering {
    /// Under way.
    Waiting,
    /// It belongs to a cluster.
    Entered,
    /// It can't, as things are.
    Refused(String),
}

/// A running node. Dropping it without [`stop`](Self::stop) ends it like a crash.
pub struct Node {
    pub(crate) front: Arc<Front<Machine>>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) log: Arc<RaftLog>,
    pub(crate) env: Env,
    pub(crate) entering: watch::Receiver<Entering>,
    /// Of the log, and of what the cluster agreed on.
    pub(crate) failed: [watch::Receiver<Option<Failure>>; 2],
    pub(crate) raft_address: String,
    pub(crate) tasks: JoinSet<()>,
    pub(crate) lock: Box<dyn Send + Sync>,
}

impl Node {
    /// Opens the data directory and starts. It begins to enter a cluster, which goes on in the background:
    /// [`entered`](Self::entered) waits for it. Opening syncs files and blocks this task for that long.
    ///
    /// # Errors
    ///
    /// Every [`NodeError`].
    pub async fn start(options: NodeOptions) -> Result<Self, NodeError> {
        Box::pin(crate::start::start(options)).await
    }

    /// Reading and writing.
    #[must_use]
    pub fn database(&self) -> Arc<dyn Database> {
        self.front.clone()
    }

    /// Status, members, health.
    #[must_use]
    pub fn admin(&self) -> Arc<dyn Admin> {
        self.front.clone()
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.front.facts.node
    }

    /// `host:port` under which the other nodes reach it.
    #[must_use]
    pub fn raft_address(&self) -> &str {
        &self.raft_address
    }

    /// Waits until it belongs to a cluster.
    ///
    /// # Errors
    ///
    /// [`NodeError::Refused`] with what is in the way.
    pub async fn entered(&self) -> Result<(), NodeError> {
        let mut entering = self.entering.clone();
        let decided = entering.wait_for(|now| *now != Entering::Waiting).await;
        match decided.as_deref() {
            Ok(Entering::Refused(what)) => Err(NodeError::refused(what.clone())),
            Ok(_) => Ok(()),
            Err(_) => Err(NodeError::refused("the node has stopped")),
        }
    }

    /// Waits until writes and linearizable reads are served here.
    ///
    /// # Errors
    ///
    /// As [`entered`](Self::entered), or nobody leads within `wait_max`.
    pub async fn ready(&self, wait_max: Duration) -> Result<(), NodeError> {
        let serve = async {
            self.entered().await?;
            loop {
                let health = self.front.health(true, wait_max).await;
                if health.store && health.sync == Some(Ok(())) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(wait_max, serve)
            .await
            .unwrap_or_else(|_| Err(NodeError::refused(format!("not ready after {wait_max:?}"))))
    }

    /// Replicates a request; see [`Database::execute`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn execute(&self, request: Request) -> Result<Answer, WriteError> {
        self.front.execute(request, WriteOptions::default()).await
    }

    /// Replicates a request under a key: sent again with it, by any node, it is done once and answered alike.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub async fn execute_once(
        &self,
        request: Request,
        key: IdempotencyKey,
    ) -> Result<Answer, WriteError> {
        let options = WriteOptions {
            key: Some(key),
            ..WriteOptions::default()
        };
        self.front.execute(request, options).await
    }

    /// Opens an interactive transaction; see [`Database::begin`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn begin(&self, options: SessionOptions) -> Result<Box<dyn Session>, SessionError> {
        self.front.session(options).await
    }

    /// Runs a query; see [`Database::query`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn query(
        &self,
        request: Request,
        options: QueryOptions,
    ) -> Result<Answer, ReadError> {
        self.front.query(request, options).await
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.front.status()
    }

    /// A reader for the caller's own thread: no task, no queue, a committed prefix of this node (level none).
    #[must_use]
    pub fn reader(&self) -> LocalReader {
        self.replica.reader(&self.front.settings.sql)
    }

    /// Returns when the process has to end, with why (invariant 2).
    pub async fn failed(&self) -> Failure {
        let [log, settings] = self.failed.clone();
        tokio::select! {
            biased;
            failure = told(log) => failure,
            failure = told(settings) => failure,
            error = self.front.member.failed() => match error {
                MemberError::Machine(error) => Failure::Disk(error.to_string()),
                other => Failure::Raft(other.to_string()),
            },
        }
    }

    /// Takes back what sessions hold open, hands leadership over and ends Raft: writes and strict reads go to the other nodes from here on. A front may still
    /// answer clients; [`stop`](Self::stop) comes next.
    pub async fn retire(&self) {
        self.front.sessions.stop();
        self.front.member.stop().await;
        self.front.sessions.emptied().await;
    }

    /// Stops in order: admits nothing more, hands leadership over, ends Raft, writes a checkpoint, closes the log,
    /// releases the data directory.
    pub async fn stop(mut self) {
        self.retire().await;
        let trusted = self.front.member.status().out_of_service.is_none();
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        let (machine, log) = (self.machine.clone(), self.log.clone());
        let (sender, receiver) = oneshot::channel();
        let last = Actor::start(&*self.env.executor, "stop", 1, ());
        let queued = last.send(move |()| {
            // A state that isn't trusted isn't made durable (safety rule 16).
            if trusted
                && let Some(durable) = log.durable()
                && let Err(error) = machine.checkpoint(durable, true)
            {
                tracing::warn!(%error, "no checkpoint at the end; the next start replays the log");
            }
            log.close(Box::new(move || {
                sender.send(()).ok();
            }));
        });
        assert_eq!(queued, Ok(()), "the worker was just started");
        receiver.await.ok();
        drop(self.lock);
    }
}

/// Waits for a failure; for ever if whoever would tell has ended without one.
async fn told(mut heard: watch::Receiver<Option<Failure>>) -> Failure {
    match heard.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(failure)) => failure.clone(),
        _ => std::future::pending().await,
    }
}
