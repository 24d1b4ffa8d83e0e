//! What transactions of a node stand on: its member, its pages, and workers for what blocks.

use crate::front::SqlMachine;
use crate::{ClusterSettings, Mode, QUERY_RUN_MAX};
use sqlrep_core::{LogIndex, Member, ReadBound, ReadError, ReadLevel};
use sqlrep_env::{Env, Pool};
use sqlrep_replica::{Replica, ReplicaError};
use sqlrep_service::{End, SessionError, SessionOptions};
use sqlrep_sql::SqlFailure;
use sqlrep_store::{Pin, PinKind};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Workers that run what sessions do. A statement of one holds up the others only when all are at work.
const WORKERS: usize = 4;

/// Jobs that may wait for them: each session has one at most, and one more that nobody waits for any longer.
const JOBS_MAX: usize = 2 * super::SESSIONS_MAX;

/// Shared by the transactions of a node.
pub(crate) struct Ground<M: SqlMachine> {
    pub(crate) member: Member<M>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) env: Env,
    pub(crate) settings: ClusterSettings,
    pub(crate) mode: Mode,
    pool: Pool,
}

/// A version that a transaction stands on.
pub(super) struct Version {
    pub(super) pin: Arc<Pin>,
    /// Which database of this node it belongs to: an install makes another one.
    generation: u64,
}

impl Version {
    pub(super) fn index(&self) -> LogIndex {
        let position = self.pin.end().position;
        LogIndex(position.map_or(0, |position| position.index))
    }
}

impl<M: SqlMachine> Ground<M> {
    pub(crate) fn new(
        member: Member<M>,
        replica: Arc<Replica>,
        env: Env,
        settings: ClusterSettings,
        mode: Mode,
    ) -> Self {
        let pool = Pool::start(&*env.executor, "session", WORKERS, JOBS_MAX);
        Self {
            member,
            replica,
            env,
            settings,
            mode,
            pool,
        }
    }

    /// Pins the newest version, under a permit for it.
    pub(super) async fn pin(&self, options: &SessionOptions) -> Result<Version, ReadError> {
        let (level, bound) = (options.level, options.bound);
        let mut permit = match self.member.permit(level, bound).await {
            Err(ReadError::NotLeader { leader: Some(_) }) if local(level) => {
                self.member.permit(ReadLevel::Linearizable, bound).await?
            }
            permit => permit?,
        };
        loop {
            let store = self.replica.store();
            let generation = store.generation();
            let pin = Arc::new(store.pin(PinKind::Sql));
            match self.member.recheck(&permit).await? {
                None => return Ok(Version { pin, generation }),
                Some(again) => permit = again,
            }
        }
    }

    /// A node that doesn't trust its state shows nothing more of it.
    pub(super) async fn trusted(&self) -> Result<(), SessionError> {
        let asked = self.member.permit(ReadLevel::None, ReadBound::default());
        match asked.await {
            Ok(_) => Ok(()),
            Err(error) => Err(SessionError::Ended(End::Failed(error.to_string()))),
        }
    }

    /// Runs `job` on a worker. What it owns is lost if the future is dropped, or no worker takes it.
    pub(super) async fn on_worker<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SessionError> {
        let (sender, receiver) = oneshot::channel();
        let sent = self.pool.send(move || {
            if !sender.is_closed() {
                // Nobody waits: what comes back is dropped here.
                drop(sender.send(job()));
            }
        });
        let lost = |what: &str| SessionError::Ended(End::Failed(what.to_owned()));
        sent.map_err(|_| lost("too many statements of sessions are waiting"))?;
        receiver.await.map_err(|_| lost("the node is stopping"))
    }

    /// What a failure of this node means for a session, and for the node (safety rule 7).
    pub(super) fn failed(&self, version: &Version, failure: SqlFailure) -> SessionError {
        let error = ReplicaError::from(failure);
        let end = SessionError::Ended(End::Failed(error.to_string()));
        // Pages of a database that an install has replaced tell nothing about the one that serves.
        if self.replica.store().generation() != version.generation {
            return end;
        }
        crate::front::unread(&self.member, error);
        end
    }
}

/// Whether only the leader could read at this level.
fn local(level: ReadLevel) -> bool {
    matches!(level, ReadLevel::Weak | ReadLevel::Auto)
}

/// How long one call of a read may run.
pub(super) fn run_until(env: &Env) -> sqlrep_env::Moment {
    env.clock.now().after(QUERY_RUN_MAX)
}
