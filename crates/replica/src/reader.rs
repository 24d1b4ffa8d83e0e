//! One reader connection that outlives installs and failures.
//!
//! Invariant: an answer comes from one generation. SQLite tests its page cache by the change counter alone, and
//! two generations can have equal counters over different pages: a connection is never used beyond its own.

use crate::ReplicaError;
use sqlrep_env::Env;
use sqlrep_sql::{Functions, ReadLimits, Reader, Reply, Request, SqlFailure, SqlSettings};
use sqlrep_store::Store;
use sqlrep_vfs::rusqlite::InterruptHandle;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Reads the newest entry end, on the caller's thread.
pub struct LocalReader {
    store: Arc<Store>,
    env: Env,
    settings: SqlSettings,
    functions: Functions,
    open: Option<Open>,
    stop: Arc<Stop>,
}

struct Open {
    generation: u64,
    reader: Reader,
}

/// Stops what a reader runs, from another thread.
#[derive(Default)]
pub(crate) struct Stop(Mutex<Option<InterruptHandle>>);

impl Stop {
    fn handle(&self) -> MutexGuard<'_, Option<InterruptHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn interrupt(&self) {
        if let Some(handle) = &*self.handle() {
            handle.interrupt();
        }
    }
}

impl LocalReader {
    /// Its connection is opened by the first read.
    pub(crate) fn new(
        store: &Arc<Store>,
        env: &Env,
        settings: &SqlSettings,
        functions: &Functions,
    ) -> Self {
        Self {
            store: store.clone(),
            env: env.clone(),
            settings: settings.clone(),
            functions: functions.clone(),
            open: None,
            stop: Arc::default(),
        }
    }

    pub(crate) fn stop(&self) -> Arc<Stop> {
        self.stop.clone()
    }

    /// Answers a request that only reads, all of it from one entry end.
    ///
    /// # Errors
    ///
    /// This node's; the next read opens a new connection.
    pub fn run(&mut self, request: &Request, limits: &ReadLimits) -> Result<Reply, ReplicaError> {
        self.with(|reader| reader.run(request, limits))
    }

    /// Whether a request only reads, as SQLite sees it with the newest schema.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn is_read_only(&mut self, request: &Request) -> Result<bool, ReplicaError> {
        self.with(|reader| reader.is_read_only(request))
    }

    /// Acts once more if an install came meanwhile: what was read may be of both generations.
    fn with<T>(
        &mut self,
        act: impl Fn(&mut Reader) -> Result<T, SqlFailure>,
    ) -> Result<T, ReplicaError> {
        loop {
            let generation = self.store.generation();
            let outcome = self.opened(generation).and_then(|reader| Ok(act(reader)?));
            let same = self.store.generation() == generation;
            if outcome.is_err() || !same {
                self.open = None;
            }
            if same {
                return outcome;
            }
        }
    }

    fn opened(&mut self, generation: u64) -> Result<&mut Reader, ReplicaError> {
        self.open = self
            .open
            .take()
            .filter(|open| open.generation == generation);
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let reader = Reader::open(&self.store, &self.env, &self.settings)?;
                let reader = reader.with_functions(&self.functions)?;
                *self.stop.handle() = Some(reader.interrupt_handle());
                Open { generation, reader }
            }
        };
        Ok(&mut self.open.insert(open).reader)
    }
}
