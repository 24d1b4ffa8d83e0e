//! One node: a disk, a replica on it, and the writer connection. Each `entry` is one of the log.

use bytes::Bytes;
use sqlrep_core::{
    CheckpointStep, EncodeTable, EntryEnd, EntryId, KeyTable, LogIndex, SnapshotSink,
    SnapshotSource, TableChunks, Term,
};
use sqlrep_disk::{Disk, Loss, SimulatedDisk};
use sqlrep_env::Env;
use sqlrep_replica::{CheckpointPolicy, Finished, Replica, ReplicaError, Sink, Source};
use sqlrep_store::{Options, PageNumber, PageSize, PinKind, Store, StoreError};
use sqlrep_vfs::{Connection, Kind};
use std::sync::Arc;
use std::time::Duration;

/// Small pages make many of them.
pub(crate) const PAGE_BYTES: u32 = 512;
/// A few pages, so that checkpoints take several steps of each kind.
const SLICE_BYTES: usize = 8 * PAGE_BYTES as usize;

pub(crate) struct Node {
    pub(crate) disk: SimulatedDisk,
    pub(crate) env: Env,
    pub(crate) replica: Arc<Replica>,
    writer: Option<Connection>,
}

pub(crate) fn id(index: u64) -> EntryId {
    EntryId {
        term: Term(1),
        index: LogIndex(index),
    }
}

/// Keys of an entry: more than one chunk of a snapshot holds; none at first.
pub(crate) fn keys(index: u64) -> KeyTable {
    let pieces = move || {
        let piece = Bytes::from(format!("keys {index} ").repeat(60_000));
        Box::new(std::iter::repeat_n(piece, 2)) as TableChunks
    };
    KeyTable::new((index > 2).then(|| Arc::new(pieces) as EncodeTable))
}

pub(crate) fn open_store(disk: &SimulatedDisk, page_bytes: u32) -> Result<Arc<Store>, StoreError> {
    Store::open(options(disk, page_bytes))
}

fn options(disk: &SimulatedDisk, page_bytes: u32) -> Options {
    Options {
        page_size: PageSize::new(page_bytes),
        checkpoint_slice_bytes: SLICE_BYTES,
        ..Options::new(Arc::new(disk.clone()) as Arc<dyn Disk>)
    }
}

impl Node {
    pub(crate) fn new(seed: u64) -> Self {
        Self::on(SimulatedDisk::new(seed), CheckpointPolicy::default())
    }

    /// On threads and clocks of this machine, if `env` says so.
    pub(crate) fn on_env(seed: u64, env: Env) -> Self {
        Self::with(SimulatedDisk::new(seed), env, CheckpointPolicy::default())
    }

    pub(crate) fn on(disk: SimulatedDisk, policy: CheckpointPolicy) -> Self {
        Self::with(disk, Env::inline(7), policy)
    }

    fn with(disk: SimulatedDisk, env: Env, policy: CheckpointPolicy) -> Self {
        let store = open_store(&disk, PAGE_BYTES).unwrap();
        Self::of(disk, store, env, policy)
    }

    fn of(disk: SimulatedDisk, store: Arc<Store>, env: Env, policy: CheckpointPolicy) -> Self {
        let replica = Arc::new(Replica::new(store, env.clone(), policy));
        Self {
            disk,
            env,
            replica,
            writer: None,
        }
    }

    /// The node after a loss of power.
    pub(crate) fn crashed(&self, loss: Loss) -> Self {
        Self::on(self.disk.crash(loss), CheckpointPolicy::default())
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        self.replica.store()
    }

    /// Runs SQL on the writer; what it commits is private until [`finish`](Self::finish).
    pub(crate) fn run(&mut self, sql: &str) {
        let (store, env) = (self.replica.store(), &self.env);
        let kind = Kind::Writer {
            normalize_version: true,
        };
        let writer = self
            .writer
            .get_or_insert_with(|| Connection::open(store, env, kind).unwrap());
        writer
            .sqlite()
            .execute_batch(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) fn close_writer(&mut self) {
        self.writer = None;
    }

    /// Ends the entry at `index` behind what ran.
    pub(crate) fn finish(&self, index: u64, anchor: bool) {
        self.replica
            .finish(Finished {
                version: self.writer.as_ref().and_then(Connection::take_published),
                end: EntryEnd {
                    id: Some(id(index)),
                    side: format!("core {index}").into(),
                    keys: keys(index),
                },
                mode: format!("mode {index}").into(),
                anchor,
                took: Duration::from_millis(1),
            })
            .unwrap();
    }

    /// One entry.
    pub(crate) fn entry(&mut self, index: u64, sql: &str, anchor: bool) {
        self.run(sql);
        self.finish(index, anchor);
    }

    /// A table with rows enough for a few dozen pages, as entry 1, an anchor.
    pub(crate) fn filled(seed: u64) -> Self {
        Self::new(seed).fill()
    }

    /// The same with so much memory for versions.
    pub(crate) fn filled_with(seed: u64, version_bytes_max: u64) -> Self {
        let disk = SimulatedDisk::new(seed);
        let store = Store::open(Options {
            version_bytes_max,
            ..options(&disk, PAGE_BYTES)
        });
        let policy = CheckpointPolicy::default();
        Self::of(disk, store.unwrap(), Env::inline(7), policy).fill()
    }

    fn fill(self) -> Self {
        let mut node = self;
        let rows = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
                    INSERT INTO t SELECT i, hex(zeroblob(100)) || i FROM n";
        node.entry(
            1,
            &format!("CREATE TABLE t(a INTEGER PRIMARY KEY, b); {rows}"),
            true,
        );
        node
    }

    /// What a reader sees now.
    pub(crate) fn one(&self, sql: &str) -> String {
        let reader = Connection::open(self.store(), &self.env, Kind::Reader).unwrap();
        let answer = reader
            .sqlite()
            .query_row(sql, [], |row| row.get::<_, String>(0));
        answer.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) fn rows(&self) -> String {
        self.one("SELECT count(*) || '/' || ifnull(max(a), 0) FROM t")
    }

    pub(crate) fn checkpoint(&self) -> EntryEnd {
        self.made_durable(id(u64::MAX), true).unwrap()
    }

    pub(crate) fn made_durable(
        &self,
        log_durable: EntryId,
        now: bool,
    ) -> Result<EntryEnd, ReplicaError> {
        made_durable(&self.replica, log_durable, now)
    }

    /// The pages that the newest anchor shows, in order.
    pub(crate) fn anchor_pages(&self) -> Vec<Vec<u8>> {
        let pin = self.store().pin_anchor(PinKind::Backup);
        let page = |number| {
            let mut image = vec![0; PAGE_BYTES as usize];
            let page = PageNumber::new(number).unwrap();
            pin.read(page, 0, &mut image).unwrap();
            image
        };
        (1..=pin.end().pages.0).map(page).collect()
    }

    /// The base file of the live generation.
    pub(crate) fn base_file(&self) -> Vec<u8> {
        let generation = self.store().stats().generation;
        let files = self.disk.list_all();
        let is_base = |path: &&String| {
            let mut parts = path.split('/');
            let number = parts.nth(1).and_then(|folder| folder.parse().ok());
            number == Some(generation) && path.ends_with("/main.db")
        };
        let path = files
            .iter()
            .find(is_base)
            .unwrap_or_else(|| panic!("{files:?}"));
        self.disk.read_file(path).unwrap()
    }
}

/// All steps of a checkpoint in a row.
pub(crate) fn made_durable(
    replica: &Replica,
    log_durable: EntryId,
    now: bool,
) -> Result<EntryEnd, ReplicaError> {
    loop {
        if let CheckpointStep::Done(end) = replica.checkpoint_step(log_durable, now)? {
            return Ok(end);
        }
    }
}

/// All chunks of a snapshot.
pub(crate) fn chunks(source: &mut Source) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    while let Some(chunk) = source.next().unwrap() {
        chunks.push(chunk.to_vec());
    }
    chunks
}

/// Gives a sink every chunk and completes it.
pub(crate) fn fill(sink: &mut Sink, chunks: &[Vec<u8>]) -> Result<(), String> {
    for chunk in chunks {
        sink.write(chunk).map_err(|error| error.to_string())?;
    }
    sink.complete().map_err(|error| error.to_string())
}

/// What went over of a snapshot whose receiver told what it has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) bytes: usize,
    /// Pages left out.
    pub(crate) spared: u64,
}

/// Gives `sink` the chunks of `source` while `wanted`, which is told of their places, and tells `source` what `sink` has at
/// hand, each as soon as it can be.
pub(crate) fn exchange(
    source: &mut Source,
    sink: &mut Sink,
    mut wanted: impl FnMut(usize) -> bool,
) -> Result<Sent, String> {
    let spared = source.spared_pages();
    let mut sent = Sent::default();
    for place in 0.. {
        while let Some(offer) = sink.offer() {
            source.offered(&offer).unwrap();
        }
        assert!(!source.awaits_offer(), "the offer it awaits has come");
        let next = if wanted(place) {
            source.next()
        } else {
            Ok(None)
        };
        let Some(chunk) = next.map_err(|error| error.to_string())? else {
            break;
        };
        sent.bytes += chunk.len();
        sink.write(&chunk).map_err(|error| error.to_string())?;
    }
    sent.spared = source.spared_pages() - spared;
    Ok(sent)
}

/// Sends `from`'s newest snapshot to `to`, which tells what it has.
pub(crate) fn exchanged(from: &Node, to: &Node) -> Result<Sent, String> {
    let mut source = from.replica.snapshot(sqlrep_core::Which::Newest).unwrap();
    let mut sink = to.replica.receive(source.end());
    let sent = exchange(&mut source, &mut sink, |_| true)?;
    sink.complete().map_err(|error| error.to_string())?;
    let installed = to.replica.install(sink);
    installed.map_err(|error| error.to_string())?;
    Ok(sent)
}

/// Sends `from`'s newest snapshot to `to`.
pub(crate) fn transfer(from: &Node, to: &Node) -> Result<(), ReplicaError> {
    let mut source = from.replica.snapshot(sqlrep_core::Which::Newest).unwrap();
    let mut sink = to.replica.receive(source.end());
    fill(&mut sink, &chunks(&mut source)).unwrap();
    to.replica.install(sink)
}
