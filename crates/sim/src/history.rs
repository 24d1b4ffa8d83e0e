//! What the clients asked for and what they were told: the one thing that the checks believe.
//!
//! Times are those of the simulation. Nodes run one after the other within a tick of it, so that two times of one tick
//! say nothing about which came first: a call is before another only if it ended in an earlier tick.

use sqlrep_core::ReadLevel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a transfer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// In one request.
    Request,
    /// In a session that reads both balances and writes what follows from them.
    Session(Ending),
}

/// What becomes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is committed.
    Commit,
    /// Another client goes on with it, through its own node, and commits.
    Lend,
    /// It is rolled back.
    RollBack,
    /// Nobody cares any more.
    Abandon,
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ask {
    /// Put `value` into a register.
    Write { register: u64, value: u64 },
    /// Put `new` into a register if it holds `old`; tells what it holds then.
    Compare { register: u64, old: u64, new: u64 },
    /// Read a register.
    Read { register: u64, level: ReadLevel },
    /// Insert ids in one transaction.
    Insert { ids: Vec<u64> },
    /// The same, with a statement at its end that SQLite refuses.
    InsertRefused { ids: Vec<u64> },
    /// Read all ids.
    Ids { level: ReadLevel },
    /// Move an amount from one account to another; `number` is unique.
    Transfer {
        number: u64,
        from: u64,
        to: u64,
        amount: i64,
        way: Way,
    },
    /// Read the balances, and the numbers of the transfers done.
    Bank { level: ReadLevel },
    /// Add one to the counter, in a session that reads it and writes what follows; tells what it holds then.
    Count { ending: Ending },
    /// Read the counter, strictly, in a session that only reads.
    Counter,
}

/// What it was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    /// Done.
    Done,
    /// Done; the register or the counter holds this.
    Value(u64),
    /// The ids, sorted.
    Ids(Vec<u64>),
    /// Balances by account, and numbers of transfers, sorted.
    Bank(Vec<i64>, Vec<u64>),
    /// Certainly not done, and why.
    Refused(String),
    /// Perhaps done, and why nobody knows.
    Unknown(String),
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) client: String,
    pub(crate) ask: Ask,
    pub(crate) begun: Duration,
    /// None: the node died before it answered.
    pub(crate) ended: Option<(Duration, Told)>,
}

impl Call {
    /// What it was told; none if that may still be anything.
    pub(crate) fn told(&self) -> Option<&Told> {
        self.ended.as_ref().map(|(_, told)| told)
    }

    /// Whether its effect is certain.
    pub(crate) fn done(&self) -> bool {
        !matches!(
            self.told(),
            None | Some(Told::Refused(_) | Told::Unknown(_))
        )
    }

    /// Whether it certainly had no effect.
    pub(crate) fn refused(&self) -> bool {
        matches!(self.told(), Some(Told::Refused(_)))
    }

    /// Whether it ended before `other` began.
    pub(crate) fn before(&self, other: &Self) -> bool {
        self.ended
            .as_ref()
            .is_some_and(|(ended, _)| ended.as_millis() < other.begun.as_millis())
    }
}

/// All calls, in the order in which they began.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<Vec<Call>>>);

impl History {
    fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a call begins; answers its number.
    pub(crate) fn begin(&self, client: &str, ask: Ask, begun: Duration) -> usize {
        let mut calls = self.calls();
        calls.push(Call {
            client: client.to_owned(),
            ask,
            begun,
            ended: None,
        });
        calls.len() - 1
    }

    /// Notes how it ended.
    pub(crate) fn end(&self, number: usize, ended: Duration, told: Told) {
        self.calls()[number].ended = Some((ended, told));
    }

    /// A copy.
    pub(crate) fn read(&self) -> Vec<Call> {
        self.calls().clone()
    }
}
