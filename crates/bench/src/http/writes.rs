//! One-row INSERTs of one client and of 64, on the leader, beside raw writes and syncs and plain SQLite.
//!
//! A round is raw, one client, 64 clients, plain SQLite, raw. It counts if the raw probes are alike, the same node led
//! throughout and refused nothing.

use super::client::post;
use super::load::{Load, connections, load};
use super::{HttpBench, REPLICATED};
use crate::plain::{self, CREATE, TEXT};
use crate::raw::{DURABILITY, Probes, Raw, WRITE_BYTES};
use crate::report::{Report, Rounds, Row, Target};
use crate::slice::Slice;
use crate::{BenchError, floored};
use sqlrep_disk::{RealDisk, SyncFloor};
use std::io::Write;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The clients of the second figure.
const CLIENTS: usize = 64;

/// The floor under which 64 clients are compared with one.
pub(super) const FLOOR_RATE: Duration = Duration::from_millis(1);

/// The floor under which one client's time is compared with a sync.
pub(super) const FLOOR_LATENCY: Duration = Duration::from_millis(4);

/// Beside two raw writes and syncs: HTTP, Raft, executing, on both sides of a round trip.
const LATENCY_EXTRA_US: f64 = 600.0;

/// Plain SQLite isn't beaten five times over where a disk syncs this often.
const PLAIN_PER_SECOND_MAX: f64 = 2000.0;

struct Round {
    raw: Probes,
    one: Load,
    many: Load,
    plain: Slice,
    /// The leader's while many clients wrote.
    syncs: f64,
    log_bytes: f64,
}

/// A one-row INSERT.
pub(super) fn insert(number: u64, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    write!(body, "[[\"{}\",{number},\"{TEXT}\"]]", plain::INSERT).expect("memory takes any text");
    let body = String::from_utf8(body).expect("it was text");
    post(out, "/db/execute", &body);
}

pub(super) fn writes(
    bench: &HttpBench,
    runtime: &Runtime,
    floor: Option<Duration>,
) -> Result<Report, BenchError> {
    let name = format!("writes-{}", floor.unwrap_or_default().as_micros());
    let nodes = runtime.block_on(bench.nodes(&name, floor))?;
    runtime.block_on(nodes.execute(CREATE))?;
    let disk = floored(RealDisk::open(&bench.folder)?, floor, &bench.env);
    let mut raw = Raw::new(&*disk, WRITE_BYTES)?;
    let sqlite = plain::create(&bench.folder.join(format!("{name}.db")), "FULL")?;
    let sync_floor = floor.map(|lasts| SyncFloor::new(lasts, bench.env.clock.clone()));
    let (clock, slice) = (&*bench.env.clock, bench.slice);
    let rounds = Rounds::run(bench.rounds, || {
        let first = raw.slice(clock, slice)?;
        let leader = runtime.block_on(nodes.leader())?;
        let address = nodes.http(leader);
        let loaded = runtime.block_on(async {
            let mut one = connections(address, 1).await?;
            let mut many = connections(address, CLIENTS).await?;
            let one = load(&nodes, clock, &mut one, slice, &insert).await?;
            let (syncs, bytes) = counted(&nodes, leader).await?;
            let many = load(&nodes, clock, &mut many, slice, &insert).await?;
            let after = counted(&nodes, leader).await?;
            Ok::<_, BenchError>((one, many, after.0 - syncs, after.1 - bytes))
        });
        let (one, many, syncs, log_bytes) = loaded?;
        let led = runtime.block_on(nodes.leader())? == leader;
        let plain = plain::writes(&sqlite, clock, slice, sync_floor.as_ref())?;
        let raw = Probes([first, raw.slice(clock, slice)?]);
        let steady = raw.are_steady() && led && one.refused + many.refused == 0;
        let round = Round {
            raw,
            one,
            many,
            plain,
            syncs,
            log_bytes,
        };
        Ok((round, steady))
    });
    runtime.block_on(nodes.end())?;
    Ok(report(bench, floor, rounds?))
}

async fn counted(nodes: &super::Nodes, leader: usize) -> Result<(f64, f64), BenchError> {
    let syncs = nodes.metric(leader, "log_syncs_total").await?;
    let bytes = nodes.metric(leader, "log_written_bytes_total").await?;
    Ok((syncs, bytes))
}

fn report(bench: &HttpBench, floor: Option<Duration>, rounds: Rounds<Round>) -> Report {
    let row = |name: &str, durability, unit, value: &dyn Fn(&Round) -> f64| {
        rounds.row(name, durability, unit, value)
    };
    let raw = |name, unit, value: &dyn Fn(&Round) -> f64| row(name, DURABILITY, unit, value);
    let own = |name: &str, unit, value: &dyn Fn(&Round) -> f64| row(name, REPLICATED, unit, value);
    let one_us = |round: &Round| round.one.slice.p50_us();
    let many = |round: &Round| round.many.slice.per_second();
    let plain = |round: &Round| round.plain.per_second();
    let mut rows = vec![
        raw("raw write and sync: p50", "us", &|round| round.raw.p50_us()),
        row(plain::NAME, plain::SYNCED, "/s", &plain),
        own("INSERT, 1 client", "/s", &|round| {
            round.one.slice.per_second()
        }),
        own("INSERT, 1 client: p50", "us", &one_us),
        latency(floor, &own),
        own("INSERT, 64 clients", "/s", &many),
        own("INSERT, 64 clients: p50", "us", &|round| {
            round.many.slice.p50_us()
        }),
        own("64 clients: transactions per sync, leader", "", &|round| {
            round.many.slice.operations / round.syncs
        })
        .target(Target::AtLeast(16.0)),
        own("64 clients / 1 client", "x", &|round| {
            many(round) / round.one.slice.per_second()
        }),
        own("64 clients / plain SQLite", "x", &|round| {
            many(round) / plain(round)
        })
        .target(Target::AtLeast(5.0))
        .unjudged(too_fast(&rounds, &plain)),
        own("64 clients: log bytes per write, leader", "B", &|round| {
            round.log_bytes / round.many.slice.operations
        }),
    ];
    if floor == Some(FLOOR_RATE) {
        let ratio = rows
            .iter_mut()
            .find(|row| row.name == "64 clients / 1 client");
        ratio.expect("it was just made").target = Some(Target::AtLeast(12.0));
    }
    rows.extend(cpu(&rounds));
    let title = format!(
        "one-row INSERTs over HTTP, three nodes, {} mode, slices of {:?}, {}",
        bench.mode,
        bench.slice,
        floor.map_or("syncs as the disk does them".to_owned(), |floor| format!(
            "each sync at least {floor:?}"
        ))
    );
    rounds.report(title, rows)
}

type Own<'a> = &'a dyn Fn(&str, &'static str, &dyn Fn(&Round) -> f64) -> Row;

/// One client's time, as its target has it: beside raw syncs, or beside the floor.
fn latency(floor: Option<Duration>, own: Own<'_>) -> Row {
    match floor {
        None => own("1 client: p50 / (2 raw p50 + 0.6 ms)", "x", &|round| {
            round.one.slice.p50_us() / (2.0 * round.raw.p50_us() + LATENCY_EXTRA_US)
        })
        .target(Target::AtMost(1.0)),
        Some(floor) => {
            let floor_us = floor.as_secs_f64() * 1e6;
            let row = own("1 client: p50 / floor", "x", &|round| {
                round.one.slice.p50_us() / floor_us
            });
            match floor == FLOOR_LATENCY {
                true => row.target(Target::AtMost(1.4)),
                false => row,
            }
        }
    }
}

fn too_fast(rounds: &Rounds<Round>, plain: &dyn Fn(&Round) -> f64) -> Option<String> {
    let median = rounds.row("", "", "", plain).median;
    (median >= PLAIN_PER_SECOND_MAX).then(|| {
        format!("this disk gives plain SQLite {median:.0}/s, the target is for below 2000/s")
    })
}

fn cpu(rounds: &Rounds<Round>) -> impl Iterator<Item = Row> {
    let own = |name, value: &dyn Fn(&Round) -> Option<f64>| {
        rounds.row_if_told(name, REPLICATED, "us", value)
    };
    let nodes = own("64 clients: CPU per write, three nodes", &|round| {
        round.many.nodes_us()
    });
    let load = own("64 clients: CPU per write, the load itself", &|round| {
        round.many.slice.cpu_us()
    });
    let nodes = nodes.map(|row| row.target(Target::AtMost(120.0)));
    nodes.into_iter().chain(load)
}
