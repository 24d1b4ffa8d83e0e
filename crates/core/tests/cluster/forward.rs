//! Writes that reach the cluster on a node that doesn't lead.

use super::*;

#[tokio::test(start_paused = true)]
async fn every_node_takes_writes_and_tells_who_led_them() {
    for style in [Style::Late, Style::Ahead] {
        let cluster = Cluster::form(3, style).await;
        // The first ones come before anybody leads: they wait.
        for (n, node) in cluster.nodes.iter().enumerate() {
            let written = node.send(&n.to_string()).await.unwrap();
            assert_eq!(written.reply, (n + 1).to_string());
            assert_eq!(written.by, cluster.leader().await.id);
        }
        assert_eq!(cluster.agreed(3).await, ["0", "1", "2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_for_this_node_alone_names_the_leader_at_once() {
    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await.id;
    cluster.agreed(0).await;
    let follower = cluster.nodes.iter().find(|node| node.id != leader).unwrap();
    let refused = follower.push("a").await.unwrap_err();
    let leader = Some(leader);
    assert_eq!(refused, WriteError::NotLeader { leader });
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_leader_comes_back_as_it_is() {
    let cluster = Cluster::form(3, Style::Late).await;
    cluster.leader().await;
    for node in &cluster.nodes {
        let refused = node.send("two\nlines").await.unwrap_err();
        assert!(
            matches!(refused, WriteError::Unsupported { .. }),
            "{refused}"
        );
    }
}

/// Rule 30: a forwarded write whose leader is lost under way is tried again under the key that the node gave it, so the
/// client gets its reply, and the write is there once.
#[tokio::test(start_paused = true)]
async fn a_leader_lost_under_way_is_found_out_about_and_nothing_is_there_twice() {
    for style in [Style::Late, Style::Ahead] {
        for (seed, cut_after_ms) in [(1, 1), (2, 3), (3, 5), (4, 8), (5, 12)] {
            let cluster = Cluster::form_with(3, style, Settings::default(), seed).await;
            let old = cluster.leader().await;
            cluster.agreed(0).await;
            cluster.board.set_latency(Duration::from_millis(2));
            let via = cluster.nodes.iter().find(|node| node.id != old.id).unwrap();
            let (outcome, ()) = tokio::join!(via.send("once"), async {
                tokio::time::sleep(Duration::from_millis(cut_after_ms)).await;
                cluster.board.isolate(old.id);
            });
            let outcome = outcome.unwrap();
            assert!(!outcome.replayed, "the client gave no key");
            // Until `via` follows somebody else, what it sends is lost with the old leader.
            let after = loop {
                match via.send("after").await {
                    Ok(after) => break after,
                    Err(error) => assert_ne!(error.retry(), Retry::Useless, "{error}"),
                }
            };
            assert_ne!(after.by, old.id);
            cluster.board.heal();
            let lines = cluster.agreed(1).await;
            let times = lines.iter().filter(|line| *line == "once").count();
            assert_eq!(times, 1, "{lines:?}");
        }
    }
}

/// A leader that can't be reached was certainly not asked: the write goes to the next one.
#[tokio::test(start_paused = true)]
async fn a_write_waits_for_the_next_leader() {
    let cluster = Cluster::form(3, Style::Ahead).await;
    let old = cluster.leader().await;
    cluster.agreed(0).await;
    cluster.board.isolate(old.id);
    let via = cluster.nodes.iter().find(|node| node.id != old.id).unwrap();
    while via.member.status().leader == Some(old.id) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let written = via.send("a").await.unwrap();
    assert_ne!(written.by, old.id);
    let alone = old.send("b").await.unwrap_err();
    assert_ne!(alone.retry(), Retry::Useless);
}
