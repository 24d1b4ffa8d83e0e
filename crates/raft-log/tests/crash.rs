//! Every call of a scripted life is failed once, failed for ever, and crashed at; recovery is crashed too. Nothing
//! acknowledged is lost, nothing that was cut comes back.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use common::{Model, Opened, Run, Step, open, script};
use sqlrep_core::LogStore;
use sqlrep_disk::{Fault, Loss, SimulatedDisk};
use std::io::Write;

const LOSSES: [Loss; 5] = [
    Loss::Nothing,
    Loss::Everything,
    Loss::Random { seed: 1 },
    Loss::Random { seed: 2 },
    Loss::Random { seed: 3 },
];

/// Runs the script on `disk` until it fails or ends; the states that may be found afterwards.
fn live(disk: &SimulatedDisk) -> (Vec<Model>, bool) {
    let Ok(opened) = open(disk) else {
        return (vec![Model::default()], false);
    };
    let mut run = Run::start(opened, Model::default(), 0);
    for step in script() {
        run.step(&step);
    }
    run.opened.manual.run();
    let outcome = (run.possible().to_vec(), !run.failed());
    run.opened.die(disk);
    outcome
}

/// The log holds one of `possible`; what it holds.
fn check(opened: &Opened, possible: &[Model], context: &str) -> Model {
    let found = opened.model().unwrap();
    assert!(
        possible.contains(&found),
        "{context}: found\n{:?} {:?} {:?}\nof {} states, the first\n{:?} {:?}",
        found.purged,
        found.vote,
        found
            .entries
            .iter()
            .map(|entry| entry.id)
            .collect::<Vec<_>>(),
        possible.len(),
        possible[0].purged,
        possible[0].last(),
    );
    let state = opened.log.state();
    assert_eq!(state.last, found.last(), "{context}");
    assert_eq!(opened.log.durable(), found.last(), "{context}");
    let marked = state.committed.map(|id| id.index);
    assert!(marked <= state.last.map(|id| id.index), "{context}");
    found
}

/// Opens what the crash left, with a crash in opening itself at each `again`; then goes on and crashes once more. How many
/// states were tried.
fn recover(disk: &SimulatedDisk, possible: &[Model], context: &str) -> u64 {
    let mut states = 0;
    for (number, loss) in LOSSES.into_iter().enumerate() {
        for again in [0, 1, 3, 5, 7, 9, 11, 14] {
            let context = format!("{context}, {loss:?}, recovery crashed at {again}");
            let mut after = disk.crash(loss);
            if again > 0 {
                after.crash_at(again);
                let first = open(&after).map(drop);
                after = after.crash(LOSSES[(number + 1) % LOSSES.len()]);
                drop(first);
            }
            let opened = open(&after).unwrap_or_else(|error| panic!("{context}: {error}"));
            let found = check(&opened, possible, &context);
            go_on(&after, opened, found, &context);
            states += 1;
        }
    }
    states
}

/// Rule 14: appends less than may have been cut, loses power, and finds exactly that.
fn go_on(disk: &SimulatedDisk, opened: Opened, found: Model, context: &str) {
    let seen = vec![found.clone()];
    opened.die(disk);
    // What was read at open is durable, whatever the process before failed to sync.
    let after = disk.crash(Loss::Everything);
    let opened = open(&after).unwrap();
    check(&opened, &seen, &format!("{context}, lost again"));
    let mut run = Run::start(opened, found, 1_000_000);
    run.step(&Step::Elect);
    run.opened.manual.run();
    assert!(!run.failed());
    let possible = run.possible().to_vec();
    run.opened.die(&after);
    let last = after.crash(Loss::Everything);
    check(
        &open(&last).unwrap(),
        &possible,
        &format!("{context}, appended"),
    );
}

/// Runs the script with one more call before the order strikes each time, until it strikes no more. The number of states is
/// told on the terminal, of a passing run too.
fn try_all(story: &str, order: impl Fn(&SimulatedDisk, u64)) {
    let mut states = 0;
    for call in 1.. {
        let disk = SimulatedDisk::new(call);
        order(&disk, call);
        let (possible, whole) = live(&disk);
        if whole && disk.calls() < call {
            assert!(call > 100, "the script has many calls: {call}");
            let calls = disk.calls();
            // eprintln! is hidden where the test passes.
            let mut terminal = std::io::stderr();
            writeln!(terminal, "log, {story}: {states} states over {calls} calls").unwrap();
            return;
        }
        assert!(disk.injected() > 0, "nothing struck at call {call}");
        states += recover(&disk, &possible, &format!("call {call}"));
    }
}

/// Rules 8, 13 and 14: power loss at every call.
#[test]
fn a_crash_at_every_call_loses_nothing_acknowledged_and_brings_nothing_back() {
    try_all("a power loss", |disk, call| disk.crash_at(call));
}

/// Rule 13: a call that fails once ends the log; the next process finds what was acknowledged.
#[test]
fn a_call_that_fails_once_loses_nothing_acknowledged() {
    try_all("a failed call", |disk, call| disk.inject(Fault::io(call)));
}

#[test]
fn calls_that_fail_from_some_point_on_lose_nothing_acknowledged() {
    try_all("a failing disk", |disk, call| {
        disk.inject(Fault::io(call).forever());
    });
}

#[test]
fn the_script_comes_through_everything() {
    let disk = SimulatedDisk::new(1);
    let (possible, whole) = live(&disk);
    assert!(whole && possible.len() == 1);
    let files = disk.list_all();
    let segments = files.iter().filter(|name| name.ends_with(".seg")).count();
    assert!(segments >= 2, "{files:?}");
    assert!(
        !files.contains(&"log/0000000000000001.seg".to_owned()),
        "{files:?}"
    );
}
