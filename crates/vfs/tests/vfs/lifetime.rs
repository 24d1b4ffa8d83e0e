//! Threads, closing, panics: what must hold around the unsafe code.

use crate::bed::{Bed, error_of, one, run, sound};
use rusqlite::{ErrorCode, OpenFlags};
use sqlrep_env::{Clock, Moment, UnixMillis};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The name of a connection's VFS, as its `Debug` tells.
fn vfs_name(connection: &sqlrep_vfs::Connection) -> String {
    let text = format!("{connection:?}");
    text.split('"').nth(1).unwrap().to_owned()
}

fn vfs_is_registered(name: &str) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let opened = rusqlite::Connection::open_with_flags_and_vfs(":memory:", flags, name);
    !opened.is_err_and(|error| error.to_string().contains("no such vfs"))
}

#[test]
fn a_closed_connection_leaves_nothing_behind() {
    let bed = Bed::new(4096);
    let handles = Arc::strong_count(&bed.store);
    let writer = bed.writer();
    let name = vfs_name(&writer);
    assert_eq!(name, vfs_name(&writer));
    assert_ne!(name, vfs_name(&bed.writer()));
    run(&writer, "CREATE TABLE t(a)");
    assert!(vfs_is_registered(&name));
    drop(writer);
    assert!(!vfs_is_registered(&name));
    assert_eq!(Arc::strong_count(&bed.store), handles);
}

#[test]
fn closing_in_the_middle_of_a_transaction_publishes_nothing() {
    let bed = Bed::new(1024);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a)");
    let before = bed.store.newest();
    run(
        &writer,
        "PRAGMA cache_size=10; BEGIN; INSERT INTO t VALUES (zeroblob(50000))",
    );
    drop(writer);
    assert_eq!(bed.store.newest(), before);
    assert_eq!(one::<i64>(&bed.writer(), "SELECT count(*) FROM t"), 0);
}

#[test]
fn a_connection_moves_between_threads() {
    let bed = Bed::new(4096);
    let mut writer = bed.writer();
    run(&writer, "CREATE TABLE t(a)");
    for _ in 0..3 {
        writer = std::thread::scope(|scope| {
            let moved = scope.spawn(move || {
                run(&writer, "INSERT INTO t VALUES (1)");
                writer
            });
            moved.join().unwrap()
        });
    }
    assert_eq!(one::<i64>(&writer, "SELECT count(*) FROM t"), 3);
}

#[test]
fn another_thread_interrupts_a_statement() {
    let bed = Bed::new(4096);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a)");
    let handle = writer.interrupt_handle();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Acquire) {
                handle.interrupt();
                std::thread::yield_now();
            }
        });
        let endless = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n";
        let error = writer.sqlite().execute_batch(endless).unwrap_err();
        ended.store(true, Ordering::Release);
        assert_eq!(
            error.sqlite_error_code(),
            Some(ErrorCode::OperationInterrupted)
        );
    });
    assert_eq!(one::<i64>(&writer, "SELECT count(*) FROM t"), 0);
    assert!(sound(&writer));
}

/// Safe code can take SQLite's connection out of ours; its VFS must outlive it.
#[test]
fn a_connection_that_was_swapped_out_goes_on_working() {
    let bed = Bed::new(4096);
    let mut writer = bed.writer();
    run(&writer, "CREATE TABLE t(a)");
    let other = rusqlite::Connection::open_in_memory().unwrap();
    let taken = std::mem::replace(writer.sqlite_mut(), other);
    let name = vfs_name(&writer);
    drop(writer);
    taken
        .execute_batch("INSERT INTO t VALUES (1); VACUUM")
        .unwrap();
    let count = taken.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
    assert_eq!(count.unwrap(), 1);
    assert!(vfs_is_registered(&name));
    drop(taken);
    assert_eq!(one::<i64>(&bed.writer(), "SELECT count(*) FROM t"), 1);
}

/// A statement that is never finalized keeps SQLite's connection open, and so its VFS.
#[test]
fn a_leaked_statement_leaks_the_vfs_with_it() {
    let bed = Bed::new(4096);
    let writer = bed.writer();
    let name = vfs_name(&writer);
    run(&writer, "CREATE TABLE t(a)");
    std::mem::forget(writer.sqlite().prepare("SELECT * FROM t").unwrap());
    drop(writer);
    assert!(vfs_is_registered(&name));
}

/// A clock that panics while `armed`.
struct Broken(AtomicBool);

impl Clock for Broken {
    fn now(&self) -> Moment {
        Moment::default()
    }

    fn wall(&self) -> UnixMillis {
        assert!(!self.0.load(Ordering::Acquire), "the clock is broken");
        UnixMillis(0)
    }
}

#[test]
fn a_panic_in_a_callback_ends_the_connection_and_nothing_else() {
    let mut bed = Bed::new(4096);
    let clock = Arc::new(Broken(AtomicBool::new(false)));
    bed.env.clock = clock.clone();
    let writer = bed.writer();
    run(
        &writer,
        "CREATE TABLE t(a, at DEFAULT CURRENT_TIMESTAMP); INSERT INTO t(a) VALUES (1)",
    );
    assert_eq!(writer.panic_message(), None);
    let before = bed.store.newest();
    clock.0.store(true, Ordering::Release);
    // The statement's time reads as null; its commit is refused.
    let error = writer
        .sqlite()
        .execute_batch("INSERT INTO t(a) VALUES (2)")
        .unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure));
    assert_eq!(
        writer.panic_message().as_deref(),
        Some("the clock is broken")
    );
    clock.0.store(false, Ordering::Release);
    assert!(error_of(&writer, "SELECT * FROM t").contains("disk I/O error"));
    assert_eq!(bed.store.newest(), before);
    drop(writer);
    assert_eq!(
        one::<i64>(
            &bed.writer(),
            "SELECT count(*) FROM t WHERE at = '1970-01-01 00:00:00'"
        ),
        1
    );
}
