//! `sqlrep bench log`: the durable log next to a raw write and sync on a file in the same folder.
//!
//! A round is raw, one in flight, many in flight, raw, a slice of time each. A round whose two raw probes differ by more
//! than [`RAW_FACTOR_MAX`] says nothing and is left out; the report counts it.

use crate::raw::{DURABILITY, RAW_FACTOR_MAX, Raw};
use crate::slice::{Slice, measure};
use crate::{BenchError, Report, Row};
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
            entry_bytes: 200,
            in_flight: 64,
            options: Options::default(),
        }
    }
}

/// The slices of a round.
struct Round {
    raw: [Slice; 2],
    one: Slice,
    many: Slice,
}

impl Round {
    fn raw_per_second(&self) -> f64 {
        f64::midpoint(self.raw[0].per_second, self.raw[1].per_second)
    }

    fn is_steady(&self) -> bool {
        let [first, second] = self.raw.map(|slice| slice.per_second);
        first.max(second) <= RAW_FACTOR_MAX * first.min(second)
    }
}

/// Measures.
///
/// # Errors
///
/// The disk or the log fails, or no round was steady.
pub fn log(bench: LogBench) -> Result<Report, BenchError> {
    let mut raw = Raw::new(&*bench.disk, bench.entry_bytes)?;
    let mut loaded = Loaded::new(&bench)?;
    let mut rounds = Vec::new();
    for _ in 0..bench.rounds {
        let first = raw.slice(&*bench.env.clock, bench.slice)?;
        let one = loaded.slice(&bench, 1)?;
        let many = loaded.slice(&bench, bench.in_flight)?;
        let raw = [first, raw.slice(&*bench.env.clock, bench.slice)?];
        rounds.push(Round { raw, one, many });
    }
    loaded.close()?;
    report(&bench, &rounds)
}

fn report(bench: &LogBench, rounds: &[Round]) -> Result<Report, BenchError> {
    let steady: Vec<&Round> = rounds.iter().filter(|round| round.is_steady()).collect();
    if steady.is_empty() {
        let rounds = rounds.len();
        return Err(BenchError::Unsteady { rounds });
    }
    let raw = |round: &Round| Slice {
        per_second: round.raw_per_second(),
        ..round.raw[0]
    };
    let many = format!("log, {} in flight", bench.in_flight);
    Ok(Report {
        title: format!(
            "durable log, entries of {} bytes, slices of {:?}",
            bench.entry_bytes, bench.slice
        ),
        baseline: "raw",
        rounds: steady.len(),
        left_out: rounds.len() - steady.len(),
        rows: vec![
            row("raw write and sync", &steady, raw),
            row("log, 1 in flight", &steady, |round| round.one),
            row(&many, &steady, |round| round.many),
        ],
    })
}

fn row(name: &str, rounds: &[&Round], slice: impl Fn(&Round) -> Slice) -> Row {
    let pair = |round: &&Round| (slice(round), round.raw_per_second());
    let pairs: Vec<(Slice, f64)> = rounds.iter().map(pair).collect();
    Row::of(name, DURABILITY, &pairs)
}

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
        assert_eq!(report.rounds + report.left_out, 3);
        let text = report.to_string();
        for name in [
            "raw write and sync",
            "log, 1 in flight",
            "log, 64 in flight",
        ] {
            assert!(text.contains(name), "{text}");
        }
        assert_eq!(text.matches(DURABILITY).count(), 3, "{text}");
        let json = report.json();
        assert_eq!(json["rows"].as_array().unwrap().len(), 3);
        assert!(json["rows"][2]["per_second"].as_f64().unwrap() > 0.0);
    }

    #[test]
    fn an_unsteady_round_is_left_out_and_counted() {
        let slice = |per_second| Slice {
            per_second,
            cpu_us: None,
        };
        let round = |first, second, one| Round {
            raw: [slice(first), slice(second)],
            one: slice(one),
            many: slice(10.0 * one),
        };
        let disk = Arc::new(sqlrep_disk::SimulatedDisk::new(1));
        let bench = LogBench::new(disk, Env::inline(1));
        let rounds = [
            round(100.0, 100.0, 90.0),
            round(100.0, 301.0, 5.0),
            round(200.0, 200.0, 160.0),
        ];
        let found = report(&bench, &rounds).unwrap();
        assert_eq!((found.rounds, found.left_out), (2, 1));
        assert_eq!(found.rows[1].ratio_range, (0.8, 0.9));
        let none = report(&bench, &rounds[1..2]).unwrap_err();
        assert!(matches!(none, BenchError::Unsteady { rounds: 1 }), "{none}");
    }
}
