//! One suite for every disk: what storage code may rely on holds on the machine, in the simulation and in an overlay alike.
#![allow(clippy::unwrap_used, reason = "an error fails the test")]

use sqlrep_disk::{
    Disk, DiskError, File, OpenMode, Operation, OverlayDisk, RealDisk, SimulatedDisk,
};
use std::sync::Arc;

/// Runs each function of the suite on all disks, as a test of its own.
macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod real {
            $(#[test]
            fn $name() {
                let parent = tempfile::tempdir().unwrap();
                let disk = super::RealDisk::open(&parent.path().join("made/data")).unwrap();
                super::$name(&disk);
            })*
        }
        mod simulated {
            $(#[test]
            fn $name() {
                super::$name(&super::SimulatedDisk::new(1));
            })*
        }
        mod overlay {
            $(#[test]
            fn $name() {
                let below = super::Arc::new(super::SimulatedDisk::new(1));
                super::$name(&super::OverlayDisk::new(below, 1 << 20));
            })*
        }
    };
}

suite!(
    modes_of_opening,
    reads_are_short_only_at_the_end,
    gaps_and_growth_read_as_zeros,
    preallocation_writes_up_to_a_length,
    rename_replaces,
    rename_between_folders,
    removing_what_is_not_there_is_fine,
    removed_and_renamed_files_stay_usable,
    folders,
    names_are_sorted,
    paths_stay_inside,
    wrong_kinds_are_refused,
    offsets_beyond_every_file,
    one_process_has_the_lock,
    syncs_and_free_space,
);

fn file(disk: &dyn Disk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(path, OpenMode::Create).unwrap();
    file.set_len(0).unwrap();
    file.write_at(0, bytes).unwrap();
    file
}

fn bytes(file: &dyn File) -> Vec<u8> {
    let size = usize::try_from(file.size().unwrap()).unwrap();
    let mut bytes = vec![0xee; size];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

fn bytes_of(disk: &dyn Disk, path: &str) -> Vec<u8> {
    bytes(&*disk.open(path, OpenMode::Existing).unwrap())
}

fn is_missing<T>(result: Result<T, DiskError>, wanted: &str) -> bool {
    matches!(result, Err(DiskError::NotFound { path }) if path == wanted)
}

fn modes_of_opening(disk: &dyn Disk) {
    assert!(is_missing(disk.open("a", OpenMode::Existing), "a"));
    assert!(disk.list("").unwrap().is_empty());
    disk.open("a", OpenMode::New)
        .unwrap()
        .write_at(0, b"x")
        .unwrap();
    let again = disk.open("a", OpenMode::New);
    assert!(matches!(again, Err(DiskError::Exists { path }) if path == "a"));
    assert_eq!(bytes(&*disk.open("a", OpenMode::Create).unwrap()), b"x");
    assert_eq!(bytes(&*disk.open("a", OpenMode::Existing).unwrap()), b"x");
    assert_eq!(bytes(&*disk.open("b", OpenMode::Create).unwrap()), b"");
    assert!(is_missing(disk.open("no/a", OpenMode::Create), "no/a"));
}

fn reads_are_short_only_at_the_end(disk: &dyn Disk) {
    let file = file(disk, "a", b"0123456789");
    let mut buf = [0; 6];
    assert_eq!(file.read_at(2, &mut buf).unwrap(), 6);
    assert_eq!(&buf, b"234567");
    assert_eq!(file.read_at(7, &mut buf).unwrap(), 3);
    assert_eq!(&buf[..3], b"789");
    assert_eq!(file.read_at(10, &mut buf).unwrap(), 0);
    assert_eq!(file.read_at(1000, &mut buf).unwrap(), 0);
    let error = file.read_exact_at(7, &mut buf).unwrap_err();
    let short = (7, 6, 3);
    assert!(
        matches!(error, DiskError::Short { offset, wanted, read } if (offset, wanted, read) == short)
    );
}

fn gaps_and_growth_read_as_zeros(disk: &dyn Disk) {
    let file = file(disk, "a", b"head");
    file.write_at(10_000, b"tail").unwrap();
    let mut wanted = b"head".to_vec();
    wanted.resize(10_000, 0);
    wanted.extend(b"tail");
    assert!(bytes(&*file) == wanted);
    file.set_len(2).unwrap();
    file.set_len(10_004).unwrap();
    let mut wanted = b"he".to_vec();
    wanted.resize(10_004, 0);
    assert!(bytes(&*file) == wanted, "what was cut doesn't come back");
    file.write_at(20_000, b"").unwrap();
    assert_eq!(
        file.size().unwrap(),
        10_004,
        "nothing written, nothing grown"
    );
}

fn preallocation_writes_up_to_a_length(disk: &dyn Disk) {
    let file = file(disk, "a", b"head");
    let len = (2 << 20) + 77;
    file.preallocate(len).unwrap();
    assert_eq!(file.size().unwrap(), len);
    file.preallocate(100).unwrap();
    assert_eq!(file.size().unwrap(), len, "preallocation never cuts");
    let all = bytes(&*file);
    assert!(all.starts_with(b"head") && all[4..].iter().all(|byte| *byte == 0));
}

fn rename_replaces(disk: &dyn Disk) {
    file(disk, "new", b"new");
    file(disk, "old", b"old");
    disk.rename("new", "old").unwrap();
    assert_eq!(disk.list("").unwrap(), ["old"]);
    assert_eq!(bytes_of(disk, "old"), b"new");
    disk.rename("old", "old").unwrap();
    assert_eq!(bytes_of(disk, "old"), b"new");
    assert!(is_missing(disk.rename("new", "x"), "new"));
    assert!(is_missing(disk.rename("old", "no/x"), "no/x"));
}

fn rename_between_folders(disk: &dyn Disk) {
    disk.create_dir("d").unwrap();
    file(disk, "a", b"moved");
    file(disk, "d/b", b"replaced");
    disk.rename("a", "d/b").unwrap();
    assert_eq!(disk.list("").unwrap(), ["d"]);
    assert_eq!(bytes_of(disk, "d/b"), b"moved");
}

fn removing_what_is_not_there_is_fine(disk: &dyn Disk) {
    disk.remove("a").unwrap();
    disk.remove("no/a").unwrap();
    disk.remove_dir("d").unwrap();
    disk.remove_dir("no/d").unwrap();
    file(disk, "a", b"x");
    disk.remove("a").unwrap();
    assert!(disk.list("").unwrap().is_empty());
    assert!(is_missing(disk.open("a", OpenMode::Existing), "a"));
}

fn removed_and_renamed_files_stay_usable(disk: &dyn Disk) {
    let removed = file(disk, "a", b"removed");
    disk.remove("a").unwrap();
    removed.write_at(7, b" but here").unwrap();
    removed.sync().unwrap();
    assert_eq!(bytes(&*removed), b"removed but here");
    let renamed = file(disk, "b", b"renamed");
    disk.rename("b", "c").unwrap();
    renamed.write_at(0, b"RE").unwrap();
    assert_eq!(bytes_of(disk, "c"), b"REnamed");
    let replaced = file(disk, "d", b"replaced");
    disk.rename("c", "d").unwrap();
    assert_eq!(bytes(&*replaced), b"replaced");
    assert_eq!(disk.open("a", OpenMode::New).unwrap().size().unwrap(), 0);
}

fn folders(disk: &dyn Disk) {
    assert!(
        is_missing(disk.create_dir("a/b"), "a/b"),
        "the parent must exist"
    );
    for dir in ["", "a", "a/b", "a/b"] {
        disk.create_dir(dir).unwrap();
    }
    file(disk, "a/f", b"1");
    file(disk, "a/b/f", b"2");
    assert_eq!(disk.list("a").unwrap(), ["b", "f"]);
    assert_eq!(disk.list("a/b").unwrap(), ["f"]);
    disk.remove_dir("a").unwrap();
    assert!(disk.list("").unwrap().is_empty());
    assert!(is_missing(disk.list("a"), "a"));
    assert!(is_missing(disk.sync_dir("a"), "a"));
    disk.create_dir("a").unwrap();
    assert!(disk.list("a").unwrap().is_empty());
}

fn names_are_sorted(disk: &dyn Disk) {
    for path in ["b", "a-2", "A", "a.1", "a_3", "00010", "00009"] {
        file(disk, path, b"");
    }
    disk.create_dir("aa").unwrap();
    let wanted = ["00009", "00010", "A", "a-2", "a.1", "a_3", "aa", "b"];
    assert_eq!(disk.list("").unwrap(), wanted);
}

fn paths_stay_inside(disk: &dyn Disk) {
    let refused = |result: Result<(), DiskError>, path: &str| {
        let names_it =
            matches!(&result, Err(DiskError::InvalidPath { path: named }) if named == path);
        assert!(names_it, "{path:?}: {result:?}");
    };
    file(disk, "a", b"");
    for path in [
        "..", "../x", "a/../b", "/etc", "a//b", "a/", ".", "a b", "a\\b", "é", "a\0",
    ] {
        refused(disk.open(path, OpenMode::Create).map(drop), path);
        refused(disk.rename(path, "a"), path);
        refused(disk.rename("a", path), path);
        refused(disk.remove(path), path);
        refused(disk.create_dir(path), path);
        refused(disk.remove_dir(path), path);
        refused(disk.list(path).map(drop), path);
        refused(disk.sync_dir(path), path);
    }
    refused(disk.open("", OpenMode::Create).map(drop), "");
    refused(disk.rename("", "a"), "");
    refused(disk.rename("a", ""), "");
    refused(disk.remove(""), "");
    refused(disk.remove_dir(""), "");
    assert_eq!(disk.list("").unwrap(), ["a"]);
}

fn wrong_kinds_are_refused(disk: &dyn Disk) {
    let refused = |result: Result<(), DiskError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, DiskError::Io { .. }), "{error:?}");
    };
    disk.create_dir("d").unwrap();
    file(disk, "f", b"kept");
    refused(disk.open("d", OpenMode::Existing).map(drop));
    refused(disk.open("f/x", OpenMode::Create).map(drop));
    refused(disk.rename("d", "e"));
    refused(disk.rename("f", "d"));
    refused(disk.remove("d"));
    refused(disk.remove_dir("f"));
    refused(disk.list("f").map(drop));
    refused(disk.create_dir("f/x"));
    assert!(matches!(disk.create_dir("f"), Err(DiskError::Exists { path }) if path == "f"));
    assert!(
        matches!(disk.open("d", OpenMode::New), Err(DiskError::Exists { path }) if path == "d")
    );
    assert_eq!(disk.list("").unwrap(), ["d", "f"]);
    assert_eq!(bytes_of(disk, "f"), b"kept");
}

fn offsets_beyond_every_file(disk: &dyn Disk) {
    let file = file(disk, "a", b"x");
    for offset in [1 << 62, i64::MAX as u64, 1 << 63, u64::MAX] {
        assert_eq!(file.read_at(offset, &mut [0; 8]).unwrap(), 0);
    }
    for offset in [i64::MAX as u64, 1 << 63, u64::MAX] {
        let error = file.write_at(offset, b"xy").unwrap_err();
        assert!(
            matches!(
                error,
                DiskError::Io {
                    operation: Operation::Write,
                    ..
                }
            ),
            "{error:?}"
        );
    }
    assert!(file.set_len(u64::MAX).is_err());
    assert_eq!(bytes(&*file), b"x");
}

fn one_process_has_the_lock(disk: &dyn Disk) {
    let first = disk.lock().unwrap();
    assert!(matches!(disk.lock(), Err(DiskError::Locked { .. })));
    assert_eq!(disk.list("").unwrap(), ["lock"]);
    drop(first);
    drop(disk.lock().unwrap());
    drop(disk.lock().unwrap());
}

fn syncs_and_free_space(disk: &dyn Disk) {
    disk.create_dir("d").unwrap();
    file(disk, "d/a", b"x").sync().unwrap();
    disk.sync_dir("d").unwrap();
    disk.sync_dir("").unwrap();
    assert!(disk.free_bytes().unwrap() > 0);
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_what_a_real_disk_makes() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("made/data");
    let disk = RealDisk::open(&root).unwrap();
    disk.create_dir("d").unwrap();
    file(&disk, "d/f", b"");
    let _lock = disk.lock().unwrap();
    let mode = |path: &str| root.join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(""), mode("../"), mode("d")], [0o700; 3]);
    assert_eq!([mode("d/f"), mode("lock")], [0o600; 2]);
}

#[test]
fn a_real_disk_opens_a_folder_with_content_and_names_what_it_refuses() {
    let parent = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(parent.path()).unwrap();
    file(&disk, "a", b"kept");
    assert_eq!(
        bytes_of(&RealDisk::open(parent.path()).unwrap(), "a"),
        b"kept"
    );
    let error = RealDisk::open(&parent.path().join("a")).unwrap_err();
    assert!(error.to_string().contains("/a"), "{error}");
    let _held = disk.lock().unwrap();
    let told = RealDisk::open(parent.path())
        .unwrap()
        .lock()
        .err()
        .unwrap()
        .to_string();
    assert!(told.contains(parent.path().to_str().unwrap()), "{told}");
}
