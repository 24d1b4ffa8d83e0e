//! The body of a command: one part of a page set, with the replicated state beside the pages behind the set.
//!
//! | size | field |
//! | ---: | --- |
//! | 1 | format version, 2; 1 is statement mode's |
//! | number | the stamp of the set's last request, milliseconds since the Unix epoch |
//! | number | rowid of the last INSERT, zigzag |
//! | number | rows of the last INSERT, UPDATE or DELETE |
//! | rest | the part (module `page_set`) |

use crate::PageModeError;
use crate::error::malformed;
use crate::page_set::bytes::{Reader, put_number};
use bytes::Bytes;
use sqlrep_env::UnixMillis;
use sqlrep_sql::Counters;

const FORMAT: u8 = 2;

/// A body, opened; the part shares its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) stamp: UnixMillis,
    pub(crate) counters: Counters,
    pub(crate) part: Bytes,
}

impl Body {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(32 + self.part.len());
        out.push(FORMAT);
        put_number(&mut out, self.stamp.0);
        put_number(&mut out, zigzag(self.counters.last_insert_id));
        put_number(&mut out, self.counters.rows_affected);
        out.extend_from_slice(&self.part);
        out.into()
    }

    pub(crate) fn decode(body: &Bytes) -> Result<Self, PageModeError> {
        let mut reader = Reader::new(body);
        let format = reader.byte()?;
        if format != FORMAT {
            return Err(malformed(format!(
                "a body of format {format}; this release reads {FORMAT}"
            )));
        }
        Ok(Self {
            stamp: UnixMillis(reader.number()?),
            counters: Counters {
                last_insert_id: unzigzag(reader.number()?),
                rows_affected: reader.number()?,
            },
            part: body.slice_ref(reader.rest()),
        })
    }
}

/// Small numbers of either sign to small numbers.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes of `docs/formats.md`, "Page mode's command".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let body = Body {
            stamp: UnixMillis(300),
            counters: Counters {
                last_insert_id: -1,
                rows_affected: 2,
            },
            part: Bytes::from_static(b"part"),
        };
        assert_eq!(body.encode()[..], *b"\x02\xac\x02\x01\x02part");
    }

    proptest! {
        #[test]
        fn it_comes_back(stamp: u64, last_insert_id: i64, rows_affected: u64, part: Vec<u8>) {
            let counters = Counters { last_insert_id, rows_affected };
            let body = Body { stamp: UnixMillis(stamp), counters, part: part.into() };
            prop_assert_eq!(Body::decode(&body.encode()).unwrap(), body);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            if let Ok(body) = Body::decode(&[&[FORMAT][..], &bytes].concat().into()) {
                prop_assert!(body.part.len() < bytes.len());
            }
        }
    }
}
