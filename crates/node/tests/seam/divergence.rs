//! A node whose database isn't what the others have: found out, taken out of service, repaired from the leader, back.
//!
//! Three whole nodes on simulated disks, network and time. What is wrong is put into a data directory while its node is
//! stopped, so that the product has no part in it.
use crate::world::{World, rows, simulated, write};
use sqlrep_core::{NodeId, ReadLevel};
use sqlrep_disk::{Disk, OpenMode, SimulatedDisk};
use sqlrep_node::Node;
use sqlrep_service::Role;
use sqlrep_sql::Value;
use sqlrep_store::{Checksum, InstallEnd, Options, PageNumber, PinKind, Store, page_hash};
use std::sync::Arc;
use std::time::Duration;

const ROWS: i64 = 300;

/// Installs the database that is there with one letter changed: every hash, sum and position in it is right.
pub(crate) fn alter(disk: &SimulatedDisk) {
    let store = Store::open(Options::new(Arc::new(disk.clone()))).unwrap();
    let pin = store.pin(PinKind::Backup);
    let end = pin.end().clone();
    let size = store.page_size();
    let mut images = Vec::new();
    for page in 1..=end.pages.0 {
        let mut image = vec![0; size.bytes() as usize];
        pin.read(PageNumber::new(page).unwrap(), 0, &mut image)
            .unwrap();
        images.push(image);
    }
    let found = images.iter_mut().find_map(|image| {
        let at = image.windows(8).position(|window| window == b"the same")?;
        Some(&mut image[at])
    });
    *found.unwrap() = b'T';
    let mut checksum = Checksum(0);
    for (page, image) in (1..).zip(&images) {
        checksum.0 ^= page_hash(PageNumber::new(page).unwrap(), image);
    }
    assert_ne!(checksum, end.checksum);
    let mut installer = store
        .begin_install(InstallEnd {
            position: end.position.unwrap(),
            pages: end.pages,
            checksum,
            side: end.side.clone(),
        })
        .unwrap();
    for (page, image) in (1..).zip(&images) {
        installer
            .write(PageNumber::new(page).unwrap(), image)
            .unwrap();
    }
    installer.complete().unwrap();
    drop(pin);
    store.install(installer).unwrap();
}

/// Flips a bit in the middle of the live base file.
fn rot(disk: &SimulatedDisk) {
    rot_at(disk, |size| size / 2);
}

fn rot_at(disk: &SimulatedDisk, at: impl Fn(u64) -> u64) {
    let generation = Store::open(Options::new(Arc::new(disk.clone())))
        .unwrap()
        .generation();
    let file = disk
        .open(&format!("db/{generation}/main.db"), OpenMode::Existing)
        .unwrap();
    let at = at(file.size().unwrap());
    let mut byte = [0];
    file.read_exact_at(at, &mut byte).unwrap();
    file.write_at(at, &[byte[0] ^ 4]).unwrap();
    file.sync().unwrap();
}

/// Whether the live generation is one that mustn't be used; the former one may still be there.
fn is_marked(disk: &SimulatedDisk) -> bool {
    let generations = disk.list("db").unwrap();
    let newest = generations
        .iter()
        .filter_map(|name| name.parse::<u64>().ok())
        .max();
    let files = disk.list(&format!("db/{}", newest.unwrap())).unwrap();
    files.contains(&"distrusted".to_owned())
}

fn repairs(node: &Node) -> String {
    let status = node.status();
    status.metrics["state_repairs_total"].to_string()
}

/// Waits until all nodes trust their states and have the same.
pub(crate) async fn equal(nodes: &[Node]) {
    for _ in 0..6000 {
        let state = |node: &Node| {
            let status = node.status();
            (
                status.log.applied,
                status.sqlite.checksum,
                status.out_of_service,
            )
        };
        let first = state(&nodes[0]);
        if first.2.is_none() && nodes.iter().all(|node| state(node) == first) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = nodes.iter().map(|node| format!("{:?}\n", node.status()));
    panic!("after 60 s not equal: {}", told.collect::<String>());
}

/// Waits until the sick node was repaired and everything is equal everywhere.
async fn healed(nodes: &[Node], sick: usize) {
    while repairs(&nodes[sick]) != "1" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    equal(nodes).await;
}

pub(crate) async fn agree(nodes: &[Node], count: i64) {
    for node in nodes {
        for level in [ReadLevel::None, ReadLevel::Linearizable] {
            let sql = "SELECT count(*), sum(text LIKE '%T%' COLLATE BINARY AND text GLOB 'T*') FROM t WHERE id > 0";
            let found = rows(node, sql, level).await.unwrap();
            assert_eq!(found, [[Value::Integer(count), Value::Integer(0)]]);
        }
    }
}

/// Has the cluster elect until `wanted` leads.
async fn led_by(world: &World, nodes: &[Node], wanted: usize) {
    for _ in 0..100 {
        let leads = |node: &Node| node.status().role == Role::Leader;
        while !nodes.iter().any(leads) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if leads(&nodes[wanted]) {
            return;
        }
        let leader = nodes.iter().position(leads).unwrap();
        world.board.isolate(nodes[leader].id());
        let others = || nodes.iter().enumerate().filter(|(at, _)| *at != leader);
        while !others().any(|(_, node)| leads(node)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.board.heal();
        while leads(&nodes[leader]) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    panic!("node {wanted} is never elected");
}

/// Rules 16 and 31: a database that differs while every hash in it is right is found by the checksums that travel in the
/// log, whether its node follows or leads; the two others agree, so that one is repaired.
#[test]
fn a_node_that_differs_is_found_and_repaired() {
    for (sick, leader) in [(0, 0), (1, 1), (0, 1), (1, 2), (2, 0)] {
        simulated(async || {
            let mut world = World::begin(11);
            world.filled(ROWS).await;
            alter(&world.disks[sick]);
            let nodes = world.ready().await;
            led_by(&world, &nodes, leader).await;
            // Its own checksum travels with the entry behind it.
            for id in [-1, -2] {
                write(
                    &nodes[leader],
                    format!("INSERT INTO t VALUES ({id}, 'new')"),
                )
                .await;
            }
            healed(&nodes, sick).await;
            agree(&nodes, ROWS).await;
        });
    }
}

/// Rules 11 and 16: a repair brings the pages that differ; the rest of the database stays where it is.
#[test]
fn a_repair_brings_only_the_pages_that_differ() {
    let damages: [fn(&SimulatedDisk); 2] = [alter, rot];
    for damage in damages {
        simulated(async || {
            let mut world = World::begin(15);
            world.filled(ROWS).await;
            let nodes = world.ready().await;
            let more = "WITH n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                        INSERT INTO t SELECT i, 'more of it ' || i || hex(zeroblob(100)) FROM n";
            write(&nodes[0], more.to_owned()).await;
            equal(&nodes).await;
            for node in nodes {
                Box::pin(node.stop()).await;
            }
            let sick = 1;
            damage(&world.disks[sick]);
            let nodes = world.ready().await;
            write(&nodes[0], "INSERT INTO t VALUES (-1, 'new')".to_owned()).await;
            let all = "SELECT count(*), count(text) FROM t";
            let _met = rows(&nodes[sick], all, ReadLevel::None).await;
            healed(&nodes, sick).await;
            let sum = |name: &str| -> f64 {
                let metric = |node: &Node| node.status().metrics[name];
                nodes.iter().map(metric).sum()
            };
            let pages = nodes[0].status().metrics["store_pages"];
            assert!(pages > 200.0, "{pages} pages");
            let spared = sum("snapshot_spared_pages_total");
            let bytes = sum("snapshot_sent_bytes_total");
            assert!(spared >= pages - 8.0, "{spared} of {pages} pages");
            assert!(bytes < 9.0 * 4096.0, "{bytes} bytes for {pages} pages");
        });
    }
}

/// Rules 7, 16 and 31: a page that rotted on disk is met by a reader, which gets no answer from it; the node is repaired.
#[test]
fn a_node_with_a_rotten_page_is_repaired() {
    for sick in 0..3 {
        simulated(async || {
            let mut world = World::begin(12);
            world.filled(ROWS).await;
            rot(&world.disks[sick]);
            let nodes = world.ready().await;
            let all = "SELECT count(*), count(text) FROM t";
            assert_eq!(rows(&nodes[sick], all, ReadLevel::None).await, None);
            healed(&nodes, sick).await;
            agree(&nodes, ROWS).await;
        });
    }
}

/// Without its first page SQLite opens nothing: the node started no more, and called for a new disk. Found by the
/// simulation.
#[test]
fn a_node_whose_first_page_is_rotten_starts_and_is_repaired() {
    simulated(async || {
        let mut world = World::begin(14);
        world.filled(ROWS).await;
        let sick = 2;
        rot_at(&world.disks[sick], |_| 100);
        let nodes = world.start().await;
        assert_eq!(rows(&nodes[sick], "SELECT 1", ReadLevel::None).await, None);
        healed(&nodes, sick).await;
        agree(&nodes, ROWS).await;
        assert!(!is_marked(&world.disks[sick]));
    });
}

/// A node that was found wrong and stopped before its repair serves nothing after the restart either.
#[test]
fn what_a_node_was_found_guilty_of_outlives_it() {
    simulated(async || {
        let mut world = World::begin(13);
        world.filled(ROWS).await;
        let sick = 1;
        rot(&world.disks[sick]);
        let nodes = world.ready().await;
        for id in 1..=3u64 {
            world.board.isolate(NodeId::new(id).unwrap());
        }
        let all = "SELECT count(*), count(text) FROM t";
        assert_eq!(rows(&nodes[sick], all, ReadLevel::None).await, None);
        while nodes[sick].status().out_of_service.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        for node in nodes {
            Box::pin(node.stop()).await;
        }
        assert!(is_marked(&world.disks[sick]));
        world.board.heal();
        let nodes = world.start().await;
        assert_eq!(rows(&nodes[sick], "SELECT 1", ReadLevel::None).await, None);
        healed(&nodes, sick).await;
        agree(&nodes, ROWS).await;
        assert!(!is_marked(&world.disks[sick]));
    });
}
