//! The proposer's side: one client's transaction from its turn in the line to its end.

use super::{Call, Grant, Proposed};
use crate::member::proposer::{ClientOf, GrantOf, Proposer, Waiting};
use crate::member::queue::Wish;
use crate::member::standing::{Standing, lost};
use crate::member::{Ran, epochs};
use crate::{
    Closing, Epoch, EpochEnd, EpochId, Interactive, Interrupt, StateMachine, Step, Stepped,
    WriteError,
};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

type CallOf<M> = Call<<M as StateMachine>::Request, <M as StateMachine>::Reply>;
type RanOf<M> = Ran<Waiting<M>, <M as StateMachine>::Reply>;
type Begun = Result<Arc<dyn Interrupt>, WriteError>;

/// What an epoch did, and why it has come to its end if it has.
type Did<T> = (T, Option<EpochEnd>);

/// What a commit came to in the epoch.
enum Closed<R, Run> {
    Open(R),
    Over(Run),
}

impl<M: StateMachine> Proposer<M> {
    /// Gives the epoch to whoever wished for it, until the transaction is over. Taking it back comes behind everything else.
    pub(in crate::member) async fn lend(
        &mut self,
        slot: OwnedSemaphorePermit,
        epoch: EpochId,
        wish: Wish<GrantOf<M>>,
    ) {
        let Wish { base, to } = wish;
        // Whoever is gone by now wants neither the writer nor a word.
        let interrupt = match self.begin_in(epoch, base).await {
            Ok(interrupt) => interrupt,
            Err(error) => return drop(to.send(Err(error))),
        };
        match self.confirmed(epoch).await {
            Ok(()) => self.grant(slot, epoch, to, interrupt).await,
            Err(error) => drop(to.send(Err(error))),
        }
        self.take_back(epoch).await;
    }

    async fn grant(
        &mut self,
        slot: OwnedSemaphorePermit,
        epoch: EpochId,
        to: oneshot::Sender<Result<GrantOf<M>, WriteError>>,
        interrupt: Arc<dyn Interrupt>,
    ) {
        let (line, calls) = mpsc::channel(1);
        let (over, heard) = watch::channel(None);
        let grant = Grant {
            line,
            interrupt: interrupt.clone(),
            over: heard,
        };
        // One that is gone has dropped its end of the line: it is served no call.
        drop(to.send(Ok(grant)));
        let end = self.serve(slot, epoch, calls, interrupt).await;
        over.send_replace(Some(end));
    }

    async fn begin_in(&self, epoch: EpochId, base: Option<u64>) -> Begun {
        let begun = self.step_in(epoch, move |it| it.begin(base)).await;
        let none = || match self.shared.epochs.current() == Some(epoch) {
            true => WriteError::Unsupported {
                what: "in this mode nobody has the writer for itself".to_owned(),
            },
            false => self.why(),
        };
        begun.unwrap_or_else(|| Err(none()))
    }

    /// Invariant 2 of `reserve`.
    async fn confirmed(&self, epoch: EpochId) -> Result<(), WriteError> {
        let stands = self.stands(epoch);
        tokio::select! {
            biased;
            error = self.cut(epoch) => Err(error),
            stands = stands => stands.then_some(()).ok_or(WriteError::NotDone),
        }
    }

    /// Does what the client asks for; why it can ask no more.
    async fn serve(
        &mut self,
        slot: OwnedSemaphorePermit,
        epoch: EpochId,
        mut calls: mpsc::Receiver<CallOf<M>>,
        interrupt: Arc<dyn Interrupt>,
    ) -> WriteError {
        loop {
            let call = tokio::select! {
                biased;
                error = self.cut(epoch) => return error,
                call = calls.recv() => call,
            };
            match call {
                // Nobody hears of it.
                None => return WriteError::NotDone,
                Some(Call::Run(request, to)) => {
                    let ran = self.run_in(epoch, request, &*interrupt).await;
                    let end = match &ran {
                        Ok(stepped) if stepped.open => None,
                        Ok(_) => Some(WriteError::NotDone),
                        Err(error) => Some(error.clone()),
                    };
                    // Whoever is gone is seen in the next turn.
                    to.send(ran).ok();
                    if let Some(end) = end {
                        return end;
                    }
                }
                Some(Call::Commit(to)) => match self.close(epoch).await {
                    Err(error) => {
                        to.send(Err(error.clone())).ok();
                        return error;
                    }
                    Ok((Closed::Open(reply), _)) => drop(to.send(Ok(Proposed::Open(reply)))),
                    Ok((Closed::Over(ran), outcome)) => {
                        // It is committed, whoever waits for it.
                        to.send(Ok(Proposed::Under(outcome))).ok();
                        let none = self.shared.in_flight.claims();
                        self.propose(slot, epoch, ran, none).await;
                        return WriteError::NotDone;
                    }
                },
            }
        }
    }

    async fn run_in(
        &self,
        epoch: EpochId,
        request: M::Request,
        interrupt: &dyn Interrupt,
    ) -> Result<Stepped<M::Reply>, WriteError> {
        let running = self.step_in(epoch, move |it| it.step(request));
        tokio::pin!(running);
        tokio::select! {
            biased;
            ran = &mut running => ran.unwrap_or_else(|| Err(self.why())),
            error = self.cut(epoch) => {
                interrupt.interrupt();
                // Whatever it came to, it isn't told.
                drop(running.await);
                Err(error)
            }
        }
    }

    async fn close(
        &self,
        epoch: EpochId,
    ) -> Result<
        (
            Closed<M::Reply, RanOf<M>>,
            oneshot::Receiver<crate::member::proposer::AnswerOf<M>>,
        ),
        WriteError,
    > {
        if self.shared.log.is_full() {
            return Err(WriteError::DiskFull);
        }
        let (client, outcome) = oneshot::channel();
        let closed = self
            .shared
            .epochs
            .within(epoch, |it| closed::<M>(it, client));
        let closed = closed.await.flatten().ok_or_else(|| self.why())?;
        Ok((closed, outcome))
    }

    async fn take_back(&self, epoch: EpochId) {
        // Nothing is left of an epoch that has ended.
        let _gone = self.step_in(epoch, |it| it.roll_back()).await;
    }

    /// A step in the epoch; none if that has ended, or its mode knows none.
    async fn step_in<T: Send + 'static>(
        &self,
        epoch: EpochId,
        step: impl FnOnce(&mut dyn Interactive<Request = M::Request, Reply = M::Reply>) -> T
        + Send
        + 'static,
    ) -> Option<T> {
        let job = move |it: &mut M::Epoch| -> Option<Did<T>> {
            let did = step(it.interactive()?);
            Some((did, it.ended()))
        };
        let (did, end) = self.shared.epochs.within(epoch, job).await.flatten()?;
        if let Some(end) = end {
            self.give_up(epoch, end, Vec::new()).await;
        }
        Some(did)
    }

    /// Waits until no transaction may go on in this epoch, and tells why: the leadership is lost or handed over, or the epoch has
    /// ended.
    async fn cut(&self, epoch: EpochId) -> WriteError {
        tokio::select! {
            biased;
            () = lost(&self.raft, epoch.node, epoch.term) => {}
            () = self.queue.held() => {}
            () = self.shared.epochs.gone(epoch) => {}
        }
        self.why()
    }

    fn why(&self) -> WriteError {
        let leader = Standing::of(&self.raft).leader;
        let leader = leader.filter(|leader| *leader != self.shared.node);
        WriteError::NotLeader { leader }
    }
}

/// Commits and seals.
fn closed<M: StateMachine>(
    epoch: &mut M::Epoch,
    client: ClientOf<M>,
) -> Option<Closed<M::Reply, RanOf<M>>> {
    Some(match epoch.interactive()?.commit() {
        Closing::Open(reply) => Closed::Open(reply),
        Closing::Over(step) => {
            let steps: Vec<(Waiting<M>, Step<M::Reply>)> = vec![((client, None), step)];
            Closed::Over(epochs::sealed(epoch, steps))
        }
    })
}
