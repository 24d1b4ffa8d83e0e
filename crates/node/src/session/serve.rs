//! Sessions by name, on whatever node they live.

use super::Registry;
use super::drafting::Drafting;
use super::reading::Reading;
use super::registry::Handle;
use super::transaction::Transaction;
use crate::WRITE_WAIT_MAX;
use crate::front::{Front, SqlMachine};
use crate::peer::{self, Ask};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sqlrep_core::{AskError, WriteError};
use sqlrep_service::{
    Committed, SESSION_MAX, Session, SessionError, SessionId, SessionOptions, Sessions,
};
use sqlrep_sql::{Begin, Reply, Request};
use std::time::Duration;

/// How long an answer of a session's node is waited for beyond the time that the session has itself.
const GRACE: Duration = Duration::from_secs(5);

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
        Ok(match options.begin {
            Begin::Immediate => Box::new(Drafting::immediate(ground, options.clone()).await?),
            _ => Box::new(Drafting::deferred(ground, options.clone())),
        })
    }

    async fn session_call(
        &self,
        session: SessionId,
        call: SessionCall,
    ) -> Result<Told, SessionError> {
        let owner = session.owner();
        if owner == self.facts.node {
            return self.sessions.call(session, call).await;
        }
        let wait_max = match call {
            SessionCall::Run(_) => SESSION_MAX,
            // A statement may run out its time before it.
            SessionCall::Commit | SessionCall::Rollback => WRITE_WAIT_MAX + SESSION_MAX,
        };
        let ask = peer::encode(&Ask::Session { session, call });
        let asked = self.member.ask(owner, ask, wait_max + GRACE).await;
        match peer::decode(&asked.map_err(unanswered)?) {
            Ok(peer::Answer::Session(outcome)) => outcome,
            Ok(peer::Answer::Refused(what)) => Err(SessionError::Unreachable(what)),
            Ok(_) => Err(unknown("the session's node answered another question")),
            Err(what) => Err(unknown(&what)),
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
        let place = self.sessions.reserve()?;
        let options = SessionOptions {
            idle_max: options.idle_max.min(SESSION_MAX),
            total_max: options.total_max.min(SESSION_MAX),
            ..options
        };
        let transaction = Box::pin(self.transaction(&options)).await?;
        Ok(self.sessions.fill(place, transaction, &options))
    }

    async fn run(&self, session: SessionId, request: Request) -> Result<Reply, SessionError> {
        match self
            .session_call(session, SessionCall::Run(request))
            .await?
        {
            Told::Ran(reply) => Ok(reply),
            other => Err(strange(other)),
        }
    }

    async fn commit(&self, session: SessionId) -> Result<Committed, SessionError> {
        match self.session_call(session, SessionCall::Commit).await? {
            Told::Committed(committed) => Ok(committed),
            other => Err(strange(other)),
        }
    }

    async fn rollback(&self, session: SessionId) -> Result<(), SessionError> {
        match self.session_call(session, SessionCall::Rollback).await? {
            Told::RolledBack => Ok(()),
            other => Err(strange(other)),
        }
    }
}

impl<M: SqlMachine> Front<M> {
    /// A session for one user of this process.
    pub(crate) async fn session(
        &self,
        options: SessionOptions,
    ) -> Result<Box<dyn Session>, SessionError> {
        let id = self.open(options).await?;
        let registry = self.sessions.clone();
        Ok(Box::new(Handle { registry, id }))
    }
}
