//! A client's own transaction on the leader's writer, step by step.

use super::bed::{Bed, Entry, Payload, change, id, seal};
use super::scenes::{IDS, equal, pair};
use crate::PageEpoch;
use sqlrep_core::{
    Applied, Closing, Epoch, EpochEnd, Interactive, Interrupt, Step, Stepped, WriteError,
};
use sqlrep_sql::{Outcome, Reply, Request};
use std::sync::Arc;

fn begin(epoch: &mut PageEpoch) -> Arc<dyn Interrupt> {
    assert!(epoch.seal().is_none(), "nothing else was taken in");
    epoch.begin(None).unwrap()
}

fn step(epoch: &mut PageEpoch, sql: &str) -> Stepped<Reply> {
    epoch.step(Request::execute(sql)).unwrap()
}

/// A statement that succeeds and leaves the transaction open.
fn done(epoch: &mut PageEpoch, sql: &str) {
    let Stepped { reply, open } = step(epoch, sql);
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
    assert!(
        open && !reply.outcomes.iter().any(failed),
        "{sql}: {reply:?}"
    );
}

/// A statement that fails; whether the transaction is still open.
fn fails(epoch: &mut PageEpoch, sql: &str) -> bool {
    let Stepped { reply, open } = step(epoch, sql);
    assert!(
        matches!(reply.outcomes[..], [Outcome::Failed(_)]),
        "{reply:?}"
    );
    open
}

fn committed(epoch: &mut PageEpoch) -> Payload {
    match epoch.commit() {
        Closing::Over(Step::Executed { .. }) => seal(epoch),
        other => panic!("{other:?}"),
    }
}

fn both(leader: &Bed, follower: &Bed, entry: &Entry) {
    for node in [leader, follower] {
        assert!(matches!(node.apply(entry), Some(Applied::Accepted)));
    }
}

/// Rule 41: it begins behind what is in flight, is one set of its own, and readers see nothing of it before that is committed.
#[test]
fn a_commit_is_one_set_behind_those_in_flight() {
    let (leader, follower, mut epoch) = pair();
    change(&mut epoch, "INSERT INTO t VALUES (1, 'in flight')");
    let before = (id(1, 3), seal(&mut epoch));
    begin(&mut epoch);
    done(&mut epoch, "INSERT INTO t SELECT id + 1, random() FROM t");
    both(&leader, &follower, &before);
    done(&mut epoch, "SAVEPOINT a");
    done(&mut epoch, "DELETE FROM t");
    done(&mut epoch, "ROLLBACK TO a");
    let Closing::Open(reply) = epoch.commit() else {
        panic!("a savepoint is open");
    };
    assert!(
        matches!(reply.outcomes[..], [Outcome::Failed(_)]),
        "{reply:?}"
    );
    done(&mut epoch, "RELEASE a");
    assert_eq!(leader.numbers(IDS), [1]);
    let own = (id(1, 4), committed(&mut epoch));
    assert_eq!(leader.numbers(IDS), [1]);
    both(&leader, &follower, &own);
    assert_eq!(follower.numbers(IDS), [1, 2]);
    change(&mut epoch, "INSERT INTO t VALUES (3, 'behind')");
    both(&leader, &follower, &(id(1, 5), seal(&mut epoch)));
    assert_eq!(leader.numbers(IDS), [1, 2, 3]);
    equal(&leader, &follower);
}

/// Rule 25: what is taken back was never there: no version, no set, no schema that is remembered, no time or counter that differs.
#[test]
fn what_is_taken_back_leaves_nothing() {
    let (leader, follower, mut epoch) = pair();
    let before = leader.machine.replica().store().newest();
    for end in ["roll back", "fails", "nothing", "gone"] {
        let stop = begin(&mut epoch);
        match end {
            "roll back" => {
                done(&mut epoch, "CREATE TABLE later (aborted)");
                done(&mut epoch, "INSERT INTO t VALUES (1, 1), (2, 2)");
                epoch.roll_back();
            }
            "fails" => {
                done(&mut epoch, "INSERT INTO t VALUES (1, 1)");
                assert!(
                    fails(&mut epoch, "INSERT INTO t VALUES (1, 2)"),
                    "as in SQLite"
                );
                assert!(!fails(
                    &mut epoch,
                    "INSERT OR ROLLBACK INTO t VALUES (1, 2)"
                ));
            }
            "nothing" => {
                done(&mut epoch, "SELECT * FROM t");
                let commit = epoch.commit();
                assert!(
                    matches!(commit, Closing::Over(Step::Answered(_))),
                    "{commit:?}"
                );
            }
            _ => {
                done(&mut epoch, "INSERT INTO t VALUES (1, 1)");
                stop.interrupt();
                let long = "WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i) SELECT count(*) FROM i";
                let gone = epoch.step(Request::execute(long));
                assert_eq!(gone, Err(WriteError::NotDone));
            }
        }
        assert!(epoch.seal().is_none(), "{end}");
        assert!(epoch.ended().is_none(), "{end}: the epoch goes on");
        let over = epoch.step(Request::execute("DELETE FROM t"));
        assert_eq!(over, Err(WriteError::NotDone), "{end}");
        assert_eq!(leader.machine.replica().store().newest(), before, "{end}");
    }
    change(&mut epoch, "CREATE TABLE later (id INTEGER PRIMARY KEY)");
    change(&mut epoch, "INSERT INTO later VALUES (7)");
    both(&leader, &follower, &(id(1, 3), seal(&mut epoch)));
    assert_eq!(follower.numbers("SELECT id FROM later"), [7]);
    equal(&leader, &follower);
}

/// Rule 41: a reader becomes the writer on its own version or not at all.
#[test]
fn it_begins_on_no_other_version_than_the_one_asked_for() {
    let (leader, _follower, mut epoch) = pair();
    let pinned = leader.machine.replica().store().committed().version.0;
    epoch.begin(Some(pinned)).unwrap();
    epoch.roll_back();
    change(&mut epoch, "INSERT INTO t VALUES (1, 1)");
    let _in_flight = seal(&mut epoch);
    let late = epoch.begin(Some(pinned)).err();
    assert_eq!(late, Some(WriteError::Conflict));
    change(&mut epoch, "INSERT INTO t VALUES (2, 2)");
}

/// Rule 24: the epoch ends with a transaction open: nothing of it stays, and the next epoch begins without it.
#[test]
fn an_abort_takes_it_back() {
    let (leader, follower, mut epoch) = pair();
    begin(&mut epoch);
    done(&mut epoch, "INSERT INTO t VALUES (1, 1)");
    drop(epoch);
    let (mut epoch, stop) = leader.lead(1, 2);
    begin(&mut epoch);
    done(&mut epoch, "INSERT INTO t VALUES (2, 2)");
    let _never = committed(&mut epoch);
    drop(epoch);
    assert_eq!(leader.numbers(IDS), []);
    drop(stop);
    let (mut epoch, stop) = leader.lead(1, 3);
    begin(&mut epoch);
    done(&mut epoch, "INSERT INTO t VALUES (3, 3)");
    stop.interrupt();
    let commit = epoch.commit();
    let refused = matches!(commit, Closing::Over(Step::Refused(WriteError::NotDone)));
    assert!(refused, "{commit:?}");
    assert!(matches!(epoch.ended(), Some(EpochEnd::Interrupted)));
    drop(epoch);
    let (mut epoch, _) = leader.lead(1, 4);
    change(&mut epoch, "INSERT INTO t VALUES (4, 4)");
    both(&leader, &follower, &(id(1, 3), seal(&mut epoch)));
    assert_eq!(follower.numbers(IDS), [4]);
    equal(&leader, &follower);
}

/// Rule 38: it counts from zero, and what it set last is what the database repeats behind it.
#[test]
fn its_counters_are_its_own_until_it_commits() {
    let (_leader, _follower, mut epoch) = pair();
    change(&mut epoch, "INSERT INTO t VALUES (5, 5), (6, 6)");
    let _set = seal(&mut epoch);
    let counts = "SELECT last_insert_rowid(), changes(), total_changes()";
    let shown = |epoch: &mut PageEpoch| {
        let request = Request {
            shape: sqlrep_sql::Shape::Request,
            ..Request::execute(counts)
        };
        match &epoch.step(request).unwrap().reply.outcomes[..] {
            [Outcome::Rows(rows)] => format!("{:?}", rows.values),
            other => panic!("{other:?}"),
        }
    };
    begin(&mut epoch);
    let nothing = shown(&mut epoch);
    assert_eq!(nothing.matches("Integer(0)").count(), 3, "{nothing}");
    done(&mut epoch, "INSERT INTO t VALUES (9, 9)");
    let one = shown(&mut epoch);
    assert!(
        one.contains("Integer(9)") && one.contains("Integer(1)"),
        "{one}"
    );
    epoch.roll_back();
    begin(&mut epoch);
    done(&mut epoch, "UPDATE t SET x = 0");
    let Closing::Over(Step::Executed { reply, .. }) = epoch.commit() else {
        panic!("it changed something");
    };
    let [Outcome::Written(written)] = &reply.outcomes[..] else {
        panic!("{reply:?}");
    };
    assert_eq!((written.last_insert_id, written.rows_affected), (6, 2));
}
