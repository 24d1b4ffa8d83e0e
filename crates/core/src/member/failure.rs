//! The end that nobody asked for: log or state failed to write for good, or Raft's own task ended. The process has to end.

use super::Member;
use crate::{MemberError, StateMachine};

impl<M: StateMachine> Member<M> {
    /// Waits until this member has failed, and tells why. It never returns for one that was stopped.
    pub async fn failed(&self) -> MemberError {
        let mut ended = self.inner.shared.ended.subscribe();
        let of_state = async {
            match ended.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(error)) => error.clone(),
                // The sender is a field of `shared`, and somebody waits on a member.
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            error = of_state => error,
            error = self.raft_ended() => error,
        }
    }

    async fn raft_ended(&self) -> MemberError {
        use openraft::async_runtime::WatchReceiver;
        let inner = &self.inner;
        // They end with Raft's task, which tells why before; entries don't change them.
        let mut changes = inner.raft.server_metrics();
        let why = loop {
            let ended = changes.changed().await.is_err();
            match self.progress() {
                (_, Some(why)) => break why,
                _ if ended => break "raft's task ended".to_owned(),
                _ => {}
            }
        };
        if inner.queue.is_closed() {
            std::future::pending::<()>().await;
        }
        let node = inner.shared.node;
        MemberError::Stopped { node, why }
    }
}
