//! An overlay shows what is below and changes nothing of it, whatever is done on it.
#![allow(clippy::unwrap_used, reason = "an error fails the test")]

use proptest::prelude::*;
use sqlrep_disk::{Disk, DiskError, OpenMode, Operation, OverlayDisk, RealDisk, SimulatedDisk};
use std::path::Path;
use std::sync::Arc;

const ROOM_BYTES: u64 = 64 << 10;

fn write(disk: &dyn Disk, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
    disk.open(path, OpenMode::Create)?.write_at(offset, bytes)
}

fn read(disk: &dyn Disk, path: &str) -> Result<Vec<u8>, DiskError> {
    let file = disk.open(path, OpenMode::Existing)?;
    let mut bytes = vec![0; usize::try_from(file.size()?).unwrap()];
    file.read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Every path below a folder, with its bytes and its time of change.
fn tree(folder: &Path) -> Vec<(std::path::PathBuf, Option<Vec<u8>>, std::time::SystemTime)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.metadata().unwrap();
        let bytes = metadata.is_file().then(|| std::fs::read(&path).unwrap());
        all.push((path.clone(), bytes, metadata.modified().unwrap()));
        if metadata.is_dir() {
            all.extend(tree(&path));
        }
    }
    all.sort();
    all
}

#[test]
fn the_directory_below_stays_as_it_is() {
    let parent = tempfile::tempdir().unwrap();
    let real = RealDisk::open(parent.path()).unwrap();
    real.create_dir("d").unwrap();
    for path in ["a", "d/b", "d/c"] {
        write(&real, path, 0, &[7; 9000]).unwrap();
    }
    let before = tree(parent.path());
    let below = Arc::new(RealDisk::read_only(parent.path()).unwrap());
    let disk = OverlayDisk::new(below, ROOM_BYTES);
    let lock = disk.lock().unwrap();
    write(&disk, "a", 4000, &[1; 200]).unwrap();
    disk.open("d/b", OpenMode::Existing)
        .unwrap()
        .set_len(5)
        .unwrap();
    disk.rename("d/c", "e").unwrap();
    disk.create_dir("f").unwrap();
    write(&disk, "f/g", 0, b"new").unwrap();
    let mut a = vec![7; 9000];
    a[4000..4200].fill(1);
    assert_eq!(read(&disk, "a").unwrap(), a);
    assert_eq!(read(&disk, "d/b").unwrap(), [7; 5]);
    assert_eq!(read(&disk, "e").unwrap(), [7; 9000]);
    assert_eq!(disk.list("").unwrap(), ["a", "d", "e", "f"]);
    assert_eq!(disk.list("d").unwrap(), ["b"]);
    disk.remove_dir("d").unwrap();
    disk.create_dir("d").unwrap();
    assert!(disk.list("d").unwrap().is_empty(), "nothing comes back");
    assert!(disk.open("d/b", OpenMode::Existing).is_err());
    drop(lock);
    assert_eq!(tree(parent.path()), before, "not even a lock was made");
}

#[test]
fn a_directory_to_read_from_is_never_changed_and_its_lock_counts() {
    let parent = tempfile::tempdir().unwrap();
    let missing = RealDisk::read_only(&parent.path().join("no")).unwrap_err();
    assert!(missing.to_string().contains("/no"), "{missing}");
    let real = RealDisk::open(parent.path()).unwrap();
    write(&real, "a", 0, b"kept").unwrap();
    let disk = RealDisk::read_only(parent.path()).unwrap();
    let refused = |result: Result<(), DiskError>| {
        assert!(matches!(result, Err(DiskError::Io { .. })), "{result:?}");
    };
    refused(write(&disk, "b", 0, b"x"));
    refused(disk.open("a", OpenMode::Create).map(drop));
    refused(disk.rename("a", "b"));
    refused(disk.remove("a"));
    refused(disk.create_dir("d"));
    refused(disk.remove_dir("d"));
    let file = disk.open("a", OpenMode::Existing).unwrap();
    refused(file.write_at(0, b"x"));
    refused(file.set_len(0));
    assert_eq!(read(&disk, "a").unwrap(), b"kept");
    let held = real.lock().unwrap();
    assert!(matches!(disk.lock(), Err(DiskError::Locked { .. })));
    drop(held);
    drop(disk.lock().unwrap());
}

#[test]
fn what_is_kept_in_memory_is_bounded_and_given_back() {
    let disk = OverlayDisk::new(Arc::new(SimulatedDisk::new(1)), ROOM_BYTES);
    let file = disk.open("a", OpenMode::New).unwrap();
    file.preallocate(1 << 40).unwrap();
    for round in 0..3 {
        let at = round << 30;
        file.write_at(at, &[1; 64 << 10]).unwrap();
        assert_eq!(disk.free_bytes().unwrap(), 0);
        let error = write(&disk, "b", 0, b"x").unwrap_err();
        assert!(error.to_string().contains("65536 bytes"), "{error}");
        assert!(matches!(error, DiskError::Overlay { .. }) && !error.is_final());
        file.set_len(at).unwrap();
        assert_eq!(disk.free_bytes().unwrap(), ROOM_BYTES);
    }
    write(&disk, "b", 0, b"x").unwrap();
    disk.remove("b").unwrap();
    assert_eq!(disk.free_bytes().unwrap(), ROOM_BYTES);
}

#[test]
fn an_error_below_is_told() {
    let below = SimulatedDisk::new(1);
    write(&below, "a", 0, b"x").unwrap();
    let disk = OverlayDisk::new(Arc::new(below.clone()), ROOM_BYTES);
    below.flip("a", 0, 1);
    assert_eq!(read(&disk, "a").unwrap(), [b'x' ^ 1]);
    let error = disk.open("a/b", OpenMode::Existing).map(drop).unwrap_err();
    let told =
        matches!(&error, DiskError::Io { operation: Operation::Open, path, .. } if path == "a/b");
    assert!(told, "{error:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, Vec<u8>),
    Resize(u64),
    Grow(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let offset = 0u64..20_000;
    let step = prop_oneof![
        (offset.clone(), proptest::collection::vec(1u8.., 0..6000))
            .prop_map(|(offset, bytes)| Step::Write(offset, bytes)),
        offset.clone().prop_map(Step::Resize),
        offset.prop_map(Step::Grow),
    ];
    proptest::collection::vec(step, 1..20)
}

proptest! {
    #[test]
    fn a_file_over_another_reads_like_a_copy_of_it(old in proptest::collection::vec(1u8.., 0..12_000), steps in steps()) {
        let (below, copy) = (SimulatedDisk::new(1), SimulatedDisk::new(2));
        write(&below, "a", 0, &old).unwrap();
        write(&copy, "a", 0, &old).unwrap();
        let disk = OverlayDisk::new(Arc::new(below.clone()), 1 << 20);
        for step in steps {
            for disk in [&disk as &dyn Disk, &copy] {
                let file = disk.open("a", OpenMode::Create).unwrap();
                match &step {
                    Step::Write(offset, bytes) => file.write_at(*offset, bytes).unwrap(),
                    Step::Resize(len) => file.set_len(*len).unwrap(),
                    Step::Grow(len) => file.preallocate(*len).unwrap(),
                }
            }
            prop_assert_eq!(read(&disk, "a").unwrap(), read(&copy, "a").unwrap());
        }
        prop_assert_eq!(read(&below, "a").unwrap(), old);
    }
}
