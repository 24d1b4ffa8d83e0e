//! This machine's clocks, randomness and threads. Nothing else in the workspace may ask for them.
#![allow(
    clippy::disallowed_methods,
    reason = "this module is the one place that asks the machine"
)]

use crate::{Clock, Entropy, Executor, Moment, Turn, UnixMillis, Wake, Worker};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The machine's clocks; monotonic time counts from [`start`](Self::start).
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Begins to count.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment(self.started.elapsed())
    }

    fn wall(&self) -> UnixMillis {
        // A clock set before 1970 reads as 1970; nothing about safety depends on it.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The operating system's random bits.
#[derive(Debug)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn next(&self) -> u64 {
        getrandom::u64().expect("the operating system has randomness once it is up")
    }
}

/// A thread per worker.
#[derive(Debug)]
pub struct ThreadExecutor;

/// What a sleeping worker's thread waits on. Invariant: `asked` is set by a wake and cleared only by the
/// thread, before the turn that serves it.
#[derive(Default)]
struct Bell {
    asked: Mutex<bool>,
    rung: Condvar,
}

impl Wake for Bell {
    fn wake(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.rung.notify_one();
    }
}

impl Bell {
    /// Returns when woken, or after `limit`.
    fn wait(&self, limit: Option<Duration>) {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut asked = match limit {
            None => self
                .rung
                .wait_while(asked, |asked| !*asked)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                self.rung
                    .wait_timeout_while(asked, limit, |asked| !*asked)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        *asked = false;
    }
}

/// Ends the process if a turn panics (duty 4 of [`Executor`]): a worker's state is unknown from there on,
/// and a node that goes on without its log writer would look alive.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Executor for ThreadExecutor {
    fn start(&self, name: &'static str, mut worker: Box<dyn Worker>) -> Arc<dyn Wake> {
        let bell = Arc::new(Bell::default());
        let own = bell.clone();
        let run = move || {
            let _guard = AbortOnPanic;
            loop {
                match worker.turn() {
                    Turn::Idle => own.wait(None),
                    Turn::Again => std::thread::yield_now(),
                    Turn::After(limit) => own.wait(Some(limit)),
                    Turn::Stop => return,
                }
            }
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .expect("a node starts a few dozen threads; without them it can't run");
        bell
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, Env};
    use std::sync::mpsc;

    #[test]
    fn a_thread_runs_jobs_and_ends_when_the_last_handle_is_dropped() {
        let env = Env::real();
        let (sender, receiver) = mpsc::channel();
        let actor = Actor::start(&*env.executor, "test", 1024, sender);
        for number in 0..100 {
            actor
                .send(move |sender| sender.send(number).unwrap())
                .unwrap();
        }
        drop(actor);
        // The iterator ends only when the worker has dropped its state, the sender.
        assert!(receiver.iter().eq(0..100));
    }

    #[test]
    fn monotonic_time_moves_and_wall_time_is_this_century() {
        let clock = SystemClock::start();
        let before = clock.now();
        while clock.now() == before {}
        assert!(clock.now().since(before) > Duration::ZERO);
        assert!(clock.wall() > UnixMillis(1_700_000_000_000));
    }
}
