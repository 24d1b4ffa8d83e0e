//! Data directories that aren't this node's, or that it can't write: refused by name, and nothing is lost.

use crate::cluster::Cluster;
use crate::wrong::{copy, ends};
use serde_json::json;

/// As status tells it.
fn name(cluster: &Cluster) -> String {
    let status = cluster.nodes[0].status();
    status["sqlrep"]["cluster"].as_str().unwrap().to_owned()
}

/// A node of another cluster in the place of a member would answer its clients from other data.
#[test]
fn a_directory_of_another_cluster_is_refused_and_both_are_named() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    cluster.nodes[0].must("INSERT INTO ledger VALUES (1)");
    let mut foreign = Cluster::of(1);
    foreign.start_all();
    foreign.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    foreign.nodes[0].must("INSERT INTO ledger VALUES (9)");
    let (ours, theirs) = (name(&cluster), name(&foreign));
    assert_ne!(ours, theirs);
    assert!(foreign.nodes[0].stop().success());

    assert!(cluster.nodes[0].stop().success());
    let own = cluster.nodes[0].directory.clone();
    let aside = own.with_file_name("aside");
    std::fs::rename(&own, &aside).unwrap();
    copy(&foreign.nodes[0].directory, &own);
    let founding = cluster.founding();
    let founding: Vec<&str> = founding.iter().map(String::as_str).collect();
    let run = cluster.nodes[0].refused(&founding);
    ends(&run, 3, &format!("node 1 belongs to cluster {theirs}"));
    ends(&run, 3, &format!("to cluster {ours}"));
    ends(&run, 3, "put this node's own data directory back");

    // Both directories are as they were.
    foreign.nodes[0].directory.clone_from(&own);
    foreign.nodes[0].spawn(&[]);
    foreign.ready();
    let rows = foreign.nodes[0].rows("SELECT id FROM ledger", "strong");
    assert_eq!(rows.unwrap(), json!([[9]]));
    assert!(foreign.nodes[0].stop().success());
    std::fs::remove_dir_all(&own).unwrap();
    std::fs::rename(&aside, &own).unwrap();
    cluster.start_all();
    cluster.nodes[0].must("INSERT INTO ledger VALUES (2)");
    cluster.check(&[1, 2].into(), &[].into());
}
