//! Bringing an entry end into the base file.
//!
//! ```text
//!   room … ─► table … ─► journal … ─► synced: it is the checkpoint ─► base … ─► sums … ─► position ─► journal gone
//! ```
//!
//! The crash argument. Before the journal is complete and synced, nothing of the old base was touched: a
//! restart finds a torn journal, drops it and begins at the old position. From then on the journal holds every
//! page, hash and number of the new position, so a restart writes them again, however far this run came; each
//! step may be repeated. Once the position says the new one, the journal says nothing new and is dropped.
//!
//! It works in slices of at most [`SLICE_BYTES_MAX`], each synced before its step ends, so that a sync of the log
//! never finds more than a slice before it on the device, and a caller can let it go first (safety rule 12). No lock
//! is held between two steps: readers, pins and the writer go on, and an install drops what is under way. A
//! checkpoint may pass a pin: before it overwrites a page that a pin still reads from the base, the old image goes to
//! the spill file (safety rule 11), which is scratch and never synced.
//!
//! A checkpoint that is dropped behind its journal is finished by the next one, never begun anew: until then
//! the base is between two positions, and only this journal can explain it.

use crate::chain::{Link, Place};
use crate::generation::{Generation, numbers};
use crate::journal::{Head, JournalWriter, journal_page_bytes};
use crate::pins::PinKind;
use crate::table::{self, TableFile, TableWriter};
use crate::{EntryEnd, Image, PageNumber, StoreError, Version};
use sqlrep_disk::{Disk, File, OpenMode};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

/// Bytes written between two syncs at most.
pub(crate) const SLICE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a hash in `main.sums`.
const SUM_BYTES: usize = 8;

/// Where a generation's checkpoint stands.
pub(crate) enum CheckpointSeat {
    /// None is under way.
    Free,
    /// Someone works on one.
    Taken,
    /// One ended behind its journal and has to be finished first.
    Unfinished(Box<Work>),
}

/// Everything a checkpoint knows.
pub(crate) struct Work {
    end: Arc<EntryEnd>,
    pages: Vec<PageNumber>,
    /// The file of the new position's table, once it is written.
    table: Option<TableFile>,
    phase: Phase,
    /// Bytes that counted as dirty when it began.
    dirty_bytes: u64,
    /// Entry ends that stood behind the durable position when it began.
    entries: u64,
    slice_bytes: usize,
    written: Written,
}

enum Phase {
    Room,
    Table(Box<TableWriter>),
    Journal {
        writer: Box<JournalWriter>,
        next: usize,
    },
    Base {
        next: usize,
    },
    /// Of the pages, by place: whose hash comes next.
    Sums {
        next: usize,
    },
    Position,
    Drop,
}

/// What a step did.
#[derive(Clone, Debug)]
pub enum Progress {
    /// There is more to do.
    More,
    /// Done: the durable position is this one.
    Done(Arc<EntryEnd>),
}

/// What a checkpoint has written so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Pages of the base file.
    pub pages: u64,
    /// Bytes of all files: journal, base, sums, position.
    pub bytes: u64,
}

/// A checkpoint under way.
pub struct Checkpoint {
    generation: Arc<Generation>,
    disk: Arc<dyn Disk>,
    /// None once it is done.
    work: Option<Box<Work>>,
    written: Written,
}

pub(crate) fn journal_path(folder: &str) -> String {
    format!("{folder}/main.journal")
}

fn seat(generation: &Generation) -> MutexGuard<'_, CheckpointSeat> {
    generation
        .checkpoint
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

impl Checkpoint {
    /// Begins to write `end`, or goes on with what was left unfinished; none if another one is under way.
    pub(crate) fn begin(
        generation: Arc<Generation>,
        disk: Arc<dyn Disk>,
        end: Option<Arc<EntryEnd>>,
        slice_bytes: usize,
    ) -> Option<Self> {
        let mut seat = seat(&generation);
        let mut work = match std::mem::replace(&mut *seat, CheckpointSeat::Taken) {
            CheckpointSeat::Taken => return None,
            CheckpointSeat::Unfinished(work) => work,
            CheckpointSeat::Free => match end {
                Some(end) => Box::new(Work::new(&generation, end)),
                None => {
                    *seat = CheckpointSeat::Free;
                    return None;
                }
            },
        };
        drop(seat);
        work.slice_bytes = slice_bytes.min(SLICE_BYTES_MAX);
        work.written = Written::default();
        Some(Self {
            generation,
            disk,
            work: Some(work),
            written: Written::default(),
        })
    }

    /// What this value has written so far.
    #[must_use]
    pub fn written(&self) -> Written {
        self.written
    }

    /// Works for a slice: what it wrote is synced when it returns.
    ///
    /// # Errors
    ///
    /// The disk's. The checkpoint can be dropped then; if the disk was full, a later one tries again.
    pub fn step(&mut self) -> Result<Progress, StoreError> {
        let work = self
            .work
            .as_mut()
            .expect("a finished checkpoint isn't stepped");
        let done = work.step(&self.generation, &*self.disk);
        self.written = work.written;
        if done? {
            let work = self.work.take().expect("just used");
            *seat(&self.generation) = CheckpointSeat::Free;
            return Ok(Progress::Done(work.end));
        }
        Ok(Progress::More)
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        let begun = matches!(
            work.phase,
            Phase::Base { .. } | Phase::Sums { .. } | Phase::Position | Phase::Drop
        );
        if !begun {
            self.generation.state().target = None;
        }
        *seat(&self.generation) = if begun {
            CheckpointSeat::Unfinished(work)
        } else {
            CheckpointSeat::Free
        };
    }
}

impl Work {
    fn new(generation: &Generation, end: Arc<EntryEnd>) -> Self {
        let (base, entries) = {
            let mut state = generation.state();
            state.target = Some(end.version);
            (state.durable.version, state.entries)
        };
        let pages = generation.above_base(&end, base);
        let dirty_bytes = generation.dirty_bytes.load(Ordering::Relaxed);
        Self {
            end,
            pages,
            table: None,
            phase: Phase::Room,
            dirty_bytes,
            entries,
            slice_bytes: SLICE_BYTES_MAX,
            written: Written::default(),
        }
    }

    /// Does one slice; answers whether that was the last.
    fn step(&mut self, generation: &Generation, disk: &dyn Disk) -> Result<bool, StoreError> {
        match &mut self.phase {
            Phase::Room => self.room(generation, disk)?,
            Phase::Table(_) => self.table(generation, disk)?,
            Phase::Journal { .. } => self.journal(generation, disk)?,
            Phase::Base { next } => {
                let next = *next;
                self.base(generation, next)?;
            }
            Phase::Sums { next } => {
                let next = *next;
                self.sums(generation, next)?;
            }
            Phase::Position => self.position(generation)?,
            Phase::Drop => {
                disk.remove(&journal_path(&generation.folder))?;
                table::remove_others(disk, &generation.folder, self.table)?;
                disk.sync_dir(&generation.folder)?;
                self.done(generation);
                generation.spill.give_back()?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds out whether there is room before anything depends on it, and begins the table, if it isn't the one that is on
    /// disk, or the journal.
    fn room(&mut self, generation: &Generation, disk: &dyn Disk) -> Result<(), StoreError> {
        let base_bytes = self.end.pages.file_bytes(generation.page_size);
        let sums_bytes = u64::from(self.end.pages.0) * SUM_BYTES as u64;
        for (file, bytes) in [
            (&generation.base, base_bytes),
            (&generation.sums_file, sums_bytes),
        ] {
            let grown = grow(&**file, bytes, self.slice_bytes as u64)?;
            self.written.bytes += grown;
            if grown > 0 {
                return Ok(());
            }
        }
        self.clear(generation, disk)?;
        let (durable, file) = {
            let state = generation.state();
            (state.durable.clone(), state.table)
        };
        let new = &self.end.side.table;
        if new.is(&durable.side.table) {
            self.table = file;
            return self.begin_journal(generation, disk);
        }
        if new.encoder().is_none() {
            self.table = None;
            return self.begin_journal(generation, disk);
        }
        let index = self.end.position.expect("an end with a table").index;
        let writer = TableWriter::begin(disk, &generation.folder, index, new)?;
        self.phase = Phase::Table(Box::new(writer));
        Ok(())
    }

    /// Removing what an earlier one left is durable before a new one may exist (safety rule 2).
    fn clear(&self, generation: &Generation, disk: &dyn Disk) -> Result<(), StoreError> {
        disk.remove(&journal_path(&generation.folder))?;
        let file = generation.state().table;
        table::remove_others(disk, &generation.folder, file)?;
        Ok(disk.sync_dir(&generation.folder)?)
    }

    /// Writes the table; whole and durable with its name, before the journal may name it.
    fn table(&mut self, generation: &Generation, disk: &dyn Disk) -> Result<(), StoreError> {
        let Phase::Table(writer) = &mut self.phase else {
            unreachable!("only the table's phase comes here")
        };
        let Some(file) = writer.step()? else {
            return Ok(());
        };
        disk.sync_dir(&generation.folder)?;
        self.table = Some(file);
        self.begin_journal(generation, disk)
    }

    /// The journal's head and first pages.
    fn begin_journal(
        &mut self,
        generation: &Generation,
        disk: &dyn Disk,
    ) -> Result<(), StoreError> {
        let path = journal_path(&generation.folder);
        let from = generation.state().durable.position;
        let pages = u32::try_from(self.pages.len()).expect("SQLite has at most 2^32 pages");
        let head = Head {
            from,
            record: generation.record(&self.end, self.table),
            pages,
        };
        let file = disk.open(&path, OpenMode::New)?;
        let writer = Box::new(JournalWriter::begin(file, &head)?);
        self.phase = Phase::Journal { writer, next: 0 };
        self.journal(generation, disk)
    }

    /// The pages from `from` on of which `page_bytes` each fit into `room_bytes`, at least one if there is one.
    fn slice(
        &self,
        generation: &Generation,
        from: usize,
        (room_bytes, page_bytes): (usize, usize),
    ) -> Result<Vec<(PageNumber, Image)>, StoreError> {
        let most = (room_bytes / page_bytes).max(1);
        let pages = &self.pages[from..self.pages.len().min(from + most)];
        pages
            .iter()
            .map(|page| Ok((*page, generation.image(*page, self.end.version)?)))
            .collect()
    }

    fn journal(&mut self, generation: &Generation, disk: &dyn Disk) -> Result<(), StoreError> {
        let Phase::Journal { mut writer, next } = std::mem::replace(&mut self.phase, Phase::Room)
        else {
            unreachable!("only the journal's phase comes here")
        };
        let room_bytes = self.slice_bytes.saturating_sub(writer.unsynced_bytes());
        let page_bytes = journal_page_bytes(generation.page_size);
        let slice = self.slice(generation, next, (room_bytes, page_bytes))?;
        writer.pages(&slice)?;
        let next = next + slice.len();
        if next < self.pages.len() {
            writer.sync()?;
            self.phase = Phase::Journal { writer, next };
            return Ok(());
        }
        self.written.bytes += writer.complete()?;
        disk.sync_dir(&generation.folder)?;
        self.phase = Phase::Base { next: 0 };
        Ok(())
    }

    fn base(&mut self, generation: &Generation, from: usize) -> Result<(), StoreError> {
        if from == self.pages.len() {
            // Beyond the new size may be pages that an older pin still reads; they are cut at the next open.
            if !self.is_passing_a_pin(generation) {
                generation
                    .base
                    .set_len(self.end.pages.file_bytes(generation.page_size))?;
            }
            generation.base.sync()?;
            self.note_sums(generation);
            self.phase = Phase::Sums { next: 0 };
            return Ok(());
        }
        let page_bytes = generation.page_size.bytes() as usize;
        let slice = self.slice(generation, from, (self.slice_bytes, page_bytes))?;
        for (page, image) in &slice {
            shield(generation, *page, self.end.version)?;
            generation
                .base
                .write_at(page.offset(generation.page_size), image)?;
        }
        generation.base.sync()?;
        self.written.pages += slice.len() as u64;
        self.written.bytes += (slice.len() * page_bytes) as u64;
        self.phase = Phase::Base {
            next: from + slice.len(),
        };
        Ok(())
    }

    /// Whether someone looks at an older version.
    fn is_passing_a_pin(&self, generation: &Generation) -> bool {
        let oldest = generation.pins.oldest();
        oldest.is_some_and(|oldest| oldest < self.end.version)
    }

    /// Notes the new hashes in memory. Readers of these pages find images above the base until the checkpoint is
    /// done, so that none compares an old page with a new hash.
    fn note_sums(&self, generation: &Generation) {
        let hash = |page| generation.hash_above_base(page, self.end.version);
        let new: Vec<u64> = self.pages.iter().map(|page| hash(*page)).collect();
        let length = self.end.pages.0 as usize;
        let mut sums = generation
            .sums
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let longest = sums.len().max(length);
        sums.resize(longest, 0);
        for (page, hash) in self.pages.iter().zip(new) {
            sums[page.index()] = hash;
        }
        if !self.is_passing_a_pin(generation) {
            sums.truncate(length);
        }
    }

    /// Writes hashes from that of the page in place `from` on; what lies between two changed pages stands there already.
    fn sums(&mut self, generation: &Generation, from: usize) -> Result<(), StoreError> {
        let most = (self.slice_bytes / SUM_BYTES).max(1);
        let fits = |page: &PageNumber| page.index() < self.pages[from].index() + most;
        let count = self.pages[from..].partition_point(fits);
        let next = from + count;
        if count > 0 {
            let (first, last) = (self.pages[from].index(), self.pages[next - 1].index());
            let bytes = generation.sums_bytes(first..last + 1);
            let offset = (first * SUM_BYTES) as u64;
            generation.sums_file.write_at(offset, &bytes)?;
            self.written.bytes += bytes.len() as u64;
        }
        let mut phase = Phase::Sums { next };
        if next == self.pages.len() {
            let length = u64::from(self.end.pages.0) * SUM_BYTES as u64;
            generation.sums_file.set_len(length)?;
            phase = Phase::Position;
        }
        generation.sums_file.sync()?;
        self.phase = phase;
        Ok(())
    }

    fn position(&mut self, generation: &Generation) -> Result<(), StoreError> {
        let record = generation.record(&self.end, self.table).encode();
        let bytes = generation
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record(&record)?;
        self.written.bytes += bytes;
        let mut state = generation.state();
        state.durable = self.end.clone();
        state.table = self.table;
        state.entries = state.entries.saturating_sub(self.entries);
        self.phase = Phase::Drop;
        Ok(())
    }

    fn done(&mut self, generation: &Generation) {
        generation.state().target = None;
        let dirty = std::mem::take(&mut self.dirty_bytes);
        let saturating = |bytes: u64| Some(bytes.saturating_sub(dirty));
        let updated =
            generation
                .dirty_bytes
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, saturating);
        updated.expect("the closure always answers");
        generation.prune_all();
    }
}

/// Grows a file by at most a slice towards `length`, durably; answers by how much, 0 if it is as long.
fn grow(file: &dyn File, length: u64, slice_bytes: u64) -> Result<u64, StoreError> {
    let size = file.size()?;
    let grown = length.saturating_sub(size).min(slice_bytes);
    if grown > 0 {
        file.preallocate(size + grown)?;
        file.sync()?;
    }
    Ok(grown)
}

/// Keeps what the base file holds of `page` for pins that see it there, before it is overwritten: as an image
/// older than all others of the page. Ends pins if there is no room to keep it (safety rule 11).
fn shield(generation: &Generation, page: PageNumber, target: Version) -> Result<(), StoreError> {
    let base = generation.state().durable.version;
    let mut shard = generation.write_shard(page);
    let chain = shard
        .get_mut(&page)
        .expect("a page that is checkpointed has an image");
    let oldest_link = chain.oldest().expect("it isn't empty").version;
    chain.shield_base(base);
    loop {
        let looks = generation
            .pins
            .oldest()
            .is_some_and(|pin| pin < oldest_link && pin < target);
        let Some(hash) = generation.base_hash(page).filter(|_| looks) else {
            return Ok(());
        };
        let image = generation.read_base(page)?;
        if let Some(at) = generation.spill.keep(&image)? {
            let place = Place::Spilled(at);
            chain.push_base(Link {
                version: Version(0),
                shield: true,
                hash,
                place,
            });
            return Ok(());
        }
        // Where none is left, the one that was in the way has let go by itself meanwhile.
        generation.pins.end_one(PinKind::Backup);
    }
}

/// Pages from 1 to a size without the lock page, for whoever walks over a whole base file.
pub(crate) fn base_pages(generation: &Generation, count: u32) -> impl Iterator<Item = PageNumber> {
    let lock_page = generation.page_size.lock_page();
    numbers(1, count).filter(move |page| *page != lock_page)
}
