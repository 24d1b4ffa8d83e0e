//! Looking at a database without opening it: everything that is wrong with it, not only what an opening stops at.
//!
//! The steps are those of an opening, journal and all, so it writes: whoever only wants to look hands in a disk that
//! keeps changes to itself ([`sqlrep_disk::OverlayDisk`]). Behind a finding it goes on with whatever doesn't depend on it.

use crate::checkpoint::journal_path;
use crate::current::{self, Current, folder};
use crate::open::{check_sums, generations, live_position, read_position, recover};
use crate::position::{self, Record};
use crate::slots::{SlotKind, Slots};
use crate::{
    Checksum, Options, PageCount, PageNumber, PageSize, Position, StoreError, distrust, page_hash,
    table,
};
use sqlrep_disk::{Disk, DiskError, File, OpenMode};
use std::sync::Arc;

/// What was found.
#[derive(Debug, Default)]
pub struct Inspection {
    /// The live generation; none if there never was a database.
    pub generation: Option<u64>,
    /// The durable position; none if nothing was applied, or it can't be read.
    pub position: Option<Position>,
    /// None if it can't be read.
    pub page_size: Option<PageSize>,
    /// Pages that belong to the database.
    pub pages: PageCount,
    /// Checksum of the database, as its position has it.
    pub checksum: Checksum,
    /// Whether a checkpoint was under way when the process died; an opening finishes it, or drops it.
    pub journal: bool,
    /// Whether the pages together have the database's checksum: then no page is damaged, whatever the sums say.
    pub whole: bool,
    /// Pages that read back otherwise than they were written, or not at all; ascending.
    pub damaged: Vec<PageNumber>,
    /// Files of two copies of which one is whole: a crash leaves that, or rot. An opening works with the other.
    pub single: Vec<String>,
    /// Why the database mustn't be used though its pages are whole; none if it may.
    pub distrusted: Option<String>,
    /// What is wrong beside single pages, in the order in which an opening would meet it.
    pub errors: Vec<StoreError>,
}

/// Looks at everything that the data directory's database consists of.
#[must_use]
pub fn inspect(options: &Options) -> Inspection {
    let mut found = Inspection::default();
    if let Err(error) = found.look(&*options.disk) {
        found.errors.push(error);
    }
    found
}

impl Inspection {
    fn look(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        disk.create_dir("db")?;
        let Some(number) = self.live(disk)? else {
            return Ok(());
        };
        let at = folder(number);
        self.generation = Some(number);
        self.distrusted = distrust::marked(disk, &at)?;
        self.note_single(disk, position::SLOTS, format!("{at}/main.position"))?;
        let (mut slots, mut record) = live_position(disk, number)?;
        self.note(&record);
        let base = self.open(disk, format!("{at}/main.db"));
        let sums = self.open(disk, format!("{at}/main.sums"));
        self.journal = match disk.open(&journal_path(&at), OpenMode::Existing) {
            Err(DiskError::NotFound { .. }) => false,
            opened => opened.map(|_| true)?,
        };
        let hashes = match (&base, &sums) {
            (Some(base), Some(sums)) => {
                let files = (&**base, &**sums);
                if let Err(error) = recover(disk, &at, &mut record, &mut slots, files) {
                    self.errors.push(error);
                }
                self.note(&record);
                match check_sums(&at, &record, &**base, &**sums) {
                    Ok(hashes) => hashes,
                    Err(error) => {
                        self.errors.push(error);
                        raw_sums(&record, &**sums)?
                    }
                }
            }
            _ => Vec::new(),
        };
        if let Err(error) = table::read(disk, &at, record.table) {
            self.errors.push(error);
        }
        if let Some(base) = base {
            self.compare(&record, &*base, &hashes)?;
        }
        Ok(())
    }

    /// Which generation is live; if that can't be read, the newest that holds a database.
    fn live(&mut self, disk: &dyn Disk) -> Result<Option<u64>, StoreError> {
        match Current::open(disk) {
            Ok((_, Some(live))) => {
                self.note_single(disk, current::SLOTS, current::PATH.to_owned())?;
                return Ok(Some(live));
            }
            Ok((_, None)) => {}
            Err(error) => self.errors.push(error),
        }
        let held = |number: &u64| {
            let record = read_position(disk, &folder(*number));
            record.is_ok_and(|(_, record)| record.is_some_and(|one| one.position.is_some()))
        };
        let newest = generations(disk)?.into_iter().rfind(held);
        if let (Some(number), true) = (newest, self.errors.is_empty()) {
            self.errors.push(StoreError::Corrupt {
                file: current::PATH.to_owned(),
                offset: 0,
                what: format!("it is empty, but {} holds a database", folder(number)),
            });
        }
        Ok(newest)
    }

    fn note(&mut self, record: &Record) {
        self.position = record.position;
        self.page_size = Some(record.page_size);
        self.pages = record.pages;
        self.checksum = record.checksum;
    }

    fn note_single(
        &mut self,
        disk: &dyn Disk,
        kind: SlotKind,
        path: String,
    ) -> Result<(), StoreError> {
        let file = disk.open(&path, OpenMode::Existing)?;
        if !Slots::is_doubled(kind, &*file)? {
            self.single.push(path);
        }
        Ok(())
    }

    fn open(&mut self, disk: &dyn Disk, path: String) -> Option<Arc<dyn File>> {
        let opened = disk.open(&path, OpenMode::Existing);
        opened.map_err(|error| self.errors.push(error.into())).ok()
    }

    /// Reads every page and compares it with its hash; without hashes, all pages together with the checksum.
    fn compare(
        &mut self,
        record: &Record,
        base: &dyn File,
        hashes: &[u64],
    ) -> Result<(), StoreError> {
        let mut image = vec![0; record.page_size.bytes() as usize];
        let mut checksum = Checksum(0);
        for page in crate::generation::numbers(1, record.pages.0) {
            if page == record.page_size.lock_page() {
                continue;
            }
            let hash = match base.read_exact_at(page.offset(record.page_size), &mut image) {
                Ok(()) => Some(page_hash(page, &image)),
                // The end of the file was told, a bad sector is the page's.
                Err(DiskError::Short { .. } | DiskError::Io { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            checksum.toggle(hash.unwrap_or_default());
            let wanted = hashes.get(page.index());
            if hash.is_none() || wanted.is_some_and(|wanted| hash != Some(*wanted)) {
                self.damaged.push(page);
            }
        }
        self.whole = checksum == record.checksum;
        if self.whole {
            self.damaged.clear();
        }
        Ok(())
    }
}

/// The sums as they stand there, right or wrong.
fn raw_sums(record: &Record, file: &dyn File) -> Result<Vec<u64>, StoreError> {
    let wanted = u64::from(record.pages.0) * 8;
    let bytes = usize::try_from(file.size()?.min(wanted)).expect("pages are counted by 32 bits");
    let mut bytes = vec![0; bytes];
    file.read_exact_at(0, &mut bytes)?;
    let words = bytes.as_chunks::<8>().0.iter();
    Ok(words.map(|word| u64::from_le_bytes(*word)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, Finish, Image, Side, Store, Table};
    use bytes::Bytes;
    use sqlrep_disk::{OverlayDisk, SimulatedDisk};

    /// Five pages and a table of keys at entry 1, checkpointed.
    fn filled() -> SimulatedDisk {
        let disk = SimulatedDisk::new(1);
        let store = Store::open(Options::new(Arc::new(disk.clone()))).unwrap();
        let image = |page: u32| Image::from(vec![u8::try_from(page).unwrap(); 4096]);
        let pages = crate::generation::numbers(1, 5).map(|page| (page, image(page.get())));
        let (pages, count) = (pages.collect(), PageCount(5));
        let version = store.publish(Change { pages, count }).unwrap();
        let position = Position { term: 1, index: 1 };
        let side = Side {
            table: Table::of(Bytes::from_static(b"keys")),
            ..Side::default()
        };
        let anchor = true;
        store
            .finish(Finish {
                position,
                version,
                side,
                anchor,
            })
            .unwrap();
        let mut checkpoint = store.begin_checkpoint(None).unwrap();
        while let crate::Progress::More = checkpoint.step().unwrap() {}
        disk
    }

    fn look(disk: &SimulatedDisk) -> Inspection {
        let over = OverlayDisk::new(Arc::new(disk.clone()), 1 << 20);
        inspect(&Options::new(Arc::new(over)))
    }

    fn told(found: &Inspection) -> Vec<String> {
        found.errors.iter().map(ToString::to_string).collect()
    }

    /// Rule 7: every page is compared with its hash, and all that differ are named.
    #[test]
    fn every_damaged_page_is_named() {
        let disk = filled();
        let found = look(&disk);
        assert!(found.whole && found.errors.is_empty() && found.damaged.is_empty());
        assert_eq!(found.position, Some(Position { term: 1, index: 1 }));
        disk.flip("db/1/main.db", 4096 + 7, 1);
        disk.flip("db/1/main.db", 4 * 4096, 1);
        let found = look(&disk);
        let damaged: Vec<u32> = found.damaged.iter().map(|page| page.get()).collect();
        assert_eq!((damaged, found.whole), (vec![2, 5], false));
        assert!(found.errors.is_empty(), "{:?}", found.errors);
    }

    #[test]
    fn sums_that_are_wrong_or_gone_do_not_condemn_whole_pages() {
        let disk = filled();
        disk.flip("db/1/main.sums", 9, 1);
        let found = look(&disk);
        assert!(found.whole && found.damaged.is_empty());
        assert!(told(&found)[0].contains("main.sums"), "{found:?}");
        disk.remove("db/1/main.sums").unwrap();
        let found = look(&disk);
        assert!(found.whole);
        assert_eq!(told(&found), ["db/1/main.sums doesn't exist"]);
    }

    /// A node with keys whose file was damaged didn't start, and a look at it ended in an error instead of a finding.
    #[test]
    fn a_damaged_table_of_keys_is_named_beside_whole_pages() {
        let disk = filled();
        disk.flip("db/1/main.keys.1", 17, 1);
        let found = look(&disk);
        assert!(found.whole && found.damaged.is_empty());
        assert!(told(&found)[0].contains("main.keys.1"), "{found:?}");
        disk.remove("db/1/main.keys.1").unwrap();
        assert_eq!(told(&look(&disk)), ["db/1/main.keys.1 doesn't exist"]);
    }

    #[test]
    fn what_stops_an_opening_does_not_stop_a_look() {
        let disk = filled();
        for (slot, bytes) in [(0, 4096), (1, 4096)] {
            disk.flip("db/current", slot * bytes + 25, 1);
        }
        disk.flip("db/1/main.position", 30, 1);
        disk.flip("db/1/main.db", 3 * 4096, 1);
        let found = look(&disk);
        assert!(told(&found)[0].starts_with("db/current is damaged"));
        assert_eq!(found.single, ["db/1/main.position"]);
        assert_eq!(found.generation, Some(1));
        assert_eq!(found.damaged, [PageNumber::new(4).unwrap()]);
    }

    #[test]
    fn no_database_is_no_damage() {
        let found = look(&SimulatedDisk::new(1));
        assert_eq!((found.generation, found.errors.len()), (None, 0));
    }
}
