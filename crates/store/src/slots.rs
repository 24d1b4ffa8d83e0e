//! Records that must survive a torn write: two copies in one file.
//!
//! The second slot stands at `slot_bytes`. A record is written to both, one after the other, each synced before the
//! next begins, so one whole copy is on disk at every instant. The newest valid one counts (safety rule 6).
//!
//! | offset in slot | size | field, little-endian |
//! | ---: | ---: | --- |
//! | 0 | 4 | magic of the file |
//! | 4 | 1 | format version |
//! | 5 | 3 | zero |
//! | 8 | 8 | sequence: counts the records written |
//! | 16 | 8 | length of the body |
//! | 24 | n | body |
//! | 24+n | 8 | xxh3 over everything before |

use crate::StoreError;
use sqlrep_disk::File;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const HEAD_BYTES: usize = 24;
const HASH_BYTES: usize = 8;
const FORMAT: u8 = 1;

/// What tells one file of slots from another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotKind {
    pub(crate) magic: [u8; 4],
    /// Bytes between the two slots; a multiple of a sector, so that no sector holds both.
    pub(crate) slot_bytes: usize,
}

impl SlotKind {
    /// The longest body.
    pub(crate) const fn body_bytes_max(self) -> usize {
        self.slot_bytes - HEAD_BYTES - HASH_BYTES
    }
}

/// A file of two slots.
pub(crate) struct Slots {
    kind: SlotKind,
    file: Arc<dyn File>,
    path: String,
    sequence: u64,
}

/// What one slot holds.
#[derive(Debug, PartialEq, Eq)]
enum Slot {
    Empty,
    Valid { sequence: u64, body: Vec<u8> },
    Damaged(String),
    Foreign(u8),
}

impl Slots {
    /// A new file, nothing recorded yet.
    pub(crate) fn create(
        kind: SlotKind,
        file: Arc<dyn File>,
        path: String,
    ) -> Result<Self, StoreError> {
        file.preallocate(2 * kind.slot_bytes as u64)?;
        Ok(Self {
            kind,
            file,
            path,
            sequence: 0,
        })
    }

    /// Reads the newest valid record; none if nothing was ever recorded.
    ///
    /// # Errors
    ///
    /// No slot is valid, and a record was once complete.
    pub(crate) fn open(
        kind: SlotKind,
        file: Arc<dyn File>,
        path: String,
    ) -> Result<(Self, Option<Vec<u8>>), StoreError> {
        let mut newest: Option<(u64, Vec<u8>)> = None;
        let (mut damage, mut second_empty) = (None, false);
        for number in 0..2 {
            let offset = number * kind.slot_bytes as u64;
            match read(kind, &*file, offset)? {
                Slot::Empty => second_empty = number == 1,
                Slot::Valid { sequence, body } => {
                    if newest.as_ref().is_none_or(|(best, _)| sequence > *best) {
                        newest = Some((sequence, body));
                    }
                }
                Slot::Damaged(what) => {
                    damage = Some(StoreError::Corrupt {
                        file: path.clone(),
                        offset,
                        what,
                    });
                }
                Slot::Foreign(found) => {
                    return Err(StoreError::Format {
                        file: path,
                        found,
                        known: FORMAT,
                    });
                }
            }
        }
        match (newest, damage) {
            (Some((sequence, body)), _) => Ok((
                Self {
                    kind,
                    file,
                    path,
                    sequence,
                },
                Some(body),
            )),
            (None, Some(damage)) if !second_empty => Err(damage),
            // The second slot is written once the first is synced: the very first record was torn.
            (None, _) => Ok((
                Self {
                    kind,
                    file,
                    path,
                    sequence: 0,
                },
                None,
            )),
        }
    }

    /// Whether both slots hold the same whole record, or neither ever held one.
    pub(crate) fn is_doubled(kind: SlotKind, file: &dyn File) -> Result<bool, StoreError> {
        let (first, second) = (
            read(kind, file, 0)?,
            read(kind, file, kind.slot_bytes as u64)?,
        );
        Ok(first == second && matches!(first, Slot::Valid { .. } | Slot::Empty))
    }

    /// Records `body`, durably; answers the bytes written.
    pub(crate) fn record(&mut self, body: &[u8]) -> Result<u64, StoreError> {
        assert!(
            body.len() <= self.kind.body_bytes_max(),
            "{}: a record too long",
            self.path
        );
        self.sequence += 1;
        let slot = encode(self.kind, self.sequence, body);
        for number in 0..2 {
            self.file
                .write_at(number * self.kind.slot_bytes as u64, &slot)?;
            self.file.sync()?;
        }
        Ok(2 * slot.len() as u64)
    }
}

fn encode(kind: SlotKind, sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + body.len() + HASH_BYTES);
    out.extend(kind.magic);
    out.extend([FORMAT, 0, 0, 0]);
    out.extend(sequence.to_le_bytes());
    out.extend((body.len() as u64).to_le_bytes());
    out.extend(body);
    let hash = xxh3_64(&out);
    out.extend(hash.to_le_bytes());
    out
}

fn read(kind: SlotKind, file: &dyn File, offset: u64) -> Result<Slot, StoreError> {
    let mut bytes = vec![0; kind.slot_bytes];
    let found = file.read_at(offset, &mut bytes)?;
    bytes.truncate(found);
    Ok(decode(kind, &bytes))
}

fn decode(kind: SlotKind, bytes: &[u8]) -> Slot {
    if bytes.iter().all(|byte| *byte == 0) {
        return Slot::Empty;
    }
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Slot::Damaged("the record is cut short".to_owned());
    };
    if head[..4] != kind.magic {
        return Slot::Damaged("the record doesn't begin as one".to_owned());
    }
    let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
    let (sequence, length) = (word(8), word(16));
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > kind.body_bytes_max() || rest.len() < length + HASH_BYTES {
        return Slot::Damaged(format!("a record of {length} bytes"));
    }
    let hash = xxh3_64(&bytes[..HEAD_BYTES + length]);
    if rest[length..length + HASH_BYTES] != hash.to_le_bytes() {
        return Slot::Damaged("the record's hash differs".to_owned());
    }
    // Only a whole record may claim another format: a flipped bit isn't a newer release.
    if head[4] != FORMAT {
        return Slot::Foreign(head[4]);
    }
    Slot::Valid {
        sequence,
        body: rest[..length].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sqlrep_disk::{Disk, Loss, OpenMode, SimulatedDisk};

    const KIND: SlotKind = SlotKind {
        magic: *b"test",
        slot_bytes: 1024,
    };

    fn open(disk: &SimulatedDisk) -> Result<(Slots, Option<Vec<u8>>), StoreError> {
        let file = disk.open("slots", OpenMode::Create).unwrap();
        disk.sync_dir("").unwrap();
        Slots::open(KIND, file, "slots".to_owned())
    }

    /// Rule 6: a record is in both slots, so rot in one of them loses nothing, and rot in both is named.
    #[test]
    fn one_rotten_slot_is_survived_and_two_are_named() {
        let disk = SimulatedDisk::new(1);
        let (mut slots, none) = open(&disk).unwrap();
        assert_eq!(none, None);
        slots.record(b"first").unwrap();
        slots.record(b"second").unwrap();
        for offset in [30, 1024 + 30] {
            disk.flip("slots", offset, 0xff);
            assert_eq!(open(&disk).unwrap().1.as_deref(), Some(&b"second"[..]));
            disk.flip("slots", offset, 0xff);
        }
        disk.flip("slots", 30, 0xff);
        disk.flip("slots", 1024 + 30, 0xff);
        let error = open(&disk).map(|_| ()).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    }

    /// Rule 6: at every instant of recording, power loss leaves the old record or the new one.
    #[test]
    fn a_crash_at_every_call_leaves_a_whole_record() {
        let mut states = 0;
        for nth in 1..64 {
            let disk = SimulatedDisk::new(nth);
            let (mut slots, _) = open(&disk).unwrap();
            slots.record(b"old").unwrap();
            disk.crash_at(nth);
            let done = slots.record(b"new").is_ok();
            for seed in 0..4 {
                let after = disk.crash(Loss::Random { seed });
                let found = open(&after).unwrap().1.expect("one was recorded");
                let whole = found == b"new" || (found == b"old" && !done);
                assert!(whole, "{found:?}");
                states += 1;
            }
            if done {
                assert!(states > 8);
                return;
            }
        }
        panic!("recording never came to an end");
    }

    /// The bytes of `docs/formats.md`, "Two slots": releases read each other's files.
    #[test]
    fn the_bytes_stay_what_they_are() {
        let disk = SimulatedDisk::new(1);
        let (mut slots, _) = open(&disk).unwrap();
        slots.record(b"old").unwrap();
        slots.record(b"body").unwrap();
        let mut expected = b"test\x01\0\0\0\x02\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0body".to_vec();
        expected.extend(0xdc09_51cd_4443_bff5u64.to_le_bytes());
        let file = disk.read_file("slots").unwrap();
        assert_eq!(file[..36], expected);
        assert_eq!(file[1024..1024 + 36], expected);
        assert_eq!(file.len(), 1024 + 36);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            decode(KIND, &bytes);
        }

        #[test]
        fn a_record_comes_back_and_a_flip_is_found(
            body in proptest::collection::vec(any::<u8>(), 0..200), sequence: u64, at: usize, bit in 0u8..8,
        ) {
            let mut bytes = encode(KIND, sequence, &body);
            prop_assert_eq!(decode(KIND, &bytes), Slot::Valid { sequence, body: body.clone() });
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let valid = matches!(decode(KIND, &bytes), Slot::Valid { .. });
            prop_assert!(!valid, "a flip at {} went unseen", at);
        }
    }
}
