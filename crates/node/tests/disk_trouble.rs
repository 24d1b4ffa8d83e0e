//! Disk trouble under a whole node. A disk fills up: writes are refused by name before anything fails half way, reads go on,
//! and writes go on when space is back, without anybody's help. A write, a sync or a read of the log fails: the node says that its
//! process has to end.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod lone;

use lone::{options, start, value};
use sqlrep_core::{ReadError, WriteError};
use sqlrep_disk::{Fault, Loss, Operation, SimulatedDisk};
use sqlrep_node::{CheckpointPolicy, Failure, Node, NodeError, NodeOptions};
use sqlrep_service::QueryOptions;
use sqlrep_sql::{Parameter, Request, Statement, Value};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Overwrites one row with a megabyte, so that the log grows and the database doesn't.
async fn megabyte(node: &Node, number: u8) -> Result<(), WriteError> {
    let statement = Statement {
        sql: "REPLACE INTO t VALUES (1, ?)".to_owned(),
        parameters: vec![Parameter::Positional(Value::Blob(vec![number; 1 << 20]))],
    };
    let request = Request {
        statements: vec![statement],
        ..Request::default()
    };
    node.execute(request).await.map(|_| ())
}

async fn first_byte(node: &Node) -> Value {
    value(node, "SELECT hex(substr(x, 1, 1)) FROM t").await
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_reads_go_on_and_it_heals() {
    let disk = SimulatedDisk::new(1);
    let node = start(&disk, &[]).await;
    let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, x)";
    node.execute(Request::execute(create)).await.unwrap();
    disk.set_free_bytes(Some(0));
    let (mut written, mut refused) = (0_u8, None);
    // Two segments of 64 MiB are there already; the third can't be made.
    while refused.is_none() && written < 250 {
        match megabyte(&node, written + 1).await {
            Ok(()) => written += 1,
            Err(error) => refused = Some(error),
        }
    }
    assert_eq!(refused, Some(WriteError::DiskFull), "after {written} MiB");
    assert_eq!(
        first_byte(&node).await,
        Value::Text(format!("{written:02X}"))
    );
    disk.set_free_bytes(None);
    let healed = async {
        while megabyte(&node, 0xAA).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, healed).await.unwrap();
    assert_eq!(first_byte(&node).await, Value::Text("AA".to_owned()));
    Box::pin(node.stop()).await;
    let again = start(&disk, &[]).await;
    assert_eq!(first_byte(&again).await, Value::Text("AA".to_owned()));
    Box::pin(again.stop()).await;
}

/// Writes until the node says that it has failed; how many writes were acknowledged, and why it failed.
async fn until_failed(node: &Node) -> (u8, Failure) {
    let mut written = 0;
    let writing = async {
        while written < 250 && megabyte(node, written + 1).await.is_ok() {
            written += 1;
        }
        std::future::pending::<Failure>().await
    };
    let failed = async {
        tokio::select! {
            failure = node.failed() => failure,
            never = writing => never,
        }
    };
    let failure = tokio::time::timeout(LIMIT, failed).await.unwrap();
    (written, failure)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_or_sync_ends_the_process_and_loses_nothing() {
    for (operation, folder) in [
        (Operation::Sync, "log/"),
        (Operation::Sync, "db/"),
        (Operation::Write, "log/"),
    ] {
        let disk = SimulatedDisk::new(2);
        let node = start(&disk, &[]).await;
        let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, x)";
        node.execute(Request::execute(create)).await.unwrap();
        megabyte(&node, 0).await.unwrap();
        disk.inject(Fault::io(3).only(operation).under(folder).forever());
        let (written, failure) = until_failed(&node).await;
        assert!(
            matches!(failure, Failure::Disk(_)),
            "{operation:?} {folder}: {failure:?}"
        );
        assert!(disk.injected() > 0);
        drop(node);
        let disk = disk.crash(Loss::Everything);
        let again = start(&disk, &[]).await;
        let Value::Text(found) = first_byte(&again).await else {
            panic!("a digit pair");
        };
        let found = u8::from_str_radix(&found, 16).unwrap();
        // The last one may have been under way.
        assert!(
            found == written || found == written + 1,
            "{operation:?} {folder}: {found} of {written}"
        );
        Box::pin(again.stop()).await;
    }
}

/// What a start on `disk` ends with, or what the node says once it runs; none if nothing is in its way.
async fn trouble(disk: &SimulatedDisk) -> Option<Result<Failure, NodeError>> {
    let node = match Box::pin(Node::start(seldom(disk))).await {
        Ok(node) => node,
        Err(error) => return Some(Err(error)),
    };
    tokio::select! {
        biased;
        failure = node.failed() => Some(Ok(failure)),
        ready = Box::pin(node.ready(LIMIT)) => match ready {
            Ok(()) => None,
            Err(_) => Some(Ok(node.failed().await)),
        },
    }
}

/// A node that writes no checkpoint in this story, so that a start applies all of its log again.
fn seldom(disk: &SimulatedDisk) -> NodeOptions {
    let mut options = options(disk, &[]);
    options.checkpoint = CheckpointPolicy {
        replay_max: LIMIT * 60,
        ..CheckpointPolicy::default()
    };
    options
}

/// Rule 6: a log that can't be read ends the process as one that can't be written does, whichever read fails: of the start, which looks through
/// all of it, or of what is applied again and not in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_read_of_the_log_ends_the_process() {
    let disk = SimulatedDisk::new(4);
    let node = Box::pin(Node::start(seldom(&disk))).await.unwrap();
    node.ready(LIMIT).await.unwrap();
    let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, x)";
    node.execute(Request::execute(create)).await.unwrap();
    // More than the log keeps in memory.
    for number in 0..36 {
        megabyte(&node, number).await.unwrap();
    }
    let killed = disk.crash(Loss::Everything);
    drop(node);
    let mut struck = 0;
    for call in 1.. {
        let disk = killed.crash(Loss::Nothing);
        let fault = Fault::io(call).only(Operation::Read).under("log/");
        disk.inject(fault.forever());
        match tokio::time::timeout(LIMIT, trouble(&disk)).await.unwrap() {
            Some(Err(error)) if error.is_disk_failure() => struck += 1,
            Some(Ok(Failure::Disk(_))) => struck += 1,
            None if disk.injected() == 0 => break,
            other => panic!("at read {call}: {other:?}"),
        }
        assert!(disk.injected() > 0);
    }
    assert!(struck > 5, "{struck} reads");
}

/// Rule 7: a page that reads back wrong is never served, and the node that holds it serves nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_takes_the_node_out_of_service() {
    let disk = SimulatedDisk::new(3);
    let node = start(&disk, &[]).await;
    let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, x)";
    let quiet = "CREATE TABLE quiet AS SELECT randomblob(100000) AS x";
    for sql in [create, quiet] {
        node.execute(Request::execute(sql)).await.unwrap();
    }
    // Enough for a reset point: only there the base file is written. What the log writes again at the start isn't read from it.
    for number in 0..40 {
        megabyte(&node, number).await.unwrap();
    }
    Box::pin(node.stop()).await;
    let files = disk.list_all();
    let database = files.iter().find(|path| path.ends_with("main.db")).unwrap();
    disk.flip(database, 4096 * 10 + 5, 1);
    let node = start(&disk, &[]).await;
    let whole = Request::query("SELECT length(hex(x)) FROM quiet");
    let answer = node.query(whole, QueryOptions::linearizable()).await;
    assert_eq!(answer.unwrap_err(), ReadError::Quarantined);
    let harmless = Request::query("SELECT 1");
    let answer = node.query(harmless, QueryOptions::linearizable()).await;
    assert_eq!(answer.unwrap_err(), ReadError::Quarantined);
    Box::pin(node.stop()).await;
}
