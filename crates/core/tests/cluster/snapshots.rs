//! Snapshots that take long, stall, or are overtaken.

use super::*;
use sqlrep_core::{FrameSender, Lane, Link, SnapshotSource, StateMachine, TransportError, Which};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const LINES: usize = 400;

/// A cluster in which one member needs a snapshot of [`LINES`] chunks, on a slow network: about two seconds.
async fn one_behind(settings: Settings) -> (Cluster, usize, usize) {
    let cluster = Cluster::form_with(3, Style::Late, settings, 1).await;
    falls_behind(cluster, LINES).await
}

/// One member of `cluster` is cut off and needs a snapshot of `lines` chunks, and a few more.
pub(crate) async fn falls_behind(cluster: Cluster, lines: usize) -> (Cluster, usize, usize) {
    let leader = cluster.leader().await;
    cluster.agreed(0).await;
    let behind = cluster
        .nodes
        .iter()
        .find(|node| node.id != leader.id)
        .unwrap();
    cluster.board.isolate(behind.id);
    let pushes = (0..lines).map(|n| {
        let member = leader.member.clone();
        let push = Ask::Push(n.to_string());
        tokio::spawn(async move { member.write(push, Route::Here, 5 * SECOND).await })
    });
    for push in pushes.collect::<Vec<_>>() {
        push.await.unwrap().unwrap();
    }
    for line in ["a", "b", "c", "d"] {
        leader.push(line).await.unwrap();
    }
    leader.member.checkpoint(true).await.unwrap();
    while leader.member.status().purged.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let at = |id| cluster.nodes.iter().position(|node| node.id == id).unwrap();
    let (leader, behind) = (at(leader.id), at(behind.id));
    (cluster, leader, behind)
}

pub(crate) fn short_log() -> Settings {
    let mut settings = Settings::default();
    settings.log_retention_entries = 1;
    settings
}

/// Makes everything durable that there is, again and again, and writes meanwhile.
pub(crate) async fn go_on(leader: &Node, rounds: usize, line: &str) {
    for _ in 0..rounds {
        leader.push(line).await.unwrap();
        leader.member.checkpoint(true).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn floor(node: &Node) -> Option<LogIndex> {
    node.member.status().floor
}

/// Rules 17 and 18: a transfer takes as long as bytes are acknowledged; the log behind it stays meanwhile, so one
/// snapshot is enough.
#[tokio::test(start_paused = true)]
async fn a_long_transfer_is_waited_for_and_the_log_behind_it_stays() {
    let (cluster, leader, behind) = one_behind(short_log()).await;
    let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
    cluster.board.set_latency(Duration::from_millis(20));
    let held = leader.member.status().applied.unwrap().index;
    cluster.board.heal();
    tokio::time::sleep(SECOND).await;
    go_on(leader, 5, "on").await;
    assert_eq!(
        behind.machine.installs.load(Ordering::Relaxed),
        0,
        "under way"
    );
    assert!(floor(leader) <= Some(held), "{:?} is needed next", held);
    cluster.agreed(LINES + 9).await;
    assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
}

/// Rules 11 and 18: when nothing is acknowledged any more and the time to go on is over, the transfer ends and holds nothing.
#[tokio::test(start_paused = true)]
async fn a_stalled_transfer_ends() {
    let mut settings = short_log();
    settings.snapshot_resume_ms = 15_000;
    let (cluster, leader, behind) = one_behind(settings).await;
    let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
    cluster.board.set_latency(Duration::from_millis(20));
    let held = leader.member.status().applied.unwrap().index;
    cluster.board.heal();
    tokio::time::sleep(SECOND).await;
    cluster.board.cut_one_way(behind.id, leader.id);
    go_on(leader, 10, "on").await;
    tokio::time::sleep(11 * SECOND).await;
    go_on(leader, 5, "on").await;
    assert!(floor(leader) <= Some(held), "it may go on");
    tokio::time::sleep(5 * SECOND).await;
    go_on(leader, 5, "on").await;
    assert!(floor(leader) > Some(held), "{:?}", leader.member.status());
    cluster.board.heal();
    cluster.agreed(LINES + 24).await;
}

/// Rule 17: a transfer holds the log up to a bound; beyond it the log goes, and another snapshot follows.
#[tokio::test(start_paused = true)]
async fn a_transfer_that_holds_too_much_of_the_log_is_given_up() {
    let mut settings = short_log();
    settings.log_retention_max_bytes = 1 << 20;
    let (cluster, leader, behind) = one_behind(settings).await;
    let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
    cluster.board.set_latency(Duration::from_millis(20));
    let held = leader.member.status().applied.unwrap().index;
    cluster.board.heal();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let large = "x".repeat(600 << 10);
    go_on(leader, 5, &large).await;
    assert_eq!(
        behind.machine.installs.load(Ordering::Relaxed),
        0,
        "under way"
    );
    assert!(floor(leader) > Some(held), "{:?}", leader.member.status());
    cluster.agreed(LINES + 9).await;
    assert!(behind.machine.installs.load(Ordering::Relaxed) >= 2);
}

/// Rules 5 and 29: a node that took in a snapshot answers a retry as the others do.
#[tokio::test(start_paused = true)]
async fn keys_come_with_a_snapshot() {
    let (cluster, leader, behind) = one_behind(short_log()).await;
    let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
    let write = |node: &Node| {
        let (member, ask) = (node.member.clone(), Ask::Push("keyed".to_owned()));
        let key = Some(IdempotencyKey::new("k").unwrap());
        async move {
            let route = Route::Forward;
            member.write_keyed(ask, key, route, 20 * SECOND).await
        }
    };
    let first = write(leader).await.unwrap();
    go_on(leader, 3, "on").await;
    cluster.board.heal();
    cluster.agreed(LINES + 8).await;
    assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
    leader
        .member
        .transfer(Some(behind.id), 5 * SECOND)
        .await
        .unwrap();
    while behind.member.status().leader != Some(behind.id) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let retry = write(behind).await.unwrap();
    assert_eq!((retry.reply, retry.at), (first.reply, first.at));
    assert!(retry.replayed && retry.by == behind.id);
}

/// The snapshot lane of all members: links break behind so many frames, and are counted.
#[derive(Default)]
pub(crate) struct Breaks {
    /// Frames until each of the next links breaks; the last figure is for all that follow.
    frames: Mutex<Vec<usize>>,
    /// Whether the receiver doesn't notice.
    are_silent: AtomicBool,
    /// The links that it didn't notice of.
    kept: Mutex<Vec<Box<dyn FrameSender>>>,
    /// Frames that each link took, its head too.
    taken: Mutex<Vec<usize>>,
}

struct Breaking {
    transport: ChannelTransport,
    breaks: Arc<Breaks>,
}

struct BreakingSender {
    /// None: broken.
    sender: Option<Box<dyn FrameSender>>,
    link: usize,
    left: usize,
    breaks: Arc<Breaks>,
}

#[async_trait]
impl FrameSender for BreakingSender {
    async fn send(&mut self, frame: Bytes) -> Result<(), TransportError> {
        if self.left == 0 {
            // All that is out arrives and is acknowledged before.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let broken = self.sender.take();
            if self.breaks.are_silent.load(Ordering::Acquire) {
                self.breaks.kept.lock().unwrap().extend(broken);
            }
        }
        let Some(sender) = &mut self.sender else {
            return Err(TransportError::Unreachable {
                address: "there".to_owned(),
                source: std::io::ErrorKind::ConnectionReset.into(),
            });
        };
        self.left -= 1;
        self.breaks.taken.lock().unwrap()[self.link] += 1;
        sender.send(frame).await
    }
}

#[async_trait]
impl Transport for Breaking {
    async fn connect(
        &self,
        node: Option<NodeId>,
        peer: &Peer,
        lane: Lane,
    ) -> Result<Link, TransportError> {
        let link = self.transport.connect(node, peer, lane).await?;
        if lane != Lane::Snapshot {
            return Ok(link);
        }
        let mut taken = self.breaks.taken.lock().unwrap();
        let frames = self.breaks.frames.lock().unwrap();
        let left = frames.get(taken.len()).or(frames.last());
        let left = left.copied().unwrap_or(usize::MAX);
        taken.push(0);
        Ok(Link {
            sender: Box::new(BreakingSender {
                sender: Some(link.sender),
                link: taken.len() - 1,
                left,
                breaks: self.breaks.clone(),
            }),
            receiver: link.receiver,
        })
    }

    async fn accept(&self) -> Option<(NodeId, Lane, Link)> {
        self.transport.accept().await
    }

    fn close(&self) {
        self.transport.close();
    }
}

/// A cluster with one member that needs a snapshot, over links that break behind so many frames.
pub(crate) async fn behind_breaks(frames: &[usize]) -> (Cluster, usize, usize, Arc<Breaks>) {
    let mut cluster = Cluster::unformed(0, Style::Late, short_log(), 1).await;
    let breaks = Arc::new(Breaks::default());
    *breaks.frames.lock().unwrap() = frames.to_vec();
    for id in 1..=3 {
        let breaks = breaks.clone();
        let breaking = |transport| Breaking { transport, breaks };
        cluster.start_behind(id, breaking).await;
    }
    cluster.bootstrap(3).await;
    let (cluster, leader, behind) = falls_behind(cluster, 8).await;
    (cluster, leader, behind, breaks)
}

/// A cluster whose first transfer broke behind so many frames, then another node came to lead; which that is and which is behind,
/// cut off still.
pub(crate) async fn broken_and_handed_on(frames: usize) -> (Cluster, usize, usize, Arc<Breaks>) {
    let (cluster, leader, behind, breaks) = behind_breaks(&[frames, usize::MAX]).await;
    // Of three.
    let next = 3 - leader - behind;
    let [leader, next_one, behind_one] = [leader, next, behind].map(|at| &cluster.nodes[at]);
    cluster.board.heal();
    until("the first link breaks", || taken(&breaks) == [frames]).await;
    cluster.board.isolate(behind_one.id);
    next_one.member.checkpoint(true).await.unwrap();
    until("purged", || next_one.member.status().purged.is_some()).await;
    let handed = leader.member.transfer(Some(next_one.id), 5 * SECOND).await;
    handed.unwrap();
    until("it leads", || {
        next_one.member.status().leader == Some(next_one.id)
    })
    .await;
    next_one.push("next").await.unwrap();
    next_one.member.checkpoint(true).await.unwrap();
    (cluster, next, behind, breaks)
}

/// Chunks of the leader's newest snapshot, and their bytes.
pub(crate) fn whole(leader: &Node) -> (usize, u64) {
    let mut source = leader.machine.snapshot(Which::Newest).unwrap().unwrap();
    let (mut chunks, mut bytes) = (0, 0);
    while let Some(chunk) = source.next().unwrap() {
        chunks += 1;
        bytes += chunk.len() as u64;
    }
    (chunks, bytes)
}

pub(crate) fn taken(breaks: &Breaks) -> Vec<usize> {
    breaks.taken.lock().unwrap().clone()
}

/// Rule 11: a transfer that breaks behind any of its chunks goes on there; the second link brings the rest and nothing else.
#[tokio::test(start_paused = true)]
async fn a_transfer_goes_on_behind_the_chunk_where_it_broke() {
    for place in 1.. {
        let (cluster, leader, behind, breaks) = behind_breaks(&[1 + place, usize::MAX]).await;
        let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
        let (chunks, bytes) = whole(leader);
        assert_eq!(chunks, 8 + 4 + 2);
        cluster.board.heal();
        cluster.agreed(12).await;
        let counts = leader.member.status().counts;
        assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
        if place > chunks {
            assert_eq!(taken(&breaks), [1 + chunks + 1], "it didn't break");
            assert_eq!(counts.snapshot_resumes, 0);
            break;
        }
        let rest = chunks - place;
        assert_eq!(taken(&breaks), [1 + place, 1 + rest + 1]);
        assert_eq!(counts.snapshot_resumes, 1, "behind {place}");
        // The link broke before the next chunk, or the end, was out.
        let lost = counts.snapshot_sent_bytes - bytes;
        assert_eq!(lost, 0, "behind {place}");
    }
}

/// Rule 11: also over links that each bring one chunk, and where the receiver doesn't notice that they broke.
#[tokio::test(start_paused = true)]
async fn a_transfer_goes_on_as_often_as_it_has_to() {
    for silent in [false, true] {
        let (cluster, leader, behind, breaks) = behind_breaks(&[2]).await;
        breaks.are_silent.store(silent, Ordering::Release);
        let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
        let (chunks, bytes) = whole(leader);
        cluster.board.heal();
        tokio::time::sleep(30 * SECOND).await;
        cluster.agreed(12).await;
        assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
        assert_eq!(taken(&breaks), vec![2; chunks + 1]);
        assert_eq!(leader.member.status().counts.snapshot_sent_bytes, bytes);
    }
}

/// Rules 3 and 11: what reads back wrong isn't gone on with, all of it comes again.
#[tokio::test(start_paused = true)]
async fn a_transfer_whose_kept_part_is_damaged_begins_at_zero() {
    let (cluster, leader, behind, breaks) = behind_breaks(&[6, usize::MAX]).await;
    let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
    let (chunks, _) = whole(leader);
    behind.machine.flaws.rots.store(true, Ordering::Release);
    cluster.board.heal();
    cluster.agreed(12).await;
    assert_eq!(taken(&breaks), [6, 1 + chunks + 1]);
    assert_eq!(leader.member.status().counts.snapshot_resumes, 0);
    assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
}

/// Rule 11: neither side keeps anything for ever: after the time to go on, another state is sent from its beginning.
#[tokio::test(start_paused = true)]
async fn a_transfer_that_comes_too_late_begins_at_zero() {
    let (cluster, leader, behind, breaks) = behind_breaks(&[6, usize::MAX]).await;
    let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
    let held = leader.member.status().applied.unwrap().index;
    cluster.board.heal();
    until("the first link breaks", || taken(&breaks) == [6]).await;
    cluster.board.isolate(behind.id);
    go_on(leader, 5, "on").await;
    assert!(floor(leader) <= Some(held), "it may go on");
    let resume = Duration::from_millis(cluster.settings.snapshot_resume_ms);
    tokio::time::sleep(resume + 5 * SECOND).await;
    go_on(leader, 5, "on").await;
    assert!(floor(leader) > Some(held), "{:?}", leader.member.status());
    let (chunks, _) = whole(leader);
    cluster.board.heal();
    cluster.agreed(22).await;
    assert_eq!(taken(&breaks), [6, 1 + chunks + 1]);
    assert_eq!(leader.member.status().counts.snapshot_resumes, 0);
    assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
}

/// Rule 11: what one leader has sent isn't taken for the beginning of another's state.
#[tokio::test(start_paused = true)]
async fn another_leaders_transfer_begins_at_zero() {
    let (cluster, next, behind, breaks) = broken_and_handed_on(6).await;
    let (next, behind) = (&cluster.nodes[next], &cluster.nodes[behind]);
    cluster.board.heal();
    cluster.agreed(13).await;
    let (chunks, _) = whole(next);
    assert_eq!(taken(&breaks), [6, 1 + chunks + 1]);
    assert_eq!(next.member.status().counts.snapshot_resumes, 0);
    assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
}
