//! A member whose state differs from the others': who is found wrong, and how that one comes back (safety rules 16, 31).

use super::*;
use sqlrep_core::{FrameSender, Lane, Link, Mismatch, StateMachine, Transport, TransportError};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// The node's next entry says that the log records another checksum than it has.
pub(crate) fn doubts(node: &Node) {
    let index = node.member.status().applied.unwrap().index;
    let (ours, recorded) = (1, 2);
    *node.machine.mismatch.lock().unwrap() = Some(Mismatch {
        index,
        ours,
        recorded,
    });
}

async fn three() -> (Cluster, NodeId) {
    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await;
    leader.push("a").await.unwrap();
    cluster.agreed(1).await;
    let id = leader.id;
    (cluster, id)
}

fn others(cluster: &Cluster, not: NodeId) -> Vec<&Node> {
    cluster.nodes.iter().filter(|node| node.id != not).collect()
}

pub(crate) async fn repaired(node: &Node) {
    until("repaired", || {
        let status = node.member.status();
        status.counts.repairs == 1 && status.out_of_service.is_none()
    })
    .await;
}

/// Rules 16 and 31: the one that differs from the two others is wrong, and takes over the leader's state.
#[tokio::test(start_paused = true)]
async fn a_follower_in_the_minority_is_wrong_and_is_repaired() {
    let (cluster, leader) = three().await;
    let sick = others(&cluster, leader)[0];
    sick.machine.corrupt();
    doubts(sick);
    cluster.leader().await.push("b").await.unwrap();
    repaired(sick).await;
    assert_eq!(cluster.agreed(2).await, ["a", "b"]);
    let read = sick
        .member
        .permit(ReadLevel::Linearizable, ReadBound::default());
    read.await.unwrap();
    let healthy = others(&cluster, sick.id);
    assert!(
        healthy
            .iter()
            .all(|node| node.member.status().counts.repairs == 0)
    );
}

/// Rule 31: a leader in the minority hears of it from those who ask, hands over, and is repaired by its successor.
#[tokio::test(start_paused = true)]
async fn a_leader_in_the_minority_is_wrong() {
    let (cluster, leader) = three().await;
    let sick = cluster.leader().await;
    sick.machine.corrupt();
    doubts(others(&cluster, leader)[0]);
    sick.push("b").await.unwrap();
    repaired(sick).await;
    assert_eq!(cluster.agreed(2).await, ["a", "b"]);
    assert_ne!(cluster.leader().await.id, leader);
    let asker = others(&cluster, leader)[0].member.status();
    assert!(asker.counts.trials > 0 && asker.counts.repairs == 0);
}

/// Rule 31: whoever finds its own pages damaged is wrong, whatever the others say, and its conviction is kept.
#[tokio::test(start_paused = true)]
async fn a_member_with_damaged_pages_is_wrong_without_a_vote() {
    let (cluster, leader) = three().await;
    let nodes = others(&cluster, leader);
    cluster.board.isolate(nodes[1].id);
    let sick = nodes[0];
    sick.machine.damaged.store(true, Ordering::Release);
    doubts(sick);
    cluster.leader().await.push("b").await.unwrap();
    repaired(sick).await;
    assert!(!sick.machine.damaged.load(Ordering::Acquire));
    cluster.board.heal();
    assert_eq!(cluster.agreed(2).await, ["a", "b"]);
}

/// Rule 31: while those are silent who could decide, nobody is condemned, and nobody sends a state in doubt.
#[tokio::test(start_paused = true)]
async fn a_verdict_waits_for_the_third() {
    let (cluster, leader) = three().await;
    let (sick, third) = (others(&cluster, leader)[0], others(&cluster, leader)[1]);
    cluster.board.isolate(third.id);
    sick.machine.corrupt();
    doubts(sick);
    cluster.leader().await.push("b").await.unwrap();
    until("in doubt", || sick.member.status().in_doubt.is_some()).await;
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!(sick.member.status().out_of_service, None);
    assert!(sick.member.status().in_doubt.is_some());
    cluster.board.heal();
    repaired(sick).await;
    assert_eq!(cluster.agreed(2).await, ["a", "b"]);
    let all = cluster.nodes.iter();
    assert!(
        all.clone()
            .all(|node| node.member.status().in_doubt.is_none())
    );
}

/// Rule 31: a leader in doubt repairs nobody; once it knows that it is right, it does.
#[tokio::test(start_paused = true)]
async fn a_leader_in_doubt_sends_its_state_to_nobody() {
    let (cluster, leader) = three().await;
    let (sick, third) = (others(&cluster, leader)[0], others(&cluster, leader)[1]);
    cluster.board.isolate(third.id);
    let leader = cluster.leader().await;
    sick.machine.corrupt();
    doubts(leader);
    leader.push("b").await.unwrap();
    until("in doubt", || leader.member.status().in_doubt.is_some()).await;
    sick.member.distrust(&sqlrep_core::MachineError::new(
        std::io::Error::other("a page is damaged"),
        Retry::Useless,
    ));
    tokio::time::sleep(30 * SECOND).await;
    assert!(leader.member.status().in_doubt.is_some());
    assert!(sick.member.status().out_of_service.is_some());
    assert_eq!(sick.member.status().counts.repairs, 0);
    cluster.board.heal();
    repaired(sick).await;
    assert_eq!(leader.member.status().counts.repairs, 0);
    assert_eq!(cluster.agreed(2).await, ["a", "b"]);
}

/// Rule 31: where no two agree, the leader's state counts.
#[tokio::test(start_paused = true)]
async fn of_two_members_the_leader_is_right() {
    let cluster = Cluster::form(2, Style::Late).await;
    let leader = cluster.leader().await;
    leader.push("a").await.unwrap();
    cluster.agreed(1).await;
    let sick = others(&cluster, leader.id)[0];
    sick.machine.corrupt();
    doubts(sick);
    leader.push("b").await.unwrap();
    repaired(sick).await;
    assert_eq!(cluster.agreed(2).await, ["a", "b"]);
    assert_eq!(leader.member.status().counts.repairs, 0);
}

/// Rule 32: bytes that another library wrote may differ without being wrong. The leader's state is taken over and counted; the
/// node stays in service meanwhile, and nothing is kept against its state.
#[tokio::test(start_paused = true)]
async fn a_node_with_another_engine_takes_the_state_over_and_stays_in_service() {
    let (cluster, leader) = three().await;
    let sick = others(&cluster, leader)[0];
    sick.machine.engine.store(7, Ordering::Release);
    sick.machine.corrupt();
    doubts(sick);
    cluster.leader().await.push("b").await.unwrap();
    let mut service = 0;
    until("taken over", || {
        let status = sick.member.status();
        assert_eq!(status.out_of_service, None);
        assert_eq!(sick.machine.distrusted(), None);
        service += 1;
        status.counts.repairs == 1
    })
    .await;
    assert!(service > 1, "it was looked at before");
    assert_eq!(cluster.agreed(2).await, ["a", "b"]);
    assert_eq!(sick.machine.installs.load(Ordering::Relaxed), 1);
}

/// What a state was found guilty of outlives the process: it is repaired before it serves.
#[tokio::test(start_paused = true)]
async fn a_convicted_state_is_not_served_after_a_restart() {
    let mut cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await;
    leader.push("a").await.unwrap();
    cluster.agreed(1).await;
    let leader = leader.id;
    let sick = others(&cluster, leader)[0].id;
    let at = cluster
        .nodes
        .iter()
        .position(|node| node.id == sick)
        .unwrap();
    let Node {
        machine,
        log,
        member,
        ..
    } = cluster.nodes.remove(at);
    member.stop().await;
    drop(member);
    machine.corrupt();
    let machine = List::on(Style::Late, machine.durable_state()).distrusting("found wrong");
    let node = cluster.start_on(sick.get(), Arc::new(machine), log).await;
    let status = node.member.status();
    assert_eq!(status.out_of_service.as_deref(), Some("found wrong"));
    let read = node
        .member
        .permit(ReadLevel::None, ReadBound::default())
        .await;
    assert_eq!(read.unwrap_err(), ReadError::Quarantined);
    repaired(node).await;
    assert_eq!(cluster.agreed(1).await, ["a"]);
}

/// Rule 16: while writes go on, a state is replaced again and again, and no entry is left out or applied twice.
#[tokio::test(start_paused = true)]
async fn no_entry_falls_between_a_repair_and_the_log() {
    for seed in 1..=12 {
        let cluster = Cluster::form_with(3, Style::Late, Settings::default(), seed).await;
        let leader = cluster.leader().await;
        leader.push("0").await.unwrap();
        cluster.agreed(1).await;
        let sick = others(&cluster, leader.id)[0];
        let mut repairs = 0;
        for line in 1..=150 {
            if sick.member.status().counts.repairs == repairs && line % 10 == 0 {
                sick.machine.corrupt();
                sick.member.distrust(&sqlrep_core::MachineError::new(
                    std::io::Error::other("a page is damaged"),
                    Retry::Useless,
                ));
                repairs += 1;
            }
            leader.push(&line.to_string()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(7 * seed)).await;
        }
        until("repaired", || sick.member.status().out_of_service.is_none()).await;
        let lines: Vec<String> = (0..=150).map(|line| line.to_string()).collect();
        assert_eq!(cluster.agreed(lines.len()).await, lines, "seed {seed}");
        assert!(repairs > 0, "seed {seed}");
    }
}

/// Everybody, learners too, has one checksum; one that is away leaves it open, and is asked again until it is back.
#[tokio::test(start_paused = true)]
async fn a_comparison_tells_equal_and_not_known() {
    let (cluster, leader) = three().await;
    let asking = others(&cluster, leader)[0];
    let found = asking.member.compare(30 * SECOND).await;
    assert_eq!((found.equal(), found.members.len()), (Some(true), 3));
    assert_eq!(
        found.index,
        asking.member.status().applied.map(|id| id.index)
    );
    let away = others(&cluster, leader)[1].id;
    cluster.board.isolate(away);
    let found = asking.member.compare(30 * SECOND).await;
    assert_eq!(found.equal(), None);
    let missing = found.members.iter().find(|one| one.node == away).unwrap();
    assert_eq!((missing.checksum, missing.in_service), (None, None));
    let later = async {
        tokio::time::sleep(2 * SECOND).await;
        cluster.board.heal();
    };
    let (found, ()) = tokio::join!(asking.member.compare(60 * SECOND), later);
    assert_eq!(found.equal(), Some(true), "it was asked again");
}

/// Rule 31: who is asked and differs finds itself out; while it is repaired, it isn't known.
#[tokio::test(start_paused = true)]
async fn a_comparison_starts_the_judge_of_the_one_that_differs() {
    let (cluster, leader) = three().await;
    let sick = others(&cluster, leader)[0];
    sick.machine.corrupt();
    let found = cluster.leader().await.member.compare(30 * SECOND).await;
    assert_eq!(found.equal(), Some(false));
    repaired(sick).await;
    let found = sick.member.compare(30 * SECOND).await;
    assert_eq!(found.equal(), Some(true), "{found:?}");
}

/// Refuses links for log entries while it is told to, and holds up the first link for a state behind its head.
#[derive(Clone)]
struct Gate {
    appends_refused: Arc<AtomicBool>,
    held: watch::Sender<bool>,
    first: Arc<AtomicBool>,
}

struct Gated {
    transport: ChannelTransport,
    gate: Gate,
}

struct HeldSender {
    sender: Box<dyn FrameSender>,
    head_is_sent: bool,
    held: watch::Receiver<bool>,
}

#[async_trait]
impl FrameSender for HeldSender {
    async fn send(&mut self, frame: Bytes) -> Result<(), TransportError> {
        if std::mem::replace(&mut self.head_is_sent, true) {
            self.held.wait_for(|held| !held).await.unwrap();
        }
        self.sender.send(frame).await
    }
}

#[async_trait]
impl Transport for Gated {
    async fn connect(
        &self,
        node: Option<NodeId>,
        peer: &Peer,
        lane: Lane,
    ) -> Result<Link, TransportError> {
        if lane == Lane::Append && self.gate.appends_refused.load(Ordering::Acquire) {
            return Err(TransportError::Closed);
        }
        let mut link = self.transport.connect(node, peer, lane).await?;
        if lane == Lane::Snapshot && self.gate.first.swap(false, Ordering::AcqRel) {
            let (sender, held) = (link.sender, self.gate.held.subscribe());
            link.sender = Box::new(HeldSender {
                sender,
                held,
                head_is_sent: false,
            });
        }
        Ok(link)
    }
    async fn accept(&self) -> Option<(NodeId, Lane, Link)> {
        self.transport.accept().await
    }
    fn close(&self) {
        self.transport.close();
    }
}

/// A leader, and a member that is out of service, has no "b" and gets no entries, but is being sent the state.
async fn repaired_without_entries(settings: Settings, held: bool) -> (Cluster, Gate, NodeId) {
    let mut cluster = Cluster::unformed(0, Style::Late, settings, 1).await;
    let gate = Gate {
        appends_refused: Arc::default(),
        held: watch::channel(held).0,
        first: Arc::new(AtomicBool::new(true)),
    };
    for id in 1..=3 {
        let gate = gate.clone();
        let gated = |transport| Gated { transport, gate };
        cluster.start_behind(id, gated).await;
    }
    cluster.bootstrap(3).await;
    let leader = cluster.leader().await;
    leader.push("a").await.unwrap();
    cluster.agreed(1).await;
    let sick = others(&cluster, leader.id)[0];
    cluster.board.cut(leader.id, sick.id);
    gate.appends_refused.store(true, Ordering::Release);
    leader.push("b").await.unwrap();
    sick.member.distrust(&sqlrep_core::MachineError::new(
        std::io::Error::other("a page is damaged"),
        Retry::Useless,
    ));
    cluster.board.heal();
    let id = sick.id;
    (cluster, gate, id)
}

/// The leader's state may be ahead of what Raft has handed over here. It was told to Raft as a snapshot as soon as it was
/// durable, which Raft takes for impossible: it ended, in builds that check. Found by the simulation.
#[tokio::test(start_paused = true)]
async fn a_repaired_state_may_be_ahead_of_raft() {
    let (cluster, gate, sick) = repaired_without_entries(Settings::default(), false).await;
    let sick = cluster.nodes.iter().find(|one| one.id == sick).unwrap();
    repaired(sick).await;
    assert_eq!(sick.machine.lines(), ["a", "b"]);
    sick.member.checkpoint(true).await.unwrap();
    gate.appends_refused.store(false, Ordering::Release);
    cluster.leader().await.push("c").await.unwrap();
    assert_eq!(cluster.agreed(3).await, ["a", "b", "c"]);
    sick.member.checkpoint(true).await.unwrap();
}

/// Rule 16: Raft may install a snapshot while a repair is under way; the repair, older then, would take the state back to
/// where the log isn't any more.
#[tokio::test(start_paused = true)]
async fn a_repair_that_a_snapshot_has_overtaken_is_dropped() {
    let mut settings = Settings::default();
    settings.log_retention_entries = 1;
    let (cluster, gate, sick) = repaired_without_entries(settings, true).await;
    let sick = cluster.nodes.iter().find(|one| one.id == sick).unwrap();
    until("a repair begins", || !gate.first.load(Ordering::Acquire)).await;
    let leader = cluster.leader().await;
    for line in ["c", "d", "e"] {
        leader.push(line).await.unwrap();
    }
    leader.member.checkpoint(true).await.unwrap();
    until("purged", || leader.member.status().purged.is_some()).await;
    gate.appends_refused.store(false, Ordering::Release);
    until("installed", || {
        sick.member.status().out_of_service.is_none()
    })
    .await;
    assert_eq!(sick.member.status().counts.repairs, 0);
    gate.held.send_replace(false);
    leader.push("f").await.unwrap();
    assert_eq!(cluster.agreed(6).await, ["a", "b", "c", "d", "e", "f"]);
    tokio::time::sleep(SECOND).await;
    leader.push("g").await.unwrap();
    assert_eq!(cluster.agreed(7).await.last().unwrap(), "g");
    assert_eq!(sick.member.status().counts.repairs, 0);
}

fn unread() -> sqlrep_core::MachineError {
    sqlrep_core::MachineError::new(
        std::io::Error::other("a page can't be read"),
        Retry::Useless,
    )
}

/// Members that were all unlucky with a read of their disks waited for each other for ever. Now they end, and begin anew with
/// their logs. Found by the simulation.
#[tokio::test(start_paused = true)]
async fn members_that_nobody_can_repair_end() {
    let (cluster, _) = three().await;
    for node in &cluster.nodes {
        node.member.suspend(&unread());
    }
    for node in &cluster.nodes {
        let failed = tokio::time::timeout(60 * SECOND, node.member.failed()).await;
        let error = failed.expect("it ends").to_string();
        assert!(
            error.contains("a page can't be read; nobody repairs it"),
            "{error}"
        );
    }
}

/// A restart wouldn't help a state that is known to be wrong, and a suspended one is repaired where somebody can.
#[tokio::test(start_paused = true)]
async fn members_that_are_wrong_or_can_be_repaired_do_not_end() {
    let (cluster, leader) = three().await;
    let sick = others(&cluster, leader)[0];
    sick.member.suspend(&unread());
    repaired(sick).await;
    for node in &cluster.nodes {
        node.member.distrust(&unread());
    }
    for node in &cluster.nodes {
        let failed = tokio::time::timeout(60 * SECOND, node.member.failed());
        assert!(failed.await.is_err(), "node {}", node.id);
    }
}
