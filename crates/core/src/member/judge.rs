//! Who is wrong where states differ (safety rule 31): a decision over checksums at one index, and nothing else.
//!
//! ```text
//!   damage in its own pages?          ── yes ─► this node is wrong (asked before, by `doubt`)
//!   a checksum of more than half of
//!   all voters?                       ── yes ─► whoever has another one is wrong, be it the leader
//!   all voters have answered?         ── yes ─► the leader's counts: it is the one the log records
//!        └─ no ─► open: asked again
//! ```
//!
//! A voter that has found itself wrong already has no vote: two others that differ would wait for it for ever, and it for
//! one of them to repair it. Each node judges itself alone. Invariant 1: of nodes that judge over the same answers none is found wrong that
//! has the majority's checksum, and where there is no majority, none that has the leader's.

use crate::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a member says of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    /// At the entry that was asked for; none if it isn't known.
    pub checksum: Option<u64>,
    /// Whether it trusts its state: who doesn't has no vote.
    pub trusted: bool,
    /// What it is made with (safety rule 32).
    pub engine: u64,
}

/// All that is known about one index.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The one who judges itself; a voter or not.
    pub own: u64,
    /// Of all voters that trust their state, this node too if it is one; none of those who didn't answer.
    pub voters: BTreeMap<NodeId, Option<u64>>,
    pub leader: Option<NodeId>,
}

/// The judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This node has what counts.
    Right,
    /// More than half of the voters have another state.
    Outvoted,
    /// No two halves agree, and the log records another state.
    Unlike,
    /// Too few have answered.
    Open,
}

/// Judges.
pub(crate) fn judge(case: &Case) -> Verdict {
    let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
    for checksum in case.voters.values().flatten() {
        *votes.entry(*checksum).or_default() += 1;
    }
    let wins = |(_, count): &(&u64, &usize)| **count * 2 > case.voters.len();
    if let Some((right, _)) = votes.iter().find(wins) {
        return if case.own == *right {
            Verdict::Right
        } else {
            Verdict::Outvoted
        };
    }
    let all_answered = case.voters.values().all(Option::is_some);
    let recorded = case
        .leader
        .and_then(|leader| case.voters.get(&leader).copied().flatten());
    match recorded {
        Some(recorded) if all_answered && recorded == case.own => Verdict::Right,
        Some(_) if all_answered => Verdict::Unlike,
        _ => Verdict::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn case(own: u64, voters: &[Option<u64>], leader: u64) -> Case {
        let node = |(at, checksum): (usize, &Option<u64>)| {
            let id = NodeId::new(at as u64 + 1).unwrap();
            (id, *checksum)
        };
        Case {
            own,
            voters: voters.iter().enumerate().map(node).collect(),
            leader: NodeId::new(leader),
        }
    }

    /// Rule 31: the minority is wrong, be it the leader; where nobody agrees the leader's counts; and nobody is
    /// condemned while those are silent who could decide.
    #[test]
    fn the_minority_is_wrong_be_it_the_leader() {
        let (a, b, c) = (Some(1), Some(2), Some(3));
        for (own, voters, leader, verdict) in [
            (1, vec![a, a, b], 3, Verdict::Right),
            (2, vec![a, a, b], 3, Verdict::Outvoted),
            (1, vec![a, a, None], 3, Verdict::Right),
            (2, vec![a, b, None], 1, Verdict::Open),
            (1, vec![a, b, None], 1, Verdict::Open),
            (1, vec![a, b, c], 1, Verdict::Right),
            (2, vec![a, b, c], 1, Verdict::Unlike),
            (2, vec![a, b], 1, Verdict::Unlike),
            (2, vec![a, b], 9, Verdict::Open),
            (9, vec![a, a, b], 1, Verdict::Outvoted),
            (1, vec![a], 1, Verdict::Right),
        ] {
            assert_eq!(
                judge(&case(own, &voters, leader)),
                verdict,
                "{own} {voters:?} {leader}"
            );
        }
    }

    proptest! {
        #[test]
        fn at_least_one_voter_who_answered_is_right_once_all_have(
            voters in proptest::collection::vec(1u64..4, 1..6),
            leader in 1u64..6,
        ) {
            let leader = leader.min(voters.len() as u64);
            let all: Vec<Option<u64>> = voters.iter().copied().map(Some).collect();
            let verdicts = voters.iter().map(|own| judge(&case(*own, &all, leader)));
            let verdicts: Vec<Verdict> = verdicts.collect();
            prop_assert!(verdicts.contains(&Verdict::Right));
            prop_assert!(!verdicts.contains(&Verdict::Open));
            let right: Vec<u64> = voters.iter().zip(&verdicts)
                .filter(|(_, verdict)| **verdict == Verdict::Right)
                .map(|(own, _)| *own)
                .collect();
            prop_assert!(right.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}
