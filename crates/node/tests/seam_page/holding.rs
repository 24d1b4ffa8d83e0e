//! Page mode's interactive transactions: one of them has the writer at a time, and the others wait in line.

use crate::sessions::{
    agree, commit, counted, filled, integers, leader, open, rollback, run, texts,
};
use crate::world::{LIMIT, World, rows, simulated, write};
use sqlrep_core::{ReadLevel, WriteError};
use sqlrep_disk::Loss;
use sqlrep_node::Node;
use sqlrep_service::{Database, End, SessionError, SessionId, SessionOptions, WRITER_WAIT_MAX};
use sqlrep_sql::{Begin, Request};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Behind this, whoever was to come into the line has.
const A_MOMENT: Duration = Duration::from_millis(100);

fn patient(begin: Begin) -> SessionOptions {
    SessionOptions {
        idle_max: LIMIT,
        total_max: LIMIT,
        ..SessionOptions::new(begin)
    }
}

async fn open_patient(node: &Node, begin: Begin) -> SessionId {
    node.database().open(patient(begin)).await.unwrap()
}

/// A write that a client sends now and waits for.
async fn sent(node: &Node, sql: &str) -> JoinHandle<Result<(), WriteError>> {
    let (database, request) = (node.database(), Request::execute(sql));
    let options = sqlrep_service::WriteOptions::default();
    let sent = tokio::spawn(async move { database.execute(request, options).await.map(drop) });
    tokio::time::sleep(A_MOMENT).await;
    sent
}

async fn ids(node: &Node) -> Vec<i64> {
    let sql = "SELECT group_concat(id, ' ') FROM (SELECT id FROM t ORDER BY rowid)";
    let found = rows(node, sql, ReadLevel::Linearizable).await.unwrap();
    let sqlrep_sql::Value::Text(text) = &found[0][0] else {
        panic!("{found:?}");
    };
    text.split(' ').map(|id| id.parse().unwrap()).collect()
}

/// Rule 41: one fair line for sessions and writes of their own: each has its turn in the order in which it came, whichever node it
/// came to, and what a session read before it wrote is still so at its COMMIT.
#[test]
fn a_second_writer_waits_for_its_turn() {
    simulated(async || {
        let mut world = World::begin(61);
        let nodes = filled(&mut world).await;
        let next = "INSERT INTO t SELECT max(id) + 1, sum(x) FROM t RETURNING id";
        let one = open_patient(&nodes[0], Begin::Immediate).await;
        let shown = run(&nodes[0], one, &[next]).await.unwrap();
        assert_eq!(integers(&shown), [[3]]);
        let first = sent(&nodes[1], "UPDATE t SET x = x + 1 WHERE id = 3").await;
        let database: Arc<dyn Database> = nodes[2].database();
        let opening = tokio::spawn(async move {
            let opened = database.open(patient(Begin::Immediate)).await;
            opened.unwrap()
        });
        tokio::time::sleep(A_MOMENT).await;
        let last = sent(&nodes[0], "DELETE FROM t WHERE id = 4 AND x = 61").await;
        assert!(!first.is_finished() && !opening.is_finished() && !last.is_finished());
        assert_eq!(ids(&nodes[1]).await, [1, 2], "readers wait for nobody");
        commit(&nodes[1], one).await.unwrap();
        first.await.unwrap().unwrap();
        let two = opening.await.unwrap();
        let shown = run(&nodes[0], two, &[next]).await.unwrap();
        assert_eq!(integers(&shown), [[4]]);
        assert!(!last.is_finished());
        commit(&nodes[0], two).await.unwrap();
        last.await.unwrap().unwrap();
        assert_eq!(ids(&nodes[2]).await, [1, 2, 3]);
        agree(&nodes).await;
    });
}

/// Rule 41: what would be write skew: the second session waits, and sees what the first one did.
#[test]
fn a_transaction_reads_what_the_one_before_it_wrote() {
    simulated(async || {
        let mut world = World::begin(62);
        let nodes = filled(&mut world).await;
        let sum = "SELECT sum(x) FROM t";
        let one = open(&nodes[0], Begin::Immediate).await;
        let database: Arc<dyn Database> = nodes[1].database();
        let other = tokio::spawn(async move {
            let two = database.open(patient(Begin::Immediate)).await.unwrap();
            let reply = database.run(two, texts(&[sum])).await.unwrap();
            database.commit(two).await.unwrap();
            integers(&reply)
        });
        run(&nodes[0], one, &[sum, "UPDATE t SET x = 0 WHERE id = 1"])
            .await
            .unwrap();
        commit(&nodes[0], one).await.unwrap();
        assert_eq!(other.await.unwrap(), [[20]]);
    });
}

/// Rule 41: a client that says nothing holds up the others for as long as it may idle, no longer; and a client that goes away in the
/// middle of a statement for no time.
#[test]
fn the_line_goes_on_when_a_session_idles_or_is_dropped() {
    simulated(async || {
        let mut world = World::begin(63);
        let nodes = filled(&mut world).await;
        let session = open(&nodes[1], Begin::Immediate).await;
        run(&nodes[1], session, &["DELETE FROM t"]).await.unwrap();
        let waits = sent(&nodes[2], "INSERT INTO t VALUES (3, 30)").await;
        let began = tokio::time::Instant::now();
        waits.await.unwrap().unwrap();
        let idle = began.elapsed();
        let idle_max = SessionOptions::new(Begin::Immediate).idle_max;
        assert!(idle <= idle_max && idle > idle_max / 2, "{idle:?}");
        let over = commit(&nodes[0], session).await.unwrap_err();
        assert_eq!(over, SessionError::Ended(End::Idle));
        for node in &nodes {
            let mut dropped = node.begin(patient(Begin::Immediate)).await.unwrap();
            dropped.run(texts(&["DELETE FROM t"])).await.unwrap();
            drop(dropped);
            let began = tokio::time::Instant::now();
            write(node, "UPDATE t SET x = 1 WHERE id = 1".to_owned()).await;
            assert!(began.elapsed() < Duration::from_secs(1));
        }
        assert_eq!(ids(&nodes[0]).await, [1, 2, 3]);
        agree(&nodes).await;
    });
}

/// Rule 41: clients of a follower that go away in line, or just as their turn comes, hold up nobody. The going away travels with a
/// beat of half a second, and an opening that was granted before it came back to nobody: its session, which no client knew, held the
/// writer until it had idled for long enough.
#[test]
fn an_opening_that_nobody_waits_for_is_undone() {
    simulated(async || {
        let mut world = World::begin(66);
        let nodes = filled(&mut world).await;
        let leader = leader(&nodes);
        let follower = &nodes[(leader + 1) % 3];
        let held = open_patient(&nodes[leader], Begin::Immediate).await;
        let open = |_| {
            let database: Arc<dyn Database> = follower.database();
            tokio::spawn(async move { database.open(patient(Begin::Immediate)).await })
        };
        let opening: Vec<_> = (0..3).map(open).collect();
        tokio::time::sleep(A_MOMENT).await;
        for client in opening {
            assert!(!client.is_finished(), "it waits in line");
            client.abort();
        }
        rollback(&nodes[leader], held).await.unwrap();
        let began = tokio::time::Instant::now();
        let insert = "INSERT INTO t VALUES (3, 30)".to_owned();
        write(&nodes[leader], insert).await;
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(ids(&nodes[leader]).await, [1, 2, 3]);
    });
}

/// Rule 41: a deferred session reads one version; it becomes the writer if that is the newest, and else stays a reader.
#[test]
fn a_reader_becomes_the_writer_only_on_the_newest_version() {
    simulated(async || {
        let mut world = World::begin(64);
        let nodes = filled(&mut world).await;
        let (count, insert) = ("SELECT count(*) FROM t", "INSERT INTO t (x) VALUES (1)");
        for node in &nodes {
            let before = counted(node, count).await;
            let session = open(node, Begin::Deferred).await;
            run(node, session, &[count]).await.unwrap();
            write(node, insert.to_owned()).await;
            let refused = run(node, session, &[insert]).await.unwrap_err();
            assert_eq!(refused, SessionError::Outdated);
            let shown = run(node, session, &[count]).await.unwrap();
            assert_eq!(integers(&shown), [[before]], "it reads its version still");
            assert!(!commit(node, session).await.unwrap().wrote);

            let session = open(node, Begin::Deferred).await;
            run(node, session, &[count]).await.unwrap();
            let sql = [
                "SAVEPOINT a",
                insert,
                "ROLLBACK TO a",
                "RELEASE a",
                insert,
                count,
            ];
            let reply = run(node, session, &sql).await.unwrap();
            let shown = reply.outcomes.last().cloned().into_iter().collect();
            let shown = integers(&sqlrep_sql::Reply { outcomes: shown });
            assert_eq!(shown, [[before + 2]]);
            assert!(commit(node, session).await.unwrap().wrote);
        }
        agree(&nodes).await;
    });
}

/// Rule 41: whose turn doesn't come in time is told so, and nothing was begun; a deferred session goes on as the reader it is.
#[test]
fn the_wait_for_the_writer_runs_out() {
    simulated(async || {
        let mut world = World::begin(65);
        let nodes = filled(&mut world).await;
        let deferred = open_patient(&nodes[0], Begin::Deferred).await;
        let holder = open_patient(&nodes[1], Begin::Immediate).await;
        let expired = |error: &SessionError| {
            let late = matches!(error, SessionError::Write(WriteError::Expired { waited }) if *waited == WRITER_WAIT_MAX);
            assert!(late, "{error}");
        };
        for node in &nodes {
            let refused = node.database().open(patient(Begin::Immediate)).await;
            expired(&refused.unwrap_err());
        }
        let insert = "INSERT INTO t VALUES (3, 3)";
        expired(&run(&nodes[2], deferred, &[insert]).await.unwrap_err());
        rollback(&nodes[0], holder).await.unwrap();
        run(&nodes[2], deferred, &[insert]).await.unwrap();
        commit(&nodes[2], deferred).await.unwrap();
        assert_eq!(ids(&nodes[1]).await, [1, 2, 3]);
    });
}

/// Rule 41: leadership is handed over: at once, and every session of the leader ends with it, those that have the writer and those that
/// might have become it. Nothing of them is there.
#[test]
fn sessions_end_with_the_leadership() {
    simulated(async || {
        let mut world = World::begin(66);
        let nodes = filled(&mut world).await;
        let at = leader(&nodes);
        let holder = open_patient(&nodes[at], Begin::Immediate).await;
        let reader = open_patient(&nodes[(at + 1) % 3], Begin::Deferred).await;
        let read_only = open_patient(&nodes[at], Begin::Read).await;
        let delete = ["DELETE FROM t"];
        run(&nodes[0], holder, &delete).await.unwrap();
        run(&nodes[0], reader, &["SELECT 1"]).await.unwrap();
        let to = nodes[(at + 2) % 3].id();
        let moved = nodes[at].admin().step_down(Some(to), LIMIT).await;
        assert_eq!(moved, Ok(()));
        for (session, node) in [(holder, &nodes[0]), (reader, &nodes[1])] {
            let over = run(node, session, &delete).await.unwrap_err();
            assert_eq!(over, SessionError::Ended(End::LeaderChanged));
            let over = commit(node, session).await.unwrap_err();
            assert_eq!(over, SessionError::Ended(End::LeaderChanged));
            assert_eq!(rollback(node, session).await, Ok(()));
        }
        run(&nodes[at], read_only, &["SELECT 1"]).await.unwrap();
        let again = open(&nodes[at], Begin::Immediate).await;
        assert_eq!(again.owner(), to);
        assert_eq!(ids(&nodes[0]).await, [1, 2]);
    });
}

/// Rule 41: the leader dies with a session open: nothing of it is anywhere, and whoever asks for it isn't told that it was done.
#[test]
fn nothing_is_left_of_a_session_whose_node_died() {
    simulated(async || {
        let mut world = World::begin(67);
        let mut nodes = filled(&mut world).await;
        let at = leader(&nodes);
        let session = open_patient(&nodes[at], Begin::Immediate).await;
        run(&nodes[at], session, &["DELETE FROM t"]).await.unwrap();
        drop(nodes.remove(at));
        world.power_loss(at, Loss::Everything);
        write(&nodes[0], "INSERT INTO t VALUES (3, 30)".to_owned()).await;
        let refused = commit(&nodes[0], session).await.unwrap_err();
        assert!(matches!(refused, SessionError::Unreachable(_)), "{refused}");
        nodes.insert(at, world.start_one(at).await.unwrap());
        for node in &nodes {
            Box::pin(node.ready(LIMIT)).await.unwrap();
        }
        let gone = commit(&nodes[(at + 1) % 3], session).await.unwrap_err();
        assert_eq!(gone, SessionError::NotFound);
        assert_eq!(ids(&nodes[0]).await, [1, 2, 3]);
        agree(&nodes).await;
    });
}

/// Rule 41: a leader that is cut off proposes a COMMIT that never gets a majority: its outcome is unknown until it is known
/// that it wasn't done, and never told as anything else.
#[test]
fn the_outcome_of_a_lost_commit_is_unknown() {
    simulated(async || {
        let mut world = World::begin(68);
        let nodes = filled(&mut world).await;
        let at = leader(&nodes);
        let session = open_patient(&nodes[at], Begin::Immediate).await;
        run(&nodes[at], session, &["DELETE FROM t"]).await.unwrap();
        world.board.isolate(nodes[at].id());
        let lost = commit(&nodes[at], session).await.unwrap_err();
        let unknown = matches!(lost, SessionError::Write(WriteError::Unknown { .. }));
        assert!(unknown, "{lost}");
        let over = run(&nodes[at], session, &["SELECT 1"]).await.unwrap_err();
        assert!(
            matches!(over, SessionError::Ended(End::Unknown(_))),
            "{over}"
        );
        world.board.heal();
        assert_eq!(ids(&nodes[at]).await, [1, 2]);
        agree(&nodes).await;
    });
}

/// Rule 25: a session that only reads as the writer, or takes back what it did, leaves nothing in the log or in the database.
#[test]
fn a_rollback_leaves_no_trace() {
    simulated(async || {
        let mut world = World::of(69, 1);
        let nodes = filled(&mut world).await;
        let node = &nodes[0];
        let before = (node.status().log.applied, node.status().sqlite.checksum);
        for end in ["ROLLBACK", "COMMIT"] {
            let session = open(node, Begin::Immediate).await;
            let drawn = "INSERT INTO t VALUES (9, random())";
            let sql = match end {
                "ROLLBACK" => ["CREATE TABLE u (x)", "DELETE FROM t", drawn],
                _ => ["SELECT 1", "SELECT * FROM t", "DELETE FROM t WHERE id > 99"],
            };
            run(node, session, &sql).await.unwrap();
            match end {
                "ROLLBACK" => rollback(node, session).await.unwrap(),
                _ => drop(commit(node, session).await.unwrap()),
            }
        }
        let after = (node.status().log.applied, node.status().sqlite.checksum);
        assert_eq!(after.1, before.1);
        write(node, "CREATE TABLE u (y)".to_owned()).await;
        let session = open(node, Begin::Immediate).await;
        let ended = run(node, session, &["INSERT OR ROLLBACK INTO t VALUES (1, 1)"]).await;
        assert!(ended.is_ok(), "the error is an outcome: {ended:?}");
        let over = commit(node, session).await.unwrap_err();
        assert_eq!(over, SessionError::Ended(End::Statement));
        write(node, "INSERT INTO u VALUES (1)".to_owned()).await;
        assert_eq!(ids(node).await, [1, 2]);
    });
}

/// Rule 36: a transaction that changes more pages than one may is refused at its COMMIT, with what to do, and leaves nothing; the line
/// goes on.
#[test]
fn a_transaction_over_the_limit_is_refused() {
    simulated(async || {
        let mut world = World::of(70, 1);
        let limit = ("transaction_pages_max".to_owned(), "16".to_owned());
        world.cluster_settings.extend([limit]);
        let nodes = filled(&mut world).await;
        let node = &nodes[0];
        let session = open_patient(node, Begin::Immediate).await;
        let insert = "INSERT INTO t (x) VALUES (zeroblob(20000))";
        for _ in 0..10 {
            run(node, session, &[insert]).await.unwrap();
        }
        let refused = commit(node, session).await.unwrap_err();
        assert!(
            refused.to_string().contains("transaction_pages_max"),
            "{refused}"
        );
        rollback(node, session).await.unwrap();
        write(node, "INSERT INTO t VALUES (3, 30)".to_owned()).await;
        assert_eq!(ids(node).await, [1, 2, 3]);
    });
}
