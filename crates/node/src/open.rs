//! From options to the parts of a node: what the data directory holds is read, compared and completed.
//!
//! Order matters: the lock comes first, the identity before anything that it decides, the store before the log
//! (a log that is ahead of the store is replayed, the other way round is refused by `core`).

use crate::identity::Identity;
use crate::machine::Machine;
use crate::options::Surroundings;
use crate::{ClusterSettings, Failure, Mode, NodeError, NodeOptions};
use sqlrep_core::{ClusterId, DirectoryId, EntryId, LogStore, NodeId, StateMachine};
use sqlrep_disk::{Disk, DiskError, RealDisk, SyncFloor, SyncFloorDisk};
use sqlrep_env::Env;
use sqlrep_raft_log::{LogIdentity, RaftLog};
use sqlrep_replica::Replica;
use sqlrep_store::{PageSize, Store, StoreError};
use sqlrep_vfs::{Engine, rusqlite};
use std::sync::Arc;
use tokio::sync::watch;

/// Folders of a data directory.
const FOLDERS: [&str; 3] = ["log", "db", "tmp"];

/// Seconds since the epoch at which local time is compared with UTC: winter, summer, before and after changes of rules.
const PROBES: [i64; 6] = [
    0,
    473_385_600,
    1_089_849_600,
    1_711_843_200,
    1_720_000_000,
    1_900_000_000,
];

/// What the log holds behind the base file: a restart applies it again once it is known to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replay {
    pub(crate) entries: u64,
    /// Of frames in the log.
    pub(crate) bytes: u64,
}

/// A data directory, opened.
pub(crate) struct Opened {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) env: Env,
    /// Held for life.
    pub(crate) lock: Box<dyn Send + Sync>,
    pub(crate) identity: Identity,
    pub(crate) engine: Engine,
    pub(crate) store: Arc<Store>,
    pub(crate) log: Arc<RaftLog>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) replay: Replay,
    /// What the log said when it failed.
    pub(crate) failed: watch::Receiver<Option<Failure>>,
}

/// Opens all of it. What this process may not do is told as such, wherever it was met.
pub(crate) fn open(options: &NodeOptions) -> Result<Opened, NodeError> {
    let denied = |error: NodeError| match error.is_denied() {
        true => NodeError::Denied {
            directory: options.directory.display().to_string(),
            source: Box::new(error),
        },
        false => error,
    };
    opened(options).map_err(denied)
}

fn opened(options: &NodeOptions) -> Result<Opened, NodeError> {
    options.check()?;
    let engine = sqlrep_vfs::check_engine().map_err(NodeError::database)?;
    if options.mode == Some(Mode::Statement) {
        check_local_time()?;
    }
    let (disk, env) = surroundings(options)?;
    let lock = disk.lock()?;
    let identity = identity(options, &*disk, &env)?;
    options.check_functions(identity.mode)?;
    if options.mode.is_none() && identity.mode == Mode::Statement {
        check_local_time()?;
    }
    for folder in FOLDERS {
        disk.create_dir(folder)?;
    }
    disk.sync_dir("")?;
    let store = store(options, &disk, &identity)?;
    let (log, failed) = log(options, &disk, &env, &identity)?;
    let replica = Replica::new(store.clone(), env.clone(), options.checkpoint);
    let replica = Arc::new(replica.with_functions(options.functions.clone()));
    let machine = Machine::open(
        identity.mode,
        replica.clone(),
        identity.settings.sql.clone(),
    );
    let machine = Arc::new(machine.map_err(|source| NodeError::Database { source })?);
    remembers(&*log, &*machine)?;
    let replay = replay(&log, &*machine);
    Ok(Opened {
        disk,
        env,
        lock,
        identity,
        engine,
        store,
        log,
        replica,
        machine,
        replay,
        failed,
    })
}

fn replay(log: &RaftLog, machine: &impl StateMachine) -> Replay {
    let next = |id: Option<EntryId>| id.map_or(0, |id| u64::from(id.index) + 1);
    let durable = machine.durable().id;
    let replay = Replay {
        entries: next(log.state().last).saturating_sub(next(durable)),
        bytes: log.bytes_behind(durable.map(|id| id.index)),
    };
    tracing::info!(
        entries = replay.entries,
        bytes = replay.bytes,
        "log to replay"
    );
    replay
}

fn surroundings(options: &NodeOptions) -> Result<(Arc<dyn Disk>, Env), NodeError> {
    match &options.surroundings {
        Some(Surroundings { disk, env, .. }) => Ok((disk.clone(), env.clone())),
        None => {
            let (disk, env) = (Arc::new(RealDisk::open(&options.directory)?), Env::real());
            Ok(match options.sync_floor {
                None => (disk, env),
                Some(lasts) => {
                    let floor = SyncFloor::new(lasts, env.clock.clone());
                    (Arc::new(SyncFloorDisk::new(disk, floor)), env)
                }
            })
        }
    }
}

/// What the directory says, or a new one, compared with what the options say.
fn identity(options: &NodeOptions, disk: &dyn Disk, env: &Env) -> Result<Identity, NodeError> {
    match Identity::load(disk)? {
        Some(identity) => {
            agrees(options, &identity)?;
            Ok(identity)
        }
        None => {
            let identity = drawn(options, env)?;
            untouched(disk)?;
            identity.save(disk)?;
            Ok(identity)
        }
    }
}

/// A directory without `identity` that has our other files was damaged or half deleted.
pub(crate) fn untouched(disk: &dyn Disk) -> Result<(), NodeError> {
    for folder in ["log", "db"] {
        let held = match disk.list(folder) {
            Ok(names) => !names.is_empty(),
            Err(DiskError::NotFound { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        if held {
            return Err(NodeError::Identity {
                what: format!(
                    "it is missing, but {folder}/ holds data; restore it from a backup, or empty the \
                     directory and join under a new node id"
                ),
            });
        }
    }
    Ok(())
}

fn drawn(options: &NodeOptions, env: &Env) -> Result<Identity, NodeError> {
    let mode = options.mode.ok_or_else(|| {
        NodeError::refused("a new data directory needs --mode=statement or --mode=page")
    })?;
    let settings = ClusterSettings::default().with(&options.cluster_settings)?;
    // Above zero, since zero means none; node ids are drawn short enough to be typed.
    let drawn = || env.entropy.next() | 1;
    let node = NodeId::new(drawn() >> 33).expect("31 bits are below 2^63");
    Ok(Identity {
        node: options.node_id.unwrap_or(node),
        directory: DirectoryId(drawn()),
        mode,
        cluster: ClusterId(0),
        proposed: ClusterId(drawn()),
        settings,
    })
}

fn agrees(options: &NodeOptions, identity: &Identity) -> Result<(), NodeError> {
    if let Some(asked) = options.node_id
        && asked != identity.node
    {
        return Err(NodeError::refused(format!(
            "this data directory belongs to node {}, not {asked}; start it with --node-id {} or choose \
             another --data-dir",
            identity.node, identity.node
        )));
    }
    if let Some(asked) = options.mode
        && asked != identity.mode
    {
        return Err(NodeError::refused(format!(
            "this data directory is of mode {}, not {asked}; a cluster keeps its mode",
            identity.mode
        )));
    }
    let asked = identity.settings.with(&options.cluster_settings)?;
    match asked.differences(&identity.settings).first() {
        None => Ok(()),
        Some(first) => Err(NodeError::refused(format!(
            "the cluster setting {} is {} and can't be changed to {}: it is fixed when a cluster is formed",
            first.name, first.stands, first.asked
        ))),
    }
}

fn store(
    options: &NodeOptions,
    disk: &Arc<dyn Disk>,
    identity: &Identity,
) -> Result<Arc<Store>, NodeError> {
    let page_bytes = identity.settings.page_bytes;
    let opened = Store::open(sqlrep_store::Options {
        page_size: PageSize::new(page_bytes),
        version_bytes_max: options.version_bytes_max,
        transaction_bytes_max: options.transaction_bytes_max,
        spill_bytes_max: options.spill_bytes_max,
        ..sqlrep_store::Options::new(disk.clone())
    });
    opened.map_err(|error: StoreError| NodeError::database(error))
}

type Watched<T> = (T, watch::Receiver<Option<Failure>>);

fn log(
    options: &NodeOptions,
    disk: &Arc<dyn Disk>,
    env: &Env,
    identity: &Identity,
) -> Result<Watched<Arc<RaftLog>>, NodeError> {
    let options = sqlrep_raft_log::Options {
        segment_bytes: options.log_segment_bytes,
        ..sqlrep_raft_log::Options::default()
    };
    let whose = LogIdentity {
        node: identity.node,
        directory: identity.directory,
    };
    let log = RaftLog::open(disk.clone(), env, options, whose);
    let log = log.map_err(|source| NodeError::Log {
        source: Box::new(source),
    })?;
    let (sender, failed) = watch::channel(None);
    log.on_failure(Box::new(move |error| {
        sender.send_replace(Some(Failure::of_log(error)));
    }));
    Ok((log, failed))
}

/// A database with entries was written by a member, and a member has voted: without that vote it could vote again.
fn remembers(log: &dyn LogStore, machine: &impl StateMachine) -> Result<(), NodeError> {
    match machine.durable().id {
        Some(held) if log.state().vote.is_none() => Err(NodeError::Log {
            source: format!(
                "log/ is empty, and db/ holds the entries up to {}: the log and this node's vote are lost; empty the \
                 directory and join under a new node id",
                held.index
            )
            .into(),
        }),
        _ => Ok(()),
    }
}

/// Statement mode executes `localtime` on every node: they agree only if all show UTC (safety rule 35).
fn check_local_time() -> Result<(), NodeError> {
    let ask = || -> rusqlite::Result<bool> {
        let sqlite = rusqlite::Connection::open_in_memory()?;
        let sql = "SELECT datetime(?1, 'unixepoch') = datetime(?1, 'unixepoch', 'localtime')";
        for probe in PROBES {
            if !sqlite.query_row(sql, [probe], |row| row.get(0))? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    match ask() {
        Ok(true) => Ok(()),
        Ok(false) => Err(NodeError::refused(
            "the local time of this process isn't UTC, so that 'localtime' in SQL would differ between nodes; \
             start it with the environment variable TZ=UTC",
        )),
        Err(error) => Err(NodeError::database(error)),
    }
}
