//! `sqlrep bench log`: the durable log next to a raw write and sync on a file in the same folder.
//!
//! A round is raw, one in flight, many in flight, raw, a slice of time each. A round whose two raw probes differ by more
//! than [`PROBE_FACTOR_MAX`](crate::PROBE_FACTOR_MAX) says nothing and is left out; the report counts it.

use crate::raw::{DURABILITY, Probes, Raw, WRITE_BYTES};
use crate::report::{Rounds, Row, Target};
use crate::slice::{Slice, measure, micros};
use crate::{BenchError, Report};
use sqlrep_core::{
    DirectoryId, Entry, EntryId, LogIndex, LogStore, NodeId, Payload, StorageError, Term, Vote,
};
use sqlrep_disk::Disk;
use sqlrep_env::Env;
use sqlrep_raft_log::{LogIdentity, Options, RaftLog};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// What is measured, and where.
pub struct LogBench {
    /// An empty folder on the disk in question.
    pub disk: Arc<dyn Disk>,
    /// Clocks and threads.
    pub env: Env,
    /// Rounds.
    pub rounds: usize,
    /// How long each part of a round runs.
    pub slice: Duration,
    /// Bytes of an entry.
    pub entry_bytes: usize,
    /// Entries in flight in the second row.
    pub in_flight: usize,
    /// The log's limits.
    pub options: Options,
}

impl LogBench {
    /// Nine rounds of slices of a second, entries of 200 bytes, 1 and 64 in flight.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, env: Env) -> Self {
        Self {
            disk,
            env,
            rounds: 9,
            slice: Duration::from_secs(1),
            entry_bytes: WRITE_BYTES,
            in_flight: 64,
            options: Options::default(),
        }
    }
}

/// The slices of a round.
struct Round {
    raw: Probes,
    one: Slice,
    /// What an entry took beside its sync while one was in flight.
    beside_us: f64,
    many: Slice,
    /// Entries made durable by each sync while many were in flight.
    per_sync: f64,
}

/// Measures.
///
/// # Errors
///
/// The disk or the log fails, or no round was steady.
pub fn log(bench: LogBench) -> Result<Report, BenchError> {
    let clock = bench.env.clock.clone();
    let mut raw = Raw::new(&*bench.disk, bench.entry_bytes)?;
    let mut loaded = Loaded::new(&bench)?;
    let rounds = Rounds::run(bench.rounds, || {
        let first = raw.slice(&*clock, bench.slice)?;
        let syncing = loaded.log.sync_times().sum;
        let one = loaded.slice(&bench, 1)?;
        let syncing = loaded.log.sync_times().sum.saturating_sub(syncing);
        let beside = one.took.saturating_sub(syncing);
        let beside_us = micros(beside) / one.operations;
        let syncs = loaded.log.stats().syncs;
        let many = loaded.slice(&bench, bench.in_flight)?;
        let syncs = number(loaded.log.stats().syncs - syncs);
        let raw = Probes([first, raw.slice(&*clock, bench.slice)?]);
        let steady = raw.are_steady();
        let per_sync = many.operations / syncs;
        let round = Round {
            raw,
            one,
            beside_us,
            many,
            per_sync,
        };
        Ok((round, steady))
    })?;
    loaded.close()?;
    Ok(report(&bench, rounds))
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a count of more than 2^53 is still a good figure"
)]
fn number(count: u64) -> f64 {
    count as f64
}

fn report(bench: &LogBench, rounds: Rounds<Round>) -> Report {
    let many = |what: &str| format!("log, {} in flight{what}", bench.in_flight);
    let row =
        |name: &str, unit, value: &dyn Fn(&Round) -> f64| rounds.row(name, DURABILITY, unit, value);
    let mut rows = vec![
        row("raw write and sync", "/s", &|round| round.raw.per_second()),
        row("raw write and sync: p50", "us", &|round| round.raw.p50_us()),
        row("log, 1 in flight", "/s", &|round| round.one.per_second()),
        row("log, 1 in flight / raw", "x", &|round| {
            round.one.per_second() / round.raw.per_second()
        })
        .target(Target::AtLeast(RAW_RATIO_MIN)),
        row("log, 1 in flight: time beside the sync", "us", &|round| {
            round.beside_us
        }),
        row(&many(""), "/s", &|round| round.many.per_second()),
        row(&many(": entries per sync"), "", &|round| round.per_sync),
    ];
    let cpu = many(": CPU per entry");
    let cpu: Option<Row> = rounds.row_if_told(&cpu, DURABILITY, "us", |round| round.many.cpu_us());
    rows.extend(cpu.map(|row| row.target(Target::AtMost(CPU_US_MAX))));
    let title = format!(
        "durable log, entries of {} bytes, slices of {:?}; CPU is the whole process's, the load's too",
        bench.entry_bytes, bench.slice
    );
    rounds.report(title, rows)
}

/// One in flight waits for the disk as a raw write does, and for two threads to wake each other.
const RAW_RATIO_MIN: f64 = 0.85;

/// Per 200-byte entry with 64 in flight.
const CPU_US_MAX: f64 = 5.0;

type Answer = Result<(), StorageError>;

/// The log under load.
struct Loaded {
    log: Arc<RaftLog>,
    next: LogIndex,
    payload: Payload,
    sender: Sender<Answer>,
    receiver: Receiver<Answer>,
}

const TERM: Term = Term(1);

impl Loaded {
    fn new(bench: &LogBench) -> Result<Self, BenchError> {
        let identity = LogIdentity {
            node: NodeId::MAX,
            directory: DirectoryId(bench.env.entropy.next()),
        };
        let log = RaftLog::open(bench.disk.clone(), &bench.env, bench.options, identity)?;
        let (sender, receiver) = channel();
        let loaded = Self {
            log,
            next: LogIndex(0),
            payload: Payload::Command(vec![0x5a; bench.entry_bytes].into()),
            sender,
            receiver,
        };
        let vote = Vote {
            term: TERM,
            node: Some(identity.node),
            committed: true,
        };
        loaded.log.save_vote(vote, loaded.done());
        loaded.answer()?;
        Ok(loaded)
    }

    fn done(&self) -> Box<dyn FnOnce(Answer) + Send> {
        let sender = self.sender.clone();
        Box::new(move |answer| {
            // Nobody listens any more only once a measurement has failed.
            sender.send(answer).ok();
        })
    }

    fn answer(&self) -> Result<(), BenchError> {
        let answer = self.receiver.recv().map_err(|_| BenchError::NoAnswer)?;
        Ok(answer?)
    }

    fn append(&mut self) {
        let id = EntryId {
            term: TERM,
            index: self.next,
        };
        self.next = id.index.next();
        let payload = self.payload.clone();
        self.log.append(vec![Entry { id, payload }], self.done());
    }

    /// Keeps `in_flight` entries under way, each replaced once it is durable.
    fn slice(&mut self, bench: &LogBench, in_flight: usize) -> Result<Slice, BenchError> {
        (0..in_flight).for_each(|_| self.append());
        let slice = measure(&*bench.env.clock, bench.slice, || {
            self.answer()?;
            self.append();
            Ok(1)
        })?;
        for _ in 0..in_flight {
            self.answer()?;
        }
        self.purge()?;
        Ok(slice)
    }

    /// Room for the next slice.
    fn purge(&self) -> Result<(), BenchError> {
        let Some(last) = self.log.state().last else {
            return Ok(());
        };
        self.log.set_floor(Some(last.index));
        self.log.purge(last, self.done());
        self.answer()
    }

    fn close(self) -> Result<(), BenchError> {
        let (sender, receiver) = channel();
        self.log.close(Box::new(move || {
            sender.send(()).ok();
        }));
        receiver.recv().map_err(|_| BenchError::NoAnswer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlrep_disk::RealDisk;

    #[test]
    fn a_short_run_has_its_rows_with_their_durability() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::open(folder.path()).unwrap());
        let bench = LogBench {
            rounds: 3,
            slice: Duration::from_millis(20),
            options: Options {
                segment_bytes: 1 << 20,
                ..Options::default()
            },
            ..LogBench::new(disk, Env::real())
        };
        let report = match log(bench) {
            Ok(report) => report,
            Err(BenchError::Unsteady { rounds: 3 }) => return, // a busy machine is told as one
            Err(error) => panic!("{error}"),
        };
        assert_eq!(report.rounds + report.left_out.len(), 3);
        assert!(report.rows.iter().all(|row| row.median > 0.0), "{report}");
        assert!(report.rows.iter().all(|row| row.durability == DURABILITY));
        let judged = |name: &str| {
            let row = report.rows.iter().find(|row| row.name == name);
            row.unwrap().is_met().is_some()
        };
        assert!(judged("log, 1 in flight / raw"));
        assert!(judged("log, 64 in flight: CPU per entry"));
    }
}
