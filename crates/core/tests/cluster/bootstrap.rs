//! Nodes that find each other and form one cluster, or join the one there is.

use super::*;
use membership::until;
use sqlrep_core::{BootstrapPlan, Entered, MemberError};
use tokio::task::JoinHandle;

fn peer(id: u64, directory: u64) -> Peer {
    Peer {
        directory: DirectoryId(directory),
        ..Switchboard::peer(node(id))
    }
}

fn addresses(ids: &[u64]) -> Vec<String> {
    ids.iter()
        .map(|id| Switchboard::peer(node(*id)).raft)
        .collect()
}

fn plan(id: u64, join: &[u64], expect: Option<u32>) -> BootstrapPlan {
    BootstrapPlan {
        own: (node(id), peer(id, id)),
        join: addresses(join),
        expect,
        voter: true,
        mode: "list".to_owned(),
        settings: Bytes::from_static(b"same"),
        wait_max: 60 * SECOND,
    }
}

type Entering = JoinHandle<Result<Entered, MemberError>>;

impl Cluster {
    async fn enter(&mut self, plan: BootstrapPlan) -> Entering {
        let (id, peer) = plan.own.clone();
        let member = self.start_new(id.get(), &peer).await.member.clone();
        tokio::spawn(async move { member.enter(plan).await })
    }
}

async fn refused(entering: Entering, part: &str) {
    let error = entering.await.unwrap().unwrap_err();
    assert!(matches!(error, MemberError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_single_node_is_a_cluster_by_itself() {
    for (join, expect) in [(&[][..], None), (&[1][..], Some(1))] {
        let mut cluster = Cluster::of_nobody();
        let entering = cluster.enter(plan(1, join, expect)).await;
        assert_eq!(entering.await.unwrap().unwrap(), Entered::Formed);
        cluster.node(1).send("a").await.unwrap();
        let again = cluster.node(1).member.enter(plan(1, join, expect)).await;
        assert_eq!(again.unwrap(), Entered::Belonged);
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_started_ten_seconds_apart_form_one_cluster() {
    for order in [[1, 2, 3], [3, 2, 1], [2, 1, 3]] {
        let mut cluster = Cluster::of_nobody();
        let mut entering = Vec::new();
        for id in order {
            entering.push(cluster.enter(plan(id, &[1, 2, 3], Some(3))).await);
            tokio::time::sleep(10 * SECOND).await;
        }
        let mut formed = 0;
        for entering in entering {
            let entered = entering.await.unwrap().unwrap();
            formed += usize::from(entered == Entered::Formed);
        }
        assert_eq!(formed, 1);
        cluster.node(2).send("a").await.unwrap();
        assert_eq!(cluster.agreed(1).await, ["a"]);
        assert_eq!(cluster.node(3).member.status().members.len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_not_formed_without_all_expected_nodes() {
    let mut cluster = Cluster::of_nobody();
    let mut first = plan(1, &[1, 2, 3], Some(3));
    first.wait_max = 20 * SECOND;
    let first = cluster.enter(first).await;
    let mut second = plan(2, &[1, 2, 3], Some(3));
    second.wait_max = 20 * SECOND;
    let second = cluster.enter(second).await;
    for entering in [first, second] {
        let error = entering.await.unwrap().unwrap_err();
        assert!(matches!(error, MemberError::Timeout { .. }), "{error}");
    }
    assert!(
        cluster
            .nodes
            .iter()
            .all(|node| node.member.status().last.is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn a_founder_that_restarts_alone_goes_on() {
    let mut cluster = Cluster::of_nobody();
    let first = plan(1, &[1, 2, 3], Some(3));
    let founder = cluster.start_new(1, &first.own.1).await;
    let members = (1..=3).map(|id| (node(id), peer(id, id))).collect();
    founder.member.bootstrap(members).await.unwrap();
    let again = cluster.restart_at(1, &first.own.1).await.member.clone();
    let mut entering = vec![tokio::spawn(async move { again.enter(first).await })];
    for id in 2..=3 {
        entering.push(cluster.enter(plan(id, &[1, 2, 3], Some(3))).await);
    }
    for entering in entering {
        entering.await.unwrap().unwrap();
    }
    cluster.node(3).send("a").await.unwrap();
    assert_eq!(cluster.agreed(1).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_disagree_are_refused_by_name() {
    let mut cluster = Cluster::of_nobody();
    let first = cluster.enter(plan(1, &[1, 2, 3], Some(3))).await;
    let second = cluster.enter(plan(2, &[1, 2], Some(2))).await;
    refused(first, "expects 2 nodes").await;
    refused(second, "expects 3 nodes").await;

    let mut cluster = Cluster::of_nobody();
    let first = cluster.enter(plan(1, &[1, 2], Some(2))).await;
    let mut other = plan(2, &[1, 2], Some(2));
    other.mode = "tree".to_owned();
    let second = cluster.enter(other).await;
    refused(first, "in tree mode").await;
    refused(second, "in list mode").await;

    let mut cluster = Cluster::of_nobody();
    let twice = cluster.enter(plan(1, &[2, 2, 1], Some(3))).await;
    let error = twice.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("stands twice"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn two_nodes_with_one_id_are_told_so() {
    let mut cluster = Cluster::of_nobody();
    let join = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let mut entering = Vec::new();
    for (id, address, directory) in [(1, "a", 10), (2, "b", 20), (2, "c", 21)] {
        let mut plan = plan(id, &[], Some(3));
        plan.join.clone_from(&join);
        plan.own.1 = Peer {
            raft: address.to_owned(),
            ..peer(id, directory)
        };
        entering.push(cluster.enter(plan).await);
    }
    let third = entering.pop().unwrap();
    refused(third, "has node id 2 too").await;
    refused(entering.pop().unwrap(), "has node id 2 too").await;
    refused(entering.pop().unwrap(), "both have node id 2").await;
}

#[tokio::test(start_paused = true)]
async fn a_new_node_joins_the_cluster_that_is_there() {
    let mut cluster = Cluster::of_nobody();
    let first = cluster.enter(plan(1, &[], None)).await;
    first.await.unwrap().unwrap();
    cluster.node(1).send("a").await.unwrap();
    let second = cluster.enter(plan(2, &[1], None)).await;
    assert_eq!(second.await.unwrap().unwrap(), Entered::Joined);
    // Through a follower, and although it would form one.
    let third = cluster.enter(plan(3, &[2, 3], Some(2))).await;
    assert_eq!(third.await.unwrap().unwrap(), Entered::Joined);
    let mut replica = plan(4, &[2, 3], None);
    replica.voter = false;
    let replica = cluster.enter(replica).await;
    assert_eq!(replica.await.unwrap().unwrap(), Entered::Joined);
    let members = cluster.leader().await.member.status().members;
    let votes: Vec<bool> = members.values().map(|member| member.voter).collect();
    assert_eq!(votes, [true, true, true, false]);
    cluster.node(4).send("b").await.unwrap();
    assert_eq!(cluster.agreed(2).await, ["a", "b"]);
    let mut wrong = plan(5, &[1], None);
    wrong.mode = "tree".to_owned();
    refused(cluster.enter(wrong).await, "in list mode").await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_belongs_and_announces_where_it_is_now() {
    let mut cluster = Cluster::of_nobody();
    for id in 1..=3 {
        let entering = cluster
            .enter(plan(id, if id == 1 { &[] } else { &[1] }, None))
            .await;
        entering.await.unwrap().unwrap();
    }
    let same = plan(3, &[1], None);
    let again = cluster
        .restart_at(3, &same.own.1)
        .await
        .member
        .enter(same)
        .await;
    assert_eq!(again.unwrap(), Entered::Belonged);
    let mut other = plan(3, &[1], None);
    other.settings = Bytes::from_static(b"other");
    let error = cluster.node(3).member.enter(other).await.unwrap_err();
    assert!(
        error.to_string().contains("those of its cluster"),
        "{error}"
    );
    let mut moved = plan(3, &[1], None);
    moved.own.1.raft = "elsewhere".to_owned();
    moved.own.1.http = "front".to_owned();
    let peer = moved.own.1.clone();
    let again = cluster.restart_at(3, &peer).await.member.enter(moved).await;
    assert_eq!(again.unwrap(), Entered::Belonged);
    until("all know where it is", || {
        let knows =
            |node: &Node, id: u64| node.member.status().members[&super::node(id)].peer == peer;
        cluster.nodes.iter().all(|node| knows(node, 3))
    })
    .await;
    cluster.node(3).send("a").await.unwrap();
    assert_eq!(cluster.agreed(1).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn two_wiped_of_three_form_no_second_cluster() {
    let mut cluster = Cluster::of_nobody();
    let mut entering = Vec::new();
    for id in 1..=3 {
        entering.push(cluster.enter(plan(id, &[1, 2, 3], Some(3))).await);
    }
    for entering in entering {
        entering.await.unwrap().unwrap();
    }
    cluster.node(1).send("a").await.unwrap();
    for third_runs in [true, false] {
        if !third_runs {
            cluster.take(3).member.stop().await;
        }
        let mut entering = Vec::new();
        for id in 1..=2 {
            let old = cluster.take(id);
            old.member.stop().await;
            let mut plan = plan(id, &[1, 2, 3], Some(3));
            plan.own.1.directory = DirectoryId(if third_runs { 100 } else { 200 } + id);
            plan.wait_max = 30 * SECOND;
            entering.push(cluster.enter(plan).await);
        }
        for (entering, id) in entering.into_iter().zip(1..) {
            if third_runs {
                refused(entering, &format!("remove node {id} from the cluster")).await;
            } else {
                let error = entering.await.unwrap().unwrap_err();
                assert!(matches!(error, MemberError::Timeout { .. }), "{error}");
            }
            assert_eq!(cluster.node(id).member.status().last, None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_node_does_not_come_back_by_itself() {
    let mut cluster = Cluster::of_nobody();
    for id in 1..=3 {
        let entering = cluster
            .enter(plan(id, if id == 1 { &[] } else { &[1] }, None))
            .await;
        entering.await.unwrap().unwrap();
    }
    cluster.node(1).send("a").await.unwrap();
    cluster.agreed(1).await;
    cluster
        .node(1)
        .member
        .remove(node(3), 30 * SECOND)
        .await
        .unwrap();
    until("it says so", || cluster.node(3).member.status().removed).await;
    let same = plan(3, &[1], None);
    let again = cluster
        .restart_at(3, &same.own.1)
        .await
        .member
        .enter(same)
        .await;
    let entered = match again {
        // It had seen nothing of its removal; its status tells.
        Ok(Entered::Belonged) => true,
        Ok(other) => panic!("{other:?}"),
        Err(error) => {
            assert!(error.to_string().contains("was removed"), "{error}");
            false
        }
    };
    if entered {
        until("it says so again", || {
            cluster.node(3).member.status().removed
        })
        .await;
    }
    assert_eq!(cluster.node(1).member.status().members.len(), 2);
}
