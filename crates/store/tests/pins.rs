//! Readers that come and go on threads of their own while checkpoints make room.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod model;

use model::{Model, Random, checkpoint, options};
use sqlrep_disk::SimulatedDisk;
use sqlrep_store::{PinKind, Store};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const ENTRIES: u32 = 2_000;

/// Stops the readers also where the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Rule 11: a reader that lets go by itself, between the look for one that is in the way and its end, leaves nothing in the
/// way: a checkpoint doesn't take that for a full disk.
#[test]
fn a_reader_that_goes_by_itself_is_no_full_disk() {
    let (disk, mut random) = (SimulatedDisk::new(1), Random(1));
    // No room for a single old image.
    let mut model = Model::new(Store::open(options(&disk, 1 << 20, 0)).unwrap());
    let (stop, pinned) = (AtomicBool::new(false), AtomicU32::new(0));
    let store = model.store.clone();
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    drop(store.pin(PinKind::Sql));
                    pinned.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..ENTRIES {
            model.publish(&mut random).unwrap();
            model.finish(true);
            checkpoint(&model.store).unwrap();
        }
        while pinned.load(Ordering::Relaxed) < 1_000 {
            std::thread::yield_now();
        }
    });
    model.check_newest();
}
