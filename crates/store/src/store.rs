//! The store: the live generation, and the way to another one.

use crate::checkpoint::{SLICE_BYTES_MAX, base_pages};
use crate::current::Current;
use crate::distrust;
use crate::generation::{Generation, size_at};
use crate::open::{generations, open, open_generation};
use crate::pins::{PinKind, Ticket};
use crate::{
    Checkpoint, Checksum, EntryEnd, Image, InstallEnd, Installer, PageCount, PageNumber, PageSize,
    Position, ScratchFile, Side, StoreError, Version,
};
use sqlrep_disk::Disk;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// While a transaction is published, room is made each time this part of the memory for versions came in; not for
/// every page, since it looks at all of them.
const RELIEF_STEPS: u64 = 16;

/// A transaction that changes more pages than this is a version of its own, whatever is open.
const JOINING_PAGES_MAX: usize = 256;

/// What a store is opened on.
#[derive(Clone)]
pub struct Options {
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// Page size of a new database, [`PageSize::DEFAULT`] if none; an existing one must have it.
    pub page_size: Option<PageSize>,
    /// Bytes of page images in memory. Default 128 MiB; less means more checkpoints and more spilling.
    pub version_bytes_max: u64,
    /// Bytes of page images in the spill file. Default 4 GiB; less ends long reads earlier.
    pub spill_bytes_max: u64,
    /// Bytes that a connection which writes holds in memory of a transaction: changed pages, the rollback journal, and
    /// temporary files of its statements, together. Default 32 MiB; what is more goes to scratch files.
    pub transaction_bytes_max: u64,
    /// Bytes that a step of a checkpoint writes before it syncs, at least a page. Default 1 MiB, which is also the
    /// most; less disturbs the log less and takes longer.
    pub checkpoint_slice_bytes: usize,
}

impl Options {
    /// Defaults on a data directory.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            page_size: None,
            version_bytes_max: 128 << 20,
            spill_bytes_max: 4 << 30,
            transaction_bytes_max: 32 << 20,
            checkpoint_slice_bytes: SLICE_BYTES_MAX,
        }
    }
}

/// A finished transaction.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Changed pages; never the lock page.
    pub pages: BTreeMap<PageNumber, Image>,
    /// The database's size after it.
    pub count: PageCount,
}

/// What the newest version changes of an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Checksum of the earlier one.
    pub base: Checksum,
    /// Size of the earlier one.
    pub base_count: PageCount,
    /// The newest version.
    pub version: Version,
    /// Its checksum.
    pub post: Checksum,
    /// Its size.
    pub count: PageCount,
    /// Pages within it that were written since, or grown by; ascending, never the lock page.
    pub pages: Vec<PageNumber>,
}

/// The end of an entry.
#[derive(Clone, Debug)]
pub struct Finish {
    /// Where the entry stands; above the last one finished.
    pub position: Position,
    /// The last version that the entry made; the committed one if it made none.
    pub version: Version,
    /// Replicated state beside the pages.
    pub side: Side,
    /// Whether this end may be checkpointed and sent.
    pub anchor: bool,
}

/// What has gathered since the durable position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Bytes of images published.
    pub image_bytes: u64,
    /// Entry ends.
    pub entries: u64,
}

/// Figures for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of images in memory.
    pub version_bytes: u64,
    /// Bytes of images in the spill file.
    pub spill_bytes: u64,
    /// Pins held.
    pub pins: usize,
    /// Pages of the newest entry end.
    pub pages: u32,
    /// The live generation.
    pub generation: u64,
    /// Memory is used up and nothing more can be moved out of it: no proposals until a checkpoint is done.
    pub hold: bool,
}

/// A versioned page store; see the crate's front page.
pub struct Store {
    options: Options,
    live: RwLock<Arc<Generation>>,
    current: Mutex<Current>,
    hold: AtomicBool,
    /// Numbers the scratch files.
    scratch_files: AtomicU64,
}

impl Store {
    /// Opens the store of a data directory, makes it if there is none, and recovers whatever a crash left.
    ///
    /// # Errors
    ///
    /// The disk's, or damage by file and offset, or another page size.
    pub fn open(options: Options) -> Result<Arc<Self>, StoreError> {
        let (current, generation) = open(&options)?;
        let (live, current) = (RwLock::new(generation), Mutex::new(current));
        Ok(Arc::new(Self {
            options,
            live,
            current,
            hold: AtomicBool::new(false),
            scratch_files: AtomicU64::new(0),
        }))
    }

    fn live(&self) -> Arc<Generation> {
        self.live
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.live().page_size
    }

    /// The live generation. A connection that reads newest ends and was opened on another one holds pages in its cache that
    /// this one may not have: it is opened again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.live().number
    }

    /// The newest version and its size: what the writer sees.
    #[must_use]
    pub fn newest(&self) -> (Version, PageCount) {
        let live = self.live();
        let state = live.state();
        (state.newest, size_at(&state.sizes, state.newest))
    }

    /// Makes a finished transaction the newest version; nobody but the writer sees it yet. Pages by which the
    /// database grew without writing them become zeros, pages beyond its size are left out.
    ///
    /// # Errors
    ///
    /// The spill file's, if memory is full. Nothing of the transaction stays then.
    pub fn publish(&self, change: Change) -> Result<Version, StoreError> {
        self.publish_pages(change.count, change.pages.into_iter().map(Ok))
    }

    /// The same for a transaction that is larger than memory: its pages are taken one by one, in ascending order, and what
    /// memory has no room for is spilled meanwhile.
    ///
    /// # Errors
    ///
    /// The spill file's, or the first error of `pages`. Nothing of the transaction stays then.
    pub fn publish_pages(
        &self,
        count: PageCount,
        pages: impl Iterator<Item = Result<(PageNumber, Image), StoreError>>,
    ) -> Result<Version, StoreError> {
        let live = self.live();
        if let Some(before) = live.open_count() {
            return self.join(&live, (before, count), pages);
        }
        self.publish_apart(&live, count, pages)
    }

    /// From here on, until [`Store::close_version`] or an abort, what is published goes into one version above the newest: a page that
    /// several transactions change has one image, the last. Large transactions are versions of their own all the same.
    ///
    /// For the writer whose transactions become visible together. An open version can't be finished, and what it was computed on
    /// can't be told apart in it: only a whole version is aborted.
    pub fn open_version(&self) {
        self.live().open_version();
    }

    /// The newest version is as it stays.
    pub fn close_version(&self) {
        self.live().close_version();
    }

    /// Puts a transaction into the open version, in which nothing can be taken back: so all that can fail is done before.
    fn join(
        &self,
        live: &Generation,
        (before, count): (PageCount, PageCount),
        mut pages: impl Iterator<Item = Result<(PageNumber, Image), StoreError>>,
    ) -> Result<Version, StoreError> {
        let few = pages.by_ref().take(JOINING_PAGES_MAX + 1);
        let few: Vec<_> = few.collect::<Result<_, _>>()?;
        let grown = count.0.saturating_sub(before.0) as usize;
        let many = few.len().max(grown) > JOINING_PAGES_MAX;
        let few = few.into_iter();
        if many {
            return self.publish_apart(live, count, few.map(Ok).chain(pages));
        }
        self.relieve(live)?;
        let mut publication = live.begin_publication(count, true);
        let few = few.map(Ok::<_, Infallible>);
        let Ok(()) = live.put_all(&mut publication, few, || Ok(()));
        Ok(live.end_publication(publication))
    }

    fn publish_apart(
        &self,
        live: &Generation,
        count: PageCount,
        pages: impl Iterator<Item = Result<(PageNumber, Image), StoreError>>,
    ) -> Result<Version, StoreError> {
        let page_bytes = u64::from(live.page_size.bytes());
        let step_bytes = self.options.version_bytes_max / RELIEF_STEPS;
        let mut put_bytes = 0;
        let relieve = || {
            put_bytes += page_bytes;
            if put_bytes < step_bytes {
                return Ok(());
            }
            put_bytes = 0;
            self.relieve(live)
        };
        let mut publication = live.begin_publication(count, false);
        let put = live.put_all(&mut publication, pages, relieve);
        match put.and_then(|()| self.relieve(live)) {
            Ok(()) => Ok(live.end_publication(publication)),
            Err(error) => {
                live.take_back(&publication);
                Err(error)
            }
        }
    }

    /// Makes room in memory (safety rule 11): spill; end readers of SQL; hold proposals.
    fn relieve(&self, live: &Generation) -> Result<(), StoreError> {
        let limit = self.options.version_bytes_max;
        if live.memory_bytes.load(Ordering::Relaxed) <= limit {
            self.hold.store(false, Ordering::Relaxed);
            return Ok(());
        }
        let target = limit / 4 * 3;
        while !live.spill_down_to(target)? {
            if !live.pins.end_one(PinKind::Sql) {
                self.hold.store(true, Ordering::Relaxed);
                return Ok(());
            }
            live.prune_all();
        }
        self.hold.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Commits up to a version as the end of an entry: from here on readers see it.
    ///
    /// # Errors
    ///
    /// [`StoreError::SideTooLarge`]; nothing has changed then.
    ///
    /// # Panics
    ///
    /// If the entry isn't behind the last one, or the version was never published: the caller's mistake.
    pub fn finish(&self, finish: Finish) -> Result<Arc<EntryEnd>, StoreError> {
        self.live().finish(finish)
    }

    /// Drops every version above the committed one. The writer's connection is closed before.
    pub fn abort(&self) {
        self.abort_above(Version(0));
    }

    /// Drops every version above `keep`, or above the committed one if that is newer. The writer's connection is closed
    /// before.
    pub fn abort_above(&self, keep: Version) {
        self.live().abort_above(keep);
    }

    /// What the newest version changes of `from`, which is the committed version or one above it.
    #[must_use]
    pub fn delta(&self, from: Version) -> Delta {
        self.live().delta(from)
    }

    /// The whole of a page as `at` sees it: the committed version or one above it. The page lies within its size and isn't the
    /// lock page.
    ///
    /// # Errors
    ///
    /// The page reads back wrong, or the disk's.
    pub fn image_at(&self, page: PageNumber, at: Version) -> Result<Image, StoreError> {
        self.live().image(page, at)
    }

    /// The hash that such a page adds to the version's checksum; no look at the image.
    #[must_use]
    pub fn hash_at(&self, page: PageNumber, at: Version) -> u64 {
        self.live().hash(page, at)
    }

    /// The newest entry end.
    #[must_use]
    pub fn committed(&self) -> Arc<EntryEnd> {
        self.live().state().committed.clone()
    }

    /// The newest entry end that may be checkpointed or sent.
    #[must_use]
    pub fn anchor(&self) -> Arc<EntryEnd> {
        self.live().state().anchor.clone()
    }

    /// The entry end that a restart begins from.
    #[must_use]
    pub fn durable(&self) -> Arc<EntryEnd> {
        self.live().state().durable.clone()
    }

    /// Checksum of the entry end at a log index, of the last 4,096 (safety rule 31).
    #[must_use]
    pub fn checksum_at(&self, index: u64) -> Option<Checksum> {
        self.live().checksum_at(index)
    }

    /// Copies a part of a page as the writer sees it: the newest version.
    ///
    /// # Errors
    ///
    /// The page reads back wrong, or the disk's.
    pub fn read_newest(
        &self,
        page: PageNumber,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), StoreError> {
        self.live().read(page, Version(u64::MAX), offset, into)
    }

    /// Pins the newest entry end.
    #[must_use]
    pub fn pin(&self, kind: PinKind) -> Pin {
        Pin::new(self.live(), kind, |state| state.committed.clone())
    }

    /// Pins the newest entry end that may be sent.
    #[must_use]
    pub fn pin_anchor(&self, kind: PinKind) -> Pin {
        Pin::new(self.live(), kind, |state| state.anchor.clone())
    }

    /// What has gathered since the durable position.
    #[must_use]
    pub fn checkpoint_due(&self) -> Due {
        let live = self.live();
        let entries = live.state().entries;
        Due {
            image_bytes: live.dirty_bytes.load(Ordering::Relaxed),
            entries,
        }
    }

    /// Begins to make the newest anchor at or below `log_durable` the durable position; all of it if none. Answers none if
    /// there is nothing newer, or a checkpoint is under way.
    #[must_use]
    pub fn begin_checkpoint(&self, log_durable: Option<Position>) -> Option<Checkpoint> {
        let live = self.live();
        let end = {
            let state = live.state();
            let newer = state.anchor.position > state.durable.position;
            let logged = log_durable.is_none_or(|limit| state.anchor.position <= Some(limit));
            (newer && logged).then(|| state.anchor.clone())
        };
        let slice_bytes = self.options.checkpoint_slice_bytes;
        Checkpoint::begin(live, self.options.disk.clone(), end, slice_bytes)
    }

    /// Begins to receive a whole database.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn begin_install(&self, end: InstallEnd) -> Result<Installer, StoreError> {
        let newest = generations(&*self.options.disk)?
            .last()
            .copied()
            .unwrap_or(0);
        let number = newest.max(self.live().number) + 1;
        Installer::begin(self.options.disk.clone(), number, self.page_size(), end)
    }

    /// Makes a complete database the live one, in one atomic, durable step. Pins of the old one go on reading
    /// it. No checkpoint may be under way, and no writer open.
    ///
    /// # Errors
    ///
    /// [`StoreError::Received`] if it isn't complete; the disk's. The old database is live then, unless the
    /// process has to stop.
    pub fn install(&self, installer: Installer) -> Result<(), StoreError> {
        let number = installer
            .complete_generation()
            .ok_or_else(|| StoreError::Received {
                what: "it isn't complete".to_owned(),
            })?;
        let generation = open_generation(&self.options, number)?;
        // From here on `db/current` may name it, even if the switch reports an error: the folder stays, and
        // the next open removes whichever of the two isn't live.
        installer.settle();
        self.current().switch(number)?;
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = generation;
        self.hold.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Reads every page of the base file and answers those whose hash differs: what a judge and an offline
    /// check ask for (safety rules 7 and 31).
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn verify_pages(&self) -> Result<Vec<PageNumber>, StoreError> {
        let pin = self.pin_anchor(PinKind::Backup);
        let mut damaged = Vec::new();
        for page in base_pages(&pin.generation, pin.end.pages.0) {
            match pin.generation.image(page, pin.end.version) {
                Ok(_) => {}
                Err(StoreError::DamagedPage { page, .. }) => damaged.push(page),
                Err(error) => return Err(error),
            }
        }
        Ok(damaged)
    }

    /// Marks this database as one that mustn't be used, durably, until another one is installed (safety rule 31).
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn distrust(&self, why: &str) -> Result<(), StoreError> {
        distrust::mark(&*self.options.disk, &self.live().folder, why)
    }

    /// Why this database mustn't be used; none if it may.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn distrusted(&self) -> Result<Option<String>, StoreError> {
        distrust::marked(&*self.options.disk, &self.live().folder)
    }

    /// Whether memory is used up and nothing more could be moved out of it: a checkpoint is due, and a leader proposes nothing
    /// until then (safety rule 11).
    #[must_use]
    pub fn hold(&self) -> bool {
        let bytes = self.live().memory_bytes.load(Ordering::Relaxed);
        // What made it full may have been written since.
        self.hold.load(Ordering::Relaxed) && bytes > self.options.version_bytes_max
    }

    /// Bytes of images in memory.
    #[must_use]
    pub fn version_bytes(&self) -> u64 {
        self.live().memory_bytes.load(Ordering::Relaxed)
    }

    /// Beyond so many of them images are spilled and reads ended (safety rule 11).
    #[must_use]
    pub fn version_bytes_max(&self) -> u64 {
        self.options.version_bytes_max
    }

    /// An empty file in `tmp/`, the caller's alone.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn scratch_file(&self) -> Result<ScratchFile, StoreError> {
        let number = self.scratch_files.fetch_add(1, Ordering::Relaxed);
        ScratchFile::create(self.options.disk.clone(), format!("tmp/scratch-{number}"))
    }

    /// Bytes that a connection which writes holds in memory of a transaction.
    #[must_use]
    pub fn transaction_bytes_max(&self) -> u64 {
        self.options.transaction_bytes_max
    }

    /// Figures for operators.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let live = self.live();
        Stats {
            version_bytes: live.memory_bytes.load(Ordering::Relaxed),
            spill_bytes: live.spill.bytes(),
            pins: live.pins.count(),
            pages: live.state().committed.pages.0,
            generation: live.number,
            hold: self.hold(),
        }
    }
}

/// A reader's hold on an entry end; dropping it lets go.
pub struct Pin {
    generation: Arc<Generation>,
    end: Arc<EntryEnd>,
    ticket: Ticket,
}

impl Pin {
    fn new(
        generation: Arc<Generation>,
        kind: PinKind,
        which: impl FnOnce(&crate::generation::State) -> Arc<EntryEnd>,
    ) -> Self {
        let (end, ticket) = {
            // Under the lock under which `keep` looks for pins, so that no image goes in between.
            let state = generation.state();
            let end = which(&state);
            let ticket = generation.pins.add(end.version, kind);
            (end, ticket)
        };
        Self {
            generation,
            end,
            ticket,
        }
    }

    /// What it holds.
    #[must_use]
    pub fn end(&self) -> &Arc<EntryEnd> {
        &self.end
    }

    /// Whether it was ended to make room; every read fails then.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ticket.ended.load(Ordering::Acquire)
    }

    /// Copies a part of a page within the pinned size.
    ///
    /// # Errors
    ///
    /// [`StoreError::PinEnded`]; the page reads back wrong, or the disk's.
    pub fn read(&self, page: PageNumber, offset: usize, into: &mut [u8]) -> Result<(), StoreError> {
        assert!(
            self.end.pages.contains(page),
            "page {page} lies beyond the pinned size"
        );
        let read = self.generation.read(page, self.end.version, offset, into);
        // Checked behind the read: images may have gone while it was under way, whatever it found.
        if self.ended() {
            Err(StoreError::PinEnded)
        } else {
            read
        }
    }

    /// The hash that a page within the pinned size adds to its checksum; no look at the image. Not of the lock page.
    ///
    /// # Errors
    ///
    /// [`StoreError::PinEnded`].
    pub fn hash(&self, page: PageNumber) -> Result<u64, StoreError> {
        let hash = self.generation.known_hash(page, self.end.version);
        // Checked behind it, as in `read`.
        if self.ended() {
            return Err(StoreError::PinEnded);
        }
        Ok(hash.expect("a page within a pinned size has an image"))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.generation.pins.remove(self.ticket.number);
    }
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pin({:?})", self.end.position)
    }
}
