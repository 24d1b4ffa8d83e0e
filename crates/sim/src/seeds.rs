//! Seeds side by side, as many at once as there are processors.

use std::sync::atomic::{AtomicU64, Ordering};

/// Calls `run` for `count` seeds from `first` on, on several threads.
pub(crate) fn each(first: u64, count: u64, run: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(first);
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    run(seed);
                }
            });
        }
    });
}
