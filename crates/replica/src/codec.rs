//! Bytes of what both modes send and keep: a format byte, then the value in bincode's standard configuration.
//!
//! Decoding is bounded: bytes above the limit aren't read, a length inside them never allocates more than
//! [`CLAIMED_BYTES_MAX`], and bytes behind the
//! value are refused. Many empty elements take up to 32 times their bytes in memory, nothing more.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

const FORMAT: u8 = 1;

/// bincode counts the bytes that values take in memory, not those that encode them: eight for a number of one byte. The
/// largest body with the smallest values stays below this, or every node would refuse what one has proposed.
pub const CLAIMED_BYTES_MAX: usize = 256 << 20;

/// The bytes of `value`.
///
/// # Panics
///
/// If it isn't plain data, such as a sequence of unknown length: the caller's mistake.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    let mut out = vec![FORMAT];
    bincode::serde::encode_into_std_write(value, &mut out, bincode::config::standard())
        .expect("our values are plain data, and memory takes any bytes");
    out.into()
}

/// Reads a value back that is all there is in `bytes`.
///
/// # Errors
///
/// What doesn't fit.
pub fn decode<T: DeserializeOwned, const BYTES_MAX: usize>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() > BYTES_MAX {
        return Err(format!("{} bytes, the limit is {BYTES_MAX}", bytes.len()));
    }
    let rest = match bytes {
        [FORMAT, rest @ ..] => rest,
        [format, ..] => return Err(format!("format {format}; this release reads {FORMAT}")),
        [] => return Err("it is empty".to_owned()),
    };
    let config = bincode::config::standard().with_limit::<CLAIMED_BYTES_MAX>();
    let (value, read) =
        bincode::serde::decode_from_slice(rest, config).map_err(|error| error.to_string())?;
    match rest.len() - read {
        0 => Ok(value),
        left => Err(format!("{left} bytes behind its end")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sqlrep_sql::{Outcome, Reply, Request, Rows, SqlError, Value, Written};
    use std::time::Duration;

    #[test]
    fn what_is_too_long_or_has_more_behind_it_is_refused() {
        let bytes = encode(&vec![7u64; 10]);
        assert_eq!(decode::<Vec<u64>, 100>(&bytes).unwrap(), [7; 10]);
        assert!(
            decode::<Vec<u64>, 10>(&bytes)
                .unwrap_err()
                .contains("limit")
        );
        let longer = [&bytes[..], &[0]].concat();
        assert!(
            decode::<Vec<u64>, 100>(&longer)
                .unwrap_err()
                .contains("behind")
        );
        assert!(decode::<Vec<u64>, 100>(&[]).unwrap_err().contains("empty"));
        assert!(
            decode::<Vec<u64>, 100>(&[2, 0])
                .unwrap_err()
                .contains("format 2")
        );
    }

    /// The bytes of `docs/formats.md`, "A reply".
    #[test]
    fn the_bytes_of_a_reply_stay_what_they_are() {
        let took = Duration::new(1, 2);
        let written = Written {
            last_insert_id: -1,
            rows_affected: 2,
            took,
        };
        let rows = Rows {
            columns: vec!["a".to_owned()],
            types: vec![Some("b".to_owned())],
            tables: Some(vec![None]),
            values: vec![vec![Value::Integer(3)]],
            took,
        };
        let failed = SqlError {
            code: 19,
            message: "no".to_owned(),
        };
        let outcomes = vec![
            Outcome::Written(written),
            Outcome::Rows(rows),
            Outcome::Failed(failed),
        ];
        let expected = b"\x01\x03\0\x01\x02\x01\x02\x01\x01\x01a\x01\x01\x01b\x01\x01\0\x01\x01\x01\x06\x01\x02\x02\x26\x02no";
        assert_eq!(encode(&Reply { outcomes })[..], *expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&[FORMAT][..], &bytes].concat();
            if let Ok(request) = decode::<Request, 1000>(&bytes) {
                prop_assert!(request.statements.len() <= bytes.len());
            }
            if let Ok(reply) = decode::<Reply, 1000>(&bytes) {
                prop_assert!(reply.outcomes.len() <= bytes.len());
            }
        }
    }
}
