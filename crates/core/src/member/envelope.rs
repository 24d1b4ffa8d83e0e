//! What `core` puts around a mode's command, and the replicated state that `core` itself keeps.
//!
//! ```text
//!   command = format byte, Envelope, body of the mode (opaque, to the end)
//!   side    = format byte, Side
//! ```
//!
//! Idempotency keys are replicated beside `Side`, since they may be many (module `keys`).

use crate::codec::{self, CodecError};
use crate::member::Key;
use crate::raft::Members;
use crate::{ClusterId, EntryId, NodeId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One run of one process: with a sequence number, it finds the clients that wait for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub node: NodeId,
    /// Drawn at random at each start.
    pub boot: u64,
}

/// The head of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub origin: Origin,
    /// Counts the commands of `origin`.
    pub sequence: u64,
    pub content: Content,
}

/// Whose command it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Content {
    /// Clients' requests: the body belongs to the mode.
    Requests { items: Vec<Item> },
    /// The cluster's name and settings, written once by its first leader; no body.
    Genesis { cluster: ClusterId, settings: Bytes },
    /// Nothing, at this place in the log: what strong reads wait for; no body.
    Barrier,
}

/// One request of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub key: Option<Key>,
}

impl Envelope {
    /// The command's bytes.
    pub(crate) fn seal(&self, body: &[u8]) -> Bytes {
        codec::encode_with_body(self, body)
    }

    /// Opens a command; the body shares its memory.
    pub(crate) fn open(command: &Bytes) -> Result<(Self, Bytes), CodecError> {
        let (envelope, read) = codec::decode_prefix::<Self>(command)?;
        Ok((envelope, command.slice(read..)))
    }
}

/// `core`'s replicated state at an entry end (safety rule 5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Side {
    /// The entry that the members stand in.
    pub members_at: Option<EntryId>,
    pub members: Members,
    /// Zero until the first leader has named the cluster.
    pub cluster: ClusterId,
    /// What all members agreed on when the cluster was formed, opaque to `core`.
    pub settings: Bytes,
}

impl Side {
    /// Reads it back; empty bytes are those of a state that has seen no entry.
    pub(crate) fn open(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        codec::decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogIndex;

    fn envelope(key: Option<Key>) -> Envelope {
        let origin = Origin {
            node: NodeId::new(1).unwrap(),
            boot: 77,
        };
        Envelope {
            origin,
            sequence: 5,
            content: Content::Requests {
                items: vec![Item { key }],
            },
        }
    }

    #[test]
    fn the_body_is_the_rest_of_the_command() {
        let command = envelope(None).seal(b"body");
        let (opened, body) = Envelope::open(&command).unwrap();
        assert_eq!((opened, &body[..]), (envelope(None), &b"body"[..]));
    }

    #[test]
    fn a_key_travels_with_its_request() {
        let key = Key::of_gateway((1, 2, 3), b"request", LogIndex(4));
        let (opened, _) = Envelope::open(&envelope(Some(key.clone())).seal(b"")).unwrap();
        assert_eq!(opened, envelope(Some(key)));
    }

    /// The bytes of `docs/formats.md`, "A command" and "`core`'s side state".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let seal = |content| {
            let envelope = Envelope {
                content,
                ..envelope(None)
            };
            envelope.seal(b"body")
        };
        let items = vec![Item::default(); 2];
        let genesis = Content::Genesis {
            cluster: ClusterId(9),
            settings: Bytes::from_static(b"{}"),
        };
        assert_eq!(
            seal(Content::Requests { items })[..],
            *b"\x01\x01\x4d\x05\x00\x02\x00\x00body"
        );
        assert_eq!(seal(genesis)[..], *b"\x01\x01\x4d\x05\x01\x09\x02{}body");
        assert_eq!(seal(Content::Barrier)[..], *b"\x01\x01\x4d\x05\x02body");
        let side = Side {
            members_at: Some(EntryId::default()),
            members: Members {
                voters: vec![[NodeId::new(1).unwrap()].into()],
                ..Members::default()
            },
            cluster: ClusterId(u64::MAX),
            settings: Bytes::from_static(b"{}"),
        };
        let expected =
            b"\x01\x01\x00\x00\x01\x01\x01\x00\xfd\xff\xff\xff\xff\xff\xff\xff\xff\x02{}";
        assert_eq!(codec::encode(&side)[..], *expected);
    }

    #[test]
    fn no_entry_yet_means_no_members_and_no_cluster() {
        let side = Side::open(b"").unwrap();
        assert_eq!(side, Side::default());
        assert_eq!(Side::open(&codec::encode(&side)).unwrap(), side);
        assert!(Side::open(&[0, 1, 2]).is_err());
    }
}
