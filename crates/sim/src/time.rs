//! A node's clock in the simulation: a wall clock that may be wrong.

use sqlrep_env::{Clock, Moment, SimulatedClock, Timer, UnixMillis};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A node's clock. Its wall clock shows the simulation's time plus an error, which outlives the process.
pub(crate) struct NodeClock {
    process: SimulatedClock,
    booted_ms: i64,
    error_ms: Arc<AtomicI64>,
}

impl NodeClock {
    /// The clock of a process that began when the simulation was `booted` old.
    pub(crate) fn new(timer: Arc<dyn Timer>, booted: Duration, error_ms: Arc<AtomicI64>) -> Self {
        Self {
            process: SimulatedClock::on(timer),
            booted_ms: i64::try_from(booted.as_millis()).expect("a simulation is short"),
            error_ms,
        }
    }
}

impl Clock for NodeClock {
    fn now(&self) -> Moment {
        self.process.now()
    }

    fn wall(&self) -> UnixMillis {
        let off_ms = self.booted_ms + self.error_ms.load(Ordering::Relaxed);
        UnixMillis(self.process.wall().0.saturating_add_signed(off_ms))
    }
}
