//! Many transactions in one version: what is kept of them, and what an abort and a reader see.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod model;

use model::{SIZE, options, page, side};
use sqlrep_disk::SimulatedDisk;
use sqlrep_store::{Change, Finish, Image, PageCount, PinKind, Position, Store, Version};
use std::sync::Arc;

fn store() -> Arc<Store> {
    Store::open(options(&SimulatedDisk::new(1), 1 << 20, 1 << 20)).unwrap()
}

fn publish(store: &Store, count: u32, pages: &[(u32, u8)]) -> Version {
    let image = |byte: u8| Image::from(vec![byte; SIZE as usize]);
    let pages = pages
        .iter()
        .map(|(number, byte)| (page(*number), image(*byte)));
    let (count, pages) = (PageCount(count), pages.collect());
    store.publish(Change { pages, count }).unwrap()
}

fn finish(store: &Store, index: u64, version: Version) {
    let finish = Finish {
        position: Position { term: 1, index },
        version,
        side: side(index),
        anchor: true,
    };
    store.finish(finish).unwrap();
}

fn byte(store: &Store, number: u32, at: Version) -> u8 {
    store.image_at(page(number), at).unwrap()[0]
}

#[test]
fn a_page_that_changes_often_has_one_image() {
    let store = store();
    let first = publish(&store, 2, &[(1, 1), (2, 2)]);
    let before = store.stats().version_bytes;
    store.open_version();
    for round in 0..200 {
        let version = publish(&store, 2, &[(1, round)]);
        assert_eq!(version, Version(first.0 + 1));
    }
    assert_eq!(store.stats().version_bytes, before + u64::from(SIZE));
    assert_eq!(byte(&store, 1, first), 1, "what stands below is untouched");
    let delta = store.delta(first);
    assert_eq!(delta.pages, [page(1)]);
    assert_eq!(byte(&store, 1, delta.version), 199);
}

#[test]
fn closed_it_stays_as_it_is_and_the_next_is_another() {
    let store = store();
    store.open_version();
    let one = publish(&store, 1, &[(1, 1)]);
    store.close_version();
    store.open_version();
    let two = publish(&store, 1, &[(1, 2)]);
    assert!(one < two);
    finish(&store, 1, one);
    let pin = store.pin(PinKind::Sql);
    publish(&store, 1, &[(1, 3)]);
    let mut seen = [0; 1];
    pin.read(page(1), 0, &mut seen).unwrap();
    assert_eq!(seen, [1], "a reader sees what is finished");
    store.abort();
    assert_eq!(store.newest(), (one, PageCount(1)));
    assert_eq!(byte(&store, 1, one), 1);
    assert_eq!(
        publish(&store, 1, &[(1, 4)]),
        two,
        "nothing is open behind an abort"
    );
}

/// A cut and new growth within the version: the pages cut off don't come back, and the checksum is that of what is there.
#[test]
fn what_was_cut_off_in_it_is_gone() {
    let (open, apart) = (store(), store());
    let steps: [(u32, &[(u32, u8)]); 4] = [
        (3, &[(1, 1), (2, 2), (3, 3)]),
        (1, &[(1, 4)]),
        (4, &[(4, 5)]),
        (4, &[(2, 6)]),
    ];
    open.open_version();
    for (count, pages) in steps {
        publish(&open, count, pages);
        publish(&apart, count, pages);
    }
    let (open, apart) = (open.delta(Version(0)), apart.delta(Version(0)));
    assert_eq!(open.version, Version(1));
    assert_eq!((open.post, open.pages), (apart.post, apart.pages));
}

/// It can't be taken back within a version, and memory has to be made room for meanwhile.
#[test]
fn a_large_transaction_is_a_version_of_its_own() {
    let store = store();
    store.open_version();
    let small = publish(&store, 1, &[(1, 1)]);
    let pages: Vec<(u32, u8)> = (1..=300).map(|number| (number, 7)).collect();
    let large = publish(&store, 300, &pages);
    assert!(small < large);
    assert_eq!(
        publish(&store, 300, &[(1, 8)]),
        large,
        "which is open in turn"
    );
    assert!(publish(&store, 900, &[(1, 9)]) > large, "growth counts");
}

#[test]
#[should_panic(expected = "an open version isn't committed")]
fn an_open_version_is_not_finished() {
    let store = store();
    store.open_version();
    let open = publish(&store, 1, &[(1, 1)]);
    finish(&store, 1, open);
}
