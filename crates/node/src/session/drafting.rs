//! Statement mode's transaction that writes (safety rule 41).
//!
//! ```text
//!   first statement (immediate: at once) ─► pin a version, open a private writer over it
//!   statement ─► runs there; kept with its scene and the digest of its answer
//!   commit    ─► one request with all of it through the log ─► every node replays: the same again, or a conflict
//! ```
//!
//! It takes no place in any line of writers, and no leadership has to last: whatever leader proposes the COMMIT, the replay
//! decides.

use super::ground::{Ground, Version};
use super::transaction::{Ran, Transaction};
use crate::WRITE_WAIT_MAX;
use crate::front::SqlMachine;
use crate::machine::last_stamp;
use async_trait::async_trait;
use sqlrep_core::{LogIndex, Route, WriteError};
use sqlrep_replica::Scenes;
use sqlrep_service::{Committed, End, SessionError, SessionOptions};
use sqlrep_sql::{Draft, Drafted, Request, SqlFailure};
use sqlrep_vfs::rusqlite::InterruptHandle;
use std::sync::Arc;

pub(super) struct Drafting<M: SqlMachine> {
    ground: Arc<Ground<M>>,
    options: SessionOptions,
    state: State,
}

enum State {
    /// No statement came yet.
    Deferred,
    Open(Box<Open>),
    /// It is with a worker, or over.
    Away,
}

struct Open {
    draft: Draft,
    scenes: Scenes,
    version: Version,
}

/// Stops a statement that nobody waits for any more.
struct Stop(InterruptHandle);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

/// How the private COMMIT went.
enum Private {
    Nothing,
    Proposal(Box<Request>),
    StillOpen(Box<Open>, sqlrep_sql::SqlError),
    Over,
    Failed(Version, SqlFailure),
}

impl<M: SqlMachine> Drafting<M> {
    pub(super) fn deferred(ground: Arc<Ground<M>>, options: SessionOptions) -> Self {
        Self {
            ground,
            options,
            state: State::Deferred,
        }
    }

    /// Begins at once.
    pub(super) async fn immediate(
        ground: Arc<Ground<M>>,
        options: SessionOptions,
    ) -> Result<Self, SessionError> {
        let state = State::Open(open(&ground, &options).await?);
        Ok(Self {
            ground,
            options,
            state,
        })
    }

    /// Opens what is deferred. An error leaves it deferred.
    async fn opened(&mut self) -> Result<Box<Open>, SessionError> {
        if let State::Deferred = self.state {
            return open(&self.ground, &self.options).await;
        }
        match std::mem::replace(&mut self.state, State::Away) {
            State::Open(open) => Ok(open),
            State::Deferred | State::Away => {
                Err(over(End::Failed("its connection is lost".to_owned())))
            }
        }
    }

    /// What is kept has to be one request at the end.
    fn check(&self, draft: &Draft, request: &Request) -> Result<(), SessionError> {
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let settings = &self.ground.settings;
        let texts = wide(draft.texts()) + wide(request.statements.len());
        let bytes = wide(draft.bytes()) + wide(request.size_bytes());
        for (what, count, limit) in [
            ("statements", texts, u64::from(settings.sql.statements_max)),
            ("bytes", bytes, settings.request_bytes_max),
        ] {
            if count > limit {
                let what = what.to_owned();
                return Err(SessionError::TooLong { what, limit });
            }
        }
        Ok(())
    }
}

async fn open<M: SqlMachine>(
    ground: &Ground<M>,
    options: &SessionOptions,
) -> Result<Box<Open>, SessionError> {
    let version = ground.pin(options).await?;
    let last = last_stamp(ground.mode, &version.pin.end().side.mode);
    let last = last.map_err(|error| over(End::Failed(error.to_string())))?;
    let scenes = Scenes::begin(&ground.env, last);
    let (store, env) = (ground.replica.store().clone(), ground.env.clone());
    let (settings, pin) = (ground.settings.sql.clone(), version.pin.clone());
    let begin = move || Draft::begin(&store, &env, &settings, pin);
    let begun = ground.on_worker(begin).await?;
    let draft = begun.map_err(|failure| ground.failed(&version, failure))?;
    Ok(Box::new(Open {
        draft,
        scenes,
        version,
    }))
}

/// Through the log; the replay decides.
async fn propose<M: SqlMachine>(
    ground: &Ground<M>,
    request: Request,
) -> Result<Committed, SessionError> {
    let written = ground
        .member
        .write_keyed(request, None, Route::Forward, WRITE_WAIT_MAX);
    let written = Box::pin(written).await?;
    if !written.reply.outcomes.is_empty() {
        return Err(WriteError::Conflict.into());
    }
    Ok(Committed {
        at: written.at.index,
        wrote: true,
    })
}

fn over(end: End) -> SessionError {
    SessionError::Ended(end)
}

fn commit(mut open: Box<Open>) -> Private {
    match open.draft.commit() {
        Ok(Ok(None)) => Private::Nothing,
        Ok(Ok(Some(request))) => Private::Proposal(Box::new(request)),
        Ok(Err(error)) if open.draft.is_open() => Private::StillOpen(open, error),
        Ok(Err(_)) => Private::Over,
        Err(failure) => Private::Failed(open.version, failure),
    }
}

#[async_trait]
impl<M: SqlMachine> Transaction for Drafting<M> {
    async fn run(&mut self, request: Request) -> Result<Ran, SessionError> {
        self.ground.trusted().await?;
        let mut open = self.opened().await?;
        if let Err(error) = self.check(&open.draft, &request) {
            self.state = State::Open(open);
            return Err(error);
        }
        self.state = State::Away;
        let _stop = Stop(open.draft.interrupt_handle());
        let job = move || (open.draft.run(&request, || open.scenes.draw()), open);
        let (ran, open) = self.ground.on_worker(job).await?;
        match ran {
            Ok(Drafted { reply, open: true }) => {
                self.state = State::Open(open);
                Ok(Ran { reply, over: None })
            }
            Ok(Drafted { reply, open: false }) => Ok(Ran {
                reply,
                over: Some(End::Statement),
            }),
            Err(failure) => Err(self.ground.failed(&open.version, failure)),
        }
    }

    async fn commit(&mut self) -> Result<Committed, SessionError> {
        if let State::Deferred = self.state {
            let applied = self.ground.replica.applied().id;
            let at = applied.map_or(LogIndex(0), |id| id.index);
            return Ok(Committed { at, wrote: false });
        }
        self.ground.trusted().await?;
        let open = self.opened().await?;
        let at = open.version.index();
        match self.ground.on_worker(move || commit(open)).await? {
            Private::Nothing => Ok(Committed { at, wrote: false }),
            Private::Proposal(request) => propose(&self.ground, *request).await,
            Private::StillOpen(open, error) => {
                self.state = State::Open(open);
                Err(SessionError::Open(error))
            }
            Private::Over => Err(over(End::Statement)),
            Private::Failed(version, failure) => Err(self.ground.failed(&version, failure)),
        }
    }
}
