//! Transactions that are larger than the memory for versions.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use sqlrep_disk::{Fault, Operation, SimulatedDisk};
use sqlrep_store::{
    Finish, Image, Options, PageCount, PageNumber, PageSize, Position, Side, Store, StoreError,
};
use std::sync::Arc;

const MEMORY_BYTES: u64 = 64 * 4096;

fn store(disk: &SimulatedDisk) -> Arc<Store> {
    let options = Options {
        page_size: PageSize::new(4096),
        version_bytes_max: MEMORY_BYTES,
        ..Options::new(Arc::new(disk.clone()))
    };
    Store::open(options).unwrap()
}

type Page = Result<(PageNumber, Image), StoreError>;

/// Every second page up to `count`, filled with `byte`.
fn pages(count: u32, byte: u8) -> impl Iterator<Item = Page> {
    let page = |number: u32| PageNumber::new(number).unwrap();
    (1..=count)
        .step_by(2)
        .map(move |number| Ok((page(number), Image::from(vec![byte; 4096]))))
}

fn bytes_of(store: &Store, count: u32) -> Vec<u8> {
    let first_byte = |number| {
        let mut byte = [0];
        let page = PageNumber::new(number).unwrap();
        store.read_newest(page, 7, &mut byte).unwrap();
        byte[0]
    };
    (1..=count).map(first_byte).collect()
}

fn finish(store: &Store, index: u64) -> u64 {
    let finish = Finish {
        position: Position { term: 1, index },
        version: store.newest().0,
        side: Side::default(),
        anchor: true,
    };
    store.finish(finish).unwrap().checksum.0
}

/// Rule 26: a transaction of any size goes through the memory for versions without filling it, and is seen as a whole.
#[test]
fn a_large_transaction_is_spilled_while_it_comes_in() {
    let store = store(&SimulatedDisk::new(1));
    let before = store.newest();
    let mut most = 0;
    let watched = pages(2000, 7).inspect(|_| {
        most = most.max(store.version_bytes());
        assert_eq!(store.newest(), before, "seen before it was whole");
    });
    store.publish_pages(PageCount(2000), watched).unwrap();
    let step = MEMORY_BYTES / 16;
    assert!(
        most > MEMORY_BYTES / 2 && most <= MEMORY_BYTES + step,
        "{most}"
    );
    assert!(store.version_bytes() <= MEMORY_BYTES);
    let expected = [7, 0].repeat(1000);
    assert_eq!(bytes_of(&store, 2000), expected);
}

/// Rule 26: where it fails in the middle, nothing stays, and it can be done again.
#[test]
fn a_large_transaction_that_fails_is_taken_back() {
    let disk = SimulatedDisk::new(2);
    let (store, plain) = (store(&disk), store(&SimulatedDisk::new(3)));
    for store in [&store, &plain] {
        store.publish_pages(PageCount(300), pages(300, 1)).unwrap();
        finish(store, 1);
    }
    let before = (store.newest(), bytes_of(&store, 300));
    let faults = [1, 30, 70].map(|nth| Fault::io(nth).only(Operation::Write).under("tmp"));
    for fault in faults {
        let injected = disk.injected();
        disk.inject(fault);
        let failed = store.publish_pages(PageCount(500), pages(500, 2));
        assert!(matches!(failed, Err(StoreError::Disk(_))), "{failed:?}");
        assert_eq!(disk.injected(), injected + 1);
        assert_eq!((store.newest(), bytes_of(&store, 300)), before);
    }
    disk.heal();
    for store in [&store, &plain] {
        store.publish_pages(PageCount(500), pages(500, 2)).unwrap();
    }
    assert_eq!(finish(&store, 2), finish(&plain, 2));
    assert_eq!(bytes_of(&store, 500), bytes_of(&plain, 500));
}

/// A scratch file is its owner's alone, and gives its room back.
#[test]
fn scratch_files_go_with_their_owners_or_at_the_next_start() {
    let disk = SimulatedDisk::new(4);
    let store = store(&disk);
    let (one, two) = (store.scratch_file().unwrap(), store.scratch_file().unwrap());
    one.write(3, b"abc").unwrap();
    two.write(0, b"xyz").unwrap();
    let mut bytes = [9; 6];
    one.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"\0\0\0abc");
    assert!(two.read(0, &mut bytes).is_err(), "it is shorter");
    let path = one.path().to_owned();
    drop(one);
    assert_eq!(disk.read_file(&path), None);
    let left = two.path().to_owned();
    let after = disk.crash(sqlrep_disk::Loss::Nothing);
    assert!(after.read_file(&left).is_some());
    self::store(&after);
    assert_eq!(after.read_file(&left), None);
}
