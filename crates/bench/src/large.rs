//! `sqlrep bench large`: three transactions much larger than memory on a cluster of three processes, with the memory that each
//! node took.
//!
//! ```text
//!   INSERT of so many bytes ─► UPDATE of every row ─► VACUUM ─► are the replicas equal?
//! ```
//!
//! Rows are random bytes, so that nothing gets smaller on its way; the UPDATE makes each row shorter, so that VACUUM has to move them.
//! The nodes run with the limits of a default node but for those that such a transaction needs (`flags`). A peak is that of the
//! process since its start: a later statement's holds the earlier ones'.
//!
//! What a node refuses as certainly not done, because its leadership changed perhaps, is sent again; the time is that of the last try.
//!
//! It doesn't do: rounds. Each statement is done once.

use crate::http::client::{Answer, bare, post, within};
use crate::http::nodes::{Cluster, NODES, Nodes};
use crate::http::{REPLICATED, runtime};
use crate::{BenchError, Report, Row, Target};
use serde_json::Value;
use sqlrep_env::Env;
use sqlrep_node::Mode;
use std::path::PathBuf;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const MEMORY_MIB_MAX: f64 = 512.0;
/// About four rows fill a page.
const ROW_BYTES: u64 = 1000;
/// The nodes run with the default page size.
const PAGE_BYTES: u64 = 4096;
/// What a statement may take; nodes let no write wait longer.
const STATEMENT_MAX: Duration = Duration::from_secs(600);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// What is measured, and where.
pub struct LargeBench {
    /// The program that runs a node when called with `node` and a node's flags.
    pub program: PathBuf,
    /// An empty folder on the disk in question, with room for about twelve times `mib`.
    pub folder: PathBuf,
    /// Clocks, randomness and threads.
    pub env: Env,
    /// How changes travel.
    pub mode: Mode,
    /// Size of the table, in MiB.
    pub mib: u64,
    /// Bytes of page images that a node holds in memory; none: its default.
    pub version_bytes_max: Option<u64>,
    /// Bytes of a transaction that a node holds in memory; none: its default.
    pub transaction_bytes_max: Option<u64>,
}

/// What one statement took.
struct Ran {
    name: &'static str,
    took: Duration,
    entries: f64,
    /// Of each node until its end, in bytes; none where the machine doesn't tell.
    most: Option<Vec<u64>>,
}

/// Runs the three statements once.
///
/// # Errors
///
/// A node or the disk fails, or a statement is refused.
pub fn large(bench: &LargeBench) -> Result<Report, BenchError> {
    runtime()?.block_on(measured(bench))
}

async fn measured(bench: &LargeBench) -> Result<Report, BenchError> {
    let cluster = Cluster {
        program: bench.program.clone(),
        folder: bench.folder.clone(),
        mode: bench.mode,
        sync_floor: None,
        delay: None,
        flags: flags(bench),
    };
    let nodes = Nodes::start(cluster, &bench.env).await?;
    nodes
        .settle("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v BLOB)")
        .await?;
    let mut rows = Vec::new();
    for (name, sql) in story(bench.mib * MIB / ROW_BYTES) {
        rows.extend(told(&ran(bench, &nodes, name, &sql).await?));
    }
    let pages = nodes.metric(nodes.leader().await?, "store_pages").await?;
    rows.push(row(
        "database",
        "MiB",
        pages * PAGE_BYTES as f64 / MIB as f64,
    ));
    rows.push(equal(&nodes).await?);
    nodes.end().await?;
    Ok(Report {
        title: format!(
            "transactions on a table of {} MiB, {} mode, three nodes; each once",
            bench.mib, bench.mode
        ),
        rounds: 1,
        left_out: Vec::new(),
        rows,
    })
}

/// Every page changes, and the UPDATE leaves room in each.
fn flags(bench: &LargeBench) -> Vec<String> {
    let pages = bench.mib * MIB / PAGE_BYTES * 2 + 1024;
    let memory = [
        ("--version-memory", bench.version_bytes_max),
        ("--transaction-memory", bench.transaction_bytes_max),
    ];
    let given = memory
        .into_iter()
        .filter_map(|(flag, bytes)| Some((flag, bytes?)));
    [("--transaction-limit", pages)]
        .into_iter()
        .chain(given)
        .map(|(flag, value)| format!("{flag}={value}"))
        .collect()
}

fn story(rows: u64) -> [(&'static str, String); 3] {
    let shorter = ROW_BYTES * 9 / 10;
    [
        (
            "INSERT",
            format!(
                "INSERT INTO t WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < {rows}) \
                 SELECT i, randomblob({ROW_BYTES}) FROM i"
            ),
        ),
        ("UPDATE", format!("UPDATE t SET v = randomblob({shorter})")),
        ("VACUUM", "VACUUM".to_owned()),
    ]
}

/// Runs a statement until it isn't refused.
async fn ran(
    bench: &LargeBench,
    nodes: &Nodes,
    name: &'static str,
    sql: &str,
) -> Result<Ran, BenchError> {
    let asked = async {
        loop {
            match tried(bench, nodes, name, sql).await {
                Err(BenchError::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
                done => return done,
            }
        }
    };
    in_time("a large statement is done", asked).await
}

async fn tried(
    bench: &LargeBench,
    nodes: &Nodes,
    name: &'static str,
    sql: &str,
) -> Result<Ran, BenchError> {
    let leader = nodes.leader().await?;
    let before = nodes.metric(leader, "log_entries_total").await?;
    let mut request = Vec::new();
    let path = format!("/db/execute?timeout={}s", STATEMENT_MAX.as_secs());
    post(&mut request, &path, &serde_json::json!([sql]).to_string());
    let began = bench.env.clock.now();
    let (status, body) = within(STATEMENT_MAX, nodes.http(leader), &request).await?;
    let took = bench.env.clock.now().since(began);
    let answer = Answer {
        status,
        body: &body,
    };
    if !answer.is_done() {
        return Err(answer.refused());
    }
    let entries = nodes.metric(leader, "log_entries_total").await? - before;
    // The others are as far.
    check(nodes).await?;
    Ok(Ran {
        name,
        took,
        entries,
        most: nodes.most_resident(),
    })
}

fn told(ran: &Ran) -> Vec<Row> {
    let named = |what: &str, unit, value| row(&format!("{}: {what}", ran.name), unit, value);
    let mut rows = vec![
        named("acknowledged after", "s", ran.took.as_secs_f64()),
        named("log entries", "", ran.entries),
    ];
    for (number, bytes) in (1..).zip(ran.most.iter().flatten()) {
        let mib = *bytes as f64 / MIB as f64;
        let most = named(
            &format!("memory of node {number}, most until then"),
            "MiB",
            mib,
        );
        rows.push(most.target(Target::AtMost(MEMORY_MIB_MAX)));
    }
    rows
}

fn row(name: &str, unit: &'static str, value: f64) -> Row {
    Row::of(name, REPLICATED, unit, &[value])
}

async fn equal(nodes: &Nodes) -> Result<Row, BenchError> {
    let answer = check(nodes).await?;
    let checksums = answer["nodes"].as_array().into_iter().flatten();
    let checksums: Vec<&Value> = checksums.map(|node| &node["checksum"]).collect();
    let first = checksums.first().copied().filter(|first| first.is_string());
    let alike = checksums.iter().filter(|one| Some(**one) == first).count();
    let row = row("nodes with one checksum", "", alike as f64);
    Ok(row.target(Target::AtLeast(NODES as f64)))
}

/// Waits until all nodes can be compared at one index; their checksums.
async fn check(nodes: &Nodes) -> Result<Value, BenchError> {
    let mut request = Vec::new();
    bare(&mut request, "GET", "/v1/check?timeout=30s");
    let asked = async {
        loop {
            let (status, body) = within(STATEMENT_MAX, nodes.http(0), &request).await?;
            let answer: Option<Value> = serde_json::from_slice(&body).ok();
            if let (200, Some(answer)) = (status, answer)
                && answer["equal"].is_boolean()
            {
                return Ok(answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    in_time("the replicas are compared", asked).await
}

async fn in_time<T>(
    what: &'static str,
    asked: impl Future<Output = Result<T, BenchError>>,
) -> Result<T, BenchError> {
    let waited = STATEMENT_MAX;
    let late = |_| Err(BenchError::Late { what, waited });
    tokio::time::timeout(STATEMENT_MAX, asked)
        .await
        .unwrap_or_else(late)
}
