//! A pool of reader connections, one per worker.
//!
//! ```text
//!   query ─► one bounded queue ─┬─► worker "reader", its connection ─► done
//!                               ├─► worker "reader", its connection ─► done
//!                               └─► …
//! ```
//!
//! Whoever is idle takes the next job, so that a long query holds up one connection and no others. Readers see the
//! newest entry end and never wait for the writer. Waking a worker costs more than a short query: one is woken at a time, and wakes
//! the next one if it leaves jobs behind when it takes its own.
//!
//! Invariant 1: while a job waits, no worker is idle, or one is on its way. Invariant 2: each job's `done` is called once, with an error if need be;
//! not at all where it waited and its [`ReadTicket`] was dropped. Invariant 3: a job whose ticket was dropped holds neither a place in the queue nor,
//! for longer than it takes to notice, a worker.
//!
//! It doesn't do: read levels, waiting for an index, choosing limits.

use crate::reader::Stop;
use crate::{LocalReader, Replica, ReplicaError};
use sqlrep_env::Actor;
use sqlrep_sql::{Cancel, ReadLimits, Reply, Request, SqlSettings};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many, and how many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderOptions {
    /// Connections, each on a worker of its own. Default 4; more than processors help only where the disk is slow.
    pub readers: usize,
    /// Jobs that wait at most. Default 4096; a full queue answers at once.
    pub queue_max: usize,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self {
            readers: 4,
            queue_max: 4096,
        }
    }
}

/// Called with the answer, on the reader's worker; it only hands the value over.
pub type ReadDone<T> = Box<dyn FnOnce(Result<T, ReplicaError>) + Send>;

/// A request that only reads.
pub struct QueryJob {
    /// What to run.
    pub request: Request,
    /// How long and how much.
    pub limits: ReadLimits,
    /// Takes the answer.
    pub done: ReadDone<Reply>,
}

/// The question whether a request only reads.
pub struct ReadOnlyJob {
    /// What is asked about.
    pub request: Request,
    /// Takes the answer.
    pub done: ReadDone<bool>,
}

/// A job's place. Dropping it withdraws a job that waits and stops a query that runs: nobody waits for the answer any more.
#[must_use = "a job whose ticket is dropped is withdrawn"]
pub struct ReadTicket {
    queue: Arc<Queue>,
    number: u64,
    cancel: Cancel,
}

impl Drop for ReadTicket {
    fn drop(&mut self) {
        self.cancel.cancel();
        let withdrawn = self.queue.state().jobs.remove(&self.number);
        // Whatever `done` holds is dropped outside the lock.
        drop(withdrawn);
    }
}

impl std::fmt::Debug for ReadTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ReadTicket").field(&self.number).finish()
    }
}

/// The queue is full, nothing was queued: the job is handed back.
pub struct ReadersFull<J>(pub J);

impl<J> std::fmt::Debug for ReadersFull<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadersFull")
    }
}

impl<J> std::fmt::Display for ReadersFull<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("too many reads are waiting")
    }
}

impl<J> std::error::Error for ReadersFull<J> {}

enum Job {
    Query(QueryJob),
    ReadOnly(ReadOnlyJob),
}

impl Job {
    fn run(self, reader: &mut LocalReader) {
        match self {
            Self::Query(job) => (job.done)(reader.run(&job.request, &job.limits)),
            Self::ReadOnly(job) => (job.done)(reader.is_read_only(&job.request)),
        }
    }

    fn refuse(self) {
        match self {
            Self::Query(job) => (job.done)(Err(ReplicaError::Closed)),
            Self::ReadOnly(job) => (job.done)(Err(ReplicaError::Closed)),
        }
    }
}

struct State {
    /// By number: the order of arrival.
    jobs: BTreeMap<u64, Job>,
    next: u64,
    /// Workers that have found the queue empty.
    idle: Vec<usize>,
    /// A worker was woken and hasn't looked yet.
    woken: bool,
    closed: bool,
}

impl State {
    /// The worker that has to be woken for what waits (invariant 1).
    fn wakes(&mut self) -> Option<usize> {
        if self.woken || self.jobs.is_empty() {
            return None;
        }
        let worker = self.idle.pop()?;
        self.woken = true;
        Some(worker)
    }
}

struct Queue {
    state: Mutex<State>,
    jobs_max: usize,
}

type Workers = [Actor<LocalReader>];

/// The pool. Dropping it closes it.
pub struct Readers {
    queue: Arc<Queue>,
    workers: Arc<Workers>,
    stops: Vec<Arc<Stop>>,
}

/// At most a job to look into the queue, and one more that was sent while the former ran out.
const LOOKS_MAX: usize = 2;

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job for a worker, and who is woken for the one behind it; without a job it is idle from here on.
    fn next(&self, worker: usize, just_woken: bool) -> Option<(Job, Option<usize>)> {
        let mut state = self.state();
        if just_woken {
            state.woken = false;
        }
        let Some((_, job)) = state.jobs.pop_first() else {
            state.idle.push(worker);
            return None;
        };
        Some((job, state.wakes()))
    }
}

/// Wakes an idle worker: it does what waits, and wakes others for what it leaves.
fn wake(queue: &Arc<Queue>, workers: &Arc<Workers>, worker: usize) {
    let (queue, others) = (queue.clone(), Arc::downgrade(workers));
    let sent = workers[worker].send(move |reader| {
        let mut just_woken = true;
        while let Some((job, next)) = queue.next(worker, just_woken) {
            just_woken = false;
            // A pool that is gone has taken back what waited.
            if let (Some(next), Some(workers)) = (next, others.upgrade()) {
                wake(&queue, &workers, next);
            }
            job.run(reader);
        }
    });
    assert_eq!(sent, Ok(()), "an idle worker has nothing else to do");
}

impl Readers {
    /// Starts the workers. Each opens its connection with its first job.
    ///
    /// # Errors
    ///
    /// Settings that SQLite doesn't take, or the store's: one connection is opened to see.
    pub fn start(
        replica: &Replica,
        settings: &SqlSettings,
        options: ReaderOptions,
    ) -> Result<Self, ReplicaError> {
        // Settings that can't work are said now. Damage isn't: where pages are repaired, readers open again by themselves.
        match replica.reader(settings).is_read_only(&Request::default()) {
            Err(error) if !error.is_damage() => return Err(error),
            _ => {}
        }
        let readers = options.readers.max(1);
        let state = State {
            jobs: BTreeMap::new(),
            next: 0,
            idle: (0..readers).rev().collect(),
            woken: false,
            closed: false,
        };
        let (mut workers, mut stops) = (Vec::new(), Vec::new());
        for _ in 0..readers {
            let reader = replica.reader(settings);
            stops.push(reader.stop());
            let executor = &*replica.env().executor;
            workers.push(Actor::start(executor, "reader", LOOKS_MAX, reader));
        }
        let queue = Arc::new(Queue {
            state: Mutex::new(state),
            jobs_max: options.queue_max,
        });
        Ok(Self {
            queue,
            workers: workers.into(),
            stops,
        })
    }

    /// Runs a request that only reads.
    ///
    /// # Errors
    ///
    /// The job, if the queue is full.
    pub fn query(&self, job: QueryJob) -> Result<ReadTicket, ReadersFull<QueryJob>> {
        let cancel = job.limits.cancel.clone();
        self.push(Job::Query(job), cancel).map_err(|job| match job {
            Job::Query(job) => ReadersFull(job),
            Job::ReadOnly(_) => unreachable!("a job comes back as it was"),
        })
    }

    /// Asks whether a request only reads.
    ///
    /// # Errors
    ///
    /// The job, if the queue is full.
    pub fn is_read_only(&self, job: ReadOnlyJob) -> Result<ReadTicket, ReadersFull<ReadOnlyJob>> {
        let pushed = self.push(Job::ReadOnly(job), Cancel::default());
        pushed.map_err(|job| match job {
            Job::ReadOnly(job) => ReadersFull(job),
            Job::Query(_) => unreachable!("a job comes back as it was"),
        })
    }

    fn push(&self, job: Job, cancel: Cancel) -> Result<ReadTicket, Job> {
        let mut state = self.queue.state();
        if !state.closed && state.jobs.len() >= self.queue.jobs_max {
            return Err(job);
        }
        state.next += 1;
        let ticket = ReadTicket {
            queue: self.queue.clone(),
            number: state.next,
            cancel,
        };
        if state.closed {
            drop(state);
            job.refuse();
            return Ok(ticket);
        }
        state.jobs.insert(ticket.number, job);
        let woken = state.wakes();
        drop(state);
        if let Some(worker) = woken {
            wake(&self.queue, &self.workers, worker);
        }
        Ok(ticket)
    }

    /// Jobs waiting, a figure for operators.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.state().jobs.len()
    }

    /// All workers, each with a connection.
    #[must_use]
    pub fn count(&self) -> usize {
        self.workers.len()
    }

    /// Workers that aren't idle, a figure for operators.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.workers.len() - self.queue.state().idle.len()
    }

    /// Answers what waits with [`ReplicaError::Closed`], interrupts what runs, and calls `closed` once every connection is closed.
    pub fn close(self, closed: impl FnOnce() + Send + 'static) {
        self.end();
        let last = Arc::new(Mutex::new((self.workers.len(), Some(closed))));
        for worker in self.workers.iter() {
            let last = last.clone();
            worker.clone().close(move || {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                last.0 -= 1;
                if last.0 == 0
                    && let Some(closed) = last.1.take()
                {
                    closed();
                }
            });
        }
    }

    fn end(&self) {
        let jobs = {
            let mut state = self.queue.state();
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        jobs.into_values().for_each(Job::refuse);
        self.stops.iter().for_each(|stop| stop.interrupt());
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.end();
    }
}
