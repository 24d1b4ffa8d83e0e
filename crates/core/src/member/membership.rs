//! Who belongs to the cluster, changed on the leader, one change at a time.
//!
//! ```text
//!   join:    learner ─► caught up (a round shorter than an election timeout) ─► voter
//!   remove:  leader? ─ yes ─► transfer ─► the new leader removes it
//!                └──── no ──► joint consensus without it ─► out of the members
//! ```
//!
//! Invariant 1: one change runs at a time, from its first entry to its last, even if nobody waits for it any more.
//! A learner that catches up holds up no other change.
//! Invariant 2: a node id stays with its data directory: another directory under a known id has lost or copied
//! the disk that voted, and is refused. A directory moves to another address only if nobody runs on it at the known one.
//! Invariant 3: the last voter stays, and no voter is removed if too few of the others answer to go on.

use crate::member::change::{Change, LOOK_AGAIN, Undone};
use crate::member::founding::Greeting;
use crate::member::greet::greet_all;
use crate::member::{Inner, Member, Standing};
use crate::raft::{Members, TypeConfig, entry_id, node_id};
use crate::{EntryId, MemberError, NodeId, Peer, StateMachine};
use openraft::ChangeMembers;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

/// The longest address that is taken in.
const ADDRESS_BYTES_MAX: usize = 512;

/// The most members of a cluster.
const MEMBERS_MAX: usize = 256;

type Changes = ChangeMembers<u64, Peer>;
type Changed =
    Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

/// Held while a change runs.
pub(super) type Turn = Arc<OwnedSemaphorePermit>;

impl<M: StateMachine> Member<M> {
    /// Makes `node`, which runs at `peer`, a member: a learner first, a voter once it has caught up unless
    /// `voter` is false. May be asked on any member. A known node with the same directory is at these
    /// addresses from now on; a voter stays one.
    ///
    /// # Errors
    ///
    /// [`MemberError::Refused`] if the id belongs to another directory, or the directory or an address to
    /// another id, or if the directory is in use at its known address too. [`MemberError::NotLeader`] and [`MemberError::Timeout`] if it wasn't finished in
    /// `wait_max`; asking again goes on where it was.
    pub async fn join(
        &self,
        node: NodeId,
        peer: Peer,
        voter: bool,
        wait_max: Duration,
    ) -> Result<(), MemberError> {
        let change = Change::Join { node, peer, voter };
        Box::pin(self.inner.change(change, wait_max)).await
    }

    /// Takes `node` out of the cluster; nothing happens if it isn't in it. May be asked on any member. A
    /// leader hands over first. The removed node isn't told by Raft; it finds out by itself.
    ///
    /// # Errors
    ///
    /// [`MemberError::Refused`] if no voter would be left, or too few that answer.
    /// [`MemberError::NotLeader`] and [`MemberError::Timeout`] if it wasn't finished in `wait_max`.
    pub async fn remove(&self, node: NodeId, wait_max: Duration) -> Result<(), MemberError> {
        let change = Change::Remove { node };
        Box::pin(self.inner.change(change, wait_max)).await
    }
}

/// What a join has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    New,
    Moved,
    Known,
}

/// Invariant 2.
fn admit(members: &Members, node: NodeId, peer: &Peer) -> Result<Admission, Undone> {
    let long = peer.raft.len().max(peer.http.len());
    if long > ADDRESS_BYTES_MAX {
        return Err(Undone::refused(format!(
            "an address of {long} bytes, the limit is {ADDRESS_BYTES_MAX}"
        )));
    }
    if let Some(known) = members.peers.get(&node)
        && known.directory != peer.directory
    {
        return Err(Undone::refused(other_directory(node, known, peer)));
    }
    for (other, known) in members.peers.iter().filter(|(other, _)| **other != node) {
        if known.directory == peer.directory {
            return Err(Undone::refused(format!(
                "data directory {} belongs to node {other} at {known}, it can't be node {node} as well: \
                 start it with node id {other}, or with an empty data directory",
                peer.directory
            )));
        }
        if known.raft == peer.raft {
            return Err(Undone::refused(format!(
                "address {known} belongs to node {other}: give node {node} another one, or remove node {other} first"
            )));
        }
    }
    match members.peers.get(&node) {
        Some(known) if known == peer => Ok(Admission::Known),
        Some(_) => Ok(Admission::Moved),
        None if members.peers.len() >= MEMBERS_MAX => Err(Undone::refused(format!(
            "the cluster has {MEMBERS_MAX} members, that is the limit"
        ))),
        None => Ok(Admission::New),
    }
}

/// What to tell a node that comes back under a known id with another disk.
pub(super) fn other_directory(node: NodeId, known: &Peer, peer: &Peer) -> String {
    format!(
        "node {node} is known to the cluster with data directory {}, at {known}; this is data directory {}. If node \
         {node} runs elsewhere, choose another node id. If it has lost its disk, it must not come back under \
         its old id: remove node {node} from the cluster on another member, then start this one under a new id",
        known.directory, peer.directory
    )
}

pub(super) fn votes(members: &Members, node: NodeId) -> bool {
    members.voters.iter().any(|set| set.contains(&node))
}

impl<M: StateMachine> Inner<M> {
    /// Waits until no change runs.
    pub(super) async fn turn(&self) -> Turn {
        let turn = self.operation.changes.clone().acquire_owned().await;
        Arc::new(turn.expect("nobody closes it"))
    }

    pub(super) async fn join_here(
        &self,
        node: NodeId,
        peer: Peer,
        voter: bool,
    ) -> Result<(), Undone> {
        let turn = self.turn().await;
        self.settle(&turn).await?;
        let peers = BTreeMap::from([(node.get(), peer.clone())]);
        match admit(&self.members(), node, &peer)? {
            Admission::Known => {}
            Admission::New => {
                let added = self.commit(ChangeMembers::AddNodes(peers), true, &turn);
                added.await?;
            }
            Admission::Moved => {
                self.not_a_copy(node, &peer).await?;
                let moved = self.commit(ChangeMembers::SetNodes(peers), true, &turn);
                moved.await?;
            }
        }
        if !voter || votes(&self.members(), node) {
            return Ok(());
        }
        drop(turn);
        self.caught_up(node).await?;
        self.promote(node).await
    }

    async fn promote(&self, node: NodeId) -> Result<(), Undone> {
        let turn = self.turn().await;
        self.settle(&turn).await?;
        if !votes(&self.members(), node) {
            let ids = BTreeSet::from([node.get()]);
            let promoted = self.commit(ChangeMembers::AddVoterIds(ids), true, &turn);
            promoted.await?;
        }
        Ok(())
    }

    /// Refuses a node that moves to `peer` while another process still runs on the same data directory under the
    /// address that is known: one of the two directories is a copy, and both together would vote twice.
    async fn not_a_copy(&self, node: NodeId, peer: &Peer) -> Result<(), Undone> {
        let known = self.members().peers.get(&node).cloned();
        let Some(known) = known.filter(|known| known.raft != peer.raft) else {
            return Ok(());
        };
        let there = if node == self.shared.node {
            self.greeting().terms
        } else {
            let addresses = [known.raft.clone()];
            let heard = greet_all(&*self.transport, &addresses).await;
            let said = heard.into_iter().find_map(|heard| heard.said.ok());
            let same = |greeting: &Greeting| greeting.directory == peer.directory;
            said.filter(same).and_then(|greeting| greeting.terms)
        };
        match there {
            Some(terms) if terms.peer.raft != peer.raft => Err(Undone::refused(format!(
                "node {node} runs at {known} on data directory {} already, and the same is started at {peer}: the \
                 directory was copied; stop one of the two and delete its directory, then let it join with an empty \
                 one and a new node id",
                peer.directory
            ))),
            _ => Ok(()),
        }
    }

    pub(super) async fn remove_here(&self, node: NodeId) -> Result<(), Undone> {
        let turn = self.turn().await;
        self.settle(&turn).await?;
        let members = self.members();
        let ids = BTreeSet::from([node.get()]);
        if !members.peers.contains_key(&node) {
            return Ok(());
        }
        if !votes(&members, node) {
            let removed = self.commit(ChangeMembers::RemoveNodes(ids), false, &turn);
            return removed.await;
        }
        self.can_spare(node, &members).await?;
        if node == self.shared.node {
            self.hand_leadership(None).await?;
            let leader = Standing::of(&self.raft).leader;
            return Err(Undone::NotLeader { leader });
        }
        let removed = self.commit(ChangeMembers::RemoveVoters(ids), false, &turn);
        removed.await
    }

    /// Ends a change of voters that a former leader left half done.
    async fn settle(&self, turn: &Turn) -> Result<(), Undone> {
        if self.members().voters.len() < 2 {
            return Ok(());
        }
        let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
        self.commit(nothing, false, turn).await
    }

    /// Makes a change, and waits until it is seen in what Raft publishes: whoever looks behind it doesn't find the members of before.
    ///
    /// Invariant 1: the change goes on in a task of its own if the caller is gone.
    async fn commit(&self, changes: Changes, retain: bool, turn: &Turn) -> Result<(), Undone> {
        loop {
            let (sender, receiver) = oneshot::channel();
            let (raft, turn, changes) = (self.raft.clone(), turn.clone(), changes.clone());
            self.tasks.spawn(async move {
                let changed = Box::pin(raft.change_membership(changes, retain)).await;
                // Whoever asked may have given up.
                sender.send(verdict(changed)).ok();
                drop(turn);
            });
            match receiver.await {
                Ok(Verdict::Made(at)) => return self.seen(at).await,
                Ok(Verdict::Busy) => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(Verdict::Undone(undone)) => return Err(undone),
                Err(_stopped) => return Err(Undone::NotLeader { leader: None }),
            }
        }
    }

    async fn seen(&self, change: EntryId) -> Result<(), Undone> {
        let mut changes = self.raft.metrics();
        loop {
            let shown = changes.borrow_watched().membership_config.clone();
            if shown.log_id().as_ref().map(entry_id) >= Some(change) {
                return Ok(());
            }
            if changes.changed().await.is_err() {
                return Err(Undone::NotLeader { leader: None });
            }
        }
    }

    /// Waits until `node` has what the log held a moment ago: the last round took less than an election
    /// timeout, so that its vote doesn't hold up the others.
    async fn caught_up(&self, node: NodeId) -> Result<(), Undone> {
        let quick = Duration::from_millis(self.shared.settings.election_timeout_min_ms);
        loop {
            let begun = Instant::now();
            self.matches_last(node).await?;
            if begun.elapsed() <= quick {
                return Ok(());
            }
        }
    }

    /// Waits until `node` is known to hold everything this leader's log holds now.
    pub(super) async fn matches_last(&self, node: NodeId) -> Result<(), Undone> {
        let last = self.shared.log.state().last;
        let mut changes = self.raft.metrics();
        loop {
            self.still_leads()?;
            if !self.members().peers.contains_key(&node) {
                let what = format!("node {node} was removed meanwhile");
                return Err(Undone::refused(what));
            }
            {
                let metrics = self.raft.metrics();
                let metrics = metrics.borrow_watched();
                let all = metrics.replication.as_ref();
                let matched = all.and_then(|all| all.get(&node.get()));
                if matched.is_some_and(|id| id.as_ref().map(entry_id) >= last) {
                    return Ok(());
                }
            }
            if changes.changed().await.is_err() {
                return Err(Undone::NotLeader { leader: None });
            }
        }
    }

    pub(super) fn still_leads(&self) -> Result<(), Undone> {
        let standing = Standing::of(&self.raft);
        match standing.leads(self.shared.node) {
            Some(_) => Ok(()),
            None => Err(Undone::NotLeader {
                leader: standing.leader.filter(|leader| *leader != self.shared.node),
            }),
        }
    }

    /// Invariant 3.
    async fn can_spare(&self, node: NodeId, members: &Members) -> Result<(), Undone> {
        let target = members.voters.last().cloned().unwrap_or_default();
        let rest: BTreeSet<NodeId> = target.into_iter().filter(|id| *id != node).collect();
        if rest.is_empty() {
            return Err(Undone::refused(format!(
                "node {node} is the last voter: let another node join before it is removed"
            )));
        }
        let until = Instant::now() + 2 * self.lease();
        loop {
            let heard = self.voters_heard();
            let here = rest.iter().filter(|id| heard.contains(id)).count();
            if here * 2 > rest.len() {
                return Ok(());
            }
            if Instant::now() >= until {
                let all = rest.len();
                return Err(Undone::refused(format!(
                    "without node {node} only {here} of {all} voters would answer, too few to go on: remove those that \
                     don't answer first"
                )));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub(super) fn lease(&self) -> Duration {
        Duration::from_millis(self.shared.settings.election_timeout_max_ms)
    }

    /// The voters that answered this leader within a lease; itself too.
    pub(super) fn voters_heard(&self) -> BTreeSet<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = |id: u64| {
            let all = metrics.heartbeat.as_ref();
            let at = all.and_then(|all| all.get(&id)).and_then(Option::as_ref);
            node_id(id) == self.shared.node || at.is_some_and(|at| at.elapsed() <= self.lease())
        };
        let voters = metrics.membership_config.membership().voter_ids();
        voters.filter(|id| heard(*id)).map(node_id).collect()
    }
}

enum Verdict {
    /// By this entry.
    Made(EntryId),
    /// An earlier change isn't committed yet.
    Busy,
    Undone(Undone),
}

fn verdict(changed: Changed) -> Verdict {
    let lost = |leader: Option<u64>| {
        let leader = leader.map(node_id);
        Verdict::Undone(Undone::NotLeader { leader })
    };
    match changed {
        Ok(made) => Verdict::Made(entry_id(&made.log_id)),
        Err(RaftError::APIError(error)) => match error {
            ClientWriteError::ForwardToLeader(to) | ClientWriteError::LogEntryDiscarded(to) => {
                lost(to.leader_id)
            }
            ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_)
                | ChangeMembershipError::UncommittedLeaderLog(_),
            ) => Verdict::Busy,
            ClientWriteError::ChangeMembershipError(error) => Verdict::Undone(Undone::refused(
                format!("the members can't be changed so: {error}"),
            )),
            ClientWriteError::PreconditionFailed(_) => lost(None),
        },
        Err(RaftError::Fatal(_)) => lost(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DirectoryId;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn peer(address: &str, directory: u64) -> Peer {
        Peer {
            raft: address.to_owned(),
            http: format!("http-{address}"),
            directory: DirectoryId(directory),
        }
    }

    fn members() -> Members {
        let peers = [(node(1), peer("a", 10)), (node(2), peer("b", 20))];
        Members {
            voters: vec![BTreeSet::from([node(1)])],
            peers: peers.into(),
        }
    }

    #[test]
    fn an_id_stays_with_its_directory() {
        let admit = |id, peer: Peer| admit(&members(), node(id), &peer);
        assert_eq!(admit(2, peer("b", 20)), Ok(Admission::Known));
        assert_eq!(admit(2, peer("c", 20)), Ok(Admission::Moved));
        assert_eq!(admit(3, peer("c", 30)), Ok(Admission::New));
        let refused = |id, peer: Peer, part: &str| {
            let error = admit(id, peer).unwrap_err().error().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(2, peer("b", 21), "remove node 2 from the cluster");
        refused(3, peer("c", 20), "belongs to node 2");
        refused(3, peer("b", 30), "address b belongs to node 2");
        refused(3, peer(&"x".repeat(600), 30), "the limit is 512");
    }

    #[test]
    fn learners_and_leaving_voters_are_told_apart() {
        let mut members = members();
        assert!(votes(&members, node(1)) && !votes(&members, node(2)));
        members.voters.push(BTreeSet::from([node(2)]));
        assert!(votes(&members, node(1)) && votes(&members, node(2)));
    }
}
