//! A node's time: events on the paused clock of its runtime, and a wall clock that may be wrong.

use sqlrep_env::{Clock, Moment, SimulatedClock, Timer, UnixMillis};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

type Event = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Agenda {
    /// By instant, then by the order of `after`.
    events: BTreeMap<(Duration, u64), Event>,
    next: u64,
}

/// Time of one life of one node: one task runs its events in the order of their instants, and ends with its runtime.
pub(crate) struct Events {
    start: Instant,
    agenda: Mutex<Agenda>,
    changed: Notify,
}

impl Events {
    /// Begins on the current runtime.
    pub(crate) fn begin() -> Arc<Self> {
        let events = Arc::new(Self {
            start: Instant::now(),
            agenda: Mutex::default(),
            changed: Notify::new(),
        });
        let own = events.clone();
        tokio::spawn(async move { own.run().await });
        events
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self) {
        loop {
            let first = self.agenda().events.keys().next().copied();
            let Some((due, number)) = first else {
                self.changed.notified().await;
                continue;
            };
            if due > self.start.elapsed() {
                tokio::select! {
                    biased;
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep_until(self.start + due) => {}
                }
                continue;
            }
            let event = self.agenda().events.remove(&(due, number));
            event.expect("only this task takes events")();
        }
    }
}

impl Timer for Events {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn after(&self, delay: Duration, event: Event) {
        let due = self.start.elapsed() + delay;
        let mut agenda = self.agenda();
        agenda.next += 1;
        let number = agenda.next;
        agenda.events.insert((due, number), event);
        drop(agenda);
        self.changed.notify_one();
    }
}

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
