//! Bytes that all clients together may hold: bodies on their way in, large answers on their way out.
//!
//! Each connection has limits of its own, but thousands of them at theirs would fill any memory.
//! Invariant: shares never add up to more than the room has; what doesn't fit is told at once, and waits nowhere.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers up to this size aren't counted: what bounds them is the number of connections.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// What all may hold.
#[derive(Debug)]
pub(crate) struct Room {
    held: AtomicUsize,
    bytes_max: usize,
}

/// What one holds, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicUsize::new(0),
            bytes_max,
        })
    }

    /// A share of nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share {
            room: self.clone(),
            bytes: 0,
        }
    }

    /// The same bytes, counted until the last copy of them is dropped; none if there is no room.
    pub(crate) fn hold(self: &Arc<Self>, answer: Vec<u8>) -> Option<Bytes> {
        if answer.len() <= SMALL_BYTES_MAX {
            return Some(answer.into());
        }
        let mut share = self.share();
        share
            .grow(answer.len())
            .then(|| Bytes::from_owner(Held { answer, share }))
    }
}

impl Share {
    /// Takes more. False, and nothing is taken, if there is no room.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let max = self.room.bytes_max;
        let fits = |held: usize| held.checked_add(bytes).filter(|all| *all <= max);
        let grown = self
            .room
            .held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        if grown.is_ok() {
            self.bytes += bytes;
        }
        grown.is_ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

struct Held {
    answer: Vec<u8>,
    /// Given back with the answer.
    #[expect(dead_code, reason = "it is kept for its drop")]
    share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_no_more_than_the_room() {
        let room = Room::new(100);
        let (mut one, mut other) = (room.share(), room.share());
        assert!(one.grow(60) && other.grow(40));
        assert!(!one.grow(1) && !other.grow(usize::MAX));
        drop(one);
        assert!(other.grow(60));
        drop(other);
        assert_eq!(room.held.load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_large_answer_counts_until_it_is_gone_and_a_small_one_never() {
        let large = SMALL_BYTES_MAX + 1;
        let room = Room::new(large);
        let first = room.hold(vec![7; large]).unwrap();
        assert!(room.hold(vec![7; large]).is_none());
        assert!(room.hold(vec![7; SMALL_BYTES_MAX]).is_some());
        let rest = first.slice(1..);
        drop(first);
        assert!(room.hold(vec![7; large]).is_none());
        assert_eq!(rest.len(), SMALL_BYTES_MAX);
        drop(rest);
        assert!(room.hold(vec![7; large]).is_some());
    }
}
