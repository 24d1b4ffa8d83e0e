//! Random lives against a plain model: calls, batches, clean restarts, and crashes with every kind of loss.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use common::{Model, Run, Step, open};
use proptest::prelude::*;
use sqlrep_core::LogStore;
use sqlrep_disk::{Loss, SimulatedDisk};

#[derive(Clone, Debug)]
enum Event {
    Step(Step),
    Restart,
    Crash(Loss),
    /// The crash comes some calls later, in the middle of a call.
    CrashIn(u64, Loss),
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        Just(Loss::Nothing),
        Just(Loss::Everything),
        any::<u64>().prop_map(|seed| Loss::Random { seed }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let bytes = prop_oneof![8 => 8usize..400, 1 => 400usize..3000, 1 => Just(5000usize)];
    let step = prop_oneof![
        6 => (1usize..5, bytes).prop_map(|(count, bytes)| Step::Append { count, bytes }),
        2 => Just(Step::Elect),
        2 => (0usize..5).prop_map(|back| Step::Truncate { back }),
        2 => (0usize..12).prop_map(|ahead| Step::Purge { ahead }),
        1 => Just(Step::Install),
        2 => Just(Step::Mark),
        6 => Just(Step::Run),
    ];
    prop_oneof![
        12 => step.prop_map(Event::Step),
        1 => Just(Event::Restart),
        1 => loss().prop_map(Event::Crash),
        1 => (1u64..12, loss()).prop_map(|(calls, loss)| Event::CrashIn(calls, loss)),
    ]
}

/// Opens what is there, compares it with what may be, and goes on from it.
fn reopen(disk: &SimulatedDisk, possible: &[Model], stamp: u64) -> Run {
    let opened = open(disk).unwrap();
    let found = opened.model().unwrap();
    assert!(
        possible.contains(&found),
        "{found:?}\nis none of\n{possible:?}"
    );
    assert_eq!(opened.log.durable(), found.last());
    Run::start(opened, found, stamp + 1000)
}

fn crash(disk: &mut SimulatedDisk, run: Run, loss: Loss) -> Run {
    let (possible, stamp) = (run.possible().to_vec(), run.stamp);
    run.opened.die(disk);
    *disk = disk.crash(loss);
    reopen(disk, &possible, stamp)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn the_log_and_a_plain_model_agree(events in proptest::collection::vec(event(), 1..60)) {
        let mut disk = SimulatedDisk::new(7);
        let mut run = reopen(&disk, &[Model::default()], 0);
        let mut pending = None;
        for event in events {
            match event {
                Event::Step(step) => run.step(&step),
                Event::Restart => {
                    disk.heal();
                    run.opened.manual.run();
                    let (possible, stamp) = (run.possible().to_vec(), run.stamp);
                    if !run.failed() {
                        prop_assert_eq!(possible.len(), 1, "idle: all is acknowledged");
                        drop(run);
                        run = reopen(&disk, &possible, stamp);
                    }
                }
                Event::Crash(loss) => run = crash(&mut disk, run, loss),
                Event::CrashIn(calls, loss) => {
                    disk.crash_at(calls);
                    pending = Some(loss);
                }
            }
            if let Some(loss) = pending.take_if(|_| run.failed() || disk.is_dead()) {
                run = crash(&mut disk, run, loss);
            }
            if !run.failed() && !disk.is_dead() {
                let state = run.opened.log.state();
                prop_assert_eq!(state.last, run.now().last());
                prop_assert_eq!(state.purged, run.now().purged);
            }
        }
        run.opened.manual.run();
        if !run.failed() && !disk.is_dead() {
            disk.heal();
            prop_assert_eq!(&run.opened.model().unwrap(), run.now());
        }
    }
}
