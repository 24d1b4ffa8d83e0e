//! One test for each safety rule that the log alone can keep or break.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use common::{Opened, entry, id, open, open_with, small, vote};
use sqlrep_core::{Entry, LogIndex, LogStore, StorageError};
use sqlrep_disk::{Fault, Loss, Operation, SimulatedDisk};
use sqlrep_raft_log::{LogError, Options};
use std::sync::{Arc, Mutex};

fn entries(term: u64, range: std::ops::Range<u64>, bytes: usize) -> Vec<Entry> {
    range
        .map(|index| entry(id(term, index), bytes, index))
        .collect()
}

/// A new log that has voted, as Raft does before it writes an entry of a term.
fn voted(disk: &SimulatedDisk) -> Opened {
    let log = open(disk).unwrap();
    log.save_vote(vote(2)).unwrap();
    log
}

fn indexes(found: &[Entry]) -> Vec<u64> {
    found.iter().map(|entry| entry.id.index.0).collect()
}

fn segments(disk: &SimulatedDisk) -> Vec<String> {
    let mut files = disk.list_all();
    files.retain(|name| name.ends_with(".seg"));
    files
}

/// Rule 6: with one whole slot that is older than an entry in the log, the node doesn't start, and says why.
#[test]
fn a_vote_that_the_log_disproves_is_refused_by_name() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk).unwrap();
    log.save_vote(vote(3)).unwrap();
    log.append(entries(3, 0..2, 20)).unwrap();
    let old = disk.read_file("log/vote").unwrap();
    log.save_vote(vote(4)).unwrap();
    log.append(entries(4, 2..3, 20)).unwrap();
    drop(log);
    let new = disk.read_file("log/vote").unwrap();
    // One slot rots: the other one is enough.
    disk.flip("log/vote", 20, 1);
    assert_eq!(open(&disk).unwrap().log.state().vote, Some(vote(4)));
    // Slot one is back at the old vote, slot two is rotten.
    disk.write_file("log/vote", &[&old[..4096], &new[4096..]].concat());
    disk.flip("log/vote", 4096 + 20, 1);
    let error = open(&disk).map(drop).unwrap_err();
    assert!(matches!(error, LogError::VoteLost { .. }), "{error}");
    assert!(error.to_string().contains("must not vote"), "{error}");
}

/// Rule 8: the durable mark is lowered before `truncate_after` returns, and a batch that was under way doesn't raise it again.
#[test]
fn a_truncation_lowers_the_durable_mark_at_once() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk).unwrap();
    log.append(entries(1, 0..4, 20)).unwrap();
    assert_eq!(log.log.durable(), Some(id(1, 3)));
    let quiet = || Box::new(|done: Result<(), StorageError>| done.unwrap());
    log.log.append(entries(1, 4..8, 20), quiet());
    log.log.truncate_after(Some(id(1, 1)), quiet());
    assert_eq!(log.log.durable(), Some(id(1, 1)), "before anything ran");
    log.log.append(entries(2, 2..3, 20), quiet());
    assert_eq!(log.log.durable(), Some(id(1, 1)));
    let seen = Arc::new(Mutex::new(None));
    let (into, inner) = (seen.clone(), log.log.clone());
    // Its batch is the one in which 4..8 are written.
    log.log.save_vote(
        vote(2),
        Box::new(move |_| *into.lock().unwrap() = inner.durable()),
    );
    log.manual.run();
    assert_eq!(*seen.lock().unwrap(), Some(id(2, 2)));
    assert_eq!(log.log.durable(), Some(id(2, 2)));
    // Durable when `done` is called: power loss right then brings nothing back.
    log.truncate(Some(id(1, 0))).unwrap();
    let after = disk.crash(Loss::Everything);
    log.die(&disk);
    assert_eq!(indexes(&open(&after).unwrap().entries().unwrap()), [0]);
}

/// Rule 9: the mark lies behind the entries it names, is never above the last one, and costs no sync.
#[test]
fn the_mark_is_never_above_the_last_entry_and_costs_no_sync() {
    let disk = SimulatedDisk::new(1);
    let log = voted(&disk);
    log.append(entries(1, 0..6, 20)).unwrap();
    let syncs = disk.syncs();
    for index in 0..6 {
        log.log.save_committed(Some(id(1, index)));
        log.manual.run();
    }
    assert_eq!(disk.syncs(), syncs, "never synced for its own sake");
    log.append(entries(1, 6..7, 20)).unwrap();
    log.die(&disk);
    let disk = disk.crash(Loss::Everything);
    let log = open(&disk).unwrap();
    assert_eq!(log.log.state().committed, Some(id(1, 5)), "it rode along");
    log.truncate(Some(id(1, 2))).unwrap();
    assert_eq!(log.log.state().committed, Some(id(1, 2)));
    log.append(entries(2, 3..7, 20)).unwrap();
    assert_eq!(log.log.state().committed, Some(id(1, 2)), "cut for good");
    log.log.save_committed(Some(id(2, 900)));
    assert_eq!(log.log.state().committed, Some(id(2, 6)));
    drop(log); // A close writes it.
    let found = open(&disk).unwrap();
    assert_eq!(found.log.state().committed, Some(id(2, 6)));
}

/// Rule 13: a bad frame in a batch that a later one proves is damage by file and offset; in the last batch it is a torn tail.
#[test]
fn a_bad_frame_in_a_proven_batch_is_named_and_in_the_last_one_cut() {
    let disk = SimulatedDisk::new(1);
    let log = voted(&disk);
    log.append(entries(1, 0..3, 40)).unwrap();
    log.append(entries(1, 3..6, 40)).unwrap();
    log.die(&disk);
    let disk = disk.crash(Loss::Nothing);
    let begin = 512 + 28 + 51;
    let frame = 28 + 16 + 40;
    for at in 0..6 {
        disk.flip("log/0000000000000001.seg", begin + at * frame + 30, 1);
        let opened = open(&disk.crash(Loss::Nothing));
        if at < 3 {
            let Err(LogError::Corrupt { file, offset, .. }) = opened else {
                panic!("frame {at} is in a proven batch");
            };
            assert_eq!(
                (&*file, offset),
                ("log/0000000000000001.seg", begin + at * frame)
            );
        } else {
            let opened = opened.unwrap();
            assert_eq!(
                indexes(&opened.entries().unwrap()),
                (0..at).collect::<Vec<_>>()
            );
        }
        disk.flip("log/0000000000000001.seg", begin + at * frame + 30, 1);
    }
}

/// Rule 13: after a failed sync nothing is acknowledged, everything fails with it, and the node hears of it once.
#[test]
fn a_failed_sync_is_final() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk).unwrap();
    let heard = Arc::new(Mutex::new(0));
    for _ in 0..2 {
        let into = heard.clone();
        log.log
            .on_failure(Box::new(move |_| *into.lock().unwrap() += 1));
    }
    disk.inject(Fault::io(1).only(Operation::Sync));
    let error = log.append(entries(1, 0..1, 20)).unwrap_err();
    assert!(matches!(error, StorageError::Failed { .. }), "{error}");
    assert_eq!(disk.injected(), 1);
    let syncs = disk.syncs();
    assert!(log.save_vote(vote(1)).is_err());
    assert!(log.append(entries(1, 1..2, 20)).is_err());
    assert!(log.truncate(None).is_err());
    assert_eq!(disk.syncs(), syncs, "the disk isn't asked again");
    assert!(log.log.failed().is_some());
    assert_eq!(*heard.lock().unwrap(), 2, "each hears once");
    assert_eq!(log.log.durable(), None);
}

/// Rule 14: frames of a cut tail don't line up behind newly written ones.
#[test]
fn no_frame_of_a_cut_tail_comes_back() {
    for seed in 0..60 {
        let disk = SimulatedDisk::new(seed);
        let log = voted(&disk);
        log.append(entries(1, 0..1, 40)).unwrap();
        // Equal frames, so that only batch numbers, chain and zeros tell them apart.
        disk.inject(Fault::io(1).only(Operation::Sync));
        assert!(log.append(entries(1, 1..12, 40)).is_err());
        log.die(&disk);
        let disk = disk.crash(Loss::Random { seed });
        let log = open(&disk).unwrap();
        let kept = log.log.state().last.unwrap().index.0;
        // Behind the entries and the frame that closes a torn batch there are zeros.
        let end = 512 + (28 + 51) + (usize::try_from(kept).unwrap() + 1) * (28 + 16 + 40) + 28;
        let file = disk.read_file("log/0000000000000001.seg").unwrap();
        assert!(file[end..].iter().all(|byte| *byte == 0), "seed {seed}");
        let next = entry(id(1, kept + 1), 40, 99);
        log.append(vec![next.clone()]).unwrap();
        log.die(&disk);
        let log = open(&disk.crash(Loss::Everything)).unwrap();
        assert_eq!(log.entries().unwrap().last(), Some(&next), "seed {seed}");
        assert_eq!(log.log.state().last, Some(next.id), "seed {seed}");
    }
}

/// Rules 15 and 17: whatever `purge` is told, nothing above the floor goes, and files go whole.
#[test]
fn a_purge_stops_at_the_floor_and_removes_whole_segments() {
    let disk = SimulatedDisk::new(1);
    let log = voted(&disk);
    for index in 0..12 {
        log.append(entries(1, index..index + 1, 900)).unwrap();
    }
    let before = segments(&disk);
    assert!(before.len() >= 4, "{before:?}");
    log.purge(id(1, 11)).unwrap();
    assert_eq!(log.log.state().purged, None, "no floor: nothing at all");
    log.log.set_floor(Some(LogIndex(2)));
    log.purge(id(1, 11)).unwrap();
    assert_eq!(log.log.state().purged, Some(id(1, 2)));
    assert_eq!(
        indexes(&log.entries().unwrap()),
        (3..12).collect::<Vec<_>>()
    );
    let error = log.read(2, 5).unwrap_err();
    assert!(matches!(error, StorageError::Purged { purged } if purged == id(1, 2)));
    log.log.set_floor(Some(LogIndex(9)));
    log.purge(id(1, 9)).unwrap();
    assert!(
        segments(&disk).len() < before.len(),
        "{:?}",
        segments(&disk)
    );
    log.die(&disk);
    let found = open(&disk.crash(Loss::Everything)).unwrap();
    assert_eq!(indexes(&found.entries().unwrap()), [10, 11]);
}

/// Rules 15 and 17: a purge keeps the newest segments that hold as many bytes as are retained.
#[test]
fn a_purge_retains_bytes_for_followers_that_were_away() {
    let disk = SimulatedDisk::new(1);
    let options = Options {
        retention_bytes: 5000,
        ..small()
    };
    let log = open_with(&disk, options).unwrap();
    for index in 0..16 {
        log.append(entries(1, index..index + 1, 900)).unwrap();
    }
    log.log.set_floor(Some(LogIndex(15)));
    log.purge(id(1, 15)).unwrap();
    let kept = indexes(&log.entries().unwrap());
    assert!(kept.len() >= 5 && kept.len() <= 9, "{kept:?}");
    assert_eq!(kept.last(), Some(&15));
    // A snapshot install replaces the log, retained or not.
    log.log.set_floor(Some(LogIndex(40)));
    log.purge(id(1, 40)).unwrap();
    assert_eq!(log.log.state().last, Some(id(1, 40)));
    assert_eq!(log.entries().unwrap(), []);
    log.append(entries(1, 41..42, 9)).unwrap();
}

#[test]
fn a_full_disk_refuses_entries_unchanged_and_heals() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk).unwrap();
    disk.set_free_bytes(Some(0));
    let mut accepted = 0;
    let error = loop {
        match log.append(entries(1, accepted..accepted + 1, 300)) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 1000);
    };
    assert!(matches!(error, StorageError::Full { .. }), "{error}");
    assert_eq!(error.retry(), sqlrep_core::Retry::Safe);
    assert!(log.log.is_full());
    let last = accepted.checked_sub(1).map(|index| id(1, index));
    assert_eq!((log.log.state().last, log.log.durable()), (last, last));
    assert!(log.log.failed().is_none());
    // What isn't an entry goes on: votes, cuts, purges.
    log.save_vote(vote(2)).unwrap();
    log.truncate(Some(id(1, accepted - 2))).unwrap();
    log.log.set_floor(Some(LogIndex(0)));
    log.purge(id(1, 0)).unwrap();
    disk.set_free_bytes(None);
    // The files' worker looks again when somebody is refused.
    let again = (0..3).find(|_| log.append(entries(2, accepted - 1..accepted, 300)).is_ok());
    assert!(again.is_some(), "space is back");
    assert!(!log.log.is_full());
    log.die(&disk);
    let found = open(&disk.crash(Loss::Everything)).unwrap();
    assert_eq!(found.log.state().last, Some(id(2, accepted - 1)));
    assert_eq!(found.log.state().vote, Some(vote(2)));
}

#[test]
fn calls_that_wait_share_one_write_and_one_sync() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk).unwrap();
    log.append(entries(1, 0..1, 20)).unwrap();
    let (syncs, batches) = (disk.syncs(), log.log.stats().batches);
    let done = Arc::new(Mutex::new(Vec::new()));
    for index in 1..20 {
        let done = done.clone();
        let note = move |result: Result<(), StorageError>| {
            result.unwrap();
            done.lock().unwrap().push(index);
        };
        log.log
            .append(entries(1, index..index + 1, 20), Box::new(note));
    }
    assert_eq!(
        indexes(&log.read(10, 20).unwrap()),
        (10..20).collect::<Vec<_>>(),
        "readable at once"
    );
    assert_eq!(log.log.durable(), Some(id(1, 19)));
    assert_eq!(disk.syncs(), syncs + 1);
    assert_eq!(log.log.stats().batches, batches + 1);
    let times = log.log.sync_times();
    assert_eq!(
        times.counts.last(),
        Some(&(batches + 1)),
        "each sync is timed"
    );
    assert_eq!(*done.lock().unwrap(), (1..20).collect::<Vec<_>>());
}

/// Rule 12: the log says that it syncs from the call to the end of its sync, votes included, and never for good.
#[test]
fn a_log_says_whether_it_syncs() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk).unwrap();
    assert!(!log.log.is_syncing());
    let (own, during) = (log.log.clone(), Arc::new(Mutex::new(Vec::new())));
    let note = |during: &Arc<Mutex<Vec<bool>>>| -> sqlrep_core::Done<()> {
        let (own, during) = (own.clone(), during.clone());
        Box::new(move |_| during.lock().unwrap().push(own.is_syncing()))
    };
    log.log.append(entries(1, 0..1, 20), note(&during));
    assert!(log.log.is_syncing(), "it waits");
    log.manual.run();
    assert!(!log.log.is_syncing());
    log.log.save_vote(vote(2), note(&during));
    assert!(log.log.is_syncing(), "it waits");
    log.manual.run();
    assert_eq!(*during.lock().unwrap(), [true, true], "under way");
    assert!(!log.log.is_syncing());
    disk.inject(Fault::io(1).only(Operation::Sync));
    log.append(entries(1, 1..2, 20)).unwrap_err();
    assert!(!log.log.is_syncing(), "a failed log syncs no more");
}

#[test]
fn another_nodes_log_and_a_closed_one_are_refused() {
    let disk = SimulatedDisk::new(1);
    let log = open(&disk).unwrap();
    log.append(entries(1, 0..1, 20)).unwrap();
    let closed = Arc::new(Mutex::new(0));
    for _ in 0..2 {
        let into = closed.clone();
        log.log.close(Box::new(move || *into.lock().unwrap() += 1));
        log.manual.run();
    }
    assert_eq!(*closed.lock().unwrap(), 2);
    let error = log.append(entries(1, 1..2, 20)).unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    drop(log);
    let mut other = common::identity();
    other.directory.0 += 1;
    let env = sqlrep_env::Env::inline(1);
    let again = sqlrep_raft_log::RaftLog::open(Arc::new(disk), &env, small(), other);
    let error = again.map(drop).unwrap_err();
    assert!(matches!(error, LogError::Foreign { .. }), "{error}");
}

#[test]
#[should_panic(expected = "leaves a hole")]
fn a_hole_is_refused() {
    let log = open(&SimulatedDisk::new(1)).unwrap();
    log.append(entries(1, 0..1, 20)).unwrap();
    let _never = log.append(entries(1, 2..3, 20));
}

/// Recent entries are kept in memory up to the bound of their bytes: those come from there, older ones from files.
#[test]
fn the_cache_of_recent_entries_is_bounded_by_bytes() {
    let disk = SimulatedDisk::new(1);
    let options = Options {
        cache_bytes_max: 10_000,
        ..small()
    };
    let opened = open_with(&disk, options).unwrap();
    for index in 0..100 {
        let written = entry(id(1, index), 500, index);
        opened.append(vec![written]).unwrap();
    }
    let from_files = |index: u64| {
        let before = opened.log.stats().entries_read;
        let found = opened.read(index, index + 1).unwrap();
        assert_eq!(found[0].id.index.0, index);
        opened.log.stats().entries_read - before
    };
    let kept = (0..100).filter(|index| from_files(*index) == 0).count();
    assert!((10..=20).contains(&kept), "{kept} entries of 500 bytes");
    assert_eq!((from_files(99), from_files(100 - kept as u64 - 1)), (0, 1));
}
