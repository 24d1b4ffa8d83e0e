//! Three nodes in one mode under load: what a slice of time gave and what it cost.

use super::work::Work;
use crate::BenchError;
use crate::slice::{Slice, micros};
use sqlrep_node::Mode;
use std::path::PathBuf;
use std::time::Duration;

/// What a cluster is started with.
pub(super) struct Start {
    pub(super) mode: Mode,
    /// An existing folder of its own.
    pub(super) folder: PathBuf,
    pub(super) sync_floor: Option<Duration>,
    pub(super) delay: Option<Duration>,
}

/// One slice of load.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) work: Work,
    /// Each with one request under way.
    pub(super) clients: usize,
    /// Number of the first job.
    pub(super) first: u64,
    pub(super) slice: Duration,
}

/// Three nodes.
pub(super) trait Cluster {
    /// Loads the leader, and looks at all nodes before and after.
    fn slice(&self, asked: Asked) -> Result<Measured, BenchError>;

    /// Ends the nodes.
    fn end(self: Box<Self>) -> Result<(), BenchError>;
}

/// Metrics of a node that are counted over a slice.
pub(super) const COUNTERS: [&str; 3] = [
    "log_syncs_total",
    "log_written_bytes_total",
    "links_out_bytes_total",
];

/// Their values on each node, the leader first.
pub(super) type Counts = Vec<[f64; COUNTERS.len()]>;

/// What came of a slice.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) slice: Slice,
    /// The same node led throughout and refused nothing.
    pub(super) steady: bool,
    /// CPU time of each process: the leader's and the followers', or that of all nodes and the load together.
    pub(super) cpu: Option<Vec<Duration>>,
    /// What was counted on each node, the leader first.
    pub(super) counted: Counts,
    /// Bytes of memory of the same processes, at the end.
    pub(super) resident: Option<Vec<u64>>,
}

/// By how much counters grew.
pub(super) fn grown(before: &Counts, after: &Counts) -> Counts {
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

    pub(super) fn per_second(&self) -> f64 {
        self.slice.per_second()
    }

    /// Microseconds per request over all nodes.
    pub(super) fn cpu_us(&self) -> Option<f64> {
        let all = self.cpu.as_ref()?.iter().sum();
        Some(self.each(micros(all)))
    }

    /// The same of one process.
    pub(super) fn cpu_us_of(&self, process: usize) -> Option<f64> {
        let one = self.cpu.as_ref()?.get(process)?;
        Some(self.each(micros(*one)))
    }

    pub(super) fn resident_mb_of(&self, process: usize) -> Option<f64> {
        let bytes = *self.resident.as_ref()?.get(process)?;
        Some(f64::from(u32::try_from(bytes >> 10).ok()?) * 1024.0 / 1e6)
    }

    pub(super) fn log_bytes(&self) -> f64 {
        self.each(self.counted[0][1])
    }

    pub(super) fn wire_bytes(&self) -> f64 {
        self.each(self.all(2))
    }

    pub(super) fn leader_syncs(&self) -> f64 {
        self.each(self.counted[0][0])
    }

    pub(super) fn all_syncs(&self) -> f64 {
        self.each(self.all(0))
    }

    /// Requests per sync of the leader.
    pub(super) fn gathered(&self) -> f64 {
        self.slice.operations / self.counted[0][0]
    }
}
