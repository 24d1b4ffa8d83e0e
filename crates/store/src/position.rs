//! The durable position: everything that is replicated and true of the base file, in one record.
//!
//! Body of a record in `main.position` (its slots: see the module `slots`), and the head of the journal:
//!
//! | offset | size | field, little-endian |
//! | ---: | ---: | --- |
//! | 0 | 8 | generation |
//! | 8 | 1 | 1 if an entry was applied, else 0 |
//! | 9 | 8 | its term |
//! | 17 | 8 | its index |
//! | 25 | 4 | page size in bytes |
//! | 29 | 4 | pages |
//! | 33 | 8 | checksum of the database |
//! | 41 | 4 | length of `core`'s side state |
//! | 45 | 4 | length of the mode's side state |
//! | 49 | n | both |

use crate::slots::SlotKind;
use crate::{Checksum, PageCount, PageSize, Position, Side, StoreError};
use bytes::Bytes;

/// `main.position`.
pub(crate) const SLOTS: SlotKind = SlotKind {
    magic: *b"SRPO",
    slot_bytes: 128 << 10,
};

const HEAD_BYTES: usize = 49;

/// Both parts of the side state together.
pub(crate) const SIDE_BYTES_MAX: usize = SLOTS.body_bytes_max() - HEAD_BYTES;

/// What `main.position` says of `main.db`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) generation: u64,
    pub(crate) position: Option<Position>,
    pub(crate) page_size: PageSize,
    pub(crate) pages: PageCount,
    pub(crate) checksum: Checksum,
    pub(crate) side: Side,
}

impl Record {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.side.bytes());
        let position = self.position.unwrap_or_default();
        let length = |part: &Bytes| u32::try_from(part.len()).expect("bounded when it was given");
        out.extend(self.generation.to_le_bytes());
        out.push(u8::from(self.position.is_some()));
        out.extend(position.term.to_le_bytes());
        out.extend(position.index.to_le_bytes());
        out.extend(self.page_size.bytes().to_le_bytes());
        out.extend(self.pages.0.to_le_bytes());
        out.extend(self.checksum.0.to_le_bytes());
        out.extend(length(&self.side.core).to_le_bytes());
        out.extend(length(&self.side.mode).to_le_bytes());
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
            position: (head[8] == 1).then_some(position),
            page_size: PageSize::new(short(25)).ok_or_else(|| corrupt("no page size"))?,
            pages: PageCount(short(29)),
            checksum: Checksum(long(33)),
            side: Side {
                core: Bytes::copy_from_slice(&sides[..core]),
                mode: Bytes::copy_from_slice(&sides[core..]),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn side() -> impl Strategy<Value = Side> {
        let part = || proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
        (part(), part()).prop_map(|(core, mode)| Side { core, mode })
    }

    proptest! {
        /// Rule 5: position, size, checksum and both parts of the side state are one record.
        #[test]
        fn a_record_comes_back(
            generation: u64, applied: bool, term: u64, index: u64, power in 9u32..=16, pages: u32, checksum: u64, side in side(),
        ) {
            let record = Record {
                generation,
                position: applied.then_some(Position { term, index }),
                page_size: PageSize::new(1 << power).unwrap(),
                pages: PageCount(pages),
                checksum: Checksum(checksum),
                side,
            };
            prop_assert_eq!(Record::decode(&record.encode(), "f").unwrap(), record);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            drop(Record::decode(&bytes, "f"));
        }
    }
}
