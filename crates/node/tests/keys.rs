//! The embedding API with idempotency keys, on a lone node with a simulated disk.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod lone;

use lone::{start, value};
use sqlrep_core::{IdempotencyKey, WriteError};
use sqlrep_disk::{Loss, SimulatedDisk};
use sqlrep_node::Node;
use sqlrep_service::Answer;
use sqlrep_sql::{Outcome, Request, Value};

async fn once(node: &Node, key: &str, sql: &str) -> Result<Answer, WriteError> {
    let key = IdempotencyKey::new(key).unwrap();
    node.execute_once(Request::execute(sql), key).await
}

async fn count(node: &Node) -> Value {
    value(node, "SELECT count(*) FROM t").await
}

/// Rule 29: counts, rowids and errors come again; rows don't, and the retry learns where they were made. A crash changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_retry_gets() {
    let disk = SimulatedDisk::new(1);
    let node = start(&disk, &[]).await;
    let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, x NOT NULL)";
    node.execute(Request::execute(create)).await.unwrap();
    let insert = "INSERT INTO t (x) VALUES (random())";
    let first = once(&node, "insert", insert).await.unwrap();
    let error = once(&node, "error", "INSERT INTO t (x) VALUES (NULL)")
        .await
        .unwrap();
    let rows = "INSERT INTO t (x) VALUES (1) RETURNING id";
    let returned = once(&node, "rows", rows).await.unwrap();
    assert!(!first.replayed && !error.replayed && !returned.replayed);

    drop(node);
    let node = start(&disk.crash(Loss::Everything), &[]).await;
    let again = once(&node, "insert", insert).await.unwrap();
    assert!(again.replayed && again.entry == first.entry);
    let [Outcome::Written(written)] = &again.reply.outcomes[..] else {
        panic!("{again:?}");
    };
    assert_eq!((written.last_insert_id, written.rows_affected), (1, 1));
    let same = once(&node, "error", "INSERT INTO t (x) VALUES (NULL)")
        .await
        .unwrap();
    assert!(same.replayed && same.reply == error.reply, "{same:?}");
    let at = returned.entry.unwrap();
    let kept_not = once(&node, "rows", rows).await.unwrap_err();
    assert_eq!(kept_not, WriteError::ReplyNotKept { at });
    assert_eq!(
        once(&node, "insert", create).await.unwrap_err(),
        WriteError::KeyReused
    );
    assert_eq!(count(&node).await, Value::Integer(2));
    node.stop().await;
}

/// Rule 28: the retention is a cluster setting; what is forgotten isn't done again.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_the_retention_is_told_so() {
    let settings = [("key_retention_entries", "5"), ("key_table_bytes", "65536")];
    let node = start(&SimulatedDisk::new(2), &settings).await;
    node.execute(Request::execute("CREATE TABLE t (x)"))
        .await
        .unwrap();
    let index = node.status().log.applied.unwrap().index;
    let early = IdempotencyKey::new("early").unwrap().known_at(index);
    let insert = Request::execute("INSERT INTO t VALUES (1)");
    let write = || node.execute_once(insert.clone(), early.clone());
    assert!(!write().await.unwrap().replayed);
    assert!(write().await.unwrap().replayed);
    // About 130 bytes each: more than the table's share.
    for n in 0..600 {
        let key = format!("{n:060}");
        once(&node, &key, "DELETE FROM t WHERE x > 1")
            .await
            .unwrap();
    }
    assert_eq!(write().await.unwrap_err(), WriteError::KeyExpired);
    assert_eq!(count(&node).await, Value::Integer(1));
    node.stop().await;
}
