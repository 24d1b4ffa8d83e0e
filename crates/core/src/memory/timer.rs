//! Simulated time on a tokio runtime whose clock is paused: one task runs the events in the order of their instants, and
//! ends with its runtime.
//!
//! It doesn't pause the clock; on one that runs, events come late by what the scheduler takes.

use sqlrep_env::Timer;
use std::collections::BTreeMap;
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

/// Time of the tokio runtime in which it was made.
pub struct RuntimeTimer {
    start: Instant,
    agenda: Mutex<Agenda>,
    changed: Notify,
}

impl RuntimeTimer {
    /// Begins on the current runtime.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn begin() -> Arc<Self> {
        let timer = Arc::new(Self {
            start: Instant::now(),
            agenda: Mutex::default(),
            changed: Notify::new(),
        });
        let own = timer.clone();
        tokio::spawn(async move { own.run().await });
        timer
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

impl Timer for RuntimeTimer {
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
