//! Calls between members.

use super::*;
use sqlrep_core::AskError;

fn ask(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn members_answer_each_other_in_any_order() {
    let cluster = Cluster::form(3, Style::Late).await;
    cluster.leader().await;
    cluster.agreed(0).await;
    for from in &cluster.nodes {
        for to in &cluster.nodes {
            let answer = from.member.ask(to.id, ask("hello"), SECOND).await;
            let expected = format!("{} asks {}: hello", from.id, to.id);
            assert_eq!(answer.unwrap(), expected);
        }
    }
    let stranger = cluster.nodes[0].member.ask(node(9), ask("hello"), SECOND);
    assert_eq!(stranger.await.unwrap_err().retry(), Retry::Safe);
}

/// A partition swallows answers: the caller isn't kept waiting, and is told whether it was sent.
#[tokio::test(start_paused = true)]
async fn a_call_into_a_partition_is_lost_and_the_next_certainly_not_sent() {
    let cluster = Cluster::form(3, Style::Late).await;
    cluster.leader().await;
    let (from, to) = (&cluster.nodes[0], cluster.nodes[1].id);
    from.member.ask(to, ask("before"), SECOND).await.unwrap();
    cluster.board.cut(from.id, to);
    let lost = from.member.ask(to, ask("lost"), 60 * SECOND).await;
    assert_eq!(lost.unwrap_err().retry(), Retry::Ambiguous);
    let unsent = from.member.ask(to, ask("unsent"), 60 * SECOND).await;
    assert_eq!(unsent.unwrap_err().retry(), Retry::Safe);
    cluster.board.heal();
    from.member.ask(to, ask("after"), SECOND).await.unwrap();
}

/// A slow answer keeps no other one waiting, and isn't taken for a dead link.
#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_overtaken_and_waited_for() {
    let cluster = Cluster::form(3, Style::Late).await;
    cluster.leader().await;
    let (from, to) = (cluster.nodes[0].member.clone(), cluster.nodes[1].id);
    let begun = tokio::time::Instant::now();
    let (slow, fast) = tokio::join!(from.ask(to, ask("slow"), 60 * SECOND), async {
        let answer = from.ask(to, ask("fast"), 60 * SECOND).await;
        answer.map(|_| begun.elapsed())
    });
    assert!(fast.unwrap() < SECOND);
    slow.unwrap();
    assert!(begun.elapsed() >= 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_bound_are_refused_at_once() {
    let mut settings = Settings::default();
    settings.client_calls_max = 3;
    let cluster = Cluster::form_with(3, Style::Late, settings, 1).await;
    cluster.leader().await;
    let (from, to) = (cluster.nodes[0].member.clone(), cluster.nodes[1].id);
    let calls = (0..20).map(|_| {
        let from = from.clone();
        tokio::spawn(async move { from.ask(to, ask("slow"), 60 * SECOND).await })
    });
    let (mut answered, mut refused) = (0, 0);
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(_) => answered += 1,
            Err(AskError::Overloaded { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        (3..=7).contains(&answered),
        "{answered} answered, {refused} refused"
    );
    assert_eq!(answered + refused, 20);
    let large = Bytes::from(vec![0; 64 << 20]);
    let refused = from.ask(to, large, SECOND).await.unwrap_err();
    assert_eq!(refused.retry(), Retry::Useless, "{refused}");
}

/// Waits until so many requests wait at `node`.
async fn waiting(node: &Node, wanted: usize) {
    for _ in 0..1000 {
        if node.member.status().waiting == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} wait after 10 s", node.member.status().waiting);
}

/// A leader that reaches one follower of four, so that nothing is committed and one entry fills its flight, until the board heals.
struct Stuck {
    cluster: Cluster,
    leader: usize,
    via: usize,
    first: Writing,
}

type Writing = tokio::task::JoinHandle<Result<Written<String>, WriteError>>;

impl Stuck {
    async fn begin() -> Self {
        let mut settings = Settings::default();
        settings.in_flight_entries_max = 1;
        settings.election_timeout_min_ms = 60_000;
        settings.election_timeout_max_ms = 61_000;
        let cluster = Cluster::form_with(5, Style::Late, settings, 9).await;
        let leader = cluster.leader().await;
        leader.push("before").await.unwrap();
        let others: Vec<_> = (0..5)
            .filter(|at| cluster.nodes[*at].id != leader.id)
            .collect();
        for far in &others[1..] {
            cluster.board.cut(leader.id, cluster.nodes[*far].id);
        }
        let via = &cluster.nodes[others[0]];
        let first = write(via, "first", 50 * SECOND);
        while leader.member.status().in_flight == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let leader = (0..5).find(|at| !others.contains(at)).unwrap();
        Self {
            via: others[0],
            cluster,
            leader,
            first,
        }
    }

    fn leader(&self) -> &Node {
        &self.cluster.nodes[self.leader]
    }

    /// A write that a follower forwards.
    fn write(&self, line: &str, wait_max: Duration) -> Writing {
        write(&self.cluster.nodes[self.via], line, wait_max)
    }
}

fn write(via: &Node, line: &str, wait_max: Duration) -> Writing {
    let (member, ask) = (via.member.clone(), Ask::Push(line.to_owned()));
    tokio::spawn(async move { member.write(ask, Route::Forward, wait_max).await })
}

/// A client that went away holds nothing at the leader either: what waits there is withdrawn, and never done.
#[tokio::test(start_paused = true)]
async fn who_is_gone_leaves_nothing_waiting_at_the_leader() {
    let stuck = Stuck::begin().await;
    let gone = stuck.write("gone", 50 * SECOND);
    let stays = stuck.write("stays", 50 * SECOND);
    waiting(stuck.leader(), 2).await;
    gone.abort();
    waiting(stuck.leader(), 1).await;
    stuck.cluster.board.heal();
    for write in [stuck.first, stays] {
        write.await.unwrap().unwrap();
    }
    let lines = stuck.cluster.agreed(3).await;
    assert_eq!(lines, ["before", "first", "stays"]);
}

/// A deadline travels with its write: the leader refuses a short one itself, in time for its answer to be a definite one, and
/// keeps a long one longer than any default of its own.
#[tokio::test(start_paused = true)]
async fn the_leader_keeps_the_deadline_of_a_forwarded_write() {
    let stuck = Stuck::begin().await;
    let began = tokio::time::Instant::now();
    let short = stuck.write("short", 2 * SECOND);
    let long = stuck.write("long", 45 * SECOND);
    waiting(stuck.leader(), 2).await;
    let refused = short.await.unwrap().unwrap_err();
    assert_eq!(refused.retry(), Retry::Safe, "{refused}");
    assert!(began.elapsed() <= 2 * SECOND, "{:?}", began.elapsed());
    assert_eq!(stuck.leader().member.status().waiting, 1);
    tokio::time::sleep_until(began + 40 * SECOND).await;
    assert_eq!(stuck.leader().member.status().waiting, 1);
    stuck.cluster.board.heal();
    for write in [stuck.first, long] {
        write.await.unwrap().unwrap();
    }
    let lines = stuck.cluster.agreed(3).await;
    assert_eq!(lines, ["before", "first", "long"]);
}
