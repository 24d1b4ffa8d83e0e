//! The example's own code, with less of everything: what is in memory is counted.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "../examples/large_transactions.rs"]
#[allow(dead_code, reason = "the example's command line isn't run here")]
mod large_transactions;

use large_transactions::tell;
use sqlrep_disk::RealDisk;
use sqlrep_env::Env;
use sqlrep_store::{Options, Store};
use std::sync::Arc;

const TRANSACTION_BYTES: u64 = 2 << 20;
const VERSION_BYTES: u64 = 8 << 20;

/// Rules 11 and 26: an INSERT, an UPDATE of every row and a VACUUM of 64 MiB in 2 MiB for the transaction and 8 for versions.
#[test]
fn transactions_of_64_mib_take_the_memory_they_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Options {
        transaction_bytes_max: TRANSACTION_BYTES,
        version_bytes_max: VERSION_BYTES,
        ..Options::new(Arc::new(RealDisk::open(folder.path()).unwrap()))
    });
    let (store, env) = (store.unwrap(), Env::inline(1));
    let mut scratch_bytes = Vec::new();
    tell(&store, &env, 64, |writer, sql| {
        let bytes = writer.transaction_bytes();
        assert!(bytes.memory_most <= TRANSACTION_BYTES, "{sql}: {bytes:?}");
        assert_eq!(bytes.memory, 0, "{sql}");
        assert!(store.version_bytes() <= VERSION_BYTES, "{sql}");
        scratch_bytes.push(bytes.scratch_written);
        Ok(())
    })
    .unwrap();
    let database_bytes = u64::from(store.newest().1.0) * 4096;
    assert!(database_bytes > 64 << 20, "{database_bytes}");
    // The layer; then the journal, too; then VACUUM's database with them.
    let each: Vec<u64> = scratch_bytes
        .windows(2)
        .map(|two| (two[1] - two[0]) >> 20)
        .collect();
    assert!(
        each[0] > 60 && each[1] > 120 && each[2] > 180,
        "{each:?} MiB"
    );
    assert_eq!(store.verify_pages().unwrap(), []);
}
