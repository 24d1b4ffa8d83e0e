//! Clients that ask one after the other, all on one thread of this process, so that the load takes little from the nodes.

use super::client::{ANSWER_MAX, Connection};
use super::nodes::Nodes;
use crate::slice::{Slice, Times};
use crate::{BenchError, cpu};
use futures_util::future::try_join_all;
use sqlrep_env::Clock;
use std::cell::Cell;
use std::time::Duration;

/// Writes a request, given its number, into an empty buffer.
pub(crate) type Form<'a> = &'a dyn Fn(u64, &mut Vec<u8>);

/// What a slice under load gave.
pub(crate) struct Load {
    /// Its CPU is the load's own.
    pub(crate) slice: Slice,
    /// Answers that weren't what was asked for; they don't count as operations.
    pub(crate) refused: u64,
    /// CPU time of each node meanwhile.
    pub(crate) nodes: Vec<Option<Duration>>,
}

impl Load {
    /// CPU microseconds of all nodes for each operation.
    pub(crate) fn nodes_us(&self) -> Option<f64> {
        let all: Option<Duration> = self.nodes.iter().copied().sum();
        all.map(|all| all.as_secs_f64() * 1e6 / self.slice.operations)
    }

    /// CPU microseconds of one node for each operation.
    pub(crate) fn node_us(&self, node: usize) -> Option<f64> {
        self.nodes[node].map(|one| one.as_secs_f64() * 1e6 / self.slice.operations)
    }
}

/// Connections to one node.
pub(crate) async fn connections(
    address: &str,
    count: usize,
) -> Result<Vec<Connection>, BenchError> {
    try_join_all((0..count).map(|_| Connection::open(address)))
        .await
        .map_err(BenchError::Http)
}

/// Keeps one request under way on each connection until the slice is over.
pub(crate) async fn load(
    nodes: &Nodes,
    clock: &dyn Clock,
    connections: &mut [Connection],
    slice: Duration,
    form: Form<'_>,
) -> Result<Load, BenchError> {
    let next = Cell::new(0);
    let (nodes_before, cpu_before, began) = (nodes.cpu(), cpu::used(), clock.now());
    let client = |connection| one(clock, connection, began.after(slice), &next, form);
    let each = tokio::time::timeout(
        slice + ANSWER_MAX,
        try_join_all(connections.iter_mut().map(client)),
    );
    let each = each.await.map_err(|_| BenchError::Late {
        what: "all answers",
        waited: ANSWER_MAX,
    })??;
    let took = clock.now().since(began);
    let (cpu_after, nodes_after) = (cpu::used(), nodes.cpu());
    let refused = each.iter().map(|(_, refused)| refused).sum();
    let mut times: Vec<Duration> = each.into_iter().flat_map(|(times, _)| times).collect();
    let spent = |(after, before): (Duration, Duration)| after.saturating_sub(before);
    let nodes = nodes_after.into_iter().zip(nodes_before);
    Ok(Load {
        slice: Slice {
            operations: count(times.len()),
            took,
            times: Times::of(&mut times),
            cpu: cpu_after.zip(cpu_before).map(spent),
        },
        refused,
        nodes: nodes
            .map(|(after, before)| after.zip(before).map(spent))
            .collect(),
    })
}

fn count(operations: usize) -> f64 {
    u32::try_from(operations).map_or(f64::NAN, f64::from)
}

/// One client: how long each answer took, and how many weren't what was asked for.
async fn one(
    clock: &dyn Clock,
    connection: &mut Connection,
    until: sqlrep_env::Moment,
    next: &Cell<u64>,
    form: Form<'_>,
) -> Result<(Vec<Duration>, u64), BenchError> {
    let (mut request, mut times, mut refused) = (Vec::new(), Vec::new(), 0);
    let mut before = clock.now();
    while before < until {
        request.clear();
        form(next.replace(next.get() + 1), &mut request);
        let answer = connection.call(&request).await.map_err(BenchError::Http)?;
        let done = answer.is_done();
        let now = clock.now();
        if done {
            times.push(now.since(before));
        } else {
            refused += 1;
        }
        before = now;
    }
    Ok((times, refused))
}
