//! The fsync rules, one test each, and the faults.

use super::*;
use crate::{Disk, DiskError, File, OpenMode, Operation, SECTOR_BYTES};
use std::collections::BTreeSet;

const SEEDS: std::ops::Range<u64> = 0..200;

fn make(disk: &SimulatedDisk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(path, OpenMode::Create).unwrap();
    file.write_at(0, bytes).unwrap();
    file
}

/// Everything that `count` random losses leave of `path`.
fn outcomes(disk: &SimulatedDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    SEEDS
        .map(|seed| disk.crash(Loss::Random { seed }).read_file(path))
        .collect()
}

/// Fsync rule 1: bytes survive only after the sync of their file.
#[test]
fn rule_1_bytes_survive_after_their_sync() {
    let disk = SimulatedDisk::new(1);
    let file = make(&disk, "a", b"old");
    disk.sync_dir("").unwrap();
    assert_eq!(disk.crash(Loss::Everything).read_file("a").unwrap(), b"");
    let disk = SimulatedDisk::new(1);
    drop(file);
    let file = make(&disk, "a", b"old");
    disk.sync_dir("").unwrap();
    file.sync().unwrap();
    file.write_at(0, b"new").unwrap();
    file.set_len(10).unwrap();
    let after = disk.crash(Loss::Everything);
    assert_eq!(after.read_file("a").unwrap(), b"old");
    assert_eq!(after.lost(), 2);
    let after = disk.crash(Loss::Nothing);
    assert_eq!(after.read_file("a").unwrap(), b"new\0\0\0\0\0\0\0");
    let again = after.crash(Loss::Everything);
    assert_eq!(
        again.read_file("a").unwrap(),
        b"old",
        "a dead process synced nothing"
    );
}

/// Fsync rule 2: names survive only after the sync of their folder, any subset of them without.
#[test]
fn rule_2_names_survive_after_the_sync_of_their_folder() {
    let disk = SimulatedDisk::new(1);
    for path in ["a", "b"] {
        make(&disk, path, b"x").sync().unwrap();
    }
    disk.sync_dir("").unwrap();
    disk.remove("a").unwrap();
    make(&disk, "c", b"x").sync().unwrap();
    disk.rename("b", "d").unwrap();
    assert_eq!(disk.crash(Loss::Everything).list_all(), ["a", "b"]);
    assert_eq!(disk.crash(Loss::Nothing).list_all(), ["c", "d"]);
    let left: BTreeSet<Vec<String>> = SEEDS
        .map(|seed| disk.crash(Loss::Random { seed }).list_all())
        .collect();
    assert_eq!(
        left.len(),
        8,
        "each of three changes survives or not, independently"
    );
    disk.crash_at(1);
    assert!(disk.sync_dir("").is_err());
}

/// Fsync rule 2 for folders: without the name of the folder all in it is gone, synced or not.
#[test]
fn rule_2_a_folder_needs_a_sync_of_its_parent() {
    let disk = SimulatedDisk::new(1);
    disk.create_dir("d").unwrap();
    make(&disk, "d/a", b"x").sync().unwrap();
    disk.sync_dir("d").unwrap();
    let lost: BTreeSet<Vec<String>> = SEEDS
        .map(|seed| disk.crash(Loss::Random { seed }).list_all())
        .collect();
    assert_eq!(lost, BTreeSet::from([vec![], vec!["d/a".to_owned()]]));
    let disk = disk.crash(Loss::Nothing);
    disk.sync_dir("").unwrap();
    disk.remove_dir("d").unwrap();
    assert_eq!(disk.crash(Loss::Everything).list_all(), ["d/a"]);
    let halves: BTreeSet<Vec<String>> = SEEDS
        .map(|seed| disk.crash(Loss::Random { seed }))
        .map(|after| after.list("d").unwrap_or(vec!["no folder".to_owned()]))
        .collect();
    assert_eq!(halves.len(), 3, "whole, emptied, or gone: {halves:?}");
}

/// Fsync rule 3: after a rename there is the old file or the new one, whole if it was synced.
#[test]
fn rule_3_rename_is_atomic() {
    let disk = SimulatedDisk::new(1);
    make(&disk, "current", b"old").sync().unwrap();
    make(&disk, "temporary", b"longer and new").sync().unwrap();
    disk.sync_dir("").unwrap();
    disk.rename("temporary", "current").unwrap();
    let (mut old, mut new) = (0, 0);
    for seed in SEEDS {
        let after = disk.crash(Loss::Random { seed });
        match after.read_file("current").unwrap().as_slice() {
            b"old" => old += 1,
            b"longer and new" => new += 1,
            torn => panic!("{torn:?}"),
        }
        let renamed = after.read_file("temporary").is_none();
        assert_eq!(renamed, after.read_file("current").unwrap() != b"old");
    }
    assert!(old > 20 && new > 20, "{old} {new}");
}

/// Fsync rule 3: a rename that survives has taken the old name away, whatever happened to earlier changes of names.
#[test]
fn rule_3_a_file_never_has_two_names_in_a_folder() {
    let disk = SimulatedDisk::new(1);
    for path in ["chain1", "temporary"] {
        make(&disk, path, b"old").sync().unwrap();
    }
    disk.sync_dir("").unwrap();
    disk.rename("chain1", "chain2").unwrap();
    disk.rename("chain2", "chain3").unwrap();
    disk.remove("temporary").unwrap();
    make(&disk, "temporary", b"new").sync().unwrap();
    disk.rename("temporary", "current").unwrap();
    let left: BTreeSet<Vec<String>> = SEEDS
        .map(|seed| disk.crash(Loss::Random { seed }).list_all())
        .collect();
    for names in &left {
        let chained = names.iter().filter(|name| name.starts_with("chain"));
        assert_eq!(chained.count(), 1, "{names:?}");
        let both = ["temporary", "current"].map(|name| names.iter().any(|other| other == name));
        assert_ne!(both, [true, true], "{names:?}");
    }
    assert_eq!(
        left.len(),
        9,
        "three ends of the chain, three of the replacement: {left:?}"
    );
}

/// Fsync rule 3, the other side: a name that survived says nothing about unsynced bytes.
#[test]
fn rule_3_a_renamed_file_that_was_not_synced_may_be_empty() {
    let disk = SimulatedDisk::new(1);
    make(&disk, "current", b"old").sync().unwrap();
    disk.sync_dir("").unwrap();
    make(&disk, "temporary", b"new");
    disk.rename("temporary", "current").unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(
        disk.crash(Loss::Everything).read_file("current").unwrap(),
        b""
    );
    assert!(outcomes(&disk, "current").contains(&Some(b"new".to_vec())));
    assert!(!outcomes(&disk, "current").contains(&Some(b"old".to_vec())));
}

/// Fsync rules 2 and 3 for a move between folders: two names, of which any subset survives.
#[test]
fn rule_2_a_move_between_folders_is_two_names() {
    let disk = SimulatedDisk::new(1);
    disk.create_dir("d").unwrap();
    make(&disk, "a", b"moved").sync().unwrap();
    disk.sync_dir("").unwrap();
    disk.rename("a", "d/b").unwrap();
    let left: BTreeSet<Vec<String>> = SEEDS
        .map(|seed| disk.crash(Loss::Random { seed }))
        .inspect(|after| {
            let bytes = after
                .list_all()
                .into_iter()
                .map(|path| after.read_file(&path));
            assert!(
                bytes
                    .into_iter()
                    .all(|bytes| bytes == Some(b"moved".to_vec()))
            );
        })
        .map(|after| after.list_all())
        .collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

/// Fsync rule 4: what wasn't synced survives wholly, partly by sectors in any order, or not at all.
#[test]
fn rule_4_writes_tear_at_sectors() {
    let sector = usize::try_from(SECTOR_BYTES).unwrap();
    let disk = SimulatedDisk::new(1);
    let file = make(&disk, "a", &vec![1; 3 * sector]);
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    file.write_at(0, &vec![2; 3 * sector]).unwrap();
    let mut patterns = BTreeSet::new();
    for left in outcomes(&disk, "a") {
        let left = left.unwrap();
        assert_eq!(left.len(), 3 * sector);
        let pattern: Vec<u8> = left.chunks(sector).map(|sector| sector[0]).collect();
        let whole = left
            .chunks(sector)
            .all(|sector| sector.iter().all(|byte| *byte == sector[0]));
        assert!(whole, "no sector is torn in itself");
        patterns.insert(pattern);
    }
    assert_eq!(patterns.len(), 8, "every subset of three sectors");
}

/// Fsync rule 4: sectors are those of the drive, wherever the write began.
#[test]
fn rule_4_writes_tear_at_the_drives_sectors() {
    let disk = SimulatedDisk::new(1);
    let file = make(&disk, "a", &[1; 1536]);
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    file.write_at(100, &[2; 1000]).unwrap();
    let mut tears = BTreeSet::new();
    for left in outcomes(&disk, "a") {
        let left = left.unwrap();
        tears.extend((1..left.len()).filter(|at| left[*at] != left[at - 1]));
    }
    assert_eq!(tears, BTreeSet::from([100, 512, 1024, 1100]));
}

/// Fsync rule 4: a later write may survive without an earlier one, and the length without the bytes.
#[test]
fn rule_4_writes_survive_in_any_order() {
    let disk = SimulatedDisk::new(1);
    let file = disk.open("a", OpenMode::New).unwrap();
    disk.sync_dir("").unwrap();
    file.write_at(0, b"first").unwrap();
    file.write_at(1024, b"later").unwrap();
    let left = outcomes(&disk, "a");
    let has = |bytes: &'static [u8], at: usize| {
        move |left: &Option<Vec<u8>>| left.as_ref().unwrap().get(at..at + 5) == Some(bytes)
    };
    let (first, later) = (has(b"first", 0), has(b"later", 1024));
    assert!(left.iter().any(|left| first(left) && !later(left)));
    assert!(left.iter().any(|left| !first(left) && later(left)));
    assert!(left.iter().any(|left| first(left) && later(left)));
    assert!(left.contains(&Some(vec![])));
    assert!(
        left.contains(&Some(vec![0; 5])),
        "a length without its bytes"
    );
}

/// Fsync rule 5: after a failed sync reads still show the bytes, a later sync succeeds, and they are lost all the same.
#[test]
fn rule_5_a_failed_sync_loses_data_for_good() {
    let disk = SimulatedDisk::new(1);
    let file = make(&disk, "a", b"....");
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    disk.inject(Fault::io(1).only(Operation::Sync));
    file.write_at(0, b"12").unwrap();
    let error = file.sync().unwrap_err();
    assert!(error.is_final(), "{error:?}");
    assert_eq!(disk.injected(), 1);
    file.write_at(2, b"34").unwrap();
    file.sync().unwrap();
    assert_eq!(disk.read_file("a").unwrap(), b"1234");
    assert_eq!(disk.crash(Loss::Nothing).read_file("a").unwrap(), b"1234");
    assert_eq!(
        disk.crash(Loss::Everything).read_file("a").unwrap(),
        b"..34"
    );
    let left = outcomes(&disk, "a");
    let wanted = [b"..34", b"1234"].map(|bytes| Some(bytes.to_vec()));
    assert_eq!(
        left,
        BTreeSet::from(wanted),
        "what the second sync covered is there"
    );
    let survivor = disk.crash(Loss::Nothing);
    survivor
        .open("a", OpenMode::Existing)
        .unwrap()
        .sync()
        .unwrap();
    let lost = survivor.crash(Loss::Everything).read_file("a").unwrap();
    assert_eq!(lost, b"..34", "the next process can't save it either");
}

/// Fsync rule 5 for names.
#[test]
fn rule_5_a_failed_sync_of_a_folder_loses_names_for_good() {
    let disk = SimulatedDisk::new(1);
    make(&disk, "a", b"").sync().unwrap();
    disk.inject(Fault::full(1).only(Operation::SyncDir));
    let error = disk.sync_dir("").unwrap_err();
    assert!(
        error.is_final(),
        "a full disk is no excuse for a sync: {error:?}"
    );
    make(&disk, "b", b"").sync().unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(disk.list_all(), ["a", "b"]);
    assert_eq!(disk.crash(Loss::Everything).list_all(), ["b"]);
}

/// Fsync rule 6: a full disk takes a part of a write and goes on when there is space again.
#[test]
fn rule_6_a_full_disk_is_not_final() {
    let disk = SimulatedDisk::new(1);
    let file = make(&disk, "a", b"1234");
    make(&disk, "b", &[7; 100]);
    disk.set_free_bytes(Some(3));
    let error = file.write_at(4, b"5678").unwrap_err();
    assert!(matches!(
        error,
        DiskError::Full {
            operation: Operation::Write,
            ..
        }
    ));
    assert!(!error.is_final() && error.retry() == sqlrep_env::Retry::Safe);
    assert_eq!(disk.read_file("a").unwrap(), b"1234567");
    assert_eq!(disk.free_bytes().unwrap(), 0);
    file.write_at(0, b"no growth").unwrap_err();
    assert_eq!(disk.read_file("a").unwrap(), b"no grow");
    file.write_at(0, b"IN-PLCE").unwrap();
    assert!(matches!(file.set_len(8), Err(DiskError::Full { .. })));
    assert!(matches!(file.preallocate(8), Err(DiskError::Full { .. })));
    assert!(matches!(
        file.write_at(90, b"x"),
        Err(DiskError::Full { .. })
    ));
    assert_eq!(file.size().unwrap(), 7);
    disk.remove("b").unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 100);
    assert!(matches!(file.preallocate(200), Err(DiskError::Full { .. })));
    assert_eq!(file.size().unwrap(), 107, "a part was allocated");
    file.set_len(0).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 107);
    make(&disk, "c", &[8; 50]);
    disk.rename("a", "c").unwrap();
    assert_eq!(
        disk.free_bytes().unwrap(),
        107,
        "a replaced file frees its bytes"
    );
    disk.create_dir("d").unwrap();
    make(&disk, "d/e", &[9; 7]);
    disk.remove_dir("d").unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 107);
    disk.set_free_bytes(None);
    file.preallocate(1 << 30).unwrap();
}

/// Fsync rule 6: every other error of a write is final, and the range is unknown.
#[test]
fn rule_6_a_failed_write_is_final() {
    let mut left = BTreeSet::new();
    for seed in 0..50 {
        let disk = SimulatedDisk::new(seed);
        let file = make(&disk, "a", b"....");
        disk.inject(Fault::io(1).only(Operation::Write));
        let error = file.write_at(0, b"1234").unwrap_err();
        assert!(error.is_final(), "{error:?}");
        assert_eq!(disk.injected(), 1);
        left.insert(disk.read_file("a").unwrap());
    }
    let parts = [&b"...."[..], b"1...", b"12..", b"123.", b"1234"];
    assert_eq!(left, parts.iter().map(|part| part.to_vec()).collect());
}

#[test]
fn faults_strike_the_calls_they_were_ordered_for() {
    let disk = SimulatedDisk::new(1);
    disk.create_dir("log").unwrap();
    let log = make(&disk, "log/1", b"x");
    let other = make(&disk, "other", b"x");
    disk.inject(Fault::io(2).only(Operation::Write).under("log/"));
    disk.inject(
        Fault::full(3)
            .only(Operation::Write)
            .under("other")
            .forever(),
    );
    log.write_at(0, b"x").unwrap();
    log.sync().unwrap();
    other.write_at(0, b"x").unwrap();
    assert!(matches!(log.write_at(0, b"x"), Err(DiskError::Io { .. })));
    log.write_at(0, b"x").unwrap();
    other.write_at(0, b"x").unwrap();
    assert_eq!(disk.injected(), 1);
    for injected in 2..5 {
        assert!(matches!(
            other.write_at(0, b"x"),
            Err(DiskError::Full { .. })
        ));
        assert_eq!(disk.injected(), injected);
    }
    disk.heal();
    other.write_at(0, b"x").unwrap();
    assert_eq!(disk.injected(), 4);
}

type Call = fn(&SimulatedDisk, &dyn File) -> Result<(), DiskError>;

#[test]
fn every_call_can_fail_and_says_so() {
    let calls: [(Operation, Call); 13] = [
        (Operation::Open, |disk, _| {
            disk.open("new", OpenMode::New).map(drop)
        }),
        (Operation::Read, |_, file| {
            file.read_at(0, &mut [0]).map(drop)
        }),
        (Operation::Write, |_, file| file.write_at(0, b"x")),
        (Operation::Write, |_, file| file.preallocate(100)),
        (Operation::SetLen, |_, file| file.set_len(1)),
        (Operation::Sync, |_, file| file.sync()),
        (Operation::Size, |_, file| file.size().map(drop)),
        (Operation::Rename, |disk, _| disk.rename("a", "b")),
        (Operation::Remove, |disk, _| disk.remove("a")),
        (Operation::Remove, |disk, _| disk.remove_dir("d")),
        (Operation::CreateDir, |disk, _| disk.create_dir("e")),
        (Operation::List, |disk, _| disk.list("").map(drop)),
        (Operation::SyncDir, |disk, _| disk.sync_dir("")),
    ];
    for (number, (wanted, call)) in calls.into_iter().enumerate() {
        for seed in 0..8 {
            let disk = SimulatedDisk::new(seed);
            disk.create_dir("d").unwrap();
            let file = make(&disk, "a", b"some bytes");
            let before = disk.calls();
            disk.inject(Fault::io(1).only(wanted));
            let error = call(&disk, &*file).unwrap_err();
            let named = matches!(&error, DiskError::Io { operation, .. } if *operation == wanted);
            assert!(named, "call {number}: {error:?}");
            assert_eq!(
                (disk.injected(), disk.calls()),
                (1, before + 1),
                "call {number}"
            );
            // The fault is spent: now it runs, unless it happened although it failed.
            if let Err(again) = call(&disk, &*file) {
                let done = matches!(again, DiskError::NotFound { .. } | DiskError::Exists { .. });
                assert!(done, "call {number}: {again:?}");
            }
        }
    }
    let disk = SimulatedDisk::new(1);
    disk.inject(Fault::io(1));
    assert!(disk.free_bytes().is_err());
    disk.inject(Fault::io(1));
    assert!(disk.lock().is_err());
    assert!(disk.lock().is_ok(), "a failed call left no lock behind");
}

#[test]
fn a_process_dies_in_its_nth_call_and_stays_dead() {
    let mut parts = BTreeSet::new();
    for seed in 0..50 {
        let disk = SimulatedDisk::new(seed);
        let file = make(&disk, "a", b"....");
        disk.crash_at(2);
        file.size().unwrap();
        assert!(!disk.is_dead());
        assert!(file.write_at(0, b"1234").is_err());
        assert!(disk.is_dead());
        let calls = disk.calls();
        assert!(file.size().is_err() && disk.list("").is_err() && disk.lock().is_err());
        assert_eq!((disk.calls(), disk.injected()), (calls, 1));
        let after = disk.crash(Loss::Nothing);
        assert_eq!(
            (after.calls(), after.injected(), after.is_dead()),
            (0, 0, false)
        );
        assert_eq!(after.read_file("a"), disk.read_file("a"));
        assert!(
            file.sync().is_err(),
            "handles of the dead process stay dead"
        );
        parts.insert(after.read_file("a").unwrap());
    }
    assert_eq!(parts.len(), 5, "the write got to any of its bytes");
}

#[test]
fn a_crash_frees_the_lock_and_leaves_an_independent_disk() {
    let disk = SimulatedDisk::new(1);
    let lock = disk.lock().unwrap();
    make(&disk, "a", b"x");
    let after = disk.crash(Loss::Nothing);
    let held = after.lock().unwrap();
    drop(lock);
    assert!(
        after.lock().is_err(),
        "the dead process gives nothing back that it hasn't got"
    );
    drop(held);
    make(&after, "a", b"y");
    assert_eq!(disk.read_file("a").unwrap(), b"x");
    assert_eq!(after.read_file("a").unwrap(), b"y");
}

#[test]
fn one_seed_gives_one_outcome() {
    let script = || {
        let disk = SimulatedDisk::new(9);
        for number in 0..20_u8 {
            let file = make(&disk, &format!("f{}", number % 7), &[number; 3000]);
            if number.is_multiple_of(5) {
                file.sync().unwrap();
                disk.sync_dir("").unwrap();
            }
        }
        disk
    };
    let state = |disk: &SimulatedDisk| -> Vec<_> {
        let paths = disk.list_all().into_iter();
        paths.map(|path| (disk.read_file(&path), path)).collect()
    };
    let outcomes: BTreeSet<_> = SEEDS
        .map(|seed| {
            let loss = Loss::Random { seed };
            let (one, other) = (script().crash(loss), script().crash(loss));
            assert_eq!(state(&one), state(&other));
            assert_eq!(one.lost(), other.lost());
            state(&one)
        })
        .collect();
    assert!(
        outcomes.len() > 100,
        "{} different outcomes",
        outcomes.len()
    );
}

#[test]
fn rot_and_files_put_there_survive_power_loss() {
    let disk = SimulatedDisk::new(1);
    disk.write_file("a", b"abc");
    let file = disk.open("a", OpenMode::Existing).unwrap();
    disk.flip("a", 1, 0x20);
    let mut buf = [0; 3];
    file.read_exact_at(0, &mut buf).unwrap();
    assert_eq!(&buf, b"aBc");
    assert_eq!(disk.crash(Loss::Everything).read_file("a").unwrap(), b"aBc");
    let disk = disk.crash(Loss::Nothing);
    disk.remove("a").unwrap();
    make(&disk, "b", b"unsynced");
    disk.write_file("a", b"cut");
    assert_eq!(disk.calls(), 3);
    let after = disk.crash(Loss::Everything);
    assert_eq!(after.read_file("a").unwrap(), b"cut");
    assert_eq!(
        after.read_file("b"),
        None,
        "only the file that was put there is durable"
    );
    assert!(
        SEEDS
            .map(|seed| disk.crash(Loss::Random { seed }))
            .all(|after| { after.read_file("a").unwrap() == b"cut" })
    );
}

#[test]
fn figures_count_what_was_done() {
    let disk = SimulatedDisk::new(1);
    let file = make(&disk, "a", &[1; 100]);
    file.preallocate(1000).unwrap();
    file.sync().unwrap();
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    let figures = (
        disk.calls(),
        disk.syncs(),
        disk.dir_syncs(),
        disk.written_bytes(),
    );
    assert_eq!(figures, (6, 2, 1, 1000));
}

#[test]
fn a_big_preallocated_file_crashes_fast() {
    let disk = SimulatedDisk::new(1);
    let file = disk.open("segment", OpenMode::New).unwrap();
    file.preallocate(64 << 20).unwrap();
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    let mut after = disk.clone();
    for seed in 0..2000 {
        let file = after.open("segment", OpenMode::Existing).unwrap();
        file.write_at(seed * 1000, &[1; 1000]).unwrap();
        after = after.crash(Loss::Random { seed });
    }
    let file = after.open("segment", OpenMode::Existing).unwrap();
    assert_eq!(file.size().unwrap(), 64 << 20);
}
