//! Both modes' state machines by themselves, without Raft, syncs of a log and network: what a transaction takes in the log, and how fast
//! a follower takes over what is there, on one core.
//!
//! A leader of each mode takes in the same transactions, 64 to an entry. Its entries are counted as they are, and with lz4 around those
//! of statement mode (page sets have it inside already). A round is a new follower of each mode that applies all of them; a
//! follower whose database isn't its leader's, byte for byte, ends the measurement.

use super::EmbeddedBench;
use crate::modes::Work;
use crate::modes::work::tables;
use crate::report::{Rounds, Row, Target};
use crate::{BenchError, Report};
use bytes::Bytes;
use sqlrep_core::{
    Applied, Committed, EntryEnd, EntryId, Epoch, EpochId, LogIndex, MachineError, NodeId, Sealed,
    StateMachine, Step, Term,
};
use sqlrep_disk::{Disk, RealDisk};
use sqlrep_env::Env;
use sqlrep_replica::{CheckpointPolicy, Replica};
use sqlrep_sql::{Reply, Request, SqlSettings};
use sqlrep_statement_sm::StatementMachine;
use sqlrep_store::{Options, Store};
use sqlrep_wal_sm::PageMachine;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Of what is measured here.
const DURABILITY: &str = "none: no log is written";

/// Entries of a load.
const ENTRIES: u64 = 200;

/// Transactions of an entry.
const COALESCED: u64 = 64;

/// Loads that are judged, with bounds of their own.
const WORKS: [Work; 3] = [Work::Insert, Work::Update, Work::Index];

/// Transactions that a follower of page mode applies in a second.
const APPLIED_PER_SECOND_MIN: f64 = 300_000.0;

/// Bytes of page mode, of statement mode's.
const BYTES_MAX: f64 = 1.0;

/// The same with lz4 in both.
const COMPRESSED_MAX: f64 = 1.2;

const TERM: Term = Term(1);

/// Every entry of the log.
const ALL: EntryId = EntryId {
    term: TERM,
    index: LogIndex(u64::MAX),
};

/// How a mode's machine is opened.
trait Opens: StateMachine<Request = Request, Reply = Reply> + Sized {
    fn open_on(replica: Arc<Replica>) -> Result<Arc<Self>, MachineError>;
}

impl Opens for StatementMachine {
    fn open_on(replica: Arc<Replica>) -> Result<Arc<Self>, MachineError> {
        Ok(Self::open(replica, SqlSettings::default())?)
    }
}

impl Opens for PageMachine {
    fn open_on(replica: Arc<Replica>) -> Result<Arc<Self>, MachineError> {
        Ok(Self::open(replica, SqlSettings::default())?)
    }
}

/// A state machine on a store of its own, and how many entries it has.
struct Driven<M> {
    machine: Arc<M>,
    replica: Arc<Replica>,
    index: u64,
}

impl<M: Opens> Driven<M> {
    fn open(folder: &Path, env: &Env) -> Result<Self, BenchError> {
        std::fs::create_dir_all(folder).map_err(BenchError::Runtime)?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(folder)?);
        let store = Store::open(Options::new(disk))?;
        let replica = Replica::new(store, env.clone(), CheckpointPolicy::default());
        let replica = Arc::new(replica);
        Ok(Self {
            machine: M::open_on(replica.clone())?,
            replica,
            index: 0,
        })
    }

    fn apply(&mut self, body: &Bytes) -> Result<(), BenchError> {
        self.index += 1;
        let id = EntryId {
            term: TERM,
            index: LogIndex(self.index),
        };
        let command = Committed {
            id,
            body,
            skip: &[],
        };
        if matches!(self.machine.prepare(command)?, Applied::Refused) {
            let what = format!("entry {} was refused", self.index);
            return Err(BenchError::Answer(what));
        }
        let end = EntryEnd {
            id: Some(id),
            ..EntryEnd::default()
        };
        Ok(self.machine.finish(end)?)
    }

    /// What was applied leaves memory.
    fn settle(&self) -> Result<(), BenchError> {
        self.machine.checkpoint(ALL, true)?;
        Ok(())
    }

    /// The database's checksum over every page.
    fn checksum(&self) -> u64 {
        self.replica.store().committed().checksum.0
    }
}

/// Entries of a leader.
struct Entries {
    /// Those that make the tables.
    tables: Vec<Bytes>,
    load: Vec<Bytes>,
    /// Of the database behind them.
    checksum: u64,
}

/// Leads a cluster of one through a load.
fn led<M: Opens>(
    folder: &Path,
    env: &Env,
    (work, entries): (Work, u64),
) -> Result<Entries, BenchError> {
    let mut driven = Driven::<M>::open(folder, env)?;
    let (mut epoch, _) = driven.machine.lead(EpochId {
        term: TERM,
        node: NodeId::new(1).expect("1 is an id"),
        epoch: 1,
    });
    let mut tables_made = Vec::new();
    for sql in tables() {
        let requests = [Request::execute(sql)];
        tables_made.extend(entry(&mut driven, &mut epoch, requests)?);
    }
    driven.settle()?;
    let mut load = Vec::new();
    for number in 0..entries {
        let jobs = (0..COALESCED).map(|at| work.job(number * COALESCED + at).request());
        load.extend(entry(&mut driven, &mut epoch, jobs)?);
    }
    Ok(Entries {
        tables: tables_made,
        load,
        checksum: driven.checksum(),
    })
}

/// Requests in one entry, applied.
fn entry<M: Opens>(
    driven: &mut Driven<M>,
    epoch: &mut M::Epoch,
    requests: impl IntoIterator<Item = Request>,
) -> Result<Vec<Bytes>, BenchError> {
    for request in requests {
        match epoch.run(request) {
            Step::Encoded | Step::Executed { .. } => {}
            other => return Err(BenchError::Answer(format!("{other:?}"))),
        }
    }
    let (mut bodies, mut next) = (Vec::new(), epoch.seal());
    while let Some(Sealed { body, parts_left }) = next {
        driven.apply(&body)?;
        bodies.push(body);
        next = if parts_left > 0 {
            epoch.next_part()
        } else {
            None
        };
    }
    Ok(bodies)
}

/// How long a new follower takes to apply a load.
fn followed<M: Opens>(folder: &Path, env: &Env, entries: &Entries) -> Result<Duration, BenchError> {
    let mut follower = Driven::<M>::open(folder, env)?;
    for body in &entries.tables {
        follower.apply(body)?;
    }
    follower.settle()?;
    let began = env.clock.now();
    for body in &entries.load {
        follower.apply(body)?;
    }
    let took = env.clock.now().since(began);
    if follower.checksum() != entries.checksum {
        let what = "a follower's database differs from its leader's".to_owned();
        return Err(BenchError::Answer(what));
    }
    Ok(took)
}

/// Folders that nobody had before.
struct Folders {
    parent: PathBuf,
    made: u32,
}

impl Folders {
    fn next(&mut self) -> PathBuf {
        self.made += 1;
        self.parent.join(format!("machine-{}", self.made))
    }
}

struct Load {
    work: Work,
    transactions: f64,
    statement: Entries,
    page: Entries,
}

/// Time of each load's followers.
type Round = Vec<(Duration, Duration)>;

/// Measures.
///
/// # Errors
///
/// The disk or SQLite fails, or a follower's database isn't its leader's.
pub(super) fn machines(bench: &EmbeddedBench) -> Result<Report, BenchError> {
    measured(bench, &WORKS, ENTRIES)
}

fn measured(bench: &EmbeddedBench, works: &[Work], entries: u64) -> Result<Report, BenchError> {
    let mut folders = Folders {
        parent: bench.folder.clone(),
        made: 0,
    };
    let env = &bench.env;
    let mut loads = Vec::new();
    let transactions = entries * COALESCED;
    for work in works {
        let asked = (*work, entries);
        loads.push(Load {
            work: *work,
            transactions: f64::from(u32::try_from(transactions).expect("a few thousand")),
            statement: led::<StatementMachine>(&folders.next(), env, asked)?,
            page: led::<PageMachine>(&folders.next(), env, asked)?,
        });
    }
    let rounds = Rounds::run(bench.rounds, || {
        let mut round = Round::new();
        for load in &loads {
            let statement = followed::<StatementMachine>(&folders.next(), env, &load.statement)?;
            let page = followed::<PageMachine>(&folders.next(), env, &load.page)?;
            round.push((statement, page));
        }
        Ok((round, true))
    })?;
    let rows = (0..).zip(&loads).flat_map(|(at, load)| {
        let mut rows = bytes(load);
        rows.extend(rates(load, at, &rounds));
        rows
    });
    let rows = rows.collect();
    let title = format!(
        "state machines by themselves: {transactions} transactions, {COALESCED} to an entry, half of a text's 100 bytes drawn"
    );
    Ok(rounds.report(title, rows))
}

fn bytes(load: &Load) -> Vec<Row> {
    let each = |lengths: &mut dyn Iterator<Item = usize>| {
        let sum = u32::try_from(lengths.sum::<usize>()).unwrap_or(u32::MAX);
        f64::from(sum) / load.transactions
    };
    let packed = |body: &Bytes| lz4_flex::block::compress(body).len().min(body.len());
    let statement = each(&mut load.statement.load.iter().map(Bytes::len));
    let compressed = each(&mut load.statement.load.iter().map(packed));
    let page = each(&mut load.page.load.iter().map(Bytes::len));
    let row = |what: &str, unit, value| {
        let name = format!("{}: {what}", load.work.title());
        Row::of(&name, DURABILITY, unit, &[value])
    };
    vec![
        row("bytes in the log, statement mode", "B", statement),
        row("the same with lz4", "B", compressed),
        row("bytes in the log, page mode", "B", page),
        judged(
            load,
            row("page / statement", "x", page / statement),
            BYTES_MAX,
        ),
        judged(
            load,
            row("page / statement, lz4 in both", "x", page / compressed),
            COMPRESSED_MAX,
        ),
    ]
}

/// A random index changes a page of its own per row: its bytes are told, not judged.
fn judged(load: &Load, row: Row, most: f64) -> Row {
    match load.work {
        Work::Index => row,
        _ => row.target(Target::AtMost(most)),
    }
}

fn rates(load: &Load, at: usize, rounds: &Rounds<Round>) -> [Row; 2] {
    let row = |mode: &str, of: &dyn Fn(&(Duration, Duration)) -> Duration| {
        let name = format!("{}: applied, {mode} mode, one core", load.work.title());
        let rate = |round: &Round| load.transactions / of(&round[at]).as_secs_f64();
        rounds.row(&name, DURABILITY, "/s", rate)
    };
    [
        row("statement", &|(statement, _)| *statement),
        row("page", &|(_, page)| *page).target(Target::AtLeast(APPLIED_PER_SECOND_MIN)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlrep_node::Mode;

    #[test]
    fn followers_end_equal_and_pages_are_smaller_than_sql() {
        let folder = tempfile::tempdir().unwrap();
        let bench = EmbeddedBench {
            folder: folder.path().to_owned(),
            env: Env::real(),
            mode: Mode::Page,
            rounds: 1,
            slice: Duration::from_millis(1),
            sync_floor: None,
        };
        let report = measured(&bench, &[Work::Insert], 3).unwrap();
        assert_eq!(report.rows.len(), 7);
        let bytes = |at: usize| report.rows[at].median;
        assert!(bytes(0) > 100.0 && bytes(1) < bytes(0), "{report}");
        assert_eq!(report.rows[3].is_met(), Some(true), "{report}");
    }
}
