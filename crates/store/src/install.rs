//! Receiving a whole database into a generation of its own (safety rule 3).
//!
//! Nothing of the live generation is touched; a sink that is dropped, or a crash, leaves a folder that the
//! next open removes. Pages come in ascending order, so that none is missing and none comes twice. What came of one that is
//! given up can be read back, for the next one.

use crate::current::folder;
use crate::generation::numbers;
use crate::position::{Record, SIDE_BYTES_MAX, SLOTS};
use crate::slots::Slots;
use crate::table;
use crate::{Checksum, PageCount, PageNumber, PageSize, Position, Side, StoreError, page_hash};
use sqlrep_disk::{Disk, File, OpenMode};
use std::sync::Arc;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// What a received database will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallEnd {
    /// Its entry.
    pub position: Position,
    /// Its size.
    pub pages: PageCount,
    /// Its checksum.
    pub checksum: Checksum,
    /// Its replicated state beside the pages.
    pub side: Side,
}

/// A database under way. Dropping it removes what was received.
pub struct Installer {
    disk: Arc<dyn Disk>,
    record: Record,
    folder: String,
    base: Arc<dyn File>,
    sums: Vec<u64>,
    /// The page that has to come next.
    next: u32,
    /// Pages gathered, and where they belong.
    buffer: Vec<u8>,
    buffer_at: u64,
    complete: bool,
    /// Set once it may be live.
    settled: bool,
}

impl Installer {
    pub(crate) fn begin(
        disk: Arc<dyn Disk>,
        generation: u64,
        page_size: PageSize,
        end: InstallEnd,
    ) -> Result<Self, StoreError> {
        let bytes = end.side.bytes();
        if bytes > SIDE_BYTES_MAX {
            return Err(StoreError::SideTooLarge {
                bytes,
                limit_bytes: SIDE_BYTES_MAX,
            });
        }
        let folder = folder(generation);
        disk.remove_dir(&folder)?;
        disk.create_dir(&folder)?;
        disk.sync_dir("db")?;
        let base = disk.open(&format!("{folder}/main.db"), OpenMode::New)?;
        let record = Record {
            generation,
            position: Some(end.position),
            page_size,
            pages: end.pages,
            checksum: end.checksum,
            side: end.side,
            table: None,
        };
        Ok(Self {
            disk,
            record,
            folder,
            base,
            sums: Vec::new(),
            next: 1,
            buffer: Vec::new(),
            buffer_at: 0,
            complete: false,
            settled: false,
        })
    }

    /// Takes the next page; the lock page is left out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Received`] if it isn't the next page or not a page long; the disk's.
    pub fn write(&mut self, page: PageNumber, image: &[u8]) -> Result<(), StoreError> {
        let size = self.record.page_size;
        if self.next == size.lock_page().get() && page.get() == self.next + 1 {
            self.sums.push(0);
            self.flush()?;
            self.next += 1;
        }
        if page.get() != self.next || !self.record.pages.contains(page) {
            let what = format!(
                "page {page} came where page {} of {} belongs",
                self.next, self.record.pages.0
            );
            return Err(StoreError::Received { what });
        }
        if image.len() != size.bytes() as usize {
            return Err(StoreError::Received {
                what: format!("page {page} has {} bytes", image.len()),
            });
        }
        if self.buffer.is_empty() {
            self.buffer_at = page.offset(size);
        }
        self.buffer.extend(image);
        self.sums.push(page_hash(page, image));
        self.next += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Reads back what was written so far and compares it with what came.
    ///
    /// # Errors
    ///
    /// [`StoreError::Received`] if it differs; the disk's.
    pub fn verify(&mut self) -> Result<(), StoreError> {
        let mut image = vec![0; self.record.page_size.bytes() as usize];
        for page in numbers(1, self.came().0) {
            self.read_back(page, &mut image)?;
        }
        Ok(())
    }

    /// Pages that came, from the first on; the lock page is counted once the one behind it came.
    #[must_use]
    pub fn came(&self) -> PageCount {
        PageCount(self.next - 1)
    }

    /// Reads a page back that came, a page long. Answers whether it did; of others, and of the lock page, nothing is read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Received`] if it differs from what came; the disk's.
    pub fn read_back(&mut self, page: PageNumber, into: &mut [u8]) -> Result<bool, StoreError> {
        let size = self.record.page_size;
        if page == size.lock_page() || !self.came().contains(page) {
            return Ok(false);
        }
        self.flush()?;
        self.base.read_exact_at(page.offset(size), into)?;
        if page_hash(page, into) != self.sums[page.index()] {
            let what = format!("page {page} was written and reads back otherwise");
            return Err(StoreError::Received { what });
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if !self.buffer.is_empty() {
            self.base.write_at(self.buffer_at, &self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Verifies that the whole came, and makes it durable; it isn't live yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Received`] if pages are missing or the checksum differs; the disk's.
    pub fn complete(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        let pages = self.record.pages.0;
        if self.next == self.record.page_size.lock_page().get() && self.next == pages {
            self.sums.push(0);
            self.next += 1;
        }
        if self.next != pages + 1 {
            let what = format!("{} of {pages} pages came", self.next - 1);
            return Err(StoreError::Received { what });
        }
        let mut checksum = Checksum(0);
        self.sums.iter().for_each(|hash| checksum.toggle(*hash));
        if checksum != self.record.checksum {
            let what = format!(
                "its checksum is {checksum}, {} was announced",
                self.record.checksum
            );
            return Err(StoreError::Received { what });
        }
        self.base
            .set_len(self.record.pages.file_bytes(self.record.page_size))?;
        self.base.sync()?;
        self.write_rest()?;
        self.complete = true;
        Ok(())
    }

    fn write_rest(&mut self) -> Result<(), StoreError> {
        let sums = self
            .disk
            .open(&format!("{}/main.sums", self.folder), OpenMode::New)?;
        let bytes: Vec<u8> = self
            .sums
            .iter()
            .flat_map(|hash| hash.to_le_bytes())
            .collect();
        sums.write_at(0, &bytes)?;
        sums.sync()?;
        let index = self.record.position.map_or(0, |position| position.index);
        let table = &self.record.side.table;
        self.record.table = table::write(&*self.disk, &self.folder, index, table)?;
        let path = format!("{}/main.position", self.folder);
        let file = self.disk.open(&path, OpenMode::New)?;
        Slots::create(SLOTS, file, path)?.record(&self.record.encode())?;
        self.disk.sync_dir(&self.folder)?;
        self.disk.sync_dir("db")?;
        Ok(())
    }

    /// The generation's number, if all of it is durable.
    pub(crate) fn complete_generation(&self) -> Option<u64> {
        self.complete.then_some(self.record.generation)
    }

    /// The generation is or may be live: it stays.
    pub(crate) fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Installer {
    fn drop(&mut self) {
        if !self.settled {
            // What can't be removed now is removed at the next open.
            drop(self.disk.remove_dir(&self.folder));
        }
    }
}
