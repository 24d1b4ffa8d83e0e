//! Speculation, abort, fencing and split sets, step by step.

use super::bed::{Bed, Entry, Payload, change, id, parts, seal};
use crate::side::Side;
use sqlrep_core::{
    Applied, EntryEnd, Epoch, EpochEnd, LogIndex, Mismatch, StateMachine, Step, WriteError,
};
use sqlrep_disk::Loss;
use sqlrep_replica::Finished;
use sqlrep_sql::{Outcome, Request, Statement, Value};
use sqlrep_store::{Change, PageNumber};
use std::time::Duration;

const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, x)";
pub(super) const IDS: &str = "SELECT id FROM t ORDER BY id";

/// A leader and a follower behind a blank entry of term 1 and a set with the table; the epoch goes on.
pub(super) fn pair() -> (Bed, Bed, crate::PageEpoch) {
    let (leader, follower) = (Bed::new(1), Bed::new(2));
    let blank = (id(1, 1), Payload::Blank);
    leader.apply(&blank);
    follower.apply(&blank);
    let (mut epoch, _) = leader.lead(1, 1);
    change(&mut epoch, TABLE);
    let first = (id(1, 2), seal(&mut epoch));
    assert!(matches!(leader.apply(&first), Some(Applied::Accepted)));
    assert!(matches!(follower.apply(&first), Some(Applied::Accepted)));
    (leader, follower, epoch)
}

pub(super) fn equal(one: &Bed, two: &Bed) {
    assert_eq!(one.checksum(), two.checksum());
    assert!(one.pages() == two.pages(), "equal byte for byte");
    assert_eq!(
        one.machine.checksum_mismatches() + two.machine.checksum_mismatches(),
        0
    );
}

/// Rule 4: the writer sees what it finished, readers see what is committed; entries in flight don't stop it.
#[test]
fn the_writer_runs_ahead_and_readers_see_committed_ends_only() {
    let (leader, follower, mut epoch) = pair();
    change(&mut epoch, "INSERT INTO t VALUES (1, random())");
    let one = (id(1, 3), seal(&mut epoch));
    change(&mut epoch, "INSERT INTO t SELECT id + 1, random() FROM t");
    let two = (id(1, 4), seal(&mut epoch));
    let seen = epoch.run(Request::query(IDS));
    let Step::Answered(reply) = seen else {
        panic!("a read needs no entry: {seen:?}");
    };
    assert!(matches!(&reply.outcomes[..], [Outcome::Rows(rows)] if rows.values.len() == 2));
    assert_eq!(leader.numbers(IDS), []);
    leader.apply(&one);
    assert_eq!(leader.numbers(IDS), [1]);
    leader.apply(&two);
    follower.apply(&one);
    follower.apply(&two);
    assert_eq!(leader.numbers(IDS), [1, 2]);
    equal(&leader, &follower);
}

#[test]
fn requests_of_one_entry_are_one_set() {
    let (leader, follower, mut epoch) = pair();
    for id in 1..=50 {
        change(
            &mut epoch,
            &format!("INSERT INTO t VALUES ({id}, 'row {id}')"),
        );
    }
    let Payload::Set(body) = seal(&mut epoch) else {
        unreachable!()
    };
    assert!(body.len() < 50 * 40, "{} bytes for 50 rows", body.len());
    let entry = (id(1, 3), Payload::Set(body));
    leader.apply(&entry);
    follower.apply(&entry);
    assert_eq!(follower.numbers(IDS).len(), 50);
    equal(&leader, &follower);
    assert!(epoch.seal().is_none(), "nothing came since");
}

/// Rule 22: a hole in the pipeline refuses what follows it, on every node alike.
#[test]
fn a_set_behind_a_hole_is_refused_everywhere() {
    let (leader, follower, mut epoch) = pair();
    change(&mut epoch, "INSERT INTO t VALUES (1, 1)");
    let _lost = seal(&mut epoch);
    change(&mut epoch, "INSERT INTO t VALUES (2, 2)");
    let behind = (id(1, 3), seal(&mut epoch));
    drop(epoch);
    for node in [&leader, &follower] {
        assert!(matches!(node.apply(&behind), Some(Applied::Refused)));
        assert_eq!(node.numbers(IDS), []);
    }
    let (mut epoch, _) = leader.lead(1, 2);
    change(&mut epoch, "INSERT INTO t VALUES (3, 3)");
    let next = (id(1, 4), seal(&mut epoch));
    for node in [&leader, &follower] {
        assert!(matches!(node.apply(&next), Some(Applied::Accepted)));
        assert_eq!(node.numbers(IDS), [3]);
    }
    equal(&leader, &follower);
}

/// Rule 24: sets of an ended epoch that commit all the same are taken over as a follower does.
#[test]
fn a_leader_copies_its_own_sets_once_their_epoch_has_ended() {
    let (leader, follower, mut epoch) = pair();
    change(&mut epoch, "INSERT INTO t VALUES (1, randomblob(9))");
    let one = (id(1, 3), seal(&mut epoch));
    change(&mut epoch, "INSERT INTO t VALUES (2, randomblob(9))");
    drop(epoch);
    assert!(matches!(leader.apply(&one), Some(Applied::Accepted)));
    follower.apply(&one);
    assert_eq!(leader.numbers(IDS), [1], "what wasn't proposed never was");
    equal(&leader, &follower);
}

/// Rule 24: an epoch that ends between the two calls of an entry leaves that entry alone.
#[test]
fn an_abort_beside_an_entry_that_is_being_applied_keeps_it() {
    let (leader, follower, mut epoch) = pair();
    change(&mut epoch, "INSERT INTO t VALUES (1, 1)");
    let Payload::Set(body) = seal(&mut epoch) else {
        unreachable!()
    };
    change(&mut epoch, "INSERT INTO t VALUES (2, 2)");
    assert!(matches!(leader.prepare(id(1, 3), &body), Applied::Accepted));
    drop(epoch);
    leader.finish(id(1, 3));
    follower.apply(&(id(1, 3), Payload::Set(body)));
    assert_eq!(leader.numbers(IDS), [1]);
    equal(&leader, &follower);
}

/// Rule 24: with an equal change counter and an equal schema cookie SQLite's cache would survive; a new connection can't.
#[test]
fn an_aborted_table_of_the_same_shape_isn_t_remembered() {
    let (leader, follower, mut epoch) = pair();
    change(&mut epoch, "CREATE TABLE later (aborted)");
    change(&mut epoch, "INSERT INTO later VALUES ('aborted')");
    let _never = epoch.seal();
    drop(epoch);
    let (mut other, _) = follower.lead(2, 1);
    let blank = (id(2, 3), Payload::Blank);
    drop(other);
    leader.apply(&blank);
    follower.apply(&blank);
    (other, _) = follower.lead(2, 2);
    change(&mut other, "CREATE TABLE later (won)");
    change(&mut other, "INSERT INTO later VALUES ('won')");
    let set = (id(2, 4), seal(&mut other));
    follower.apply(&set);
    leader.apply(&set);
    drop(other);
    leader.apply(&(id(3, 5), Payload::Blank));
    let (mut again, _) = leader.lead(3, 2);
    let Step::Answered(reply) = again.run(Request::query("SELECT won FROM later")) else {
        panic!("a read");
    };
    let won = vec![vec![Value::Text("won".to_owned())]];
    assert!(matches!(&reply.outcomes[..], [Outcome::Rows(rows)] if rows.values == won));
}

/// Rule 24: an abort doesn't wait for the SQL that runs.
#[test]
fn an_interrupted_epoch_refuses_everything_and_proposes_nothing() {
    let (leader, _follower, mut epoch) = pair();
    drop(epoch);
    let stop;
    (epoch, stop) = leader.lead(1, 2);
    change(&mut epoch, "INSERT INTO t VALUES (1, 1)");
    stop.interrupt();
    let step = epoch.run(Request::execute("INSERT INTO t VALUES (2, 2)"));
    assert!(
        matches!(step, Step::Refused(WriteError::NotDone)),
        "{step:?}"
    );
    assert!(matches!(epoch.ended(), Some(EpochEnd::Interrupted)));
    drop(epoch);
    assert_eq!(leader.numbers(IDS), []);
}

/// Rule 24: a running statement ends soon.
#[test]
fn an_endless_statement_is_interrupted_from_another_thread() {
    let (leader, _follower, epoch) = pair();
    drop(epoch);
    let (mut epoch, stop) = leader.lead(1, 2);
    let endless = "INSERT INTO t (x) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    #[allow(
        clippy::disallowed_methods,
        reason = "the interrupt comes from another thread"
    )]
    let running = std::thread::spawn(move || {
        let step = epoch.run(Request::execute(endless));
        (
            matches!(step, Step::Refused(WriteError::NotDone)),
            epoch.ended(),
        )
    });
    stop.interrupt();
    let (refused, ended) = running.join().unwrap();
    assert!(refused);
    assert!(matches!(ended, Some(EpochEnd::Interrupted)));
}

/// A set of several parts, by a leader whose epoch goes on.
fn split(epoch: &mut crate::PageEpoch, first: u64) -> Vec<Entry> {
    change(epoch, "INSERT INTO t VALUES (7, randomblob(150000))");
    let bodies = parts(epoch);
    assert!(bodies.len() > 2, "{} parts", bodies.len());
    let entry = |(index, body)| (id(1, index), Payload::Set(body));
    (first..).zip(bodies).map(entry).collect()
}

/// Rule 26: a split set becomes visible at once, with its last part; no position lies between its parts.
#[test]
fn a_split_set_is_seen_at_once() {
    let (leader, follower, mut epoch) = pair();
    let parts = split(&mut epoch, 3);
    let (last, before) = parts.split_last().unwrap();
    for part in before {
        for node in [&leader, &follower] {
            assert!(matches!(node.apply(part), Some(Applied::Part)));
            assert_eq!(node.numbers(IDS), []);
            node.checkpoint();
            assert_eq!(node.machine.durable().id, Some(id(1, 2)), "below part 1");
        }
    }
    for node in [&leader, &follower] {
        assert!(matches!(node.apply(last), Some(Applied::Accepted)));
        assert_eq!(node.numbers(IDS), [7]);
        node.checkpoint();
        assert_eq!(node.machine.durable().id, Some(last.0));
    }
    equal(&leader, &follower);
}

/// Rule 26: membership and blank entries may come between the parts of a set, in the same term.
#[test]
fn an_entry_without_pages_may_come_between_two_parts() {
    let (leader, follower, mut epoch) = pair();
    let mut parts = split(&mut epoch, 3);
    let index = parts[1].0.index.0;
    for (place, part) in parts[1..].iter_mut().enumerate() {
        part.0 = id(1, index + 1 + place as u64);
    }
    parts.insert(1, (id(1, index), Payload::Blank));
    for entry in &parts {
        leader.apply(entry);
        follower.apply(entry);
    }
    assert_eq!(follower.numbers(IDS), [7]);
    equal(&leader, &follower);
}

/// Rule 26: where the leader is lost between two parts, the parts are forgotten on all nodes alike, and the next leader's set is
/// the first part's successor.
#[test]
fn parts_without_their_last_one_are_discarded() {
    let (leader, follower, mut epoch) = pair();
    let parts = split(&mut epoch, 3);
    for node in [&leader, &follower] {
        node.apply(&parts[0]);
    }
    drop(epoch);
    for node in [&leader, &follower] {
        node.apply(&(id(2, 4), Payload::Blank));
        let late = (id(2, 5), parts[1].1.clone());
        assert!(matches!(node.apply(&late), Some(Applied::Refused)));
        node.checkpoint();
        assert_eq!(node.machine.durable().id, Some(id(2, 5)));
    }
    let (mut other, _) = follower.lead(2, 1);
    change(&mut other, "INSERT INTO t VALUES (8, 8)");
    let set = (id(2, 6), seal(&mut other));
    for node in [&leader, &follower] {
        assert!(matches!(node.apply(&set), Some(Applied::Accepted)));
        assert_eq!(node.numbers(IDS), [8]);
    }
    equal(&leader, &follower);
}

/// Rule 26: an epoch that ends between two parts of its own set, which are proposed already, doesn't lose the first ones.
#[test]
fn a_split_set_outlives_its_epoch() {
    let (leader, follower, mut epoch) = pair();
    let parts = split(&mut epoch, 3);
    leader.apply(&parts[0]);
    change(&mut epoch, "INSERT INTO t VALUES (9, 9)");
    drop(epoch);
    for part in &parts[1..] {
        leader.apply(part);
    }
    for part in &parts {
        follower.apply(part);
    }
    assert_eq!(leader.numbers(IDS), [7]);
    equal(&leader, &follower);
}

/// Rule 31: a follower whose database differs copies all the same, says so, and lets the judge decide.
#[test]
fn a_database_that_differs_is_a_mismatch_and_no_refusal() {
    let (leader, follower, mut epoch) = pair();
    let replica = follower.machine.replica();
    let second = PageNumber::new(2).unwrap();
    let mut image = follower.pages()[1].clone();
    image[2000] ^= 1;
    let version = replica.store().publish(Change {
        pages: [(second, image.into())].into(),
        count: replica.store().newest().1,
    });
    let blank = (id(1, 3), Payload::Blank);
    leader.apply(&blank);
    let end = EntryEnd {
        id: Some(id(1, 3)),
        ..EntryEnd::default()
    };
    let altered = Finished {
        version: Some(version.unwrap()),
        end,
        mode: replica.mode_side(),
        anchor: true,
        took: Duration::ZERO,
    };
    replica.finish(altered).unwrap();
    change(&mut epoch, "INSERT INTO t VALUES (1, 1)");
    let set = (id(1, 4), seal(&mut epoch));
    for node in [&leader, &follower] {
        assert!(matches!(node.apply(&set), Some(Applied::Accepted)));
        assert_eq!(node.numbers(IDS), [1]);
    }
    let told = follower.machine.mismatch().expect("it differs");
    let recorded = replica.store().checksum_at(4).unwrap();
    assert_eq!(told.index, LogIndex(3));
    assert_ne!(told.ours, told.recorded);
    assert_eq!(leader.machine.mismatch(), None);
    assert_eq!(follower.machine.checksum_mismatches(), 1);
    assert_ne!(recorded.0, leader.checksum());
}

/// Pages that go to the freelist in the transaction that added them are never written by SQLite, and are pages all the same.
#[test]
fn pages_that_were_never_written_are_in_the_set() {
    let (leader, follower, mut epoch) = pair();
    change(&mut epoch, "CREATE TABLE u (x)");
    let statements = [
        "INSERT INTO t VALUES (1, zeroblob(100000))",
        "INSERT INTO u VALUES (zeroblob(9000))",
        "DELETE FROM t",
    ];
    let request = Request {
        statements: statements.map(Statement::text).into(),
        transaction: true,
        ..Request::default()
    };
    let step = epoch.run(request);
    assert!(matches!(step, Step::Executed { .. }), "{step:?}");
    for (index, body) in (3..).zip(parts(&mut epoch)) {
        let entry = (id(1, index), Payload::Set(body));
        leader.apply(&entry);
        follower.apply(&entry);
    }
    let pages = leader.pages();
    let zeros = pages
        .iter()
        .filter(|page| page.iter().all(|byte| *byte == 0));
    assert!(zeros.count() > 10, "no page grew unwritten");
    equal(&leader, &follower);
}

/// A pair whose follower has the leader's pages, and names another set as the last that counted.
fn pair_of_two_tails() -> (Bed, Bed, crate::PageEpoch) {
    let (leader, follower, epoch) = pair();
    leader.apply(&(id(1, 3), Payload::Blank));
    let replica = follower.machine.replica();
    let mut side = Side::decode(&replica.mode_side()).unwrap();
    side.tail.as_mut().unwrap().epoch += 7;
    let altered = Finished {
        version: None,
        end: EntryEnd {
            id: Some(id(1, 3)),
            ..EntryEnd::default()
        },
        mode: side.encode(),
        anchor: true,
        took: Duration::ZERO,
    };
    replica.finish(altered).unwrap();
    follower.checkpoint();
    let follower = follower.crashed(Loss::Everything);
    assert_eq!(leader.checksum(), follower.checksum());
    (leader, follower, epoch)
}

/// Rule 31: a node that refuses what the others accept stands still at every index: it says so with the first set of an epoch,
/// which no hole can be before.
#[test]
fn a_tail_that_differs_is_a_mismatch_with_the_first_set_of_an_epoch() {
    let (leader, follower, epoch) = pair_of_two_tails();
    drop(epoch);
    let (mut epoch, _) = leader.lead(1, 2);
    change(&mut epoch, "INSERT INTO t VALUES (1, 1)");
    let set = (id(1, 4), seal(&mut epoch));
    assert!(matches!(leader.apply(&set), Some(Applied::Accepted)));
    assert!(matches!(follower.apply(&set), Some(Applied::Refused)));
    let told = follower.machine.mismatch().expect("it stands still");
    let (ours, recorded) = (follower.checksum(), leader.checksum());
    let index = LogIndex(4);
    assert_eq!(
        told,
        Mismatch {
            index,
            ours,
            recorded
        }
    );
    assert_eq!(leader.machine.mismatch(), None);
}

/// Rule 31: and where the epoch goes on, when more is refused than was ever in flight.
#[test]
fn a_tail_that_differs_is_a_mismatch_before_long() {
    let (leader, follower, mut epoch) = pair_of_two_tails();
    let mut told = None;
    for index in 4..100 {
        change(&mut epoch, "INSERT INTO t (x) VALUES (1)");
        let set = (id(1, index), seal(&mut epoch));
        assert!(matches!(leader.apply(&set), Some(Applied::Accepted)));
        assert!(matches!(follower.apply(&set), Some(Applied::Refused)));
        told = follower.machine.mismatch();
        if told.is_some() {
            break;
        }
    }
    let told = told.expect("it stands still");
    assert_eq!(told.ours, follower.checksum());
    assert!((20..50).contains(&told.index.0), "{told:?}");
    assert_eq!(leader.machine.mismatch(), None);
}

/// Rule 38: what HTTP replies repeat is replicated, also where no page changed.
#[test]
fn the_writers_counters_move_with_the_leadership() {
    let (leader, follower, mut epoch) = pair();
    change(&mut epoch, "INSERT INTO t VALUES (41, 1), (42, 2)");
    change(&mut epoch, "UPDATE t SET x = 0 WHERE id > 99");
    let set = (id(1, 3), seal(&mut epoch));
    leader.apply(&set);
    follower.apply(&set);
    drop(epoch);
    follower.apply(&(id(2, 4), Payload::Blank));
    let (mut other, _) = follower.lead(2, 1);
    let reply = change(&mut other, "CREATE TABLE more (x)");
    let [Outcome::Written(written)] = &reply.outcomes[..] else {
        panic!("{reply:?}");
    };
    assert_eq!((written.last_insert_id, written.rows_affected), (42, 0));
}

/// What differs from node to node, or from run to run, is free to: one node executes.
#[test]
fn sql_needs_no_determinism() {
    let (leader, follower, mut epoch) = pair();
    for sql in [
        "INSERT INTO t VALUES (1, sqlite_version())",
        "INSERT INTO t VALUES (9223372036854775807, random())",
        "INSERT INTO t (x) VALUES (randomblob(20))",
        "CREATE TABLE made AS SELECT 1 AS a, 2 AS a, 3 AS a, 4 AS a, 5 AS a, 6 AS a",
        "INSERT INTO t (x) SELECT count(*) FROM pragma_function_list",
        "CREATE TRIGGER often AFTER INSERT ON made BEGIN INSERT INTO t (x) VALUES (random() || datetime('now', 'localtime')); END",
        "INSERT INTO made VALUES (1, 2, 3, 4, 5, 6)",
        "VACUUM",
    ] {
        change(&mut epoch, sql);
    }
    for (index, body) in (3..).zip(parts(&mut epoch)) {
        let entry = (id(1, index), Payload::Set(body));
        leader.apply(&entry);
        follower.apply(&entry);
    }
    equal(&leader, &follower);
}
