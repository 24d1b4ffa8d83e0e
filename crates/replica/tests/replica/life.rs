//! The life of a version: private, an entry end, an anchor, durable.

use super::bed::*;
use sqlrep_core::{CheckpointStep, Which};
use sqlrep_disk::{Fault, Loss, Operation, SimulatedDisk};
use sqlrep_env::Retry;
use sqlrep_replica::{CheckpointPolicy, entry_id};
use std::io::Write;
use std::time::Duration;

/// Rule 4: what an entry has committed in SQLite is nobody's business before its end.
#[test]
fn a_version_is_private_until_its_entry_is_finished() {
    let mut node = Node::filled(1);
    let (applied, pages) = (node.replica.applied(), node.anchor_pages());
    node.run("INSERT INTO t VALUES (500, 'first half')");
    node.run("INSERT INTO t VALUES (501, 'second half')");
    assert_eq!(node.rows(), "100/100");
    assert_eq!(node.replica.applied(), applied);
    assert_eq!(node.anchor_pages(), pages);
    assert_eq!(node.checkpoint().id, Some(id(1)));
    node.finish(2, true);
    assert_eq!(node.rows(), "102/501");
    assert_eq!(node.replica.applied().id, Some(id(2)));
}

/// Rules 4 and 5: a restart finds the newest anchor that was checkpointed, with the side state of that very entry and not
/// of a later one.
#[test]
fn a_restart_begins_at_the_checkpointed_anchor_with_its_own_side_state() {
    for loss in [Loss::Nothing, Loss::Everything, Loss::Random { seed: 5 }] {
        let mut node = Node::filled(2);
        node.entry(2, "DELETE FROM t WHERE a > 50", true);
        // Later ends, one of them without pages: neither may be checkpointed.
        node.entry(3, "INSERT INTO t VALUES (999, 'later')", false);
        node.finish(4, false);
        assert_eq!(node.checkpoint().id, Some(id(2)));
        let again = node.crashed(loss);
        assert_eq!(again.rows(), "50/50");
        for end in [again.replica.applied(), again.replica.durable()] {
            assert_eq!((end.id, &end.side[..]), (Some(id(2)), &b"core 2"[..]));
        }
        assert_eq!(again.replica.mode_side(), "mode 2");
        assert_eq!(
            again.store().committed().checksum,
            node.store().anchor().checksum
        );
    }
}

/// Rule 5: an entry without pages moves the position and the side state, over the same pages.
#[test]
fn an_entry_without_pages_has_an_end_of_its_own() {
    let node = Node::filled(3);
    let before = node.store().committed();
    node.finish(2, true);
    let after = node.store().committed();
    assert_eq!(
        (before.version, before.checksum),
        (after.version, after.checksum)
    );
    assert_eq!(node.checkpoint().id, Some(id(2)));
    let mut again = node.crashed(Loss::Everything);
    assert_eq!(
        (again.replica.mode_side(), again.rows()),
        ("mode 2".into(), "100/100".to_owned())
    );
    again.entry(3, "DELETE FROM t", true);
    assert_eq!(again.rows(), "0/0");
}

/// Rule 10: replay time triggers a checkpoint, and a checkpoint takes it back.
#[test]
fn replay_time_gathers_until_a_checkpoint() {
    let policy = CheckpointPolicy {
        replay_max: Duration::from_millis(3),
        ..CheckpointPolicy::default()
    };
    let mut node = Node::on(SimulatedDisk::new(4), policy);
    let log_durable = id(100);
    node.entry(1, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)", true);
    node.entry(2, "INSERT INTO t VALUES (1, 1)", true);
    assert_eq!(node.made_durable(log_durable, false).unwrap().id, None);
    node.entry(3, "INSERT INTO t VALUES (2, 2)", true);
    assert_eq!(node.replica.pressure().replay, Duration::from_millis(3));
    let durable = node.made_durable(log_durable, false).unwrap();
    assert_eq!(durable.id, Some(id(3)));
    assert_eq!(node.replica.pressure().replay, Duration::ZERO);
    assert_eq!(node.replica.pressure().entries, 0);
}

/// Rule 15: the durable position never passes what the local log has on disk.
#[test]
fn a_checkpoint_waits_for_the_log() {
    let mut node = Node::filled(5);
    node.checkpoint();
    node.entry(2, "DELETE FROM t WHERE a = 1", true);
    assert_eq!(node.made_durable(id(1), true).unwrap().id, Some(id(1)));
    assert_eq!(node.replica.durable().id, Some(id(1)));
    assert_eq!(node.made_durable(id(2), true).unwrap().id, Some(id(2)));
    assert_eq!(node.crashed(Loss::Everything).rows(), "99/100");
}

/// Rule 15: two answers. What Raft is told before it runs is exactly the durable position; what is sent is the newest anchor.
#[test]
fn the_durable_snapshot_is_the_durable_position_and_the_newest_one_is_sent() {
    use sqlrep_core::SnapshotSource;
    let mut node = Node::new(6);
    assert!(node.replica.snapshot(Which::Durable).is_none());
    assert!(node.replica.snapshot(Which::Newest).is_none());
    node.entry(1, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)", true);
    assert!(
        node.replica.snapshot(Which::Durable).is_none(),
        "nothing is durable yet"
    );
    node.checkpoint();
    node.entry(2, "INSERT INTO t VALUES (1, 1)", true);
    node.entry(3, "INSERT INTO t VALUES (2, 2)", false);
    let mut durable = node.replica.snapshot(Which::Durable).unwrap();
    assert_eq!(
        (durable.end().id, &durable.end().side[..]),
        (Some(id(1)), &b"core 1"[..])
    );
    let error = durable.next().unwrap_err();
    assert_eq!(error.retry, Retry::Safe, "{error}");
    let newest = node.replica.snapshot(Which::Newest).unwrap();
    assert_eq!(
        (newest.end().id, &newest.end().side[..]),
        (Some(id(2)), &b"core 2"[..])
    );
}

/// Rules 1 and 5: a power loss at every call of a checkpoint leaves the old end or the new one, each with its own side state.
#[test]
fn a_crash_at_every_call_of_a_checkpoint_leaves_a_whole_end() {
    let (mut old, mut new) = (0, 0);
    for nth in 1.. {
        let mut node = Node::filled(7);
        node.checkpoint();
        node.entry(2, "DELETE FROM t WHERE a > 60", true);
        node.disk.crash_at(nth);
        let done = node.made_durable(id(2), true);
        if !node.disk.is_dead() {
            assert_eq!(done.unwrap().id, Some(id(2)));
            break;
        }
        let again = node.crashed(Loss::Random { seed: nth });
        let end = again.replica.applied();
        let found = (
            end.id.unwrap().index.0,
            again.rows(),
            again.replica.mode_side(),
        );
        match found.0 {
            1 => {
                old += 1;
                assert_eq!(found, (1, "100/100".to_owned(), "mode 1".into()));
            }
            _ => {
                new += 1;
                assert_eq!(found, (2, "60/60".to_owned(), "mode 2".into()));
            }
        }
        assert_eq!(end.side, format!("core {}", found.0));
        assert_eq!(again.store().committed().position.map(entry_id), end.id);
        assert_eq!(again.one("PRAGMA integrity_check"), "ok");
    }
    // eprintln! is hidden where the test passes.
    let mut terminal = std::io::stderr();
    writeln!(terminal, "checkpoint: {old} old states, {new} new").unwrap();
    assert!(old > 2 && new > 2, "{old} old, {new} new");
}

/// Operators see how many checkpoints were made, how long they took, what they wrote, and those that failed.
#[test]
fn checkpoints_are_counted_with_their_times_and_bytes() {
    let mut node = Node::filled(9);
    node.checkpoint();
    let first = node.replica.checkpoints();
    assert_eq!((first.completed, first.failed), (1, 0));
    let pages = node.base_file().len() as u64 / u64::from(PAGE_BYTES);
    assert_eq!(first.pages, pages);
    // Each page once in the journal and once in the base file.
    assert!(first.bytes > 2 * pages * u64::from(PAGE_BYTES), "{first:?}");
    let times = node.replica.checkpoint_times();
    assert_eq!(times.counts.last(), Some(&1));
    assert!(times.sum > Duration::ZERO);
    node.entry(2, "DELETE FROM t WHERE a > 60", true);
    node.disk.inject(Fault::full(1).only(Operation::Write));
    node.made_durable(id(2), true).unwrap_err();
    let second = node.replica.checkpoints();
    assert_eq!((second.completed, second.failed), (1, 1));
    assert_eq!(node.replica.checkpoint_times(), times);
}

/// Rule 12: a checkpoint has all patience with the log while half of the version memory is free, and none once it is full.
#[test]
fn patience_of_a_checkpoint_follows_the_version_memory() {
    let policy = CheckpointPolicy::default();
    let bytes = Node::filled(9).store().version_bytes();
    for (bytes_max, patience) in [(2 * bytes, policy.patience_max), (bytes, Duration::ZERO)] {
        let node = Node::filled_with(9, bytes_max);
        let step = node.replica.checkpoint_step(id(1), true).unwrap();
        assert_eq!(step, CheckpointStep::More { patience });
    }
}

/// Rule 12: between two steps entries end and readers read; who asks for a checkpoint now gets the newest end, also if
/// an older one is under way.
#[test]
fn entries_end_between_the_steps_of_a_checkpoint() {
    let mut pauses = 0;
    loop {
        let mut node = Node::filled(10);
        for _ in 0..pauses {
            node.replica.checkpoint_step(id(1), true).unwrap();
        }
        let under_way = node.replica.durable().id.is_none();
        node.entry(2, "DELETE FROM t WHERE a > 60", true);
        assert_eq!(node.rows(), "60/60");
        assert_eq!(node.made_durable(id(2), true).unwrap().id, Some(id(2)));
        let again = node.crashed(Loss::Everything);
        assert_eq!(again.rows(), "60/60");
        if !under_way {
            break;
        }
        pauses += 1;
    }
    assert!(pauses > 4, "{pauses} pauses");
}

#[test]
fn a_full_disk_changes_nothing_and_the_next_call_tries_again() {
    let mut node = Node::filled(8);
    node.checkpoint();
    node.entry(2, "DELETE FROM t WHERE a > 60", true);
    node.disk.inject(Fault::full(1).only(Operation::Write));
    let error = node.made_durable(id(2), true).unwrap_err();
    assert_eq!(error.retry(), Retry::Safe, "{error}");
    assert_eq!(node.replica.durable().id, Some(id(1)));
    assert_eq!(node.rows(), "60/60");
    assert_eq!(node.made_durable(id(2), true).unwrap().id, Some(id(2)));
}
