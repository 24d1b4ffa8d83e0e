//! What reads may show.

use super::*;
use sqlrep_core::ReadPermit;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

fn within(wait_max: Duration) -> ReadBound {
    ReadBound {
        wait_max: Some(wait_max),
        ..ReadBound::default()
    }
}

async fn read(node: &Node, level: ReadLevel) -> Result<usize, ReadError> {
    let permit = node.member.permit(level, within(2 * SECOND)).await?;
    let shown = node.machine.lines().len();
    let again = node.member.recheck(&permit).await?;
    Ok(again.map_or(shown, |_| node.machine.lines().len()))
}

/// Lines acknowledged so far: what a strict read that begins now has to show.
#[derive(Default)]
struct Floor(Mutex<usize>);

impl Floor {
    fn get(&self) -> usize {
        *self.0.lock().unwrap()
    }

    fn acknowledged(&self, reply: &str) {
        let mut floor = self.0.lock().unwrap();
        *floor = (*floor).max(reply.parse().unwrap());
    }
}

/// Writes through `via` for a while.
async fn write_for(via: &Node, floor: &Floor, time: Duration) {
    let end = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < end {
        if let Ok(written) = via.send("x").await {
            floor.acknowledged(&written.reply);
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Reads on `node` for a while; how many were served.
async fn read_for(node: &Node, level: ReadLevel, floor: &Floor, time: Duration) -> usize {
    let (end, mut served) = (tokio::time::Instant::now() + time, 0);
    while tokio::time::Instant::now() < end {
        let least = floor.get();
        if let Ok(shown) = read(node, level).await {
            assert!(
                shown >= least,
                "{shown} lines on {}, {least} were acknowledged",
                node.id
            );
            served += 1;
        }
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    served
}

async fn strict_reads_show_what_was_acknowledged(level: ReadLevel, seed: u64) {
    let cluster = Cluster::form_with(3, Style::Ahead, Settings::default(), seed).await;
    let old = cluster.leader().await;
    cluster.agreed(0).await;
    cluster.board.set_latency(Duration::from_millis(2));
    let via = cluster.nodes.iter().find(|node| node.id != old.id).unwrap();
    let (floor, time) = (Floor::default(), 6 * SECOND);
    let [a, b, c] = &cluster.nodes[..] else {
        panic!("three")
    };
    let (served_a, served_b, served_c, (), ()) = tokio::join!(
        read_for(a, level, &floor, time),
        read_for(b, level, &floor, time),
        read_for(c, level, &floor, time),
        write_for(via, &floor, time),
        async {
            tokio::time::sleep(SECOND).await;
            cluster.board.isolate(old.id);
            tokio::time::sleep(3 * SECOND).await;
            cluster.board.heal();
        },
    );
    for served in [served_a, served_b, served_c] {
        assert!(
            served > 30,
            "{served_a}, {served_b}, {served_c} reads were served"
        );
    }
    assert!(floor.get() > 100);
}

/// Rule 43: on every node, the old leader that doesn't know yet that it is none included.
#[tokio::test(start_paused = true)]
async fn linearizable_reads_are_never_stale() {
    for seed in 1..3 {
        let reads = strict_reads_show_what_was_acknowledged(ReadLevel::Linearizable, seed);
        Box::pin(reads).await;
    }
}

#[tokio::test(start_paused = true)]
async fn strong_reads_are_never_stale() {
    let reads = strict_reads_show_what_was_acknowledged(ReadLevel::Strong, 1);
    Box::pin(reads).await;
}

/// Rule 42: on whichever node leads, through a leader that is cut off and leaderships that are handed over.
#[tokio::test(start_paused = true)]
async fn weak_reads_are_never_stale() {
    for seed in 1..3 {
        let cluster = Cluster::form_with(3, Style::Late, Settings::default(), seed).await;
        let old = cluster.leader().await;
        cluster.agreed(0).await;
        cluster.board.set_latency(Duration::from_millis(2));
        let (floor, time) = (Floor::default(), 6 * SECOND);
        let [a, b, c] = &cluster.nodes[..] else {
            panic!("three")
        };
        let ((), (), (), read_a, read_b, read_c, ()) = tokio::join!(
            write_for(a, &floor, time),
            write_for(b, &floor, time),
            write_for(c, &floor, time),
            read_for(a, ReadLevel::Weak, &floor, time),
            read_for(b, ReadLevel::Weak, &floor, time),
            read_for(c, ReadLevel::Weak, &floor, time),
            async {
                tokio::time::sleep(SECOND).await;
                cluster.board.isolate(old.id);
                tokio::time::sleep(2 * SECOND).await;
                cluster.board.heal();
                for _ in 0..4 {
                    tokio::time::sleep(SECOND / 2).await;
                    a.member.transfer(None, SECOND).await.ok();
                }
            },
        );
        assert!(
            read_a + read_b + read_c > 300,
            "{read_a}, {read_b}, {read_c} reads were served"
        );
        assert!(floor.get() > 100);
    }
}

/// Rule 43: a follower's waiting reads share the question to the leader, and those of the leader's rounds.
#[tokio::test(start_paused = true)]
async fn reads_that_wait_share_a_round() {
    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await;
    cluster.agreed(0).await;
    cluster.board.set_latency(Duration::from_millis(5));
    let follower = cluster
        .nodes
        .iter()
        .find(|node| node.id != leader.id)
        .unwrap();
    for level in [ReadLevel::Linearizable, ReadLevel::Strong] {
        let before = leader.member.status().counts;
        let mut reads = Vec::new();
        for _ in 0..500 {
            let member = follower.member.clone();
            reads.push(tokio::spawn(async move {
                member.permit(level, within(SECOND)).await
            }));
        }
        for read in reads {
            read.await.unwrap().unwrap();
        }
        let after = leader.member.status().counts;
        let rounds = after.read_rounds - before.read_rounds;
        let entries = after.entries - before.entries;
        let (some, none) = match level {
            ReadLevel::Strong => (entries, rounds),
            _ => (rounds, entries),
        };
        assert!(
            (1..=3).contains(&some),
            "{level:?}: {rounds} rounds, {entries} entries"
        );
        assert_eq!(none, 0);
    }
}

/// Rule 42: a leader knows its lease without asking Raft, before the rows are computed and afterwards.
#[tokio::test(start_paused = true)]
async fn weak_reads_ask_nobody_while_the_lease_is_known() {
    for size in [1, 3] {
        let cluster = Cluster::form(size, Style::Late).await;
        let leader = cluster.leader().await;
        leader.push("a").await.unwrap();
        let asked = || leader.member.status().counts.lease_rounds;
        let before = asked();
        for _ in 0..500 {
            let permit = weak(leader).await;
            assert_eq!(leader.member.recheck(&permit).await, Ok(None));
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
        assert_eq!(asked(), before);
    }
}

/// Rule 42: where Raft has to be asked for the lease, all reads that wait share the question, before their rows are computed and
/// again behind the last of them. A leader that needs nobody, and whose learner is gone, has no news of a lease.
#[tokio::test(start_paused = true)]
async fn weak_reads_that_wait_share_the_question_after_the_lease() {
    let mut cluster = Cluster::form(1, Style::Late).await;
    cluster.start(2).await;
    let (first, learner) = (cluster.leader().await, Cluster::peer(2));
    let joined = first.member.join(node(2), learner, false, 30 * SECOND);
    joined.await.unwrap();
    cluster.board.isolate(node(2));
    tokio::time::sleep(3 * SECOND).await;
    let leader = cluster.leader().await;
    leader.push("a").await.unwrap();
    let asked = || leader.member.status().counts.lease_rounds;
    let before = asked();
    let waiting = (0..500).map(|_| weak(leader));
    let permits = futures_util::future::join_all(waiting).await;
    let begun = asked();
    assert!((1..=3).contains(&(begun - before)), "{begun} - {before}");
    let waiting = permits.iter().map(|permit| leader.member.recheck(permit));
    let rechecked = futures_util::future::join_all(waiting).await;
    assert!(rechecked.iter().all(|again| *again == Ok(None)));
    assert!((1..=3).contains(&(asked() - begun)), "each is asked again");
}

#[tokio::test(start_paused = true)]
async fn weak_reads_are_the_leaders() {
    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await.id;
    cluster.agreed(0).await;
    for node in &cluster.nodes {
        let read = read(node, ReadLevel::Weak).await;
        if node.id == leader {
            read.unwrap();
        } else {
            let leader = Some(leader);
            assert_eq!(read.unwrap_err(), ReadError::NotLeader { leader });
        }
    }
}

async fn weak(node: &Node) -> ReadPermit {
    let permit = node.member.permit(ReadLevel::Weak, within(60 * SECOND));
    permit.await.unwrap()
}

/// Rule 42: rows computed under a lease leave only while it lasts; later, only if nothing newer is committed.
#[tokio::test(start_paused = true)]
async fn a_weak_read_whose_lease_ended_goes_on_as_a_linearizable_one() {
    let cluster = Cluster::form(3, Style::Late).await;
    let old = cluster.leader().await;
    old.push("a").await.unwrap();
    let permit = weak(old).await;
    assert_eq!(old.member.recheck(&permit).await, Ok(None));
    let via = cluster.nodes.iter().find(|node| node.id != old.id).unwrap();
    cluster.board.isolate(old.id);
    tokio::time::sleep(3 * SECOND).await;
    while via.send("b").await.is_err() {}
    let (again, ()) = tokio::join!(old.member.recheck(&permit), async {
        tokio::time::sleep(SECOND).await;
        cluster.board.heal();
    });
    let again = again.unwrap().expect("something newer is committed");
    assert_eq!(again.level, ReadLevel::Linearizable);
    assert!(again.at > permit.at);
    assert!(old.machine.lines().contains(&"b".to_owned()));
}

/// Rule 42: a leadership takes its lease along when it is handed over: the next leader waits for nobody's promise.
#[tokio::test(start_paused = true)]
async fn no_lease_outlives_a_leadership_that_is_handed_over() {
    let cluster = Cluster::form(3, Style::Late).await;
    let old = cluster.leader().await;
    old.push("a").await.unwrap();
    cluster.agreed(1).await;
    let way = Duration::from_millis(20);
    cluster.board.set_latency(way);
    let next = cluster.nodes.iter().find(|node| node.id != old.id).unwrap();
    tokio::time::sleep(SECOND).await;
    let permit = weak(old).await;
    let since = tokio::time::Instant::now();
    let hand_over = old.member.transfer(Some(next.id), SECOND);
    let meanwhile = async {
        // What hands over is on its way; nobody's request for a vote is, and nothing else tells it that it leads no more.
        tokio::time::sleep(way / 2).await;
        cluster.board.isolate(old.id);
        while next.push("b").await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let lease = Duration::from_millis(Settings::default().election_timeout_max_ms);
        assert!(since.elapsed() < lease / 2, "{:?}", since.elapsed());
        let late = tokio::time::timeout(way, old.member.recheck(&permit)).await;
        assert!(late.is_err(), "nobody confirms what it saw: {late:?}");
        let new = old.member.permit(ReadLevel::Weak, within(way)).await;
        assert!(new.is_err(), "{new:?}");
    };
    let (_, ()) = tokio::join!(hand_over, meanwhile);
}

/// Rule 42: what this leader has committed may be shown elsewhere before it is applied here, and a read that comes then shows it too.
#[tokio::test(start_paused = true)]
async fn a_weak_read_waits_for_what_others_may_show() {
    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await;
    cluster.agreed(0).await;
    leader.machine.lines_max.store(0, Ordering::Release);
    let follower = cluster.nodes.iter().find(|node| node.id != leader.id);
    let follower = follower.unwrap();
    let written = async {
        // One after the other, so that the second isn't handed to the apply worker with the first.
        let second = async {
            until("the first is shown", || follower.machine.lines() == ["a"]).await;
            leader.push("b").await
        };
        tokio::join!(leader.push("a"), second)
    };
    let read = async {
        let shown = |lines: usize| move |node: &Node| node.machine.lines().len() == lines;
        until("both are shown", || shown(2)(follower)).await;
        let read = leader.member.permit(ReadLevel::Weak, within(60 * SECOND));
        let mut read = std::pin::pin!(read);
        let early = tokio::time::timeout(SECOND, &mut read).await;
        assert!(early.is_err(), "{early:?}");
        leader.machine.lines_max.store(1, Ordering::Release);
        until("the first is applied", || shown(1)(leader)).await;
        let early = tokio::time::timeout(SECOND, &mut read).await;
        assert!(early.is_err(), "{early:?}");
        leader.machine.lines_max.store(u64::MAX, Ordering::Release);
        let permit = read.await.unwrap();
        assert!(shown(2)(leader));
        assert_eq!(leader.member.recheck(&permit).await, Ok(None));
    };
    let ((first, second), ()) = tokio::join!(written, read);
    assert_eq!(
        (first.unwrap().reply, second.unwrap().reply),
        ("1".to_owned(), "2".to_owned())
    );
}

/// Rule 42: cut off, nobody can say whether the rows still hold, so they don't leave.
#[tokio::test(start_paused = true)]
async fn a_weak_read_that_cannot_be_confirmed_fails() {
    let cluster = Cluster::form(3, Style::Late).await;
    let old = cluster.leader().await;
    let permit = old
        .member
        .permit(ReadLevel::Weak, within(5 * SECOND))
        .await
        .unwrap();
    cluster.board.isolate(old.id);
    tokio::time::sleep(SECOND).await;
    let error = old.member.recheck(&permit).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Safe);
    assert!(
        matches!(
            error,
            ReadError::Timeout { .. } | ReadError::NotLeader { .. }
        ),
        "{error}"
    );
}

/// Rule 25: what a leader computed without an entry leaves only when a round that began later has confirmed
/// it: one that was overtaken without its knowledge shows nothing old.
#[tokio::test(start_paused = true)]
async fn an_old_leader_gives_no_reply_of_its_writer() {
    for style in [Style::Late, Style::Ahead] {
        let cluster = Cluster::form(3, style).await;
        let old = cluster.leader().await;
        old.push("a").await.unwrap();
        assert_eq!(old.show().await.unwrap().reply, "a");
        cluster.board.isolate(old.id);
        let via = cluster.nodes.iter().find(|node| node.id != old.id).unwrap();
        while via.send("b").await.is_err() {}
        let refused = old.show().await.unwrap_err();
        assert_eq!(refused.retry(), Retry::Safe, "{refused}");
        cluster.board.heal();
        cluster.agreed(2).await;
        let new = cluster.leader().await;
        assert!(new.show().await.unwrap().reply.starts_with("a,b"));
    }
}

/// Rule 25: what was computed on an entry in flight leaves behind that entry, however soon the leader is confirmed.
#[tokio::test(start_paused = true)]
async fn what_stands_on_an_entry_in_flight_waits_for_it() {
    let cluster = Cluster::form(3, Style::Ahead).await;
    let leader = cluster.leader().await;
    cluster.agreed(0).await;
    leader.machine.lines_max.store(0, Ordering::Release);
    let follower = cluster.nodes.iter().find(|node| node.id != leader.id);
    let follower = follower.unwrap();
    let shown = async {
        until("another node has it", || follower.machine.lines() == ["a"]).await;
        let mut show = std::pin::pin!(leader.show());
        let early = tokio::time::timeout(SECOND, &mut show).await;
        assert!(early.is_err(), "{early:?}");
        leader.machine.lines_max.store(u64::MAX, Ordering::Release);
        show.await
    };
    let (pushed, shown) = tokio::join!(leader.push("a"), shown);
    let (pushed, shown) = (pushed.unwrap(), shown.unwrap());
    assert_eq!((pushed.reply.as_str(), shown.reply.as_str()), ("1", "a"));
    assert!(shown.at >= pushed.at);
}

/// A leader that is cut off stays leader by its own knowledge: what it shows grows old, and freshness says so.
#[tokio::test(start_paused = true)]
async fn freshness_counts_on_a_leader_too() {
    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await;
    leader.push("one").await.unwrap();
    let bound = ReadBound {
        freshness: Some(SECOND),
        ..ReadBound::default()
    };
    let fresh = leader.member.permit(ReadLevel::None, bound).await;
    assert!(fresh.is_ok(), "{fresh:?}");
    cluster.board.isolate(leader.id);
    tokio::time::sleep(3 * SECOND).await;
    let stale = leader.member.permit(ReadLevel::None, bound).await;
    assert_eq!(stale.unwrap_err(), ReadError::Stale);
    let alone = Cluster::form(1, Style::Late).await;
    let only = alone.leader().await;
    only.push("one").await.unwrap();
    tokio::time::sleep(3 * SECOND).await;
    let fresh = only.member.permit(ReadLevel::None, bound).await;
    assert!(fresh.is_ok(), "{fresh:?}");
}

/// A read replica shows what it has, also while nobody leads; a voter asks the leader.
#[tokio::test(start_paused = true)]
async fn auto_is_none_on_a_learner_and_weak_on_a_voter() {
    let mut cluster = Cluster::form(1, Style::Late).await;
    cluster.start(2).await;
    let leader = cluster.leader().await;
    leader.push("a").await.unwrap();
    let join = leader
        .member
        .join(node(2), Cluster::peer(2), false, 30 * SECOND);
    join.await.unwrap();
    cluster.agreed(1).await;
    let auto = async |id| {
        let member = &cluster.node(id).member;
        member.permit(ReadLevel::Auto, within(SECOND)).await
    };
    assert_eq!(auto(1).await.unwrap().level, ReadLevel::Weak);
    assert_eq!(auto(2).await.unwrap().level, ReadLevel::None);
    cluster.board.isolate(node(2));
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(auto(2).await.unwrap().level, ReadLevel::None);
    cluster.board.heal();
    let join = leader
        .member
        .join(node(2), Cluster::peer(2), true, 30 * SECOND);
    join.await.unwrap();
    let leader = Some(cluster.leader().await.id);
    assert_eq!(auto(2).await.unwrap_err(), ReadError::NotLeader { leader });
}

/// Rule 43: an index of another cluster says nothing about this one, at whatever level and on whatever node.
#[tokio::test(start_paused = true)]
async fn an_index_of_another_cluster_is_refused() {
    let cluster = Cluster::form(3, Style::Late).await;
    let at = cluster.leader().await.push("a").await.unwrap().at;
    cluster.agreed(1).await;
    let (ours, theirs) = (cluster.nodes[0].member.status().cluster, ClusterId(77));
    for node in &cluster.nodes {
        for level in [ReadLevel::None, ReadLevel::Linearizable, ReadLevel::Strong] {
            let of = |cluster| ReadBound {
                at_least: Some((cluster, at.index)),
                ..within(SECOND)
            };
            let refused = node.member.permit(level, of(theirs)).await.unwrap_err();
            assert_eq!(refused, ReadError::OtherCluster { ours, theirs });
            node.member.permit(level, of(ours)).await.unwrap();
        }
    }
}
