//! Functions of the program's own in page mode: whatever they answer, replicas are equal byte for byte.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

use sqlrep_core::NodeId;
use sqlrep_env::Env;
use sqlrep_node::{Mode, Node, NodeBuilder, NodeError};
use sqlrep_service::{QueryOptions, SessionOptions};
use sqlrep_sql::{Begin, Outcome, Request, Value};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// No two nodes, and no two calls, have the same functions.
fn with_functions(builder: NodeBuilder) -> NodeBuilder {
    let (calls, entropy) = (Arc::new(AtomicI64::new(0)), Env::real().entropy);
    builder
        .function("calls", Some(0), move |_| {
            Ok(Value::Integer(calls.fetch_add(1, Ordering::Relaxed) + 1))
        })
        .function("dice", None, move |sides| match sides {
            [Value::Integer(sides)] => Ok(Value::Integer(
                i64::try_from(entropy.next() >> 1).unwrap() % sides,
            )),
            other => Err(format!("a dice has sides, not {other:?}")),
        })
        .function("breaks", Some(0), |_| panic!("on purpose"))
}

fn builder(folder: &Path, id: u64) -> NodeBuilder {
    let builder = Node::builder(folder.join(id.to_string())).mode(Mode::Page);
    with_functions(builder.node_id(NodeId::new(id).unwrap()))
}

async fn three(folder: &Path) -> Vec<Node> {
    let first = Box::pin(builder(folder, 1).start()).await.unwrap();
    let mut nodes = vec![first];
    for id in 2..=3 {
        let builder = builder(folder, id).join([nodes[0].raft_address()]);
        nodes.push(Box::pin(builder.start()).await.unwrap());
    }
    for node in &nodes {
        Box::pin(node.ready(LIMIT)).await.unwrap();
    }
    nodes
}

async fn outcome(node: &Node, sql: &str) -> Outcome {
    let answer = Box::pin(node.execute(Request::execute(sql))).await.unwrap();
    answer.reply.outcomes.into_iter().next().unwrap()
}

async fn change(node: &Node, sql: &str) {
    let outcome = outcome(node, sql).await;
    assert!(matches!(outcome, Outcome::Written(_)), "{sql}: {outcome:?}");
}

async fn refused(node: &Node, sql: &str) -> String {
    match outcome(node, sql).await {
        Outcome::Failed(error) => error.message,
        other => panic!("{sql}: {other:?}"),
    }
}

async fn rows(node: &Node, sql: &str) -> Vec<Vec<Value>> {
    let asked = node.query(Request::query(sql), QueryOptions::linearizable());
    let answer = Box::pin(asked).await.unwrap();
    match answer.reply.outcomes.into_iter().next().unwrap() {
        Outcome::Rows(rows) => rows.values,
        other => panic!("{sql}: {other:?}"),
    }
}

/// The database file of a stopped node.
fn file(folder: &Path, id: u64) -> Vec<u8> {
    let generations = std::fs::read_dir(folder.join(id.to_string()).join("db")).unwrap();
    let mut files = generations.map(|one| one.unwrap().path().join("main.db"));
    std::fs::read(files.find(|path| path.exists()).unwrap()).unwrap()
}

const SCHEMA: [&str; 3] = [
    "CREATE TABLE t (id INTEGER PRIMARY KEY, n, d, r, at DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now', 'localtime')))",
    "CREATE TABLE log (n, d, r, at)",
    "CREATE TRIGGER noted AFTER INSERT ON t BEGIN
       INSERT INTO log VALUES (calls(), dice(1000000), random(), julianday('now') || datetime('now', 'localtime'));
     END",
];

async fn changes(node: &Node) {
    for _ in 0..20 {
        change(
            node,
            "INSERT INTO t (n, d, r) VALUES (calls(), dice(1000000), random())",
        )
        .await;
    }
    change(
        node,
        "UPDATE t SET d = dice(6), r = randomblob(30) WHERE dice(2) = 0",
    )
    .await;
}

/// Rule 22: what a leader computes travels as pages, so functions that count, draw and ask clocks give equal replicas; a
/// follower that becomes the leader goes on with its own.
#[tokio::test(flavor = "multi_thread")]
async fn functions_that_differ_from_call_to_call_give_equal_replicas() {
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = Box::pin(three(folder.path())).await;
    for sql in SCHEMA {
        change(&nodes[0], sql).await;
    }
    for node in &nodes {
        changes(node).await;
    }
    let leader = nodes[0].status().leader.unwrap().id;
    let at = nodes.iter().position(|node| node.id() == leader).unwrap();
    Box::pin(nodes.remove(at).stop()).await;
    changes(&nodes[0]).await;
    let shown = "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM log), (SELECT count(DISTINCT r) FROM log)";
    let counted = vec![vec![Value::Integer(80); 3]];
    assert_eq!(rows(&nodes[0], shown).await, counted);
    let back = builder(folder.path(), leader.get()).start();
    nodes.push(Box::pin(back).await.unwrap());
    let every = "SELECT * FROM t, log ORDER BY 1, 2";
    let first = rows(&nodes[0], every).await;
    for node in &nodes {
        Box::pin(node.ready(LIMIT)).await.unwrap();
        assert_eq!(rows(node, every).await, first);
    }
    for node in nodes {
        Box::pin(node.stop()).await;
    }
    let files: Vec<_> = (1..=3).map(|id| file(folder.path(), id)).collect();
    assert!(files[0] == files[1] && files[1] == files[2]);
}

/// Rule 36: an error and a panic of a function are errors of its statement, on connections that write, read and in sessions; the
/// node goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_fails_fails_its_statement() {
    let folder = tempfile::tempdir().unwrap();
    let node = Box::pin(builder(folder.path(), 1).start()).await.unwrap();
    Box::pin(node.ready(LIMIT)).await.unwrap();
    change(&node, "CREATE TABLE t (x)").await;
    let panicked = "the function breaks panicked: on purpose";
    for _ in 0..3 {
        assert_eq!(
            refused(&node, "INSERT INTO t VALUES (breaks())").await,
            panicked
        );
    }
    let told = refused(&node, "INSERT INTO t VALUES (dice('six'))").await;
    assert!(told.starts_with("a dice has sides"), "{told}");
    let told = refused(&node, "CREATE INDEX i ON t (dice(6))").await;
    assert!(told.contains("non-deterministic"), "{told}");
    for _ in 0..3 {
        let asked = node.query(
            Request::query("SELECT breaks()"),
            QueryOptions::linearizable(),
        );
        let answer = Box::pin(asked).await.unwrap();
        let outcome = &answer.reply.outcomes[0];
        assert!(matches!(outcome, Outcome::Failed(error) if error.message == panicked));
    }
    assert!(matches!(
        rows(&node, "SELECT calls() > 0").await[0][0],
        Value::Integer(1)
    ));
    let mut session = Box::pin(node.begin(SessionOptions::new(Begin::Deferred)))
        .await
        .unwrap();
    let insert = Request::execute("INSERT INTO t VALUES (calls())");
    Box::pin(session.run(insert)).await.unwrap();
    Box::pin(session.commit()).await.unwrap();
    let count = rows(&node, "SELECT count(*), typeof(max(x)) FROM t").await;
    assert_eq!(
        count,
        [[Value::Integer(1), Value::Text("integer".to_owned())]]
    );
    Box::pin(node.stop()).await;
}

/// In statement mode every node would have to have the same function.
#[tokio::test(flavor = "multi_thread")]
async fn functions_are_refused_in_statement_mode_and_bad_names_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let start = async |builder: NodeBuilder| match Box::pin(builder.start()).await {
        Err(error @ NodeError::Refused { .. }) => error.to_string(),
        other => panic!("{:?}", other.map(|node| node.id())),
    };
    let statement = || Node::builder(folder.path()).mode(Mode::Statement);
    let told = start(with_functions(statement())).await;
    assert!(
        told.contains("calls") && told.contains("statement mode"),
        "{told}"
    );
    let node = Box::pin(statement().start()).await.unwrap();
    Box::pin(node.stop()).await;
    // What the directory holds counts where no mode is named.
    let told = start(with_functions(Node::builder(folder.path()))).await;
    assert!(
        told.contains("calls") && told.contains("statement mode"),
        "{told}"
    );
    let page = Node::builder(folder.path().join("page")).mode(Mode::Page);
    let told = start(page.function("upper", Some(1), |_| Ok(Value::Null))).await;
    assert!(told.contains("upper"), "{told}");
}
