//! Bytes of `core`'s own types: a format byte, then the value in bincode's variable-length encoding.
//!
//! Entries, side state, frames and forwarded requests all pass through here, and nothing else names
//! bincode. Decoding is bounded: a length inside the bytes never allocates more than [`DECODED_BYTES_MAX`],
//! and bytes behind the value are refused. It doesn't check what a value means.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Written first; another one is refused with its number.
pub(crate) const FORMAT: u8 = 1;

/// The largest frame of [`Lane`](crate::Lane); nothing that is decoded is larger.
pub(crate) const DECODED_BYTES_MAX: usize = 64 << 20;

/// Why bytes of a peer or of the log are no value of ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("no bytes where a format byte belongs")]
    Empty,
    #[error("format {0}, this release knows {FORMAT}")]
    Format(u8),
    #[error("malformed: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    #[error("{0} bytes behind the end of the value")]
    Trailing(usize),
    #[error("{0}")]
    Meaning(String),
}

impl From<CodecError> for std::io::Error {
    fn from(error: CodecError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// The bytes of `value`.
pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    encode_with_body(value, &[])
}

/// The bytes of `value` with `body` behind them, for [`decode_prefix`].
pub(crate) fn encode_with_body<T: Serialize>(value: &T, body: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(64 + body.len());
    bytes.push(FORMAT);
    append(&mut bytes, value);
    bytes.extend_from_slice(body);
    bytes.into()
}

/// Adds `value` without a format byte: one of many that share one.
pub(crate) fn append<T: Serialize>(bytes: &mut Vec<u8>, value: &T) {
    bincode::serde::encode_into_std_write(value, bytes, bincode::config::standard())
        .expect("our own types have an encoding, and memory takes any bytes");
}

/// Reads a value back that is all there is in `bytes`.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, read) = decode_prefix(bytes)?;
    match bytes.len() - read {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
}

/// Reads a value back from the front of `bytes`; with it, where it ends.
pub(crate) fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    let (&format, rest) = bytes.split_first().ok_or(CodecError::Empty)?;
    if format != FORMAT {
        return Err(CodecError::Format(format));
    }
    let (value, read) = read(rest)?;
    Ok((value, read + 1))
}

/// Reads back what [`append`] wrote to the front of `bytes`; with it, where it ends.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    let config = bincode::config::standard().with_limit::<DECODED_BYTES_MAX>();
    Ok(bincode::serde::decode_from_slice(bytes, config)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, EntryId, LogIndex, Payload, Term};
    use proptest::prelude::*;

    fn entry(bytes: Vec<u8>) -> Entry {
        let id = EntryId {
            term: Term(3),
            index: LogIndex(7),
        };
        Entry {
            id,
            payload: Payload::Command(bytes.into()),
        }
    }

    #[test]
    fn each_way_to_be_malformed_is_told_apart() {
        let good = encode(&entry(vec![1, 2, 3]));
        assert!(matches!(decode::<Entry>(&[]), Err(CodecError::Empty)));
        let mut other = good.to_vec();
        other[0] = 9;
        assert!(matches!(
            decode::<Entry>(&other),
            Err(CodecError::Format(9))
        ));
        let mut longer = good.to_vec();
        longer.push(0);
        assert!(matches!(
            decode::<Entry>(&longer),
            Err(CodecError::Trailing(1))
        ));
        assert!(matches!(
            decode::<Entry>(&good[..good.len() - 1]),
            Err(CodecError::Malformed(_))
        ));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_allocated() {
        // Bytes of length 2^62, encoded as bincode does: 253, then eight bytes.
        let mut bytes = vec![FORMAT, 253];
        bytes.extend_from_slice(&(1u64 << 62).to_le_bytes());
        assert!(matches!(
            decode::<Bytes>(&bytes),
            Err(CodecError::Malformed(_))
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_is_encoded_is_read_back(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let value = entry(body.clone());
            prop_assert_eq!(decode::<Entry>(&encode(&value)).unwrap(), value);
            let framed = encode_with_body(&7u64, &body);
            let (number, read) = decode_prefix::<u64>(&framed).unwrap();
            prop_assert_eq!((number, &framed[read..]), (7, &body[..]));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _decoded = decode::<Entry>(&bytes);
        }
    }
}
