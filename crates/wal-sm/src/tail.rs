//! Who made a page set, and which one it follows.

use sqlrep_core::{NodeId, Term};

/// Names the last accepted page set; replicated state beside the pages. A set names its predecessor, so a
/// hole in a pipeline of proposals is seen by every node alike. Epochs are unique within one process and
/// term only, which is why a leader never resumes its leadership after a restart (safety rule 19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Term of the leader that made it.
    pub term: Term,
    /// That leader; for messages, since a term has one leader.
    pub node: NodeId,
    /// Its writer epoch.
    pub epoch: u64,
    /// Its number in the epoch.
    pub sequence: u64,
}

impl Tail {
    /// Whether a set that follows `predecessor` and was committed in `committed_in` continues this tail.
    /// `made_in` is the term in which the set's leader made it. A function of the log alone.
    #[must_use]
    pub fn accepts(
        tail: Option<Self>,
        predecessor: Option<Self>,
        made_in: Term,
        committed_in: Term,
    ) -> bool {
        predecessor == tail && made_in == committed_in
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(term: u64, epoch: u64, sequence: u64) -> Tail {
        Tail {
            term: Term(term),
            node: NodeId::new(1).expect("small"),
            epoch,
            sequence,
        }
    }

    /// Rule 22: a page set is accepted iff it names the tail as its predecessor and its term is that of its entry.
    #[test]
    fn a_set_continues_the_tail_or_is_refused() {
        let (one, two) = (tail(3, 1, 1), tail(3, 1, 2));
        assert!(
            Tail::accepts(None, None, Term(3), Term(3)),
            "the first set of all"
        );
        assert!(Tail::accepts(Some(one), Some(one), Term(3), Term(3)));
        assert!(
            !Tail::accepts(Some(one), Some(two), Term(3), Term(3)),
            "a hole before it"
        );
        assert!(
            !Tail::accepts(Some(two), Some(one), Term(3), Term(3)),
            "it comes twice"
        );
        assert!(
            !Tail::accepts(Some(one), None, Term(3), Term(3)),
            "it knows of no set"
        );
        assert!(
            !Tail::accepts(Some(one), Some(one), Term(3), Term(4)),
            "carried into another term"
        );
        assert!(
            !Tail::accepts(Some(one), Some(tail(3, 2, 1)), Term(3), Term(3)),
            "another epoch"
        );
    }
}
