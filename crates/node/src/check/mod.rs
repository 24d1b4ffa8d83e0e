//! Checking a data directory offline: everything a start would read, and every page; nothing is changed.
//!
//! ```text
//!   lock ─► identity ─► vote, log ─► database: position, journal, sums, every page ─► damaged pages by table and index
//!                                                                        └─► all right: PRAGMA integrity_check
//! ```
//!
//! The code is that of a start, on an overlay that keeps its writes in memory. A finding doesn't end the check: whatever
//! doesn't depend on it is looked at too. The report is data; how it is shown is the caller's.
//!
//! It doesn't do: repairing, comparing with other nodes (`sqlrep_core::Member::compare`), finding rot in the log's very last
//! batch, which looks like a torn tail.

mod owners;

use crate::NodeError;
use crate::identity::Identity;
use serde::Serialize;
use sqlrep_disk::{Disk, DiskError, OverlayDisk, RealDisk};
use sqlrep_env::Env;
use sqlrep_raft_log::{LogError, LogFound, LogIdentity, VoteFound};
use sqlrep_store::{Inspection, Options, Store, StoreError};
use sqlrep_vfs::{Connection, Kind};
use std::path::Path;
use std::sync::Arc;

/// What a check may keep in memory: mainly the pages of a checkpoint that a crash cut short.
const OVERLAY_BYTES_MAX: u64 = 1 << 30;

/// Lines of SQLite's own check that are told.
const INTEGRITY_LINES_MAX: usize = 100;

/// What is to be said of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// As a crash or rot leaves it, and a start works with it.
    Note,
    /// Damaged, missing or not to be trusted.
    Damaged,
    /// It couldn't be looked at.
    Unknown,
}

/// One part of a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Which: `identity`, `log`, `page 7`.
    pub part: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub text: String,
    /// Number of a damaged page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
}

/// Everything that was found, in the order in which a start would read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The parts.
    pub parts: Vec<Part>,
}

impl Report {
    /// The worst of all parts; a part that couldn't be looked at is worse than a note and better than damage.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let any = |verdict| self.parts.iter().any(|part| part.verdict == verdict);
        let worst = [Verdict::Damaged, Verdict::Unknown, Verdict::Note];
        worst
            .into_iter()
            .find(|one| any(*one))
            .unwrap_or(Verdict::Ok)
    }

    fn say(&mut self, part: &str, verdict: Verdict, text: impl Into<String>) {
        self.parts.push(Part {
            part: part.to_owned(),
            verdict,
            text: text.into(),
            page: None,
        });
    }
}

/// Checks the data directory at `directory`. Blocks while it reads all of it.
///
/// # Errors
///
/// There is no such directory, it isn't one of ours, or a node runs on it. Damage is no error but a finding.
pub fn check(directory: &Path) -> Result<Report, NodeError> {
    let real = RealDisk::read_only(directory)?;
    let overlay = OverlayDisk::new(Arc::new(real), OVERLAY_BYTES_MAX);
    let _lock = overlay.lock()?;
    let disk: Arc<dyn Disk> = Arc::new(overlay);
    let mut report = Report::default();
    let identity = identity(&*disk, directory, &mut report)?;
    let log = log(&*disk, identity.as_ref(), &mut report);
    let options = Options::new(disk.clone());
    let found = sqlrep_store::inspect(&options);
    database(&found, &mut report);
    if let Some(log) = log {
        together(&log, &found, &mut report);
    }
    pages(&*disk, directory, &found, &mut report);
    if found.generation.is_some() && found.whole && found.errors.is_empty() {
        integrity(options, &mut report)?;
    }
    Ok(report)
}

/// Whose directory it is; none if that can't be read.
fn identity(
    disk: &dyn Disk,
    directory: &Path,
    report: &mut Report,
) -> Result<Option<Identity>, NodeError> {
    match Identity::load(disk) {
        Ok(Some(identity)) => {
            let (node, cluster, mode) = (identity.node, identity.cluster, identity.mode);
            let cluster = match cluster.0 {
                0 => "of no cluster yet".to_owned(),
                _ => format!("cluster {cluster}"),
            };
            let text = format!("node {node}, {cluster}, mode {mode}");
            report.say("identity", Verdict::Ok, text);
            Ok(Some(identity))
        }
        Ok(None) => {
            let Err(error) = crate::open::untouched(disk) else {
                let shown = directory.display();
                return Err(NodeError::refused(format!(
                    "{shown} is no data directory of sqlrep: it has no file identity; give the folder that a node has as \
                     --data-dir"
                )));
            };
            report.say("identity", Verdict::Damaged, error.to_string());
            Ok(None)
        }
        Err(error) => {
            let unreadable = matches!(&error, NodeError::Disk(disk) if is_unreadable(disk));
            report.say("identity", judged(unreadable), error.to_string());
            Ok(None)
        }
    }
}

/// Whether the machine kept it from being read, so that nothing is known of it.
fn is_unreadable(error: &DiskError) -> bool {
    match error {
        DiskError::Overlay { .. } => true,
        DiskError::Io { source, .. } => source.kind() == std::io::ErrorKind::PermissionDenied,
        _ => false,
    }
}

fn judged(unreadable: bool) -> Verdict {
    if unreadable {
        Verdict::Unknown
    } else {
        Verdict::Damaged
    }
}

/// The vote and every frame of the log; none if something is wrong with either.
fn log(
    disk: &dyn Disk,
    identity: Option<&Identity>,
    report: &mut Report,
) -> Option<(LogFound, VoteFound)> {
    let Some(identity) = identity else {
        let text = "not looked at: its checksums need what the file identity says";
        report.say("log", Verdict::Unknown, text);
        return None;
    };
    let whose = LogIdentity {
        node: identity.node,
        directory: identity.directory,
    };
    let (log, vote) = sqlrep_raft_log::inspect(disk, whose);
    match &vote {
        Ok(found) => say_vote(found, report),
        Err(error) => say_log_error("vote", error, report),
    }
    match &log {
        Ok(found) => say_log(found, report),
        Err(error) => say_log_error("log", error, report),
    }
    log.ok().zip(vote.ok())
}

fn say_log_error(part: &str, error: &LogError, report: &mut Report) {
    let unreadable = matches!(error, LogError::Disk(disk) if is_unreadable(disk));
    report.say(part, judged(unreadable), error.to_string());
}

fn say_vote(found: &VoteFound, report: &mut Report) {
    let text = match &found.vote {
        None => "never voted".to_owned(),
        Some(vote) => match vote.node {
            Some(node) => format!("term {}, for node {node}", vote.term),
            None => format!("term {}", vote.term),
        },
    };
    if found.single {
        let text = format!("{text}; one of its two copies isn't whole, a start writes it again");
        report.say("vote", Verdict::Note, text);
    } else {
        report.say("vote", Verdict::Ok, text);
    }
}

fn say_log(found: &LogFound, report: &mut Report) {
    let entries = match (found.first, found.last) {
        (Some(first), Some(last)) => {
            format!("entries {first} to {}, term {}", last.index, last.term)
        }
        (None, Some(last)) => format!("everything up to entry {} is purged", last.index),
        (_, None) => "no entries".to_owned(),
    };
    let mut text = format!("{entries}; {} segments", found.segments);
    if found.torn_bytes > 0 {
        let torn = found.torn_bytes;
        text += &format!("; a torn tail of {torn} bytes, as a crash leaves it, ends it");
    }
    report.say("log", Verdict::Ok, text);
}

/// What is to be said of the database beside its pages.
fn database(found: &Inspection, report: &mut Report) {
    let at = match found.position {
        Some(position) => format!("entry {}, term {}", position.index, position.term),
        None => "the beginning".to_owned(),
    };
    match (found.generation, found.page_size) {
        (Some(generation), Some(size)) => {
            let (pages, bytes) = (found.pages.0, size.bytes());
            let text = format!("at {at}; {pages} pages of {bytes} bytes; generation {generation}");
            report.say("database", Verdict::Ok, text);
        }
        (None, _) if found.errors.is_empty() => {
            report.say("database", Verdict::Ok, "none yet");
        }
        _ => {}
    }
    if found.journal {
        let text = "a checkpoint was cut short; a start finishes it";
        report.say("checkpoint", Verdict::Ok, text);
    }
    for file in &found.single {
        let text = format!("one of the two copies in {file} isn't whole; the other counts");
        report.say("database", Verdict::Note, text);
    }
    for error in &found.errors {
        let unreadable = matches!(error, StoreError::Disk(disk) if is_unreadable(disk));
        report.say("database", judged(unreadable), error.to_string());
    }
    if let Some(why) = &found.distrusted {
        let text = format!(
            "it was found to differ from the other replicas: {why}; in a cluster the node takes over the leader's state"
        );
        report.say("distrusted", Verdict::Damaged, text);
    }
}

/// Whether log and database belong together: what the one doesn't hold, the other must.
fn together((log, vote): &(LogFound, VoteFound), found: &Inspection, report: &mut Report) {
    if !found.errors.is_empty() {
        return;
    }
    let held = found.position.map_or(0, |position| position.index);
    let purged = log.purged.map_or(0, |id| id.index.0);
    let last = log.last.map_or(0, |id| id.index.0);
    let (verdict, text) = if held > 0 && vote.vote.is_none() {
        let text = format!(
            "log/ is empty, and the database holds the entries up to {held}: the log and this node's vote are lost; \
             empty the directory and join under a new node id"
        );
        (Verdict::Damaged, text)
    } else if purged > held {
        let text = format!(
            "entries {} to {purged} are neither in the database nor in the log",
            held + 1
        );
        (Verdict::Damaged, text)
    } else if last < held && found.generation == Some(1) {
        let text = format!(
            "the log ends at entry {last}, the database was written at {held}: its end is lost"
        );
        (Verdict::Damaged, text)
    } else if last < held {
        let text = format!(
            "the log ends at entry {last}, the database is at {held}, as after a state that came from the leader"
        );
        (Verdict::Note, text)
    } else {
        let text = format!("{} entries of the log are applied at a start", last - held);
        (Verdict::Ok, text)
    };
    report.say("log and database", verdict, text);
}

/// Every page by itself, the damaged ones with what they belong to.
fn pages(disk: &dyn Disk, directory: &Path, found: &Inspection, report: &mut Report) {
    let Some(generation) = found.generation.filter(|_| found.page_size.is_some()) else {
        return;
    };
    if found.whole {
        let text = format!("all {} read back as they were written", found.pages.0);
        return report.say("pages", Verdict::Ok, text);
    }
    if found.damaged.is_empty() {
        let text = "together they don't have the database's checksum; which of them is wrong can't be told";
        return report.say("pages", judged(!found.errors.is_empty()), text);
    }
    let owners = owners::owners(disk, directory, generation, found);
    for page in &found.damaged {
        let owner = owners.get(&page.get());
        report.parts.push(Part {
            part: format!("page {page}"),
            verdict: Verdict::Damaged,
            text: owner.cloned().unwrap_or_else(|| "unknown".to_owned()),
            page: Some(page.get()),
        });
    }
}

/// SQLite's own check, through the store's own reader: pages that are what was written must make sense too.
fn integrity(options: Options, report: &mut Report) -> Result<(), NodeError> {
    let store = Store::open(options).map_err(NodeError::database)?;
    let lines = integrity_lines(&store).unwrap_or_else(|error| vec![error]);
    if lines == ["ok"] {
        report.say(
            "integrity",
            Verdict::Ok,
            "PRAGMA integrity_check finds nothing",
        );
    }
    for line in lines.iter().filter(|line| *line != "ok") {
        report.say("integrity", Verdict::Damaged, line);
    }
    Ok(())
}

fn integrity_lines(store: &Arc<Store>) -> Result<Vec<String>, String> {
    let reader = Connection::open(store, &Env::real(), Kind::Reader);
    let reader = reader.map_err(|error| error.to_string())?;
    let sql = format!("PRAGMA integrity_check({INTEGRITY_LINES_MAX})");
    let ask = || {
        let mut statement = reader.sqlite().prepare(&sql)?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
        lines.collect::<Result<Vec<_>, _>>()
    };
    ask().map_err(|error: sqlrep_vfs::rusqlite::Error| error.to_string())
}
