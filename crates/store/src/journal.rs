//! The checkpoint journal: once it is complete and synced it *is* the checkpoint (safety rule 1).
//!
//! `main.journal`, all numbers little-endian:
//!
//! | offset | size | field |
//! | ---: | ---: | --- |
//! | 0 | 8 | magic `SRJOURNL` |
//! | 8 | 1 | format version, 1 |
//! | 9 | 1 | 1 if it starts from an applied entry, else 0 |
//! | 10 | 6 | zero |
//! | 16 | 8 | generation |
//! | 24 | 8 | term of the position it starts from |
//! | 32 | 8 | index of it |
//! | 40 | 4 | page size in bytes |
//! | 44 | 4 | pages in here |
//! | 48 | 4 | length of the record |
//! | 52 | 4 | zero |
//! | 56 | n | the new position record (module `position`) |
//! | 56+n | k * (4 + page size) | page number and image, k times |
//! | end | 8 | xxh3 over everything before |

use crate::hashed::HashedFile;
use crate::position::Record;
use crate::{PageNumber, PageSize, Position, StoreError};
use sqlrep_disk::File;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

const MAGIC: [u8; 8] = *b"SRJOURNL";
const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 56;
const HASH_BYTES: usize = 8;

/// What a page takes in a journal.
pub(crate) fn journal_page_bytes(size: PageSize) -> usize {
    4 + size.bytes() as usize
}

/// Writes a journal from front to back.
pub(crate) struct JournalWriter {
    file: HashedFile,
    /// Up to where it is synced.
    synced: u64,
}

/// What a journal is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) from: Option<Position>,
    pub(crate) record: Record,
    pub(crate) pages: u32,
}

impl JournalWriter {
    pub(crate) fn begin(file: Arc<dyn File>, head: &Head) -> Result<Self, StoreError> {
        let record = head.record.encode();
        let from = head.from.unwrap_or_default();
        let mut out = Vec::with_capacity(HEAD_BYTES + record.len());
        out.extend(MAGIC);
        out.extend([FORMAT, u8::from(head.from.is_some()), 0, 0, 0, 0, 0, 0]);
        out.extend(head.record.generation.to_le_bytes());
        out.extend(from.term.to_le_bytes());
        out.extend(from.index.to_le_bytes());
        out.extend(head.record.page_size.bytes().to_le_bytes());
        out.extend(head.pages.to_le_bytes());
        out.extend(
            u32::try_from(record.len())
                .expect("a record fits its slot")
                .to_le_bytes(),
        );
        out.extend([0; 4]);
        out.extend(record);
        let mut file = HashedFile::begin(file);
        file.write(&out)?;
        Ok(Self { file, synced: 0 })
    }

    /// Adds pages.
    pub(crate) fn pages(&mut self, pages: &[(PageNumber, crate::Image)]) -> Result<(), StoreError> {
        let mut out = Vec::new();
        for (page, image) in pages {
            out.extend(page.get().to_le_bytes());
            out.extend(image);
        }
        self.file.write(&out)
    }

    /// Bytes that the next sync has to bring to disk, those of the end included.
    pub(crate) fn unsynced_bytes(&self) -> usize {
        usize::try_from(self.file.bytes() - self.synced)
            .map_or(usize::MAX, |bytes| bytes + HASH_BYTES)
    }

    /// Makes what it holds so far durable.
    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        self.file.sync()?;
        self.synced = self.file.bytes();
        Ok(())
    }

    /// Ends it, durably but for its name; answers its length in bytes.
    pub(crate) fn complete(mut self) -> Result<u64, StoreError> {
        let hash = self.file.hash();
        self.file.write(&hash.to_le_bytes())?;
        self.sync()?;
        Ok(self.file.bytes())
    }
}

/// What a journal file turned out to be.
pub(crate) enum Found {
    /// Whole: it is the checkpoint.
    Whole(Box<JournalReader>),
    /// Written in part, when the power went: it never was a checkpoint.
    Torn,
    /// Of another generation: never to be read.
    OtherGeneration,
}

/// A whole journal.
pub(crate) struct JournalReader {
    file: Arc<dyn File>,
    pub(crate) head: Head,
    first_page_at: u64,
}

impl JournalReader {
    /// Looks at a journal of the database with this generation and page size.
    pub(crate) fn find(
        file: Arc<dyn File>,
        generation: u64,
        page_size: PageSize,
        path: &str,
    ) -> Result<Found, StoreError> {
        let size = file.size()?;
        let mut head = [0; HEAD_BYTES];
        if file.read_at(0, &mut head)? < HEAD_BYTES || head[..8] != MAGIC {
            return Ok(Found::Torn);
        }
        let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        let short = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        if long(16) != generation {
            return Ok(Found::OtherGeneration);
        }
        let (pages, record_bytes) = (short(44), u64::from(short(48)));
        let page_bytes = 4 + u64::from(page_size.bytes());
        let expected = HEAD_BYTES as u64 + record_bytes + u64::from(pages) * page_bytes + 8;
        let record_max = crate::position::SLOTS.body_bytes_max() as u64;
        if short(40) != page_size.bytes() || record_bytes > record_max || size < expected {
            return Ok(Found::Torn);
        }
        if !whole(&*file, expected - 8)? {
            return Ok(Found::Torn);
        }
        if head[8] != FORMAT {
            return Err(StoreError::Format {
                file: path.to_owned(),
                found: head[8],
                known: FORMAT,
            });
        }
        let mut record = vec![0; usize::try_from(record_bytes).expect("bounded above")];
        file.read_exact_at(HEAD_BYTES as u64, &mut record)?;
        let record = Record::decode(&record, path)?;
        let from = (head[9] == 1).then_some(Position {
            term: long(24),
            index: long(32),
        });
        let first_page_at = HEAD_BYTES as u64 + record_bytes;
        Ok(Found::Whole(Box::new(Self {
            file,
            head: Head {
                from,
                record,
                pages,
            },
            first_page_at,
        })))
    }

    /// The page in place `at`, with its image.
    pub(crate) fn page(&self, at: u32) -> Result<(PageNumber, Vec<u8>), StoreError> {
        let page_size = self.head.record.page_size;
        let mut bytes = vec![0; 4 + page_size.bytes() as usize];
        let offset = self.first_page_at + u64::from(at) * bytes.len() as u64;
        self.file.read_exact_at(offset, &mut bytes)?;
        let image = bytes.split_off(4);
        let number = u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes"));
        let page = PageNumber::new(number).filter(|page| self.head.record.pages.contains(*page));
        let page = page.ok_or_else(|| StoreError::Corrupt {
            file: "main.journal".to_owned(),
            offset,
            what: format!(
                "page {number} of a database of {} pages",
                self.head.record.pages.0
            ),
        })?;
        Ok((page, image))
    }
}

/// Whether the hash behind the first `bytes` bytes is theirs.
fn whole(file: &dyn File, bytes: u64) -> Result<bool, StoreError> {
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let part = usize::try_from(bytes - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        file.read_exact_at(at, &mut buffer[..part])?;
        hash.update(&buffer[..part]);
        at += part as u64;
    }
    let mut found = [0; 8];
    file.read_exact_at(bytes, &mut found)?;
    Ok(u64::from_le_bytes(found) == hash.digest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checksum, PageCount, Side};
    use sqlrep_disk::{Disk, OpenMode, SimulatedDisk};

    /// The bytes of `docs/formats.md`, "`main.journal`".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let disk = SimulatedDisk::new(1);
        let file = disk.open("journal", OpenMode::New).unwrap();
        let size = PageSize::new(512).unwrap();
        let record = Record {
            generation: 2,
            position: Some(Position { term: 3, index: 9 }),
            page_size: size,
            pages: PageCount(6),
            checksum: Checksum(7),
            side: Side::default(),
            table: None,
        };
        let head = Head {
            from: Some(Position { term: 3, index: 4 }),
            record: record.clone(),
            pages: 1,
        };
        let mut writer = JournalWriter::begin(file.clone(), &head).unwrap();
        let page = (PageNumber::new(5).unwrap(), vec![0xab; 512].into());
        writer.pages(&[page]).unwrap();
        writer.complete().unwrap();
        let mut expected =
            b"SRJOURNL\x01\x01\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\
            \0\x02\0\0\x01\0\0\0\x31\0\0\0\0\0\0\0"
                .to_vec();
        expected.extend(record.encode());
        expected.extend(5u32.to_le_bytes());
        expected.extend([0xab; 512]);
        expected.extend(0x9dd5_b185_1b38_6ae8u64.to_le_bytes());
        assert_eq!(disk.read_file("journal").unwrap(), expected);
        let found = JournalReader::find(file, 2, size, "journal").unwrap();
        assert!(matches!(found, Found::Whole(reader) if reader.head == head));
    }
}
