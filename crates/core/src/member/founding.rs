//! Whether a cluster is formed, and by whom: a decision over what a node has heard, and nothing else.
//!
//! ```text
//!   somebody belongs to a cluster?  ── yes ─► join that one, or be refused by name
//!        └─ no ─► expected N, all N heard, empty, of one mind, seeing the same N directories?
//!                      ├─ yes ─► the smallest node id forms it, the others wait to be found
//!                      └─ no ──► wait
//! ```
//!
//! A node that belongs to a cluster asks only one thing: whether it is that of its addresses ([`misplaced`]).
//!
//! Invariant 1: of nodes that see the same N directories at most one forms a cluster, the smallest; of nodes
//! that don't, none does. So N nodes form at most one, and what a wiped minority sees is never enough.
//! Invariant 2: refused is only what doesn't heal by waiting.

use crate::member::membership::other_directory;
use crate::{ClusterId, DirectoryId, EntryId, NodeId, Peer};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a node was started with: what the members of a cluster have to agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub peer: Peer,
    pub mode: String,
    pub settings: Bytes,
    pub expect: Option<u32>,
    /// The directories that it found behind its addresses, its own too.
    pub seen: BTreeSet<DirectoryId>,
}

/// What a member says of itself to whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub node: NodeId,
    pub directory: DirectoryId,
    /// Whether its log holds nothing.
    pub empty: bool,
    /// Zero before its cluster is named.
    pub cluster: ClusterId,
    /// What its cluster agreed on; empty before it is named.
    pub settings: Bytes,
    pub leader: Option<NodeId>,
    /// As of the last applied change of them.
    pub members: BTreeMap<NodeId, Peer>,
    pub members_at: Option<EntryId>,
    /// None before it was told what it is started for.
    pub terms: Option<Terms>,
}

impl Greeting {
    fn belongs(&self) -> bool {
        !self.empty || !self.members.is_empty()
    }
}

/// What was heard at one address.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub address: String,
    pub said: Result<Greeting, Silence>,
}

/// Why nothing was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Silence {
    pub why: String,
    /// The two sides don't belong together, as their handshake found.
    pub refused: bool,
    /// Refused, since each belongs to a cluster of its own.
    pub other_cluster: bool,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet; why.
    Wait(String),
    /// Form a cluster of these.
    Form(BTreeMap<NodeId, Peer>),
    /// Ask the member at this address to be let in.
    Join(String),
    /// Waiting doesn't help; what does.
    Refused(String),
    /// The node at this address has other settings, these.
    Disagrees(String, Bytes),
}

/// One that answered, and where.
type Found<'a> = (&'a str, &'a Greeting);

/// Decides for the node that says `own`, started with `terms`.
pub(crate) fn judge(own: &Greeting, terms: &Terms, heard: &[Heard]) -> Verdict {
    let said = |heard: &'_ Heard| heard.said.is_ok();
    let found: Vec<Found<'_>> = heard
        .iter()
        .filter(|heard| said(heard))
        .filter_map(|heard| Some((heard.address.as_str(), heard.said.as_ref().ok()?)))
        .filter(|(_, greeting)| greeting.directory != own.directory)
        .collect();
    let result = namesake(own, &found)
        .and_then(|()| existing(own, terms, &found))
        .and_then(|()| shut_out(heard))
        .and_then(|()| founding(own, terms, heard, &found));
    result
        .err()
        .unwrap_or_else(|| Verdict::Wait("nothing to do".to_owned()))
}

type Step = Result<(), Verdict>;

fn refuse(what: String) -> Step {
    Err(Verdict::Refused(what))
}

/// Another running node with this one's id.
fn namesake(own: &Greeting, found: &[Found<'_>]) -> Step {
    if let Some((address, other)) = found.iter().find(|(_, other)| other.node == own.node) {
        return refuse(format!(
            "the node at {address} has node id {} too, with data directory {}; this is data directory {}: give each \
             node an id of its own",
            other.node, other.directory, own.directory
        ));
    }
    Ok(())
}

/// Joins the cluster that is there already.
fn existing(own: &Greeting, terms: &Terms, found: &[Found<'_>]) -> Step {
    let members: Vec<&Found<'_>> = found.iter().filter(|(_, other)| other.belongs()).collect();
    let named = members.iter().filter(|(_, other)| other.cluster.0 != 0);
    let clusters: BTreeMap<ClusterId, &str> = named
        .map(|(address, other)| (other.cluster, *address))
        .collect();
    if let (Some(first), Some(second)) = (clusters.iter().next(), clusters.iter().nth(1)) {
        return refuse(format!(
            "the addresses lead to two clusters: {} at {} and {} at {}",
            first.0, first.1, second.0, second.1
        ));
    }
    let leads = |other: &Greeting| other.leader == Some(other.node);
    let newest = members
        .iter()
        .max_by_key(|(_, other)| (other.members_at, leads(other)));
    let Some((address, member)) = newest else {
        return Ok(());
    };
    same_terms(terms, address, member)?;
    match member.members.get(&own.node) {
        Some(known) if known.directory != own.directory => {
            refuse(other_directory(own.node, known, &terms.peer))
        }
        Some(_) if own.empty => Err(Verdict::Wait(format!(
            "the cluster at {address} has this node, and has sent nothing yet"
        ))),
        // A founder's log may be ahead of what it has applied: then it doesn't know the members yet, whoever they are.
        _ if member.members.is_empty() => Err(Verdict::Wait(format!(
            "the node at {address} belongs to a cluster and doesn't know its members yet"
        ))),
        None if !own.empty && (!leads(member) || member.members_at < own.members_at) => {
            Err(Verdict::Wait(format!(
                "the member at {address} doesn't have this node, the leader's word counts"
            )))
        }
        None if !own.empty => refuse(format!(
            "node {} was removed from cluster {}: to join again, start it with an empty data directory and a \
             new node id",
            own.node, member.cluster
        )),
        _ => Err(Verdict::Join((*address).to_owned())),
    }
}

/// An address whose handshake refuses this node. A member elsewhere may have let it in all the same.
fn shut_out(heard: &[Heard]) -> Step {
    let refused = heard.iter().find_map(|heard| {
        let silence = heard
            .said
            .as_ref()
            .err()
            .filter(|silence| silence.refused)?;
        Some((&heard.address, &silence.why))
    });
    match refused {
        Some((address, why)) => refuse(format!("{address} refuses this node: {why}")),
        None => Ok(()),
    }
}

/// Whether the data of a member was put in the place of another cluster's: what is wrong, if so.
///
/// Addresses that this node's own cluster knows may have been taken over by others, which is not this node's
/// fault: it takes most of them. Of any other address one is enough, unless a member of its own cluster answers.
pub(crate) fn misplaced(own: &Greeting, heard: &[Heard]) -> Option<String> {
    let at_home = |heard: &Heard| matches!(&heard.said, Ok(other) if other.cluster == own.cluster);
    let others = heard.iter().filter_map(|heard| {
        let silence = heard.said.as_ref().err()?;
        silence
            .other_cluster
            .then_some((&heard.address, &silence.why))
    });
    let others: Vec<_> = others.collect();
    let is_known = |address: &String| own.members.values().any(|peer| peer.raft == *address);
    let (known, unknown): (Vec<_>, Vec<_>) = others
        .into_iter()
        .partition(|(address, _)| is_known(address));
    let taken_over = known.len() * 2 > own.members.len();
    let (address, why) = unknown.first().or_else(|| known.first())?;
    if heard.iter().any(at_home) || (unknown.is_empty() && !taken_over) {
        return None;
    }
    Some(format!(
        "{address} refuses this node: {why}; put this node's own data directory back, or correct the addresses"
    ))
}

/// What a cluster has agreed on against what this node was started with.
fn same_terms(terms: &Terms, address: &str, member: &Greeting) -> Step {
    if let Some(theirs) = &member.terms
        && theirs.mode != terms.mode
    {
        return other_mode(&terms.mode, address, &theirs.mode);
    }
    let agreed = member.cluster.0 != 0 && !terms.settings.is_empty();
    if agreed && member.settings != terms.settings {
        return other_settings(address, &member.settings);
    }
    Ok(())
}

fn other_mode(own: &str, address: &str, theirs: &str) -> Step {
    refuse(format!(
        "this node is started in {own} mode, the one at {address} in {theirs} mode: a cluster has one mode"
    ))
}

fn other_settings(address: &str, theirs: &Bytes) -> Step {
    Err(Verdict::Disagrees(address.to_owned(), theirs.clone()))
}

/// Forms a cluster if this node is the one to do it.
fn founding(own: &Greeting, terms: &Terms, heard: &[Heard], found: &[Found<'_>]) -> Step {
    let wait = |why: String| Err(Verdict::Wait(why));
    if !own.empty {
        return wait(format!(
            "this node's cluster has no leader yet: {}",
            answers(heard)
        ));
    }
    let Some(expect) = terms.expect else {
        return wait(format!("no cluster to join: {}", answers(heard)));
    };
    for (address, other) in found {
        if let Some(theirs) = &other.terms {
            of_one_mind(terms, expect, address, theirs)?;
        }
    }
    distinct(found)?;
    if let Some(missing) = heard.iter().find(|heard| heard.said.is_err()) {
        return wait(format!(
            "{} doesn't answer: {}",
            missing.address,
            answers(heard)
        ));
    }
    let directories: BTreeSet<DirectoryId> =
        found.iter().map(|(_, other)| other.directory).collect();
    let mut all = directories;
    all.insert(own.directory);
    if all.len() != expect as usize {
        return refuse(format!(
            "the addresses lead to {} nodes, this one included; {expect} are expected",
            all.len()
        ));
    }
    for (address, other) in found {
        let sees = other.terms.as_ref().is_some_and(|terms| terms.seen == all);
        if !sees {
            return wait(format!(
                "the node at {address} doesn't see the same {expect} nodes yet: {}",
                answers(heard)
            ));
        }
    }
    let smallest = found.iter().all(|(_, other)| own.node < other.node);
    if !smallest {
        return wait("the node with the smallest id forms the cluster".to_owned());
    }
    let others = found.iter().filter_map(|(_, other)| {
        let terms = other.terms.as_ref()?;
        Some((other.node, terms.peer.clone()))
    });
    let mut members: BTreeMap<NodeId, Peer> = others.collect();
    members.insert(own.node, terms.peer.clone());
    Err(Verdict::Form(members))
}

/// What nodes that form a cluster together have to have in common.
fn of_one_mind(own: &Terms, expect: u32, address: &str, theirs: &Terms) -> Step {
    if theirs.expect != Some(expect) {
        let told = match theirs.expect {
            Some(other) => format!("expects {other} nodes"),
            None => "joins an existing cluster only".to_owned(),
        };
        return refuse(format!(
            "this node expects {expect} nodes, the one at {address} {told}: start all of them with the same number"
        ));
    }
    if theirs.mode != own.mode {
        return other_mode(&own.mode, address, &theirs.mode);
    }
    if theirs.settings != own.settings {
        return other_settings(address, &theirs.settings);
    }
    Ok(())
}

/// Each address leads to a node of its own, and each node has an id of its own.
fn distinct(found: &[Found<'_>]) -> Step {
    let mut directories: BTreeMap<DirectoryId, &str> = BTreeMap::new();
    let mut ids: BTreeMap<NodeId, &str> = BTreeMap::new();
    for (address, other) in found {
        if let Some(before) = directories.insert(other.directory, address) {
            return refuse(format!(
                "{before} and {address} lead to the same node {}: name each node once",
                other.node
            ));
        }
        if let Some(before) = ids.insert(other.node, address) {
            return refuse(format!(
                "the nodes at {before} and {address} both have node id {}: give each node an id of its own",
                other.node
            ));
        }
    }
    Ok(())
}

/// What each address answered.
fn answers(heard: &[Heard]) -> String {
    let answer = |heard: &Heard| match &heard.said {
        Ok(other) if other.cluster.0 != 0 => {
            format!(
                "{}: node {} of cluster {}",
                heard.address, other.node, other.cluster
            )
        }
        Ok(other) => format!("{}: node {}, of no cluster yet", heard.address, other.node),
        Err(silence) => format!("{}: {}", heard.address, silence.why),
    };
    heard.iter().map(answer).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogIndex, Term};
    use proptest::prelude::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn peer(id: u64) -> Peer {
        Peer {
            raft: format!("host{id}"),
            http: String::new(),
            directory: DirectoryId(id * 10),
        }
    }

    fn terms(id: u64, seen: &[u64]) -> Terms {
        Terms {
            peer: peer(id),
            mode: "list".to_owned(),
            settings: Bytes::from_static(b"s"),
            expect: Some(3),
            seen: seen.iter().map(|id| DirectoryId(id * 10)).collect(),
        }
    }

    /// An empty node that sees `seen`.
    fn empty(id: u64, seen: &[u64]) -> Greeting {
        Greeting {
            node: node(id),
            directory: DirectoryId(id * 10),
            empty: true,
            cluster: ClusterId(0),
            settings: Bytes::new(),
            leader: None,
            members: BTreeMap::new(),
            members_at: None,
            terms: Some(terms(id, seen)),
        }
    }

    fn member(id: u64, members: &[u64]) -> Greeting {
        Greeting {
            empty: false,
            cluster: ClusterId(7),
            settings: Bytes::from_static(b"s"),
            members: members.iter().map(|id| (node(*id), peer(*id))).collect(),
            members_at: Some(EntryId {
                term: Term(1),
                index: LogIndex(5),
            }),
            ..empty(id, members)
        }
    }

    fn heard(greetings: &[Greeting]) -> Vec<Heard> {
        let heard = |greeting: &Greeting| Heard {
            address: format!("host{}", greeting.node),
            said: Ok(greeting.clone()),
        };
        greetings.iter().map(heard).collect()
    }

    fn judged(own: &Greeting, greetings: &[Greeting]) -> Verdict {
        judge(own, own.terms.as_ref().unwrap(), &heard(greetings))
    }

    fn refused(verdict: Verdict, part: &str) {
        match verdict {
            Verdict::Refused(what) => assert!(what.contains(part), "{what}"),
            other => panic!("{other:?}"),
        }
    }

    fn disagrees(verdict: Verdict, with: &str, settings: &'static [u8]) {
        let theirs = Bytes::from_static(settings);
        assert_eq!(verdict, Verdict::Disagrees(with.to_owned(), theirs));
    }

    fn waits(verdict: Verdict, part: &str) {
        match verdict {
            Verdict::Wait(what) => assert!(what.contains(part), "{what}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_smallest_of_those_who_see_each_other_forms_the_cluster() {
        let all: Vec<Greeting> = (1..=3).map(|id| empty(id, &[1, 2, 3])).collect();
        let Verdict::Form(members) = judged(&all[0], &all) else {
            panic!("node 1 forms it");
        };
        assert_eq!(
            members.keys().copied().map(NodeId::get).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert_eq!(members[&node(2)], peer(2));
        waits(judged(&all[1], &all), "smallest id");
        let mut blind = all.clone();
        blind[2] = empty(3, &[1, 3]);
        waits(judged(&blind[0], &blind), "host3 doesn't see the same 3");
        let mut late = all.clone();
        late[2].terms = None;
        waits(judged(&late[0], &late), "host3 doesn't see the same 3");
    }

    #[test]
    fn a_founder_that_was_interrupted_forms_no_second_cluster() {
        let mut all: Vec<Greeting> = (1..=3).map(|id| empty(id, &[1, 2, 3])).collect();
        all[0].empty = false;
        waits(judged(&all[0], &all), "no leader yet");
        waits(judged(&all[1], &all), "doesn't know its members yet");
    }

    /// Three nodes formed a cluster; one of them had its first entries, and asked the leader before that one had
    /// applied who belongs to it. It took the leader's empty list for its own removal and ended for good.
    #[test]
    fn a_founder_is_not_removed_by_a_leader_that_has_applied_nothing_yet() {
        let mut own = empty(2, &[1, 2, 3]);
        own.empty = false;
        let mut leader = empty(1, &[1, 2, 3]);
        (leader.empty, leader.leader) = (false, Some(node(1)));
        waits(judged(&own, &[leader]), "doesn't know its members yet");
    }

    #[test]
    fn an_address_that_does_not_answer_is_waited_for() {
        let all: Vec<Greeting> = (1..=2).map(|id| empty(id, &[1, 2])).collect();
        let mut heard = heard(&all);
        heard.push(Heard {
            address: "host3".to_owned(),
            said: Err(Silence {
                why: "connection refused".to_owned(),
                refused: false,
                other_cluster: false,
            }),
        });
        let judged = |heard: &[Heard]| judge(&all[0], all[0].terms.as_ref().unwrap(), heard);
        waits(judged(&heard), "host3: connection refused");
        waits(judged(&heard), "host2: node 2, of no cluster yet");
        let Err(silence) = &mut heard[2].said else {
            panic!("it is silent");
        };
        silence.refused = true;
        refused(judged(&heard), "host3 refuses this node");
        heard[1].said = Ok(member(2, &[2]));
        assert_eq!(judged(&heard), Verdict::Join("host2".to_owned()));
    }

    #[test]
    fn what_does_not_heal_is_refused_by_name() {
        let all: Vec<Greeting> = (1..=3).map(|id| empty(id, &[1, 2, 3])).collect();
        let with = |change: &dyn Fn(&mut Terms)| {
            let mut all = all.clone();
            change(all[1].terms.as_mut().unwrap());
            judged(&all[0], &all)
        };
        refused(
            with(&|terms| terms.expect = Some(5)),
            "host2 expects 5 nodes",
        );
        refused(
            with(&|terms| terms.expect = None),
            "joins an existing cluster only",
        );
        refused(
            with(&|terms| terms.mode = "page".to_owned()),
            "host2 in page mode",
        );
        disagrees(
            with(&|terms| terms.settings = Bytes::from_static(b"t")),
            "host2",
            b"t",
        );
        refused(judged(&all[0], &all[..2]), "lead to 2 nodes");
        let mut twice = all.clone();
        twice[2].directory = twice[1].directory;
        refused(judged(&twice[0], &twice), "lead to the same node");
        let mut twins = all.clone();
        twins[2].node = node(2);
        refused(judged(&twins[0], &twins), "both have node id 2");
        twins[2].node = node(1);
        refused(judged(&twins[0], &twins), "has node id 1 too");
    }

    #[test]
    fn a_cluster_that_is_there_is_joined() {
        let own = empty(4, &[4]);
        let verdict = judged(&own, &[member(1, &[1, 2, 3])]);
        assert_eq!(verdict, Verdict::Join("host1".to_owned()));
        waits(judged(&own, &[member(1, &[1, 4])]), "has sent nothing yet");
        let mut other = member(1, &[1]);
        other.terms.as_mut().unwrap().mode = "page".to_owned();
        refused(judged(&own, &[other]), "a cluster has one mode");
        let mut other = member(1, &[1]);
        other.settings = Bytes::from_static(b"t");
        disagrees(judged(&own, &[other]), "host1", b"t");
        let mut second = member(2, &[2]);
        second.cluster = ClusterId(8);
        refused(judged(&own, &[member(1, &[1]), second]), "two clusters");
    }

    #[test]
    fn wiped_nodes_see_that_they_are_known() {
        let wiped = |id: u64| Greeting {
            directory: DirectoryId(id * 10 + 1),
            ..empty(id, &[])
        };
        let third = member(3, &[1, 2, 3]);
        refused(
            judged(&wiped(1), &[wiped(1), wiped(2), third]),
            "remove node 1",
        );
    }

    #[test]
    fn a_directory_of_another_cluster_is_told_from_one_that_took_an_address() {
        let own = member(1, &[1, 2, 3]);
        let foreign = |address: &str| Heard {
            address: address.to_owned(),
            said: Err(Silence {
                why: "clusters 7 and 8".to_owned(),
                refused: true,
                other_cluster: true,
            }),
        };
        let home = heard(&[member(2, &[1, 2, 3])]);
        let told = misplaced(&own, &[foreign("elsewhere")]).unwrap();
        assert!(
            told.contains("elsewhere refuses this node: clusters 7 and 8"),
            "{told}"
        );
        assert_eq!(misplaced(&own, &[foreign("host2")]), None);
        assert!(misplaced(&own, &[foreign("host2"), foreign("host3")]).is_some());
        let with_home = [&home[..], &[foreign("elsewhere")]].concat();
        assert_eq!(misplaced(&own, &with_home), None);
        let mut silent = foreign("elsewhere");
        silent.said.as_mut().unwrap_err().other_cluster = false;
        assert_eq!(misplaced(&own, &[silent]), None);
    }

    #[test]
    fn a_removed_node_is_told_so() {
        let own = Greeting {
            members_at: None,
            ..member(4, &[1, 4])
        };
        let mut told = member(1, &[1, 2, 3]);
        waits(judged(&own, &[told.clone()]), "the leader's word counts");
        told.leader = Some(node(1));
        refused(judged(&own, &[told]), "was removed");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Whatever each of five empty nodes sees, no two of them form a cluster with a common node.
        #[test]
        fn at_most_one_cluster_is_formed(
            seen in proptest::collection::vec(proptest::collection::btree_set(1u64..6, 0..6), 5),
        ) {
            let all: Vec<Greeting> = (1..=5)
                .zip(&seen)
                .map(|(id, seen)| {
                    let mut seen = seen.clone();
                    seen.insert(id);
                    empty(id, &seen.into_iter().collect::<Vec<_>>())
                })
                .collect();
            let mut formed: Vec<BTreeMap<NodeId, Peer>> = Vec::new();
            for own in &all {
                let sees = &own.terms.as_ref().unwrap().seen;
                let reached: Vec<Greeting> =
                    all.iter().filter(|other| sees.contains(&other.directory)).cloned().collect();
                if let Verdict::Form(members) = judged(own, &reached) {
                    prop_assert_eq!(members.len(), 3);
                    formed.push(members);
                }
            }
            for (n, members) in formed.iter().enumerate() {
                for other in &formed[n + 1..] {
                    prop_assert!(members.keys().all(|id| !other.contains_key(id)));
                }
            }
        }
    }
}
