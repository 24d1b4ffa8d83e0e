//! Three nodes in one mode under load: what a slice of time gave and what it cost.

use super::work::Work;
use crate::BenchError;
use crate::slice::{Slice, micros};
use sqlrep_node::Mode;
use std::path::PathBuf;
use std::time::Duration;

/// What a cluster is started with.
pub(crate) struct Start {
    pub(crate) mode: Mode,
    /// An existing folder of its own.
    pub(crate) folder: PathBuf,
    pub(crate) sync_floor: Option<Duration>,
    pub(crate) delay: Option<Duration>,
    pub(crate) gathers: Gathers,
}

/// What the leader puts into an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gathers {
    /// All requests that wait.
    AsUsual,
    /// One request, with no other entry under way.
    Nothing,
}

/// One slice of load.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) work: Work,
    /// Each with one request under way.
    pub(crate) clients: usize,
    /// Number of the first job.
    pub(crate) first: u64,
    pub(crate) slice: Duration,
}

/// Three nodes.
pub(crate) trait Cluster {
    /// Loads the leader, and looks at all nodes before and after.
    fn slice(&self, asked: Asked) -> Result<Measured, BenchError>;

    /// Ends the nodes.
    fn end(self: Box<Self>) -> Result<(), BenchError>;
}

/// Metrics of a node that are counted over a slice.
pub(crate) const COUNTERS: [&str; 3] = [
    "log_syncs_total",
    "log_written_bytes_total",
    "links_out_bytes_total",
];

/// Their values on each node, the leader first.
pub(crate) type Counts = Vec<[f64; COUNTERS.len()]>;

/// What came of a slice.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) slice: Slice,
    /// The same node led throughout and refused nothing.
    pub(crate) steady: bool,
    /// CPU time of each process: the leader's and the followers', or that of all nodes and the load together.
    pub(crate) cpu: Option<Vec<Duration>>,
    /// What was counted on each node, the leader first.
    pub(crate) counted: Counts,
    /// Bytes of memory of the same processes, at the end.
    pub(crate) resident: Option<Vec<u64>>,
}

/// By how much counters grew.
pub(crate) fn grown(before: &Counts, after: &Counts) -> Counts {
    let node =
        |(before, after): (&[f64; 3], &[f64; 3])| std::array::from_fn(|at| after[at] - before[at]);
    before.iter().zip(after).map(node).collect()
}

impl Measured {
    fn each(&self, value: f64) -> f64 {
        value / self.slice.operations
    }

    fn all(&self, counter: usize) -> f64 {
        self.counted.iter().map(|node| node[counter]).sum()
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.slice.per_second()
    }

    /// Microseconds per request over all nodes.
    pub(crate) fn cpu_us(&self) -> Option<f64> {
        let all = self.cpu.as_ref()?.iter().sum();
        Some(self.each(micros(all)))
    }

    /// The same of one process.
    pub(crate) fn cpu_us_of(&self, process: usize) -> Option<f64> {
        let one = self.cpu.as_ref()?.get(process)?;
        Some(self.each(micros(*one)))
    }

    pub(crate) fn resident_mb_of(&self, process: usize) -> Option<f64> {
        let bytes = *self.resident.as_ref()?.get(process)?;
        Some(f64::from(u32::try_from(bytes >> 10).ok()?) * 1024.0 / 1e6)
    }

    pub(crate) fn log_bytes(&self) -> f64 {
        self.each(self.counted[0][1])
    }

    pub(crate) fn wire_bytes(&self) -> f64 {
        self.each(self.all(2))
    }

    pub(crate) fn leader_syncs(&self) -> f64 {
        self.each(self.counted[0][0])
    }

    pub(crate) fn all_syncs(&self) -> f64 {
        self.each(self.all(0))
    }

    /// Requests per sync of the leader.
    pub(crate) fn gathered(&self) -> f64 {
        self.slice.operations / self.counted[0][0]
    }
}
