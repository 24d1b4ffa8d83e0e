//! Workers without threads: a turn runs inside the wake, on the waker's thread.
//!
//! For workers whose turns are too short to be worth two switches of threads, and for tests of one part. Turns of one worker never
//! run beside each other; a wake that comes meanwhile is seen to by the one whose turn runs.

use crate::{Executor, Turn, Wake, Worker};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Runs a worker's turn inside the wake. `Turn::After` waits for the next wake: nothing here measures time.
pub struct InlineExecutor;

struct Inline {
    /// None once the worker stopped.
    worker: Mutex<Option<Box<dyn Worker>>>,
    asked: AtomicBool,
}

impl Executor for InlineExecutor {
    fn start(&self, _name: &'static str, worker: Box<dyn Worker>) -> Arc<dyn Wake> {
        Arc::new(Inline {
            worker: Mutex::new(Some(worker)),
            asked: AtomicBool::new(false),
        })
    }
}

impl Wake for Inline {
    fn wake(&self) {
        self.asked.store(true, Ordering::Release);
        while self.asked.load(Ordering::Acquire) {
            // A wake from inside the turn finds the lock taken; the loop around that turn sees `asked`.
            let Ok(mut worker) = self.worker.try_lock() else {
                return;
            };
            self.asked.store(false, Ordering::Release);
            let Some(running) = worker.as_mut() else {
                return;
            };
            match running.turn() {
                Turn::Again => self.asked.store(true, Ordering::Release),
                Turn::Idle | Turn::After(_) => {}
                Turn::Stop => *worker = None,
            }
        }
    }
}
