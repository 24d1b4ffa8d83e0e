//! A receiver that has a part of the state already gets the pages that differ, and no others.

use super::bed::*;
use super::snapshot::LOSSES;
use sqlrep_core::{EntryEnd, SnapshotSink, SnapshotSource, Which};
use sqlrep_disk::{Fault, Loss, SimulatedDisk};
use sqlrep_replica::{CheckpointPolicy, Sink, Source};
use std::collections::VecDeque;

/// Bytes that a transfer takes at most beside images and their numbers: heads, hashes, runs.
const AROUND_BYTES: usize = 1000;

fn opened(from: &Node, to: &Node) -> (Source, Sink) {
    let source = from.replica.snapshot(Which::Newest).unwrap();
    let sink = to.replica.receive(source.end());
    (source, sink)
}

/// A state of about a thousand pages in three chunks. A next entry, the second, has no keys, which would be chunks too.
fn large(seed: u64) -> Node {
    let mut node = Node::new(seed);
    let rows = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
                INSERT INTO t SELECT i, hex(zeroblob(100)) || i FROM n";
    let table = "CREATE TABLE t(a INTEGER PRIMARY KEY, b)";
    node.entry(1, &format!("{table}; {rows}"), true);
    node
}

/// Pages of `state` that `other` hasn't.
fn differing(state: &Node, other: &Node) -> usize {
    let (state, other) = (state.anchor_pages(), other.anchor_pages());
    let equal = state.iter().zip(&other).filter(|(one, two)| one == two);
    state.len() - equal.count()
}

/// Whether just `pages` pages of `from` went over.
#[track_caller]
fn brought(sent: &Sent, pages: usize, from: &Node) {
    let all = from.anchor_pages().len();
    assert_eq!(
        sent.spared,
        (all - pages) as u64,
        "of {all}, {pages} differ"
    );
    let images = pages * PAGE_BYTES as usize;
    let bounds = images..images + pages * 8 + all / 16 + AROUND_BYTES;
    assert!(bounds.contains(&sent.bytes), "{} of {images}", sent.bytes);
}

#[track_caller]
fn arrived(from: &Node, to: &Node) {
    let shows = |node: &Node| {
        assert!(node.anchor_pages() == from.anchor_pages());
        assert_eq!(node.replica.applied(), from.replica.applied());
        assert!(node.store().verify_pages().unwrap().is_empty());
        assert_eq!(node.one("PRAGMA integrity_check"), "ok");
    };
    shows(to);
    shows(&to.crashed(Loss::Everything));
}

/// Rule 11: a follower whose database differs in a few pages is sent those, whether they are on disk or in memory.
#[test]
fn a_follower_is_sent_the_pages_that_differ() {
    for durable in [false, true] {
        let (mut from, mut to) = (large(1), large(2));
        from.entry(2, "UPDATE t SET b = 'new' WHERE a % 500 = 0", true);
        to.entry(2, "UPDATE t SET b = 'own' WHERE a = 1234", true);
        to.close_writer();
        if durable {
            from.checkpoint();
            to.checkpoint();
        }
        let pages = differing(&from, &to);
        assert!((4..20).contains(&pages), "{pages} differ");
        let sent = exchanged(&from, &to).unwrap();
        brought(&sent, pages, &from);
        arrived(&from, &to);
    }
}

/// Rule 11: so is one whose database is shorter, longer, empty, or has nothing in common.
#[test]
fn a_follower_of_any_size_is_sent_the_pages_that_differ() {
    let stories = [
        "SELECT 1",
        "DELETE FROM t WHERE a > 700; VACUUM",
        "INSERT INTO t SELECT a + 5000, b FROM t",
        "DROP TABLE t; VACUUM",
        "UPDATE t SET b = hex(randomblob(200))",
    ];
    for (seed, sql) in (10..).zip(stories) {
        let (from, mut to) = (large(1), large(seed));
        to.entry(2, sql, true);
        to.close_writer();
        let pages = differing(&from, &to);
        let sent = exchanged(&from, &to).unwrap();
        brought(&sent, pages, &from);
        arrived(&from, &to);
    }
    let (from, to) = (large(1), Node::new(20));
    let sent = exchanged(&from, &to).unwrap();
    brought(&sent, from.anchor_pages().len(), &from);
    arrived(&from, &to);
}

/// The base file of the live generation of a disk whose node was stopped, and a bit of page `page` in it flipped.
fn rot(disk: &SimulatedDisk, page: u64) {
    let files = disk.list_all().into_iter();
    let bases: Vec<_> = files.filter(|file| file.ends_with("/main.db")).collect();
    let [base] = &bases[..] else {
        panic!("one database: {bases:?}");
    };
    disk.flip(base, (page - 1) * u64::from(PAGE_BYTES) + 99, 1);
}

fn restarted(node: &Node, rotten: Option<u64>) -> Node {
    let disk = node.disk.crash(Loss::Nothing);
    if let Some(page) = rotten {
        rot(&disk, page);
    }
    Node::on(disk, CheckpointPolicy::default())
}

/// Rules 7 and 11: an own page that reads back wrong isn't offered, and so is sent.
#[test]
fn a_rotten_page_is_not_offered() {
    let (from, to) = (large(1), large(1));
    to.checkpoint();
    for page in [1, 8, 300] {
        let to = restarted(&to, Some(page));
        let sent = exchanged(&from, &to).unwrap();
        brought(&sent, 1, &from);
        arrived(&from, &to);
    }
}

/// Rules 3, 7 and 11: a page that is another one when it is to be taken ends the transfer; nothing has changed, and the next
/// one is sent it.
#[test]
fn a_page_that_changes_behind_its_offer_ends_the_transfer() {
    let (from, to) = (large(1), large(1));
    to.checkpoint();
    let to = restarted(&to, None);
    let before = to.disk.list_all();
    let (mut source, mut sink) = opened(&from, &to);
    let error = exchange(&mut source, &mut sink, |place| {
        if place == 1 {
            to.disk
                .flip("db/1/main.db", 7 * u64::from(PAGE_BYTES) + 99, 1);
        }
        true
    });
    let error = error.unwrap_err();
    assert!(
        error.contains("page 8 isn't here as it was offered"),
        "{error}"
    );
    drop(sink);
    assert_eq!(to.disk.list_all(), before, "what was received is removed");
    let sent = exchanged(&from, &to).unwrap();
    brought(&sent, 1, &from);
    arrived(&from, &to);
}

/// Rules 3 and 11: what wasn't offered isn't taken, and what was offered by another can't make another database of it.
#[test]
fn pages_that_were_not_offered_are_not_taken() {
    let (from, to, mut third) = (large(1), Node::new(2), large(3));
    third.entry(2, "UPDATE t SET b = 'third' WHERE a > 50", true);
    third.close_writer();
    for to in [to, third] {
        let (mut source, mut sink) = opened(&from, &to);
        let mut equal = large(4).replica.receive(source.end());
        while let Some(offer) = equal.offer() {
            source.offered(&offer).unwrap();
        }
        let before = to.anchor_pages();
        let _offered = sink.offer();
        let error = fill(&mut sink, &chunks(&mut source)).unwrap_err();
        let known = ["isn't here as it was offered", "its checksum is"];
        assert!(known.iter().any(|known| error.contains(known)), "{error}");
        to.replica.install(sink).unwrap_err();
        assert_eq!(to.anchor_pages(), before);
    }
}

/// A peer may offer anything.
#[test]
fn an_offer_that_is_none_is_refused() {
    let from = large(1);
    let mut source = from.replica.snapshot(Which::Newest).unwrap();
    let error = source.offered(b"nonsense").unwrap_err();
    assert!(error.to_string().contains("an offer of pages"), "{error}");
    assert_eq!(error.retry, sqlrep_env::Retry::Safe, "its sender is whole");
}

/// Rule 11: a transfer that broke behind any chunk goes on there with what is at hand.
#[test]
fn a_transfer_with_pages_at_hand_goes_on_behind_any_chunk() {
    let (mut from, to) = (large(1), large(2));
    from.entry(2, "UPDATE t SET b = 'new' WHERE a % 100 = 0", true);
    let (pages, mut places) = (differing(&from, &to), 0);
    loop {
        let to = to.crashed(Loss::Nothing);
        let fresh = large(2);
        let to = if to.anchor_pages().is_empty() {
            fresh
        } else {
            to
        };
        let (mut source, mut sink) = opened(&from, &to);
        let mut first = exchange(&mut source, &mut sink, |place| place < places).unwrap();
        sink.verify().unwrap();
        source.seek(places as u64).unwrap();
        let rest = exchange(&mut source, &mut sink, |_| true).unwrap();
        first.bytes += rest.bytes;
        first.spared += rest.spared;
        brought(&first, pages, &from);
        sink.complete().unwrap();
        to.replica.install(sink).unwrap();
        arrived(&from, &to);
        if rest == Sent::default() {
            break;
        }
        places += 1;
    }
    assert!(places > 3, "{places} chunks");
}

/// A sink of `to` that took in so many chunks of `from`'s state.
fn half(from: &Node, to: &Node, places: usize) -> Sink {
    let (mut source, mut sink) = opened(from, to);
    exchange(&mut source, &mut sink, |place| place < places).unwrap();
    sink
}

/// Chunks in which the pages of `node` go out, and the head.
fn places(node: &Node) -> usize {
    chunks(&mut node.replica.snapshot(Which::Newest).unwrap()).len()
}

/// Rule 11: what an abandoned transfer brought isn't sent again, if it is the same in the new state.
#[test]
fn what_an_abandoned_transfer_brought_is_not_sent_again() {
    let (old, mut from) = (large(1), large(1));
    from.entry(2, "UPDATE t SET b = 'new' WHERE a % 500 = 0", true);
    let pages = differing(&from, &old);
    let all = places(&old);
    for behind in 0..=all {
        let to = Node::new(2);
        let before = to.disk.list_all();
        let (mut source, mut sink) = opened(&from, &to);
        sink.inherit(half(&old, &to, behind));
        let sent = exchange(&mut source, &mut sink, |_| true).unwrap();
        if behind < 2 {
            assert_eq!(sent.spared, 0);
        } else if behind == all {
            brought(&sent, pages, &from);
        } else {
            assert!(sent.spared > 400 * (behind as u64 - 1), "{sent:?}");
        }
        drop(sink);
        assert_eq!(to.disk.list_all(), before, "both are removed");
    }
    let to = Node::new(2);
    let (mut source, mut sink) = opened(&from, &to);
    sink.inherit(half(&old, &to, all));
    exchange(&mut source, &mut sink, |_| true).unwrap();
    sink.complete().unwrap();
    to.replica.install(sink).unwrap();
    arrived(&from, &to);
    let folders = |file: &String| file.starts_with("db/") && file.ends_with("/main.db");
    let databases = to
        .disk
        .list_all()
        .iter()
        .filter(|file| folders(file))
        .count();
    assert_eq!(databases, 2, "the old one and the new: the half is removed");
}

/// Rules 7 and 11: pages of it that were damaged meanwhile are sent, and its other pages still aren't.
#[test]
fn a_damaged_page_of_an_abandoned_transfer_is_sent() {
    let from = large(1);
    let to = Node::new(2);
    let mut abandoned = half(&from, &to, places(&from));
    abandoned.verify().unwrap();
    let files = to.disk.list_all().into_iter();
    let mut bases = files.filter(|file| file.ends_with("/main.db"));
    let base = bases.next_back().unwrap();
    to.disk.flip(&base, 7 * u64::from(PAGE_BYTES) + 99, 1);
    let (mut source, mut sink) = opened(&from, &to);
    sink.inherit(abandoned);
    let sent = exchange(&mut source, &mut sink, |_| true).unwrap();
    brought(&sent, 1, &from);
    sink.complete().unwrap();
    to.replica.install(sink).unwrap();
    arrived(&from, &to);
}

/// Rule 11: of two transfers that were abandoned one behind the other, the one that came farther is worth more.
#[test]
fn the_farthest_of_the_abandoned_transfers_is_kept() {
    let from = large(1);
    for (first, second) in [(2, 3), (3, 2), (3, 0)] {
        let to = Node::new(2);
        let (mut source, mut sink) = opened(&from, &to);
        sink.inherit(half(&from, &to, first));
        exchange(&mut source, &mut sink, |place| place < second).unwrap();
        let (mut source, mut last) = opened(&from, &to);
        last.inherit(sink);
        let sent = exchange(&mut source, &mut last, |_| true).unwrap();
        assert_eq!(sent.spared, 2 * 508, "behind {first} and {second}");
    }
}

/// Rules 3 and 11: whatever call of the disk fails, or is the last before the power is gone, while pages are taken from what
/// is at hand: the old state or the new one is there.
#[test]
fn a_fault_at_every_call_of_an_exchange_leaves_one_of_the_two_states() {
    let mut from = Node::filled(1);
    from.entry(2, "UPDATE t SET b = 'new' WHERE a % 50 = 0", true);
    let old = Node::filled(1);
    old.checkpoint();
    let (old_pages, old_end) = (old.anchor_pages(), old.replica.applied());
    let faults: [fn(&SimulatedDisk, u64); 4] = [
        |disk, nth| disk.crash_at(nth),
        |disk, nth| disk.inject(Fault::io(nth)),
        |disk, nth| disk.inject(Fault::io(nth).forever()),
        |disk, nth| disk.inject(Fault::full(nth)),
    ];
    for strike in faults {
        let (mut states, mut new) = (0, 0);
        for nth in 1.. {
            let to = restarted(&old, None);
            strike(&to.disk, nth);
            let done = exchanged(&from, &to).is_ok();
            if to.disk.injected() == 0 {
                assert!(done, "it doesn't fail by itself");
                break;
            }
            for loss in LOSSES {
                let again = to.crashed(loss);
                let pages = again.anchor_pages();
                let is_new = pages == from.anchor_pages();
                let is_old = !done && pages == old_pages;
                assert!(is_new || is_old, "call {nth}, {loss:?}");
                let end = if is_new {
                    from.replica.applied()
                } else {
                    old_end.clone()
                };
                assert_eq!(again.replica.applied(), end);
                states += 1;
                new += u32::from(is_new);
                exchanged(&from, &again).unwrap();
                arrived(&from, &again);
            }
        }
        assert!(states > 60 && new > 2, "{states} states, {new} of them new");
    }
}

/// Rule 11: a database of many pages is offered part by part, as chunks are taken in; a source that is told of a part only when
/// it waits for it leaves out the same, and is never told of two of them ahead.
#[test]
fn a_database_is_offered_part_by_part() {
    const PARTS: u64 = 3;
    let filled = |seed| {
        let mut node = Node::new(seed);
        let rows = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
                    INSERT INTO t SELECT i, hex(zeroblob(500000)) FROM n";
        let table = "CREATE TABLE t(a INTEGER PRIMARY KEY, b)";
        node.entry(1, &format!("{table}; {rows}"), true);
        node
    };
    let (mut from, to) = (filled(1), filled(2));
    from.entry(2, "UPDATE t SET b = 'new' WHERE a % 20 = 0", true);
    let pages = differing(&from, &to);
    assert!(to.anchor_pages().len() as u64 > (PARTS - 1) * 32_768);
    let (mut source, mut sink) = opened(&from, &to);
    let (mut waiting, mut offers, mut bytes) = (VecDeque::from_iter(sink.offer()), 0, 0);
    loop {
        if offers == 0 || source.awaits_offer() {
            let offer = waiting.pop_front().expect("what it awaits is told");
            assert!(offer.len() <= 5 + 8 * 32_768 + 8, "{} bytes", offer.len());
            source.offered(&offer).unwrap();
            offers += u64::from(!offer.is_empty());
            continue;
        }
        let Some(chunk) = source.next().unwrap() else {
            break;
        };
        bytes += chunk.len();
        sink.write(&chunk).unwrap();
        waiting.extend(sink.offer());
        assert!(waiting.len() <= 2, "the next one, and that it was the last");
    }
    assert_eq!(offers, PARTS);
    let spared = source.spared_pages();
    brought(&Sent { bytes, spared }, pages, &from);
    sink.complete().unwrap();
    to.replica.install(sink).unwrap();
    arrived(&from, &to);
}

/// The pin on the own database goes with the transfer.
#[test]
fn nothing_stays_pinned_behind_a_transfer() {
    let (from, to) = (large(1), large(2));
    let (mut source, mut sink) = opened(&from, &to);
    exchange(&mut source, &mut sink, |_| true).unwrap();
    assert_eq!(to.store().stats().pins, 1);
    sink.complete().unwrap();
    assert_eq!(to.store().stats().pins, 0);
    assert_ne!(to.replica.applied(), EntryEnd::default());
}
