//! The body of a command: many requests that every node executes alike.
//!
//! | size | field |
//! | ---: | --- |
//! | 1 | format version, 1 |
//! | rest | bincode (standard configuration) of [`Batch`] |
//!
//! A body is bounded by [`BODY_BYTES_MAX`]; decoding never allocates more than about that.

use crate::StatementError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sqlrep_sql::Request;

const FORMAT: u8 = 1;

/// A gathered batch is at most 4 MiB, a request that travels alone at most the request limit of 8 MiB; this is twice that.
pub(crate) const BODY_BYTES_MAX: usize = 16 << 20;

/// What every node executes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// The time that SQL sees, in milliseconds since the Unix epoch.
    pub(crate) stamp_unix_ms: u64,
    /// What `random()` and `randomblob()` grow from; each request derives its own from it and its place.
    pub(crate) seed: u64,
    /// Whether the apply connection is reopened behind it (safety rule 33).
    pub(crate) reset: bool,
    /// An earlier entry's index and the leader's whole-database checksum there, for replicas to compare (safety rule 31).
    pub(crate) proof: Option<(u64, u64)>,
    /// In order.
    pub(crate) requests: Vec<Request>,
}

impl Batch {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![FORMAT];
        bincode::serde::encode_into_std_write(self, &mut out, bincode::config::standard())
            .expect("a batch is plain data, and writing into memory can't fail");
        out.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StatementError> {
        let config = bincode::config::standard().with_limit::<BODY_BYTES_MAX>();
        match bytes {
            [FORMAT, rest @ ..] => bincode::serde::decode_from_slice(rest, config)
                .map(|(batch, _)| batch)
                .map_err(|source| StatementError::Body { what: source.to_string() }),
            [format, ..] => Err(StatementError::Body {
                what: format!("format {format}; this release reads {FORMAT}"),
            }),
            [] => Err(StatementError::Body { what: "it is empty".to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sqlrep_sql::{Parameter, Statement, Value};

    #[test]
    fn a_batch_comes_back() {
        let statement = Statement {
            sql: "INSERT INTO t VALUES (?, :b)".to_owned(),
            parameters: vec![
                Parameter::Positional(Value::Real(-0.0)),
                Parameter::Named("b".to_owned(), Value::Blob(vec![1, 2, 3])),
            ],
        };
        let request = Request { statements: vec![statement], transaction: true, ..Request::default() };
        let batch = Batch {
            stamp_unix_ms: 1,
            seed: u64::MAX,
            reset: true,
            proof: Some((7, 8)),
            requests: vec![request.clone(), request],
        };
        assert_eq!(Batch::decode(&batch.encode()).unwrap(), batch);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut body = vec![FORMAT];
            body.extend(bytes);
            if let Ok(batch) = Batch::decode(&body) {
                prop_assert!(batch.requests.len() < 200);
            }
        }
    }
}
