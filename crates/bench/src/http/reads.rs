//! Point SELECTs of 16 clients at each level, beside an empty answer of the same node in the same round.
//!
//! The empty answer is that to `OPTIONS /db/query`: headers alone, through the same server and connection, without a look at
//! parameters, database or members. A round is empty, none, weak, linearizable on the leader, empty and linearizable on a
//! follower, empty on the leader again. It counts if the leader's two empty slices are alike, the same node led throughout
//! and nothing was refused.

use super::HttpBench;
use super::client::{Connection, bare, post};
use super::load::{Form, Load, connections, load};
use super::nodes::{NODES, Nodes};
use crate::BenchError;
use crate::plain::{self, CREATE, Ids, SELECT};
use crate::raw::Probes;
use crate::report::{Report, Rounds, Row, Target};
use crate::store::READ;
use std::cell::Cell;
use tokio::runtime::Runtime;

const CLIENTS: usize = 16;

const PATH: &str = "/db/query";

/// What a node is asked for.
#[derive(Clone, Copy)]
enum Ask {
    Empty,
    Level(&'static str),
}

impl Ask {
    async fn slice(
        self,
        bench: &HttpBench,
        nodes: &Nodes,
        connections: &mut [Connection],
    ) -> Result<Load, BenchError> {
        let ids = Cell::new(Ids::default());
        let select = |level: &str, out: &mut Vec<u8>| {
            let mut next = ids.get();
            let body = format!("[[\"{SELECT}\",{}]]", next.next());
            ids.set(next);
            post(out, &format!("{PATH}?level={level}"), &body);
        };
        let form: Form<'_> = &|_, out| match self {
            Self::Empty => bare(out, "OPTIONS", PATH),
            Self::Level(level) => select(level, out),
        };
        load(nodes, &*bench.env.clock, connections, bench.slice, form).await
    }
}

/// What one node gave: the empty answer, then each level.
struct Side {
    node: usize,
    empty: Load,
    levels: Vec<Load>,
}

struct Round {
    leader: Side,
    follower: Side,
    empty: Probes,
}

const ON_LEADER: [(&str, f64); 3] = [("none", 0.5), ("weak", 0.5), ("linearizable", 0.2)];
const ON_FOLLOWER: [(&str, f64); 1] = [("linearizable", 0.15)];

pub(super) fn reads(bench: &HttpBench, runtime: &Runtime) -> Result<Report, BenchError> {
    let nodes = runtime.block_on(bench.nodes("reads", bench.sync_floor))?;
    runtime.block_on(async {
        nodes.execute(CREATE).await?;
        nodes.execute(&plain::fill()).await
    })?;
    let rounds = Rounds::run(bench.rounds, || runtime.block_on(round(bench, &nodes)));
    runtime.block_on(nodes.end())?;
    Ok(report(bench, rounds?))
}

async fn round(bench: &HttpBench, nodes: &Nodes) -> Result<(Round, bool), BenchError> {
    let leads = nodes.leader().await?;
    let leader = side(bench, nodes, leads, &ON_LEADER).await?;
    let follower = side(bench, nodes, (leads + 1) % NODES, &ON_FOLLOWER).await?;
    let mut again = connections(nodes.http(leads), CLIENTS).await?;
    let again = Ask::Empty.slice(bench, nodes, &mut again).await?;
    let empty = Probes([leader.empty.slice, again.slice]);
    let same = nodes.leader().await? == leads;
    let refused = |side: &Side| side.levels.iter().map(|load| load.refused).sum::<u64>();
    let steady = empty.are_steady() && same && refused(&leader) + refused(&follower) == 0;
    let round = Round {
        leader,
        follower,
        empty,
    };
    Ok((round, steady))
}

async fn side(
    bench: &HttpBench,
    nodes: &Nodes,
    node: usize,
    levels: &[(&'static str, f64)],
) -> Result<Side, BenchError> {
    let mut connections = connections(nodes.http(node), CLIENTS).await?;
    let empty = Ask::Empty.slice(bench, nodes, &mut connections).await?;
    let mut loads = Vec::new();
    for (level, _) in levels {
        let ask = Ask::Level(level);
        loads.push(ask.slice(bench, nodes, &mut connections).await?);
    }
    Ok(Side {
        node,
        empty,
        levels: loads,
    })
}

fn report(bench: &HttpBench, rounds: Rounds<Round>) -> Report {
    let mut rows = vec![rounds.row("empty answer, leader", READ, "/s", |round| {
        round.empty.per_second()
    })];
    let leader = |round: &Round| round.empty.per_second();
    for (at, level) in ON_LEADER.into_iter().enumerate() {
        let load = |round: &Round| round.leader.levels[at].slice.per_second();
        rows.extend(level_rows(&rounds, "leader", level, &load, &leader));
    }
    let follower = |round: &Round| round.follower.empty.slice.per_second();
    for (at, level) in ON_FOLLOWER.into_iter().enumerate() {
        let load = |round: &Round| round.follower.levels[at].slice.per_second();
        rows.extend(level_rows(&rounds, "follower", level, &load, &follower));
    }
    rows.extend(cpu(&rounds));
    let title = format!(
        "point SELECTs over HTTP, {CLIENTS} connections, three nodes, {} mode, slices of {:?}; the empty answer is OPTIONS {PATH}",
        bench.mode, bench.slice
    );
    rounds.report(title, rows)
}

type PerSecond<'a> = &'a dyn Fn(&Round) -> f64;

fn level_rows(
    rounds: &Rounds<Round>,
    place: &str,
    (level, least): (&str, f64),
    load: PerSecond<'_>,
    empty: PerSecond<'_>,
) -> [Row; 2] {
    let name = format!("SELECT, {level}, {place}");
    let ratio = rounds.row(&format!("{name} / empty"), READ, "x", |round| {
        load(round) / empty(round)
    });
    [
        rounds.row(&name, READ, "/s", load),
        ratio.target(Target::AtLeast(least)),
    ]
}

/// CPU of the node that answers, which rates hide when load and nodes share processors.
fn cpu(rounds: &Rounds<Round>) -> Vec<Row> {
    let row = |name: &str, value: &dyn Fn(&Round) -> Option<f64>| {
        rounds.row_if_told(name, READ, "us", value)
    };
    let mut rows = vec![row("CPU per empty answer, leader", &|round| {
        round.leader.empty.node_us(round.leader.node)
    })];
    for (at, (level, _)) in ON_LEADER.iter().enumerate() {
        let name = format!("CPU per SELECT, {level}, leader");
        let us = |round: &Round| round.leader.levels[at].node_us(round.leader.node);
        rows.push(row(&name, &us));
    }
    rows.push(row("CPU per empty answer, the load itself", &|round| {
        round.leader.empty.slice.cpu_us()
    }));
    rows.into_iter().flatten().collect()
}
