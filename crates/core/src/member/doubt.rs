//! From doubt to verdict: what a node does whose state may be wrong (safety rule 31).
//!
//! ```text
//!   mismatch with the log, or another node's checksum differs ─► doubt
//!   doubt ─► own pages verified ─► all voters asked at one index ─► judge ─┬─► right: doubt is over
//!             └─ damaged ─────────────────────────────────────► wrong ◄────┘    (open: asked again)
//! ```
//!
//! Asking tells: whoever is asked and differs is in doubt too, so that a leader that is wrong judges itself. A node
//! in doubt goes on as before, because as likely as not it is right; but it sends its state to nobody.

use super::judge::{Case, Evidence, Verdict, judge};
use super::{ClusterMember, Inner, Member, Standing};
use crate::answered::{NoAnswer, answered};
use crate::member::client::{Answer, Ask};
use crate::{LogIndex, MachineError, NodeId, Retry, StateMachine};
use futures_util::future::join_all;
use sqlrep_env::Actor;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// While not all is known, members are asked again this often.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A member that doesn't answer within this time is asked again later.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Who is asked waits this long for the entry.
const APPLY_MAX: Duration = Duration::from_secs(2);

/// The worker's queue: one job at a time.
const JOBS_MAX: usize = 4;

/// How a trial ended.
enum Sentence {
    Right,
    Wrong(String),
    /// It was taken out of service meanwhile.
    Moot,
    /// The leader's state is made with another engine.
    OtherEngine,
}

impl<M: StateMachine> Member<M> {
    /// Takes this node out of service: what it holds can't be trusted, as a reader has found (safety rule 7). It
    /// repairs itself from the leader.
    pub fn distrust(&self, error: &MachineError) {
        self.inner.shared.convict(error.to_string());
    }

    /// Takes this node out of service: it can't read what it holds, which may be right. It repairs itself from the leader;
    /// if there is none that can, it fails, and the next process begins with its log.
    pub fn suspend(&self, error: &MachineError) {
        self.inner.shared.quarantine(error);
    }
}

impl<M: StateMachine> Inner<M> {
    /// Judges this node whenever it is in doubt, and keeps on disk what it was found guilty of.
    pub(super) async fn keep_judging(self: Arc<Self>) {
        let executor = &*self.shared.env.executor;
        let worker = Actor::start(executor, "judge", JOBS_MAX, ());
        let mut doubts = self.shared.doubt.subscribe();
        let mut convictions = self.shared.convicted.subscribe();
        loop {
            // The senders are fields of `shared`.
            tokio::select! {
                biased;
                convicted = convictions.wait_for(Option::is_some) => drop(convicted),
                doubt = doubts.wait_for(Option::is_some) => drop(doubt),
            }
            match self.shared.convicted.send_replace(None) {
                Some(why) => self.keep(&worker, why).await,
                None => self.try_itself(&worker).await,
            }
        }
    }

    /// Writes the conviction down: a restart must not serve this state either.
    async fn keep(&self, worker: &Actor<()>, why: String) {
        let kept = on(worker, {
            let machine = self.shared.machine.clone();
            move || machine.distrust(&why)
        });
        if let Some(Err(error)) = kept.await {
            // It stays out of service all the same, until this process ends.
            tracing::error!(node = %self.shared.node, %error, "that this state is wrong can't be kept");
        }
    }

    async fn try_itself(&self, worker: &Actor<()>) {
        let shared = &self.shared;
        shared.trials.fetch_add(1, Ordering::Relaxed);
        let sentence = match self.verified(worker).await {
            Ok(()) => self.compared().await,
            Err(why) => Sentence::Wrong(why),
        };
        match sentence {
            Sentence::Right => tracing::warn!(node = %shared.node, "this node's state is right"),
            Sentence::Wrong(why) => shared.convict(why),
            Sentence::Moot => {}
            Sentence::OtherEngine => {
                tracing::warn!(node = %shared.node, "the leader runs another engine: its pages are taken over");
                self.repair.want();
            }
        }
        shared.doubt.send_replace(None);
    }

    /// Compares everything durable with what was written; tried again while it can't be read.
    async fn verified(&self, worker: &Actor<()>) -> Result<(), String> {
        loop {
            let machine = self.shared.machine.clone();
            match on(worker, move || machine.verify()).await {
                Some(Err(error)) if error.retry == Retry::Useless => return Err(error.to_string()),
                Some(Err(error)) => {
                    tracing::warn!(node = %self.shared.node, %error, "can't be verified now");
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Some(Ok(())) | None => return Ok(()),
            }
        }
    }

    /// Asks all voters until there is a verdict.
    async fn compared(&self) -> Sentence {
        loop {
            // Asked again and again, the leader would doubt itself again and again, and send nothing meanwhile.
            if self.repair.is_needed() {
                return Sentence::Moot;
            }
            if let Some(sentence) = self.compared_once().await {
                return sentence;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn compared_once(&self) -> Option<Sentence> {
        let machine = &self.shared.machine;
        let index = self.shared.applied.borrow().map(|id| id.index)?;
        let own = machine.checksum_at(index)?;
        let until = Instant::now() + ANSWER_MAX;
        let answers = self.all_asked(|member| member.voter, index, own, until);
        let answers = answers.await;
        let leader = Standing::of(&self.raft).leader;
        let checksum = |evidence: &Option<Evidence>| evidence.and_then(|known| known.checksum);
        let case = Case {
            own,
            voters: answers
                .iter()
                .filter(|(_, known)| known.is_none_or(|known| known.trusted))
                .map(|(voter, known)| (*voter, checksum(known)))
                .collect(),
            leader,
        };
        let told = |what| format!("its checksum at entry {index} is {own:016x}, {what}");
        let engine = leader.and_then(|leader| answers.get(&leader).copied().flatten());
        let other_engine = engine.is_some_and(|known| known.engine != machine.engine());
        let verdict = judge(&case);
        tracing::error!(node = %self.shared.node, %index, ?case, ?verdict, "states were compared");
        Some(match verdict {
            Verdict::Open => return None,
            Verdict::Right => Sentence::Right,
            Verdict::Outvoted | Verdict::Unlike if other_engine => Sentence::OtherEngine,
            Verdict::Outvoted => Sentence::Wrong(told("most voters have another one")),
            Verdict::Unlike => {
                Sentence::Wrong(told("no majority agrees and the leader has another one"))
            }
        })
    }

    /// What the `wanted` members have at `index`, where this node has `own`; none of who doesn't answer.
    pub(super) async fn all_asked(
        &self,
        wanted: impl Fn(&ClusterMember) -> bool,
        index: LogIndex,
        own: u64,
        until: Instant,
    ) -> BTreeMap<NodeId, Option<Evidence>> {
        let cluster = self.cluster_now();
        let wanted = cluster.members.iter().filter(|(_, member)| wanted(member));
        let asked =
            wanted.map(async |(node, _)| (*node, self.asked(*node, index, own, until).await));
        join_all(asked).await.into_iter().collect()
    }

    async fn asked(
        &self,
        node: NodeId,
        index: LogIndex,
        own: u64,
        until: Instant,
    ) -> Option<Evidence> {
        if node == self.shared.node {
            return Some(self.own_evidence(index));
        }
        let ask = Ask::Compare {
            index,
            checksum: own,
        };
        match self.call(node, ask, until).await {
            Ok(Answer::Compared(evidence)) => Some(evidence),
            _ => None,
        }
    }

    pub(super) fn own_evidence(&self, index: LogIndex) -> Evidence {
        let shared = &self.shared;
        let trusted = !shared.is_out_of_service();
        Evidence {
            checksum: shared.machine.checksum_at(index).filter(|_| trusted),
            trusted,
            engine: shared.machine.engine(),
        }
    }

    /// What another member is told, which has `theirs` at `index`.
    pub(super) async fn evidence(&self, from: NodeId, index: LogIndex, theirs: u64) -> Evidence {
        let mut applied = self.shared.applied.subscribe();
        let there = applied.wait_for(|id| id.is_some_and(|id| id.index >= index));
        // Late: then there is no checksum to tell.
        tokio::time::timeout(APPLY_MAX, there).await.ok();
        let evidence = self.own_evidence(index);
        if let Some(own) = evidence.checksum
            && own != theirs
        {
            let why = format!(
                "at entry {index} its checksum is {own:016x}, node {from} has {theirs:016x}"
            );
            self.shared.doubt(why);
        }
        evidence
    }
}

/// Runs `job` on the worker; none if the worker has ended.
async fn on<T: Send + 'static>(
    worker: &Actor<()>,
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let ended = |none: NoAnswer| none.assert_ended("one job at a time");
    answered(worker, move |()| job()).await.map_err(ended).ok()
}
