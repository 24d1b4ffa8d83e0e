//! Requests that come twice under one key.

use super::*;
use sqlrep_core::EntryId;

const BOTH: [Style; 2] = [Style::Late, Style::Ahead];

async fn keyed(node: &Node, key: &str, line: &str) -> Result<Written<String>, WriteError> {
    known(node, key, None, line).await
}

async fn known(
    node: &Node,
    key: &str,
    index: Option<u64>,
    line: &str,
) -> Result<Written<String>, WriteError> {
    let key = IdempotencyKey::new(key).unwrap();
    let key = match index {
        Some(index) => key.known_at(LogIndex(index)),
        None => key,
    };
    let ask = Ask::Push(line.to_owned());
    let member = &node.member;
    member
        .write_keyed(ask, Some(key), Route::Forward, 5 * SECOND)
        .await
}

fn again(first: &Written<String>) -> (String, EntryId, bool) {
    (first.reply.clone(), first.at, true)
}

fn told(written: Written<String>) -> (String, EntryId, bool) {
    (written.reply, written.at, written.replayed)
}

/// Rule 27: the same key many times at once, on every node: one is done, the others wait for its outcome.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_in_flight_is_waited_for() {
    for style in BOTH {
        let cluster = Cluster::form(3, style).await;
        cluster.board.set_latency(Duration::from_millis(2));
        cluster.leader().await;
        cluster.agreed(0).await;
        let mut waiting = Vec::new();
        for n in 0..12 {
            let member = cluster.nodes[n % 3].member.clone();
            let key = Some(IdempotencyKey::new("k").unwrap());
            waiting.push(tokio::spawn(async move {
                let ask = Ask::Push("once".to_owned());
                let route = Route::Forward;
                member.write_keyed(ask, key, route, 5 * SECOND).await
            }));
        }
        let mut replies = Vec::new();
        for wait in waiting {
            replies.push(told(wait.await.unwrap().unwrap()));
        }
        let (reply, at, _) = replies[0].clone();
        assert!(replies.iter().all(|one| one.0 == reply && one.1 == at));
        assert_eq!(
            replies.iter().filter(|one| !one.2).count(),
            1,
            "{replies:?}"
        );
        assert_eq!(cluster.agreed(1).await, ["once"]);
    }
}

/// Rule 27: a batch that is in line behind the one with the same key doesn't execute it once more.
#[tokio::test(start_paused = true)]
async fn a_key_that_runs_is_waited_for() {
    let cluster = writes::in_small_batches(1).await;
    let leader = cluster.leader().await;
    let write = |_| {
        let member = leader.member.clone();
        let key = Some(IdempotencyKey::new("k").unwrap());
        tokio::spawn(async move {
            let ask = Ask::Push("once".to_owned());
            member.write_keyed(ask, key, Route::Here, 5 * SECOND).await
        })
    };
    let waiting: Vec<_> = (0..12).map(write).collect();
    for wait in waiting {
        // An answer that nothing was done is definite, and wakes whoever waits for the first outcome.
        if let Err(error) = wait.await.unwrap() {
            assert_eq!(error.retry(), Retry::Safe);
        }
    }
    assert_eq!(cluster.agreed(1).await, ["once"]);
}

/// Rule 29: the first reply comes again from every node, for good; another request under the key is an error.
#[tokio::test(start_paused = true)]
async fn a_retry_gets_the_first_reply_and_another_request_is_refused() {
    for style in BOTH {
        let cluster = Cluster::form(3, style).await;
        cluster.leader().await;
        cluster.agreed(0).await;
        let first = keyed(&cluster.nodes[0], "k", "a").await.unwrap();
        assert!(!first.replayed);
        cluster.nodes[1].send("b").await.unwrap();
        for node in &cluster.nodes {
            let retry = keyed(node, "k", "a").await.unwrap();
            assert_eq!(told(retry), again(&first));
            let other = keyed(node, "k", "other").await;
            assert_eq!(other.unwrap_err(), WriteError::KeyReused);
        }
        assert_eq!(cluster.agreed(2).await, ["a", "b"]);
    }
}

/// Rules 5 and 29: keys are there after a restart.
#[tokio::test(start_paused = true)]
async fn keys_survive_a_restart() {
    for style in BOTH {
        let mut cluster = Cluster::form(1, style).await;
        let first = keyed(cluster.leader().await, "k", "a").await.unwrap();
        let old = cluster.nodes.pop().unwrap();
        old.member.checkpoint(true).await.unwrap();
        assert!(!old.machine.durable_state().end.keys.bytes().is_empty());
        old.member.stop().await;
        let machine = Arc::new(List::on(style, old.machine.durable_state()));
        cluster.start_on(1, machine, old.log).await;
        let retry = keyed(cluster.leader().await, "k", "a").await.unwrap();
        assert_eq!(told(retry), again(&first));
    }
}

/// Rule 28: once its key is forgotten, a request is refused with an unknown outcome; it isn't executed again.
#[tokio::test(start_paused = true)]
async fn an_expired_key_is_never_executed() {
    for style in BOTH {
        let mut cluster = Cluster::unformed(0, style, Settings::default(), 1).await;
        cluster.keys = KeyLimits {
            retention_entries: 3,
            table_bytes: 200,
        };
        cluster.start(1).await;
        cluster.bootstrap(1).await;
        let leader = cluster.leader().await;
        let index = leader.member.status().applied.unwrap().index.0;
        let first = known(leader, "first", Some(index), "first").await.unwrap();
        for n in 0..2 {
            let name = n.to_string();
            keyed(leader, &name, &name).await.unwrap();
        }
        let kept = known(leader, "first", Some(index), "first").await;
        assert_eq!(told(kept.unwrap()), again(&first), "within its retention");
        for n in 2..6 {
            let name = n.to_string();
            keyed(leader, &name, &name).await.unwrap();
        }
        let expired = known(leader, "first", Some(index), "first")
            .await
            .unwrap_err();
        assert_eq!(expired, WriteError::KeyExpired);
        assert_eq!(expired.retry(), Retry::Ambiguous);
        let lines = cluster.agreed(7).await;
        assert_eq!(lines.iter().filter(|line| *line == "first").count(), 1);
    }
}

/// Rule 30: a client's key stays the same on every way through the server, whoever leads.
#[tokio::test(start_paused = true)]
async fn a_retry_after_a_lost_leader_is_done_once() {
    for style in BOTH {
        for (seed, cut_after_ms) in [(1, 1), (2, 3), (3, 5), (4, 8), (5, 12)] {
            let cluster = Cluster::form_with(3, style, Settings::default(), seed).await;
            let old = cluster.leader().await;
            cluster.agreed(0).await;
            cluster.board.set_latency(Duration::from_millis(2));
            // The old leader itself takes the request, and is cut off.
            let (lost, ()) = tokio::join!(keyed(old, "k", "once"), async {
                tokio::time::sleep(Duration::from_millis(cut_after_ms)).await;
                cluster.board.isolate(old.id);
            });
            let via = cluster.nodes.iter().find(|node| node.id != old.id).unwrap();
            let retry = loop {
                match keyed(via, "k", "once").await {
                    Ok(retry) => break retry,
                    Err(error) => assert_ne!(error.retry(), Retry::Useless, "{error}"),
                }
            };
            cluster.board.heal();
            assert_eq!(cluster.agreed(1).await, ["once"]);
            if let Ok(first) = lost {
                assert_eq!(told(retry), again(&first));
            }
        }
    }
}
