//! What the tests share: a plain model of a log, scripts of operations, and an executor whose turns a test decides.
#![allow(dead_code, reason = "each test file uses a part")]

use sqlrep_core::{
    DirectoryId, Entry, EntryId, LogIndex, LogState, LogStore, NodeId, Payload, StorageError, Term,
    Vote,
};
use sqlrep_disk::{Disk, SimulatedDisk};
use sqlrep_env::{Env, Executor, Turn, Wake, Worker};
use sqlrep_raft_log::{LogError, LogIdentity, Options, RaftLog};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

pub(crate) fn identity() -> LogIdentity {
    LogIdentity {
        node: NodeId::new(1).unwrap(),
        directory: DirectoryId(77),
    }
}

/// Segments that are full after a few entries, and next to no cache.
pub(crate) fn small() -> Options {
    Options {
        segment_bytes: 4096,
        cache_bytes_max: 600,
        ..Options::default()
    }
}

pub(crate) fn id(term: u64, index: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: LogIndex(index),
    }
}

pub(crate) fn vote(term: u64) -> Vote {
    Vote {
        term: Term(term),
        node: NodeId::new(1),
        committed: true,
    }
}

/// An entry whose bytes tell which attempt wrote it.
pub(crate) fn entry(id: EntryId, bytes: usize, stamp: u64) -> Entry {
    let mut content = stamp.to_le_bytes().to_vec();
    content.resize(bytes.max(8), 0x5a);
    Entry {
        id,
        payload: Payload::Command(content.into()),
    }
}

/// Runs turns only when told to.
#[derive(Default)]
pub(crate) struct Manual(Mutex<Vec<Arc<Slot>>>);

struct Slot {
    name: &'static str,
    worker: Mutex<Option<Box<dyn Worker>>>,
    asked: AtomicBool,
}

impl Wake for Slot {
    fn wake(&self) {
        self.asked.store(true, Ordering::Release);
    }
}

impl Executor for Manual {
    fn start(&self, name: &'static str, worker: Box<dyn Worker>) -> Arc<dyn Wake> {
        let slot = Arc::new(Slot {
            name,
            worker: Mutex::new(Some(worker)),
            asked: AtomicBool::new(false),
        });
        self.0.lock().unwrap().push(slot.clone());
        slot
    }
}

impl Manual {
    pub(crate) fn env(self: &Arc<Self>) -> Env {
        Env {
            executor: self.clone(),
            ..Env::inline(1)
        }
    }

    /// Turns of the workers whose name `which` takes, until none of them is asked for.
    pub(crate) fn run_only(&self, which: impl Fn(&str) -> bool) {
        let asked = |slot: &&Arc<Slot>| which(slot.name) && slot.asked.load(Ordering::Acquire);
        loop {
            let slot = self.0.lock().unwrap().iter().find(asked).cloned();
            let Some(slot) = slot else { return };
            slot.asked.store(false, Ordering::Release);
            let mut worker = slot.worker.lock().unwrap();
            match worker.as_mut().map(|worker| worker.turn()) {
                Some(Turn::Again) => slot.asked.store(true, Ordering::Release),
                Some(Turn::Stop) => *worker = None,
                _ => {}
            }
        }
    }

    pub(crate) fn run(&self) {
        self.run_only(|_| true);
    }
}

/// A log whose turns run in [`Opened::run`].
pub(crate) struct Opened {
    pub(crate) log: Arc<RaftLog>,
    pub(crate) manual: Arc<Manual>,
}

pub(crate) fn open_with(disk: &SimulatedDisk, options: Options) -> Result<Opened, LogError> {
    let manual = Arc::new(Manual::default());
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let log = RaftLog::open(disk, &manual.env(), options, identity())?;
    manual.run();
    Ok(Opened { log, manual })
}

pub(crate) fn open(disk: &SimulatedDisk) -> Result<Opened, LogError> {
    open_with(disk, small())
}

impl Drop for Opened {
    fn drop(&mut self) {
        // Workers own handles to the log; a test's process has many logs.
        self.log.close(Box::new(|| ()));
        self.manual.run();
    }
}

impl Opened {
    /// Ends like a process that dies: nothing more is written.
    pub(crate) fn die(self, disk: &SimulatedDisk) {
        disk.crash_at(1);
        drop(self);
    }

    /// One call, run to its end.
    pub(crate) fn done(
        &self,
        call: impl FnOnce(&RaftLog, sqlrep_core::Done<()>),
    ) -> Result<(), StorageError> {
        let (sender, receiver) = mpsc::channel();
        call(
            &self.log,
            Box::new(move |result| sender.send(result).unwrap()),
        );
        self.manual.run();
        receiver.try_recv().expect("the workers are idle")
    }

    pub(crate) fn append(&self, entries: Vec<Entry>) -> Result<(), StorageError> {
        self.done(|log, done| log.append(entries, done))
    }

    pub(crate) fn save_vote(&self, vote: Vote) -> Result<(), StorageError> {
        self.done(|log, done| log.save_vote(vote, done))
    }

    pub(crate) fn truncate(&self, last: Option<EntryId>) -> Result<(), StorageError> {
        self.done(|log, done| log.truncate_after(last, done))
    }

    pub(crate) fn purge(&self, upto: EntryId) -> Result<(), StorageError> {
        self.done(|log, done| log.purge(upto, done))
    }

    pub(crate) fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, StorageError> {
        let (sender, receiver) = mpsc::channel();
        let done = Box::new(move |found| sender.send(found).unwrap());
        self.log.read(LogIndex(from)..LogIndex(to), 700, done);
        self.manual.run();
        receiver.try_recv().expect("the workers are idle")
    }

    /// All entries, in several reads.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, StorageError> {
        let state = self.log.state();
        let mut next = state.purged.map_or(0, |id| id.index.0 + 1);
        let end = state.last.map_or(0, |id| id.index.0 + 1);
        let mut all = Vec::new();
        while next < end {
            let part = self.read(next, end)?;
            next = part.last().expect("something is there").id.index.0 + 1;
            all.extend(part);
        }
        Ok(all)
    }

    pub(crate) fn model(&self) -> Result<Model, StorageError> {
        let LogState { purged, vote, .. } = self.log.state();
        Ok(Model {
            purged,
            vote,
            entries: self.entries()?,
        })
    }
}

/// What a log holds, as plainly as can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) purged: Option<EntryId>,
    pub(crate) vote: Option<Vote>,
    pub(crate) entries: Vec<Entry>,
}

/// The smallest change that a crash leaves done or undone.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Push(Entry),
    Truncate(Option<EntryId>),
    Purge(EntryId),
    Vote(Vote),
}

impl Model {
    pub(crate) fn last(&self) -> Option<EntryId> {
        self.entries.last().map(|entry| entry.id).or(self.purged)
    }

    pub(crate) fn change(&mut self, change: &Change) {
        match change {
            Change::Push(entry) => self.entries.push(entry.clone()),
            Change::Truncate(last) => {
                let last = last.map(|id| id.index);
                self.entries.retain(|entry| Some(entry.id.index) <= last);
            }
            Change::Purge(upto) => {
                self.entries.retain(|entry| entry.id.index > upto.index);
                self.purged = Some(*upto);
            }
            Change::Vote(vote) => self.vote = Some(*vote),
        }
    }
}

/// A call of a script; positions are relative to what the log holds then.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Append {
        count: usize,
        bytes: usize,
    },
    /// A new term: the vote, then its first entry.
    Elect,
    Truncate {
        back: usize,
    },
    Purge {
        ahead: usize,
    },
    /// Behind the end, as after a snapshot install.
    Install,
    Mark,
    /// Workers run.
    Run,
}

/// A log and its model, driven by steps.
pub(crate) struct Run {
    pub(crate) opened: Opened,
    /// Every state from the first on, by one change each.
    pub(crate) states: Vec<Model>,
    /// How many changes are acknowledged, and whether a call failed.
    acknowledged: Arc<Mutex<(usize, bool)>>,
    pub(crate) term: u64,
    pub(crate) stamp: u64,
    /// The newest mark.
    pub(crate) mark: Option<EntryId>,
}

impl Run {
    pub(crate) fn start(opened: Opened, from: Model, stamp: u64) -> Self {
        let term = from.vote.map_or(0, |vote| vote.term.0);
        Self {
            opened,
            states: vec![from],
            acknowledged: Arc::default(),
            term,
            stamp,
            mark: None,
        }
    }

    pub(crate) fn now(&self) -> &Model {
        self.states.last().unwrap()
    }

    /// States that a crash may leave: from what is acknowledged on.
    pub(crate) fn possible(&self) -> &[Model] {
        &self.states[self.acknowledged.lock().unwrap().0..]
    }

    pub(crate) fn failed(&self) -> bool {
        self.acknowledged.lock().unwrap().1
    }

    fn note(&mut self, changes: &[Change]) -> sqlrep_core::Done<()> {
        for change in changes {
            let mut next = self.now().clone();
            next.change(change);
            self.states.push(next);
        }
        let (upto, noted) = (self.states.len() - 1, self.acknowledged.clone());
        Box::new(move |result| {
            let mut noted = noted.lock().unwrap();
            match result {
                Ok(()) => {
                    assert!(!noted.1, "nothing is acknowledged behind a failure");
                    noted.0 = noted.0.max(upto);
                }
                Err(_) => noted.1 = true,
            }
        })
    }

    fn fresh(&mut self, count: usize, bytes: usize) -> Vec<Entry> {
        let mut last = self.now().last();
        let make = |_| {
            self.stamp += 1;
            let index = last.map_or(0, |last| last.index.0 + 1);
            let at = id(self.term, index);
            last = Some(at);
            entry(at, bytes, self.stamp)
        };
        (0..count).map(make).collect()
    }

    pub(crate) fn append(&mut self, count: usize, bytes: usize) {
        let entries = self.fresh(count, bytes);
        let changes: Vec<_> = entries.iter().cloned().map(Change::Push).collect();
        let done = self.note(&changes);
        self.opened.log.append(entries, done);
    }

    pub(crate) fn step(&mut self, step: &Step) {
        if self.failed() {
            return;
        }
        match *step {
            Step::Append { count, bytes } => self.append(count, bytes),
            Step::Elect => {
                self.term += 1;
                let vote = vote(self.term);
                let done = self.note(&[Change::Vote(vote)]);
                self.opened.log.save_vote(vote, done);
                self.append(1, 8);
            }
            Step::Truncate { back } => {
                let entries = &self.now().entries;
                let keep = entries.len().saturating_sub(back);
                let last = keep.checked_sub(1).map(|at| entries[at].id);
                let last = last.or(self.now().purged);
                let done = self.note(&[Change::Truncate(last)]);
                self.opened.log.truncate_after(last, done);
            }
            Step::Purge { ahead } => {
                let Some(entry) = self.now().entries.get(ahead) else {
                    return;
                };
                self.purge(entry.id);
            }
            Step::Install => {
                let last = self.now().last().map_or(0, |last| last.index.0);
                self.purge(id(self.term, last + 3));
            }
            Step::Mark => {
                self.mark = self.now().last();
                self.opened.log.save_committed(self.mark);
            }
            Step::Run => self.opened.manual.run(),
        }
    }

    fn purge(&mut self, upto: EntryId) {
        let done = self.note(&[Change::Purge(upto)]);
        self.opened.log.set_floor(Some(upto.index));
        self.opened.log.purge(upto, done);
    }
}

/// A script that comes through everything: batches of several calls, rotation, cuts, purges, votes.
pub(crate) fn script() -> Vec<Step> {
    use Step::{Append, Elect, Install, Mark, Purge, Run, Truncate};
    let mut steps = vec![Elect, Run];
    steps.extend([
        Append {
            count: 3,
            bytes: 40,
        },
        Mark,
        Append {
            count: 1,
            bytes: 300,
        },
        Run,
    ]);
    steps.extend([
        Append {
            count: 2,
            bytes: 900,
        },
        Run,
        Truncate { back: 2 },
    ]);
    steps.extend([
        Elect,
        Append {
            count: 1,
            bytes: 1200,
        },
        Mark,
        Run,
    ]);
    steps.extend([
        Append {
            count: 1,
            bytes: 1500,
        },
        Append {
            count: 1,
            bytes: 700,
        },
        Run,
    ]);
    steps.extend([
        Purge { ahead: 3 },
        Append {
            count: 2,
            bytes: 100,
        },
        Run,
    ]);
    steps.extend([
        Append {
            count: 1,
            bytes: 2500,
        },
        Run,
        Purge { ahead: 5 },
        Run,
    ]);
    steps.extend([
        Append {
            count: 1,
            bytes: 6000,
        },
        Run,
        Truncate { back: 1 },
        Run,
    ]);
    steps.extend([
        Install,
        Elect,
        Mark,
        Append {
            count: 2,
            bytes: 50,
        },
        Run,
    ]);
    steps
}
