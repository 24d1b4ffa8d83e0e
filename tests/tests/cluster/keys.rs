//! Clients that send a write again under its key, to any node, until it is acknowledged.

use crate::client::{Answer, Client};
use crate::cluster::Cluster;
use crate::load::writers;
use crate::waiting::{pause, until};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client waits for one answer before it asks another node.
const PATIENCE: Duration = Duration::from_secs(2);

/// One attempt to write `id` under its key; none: nothing that can be relied on came back.
fn attempt(client: &Client, id: u64) -> Option<Answer> {
    let body = json!([["INSERT INTO ledger (id) VALUES (?)", id]]).to_string();
    let answer = client.once(&format!("ledger {id}"), &body).ok()?;
    if answer.status != 200 {
        assert!(matches!(answer.status, 429 | 503), "{answer:?}");
        return None;
    }
    let told = answer.json();
    if told["error"].is_null() {
        assert_eq!(told["results"][0]["rows_affected"], json!(1), "{told}");
        return Some(answer);
    }
    assert_eq!(answer.header("x-sqlrep-outcome"), "unknown", "{told}");
    None
}

/// Writes `id`, from node to node, until it is acknowledged; whether an earlier attempt had done it.
fn insist(clients: &[Client], id: u64, from: usize) -> bool {
    let mut at = from;
    until("a write is acknowledged", || {
        let answer = attempt(&clients[at % clients.len()], id);
        at += 1;
        Some(answer?.json()["replayed"] == json!(true))
    })
}

/// Clients that write distinct ids and give up on none of them.
struct Insisting {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    replayed: Arc<AtomicU64>,
    writers: Vec<JoinHandle<()>>,
}

impl Insisting {
    fn start(cluster: &Cluster) -> Self {
        let (stop, written) = (
            Arc::new(AtomicBool::new(false)),
            Arc::<AtomicU64>::default(),
        );
        let replayed = Arc::<AtomicU64>::default();
        let nodes = cluster.nodes.iter();
        let clients: Vec<Client> = nodes.map(|node| node.within(PATIENCE)).collect();
        let writers = writers(4, &stop, {
            let (written, replayed) = (written.clone(), replayed.clone());
            move |from, id| {
                let again = insist(&clients, id, from);
                replayed.fetch_add(u64::from(again), Ordering::Relaxed);
                written.fetch_add(1, Ordering::Release);
            }
        });
        Self {
            stop,
            written,
            replayed,
            writers,
        }
    }

    fn progress(&self, more: u64) {
        let from = self.written.load(Ordering::Acquire);
        until("writes go on", || {
            (self.written.load(Ordering::Acquire) >= from + more).then_some(())
        });
    }

    /// Ends the writers; how many ids they wrote, and how many of the acknowledgements were of an earlier attempt.
    fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Release);
        for writer in self.writers {
            writer.join().unwrap();
        }
        let count = |number: &AtomicU64| number.load(Ordering::Acquire);
        (count(&self.written), count(&self.replayed))
    }
}

/// Every id from 1 to `last` is there once, on every node.
fn check(cluster: &Cluster, last: u64) {
    let all = (1..=last).collect();
    cluster.check(&all, &[].into());
    let count = cluster.agree("SELECT count(*) FROM ledger");
    assert_eq!(count[0][0], json!(last));
}

/// Rules 28 and 30: clients that send again after every lost or refused answer, while leaders die, freeze and come back,
/// write each id exactly once; and once all is quiet, each key is still known on every node.
#[test]
fn who_insists_under_a_key_writes_once_whoever_dies() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[1].must("CREATE TABLE ledger (id INTEGER)");
    let load = Insisting::start(&cluster);
    for round in 0..4 {
        load.progress(40);
        let leader = cluster.leader();
        if round == 3 {
            cluster.nodes[leader].pause();
            load.progress(40);
            cluster.nodes[leader].resume();
        } else {
            cluster.nodes[leader].kill();
            load.progress(40);
        }
        cluster.start_all();
    }
    let (written, replayed) = load.end();
    println!("{written} writes, {replayed} acknowledged by a replay");
    assert!(written > 300, "too few writes to tell: {written}");
    check(&cluster, written);
    for (id, node) in (1..=written).zip(cluster.nodes.iter().cycle()) {
        let answer = attempt(node, id).expect("nothing fails any more");
        assert_eq!(answer.json()["replayed"], json!(true), "{id}: {answer:?}");
    }
    check(&cluster, written);
}

/// What a retry of `id` says: that it is one, and where the first one stands.
fn retried(client: &Client, id: u64) -> (Value, String) {
    let answer = until("a retry is answered", || attempt(client, id));
    let index = answer.header("x-sqlrep-index").to_owned();
    (answer.json()["replayed"].clone(), index)
}

/// Rules 5 and 29: a node that was emptied and got all by a snapshot answers retries as the leader did that executed them,
/// and so do all of them after kill -9 and a restart; a key of another request is refused.
#[test]
fn keys_survive_restarts_and_come_with_a_snapshot() {
    let mut cluster = Cluster::with(3, &["--log-retention-entries=10"]);
    cluster.start_all();
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    cluster.nodes[0].must("CREATE TABLE ballast (x)");
    let mut firsts = Vec::new();
    for (id, node) in (1..=30).zip(cluster.nodes.iter().cycle()) {
        let first = attempt(node, id).expect("it is quiet");
        assert!(first.json()["replayed"].is_null(), "{first:?}");
        firsts.push((json!(true), first.header("x-sqlrep-index").to_owned()));
    }
    let leader = cluster.leader();
    let emptied = cluster.nodes.remove((leader + 1) % 3);
    let body = json!({ "id": emptied.id.to_string() });
    let removed = cluster.nodes[0].delete("/remove", &body).unwrap();
    assert_eq!(removed.status, 200, "{removed:?}");
    drop(emptied);
    purge(&mut cluster);
    let mut again = cluster.newcomer(7);
    again.spawn(&cluster.joining());
    cluster.nodes.push(again);
    cluster.ready();

    for node in &mut cluster.nodes {
        node.kill();
    }
    cluster.start_all();
    for node in 0..3 {
        lead(&mut cluster, node);
        for (id, first) in (1..).zip(&firsts) {
            assert_eq!(retried(&cluster.nodes[node], id), *first, "{id} at {node}");
        }
    }
    let other = json!([["INSERT INTO ledger (id) VALUES (?)", 99]]).to_string();
    let other = cluster.nodes[2].once("ledger 1", &other).unwrap();
    assert_eq!(
        (other.status, other.header("x-sqlrep-outcome")),
        (422, "refused")
    );
    check(&cluster, 30);
}

/// Writes until the leader's log begins behind what stands in it now.
fn purge(cluster: &mut Cluster) {
    const BALLAST: &str =
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 2000)
         INSERT INTO ballast SELECT randomblob(4000) FROM c";
    let leader = cluster.leader();
    let leader = &cluster.nodes[leader];
    let number = |name: &str| leader.status()["sqlrep"][name].as_u64().unwrap();
    let beyond = leader.status()["store"]["db_applied_index"]
        .as_u64()
        .unwrap();
    for _ in 0..3 {
        leader.must(BALLAST);
    }
    until("the log is purged", || {
        // What was certainly not done, because leadership moved, is asked for again.
        leader.execute(BALLAST);
        (number("purged_index") > beyond).then_some(())
    });
}

/// Has the node at `at` lead.
fn lead(cluster: &mut Cluster, at: usize) {
    let body = json!({ "id": cluster.nodes[at].id.to_string() }).to_string();
    until("it leads", || {
        if cluster.leader() == at {
            return Some(());
        }
        // Refused while it catches up.
        drop(cluster.nodes[at].send("/leader", &body));
        pause();
        None
    });
}
