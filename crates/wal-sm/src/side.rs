//! Page mode's own replicated state beside the pages.
//!
//! | offset | size | field, little-endian |
//! | ---: | ---: | --- |
//! | 0 | 1 | format version, 2; 1 is statement mode's |
//! | 1 | 8 | last stamp, milliseconds since the Unix epoch |
//! | 9 | 8 | rowid of the last INSERT of the database's writer |
//! | 17 | 8 | rows of the last INSERT, UPDATE or DELETE |
//! | 25 | 4 × 8 | the tail: term, node, epoch, sequence; missing before the first page set |
//!
//! Before the first entry there is none: the bytes are empty.

use crate::{PageModeError, Tail};
use bytes::{BufMut, Bytes, BytesMut};
use sqlrep_core::{NodeId, OutOfRange, Term};
use sqlrep_env::UnixMillis;
use sqlrep_sql::Counters;

const FORMAT: u8 = 2;

/// What the next entry starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) last_stamp: UnixMillis,
    pub(crate) counters: Counters,
    /// The last accepted page set (safety rule 22).
    pub(crate) tail: Option<Tail>,
}

impl Side {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(57);
        out.put_u8(FORMAT);
        out.put_u64_le(self.last_stamp.0);
        out.put_i64_le(self.counters.last_insert_id);
        out.put_u64_le(self.counters.rows_affected);
        if let Some(tail) = &self.tail {
            out.put_u64_le(tail.term.0);
            out.put_u64_le(tail.node.into());
            out.put_u64_le(tail.epoch);
            out.put_u64_le(tail.sequence);
        }
        out.freeze()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, PageModeError> {
        let rest = match bytes {
            [] => return Ok(Self::default()),
            [FORMAT, rest @ ..] => rest,
            [format, ..] => {
                let what = format!("format {format}; this release reads {FORMAT}");
                return Err(PageModeError::Side { what });
            }
        };
        let (words, odd) = rest.as_chunks::<8>();
        let word = |at: usize| u64::from_le_bytes(words[at]);
        let tail = match (words.len(), odd) {
            (3, []) => None,
            (7, []) => Some(tail([word(3), word(4), word(5), word(6)])?),
            _ => {
                let what = format!("{} bytes", bytes.len());
                return Err(PageModeError::Side { what });
            }
        };
        Ok(Self {
            last_stamp: UnixMillis(word(0)),
            counters: Counters {
                last_insert_id: word(1).cast_signed(),
                rows_affected: word(2),
            },
            tail,
        })
    }
}

fn tail([term, node, epoch, sequence]: [u64; 4]) -> Result<Tail, PageModeError> {
    let range = |error: OutOfRange| PageModeError::Side {
        what: error.to_string(),
    };
    Ok(Tail {
        term: Term::try_from(term).map_err(range)?,
        node: NodeId::try_from(node).map_err(range)?,
        epoch,
        sequence,
    })
}

/// The last stamp in a version's side state of this mode.
///
/// # Errors
///
/// State of another release.
pub fn last_stamp(side: &[u8]) -> Result<UnixMillis, PageModeError> {
    Ok(Side::decode(side)?.last_stamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes of `docs/formats.md`, "Page mode's side state".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let side = Side {
            last_stamp: UnixMillis(1),
            counters: Counters {
                last_insert_id: -2,
                rows_affected: 3,
            },
            tail: None,
        };
        let head = b"\x02\x01\0\0\0\0\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff\x03\0\0\0\0\0\0\0";
        assert_eq!(side.encode()[..], *head);
        let tail = tail([4, 5, 6, 7]).ok();
        let tailed = b"\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0";
        let expected = [&head[..], tailed].concat();
        assert_eq!(Side { tail, ..side }.encode()[..], expected);
    }

    proptest! {
        #[test]
        fn it_comes_back(last_stamp: u64, last_insert_id: i64, rows_affected: u64, numbers: Option<[u32; 4]>) {
            let tail = numbers.map(|numbers| tail(numbers.map(u64::from)).unwrap());
            let counters = Counters { last_insert_id, rows_affected };
            let side = Side { last_stamp: UnixMillis(last_stamp), counters, tail };
            prop_assert_eq!(Side::decode(&side.encode()).unwrap(), side);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            let bytes = [&[FORMAT][..], &bytes].concat();
            prop_assert_eq!(Side::decode(&bytes).is_ok_and(|side| side.encode() == bytes), [25, 57].contains(&bytes.len()) && Side::decode(&bytes).is_ok());
        }
    }
}
