//! One database: a folder with its base file, and the versions above it.
//!
//! ```text
//!   newest version      private to the writer
//!   …                   published, not committed
//!   committed           entry end: what a new reader pins
//!   anchor              newest entry end that may be checkpointed or sent
//!   base                what main.db holds, the durable position
//! ```
//!
//! **Invariants.** 1. base <= anchor <= committed <= newest. 2. A reader that finds no image of a page at or
//! below its version reads the base file under the lock of the page's shard, and whoever overwrites a base page has first put
//! the old image into the page's chain under that lock: so nobody reads a page that is being written. 3. A page
//! of the base file is used only after its hash was compared with `sums` (safety rule 7).

use crate::chain::{Chain, Keep, Link, Place};
use crate::checkpoint::CheckpointSeat;
use crate::pins::Pins;
use crate::position::Record;
use crate::slots::Slots;
use crate::spill::Spill;
use crate::table::TableFile;
use crate::{
    Checksum, Delta, EntryEnd, Finish, Image, PageCount, PageNumber, PageSize, Side, StoreError,
    Table, Version, page_hash,
};
use sqlrep_disk::File;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locks over the page map; readers of different pages rarely meet.
const SHARDS: u32 = 64;
/// Checksums kept for comparison at equal indexes (safety rule 31).
const CHECKSUMS_MAX: usize = 4096;

/// Everything about one database; pins hold it alive beyond its replacement.
pub(crate) struct Generation {
    pub(crate) number: u64,
    /// Its folder, relative to the data directory.
    pub(crate) folder: String,
    pub(crate) page_size: PageSize,
    pub(crate) base: Arc<dyn File>,
    pub(crate) sums_file: Arc<dyn File>,
    pub(crate) slots: Mutex<Slots>,
    pub(crate) spill: Spill,
    /// Hash of each page of the base file, by index.
    pub(crate) sums: RwLock<Vec<u64>>,
    shards: Vec<RwLock<BTreeMap<PageNumber, Chain>>>,
    state: Mutex<State>,
    pub(crate) pins: Pins,
    /// Bytes of images in memory.
    pub(crate) memory_bytes: AtomicU64,
    /// Bytes of images published since the durable position: about what a checkpoint writes.
    pub(crate) dirty_bytes: AtomicU64,
    /// What a checkpoint that ended half way left to be finished by the next one; one works at a time.
    pub(crate) checkpoint: Mutex<CheckpointSeat>,
}

/// Invariant: the map of sizes has an entry at or below every version that someone looks at.
pub(crate) struct State {
    pub(crate) newest: Version,
    /// Size from that version on.
    pub(crate) sizes: BTreeMap<Version, PageCount>,
    /// Checksum of the newest version.
    pub(crate) checksum: Checksum,
    /// Versions that aren't committed yet.
    pending: VecDeque<Pending>,
    /// The version that transactions go into, made by the first of them: the newest or the next.
    open: Option<Version>,
    pub(crate) committed: Arc<EntryEnd>,
    pub(crate) anchor: Arc<EntryEnd>,
    pub(crate) durable: Arc<EntryEnd>,
    /// The file of its table.
    pub(crate) table: Option<TableFile>,
    /// By log index, oldest first.
    checksums: VecDeque<(u64, Checksum)>,
    /// Entry ends since the durable position.
    pub(crate) entries: u64,
    /// What a checkpoint under way writes; nothing of it is pruned.
    pub(crate) target: Option<Version>,
}

/// A version that isn't committed yet.
struct Pending {
    version: Version,
    checksum: Checksum,
    /// Those it has an image of, each once.
    pages: Vec<PageNumber>,
}

/// A version on its way in, or what is added to the open one.
pub(crate) struct Publication {
    version: Version,
    /// Size before it.
    old_count: PageCount,
    /// Size with it.
    count: PageCount,
    /// Of what was put.
    checksum: Checksum,
    keep: Keep,
    /// Those that got an image, but no second one.
    pages: Vec<PageNumber>,
}

/// The files of a generation, open.
pub(crate) struct Files {
    pub(crate) base: Arc<dyn File>,
    pub(crate) sums_file: Arc<dyn File>,
    pub(crate) slots: Slots,
    pub(crate) spill: Spill,
}

impl Generation {
    /// A generation whose base file is exact at `record`.
    pub(crate) fn new(folder: String, record: &Record, files: Files, sums: Vec<u64>) -> Arc<Self> {
        let end = Arc::new(EntryEnd {
            position: record.position,
            version: Version(0),
            pages: record.pages,
            checksum: record.checksum,
            side: record.side.clone(),
            anchor: true,
        });
        let state = State {
            newest: Version(0),
            sizes: BTreeMap::from([(Version(0), record.pages)]),
            checksum: record.checksum,
            pending: VecDeque::new(),
            open: None,
            committed: end.clone(),
            anchor: end.clone(),
            durable: end,
            table: record.table,
            checksums: record
                .position
                .map(|at| (at.index, record.checksum))
                .into_iter()
                .collect(),
            entries: 0,
            target: None,
        };
        Arc::new(Self {
            number: record.generation,
            folder,
            page_size: record.page_size,
            base: files.base,
            sums_file: files.sums_file,
            slots: Mutex::new(files.slots),
            spill: files.spill,
            sums: RwLock::new(sums),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            state: Mutex::new(state),
            pins: Pins::default(),
            memory_bytes: AtomicU64::new(0),
            dirty_bytes: AtomicU64::new(0),
            checkpoint: Mutex::new(CheckpointSeat::Free),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, page: PageNumber) -> &RwLock<BTreeMap<PageNumber, Chain>> {
        &self.shards[(page.get() % SHARDS) as usize]
    }

    fn read_shard(&self, page: PageNumber) -> RwLockReadGuard<'_, BTreeMap<PageNumber, Chain>> {
        self.shard(page)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write_shard(
        &self,
        page: PageNumber,
    ) -> RwLockWriteGuard<'_, BTreeMap<PageNumber, Chain>> {
        self.shard(page)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Hash of a page of the base file.
    pub(crate) fn base_hash(&self, page: PageNumber) -> Option<u64> {
        let sums = self.sums.read().unwrap_or_else(PoisonError::into_inner);
        sums.get(page.index()).copied()
    }

    /// Reads a page of the base file and checks it. The caller holds the page's shard (invariant 2).
    pub(crate) fn read_base(&self, page: PageNumber) -> Result<Image, StoreError> {
        let mut image = vec![0; self.page_size.bytes() as usize];
        self.base
            .read_exact_at(page.offset(self.page_size), &mut image)?;
        self.check_base(page, &image)?;
        Ok(image.into())
    }

    fn check_base(&self, page: PageNumber, image: &[u8]) -> Result<(), StoreError> {
        if self.base_hash(page) == Some(page_hash(page, image)) {
            return Ok(());
        }
        Err(StoreError::DamagedPage {
            file: format!("{}/main.db", self.folder),
            page,
        })
    }

    /// Copies a part of `page` as version `at` sees it.
    pub(crate) fn read(
        &self,
        page: PageNumber,
        at: Version,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), StoreError> {
        let part = offset..offset + into.len();
        assert!(
            part.end <= self.page_size.bytes() as usize,
            "a read beyond its page"
        );
        if page == self.page_size.lock_page() {
            into.fill(0);
            return Ok(());
        }
        let shard = self.read_shard(page);
        let image = match shard.get(&page).and_then(|chain| chain.at(at)) {
            Some(Link {
                place: Place::Memory(image),
                ..
            }) => {
                into.copy_from_slice(&image[part]);
                return Ok(());
            }
            Some(link) => link.image(page, &self.spill)?,
            None => self.read_base(page)?,
        };
        into.copy_from_slice(&image[part]);
        Ok(())
    }

    /// The whole of `page` as version `at` sees it.
    pub(crate) fn image(&self, page: PageNumber, at: Version) -> Result<Image, StoreError> {
        let shard = self.read_shard(page);
        match shard.get(&page).and_then(|chain| chain.at(at)) {
            Some(link) => link.image(page, &self.spill),
            None => self.read_base(page),
        }
    }

    /// Hash of the image of a page that `at` sees, within its size.
    pub(crate) fn hash(&self, page: PageNumber, at: Version) -> u64 {
        self.known_hash(page, at)
            .expect("a page within a version's size has an image")
    }

    /// The same; none if the version is gone, and the page with it.
    pub(crate) fn known_hash(&self, page: PageNumber, at: Version) -> Option<u64> {
        let shard = self.read_shard(page);
        let seen = shard.get(&page).and_then(|chain| chain.at(at));
        seen.map(|link| link.hash).or_else(|| self.base_hash(page))
    }

    fn newest_hash(&self, page: PageNumber) -> u64 {
        self.hash(page, Version(u64::MAX))
    }

    /// From here on small transactions go into one version above the newest.
    pub(crate) fn open_version(&self) {
        let mut state = self.state();
        state.open = Some(Version(state.newest.0 + 1));
    }

    /// The newest version is as it stays.
    pub(crate) fn close_version(&self) {
        self.state().open = None;
    }

    /// The newest version's size, if it is open.
    pub(crate) fn open_count(&self) -> Option<PageCount> {
        let state = self.state();
        let is_open = state.open == Some(state.newest);
        is_open.then(|| size_at(&state.sizes, state.newest))
    }

    /// Begins to make a finished transaction the newest version, or a part of it if `joins`. Until
    /// [`end_publication`](Self::end_publication) nobody looks at what is put.
    pub(crate) fn begin_publication(&self, count: PageCount, joins: bool) -> Publication {
        let state = self.state();
        Publication {
            version: Version(state.newest.0 + u64::from(!joins)),
            old_count: size_at(&state.sizes, state.newest),
            count,
            checksum: state.checksum,
            keep: self.keep(&state),
            pages: Vec::new(),
        }
    }

    /// From here on the writer sees it.
    pub(crate) fn end_publication(&self, publication: Publication) -> Version {
        let Publication {
            version,
            count,
            checksum,
            pages,
            ..
        } = publication;
        let mut state = self.state();
        let joins = state.newest == version;
        state.newest = version;
        state.sizes.insert(version, count);
        state.checksum = checksum;
        if joins {
            let open = state.pending.back_mut();
            let open = open.expect("an open version that is the newest isn't committed");
            open.checksum = checksum;
            open.pages.extend(pages);
        } else {
            state.open = state.open.map(|_| version);
            state.pending.push_back(Pending {
                version,
                checksum,
                pages,
            });
        }
        version
    }

    /// Puts those of `pages`, which ascend, that are within the size, and zeros for those that the database grew by without writing them, or
    /// replicas would differ in what they never wrote. `relieve` is called behind each.
    pub(crate) fn put_all<E>(
        &self,
        publication: &mut Publication,
        pages: impl Iterator<Item = Result<(PageNumber, Image), E>>,
        mut relieve: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let lock_page = self.page_size.lock_page();
        let stored = |from: u32, to: u32| numbers(from, to).filter(move |page| *page != lock_page);
        let (old_count, count) = (publication.old_count, publication.count);
        for dropped in stored(count.0 + 1, old_count.0) {
            publication.checksum.toggle(self.newest_hash(dropped));
        }
        let zeros = Image::from(vec![0; self.page_size.bytes() as usize]);
        let mut grown = stored(old_count.0 + 1, count.0).peekable();
        for page in pages {
            let (page, image) = page?;
            while let Some(unwritten) = grown.next_if(|grown| *grown < page) {
                self.put(publication, unwritten, zeros.clone());
                relieve()?;
            }
            grown.next_if_eq(&page);
            if count.contains(page) {
                self.put(publication, page, image);
                relieve()?;
            }
        }
        for unwritten in grown {
            self.put(publication, unwritten, zeros.clone());
            relieve()?;
        }
        Ok(())
    }

    fn put(&self, publication: &mut Publication, page: PageNumber, image: Image) {
        let lock_page = self.page_size.lock_page();
        assert!(page != lock_page, "the lock page is never written");
        let length = self.page_size.bytes() as usize;
        assert!(image.len() == length, "images are whole pages");
        if publication.old_count.contains(page) {
            publication.checksum.toggle(self.newest_hash(page));
        }
        let hash = page_hash(page, &image);
        publication.checksum.toggle(hash);
        let link = Link {
            version: publication.version,
            shield: false,
            hash,
            place: Place::Memory(image),
        };
        if self.insert(page, link, &publication.keep) {
            publication.pages.push(page);
        }
    }

    /// Takes away what was put of a publication that failed.
    pub(crate) fn take_back(&self, publication: &Publication) {
        self.drop_images_above(Version(publication.version.0 - 1));
    }

    fn drop_images_above(&self, keep: Version) {
        for shard in &self.shards {
            let mut gone = Vec::new();
            shard
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|_, chain| {
                    gone.extend(chain.abort(keep));
                    !chain.is_empty()
                });
            self.drop_links(gone);
        }
    }

    /// Puts a page's newest image. Answers whether its version had none of it.
    fn insert(&self, page: PageNumber, link: Link, keep: &Keep) -> bool {
        let added = link.memory_bytes();
        self.memory_bytes.fetch_add(added, Ordering::Relaxed);
        let mut shard = self.write_shard(page);
        let chain = shard.entry(page).or_default();
        if let Some(replaced) = chain.push(link) {
            drop(shard);
            self.drop_links([replaced]);
            return false;
        }
        let gone = chain.prune(page, keep);
        drop(shard);
        self.dirty_bytes.fetch_add(added, Ordering::Relaxed);
        self.drop_links(gone);
        true
    }

    /// Gives back what pruned images held.
    fn drop_links(&self, gone: impl IntoIterator<Item = Link>) {
        for link in gone {
            self.memory_bytes
                .fetch_sub(link.memory_bytes(), Ordering::Relaxed);
            if let Place::Spilled(at) = link.place {
                self.spill.release(at);
            }
        }
    }

    /// What has to be kept now.
    pub(crate) fn keep(&self, state: &State) -> Keep {
        let mut looked_at = self.pins.versions();
        looked_at.extend([state.anchor.version, state.committed.version]);
        looked_at.extend(state.target);
        looked_at.sort_unstable();
        looked_at.dedup();
        Keep {
            committed: state.committed.version,
            looked_at,
            base: state.durable.version,
            base_pages: state.durable.pages,
        }
    }

    /// Prunes every chain.
    pub(crate) fn prune_all(&self) {
        let keep = {
            let mut state = self.state();
            let keep = self.keep(&state);
            let oldest = keep
                .looked_at
                .first()
                .copied()
                .unwrap_or(keep.committed)
                .min(keep.base);
            let from = state
                .sizes
                .range(..=oldest)
                .next_back()
                .map(|(version, _)| *version);
            if let Some(from) = from {
                state.sizes = state.sizes.split_off(&from);
            }
            keep
        };
        for shard in &self.shards {
            let mut gone = Vec::new();
            shard
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|page, chain| {
                    gone.extend(chain.prune(*page, &keep));
                    !chain.is_empty()
                });
            self.drop_links(gone);
        }
    }

    /// Commits up to a version as the end of an entry (safety rule 4).
    pub(crate) fn finish(&self, finish: Finish) -> Result<Arc<EntryEnd>, StoreError> {
        let bytes = finish.side.bytes();
        let limit_bytes = crate::position::SIDE_BYTES_MAX;
        if bytes > limit_bytes {
            return Err(StoreError::SideTooLarge { bytes, limit_bytes });
        }
        let mut state = self.state();
        let last = state.committed.clone();
        assert!(
            Some(finish.position) > last.position,
            "entry {} is finished twice",
            finish.position
        );
        assert!(
            last.version <= finish.version && finish.version <= state.newest,
            "version {} isn't between {} and {}",
            finish.version.0,
            last.version.0,
            state.newest.0
        );
        assert!(
            state.open != Some(finish.version),
            "an open version isn't committed"
        );
        let mut checksum = last.checksum;
        while state
            .pending
            .front()
            .is_some_and(|pending| pending.version <= finish.version)
        {
            checksum = state.pending.pop_front().expect("just seen").checksum;
        }
        let end = Arc::new(EntryEnd {
            position: Some(finish.position),
            version: finish.version,
            pages: size_at(&state.sizes, finish.version),
            checksum,
            side: finish.side,
            anchor: finish.anchor,
        });
        state.committed = end.clone();
        if finish.anchor {
            state.anchor = end.clone();
        }
        state.entries += 1;
        state.checksums.push_back((finish.position.index, checksum));
        if state.checksums.len() > CHECKSUMS_MAX {
            state.checksums.pop_front();
        }
        Ok(end)
    }

    /// Drops every version above `keep`, or above the committed one if that is newer.
    pub(crate) fn abort_above(&self, keep: Version) {
        let mut state = self.state();
        let keep = keep.max(state.committed.version).min(state.newest);
        self.drop_images_above(keep);
        state.sizes.split_off(&Version(keep.0 + 1));
        state.pending.retain(|pending| pending.version <= keep);
        let kept = state.pending.back().map(|pending| pending.checksum);
        state.checksum = kept.unwrap_or(state.committed.checksum);
        state.newest = keep;
        state.open = None;
    }

    /// What versions above `from`, which is the committed one or a later one, have changed.
    pub(crate) fn delta(&self, from: Version) -> Delta {
        let state = self.state();
        let (mut base, mut pages) = (state.committed.checksum, BTreeSet::new());
        for pending in &state.pending {
            if pending.version <= from {
                base = pending.checksum;
            } else {
                pages.extend(&pending.pages);
            }
        }
        let count = size_at(&state.sizes, state.newest);
        Delta {
            base,
            base_count: size_at(&state.sizes, from),
            version: state.newest,
            post: state.checksum,
            count,
            pages: pages
                .into_iter()
                .filter(|page| count.contains(*page))
                .collect(),
        }
    }

    pub(crate) fn checksum_at(&self, index: u64) -> Option<Checksum> {
        let state = self.state();
        let at = state
            .checksums
            .binary_search_by_key(&index, |(index, _)| *index)
            .ok()?;
        Some(state.checksums[at].1)
    }

    /// Hash of the image of a page that `at` sees above the base.
    pub(crate) fn hash_above_base(&self, page: PageNumber, at: Version) -> u64 {
        let shard = self.read_shard(page);
        let link = shard.get(&page).and_then(|chain| chain.at(at));
        link.expect("a page that is checkpointed has an image").hash
    }

    /// A part of `main.sums` as it has to be.
    pub(crate) fn sums_bytes(&self, pages: Range<usize>) -> Vec<u8> {
        let sums = self.sums.read().unwrap_or_else(PoisonError::into_inner);
        let bytes = sums[pages].iter().flat_map(|hash| hash.to_le_bytes());
        bytes.collect()
    }

    /// Pages with an image that `at` sees and the base doesn't hold yet, ascending.
    pub(crate) fn above_base(&self, at: &EntryEnd, base: Version) -> Vec<PageNumber> {
        let mut pages = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            pages.extend(shard.iter().filter_map(|(page, chain)| {
                let link = chain.at(at.version)?;
                (link.version > base && at.pages.contains(*page)).then_some(*page)
            }));
        }
        pages.sort_unstable();
        pages
    }

    /// Moves images from memory to the spill file, oldest pages of the map first, until memory is down to
    /// `target_bytes`. Answers whether it is.
    pub(crate) fn spill_down_to(&self, target_bytes: u64) -> Result<bool, StoreError> {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            for (_, chain) in shard.iter_mut() {
                for link in chain.links_mut() {
                    if self.memory_bytes.load(Ordering::Relaxed) <= target_bytes {
                        return Ok(true);
                    }
                    let Place::Memory(image) = &link.place else {
                        continue;
                    };
                    let Some(at) = self.spill.keep(image)? else {
                        return Ok(false);
                    };
                    self.memory_bytes
                        .fetch_sub(image.len() as u64, Ordering::Relaxed);
                    link.place = Place::Spilled(at);
                }
            }
        }
        Ok(self.memory_bytes.load(Ordering::Relaxed) <= target_bytes)
    }

    /// What `main.position` will say of `end`.
    pub(crate) fn record(&self, end: &EntryEnd, table: Option<TableFile>) -> Record {
        Record {
            generation: self.number,
            position: end.position,
            page_size: self.page_size,
            pages: end.pages,
            checksum: end.checksum,
            side: Side {
                core: end.side.core.clone(),
                mode: end.side.mode.clone(),
                table: Table::default(),
            },
            table,
        }
    }
}

/// The size that `version` sees.
pub(crate) fn size_at(sizes: &BTreeMap<Version, PageCount>, version: Version) -> PageCount {
    let newest = sizes.range(..=version).next_back();
    *newest
        .expect("sizes reach down to the oldest version looked at")
        .1
}

/// Page numbers of a range; empty if it ends before it begins.
pub(crate) fn numbers(from: u32, to: u32) -> impl Iterator<Item = PageNumber> {
    (from..=to).map(|number| PageNumber::new(number).expect("page numbers count from 1"))
}
