//! Bytes of calls under way: a bound beside their count, because one call may be large.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One call's share of a bound, until it is dropped.
pub(super) struct Held {
    all: Arc<AtomicUsize>,
    own: usize,
}

impl Held {
    /// None if there is no room; a call that is alone always has some.
    pub(super) fn new(all: &Arc<AtomicUsize>, own: usize, bytes_max: usize) -> Option<Self> {
        let before = all.fetch_add(own, Ordering::AcqRel);
        let held = Self {
            all: all.clone(),
            own,
        };
        let fits = before.saturating_add(own) <= bytes_max;
        (before == 0 || fits).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_kept_and_what_is_alone_passes() {
        let all = Arc::new(AtomicUsize::new(0));
        let large = Held::new(&all, 200, 100);
        assert!(large.is_some() && Held::new(&all, 1, 100).is_none());
        drop(large);
        let first = Held::new(&all, 60, 100);
        let second = Held::new(&all, 40, 100);
        assert!(first.is_some() && second.is_some());
        assert!(Held::new(&all, 1, 100).is_none());
        drop((first, second));
        assert_eq!(all.load(Ordering::Acquire), 0);
    }
}
