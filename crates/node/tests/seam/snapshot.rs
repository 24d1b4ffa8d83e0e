//! A follower that needs a snapshot, and whose network fails while it comes.

use crate::divergence::equal;
use crate::world::{World, rows, simulated, write};
use sqlrep_core::ReadLevel;
use sqlrep_node::Node;
use sqlrep_service::Role;
use sqlrep_sql::Value;
use std::time::Duration;

const ROWS: i64 = 120;

/// What may be on its way when the network fails, and is sent again: a window of chunks.
const WINDOW_BYTES: f64 = 8.0 * 262_144.0;

fn metric(node: &Node, name: &str) -> f64 {
    node.status().metrics[name]
}

/// Waits until `holds`, in simulated time.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..200_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("after 200 s: not {what}");
}

/// Rule 11: half of the database is there when the network fails; when it is back only the other half comes, though the
/// leader goes on writing and checkpointing meanwhile.
#[test]
fn a_snapshot_goes_on_where_the_network_failed() {
    simulated(async || {
        let mut world = World::begin(41);
        world.log_retention_entries = 1;
        let nodes = world.ready().await;
        let leads = |node: &Node| node.status().role == Role::Leader;
        let leads = nodes.iter().position(leads).unwrap();
        let (from, to) = (&nodes[leads], &nodes[(leads + 1) % 3]);
        let away = to.id();
        write(
            from,
            "CREATE TABLE t (id INTEGER PRIMARY KEY, x)".to_owned(),
        )
        .await;
        world.board.isolate(away);
        for id in 1..=ROWS {
            let sql = format!("INSERT INTO t VALUES ({id}, hex(randomblob(50000)))");
            write(from, sql).await;
        }
        let needed = to.status().log.applied.map(|at| at.index);
        until("purged", || {
            from.status().log.purged.map(|at| at.index) > needed
        })
        .await;
        let bytes = metric(from, "store_pages") * 4096.0;
        let sent = || metric(from, "snapshot_sent_bytes_total");
        assert_eq!(sent(), 0.0);
        world.board.set_latency(Duration::from_millis(20));
        world.board.heal();
        until("half of it is out", || sent() > bytes / 2.0).await;
        world.board.isolate(away);
        for id in 1..=5 {
            write(from, format!("UPDATE t SET x = 'new' WHERE id = {id}")).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(sent() < bytes, "{} of {bytes}", sent());
        world.board.heal();
        equal(&nodes).await;
        assert_eq!(metric(from, "snapshot_resumes_total"), 1.0);
        assert!(
            sent() < bytes * 1.02 + WINDOW_BYTES,
            "{} for {bytes}",
            sent()
        );
        let count = rows(to, "SELECT count(*) FROM t", ReadLevel::None).await;
        assert_eq!(count.unwrap(), [[Value::Integer(ROWS)]]);
    });
}

/// Rule 11: a follower that has been away for a while, and has most of the database, is sent the pages that changed.
#[test]
fn a_follower_that_was_away_is_sent_what_changed() {
    simulated(async || {
        let mut world = World::begin(42);
        world.log_retention_entries = 1;
        let nodes = world.ready().await;
        let leads = |node: &Node| node.status().role == Role::Leader;
        let leads = nodes.iter().position(leads).unwrap();
        let (from, to) = (&nodes[leads], &nodes[(leads + 1) % 3]);
        let rows_there = 40;
        let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, x)";
        write(from, table.to_owned()).await;
        for id in 1..=rows_there {
            let sql = format!("INSERT INTO t VALUES ({id}, hex(randomblob(50000)))");
            write(from, sql).await;
        }
        equal(&nodes).await;
        world.board.isolate(to.id());
        let needed = to.status().log.applied.map(|at| at.index);
        let purged = || from.status().log.purged.map(|at| at.index);
        // Again and again, so that a checkpoint is due.
        for round in 0.. {
            let new = "SET x = 'new' || hex(randomblob(50000))";
            let id = (1 + round % 4) * 10;
            write(from, format!("UPDATE t {new} WHERE id = {id}")).await;
            if round >= 3 && purged() > needed {
                break;
            }
        }
        world.board.heal();
        equal(&nodes).await;
        let pages = metric(from, "store_pages");
        let bytes = metric(from, "snapshot_sent_bytes_total");
        let changed = 4.0 * 100_000.0;
        assert!(bytes > changed && bytes < 1.2 * changed, "{bytes} bytes");
        let spared = metric(from, "snapshot_spared_pages_total");
        assert!(spared > 0.85 * pages, "{spared} of {pages} pages");
        let count = rows(to, "SELECT count(*) FROM t", ReadLevel::None).await;
        assert_eq!(count.unwrap(), [[Value::Integer(rows_there)]]);
    });
}
