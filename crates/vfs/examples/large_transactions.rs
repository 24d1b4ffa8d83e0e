//! Transactions much larger than memory on a store of this machine: an INSERT of so many bytes, an UPDATE of every row of it, and
//! a VACUUM; with the memory that it took.
//!
//! ```text
//! cargo run --release --example large_transactions -- FOLDER [MIB]
//! ```
//!
//! It prints a line for each, with the most memory that the process had until then (VmHWM, on Linux), and fails if that
//! was more than 512 MiB. FOLDER has to have room for about six times MIB; it is left as it is then.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use sqlrep_disk::RealDisk;
use sqlrep_env::Env;
use sqlrep_store::{Finish, Options, Position, Progress, Side, Store, StoreError};
use sqlrep_vfs::{Connection, Kind};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

type Answer<T> = Result<T, Box<dyn Error>>;

const MIB: u64 = 1 << 20;
const MEMORY_BYTES_MAX: u64 = 512 * MIB;
/// About four rows fill a page.
const ROW_BYTES: u64 = 1000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match &arguments[..] {
        [folder] => run(Path::new(folder), 1024),
        [folder, mib] => mib
            .parse()
            .map_err(Into::into)
            .and_then(|mib| run(Path::new(folder), mib)),
        _ => Err("usage: large_transactions FOLDER [MIB]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path, mib: u64) -> Answer<()> {
    let env = Env::real();
    let store = Store::open(Options::new(Arc::new(RealDisk::open(folder)?)))?;
    println!("statement   seconds   database MiB   transaction MiB in memory, most   VmHWM MiB");
    let mut began = env.clock.now();
    tell(&store, &env, mib, |writer, sql| {
        let seconds = env.clock.now().since(began).as_secs_f64();
        report(&store, writer, sql, seconds)?;
        began = env.clock.now();
        Ok(())
    })
}

/// Runs each of the three on `store` and makes it durable; `done` hears of each.
pub(crate) fn tell(
    store: &Arc<Store>,
    env: &Env,
    mib: u64,
    mut done: impl FnMut(&Connection, &str) -> Answer<()>,
) -> Answer<()> {
    let kind = Kind::Writer {
        normalize_version: true,
    };
    let writer = Connection::open(store, env, kind)?;
    let rows = mib * MIB / ROW_BYTES;
    let story = [
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)".to_owned(),
        format!(
            "INSERT INTO t WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < {rows}) \
             SELECT i, randomblob({ROW_BYTES}) FROM i"
        ),
        format!("UPDATE t SET v = zeroblob({ROW_BYTES})"),
        "VACUUM".to_owned(),
    ];
    for sql in story {
        writer.sqlite().execute_batch(&sql)?;
        finish(store)?;
        done(&writer, &sql)?;
    }
    Ok(())
}

/// Ends the entry that the transaction is, and makes it durable.
fn finish(store: &Store) -> Result<(), StoreError> {
    let last = store.committed().position;
    let index = last.map_or(0, |last| last.index + 1);
    store.finish(Finish {
        position: Position { term: 1, index },
        version: store.newest().0,
        side: Side::default(),
        anchor: true,
    })?;
    let Some(mut checkpoint) = store.begin_checkpoint(None) else {
        return Ok(());
    };
    while !matches!(checkpoint.step()?, Progress::Done(_)) {}
    Ok(())
}

fn report(store: &Store, writer: &Connection, sql: &str, seconds: f64) -> Answer<()> {
    let verb = sql.split(' ').next().unwrap_or_default();
    let database = u64::from(store.newest().1.0) * u64::from(store.page_size().bytes()) / MIB;
    let transaction = writer.transaction_bytes().memory_most / MIB;
    let Some(process) = most_memory_bytes()? else {
        println!("{verb:9} {seconds:9.1} {database:14} {transaction:33}   unknown");
        return Ok(());
    };
    let process_mib = process / MIB;
    println!("{verb:9} {seconds:9.1} {database:14} {transaction:33} {process_mib:11}");
    if process > MEMORY_BYTES_MAX {
        return Err(format!("it took {process_mib} MiB of memory").into());
    }
    Ok(())
}

/// The most memory that this process ever had; none where the system doesn't tell.
fn most_memory_bytes() -> Answer<Option<u64>> {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return Ok(None);
    };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let Some(kib) = line.and_then(|line| line.split_whitespace().next()) else {
        return Ok(None);
    };
    Ok(Some(kib.parse::<u64>()? * 1024))
}
