//! The end of a member.

use crate::member::Member;
use crate::{StateMachine, WriteError};
use tokio::sync::oneshot;

impl<M: StateMachine> Member<M> {
    /// Stops: takes in nothing more, ends Raft, closes the writer and the transport. Requests that wait are
    /// handed back undone; those that are proposed are answered as unknown. A second call waits for the first.
    pub async fn stop(&self) {
        let inner = &self.inner;
        let mut stopped = inner.stopped.lock().await;
        if std::mem::replace(&mut *stopped, true) {
            return;
        }
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
