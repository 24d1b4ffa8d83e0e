//! Nodes join, are removed, are wiped; a second cluster never forms.

use crate::cluster::Cluster;
use crate::load::Load;
use crate::waiting::until;
use serde_json::json;

#[test]
fn a_newcomer_gets_a_snapshot_and_votes_and_a_learner_reads() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    let load = Load::start(&cluster);
    until("some writes", || (load.acknowledged() > 100).then_some(()));
    let through = ["--join".to_owned(), cluster.nodes[2].raft.clone()];
    let mut fourth = cluster.newcomer(4);
    fourth.spawn(&through);
    let mut learner = cluster.newcomer(5);
    learner.spawn(&[through.to_vec(), vec!["--non-voter".to_owned()]].concat());
    let (done, refused) = load.end();
    cluster.nodes.extend([fourth, learner]);
    cluster.ready();
    cluster.check(&done, &refused);
    until("four voters and a learner", || {
        let (_, nodes) = cluster.nodes[1].get("/nodes?nonvoters&ver=2")?;
        let nodes: serde_json::Value = serde_json::from_str(&nodes).ok()?;
        let voters = nodes["nodes"]
            .as_array()?
            .iter()
            .filter(|node| node["voter"] == json!(true));
        (voters.count() == 4 && nodes["nodes"].as_array()?.len() == 5).then_some(())
    });
}

#[test]
fn a_removed_node_is_gone_and_the_others_go_on() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    let leader = cluster.leader();
    let (stays, goes) = ((leader + 1) % 3, (leader + 2) % 3);
    let body = json!({ "id": cluster.nodes[goes].id.to_string() });
    let answer = cluster.nodes[stays].delete("/remove", &body);
    assert_eq!(answer.unwrap().status, 200);
    let mut gone = cluster.nodes.remove(goes);
    until("two members", || {
        let (_, nodes) = cluster.nodes[0].get("/nodes?ver=2")?;
        let nodes: serde_json::Value = serde_json::from_str(&nodes).ok()?;
        (nodes["nodes"].as_array()?.len() == 2).then_some(())
    });
    gone.kill();
    cluster.nodes[0].must("INSERT INTO ledger VALUES (1)");
    cluster.check(&[1].into(), &[].into());
}

#[test]
fn two_wiped_directories_form_no_second_cluster() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    cluster.nodes[0].must("INSERT INTO ledger VALUES (1)");
    cluster.agree("SELECT id FROM ledger");
    let founding = cluster.founding();
    for node in &mut cluster.nodes[..2] {
        node.kill();
        std::fs::remove_dir_all(&node.directory).unwrap();
        node.spawn(&founding);
    }
    // The third alone has no majority, and the wiped two belong to nobody: neither serves writes.
    let status = |at: usize| cluster.nodes[at].get("/readyz?timeout=1s");
    until("all three say that they aren't ready", || {
        let unready = (0..3).all(|at| matches!(status(at), Some((503, _)) | None));
        unready.then_some(())
    });
    for node in &cluster.nodes {
        let refused = node.post(
            "/db/execute?timeout=2s",
            &json!(["INSERT INTO ledger VALUES (2)"]),
        );
        if let Ok((code, answer)) = refused {
            assert!(code != 200 || !answer["error"].is_null(), "{code} {answer}");
        }
    }
}

#[test]
fn nodes_that_start_one_after_the_other_find_each_other() {
    let mut cluster = Cluster::of(3);
    let founding = cluster.founding();
    cluster.nodes[0].spawn(&founding);
    until("the first answers, and isn't ready", || {
        matches!(cluster.nodes[0].get("/readyz?timeout=1s"), Some((503, _))).then_some(())
    });
    cluster.nodes[2].spawn(&founding);
    until("the last answers", || {
        cluster.nodes[2].get("/status").map(|_| ())
    });
    assert!(matches!(
        cluster.nodes[0].get("/readyz?timeout=1s"),
        Some((503, _))
    ));
    cluster.start_all();
    cluster.nodes[1].must("CREATE TABLE t (x)");
}
