//! Whether two nodes belong together, and how an operator hears that they don't.
//!
//! Both sides call the same functions on the same two cards, so that they judge alike; what only one of them knows
//! (its cluster's members and their data directories) it judges alone and tells the other. Every message names both.

use crate::hello::{Call, Card};
use sqlrep_core::{ClusterId, DirectoryId, Lane, NodeId};
use std::collections::BTreeMap;

/// No cluster yet.
const NONE: ClusterId = ClusterId(0);

/// Whether both have a cluster, and not the same one.
pub(crate) fn differ(one: ClusterId, other: ClusterId) -> bool {
    one != NONE && other != NONE && one != other
}

type Judged = Result<(), String>;

/// What both sides can tell from what they said.
pub(crate) fn judge(call: &Call, listener: &Card) -> Judged {
    let caller = &call.caller;
    not_itself(caller, listener)?;
    same_cluster(caller, listener)?;
    same_mode(caller, listener)?;
    as_expected(call, listener)?;
    another_id(caller, listener)
}

fn not_itself(caller: &Card, listener: &Card) -> Judged {
    if caller.directory != listener.directory {
        return Ok(());
    }
    Err(format!(
        "node {} called node {}, and both run on data directory {}: a node called itself, or a data directory was \
         copied; name the addresses of other nodes, and give each node a directory of its own",
        caller.node, listener.node, caller.directory
    ))
}

fn same_cluster(caller: &Card, listener: &Card) -> Judged {
    let one_is_new = caller.cluster == NONE || listener.cluster == NONE;
    if one_is_new || caller.cluster == listener.cluster {
        return Ok(());
    }
    Err(format!(
        "node {} belongs to cluster {} and node {} to cluster {}: an address leads to a node of another cluster, or a \
         data directory of another cluster was put in place",
        caller.node, caller.cluster, listener.node, listener.cluster
    ))
}

fn same_mode(caller: &Card, listener: &Card) -> Judged {
    if caller.mode == listener.mode {
        return Ok(());
    }
    Err(format!(
        "node {} runs in mode {:?} and node {} in mode {:?}: all nodes of a cluster run in one mode, chosen when it is \
         formed",
        caller.node, caller.mode, listener.node, listener.mode
    ))
}

fn as_expected(call: &Call, listener: &Card) -> Judged {
    match call.expects {
        Some(expected) if expected != listener.node => Err(format!(
            "node {} called node {expected}, and node {} answers at this address: check which node listens there",
            call.caller.node, listener.node
        )),
        _ => Ok(()),
    }
}

fn another_id(caller: &Card, listener: &Card) -> Judged {
    if caller.node != listener.node {
        return Ok(());
    }
    Err(format!(
        "both sides call themselves node {}, on data directories {} and {}: start one of them under another id",
        caller.node, caller.directory, listener.directory
    ))
}

/// Whether a node without a cluster may take part in the listener's Raft: only one that the listener's members
/// know on that very directory, a founder that hasn't yet heard what the cluster is called. The others ask to join.
pub(crate) fn takes_part(
    call: &Call,
    listener: &Card,
    members: &BTreeMap<NodeId, DirectoryId>,
) -> Judged {
    let caller = &call.caller;
    let asks_only = call.lane == Lane::Client;
    let is_member = members.get(&caller.node) == Some(&caller.directory);
    if caller.cluster != NONE || listener.cluster == NONE || asks_only || is_member {
        return Ok(());
    }
    Err(format!(
        "node {} belongs to no cluster and node {} to cluster {}: it has to join before it takes part",
        caller.node, listener.node, listener.cluster
    ))
}

/// What `us` knows about `stranger` from the cluster's membership.
pub(crate) fn known(us: &Card, members: &BTreeMap<NodeId, DirectoryId>, stranger: &Card) -> Judged {
    match members.get(&stranger.node) {
        Some(directory) => directory_is(us, *directory, stranger),
        None => Ok(()),
    }
}

/// `us` knows `stranger` on `directory`; zero if it doesn't know.
pub(crate) fn directory_is(us: &Card, directory: DirectoryId, stranger: &Card) -> Judged {
    if directory == DirectoryId(0) || directory == stranger.directory {
        return Ok(());
    }
    Err(format!(
        "node {} runs on data directory {}, and node {} knows it on {directory}: its disk was emptied, or its \
         directory was copied or replaced. A node that lost its data must not vote under its old id: `remove` node \
         {}, then let it join under a new id with an empty directory",
        stranger.node, stranger.directory, us.node, stranger.node
    ))
}

/// Tells that two engines differ: their databases may come to differ in bytes, which is repaired and counted.
pub(crate) fn engines_differ(us: &Card, other: &Card) -> Option<String> {
    let same = us.engine == other.engine && us.engine_digest == other.engine_digest;
    (!same).then(|| {
        format!(
            "node {} has SQLite {:?} with options {:016x}, node {} has {:?} with {:016x}: run one release on all nodes",
            us.node, us.engine, us.engine_digest, other.node, other.engine, other.engine_digest
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::tests::card;

    fn call(caller: Card, lane: Lane, expects: Option<u64>) -> Call {
        Call {
            caller,
            lane,
            expects: expects.and_then(NodeId::new),
        }
    }

    fn with_cluster(node: u64, cluster: u64) -> Card {
        Card {
            cluster: ClusterId(cluster),
            ..card(node)
        }
    }

    #[test]
    fn a_new_node_may_ask_and_be_called_and_takes_part_as_a_known_founder_only() {
        for (caller, listener, lane, fits) in [
            (7, 7, Lane::Append, true),
            (7, 8, Lane::Client, false),
            (7, 8, Lane::Append, false),
            (0, 7, Lane::Client, true),
            (0, 7, Lane::Append, false),
            (0, 7, Lane::Control, false),
            (7, 0, Lane::Client, true),
            (7, 0, Lane::Append, true),
            (7, 0, Lane::Snapshot, true),
            (0, 0, Lane::Control, true),
        ] {
            let call = call(with_cluster(1, caller), lane, None);
            let listener = with_cluster(2, listener);
            let met_by = |members: &BTreeMap<NodeId, DirectoryId>| {
                judge(&call, &listener).and_then(|()| takes_part(&call, &listener, members))
            };
            let judged = met_by(&BTreeMap::new());
            assert_eq!(judged.is_ok(), fits, "{caller} {lane:?}");
            let other = BTreeMap::from([(card(1).node, DirectoryId(0xbad))]);
            assert_eq!(met_by(&other).is_ok(), fits, "{caller} {lane:?}");
            let founder = BTreeMap::from([(card(1).node, card(1).directory)]);
            assert_eq!(
                met_by(&founder).is_ok(),
                fits || caller == 0,
                "{caller} {lane:?}"
            );
        }
    }

    #[test]
    fn what_is_said_is_compared() {
        let fits = |expects| judge(&call(card(1), Lane::Append, expects), &card(2));
        assert_eq!(fits(None), Ok(()));
        assert_eq!(fits(Some(2)), Ok(()));
        assert!(fits(Some(3)).is_err());
        let itself = call(card(1), Lane::Client, None);
        assert!(judge(&itself, &card(1)).unwrap_err().contains("itself"));
    }

    #[test]
    fn a_directory_that_isnt_known_isnt_compared() {
        let us = card(1);
        let members = |directory| BTreeMap::from([(card(2).node, DirectoryId(directory))]);
        assert!(known(&us, &members(0xd2), &card(2)).is_ok());
        assert!(known(&us, &members(0), &card(2)).is_ok());
        assert!(known(&us, &members(0xbad), &card(2)).is_err());
        assert!(known(&us, &members(0xbad), &card(3)).is_ok());
    }

    #[test]
    fn engines_are_told_apart_by_source_and_options() {
        assert_eq!(engines_differ(&card(1), &card(2)), None);
        let other = Card {
            engine_digest: 10,
            ..card(2)
        };
        let told = engines_differ(&card(1), &other).unwrap();
        assert!(told.contains("node 1") && told.contains("node 2"), "{told}");
    }
}
