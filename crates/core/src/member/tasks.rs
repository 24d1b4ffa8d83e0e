//! The tasks of one member: seeded, and ended together.

use crate::raft::scoped;
use sqlrep_env::Entropy;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// Spawns tasks. Clones share them; [`end`](Self::end) ends them all.
#[derive(Clone)]
pub(crate) struct Tasks {
    running: Arc<Mutex<Option<JoinSet<()>>>>,
    entropy: Arc<dyn Entropy>,
}

impl Tasks {
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self {
            running: Arc::new(Mutex::new(Some(JoinSet::new()))),
            entropy,
        }
    }

    /// Spawns `task` with a randomness of its own. After the end it is dropped unrun.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = Box::pin(scoped(self.entropy.next(), task));
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.as_mut() {
            while running.try_join_next().is_some() {}
            running.spawn(task);
        }
    }

    /// Aborts every task; each ends at its next wait.
    pub(crate) fn end(&self) {
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(running);
    }
}
