//! Time, randomness and workers without a machine: one seed, one thread, one order of events.
//!
//! [`SimulatedExecutor`] makes each turn an event of simulated time, which is what a cluster in one process needs.

use crate::{Clock, Entropy, Executor, Moment, Turn, UnixMillis, Wake, Worker};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The time of a simulation, supplied by whoever drives it: a paused tokio runtime, or the simulator's own.
///
/// Duties: 1. `now` never goes back. 2. `after` calls `event` once, no earlier than `delay` from now, on the
/// simulation's one thread, never inside the call of `after`. 3. Events due at one instant run in the order of their `after`.
pub trait Timer: Send + Sync {
    /// Simulated time since the simulation began.
    fn now(&self) -> Duration;
    /// Has `event` called later.
    fn after(&self, delay: Duration, event: Box<dyn FnOnce() + Send>);
}

/// A clock that a simulation moves. Each reading adds a microsecond (duty 3 of [`Clock`]).
pub struct SimulatedClock {
    timer: Option<Arc<dyn Timer>>,
    readings: AtomicU64,
    /// Added to the wall clock, so that tests can make it jump.
    wall_offset_ms: AtomicU64,
}

/// Where the simulated wall clock begins: 2026-01-01T00:00:00Z.
const WALL_START_MS: u64 = 1_767_225_600_000;

impl SimulatedClock {
    /// Time passes only by being read.
    #[must_use]
    pub fn counting() -> Self {
        Self {
            timer: None,
            readings: AtomicU64::new(0),
            wall_offset_ms: AtomicU64::new(0),
        }
    }

    /// Time is that of `timer`, plus a microsecond per reading.
    #[must_use]
    pub fn on(timer: Arc<dyn Timer>) -> Self {
        Self {
            timer: Some(timer),
            ..Self::counting()
        }
    }

    /// Moves the wall clock on by `by`, as an operator or NTP would.
    pub fn jump(&self, by: Duration) {
        let by_ms = u64::try_from(by.as_millis()).expect("a jump of less than 500 million years");
        self.wall_offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Moment {
        let read = Duration::from_micros(self.readings.fetch_add(1, Ordering::Relaxed) + 1);
        let base = self
            .timer
            .as_ref()
            .map_or(Duration::ZERO, |timer| timer.now());
        Moment(base + read)
    }

    fn wall(&self) -> UnixMillis {
        let passed = u64::try_from(self.now().0.as_millis()).expect("a simulation ends in time");
        UnixMillis(WALL_START_MS + passed + self.wall_offset_ms.load(Ordering::Relaxed))
    }
}

/// One seed, one sequence (SplitMix64: Steele, Lea, Flood, OOPSLA 2014). Not fit for secrets.
pub struct SimulatedEntropy(AtomicU64);

impl SimulatedEntropy {
    /// Begins the sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Entropy for SimulatedEntropy {
    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut word = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

type Cost = Arc<dyn Fn(&'static str) -> Duration + Send + Sync>;

/// Runs every turn as an event of simulated time, after the time that its I/O costs.
pub struct SimulatedExecutor {
    timer: Arc<dyn Timer>,
    cost: Cost,
}

impl SimulatedExecutor {
    /// `cost` tells how long a turn of the named worker takes.
    #[must_use]
    pub fn new(
        timer: Arc<dyn Timer>,
        cost: impl Fn(&'static str) -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self {
            timer,
            cost: Arc::new(cost),
        }
    }
}

struct Scheduled {
    name: &'static str,
    timer: Arc<dyn Timer>,
    cost: Cost,
    state: Mutex<Schedule>,
}

/// Invariant: at most one turn is scheduled at a time, and `generation` names it; an event of another
/// generation was overtaken by an earlier wake and does nothing.
struct Schedule {
    /// Taken out while a turn runs, none for good once the worker stopped.
    worker: Option<Box<dyn Worker>>,
    scheduled: bool,
    asked: bool,
    running: bool,
    generation: u64,
}

impl Executor for SimulatedExecutor {
    fn start(&self, name: &'static str, worker: Box<dyn Worker>) -> Arc<dyn Wake> {
        let state = Schedule {
            worker: Some(worker),
            scheduled: false,
            asked: false,
            running: false,
            generation: 0,
        };
        let (timer, cost) = (self.timer.clone(), self.cost.clone());
        Arc::new(SimulatedWake(Arc::new(Scheduled {
            name,
            timer,
            cost,
            state: Mutex::new(state),
        })))
    }
}

struct SimulatedWake(Arc<Scheduled>);

impl Wake for SimulatedWake {
    fn wake(&self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.running {
            state.asked = true;
        } else if !state.scheduled && state.worker.is_some() {
            state.scheduled = true;
            Scheduled::schedule(&self.0, &mut state, Duration::ZERO);
        }
    }
}

impl Scheduled {
    /// Plans the next turn after `pause` and the turn's own cost.
    fn schedule(this: &Arc<Self>, state: &mut Schedule, pause: Duration) {
        state.generation += 1;
        let (own, generation) = (this.clone(), state.generation);
        let delay = pause + (this.cost)(this.name);
        this.timer
            .after(delay, Box::new(move || Self::event(&own, generation)));
    }

    fn event(this: &Arc<Self>, generation: u64) {
        let worker = {
            let mut state = this.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.generation != generation {
                return;
            }
            state.scheduled = false;
            state.asked = false;
            state.running = true;
            state.worker.take()
        };
        let Some(mut worker) = worker else { return };
        let turn = worker.turn();
        let mut state = this.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running = false;
        if turn == Turn::Stop {
            return;
        }
        state.worker = Some(worker);
        if state.asked || turn == Turn::Again {
            state.scheduled = true;
            Self::schedule(this, &mut state, Duration::ZERO);
        } else if let Turn::After(pause) = turn {
            // Not `scheduled`: a wake may overtake the pause, and then bumps the generation.
            Self::schedule(this, &mut state, pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, Env};
    use std::collections::BTreeMap;

    type Event = Box<dyn FnOnce() + Send>;

    /// The smallest timer: a sorted list of events, run by hand.
    #[derive(Default)]
    struct Agenda(Mutex<Plan>);

    /// Now, events so far, and what is to come by time and order.
    type Plan = (Duration, u64, BTreeMap<(Duration, u64), Event>);

    impl Timer for Agenda {
        fn now(&self) -> Duration {
            self.0.lock().unwrap().0
        }
        fn after(&self, delay: Duration, event: Event) {
            let mut agenda = self.0.lock().unwrap();
            agenda.1 += 1;
            let key = (agenda.0 + delay, agenda.1);
            agenda.2.insert(key, event);
        }
    }

    impl Agenda {
        fn run(&self) -> Vec<Duration> {
            let mut times = Vec::new();
            loop {
                let event = {
                    let mut agenda = self.0.lock().unwrap();
                    let Some((key, event)) = agenda.2.pop_first() else {
                        return times;
                    };
                    agenda.0 = key.0;
                    event
                };
                times.push(self.now());
                event();
            }
        }
    }

    #[test]
    fn requests_gather_behind_a_slow_turn() {
        let agenda = Arc::new(Agenda::default());
        let env = Env::simulated(1, agenda.clone(), |_| Duration::from_millis(4));
        let batches = Arc::new(Mutex::new(Vec::new()));
        let actor = Actor::start(&*env.executor, "slow", 64, batches.clone());
        for number in 0..3 {
            actor
                .send(move |batches| batches.lock().unwrap().push(number))
                .unwrap();
        }
        assert!(
            batches.lock().unwrap().is_empty(),
            "a turn waits for its cost"
        );
        assert_eq!(
            agenda.run(),
            [Duration::from_millis(4)],
            "three wakes, one turn"
        );
        assert_eq!(*batches.lock().unwrap(), [0, 1, 2]);
    }

    #[test]
    fn a_wake_overtakes_a_pause_and_the_pause_does_nothing_later() {
        struct Pausing(Arc<Mutex<u32>>);
        impl Worker for Pausing {
            fn turn(&mut self) -> Turn {
                *self.0.lock().unwrap() += 1;
                if *self.0.lock().unwrap() == 1 {
                    Turn::After(Duration::from_secs(1))
                } else {
                    Turn::Idle
                }
            }
        }
        let agenda = Arc::new(Agenda::default());
        let executor = SimulatedExecutor::new(agenda.clone(), |_| Duration::ZERO);
        let turns = Arc::new(Mutex::new(0));
        let wake = executor.start("pausing", Box::new(Pausing(turns.clone())));
        wake.wake();
        let timer: &dyn Timer = &*agenda;
        let again = wake.clone();
        timer.after(Duration::from_millis(10), Box::new(move || again.wake()));
        agenda.run();
        assert_eq!(*turns.lock().unwrap(), 2);
    }

    #[test]
    fn one_seed_gives_one_sequence_and_readings_move_time() {
        let (a, b) = (Env::inline(5), Env::inline(5));
        for _ in 0..100 {
            assert_eq!(a.entropy.next(), b.entropy.next());
        }
        assert!(a.clock.now() < a.clock.now());
    }
}
