//! Interactive transactions on whole nodes, on simulated disks, network and time.

use crate::world::{LIMIT, World, rows, simulated, write};
use sqlrep_core::{ReadError, ReadLevel, WriteError};
use sqlrep_disk::Loss;
use sqlrep_node::{Node, SESSIONS_MAX};
use sqlrep_service::{Committed, Database, End, Role, SessionError, SessionId, SessionOptions};
use sqlrep_sql::{Begin, Outcome, Reply, Request, Statement, Value};
use std::sync::Arc;
use std::time::Duration;

type Answered<T> = Result<T, SessionError>;

fn texts(texts: &[&str]) -> Request {
    Request {
        statements: texts.iter().map(|&sql| Statement::text(sql)).collect(),
        ..Request::default()
    }
}

async fn open(node: &Node, begin: Begin) -> SessionId {
    let opened = Box::pin(node.database().open(SessionOptions::new(begin))).await;
    opened.unwrap()
}

async fn run(node: &Node, session: SessionId, sql: &[&str]) -> Answered<Reply> {
    Box::pin(node.database().run(session, texts(sql))).await
}

async fn commit(node: &Node, session: SessionId) -> Answered<Committed> {
    Box::pin(node.database().commit(session)).await
}

async fn rollback(node: &Node, session: SessionId) -> Answered<()> {
    Box::pin(node.database().rollback(session)).await
}

fn integers(reply: &Reply) -> Vec<Vec<i64>> {
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

async fn counted(node: &Node, sql: &str) -> i64 {
    let found = rows(node, sql, ReadLevel::Linearizable).await.unwrap();
    match found[0][0] {
        Value::Integer(count) => count,
        ref other => panic!("{other:?}"),
    }
}

fn leader(nodes: &[Node]) -> usize {
    let leads = |node: &Node| node.status().role == Role::Leader;
    nodes.iter().position(leads).expect("one of them leads")
}

async fn filled(world: &mut World) -> Vec<Node> {
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
async fn agree(nodes: &[Node]) {
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
            assert_eq!(session.owner(), owner.id());
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
            assert_eq!(owner.status().log.applied.map(|id| id.index), Some(done.at));
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

/// Rule 41: what it was shown has changed: a conflict, on all nodes alike, and nothing is done; run again it is.
#[test]
fn a_concurrent_write_and_a_phantom_are_conflicts() {
    simulated(async || {
        let mut world = World::begin(42);
        let nodes = filled(&mut world).await;
        for (shown, meanwhile) in [
            (
                "SELECT x FROM t WHERE id = 1",
                "UPDATE t SET x = x + 1 WHERE id = 1",
            ),
            (
                "SELECT count(*) FROM t WHERE x > 5",
                "INSERT INTO t (x) VALUES (6)",
            ),
        ] {
            let mut session = nodes[1]
                .begin(SessionOptions::new(Begin::Immediate))
                .await
                .unwrap();
            session
                .run(texts(&[shown, "INSERT INTO t VALUES (99, 0)"]))
                .await
                .unwrap();
            write(&nodes[2], meanwhile.to_owned()).await;
            let refused = session.commit().await.unwrap_err();
            assert_eq!(refused, SessionError::Write(WriteError::Conflict));
            let over = session.run(texts(&["SELECT 1"])).await.unwrap_err();
            assert_eq!(
                over,
                SessionError::Ended(End::Refused(WriteError::Conflict))
            );
            assert_eq!(session.rollback().await, Ok(()));
            assert_eq!(
                counted(&nodes[0], "SELECT count(*) FROM t WHERE id = 99").await,
                0
            );
        }
        let mut session = nodes[1]
            .begin(SessionOptions::new(Begin::Immediate))
            .await
            .unwrap();
        session
            .run(texts(&["SELECT x FROM t", "INSERT INTO t VALUES (99, 0)"]))
            .await
            .unwrap();
        assert!(session.commit().await.unwrap().wrote);
        agree(&nodes).await;
    });
}

/// Two sessions that each read what the other writes: write skew. One of them commits.
#[test]
fn write_skew_doesnt_happen() {
    simulated(async || {
        let mut world = World::begin(43);
        let nodes = filled(&mut world).await;
        let one = open(&nodes[0], Begin::Deferred).await;
        let two = open(&nodes[1], Begin::Deferred).await;
        let sum = "SELECT sum(x) FROM t";
        run(&nodes[0], one, &[sum, "UPDATE t SET x = 0 WHERE id = 1"])
            .await
            .unwrap();
        run(&nodes[1], two, &[sum, "UPDATE t SET x = 0 WHERE id = 2"])
            .await
            .unwrap();
        assert!(commit(&nodes[0], one).await.is_ok());
        let refused = commit(&nodes[1], two).await.unwrap_err();
        assert_eq!(refused, SessionError::Write(WriteError::Conflict));
        assert_eq!(counted(&nodes[2], sum).await, 20);
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

fn metric(node: &Node, name: &str) -> f64 {
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

/// Rule 41: in statement mode no leadership has to last. A session goes on when leadership is handed over, and when the
/// leader dies; its COMMIT is proposed by whoever leads then.
#[test]
fn the_leader_changes_between_begin_and_commit() {
    simulated(async || {
        let mut world = World::begin(47);
        let mut nodes = filled(&mut world).await;
        let first = leader(&nodes);
        let owner = (first + 1) % 3;
        let session = open(&nodes[owner], Begin::Immediate).await;
        run(&nodes[first], session, &["INSERT INTO t VALUES (3, 30)"])
            .await
            .unwrap();
        let next = nodes[(first + 2) % 3].id();
        let moved = nodes[first].admin().step_down(Some(next), LIMIT).await;
        assert_eq!(moved, Ok(()));
        run(&nodes[owner], session, &["INSERT INTO t VALUES (4, 40)"])
            .await
            .unwrap();
        assert!(commit(&nodes[owner], session).await.unwrap().wrote);

        let mut options = SessionOptions::new(Begin::Immediate);
        options.idle_max = LIMIT;
        let session = nodes[owner].database().open(options).await.unwrap();
        run(&nodes[owner], session, &["INSERT INTO t VALUES (5, 50)"])
            .await
            .unwrap();
        drop(nodes.remove((first + 2) % 3));
        let owner = if (first + 2) % 3 < owner {
            owner - 1
        } else {
            owner
        };
        assert!(commit(&nodes[owner], session).await.unwrap().wrote);
        assert_eq!(counted(&nodes[owner], "SELECT sum(id) FROM t").await, 15);
    });
}

/// Rule 41: the leader loses its power at some point of a COMMIT. What its client is told is true: committed once, or not at
/// all, or unknown; and never twice.
#[test]
fn the_leader_dies_during_a_commit() {
    let mut told = Vec::new();
    for turn in 0..12_u64 {
        told.push(simulated(async || {
            let mut world = World::begin(480 + turn);
            let mut nodes = filled(&mut world).await;
            let at = leader(&nodes);
            let owner = if turn % 2 == 0 { at } else { (at + 1) % 3 };
            let session = open(&nodes[owner], Begin::Deferred).await;
            let insert = "INSERT INTO t (x) VALUES (random()) RETURNING id";
            run(&nodes[owner], session, &[insert]).await.unwrap();
            let database: Arc<dyn Database> = nodes[owner].database();
            let committing = tokio::spawn(async move { database.commit(session).await });
            tokio::time::sleep(Duration::from_micros(60 * turn)).await;
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
            let begin = [Begin::Deferred, Begin::Immediate, Begin::Read][number % 3];
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

#[test]
fn a_node_that_stops_takes_its_sessions_back_and_says_so() {
    simulated(async || {
        let mut world = World::begin(50);
        let nodes = filled(&mut world).await;
        let session = open(&nodes[1], Begin::Immediate).await;
        run(&nodes[1], session, &["DELETE FROM t"]).await.unwrap();
        Box::pin(nodes[1].retire()).await;
        let over = run(&nodes[1], session, &["DELETE FROM t"])
            .await
            .unwrap_err();
        assert_eq!(over, SessionError::Ended(End::NodeStopped));
        let refused = nodes[1]
            .database()
            .open(SessionOptions::new(Begin::Read))
            .await;
        assert!(refused.is_err());
        assert_eq!(counted(&nodes[0], "SELECT count(*) FROM t").await, 2);
        let strange = SessionId::new(nodes[0].id(), 1);
        assert_eq!(
            run(&nodes[0], strange, &["SELECT 1"]).await,
            Err(SessionError::NotFound)
        );
    });
}

/// At its bounds a call is refused as a whole and the transaction stays as it is.
#[test]
fn a_transaction_holds_so_many_statements() {
    simulated(async || {
        let mut world = World::of(51, 1);
        let nodes = filled(&mut world).await;
        let session = open(&nodes[0], Begin::Deferred).await;
        let many = vec!["UPDATE t SET x = x + 1 WHERE id = 1"; 1_000];
        run(&nodes[0], session, &many).await.unwrap();
        let refused = run(&nodes[0], session, &many[..25]).await.unwrap_err();
        assert!(
            matches!(refused, SessionError::TooLong { limit: 1_024, .. }),
            "{refused}"
        );
        let long = format!("SELECT '{}'", "x".repeat(9 << 20));
        let refused = run(&nodes[0], session, &[&long]).await.unwrap_err();
        assert!(matches!(refused, SessionError::TooLong { .. }), "{refused}");
        commit(&nodes[0], session).await.unwrap();
        assert_eq!(
            counted(&nodes[0], "SELECT x FROM t WHERE id = 1").await,
            1_010
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
