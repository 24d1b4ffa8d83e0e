//! The leader's side: executes requests at once, on the newest version that was finished here, and makes of what they
//! changed one page set per entry.
//!
//! ```text
//!   committed ── sealed ── sealed ── sealed ── (request, request, …)      versions of the store
//!                └─ in the log, no verdict yet ┘  └─ since the last seal: the next set
//! ```
//!
//! Abort is: the connection is closed, then every version above the committed one is dropped (safety rule 24). Dropping
//! the epoch does that, in this order. Nothing less is safe: SQLite's cache and schema would survive a history that never was.
//!
//! Invariant: versions since the last seal are this epoch's requests and nothing else. There is one, open until the seal,
//! unless a transaction is large: a page that many requests change has one image, the one that is sent.

use crate::body::Body;
use crate::held::Lent;
use crate::page_set::{encode_part, parts};
use crate::side::Side;
use crate::state::{SealedSet, State};
use crate::{Head, NewPage, Old, PageModeError, Tail};
use sqlrep_core::{Epoch, EpochEnd, EpochId, Interactive, Interrupt, Sealed, Step, WriteError};
use sqlrep_env::{Env, UnixMillis};
use sqlrep_replica::messages::kept_reply;
use sqlrep_replica::{Replica, leader_stamp, request_seed};
use sqlrep_sql::{Counters, Reply, Request, Scene, SqlFailure, SqlSettings, Stop, Writer};
use sqlrep_store::{Delta, PageNumber, Version};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of a machine, shared with the epoch that lives.
pub(crate) type SharedState = Arc<Mutex<State>>;

pub(crate) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every epoch of a machine leads with.
#[derive(Clone)]
pub(crate) struct Lead {
    pub(crate) replica: Arc<Replica>,
    pub(crate) settings: SqlSettings,
    /// Images of one part of a set, in bytes.
    pub(crate) part_image_bytes_max: usize,
}

/// A set of which parts are left to be made. Its pages stand in the store as long as the epoch lives.
struct Sealing {
    head: Head,
    delta: Delta,
    /// What the set changes.
    from: Version,
    stamp: UnixMillis,
    counters: Counters,
    /// Parts made so far.
    made: usize,
}

/// One leadership.
pub struct PageEpoch {
    id: EpochId,
    pub(crate) lead: Lead,
    state: SharedState,
    pub(crate) stop: Stop,
    /// Opened for the first request.
    pub(crate) writer: Option<Writer>,
    /// A client's own transaction, while it is open on the writer.
    pub(crate) lent: Option<Lent>,
    /// Behind the newest set sealed.
    tail: Option<Tail>,
    pub(crate) version: Version,
    /// Behind the newest request.
    pub(crate) last_stamp: UnixMillis,
    pub(crate) counters: Counters,
    /// Sets sealed so far.
    sequence: u64,
    /// Whether a request since the last seal has to be in a set.
    pub(crate) taken: bool,
    /// Requests run since the last seal.
    gathered: usize,
    /// What `random()` grows from in them.
    seed: u64,
    /// The newest set, until all its parts are made.
    sealing: Option<Sealing>,
    pub(crate) ended: Option<EpochEnd>,
}

/// Ends the request that runs, and refuses all later ones.
pub(crate) struct Stopping(pub(crate) Stop);

impl Interrupt for Stopping {
    fn interrupt(&self) {
        self.0.stop();
    }
}

/// The time of what runs next (safety rule 39).
fn stamped(env: &Env, last: &mut UnixMillis) -> UnixMillis {
    *last = leader_stamp(env.clock.wall(), *last);
    *last
}

/// The time and a seed of its own for a statement of a client's transaction.
pub(crate) fn scene(env: &Env, last: &mut UnixMillis) -> Scene {
    Scene {
        now: stamped(env, last),
        seed: env.entropy.next(),
    }
}

impl PageEpoch {
    /// Begins on the applied end.
    pub(crate) fn begin(id: EpochId, lead: Lead, state: SharedState) -> (Self, Stopping) {
        let stop = Stop::default();
        let (side, version) = lock(&state).lead();
        let Side {
            last_stamp,
            counters,
            tail,
        } = side;
        let epoch = Self {
            id,
            lead,
            state,
            stop: stop.clone(),
            writer: None,
            lent: None,
            tail,
            version,
            last_stamp,
            counters,
            sequence: 0,
            taken: false,
            gathered: 0,
            seed: 0,
            sealing: None,
            ended: None,
        };
        (epoch, Stopping(stop))
    }

    /// What every request of this epoch is refused with from now on.
    pub(crate) fn refusal(&mut self) -> Option<WriteError> {
        if self.ended.is_none() && self.stop.is_stopped() {
            self.ended = Some(EpochEnd::Interrupted);
        }
        if self.ended.is_some() {
            return Some(WriteError::NotDone);
        }
        let full = self.lead.replica.waits_for_checkpoint();
        full.then_some(WriteError::Overloaded)
    }

    /// The connection, opened if it isn't.
    pub(crate) fn writer(&mut self) -> Result<&mut Writer, SqlFailure> {
        Ok(match &mut self.writer {
            Some(writer) => writer,
            closed => {
                let replica = &self.lead.replica;
                let (store, env) = (replica.store(), replica.env());
                let writer = Writer::lead(store, env, &self.lead.settings, self.stop.clone())?;
                closed.insert(writer.with_functions(replica.functions())?)
            }
        })
    }

    /// The connection, for something that the next set is to hold; the first such thing since the last seal begins it.
    pub(crate) fn gather(&mut self) -> Result<&mut Writer, SqlFailure> {
        if self.gathered == 0 {
            self.writer()?.begin_entry();
            self.lead.replica.store().open_version();
            self.seed = self.lead.replica.env().entropy.next();
        }
        self.gathered += 1;
        self.writer()
    }

    /// Runs a request; its reply, and whether it changed anything.
    fn execute(&mut self, request: &Request) -> Result<(Reply, bool), SqlFailure> {
        self.gather()?;
        let scene = Scene {
            now: stamped(self.lead.replica.env(), &mut self.last_stamp),
            seed: request_seed(self.seed, self.gathered),
        };
        let writer = self.writer.as_mut().expect("just opened");
        let before = self.counters;
        let reply = writer.run(request, scene, &mut self.counters)?;
        let changed = writer.take_published().is_some() || self.counters != before;
        Ok((reply, changed))
    }

    fn step(&mut self, request: &Request, keyed: bool) -> Step<Reply> {
        if request.statements.is_empty() {
            return Step::Answered(Reply::default());
        }
        if let Some(error) = self.refusal() {
            return Step::Refused(error);
        }
        match self.execute(request) {
            // An interrupt may look like an error of the statement's.
            Ok(_) if self.stop.is_stopped() => {
                self.writer = None;
                self.ended = Some(EpochEnd::Interrupted);
                Step::Refused(WriteError::NotDone)
            }
            Ok((reply, changed)) if changed || keyed => {
                self.taken = true;
                let key_reply = kept_reply(&reply);
                Step::Executed { reply, key_reply }
            }
            Ok((reply, _)) => Step::Answered(reply),
            Err(failure) => Step::Refused(self.failed(failure)),
        }
    }

    /// Fails, and what the client whose doing it was is told.
    pub(crate) fn failed(&mut self, failure: SqlFailure) -> WriteError {
        let what = failure.to_string();
        self.fail(failure.into());
        match self.ended {
            Some(EpochEnd::Failed(_)) => WriteError::Failed { what },
            _ => WriteError::NotDone,
        }
    }

    /// What ran since the last seal is given up with the epoch.
    pub(crate) fn fail(&mut self, error: PageModeError) {
        self.writer = None;
        self.ended = Some(if self.stop.is_stopped() {
            EpochEnd::Interrupted
        } else {
            EpochEnd::Failed(error.into())
        });
    }

    /// Begins the set of what changed since the last one: its first part.
    fn set(&mut self) -> Result<Option<Sealed>, PageModeError> {
        let clock = self.lead.replica.env().clock.clone();
        let began = clock.now();
        let store = self.lead.replica.store();
        let delta = store.delta(self.version);
        let tail = Tail {
            term: self.id.term,
            node: self.id.node,
            epoch: self.id.epoch,
            sequence: self.sequence + 1,
        };
        let head = Head {
            predecessor: self.tail,
            tail,
            page_size: store.page_size(),
            base: delta.base,
            post: delta.post,
            count: delta.count,
        };
        let version = delta.version;
        self.sealing = Some(Sealing {
            head,
            delta,
            from: self.version,
            stamp: self.last_stamp,
            counters: self.counters,
            made: 0,
        });
        let first = self.part()?;
        let parts = first.as_ref().map_or(1, |first| first.parts_left + 1);
        lock(&self.state).sealed(SealedSet {
            tail,
            version,
            // The others take as long.
            took: clock.now().since(began) * parts,
        });
        self.sequence += 1;
        (self.tail, self.version) = (Some(tail), version);
        Ok(first)
    }

    /// The next part of the set that is being sealed; none if the epoch was interrupted.
    fn part(&mut self) -> Result<Option<Sealed>, PageModeError> {
        let Some(mut sealing) = self.sealing.take() else {
            return Ok(None);
        };
        if self.stop.is_stopped() {
            self.ended = Some(EpochEnd::Interrupted);
            return Ok(None);
        }
        let pages = &sealing.delta.pages;
        let image_bytes_max = self.lead.part_image_bytes_max;
        let parts = parts(pages, sealing.head.page_size, image_bytes_max);
        let (part, pages) = parts[sealing.made];
        let changed = self.changed(&sealing, pages)?;
        let pages: Vec<_> = changed.iter().map(|(page, new)| (*page, new)).collect();
        let body = Body {
            stamp: sealing.stamp,
            counters: sealing.counters,
            part: encode_part(&sealing.head, part, &pages),
        };
        let parts_left = part.of - part.number;
        sealing.made += 1;
        self.sealing = (parts_left > 0).then_some(sealing);
        let body = body.encode();
        Ok(Some(Sealed { body, parts_left }))
    }

    /// Some of the changed pages, with what they were behind the last set.
    fn changed(
        &self,
        sealing: &Sealing,
        pages: &[PageNumber],
    ) -> Result<Vec<(PageNumber, NewPage)>, PageModeError> {
        let Sealing { delta, from, .. } = sealing;
        let store = self.lead.replica.store();
        let mut changed = Vec::with_capacity(pages.len());
        for &page in pages {
            let new = store.image_at(page, delta.version)?;
            let old = if delta.base_count.contains(page) {
                Old::Image(store.image_at(page, *from)?)
            } else {
                Old::Zeros
            };
            changed.push((page, NewPage { old, new }));
        }
        Ok(changed)
    }
}

impl Epoch for PageEpoch {
    type Request = Request;
    type Reply = Reply;

    fn run(&mut self, request: Request) -> Step<Reply> {
        self.step(&request, false)
    }

    fn run_keyed(&mut self, request: Request) -> Step<Reply> {
        self.step(&request, true)
    }

    fn seal(&mut self) -> Option<Sealed> {
        assert!(self.sealing.is_none(), "no set comes between parts");
        self.gathered = 0;
        self.lead.replica.store().close_version();
        if !std::mem::take(&mut self.taken) {
            return None;
        }
        self.set().unwrap_or_else(|error| {
            self.fail(error);
            None
        })
    }

    fn next_part(&mut self) -> Option<Sealed> {
        self.part().unwrap_or_else(|error| {
            self.fail(error);
            None
        })
    }

    fn interactive(&mut self) -> Option<&mut dyn Interactive<Request = Request, Reply = Reply>> {
        Some(self)
    }

    fn ended(&mut self) -> Option<EpochEnd> {
        self.ended.clone()
    }
}

impl Drop for PageEpoch {
    fn drop(&mut self) {
        self.writer = None;
        lock(&self.state).end_epoch();
    }
}
