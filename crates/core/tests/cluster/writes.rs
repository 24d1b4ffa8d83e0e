//! The way of a write.

use super::*;
use std::sync::atomic::Ordering;

async fn three_writes(style: Style, size: u64) {
    let cluster = Cluster::form(size, style).await;
    let leader = cluster.leader().await;
    let mut at = None;
    for (n, line) in ["a", "b", "c"].into_iter().enumerate() {
        let written = leader.push(line).await.unwrap();
        assert_eq!(written.reply, (n + 1).to_string());
        assert_eq!(written.by, leader.id);
        assert!(Some(written.at) > at);
        at = Some(written.at);
    }
    assert_eq!(cluster.agreed(3).await, ["a", "b", "c"]);
    assert_eq!(leader.show().await.unwrap().reply, "a,b,c");
}

#[tokio::test(start_paused = true)]
async fn one_voter_elects_itself_and_writes() {
    three_writes(Style::Late, 1).await;
    three_writes(Style::Ahead, 1).await;
}

#[tokio::test(start_paused = true)]
async fn three_voters_agree() {
    three_writes(Style::Late, 3).await;
    three_writes(Style::Ahead, 3).await;
}

/// Rule 21: while entries are in flight, requests gather: a thousand at once are a handful of entries.
#[tokio::test(start_paused = true)]
async fn requests_gather_into_few_entries() {
    for style in [Style::Late, Style::Ahead] {
        let cluster = Cluster::form(3, style).await;
        cluster.board.set_latency(Duration::from_millis(2));
        let leader = cluster.leader().await;
        let mut waiting = Vec::new();
        for n in 0..1000 {
            let member = leader.member.clone();
            let push = Ask::Push(n.to_string());
            waiting.push(tokio::spawn(async move {
                member.write(push, Route::Here, 5 * SECOND).await
            }));
        }
        for wait in waiting {
            wait.await.unwrap().unwrap();
        }
        let counts = leader.member.status().counts;
        assert_eq!(counts.requests, 1000);
        assert!(counts.entries <= 10, "{counts:?}");
        assert_eq!(cluster.agreed(1000).await.len(), 1000);
    }
}

/// Rules 23 and 24: the outcomes of a leader that is cut off. What it proposed is unknown, what it didn't is
/// definitely not done, and it leads no epoch that survives.
#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_tells_unknown_from_not_done() {
    for style in [Style::Late, Style::Ahead] {
        let cluster = Cluster::form(3, style).await;
        let old = cluster.leader().await;
        old.push("kept").await.unwrap();
        cluster.board.isolate(old.id);
        let proposed = old.push("lost?");
        let (outcome, ()) = tokio::join!(proposed, async {
            tokio::time::sleep(Duration::from_millis(50)).await;
        });
        assert!(
            matches!(outcome, Err(WriteError::Unknown { .. })),
            "{outcome:?}"
        );
        let later = old.push("later").await;
        let error = later.unwrap_err();
        assert_eq!(error.retry(), Retry::Safe, "{error}");
        let new = loop {
            let leader = cluster.leader().await;
            if leader.id != old.id {
                break leader;
            }
            // The clock is paused: the old lease ends only if something waits.
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        new.push("new").await.unwrap();
        cluster.board.heal();
        let lines = cluster.agreed(2).await;
        assert_eq!(lines, ["kept", "new"]);
        assert_eq!(old.push("again").await.unwrap_err().retry(), Retry::Safe);
    }
}

/// Rule 24: leadership that is lost and regained at once begins another epoch; what waited for the former one is told what
/// became of it, and nothing is there twice. The list asserts that one epoch lives at a time, and none of another term than
/// the one applied.
#[tokio::test(start_paused = true)]
async fn leadership_lost_and_regained_at_once_mixes_no_epochs() {
    for style in [Style::Late, Style::Ahead] {
        let cluster = Cluster::form_with(3, style, Settings::default(), 5).await;
        let old = cluster.leader().await;
        cluster.agreed(0).await;
        cluster.board.set_latency(Duration::from_millis(1));
        let other = cluster.nodes.iter().find(|node| node.id != old.id).unwrap();
        let (epochs, term) = (&old.machine.epochs, old.member.status().term);
        let before = epochs.load(Ordering::Relaxed);
        let writes = (0..400_u64).map(|n| {
            let member = old.member.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(n)).await;
                let ask = Ask::Push(n.to_string());
                (n, member.write(ask, Route::Here, 10 * SECOND).await)
            })
        });
        let writes: Vec<_> = writes.collect();
        for _ in 0..5 {
            for next in [other, old] {
                let given = old.member.transfer(Some(next.id), 10 * SECOND);
                given.await.unwrap();
            }
        }
        let terms = old.member.status().term.0 - term.0;
        assert!(terms >= 10, "{terms} terms");
        old.push("last").await.unwrap();
        assert!(epochs.load(Ordering::Relaxed) >= before + 5);
        let lines = cluster.agreed(1).await;
        let (mut done, mut refused) = (0, 0);
        for write in writes {
            let (n, outcome) = write.await.unwrap();
            let times = lines.iter().filter(|line| **line == n.to_string()).count();
            match outcome.map_err(|error| error.retry()) {
                Ok(_) => done += usize::from(times == 1),
                Err(Retry::Ambiguous) => assert!(times <= 1),
                Err(_) => refused += usize::from(times == 0),
            }
        }
        assert!(
            done + refused > 300 && done > 50 && refused > 0,
            "{done}, {refused}"
        );
    }
}

/// Rule 16: a restart begins from what was durable and reads the rest from the log, applying nothing twice.
#[tokio::test(start_paused = true)]
async fn a_restarted_member_applies_what_its_log_holds() {
    for style in [Style::Late, Style::Ahead] {
        let mut cluster = Cluster::form(1, style).await;
        let node = cluster.leader().await;
        for line in ["a", "b", "c"] {
            node.push(line).await.unwrap();
        }
        node.member.stop().await;
        assert_eq!(node.push("late").await.unwrap_err().retry(), Retry::Safe);
        let old = cluster.nodes.remove(0);
        let machine = Arc::new(List::on(style, old.machine.durable_state()));
        cluster.start_on(1, machine, old.log).await;
        let again = cluster.leader().await;
        assert_eq!(again.push("d").await.unwrap().reply, "4");
        assert_eq!(cluster.agreed(4).await, ["a", "b", "c", "d"]);
    }
}

/// A leader whose sets are split into parts of one line each; its epoch begins with the first write.
async fn split_leader(cluster: &Cluster) -> &Node {
    let leader = cluster.leader().await;
    leader.machine.part_lines_max.store(1, Ordering::Release);
    cluster.board.set_latency(Duration::from_millis(5));
    leader
}

/// Many lines at once, which leave as one set.
fn many(node: &Node, lines: u64) -> Vec<tokio::task::JoinHandle<Result<(), WriteError>>> {
    let push = |n: u64| {
        let member = node.member.clone();
        tokio::spawn(async move {
            let ask = Ask::Push(n.to_string());
            let done = member.write(ask, Route::Here, 60 * SECOND).await;
            done.map(drop)
        })
    };
    (0..lines).map(push).collect()
}

/// Rule 26: parts of a set are made a few ahead of their verdicts (the list asserts it), and nothing is seen of them before
/// the last one.
#[tokio::test(start_paused = true)]
async fn parts_are_made_as_they_are_applied() {
    let cluster = Cluster::form(3, Style::Ahead).await;
    let leader = split_leader(&cluster).await;
    let parts = leader.machine.parts.clone();
    let writes = many(leader, 200);
    until("a part is applied", || {
        parts.applied.load(Ordering::Acquire) > 50
    })
    .await;
    assert!(leader.machine.lines().len() < 100, "a set is under way");
    for write in writes {
        write.await.unwrap().unwrap();
    }
    assert_eq!(cluster.agreed(200).await.len(), 200);
    assert!(parts.made.load(Ordering::Acquire) > 150);
}

/// Rules 23 and 26: a set whose leader is cut off half way is definitely not done, on any node, ever.
#[tokio::test(start_paused = true)]
async fn a_set_without_its_last_part_is_not_done() {
    let cluster = Cluster::form(3, Style::Ahead).await;
    let old = split_leader(&cluster).await;
    let parts = old.machine.parts.clone();
    let writes = many(old, 200);
    until("a part is applied", || {
        parts.applied.load(Ordering::Acquire) > 50
    })
    .await;
    cluster.board.isolate(old.id);
    let others = cluster.nodes.iter().filter(|node| node.id != old.id);
    let term = old.member.status().term;
    until("another one leads", || {
        others.clone().any(|node| {
            let status = node.member.status();
            status.term > term && status.leader == Some(node.id)
        })
    })
    .await;
    cluster.board.heal();
    // What gathered first left as sets of few lines.
    let mut done = 0;
    for write in writes {
        match write.await.unwrap().map_err(|error| error.retry()) {
            Ok(()) => done += 1,
            Err(retry) => assert_eq!(retry, Retry::Safe),
        }
    }
    assert!(done < 10, "{done} were done");
    let new = cluster.leader().await;
    new.push("new").await.unwrap();
    assert_eq!(cluster.agreed(1).await.len(), done + 1);
}

/// A cluster whose leader takes few requests at a time and a while for them, so that a batch is in line behind the one that runs.
pub(crate) async fn in_small_batches(requests_max: usize) -> Cluster {
    let mut settings = Settings::default();
    settings.gather_requests_max = requests_max;
    let mut cluster = Cluster::unformed(0, Style::Ahead, settings, 1).await;
    cluster.writer_takes = Some(Duration::from_millis(1));
    for id in 1..=3 {
        cluster.start(id).await;
    }
    cluster.bootstrap(3).await;
    cluster
}

/// Rule 26: a batch that is in line while parts of a set are still to be made gathers nothing before the last one (the list
/// asserts it).
#[tokio::test(start_paused = true)]
async fn a_batch_in_line_comes_behind_all_parts() {
    let cluster = in_small_batches(10).await;
    let leader = split_leader(&cluster).await;
    for write in many(leader, 100) {
        write.await.unwrap().unwrap();
    }
    assert_eq!(cluster.agreed(100).await.len(), 100);
    let made = leader.machine.parts.made.load(Ordering::Acquire);
    assert!((80..=90).contains(&made), "{made} in sets of ten and fewer");
}

/// Rule 20: leadership is handed over behind all that was gathered, batches in line too: nobody is left without an outcome.
#[tokio::test(start_paused = true)]
async fn a_transfer_waits_for_the_batches_in_line() {
    let cluster = in_small_batches(1).await;
    let leader = cluster.leader().await;
    cluster.board.set_latency(Duration::from_millis(2));
    let write = |n: u64| {
        let member = leader.member.clone();
        tokio::spawn(async move {
            let ask = Ask::Push(n.to_string());
            member.write(ask, Route::Forward, 60 * SECOND).await
        })
    };
    let writes: Vec<_> = (0..60).map(write).collect();
    until("some are done", || leader.machine.lines().len() > 5).await;
    leader.member.transfer(None, 5 * SECOND).await.unwrap();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    let mut lines = cluster.agreed(60).await;
    lines.sort_by_key(|line| line.parse::<u64>().unwrap());
    assert!((0..60).map(|n| n.to_string()).eq(lines));
}
