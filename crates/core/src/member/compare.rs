//! Whether all replicas are equal: every member's checksum at one entry, for whoever wants to know.
//!
//! It asks what a node in doubt asks (module `doubt`), so asking tells: a member that differs from this one is in doubt
//! from then on and judges itself (safety rule 31). Who doesn't answer, or keeps no checksum of that entry any more, is not
//! known; all are asked again then, at a newer entry.

use super::doubt::{ANSWER_MAX, ASK_AGAIN};
use super::{Inner, Member};
use crate::member::judge::Evidence;
use crate::{LogIndex, NodeId, StateMachine};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// How often all are asked while somebody isn't known.
const ROUNDS_MAX: u32 = 4;

/// One member's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComparedMember {
    /// Who.
    pub node: NodeId,
    /// Its checksum; none if it isn't known.
    pub checksum: Option<u64>,
    /// Whether it trusts its state; none if it didn't answer.
    pub in_service: Option<bool>,
}

/// All members at one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The entry; none if this node has applied none.
    pub index: Option<LogIndex>,
    /// By id.
    pub members: Vec<ComparedMember>,
}

impl Comparison {
    /// Whether all are equal; none if that isn't known: nobody differs, but somebody's checksum is missing.
    #[must_use]
    pub fn equal(&self) -> Option<bool> {
        let all = self.members.iter().map(|member| member.checksum);
        let known: BTreeSet<u64> = all.clone().flatten().collect();
        match known.len() {
            0 => None,
            1 => all.clone().all(|one| one.is_some()).then_some(true),
            _ => Some(false),
        }
    }
}

impl<M: StateMachine> Member<M> {
    /// Asks all members, voters and learners, for their checksum at the newest entry that this node has applied, a few
    /// times within `wait_max` while somebody isn't known. A member that differs judges itself from then on. A node that is
    /// out of service itself asks nobody: it has nothing to compare with.
    pub async fn compare(&self, wait_max: Duration) -> Comparison {
        let until = super::after(Instant::now(), wait_max);
        let mut rounds = 1;
        loop {
            let found = self.inner.compare_once(until).await;
            let next = Instant::now() + ASK_AGAIN;
            let known = found.equal().is_some() || self.inner.shared.is_out_of_service();
            if known || rounds == ROUNDS_MAX || next >= until {
                return found;
            }
            rounds += 1;
            tokio::time::sleep_until(next).await;
        }
    }
}

impl<M: StateMachine> Inner<M> {
    async fn compare_once(&self, until: Instant) -> Comparison {
        let index = self.shared.applied.borrow().map(|id| id.index);
        let own = index.and_then(|index| Some((index, self.own_evidence(index).checksum?)));
        let until = until.min(Instant::now() + ANSWER_MAX);
        let answers = match own {
            Some((index, own)) => self.all_asked(|_| true, index, own, until).await,
            None => self.only_own(index),
        };
        let member = |(node, answer): (NodeId, Option<Evidence>)| ComparedMember {
            node,
            checksum: answer.and_then(|known| known.checksum),
            in_service: answer.map(|known| known.trusted),
        };
        let members = answers.into_iter().map(member).collect();
        Comparison { index, members }
    }

    /// What is known where there is nothing to compare with: all members, and what this one says of itself.
    fn only_own(&self, index: Option<LogIndex>) -> BTreeMap<NodeId, Option<Evidence>> {
        let own = |node| index.filter(|_| node == self.shared.node);
        let said = |node| own(node).map(|index| self.own_evidence(index));
        let cluster = self.cluster_now();
        let nodes = cluster.members.keys().copied();
        nodes.map(|node| (node, said(node))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal(checksums: &[Option<u64>]) -> Option<bool> {
        let member = |(id, checksum): (u64, &Option<u64>)| ComparedMember {
            node: NodeId::new(id).unwrap(),
            checksum: *checksum,
            in_service: Some(true),
        };
        let members = (1..).zip(checksums).map(member).collect();
        let index = Some(LogIndex(1));
        Comparison { index, members }.equal()
    }

    #[test]
    fn one_that_is_missing_leaves_open_what_one_that_differs_decides() {
        assert_eq!(equal(&[Some(1), Some(1), Some(1)]), Some(true));
        assert_eq!(equal(&[Some(1), None, Some(1)]), None);
        assert_eq!(equal(&[Some(1), None, Some(2)]), Some(false));
        assert_eq!(equal(&[None]), None);
        assert_eq!(equal(&[]), None);
    }
}
