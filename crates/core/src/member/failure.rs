//! The end that nobody asked for: the log failed for good, or Raft's own task did. The process has to end.

use super::Member;
use crate::{MemberError, StateMachine};

impl<M: StateMachine> Member<M> {
    /// Waits until this member has failed, and tells why. It never returns for one that was stopped.
    pub async fn failed(&self) -> MemberError {
        use openraft::async_runtime::WatchReceiver;
        let inner = &self.inner;
        let mut changes = inner.raft.metrics();
        let why = loop {
            if let (_, Some(why)) = self.progress() {
                break why;
            }
            if changes.changed().await.is_err() {
                break "raft's task ended".to_owned();
            }
        };
        if inner.queue.is_closed() {
            std::future::pending::<()>().await;
        }
        let node = inner.shared.node;
        MemberError::Stopped { node, why }
    }
}
