//! A worker that owns a value and runs the closures sent to it, in order: the usual way to give state one owner.
//!
//! The queue is bounded, a full one answers at once. Invariant 1: jobs run in the order of their `send`.
//! Invariant 2: the state is dropped on the worker, after the last job, never on a caller's thread.

use crate::{Executor, Turn, Wake, Worker};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// The queue holds as many jobs as it may; nothing was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// Called once the state is dropped.
pub type Closed = Box<dyn FnOnce() + Send>;

struct Queue<S> {
    jobs: VecDeque<Job<S>>,
    /// Handles alive; at zero the worker stops.
    handles: usize,
    closing: Option<Closed>,
}

struct Shared<S> {
    queue: Mutex<Queue<S>>,
    jobs_max: usize,
}

impl<S> Shared<S> {
    fn queue(&self) -> MutexGuard<'_, Queue<S>> {
        // A poisoned queue is still a whole queue: no code that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle; clones share the worker, and dropping the last one stops it behind the jobs already queued.
pub struct Actor<S> {
    shared: Arc<Shared<S>>,
    wake: Arc<dyn Wake>,
}

impl<S: Send + 'static> Actor<S> {
    /// Gives `state` to a worker whose queue holds at most `jobs_max` jobs.
    pub fn start(executor: &dyn Executor, name: &'static str, jobs_max: usize, state: S) -> Self {
        let queue = Queue {
            jobs: VecDeque::new(),
            handles: 1,
            closing: None,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            jobs_max,
        });
        let owner = Owner {
            state: Some(state),
            shared: shared.clone(),
        };
        let wake = executor.start(name, Box::new(owner));
        Self { shared, wake }
    }
}

impl<S> Actor<S> {
    /// Queues `job`.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], at once, if the queue is at its limit; the job is dropped unrun.
    pub fn send(&self, job: impl FnOnce(&mut S) + Send + 'static) -> Result<(), QueueFull> {
        {
            let mut queue = self.shared.queue();
            if queue.jobs.len() >= self.shared.jobs_max {
                return Err(QueueFull);
            }
            queue.jobs.push_back(Box::new(job));
        }
        self.wake.wake();
        Ok(())
    }

    /// Jobs waiting, a figure for operators.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.queue().jobs.len()
    }

    /// Stops the worker behind the jobs already queued and calls `closed` once its state is dropped.
    /// Jobs that other handles send later are dropped unrun.
    pub fn close(self, closed: impl FnOnce() + Send + 'static) {
        self.shared.queue().closing = Some(Box::new(closed));
        self.wake.wake();
    }
}

impl<S> Clone for Actor<S> {
    fn clone(&self) -> Self {
        self.shared.queue().handles += 1;
        Self {
            shared: self.shared.clone(),
            wake: self.wake.clone(),
        }
    }
}

impl<S> Drop for Actor<S> {
    fn drop(&mut self) {
        let last = {
            let mut queue = self.shared.queue();
            queue.handles -= 1;
            queue.handles == 0
        };
        if last {
            self.wake.wake();
        }
    }
}

struct Owner<S> {
    /// None once the worker has stopped.
    state: Option<S>,
    shared: Arc<Shared<S>>,
}

impl<S: Send> Worker for Owner<S> {
    fn turn(&mut self) -> Turn {
        let (jobs, closing, orphaned) = {
            let mut queue = self.shared.queue();
            (
                std::mem::take(&mut queue.jobs),
                queue.closing.take(),
                queue.handles == 0,
            )
        };
        let Some(state) = self.state.as_mut() else {
            return Turn::Stop;
        };
        for job in jobs {
            job(state);
        }
        if closing.is_none() && !orphaned {
            return Turn::Idle;
        }
        self.state = None;
        if let Some(closed) = closing {
            closed();
        }
        Turn::Stop
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Env;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn jobs_run_in_order_and_the_state_is_dropped_before_closed_is_called() {
        struct Dropped(Arc<AtomicU64>, Vec<u64>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                assert_eq!(self.1, [1, 2, 3]);
                self.0.store(7, Ordering::Release);
            }
        }
        let env = Env::inline(1);
        let mark = Arc::new(AtomicU64::new(0));
        let actor = Actor::start(&*env.executor, "test", 8, Dropped(mark.clone(), Vec::new()));
        for number in 1..=3 {
            actor.send(move |state| state.1.push(number)).unwrap();
        }
        let seen = Arc::new(AtomicU64::new(0));
        let (at_close, into) = (mark.clone(), seen.clone());
        actor.close(move || into.store(at_close.load(Ordering::Acquire), Ordering::Release));
        assert_eq!(seen.load(Ordering::Acquire), 7);
    }

    #[test]
    fn a_full_queue_answers_at_once() {
        /// Never runs its worker, so that the queue fills.
        struct Asleep;
        impl Wake for Asleep {
            fn wake(&self) {}
        }
        impl Executor for Asleep {
            fn start(&self, _name: &'static str, _worker: Box<dyn Worker>) -> Arc<dyn Wake> {
                Arc::new(Self)
            }
        }
        let actor = Actor::start(&Asleep, "test", 2, ());
        assert_eq!(actor.send(|()| ()), Ok(()));
        assert_eq!(actor.send(|()| ()), Ok(()));
        assert_eq!(actor.send(|()| ()), Err(QueueFull));
        assert_eq!(actor.queued(), 2);
    }
}
