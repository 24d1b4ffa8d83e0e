//! Random transactions, ends, aborts, pins, checkpoints step by step, installs and restarts against a map.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod model;

use model::{Model, Random, check_reopened, install, options};
use proptest::prelude::*;
use sqlrep_disk::{Loss, SimulatedDisk};
use sqlrep_store::{PinKind, Progress, Store};

/// One run; answers how many restarts it went through.
fn run(seed: u64, steps: u32, memory: u64, spill: u64) -> u32 {
    let mut random = Random(seed);
    let mut disk = SimulatedDisk::new(seed);
    let mut model = Model::new(Store::open(options(&disk, memory, spill)).unwrap());
    let (mut under_way, mut durable, mut restarts) = (None, 0, 0);
    for _ in 0..steps {
        match random.below(25) {
            0..=6 => model.publish(&mut random).unwrap(),
            7..=10 => {
                let anchor = random.below(3) > 0;
                model.finish(anchor);
            }
            11 => model.abort(),
            12..=13 => model.pin(if random.below(4) == 0 {
                PinKind::Snapshot
            } else {
                PinKind::Sql
            }),
            14 if !model.pins.is_empty() => {
                let place = usize::try_from(random.below(model.pins.len() as u64)).unwrap();
                model.pins.swap_remove(place);
            }
            15..=19 => {
                if under_way.is_none() {
                    under_way = model.store.begin_checkpoint(None);
                }
                if let Some(checkpoint) = &mut under_way
                    && let Progress::Done(end) = checkpoint.step().unwrap()
                {
                    durable = end.position.unwrap().index;
                    assert_eq!(model.store.durable(), end);
                    under_way = None;
                }
            }
            20 => under_way = None,
            23 => model.open(),
            21 if random.below(4) == 0 => {
                under_way = None;
                while model.store.begin_checkpoint(None).is_some_and(|mut left| {
                    while let Progress::More = left.step().unwrap() {}
                    true
                }) {}
                let pages = model.committed().clone();
                model.index += 10;
                install(&model.store, &pages, model.index).unwrap();
                model.ends.insert(model.index, (pages.clone(), true));
                (model.newest, durable) = (pages, model.index);
                model.version = model.store.committed().version;
            }
            22 if random.below(3) == 0 => {
                let loss = if random.below(2) == 0 {
                    Loss::Everything
                } else {
                    Loss::Random {
                        seed: random.next(),
                    }
                };
                disk = disk.crash(loss);
                (under_way, restarts) = (None, restarts + 1);
                let ends = std::mem::take(&mut model.ends);
                let store = Store::open(options(&disk, memory, spill)).unwrap();
                let index = check_reopened(&store, &ends, durable);
                model = Model::new(store);
                model.newest = ends[&index].0.clone();
                model.version = model.store.committed().version;
                (model.index, durable) = (index, index);
                model.ends = ends.into_iter().filter(|(end, _)| *end <= index).collect();
            }
            _ => model.check_pins(),
        }
        model.check_newest();
    }
    model.check_pins();
    restarts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Rules 4 and 5: readers and restarts see entry ends only, each with its own side state.
    #[test]
    fn the_store_shows_what_the_map_shows(seed: u64) {
        run(seed, 300, 1 << 20, 1 << 20);
    }

    /// Rule 11: with hardly any memory images spill, with hardly any disk pins end; nobody sees anything wrong.
    #[test]
    fn scarce_memory_and_disk_change_nothing_that_is_seen(seed: u64, spill in 0u64..40) {
        run(seed, 200, 16 * 512, spill * 512);
    }
}

#[test]
fn restarts_do_happen_in_these_runs() {
    let restarts: u32 = (0..20).map(|seed| run(seed, 300, 1 << 20, 1 << 20)).sum();
    assert!(restarts > 20, "only {restarts} restarts in 20 runs");
}
