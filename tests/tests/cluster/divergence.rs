//! A running cluster, one of whose databases isn't what the others have: found out, taken out of service, repaired, back; as an
//! operator sees it.

use crate::MODE;
use crate::cluster::Cluster;
use crate::command::sqlrep;
use crate::process::NodeProcess;
use crate::waiting::until;
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
