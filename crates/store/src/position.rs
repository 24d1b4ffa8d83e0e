//! The durable position: everything that is replicated and true of the base file, in one record.
//!
//! Body of a record in `main.position` (its slots: see the module `slots`), and the head of the journal:
//!
//! | offset | size | field, little-endian |
//! | ---: | ---: | --- |
//! | 0 | 8 | generation |
//! | 8 | 1 | 1 if an entry was applied, plus 2 if there is a file `main.keys.*` |
//! | 9 | 8 | its term |
//! | 17 | 8 | its index |
//! | 25 | 4 | page size in bytes |
//! | 29 | 4 | pages |
//! | 33 | 8 | checksum of the database |
//! | 41 | 4 | length of `core`'s side state |
//! | 45 | 4 | length of the mode's side state |
//! | 49 | 24 | only if there is such a file: its index, its length, xxh3 over it, 8 each |
//! | | n | both parts of the side state |

use crate::slots::SlotKind;
use crate::table::TableFile;
use crate::{Checksum, PageCount, PageSize, Position, Side, StoreError, Table};
use bytes::Bytes;

/// `main.position`.
pub(crate) const SLOTS: SlotKind = SlotKind {
    magic: *b"SRPO",
    slot_bytes: 128 << 10,
};

const HEAD_BYTES: usize = 49;
const TABLE_BYTES: usize = 24;

/// Flags.
const APPLIED: u8 = 1;
const TABLE: u8 = 2;

/// Both parts of the side state together.
pub(crate) const SIDE_BYTES_MAX: usize = SLOTS.body_bytes_max() - HEAD_BYTES - TABLE_BYTES;

/// What `main.position` says of `main.db`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) generation: u64,
    pub(crate) position: Option<Position>,
    pub(crate) page_size: PageSize,
    pub(crate) pages: PageCount,
    pub(crate) checksum: Checksum,
    /// Its table isn't part of the record.
    pub(crate) side: Side,
    /// Where that is.
    pub(crate) table: Option<TableFile>,
}

impl Record {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + TABLE_BYTES + self.side.bytes());
        let position = self.position.unwrap_or_default();
        let length = |part: &Bytes| u32::try_from(part.len()).expect("bounded when it was given");
        out.extend(self.generation.to_le_bytes());
        let applied = if self.position.is_some() { APPLIED } else { 0 };
        out.push(applied | if self.table.is_some() { TABLE } else { 0 });
        out.extend(position.term.to_le_bytes());
        out.extend(position.index.to_le_bytes());
        out.extend(self.page_size.bytes().to_le_bytes());
        out.extend(self.pages.0.to_le_bytes());
        out.extend(self.checksum.0.to_le_bytes());
        out.extend(length(&self.side.core).to_le_bytes());
        out.extend(length(&self.side.mode).to_le_bytes());
        if let Some(file) = self.table {
            out.extend(file.index.to_le_bytes());
            out.extend(file.bytes.to_le_bytes());
            out.extend(file.hash.to_le_bytes());
        }
        out.extend(&self.side.core);
        out.extend(&self.side.mode);
        out
    }

    /// Reads a record that came from `file`.
    pub(crate) fn decode(bytes: &[u8], file: &str) -> Result<Self, StoreError> {
        let corrupt = |what: &str| StoreError::Corrupt {
            file: file.to_owned(),
            offset: 0,
            what: what.to_owned(),
        };
        let (head, sides) = bytes
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or_else(|| corrupt("a record cut short"))?;
        let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        let short = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        if head[8] & !(APPLIED | TABLE) != 0 {
            return Err(corrupt("flags of another release"));
        }
        let (table, sides) = match head[8] & TABLE {
            0 => (None, sides),
            _ => table_file(sides).ok_or_else(|| corrupt("a record cut short"))?,
        };
        let (core, mode) = (short(41) as usize, short(45) as usize);
        if core.checked_add(mode) != Some(sides.len()) {
            return Err(corrupt("side state of another length"));
        }
        let position = Position {
            term: long(9),
            index: long(17),
        };
        Ok(Self {
            generation: long(0),
            position: (head[8] & APPLIED != 0).then_some(position),
            page_size: PageSize::new(short(25)).ok_or_else(|| corrupt("no page size"))?,
            pages: PageCount(short(29)),
            checksum: Checksum(long(33)),
            side: Side {
                core: Bytes::copy_from_slice(&sides[..core]),
                mode: Bytes::copy_from_slice(&sides[core..]),
                table: Table::default(),
            },
            table,
        })
    }
}

/// What the record says of a table's file, and what stands behind it.
fn table_file(bytes: &[u8]) -> Option<(Option<TableFile>, &[u8])> {
    let (fields, rest) = bytes.split_first_chunk::<TABLE_BYTES>()?;
    let (words, _) = fields.as_chunks::<8>();
    let file = TableFile {
        index: u64::from_le_bytes(words[0]),
        bytes: u64::from_le_bytes(words[1]),
        hash: u64::from_le_bytes(words[2]),
    };
    Some((Some(file), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn side() -> impl Strategy<Value = Side> {
        let part = || proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
        (part(), part()).prop_map(|(core, mode)| Side {
            core,
            mode,
            table: Table::default(),
        })
    }

    /// The bytes of `docs/formats.md`, "`main.position`".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let mut record = Record {
            generation: 2,
            position: Some(Position { term: 3, index: 4 }),
            page_size: PageSize::DEFAULT,
            pages: PageCount(5),
            checksum: Checksum(0x0123_4567_89ab_cdef),
            side: Side {
                core: Bytes::from_static(b"core"),
                mode: Bytes::from_static(b"mode!"),
                table: Table::default(),
            },
            table: None,
        };
        let expected =
            b"\x02\0\0\0\0\0\0\0\x01\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\x10\0\0\x05\0\0\0\
            \xef\xcd\xab\x89\x67\x45\x23\x01\x04\0\0\0\x05\0\0\0coremode!";
        assert_eq!(record.encode(), expected);
        let [index, bytes, hash] = [4, 0x20, 0x0102_0304_0506_0708];
        record.table = Some(TableFile { index, bytes, hash });
        let mut with_table = expected.to_vec();
        with_table[8] = 3;
        let file = b"\x04\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01";
        with_table.splice(49..49, *file);
        assert_eq!(record.encode(), with_table);
        assert_eq!((SLOTS.magic, SLOTS.slot_bytes), (*b"SRPO", 131_072));
    }

    proptest! {
        /// Rule 5: position, size, checksum and both parts of the side state are one record.
        #[test]
        fn a_record_comes_back(
            generation: u64, applied: bool, term: u64, index: u64, power in 9u32..=16, pages: u32, checksum: u64, side in side(),
            file in proptest::option::of(any::<(u64, u64, u64)>()),
        ) {
            let record = Record {
                generation,
                position: applied.then_some(Position { term, index }),
                page_size: PageSize::new(1 << power).unwrap(),
                pages: PageCount(pages),
                checksum: Checksum(checksum),
                side,
                table: file.map(|(index, bytes, hash)| TableFile { index, bytes, hash }),
            };
            prop_assert_eq!(Record::decode(&record.encode(), "f").unwrap(), record);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            drop(Record::decode(&bytes, "f"));
        }
    }
}
