//! Many seeds, each in a process of its own.

use crate::seeds;
use sqlrep_env::{Clock, SystemClock};
use sqlrep_sim::{FAULTS, SESSIONS};
use std::collections::BTreeMap;
use std::io;
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::{Mutex, PoisonError};

/// So many seeds have to show every kind of fault, and every end of a session.
const EVERY_KIND: u64 = 50;

fn child(seed: u64, trace: bool) -> io::Result<Output> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--seed", &seed.to_string()]);
    if trace {
        command.arg("--trace");
    }
    command.stdin(Stdio::null()).output()
}

/// What the seeds together did.
#[derive(Default)]
struct Sum {
    failed: Vec<u64>,
    acknowledged: u64,
    counts: BTreeMap<String, u64>,
}

impl Sum {
    /// Adds the last line that a seed printed.
    fn add(&mut self, line: &str) {
        let Some((head, counts)) = line.split_once("; ") else {
            return;
        };
        let word = head
            .split(' ')
            .nth(2)
            .and_then(|word| word.parse::<u64>().ok());
        self.acknowledged += word.unwrap_or(0);
        for count in counts.split(", ") {
            if let Some((name, count)) = count.rsplit_once(' ')
                && let Ok(count) = count.parse::<u64>()
            {
                *self.counts.entry(name.to_owned()).or_default() += count;
            }
        }
    }
}

/// Runs `count` seeds from `first` on.
pub(crate) fn run(first: u64, count: u64) -> ExitCode {
    let clock = SystemClock::start();
    let sum = Mutex::new(Sum::default());
    seeds::each(first, count, |seed| {
        finished(seed, child(seed, false), &sum)
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.failed.sort_unstable();
    println!(
        "{count} seeds in {:.0} s: {} calls acknowledged, {:?}",
        clock.now().0.as_secs_f64(),
        sum.acknowledged,
        sum.counts
    );
    judge(count, &sum)
}

fn finished(seed: u64, output: io::Result<Output>, sum: &Mutex<Sum>) {
    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
    match output {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let last = said.lines().next_back().unwrap_or_default();
            sum.add(last);
            if !output.status.success() {
                sum.failed.push(seed);
                eprintln!("{}", String::from_utf8_lossy(&output.stderr));
                eprintln!("seed {seed} FAILED ({}); {last}", output.status);
                eprintln!("replay: cargo xtask sim --seed {seed}");
            }
        }
        Err(error) => {
            sum.failed.push(seed);
            eprintln!("seed {seed} can't be run: {error}");
        }
    }
}

fn judge(count: u64, sum: &Sum) -> ExitCode {
    let kinds = FAULTS.iter().chain(SESSIONS);
    let missing: Vec<&&str> = kinds
        .filter(|kind| !sum.counts.contains_key(**kind))
        .collect();
    if count >= EVERY_KIND && !missing.is_empty() {
        eprintln!("these never happened: {missing:?}");
        return ExitCode::FAILURE;
    }
    if sum.failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("FAILED seeds: {:?}", sum.failed);
    ExitCode::FAILURE
}

/// Runs a seed twice and compares what happened, line by line.
pub(crate) fn twice(seed: u64) -> ExitCode {
    let (one, other) = match (child(seed, true), child(seed, true)) {
        (Ok(one), Ok(other)) => (one, other),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("seed {seed} can't be run: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (first, second) = (
        String::from_utf8_lossy(&one.stdout),
        String::from_utf8_lossy(&other.stdout),
    );
    let pairs = first.lines().zip(second.lines()).enumerate();
    for (number, (left, right)) in pairs {
        if left != right {
            eprintln!("seed {seed}, line {number} of the trace:\n  {left}\n  {right}");
            return ExitCode::FAILURE;
        }
    }
    if first.len() != second.len() || !one.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&one.stderr));
        return ExitCode::FAILURE;
    }
    println!("seed {seed} twice: {} equal lines", first.lines().count());
    ExitCode::SUCCESS
}
