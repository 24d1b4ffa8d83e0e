//! Every I/O of scripted runs: crashed at, failed once, failed for ever.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod model;

use model::{Model, Random, check_reopened, checkpoint, install, options};
use sqlrep_disk::{Fault, Loss, SimulatedDisk};
use sqlrep_store::{Store, StoreError};
use std::collections::BTreeMap;
use std::io::Write;

type Ends = BTreeMap<u64, (model::Pages, bool)>;

/// What a script had made durable before it ended, and every end it made.
struct Told {
    ends: Ends,
    durable: u64,
    done: bool,
}

const LOSSES: [Loss; 4] = [
    Loss::Nothing,
    Loss::Everything,
    Loss::Random { seed: 1 },
    Loss::Random { seed: 2 },
];

/// Opens, writes, checkpoints twice, shrinks, installs, checkpoints again; ends at the first error.
fn script(disk: &SimulatedDisk) -> Told {
    let mut told = Told {
        ends: BTreeMap::from([(0, (model::Pages::default(), true))]),
        durable: 0,
        done: false,
    };
    told.done = play(disk, &mut told).is_ok();
    told
}

fn play(disk: &SimulatedDisk, told: &mut Told) -> Result<(), StoreError> {
    let mut random = Random(7);
    let mut model = Model::new(Store::open(options(disk, 1 << 20, 1 << 20))?);
    for round in 0..3 {
        for _ in 0..4 {
            model.publish(&mut random)?;
            model.finish(true);
            told.ends = model.ends.clone();
        }
        if let Some(end) = checkpoint(&model.store)? {
            told.durable = end.position.expect("it has entries").index;
        }
        if round == 1 {
            let pages = model.committed().clone();
            model.index += 10;
            told.ends.insert(model.index, (pages.clone(), true));
            install(&model.store, &pages, model.index)?;
            (model.newest, told.durable) = (pages.clone(), model.index);
            model.ends.insert(model.index, (pages, true));
            model.version = model.store.committed().version;
        }
    }
    Ok(())
}

fn reopened(disk: &SimulatedDisk, told: &Told) {
    let store = Store::open(options(disk, 1 << 20, 1 << 20)).unwrap();
    check_reopened(&store, &told.ends, told.durable);
}

/// Says on the terminal, of a passing run too, how many states were tried, and fails if they were few.
fn tell(states: u64, story: &str) {
    // eprintln! is hidden where the test passes.
    let mut terminal = std::io::stderr();
    writeln!(terminal, "store, {story}: {states} states").unwrap();
    assert!(states > 500, "only {states} states were tried");
}

/// Rules 1, 2 and 3: a crash at any call of opening, checkpoints and install leaves a recorded end, and so does
/// a crash at any call of the recovery from it.
#[test]
fn a_crash_at_every_call_and_again_in_every_recovery() {
    let mut states = 0;
    for nth in 1.. {
        let disk = SimulatedDisk::new(nth);
        disk.crash_at(nth);
        let told = script(&disk);
        if !disk.is_dead() {
            assert!(told.done, "the script itself doesn't fail");
            break;
        }
        for loss in LOSSES {
            reopened(&disk.crash(loss), &told);
            states += 1;
        }
        // Every seventh point, so that the loop within the loop stays small: each call of the recovery.
        for inner in (1..).take_while(|_| nth % 7 == 0) {
            let after = disk.crash(Loss::Random { seed: nth });
            after.crash_at(inner);
            drop(Store::open(options(&after, 1 << 20, 1 << 20)));
            if !after.is_dead() {
                break;
            }
            reopened(&after.crash(Loss::Random { seed: inner }), &told);
            states += 1;
        }
    }
    tell(states, "a crash");
}

/// Each call fails once or for ever: nothing that was reported durable is lost, and a restart goes on.
#[test]
fn a_failure_of_every_call_loses_nothing() {
    let mut states = 0;
    for for_ever in [false, true] {
        for nth in 1.. {
            let disk = SimulatedDisk::new(nth);
            let fault = if for_ever {
                Fault::io(nth).forever()
            } else {
                Fault::io(nth)
            };
            disk.inject(fault);
            let told = script(&disk);
            if disk.injected() == 0 {
                assert!(told.done);
                break;
            }
            for loss in [Loss::Nothing, Loss::Everything] {
                reopened(&disk.crash(loss), &told);
                states += 1;
            }
        }
    }
    tell(states, "a failed call");
}

/// A full disk stops a checkpoint, changes nothing, and the next one goes through once there is room.
#[test]
fn a_full_disk_heals() {
    let mut stopped = 0;
    for nth in 1.. {
        let disk = SimulatedDisk::new(nth);
        let mut random = Random(7);
        let mut model = Model::new(Store::open(options(&disk, 1 << 20, 1 << 20)).unwrap());
        for _ in 0..12 {
            model.publish(&mut random).unwrap();
            model.finish(true);
        }
        disk.inject(Fault::full(nth));
        let first = checkpoint(&model.store);
        if disk.injected() == 0 {
            break;
        }
        stopped += u32::from(first.is_err());
        model.pin(sqlrep_store::PinKind::Sql);
        model.check_pins();
        model.check_newest();
        while checkpoint(&model.store).unwrap().is_some() {}
        assert_eq!(model.store.durable(), model.store.committed());
        model.check_pins();
        reopened(
            &disk.crash(Loss::Everything),
            &Told {
                ends: model.ends.clone(),
                durable: model.index,
                done: true,
            },
        );
    }
    assert!(stopped > 5, "only {stopped} checkpoints were stopped");
}

/// Rules 6 and 7: whatever byte of whatever file changes, nothing wrong is served: the change is survived by
/// the second copy, or named.
#[test]
fn a_flipped_byte_in_any_file_is_survived_or_named() {
    let disk = SimulatedDisk::new(3);
    let told = script(&disk);
    let mut flips = 0;
    for path in disk
        .list_all()
        .into_iter()
        .filter(|path| path.starts_with("db/"))
    {
        let size = disk.read_file(&path).unwrap().len();
        for offset in (0..size).step_by((size / 97).max(1)) {
            let after = disk.crash(Loss::Nothing);
            after.flip(&path, offset as u64, 0x10);
            flips += 1;
            let served = Store::open(options(&after, 1 << 20, 1 << 20)).map(|store| {
                let damaged = store.verify_pages().unwrap();
                if damaged.is_empty() {
                    check_reopened(&store, &told.ends, told.durable);
                } else {
                    assert!(path.ends_with("main.db"), "{path} at {offset}");
                }
            });
            if let Err(error) = served {
                assert!(
                    error.to_string().contains(path.rsplit('/').next().unwrap()),
                    "{path}: {error}"
                );
            }
        }
    }
    println!("{flips} flips");
    assert!(flips > 200);
}

/// Rule 2: a journal of another generation is deleted unread.
#[test]
fn a_journal_of_another_generation_is_never_read() {
    let disk = SimulatedDisk::new(5);
    let mut random = Random(5);
    let mut model = Model::new(Store::open(options(&disk, 1 << 20, 1 << 20)).unwrap());
    model.publish(&mut random).unwrap();
    model.finish(true);
    let mut journal = None;
    let mut checkpoint = model.store.begin_checkpoint(None).unwrap();
    while journal.is_none() || disk.read_file("db/1/main.journal").is_some() {
        journal = disk.read_file("db/1/main.journal").or(journal);
        if let sqlrep_store::Progress::Done(_) = checkpoint.step().unwrap() {
            break;
        }
    }
    drop(checkpoint);
    let pages = model.committed().clone();
    install(&model.store, &pages, 20).unwrap();
    model.ends.insert(20, (pages, true));
    disk.write_file("db/2/main.journal", &journal.expect("there was a journal"));
    let after = disk.crash(Loss::Nothing);
    let store = Store::open(options(&after, 1 << 20, 1 << 20)).unwrap();
    check_reopened(&store, &model.ends, 20);
    assert_eq!(after.read_file("db/2/main.journal"), None);
}
