//! A whole state on its way from one node to another.

use super::bed::*;
use sqlrep_core::{CheckpointStep, EntryEnd, KeyTable, SnapshotSink, SnapshotSource, Which};
use sqlrep_disk::{Fault, Loss, Operation, SimulatedDisk};
use sqlrep_env::Retry;
use sqlrep_store::PinKind;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_snapshot_arrives_with_equal_pages_sums_and_side_state() {
    let from = Node::filled(1);
    let to = Node::new(2);
    transfer(&from, &to).unwrap();
    assert_eq!(to.rows(), "100/100");
    assert_eq!(to.anchor_pages(), from.anchor_pages());
    assert_eq!(
        to.store().committed().checksum,
        from.store().committed().checksum
    );
    assert_eq!(to.replica.applied(), from.replica.applied());
    assert_eq!(
        to.replica.durable(),
        from.replica.applied(),
        "an install is durable"
    );
    assert_eq!(to.replica.mode_side(), "mode 1");
    from.checkpoint();
    assert_eq!(to.base_file(), from.base_file());
    assert_eq!(to.crashed(Loss::Everything).rows(), "100/100");
}

/// Rule 4: a snapshot shows the anchor it was opened on, whatever is written, checkpointed and vacuumed meanwhile.
#[test]
fn a_snapshot_under_way_is_not_disturbed() {
    let mut from = Node::filled(3);
    from.checkpoint();
    let (pages, end) = (from.anchor_pages(), from.replica.applied());
    let mut source = from.replica.snapshot(Which::Newest).unwrap();
    let to = Node::new(4);
    let mut sink = to.replica.receive(source.end());
    let mut index = 1;
    while let Some(chunk) = source.next().unwrap() {
        sink.write(&chunk).unwrap();
        index += 1;
        from.entry(index, "UPDATE t SET b = b || 'x'; VACUUM", true);
        from.checkpoint();
    }
    assert!(index > 2, "more than one chunk");
    sink.complete().unwrap();
    to.replica.install(sink).unwrap();
    assert_eq!((to.anchor_pages(), to.replica.applied()), (pages, end));
}

#[test]
fn a_node_that_follows_on_after_an_install_stays_equal() {
    let mut from = Node::filled(5);
    let mut to = Node::new(6);
    to.entry(
        1,
        "CREATE TABLE other(x); INSERT INTO other VALUES (1)",
        true,
    );
    to.close_writer();
    transfer(&from, &to).unwrap();
    for node in [&mut from, &mut to] {
        node.entry(2, "DELETE FROM t WHERE a % 3 = 0", true);
        node.checkpoint();
    }
    assert_eq!(
        to.store().committed().checksum,
        from.store().committed().checksum
    );
    assert_eq!(to.base_file(), from.base_file());
}

/// Chunks of a small database: the head, then pages.
fn sent() -> (Node, Vec<Vec<u8>>) {
    let from = Node::filled(7);
    let mut source = from.replica.snapshot(Which::Newest).unwrap();
    let chunks = chunks(&mut source);
    (from, chunks)
}

/// What becomes of chunks that were tampered with on the way; the receiver's own state stays as it was.
fn refused(tamper: impl FnOnce(&mut Vec<Vec<u8>>)) -> String {
    let (from, mut chunks) = sent();
    tamper(&mut chunks);
    let mut to = Node::new(8);
    to.entry(
        1,
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (7, 7)",
        true,
    );
    to.close_writer();
    let before = to.disk.list_all();
    let mut sink = to.replica.receive(from.replica.applied());
    let error = fill(&mut sink, &chunks).unwrap_err();
    let not_whole = to.replica.install(sink).unwrap_err();
    assert_eq!(not_whole.retry(), Retry::Safe);
    assert_eq!(to.rows(), "1/7");
    assert_eq!(to.disk.list_all(), before, "what was received is removed");
    error
}

/// Rule 3: all or nothing. Every byte of every chunk is covered, and so is the order of the chunks.
#[test]
fn damaged_torn_missing_and_doubled_chunks_are_refused() {
    assert!(refused(|chunks| chunks[0][5] ^= 1).contains("hash"));
    assert!(refused(|chunks| chunks[1][300] ^= 0x80).contains("hash"));
    assert!(refused(|chunks| chunks[1].truncate(1000)).contains("hash"));
    assert!(refused(|chunks| chunks[1].clear()).contains("without a hash"));
    assert!(refused(|chunks| drop(chunks.remove(0))).contains("before its head"));
    assert!(refused(|chunks| drop(chunks.pop())).contains("pages came"));
    assert!(refused(|chunks| chunks.insert(1, chunks[0].clone())).contains("two heads"));
    assert!(refused(|chunks| chunks.push(chunks[1].clone())).contains("came where page"));
    assert!(refused(|chunks| chunks.truncate(1)).contains("0 of"));
    assert!(refused(Vec::clear).contains("before its head"));
}

/// Rules 5 and 29: the keys of the very end that is shown travel before its pages, and are durable with them.
#[test]
fn keys_arrive_whole_or_nothing_does() {
    let mut from = Node::filled(11);
    from.entry(5, "UPDATE t SET b = 'five' WHERE a = 1", true);
    let mut source = from.replica.snapshot(Which::Newest).unwrap();
    from.entry(6, "UPDATE t SET b = 'six' WHERE a = 1", true);
    let (end, sent) = (source.end(), chunks(&mut source));
    assert_eq!(end.keys, keys(5));
    let received = |chunks: &[Vec<u8>]| {
        let to = Node::new(12);
        let mut sink = to.replica.receive(EntryEnd {
            keys: KeyTable::default(),
            ..end.clone()
        });
        fill(&mut sink, chunks)?;
        assert_eq!(sink.end(), end);
        to.replica
            .install(sink)
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(to)
    };
    let to = received(&sent).unwrap();
    assert_eq!(to.replica.applied(), end);
    assert_eq!(to.crashed(Loss::Everything).replica.applied(), end);
    let without = |place: usize| {
        let mut fewer = sent.clone();
        fewer.remove(place);
        received(&fewer).map(|_| ()).unwrap_err()
    };
    assert!(without(1).contains("before its head or after its end"));
    assert!(
        received(&sent[..2])
            .map(|_| ())
            .unwrap_err()
            .contains("before its pages")
    );
    let twice = [&sent[..5], &sent[1..]].concat();
    assert!(
        received(&twice)
            .map(|_| ())
            .unwrap_err()
            .contains("where none belongs")
    );
}

/// A state of several chunks, with keys, that goes on changing while it is sent.
fn long() -> Node {
    let mut from = Node::filled(11);
    from.entry(5, "UPDATE t SET b = 'five' || zeroblob(9000)", true);
    from
}

/// Rule 11: a source gives the chunks behind any place as before, whatever was written and checkpointed meanwhile.
#[test]
fn a_snapshot_goes_on_behind_any_chunk() {
    let mut from = long();
    let mut source = from.replica.snapshot(Which::Newest).unwrap();
    let whole = chunks(&mut source);
    assert!(whole.len() > 5, "{} chunks", whole.len());
    for place in 0..=whole.len() {
        let index = 6 + place as u64;
        from.entry(index, "UPDATE t SET b = b || 'x'; VACUUM", true);
        from.checkpoint();
        source.seek(place as u64).unwrap();
        assert!(chunks(&mut source) == whole[place..], "behind {place}");
    }
}

/// Rules 3 and 11: what came is read back before it goes on, behind each chunk; it arrives whole, and until then nothing did.
#[test]
fn a_sink_that_is_left_behind_any_chunk_goes_on() {
    let from = long();
    let mut source = from.replica.snapshot(Which::Newest).unwrap();
    let whole = chunks(&mut source);
    for place in 0..=whole.len() {
        let to = Node::new(12);
        let mut sink = to.replica.receive(EntryEnd {
            keys: KeyTable::default(),
            ..source.end()
        });
        for chunk in &whole[..place] {
            sink.write(chunk).unwrap();
        }
        sink.verify().unwrap();
        assert_eq!(to.replica.applied(), EntryEnd::default());
        fill(&mut sink, &whole[place..]).unwrap();
        to.replica.install(sink).unwrap();
        let after = to.crashed(Loss::Everything);
        assert_eq!(after.anchor_pages(), from.anchor_pages());
        assert_eq!(after.replica.applied(), source.end());
    }
}

/// Rules 7 and 11: damage in what was kept is found before anything is added to it.
#[test]
fn a_sink_that_was_damaged_meanwhile_does_not_go_on() {
    let from = long();
    let mut source = from.replica.snapshot(Which::Newest).unwrap();
    let whole = chunks(&mut source);
    let to = Node::new(12);
    let before = to.disk.list_all();
    let mut sink = to.replica.receive(source.end());
    for chunk in &whole[..whole.len() - 1] {
        sink.write(chunk).unwrap();
    }
    sink.verify().unwrap();
    let files = to.disk.list_all().into_iter();
    let staged = files.filter(|file| file.ends_with("/main.db") && !before.contains(file));
    let [staged] = &staged.collect::<Vec<_>>()[..] else {
        panic!("one database is under way");
    };
    to.disk.flip(staged, 7 * u64::from(PAGE_BYTES) + 99, 1);
    let error = sink.verify().unwrap_err().to_string();
    assert!(error.contains("page 8 was written"), "{error}");
    drop(sink);
    assert_eq!(to.disk.list_all(), before, "what was received is removed");
}

/// Rule 5: a restart has the keys of the durable end, not of a later one.
#[test]
fn a_restart_has_the_keys_of_its_end() {
    let mut node = Node::filled(13);
    for index in 3..6 {
        node.entry(index, "UPDATE t SET b = b || 'x' WHERE a = 1", true);
        if index < 5 {
            node.checkpoint();
        }
    }
    let after = node.crashed(Loss::Everything);
    assert_eq!(after.replica.applied().keys, keys(4));
    let files = after.disk.list_all();
    let kept: Vec<_> = files
        .iter()
        .filter(|file| file.contains("main.keys"))
        .collect();
    assert_eq!(kept, ["db/1/main.keys.4"]);
}

/// Rule 3: pages that are whole each, but not those that were announced, are refused by the sum over all.
#[test]
fn pages_of_another_state_are_refused() {
    let other = Node::filled(9);
    let mut longer = Node::filled(9);
    longer.entry(2, "UPDATE t SET b = 'else' WHERE a = 1", true);
    let of = |node: &Node| chunks(&mut node.replica.snapshot(Which::Newest).unwrap());
    let (head, pages) = (of(&other), of(&longer));
    let error = refused(|chunks| *chunks = [vec![head[0].clone()], pages[1..].to_vec()].concat());
    assert!(error.contains("checksum"), "{error}");
}

#[test]
fn a_database_of_another_page_size_is_refused() {
    let (from, chunks) = sent();
    let disk = SimulatedDisk::new(1);
    let store = open_store(&disk, 4096).unwrap();
    let policy = sqlrep_replica::CheckpointPolicy::default();
    let to = sqlrep_replica::Replica::new(store, from.env.clone(), policy);
    let mut sink = to.receive(from.replica.applied());
    let error = sink.write(&chunks[0]).unwrap_err().to_string();
    assert!(error.contains("512 bytes"), "{error}");
}

/// Rule 7: a page that reads back wrong is never sent.
#[test]
fn a_rotten_page_ends_the_snapshot() {
    let node = Node::filled(10);
    node.checkpoint();
    let disk = node.disk.crash(Loss::Nothing);
    let path = disk
        .list_all()
        .into_iter()
        .find(|path| path.ends_with("/main.db"));
    disk.flip(&path.unwrap(), 7 * u64::from(PAGE_BYTES) + 99, 1);
    let rotten = Node::on(disk, sqlrep_replica::CheckpointPolicy::default());
    let mut source = rotten.replica.snapshot(Which::Newest).unwrap();
    let mut pages = 0;
    let error = loop {
        match source.next() {
            Ok(Some(chunk)) => pages += chunk.len() / (PAGE_BYTES as usize + 4),
            Ok(None) => panic!("it was sent"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.retry, pages), (Retry::Useless, 0), "{error}");
    assert!(error.to_string().contains("page 8"), "{error}");
}

/// Rule 2: an install stops a checkpoint that is under way, whatever moment it comes at, and nothing of the
/// checkpoint reaches the new generation.
#[test]
fn an_install_and_checkpoints_at_once_end_in_the_installed_state() {
    let from = Node::filled(11);
    let mut source = from.replica.snapshot(Which::Newest).unwrap();
    let (end, chunks) = (source.end(), chunks(&mut source));
    for round in 0..20 {
        let mut to = Node::new(round);
        let stop = AtomicBool::new(false);
        to.entry(1, "CREATE TABLE t(a INTEGER PRIMARY KEY, b, c)", true);
        to.close_writer();
        let mut sink = to.replica.receive(end.clone());
        fill(&mut sink, &chunks).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    made_durable(&to.replica, id(u64::MAX), true).unwrap();
                }
            });
            let installed = to.replica.install(sink);
            stop.store(true, Ordering::Release);
            installed.unwrap();
        });
        assert_eq!(to.anchor_pages(), from.anchor_pages());
        let again = to.crashed(Loss::Everything);
        assert_eq!(again.anchor_pages(), from.anchor_pages());
        assert!(again.store().verify_pages().unwrap().is_empty());
    }
}

/// Rules 2 and 12: an install that comes between any two steps of a checkpoint ends it; the steps that follow find
/// nothing to do, and a restart finds the installed state.
#[test]
fn an_install_between_two_steps_ends_the_checkpoint() {
    let (from, chunks) = sent();
    let (mut pauses, mut begun) = (0, 0);
    loop {
        let mut to = Node::filled(20);
        for _ in 0..pauses {
            to.replica.checkpoint_step(id(u64::MAX), true).unwrap();
        }
        if to.replica.durable().id.is_some() {
            break;
        }
        begun += u32::from(to.base_file().iter().any(|byte| *byte != 0));
        to.close_writer();
        let mut sink = to.replica.receive(from.replica.applied());
        fill(&mut sink, &chunks).unwrap();
        to.replica.install(sink).unwrap();
        let step = to.replica.checkpoint_step(id(u64::MAX), true).unwrap();
        assert_eq!(step, CheckpointStep::Done(from.replica.applied()));
        assert_eq!(to.replica.checkpoints().completed, 0);
        assert_eq!(to.anchor_pages(), from.anchor_pages());
        let again = to.crashed(Loss::Everything);
        assert_eq!(again.anchor_pages(), from.anchor_pages());
        assert!(again.store().verify_pages().unwrap().is_empty());
        pauses += 1;
    }
    assert!(
        begun > 2 && pauses > begun + 2,
        "{begun} of {pauses} behind the journal"
    );
}

pub(crate) const LOSSES: [Loss; 3] = [Loss::Nothing, Loss::Everything, Loss::Random { seed: 1 }];

/// Receives and installs while `strike` falls at each of the calls in turn. What the power leaves then is the old state or the
/// new one; a node that a fault has only hindered goes on with one of them and installs the next time.
fn one_of_the_two_states(story: &str, strike: impl Fn(&SimulatedDisk, u64)) {
    let (from, chunks) = sent();
    let (mut old, mut new) = (0, 0);
    for nth in 1.. {
        let mut to = Node::new(nth);
        to.entry(1, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)", true);
        to.close_writer();
        to.checkpoint();
        strike(&to.disk, nth);
        let mut sink = to.replica.receive(from.replica.applied());
        let done = fill(&mut sink, &chunks).is_ok() && to.replica.install(sink).is_ok();
        if to.disk.injected() == 0 {
            assert!(done, "it doesn't fail by itself");
            break;
        }
        for loss in LOSSES {
            let again = to.crashed(loss);
            let rows = again.rows();
            match &rows[..] {
                "0/0" => old += 1,
                "100/100" => new += 1,
                other => panic!("{story}: {other} rows after call {nth}, {loss:?}"),
            }
            assert!(!done || rows == "100/100", "{story}: call {nth}, {loss:?}");
            assert_eq!(again.one("PRAGMA integrity_check"), "ok");
            transfer(&from, &again).unwrap();
            assert_eq!(again.rows(), "100/100");
        }
    }
    let states = old + new;
    // eprintln! is hidden where the test passes.
    let mut terminal = std::io::stderr();
    writeln!(
        terminal,
        "snapshot install, {story}: {states} states, {new} of them new"
    )
    .unwrap();
    assert!(old > 15 && new > 2, "{old} old, {new} new");
}

/// Rule 3: a power loss at every call of receiving and installing, with each kind of loss.
#[test]
fn a_crash_at_every_call_of_an_install_leaves_one_of_the_two_states() {
    one_of_the_two_states("a power loss", |disk, nth| disk.crash_at(nth));
}

/// Rule 3: so does a call that fails, whether those behind it fail too or not.
#[test]
fn a_call_of_an_install_that_fails_leaves_one_of_the_two_states() {
    one_of_the_two_states("a failed call", |disk, nth| disk.inject(Fault::io(nth)));
    one_of_the_two_states("a failing disk", |disk, nth| {
        disk.inject(Fault::io(nth).forever());
    });
    one_of_the_two_states("a full disk", |disk, nth| disk.inject(Fault::full(nth)));
}

/// Rule 7: whichever read of a snapshot's source fails, once or for ever, the transfer ends with that error: what was sent
/// before are the chunks of the whole one, in their order, and installs nowhere. The node goes on, and is whole for the next
/// transfer.
#[test]
fn a_failed_read_ends_the_snapshot_and_not_the_node() {
    let filled = Node::filled(14);
    filled.checkpoint();
    let whole = chunks(&mut filled.replica.snapshot(Which::Newest).unwrap());
    let pages = filled.anchor_pages();
    let disk = filled.disk.crash(Loss::Nothing);
    let mut states = 0;
    for forever in [false, true] {
        for nth in 1.. {
            let policy = sqlrep_replica::CheckpointPolicy::default();
            let mut node = Node::on(disk.crash(Loss::Nothing), policy);
            let mut source = node.replica.snapshot(Which::Newest).unwrap();
            let fault = Fault::io(nth).only(Operation::Read);
            node.disk
                .inject(if forever { fault.forever() } else { fault });
            let mut sent = Vec::new();
            let ended = loop {
                match source.next() {
                    Ok(Some(chunk)) => sent.push(chunk.to_vec()),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            assert!(whole.starts_with(&sent), "read {nth}");
            if node.disk.injected() == 0 {
                ended.unwrap();
                assert_eq!(sent, whole);
                assert!(nth > 20, "every page is read: {nth}");
                break;
            }
            let error = ended.expect_err("the fault was met");
            assert!(error.to_string().contains("db/"), "{error}");
            let to = Node::new(15);
            let mut sink = to.replica.receive(source.end());
            fill(&mut sink, &sent).unwrap_err();
            to.replica.install(sink).unwrap_err();
            node.disk.heal();
            transfer(&node, &to).unwrap();
            assert_eq!(to.anchor_pages(), pages);
            node.entry(2, "DELETE FROM t WHERE a > 60", true);
            assert_eq!(node.rows(), "60/60");
            states += 1;
        }
    }
    // eprintln! is hidden where the test passes.
    let mut terminal = std::io::stderr();
    writeln!(terminal, "snapshot build: {states} states").unwrap();
}

/// Pins of the old generation go on reading it.
#[test]
fn who_reads_while_a_snapshot_is_installed_reads_on() {
    let from = Node::filled(12);
    let mut to = Node::new(13);
    to.entry(
        1,
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 'old')",
        true,
    );
    to.close_writer();
    let pin = to.store().pin(PinKind::Sql);
    transfer(&from, &to).unwrap();
    let mut image = vec![0; PAGE_BYTES as usize];
    for number in 1..=pin.end().pages.0 {
        let page = sqlrep_store::PageNumber::new(number).unwrap();
        pin.read(page, 0, &mut image).unwrap();
    }
    assert!(String::from_utf8_lossy(&image).contains("old"));
    assert_eq!(to.rows(), "100/100");
}
