//! What one machine does with the bodies that an epoch made.

use super::bed::*;
use bytes::Bytes;
use sqlrep_core::{Committed, Epoch, StateMachine, Step, Which, WriteError};
use sqlrep_disk::{Loss, SimulatedDisk};
use sqlrep_env::{Env, SimulatedClock};
use sqlrep_replica::{CheckpointPolicy, Replica};
use sqlrep_sql::{Outcome, Reply, Request, Shape, SqlSettings, Statement, Value, Written};
use sqlrep_statement_sm::StatementMachine;
use std::sync::Arc;
use std::time::Duration;

fn written(reply: &Reply) -> (i64, u64) {
    match reply.outcomes.last() {
        Some(Outcome::Written(Written {
            last_insert_id,
            rows_affected,
            ..
        })) => (*last_insert_id, *rows_affected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_travel_in_one_body_and_come_back_as_one_reply_each() {
    let bed = Bed::new(1);
    let mut epoch = begin(&bed.machine);
    let requests = [
        Request::execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)"),
        Request::execute("INSERT INTO t(b) VALUES ('x'), ('y')"),
        Request::execute("INSERT INTO nowhere VALUES (1)"),
        Request::execute("DELETE FROM t WHERE a = 1"),
    ];
    let body = sealed(&mut epoch, &requests);
    assert!(epoch.seal().is_none());
    let replies = bed.apply(1, &body);
    assert_eq!(replies.len(), 4);
    assert_eq!(written(&replies[1]), (2, 2));
    assert!(error_of(&replies[2]).contains("nowhere"));
    assert_eq!(written(&replies[3]), (2, 1));
    assert_eq!(bed.value("SELECT count(*) FROM t"), Value::Integer(1));
}

#[test]
fn an_empty_request_needs_no_entry() {
    let bed = Bed::new(2);
    let mut epoch = begin(&bed.machine);
    let step = epoch.run(Request::default());
    assert!(matches!(step, Step::Answered(reply) if reply == Reply::default()));
    assert!(epoch.seal().is_none());
}

#[test]
fn what_no_node_could_decode_is_refused_before_it_is_proposed() {
    let bed = Bed::new(3);
    let mut epoch = begin(&bed.machine);
    let many = Request {
        statements: vec![Statement::default(); 1 << 20],
        ..Request::default()
    };
    assert!(matches!(
        epoch.run(many),
        Step::Refused(WriteError::TooLarge { .. })
    ));
    let large = |mib: usize| Request::execute(" ".repeat(mib << 20));
    assert!(matches!(
        epoch.run(large(17)),
        Step::Refused(WriteError::TooLarge { .. })
    ));
    assert!(matches!(epoch.run(large(9)), Step::Encoded));
    assert!(matches!(
        epoch.run(large(9)),
        Step::Refused(WriteError::Overloaded)
    ));
    let sealed = epoch.seal().unwrap();
    bed.apply(1, &sealed.body);
    assert!(
        matches!(epoch.run(large(9)), Step::Encoded),
        "there is room again"
    );
}

/// Rule 4: nothing of an entry is visible before its end.
#[test]
fn an_entry_is_invisible_until_it_is_finished() {
    let bed = Bed::new(4);
    good(&bed.write("CREATE TABLE t(a)"));
    let body = sealed(
        &mut begin(&bed.machine),
        &[Request::execute("INSERT INTO t VALUES (1)")],
    );
    good(&bed.prepare(2, &body).unwrap()[0]);
    assert_eq!(bed.value("SELECT count(*) FROM t"), Value::Integer(0));
    assert_eq!(bed.machine.applied().id, Some(id(1)));
    bed.finish(2);
    assert_eq!(bed.value("SELECT count(*) FROM t"), Value::Integer(1));
}

/// Rule 15: only reset points, and ends behind them without SQL, become durable or are sent.
#[test]
fn positions_and_snapshots_are_taken_at_reset_points() {
    let bed = Bed::new(5);
    bed.finish(1);
    assert_eq!(
        bed.checkpoint(),
        Some(1),
        "no SQL ran yet: members alone make a position"
    );
    let mut epoch = begin(&bed.machine);
    let mut next = |sql: &str| sealed(&mut epoch, &[Request::execute(sql)]);
    // The first entry of a leadership is a reset point.
    bed.apply(2, &next("CREATE TABLE t(a)"));
    assert_eq!(bed.checkpoint(), Some(2));
    bed.finish(3);
    assert_eq!(bed.checkpoint(), Some(3), "no SQL behind it");
    bed.apply(4, &next("INSERT INTO t VALUES (1)"));
    bed.finish(5);
    assert_eq!(bed.checkpoint(), Some(3), "the connection has a history");
    let sent = bed.machine.snapshot(Which::Newest).unwrap().unwrap();
    assert_eq!(sqlrep_core::SnapshotSource::end(&sent).id, Some(id(3)));
    for index in 6..69 {
        bed.apply(index, &next("INSERT INTO t VALUES (1)"));
    }
    assert_eq!(bed.checkpoint(), Some(68), "64 entries are a reset point");
    let again = bed.crashed(Loss::Everything);
    assert_eq!(again.machine.applied().id, Some(id(68)));
    assert_eq!(again.value("SELECT count(*) FROM t"), Value::Integer(64));
}

/// Rule 11: with memory used up and nowhere to move images to, a leader proposes nothing until a checkpoint has made room; where
/// none can, because no reset point came yet, it goes on to one.
#[test]
fn a_leader_waits_for_a_checkpoint_when_memory_is_used_up() {
    let disk = SimulatedDisk::new(17);
    let options = sqlrep_store::Options {
        version_bytes_max: 1 << 20,
        spill_bytes_max: 0,
        ..sqlrep_store::Options::new(Arc::new(disk.clone()))
    };
    let env = Env::inline(17);
    let store = sqlrep_store::Store::open(options).unwrap();
    let replica = Replica::new(store, env.clone(), CheckpointPolicy::default());
    let settings = SqlSettings::default();
    let machine = StatementMachine::open(Arc::new(replica), settings.clone()).unwrap();
    let bed = Bed {
        disk,
        env,
        machine,
        settings,
    };
    good(&bed.write("CREATE TABLE t(a)"));
    let mut epoch = begin(&bed.machine);
    let (mut waited, mut written) = (0, 0);
    while written < 300 {
        match epoch.run(Request::execute("INSERT INTO t VALUES (randomblob(50000))")) {
            Step::Encoded => {
                good(&bed.apply(bed.next(), &epoch.seal().unwrap().body)[0]);
                written += 1;
            }
            Step::Refused(WriteError::Overloaded) => {
                waited += 1;
                // Not asked for by force: used up memory makes it due.
                let before = bed.durable();
                bed.machine.checkpoint(id(u64::MAX), false).unwrap();
                assert!(bed.durable() > before);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(waited > 3, "{waited}");
    assert_eq!(bed.value("SELECT count(*) FROM t"), Value::Integer(300));
}

/// Rule 38: counters of replies are replicated state, through a restart and an install; a statement that sets none repeats them.
#[test]
fn counters_of_replies_survive_restart_and_install() {
    let bed = Bed::new(6);
    good(&bed.write("CREATE TABLE t(a INTEGER PRIMARY KEY, b)"));
    assert_eq!(
        written(&bed.write("INSERT INTO t(a) VALUES (41), (42)")),
        (42, 2)
    );
    assert_eq!(bed.checkpoint(), Some(2));
    let fresh = Bed::new(7);
    fresh.install(&bed);
    let restarted = bed.crashed(Loss::Everything);
    for bed in [fresh, restarted] {
        assert_eq!(written(&bed.write("CREATE INDEX i ON t(b)")), (42, 2));
        assert_eq!(
            bed.value("SELECT last_insert_rowid() || '/' || changes()"),
            Value::Text("0/0".to_owned())
        );
    }
}

/// Rule 32: page 1 doesn't tell which SQLite wrote it.
#[test]
fn page_one_carries_a_constant_version() {
    let bed = Bed::new(8);
    good(&bed.write("CREATE TABLE t(a)"));
    let page_one = &bed.pages()[0];
    let constant: [u8; 4] = sqlrep_vfs::PAGE_ONE_VERSION.to_be_bytes();
    assert_eq!(page_one[96..100], constant);
}

/// A node whose wall clock is `ahead` of the others'.
fn ahead(seed: u64, ahead: Duration) -> Bed {
    let clock = SimulatedClock::counting();
    clock.jump(ahead);
    let env = Env {
        clock: Arc::new(clock),
        ..Env::inline(seed)
    };
    Bed::on(SimulatedDisk::new(seed), env, SqlSettings::default())
}

/// Rule 39: stamps don't go back when leadership moves to a node whose clock is behind, unless by more than 10 s; the last
/// stamp survives a restart.
#[test]
fn time_goes_back_for_sql_only_from_an_implausible_stamp() {
    for (seconds, goes_back) in [(0, false), (9, false), (60, true)] {
        let fast = ahead(9, Duration::from_secs(seconds));
        let slow = Bed::new(10);
        let mut index = 0;
        let mut applied = |body: Bytes| {
            index += 1;
            fast.apply(index, &body);
            slow.apply(index, &body);
        };
        let stamp = "INSERT INTO t SELECT 1 + count(*), unixepoch('now') FROM t";
        applied(sealed(
            &mut begin(&fast.machine),
            &[
                Request::execute("CREATE TABLE t(n, at)"),
                Request::execute(stamp),
            ],
        ));
        slow.checkpoint();
        let slow = slow.crashed(Loss::Everything);
        let body = sealed(&mut begin(&slow.machine), &[Request::execute(stamp)]);
        slow.apply(2, &body);
        let went =
            slow.value("SELECT max(at) FILTER (WHERE n = 2) < max(at) FILTER (WHERE n = 1) FROM t");
        assert_eq!(
            went,
            Value::Integer(i64::from(goes_back)),
            "{seconds} s ahead"
        );
    }
}

/// Rule 31: a node that differs from the leader sees it in the next body that names a later entry.
#[test]
fn a_checksum_of_an_earlier_entry_is_compared() {
    let (leader, equal, other) = (Bed::new(11), Bed::new(12), Bed::new(13));
    let mut epoch = begin(&leader.machine);
    let mut next = |sql: &str| sealed(&mut epoch, &[Request::execute(sql)]);
    let first = next("CREATE TABLE t(a)");
    leader.apply(1, &first);
    equal.apply(1, &first);
    // What rot or a bug does: the same entry, another result.
    other.apply(
        1,
        &sealed(
            &mut begin(&other.machine),
            &[Request::execute("CREATE TABLE t(b)")],
        ),
    );
    for index in 2..5 {
        let body = next("INSERT INTO t VALUES (1)");
        for bed in [&leader, &equal, &other] {
            bed.apply(index, &body);
        }
    }
    assert_eq!(leader.machine.checksum_mismatches(), 0);
    assert_eq!(equal.machine.checksum_mismatches(), 0);
    assert_eq!(other.machine.checksum_mismatches(), 3);
}

/// Every node holds the replies of an entry at once: together they are bounded, by what every node counts alike.
#[test]
fn the_replies_of_one_entry_are_bounded_together() {
    let settings = SqlSettings {
        reply_bytes_max: 2_000,
        ..SqlSettings::default()
    };
    let beds = [1, 2].map(|seed| Bed::with(seed, settings.clone()));
    let mut epoch = begin(&beds[0].machine);
    let insert = Request {
        shape: Shape::Request,
        ..Request::execute("INSERT INTO t VALUES (zeroblob(1500)) RETURNING a")
    };
    let create = Request::execute("CREATE TABLE t(a)");
    let bodies = [
        sealed(&mut epoch, &[create]),
        sealed(&mut epoch, &vec![insert.clone(); 20]),
        sealed(&mut epoch, &[insert]),
    ];
    let replies = beds.each_ref().map(|bed| {
        let replies = (1..)
            .zip(&bodies)
            .flat_map(|(index, body)| bed.apply(index, body));
        replies.map(timeless).collect::<Vec<_>>()
    });
    assert_eq!(replies[0], replies[1]);
    let done = |reply: &&Reply| matches!(reply.outcomes[..], [Outcome::Rows(_)]);
    assert_eq!(replies[0][1..21].iter().filter(done).count(), 5);
    good(&replies[0][21]);
    assert_eq!(
        beds[0].value("SELECT count(*) FROM t"),
        Value::Integer(6),
        "refused, undone"
    );
    assert_eq!(beds[0].pages(), beds[1].pages());
}

#[test]
fn a_body_of_another_release_is_not_skipped() {
    let bed = Bed::new(14);
    let body = Bytes::from_static(&[9, 1, 2, 3]);
    let error = bed.prepare(1, &body).unwrap_err();
    assert_eq!(error.retry, sqlrep_core::Retry::Useless);
    assert!(error.to_string().contains("format 9"), "{error}");
}

/// Items that `core` has an answer for are left out.
#[test]
fn skipped_items_are_not_executed() {
    let bed = Bed::new(15);
    good(&bed.write("CREATE TABLE t(a)"));
    let requests = ["1", "2", "3"].map(|n| Request::execute(format!("INSERT INTO t VALUES ({n})")));
    let body = sealed(&mut begin(&bed.machine), &requests);
    let command = Committed {
        id: id(2),
        body: &body,
        skip: &[false, true],
    };
    bed.machine.prepare(command).unwrap();
    bed.finish(2);
    assert_eq!(
        bed.value("SELECT group_concat(a) FROM t"),
        Value::Text("1,3".to_owned())
    );
}

#[test]
fn requests_and_replies_travel_between_nodes() {
    let bed = Bed::new(16);
    let request = Request::execute("SELECT 1");
    let bytes = bed.machine.encode_request(&request);
    assert_eq!(bed.machine.decode_request(&bytes).unwrap(), request);
    assert!(bed.machine.request_bytes(&request) >= bytes.len());
    let reply = bed.write("CREATE TABLE t(a)");
    let bytes = bed.machine.encode_reply(&reply);
    assert_eq!(bed.machine.decode_reply(&bytes).unwrap(), reply);
    assert!(bed.machine.decode_request(&bytes[..1]).is_err());
    assert!(bed.machine.decode_reply(b"nonsense").is_err());
}
