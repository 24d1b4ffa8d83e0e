//! Restart after kill -9 with a large database, straight after a time under load: how long until the node serves again,
//! and how much log it had to replay.
//!
//! A follower is killed first, and comes back to a leader that is there; then all three are killed at once, so that an
//! election is part of the time.

use super::load::{connections, load};
use super::nodes::{NODES, Nodes};
use super::{HttpBench, REPLICATED, writes};
use crate::BenchError;
use crate::plain::CREATE;
use crate::report::{Report, Row, Target};
use std::time::Duration;

const CLIENTS: usize = 64;

/// Bytes of a row of the filling, and of one filling request.
const ROW_BYTES: u64 = 1000;
const REQUEST_BYTES: u64 = 10_000_000;

const READY_MAX_S: f64 = 1.0;

/// One restart.
struct Restart {
    ready: Duration,
    replayed_bytes: f64,
    replayed_entries: f64,
}

pub(super) async fn restart(bench: &HttpBench) -> Result<Report, BenchError> {
    let mut nodes = bench.nodes("restart", bench.sync_floor).await?;
    nodes.execute(CREATE).await?;
    fill(&nodes, bench.database_bytes).await?;
    let under_load = loaded(bench, &nodes).await?;
    let follower = (nodes.leader().await? + 1) % NODES;
    let one = restarted(bench, &mut nodes, &[follower]).await?;
    loaded(bench, &nodes).await?;
    let all = restarted(bench, &mut nodes, &[0, 1, 2]).await?;
    let pages = nodes.metric(0, "store_pages").await?;
    nodes.end().await?;
    let row = |name: &str, unit, value| Row::of(name, REPLICATED, unit, &[value]);
    let mut rows = vec![
        row("database", "MB", pages * PAGE_BYTES / 1e6),
        row("INSERT, 64 clients, before", "/s", under_load),
    ];
    rows.extend(restart_rows("a follower killed", &one, true));
    rows.extend(restart_rows("all three killed, the first", &all, false));
    Ok(Report {
        title: format!(
            "restart after kill -9, {} mode, straight after {:?} of {CLIENTS} clients; one round",
            bench.mode, bench.restart_load
        ),
        rounds: 1,
        left_out: Vec::new(),
        rows,
    })
}

/// The nodes run with the default page size.
const PAGE_BYTES: f64 = 4096.0;

fn restart_rows(who: &str, restart: &Restart, judged: bool) -> [Row; 3] {
    let row =
        |what: &str, unit, value| Row::of(&format!("{who}: {what}"), REPLICATED, unit, &[value]);
    let ready = row("ready after", "s", restart.ready.as_secs_f64());
    [
        if judged {
            ready.target(Target::AtMost(READY_MAX_S))
        } else {
            ready
        },
        row("log replayed", "B", restart.replayed_bytes),
        row("entries replayed", "", restart.replayed_entries),
    ]
}

async fn fill(nodes: &Nodes, bytes: u64) -> Result<(), BenchError> {
    nodes.execute("CREATE TABLE filling (x)").await?;
    let rows = REQUEST_BYTES.min(bytes) / ROW_BYTES;
    let sql = format!(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {rows}) \
         INSERT INTO filling SELECT randomblob({ROW_BYTES}) FROM n"
    );
    for _ in 0..bytes.div_ceil(REQUEST_BYTES) {
        nodes.execute(&sql).await?;
    }
    Ok(())
}

/// Writes per second under the load that comes before a kill.
async fn loaded(bench: &HttpBench, nodes: &Nodes) -> Result<f64, BenchError> {
    let mut clients = connections(nodes.http(nodes.leader().await?), CLIENTS).await?;
    let clock = &*bench.env.clock;
    let load = load(
        nodes,
        clock,
        &mut clients,
        bench.restart_load,
        &writes::insert,
    )
    .await?;
    Ok(load.slice.per_second())
}

/// Kills and restarts at once; the first of them is waited for.
async fn restarted(
    bench: &HttpBench,
    nodes: &mut Nodes,
    killed: &[usize],
) -> Result<Restart, BenchError> {
    for node in killed {
        nodes.kill(*node).await?;
    }
    let began = bench.env.clock.now();
    for node in killed {
        nodes.start_one(*node)?;
    }
    let first = killed[0];
    nodes.ready(first).await?;
    let ready = bench.env.clock.now().since(began);
    Ok(Restart {
        ready,
        replayed_bytes: nodes.metric(first, "replayed_bytes").await?,
        replayed_entries: nodes.metric(first, "replayed_entries").await?,
    })
}
