//! Faults that a test orders: a call that fails, a process that dies at a call.
//!
//! Promise: a fault counts as injected only once a call really got it, so that a test can't pass because
//! its fault was never reached.

use crate::{DiskError, Operation};
use sqlrep_env::{Entropy, SimulatedEntropy};
use std::io;

/// An order to fail calls. Calls are counted from the moment it is given to
/// [`SimulatedDisk::inject`](crate::SimulatedDisk::inject), 1 being the next.
///
/// What a failed call leaves behind is open, as with a real machine: of a write a part may have happened, a rename may or
/// may not have; a failed sync loses data by fsync rule 5.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Matching calls until it strikes.
    nth: u64,
    operation: Option<Operation>,
    prefix: String,
    kind: io::ErrorKind,
    forever: bool,
}

impl Fault {
    /// The `nth` call fails with an I/O error, once.
    ///
    /// # Panics
    ///
    /// If `nth` is 0.
    #[must_use]
    pub fn io(nth: u64) -> Self {
        Self::new(nth, io::ErrorKind::Other)
    }

    /// The `nth` call finds the disk full, once.
    ///
    /// # Panics
    ///
    /// If `nth` is 0.
    #[must_use]
    pub fn full(nth: u64) -> Self {
        Self::new(nth, io::ErrorKind::StorageFull)
    }

    fn new(nth: u64, kind: io::ErrorKind) -> Self {
        assert!(nth > 0, "calls are counted from 1");
        Self {
            nth,
            operation: None,
            prefix: String::new(),
            kind,
            forever: false,
        }
    }

    /// Only calls of `operation` count and fail.
    #[must_use]
    pub fn only(self, operation: Operation) -> Self {
        let operation = Some(operation);
        Self { operation, ..self }
    }

    /// Only calls on paths that begin with `prefix` count and fail. A file has the path it was opened by, a rename that
    /// of its source.
    #[must_use]
    pub fn under(self, prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        Self { prefix, ..self }
    }

    /// All later ones fail too.
    #[must_use]
    pub fn forever(self) -> Self {
        let forever = true;
        Self { forever, ..self }
    }

    fn matches(&self, operation: Operation, path: &str) -> bool {
        self.operation.is_none_or(|only| only == operation) && path.starts_with(&self.prefix)
    }
}

/// How a call goes.
pub(super) enum Verdict {
    Runs,
    /// It fails, and `luck` says how much of it happened nevertheless.
    Fails {
        error: DiskError,
        luck: u64,
    },
    /// The process dies in it.
    Dies {
        error: DiskError,
        luck: u64,
    },
}

impl Verdict {
    /// How many of `count` bytes, or names, the call gets to.
    pub(super) fn part(&self, count: u64) -> u64 {
        match self {
            Self::Runs => count,
            Self::Fails { luck, .. } | Self::Dies { luck, .. } => luck % (count + 1),
        }
    }

    /// Whether a call that happens wholly or not at all happens.
    pub(super) fn happens(&self) -> bool {
        self.part(1) == 1
    }

    /// The answer to the caller.
    pub(super) fn answer(self) -> Result<(), DiskError> {
        match self {
            Self::Runs => Ok(()),
            Self::Fails { error, .. } | Self::Dies { error, .. } => Err(error),
        }
    }
}

/// The orders of one disk.
pub(super) struct Faults {
    luck: SimulatedEntropy,
    armed: Vec<Fault>,
    /// Calls until the process dies.
    crash_in: Option<u64>,
    dead: bool,
    pub(super) calls: u64,
    pub(super) injected: u64,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            luck: SimulatedEntropy::new(seed),
            armed: Vec::new(),
            crash_in: None,
            dead: false,
            calls: 0,
            injected: 0,
        }
    }

    pub(super) fn arm(&mut self, fault: Fault) {
        self.armed.push(fault);
    }

    pub(super) fn disarm(&mut self) {
        self.armed.clear();
        self.crash_in = None;
    }

    pub(super) fn crash_in(&mut self, calls: u64) {
        assert!(calls > 0, "calls are counted from 1");
        self.crash_in = Some(calls);
    }

    pub(super) fn kill(&mut self) {
        self.dead = true;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Counts a call and says how it goes.
    pub(super) fn judge(&mut self, operation: Operation, path: &str) -> Result<Verdict, DiskError> {
        if self.dead {
            return Err(died(operation, path));
        }
        self.calls += 1;
        if self.dies_now() {
            let (error, luck) = (died(operation, path), self.luck.next());
            return Ok(Verdict::Dies { error, luck });
        }
        let Some(kind) = self.strikes_now(operation, path) else {
            return Ok(Verdict::Runs);
        };
        self.injected += 1;
        let source = io::Error::new(kind, "a fault that the test ordered");
        let error = DiskError::from_io(operation, path, source);
        // A full disk stops a write in its middle, but no call on names or lengths.
        let whole = matches!(error, DiskError::Full { .. }) && operation != Operation::Write;
        let luck = if whole { 0 } else { self.luck.next() };
        Ok(Verdict::Fails { error, luck })
    }

    fn dies_now(&mut self) -> bool {
        let Some(left) = &mut self.crash_in else {
            return false;
        };
        *left -= 1;
        if *left > 0 {
            return false;
        }
        self.crash_in = None;
        self.dead = true;
        self.injected += 1;
        true
    }

    /// Every armed fault counts the call, also when an earlier one strikes.
    fn strikes_now(&mut self, operation: Operation, path: &str) -> Option<io::ErrorKind> {
        let mut struck = None;
        for fault in &mut self.armed {
            if fault.matches(operation, path) {
                fault.nth = fault.nth.saturating_sub(1);
                if fault.nth == 0 && struck.is_none() {
                    struck = Some(fault.kind);
                }
            }
        }
        self.armed.retain(|fault| fault.nth > 0 || fault.forever);
        struck
    }
}

fn died(operation: Operation, path: &str) -> DiskError {
    let source = io::Error::other("this simulated process is dead");
    DiskError::from_io(operation, path, source)
}
