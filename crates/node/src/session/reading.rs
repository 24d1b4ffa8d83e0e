//! A transaction that only reads, in both modes: one version, pinned at its begin. It never waits for writers. Page mode's
//! deferred transaction is one, too, until its first write.

use super::ground::{Ground, Version, run_until};
use super::transaction::{Ran, Transaction};
use crate::front::SqlMachine;
use async_trait::async_trait;
use sqlrep_service::{Committed, End, SessionError, SessionOptions};
use sqlrep_sql::{Cancel, ReadLimits, Reader, Reply, Request, Shape, SqlFailure};
use std::sync::Arc;

pub(super) struct Reading<M: SqlMachine> {
    ground: Arc<Ground<M>>,
    version: Version,
    /// None while it is with a worker.
    reader: Option<Reader>,
}

/// Stops a read that nobody waits for any more.
struct Stop(Cancel);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl<M: SqlMachine> Reading<M> {
    pub(super) async fn begin(
        ground: Arc<Ground<M>>,
        options: &SessionOptions,
    ) -> Result<Self, SessionError> {
        let version = ground.pin(options).await?;
        let (store, env) = (ground.replica.store().clone(), ground.env.clone());
        let (settings, pin) = (ground.settings.sql.clone(), version.pin.clone());
        let functions = ground.replica.functions().clone();
        let open =
            move || Reader::open_at(&store, &env, &settings, pin)?.with_functions(&functions);
        let opened = ground.on_worker(open).await?;
        let reader = opened.map_err(|failure| ground.failed(&version, failure))?;
        Ok(Self {
            ground,
            version,
            reader: Some(reader),
        })
    }
}

/// Tells whether a reader isn't enough for a request.
pub(super) type IsTooMuch = fn(&mut Reader, &Request) -> Result<bool, SqlFailure>;

fn writes(reader: &mut Reader, request: &Request) -> Result<bool, SqlFailure> {
    reader.is_read_only(request).map(|reads| !reads)
}

/// None: a reader isn't enough.
fn read(
    reader: &mut Reader,
    request: &Request,
    limits: &ReadLimits,
    is_too_much: IsTooMuch,
) -> Result<Option<Reply>, SqlFailure> {
    if is_too_much(reader, request)? {
        return Ok(None);
    }
    reader.run(request, limits).map(Some)
}

impl<M: SqlMachine> Reading<M> {
    /// Runs a request unless a reader isn't enough for it: then nothing of it, and none is the answer.
    pub(super) async fn attempt(
        &mut self,
        request: Request,
        is_too_much: IsTooMuch,
    ) -> Result<Option<Ran>, SessionError> {
        self.ground.trusted().await?;
        let lost = || SessionError::Ended(End::Failed("its reader is lost".to_owned()));
        let mut reader = self.reader.take().ok_or_else(lost)?;
        let limits = ReadLimits {
            run_until: Some(run_until(&self.ground.env)),
            ..ReadLimits::default()
        };
        let _stop = Stop(limits.cancel.clone());
        let request = Request {
            transaction: false,
            shape: Shape::Request,
            ..request
        };
        let job = move || (read(&mut reader, &request, &limits, is_too_much), reader);
        let (ran, reader) = self.ground.on_worker(job).await?;
        self.reader = Some(reader);
        match ran {
            Ok(reply) => Ok(reply.map(|reply| Ran { reply, over: None })),
            Err(failure) => Err(self.ground.failed(&self.version, failure)),
        }
    }

    /// Which version it reads, as the store counts them.
    pub(super) fn version(&self) -> u64 {
        self.version.pin.end().version.0
    }
}

#[async_trait]
impl<M: SqlMachine> Transaction for Reading<M> {
    async fn run(&mut self, request: Request) -> Result<Ran, SessionError> {
        let ran = self.attempt(request, writes).await?;
        ran.ok_or(SessionError::ReadOnly)
    }

    async fn commit(&mut self) -> Result<Committed, SessionError> {
        Ok(Committed {
            at: self.version.index(),
            wrote: false,
        })
    }
}
