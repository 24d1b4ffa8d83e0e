//! Sessions by name, on whatever node they live. In page mode one that may write lives on the leader: whoever is asked for it has it
//! opened there.

use super::Registry;
use super::drafting::Drafting;
use super::holding::Holding;
use super::reading::Reading;
use super::transaction::Transaction;
use crate::front::{Front, QUERY_WAIT_MAX, SqlMachine};
use crate::peer::{self, Ask};
use crate::{Mode, WRITE_WAIT_MAX};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sqlrep_core::{AskError, Member, NodeId, WriteError};
use sqlrep_service::{
    Committed, SESSION_MAX, Session, SessionError, SessionId, SessionOptions, Sessions,
    WRITER_WAIT_MAX,
};
use sqlrep_sql::{Begin, Reply, Request};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer of a session's node is waited for beyond the time that the session has itself.
const GRACE: Duration = Duration::from_secs(5);

/// Between two nodes that are asked for a session as the leader.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A call for a session of another node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum SessionCall {
    Run(Request),
    Commit,
    Rollback,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Told {
    Ran(Reply),
    Committed(Committed),
    RolledBack,
    Opened(SessionId),
}

/// Sessions of all nodes, as this node reaches them.
pub(super) struct Reach<M: SqlMachine> {
    node: NodeId,
    member: Member<M>,
    registry: Arc<Registry>,
}

impl<M: SqlMachine> Clone for Reach<M> {
    fn clone(&self) -> Self {
        Self {
            node: self.node,
            member: self.member.clone(),
            registry: self.registry.clone(),
        }
    }
}

impl Registry {
    /// Makes a call here.
    pub(crate) async fn call(
        &self,
        session: SessionId,
        call: SessionCall,
    ) -> Result<Told, SessionError> {
        match call {
            SessionCall::Run(request) => self.run(session, request).await.map(Told::Ran),
            SessionCall::Commit => self.commit(session).await.map(Told::Committed),
            SessionCall::Rollback => self.rollback(session).await.map(|()| Told::RolledBack),
        }
    }
}

impl<M: SqlMachine> Front<M> {
    /// The mode's transaction for these options.
    async fn transaction(
        &self,
        options: &SessionOptions,
    ) -> Result<Box<dyn Transaction>, SessionError> {
        let ground = self.ground.clone();
        if options.begin == Begin::Read {
            return Ok(Box::new(Reading::begin(ground, options).await?));
        }
        let options = options.clone();
        Ok(match (ground.mode, options.begin) {
            (Mode::Statement, Begin::Immediate) => {
                Box::new(Drafting::immediate(ground, options).await?)
            }
            (Mode::Statement, _) => Box::new(Drafting::deferred(ground, options)),
            (Mode::Page, Begin::Immediate) => Box::new(Holding::immediate(ground, options).await?),
            (Mode::Page, _) => Box::new(Holding::deferred(ground, options)?),
        })
    }

    /// Opens one that lives here.
    pub(crate) async fn open_here(
        &self,
        options: &SessionOptions,
    ) -> Result<SessionId, SessionError> {
        let place = self.sessions.reserve()?;
        let options = SessionOptions {
            idle_max: options.idle_max.min(SESSION_MAX),
            total_max: options.total_max.min(SESSION_MAX),
            ..options.clone()
        };
        let transaction = Box::pin(self.transaction(&options)).await?;
        Ok(self.sessions.fill(place, transaction, &options))
    }

    /// Opens one on the leader, whoever that is; waits for one as a write does.
    async fn open_there(&self, options: SessionOptions) -> Result<SessionId, SessionError> {
        let until = Instant::now() + WRITER_WAIT_MAX;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let leader = self.member.leader(left).await?;
            let opened = match leader == self.facts.node {
                true => self.open_here(&options).await,
                false => self.reach().open(leader, options.clone()).await,
            };
            match opened {
                Err(SessionError::Write(WriteError::NotLeader { .. } | WriteError::NotDone))
                    if Instant::now() < until =>
                {
                    // Whoever was asked has lost it, or hasn't heard of it yet.
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                opened => return opened,
            }
        }
    }

    /// Nobody has heard of this session.
    pub(crate) fn abandon(&self, session: SessionId) {
        self.reach().abandon(session);
    }

    fn reach(&self) -> Reach<M> {
        Reach {
            node: self.facts.node,
            member: self.member.clone(),
            registry: self.sessions.clone(),
        }
    }
}

impl<M: SqlMachine> Reach<M> {
    async fn open(
        &self,
        leader: NodeId,
        options: SessionOptions,
    ) -> Result<SessionId, SessionError> {
        let wait_max = WRITER_WAIT_MAX + options.bound.wait_max.unwrap_or(QUERY_WAIT_MAX);
        match self.ask(leader, &Ask::Open { options }, wait_max).await {
            Ok(Told::Opened(session)) => Ok(session),
            Ok(other) => Err(strange(other)),
            // One that was opened all the same does nothing, and idles to its end.
            Err(SessionError::Write(WriteError::Unknown { cause })) => {
                Err(SessionError::Unreachable(cause))
            }
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, node: NodeId, ask: &Ask, wait_max: Duration) -> Result<Told, SessionError> {
        let ask = peer::encode(ask);
        let asked = self.member.ask(node, ask, wait_max + GRACE).await;
        match peer::decode(&asked.map_err(unanswered)?) {
            Ok(peer::Answer::Session(outcome)) => outcome,
            Ok(peer::Answer::Refused(what)) => Err(SessionError::Unreachable(what)),
            Ok(_) => Err(unknown("the session's node answered another question")),
            Err(what) => Err(unknown(&what)),
        }
    }

    async fn session_call(
        &self,
        session: SessionId,
        call: SessionCall,
    ) -> Result<Told, SessionError> {
        let owner = session.owner();
        if owner == self.node {
            return self.registry.call(session, call).await;
        }
        let wait_max = match call {
            SessionCall::Run(_) => SESSION_MAX,
            // A statement may run out its time before it.
            SessionCall::Commit | SessionCall::Rollback => WRITE_WAIT_MAX + SESSION_MAX,
        };
        self.ask(owner, &Ask::Session { session, call }, wait_max)
            .await
    }

    pub(super) async fn run(
        &self,
        session: SessionId,
        request: Request,
    ) -> Result<Reply, SessionError> {
        match self
            .session_call(session, SessionCall::Run(request))
            .await?
        {
            Told::Ran(reply) => Ok(reply),
            other => Err(strange(other)),
        }
    }

    pub(super) async fn commit(&self, session: SessionId) -> Result<Committed, SessionError> {
        match self.session_call(session, SessionCall::Commit).await? {
            Told::Committed(committed) => Ok(committed),
            other => Err(strange(other)),
        }
    }

    pub(super) async fn rollback(&self, session: SessionId) -> Result<(), SessionError> {
        match self.session_call(session, SessionCall::Rollback).await? {
            Told::RolledBack => Ok(()),
            other => Err(strange(other)),
        }
    }

    /// Its only user is gone. A session of another node that doesn't hear of it ends when it has idled for long enough.
    pub(super) fn abandon(&self, session: SessionId) {
        if session.owner() == self.node {
            return self.registry.abandon(session);
        }
        let reach = self.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let told = reach.rollback(session).await;
                tracing::debug!(%session, ?told, "its user is gone");
            });
        }
    }
}

fn unknown(cause: &str) -> SessionError {
    let cause = cause.to_owned();
    WriteError::Unknown { cause }.into()
}

/// What a call without an answer means.
fn unanswered(error: AskError) -> SessionError {
    match error {
        AskError::Unreachable { .. } => SessionError::Unreachable(error.to_string()),
        AskError::Overloaded { .. } => WriteError::Overloaded.into(),
        AskError::Stopped => WriteError::Stopped.into(),
        AskError::TooLarge { bytes, limit_bytes } => {
            WriteError::TooLarge { bytes, limit_bytes }.into()
        }
        error => unknown(&error.to_string()),
    }
}

fn strange(_: Told) -> SessionError {
    unknown("the session's node answered another call")
}

#[async_trait]
impl<M: SqlMachine> Sessions for Front<M> {
    async fn open(&self, options: SessionOptions) -> Result<SessionId, SessionError> {
        let reads = options.begin == Begin::Read || self.ground.mode == Mode::Statement;
        match reads {
            true => self.open_here(&options).await,
            false => Box::pin(self.open_there(options)).await,
        }
    }

    async fn run(&self, session: SessionId, request: Request) -> Result<Reply, SessionError> {
        self.reach().run(session, request).await
    }

    async fn commit(&self, session: SessionId) -> Result<Committed, SessionError> {
        self.reach().commit(session).await
    }

    async fn rollback(&self, session: SessionId) -> Result<(), SessionError> {
        self.reach().rollback(session).await
    }
}

impl<M: SqlMachine> Front<M> {
    /// A session for one user of this process.
    pub(crate) async fn session(
        &self,
        options: SessionOptions,
    ) -> Result<Box<dyn Session>, SessionError> {
        let id = self.open(options).await?;
        let reach = self.reach();
        Ok(Box::new(Handle { reach, id }))
    }
}

/// A session in the hand of its only user.
struct Handle<M: SqlMachine> {
    reach: Reach<M>,
    id: SessionId,
}

impl<M: SqlMachine> Drop for Handle<M> {
    fn drop(&mut self) {
        self.reach.abandon(self.id);
    }
}

#[async_trait]
impl<M: SqlMachine> Session for Handle<M> {
    async fn run(&mut self, request: Request) -> Result<Reply, SessionError> {
        self.reach.run(self.id, request).await
    }

    async fn commit(&mut self) -> Result<Committed, SessionError> {
        self.reach.commit(self.id).await
    }

    async fn rollback(&mut self) -> Result<(), SessionError> {
        self.reach.rollback(self.id).await
    }
}
