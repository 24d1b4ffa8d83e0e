//! Nodes that nobody lets in yet: they say whom they asked and what each one answered, and go on trying.

use crate::cluster::Cluster;
use crate::process::NodeProcess;
use crate::waiting::until;

/// The first warning of a node that belongs to no cluster: seconds after its start, since nodes are rarely started at once.
fn warning(node: &NodeProcess) -> String {
    until("the node warns that it belongs to no cluster", || {
        let said = node.said();
        let mut warnings = said.lines().filter(|line| line.contains(" WARN "));
        let found = warnings.find(|line| line.contains("belongs to no cluster yet"));
        found.map(str::to_owned)
    })
}

#[test]
fn a_node_with_nobody_to_join_warns_and_goes_on_trying() {
    let mut cluster = Cluster::of(1);
    let elsewhere = cluster.newcomer(9).raft.clone();
    let mut late = cluster.newcomer(2);
    late.spawn(&[format!("--join={},{elsewhere}", cluster.nodes[0].raft)]);
    let told = warning(&late);
    for address in [&cluster.nodes[0].raft, &elsewhere] {
        let answer = format!("{address}: can't reach {address}: Connection refused");
        assert!(told.contains(&answer), "no {answer:?} in {told}");
    }
    assert!(late.is_running());

    cluster.start_all();
    cluster.nodes.push(late);
    cluster.ready();
    cluster.nodes[1].must("CREATE TABLE t (x)");
}

#[test]
fn founders_that_lack_one_name_it_and_what_the_others_answered() {
    let mut cluster = Cluster::of(3);
    let founding = cluster.founding();
    for node in &mut cluster.nodes[..2] {
        node.spawn(&founding);
    }
    let lacks = cluster.nodes[2].raft.clone();
    for (at, other) in [(0, 1), (1, 0)] {
        let told = warning(&cluster.nodes[at]);
        let (other, id) = (&cluster.nodes[other].raft, cluster.nodes[other].id);
        for answer in [
            format!("{lacks} doesn't answer"),
            format!("{other}: node {id}, of no cluster yet"),
            format!("{lacks}: can't reach {lacks}: Connection refused"),
        ] {
            assert!(told.contains(&answer), "no {answer:?} in {told}");
        }
        assert!(cluster.nodes[at].is_running());
    }

    cluster.start_all();
    cluster.nodes[2].must("CREATE TABLE t (x)");
}
