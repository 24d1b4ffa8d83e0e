//! The stack of open savepoints, kept as SQLite does: names may repeat, the newest counts, case doesn't.

use crate::guard::SavepointStep;
use crate::verdict::{Halt, refuse};
use rusqlite::ffi;

/// Savepoints that are open.
#[derive(Default)]
pub(super) struct Savepoints(Vec<String>);

impl Savepoints {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Follows a statement that SQLite has run.
    pub(super) fn track(&mut self, step: Option<&SavepointStep>) {
        match step {
            None => {}
            Some(SavepointStep::Begin(name)) => self.0.push(name.clone()),
            Some(SavepointStep::Release(name)) => self.0.truncate(self.newest(name)),
            Some(SavepointStep::RollBackTo(name)) => self.0.truncate(self.newest(name) + 1),
        }
    }

    fn newest(&self, name: &str) -> usize {
        let found = self
            .0
            .iter()
            .rposition(|one| one.eq_ignore_ascii_case(name));
        found.expect("SQLite found it")
    }

    /// None may be open at the end (safety rule 40).
    pub(super) fn check(&self) -> Result<(), Halt> {
        match self.0.last() {
            None => Ok(()),
            Some(name) => Err(refuse(
                ffi::SQLITE_ERROR,
                format!("savepoint {name} is still open at the end of the transaction; RELEASE it"),
            )),
        }
    }
}
