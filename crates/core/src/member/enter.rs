//! Belonging to a cluster: every node starts as a member with an empty log, then enters.
//!
//! ```text
//!   known here? ── yes ─► do the addresses lead to another cluster? ─ no ─► announce what changed ─► done
//!        │                       └─ yes ─► refused
//!        └─ no ─► greet all addresses ─► judge ─► form | join | wait and greet again | refused
//! ```
//!
//! It doesn't keep what the node was started with: each start says it anew.

use crate::member::change::{Change, HOPS, asked};
use crate::member::client::Answer;
use crate::member::founding::{Terms, Verdict, judge, misplaced};
use crate::member::greet::{ask_at, greet_all};
use crate::member::membership::{other_directory, votes};
use crate::member::{Genesis, Inner, Member, Side, Undone};
use crate::{MemberError, NodeId, Peer, StateMachine};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Between two rounds of greetings.
const GREET_AGAIN: Duration = Duration::from_millis(500);

/// What is in the way for longer than this is a warning: nodes of a new cluster are rarely started at once.
const QUIET: Duration = Duration::from_secs(10);

/// A member that was asked to let this node in is given this long at once.
const JOIN_MAX: Duration = Duration::from_secs(10);

/// How a node gets into a cluster; all nodes of a new one are started with the same plan but for `own`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapPlan {
    /// This node, and where the others reach it.
    pub own: (NodeId, Peer),
    /// Raft addresses of nodes to greet; its own may be among them. Empty: this node is a cluster by itself.
    pub join: Vec<String>,
    /// Forms a cluster once so many nodes, named by `join`, are there. None: joins an existing one only.
    pub expect: Option<u32>,
    /// False for a read replica.
    pub voter: bool,
    /// The cluster's mode; all members have the same.
    pub mode: String,
    /// The cluster's settings, opaque to `core`. Empty for a node that takes what the cluster has.
    pub settings: Bytes,
    /// How long to try.
    pub wait_max: Duration,
}

/// How this node came to belong to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entered {
    /// It did before.
    Belonged,
    /// It formed it, alone or with others.
    Formed,
    /// It was taken in.
    Joined,
}

impl<M: StateMachine> Member<M> {
    /// Runs until this node belongs to a cluster: it did already, forms one, or joins one. Unreachable
    /// addresses are tried again; that at most one cluster is formed doesn't depend on any clock.
    ///
    /// # Errors
    ///
    /// [`MemberError::Settings`] for a plan that contradicts itself, [`MemberError::Refused`] for what doesn't
    /// heal by waiting, both naming what to do, [`MemberError::Disagrees`] for other settings than the cluster's. [`MemberError::Timeout`] after `wait_max`; a node that belonged
    /// before and couldn't announce where it is now gets it or [`MemberError::NotLeader`], and is a member all
    /// the same.
    pub async fn enter(&self, plan: BootstrapPlan) -> Result<Entered, MemberError> {
        let inner = &self.inner;
        plan.check(inner.shared.node, &inner.shared.directory)?;
        plan.check_genesis(inner.founding.as_ref())?;
        inner.operation.terms.send_replace(Some(plan.terms()));
        let mut entry = Entry {
            inner,
            since: Instant::now(),
            waits_for: String::new(),
            warned: false,
            formed: false,
            let_in: false,
            plan,
        };
        Box::pin(entry.run()).await
    }
}

impl BootstrapPlan {
    fn check(&self, node: NodeId, directory: &crate::DirectoryId) -> Result<(), MemberError> {
        let wrong = |what: String| Err(MemberError::Settings { what });
        let (own, peer) = &self.own;
        if *own != node || peer.directory != *directory {
            return wrong(format!(
                "the plan is that of node {own}, this is node {node}"
            ));
        }
        let mut named = BTreeSet::new();
        if let Some(twice) = self.join.iter().find(|address| !named.insert(*address)) {
            return wrong(format!(
                "address {twice} stands twice in the addresses to join"
            ));
        }
        let only_own = self.join.iter().all(|address| *address == peer.raft);
        match self.expect {
            None if only_own && !self.join.is_empty() => wrong(
                "the only address to join is this node's own: name others, or expect 1 node".to_owned(),
            ),
            None => Ok(()),
            Some(0) => wrong("0 nodes are expected, it has to be at least 1".to_owned()),
            Some(_) if !self.voter => wrong(
                "a read replica doesn't take part in forming a cluster: start it without a number of expected nodes"
                    .to_owned(),
            ),
            Some(expect) => {
                let own = usize::from(!named.contains(&peer.raft));
                let (least, most) = (self.join.len(), self.join.len() + own);
                if (least..=most).contains(&(expect as usize)) {
                    return Ok(());
                }
                wrong(format!(
                    "{expect} nodes are expected, and {most} are named, this one included"
                ))
            }
        }
    }

    /// Whoever may form a cluster has a name for it, and the settings it is formed with.
    fn check_genesis(&self, genesis: Option<&Genesis>) -> Result<(), MemberError> {
        let forms = self.join.is_empty() || self.expect.is_some();
        let fits = genesis.is_some_and(|genesis| genesis.settings == self.settings);
        if fits || !forms {
            return Ok(());
        }
        let what = "a node that may form a cluster brings a name and the plan's settings for it"
            .to_owned();
        Err(MemberError::Settings { what })
    }

    fn terms(&self) -> Terms {
        Terms {
            peer: self.own.1.clone(),
            mode: self.mode.clone(),
            settings: self.settings.clone(),
            expect: self.expect,
            seen: BTreeSet::new(),
        }
    }

    fn change(&self) -> Change {
        let (node, peer) = self.own.clone();
        let voter = self.voter;
        Change::Join { node, peer, voter }
    }

    fn is_alone(&self) -> bool {
        let own = &self.own.1.raft;
        self.join.iter().all(|address| address == own) && self.expect.unwrap_or(1) == 1
    }
}

/// One way into a cluster.
struct Entry<'a, M: StateMachine> {
    inner: &'a Inner<M>,
    plan: BootstrapPlan,
    since: Instant,
    /// Told once, and once more when it has lasted.
    waits_for: String,
    warned: bool,
    formed: bool,
    let_in: bool,
}

impl<M: StateMachine> Entry<'_, M> {
    async fn run(&mut self) -> Result<Entered, MemberError> {
        if let Some(known) = self.known() {
            self.in_its_place().await?;
            return self.announce(&known).await.map(|()| Entered::Belonged);
        }
        let fresh = self.inner.greeting().empty;
        if fresh && self.plan.is_alone() {
            let own = BTreeMap::from([self.plan.own.clone()]);
            self.form(own).await?;
        }
        loop {
            if self.belongs() {
                return Ok(match fresh {
                    true if self.formed => Entered::Formed,
                    true => Entered::Joined,
                    false => Entered::Belonged,
                });
            }
            self.in_time()?;
            if !self.formed && !self.let_in {
                self.step().await?;
            }
            self.pause().await;
        }
    }

    fn in_time(&self) -> Result<(), MemberError> {
        let waited = self.since.elapsed();
        if waited < self.plan.wait_max {
            return Ok(());
        }
        let why = &self.waits_for;
        tracing::warn!(node = %self.plan.own.0, %why, "belongs to no cluster yet");
        Err(MemberError::Timeout { waited })
    }

    /// Whether it is a member as it is meant to be, and has applied it.
    fn belongs(&self) -> bool {
        let side = self.inner.shared.side.borrow();
        is_member(&side, &self.plan)
    }

    /// How the applied members know this node.
    fn known(&self) -> Option<Peer> {
        let side = self.inner.shared.side.borrow();
        side.members.peers.get(&self.plan.own.0).cloned()
    }

    /// The cluster of this directory is the one that its addresses lead to, as far as they answer now.
    async fn in_its_place(&self) -> Result<(), MemberError> {
        let heard = greet_all(&*self.inner.transport, &self.addresses()).await;
        match misplaced(&self.inner.greeting(), &heard) {
            Some(what) => Err(MemberError::Refused { what }),
            None => Ok(()),
        }
    }

    /// Tells the leader what has changed since this node was last here.
    async fn announce(&self, known: &Peer) -> Result<(), MemberError> {
        let (node, own) = &self.plan.own;
        if known.directory != own.directory {
            let what = other_directory(*node, known, own);
            return Err(MemberError::Refused { what });
        }
        let promoted = !self.plan.voter || votes(&self.inner.shared.side.borrow().members, *node);
        self.agrees()?;
        if known == own && promoted {
            return Ok(());
        }
        self.inner
            .change(self.plan.change(), self.plan.wait_max)
            .await
    }

    /// What the cluster agreed on counts (safety rule 36).
    fn agrees(&self) -> Result<(), MemberError> {
        let side = self.inner.shared.side.borrow();
        let agreed = self.plan.settings.is_empty() || self.plan.settings == side.settings;
        if agreed || side.cluster.0 == 0 {
            return Ok(());
        }
        Err(MemberError::Disagrees {
            with: "its cluster".to_owned(),
            settings: side.settings.clone(),
        })
    }

    async fn form(&mut self, members: BTreeMap<NodeId, Peer>) -> Result<(), MemberError> {
        tracing::info!(node = %self.plan.own.0, members = members.len(), "forms a cluster");
        self.inner.form(members).await?;
        self.formed = true;
        Ok(())
    }

    /// Greets, and does what follows.
    async fn step(&mut self) -> Result<(), MemberError> {
        let heard = greet_all(&*self.inner.transport, &self.addresses()).await;
        let found = heard.iter().filter_map(|heard| heard.said.as_ref().ok());
        let mut seen: BTreeSet<_> = found.map(|greeting| greeting.directory).collect();
        seen.insert(self.inner.shared.directory);
        let terms = Terms {
            seen,
            ..self.plan.terms()
        };
        self.inner.operation.terms.send_replace(Some(terms.clone()));
        match judge(&self.inner.greeting(), &terms, &heard) {
            Verdict::Refused(what) => Err(MemberError::Refused { what }),
            Verdict::Disagrees(address, settings) => Err(MemberError::Disagrees {
                with: format!("the node at {address}"),
                settings,
            }),
            Verdict::Form(members) => self.form(members).await,
            Verdict::Join(address) => self.ask_in(&address).await,
            Verdict::Wait(why) => {
                self.tell(why);
                Ok(())
            }
        }
    }

    /// Where to ask: the plan's addresses but this node's own, and those of the members it knows.
    fn addresses(&self) -> Vec<String> {
        let (node, own) = &self.plan.own;
        let side = self.inner.shared.side.borrow();
        let known = side.members.peers.iter().filter(|(id, _)| *id != node);
        let known = known.map(|(_, peer)| peer.raft.clone());
        let mut all: Vec<String> = self.plan.join.clone();
        all.extend(known.filter(|address| !self.plan.join.contains(address)));
        all.retain(|address| *address != own.raft);
        all
    }

    async fn ask_in(&mut self, address: &str) -> Result<(), MemberError> {
        let deadline = Instant::now() + JOIN_MAX;
        let ask = asked(self.plan.change(), deadline, HOPS);
        let why = match ask_at(&*self.inner.transport, address, ask, deadline).await {
            Ok(Answer::Changed(Ok(()))) => {
                self.let_in = true;
                return Ok(());
            }
            Ok(Answer::Changed(Err(Undone::Refused { what }))) => {
                return Err(MemberError::Refused { what });
            }
            Ok(Answer::Changed(Err(undone))) => undone.error().to_string(),
            Ok(_) => "it answered something else".to_owned(),
            Err(error) => error.to_string(),
        };
        self.tell(format!("the member at {address} couldn't let it in: {why}"));
        Ok(())
    }

    fn tell(&mut self, why: String) {
        let node = self.plan.own.0;
        if self.waits_for == why && (self.warned || self.since.elapsed() < QUIET) {
            return;
        }
        self.warned = self.since.elapsed() >= QUIET;
        if self.warned {
            tracing::warn!(%node, %why, "belongs to no cluster yet");
        } else {
            tracing::info!(%node, %why, "belongs to no cluster yet");
        }
        self.waits_for = why;
    }

    /// Until it is time for the next round, or the log says that this node is a member.
    async fn pause(&self) {
        let mut side = self.inner.shared.side.subscribe();
        let member = side.wait_for(|side| is_member(side, &self.plan));
        // Either way it is looked at again.
        drop(tokio::time::timeout(GREET_AGAIN, member).await);
    }
}

fn is_member(side: &Side, plan: &BootstrapPlan) -> bool {
    let (node, own) = &plan.own;
    let known = side.members.peers.get(node);
    let is_known = known.is_some_and(|known| known.directory == own.directory);
    is_known && (!plan.voter || votes(&side.members, *node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DirectoryId;

    fn node() -> NodeId {
        NodeId::new(1).unwrap()
    }

    fn plan(join: &[&str], expect: Option<u32>) -> BootstrapPlan {
        let peer = Peer {
            raft: "a".to_owned(),
            ..Peer::default()
        };
        BootstrapPlan {
            own: (node(), peer),
            join: join.iter().map(|address| (*address).to_owned()).collect(),
            expect,
            voter: true,
            mode: "list".to_owned(),
            settings: Bytes::new(),
            wait_max: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_plan_that_contradicts_itself_is_refused_by_name() {
        let check = |plan: BootstrapPlan| plan.check(node(), &DirectoryId::default());
        let wrong = |plan: BootstrapPlan, part: &str| {
            let error = check(plan).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        wrong(plan(&["b", "b"], None), "b stands twice");
        wrong(plan(&["a"], None), "this node's own");
        wrong(plan(&["a", "b"], Some(3)), "2 are named");
        wrong(plan(&["a", "b", "c"], Some(2)), "3 are named");
        wrong(plan(&[], Some(0)), "at least 1");
        let replica = BootstrapPlan {
            voter: false,
            ..plan(&["a", "b"], Some(2))
        };
        wrong(replica, "read replica");
        for right in [
            plan(&[], None),
            plan(&[], Some(1)),
            plan(&["a"], Some(1)),
            plan(&["b"], None),
            plan(&["b", "c"], Some(3)),
            plan(&["a", "b", "c"], Some(3)),
        ] {
            assert_eq!(check(right).map_err(|error| error.to_string()), Ok(()));
        }
        assert!(plan(&["a"], Some(1)).is_alone() && !plan(&["b"], None).is_alone());
    }
}
