//! A job on a worker, or a call of a log, waited for: how async code uses what blocking code owns.

use crate::{Done, StorageError};
use sqlrep_env::Actor;
use tokio::sync::oneshot;

/// Why a job gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The worker's queue is at its limit; the job was dropped unrun.
    QueueFull,
    /// The worker has ended.
    Ended,
}

impl NoAnswer {
    /// For callers that never fill the queue, which `invariant` says why.
    ///
    /// # Panics
    ///
    /// If it was full.
    pub(crate) fn assert_ended(self, invariant: &str) {
        assert_eq!(self, Self::Ended, "{invariant}");
    }
}

/// Runs `job` on `worker`, and waits for what it gives.
pub(crate) async fn answered<S, T: Send + 'static>(
    worker: &Actor<S>,
    job: impl FnOnce(&mut S) -> T + Send + 'static,
) -> Result<T, NoAnswer> {
    let answer = asked(worker, job)?;
    answer.await.map_err(|_| NoAnswer::Ended)
}

/// Queues `job` on `worker`; what it gives comes over the channel, which is closed unused if the worker has ended.
pub(crate) fn asked<S, T: Send + 'static>(
    worker: &Actor<S>,
    job: impl FnOnce(&mut S) -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, NoAnswer> {
    let (sender, receiver) = oneshot::channel();
    let sent = worker.send(move |state| {
        // The waiting side is gone only if whoever asked has ended.
        sender.send(job(state)).ok();
    });
    sent.map_err(|_| NoAnswer::QueueFull)?;
    Ok(receiver)
}

/// Has `start` called with a callback of a log, and waits for it; [`NoAnswer::Ended`] if it was dropped uncalled.
pub(crate) async fn called<T: Send + 'static>(
    start: impl FnOnce(Done<T>),
) -> Result<Result<T, StorageError>, NoAnswer> {
    let (sender, receiver) = oneshot::channel();
    start(Box::new(move |result| {
        // The waiting side is gone only if whoever asked has ended.
        sender.send(result).ok();
    }));
    receiver.await.map_err(|_| NoAnswer::Ended)
}
