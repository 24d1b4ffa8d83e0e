//! A few workers that share one queue of closures: for blocking work whose state comes along with it.
//!
//! Whoever is idle takes the next job, so that a long one holds up one worker and no others. The queue is bounded, a full one
//! answers at once.
//!
//! Invariant 1: while a job waits, no worker is idle, or one is on its way. Invariant 2: jobs begin in the order of their `send`.

use crate::{Actor, Executor, QueueFull};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

struct State {
    jobs: VecDeque<Job>,
    /// Workers that have found the queue empty, and weren't woken since.
    idle: Vec<usize>,
}

struct Queue {
    state: Mutex<State>,
    jobs_max: usize,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        // No job runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, worker: usize) -> Option<Job> {
        let mut state = self.state();
        let job = state.jobs.pop_front();
        if job.is_none() {
            state.idle.push(worker);
        }
        job
    }
}

/// The workers. Dropping it stops them behind the jobs already queued.
pub struct Pool {
    queue: Arc<Queue>,
    workers: Vec<Actor<()>>,
}

/// A worker looks into the queue, and once more if it was woken while it found it empty.
const LOOKS_MAX: usize = 2;

impl Pool {
    /// Starts `workers` of them; `jobs_max` jobs wait at most.
    pub fn start(
        executor: &dyn Executor,
        name: &'static str,
        workers: usize,
        jobs_max: usize,
    ) -> Self {
        let workers = workers.max(1);
        let state = State {
            jobs: VecDeque::new(),
            idle: (0..workers).rev().collect(),
        };
        let start = |_| Actor::start(executor, name, LOOKS_MAX, ());
        Self {
            queue: Arc::new(Queue {
                state: Mutex::new(state),
                jobs_max,
            }),
            workers: (0..workers).map(start).collect(),
        }
    }

    /// Queues `job`.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], at once, if as many jobs wait as may; the job is dropped unrun.
    pub fn send(&self, job: impl FnOnce() + Send + 'static) -> Result<(), QueueFull> {
        let woken = {
            let mut state = self.queue.state();
            if state.jobs.len() >= self.queue.jobs_max {
                return Err(QueueFull);
            }
            state.jobs.push_back(Box::new(job));
            state.idle.pop()
        };
        if let Some(worker) = woken {
            self.wake(worker);
        }
        Ok(())
    }

    fn wake(&self, worker: usize) {
        let queue = self.queue.clone();
        let sent = self.workers[worker].send(move |()| {
            while let Some(job) = queue.next(worker) {
                job();
            }
        });
        assert_eq!(sent, Ok(()), "an idle worker has at most this look to take");
    }

    /// Jobs waiting, a figure for operators.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.state().jobs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Env, Wake, Worker};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    #[test]
    fn jobs_run_beside_each_other_and_each_once() {
        let env = Env::real();
        let pool = Pool::start(&*env.executor, "test", 3, 1_000);
        let (sender, receiver) = mpsc::channel();
        // Two that wait for each other need two workers.
        let (left, right) = (mpsc::channel(), mpsc::channel());
        let done = sender.clone();
        pool.send(move || {
            left.0.send(()).unwrap();
            right.1.recv().unwrap();
            done.send(0).unwrap();
        })
        .unwrap();
        let done = sender.clone();
        pool.send(move || {
            left.1.recv().unwrap();
            right.0.send(()).unwrap();
            done.send(0).unwrap();
        })
        .unwrap();
        for number in 1..=500 {
            let done = sender.clone();
            pool.send(move || done.send(number).unwrap()).unwrap();
        }
        drop(sender);
        let mut seen: Vec<usize> = receiver.iter().collect();
        seen.sort_unstable();
        assert_eq!(seen[2..], (1..=500).collect::<Vec<_>>());
    }

    #[test]
    fn a_job_may_queue_another_one() {
        let env = Env::inline(1);
        let pool = Arc::new(Pool::start(&*env.executor, "test", 1, 8));
        let count = Arc::new(AtomicUsize::new(0));
        let (inner, seen) = (pool.clone(), count.clone());
        pool.send(move || {
            seen.fetch_add(1, Ordering::Relaxed);
            inner
                .send(move || {
                    seen.fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
        })
        .unwrap();
        assert_eq!((count.load(Ordering::Relaxed), pool.queued()), (2, 0));
    }

    #[test]
    fn a_full_queue_answers_at_once() {
        struct Asleep;
        impl Wake for Asleep {
            fn wake(&self) {}
        }
        impl Executor for Asleep {
            fn start(&self, _name: &'static str, _worker: Box<dyn Worker>) -> Arc<dyn Wake> {
                Arc::new(Self)
            }
        }
        let pool = Pool::start(&Asleep, "test", 1, 2);
        assert_eq!((pool.send(|| ()), pool.send(|| ())), (Ok(()), Ok(())));
        assert_eq!((pool.send(|| ()), pool.queued()), (Err(QueueFull), 2));
    }
}
