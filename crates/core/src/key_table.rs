//! The idempotency keys behind an entry as a state machine holds them: opaque, shared, encoded on demand.

use bytes::{Bytes, BytesMut};
use std::fmt;
use std::sync::Arc;

/// Pieces of an encoded table, in order.
pub type TableChunks = Box<dyn Iterator<Item = Bytes> + Send>;

/// Encodes a table, the same bytes each time.
pub type EncodeTable = Arc<dyn Fn() -> TableChunks + Send + Sync>;

/// Idempotency keys that are encoded when somebody asks for their bytes. The default is none.
///
/// It is a part of an [`EntryEnd`](crate::EntryEnd) that may be many megabytes: entries without keys share it, and a
/// state machine encodes it only where it writes or sends that very end (safety rule 5).
#[derive(Clone, Default)]
pub struct KeyTable(Option<EncodeTable>);

impl KeyTable {
    /// What `encode` gives; none: no keys.
    #[must_use]
    pub fn new(encode: Option<EncodeTable>) -> Self {
        Self(encode)
    }

    /// What encodes it; none: no keys.
    #[must_use]
    pub fn encoder(&self) -> Option<&EncodeTable> {
        self.0.as_ref()
    }

    /// All its bytes; empty: no keys.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let mut all = BytesMut::new();
        if let Some(encode) = &self.0 {
            encode().for_each(|piece| all.extend(piece));
        }
        all.freeze()
    }
}

impl PartialEq for KeyTable {
    fn eq(&self, other: &Self) -> bool {
        let shared = match (&self.0, &other.0) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (one, two) => one.is_none() && two.is_none(),
        };
        shared || self.bytes() == other.bytes()
    }
}

impl Eq for KeyTable {}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = if self.0.is_some() { "…" } else { "" };
        write!(f, "KeyTable({content})")
    }
}
