//! The writer worker and the one epoch that may live on it. It has a thread if epochs execute ahead of the log.
//!
//! ```text
//!   proposer     begin(term) ───► lead ──── run, seal ───┐ dropped = aborted
//!   apply path   keep_only(term) ── interrupt ───────────┤
//!   verdicts     end(epoch) ─────── interrupt ───────────┘
//! ```
//!
//! Invariant 1: at most one epoch lives, and it is dropped on the writer worker.
//! Invariant 2: while an entry of a term is applied, no epoch of another term lives or begins (safety rule
//! 24): `keep_only` bars them first, and returns when the last one is dropped.
//! Invariant 3: none lives on a state that isn't trusted, and none begins in a term in which it wasn't.
//! Invariant 4 (safety rule 26): nothing runs while parts of the set that was sealed last weren't taken.

use crate::answered::{NoAnswer, answered, asked};
use crate::{Epoch, EpochEnd, EpochId, Interrupt, Sealed, StateMachine, Term};
use sqlrep_env::{Actor, Env, Executor, InlineExecutor, QueueFull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};

/// Begin, two runs, end and the last job before the worker closes, each at most a few at a time.
const JOBS_MAX: usize = 16;

/// Why its queue is never full.
const FEW_JOBS: &str = "each caller waits for its job, few at a time";

/// The writer worker's value.
type Writer<M> = Option<Living<<M as StateMachine>::Epoch>>;

/// The epoch that lives.
struct Living<E> {
    id: EpochId,
    epoch: E,
    /// Of the set that was sealed last.
    parts_left: u32,
}

struct Gate {
    /// Term whose entries are being applied; an epoch of another one doesn't begin. None: none begins.
    applying: Option<Term>,
    live: Option<Live>,
    /// Whether this node's state isn't trusted: nothing is executed on it.
    shut: bool,
    /// The newest term in which it was: what was under way in it may be undecided, so none begins in it again.
    shut_in: Option<Term>,
}

struct Live {
    id: EpochId,
    /// None until `lead` has returned.
    interrupt: Option<Box<dyn Interrupt>>,
    /// Its end is queued on the worker.
    ending: bool,
}

/// Begins, uses and ends epochs.
pub(crate) struct Epochs<M: StateMachine> {
    machine: Arc<M>,
    writer: Actor<Writer<M>>,
    gate: Arc<Mutex<Gate>>,
    /// The epoch that lives, for those who wait for its end.
    alive: watch::Sender<Option<EpochId>>,
}

/// A run that is queued or under way.
pub(crate) struct Running<T, R, C>(Option<oneshot::Receiver<Gave<T, R, C>>>);

/// What a run gave, and what came with its batch.
type Gave<T, R, C> = Option<(Ran<T, R>, Option<C>)>;

impl<T, R, C> Running<T, R, C> {
    /// Waits for it; may be dropped and called again.
    pub(crate) async fn gave(&mut self) -> Gave<T, R, C> {
        match &mut self.0 {
            Some(run) => run.await.ok().flatten(),
            None => None,
        }
    }
}

/// What a batch gave.
pub(crate) struct Ran<T, R> {
    /// One per request, in order.
    pub steps: Vec<(T, crate::Step<R>)>,
    /// The command, or its first part; or why there is none.
    pub sealed: Result<Option<Sealed>, EpochEnd>,
}

fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    // Only fields are set under this lock.
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M: StateMachine> Epochs<M> {
    pub(crate) fn start(env: &Env, machine: Arc<M>) -> Self {
        let gate = Gate {
            applying: None,
            live: None,
            shut: false,
            shut_in: None,
        };
        let executor: &dyn Executor = if machine.executes_ahead() {
            &*env.executor
        } else {
            &InlineExecutor
        };
        Self {
            writer: Actor::start(executor, "writer", JOBS_MAX, None),
            machine,
            gate: Arc::new(Mutex::new(gate)),
            alive: watch::channel(None).0,
        }
    }

    /// The epoch that lives and isn't ending.
    pub(crate) fn current(&self) -> Option<EpochId> {
        let gate = lock(&self.gate);
        gate.live
            .as_ref()
            .filter(|live| !live.ending)
            .map(|live| live.id)
    }

    /// Begins an epoch on the applied end. False if entries of another term are being applied, or another
    /// epoch lives: the caller looks again at who leads.
    pub(crate) async fn begin(&self, id: EpochId) -> bool {
        let (machine, gate, alive) = (self.machine.clone(), self.gate.clone(), self.alive.clone());
        let lead = move |writer: &mut Writer<M>| {
            let begun = open(&gate, id);
            if begun {
                assert!(writer.is_none(), "invariant 1: one epoch at a time");
                alive.send_replace(Some(id));
                let (epoch, interrupt) = machine.lead(id);
                let parts_left = 0;
                *writer = Some(Living {
                    id,
                    epoch,
                    parts_left,
                });
                led(&gate, interrupt);
            }
            begun
        };
        self.answered(lead).await.unwrap_or(false)
    }

    /// Queues a run in the epoch: `gather` gives the batch when its turn has come, `keyed` tells which replies are kept, and what
    /// was run is sealed. One other run may be queued before it.
    ///
    /// Comes to none if nothing was gathered: the epoch is gone, parts of a set were left, or `gather` gave nothing. An epoch that
    /// has come to its end by itself gathers nothing either, and tells of it.
    pub(crate) fn run<T: Send + 'static, C: Send + 'static>(
        &self,
        id: EpochId,
        gather: impl FnOnce() -> Option<(Vec<(T, M::Request)>, C)> + Send + 'static,
        keyed: fn(&T) -> bool,
    ) -> Running<T, M::Reply, C> {
        let run = move |writer: &mut Writer<M>| {
            let living = living(writer, id).filter(|living| living.parts_left == 0)?;
            living.run(gather, keyed)
        };
        let asked = asked(&self.writer, run);
        Running(asked.map_err(|none| none.assert_ended(FEW_JOBS)).ok())
    }

    /// The next part of the set that the epoch sealed last; or why it never comes.
    pub(crate) async fn next_part(&self, id: EpochId) -> Result<Sealed, EpochEnd> {
        let next = move |writer: &mut Writer<M>| living(writer, id).map(Living::next_part);
        let given = self.answered(next).await.flatten();
        given.unwrap_or(Err(EpochEnd::Interrupted))
    }

    /// Does `job` in the epoch; none if that has ended.
    pub(crate) async fn within<T: Send + 'static>(
        &self,
        id: EpochId,
        job: impl FnOnce(&mut M::Epoch) -> T + Send + 'static,
    ) -> Option<T> {
        let within = move |writer: &mut Writer<M>| Some(job(&mut living(writer, id)?.epoch));
        self.answered(within).await.flatten()
    }

    /// Waits until the epoch `id` is dropped.
    pub(crate) async fn gone(&self, id: EpochId) {
        let mut alive = self.alive.subscribe();
        // The sender is a field of `self`, so this can't end early.
        alive.wait_for(|now| *now != Some(id)).await.ok();
    }

    /// Runs `job` on the writer worker; none if that has ended.
    async fn answered<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Writer<M>) -> T + Send + 'static,
    ) -> Option<T> {
        let ended = |none: NoAnswer| none.assert_ended(FEW_JOBS);
        answered(&self.writer, job).await.map_err(ended).ok()
    }

    /// Ends the epoch `id` if it lives; returns when it is dropped.
    pub(crate) async fn end(&self, id: EpochId) {
        self.end_if(|live| live == id).await;
    }

    /// Ends whatever lives and lets none begin until entries are applied again.
    pub(crate) async fn bar(&self) {
        lock(&self.gate).applying = None;
        self.end_if(|_| true).await;
    }

    /// Ends whatever lives, without waiting for it, and lets none begin until [`reopen`](Self::reopen): this node's state isn't
    /// trusted (invariant 3).
    pub(crate) fn shut(&self) {
        {
            let mut gate = lock(&self.gate);
            gate.shut = true;
            let live = gate.live.as_ref().map(|live| live.id.term);
            gate.shut_in = gate.shut_in.max(gate.applying).max(live);
        }
        self.mark_and_queue(&|_| true);
    }

    /// The state is another one, and trusted.
    pub(crate) fn reopen(&self) {
        lock(&self.gate).shut = false;
    }

    /// Called before entries of `term` are applied (invariant 2).
    pub(crate) async fn keep_only(&self, term: Term) {
        {
            let mut gate = lock(&self.gate);
            gate.applying = Some(term);
            if gate.live.as_ref().is_none_or(|live| live.id.term == term) {
                return;
            }
        }
        self.end_if(|live| live.term != term).await;
    }

    async fn end_if(&self, wanted: impl Fn(EpochId) -> bool) {
        let mut alive = self.alive.subscribe();
        if !self.mark_and_queue(&wanted) {
            return;
        }
        let ended = |now: &Option<EpochId>| now.is_none_or(|id| !wanted(id));
        // The sender is a field of `self`, so this can't end early.
        alive.wait_for(ended).await.ok();
    }

    /// Whether one lives that is wanted; its end is queued.
    fn mark_and_queue(&self, wanted: &impl Fn(EpochId) -> bool) -> bool {
        match mark(&self.gate, wanted) {
            Marked::Nothing => return false,
            Marked::Already => {}
            Marked::Now(interrupt) => {
                if let Some(interrupt) = interrupt {
                    interrupt.interrupt();
                }
                self.queue_end();
            }
        }
        true
    }

    fn queue_end(&self) {
        let (gate, alive) = (self.gate.clone(), self.alive.clone());
        queued(self.writer.send(move |writer| {
            *writer = None;
            lock(&gate).live = None;
            alive.send_replace(None);
        }));
    }

    /// Stops the worker behind what is queued and calls `closed` once the writer is dropped.
    pub(crate) fn close(&self, closed: impl FnOnce() + Send + 'static) {
        self.writer.clone().close(closed);
    }
}

fn queued(sent: Result<(), QueueFull>) {
    assert_eq!(sent, Ok(()), "{FEW_JOBS}");
}

/// Registers the epoch, unless it may not begin.
fn open(gate: &Mutex<Gate>, id: EpochId) -> bool {
    let mut gate = lock(gate);
    let decided = gate.shut_in.is_none_or(|shut| shut < id.term);
    let free = gate.live.is_none() && gate.applying == Some(id.term) && !gate.shut && decided;
    if free {
        gate.live = Some(Live {
            id,
            interrupt: None,
            ending: false,
        });
    }
    free
}

/// Keeps the handle; an end that was asked for while `lead` ran interrupts at once.
fn led(gate: &Mutex<Gate>, interrupt: Box<dyn Interrupt>) {
    let late = {
        let mut gate = lock(gate);
        let live = gate
            .live
            .as_mut()
            .expect("its end is queued behind this job");
        if live.ending {
            Some(interrupt)
        } else {
            live.interrupt = Some(interrupt);
            None
        }
    };
    if let Some(interrupt) = late {
        interrupt.interrupt();
    }
}

enum Marked {
    /// No such epoch lives.
    Nothing,
    /// Somebody else has queued its end.
    Already,
    /// The caller queues it, behind this interrupt. No lock is held meanwhile: the worker may run at once.
    Now(Option<Box<dyn Interrupt>>),
}

fn mark(gate: &Mutex<Gate>, wanted: &impl Fn(EpochId) -> bool) -> Marked {
    let mut gate = lock(gate);
    match gate.live.as_mut().filter(|live| wanted(live.id)) {
        None => Marked::Nothing,
        Some(live) if live.ending => Marked::Already,
        Some(live) => {
            live.ending = true;
            Marked::Now(live.interrupt.take())
        }
    }
}

/// The epoch `id`, if that is the one that lives.
fn living<E>(writer: &mut Option<Living<E>>, id: EpochId) -> Option<&mut Living<E>> {
    writer.as_mut().filter(|living| living.id == id)
}

impl<E: Epoch> Living<E> {
    fn run<T, C>(
        &mut self,
        gather: impl FnOnce() -> Option<(Vec<(T, E::Request)>, C)>,
        keyed: fn(&T) -> bool,
    ) -> Gave<T, E::Reply, C> {
        let epoch = &mut self.epoch;
        if let Some(end) = epoch.ended() {
            let (steps, sealed) = (Vec::new(), Err(end));
            return Some((Ran { steps, sealed }, None));
        }
        let (batch, with) = gather()?;
        let step = |(client, request): (T, E::Request)| {
            let step = if keyed(&client) {
                epoch.run_keyed(request)
            } else {
                epoch.run(request)
            };
            (client, step)
        };
        let steps = batch.into_iter().map(step).collect();
        let ran = sealed(epoch, steps);
        if let Ok(Some(sealed)) = &ran.sealed {
            self.parts_left = sealed.parts_left;
        }
        Some((ran, Some(with)))
    }

    fn next_part(&mut self) -> Result<Sealed, EpochEnd> {
        let part = self.epoch.next_part();
        if let Some(end) = self.epoch.ended() {
            return Err(end);
        }
        let part = part.expect("an epoch that goes on gives the parts that it told of");
        self.parts_left = part.parts_left;
        Ok(part)
    }
}

/// Seals what `steps` took in.
pub(crate) fn sealed<E: Epoch, T>(
    epoch: &mut E,
    steps: Vec<(T, crate::Step<E::Reply>)>,
) -> Ran<T, E::Reply> {
    let sealed = match epoch.ended() {
        Some(end) => Err(end),
        None => {
            let sealed = epoch.seal();
            epoch.ended().map_or(Ok(sealed), Err)
        }
    };
    Ran { steps, sealed }
}
