//! Frames: what a segment holds behind its header, one behind the other, zeros behind the last.
//!
//! | offset | size | field, little-endian |
//! | ---: | ---: | --- |
//! | 0 | 4 | length n of the body |
//! | 4 | 4 | crc32 of node id, directory id, segment number and offset of the frame, then the frame without this field |
//! | 8 | 4 | crc32 of the frame before; 0 for the first of a log |
//! | 12 | 1 | kind |
//! | 13 | 1 | entries: 0 blank, 1 command, 2 membership; else 0 |
//! | 14 | 1 | 1 if this is the last frame of its batch |
//! | 15 | 1 | zero |
//! | 16 | 8 | batch, counted from 1 |
//! | 24 | 4 | database, 0 |
//! | 28 | n | body |
//!
//! | kind | body |
//! | ---: | --- |
//! | 1 entry | term 8, index 8, payload |
//! | 2 truncate: nothing behind this entry counts | entry id or none, 17 |
//! | 3 purge: nothing up to this entry counts | entry id or none, 17 |
//! | 4 mark: committed so far | entry id or none, 17 |
//! | 5 begin: first frame of a segment; state before it | purged, last, committed: 17 each |
//! | 6 seal: last frame of a segment, the next one exists | empty |
//! | 7 close: ends a batch whose end was torn | empty |
//!
//! An entry id or none is 1 byte (1 or 0), term 8, index 8. Position and identity are part of the checksum, so
//! bytes of a client that look like a frame, or a frame of another file, are none here. A frame is valid by itself;
//! its place in the chain is checked by whoever reads one frame after the other.

use crate::LogIdentity;
use bytes::Bytes;
use crc32fast::Hasher;
use sqlrep_core::{Entry, EntryId, LogIndex, Payload, Term};

/// Bytes in front of a body.
pub(crate) const HEAD_BYTES: usize = 28;
const ID_BYTES: usize = 16;
const OPTION_BYTES: usize = ID_BYTES + 1;
/// Bytes of a frame that names one position.
pub(crate) const MARK_BYTES: u64 = (HEAD_BYTES + OPTION_BYTES) as u64;
/// Bytes of the first frame of a segment.
pub(crate) const BEGIN_BYTES: u64 = (HEAD_BYTES + 3 * OPTION_BYTES) as u64;
/// Bytes of the last frame of a segment.
pub(crate) const SEAL_BYTES: u64 = HEAD_BYTES as u64;
const LAST_OF_BATCH: u8 = 1;

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Entry(Entry),
    Truncate(Option<EntryId>),
    Purge(Option<EntryId>),
    Mark(Option<EntryId>),
    Begin {
        purged: Option<EntryId>,
        last: Option<EntryId>,
        committed: Option<EntryId>,
    },
    Seal,
    Close,
}

/// Bytes of an entry's frame.
pub(crate) fn entry_bytes(entry: &Entry) -> u64 {
    (HEAD_BYTES + ID_BYTES + entry.payload.size_bytes()) as u64
}

/// The part of the checksum that is the same for all frames of a segment.
#[derive(Clone)]
pub(crate) struct Seed(Hasher);

impl Seed {
    pub(crate) fn new(identity: LogIdentity, segment: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&identity.node.get().to_le_bytes());
        hasher.update(&identity.directory.0.to_le_bytes());
        hasher.update(&segment.to_le_bytes());
        Self(hasher)
    }

    fn crc(&self, offset: u64, frame: &[u8]) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(&offset.to_le_bytes());
        hasher.update(&frame[..4]);
        hasher.update(&frame[8..]);
        hasher.finalize()
    }
}

/// A frame that is valid by itself.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) crc: u32,
    pub(crate) previous: u32,
    pub(crate) batch: u64,
    pub(crate) last_of_batch: bool,
    kind: u8,
    payload: u8,
    body: &'a [u8],
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

impl<'a> Frame<'a> {
    /// The frame that `bytes` begin with; they stand at `offset` of the seed's segment.
    pub(crate) fn decode(seed: &Seed, offset: u64, bytes: &'a [u8]) -> Option<Self> {
        let head = bytes.get(..HEAD_BYTES)?;
        if !(1..=7).contains(&head[12]) || head[14] > LAST_OF_BATCH || head[15] != 0 {
            return None;
        }
        let length = usize::try_from(word(head, 0)).ok()?;
        let frame = bytes.get(..HEAD_BYTES.checked_add(length)?)?;
        (seed.crc(offset, frame) == word(head, 4)).then(|| Self {
            crc: word(head, 4),
            previous: word(head, 8),
            batch: long(head, 16),
            last_of_batch: head[14] == LAST_OF_BATCH,
            kind: head[12],
            payload: head[13],
            body: &frame[HEAD_BYTES..],
        })
    }

    /// Bytes from head to end.
    pub(crate) fn len(&self) -> usize {
        HEAD_BYTES + self.body.len()
    }

    /// What it says; none if the body isn't that of its kind.
    pub(crate) fn record(&self) -> Option<Record> {
        let exact = |length: usize| (self.body.len() == length).then_some(());
        let option = |at: usize| decode_option(&self.body[at * OPTION_BYTES..]);
        match self.kind {
            1 => self.entry().map(Record::Entry),
            5 => {
                exact(3 * OPTION_BYTES)?;
                let (purged, last, committed) = (option(0)?, option(1)?, option(2)?);
                Some(Record::Begin {
                    purged,
                    last,
                    committed,
                })
            }
            6 => exact(0).map(|()| Record::Seal),
            7 => exact(0).map(|()| Record::Close),
            kind => {
                exact(OPTION_BYTES)?;
                let id = option(0)?;
                Some(match kind {
                    2 => Record::Truncate(id),
                    3 => Record::Purge(id),
                    _ => Record::Mark(id),
                })
            }
        }
    }

    fn entry(&self) -> Option<Entry> {
        let (id, content) = self.body.split_at_checked(ID_BYTES)?;
        let id = decode_id(id)?;
        let payload = match self.payload {
            0 if content.is_empty() => Payload::Blank,
            1 => Payload::Command(Bytes::copy_from_slice(content)),
            2 => Payload::Membership(Bytes::copy_from_slice(content)),
            _ => return None,
        };
        Some(Entry { id, payload })
    }
}

fn decode_id(bytes: &[u8]) -> Option<EntryId> {
    Some(EntryId {
        term: Term::try_from(long(bytes, 0)).ok()?,
        index: LogIndex::try_from(long(bytes, 8)).ok()?,
    })
}

fn decode_option(bytes: &[u8]) -> Option<Option<EntryId>> {
    match bytes[0] {
        0 => Some(None),
        1 => decode_id(&bytes[1..]).map(Some),
        _ => None,
    }
}

fn put_id(out: &mut Vec<u8>, id: EntryId) {
    out.extend(id.term.0.to_le_bytes());
    out.extend(id.index.0.to_le_bytes());
}

fn put_option(out: &mut Vec<u8>, id: Option<EntryId>) {
    out.push(u8::from(id.is_some()));
    put_id(out, id.unwrap_or_default());
}

/// Frames of one batch, as they are written in one call.
pub(crate) struct Batch {
    seed: Seed,
    number: u64,
    /// Where the first frame will stand.
    offset: u64,
    /// Checksum of the frame before the one that is open.
    previous: u32,
    bytes: Vec<u8>,
    /// Where in `bytes` the newest frame begins; its checksum is still to come.
    open: Option<usize>,
}

impl Batch {
    pub(crate) fn new(seed: Seed, number: u64, offset: u64, previous: u32) -> Self {
        Self {
            seed,
            number,
            offset,
            previous,
            bytes: Vec::new(),
            open: None,
        }
    }

    /// Where the next frame will stand.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    pub(crate) fn push(&mut self, record: &Record) {
        match record {
            Record::Entry(entry) => self.push_entry(entry),
            Record::Truncate(id) => self.frame(2, 0, |out| put_option(out, *id)),
            Record::Purge(id) => self.frame(3, 0, |out| put_option(out, *id)),
            Record::Mark(id) => self.frame(4, 0, |out| put_option(out, *id)),
            Record::Begin {
                purged,
                last,
                committed,
            } => self.frame(5, 0, |out| {
                [purged, last, committed]
                    .into_iter()
                    .for_each(|id| put_option(out, *id));
            }),
            Record::Seal => self.frame(6, 0, |_| ()),
            Record::Close => self.frame(7, 0, |_| ()),
        }
    }

    pub(crate) fn push_entry(&mut self, entry: &Entry) {
        let (kind, content): (u8, &[u8]) = match &entry.payload {
            Payload::Blank => (0, &[]),
            Payload::Command(bytes) => (1, bytes),
            Payload::Membership(bytes) => (2, bytes),
        };
        self.frame(1, kind, |out| {
            put_id(out, entry.id);
            out.extend_from_slice(content);
        });
    }

    fn frame(&mut self, kind: u8, payload: u8, body: impl FnOnce(&mut Vec<u8>)) {
        self.end_frame(0);
        let start = self.bytes.len();
        self.bytes.extend([0; 8]);
        self.bytes.extend(self.previous.to_le_bytes());
        self.bytes.extend([kind, payload, 0, 0]);
        self.bytes.extend(self.number.to_le_bytes());
        self.bytes.extend([0; 4]);
        body(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - start - HEAD_BYTES)
            .expect("an entry is smaller than a segment, which has at most 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.open = Some(start);
    }

    fn end_frame(&mut self, flags: u8) {
        let Some(start) = self.open.take() else {
            return;
        };
        self.bytes[start + 14] = flags;
        let crc = self
            .seed
            .crc(self.offset + start as u64, &self.bytes[start..]);
        self.bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        self.previous = crc;
    }

    /// The bytes, and the checksum that the next batch continues.
    pub(crate) fn finish(mut self) -> (Vec<u8>, u32) {
        self.end_frame(LAST_OF_BATCH);
        (self.bytes, self.previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sqlrep_core::{DirectoryId, NodeId};

    fn seed() -> Seed {
        let identity = LogIdentity {
            node: NodeId::new(3).unwrap(),
            directory: DirectoryId(9),
        };
        Seed::new(identity, 1)
    }

    fn id() -> impl Strategy<Value = EntryId> {
        (0..1u64 << 40, 0..1u64 << 40).prop_map(|(term, index)| EntryId {
            term: Term(term),
            index: LogIndex(index),
        })
    }

    fn record() -> impl Strategy<Value = Record> {
        let payload = prop_oneof![
            Just(Payload::Blank),
            proptest::collection::vec(any::<u8>(), 0..99)
                .prop_map(|bytes| Payload::Command(bytes.into())),
            proptest::collection::vec(any::<u8>(), 0..99)
                .prop_map(|bytes| Payload::Membership(bytes.into())),
        ];
        let option = || proptest::option::of(id());
        prop_oneof![
            (id(), payload).prop_map(|(id, payload)| Record::Entry(Entry { id, payload })),
            option().prop_map(Record::Truncate),
            option().prop_map(Record::Purge),
            option().prop_map(Record::Mark),
            (option(), option(), option()).prop_map(|(purged, last, committed)| Record::Begin {
                purged,
                last,
                committed
            }),
            Just(Record::Seal),
            Just(Record::Close),
        ]
    }

    /// The bytes of `docs/formats.md`, "Frames of the log".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let id = EntryId {
            term: Term(2),
            index: LogIndex(5),
        };
        let payload = Payload::Command(Bytes::from_static(b"abc"));
        let mut batch = Batch::new(seed(), 7, 512, 0x0403_0201);
        batch.push_entry(&Entry { id, payload });
        batch.push(&Record::Mark(Some(id)));
        let (bytes, chain) = batch.finish();
        let entry =
            b"\x13\0\0\0\xcc\x44\x5f\x38\x01\x02\x03\x04\x01\x01\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\
            \x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0abc";
        let mark =
            b"\x11\0\0\0\xc5\x5d\xc7\x99\xcc\x44\x5f\x38\x04\0\x01\0\x07\0\0\0\0\0\0\0\0\0\0\0\
            \x01\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0";
        assert_eq!(bytes, [&entry[..], mark].concat());
        assert_eq!(chain.to_le_bytes(), *b"\xc5\x5d\xc7\x99");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_batch_is_read_back_and_a_flip_is_found(
            records in proptest::collection::vec(record(), 1..6), at: usize, bit in 0u8..8,
        ) {
            let mut batch = Batch::new(seed(), 7, 512, 5);
            records.iter().for_each(|record| batch.push(record));
            let (bytes, chain) = batch.finish();
            let (mut offset, mut previous) = (0, 5);
            for (number, record) in records.iter().enumerate() {
                let frame = Frame::decode(&seed(), 512 + offset as u64, &bytes[offset..]).unwrap();
                let found = frame.record();
                prop_assert_eq!(found.as_ref(), Some(record));
                prop_assert_eq!((frame.previous, frame.batch), (previous, 7));
                prop_assert_eq!(frame.last_of_batch, number + 1 == records.len());
                previous = frame.crc;
                let length = frame.len();
                let mut flipped = bytes[offset..offset + length].to_vec();
                flipped[at % length] ^= 1 << bit;
                prop_assert!(Frame::decode(&seed(), 512 + offset as u64, &flipped).is_none());
                prop_assert!(Frame::decode(&seed(), 513 + offset as u64, &bytes[offset..]).is_none(), "another place");
                offset += length;
            }
            prop_assert_eq!((offset, previous), (bytes.len(), chain));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), body in proptest::collection::vec(any::<u8>(), 0..60), kind in 1u8..8, payload in 0u8..4) {
            prop_assert!(Frame::decode(&seed(), 0, &bytes).is_none());
            let frame = Frame { crc: 0, previous: 0, batch: 1, last_of_batch: false, kind, payload, body: &body };
            let _record = frame.record();
        }
    }
}
