//! Statement mode's interactive transactions: they wait for nobody, and their COMMIT may be a conflict.

use crate::sessions::{agree, commit, counted, filled, leader, open, run, texts};
use crate::world::{LIMIT, World, simulated, write};
use sqlrep_core::WriteError;
use sqlrep_service::{End, SessionError, SessionOptions};
use sqlrep_sql::Begin;

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
