//! Suites that an implementation of `core`'s traits runs in its own tests. Failure is a panic that names the
//! case.
//!
//! They check contracts, not crashes: what a disk does to a log is the log's own to test.

mod machine;

use crate::raft::LogAdapter;
use crate::raft::TypeConfig;
use crate::{Done, Entry, EntryId, LogIndex, LogState, LogStore, Vote};
use machine::Noted;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::ops::Range;
use std::sync::Arc;

/// Runs the storage suite of the Raft library over logs that `make` opens empty, one per case.
///
/// It runs on a thread and a runtime of its own, so call it outside of both. A purge of the suite raises the
/// floor first (duty 6 of [`LogStore`]), and the suite's first entry on an empty log may have any index.
///
/// # Panics
///
/// If a case fails; the message of the suite says which.
pub fn log_store(make: impl Fn() -> Arc<dyn LogStore> + Send + Sync + 'static) {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without I/O needs nothing");
        let suite = Suite::test_all(Maker(make));
        runtime.block_on(crate::raft::scoped(1, suite))
    };
    #[allow(
        clippy::disallowed_methods,
        reason = "a suite is no part of a node: it runs where its caller's test runs"
    )]
    let thread = std::thread::spawn(run);
    match thread.join() {
        Ok(done) => done.expect("the log keeps the contract of the Raft library"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

struct Maker<F>(F);

impl<F> StoreBuilder<TypeConfig, LogAdapter, Noted> for Maker<F>
where
    F: Fn() -> Arc<dyn LogStore> + Send + Sync,
{
    async fn build(&self) -> Result<((), LogAdapter, Noted), StorageError<TypeConfig>> {
        let log = Arc::new(Raised((self.0)()));
        Ok((
            (),
            LogAdapter::new(log, 4 << 20, Arc::default(), None),
            Noted::default(),
        ))
    }
}

/// A log whose purges raise the floor first.
struct Raised(Arc<dyn LogStore>);

impl LogStore for Raised {
    fn state(&self) -> LogState {
        self.0.state()
    }

    fn read(&self, range: Range<LogIndex>, bytes_max: usize, done: Done<Vec<Entry>>) {
        self.0.read(range, bytes_max, done);
    }

    fn append(&self, entries: Vec<Entry>, done: Done<()>) {
        self.0.append(entries, done);
    }

    fn save_vote(&self, vote: Vote, done: Done<()>) {
        self.0.save_vote(vote, done);
    }

    fn truncate_after(&self, last: Option<EntryId>, done: Done<()>) {
        self.0.truncate_after(last, done);
    }

    fn purge(&self, upto: EntryId, done: Done<()>) {
        self.0.set_floor(Some(upto.index));
        self.0.purge(upto, done);
    }

    fn save_committed(&self, committed: Option<EntryId>) {
        self.0.save_committed(committed);
    }

    fn set_floor(&self, floor: Option<LogIndex>) {
        self.0.set_floor(floor);
    }

    fn durable(&self) -> Option<EntryId> {
        self.0.durable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryLog;

    #[test]
    fn the_log_in_memory_keeps_the_contract() {
        log_store(|| Arc::new(MemoryLog::default()));
    }

    /// A log that forgets votes.
    struct Forgetful(MemoryLog);

    impl LogStore for Forgetful {
        fn state(&self) -> LogState {
            self.0.state()
        }
        fn read(&self, range: Range<LogIndex>, bytes_max: usize, done: Done<Vec<Entry>>) {
            self.0.read(range, bytes_max, done);
        }
        fn append(&self, entries: Vec<Entry>, done: Done<()>) {
            self.0.append(entries, done);
        }
        fn save_vote(&self, _vote: Vote, done: Done<()>) {
            done(Ok(()));
        }
        fn truncate_after(&self, last: Option<EntryId>, done: Done<()>) {
            self.0.truncate_after(last, done);
        }
        fn purge(&self, upto: EntryId, done: Done<()>) {
            self.0.purge(upto, done);
        }
        fn save_committed(&self, committed: Option<EntryId>) {
            self.0.save_committed(committed);
        }
        fn set_floor(&self, floor: Option<LogIndex>) {
            self.0.set_floor(floor);
        }
        fn durable(&self) -> Option<EntryId> {
            self.0.durable()
        }
    }

    #[test]
    #[should_panic(expected = "hard state")]
    fn a_log_that_forgets_votes_fails() {
        log_store(|| Arc::new(Forgetful(MemoryLog::default())));
    }
}
