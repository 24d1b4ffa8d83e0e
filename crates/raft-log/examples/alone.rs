//! A log without Raft: appends, dies, and shows what is there afterwards.
//!
//! ```text
//! cargo run --example alone -- FOLDER
//! ```
//!
//! It starts itself as a child that appends, cuts two entries off, appends again and kills itself in the middle of an append.
//! The parent opens what the child left: what was acknowledged is there, what was cut is not.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use sqlrep_core::{
    DirectoryId, Done, Entry, EntryId, LogIndex, LogStore, NodeId, Payload, StorageError, Term,
    Vote,
};
use sqlrep_disk::{Disk, RealDisk};
use sqlrep_env::Env;
use sqlrep_raft_log::{LogIdentity, Options, RaftLog};
use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::{Arc, mpsc};

type Answer<T> = Result<T, Box<dyn Error>>;

/// A log, and the term its owner writes in.
pub(crate) struct Alone {
    log: Arc<RaftLog>,
    term: Term,
}

/// Makes a call and waits for its answer.
fn wait<T: Send + 'static>(call: impl FnOnce(Done<T>)) -> Answer<T> {
    let (sender, receiver) = mpsc::channel::<Result<T, StorageError>>();
    call(Box::new(move |result| {
        // Nobody waits any more only if this function has returned.
        sender.send(result).ok();
    }));
    Ok(receiver.recv()??)
}

impl Alone {
    /// Opens, or makes, the log on `disk`, and votes for itself in a new term. What a crash left is recovered here.
    pub(crate) fn open(disk: Arc<dyn Disk>, env: &Env) -> Answer<Self> {
        let node = NodeId::new(1).ok_or("a small number")?;
        let directory = DirectoryId(1);
        let options = Options {
            segment_bytes: 1 << 20,
            ..Options::default()
        };
        let log = RaftLog::open(disk, env, options, LogIdentity { node, directory })?;
        let term = Term(log.state().vote.map_or(1, |vote| vote.term.0 + 1));
        let vote = Vote {
            term,
            node: Some(node),
            committed: true,
        };
        wait(|done| log.save_vote(vote, done))?;
        Ok(Self { log, term })
    }

    fn entry(&self, text: &str) -> Entry {
        let last = self.log.state().last;
        let index = last.map_or(LogIndex(0), |last| last.index.next());
        let term = self.term;
        Entry {
            id: EntryId { term, index },
            payload: Payload::Command(text.as_bytes().to_vec().into()),
        }
    }

    /// Appends a line. When this returns it is durable.
    pub(crate) fn append(&self, text: &str) -> Answer<()> {
        wait(|done| self.log.append(vec![self.entry(text)], done))
    }

    /// An append that nobody waits for.
    pub(crate) fn append_and_forget(&self, text: &str) {
        self.log.append(vec![self.entry(text)], Box::new(drop));
    }

    /// Cuts the last `count` entries off, as a follower does whose leader has others there.
    pub(crate) fn cut(&self, count: usize) -> Answer<()> {
        let entries = self.entries()?;
        let last = entries.iter().rev().nth(count).map(|entry| entry.id);
        wait(|done| self.log.truncate_after(last, done))
    }

    fn entries(&self) -> Answer<Vec<Entry>> {
        let end = self.log.state().last.map_or(0, |last| last.index.0 + 1);
        let range = LogIndex(0)..LogIndex(end);
        wait(|done| self.log.read(range, usize::MAX, done))
    }

    /// All lines, in order.
    pub(crate) fn lines(&self) -> Answer<Vec<String>> {
        let mut lines = Vec::new();
        for entry in self.entries()? {
            if let Payload::Command(bytes) = entry.payload {
                lines.push(String::from_utf8(bytes.to_vec())?);
            }
        }
        Ok(lines)
    }
}

/// Appends five lines, cuts two of them off, appends one more; `durable` hears of what is there after each step.
pub(crate) fn write(alone: &Alone, mut durable: impl FnMut(&[String])) -> Answer<()> {
    for number in 1..=5 {
        alone.append(&format!("line {number}"))?;
        durable(&alone.lines()?);
    }
    alone.cut(2)?;
    durable(&alone.lines()?);
    alone.append("line 4, written anew")?;
    durable(&alone.lines()?);
    Ok(())
}

/// The child: writes, and dies.
fn die(folder: &Path) -> Answer<()> {
    let alone = Alone::open(Arc::new(RealDisk::open(folder)?), &Env::real())?;
    write(&alone, |lines| println!("child: durable: {lines:?}"))?;
    alone.append_and_forget("may be there or not");
    println!("child: dies in the middle of an append");
    std::process::abort();
}

/// The parent: lets a child die, then recovers.
fn recover(folder: &Path) -> Answer<()> {
    let program = std::env::current_exe()?;
    let died = Command::new(program).arg("--die").arg(folder).status()?;
    println!("parent: the child ended with {died}");
    let alone = Alone::open(Arc::new(RealDisk::open(folder)?), &Env::real())?;
    println!("parent: recovered {:?}", alone.lines()?);
    println!("parent: {:?}", alone.log.stats());
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
