//! `service::Database` over a member and its readers, whatever the mode.
//!
//! ```text
//!   execute ─► Member::write ─────────────► reply            (forwarded by core where another node leads)
//!   query   ─► Member::permit ─► reader ─► recheck ─► rows
//!                 └ not the leader, weak ─► leader's node ─► rows
//! ```
//!
//! Invariant 1: a reader is used only under a permit that was given after the query came.
//! Invariant 2: rows of level weak leave only if the lease still stood after they were computed; else they are
//! computed again as linearizable (safety rule 42).

use crate::ClusterSettings;
use crate::peer::{self, Ask};
use crate::session::{Ground, Registry};
use async_trait::async_trait;
use sqlrep_core::{
    EntryId, Member, NodeId, ReadBound, ReadError, ReadLevel, ReadPermit, Route, StateMachine,
    WriteError,
};
use sqlrep_env::{Env, Latency};
use sqlrep_replica::{QueryJob, ReadOnlyJob, Readers, ReplicaError};
use sqlrep_service::{
    Answer, Database, QueryOptions, Session, SessionError, SessionOptions, WriteOptions,
};
use sqlrep_sql::{ReadLimits, Reply, Request};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a write waits that doesn't say.
pub const WRITE_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a query's SQL runs at most if it doesn't say: a reader connection isn't lent for ever.
pub const QUERY_RUN_MAX: Duration = Duration::from_secs(60);

/// How long a forwarded query waits for the leader's answer beyond its own limits.
const FORWARD_GRACE: Duration = Duration::from_secs(1);

/// How long a query waits for its permit if it doesn't say.
pub const QUERY_WAIT_MAX: Duration = Duration::from_secs(10);

/// A state machine of SQL.
pub(crate) trait SqlMachine: StateMachine<Request = Request, Reply = Reply> {}

impl<M: StateMachine<Request = Request, Reply = Reply>> SqlMachine for M {}

/// What clients of this node are served by.
pub(crate) struct Front<M: SqlMachine> {
    pub(crate) member: Member<M>,
    pub(crate) readers: Readers,
    pub(crate) env: Env,
    pub(crate) settings: ClusterSettings,
    pub(crate) facts: crate::admin::Facts,
    /// Those that live here.
    pub(crate) sessions: Arc<Registry>,
    pub(crate) ground: Arc<Ground<M>>,
    /// Acknowledged writes, forwarded ones too.
    pub(crate) writes: Latency,
    /// Answered queries.
    pub(crate) queries: Latency,
}

/// Where a query goes that this node may not answer.
enum Permitted {
    Here(ReadPermit),
    At(NodeId),
}

impl<M: SqlMachine> Front<M> {
    async fn permitted(&self, level: ReadLevel, bound: ReadBound) -> Result<Permitted, ReadError> {
        match self.member.permit(level, bound).await {
            Ok(permit) => Ok(Permitted::Here(permit)),
            Err(ReadError::NotLeader {
                leader: Some(leader),
            }) if leader != self.facts.node => Ok(Permitted::At(leader)),
            Err(error) => Err(error),
        }
    }

    /// Runs a query on this node; `At` if only another one may.
    pub(crate) async fn query_here(
        &self,
        request: &Request,
        level: ReadLevel,
        bound: ReadBound,
        run_max: Option<Duration>,
    ) -> Result<Result<(Reply, Option<EntryId>), NodeId>, ReadError> {
        let permit = match self.permitted(level, bound).await? {
            Permitted::Here(permit) => permit,
            Permitted::At(leader) => return Ok(Err(leader)),
        };
        let reply = self.read(request, run_max).await?;
        let strong = permit.level == ReadLevel::Strong;
        let barrier = strong.then_some(permit.at).flatten();
        match self.member.recheck(&permit).await? {
            None => Ok(Ok((reply, barrier))),
            Some(_) => Ok(Ok((self.read(request, run_max).await?, None))),
        }
    }

    /// Runs a query on a reader (invariant 1).
    pub(crate) async fn read(
        &self,
        request: &Request,
        run_max: Option<Duration>,
    ) -> Result<Reply, ReadError> {
        let run_max = run_max.unwrap_or(QUERY_RUN_MAX).min(QUERY_RUN_MAX);
        let limits = ReadLimits {
            run_until: Some(self.env.clock.now().after(run_max)),
            ..ReadLimits::default()
        };
        let (sender, receiver) = oneshot::channel();
        let job = QueryJob {
            request: request.clone(),
            limits,
            done: Box::new(move |outcome| {
                // A client that is gone doesn't want its rows.
                sender.send(outcome).ok();
            }),
        };
        // Dropped with this future: a client that is gone holds neither place nor reader.
        let queued = self.readers.query(job);
        let _ticket = queued.map_err(|_| ReadError::Overloaded)?;
        match receiver.await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(unread(&self.member, error)),
            Err(_) => Err(ReadError::Stopped),
        }
    }

    /// Has the leader's node run a query.
    async fn forward(
        &self,
        leader: NodeId,
        request: &Request,
        options: &QueryOptions,
    ) -> Result<(Reply, Option<EntryId>), ReadError> {
        let ask = Ask::Query {
            request: request.clone(),
            level: options.level,
            bound: options.bound,
            run_max: options.run_max,
        };
        let run_max = options.run_max.unwrap_or(QUERY_RUN_MAX);
        let permit_max = options.bound.wait_max.unwrap_or(QUERY_WAIT_MAX);
        let wait_max = run_max + permit_max + FORWARD_GRACE;
        let asked = self.member.ask(leader, peer::encode(&ask), wait_max).await;
        let answer = asked.map_err(|error| ReadError::Failed {
            what: format!("the leader {leader} didn't answer: {error}"),
        })?;
        match peer::decode(&answer) {
            Ok(peer::Answer::Query(outcome)) => outcome,
            Ok(peer::Answer::Refused(what)) | Err(what) => Err(ReadError::Failed { what }),
            Ok(_) => Err(ReadError::Failed {
                what: "the leader answered another question".to_owned(),
            }),
        }
    }

    /// The raft address of another node that served.
    fn address(&self, node: NodeId) -> Option<String> {
        if node == self.facts.node {
            return None;
        }
        let cluster = self.member.membership().borrow().clone();
        let member = cluster.members.get(&node);
        member.map(|member| member.peer.raft.clone())
    }
}

/// A reader's failure. Pages that read back wrong, or not at all, take this node out of service: the next query might
/// meet one that looks right (safety rule 7).
pub(crate) fn unread<M: SqlMachine>(member: &Member<M>, error: ReplicaError) -> ReadError {
    let what = error.to_string();
    if error.is_damage() {
        member.distrust(&error.into());
        return ReadError::Quarantined;
    }
    if error.is_unreadable() {
        member.suspend(&error.into());
        return ReadError::Quarantined;
    }
    ReadError::Failed { what }
}

#[async_trait]
impl<M: SqlMachine> Database for Front<M> {
    async fn execute(&self, request: Request, options: WriteOptions) -> Result<Answer, WriteError> {
        let (bytes, limit_bytes) = (
            u64::try_from(request.size_bytes()).unwrap_or(u64::MAX),
            self.settings.request_bytes_max,
        );
        if bytes > limit_bytes {
            return Err(WriteError::TooLarge { bytes, limit_bytes });
        }
        let wait_max = options.wait_max.unwrap_or(WRITE_WAIT_MAX);
        let since = self.env.clock.now();
        let written = self
            .member
            .write_keyed(request, options.key, Route::Forward, wait_max)
            .await?;
        self.writes.observe(self.env.clock.now().since(since));
        Ok(Answer {
            reply: written.reply,
            entry: Some(written.at),
            served_by: self.address(written.by),
            replayed: written.replayed,
        })
    }

    async fn query(&self, request: Request, options: QueryOptions) -> Result<Answer, ReadError> {
        let (level, bound, run_max) = (options.level, options.bound, options.run_max);
        let since = self.env.clock.now();
        let here = self.query_here(&request, level, bound, run_max).await?;
        let (reply, entry, served_by) = match here {
            Ok((reply, entry)) => (reply, entry, None),
            Err(leader) => {
                let (reply, entry) = self.forward(leader, &request, &options).await?;
                (reply, entry, self.address(leader))
            }
        };
        self.queries.observe(self.env.clock.now().since(since));
        Ok(Answer {
            reply,
            entry,
            served_by,
            replayed: false,
        })
    }

    async fn is_read_only(&self, request: &Request) -> bool {
        let (sender, receiver) = oneshot::channel();
        let job = ReadOnlyJob {
            request: request.clone(),
            done: Box::new(move |read_only| {
                // A client that is gone doesn't want to know.
                sender.send(read_only).ok();
            }),
        };
        // What can't be asked goes the way of a write, which is right for both.
        match self.readers.is_read_only(job) {
            Ok(_ticket) => matches!(receiver.await, Ok(Ok(true))),
            Err(_) => false,
        }
    }

    async fn begin(&self, options: SessionOptions) -> Result<Box<dyn Session>, SessionError> {
        self.session(options).await
    }
}
