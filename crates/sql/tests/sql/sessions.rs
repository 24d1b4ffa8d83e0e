//! Transactions of sessions: drafted over a pinned version, replayed in the log.

use crate::bed::{Bed, only, table, untimed};
use proptest::prelude::*;
use rusqlite::ffi;
use sqlrep_env::UnixMillis;
use sqlrep_sql::{Draft, Outcome, Reply, Request, Scene, SqlError, SqlSettings, Statement, Value};
use sqlrep_store::PinKind;
use std::sync::Arc;

fn draft(bed: &Bed) -> Draft {
    let pin = Arc::new(bed.store.pin(PinKind::Sql));
    Draft::begin(&bed.store, &bed.env, &bed.settings, pin).unwrap()
}

/// Runs each text with a scene of its own; all of them have to leave the transaction open.
fn run(draft: &mut Draft, texts: &[&str]) -> Reply {
    let ran = attempt(draft, texts);
    assert!(ran.1, "{:?}", ran.0);
    ran.0
}

fn attempt(draft: &mut Draft, texts: &[&str]) -> (Reply, bool) {
    let request = Request {
        statements: texts.iter().map(|&sql| Statement::text(sql)).collect(),
        ..Request::default()
    };
    let mut seed = draft.texts() as u64 * 100;
    let scene = || {
        seed += 1;
        Scene {
            now: UnixMillis(1_800_000_000_000 + seed),
            seed,
        }
    };
    let ran = draft.run(&request, scene).unwrap();
    (ran.reply, ran.open)
}

fn committed(draft: &mut Draft) -> Request {
    draft.commit().unwrap().unwrap().expect("it wrote")
}

fn refused(draft: &mut Draft) -> SqlError {
    draft.commit().unwrap().unwrap_err()
}

fn is_conflict(reply: &Reply) -> bool {
    matches!(&reply.outcomes[..], [Outcome::Failed(error)] if error.code == ffi::SQLITE_BUSY_SNAPSHOT)
}

fn ledger() -> Bed {
    let mut bed = Bed::new();
    bed.run("CREATE TABLE t (id INTEGER PRIMARY KEY, x NOT NULL)");
    bed.run("INSERT INTO t VALUES (1, 10), (2, 20)");
    bed
}

/// Rule 41: what a session was shown is what the log's replay gives, random values and times too; nothing of it is seen
/// before.
#[test]
fn a_replay_gives_what_the_session_was_shown() {
    let mut bed = ledger();
    let mut draft = draft(&bed);
    let drawn = "INSERT INTO t (x) VALUES (random() || strftime('%s %f', 'now')) RETURNING x";
    let reply = run(&mut draft, &["SELECT sum(x) FROM t", drawn, drawn]);
    let shown: Vec<_> = reply.outcomes[1..].to_vec();
    assert_eq!(bed.values("SELECT count(*) FROM t"), [[Value::Integer(2)]]);
    assert_eq!(draft.texts(), 3);

    let request = committed(&mut draft);
    assert_eq!(bed.write(&request), Reply::default());
    let stored = bed.values("SELECT x FROM t WHERE id > 2");
    let shown: Vec<_> = shown
        .into_iter()
        .flat_map(|one| table(one).values)
        .collect();
    assert_eq!(stored, shown);
    assert_ne!(stored[0], stored[1], "each statement draws for itself");
}

/// Rule 41: a value that was read and has changed, a row that is new, one that is gone: the replay is rolled back and leaves
/// nothing, not a byte.
#[test]
fn what_changed_since_is_a_conflict() {
    for (read, meanwhile) in [
        (
            "SELECT x FROM t WHERE id = 1",
            "UPDATE t SET x = 11 WHERE id = 1",
        ),
        (
            "SELECT count(*) FROM t WHERE x > 5",
            "INSERT INTO t VALUES (3, 30)",
        ),
        ("SELECT id FROM t", "DELETE FROM t WHERE id = 2"),
        ("SELECT * FROM t WHERE id = 1", "ALTER TABLE t ADD COLUMN y"),
        (
            "UPDATE t SET x = 0 WHERE id = 2",
            "DELETE FROM t WHERE id = 2",
        ),
        (
            "INSERT INTO t (x) VALUES (1)",
            "INSERT INTO t (x) VALUES (2)",
        ),
    ] {
        let mut bed = ledger();
        let mut draft = draft(&bed);
        run(&mut draft, &[read, "INSERT INTO t VALUES (9, 90)"]);
        bed.execute(meanwhile);
        let (before, counters) = (bed.checksum(), bed.counters);
        let reply = bed.write(&committed(&mut draft));
        assert!(is_conflict(&reply), "{read}: {reply:?}");
        assert_eq!((bed.checksum(), bed.counters), (before, counters), "{read}");
    }
}

/// Rule 41: what a session didn't look at may change.
#[test]
fn writes_elsewhere_are_no_conflict() {
    let mut bed = ledger();
    let mut draft = draft(&bed);
    let texts = [
        "UPDATE t SET x = x + 1 WHERE id = 1",
        "CREATE TABLE u (y)",
        "INSERT INTO u VALUES (1), (2)",
    ];
    run(&mut draft, &texts);
    bed.run("CREATE TABLE other (z)");
    bed.run("INSERT INTO other VALUES (1)");
    bed.run("UPDATE t SET x = 21 WHERE id = 2");
    assert_eq!(bed.write(&committed(&mut draft)), Reply::default());
    assert_eq!(bed.text("SELECT group_concat(x) FROM t"), "11,21");
    assert_eq!(
        (bed.counters.last_insert_id, bed.counters.rows_affected),
        (2, 2)
    );
}

/// Rule 38: a session counts from zero and sees only its own work.
#[test]
fn counters_are_the_sessions_own() {
    let mut bed = ledger();
    let mut draft = draft(&bed);
    let own = "SELECT last_insert_rowid(), changes(), total_changes()";
    let reply = run(
        &mut draft,
        &[own, "INSERT INTO t VALUES (7, 1), (8, 1)", own],
    );
    let counted = |at: usize| table(reply.outcomes[at].clone()).values.remove(0);
    assert_eq!(counted(0), [0, 0, 0].map(Value::Integer));
    assert_eq!(counted(2), [8, 2, 2].map(Value::Integer));
    assert_eq!(bed.write(&committed(&mut draft)), Reply::default());
}

#[test]
fn a_failed_statement_leaves_the_transaction_open() {
    let mut bed = ledger();
    let mut draft = draft(&bed);
    let texts = [
        "INSERT INTO t VALUES (3, 30)",
        "INSERT INTO t VALUES (4, 40), (1, 0)",
        "no SQL",
        "BEGIN",
        "INSERT INTO t VALUES (5, 50)",
    ];
    let reply = run(&mut draft, &texts);
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
    let failed: Vec<bool> = reply.outcomes.iter().map(failed).collect();
    assert_eq!(failed, [false, true, true, true, false]);
    assert_eq!(bed.write(&committed(&mut draft)), Reply::default());
    assert_eq!(bed.text("SELECT group_concat(id) FROM t"), "1,2,3,5");
}

/// Rule 40: savepoints are tracked over the statements of a session, and balanced at its end.
#[test]
fn savepoints_reach_over_statements() {
    let mut bed = ledger();
    let mut draft = draft(&bed);
    run(&mut draft, &["SAVEPOINT a", "DELETE FROM t"]);
    run(
        &mut draft,
        &["ROLLBACK TO a", "INSERT INTO t VALUES (3, 30)"],
    );
    let error = refused(&mut draft);
    assert!(
        error.message.contains("savepoint a is still open"),
        "{error}"
    );
    assert!(draft.is_open());
    run(&mut draft, &["RELEASE a"]);
    assert_eq!(bed.write(&committed(&mut draft)), Reply::default());
    assert_eq!(bed.text("SELECT group_concat(id) FROM t"), "1,2,3");
}

#[test]
fn what_sqlite_rolls_back_is_over() {
    let bed = ledger();
    let mut draft = draft(&bed);
    let texts = [
        "INSERT INTO t VALUES (3, 30)",
        "INSERT OR ROLLBACK INTO t VALUES (1, 0)",
        "INSERT INTO t VALUES (4, 40)",
    ];
    let (reply, open) = attempt(&mut draft, &texts);
    assert!(!open && reply.outcomes.len() == 2, "{reply:?}");
    assert_eq!(
        attempt(&mut draft, &["SELECT 1"]),
        (Reply::default(), false)
    );
    assert_eq!(refused(&mut draft).code, ffi::SQLITE_ABORT);
}

/// Rule 36: a bound of ours can't take back one statement that wrote; one that only read leaves no trace.
#[test]
fn our_own_bounds_end_what_wrote() {
    let settings = SqlSettings {
        reply_bytes_max: 2_000,
        ..SqlSettings::default()
    };
    let mut bed = Bed::with(settings);
    bed.run("CREATE TABLE t (x)");
    let large = "SELECT randomblob(3000)";
    let mut one = draft(&bed);
    let reply = run(&mut one, &["INSERT INTO t VALUES (1)", large]);
    assert!(
        matches!(&reply.outcomes[1], Outcome::Failed(error) if error.code == ffi::SQLITE_TOOBIG)
    );
    assert_eq!(one.texts(), 1);
    assert_eq!(bed.write(&committed(&mut one)), Reply::default());

    for texts in [
        [
            "INSERT INTO t VALUES (2)",
            "INSERT INTO t VALUES (randomblob(3000)) RETURNING x",
        ],
        [
            "INSERT INTO t VALUES (2)",
            "DELETE FROM t; SELECT randomblob(3000)",
        ],
        [
            "INSERT INTO t VALUES (2)",
            "INSERT INTO t(rowid) VALUES (9223372036854775807)",
        ],
    ] {
        let (reply, open) = attempt(&mut draft(&bed), &texts);
        assert!(!open, "{reply:?}");
    }
    assert_eq!(bed.text("SELECT count(*) FROM t"), "1");
}

#[test]
fn a_deferred_constraint_is_judged_at_the_commit_and_leaves_it_open() {
    let settings = SqlSettings {
        foreign_keys: true,
        ..SqlSettings::default()
    };
    let mut bed = Bed::with(settings);
    bed.run("CREATE TABLE a (id INTEGER PRIMARY KEY)");
    bed.run("CREATE TABLE b (a REFERENCES a DEFERRABLE INITIALLY DEFERRED)");
    let mut draft = draft(&bed);
    run(&mut draft, &["INSERT INTO b VALUES (1)"]);
    let error = refused(&mut draft);
    assert_eq!(error.code & 0xff, ffi::SQLITE_CONSTRAINT);
    assert!(draft.is_open());
    run(&mut draft, &["INSERT INTO a VALUES (1)"]);
    assert_eq!(bed.write(&committed(&mut draft)), Reply::default());
    assert_eq!(bed.text("SELECT count(*) FROM b"), "1");
}

#[test]
fn a_transaction_that_only_read_needs_no_entry() {
    let bed = ledger();
    let mut draft = draft(&bed);
    run(&mut draft, &["SELECT * FROM t", "SELECT nothing"]);
    assert_eq!(draft.commit().unwrap(), Ok(None));
    assert!(!draft.is_open());
}

/// A request that names fewer scenes than statements comes from nobody's session: it is never done.
#[test]
fn a_replay_that_doesnt_fit_is_refused() {
    let mut bed = ledger();
    let mut draft = draft(&bed);
    run(&mut draft, &["DELETE FROM t", "DELETE FROM t"]);
    let mut request = committed(&mut draft);
    request.replay.as_mut().unwrap().scenes.pop();
    assert!(is_conflict(&bed.write(&request)));
    assert_eq!(bed.text("SELECT count(*) FROM t"), "2");
}

fn text() -> impl Strategy<Value = String> {
    let id = 0..6_i64;
    prop_oneof![
        id.clone()
            .prop_map(|id| format!("INSERT INTO t VALUES ({id}, random())")),
        id.clone()
            .prop_map(|id| format!("INSERT OR REPLACE INTO t VALUES ({id}, {id}) RETURNING *")),
        id.clone()
            .prop_map(|id| format!("UPDATE t SET x = x || 'y' WHERE id >= {id}")),
        id.clone()
            .prop_map(|id| format!("DELETE FROM t WHERE id = {id}; SELECT * FROM t")),
        id.prop_map(|id| format!("SELECT count(*), group_concat(x) FROM t WHERE id < {id}")),
        Just("SAVEPOINT s".to_owned()),
        Just("ROLLBACK TO s".to_owned()),
        Just("RELEASE s".to_owned()),
        Just("CREATE TABLE u AS SELECT * FROM t".to_owned()),
        Just("DROP TABLE u".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Rule 41: whatever ran, its replay on the version that it was drafted on isn't refused, and one on another version is
    /// done only if it shows the same; a connection of any history decides alike.
    #[test]
    fn replays_are_decided_alike(
        texts in proptest::collection::vec(text(), 1..12),
        meanwhile in proptest::option::of(text()),
    ) {
        let (mut bed, mut other) = (ledger(), ledger());
        let mut draft = draft(&bed);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        run(&mut draft, &texts);
        let request = loop {
            match draft.commit().unwrap() {
                Ok(request) => break request,
                Err(_) => drop(run(&mut draft, &["RELEASE s"])),
            }
        };
        let Some(request) = request else { return Ok(()) };
        if let Some(sql) = &meanwhile {
            bed.execute(sql);
            other.execute(sql);
        }
        bed.reopen();
        let (one, two) = (bed.write(&request), other.write(&request));
        prop_assert_eq!(&one, &two);
        prop_assert_eq!(bed.checksum(), other.checksum());
        prop_assert!(meanwhile.is_some() || one == Reply::default());
    }
}

/// A reply's time isn't what is compared.
#[test]
fn a_draft_answers_as_a_request_does() {
    let mut bed = ledger();
    let sql = "INSERT INTO t VALUES (5, 5) RETURNING id, x";
    let mut draft = draft(&bed);
    let shown = untimed(run(&mut draft, &[sql]));
    let direct = untimed(bed.write(&Request::execute(sql)));
    assert_eq!(only(shown), only(direct));
}
