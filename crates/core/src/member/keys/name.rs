//! Keys as clients give them, and as entries carry them.

use crate::LogIndex;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The longest name of a key.
const NAME_BYTES_MAX: usize = 64;

/// A client's name for one request: the same request under the same name is done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    name: Bytes,
    known: Option<LogIndex>,
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to 64 printable ASCII characters")]
pub struct NoKey;

impl IdempotencyKey {
    /// A key of 1 to 64 printable ASCII characters; no two requests have the same.
    ///
    /// # Errors
    ///
    /// [`NoKey`] for any other text.
    pub fn new(name: &str) -> Result<Self, NoKey> {
        let printable = |byte: u8| (0x20..0x7f).contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(printable) {
            return Err(NoKey);
        }
        let name = Bytes::copy_from_slice(name.as_bytes());
        Ok(Self { name, known: None })
    }

    /// The same with a log index that its maker knew when it made the key: that of an earlier answer, or what the node
    /// had applied. Every retry gives the same. With it, a retry is never executed once the key is forgotten; without
    /// it, a retry after that is taken for a new request.
    #[must_use]
    pub fn known_at(self, index: LogIndex) -> Self {
        let known = Some(index);
        Self { known, ..self }
    }

    /// As an entry carries it, for the request with these bytes; `now` stands in for an index that wasn't given.
    pub(crate) fn of_request(&self, request: &[u8], now: LogIndex) -> Key {
        Key {
            kind: KeyKind::Client,
            name: self.name.clone(),
            digest: xxh3_64(request),
            known: self.known.unwrap_or(now),
            reply: None,
        }
    }
}

/// Whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum KeyKind {
    Client,
    Gateway,
}

/// What makes a repeated request known again, in an entry and on its way to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub kind: KeyKind,
    pub name: Bytes,
    /// xxh3 of the request: the same key with another one is an error.
    pub digest: u64,
    /// A log index known when the key was made.
    pub known: LogIndex,
    /// What retries get, where the reply is made before the entry (page mode).
    pub reply: Option<Bytes>,
}

impl Key {
    /// A gateway's own, for the request with these bytes: `counter` counts those of one run of one process.
    pub(crate) fn of_gateway(
        (node, boot, counter): (u64, u64, u64),
        request: &[u8],
        now: LogIndex,
    ) -> Self {
        let name = [node, boot, counter].map(u64::to_le_bytes).concat();
        Self {
            kind: KeyKind::Gateway,
            name: name.into(),
            digest: xxh3_64(request),
            known: now,
            reply: None,
        }
    }

    /// Whether a member may have sent it.
    pub(crate) fn is_sound(&self) -> bool {
        (1..=NAME_BYTES_MAX).contains(&self.name.len()) && self.reply.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_and_printable() {
        for good in ["a", "2f8a-41 b~", &"x".repeat(64)] {
            assert!(IdempotencyKey::new(good).is_ok(), "{good}");
        }
        for bad in ["", "tab\t", "newline\n", "ä", "\u{7f}", &"x".repeat(65)] {
            assert_eq!(IdempotencyKey::new(bad), Err(NoKey), "{bad:?}");
        }
    }

    #[test]
    fn the_digest_tells_requests_apart_and_an_index_that_is_given_counts() {
        let key = IdempotencyKey::new("k").unwrap();
        let (one, two) = (
            key.of_request(b"1", LogIndex(9)),
            key.of_request(b"2", LogIndex(9)),
        );
        assert!(one.digest != two.digest && one.known == LogIndex(9));
        let known = key.known_at(LogIndex(3)).of_request(b"1", LogIndex(9));
        assert_eq!((known.known, known.digest), (LogIndex(3), one.digest));
        assert!(known.is_sound() && Key::of_gateway((1, 2, 3), b"", LogIndex(1)).is_sound());
    }
}
