//! Opening a data directory: finding the live generation, finishing or dropping its journal, checking its sums.
//!
//! Everything here may be cut short by a crash and is then done again from the start.

use crate::checkpoint::journal_path;
use crate::current::{Current, folder};
use crate::generation::{Files, Generation};
use crate::journal::{Found, JournalReader};
use crate::position::{Record, SLOTS};
use crate::slots::Slots;
use crate::spill::Spill;
use crate::table;
use crate::{Checksum, Options, PageCount, PageSize, Side, StoreError, page_hash};
use sqlrep_disk::{Disk, DiskError, File, OpenMode};
use std::sync::Arc;

/// The live generation and the file that names it.
pub(crate) fn open(options: &Options) -> Result<(Current, Arc<Generation>), StoreError> {
    let disk = &*options.disk;
    for name in ["db", "tmp"] {
        disk.create_dir(name)?;
    }
    disk.sync_dir("")?;
    for name in disk.list("tmp")? {
        disk.remove(&format!("tmp/{name}"))?;
    }
    let (mut current, live) = Current::open(disk)?;
    let number = match live {
        Some(number) => number,
        None => create_first(options, &mut current)?,
    };
    remove_others(disk, number)?;
    let generation = open_generation(options, number)?;
    Ok((current, generation))
}

/// Makes the first generation: an empty database. A crash before `db/current` names it leaves a folder without
/// an entry, which is made again; a folder with one but no name is damage.
fn create_first(options: &Options, current: &mut Current) -> Result<u64, StoreError> {
    const FIRST: u64 = 1;
    let disk = &*options.disk;
    for number in generations(disk)? {
        let at = folder(number);
        if read_position(disk, &at)
            .is_ok_and(|(_, record)| record.is_some_and(|one| one.position.is_some()))
        {
            let what = format!("it is empty, but {at} holds a database");
            return Err(StoreError::Corrupt {
                file: "db/current".to_owned(),
                offset: 0,
                what,
            });
        }
        disk.remove_dir(&at)?;
    }
    let record = Record {
        generation: FIRST,
        position: None,
        page_size: options.page_size.unwrap_or(PageSize::DEFAULT),
        pages: PageCount(0),
        checksum: Checksum(0),
        side: Side::default(),
        table: None,
    };
    create_files(disk, &record)?;
    current.switch(FIRST)?;
    Ok(FIRST)
}

/// Makes a generation's folder with an empty base file, empty sums and a position, all durable.
fn create_files(disk: &dyn Disk, record: &Record) -> Result<(), StoreError> {
    let at = folder(record.generation);
    disk.create_dir(&at)?;
    disk.sync_dir("db")?;
    for name in ["main.db", "main.sums"] {
        disk.open(&format!("{at}/{name}"), OpenMode::New)?.sync()?;
    }
    let path = format!("{at}/main.position");
    let mut slots = Slots::create(SLOTS, disk.open(&path, OpenMode::New)?, path)?;
    slots.record(&record.encode())?;
    disk.sync_dir(&at)?;
    Ok(())
}

/// Numbers of the generation folders, ascending.
pub(crate) fn generations(disk: &dyn Disk) -> Result<Vec<u64>, StoreError> {
    let mut numbers: Vec<u64> = disk
        .list("db")?
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn remove_others(disk: &dyn Disk, live: u64) -> Result<(), StoreError> {
    for number in generations(disk)? {
        if number != live {
            disk.remove_dir(&folder(number))?;
        }
    }
    disk.sync_dir("db")?;
    Ok(())
}

pub(crate) fn read_position(
    disk: &dyn Disk,
    at: &str,
) -> Result<(Slots, Option<Record>), StoreError> {
    let path = format!("{at}/main.position");
    let file = disk.open(&path, OpenMode::Existing)?;
    let (slots, body) = Slots::open(SLOTS, file, path.clone())?;
    let record = body.map(|body| Record::decode(&body, &path)).transpose()?;
    Ok((slots, record))
}

/// The position of a generation that is live: it must have one, and its own.
pub(crate) fn live_position(disk: &dyn Disk, number: u64) -> Result<(Slots, Record), StoreError> {
    let at = folder(number);
    let (slots, record) = read_position(disk, &at)?;
    let corrupt = |what| StoreError::Corrupt {
        file: format!("{at}/main.position"),
        offset: 0,
        what,
    };
    let record = record.ok_or_else(|| corrupt("it is empty".to_owned()))?;
    if record.generation != number {
        let what = format!("it belongs to generation {}", record.generation);
        return Err(corrupt(what));
    }
    Ok((slots, record))
}

pub(crate) fn open_generation(
    options: &Options,
    number: u64,
) -> Result<Arc<Generation>, StoreError> {
    let disk = &*options.disk;
    let at = folder(number);
    let (mut slots, mut record) = live_position(disk, number)?;
    if let Some(wanted) = options
        .page_size
        .filter(|wanted| *wanted != record.page_size)
    {
        return Err(StoreError::PageSize {
            found: record.page_size,
            wanted,
        });
    }
    let base = disk.open(&format!("{at}/main.db"), OpenMode::Existing)?;
    let sums_file = disk.open(&format!("{at}/main.sums"), OpenMode::Existing)?;
    recover(disk, &at, &mut record, &mut slots, (&*base, &*sums_file))?;
    record.side.table = table::read(disk, &at, record.table)?;
    table::remove_others(disk, &at, record.table)?;
    let sums = check_sums(&at, &record, &*base, &*sums_file)?;
    let spill = format!("tmp/spill-{number}");
    let spill = Spill::create(disk, spill, record.page_size, options.spill_bytes_max)?;
    Ok(Generation::new(
        at,
        &record,
        Files {
            base,
            sums_file,
            slots,
            spill,
        },
        sums,
    ))
}

/// Finishes a whole journal, drops any other (safety rules 1 and 2).
pub(crate) fn recover(
    disk: &dyn Disk,
    at: &str,
    record: &mut Record,
    slots: &mut Slots,
    files: (&dyn File, &dyn File),
) -> Result<(), StoreError> {
    let path = journal_path(at);
    let file = match disk.open(&path, OpenMode::Existing) {
        Err(DiskError::NotFound { .. }) => return Ok(()),
        other => other?,
    };
    if let Found::Whole(journal) =
        JournalReader::find(file, record.generation, record.page_size, &path)?
    {
        let new = journal.head.record.clone();
        if journal.head.from == record.position && new.position != record.position {
            replay(&journal, files)?;
            slots.record(&new.encode())?;
            *record = new;
        } else if new.position != record.position {
            let shown = |position: Option<crate::Position>| {
                position.map_or("the beginning".to_owned(), |position| position.to_string())
            };
            let what = format!(
                "it leads from {} to {}, the database is at {}",
                shown(journal.head.from),
                shown(new.position),
                shown(record.position)
            );
            return Err(StoreError::Corrupt {
                file: path,
                offset: 0,
                what,
            });
        }
    }
    disk.remove(&path)?;
    disk.sync_dir(at)?;
    Ok(())
}

/// Writes what a whole journal says: pages, length, sums. The position follows in the caller.
fn replay(journal: &JournalReader, (base, sums): (&dyn File, &dyn File)) -> Result<(), StoreError> {
    let record = &journal.head.record;
    base.preallocate(record.pages.file_bytes(record.page_size))?;
    sums.preallocate(u64::from(record.pages.0) * 8)?;
    for place in 0..journal.head.pages {
        let (page, image) = journal.page(place)?;
        base.write_at(page.offset(record.page_size), &image)?;
        sums.write_at(
            page.index() as u64 * 8,
            &page_hash(page, &image).to_le_bytes(),
        )?;
    }
    base.set_len(record.pages.file_bytes(record.page_size))?;
    base.sync()?;
    sums.set_len(u64::from(record.pages.0) * 8)?;
    sums.sync()?;
    Ok(())
}

/// Reads the sums and compares them with the checksum: a position, a base or sums that don't belong together
/// are found before anything is served (safety rule 6).
pub(crate) fn check_sums(
    at: &str,
    record: &Record,
    base: &dyn File,
    sums_file: &dyn File,
) -> Result<Vec<u64>, StoreError> {
    let corrupt = |name: &str, offset: u64, what: String| StoreError::Corrupt {
        file: format!("{at}/{name}"),
        offset,
        what,
    };
    let pages = record.pages.0 as usize;
    let length = record.pages.file_bytes(record.page_size);
    let found = base.size()?;
    if found < length {
        let what = format!("it ends there, {length} bytes belong to it");
        return Err(corrupt("main.db", found, what));
    }
    if found > length {
        base.set_len(length)?;
        base.sync()?;
    }
    let found = sums_file.size()?;
    if found < pages as u64 * 8 {
        return Err(corrupt(
            "main.sums",
            found,
            format!("it ends there, {pages} pages belong to it"),
        ));
    }
    let mut bytes = vec![0; pages * 8];
    sums_file.read_exact_at(0, &mut bytes)?;
    let sums: Vec<u64> = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .collect();
    let mut checksum = Checksum(0);
    let lock_page = record.page_size.lock_page().index();
    let summed = sums
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != lock_page);
    summed.for_each(|(_, hash)| checksum.toggle(*hash));
    if checksum != record.checksum {
        let what = format!(
            "the sums give {checksum}, the position has {}",
            record.checksum
        );
        return Err(corrupt("main.sums", 0, what));
    }
    Ok(sums)
}
