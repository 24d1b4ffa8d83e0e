//! Lanes between members: what goes on while one of them stands still, and how much is under way on it.

use super::*;
use sqlrep_core::{FrameReceiver, FrameSender, Lane, Link, Role, TransportError};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// The lane of log entries of all members.
struct Entries {
    /// Frames wait on links to these nodes.
    held: watch::Sender<Vec<NodeId>>,
    /// The most frames that were sent and not answered on one link.
    unanswered_max: AtomicUsize,
}

impl Entries {
    fn hold(&self, nodes: &[u64]) {
        let nodes = nodes.iter().map(|id| node(*id)).collect();
        self.held.send_replace(nodes);
    }
}

struct Watched {
    transport: ChannelTransport,
    entries: Arc<Entries>,
}

struct WatchedSender {
    sender: Box<dyn FrameSender>,
    to: NodeId,
    entries: Arc<Entries>,
    unanswered: Arc<Mutex<usize>>,
}

struct WatchedReceiver {
    receiver: Box<dyn FrameReceiver>,
    unanswered: Arc<Mutex<usize>>,
}

#[async_trait]
impl FrameSender for WatchedSender {
    async fn send(&mut self, frame: Bytes) -> Result<(), TransportError> {
        let mut held = self.entries.held.subscribe();
        let goes_on = |held: &Vec<NodeId>| !held.contains(&self.to);
        held.wait_for(goes_on).await.unwrap();
        {
            let mut unanswered = self.unanswered.lock().unwrap();
            *unanswered += 1;
            let most = &self.entries.unanswered_max;
            most.fetch_max(*unanswered, Ordering::AcqRel);
        }
        self.sender.send(frame).await
    }
}

#[async_trait]
impl FrameReceiver for WatchedReceiver {
    async fn receive(&mut self) -> Result<Option<Bytes>, TransportError> {
        let frame = self.receiver.receive().await;
        *self.unanswered.lock().unwrap() -= usize::from(matches!(frame, Ok(Some(_))));
        frame
    }
}

#[async_trait]
impl Transport for Watched {
    async fn connect(
        &self,
        node: Option<NodeId>,
        peer: &Peer,
        lane: Lane,
    ) -> Result<Link, TransportError> {
        let link = self.transport.connect(node, peer, lane).await?;
        if lane != Lane::Append {
            return Ok(link);
        }
        let unanswered = Arc::new(Mutex::new(0));
        Ok(Link {
            sender: Box::new(WatchedSender {
                sender: link.sender,
                to: node.unwrap(),
                entries: self.entries.clone(),
                unanswered: unanswered.clone(),
            }),
            receiver: Box::new(WatchedReceiver {
                receiver: link.receiver,
                unanswered,
            }),
        })
    }
    async fn accept(&self) -> Option<(NodeId, Lane, Link)> {
        self.transport.accept().await
    }
    fn close(&self) {
        self.transport.close();
    }
}

/// Three members; who leads, and who doesn't.
async fn three(settings: Settings) -> (Cluster, Arc<Entries>, u64, [u64; 2]) {
    let mut cluster = Cluster::unformed(0, Style::Late, settings, 1).await;
    let entries = Arc::new(Entries {
        held: watch::channel(Vec::new()).0,
        unanswered_max: AtomicUsize::new(0),
    });
    for id in 1..=3 {
        let entries = entries.clone();
        let watched = |transport| Watched { transport, entries };
        cluster.start_behind(id, watched).await;
    }
    cluster.bootstrap(3).await;
    cluster.leader().await.push("a").await.unwrap();
    cluster.agreed(1).await;
    let leader = cluster.leader().await.id.get();
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    (cluster, entries, leader, others.try_into().unwrap())
}

/// Heartbeats have a lane of their own: no node stands for election while entries stand still.
#[tokio::test(start_paused = true)]
async fn entries_that_stand_still_cost_no_election() {
    let (cluster, entries, leader, others) = three(Settings::default()).await;
    let term = cluster.node(leader).member.status().term;
    entries.hold(&[1, 2, 3]);
    let (stuck, ()) = tokio::join!(cluster.node(leader).push("b"), async {
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            for id in others {
                let status = cluster.node(id).member.status();
                assert!(status.contact.unwrap() < SECOND, "{status:?}");
                assert_eq!((status.term, status.leader), (term, Some(node(leader))));
            }
        }
    });
    assert_eq!(stuck.unwrap_err().retry(), Retry::Ambiguous);
    entries.hold(&[]);
    cluster.node(leader).push("c").await.unwrap();
    assert_eq!(cluster.agreed(3).await, ["a", "b", "c"]);
    assert_eq!(cluster.node(leader).member.status().term, term);
}

/// And so do votes: a leader is elected while no entry gets through.
#[tokio::test(start_paused = true)]
async fn votes_do_not_wait_for_entries() {
    let (cluster, entries, leader, others) = three(Settings::default()).await;
    entries.hold(&[1, 2, 3]);
    cluster.board.isolate(node(leader));
    let leads = |id: &u64| cluster.node(*id).member.status().role == Role::Leader;
    until("elected", || others.iter().any(leads)).await;
    entries.hold(&[]);
    cluster.board.heal();
    cluster.node(others[0]).send("b").await.unwrap();
    assert_eq!(cluster.agreed(2).await, ["a", "b"]);
}

/// So many append requests are under way to a follower as its window has places, and no more.
#[tokio::test(start_paused = true)]
async fn the_replication_window_is_kept() {
    for window in [1, 2, 5] {
        let mut settings = Settings::default();
        settings.replication_window = window;
        settings.in_flight_entries_max = 100;
        settings.gather_requests_max = 1;
        let (cluster, entries, leader, _) = three(settings).await;
        cluster.board.set_latency(Duration::from_millis(50));
        let pushes = (0..100).map(|n| {
            let member = cluster.node(leader).member.clone();
            tokio::spawn(async move {
                // One after the other, so that they don't leave in one request.
                tokio::time::sleep(Duration::from_millis(n)).await;
                let ask = Ask::Push(n.to_string());
                member.write(ask, Route::Here, 30 * SECOND).await
            })
        });
        for push in pushes.collect::<Vec<_>>() {
            push.await.unwrap().unwrap();
        }
        assert_eq!(cluster.agreed(101).await.len(), 101);
        assert_eq!(entries.unanswered_max.load(Ordering::Acquire), window);
    }
}

/// Freshness counts from the last contact, strict freshness from when everything was applied that the leader had committed.
#[tokio::test(start_paused = true)]
async fn a_follower_that_is_heard_but_behind_is_not_strictly_fresh() {
    let (cluster, entries, leader, [behind, _]) = three(Settings::default()).await;
    let fresh = async |freshness_strict| {
        let bound = ReadBound {
            freshness: Some(SECOND),
            freshness_strict,
            ..ReadBound::default()
        };
        let member = &cluster.node(behind).member;
        member.permit(ReadLevel::None, bound).await.map(drop)
    };
    assert_eq!((fresh(false).await, fresh(true).await), (Ok(()), Ok(())));
    entries.hold(&[behind]);
    cluster.node(leader).push("b").await.unwrap();
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(fresh(false).await, Ok(()), "it hears its leader");
    assert_eq!(fresh(true).await, Err(ReadError::Stale));
    entries.hold(&[]);
    cluster.agreed(2).await;
    assert_eq!(fresh(true).await, Ok(()));
}
