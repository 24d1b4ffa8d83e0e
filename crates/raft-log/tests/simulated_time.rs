//! The log as turns of simulated time alone: its workers run on `SimulatedExecutor`, a turn takes what its I/O costs, the
//! disk loses power in between. One seed, one history.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use common::{entry, id, identity, small, vote};
use sqlrep_core::{Done, Entry, LogIndex, LogStore, StorageError};
use sqlrep_disk::{Loss, SimulatedDisk};
use sqlrep_env::{Entropy, Env, SimulatedEntropy, Timer};
use sqlrep_raft_log::RaftLog;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A turn of the writer costs at least this: a sync.
const SYNC: Duration = Duration::from_micros(800);

/// Between two entries that come in: several fall into one sync.
const BETWEEN: Duration = Duration::from_micros(300);

const ENTRIES: u64 = 60;

type Event = Box<dyn FnOnce() + Send>;

/// Now, events so far, and what is to come by time and order.
#[derive(Default)]
struct Plan {
    now: Duration,
    count: u64,
    events: BTreeMap<(Duration, u64), Event>,
}

/// The only time there is; it passes when it is run.
#[derive(Default)]
struct Agenda(Mutex<Plan>);

impl Timer for Agenda {
    fn now(&self) -> Duration {
        self.0.lock().unwrap().now
    }

    fn after(&self, delay: Duration, event: Event) {
        let mut plan = self.0.lock().unwrap();
        plan.count += 1;
        let key = (plan.now + delay, plan.count);
        plan.events.insert(key, event);
    }
}

impl Agenda {
    /// Runs what is due up to `end`.
    fn run_until(&self, end: Duration) {
        while let Some(event) = self.next(end) {
            event();
        }
    }

    fn next(&self, end: Duration) -> Option<Event> {
        let mut plan = self.0.lock().unwrap();
        let first = plan.events.first_entry()?;
        if first.key().0 > end {
            return None;
        }
        let ((at, _), event) = first.remove_entry();
        plan.now = at;
        Some(event)
    }

    fn run(&self) {
        self.run_until(Duration::MAX);
    }
}

/// What happened and when.
type Trace = Vec<(Duration, String)>;

/// One process's life on `disk`.
struct Life {
    agenda: Arc<Agenda>,
    log: Arc<RaftLog>,
    trace: Arc<Mutex<Trace>>,
}

impl Life {
    fn start(disk: &SimulatedDisk, seed: u64) -> Self {
        let agenda = Arc::new(Agenda::default());
        let jitter = SimulatedEntropy::new(seed);
        let trace = Arc::<Mutex<Trace>>::default();
        let (noted, timer) = (trace.clone(), agenda.clone());
        let env = Env::simulated(seed, agenda.clone(), move |worker| {
            let cost = SYNC + Duration::from_micros(jitter.next() % 400);
            let told = format!("a turn of {worker} takes {cost:?}");
            noted.lock().unwrap().push((timer.now(), told));
            cost
        });
        let disk = Arc::new(disk.clone());
        let log = RaftLog::open(disk, &env, small(), identity()).unwrap();
        agenda.run();
        Self { agenda, log, trace }
    }

    fn now(&self) -> Duration {
        self.agenda.now()
    }

    /// Notes when `what` is acknowledged, or that it failed.
    fn noting(&self, what: String) -> Done<()> {
        let (trace, agenda) = (self.trace.clone(), self.agenda.clone());
        Box::new(move |done: Result<(), StorageError>| {
            let how = if done.is_ok() { "done" } else { "failed" };
            let told = format!("{what} {how}");
            trace.lock().unwrap().push((agenda.now(), told));
        })
    }

    /// An election, then entries from `first` on, one after the other.
    fn write(&self, term: u64, first: u64) {
        let done = self.noting(format!("vote {term}"));
        self.log.save_vote(vote(term), done);
        for index in first..ENTRIES {
            let delay = BETWEEN * u32::try_from(index - first).unwrap();
            let (log, done) = (self.log.clone(), self.noting(format!("entry {index}")));
            let bytes = usize::try_from(index * 37 % 500).unwrap();
            let entry = entry(id(term, index), bytes, index);
            self.agenda
                .after(delay, Box::new(move || log.append(vec![entry], done)));
        }
    }

    /// All of them; a read may answer with a part.
    fn entries(&self) -> Vec<Entry> {
        let end = self.log.state().last.map_or(0, |last| last.index.0 + 1);
        let found = Arc::new(Mutex::new(Vec::new()));
        let count = || found.lock().unwrap().len() as u64;
        while count() < end {
            let before = count();
            let taken = found.clone();
            let done = Box::new(move |read: Result<Vec<Entry>, StorageError>| {
                taken.lock().unwrap().append(&mut read.unwrap());
            });
            let rest = LogIndex(before)..LogIndex(end);
            self.log.read(rest, usize::MAX, done);
            self.agenda.run();
            assert!(count() > before, "a read answers with something");
        }
        std::mem::take(&mut found.lock().unwrap())
    }

    /// How many entries are acknowledged.
    fn acknowledged(&self) -> u64 {
        let trace = self.trace.lock().unwrap();
        let done =
            |(_, what): &&(Duration, String)| what.starts_with("entry ") && what.ends_with(" done");
        trace.iter().filter(done).count() as u64
    }

    fn end(self, trace: &mut Trace) {
        trace.append(&mut self.trace.lock().unwrap());
    }
}

/// Writes, loses power in a turn after `crash`, comes back and writes the rest; what happened.
fn history(seed: u64, crash: Duration) -> Trace {
    let mut trace = Trace::new();
    let disk = SimulatedDisk::new(seed);
    let first = Life::start(&disk, seed);
    let begun = first.now();
    let syncs = disk.syncs();
    first.write(1, 0);
    first.agenda.run_until(begun + crash);
    // In the middle of a later turn; what is asked for after that fails.
    disk.crash_at(1 + seed % 3);
    first.agenda.run();
    assert!(disk.is_dead());
    let acknowledged = first.acknowledged();
    assert!((10..ENTRIES).contains(&acknowledged), "{acknowledged}");
    let syncs = disk.syncs() - syncs;
    assert!(
        syncs < acknowledged,
        "{syncs} syncs for {acknowledged} entries: nothing gathered behind a sync"
    );
    let after = disk.crash(Loss::Random { seed });
    first.end(&mut trace);

    let second = Life::start(&after, seed + 1);
    let kept = second.entries();
    let kept_count = kept.len() as u64;
    assert!(kept_count >= acknowledged, "{kept_count} of {acknowledged}");
    assert_eq!(second.log.state().vote, Some(vote(1)));
    for (index, kept) in (0..).zip(&kept) {
        let bytes = usize::try_from(index * 37 % 500).unwrap();
        assert_eq!(*kept, entry(id(1, index), bytes, index));
    }
    second.write(2, kept_count);
    second.agenda.run();
    assert_eq!(second.acknowledged(), ENTRIES - kept_count);
    assert_eq!(second.entries().len() as u64, ENTRIES);
    trace.push((second.now(), format!("{kept_count} were kept")));
    second.end(&mut trace);
    trace
}

#[test]
fn one_seed_is_one_history_with_a_power_loss_in_between() {
    for crash in [7, 10, 13].map(Duration::from_millis) {
        for seed in 1..=10 {
            let once = history(seed, crash);
            assert_eq!(once, history(seed, crash), "seed {seed}");
            assert_ne!(once, history(seed + 100, crash), "seed {seed}");
        }
    }
}

#[test]
fn nothing_is_acknowledged_before_its_sync_had_the_time() {
    let life = Life::start(&SimulatedDisk::new(3), 3);
    let begun = life.now();
    life.write(1, 0);
    life.agenda.run_until(begun + SYNC / 2);
    assert_eq!(life.acknowledged(), 0);
    life.agenda.run();
    assert_eq!(life.acknowledged(), ENTRIES);
    for (at, what) in &*life.trace.lock().unwrap() {
        if let Some(index) = what
            .strip_prefix("entry ")
            .and_then(|rest| rest.strip_suffix(" done"))
        {
            let asked = begun + BETWEEN * index.parse::<u32>().unwrap();
            assert!(*at > asked, "{what} at {at:?}, asked for at {asked:?}");
        }
    }
}
