//! Events of simulated time on a paused tokio clock: one task runs them in the order of their instants.

use sqlrep_env::Timer;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
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

/// The simulation's time. It has to be made inside the paused runtime.
pub(crate) struct Paused {
    start: Instant,
    agenda: Mutex<Agenda>,
    changed: Notify,
}

impl Paused {
    /// Begins; the events run on a task of the current runtime.
    pub(crate) fn begin() -> Arc<Self> {
        let paused = Arc::new(Self {
            start: Instant::now(),
            agenda: Mutex::default(),
            changed: Notify::new(),
        });
        let own = paused.clone();
        tokio::spawn(async move { own.run().await });
        paused
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap()
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

impl Timer for Paused {
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
