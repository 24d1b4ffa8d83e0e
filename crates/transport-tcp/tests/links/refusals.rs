//! Two nodes that don't belong together: what each refusal says, and that both sides count it.

use crate::{counted, fails, identity, link, node, peer, soon, start, start_as};
use sqlrep_core::{ClusterId, DirectoryId, Lane, Peer, Retry, Transport};
use sqlrep_transport_tcp::{Identity, Options, TcpTransport};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Asserts that a call from `a` to `b` is refused with `told`, on both sides.
async fn refused(a: &TcpTransport, expects: Option<u64>, b: &TcpTransport, lane: Lane, told: &str) {
    let before = (a.stats().refused, b.stats().refused);
    let error = fails(a, expects, &peer(b), lane).await;
    let whole = format!("no link with {}: {told}", b.local_addr());
    assert_eq!(error.to_string(), whole);
    assert_eq!(error.retry(), Retry::Useless);
    counted(a, |stats| stats.refused == before.0 + 1).await;
    counted(b, |stats| stats.refused == before.1 + 1).await;
    assert_eq!(b.stats().links, 0);
}

async fn start_in(id: u64, cluster: u64) -> Arc<TcpTransport> {
    let transport = start(id).await;
    transport.belongs_to(ClusterId(cluster), BTreeMap::new());
    transport
}

#[tokio::test]
async fn nodes_of_two_clusters() {
    let (a, b) = (start_in(1, 0xa).await, start_in(2, 0xb).await);
    for lane in Lane::ALL {
        let told = "node 1 belongs to cluster 000000000000000a and node 2 to cluster 000000000000000b: an address leads \
                    to a node of another cluster, or a data directory of another cluster was put in place";
        refused(&a, None, &b, lane, told).await;
    }
}

#[tokio::test]
async fn a_node_without_a_cluster_asks_on_the_client_lane_only() {
    let (new, old) = (start_in(1, 0).await, start_in(2, 0xb).await);
    for lane in [Lane::Append, Lane::Control, Lane::Snapshot] {
        let told = "node 1 belongs to no cluster and node 2 to cluster 000000000000000b: it has to join before it takes \
                    part";
        refused(&new, None, &old, lane, told).await;
    }
    drop(link(&new, &old, Lane::Client).await);
    for lane in Lane::ALL {
        drop(link(&old, &new, lane).await);
    }
}

/// Of three founders one was lost as the cluster got its name: the leader calls it by that name, the other founder
/// hasn't applied it yet. Refused on the Raft lanes, that one could never vote, and two of three nodes would wait
/// for the third.
#[tokio::test]
async fn a_founder_that_has_not_heard_the_name_yet_takes_part() {
    let (founder, named) = (start_in(1, 0).await, start(2).await);
    let known = BTreeMap::from([(node(1), identity(1).directory)]);
    named.belongs_to(ClusterId(0xb), known);
    for lane in Lane::ALL {
        drop(link(&founder, &named, lane).await);
    }
}

#[tokio::test]
async fn a_node_that_joined_is_judged_by_its_cluster() {
    let (a, b) = (start_in(1, 0).await, start_in(2, 0xb).await);
    drop(link(&b, &a, Lane::Append).await);
    a.belongs_to(ClusterId(0xb), BTreeMap::new());
    drop(link(&a, &b, Lane::Append).await);
    a.belongs_to(ClusterId(0xc), BTreeMap::new());
    fails(&b, None, &peer(&a), Lane::Append).await;
}

#[tokio::test]
async fn nodes_in_two_modes() {
    let page = Identity {
        mode: "page".to_owned(),
        ..identity(2)
    };
    let (a, b) = (
        start_in(1, 0).await,
        start_as(page, Options::default()).await,
    );
    let told = "node 1 runs in mode \"statement\" and node 2 in mode \"page\": all nodes of a cluster run in one mode, \
                chosen when it is formed";
    refused(&a, None, &b, Lane::Client, told).await;
}

#[tokio::test]
async fn another_node_than_expected() {
    let (a, b) = (start(1).await, start(2).await);
    let told =
        "node 1 called node 3, and node 2 answers at this address: check which node listens there";
    refused(&a, Some(3), &b, Lane::Append, told).await;
    soon(a.connect(Some(node(2)), &peer(&b), Lane::Append))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_node_that_calls_itself() {
    let a = start(1).await;
    let error = fails(&a, None, &peer(&a), Lane::Client).await.to_string();
    let told = "node 1 called node 1, and both run on data directory 00000000000000d1: a node called itself, or a data \
                directory was copied; name the addresses of other nodes, and give each node a directory of its own";
    assert!(error.ends_with(told), "{error}");
    counted(&a, |stats| stats.refused == 2).await;
}

#[tokio::test]
async fn two_nodes_of_one_id() {
    let twin = Identity {
        directory: DirectoryId(0xff),
        ..identity(1)
    };
    let (a, b) = (
        start_in(1, 0).await,
        start_as(twin, Options::default()).await,
    );
    let told = "both sides call themselves node 1, on data directories 00000000000000d1 and 00000000000000ff: start one \
                of them under another id";
    refused(&a, None, &b, Lane::Client, told).await;
}

const EMPTIED: &str = "its disk was emptied, or its directory was copied or replaced. A node that lost its data must not \
                       vote under its old id: `remove` node 2, then let it join under a new id with an empty directory";

#[tokio::test]
async fn an_emptied_disk_is_seen_by_who_knows_it_better() {
    let (a, b) = (start(1).await, start(2).await);
    a.belongs_to(
        ClusterId(0xc1),
        BTreeMap::from([(node(2), DirectoryId(0xee))]),
    );
    let told = format!(
        "node 2 runs on data directory 00000000000000d2, and node 1 knows it on 00000000000000ee: {EMPTIED}"
    );
    refused(&a, Some(2), &b, Lane::Append, &told).await;
    // The other way round the listener knows, and tells the caller.
    refused(&b, Some(1), &a, Lane::Client, &told).await;
    a.belongs_to(
        ClusterId(0xc1),
        BTreeMap::from([(node(2), DirectoryId(0xd2))]),
    );
    drop(link(&a, &b, Lane::Append).await);
}

#[tokio::test]
async fn the_directory_in_an_address_is_compared_too() {
    let (a, b) = (start(1).await, start(2).await);
    let old = Peer {
        directory: DirectoryId(0xee),
        ..peer(&b)
    };
    let error = fails(&a, Some(2), &old, Lane::Append).await.to_string();
    assert!(error.ends_with(EMPTIED), "{error}");
}

/// Rule 32: engines are compared in the handshake, and a difference doesn't part nodes.
#[tokio::test]
async fn another_engine_is_no_reason_to_refuse() {
    let other = Identity {
        engine: "2024-01-01 def".to_owned(),
        engine_digest: 10,
        ..identity(2)
    };
    let (a, b) = (
        start_in(1, 0).await,
        start_as(other, Options::default()).await,
    );
    drop(link(&a, &b, Lane::Append).await);
    assert_eq!(a.stats().refused + b.stats().refused, 0);
}
