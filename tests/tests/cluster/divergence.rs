//! A running cluster, one of whose databases isn't what the others have: found out, taken out of service, repaired, back; as an
//! operator sees it.

use crate::MODE;
use crate::cluster::Cluster;
use crate::command::sqlrep;
use crate::process::NodeProcess;
use crate::waiting::until;
use serde_json::json;
use sqlrep_disk::RealDisk;
use sqlrep_store::{Checksum, InstallEnd, Options, PageNumber, PinKind, Store, page_hash};
use std::path::Path;
use std::sync::Arc;

/// Installs the database that is there with one letter changed: every hash, sum and position in it is right.
fn alter(directory: &Path) {
    let disk = Arc::new(RealDisk::open(directory).unwrap());
    let store = Store::open(Options::new(disk)).unwrap();
    let pin = store.pin(PinKind::Backup);
    let end = pin.end().clone();
    let number = |page| PageNumber::new(page).unwrap();
    let mut images: Vec<Vec<u8>> = Vec::new();
    for page in 1..=end.pages.0 {
        let mut image = vec![0; store.page_size().bytes() as usize];
        pin.read(number(page), 0, &mut image).unwrap();
        images.push(image);
    }
    let letter = images.iter_mut().find_map(|image| {
        let at = image.windows(8).position(|window| window == b"the same")?;
        Some(&mut image[at])
    });
    *letter.unwrap() = b'T';
    let mut checksum = Checksum(0);
    for (page, image) in (1..).zip(&images) {
        checksum.0 ^= page_hash(number(page), image);
    }
    let position = end.position.unwrap();
    let altered = InstallEnd {
        position,
        pages: end.pages,
        checksum,
        side: end.side.clone(),
    };
    let mut installer = store.begin_install(altered).unwrap();
    for (page, image) in (1..).zip(&images) {
        installer.write(number(page), image).unwrap();
    }
    installer.complete().unwrap();
    drop(pin);
    store.install(installer).unwrap();
}

fn counted(node: &NodeProcess, name: &str) -> f64 {
    let (_, text) = node.get("/metrics").unwrap();
    let line = text.lines().find_map(|line| {
        line.strip_prefix(&format!("sqlrep_{name} "))
            .map(str::to_owned)
    });
    line.unwrap().parse().unwrap()
}

/// Rule 31: the check tells that replicas differ; the one that does judges itself, is repaired, and is equal again.
#[test]
fn a_check_tells_that_replicas_differ_and_the_wrong_one_is_repaired() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE t (id INTEGER PRIMARY KEY, text)");
    for id in 0..70 {
        cluster.nodes[0].must(&format!(
            "INSERT INTO t VALUES ({id}, 'the same everywhere')"
        ));
    }
    cluster.agree_on_bytes();
    for node in &mut cluster.nodes {
        assert!(node.stop().success());
    }
    let sick = 2;
    alter(&cluster.nodes[sick].directory);
    // Two of three that differ can't tell who is wrong before the third one answers.
    let founding = cluster.founding();
    for at in [0, sick] {
        cluster.nodes[at].spawn(&founding);
    }
    let address = format!("--addr=http://{}", cluster.nodes[0].http);
    let run = until("the check ends with code 6", || {
        let run = sqlrep(&["check", "--cluster", &address], "");
        assert_ne!(run.code, Some(0), "{run:?}");
        (run.code == Some(6)).then_some(run)
    });
    assert!(run.out.contains("replicas differ"), "{run:?}");
    until("it is in doubt", || {
        let status = cluster.nodes[sick].status();
        let told = &status["sqlrep"]["in_doubt"];
        told.as_str()
            .is_some_and(|why| why.contains("its checksum"))
            .then_some(())
    });
    assert!(counted(&cluster.nodes[sick], "in_doubt") >= 1.0);
    // Statement mode's stop left entries behind the last reset point, whose replay compares; page mode's left none.
    let replays = MODE == "statement";
    let compared = counted(&cluster.nodes[sick], "checksum_mismatches_total") >= 1.0;
    assert_eq!(compared, replays);
    cluster.nodes[1].spawn(&founding);
    until("it is out of service", || {
        let status = cluster.nodes[sick].status();
        let repaired = counted(&cluster.nodes[sick], "state_repairs_total") >= 1.0;
        let told = status["sqlrep"]["out_of_service"].is_string();
        (told || repaired).then_some(())
    });
    until("it is repaired", || {
        (counted(&cluster.nodes[sick], "state_repairs_total") >= 1.0).then_some(())
    });
    cluster.ready();
    assert!(counted(&cluster.nodes[sick], "state_trials_total") >= 1.0);
    let said = cluster.nodes[sick].said();
    for line in [
        "this node's state is in doubt",
        "states were compared",
        "this node's state is wrong, it serves nothing until it is repaired",
        "this node's state was replaced by the leader's, it is in service",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    let status = cluster.nodes[sick].status();
    assert!(status["sqlrep"]["out_of_service"].is_null(), "{status}");
    cluster.agree("SELECT * FROM t ORDER BY id");
    cluster.agree_on_bytes();
    let run = sqlrep(&["check", "--cluster", &address], "");
    assert_eq!(run.code, Some(0), "{run:?}");
}

/// Flips a bit of a row in the base file of a node that is stopped.
fn rot(node: &NodeProcess) {
    const PAGE_BYTES: usize = 4096;
    let generation = node.generations().pop().unwrap();
    let file = node.directory.join(format!("db/{generation}/main.db"));
    let mut bytes = std::fs::read(&file).unwrap();
    // Behind the schema and the root of the table.
    let rows = &mut bytes[2 * PAGE_BYTES..];
    let at = rows.windows(8).position(|window| window == b"the same");
    rows[at.unwrap()] ^= 1;
    std::fs::write(&file, bytes).unwrap();
}

/// Rule 16: a node that finds its own page damaged serves nothing while nobody can repair it, says so everywhere, and returns by
/// itself once the others are there.
#[test]
fn a_damaged_node_serves_nothing_until_the_others_repair_it() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE t (id INTEGER PRIMARY KEY, text)");
    let filler = "x".repeat(200);
    for id in 0..70 {
        cluster.nodes[0].must(&format!(
            "INSERT INTO t VALUES ({id}, 'the same everywhere {filler}')"
        ));
    }
    cluster.agree_on_bytes();
    for node in &mut cluster.nodes {
        assert!(node.stop().success());
    }
    let (sick, founding) = (1, cluster.founding());
    rot(&cluster.nodes[sick]);
    cluster.nodes[sick].spawn(&founding);
    let node = &cluster.nodes[sick];
    let select = "SELECT count(*), sum(length(text)) FROM t";
    let refused = until("it finds the page", || {
        let read = node.post("/db/query?level=none", &json!([select]));
        let (status, answer) = read.ok()?;
        assert!(answer["results"][0]["values"].is_null(), "{answer}");
        (status == 503).then_some(answer.to_string())
    });
    assert!(refused.contains("being repaired"), "{refused}");
    let (status, _) = node
        .post("/db/query?level=none", &json!(["SELECT 1"]))
        .unwrap();
    assert_eq!(status, 503);
    let (status, said) = node.get("/readyz").unwrap();
    assert_eq!(status, 503, "{said}");
    let told = node.status()["sqlrep"]["out_of_service"].clone();
    assert!(
        told.as_str().is_some_and(|why| why.contains("page")),
        "{told}"
    );
    assert_eq!(counted(node, "out_of_service"), 1.0);
    assert_eq!(counted(node, "state_repairs_total"), 0.0);
    cluster.start_all();
    let node = &cluster.nodes[sick];
    assert_eq!(counted(node, "state_repairs_total"), 1.0);
    assert_eq!(counted(node, "out_of_service"), 0.0);
    assert!(node.status()["sqlrep"]["out_of_service"].is_null());
    for line in [
        "it serves nothing",
        "replaced by the leader's, it is in service",
    ] {
        assert!(node.said().contains(line), "no {line:?} in {}", node.said());
    }
    let rows = cluster.agree(select);
    assert_eq!(rows, json!([[70, 70 * 220]]));
    cluster.agree_on_bytes();
}
