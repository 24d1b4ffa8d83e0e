//! kill -9 of the leader while 8 clients write, again and again: how long is no write acknowledged to anybody?
//!
//! Clients are spread over the nodes; one whose node is gone or refuses turns to the next. A kill counts from the last
//! acknowledgement before it; the killed node is started again and ready before the next. At the end every acknowledged row
//! must be there.

use super::client::{Connection, once, post};
use super::nodes::{NODES, Nodes};
use super::{HttpBench, REPLICATED, writes};
use crate::BenchError;
use crate::plain::CREATE;
use crate::report::{Report, Row, Target};
use futures_util::future::join_all;
use serde_json::Value;
use sqlrep_env::{Clock, Moment};
use std::cell::Cell;
use std::time::Duration;

const CLIENTS: usize = 8;

/// Acknowledged writes between a kill's end and the next kill: the cluster is at work again.
const WRITES_BETWEEN: u64 = 200;

/// How long a client waits for an answer before it turns to the next node.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two tries of a client that nobody serves, and two looks of the killer.
const PAUSE: Duration = Duration::from_millis(2);

/// How long writes may take to go on.
const RESUME_MAX: Duration = Duration::from_secs(60);

const P50_MAX_S: f64 = 1.2;
const OFTEN_MAX_S: f64 = 1.5;
const LONGEST_MAX_S: f64 = 2.5;

/// What the clients were told so far.
#[derive(Default)]
struct Told {
    acknowledged: Cell<u64>,
    last: Cell<Moment>,
    longest: Cell<Duration>,
    next: Cell<u64>,
    stop: Cell<bool>,
}

impl Told {
    fn acknowledge(&self, now: Moment) {
        let gap = now.since(self.last.replace(now));
        self.longest.set(self.longest.get().max(gap));
        self.acknowledged.set(self.acknowledged.get() + 1);
    }
}

pub(super) async fn kills(bench: &HttpBench) -> Result<Report, BenchError> {
    let mut nodes = bench.nodes("kills", bench.sync_floor).await?;
    nodes.execute(CREATE).await?;
    let addresses: Vec<String> = (0..NODES).map(|node| nodes.http(node).to_owned()).collect();
    let (clock, told) = (&*bench.env.clock, Told::default());
    let clients = (0..CLIENTS).map(|client| write(clock, &addresses, client, &told));
    let killing = async {
        let gaps = killer(bench, &mut nodes, &told).await;
        told.stop.set(true);
        gaps
    };
    let (_, gaps) = tokio::join!(join_all(clients), killing);
    let gaps = gaps?;
    nothing_lost(&nodes, told.acknowledged.get()).await?;
    nodes.end().await?;
    Ok(report(bench, &gaps))
}

/// One client, until the end.
async fn write(clock: &dyn Clock, addresses: &[String], client: usize, told: &Told) {
    let (mut at, mut connection, mut request) = (client, None, Vec::new());
    while !told.stop.get() {
        request.clear();
        writes::insert(told.next.replace(told.next.get() + 1), &mut request);
        let address = &addresses[at % NODES];
        let asked = tokio::time::timeout(PATIENCE, ask(address, &mut connection, &request));
        if matches!(asked.await, Ok(Ok(true))) {
            told.acknowledge(clock.now());
        } else {
            // What was answered late or wrongly isn't told apart: only acknowledgements count.
            (at, connection) = (at + 1, None);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether the write was acknowledged.
async fn ask(
    address: &str,
    connection: &mut Option<Connection>,
    request: &[u8],
) -> std::io::Result<bool> {
    let open = match connection.take() {
        Some(open) => open,
        None => Connection::open(address).await?,
    };
    let open = connection.insert(open);
    Ok(open.call(request).await?.is_done())
}

/// The longest gap around each kill.
async fn killer(
    bench: &HttpBench,
    nodes: &mut Nodes,
    told: &Told,
) -> Result<Vec<Duration>, BenchError> {
    let mut gaps = Vec::new();
    for _ in 0..bench.kills {
        resumed(told).await?;
        let leader = nodes.leader().await?;
        told.longest.set(Duration::ZERO);
        nodes.kill(leader).await?;
        resumed(told).await?;
        nodes.start_one(leader)?;
        nodes.ready(leader).await?;
        gaps.push(told.longest.get());
    }
    Ok(gaps)
}

/// Waits until so many more writes are acknowledged.
async fn resumed(told: &Told) -> Result<(), BenchError> {
    let enough = told.acknowledged.get() + WRITES_BETWEEN;
    let wait = async {
        while told.acknowledged.get() < enough {
            tokio::time::sleep(PAUSE).await;
        }
    };
    let waited = tokio::time::timeout(RESUME_MAX, wait).await;
    waited.map_err(|_| BenchError::Late {
        what: "writes go on",
        waited: RESUME_MAX,
    })
}

async fn nothing_lost(nodes: &Nodes, acknowledged: u64) -> Result<(), BenchError> {
    let mut request = Vec::new();
    let body = "[\"SELECT count(*) FROM t\"]";
    post(&mut request, "/db/query?level=linearizable", body);
    let address = nodes.http(nodes.leader().await?);
    let (_, body) = once(address, &request).await?;
    let text = || BenchError::Answer(String::from_utf8_lossy(&body).into_owned());
    let answer: Value = serde_json::from_slice(&body).map_err(|_| text())?;
    let found = answer["results"][0]["values"][0][0]
        .as_u64()
        .ok_or_else(text)?;
    if found < acknowledged {
        return Err(BenchError::Lost {
            acknowledged,
            found,
        });
    }
    Ok(())
}

fn report(bench: &HttpBench, gaps: &[Duration]) -> Report {
    let seconds: Vec<f64> = gaps.iter().map(Duration::as_secs_f64).collect();
    let row = |name: &str, unit, values: &[f64]| Row::of(name, REPLICATED, unit, values);
    let above = seconds.iter().filter(|gap| **gap > OFTEN_MAX_S).count();
    let above = u32::try_from(above).map_or(f64::INFINITY, f64::from);
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    let rows = vec![
        row(
            "longest gap without an acknowledged write: p50",
            "s",
            &seconds,
        )
        .target(Target::AtMost(P50_MAX_S)),
        row("kills with a gap above 1.5 s", "", &[above]).target(Target::AtMost(1.0)),
        row("longest gap of all", "s", &[longest]).target(Target::AtMost(LONGEST_MAX_S)),
    ];
    Report {
        title: format!(
            "kill -9 of the leader, {} mode, {CLIENTS} clients, {} kills; a round is a kill",
            bench.mode, bench.kills
        ),
        rounds: gaps.len(),
        left_out: Vec::new(),
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_between_acknowledgements_of_anybody() {
        let told = Told::default();
        for ms in [10, 30, 35] {
            told.acknowledge(Moment(Duration::from_millis(ms)));
        }
        assert_eq!(told.longest.get(), Duration::from_millis(20));
        assert_eq!(told.acknowledged.get(), 3);
    }
}
