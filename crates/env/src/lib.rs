//! What a node takes from its machine besides files and sockets: time, randomness, threads.
//!
//! Storage, SQLite's VFS, the log and Raft share this lowest level, so it is plain synchronous code that
//! doesn't know tokio. Disk and network have seams of their own (`sqlrep-disk`, `sqlrep_core::Transport`).
//!
//! # What a turn is
//!
//! Blocking work has one owner, a [`Worker`]. Others queue something for it and [`Wake`] it; the
//! [`Executor`] then calls [`Worker::turn`], which does what is queued and returns. A turn never waits for
//! a queue or for another worker, so a turn can be a thread's loop body in production and one event of
//! simulated time in a test: the same code, no threads.
//!
//! ```text
//!   caller ── Actor::send(job) ──► bounded queue ──► turn() on the worker's thread ──► callback hands the result over
//!              └─ Wake::wake ──────────────────────────▲
//! ```
//!
//! # How simulated time moves
//!
//! [`SimulatedExecutor`] runs all workers on the thread that drives the simulation. A wake schedules a turn
//! after the time that the turn's I/O would cost, so that requests gather behind a slow sync exactly as in
//! production. Time is that of a [`Timer`] which the simulation supplies (a paused tokio clock, or the
//! simulator's own), and each [`Clock::now`] moves it on by at least a microsecond.
//!
//! It doesn't do: asynchronous waiting (that is tokio's), files, sockets.
#![forbid(unsafe_code)]

mod actor;
mod inline;
mod latency;
mod pool;
mod real;
mod retry;
mod simulated;

pub use actor::{Actor, Closed, QueueFull};
pub use inline::InlineExecutor;
pub use latency::{Latency, LatencyCounts};
pub use pool::Pool;
pub use real::{OsEntropy, SystemClock, ThreadExecutor};
pub use retry::Retry;
pub use simulated::{SimulatedClock, SimulatedEntropy, SimulatedExecutor, Timer};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Monotonic time since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Duration);

impl Moment {
    /// Time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `by` later.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

/// Wall-clock time in milliseconds since the Unix epoch. It may jump either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// Readings of time. Waiting isn't here: async code waits on tokio's timers, workers return [`Turn::After`].
///
/// Duties of an implementation:
/// 1. `now` never goes back and agrees with tokio's timers of the same runtime, paused ones too.
/// 2. `wall` may jump either way; nothing about safety depends on it.
/// 3. In a simulation every `now` moves time on by at least 1 us, or a deadline that is checked from
///    inside one long SQLite call would never pass.
pub trait Clock: Send + Sync {
    /// Monotonic reading.
    fn now(&self) -> Moment;
    /// Wall-clock reading.
    fn wall(&self) -> UnixMillis;
}

/// Random bits.
///
/// Duties: 1. In a simulation one seed gives one sequence. 2. In production the bits are fit for session tokens.
pub trait Entropy: Send + Sync {
    /// The next 64 bits.
    fn next(&self) -> u64;
}

/// What a worker wants after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing queued: sleep until woken.
    Idle,
    /// More to do: call again, others first.
    Again,
    /// Call again after this long, or when woken.
    After(Duration),
    /// Finished; drop the worker.
    Stop,
}

/// Blocking work with an owner: log writer, apply, page-mode writer, checkpoint, one per reader connection.
///
/// Duties:
/// 1. A turn does what is queued and returns; it never waits for a queue, a lock that is held across a
///    turn, or another worker.
/// 2. Results leave through callbacks, which only hand a value over.
/// 3. Dropping the worker releases its files and connections.
pub trait Worker: Send {
    /// One round of work.
    fn turn(&mut self) -> Turn;
}

/// Wakes its worker. Cheap, callable from anywhere, also from inside the worker's own turn; wakes before
/// a turn coalesce.
pub trait Wake: Send + Sync {
    /// Asks for a turn.
    fn wake(&self);
}

/// Runs workers: a thread each in production; in a simulation on the one thread, as events of simulated time.
///
/// Duties:
/// 1. Turns of one worker never overlap.
/// 2. A wake is never lost: a turn begins after it.
/// 3. A simulated executor lets the time that the turn's I/O costs pass *before* the turn, so that
///    requests gather behind a slow sync as they do in production.
/// 4. A panic in a turn ends the process: a worker's state is unknown from there on.
pub trait Executor: Send + Sync {
    /// Starts `worker`. `name` is what an operator sees in a list of threads.
    fn start(&self, name: &'static str, worker: Box<dyn Worker>) -> Arc<dyn Wake>;
}

/// The three traits a node is given, in one value.
#[derive(Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Threads.
    pub executor: Arc<dyn Executor>,
}

impl Env {
    /// This machine: its clocks, its randomness, a thread per worker.
    #[must_use]
    pub fn real() -> Self {
        Self {
            clock: Arc::new(SystemClock::start()),
            entropy: Arc::new(OsEntropy),
            executor: Arc::new(ThreadExecutor),
        }
    }

    /// A counting clock, a counting entropy and turns inside `wake`: enough for tests on one thread.
    #[must_use]
    pub fn inline(seed: u64) -> Self {
        Self {
            clock: Arc::new(SimulatedClock::counting()),
            entropy: Arc::new(SimulatedEntropy::new(seed)),
            executor: Arc::new(InlineExecutor),
        }
    }

    /// Everything from one seed on the time of `timer`; `cost` tells how long a turn of the named worker takes.
    #[must_use]
    pub fn simulated(
        seed: u64,
        timer: Arc<dyn Timer>,
        cost: impl Fn(&'static str) -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self {
            clock: Arc::new(SimulatedClock::on(timer.clone())),
            entropy: Arc::new(SimulatedEntropy::new(seed)),
            executor: Arc::new(SimulatedExecutor::new(timer, cost)),
        }
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}
