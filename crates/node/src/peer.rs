//! What nodes ask each other beside Raft: a query that only the leader may answer, and how a node is reached.
//!
//! `core` carries these as opaque bytes on its client lane: a format byte, then bincode's variable-length encoding,
//! bounded when it is read.

use crate::session::{SessionCall, Told};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlrep_core::{EntryId, ReadBound, ReadError, ReadLevel};
use sqlrep_service::{SessionError, SessionId, SessionOptions};
use sqlrep_sql::{Reply, Request};
use std::time::Duration;

const FORMAT: u8 = 1;

/// As much as a frame of the client lane may carry.
const DECODED_BYTES_MAX: usize = 64 << 20;

/// A question.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Run this where you lead.
    Query {
        request: Request,
        level: ReadLevel,
        bound: ReadBound,
        run_max: Option<Duration>,
    },
    /// Who are you to clients?
    Describe,
    /// For a session of yours.
    Session {
        session: SessionId,
        call: SessionCall,
    },
    /// Open a session there.
    Open { options: SessionOptions },
}

/// Its answer.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Query(Result<(Reply, Option<EntryId>), ReadError>),
    Describe(Description),
    /// The question wasn't understood.
    Refused(String),
    Session(Result<Told, SessionError>),
}

/// A node as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) http_address: String,
    pub(crate) release: String,
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    let mut bytes = vec![FORMAT];
    bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .expect("our own types have an encoding, and memory takes any bytes");
    bytes.into()
}

/// Reads a value back; the error says what doesn't fit.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let config = bincode::config::standard().with_limit::<DECODED_BYTES_MAX>();
    match bytes {
        [FORMAT, rest @ ..] => match bincode::serde::decode_from_slice(rest, config) {
            Ok((value, read)) if read == rest.len() => Ok(value),
            Ok(_) => Err("bytes behind the end".to_owned()),
            Err(error) => Err(error.to_string()),
        },
        [format, ..] => Err(format!("format {format}; this release reads {FORMAT}")),
        [] => Err("no bytes".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sqlrep_core::{ClusterId, LogIndex, NodeId, WriteError};
    use sqlrep_service::{Committed, End};
    use sqlrep_sql::{Begin, SqlError};

    #[test]
    fn a_question_and_an_answer_come_back() {
        let ask = Ask::Query {
            request: Request::query("SELECT 1"),
            level: ReadLevel::Weak,
            bound: ReadBound::default(),
            run_max: Some(Duration::from_secs(1)),
        };
        assert_eq!(decode::<Ask>(&encode(&ask)), Ok(ask));
        let answer = Answer::Query(Err(ReadError::Stale));
        assert_eq!(decode::<Answer>(&encode(&answer)), Ok(answer));
        assert!(decode::<Ask>(&[2, 1]).unwrap_err().contains("format 2"));
    }

    /// The bytes of `docs/formats.md`, "What nodes ask each other".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let levels = [
            ReadLevel::None,
            ReadLevel::Weak,
            ReadLevel::Linearizable,
            ReadLevel::Strong,
            ReadLevel::Auto,
        ];
        for (number, level) in (0..).zip(levels) {
            let bound = ReadBound {
                freshness: Some(Duration::new(1, 2)),
                freshness_strict: true,
                at_least: Some((ClusterId(3), LogIndex(4))),
                wait_max: None,
            };
            let ask = Ask::Query {
                request: Request::default(),
                level,
                bound,
                run_max: Some(Duration::new(5, 6)),
            };
            let expected = [1, 0, 0, 0, 0, 0, 0, number, 1, 1, 2, 1, 1, 3, 4, 0, 1, 5, 6];
            assert_eq!(encode(&ask)[..], expected);
        }
        assert_eq!(encode(&Ask::Describe)[..], [1, 1]);
        let session = SessionId::new(NodeId::new(2).unwrap(), 3);
        for (call, expected) in [
            (
                SessionCall::Run(Request::default()),
                &[1, 2, 2, 3, 0, 0, 0, 0, 0, 0][..],
            ),
            (SessionCall::Commit, &[1, 2, 2, 3, 1]),
            (SessionCall::Rollback, &[1, 2, 2, 3, 2]),
        ] {
            assert_eq!(encode(&Ask::Session { session, call })[..], *expected);
        }
        let begins = [Begin::Deferred, Begin::Immediate, Begin::Read];
        for (number, begin) in (0..).zip(begins) {
            let options = SessionOptions {
                idle_max: Duration::new(5, 6),
                total_max: Duration::new(7, 8),
                ..SessionOptions::new(begin)
            };
            let expected = [1, 3, number, 2, 0, 0, 0, 0, 5, 6, 7, 8];
            assert_eq!(encode(&Ask::Open { options })[..], expected);
        }
        let at = LogIndex(5);
        let committed = Told::Committed(Committed { at, wrote: true });
        for (told, expected) in [
            (Ok(Told::Ran(Reply::default())), &[1, 3, 0, 0, 0][..]),
            (Ok(committed), &[1, 3, 0, 1, 5, 1]),
            (Ok(Told::RolledBack), &[1, 3, 0, 2]),
            (Ok(Told::Opened(session)), &[1, 3, 0, 3, 2, 3]),
        ] {
            assert_eq!(encode(&Answer::Session(told))[..], *expected);
        }
        let text = || "x".to_owned();
        let conflict = WriteError::Conflict;
        let errors = [
            (SessionError::NotFound, &b"\x00"[..]),
            (SessionError::Ended(End::RolledBack), b"\x01\x00"),
            (
                SessionError::Ended(End::Committed(Some(at))),
                b"\x01\x01\x01\x05",
            ),
            (SessionError::Ended(End::Idle), b"\x01\x02"),
            (SessionError::Ended(End::Total), b"\x01\x03"),
            (SessionError::Ended(End::LeaderChanged), b"\x01\x04"),
            (SessionError::Ended(End::NodeStopped), b"\x01\x05"),
            (SessionError::Ended(End::Statement), b"\x01\x06"),
            (SessionError::Ended(End::Failed(text())), b"\x01\x07\x01x"),
            (SessionError::Ended(End::Refused(conflict)), b"\x01\x08\x06"),
            (SessionError::Ended(End::Unknown(text())), b"\x01\x09\x01x"),
            (SessionError::ReadOnly, b"\x02"),
            (
                SessionError::Open(SqlError {
                    code: 1,
                    message: text(),
                }),
                b"\x03\x02\x01x",
            ),
            (SessionError::Full { limit: 4 }, b"\x04\x04"),
            (
                SessionError::TooLong {
                    what: text(),
                    limit: 6,
                },
                b"\x05\x01x\x06",
            ),
            (SessionError::Unreachable(text()), b"\x06\x01x"),
            (SessionError::Write(WriteError::NotDone), b"\x07\x01"),
            (SessionError::Read(ReadError::Stale), b"\x08\x01"),
            (SessionError::Outdated, b"\x09"),
        ];
        for (error, expected) in errors {
            let bytes = [&[1, 3, 1], expected].concat();
            assert_eq!(encode(&Answer::Session(Err(error)))[..], bytes);
        }
        let replied = Answer::Query(Ok((Reply::default(), None)));
        assert_eq!(encode(&replied)[..], [1, 0, 0, 0, 0]);
        assert_eq!(
            encode(&Answer::Query(Err(ReadError::Stale)))[..],
            [1, 0, 1, 1]
        );
        let description = Description {
            http_address: "a:1".to_owned(),
            release: "0".to_owned(),
        };
        assert_eq!(
            encode(&Answer::Describe(description))[..],
            *b"\x01\x01\x03a:1\x010"
        );
        assert_eq!(
            encode(&Answer::Refused("x".to_owned()))[..],
            *b"\x01\x02\x01x"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut framed = vec![FORMAT];
            framed.extend(bytes);
            let read = decode::<Ask>(&framed).is_ok() || decode::<Answer>(&framed).is_ok();
            prop_assert!(!read || framed.len() > 1);
        }
    }
}
