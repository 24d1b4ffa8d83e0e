//! Statement mode's own replicated state beside the pages.
//!
//! | offset | size | field, little-endian |
//! | ---: | ---: | --- |
//! | 0 | 1 | format version, 1 |
//! | 1 | 8 | last stamp, milliseconds since the Unix epoch |
//! | 9 | 8 | rowid of the last INSERT of the database's writer |
//! | 17 | 8 | rows of the last INSERT, UPDATE or DELETE |
//!
//! Before the first entry there is none: the bytes are empty.

use crate::StatementError;
use bytes::{BufMut, Bytes, BytesMut};
use sqlrep_env::UnixMillis;

const FORMAT: u8 = 1;

/// What the next entry starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) last_stamp: UnixMillis,
    pub(crate) last_insert_id: i64,
    pub(crate) rows_affected: u64,
}

impl Side {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(25);
        out.put_u8(FORMAT);
        out.put_u64_le(self.last_stamp.0);
        out.put_i64_le(self.last_insert_id);
        out.put_u64_le(self.rows_affected);
        out.freeze()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StatementError> {
        let damaged = |what: String| StatementError::Side { what };
        match bytes {
            [] => Ok(Self::default()),
            [FORMAT, rest @ ..] => {
                let fields: &[u8; 24] = rest
                    .try_into()
                    .map_err(|_| damaged(format!("{} bytes", bytes.len())))?;
                let (words, _) = fields.as_chunks::<8>();
                Ok(Self {
                    last_stamp: UnixMillis(u64::from_le_bytes(words[0])),
                    last_insert_id: i64::from_le_bytes(words[1]),
                    rows_affected: u64::from_le_bytes(words[2]),
                })
            }
            [format, ..] => Err(damaged(format!(
                "format {format}; this release reads {FORMAT}"
            ))),
        }
    }
}

/// The last stamp in a version's side state of this mode.
///
/// # Errors
///
/// State of another release.
pub fn last_stamp(side: &[u8]) -> Result<UnixMillis, StatementError> {
    Ok(Side::decode(side)?.last_stamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes of `docs/formats.md`, "Statement mode's side state".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let side = Side {
            last_stamp: UnixMillis(1),
            last_insert_id: -2,
            rows_affected: 3,
        };
        let expected = b"\x01\x01\0\0\0\0\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff\x03\0\0\0\0\0\0\0";
        assert_eq!(side.encode()[..], *expected);
    }

    proptest! {
        #[test]
        fn it_comes_back(stamp: u64, last_insert_id: i64, rows_affected: u64) {
            let side = Side { last_stamp: UnixMillis(stamp), last_insert_id, rows_affected };
            prop_assert_eq!(Side::decode(&side.encode()).unwrap(), side);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(Side::decode(&bytes).is_ok(), bytes.is_empty() || (bytes.len() == 25 && bytes[0] == 1));
        }
    }
}
