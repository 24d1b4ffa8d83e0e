//! What two nodes tell each other before the first frame, and its bytes.
//!
//! A message is a head of [`HEAD_BYTES`], equal in all protocol versions, and a body of at most [`BODY_BYTES_MAX`]
//! bytes. It doesn't judge: `judge.rs` does.

use crate::Identity;
use crate::options::TEXT_BYTES_MAX;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlrep_core::{ClusterId, DirectoryId, Lane, NodeId};

/// Sent first.
pub(crate) const MAGIC: [u8; 8] = *b"\xd3sqlrep\n";

/// What is spoken behind the head: these messages, the frames, and what `core` puts into them.
pub(crate) const VERSION: u16 = 3;

/// Magic, version, length of the body.
pub(crate) const HEAD_BYTES: usize = 12;

/// The largest body.
pub(crate) const BODY_BYTES_MAX: usize = 4096;

/// The longest text of a refusal.
const MESSAGE_BYTES_MAX: usize = 1024;

/// First byte of a body.
const FORMAT: u8 = 1;

/// What a node tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// Zero while it belongs to none.
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) directory: DirectoryId,
    pub(crate) mode: String,
    pub(crate) engine: String,
    pub(crate) engine_digest: u64,
    pub(crate) release: String,
}

/// The first message, of the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) caller: Card,
    #[serde(with = "LaneCode")]
    pub(crate) lane: Lane,
    /// Who should answer; none while that isn't known.
    pub(crate) expects: Option<NodeId>,
}

/// The second message, of the listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) listener: Card,
    pub(crate) verdict: Verdict,
}

/// The third message, of the caller. From here on there are frames, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// The two belong together.
    Accepted,
    /// They don't.
    Refused(String),
    /// They may, but not now.
    Busy(String),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Lane")]
enum LaneCode {
    Append,
    Control,
    Snapshot,
    Client,
}

/// Why bytes are no message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("a handshake of {0} bytes, the limit is {BODY_BYTES_MAX}")]
    TooLarge(usize),
    #[error("a handshake in format {0}, this release knows {FORMAT}")]
    Format(u8),
    #[error("a malformed handshake: {0}")]
    Malformed(String),
}

impl Card {
    pub(crate) fn new(identity: Identity, cluster: ClusterId) -> Self {
        Self {
            cluster,
            node: identity.node,
            directory: identity.directory,
            mode: identity.mode,
            engine: identity.engine,
            engine_digest: identity.engine_digest,
            release: identity.release,
        }
    }
}

impl Verdict {
    /// The refusal if there is one, cut to the size that travels and without what could disturb a terminal.
    pub(crate) fn of(judged: Result<(), String>) -> Self {
        match judged {
            Ok(()) => Self::Accepted,
            Err(message) => Self::Refused(tame(&message)),
        }
    }
}

/// The beginning of a text, in one line.
pub(crate) fn tame(text: &str) -> String {
    let end = text.floor_char_boundary(MESSAGE_BYTES_MAX);
    let line = |c: char| if c.is_control() { ' ' } else { c };
    text[..end].chars().map(line).collect()
}

/// The version and the length of the body that a head announces. The caller has compared the magic.
pub(crate) fn parse_head(head: [u8; HEAD_BYTES]) -> (u16, usize) {
    let [.., v0, v1, n0, n1] = head;
    let bytes = u16::from_le_bytes([n0, n1]);
    (u16::from_le_bytes([v0, v1]), usize::from(bytes))
}

/// Head and body of `message`.
pub(crate) fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut body = vec![FORMAT];
    bincode::serde::encode_into_std_write(message, &mut body, bincode::config::standard())
        .expect("our own types have an encoding, and memory takes any bytes");
    assert!(body.len() <= BODY_BYTES_MAX, "texts are bounded");
    let length = u16::try_from(body.len()).expect("bounded a line above");
    let head = [&MAGIC[..], &VERSION.to_le_bytes(), &length.to_le_bytes()];
    let mut bytes = head.concat();
    bytes.append(&mut body);
    bytes
}

/// Reads a body back.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, HelloError> {
    let malformed = |what: &dyn ToString| HelloError::Malformed(what.to_string());
    let Some((&format, rest)) = body.split_first() else {
        return Err(malformed(&"it is empty"));
    };
    if format != FORMAT {
        return Err(HelloError::Format(format));
    }
    let config = bincode::config::standard().with_limit::<BODY_BYTES_MAX>();
    let decoded = bincode::serde::decode_from_slice(rest, config);
    let (message, read) = decoded.map_err(|error| malformed(&error))?;
    match rest.len() - read {
        0 => Ok(message),
        left => Err(malformed(&format!("{left} bytes behind its end"))),
    }
}

/// The same card with its texts within bounds and in one line: it is shown to operators.
pub(crate) fn checked(card: Card) -> Result<Card, HelloError> {
    let texts = [&card.mode, &card.engine, &card.release];
    let bad = |text: &&&String| text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control);
    match texts.iter().find(bad) {
        None => Ok(card),
        Some(text) => Err(HelloError::Malformed(format!(
            "a text of {} bytes that isn't one line of at most {TEXT_BYTES_MAX}",
            text.len()
        ))),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn card(node: u64) -> Card {
        Card {
            cluster: ClusterId(0xc1),
            node: NodeId::new(node).unwrap(),
            directory: DirectoryId(0xd0 + node),
            mode: "statement".to_owned(),
            engine: "2025-01-01 abc".to_owned(),
            engine_digest: 9,
            release: "0.1.0".to_owned(),
        }
    }

    fn call() -> Call {
        Call {
            caller: card(1),
            lane: Lane::Snapshot,
            expects: NodeId::new(2),
        }
    }

    fn body(bytes: &[u8]) -> &[u8] {
        &bytes[HEAD_BYTES..]
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        for lane in Lane::ALL {
            let call = Call { lane, ..call() };
            assert_eq!(decode(body(&encode(&call))), Ok(call));
        }
        for verdict in [
            Verdict::Accepted,
            Verdict::Refused("no".to_owned()),
            Verdict::Busy("later".to_owned()),
        ] {
            let answer = Answer {
                listener: card(2),
                verdict,
            };
            assert_eq!(decode(body(&encode(&answer))), Ok(answer));
        }
    }

    /// The bytes of protocol 3, format 1: other releases read them.
    #[test]
    fn the_bytes_stay_what_they_are() {
        let bytes = encode(&call());
        let head = [0xd3, b's', b'q', b'l', b'r', b'e', b'p', b'\n', 3, 0];
        assert_eq!(bytes[..10], head);
        let head = bytes[..HEAD_BYTES].try_into().unwrap();
        assert_eq!(parse_head(head), (3, bytes.len() - HEAD_BYTES));
        let expected = b"\x01\xc1\x01\xd1\x09statement\x0e2025-01-01 abc\x09\x050.1.0\x02\x01\x02";
        assert_eq!(body(&bytes), expected);
    }

    /// The numbers of `docs/formats.md`, "Handshake".
    #[test]
    fn the_numbers_of_lanes_and_verdicts_stay_what_they_are() {
        for (number, lane) in (0..).zip(Lane::ALL) {
            let bytes = encode(&Call { lane, ..call() });
            assert_eq!(bytes[bytes.len() - 3..], [number, 1, 2]);
        }
        let verdict = |verdict: Verdict| body(&encode(&verdict)).to_vec();
        assert_eq!(verdict(Verdict::Accepted), [1, 0]);
        assert_eq!(
            verdict(Verdict::Refused("no".to_owned())),
            *b"\x01\x01\x02no"
        );
        assert_eq!(verdict(Verdict::Busy("no".to_owned())), *b"\x01\x02\x02no");
    }

    #[test]
    fn each_way_to_be_malformed_is_told_apart() {
        let good = encode(&call());
        let good = body(&good);
        assert!(matches!(decode::<Call>(&[]), Err(HelloError::Malformed(_))));
        assert_eq!(decode::<Call>(&[9]), Err(HelloError::Format(9)));
        let longer = [good, &[0]].concat();
        let error = decode::<Call>(&longer).unwrap_err().to_string();
        assert_eq!(error, "a malformed handshake: 1 bytes behind its end");
        for end in 1..good.len() {
            let cut = decode::<Call>(&good[..end]);
            assert!(matches!(cut, Err(HelloError::Malformed(_))), "{end}");
        }
    }

    #[test]
    fn texts_for_operators_are_bounded_and_in_one_line() {
        let long = "é".repeat(1000);
        assert_eq!(tame(&long).len(), MESSAGE_BYTES_MAX);
        assert_eq!(tame("a\x1b[2J\nb"), "a [2J b");
        assert!(checked(card(1)).is_ok());
        for mode in ["a\nb".to_owned(), "m".repeat(TEXT_BYTES_MAX + 1)] {
            assert!(checked(Card { mode, ..card(1) }).is_err());
        }
    }

    #[test]
    fn the_largest_message_fits() {
        let text = "x".repeat(TEXT_BYTES_MAX);
        let listener = Card {
            mode: text.clone(),
            engine: text.clone(),
            release: text,
            cluster: ClusterId(u64::MAX),
            directory: DirectoryId(u64::MAX),
            node: NodeId::MAX,
            engine_digest: u64::MAX,
        };
        let verdict = Verdict::of(Err("y".repeat(5000)));
        let answer = Answer { listener, verdict };
        assert_eq!(decode(body(&encode(&answer))), Ok(answer));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), formatted in any::<bool>()) {
            let mut bytes = bytes;
            if formatted && let Some(first) = bytes.first_mut() {
                *first = FORMAT;
            }
            let _call = decode::<Call>(&bytes);
            let _answer = decode::<Answer>(&bytes);
            let _verdict = decode::<Verdict>(&bytes);
        }

        #[test]
        fn a_damaged_message_never_panics(at in 0..60usize, byte in any::<u8>()) {
            let mut bytes = encode(&call());
            let at = HEAD_BYTES + at % (bytes.len() - HEAD_BYTES);
            bytes[at] = byte;
            let _call = decode::<Call>(body(&bytes)).map(|call| checked(call.caller));
        }
    }
}
