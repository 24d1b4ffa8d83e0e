//! What a member has to find out by itself.
//!
//! A node that is removed isn't told by Raft: the entry that removes it isn't sent to it any more. When it
//! hears from no leader, it asks the members it knows; if those of its cluster go on without it, it says so
//! in its status. It goes on asking, so that a mistake heals. It disturbs nobody: with pre-vote, whoever hears a
//! leader grants it nothing.

use crate::member::client::{Answer, Ask};
use crate::member::founding::Greeting;
use crate::member::standing::{Role, Standing};
use crate::member::{Inner, Side};
use crate::{EntryId, NodeId, StateMachine};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A node without word from a leader for this long asks others, and again after as long.
const LOOK_OUT: Duration = Duration::from_secs(2);

/// Runs until the member ends.
pub(crate) async fn lookout<M: StateMachine>(inner: Arc<Inner<M>>) {
    loop {
        tokio::time::sleep(LOOK_OUT).await;
        let removed = is_left_alone(&inner) && is_gone_on_without(&inner).await;
        let was = inner.operation.removed.send_replace(removed);
        if removed && !was {
            let node = inner.shared.node;
            tracing::warn!(%node, "this node was removed from its cluster");
        }
    }
}

/// Whether it belongs to a cluster and hears from no leader.
fn is_left_alone<M: StateMachine>(inner: &Inner<M>) -> bool {
    let side = inner.shared.side.borrow().clone();
    let alone = inner.shared.contact.age().is_none_or(|age| age >= LOOK_OUT);
    let leads = Standing::of(&inner.raft).role == Role::Leader;
    alone && !leads && side.members_at.is_some()
}

async fn is_gone_on_without<M: StateMachine>(inner: &Inner<M>) -> bool {
    let side: Arc<Side> = inner.shared.side.borrow().clone();
    let node = inner.shared.node;
    for (other, peer) in side.members.peers.iter().filter(|(id, _)| **id != node) {
        let deadline = Instant::now() + LOOK_OUT;
        let told = inner.lines.call(*other, peer, Ask::Greet, deadline).await;
        if let Ok(Answer::Greeting(greeting)) = told
            && says_removed(&greeting, node, &side)
        {
            return true;
        }
    }
    false
}

/// Whether a member of the same cluster that hears a leader knows newer members, without `node`.
fn says_removed(greeting: &Greeting, node: NodeId, side: &Side) -> bool {
    let newer = |theirs: Option<EntryId>| theirs >= side.members_at;
    greeting.cluster == side.cluster
        && greeting.leader.is_some()
        && newer(greeting.members_at)
        && !greeting.members.contains_key(&node)
}
