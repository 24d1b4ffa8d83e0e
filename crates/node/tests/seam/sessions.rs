//! Interactive transactions on whole nodes, on simulated disks, network and time.

use crate::world::{LIMIT, World, rows, simulated, write};
use sqlrep_core::{ReadError, ReadLevel, WriteError};
use sqlrep_disk::Loss;
use sqlrep_node::{Mode, Node, SESSIONS_MAX};
use sqlrep_service::{Committed, Database, End, Role, SessionError, SessionId, SessionOptions};
use sqlrep_sql::{Begin, Outcome, Reply, Request, Statement, Value};
use std::sync::Arc;
use std::time::Duration;

pub(crate) type Answered<T> = Result<T, SessionError>;

pub(crate) fn texts(texts: &[&str]) -> Request {
    Request {
        statements: texts.iter().map(|&sql| Statement::text(sql)).collect(),
        ..Request::default()
    }
}

pub(crate) async fn open(node: &Node, begin: Begin) -> SessionId {
    let opened = Box::pin(node.database().open(SessionOptions::new(begin))).await;
    opened.unwrap()
}

pub(crate) async fn run(node: &Node, session: SessionId, sql: &[&str]) -> Answered<Reply> {
    Box::pin(node.database().run(session, texts(sql))).await
}

pub(crate) async fn commit(node: &Node, session: SessionId) -> Answered<Committed> {
    Box::pin(node.database().commit(session)).await
}

pub(crate) async fn rollback(node: &Node, session: SessionId) -> Answered<()> {
    Box::pin(node.database().rollback(session)).await
}

pub(crate) fn integers(reply: &Reply) -> Vec<Vec<i64>> {
    let [Outcome::Rows(rows)] = &reply.outcomes[..] else {
        panic!("{reply:?}");
    };
    let integer = |value: &Value| match value {
        Value::Integer(integer) => *integer,
        other => panic!("{other:?}"),
    };
    let row = |row: &Vec<Value>| row.iter().map(integer).collect();
    rows.values.iter().map(row).collect()
}

pub(crate) async fn counted(node: &Node, sql: &str) -> i64 {
    let found = rows(node, sql, ReadLevel::Linearizable).await.unwrap();
    match found[0][0] {
        Value::Integer(count) => count,
        ref other => panic!("{other:?}"),
    }
}

pub(crate) fn leader(nodes: &[Node]) -> usize {
    let leads = |node: &Node| node.status().role == Role::Leader;
    nodes.iter().position(leads).expect("one of them leads")
}

/// Which node a session lives on that may write and was asked for at `at`.
pub(crate) fn home(nodes: &[Node], at: usize) -> usize {
    match crate::MODE {
        Mode::Statement => at,
        Mode::Page => leader(nodes),
    }
}

pub(crate) async fn filled(world: &mut World) -> Vec<Node> {
    let nodes = world.ready().await;
    write(
        &nodes[0],
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x)".to_owned(),
    )
    .await;
    write(
        &nodes[0],
        "INSERT INTO t VALUES (1, 10), (2, 20)".to_owned(),
    )
    .await;
    nodes
}

/// All nodes have the same bytes at the same index.
pub(crate) async fn agree(nodes: &[Node]) {
    let at = nodes[0].status().log.applied;
    for node in nodes {
        let count = rows(node, "SELECT count(*) FROM t", ReadLevel::Linearizable).await;
        assert!(count.is_some());
    }
    let states = nodes.iter().map(|node| {
        let status = node.status();
        (status.log.applied, status.sqlite.checksum)
    });
    let states: Vec<_> = states.collect();
    assert!(states.iter().all(|one| *one == states[0]), "{states:?}");
    assert!(states[0].0 >= at);
}

/// Rule 41: a session of any node, used through every node, becomes one transaction on all of them; what it drew at random
/// and saw as now is what they hold.
#[test]
fn a_session_of_each_node_through_each_node() {
    simulated(async || {
        let mut world = World::begin(41);
        let nodes = filled(&mut world).await;
        for (at, owner) in nodes.iter().enumerate() {
            let session = open(owner, Begin::Deferred).await;
            let home = &nodes[home(&nodes, at)];
            assert_eq!(session.owner(), home.id());
            let mut drawn = Vec::new();
            for node in &nodes {
                let sql =
                    "INSERT INTO t (x) VALUES (random() % 1000 + unixepoch()) RETURNING id, x";
                let reply = run(node, session, &[sql]).await.unwrap();
                drawn.extend(integers(&reply));
            }
            assert_eq!(
                counted(owner, "SELECT count(*) FROM t").await,
                2 + 3 * at as i64
            );
            let done = commit(&nodes[(at + 1) % 3], session).await.unwrap();
            assert!(done.wrote);
            assert_eq!(home.status().log.applied.map(|id| id.index), Some(done.at));
            for [id, x] in drawn.iter().map(|row| [row[0], row[1]]) {
                let sql = format!("SELECT count(*) FROM t WHERE id = {id} AND x = {x}");
                assert_eq!(counted(owner, &sql).await, 1);
            }
            let again = commit(&nodes[at], session).await.unwrap_err();
            assert_eq!(again, SessionError::Ended(End::Committed(Some(done.at))));
        }
        agree(&nodes).await;
    });
}

#[test]
fn rollback_savepoints_and_a_dropped_session() {
    simulated(async || {
        let mut world = World::of(44, 1);
        let nodes = filled(&mut world).await;
        let node = &nodes[0];
        let session = open(node, Begin::Deferred).await;
        run(node, session, &["DELETE FROM t"]).await.unwrap();
        assert_eq!(rollback(node, session).await, Ok(()));
        assert_eq!(
            rollback(node, session).await,
            Ok(()),
            "once more does no harm"
        );
        let over = run(node, session, &["DELETE FROM t"]).await.unwrap_err();
        assert_eq!(over, SessionError::Ended(End::RolledBack));

        let session = open(node, Begin::Deferred).await;
        run(node, session, &["SAVEPOINT a", "DELETE FROM t"])
            .await
            .unwrap();
        let open_still = commit(node, session).await.unwrap_err();
        assert!(matches!(open_still, SessionError::Open(_)), "{open_still}");
        run(
            node,
            session,
            &["ROLLBACK TO a", "RELEASE a", "UPDATE t SET x = 5"],
        )
        .await
        .unwrap();
        commit(node, session).await.unwrap();
        assert_eq!(counted(node, "SELECT sum(x) FROM t").await, 10);

        let mut dropped = node
            .begin(SessionOptions::new(Begin::Immediate))
            .await
            .unwrap();
        dropped.run(texts(&["DELETE FROM t"])).await.unwrap();
        drop(dropped);
        while metric(node, "sessions_open") > 0.0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(counted(node, "SELECT count(*) FROM t").await, 2);
        assert!(metric(node, "sessions_ended_rolled_back_total") > 1.5);
    });
}

pub(crate) fn metric(node: &Node, name: &str) -> f64 {
    node.status().metrics[name]
}

/// Rule 41: behind a rollback by the server nothing that is sent to the session runs, in autocommit neither, until its client
/// ends it; and the reason is told.
#[test]
fn deadlines_end_a_session_and_nothing_slips_into_autocommit() {
    simulated(async || {
        let mut world = World::begin(45);
        let nodes = filled(&mut world).await;
        let node = &nodes[1];
        let mut options = SessionOptions::new(Begin::Immediate);
        options.idle_max = Duration::from_secs(2);
        options.total_max = Duration::from_secs(5);
        for (pause, expected) in [(2_100, End::Idle), (1_900, End::Total)] {
            let session = node.database().open(options.clone()).await.unwrap();
            let insert = "INSERT INTO t (x) VALUES (1)";
            run(node, session, &[insert]).await.unwrap();
            let end = loop {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                match run(node, session, &[insert]).await {
                    Ok(_) => {}
                    Err(SessionError::Ended(end)) => break end,
                    Err(other) => panic!("{other}"),
                }
            };
            assert_eq!(end, expected);
            for through in &nodes {
                let late = run(through, session, &[insert]).await.unwrap_err();
                assert_eq!(late, SessionError::Ended(end.clone()));
                let late = commit(through, session).await.unwrap_err();
                assert_eq!(late, SessionError::Ended(end.clone()));
            }
            assert_eq!(rollback(node, session).await, Ok(()));
            assert_eq!(counted(node, "SELECT count(*) FROM t").await, 2);
        }
        // Ten minutes later nobody remembers.
        let session = open(node, Begin::Deferred).await;
        rollback(node, session).await.unwrap();
        tokio::time::sleep(Duration::from_secs(601)).await;
        let never = run(node, session, &["SELECT 1"]).await.unwrap_err();
        assert_eq!(never, SessionError::NotFound);
    });
}

/// Rule 41: a read-only session shows its version and never waits for writers, on any node; it never becomes a writer.
#[test]
fn a_read_only_session_shows_one_version() {
    simulated(async || {
        let mut world = World::begin(46);
        let nodes = filled(&mut world).await;
        for node in &nodes {
            let before = counted(node, "SELECT count(*) FROM t").await;
            let session = open(node, Begin::Read).await;
            write(&nodes[0], "INSERT INTO t (x) VALUES (1)".to_owned()).await;
            let refused = run(node, session, &["SELECT 1", "DELETE FROM t"])
                .await
                .unwrap_err();
            assert_eq!(refused, SessionError::ReadOnly);
            let reply = run(node, session, &["SELECT count(*) FROM t"])
                .await
                .unwrap();
            assert_eq!(integers(&reply), [[before]]);
            assert_eq!(counted(node, "SELECT count(*) FROM t").await, before + 1);
            assert!(!commit(node, session).await.unwrap().wrote);
        }
    });
}

/// Rule 41: the leader loses its power at some point of a COMMIT. What its client is told is true: committed once, or not at
/// all, or unknown; and never twice.
#[test]
fn the_leader_dies_during_a_commit() {
    // In page mode no other node ends the COMMIT: some points have to lie behind its end.
    let step = match crate::MODE {
        Mode::Statement => Duration::from_micros(60),
        Mode::Page => Duration::from_micros(500),
    };
    let mut told = Vec::new();
    for turn in 0..12_u32 {
        told.push(simulated(async || {
            let mut world = World::begin(480 + u64::from(turn));
            let mut nodes = filled(&mut world).await;
            let at = leader(&nodes);
            let owner = if turn % 2 == 0 { at } else { (at + 1) % 3 };
            let session = open(&nodes[owner], Begin::Deferred).await;
            let insert = "INSERT INTO t (x) VALUES (random()) RETURNING id";
            run(&nodes[owner], session, &[insert]).await.unwrap();
            let database: Arc<dyn Database> = nodes[owner].database();
            let committing = tokio::spawn(async move { database.commit(session).await });
            tokio::time::sleep(step * turn).await;
            drop(nodes.remove(at));
            world.power_loss(at, Loss::Everything);
            let outcome = committing.await.unwrap();
            nodes.insert(at, world.start_one(at).await.unwrap());
            for node in &nodes {
                Box::pin(node.ready(LIMIT)).await.unwrap();
            }
            let found = counted(&nodes[at], "SELECT count(*) FROM t").await - 2;
            let word = match &outcome {
                Ok(done) => {
                    assert!(done.wrote && found == 1, "{done:?} {found}");
                    "committed"
                }
                Err(SessionError::Write(WriteError::Unknown { .. })) => {
                    assert!(found <= 1);
                    "unknown"
                }
                Err(error) => {
                    assert_eq!(found, 0, "{error}");
                    "refused"
                }
            };
            agree(&nodes).await;
            word
        }));
    }
    told.sort_unstable();
    told.dedup();
    assert!(told.contains(&"committed") && told.len() > 1, "{told:?}");
}

#[test]
fn no_more_than_so_many_are_open() {
    simulated(async || {
        let mut world = World::of(49, 1);
        let nodes = filled(&mut world).await;
        let mut open = Vec::new();
        for number in 0..SESSIONS_MAX {
            // One at most is page mode's writer.
            let second = match crate::MODE {
                Mode::Statement => Begin::Immediate,
                Mode::Page => Begin::Deferred,
            };
            let begin = [Begin::Deferred, second, Begin::Read][number % 3];
            open.push(self::open(&nodes[0], begin).await);
        }
        let begin = || nodes[0].database();
        let full = begin()
            .open(SessionOptions::new(Begin::Deferred))
            .await
            .unwrap_err();
        assert_eq!(
            full,
            SessionError::Full {
                limit: SESSIONS_MAX
            }
        );
        rollback(&nodes[0], open.pop().unwrap()).await.unwrap();
        assert!(
            begin()
                .open(SessionOptions::new(Begin::Deferred))
                .await
                .is_ok()
        );
        assert_eq!(metric(&nodes[0], "sessions_open"), SESSIONS_MAX as f64);
        // One that isn't closed for too long makes room by itself.
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(metric(&nodes[0], "sessions_open"), 0.0);
    });
}

/// Rule 20: what sessions hold open is taken back, not waited for, and what waits behind one goes on elsewhere.
#[test]
fn a_node_that_stops_takes_its_sessions_back_and_says_so() {
    simulated(async || {
        let mut world = World::begin(50);
        let nodes = filled(&mut world).await;
        let session = open(&nodes[1], Begin::Immediate).await;
        let at = home(&nodes, 1);
        let (stopping, other) = (&nodes[at], &nodes[(at + 1) % 3]);
        run(stopping, session, &["DELETE FROM t"]).await.unwrap();
        let behind = write(other, "INSERT INTO t VALUES (7, 7)".to_owned());
        let ((), ()) = tokio::join!(behind, Box::pin(stopping.retire()));
        let over = run(stopping, session, &["DELETE FROM t"])
            .await
            .unwrap_err();
        assert_eq!(over, SessionError::Ended(End::NodeStopped));
        let refused = stopping
            .database()
            .open(SessionOptions::new(Begin::Read))
            .await;
        assert!(refused.is_err());
        assert_eq!(counted(other, "SELECT count(*) FROM t").await, 3);
        let strange = SessionId::new(other.id(), 1);
        assert_eq!(
            run(other, strange, &["SELECT 1"]).await,
            Err(SessionError::NotFound)
        );
    });
}

/// Without a leader a session whose level asks for one isn't begun; one at level none reads what is here.
#[test]
fn levels_decide_how_fresh_a_session_is() {
    simulated(async || {
        let mut world = World::begin(52);
        let mut nodes = filled(&mut world).await;
        let last = nodes.remove(2);
        drop(nodes);
        let mut options = SessionOptions::new(Begin::Read);
        options.bound.wait_max = Some(Duration::from_secs(3));
        let refused = last.database().open(options.clone()).await.unwrap_err();
        let of_read = matches!(
            refused,
            SessionError::Read(ReadError::NotLeader { .. } | ReadError::Timeout { .. })
        );
        assert!(of_read, "{refused}");
        options.level = ReadLevel::None;
        let session = last.database().open(options).await.unwrap();
        let reply = run(&last, session, &["SELECT count(*) FROM t"])
            .await
            .unwrap();
        assert_eq!(integers(&reply), [[2]]);
    });
}
