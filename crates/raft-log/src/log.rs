//! [`RaftLog`]: calls of any thread go to the front, work to the three workers.

use crate::files::Files;
use crate::front::{Found, Front, OnFailure, Read, Refused};
use crate::reader::{self, Reader};
use crate::recover::recover;
use crate::writer::Writer;
use crate::{LogError, LogIdentity, Options, Stats};
use sqlrep_core::{Done, Entry, EntryId, LogIndex, LogState, LogStore, StorageError, Vote};
use sqlrep_disk::Disk;
use sqlrep_env::{Env, Latency, LatencyCounts, Wake};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Reads that may wait for the reader; a caller beyond that reads for itself.
const READS_MAX: usize = 1024;

/// Called once the log has stopped.
type Closed = Box<dyn FnOnce() + Send>;

/// What callers and workers share.
pub(crate) struct Shared {
    front: Mutex<Front>,
    wakes: OnceLock<Wakes>,
    closing: Mutex<Closing>,
    /// How long syncs of batches took.
    pub(crate) syncs: Latency,
}

/// Who waits for the end, and whether it has come.
#[derive(Default)]
struct Closing {
    stopped: bool,
    closed: Option<Closed>,
}

struct Wakes {
    writer: Arc<dyn Wake>,
    files: Arc<dyn Wake>,
    reader: Arc<dyn Wake>,
}

impl Shared {
    pub(crate) fn front(&self) -> MutexGuard<'_, Front> {
        // Only the assertion against holes panics under this lock, before it changes anything.
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, which: impl FnOnce(&Wakes) -> &Arc<dyn Wake>) {
        if let Some(wakes) = self.wakes.get() {
            which(wakes).wake();
        }
    }

    pub(crate) fn wake_writer(&self) {
        self.wake(|wakes| &wakes.writer);
    }

    pub(crate) fn wake_files(&self) {
        self.wake(|wakes| &wakes.files);
    }

    /// Notes the failure that ends the log; the first one counts.
    pub(crate) fn fail(&self, error: StorageError) {
        let hear = {
            let mut front = self.front();
            if front.failed.is_some() {
                return;
            }
            front.failed = Some(error.clone());
            std::mem::take(&mut front.on_failure)
        };
        for hear in hear {
            hear(&error);
        }
        self.wake_writer();
    }

    fn closing(&self) -> MutexGuard<'_, Closing> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer has stopped: the others follow.
    pub(crate) fn stopped(&self) {
        self.wake_files();
        self.wake(|wakes| &wakes.reader);
        let closed = {
            let mut closing = self.closing();
            closing.stopped = true;
            closing.closed.take()
        };
        if let Some(closed) = closed {
            closed();
        }
    }
}

/// The durable log of one node. Dropping it stops its workers behind what is queued.
pub struct RaftLog {
    shared: Arc<Shared>,
    identity: LogIdentity,
}

impl RaftLog {
    /// Opens the log in the folder `log` of `disk`, or makes it; a torn tail is cut here.
    ///
    /// # Errors
    ///
    /// The disk fails; the log is damaged, incomplete, another node's or another release's; its vote is lost.
    pub fn open(
        disk: Arc<dyn Disk>,
        env: &Env,
        options: Options,
        identity: LogIdentity,
    ) -> Result<Arc<Self>, LogError> {
        options.check()?;
        let recovered = recover(&*disk, identity, &options)?;
        let (front, end, votes) = Front::new(options, recovered);
        let shared = Arc::new(Shared {
            front: Mutex::new(front),
            wakes: OnceLock::new(),
            closing: Mutex::default(),
            syncs: Latency::default(),
        });
        let writer = Writer {
            shared: shared.clone(),
            clock: env.clock.clone(),
            identity,
            votes,
            end,
            batch_bytes_max: options.batch_bytes_max,
        };
        let files = Files {
            shared: shared.clone(),
            disk,
            identity,
        };
        let reader = Reader {
            shared: shared.clone(),
            identity,
        };
        let wakes = Wakes {
            writer: env.executor.start("log-writer", Box::new(writer)),
            files: env.executor.start("log-files", Box::new(files)),
            reader: env.executor.start("log-reader", Box::new(reader)),
        };
        if shared.wakes.set(wakes).is_err() {
            unreachable!("they are set once, here");
        }
        shared.wake_files();
        Ok(Arc::new(Self { shared, identity }))
    }

    /// Why the log has failed for good; the process has to stop then.
    #[must_use]
    pub fn failed(&self) -> Option<StorageError> {
        self.shared.front().failed.clone()
    }

    /// Has `hear` called once the log fails for good, at once if it has.
    pub fn on_failure(&self, hear: Box<dyn FnOnce(&StorageError) + Send>) {
        let failed = {
            let mut front = self.shared.front();
            let failed = front.failed.clone();
            if failed.is_none() {
                let hear: OnFailure = hear;
                front.on_failure.push(hear);
                return;
            }
            failed
        };
        if let Some(error) = failed {
            hear(&error);
        }
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let front = self.shared.front();
        Stats {
            segments: front.files.len() as u64,
            file_bytes: front.files.values().map(|ready| ready.bytes).sum(),
            queued: front.queue.len() as u64,
            ..front.stats
        }
    }

    /// How long the syncs of batches took.
    #[must_use]
    pub fn sync_times(&self) -> LatencyCounts {
        self.shared.syncs.read()
    }

    /// Stops the log behind what is queued and calls `closed`. Later calls fail.
    pub fn close(&self, closed: Box<dyn FnOnce() + Send>) {
        let now = {
            let mut closing = self.shared.closing();
            if closing.stopped {
                Some(closed)
            } else {
                closing.closed = Some(closed);
                None
            }
        };
        if let Some(closed) = now {
            return closed();
        }
        self.stop();
    }

    fn stop(&self) {
        {
            let mut front = self.shared.front();
            front.flush_mark();
            front.closing = true;
        }
        self.shared.wake_writer();
    }

    /// Runs a change under the lock, then wakes the writer; what was refused is answered outside of the lock.
    fn change(&self, done: Done<()>, change: impl FnOnce(&mut Front, Done<()>) -> Changed) {
        let changed = {
            let mut front = self.shared.front();
            match front.refusal() {
                Some(error) => Changed::Refused(Refused { done, error }),
                None => change(&mut front, done),
            }
        };
        match changed {
            Changed::Queued => self.shared.wake_writer(),
            Changed::Nothing(done) => done(Ok(())),
            Changed::Refused(Refused { done, error }) => {
                self.shared.wake_files();
                done(Err(error));
            }
        }
    }
}

/// How a change went.
enum Changed {
    Queued,
    Nothing(Done<()>),
    Refused(Refused),
}

impl From<Result<(), Refused>> for Changed {
    fn from(result: Result<(), Refused>) -> Self {
        result.map_or_else(Self::Refused, |()| Self::Queued)
    }
}

impl Drop for RaftLog {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for RaftLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftLog")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl LogStore for RaftLog {
    fn bytes_behind(&self, index: Option<LogIndex>) -> u64 {
        self.shared.front().bytes_behind(index)
    }

    fn state(&self) -> LogState {
        self.shared.front().state()
    }

    fn read(&self, range: Range<LogIndex>, bytes_max: usize, done: Done<Vec<Entry>>) {
        let found = {
            let mut front = self.shared.front();
            let found = front
                .failed
                .clone()
                .map_or_else(|| front.find(range, bytes_max), Err);
            match found {
                Ok(Found::Memory(entries)) => Err((done, Ok(entries))),
                Err(error) => Err((done, Err(error))),
                Ok(Found::Files(entries)) => {
                    let read = Read { entries, done };
                    if front.reads.len() < READS_MAX && !front.closing {
                        front.reads.push_back(read);
                        Ok(None)
                    } else {
                        Ok(Some(read))
                    }
                }
            }
        };
        match found {
            Err((done, found)) => done(found),
            Ok(None) => self.shared.wake(|wakes| &wakes.reader),
            Ok(Some(read)) => reader::serve(&self.shared, self.identity, read),
        }
    }

    fn append(&self, entries: Vec<Entry>, done: Done<()>) {
        self.change(done, |front, done| {
            if entries.is_empty() {
                return Changed::Nothing(done);
            }
            front.append(entries, done).into()
        });
    }

    fn save_vote(&self, vote: Vote, done: Done<()>) {
        self.change(done, |front, done| {
            front.save_vote(vote, done);
            Changed::Queued
        });
    }

    fn truncate_after(&self, last: Option<EntryId>, done: Done<()>) {
        self.change(done, |front, done| front.truncate(last, done).into());
    }

    fn purge(&self, upto: EntryId, done: Done<()>) {
        self.change(done, |front, done| match front.purge(upto, done) {
            Ok(None) => Changed::Queued,
            Ok(Some(done)) => Changed::Nothing(done),
            Err(refused) => Changed::Refused(refused),
        });
    }

    fn save_committed(&self, committed: Option<EntryId>) {
        self.shared.front().save_committed(committed);
    }

    fn set_floor(&self, floor: Option<LogIndex>) {
        self.shared.front().set_floor(floor);
    }

    fn durable(&self) -> Option<EntryId> {
        self.shared.front().durable()
    }

    fn is_syncing(&self) -> bool {
        let front = self.shared.front();
        front.writing || !front.queue.is_empty()
    }

    /// The current segment is half full, and the next one couldn't be made. Asking has it tried again.
    fn is_full(&self) -> bool {
        let full = self.shared.front().is_full();
        if full {
            self.shared.wake_files();
        }
        full
    }
}
