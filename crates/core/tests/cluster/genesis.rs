//! How a cluster gets its name.

use super::*;
use sqlrep_core::Cluster as Members;

fn name(node: &Node) -> (ClusterId, Bytes) {
    let status = node.member.status();
    (status.cluster, status.settings)
}

#[tokio::test(start_paused = true)]
async fn all_members_agree_on_the_name_of_the_first_leader() {
    let cluster = Cluster::form(3, Style::Late).await;
    cluster.nodes[0].send("a").await.unwrap();
    let leader = cluster.leader().await;
    cluster.agreed(1).await;
    let id = leader.id.get();
    for node in &cluster.nodes {
        let expected = (ClusterId(1000 + id), Bytes::from(format!("of {id}")));
        assert_eq!(name(node), expected);
        let told: Arc<Members> = node.member.membership().borrow().clone();
        assert_eq!((told.id, told.settings.clone()), name(node));
        let members: Vec<_> = told
            .members
            .iter()
            .map(|(id, m)| (id.get(), m.voter))
            .collect();
        assert_eq!(members, [(1, true), (2, true), (3, true)]);
    }
}

/// The first leader is gone before it could name the cluster: the next one does, and nothing of a client
/// comes before.
#[tokio::test(start_paused = true)]
async fn a_crash_before_the_name_leaves_it_to_the_next_leader() {
    for style in [Style::Late, Style::Ahead] {
        let mut cluster = Cluster::unformed(3, style, Settings::default(), 1).await;
        cluster.board.set_latency(Duration::from_millis(20));
        cluster.bootstrap(3).await;
        // It has been elected, and its name is on its way: it is lost with it.
        let first = cluster.nodes[0].member.clone();
        while first.status().leader != Some(node(1)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cluster.board.isolate(node(1));
        assert_eq!(first.status().cluster, ClusterId(0));
        cluster.nodes.remove(0).member.stop().await;
        let written = cluster.nodes[0].send("a").await.unwrap();
        cluster.agreed(1).await;
        let expected = ClusterId(1000 + written.by.get());
        assert_eq!(name(&cluster.nodes[0]).0, expected);
        assert_eq!(name(&cluster.nodes[1]).0, expected);
    }
}

/// A name that was given is kept over restarts: by the state, and by the log behind it.
#[tokio::test(start_paused = true)]
async fn a_restart_keeps_the_name() {
    for checkpointed in [false, true] {
        let mut cluster = Cluster::form(1, Style::Ahead).await;
        cluster.nodes[0].send("a").await.unwrap();
        let before = name(&cluster.nodes[0]);
        if checkpointed {
            cluster.nodes[0]
                .member
                .checkpoint(true)
                .await
                .unwrap()
                .unwrap();
        }
        let old = cluster.nodes.remove(0);
        old.member.stop().await;
        let machine = Arc::new(List::on(Style::Ahead, old.machine.durable_state()));
        cluster.start_on(1, machine, old.log).await;
        assert_eq!(cluster.nodes[0].send("b").await.unwrap().reply, "2");
        assert_eq!(name(&cluster.nodes[0]), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_name_forms_no_cluster() {
    let cluster = Cluster::unformed(1, Style::Late, Settings::default(), 1).await;
    let nameless = cluster.start_nameless(2).await;
    let members = BTreeMap::from([(node(2), Cluster::peer(2))]);
    let refused = nameless.bootstrap(members).await.unwrap_err();
    assert!(refused.to_string().contains("no name"), "{refused}");
    let refused = cluster.start_zero(3).await.err().unwrap();
    assert!(refused.to_string().contains("cluster id 0"), "{refused}");
}
