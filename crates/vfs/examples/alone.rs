//! A database without Raft: SQLite on the page store in a folder, made durable by a checkpoint after each transaction.
//!
//! ```text
//! cargo run --example alone -- FOLDER
//! ```
//!
//! It starts itself as a child that writes and kills itself in the middle of a transaction, then recovers what the child
//! left and shows it. What was acknowledged is there, the torn transaction is not.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use sqlrep_disk::{Disk, RealDisk};
use sqlrep_env::Env;
use sqlrep_store::{Finish, Options, PageSize, Position, Progress, Side, Store};
use sqlrep_vfs::{Connection, Kind};
use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

type Answer<T> = Result<T, Box<dyn Error>>;

/// A store, and the one connection that writes to it.
pub(crate) struct Alone {
    store: Arc<Store>,
    writer: Connection,
}

impl Alone {
    /// Opens, or makes, the database on `disk`. What a crash left is recovered here.
    pub(crate) fn open(disk: Arc<dyn Disk>, env: &Env) -> Answer<Self> {
        let store = Store::open(Options {
            page_size: Some(PageSize::DEFAULT),
            ..Options::new(disk)
        })?;
        let kind = Kind::Writer {
            normalize_version: false,
        };
        let writer = Connection::open(&store, env, kind)?;
        Ok(Self { store, writer })
    }

    /// Runs SQL as one transaction. When this returns it is durable.
    pub(crate) fn run(&self, sql: &str) -> Answer<()> {
        self.writer
            .sqlite()
            .execute_batch(&format!("BEGIN; {sql}; COMMIT"))?;
        self.finish()?;
        self.checkpoint()
    }

    /// Ends the entry that the transaction is. With Raft this is the place of the log's entry.
    fn finish(&self) -> Answer<()> {
        let last = self.store.committed().position;
        let finish = Finish {
            position: Position {
                term: 1,
                index: last.map_or(0, |last| last.index + 1),
            },
            version: self.store.newest().0,
            side: Side::default(),
            anchor: true,
        };
        self.store.finish(finish)?;
        Ok(())
    }

    /// Writes everything finished into the base file.
    fn checkpoint(&self) -> Answer<()> {
        let newest = self.store.committed().position;
        let Some(mut checkpoint) = self.store.begin_checkpoint(newest) else {
            return Ok(());
        };
        while !matches!(checkpoint.step()?, Progress::Done(_)) {}
        Ok(())
    }

    /// A transaction that nobody finishes.
    pub(crate) fn begin_and_forget(&self) -> Answer<()> {
        let sql = "BEGIN; INSERT INTO note(text) VALUES ('never acknowledged')";
        Ok(self.writer.sqlite().execute_batch(sql)?)
    }

    /// All notes, in order.
    pub(crate) fn notes(&self) -> Answer<Vec<String>> {
        let mut statement = self
            .writer
            .sqlite()
            .prepare("SELECT text FROM note ORDER BY id")?;
        let notes = statement.query_map([], |row| row.get(0))?;
        Ok(notes.collect::<Result<_, _>>()?)
    }
}

/// Writes a few notes; `acknowledged` hears of each once it is durable.
pub(crate) fn write(alone: &Alone, mut acknowledged: impl FnMut(u32)) -> Answer<()> {
    alone.run("CREATE TABLE IF NOT EXISTS note(id INTEGER PRIMARY KEY, text)")?;
    for number in 1..=5 {
        alone.run(&format!("INSERT INTO note(text) VALUES ('note {number}')"))?;
        acknowledged(number);
    }
    Ok(())
}

/// The child: writes, and dies in the middle of a transaction.
fn die(folder: &Path) -> Answer<()> {
    let alone = Alone::open(Arc::new(RealDisk::open(folder)?), &Env::real())?;
    write(&alone, |number| println!("child: note {number} is durable"))?;
    alone.begin_and_forget()?;
    println!("child: dies in the middle of a transaction");
    std::process::abort();
}

/// The parent: lets a child die, then recovers.
fn recover(folder: &Path) -> Answer<()> {
    let program = std::env::current_exe()?;
    let died = Command::new(program).arg("--die").arg(folder).status()?;
    println!("parent: the child ended with {died}");
    let alone = Alone::open(Arc::new(RealDisk::open(folder)?), &Env::real())?;
    for note in alone.notes()? {
        println!("parent: recovered {note:?}");
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["--die", folder] => die(Path::new(folder)),
        [folder] => recover(Path::new(folder)),
        _ => Err("usage: alone FOLDER".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
