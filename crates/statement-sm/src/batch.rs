//! The body of a command: many requests that every node executes alike.
//!
//! | size | field |
//! | ---: | --- |
//! | 1 | format version, 1 |
//! | rest | bincode (standard configuration) of [`Batch`] |
//!
//! A body is bounded by [`BODY_BYTES_MAX`].

use crate::StatementError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sqlrep_env::UnixMillis;
use sqlrep_replica::{codec, request_seed};
use sqlrep_sql::{Request, Scene};

/// No body is longer. `core` gathers 4 MiB by default, and lets a request of up to 8 MiB travel alone.
pub(crate) const BODY_BYTES_MAX: usize = 16 << 20;

/// What a body has besides its requests, at most.
pub(crate) const HEAD_BYTES_MAX: usize = 64;

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
        codec::encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StatementError> {
        let decoded = codec::decode::<_, BODY_BYTES_MAX>(bytes);
        decoded.map_err(|what| StatementError::Body { what })
    }

    /// What the request at `place` sees of the world.
    pub(crate) fn scene(&self, place: usize) -> Scene {
        Scene {
            now: UnixMillis(self.stamp_unix_ms),
            seed: request_seed(self.seed, place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sqlrep_replica::messages::request_bytes;
    use sqlrep_sql::{Parameter, Replay, ReplayScene, Shape, Statement, Value};

    fn batch(requests: Vec<Request>) -> Batch {
        Batch {
            stamp_unix_ms: u64::MAX,
            seed: u64::MAX,
            reset: true,
            proof: Some((u64::MAX, u64::MAX)),
            requests,
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            any::<i32>().prop_map(|number| Value::Real(f64::from(number) / 3.0)),
            ".{0,20}".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::Blob),
        ]
    }

    fn request() -> impl Strategy<Value = Request> {
        let parameter =
            (proptest::option::of("[a-z]{1,5}"), value()).prop_map(|(name, value)| match name {
                Some(name) => Parameter::Named(name, value),
                None => Parameter::Positional(value),
            });
        let statement = ("[ -~]{0,300}", proptest::collection::vec(parameter, 0..5))
            .prop_map(|(sql, parameters)| Statement { sql, parameters });
        let scene = (any::<u64>(), any::<u64>()).prop_map(|(stamp_unix_ms, seed)| ReplayScene {
            stamp_unix_ms,
            seed,
        });
        let replay = (proptest::collection::vec(scene, 0..5), any::<[u8; 16]>())
            .prop_map(|(scenes, digest)| Replay { scenes, digest });
        (
            proptest::collection::vec(statement, 0..5),
            any::<bool>(),
            proptest::option::of(replay),
        )
            .prop_map(|(statements, transaction, replay)| Request {
                statements,
                transaction,
                replay: replay.map(Box::new),
                ..Request::default()
            })
    }

    /// The seeds of a released format never change: a node replays entries that an older release wrote.
    #[test]
    fn seeds_are_pinned() {
        let seeds: Vec<u64> = (0..3)
            .map(|place| batch(Vec::new()).scene(place).seed)
            .collect();
        let one = Batch {
            seed: 1,
            ..batch(Vec::new())
        };
        assert_eq!(one.scene(0).seed, 0x910a_2dec_8902_5cc1);
        assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2]);
    }

    /// Rule 36: a body that no node could read would put every node out of service, for ever. bincode counts what values
    /// take in memory against its limit, and the smallest parameters take five times their bytes.
    #[test]
    fn the_largest_body_of_the_smallest_parameters_comes_back() {
        let one = Parameter::Named("a".to_owned(), Value::Integer(1));
        let each = request_bytes(&Request {
            statements: vec![Statement {
                sql: String::new(),
                parameters: vec![one.clone(); 2],
            }],
            ..Request::default()
        });
        let parameters = vec![one; 2 * (BODY_BYTES_MAX - HEAD_BYTES_MAX) / each];
        let statement = Statement {
            sql: String::new(),
            parameters,
        };
        let request = Request {
            statements: vec![statement],
            ..Request::default()
        };
        let batch = batch(vec![request]);
        assert!(Batch::decode(&batch.encode()).is_ok());
    }

    /// The bytes of `docs/formats.md`, "A batch", "A request".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let parameters = vec![
            Parameter::Positional(Value::Null),
            Parameter::Positional(Value::Integer(-2)),
            Parameter::Positional(Value::Real(1.0)),
            Parameter::Named("n".to_owned(), Value::Text("t".to_owned())),
            Parameter::Positional(Value::Blob(vec![0xff])),
        ];
        let statement = Statement {
            sql: "x".to_owned(),
            parameters,
        };
        let shapes = [Shape::Execute, Shape::Query, Shape::Request];
        let mut requests = shapes.map(|shape| Request {
            shape,
            ..Request::default()
        });
        requests[0].statements.push(statement);
        requests[1].transaction = true;
        requests[2].qualify_columns = true;
        requests[2].replay = Some(Box::new(Replay {
            scenes: vec![ReplayScene {
                stamp_unix_ms: 5,
                seed: 6,
            }],
            digest: [7; 16],
        }));
        let batch = Batch {
            stamp_unix_ms: 1 << 40,
            seed: 251,
            reset: true,
            proof: Some((7, 8)),
            requests: requests.into(),
        };
        let expected = b"\x01\xfd\0\0\0\0\0\x01\0\0\xfb\xfb\0\x01\x01\x07\x08\x03\
            \x01\x01x\x05\0\0\0\x01\x03\0\x02\0\0\0\0\0\0\xf0\x3f\x01\x01n\x03\x01t\0\x04\x01\xff\0\0\0\0\
            \0\x01\x01\0\0\
            \0\0\x02\x01\x01\x01\x05\x06\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07";
        assert_eq!(batch.encode()[..], *expected);
    }

    proptest! {
        #[test]
        fn a_batch_comes_back_and_is_no_longer_than_was_counted(
            requests in proptest::collection::vec(request(), 0..6)
        ) {
            let batch = batch(requests);
            let counted: usize = batch.requests.iter().map(request_bytes).sum();
            let bytes = batch.encode();
            prop_assert!(bytes.len() <= counted + HEAD_BYTES_MAX);
            prop_assert_eq!(Batch::decode(&bytes).unwrap(), batch);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let body = [&[1][..], &bytes].concat();
            if let Ok(batch) = Batch::decode(&body) {
                prop_assert!(batch.requests.len() < 200);
            }
        }
    }
}
