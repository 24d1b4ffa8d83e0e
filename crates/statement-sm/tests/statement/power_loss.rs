//! A cluster in one process loses power as a whole, and one seed tells the whole story.

use super::cluster::*;
use sqlrep_core::{Route, StateMachine, Written};
use sqlrep_disk::Loss;
use sqlrep_env::{Entropy, SimulatedEntropy};
use sqlrep_sql::{Request, SqlSettings, Value};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What happened, in order, with the simulated time.
struct Trace {
    since: Instant,
    lines: Vec<String>,
}

impl Trace {
    fn note(&mut self, what: impl std::fmt::Display) {
        let at = self.since.elapsed().as_millis();
        self.lines.push(format!("{at:>7} ms  {what}"));
    }
}

/// A few clients at once; each notes what it was told.
async fn load<L: Logs>(
    cluster: &Cluster<L>,
    trace: &mut Trace,
    luck: &SimulatedEntropy,
    rounds: u64,
) {
    for round in 0..rounds {
        let leader = cluster.leader().await;
        let mut writes = JoinSet::new();
        for client in 0..1 + luck.next() % 8 {
            let member = leader.member.clone();
            let sql = match luck.next() % 4 {
                0 => "INSERT INTO t(b) VALUES (random())".to_owned(),
                1 => format!("INSERT INTO f VALUES ('round {round} ' || hex(randomblob(9)))"),
                2 => format!("DELETE FROM t WHERE a % 17 = {}", luck.next() % 17),
                _ => format!(
                    "INSERT INTO t(b, c) VALUES ({round}, zeroblob({}))",
                    luck.next() % 3000
                ),
            };
            writes.spawn(async move {
                (
                    client,
                    member
                        .write(Request::execute(sql), Route::Here, 5 * SECOND)
                        .await,
                )
            });
        }
        while let Some(done) = writes.join_next().await {
            let (client, answer) = done.unwrap();
            let Written { reply, at, .. } = answer.unwrap();
            trace.note(format!(
                "{round}.{client} {at} {:?}",
                super::bed::timeless(reply)
            ));
        }
        if luck.next().is_multiple_of(20) {
            let node = &cluster.nodes[&(1 + luck.next() % 3)];
            trace.note(format!(
                "node {} is durable at {}",
                node.id,
                node.checkpoint()
            ));
        }
    }
}

/// Power goes, everywhere at once.
async fn lose_power<L: Logs>(cluster: &mut Cluster<L>, luck: &SimulatedEntropy) {
    let ids: Vec<u64> = cluster.nodes.keys().copied().collect();
    ids.iter().for_each(|id| {
        cluster
            .board
            .isolate(sqlrep_core::NodeId::new(*id).unwrap())
    });
    let mut disks = Vec::new();
    for id in &ids {
        let loss = match luck.next() % 3 {
            0 => Loss::Everything,
            _ => Loss::Random { seed: luck.next() },
        };
        // From here on every call of the old process fails.
        disks.push((*id, cluster.nodes[id].disk.crash(loss)));
    }
    for id in ids {
        cluster.stop(id).await;
    }
    cluster.board.heal();
    for (id, disk) in disks {
        cluster.start(id, disk).await;
    }
}

async fn story<L: Logs>(seed: u64, logs: L) -> Vec<String> {
    let luck = SimulatedEntropy::new(seed);
    let mut cluster = Cluster::form(3, seed, logs, SqlSettings::default()).await;
    let mut trace = Trace {
        since: Instant::now(),
        lines: Vec::new(),
    };
    let schema =
        "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT, b, c DEFAULT CURRENT_TIMESTAMP);
                  CREATE VIRTUAL TABLE f USING fts5(x)";
    super::bed::good(&cluster.execute(schema).await);
    for blackout in 0..3 {
        load(&cluster, &mut trace, &luck, 30).await;
        let before = cluster.agreed().await;
        let applied = cluster.nodes[&1].machine.applied().id;
        lose_power(&mut cluster, &luck).await;
        let leader = cluster.leader().await;
        trace.note(format!(
            "node {} leads after blackout {blackout}",
            leader.id
        ));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let after = cluster.agreed().await;
        assert_eq!(
            after, before,
            "everything acknowledged is there, and nothing else"
        );
        assert!(cluster.nodes[&1].machine.applied().id >= applied);
        trace.note(format!("checksum {after:016x}"));
    }
    assert_eq!(
        cluster.value("PRAGMA integrity_check"),
        Value::Text("ok".to_owned())
    );
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    trace.lines
}

/// Every node loses power at once, three times: nothing acknowledged is lost, the bytes stay equal, and the same seed tells the
/// same story to the millisecond.
#[test]
fn a_cluster_survives_blackouts_and_one_seed_is_one_story() {
    for seed in [1, 2] {
        let told = || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            runtime.block_on(story(seed, MemoryLogs::default()))
        };
        let (first, second) = (told(), told());
        assert!(first.len() > 300, "{} events", first.len());
        for (line, (one, other)) in first.iter().zip(&second).enumerate() {
            assert_eq!(one, other, "line {line} of seed {seed}");
        }
        assert_eq!(first.len(), second.len());
    }
}
