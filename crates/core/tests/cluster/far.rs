//! Members far from each other: a link takes two round trips to be opened, TCP's and the handshake's, and each frame half a one.

use super::*;
use sqlrep_core::{Lane, Link, TransportError};

struct Far {
    transport: ChannelTransport,
    round_trip: Duration,
}

#[async_trait]
impl Transport for Far {
    async fn connect(
        &self,
        node: Option<NodeId>,
        peer: &Peer,
        lane: Lane,
    ) -> Result<Link, TransportError> {
        tokio::time::sleep(2 * self.round_trip).await;
        self.transport.connect(node, peer, lane).await
    }

    async fn accept(&self) -> Option<(NodeId, Lane, Link)> {
        self.transport.accept().await
    }

    fn close(&self) {
        self.transport.close();
    }
}

async fn far_apart(round_trip: Duration, settings: Settings) -> Cluster {
    let mut cluster = Cluster::unformed(0, Style::Late, settings, 1).await;
    cluster.board.set_latency(round_trip / 2);
    for id in 1..=3 {
        let far = |transport| Far {
            transport,
            round_trip,
        };
        cluster.start_behind(id, far).await;
    }
    cluster.bootstrap(3).await;
    cluster
}

/// Waits for strict reads on every member: that a new cluster serves.
async fn serves(cluster: &Cluster, limit: Duration) {
    let bound = ReadBound {
        wait_max: Some(limit),
        ..ReadBound::default()
    };
    for node in &cluster.nodes {
        let permit = node.member.permit(ReadLevel::Linearizable, bound).await;
        permit.unwrap_or_else(|error| {
            panic!("node {}: {error}, {:?}", node.id, node.member.status())
        });
    }
}

/// Nothing is written, so that only heartbeats confirm the leader: linearizable reads on every member, the lease, one leader.
async fn idles_well(round_trip: Duration, settings: Settings) {
    let cluster = far_apart(round_trip, settings).await;
    serves(&cluster, 10 * SECOND).await;
    let leader = cluster.leader().await;
    let term = leader.member.status().term;
    for _ in 0..30 {
        tokio::time::sleep(SECOND).await;
        serves(&cluster, SECOND).await;
        let weak = leader.member.permit(ReadLevel::Weak, ReadBound::default());
        weak.await.unwrap();
    }
    for node in &cluster.nodes {
        assert_eq!(node.member.status().term, term, "at {round_trip:?}");
    }
}

const MS: Duration = Duration::from_millis(1);

/// A heartbeat gets 75 ms, and opening its link took as long at 25 ms for a round trip: none was ever open.
#[tokio::test(start_paused = true)]
async fn a_new_cluster_serves_at_fifty_milliseconds_for_a_round_trip() {
    for round_trip in [10, 20, 30, 40, 50] {
        idles_well(round_trip * MS, Settings::default()).await;
    }
    for round_trip in [10, 20] {
        idles_well(round_trip * MS, Settings::fast()).await;
    }
}

/// What the profile for wide networks is for.
#[tokio::test(start_paused = true)]
async fn a_wide_cluster_serves_at_a_hundred_and_fifty_milliseconds_for_a_round_trip() {
    for round_trip in [1, 50, 75, 100, 125, 150] {
        idles_well(round_trip * MS, Settings::wide()).await;
    }
}

/// A leader far away is replaced like a near one, and writes go on.
#[tokio::test(start_paused = true)]
async fn a_lost_leader_is_replaced_over_a_wide_network() {
    let cluster = far_apart(100 * MS, Settings::wide()).await;
    serves(&cluster, 10 * SECOND).await;
    let lost = cluster.leader().await.id;
    cluster.board.isolate(lost);
    let other = cluster.nodes.iter().find(|node| node.id != lost).unwrap();
    let since = tokio::time::Instant::now();
    while other.send("on").await.is_err() {}
    assert!(since.elapsed() < 6 * SECOND, "{:?}", since.elapsed());
    cluster.board.heal();
    cluster.agreed(1).await;
}
