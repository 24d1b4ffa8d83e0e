//! What all parts of one simulation share: seed, history, trace, problems, and how far the story is.

use crate::client::Lent;
use crate::history::History;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How far the story is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Faults strike, clients work.
    Faults,
    /// Everything is healed, clients still work; each node has to serve again.
    Healed,
    /// Nobody writes any more; everything is read once more on each node.
    Quiet,
}

struct State {
    act: Act,
    now: Duration,
    trace: Vec<String>,
    problems: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
    /// Whether a client was told that the tables are there.
    formed: bool,
    /// Who led, by term.
    leaders: BTreeMap<u64, u64>,
    /// Checksum of the database, by applied index, and who said so first.
    checksums: BTreeMap<u64, (u64, u64)>,
    /// Sessions that wait for a client to go on with them.
    lent: VecDeque<Lent>,
}

/// One simulation. Clones share it.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) history: History,
    state: Arc<Mutex<State>>,
    values: Arc<AtomicU64>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            history: History::default(),
            state: Arc::new(Mutex::new(State {
                act: Act::Faults,
                now: Duration::ZERO,
                trace: Vec::new(),
                problems: Vec::new(),
                counts: BTreeMap::new(),
                formed: false,
                leaders: BTreeMap::new(),
                checksums: BTreeMap::new(),
                lent: VecDeque::new(),
            })),
            values: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The simulation's time: exact inside a node, that of the tick outside.
    pub(crate) fn now(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_else(|| self.state().now)
    }

    /// Moves the time of those outside of nodes.
    pub(crate) fn set_now(&self, now: Duration) {
        self.state().now = now;
    }

    pub(crate) fn act(&self) -> Act {
        self.state().act
    }

    pub(crate) fn begin(&self, act: Act) {
        self.state().act = act;
        self.note(format_args!("act {act:?}"));
    }

    /// Whether the cluster has ever served anything.
    pub(crate) fn formed(&self) -> bool {
        self.state().formed
    }

    pub(crate) fn set_formed(&self) {
        self.state().formed = true;
    }

    /// A number that no other call gets.
    pub(crate) fn unique(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Leaves a session to whoever comes first.
    pub(crate) fn lend(&self, session: Lent) {
        self.state().lent.push_back(session);
    }

    /// A session that another client left.
    pub(crate) fn borrow(&self) -> Option<Lent> {
        self.state().lent.pop_front()
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&self, what: impl Display) {
        let line = format!("{:>10.3} {what}", self.now().as_secs_f64() * 1e3);
        tracing::debug!(target: "sim", "{line}");
        self.state().trace.push(line);
    }

    /// Notes a broken promise.
    pub(crate) fn problem(&self, what: impl Display) {
        let what = what.to_string();
        self.note(format_args!("PROBLEM {what}"));
        self.state().problems.push(what);
    }

    /// Counts what happened, for the report.
    pub(crate) fn count(&self, what: &'static str) {
        *self.state().counts.entry(what).or_default() += 1;
    }

    /// Notes who leads a term: no term has two leaders.
    pub(crate) fn leads(&self, node: u64, term: u64) {
        let known = *self.state().leaders.entry(term).or_insert(node);
        if known != node {
            self.problem(format_args!(
                "nodes {known} and {node} both lead term {term}"
            ));
        }
    }

    /// Notes the checksum that a node has at an index: all have the same.
    pub(crate) fn checksum(&self, node: u64, index: u64, checksum: u64) {
        let known = *self
            .state()
            .checksums
            .entry(index)
            .or_insert((checksum, node));
        if known.0 != checksum {
            let (theirs, other) = known;
            self.problem(format_args!(
                "at index {index} node {node} has checksum {checksum:016x}, node {other} {theirs:016x}"
            ));
        }
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.state().problems.clone()
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.state().counts.clone()
    }
}
