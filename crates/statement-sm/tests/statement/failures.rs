//! Failures of one node, and SQL that would be one for all.

use super::bed::*;
use sqlrep_core::{Retry, StateMachine};
use sqlrep_disk::{Fault, Loss, Operation};
use sqlrep_sql::{Request, Value};

/// A node with two tables in its base file, behind a reset point, and a body that reads one of them.
fn checkpointed(seed: u64) -> Bed {
    let bed = Bed::new(seed);
    let filled = |name: &str| {
        format!(
            "CREATE TABLE {name}(a INTEGER PRIMARY KEY, b);
             WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
             INSERT INTO {name} SELECT i, zeroblob(1000) FROM n"
        )
    };
    let requests = ["one", "two"].map(|name| Request::execute(filled(name)));
    bed.apply(1, &sealed(&mut begin(&bed.machine), &requests))
        .iter()
        .for_each(good);
    assert_eq!(bed.checkpoint(), Some(1));
    bed
}

fn count(table: &str) -> String {
    format!("SELECT count(*) FROM {table}")
}

/// Rule 36: a read error of this node's disk is no reply; behind a reset point the entry is tried again and succeeds.
#[test]
fn a_failing_disk_gives_no_reply_and_a_second_try_behind_a_reset_point_is_exact() {
    let (bed, other) = (checkpointed(1), checkpointed(1));
    let requests = [
        Request::execute("UPDATE two SET b = 1 WHERE a = 1"),
        Request::execute("DELETE FROM one WHERE a % 2 = 0"),
    ];
    let body = sealed(&mut begin(&other.machine), &requests);
    other.apply(2, &body);
    let whole = count("one");
    let mut failures = 0;
    for nth in 1.. {
        bed.disk.inject(Fault::io(nth).only(Operation::Read));
        let tried = bed.prepare(2, &body);
        bed.disk.heal();
        let Err(error) = tried else { break };
        failures += 1;
        assert!(!error.to_string().contains("restart"), "{error}");
        assert_eq!(bed.value(&whole), Value::Integer(50));
    }
    assert!(failures > 5, "{failures}");
    bed.finish(2);
    assert_eq!(bed.checksum(), other.checksum());
    assert_eq!(bed.value(&whole), Value::Integer(25));
}

/// Rules 33 and 36: in the middle between two reset points a failure costs the connection's history. The node refuses to go on
/// with bytes of its own; a restart replays from the reset point and is equal again.
#[test]
fn a_failure_between_reset_points_stops_the_node_until_it_restarts() {
    let (bed, other) = (checkpointed(2), checkpointed(2));
    let mut epoch = begin(&other.machine);
    // The first entry of a leadership is a reset point, the next ones aren't.
    let first = sealed(
        &mut epoch,
        &[Request::execute("UPDATE one SET b = 2 WHERE a = 1")],
    );
    let second = sealed(
        &mut epoch,
        &[Request::execute("UPDATE one SET b = 3 WHERE a = 1")],
    );
    let third = sealed(&mut epoch, &[Request::execute("UPDATE two SET b = 'x'")]);
    for bed in [&bed, &other] {
        bed.apply(2, &first);
        bed.apply(3, &second);
    }
    other.apply(4, &third);
    bed.disk.inject(Fault::io(1).only(Operation::Read));
    for _ in 0..2 {
        let error = bed.prepare(4, &third).unwrap_err();
        assert_eq!(error.retry, Retry::Useless);
        assert!(error.to_string().contains("restart this node"), "{error}");
    }
    assert_eq!(bed.machine.applied().id, Some(id(3)));
    assert_eq!(
        bed.value("SELECT b FROM one WHERE a = 1"),
        Value::Integer(3),
        "readers go on"
    );
    let again = bed.crashed(Loss::Nothing);
    assert_eq!(again.machine.applied().id, Some(id(1)));
    for (index, body) in [(2, &first), (3, &second), (4, &third)] {
        again.apply(index, body);
    }
    assert_eq!(again.pages(), other.pages());
}

/// Rule 16: an install heals it too.
#[test]
fn an_install_begins_a_new_history() {
    let (bed, other) = (checkpointed(3), checkpointed(3));
    let mut epoch = begin(&other.machine);
    let bodies = ["one", "one", "two"].map(|table| {
        sealed(
            &mut epoch,
            &[Request::execute(format!(
                "UPDATE {table} SET b = 'x' WHERE a < 9"
            ))],
        )
    });
    bed.apply(2, &bodies[0]);
    bed.apply(3, &bodies[1]);
    bed.disk.inject(Fault::io(1).only(Operation::Read));
    bed.prepare(4, &bodies[2]).unwrap_err();
    (2..5)
        .zip(&bodies)
        .for_each(|(index, body)| drop(other.apply(index, body)));
    let mut again = begin(&other.machine);
    other.apply(
        5,
        &sealed(&mut again, &[Request::execute("DELETE FROM two")]),
    );
    bed.install(&other);
    assert_eq!(bed.machine.applied(), other.machine.applied());
    let last = sealed(&mut again, &[Request::execute("DELETE FROM one")]);
    bed.apply(6, &last);
    other.apply(6, &last);
    assert_eq!(bed.pages(), other.pages());
}

/// Rule 7: a page that reads back wrong is never an SQL error.
#[test]
fn a_rotten_page_is_no_reply() {
    let bed = checkpointed(4);
    let disk = bed.disk.crash(Loss::Nothing);
    let base = disk
        .list_all()
        .into_iter()
        .find(|path| path.ends_with("/main.db"));
    let base = base.unwrap();
    let pages = disk.read_file(&base).unwrap().len() / 4096;
    for page in 1..pages {
        disk.flip(&base, u64::try_from(page * 4096 + 100).unwrap(), 1);
    }
    let rotten = Bed::on(disk, bed.env.clone(), bed.settings.clone());
    let body = sealed(
        &mut begin(&rotten.machine),
        &[Request::execute("DELETE FROM one WHERE b = 7")],
    );
    for _ in 0..2 {
        let error = rotten.prepare(2, &body).unwrap_err();
        assert_eq!(error.retry, Retry::Useless, "{error}");
        assert!(error.to_string().contains("hash differs"), "{error}");
    }
}
