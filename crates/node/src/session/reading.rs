//! A transaction that only reads, in both modes: one version, pinned at its begin. It never waits for writers.

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

/// None: something would write.
fn read(
    reader: &mut Reader,
    request: &Request,
    limits: &ReadLimits,
) -> Result<Option<Reply>, SqlFailure> {
    if !reader.is_read_only(request)? {
        return Ok(None);
    }
    reader.run(request, limits).map(Some)
}

#[async_trait]
impl<M: SqlMachine> Transaction for Reading<M> {
    async fn run(&mut self, request: Request) -> Result<Ran, SessionError> {
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
        let job = move || (read(&mut reader, &request, &limits), reader);
        let (ran, reader) = self.ground.on_worker(job).await?;
        self.reader = Some(reader);
        match ran {
            Ok(Some(reply)) => Ok(Ran { reply, over: None }),
            Ok(None) => Err(SessionError::ReadOnly),
            Err(failure) => Err(self.ground.failed(&self.version, failure)),
        }
    }

    async fn commit(&mut self) -> Result<Committed, SessionError> {
        Ok(Committed {
            at: self.version.index(),
            wrote: false,
        })
    }
}
