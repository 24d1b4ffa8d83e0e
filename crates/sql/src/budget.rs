//! The budget of a writing request, in steps of SQLite's virtual machine (safety rule 37).
//!
//! The verdict is a function of a statement's own count of steps, which SQLite keeps per statement. The progress
//! handler only looks whether it is time to stop a statement that would never end by itself.
//!
//! 1. A statement whose own steps pass what is left is refused, wherever it was stopped: it could only have counted more.
//! 2. The handler sees steps of inner statements (full-text search, VACUUM) too, and how many calls those make hangs on
//!    what ran before. So it stops late, when all steps of the request are [`ALL`] times the budget. Only there, for
//!    inner statements that take as much as the whole budget, the verdict rests on all nodes having run the same since
//!    the last reset point (safety rule 33).

use rusqlite::Statement;
use rusqlite::StatementStatus::VmStep;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Steps between two looks.
const LOOK_STEPS: i32 = 1_000;

/// How many times the budget all steps of a request may be, inner statements included.
const ALL: u64 = 2;

/// Ends what a writer runs, from any thread: what runs fails soon, and so does everything after it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends it.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was ended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Default)]
struct Looks {
    stop: Stop,
    /// Of the transaction that a client leads, while there is one.
    own_stop: Mutex<Option<Stop>>,
    left: AtomicU64,
    counting: AtomicBool,
    stopped: AtomicBool,
}

/// What one request has left.
pub(crate) struct Budget {
    looks: Arc<Looks>,
    steps_max: u64,
    steps_left: u64,
}

impl Budget {
    pub(crate) fn install(
        sqlite: &mut rusqlite::Connection,
        steps_max: u64,
        stop: Stop,
    ) -> rusqlite::Result<Self> {
        let looks = Looks {
            stop,
            ..Looks::default()
        };
        let looks = Arc::new(looks);
        let own = looks.clone();
        sqlite.progress_handler(LOOK_STEPS, Some(move || own.look()))?;
        Ok(Self {
            looks,
            steps_max,
            steps_left: steps_max,
        })
    }

    /// From here on `stop` ends what runs, too; none: nothing but what the writer was opened with.
    pub(crate) fn stop_by(&self, stop: Option<Stop>) {
        *self.looks.own_stop() = stop;
    }

    /// A request begins.
    pub(crate) fn refill(&mut self) {
        self.steps_left = self.steps_max;
        let looks = self.steps_max * ALL / u64::from(LOOK_STEPS.unsigned_abs()) + 1;
        self.looks.left.store(looks, Ordering::Relaxed);
        self.looks.counting.store(false, Ordering::Relaxed);
    }

    /// Steps that the request took so far; all of its budget where a statement was stopped, since where that was differs
    /// between nodes.
    pub(crate) fn used(&self, spent: bool) -> u64 {
        if spent {
            self.steps_max
        } else {
            self.steps_max - self.steps_left
        }
    }

    /// `statement` begins to run.
    pub(crate) fn begin(&self, statement: &Statement<'_>) {
        statement.reset_status(VmStep);
        self.looks.stopped.store(false, Ordering::Relaxed);
        self.looks.counting.store(true, Ordering::Relaxed);
    }

    /// It ended. False: it took more than was left.
    pub(crate) fn end(&mut self, statement: &Statement<'_>) -> bool {
        self.looks.counting.store(false, Ordering::Relaxed);
        let steps = u64::from(statement.get_status(VmStep).cast_unsigned());
        let stopped = self.looks.stopped.load(Ordering::Relaxed);
        let enough = !stopped && steps <= self.steps_left;
        self.steps_left = self.steps_left.saturating_sub(steps);
        enough
    }
}

impl Looks {
    fn own_stop(&self) -> MutexGuard<'_, Option<Stop>> {
        // One field, set at once.
        self.own_stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> bool {
        let own = || self.own_stop().as_ref().is_some_and(Stop::is_stopped);
        if self.stop.is_stopped() || own() {
            return true;
        }
        if !self.counting.load(Ordering::Relaxed) {
            return false;
        }
        let left = self.left.load(Ordering::Relaxed).saturating_sub(1);
        self.left.store(left, Ordering::Relaxed);
        if left == 0 {
            self.stopped.store(true, Ordering::Relaxed);
        }
        left == 0
    }
}
