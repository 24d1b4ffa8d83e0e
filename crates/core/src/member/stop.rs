//! The end of a member (safety rule 20).
//!
//! ```text
//!   lead? hold, drain, transfer ─► no new writes ─► those under way end ─► close the queue ─► Raft ─► writer ─► transport
//! ```

use crate::member::{Inner, Member, Standing};
use crate::{StateMachine, WriteError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Counts the clients' writes that wait on this node for their outcome.
pub(crate) struct UnderWay(watch::Sender<Count>);

#[derive(Clone, Copy, Default)]
struct Count {
    writes: usize,
    closed: bool,
}

/// One of them.
pub(crate) struct Pass<'a>(&'a UnderWay);

impl UnderWay {
    pub(crate) fn new() -> Self {
        Self(watch::channel(Count::default()).0)
    }

    /// Lets a write in; none once the node stops.
    pub(crate) fn enter(&self) -> Option<Pass<'_>> {
        let mut entered = false;
        self.0.send_if_modified(|count| {
            entered = !count.closed;
            count.writes += usize::from(entered);
            entered
        });
        entered.then(|| Pass(self))
    }

    /// Lets no more in.
    fn close(&self) {
        self.0.send_modify(|count| count.closed = true);
    }

    /// Waits until none is left.
    async fn ended(&self) {
        let mut count = self.0.subscribe();
        // The sender is a field of `self`.
        count.wait_for(|count| count.writes == 0).await.ok();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| count.writes -= 1);
    }
}

impl<M: StateMachine> Member<M> {
    /// Stops. A leader hands over first: what is proposed commits, what waits is passed on to the next
    /// leader. Then it takes in nothing more, ends Raft, closes the writer and the transport. Within the
    /// bounds of the settings (`drain_ms`, twice, and `transfer_ms`) every write has its outcome; past them,
    /// what waits is handed back undone and what is proposed is answered as unknown. A second call waits for
    /// the first.
    pub async fn stop(&self) {
        let inner = &self.inner;
        let mut stopped = inner.stopped.lock().await;
        if std::mem::replace(&mut *stopped, true) {
            return;
        }
        Box::pin(inner.retire()).await;
        inner.queue.close(&WriteError::Stopped);
        // It fails only if Raft's task panicked; then it has stopped as well.
        if let Err(error) = inner.raft.shutdown().await {
            tracing::error!(node = %inner.shared.node, %error, "raft ended by itself");
        }
        inner.tasks.end();
        let cause = "the node stopped before it was committed".to_owned();
        inner
            .shared
            .in_flight
            .fail_all(&WriteError::Unknown { cause });
        let (sender, closed) = oneshot::channel();
        inner.shared.epochs.close(move || {
            sender.send(()).ok();
        });
        closed.await.ok();
        inner.transport.close();
    }
}

impl<M: StateMachine> Inner<M> {
    /// Gives everything away that others can go on with.
    async fn retire(&self) {
        let settings = &self.shared.settings;
        let drain = Duration::from_millis(settings.drain_ms);
        let bound = drain + Duration::from_millis(settings.transfer_ms);
        if tokio::time::timeout(bound, self.step_aside())
            .await
            .is_err()
        {
            tracing::warn!(node = %self.shared.node, "leadership wasn't handed over in time");
        }
        self.raft.runtime_config().elect(false);
        self.operation.under_way.close();
        let ended = tokio::time::timeout(drain, self.operation.under_way.ended());
        if ended.await.is_err() {
            tracing::warn!(node = %self.shared.node, "stops while writes wait for their outcome");
        }
    }

    /// Sees to it that another node leads, if one can.
    async fn step_aside(&self) {
        if Standing::of(&self.raft).leads(self.shared.node).is_some()
            && let Err(undone) = self.transfer_here(None).await
        {
            let error = undone.error();
            tracing::info!(node = %self.shared.node, %error, "no other node takes over from this one");
        }
    }
}
