//! The random histories again, with a power loss at any call to the disk, recovery included.

use crate::bed::{Bed, Limits, sound};
use crate::runner::Runner;
use crate::script::{Dice, Script, digest};
use sqlrep_disk::{Loss, SimulatedDisk};
use sqlrep_env::Env;
use sqlrep_store::{Checksum, Position};

/// One script, and what a run of it without a crash recorded.
struct History {
    script: Script,
    page_bytes: u32,
    limits: Limits,
    /// By index of the entry.
    checksums: Vec<Checksum>,
    /// Calls to the disk until the schema was made, and in all.
    first_call: u64,
    calls: u64,
}

impl History {
    fn record(seed: u64, page_bytes: u32, limits: Limits) -> Self {
        let script = Script::draw(seed, 120);
        let bed = Bed::with(page_bytes, limits);
        let mut runner = Runner::start(&bed).unwrap();
        let first_call = bed.disk.calls();
        let mut checksums = vec![bed.store.committed().checksum];
        let note = |_| checksums.push(bed.store.committed().checksum);
        runner.run(&script, note).unwrap();
        assert!(runner.counts.checkpoints > 2, "{:?}", runner.counts);
        Self {
            script,
            page_bytes,
            limits,
            checksums,
            first_call,
            calls: bed.disk.calls(),
        }
    }

    /// Runs until the process dies in the `nth` call, loses power, dies again while it recovers, and comes back.
    /// Returns whether the second death, too, really struck.
    fn crash(&self, nth: u64, dice: &Dice) -> bool {
        let bed = Bed::with(self.page_bytes, self.limits);
        let durable = {
            let mut runner = Runner::start(&bed).unwrap();
            bed.disk.crash_at(nth - bed.disk.calls());
            let ended = runner.run(&self.script, |_| {});
            assert!(
                ended.is_err() && bed.disk.is_dead(),
                "call {nth} wasn't reached"
            );
            runner.durable
        };
        let last = bed.store.committed().position;
        let disk = bed.disk.crash(loss(dice));
        drop(bed);

        let disk = self.crash_in_recovery(disk, dice);
        let again = disk.1;
        let bed = Bed::on(disk.0, Env::inline(nth), self.page_bytes, self.limits).unwrap();
        self.check(&bed, durable, last);
        again
    }

    fn crash_in_recovery(&self, disk: SimulatedDisk, dice: &Dice) -> (SimulatedDisk, bool) {
        disk.crash_at(1 + dice.below(40));
        let opened = Bed::on(disk.clone(), Env::inline(1), self.page_bytes, self.limits);
        assert_eq!(opened.is_err(), disk.is_dead());
        let again = disk.is_dead();
        drop(opened);
        (disk.crash(loss(dice)), again)
    }

    /// The content is that of the recorded position, no checkpoint is lost, and replaying the rest leads to the end.
    fn check(&self, bed: &Bed, durable: Option<Position>, last: Option<Position>) {
        let end = bed.store.committed();
        assert!(end.position >= durable && end.position <= last, "{end:?}");
        let writer = bed.writer();
        let next = end.position.map_or(0, |position| position.index + 1);
        let next = usize::try_from(next).unwrap();
        if let Some(index) = next.checked_sub(1) {
            assert_eq!(digest(writer.sqlite()), self.script.digests[index]);
            assert_eq!(end.checksum, self.checksums[index]);
        } else {
            assert_eq!(end.pages.0, 0);
        }
        assert!(sound(&writer));
        assert_eq!(scratch_files(bed), 0);
        for entry in &self.script.entries[next..] {
            for unit in entry {
                unit.run(writer.sqlite()).unwrap();
            }
            bed.commit();
        }
        assert_eq!(Some(&digest(writer.sqlite())), self.script.digests.last());
        bed.check_copy(digest(writer.sqlite()));
    }
}

fn scratch_files(bed: &Bed) -> usize {
    let files = bed.disk.list_all();
    files.iter().filter(|path| path.contains("scratch")).count()
}

fn loss(dice: &Dice) -> Loss {
    match dice.below(6) {
        0 => Loss::Nothing,
        1 => Loss::Everything,
        _ => Loss::Random {
            seed: dice.below(u64::MAX),
        },
    }
}

/// Tries 60 deaths, spread over the run so that every kind of call is hit; answers how often recovery died, too.
fn crash_anywhere(seed: u64, page_bytes: u32, limits: Limits) -> u32 {
    let history = History::record(seed, page_bytes, limits);
    let dice = Dice::new(seed);
    let calls = history.calls - history.first_call;
    let deaths = (0..60).map(|sample| {
        let nth = history.first_call + 1 + calls * sample / 60 + dice.below(calls / 60);
        u32::from(history.crash(nth, &dice))
    });
    deaths.sum()
}

/// Rule 1: a crash at any point, recovery included, leaves a database that is exact at a recorded position.
#[test]
fn after_a_power_loss_the_database_is_that_of_a_recorded_position() {
    let seeds = [(21, 4096), (22, 512)];
    let again = seeds.map(|(seed, page_bytes)| crash_anywhere(seed, page_bytes, Limits::Roomy));
    assert!(again.iter().sum::<u32>() > 10, "{again:?}");
}

/// Rules 1 and 26: the same while transactions are in scratch files.
#[test]
fn after_a_power_loss_nothing_is_left_of_scratch_files() {
    let seeds = [(23, 4096), (24, 16384)];
    let limits = Limits::Transaction(0);
    let again = seeds.map(|(seed, page_bytes)| crash_anywhere(seed, page_bytes, limits));
    assert!(again.iter().sum::<u32>() > 10, "{again:?}");
}
