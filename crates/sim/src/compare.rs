//! Seeds of the differential.

use crate::seeds;
use sqlrep_env::{Clock, SystemClock};
use sqlrep_sim::Compared;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// Differences shown.
const SHOWN: usize = 3;

/// So many seeds make a line of progress.
const PROGRESS: u64 = 1_000;

#[derive(Default)]
struct Sum {
    seeds: u64,
    statements: u64,
    errors: u64,
    failed: Vec<u64>,
}

/// Compares the statements of `count` seeds from `first` on.
pub(crate) fn run(first: u64, count: u64) -> ExitCode {
    let clock = SystemClock::start();
    let sum = Mutex::new(Sum::default());
    seeds::each(first, count, |seed| {
        let compared = sqlrep_sim::differential(seed);
        if count == 1 {
            show(&compared);
        }
        add(seed, &compared, &sum);
        tell(&clock, &sum);
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{count} seeds in {:.0} s: {} statements, {} of them refused alike",
        clock.now().0.as_secs_f64(),
        sum.statements,
        sum.errors
    );
    if sum.failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("DIFFERENT seeds: {:?}", sum.failed);
    eprintln!("replay: cargo xtask differential --seed {}", sum.failed[0]);
    ExitCode::FAILURE
}

/// All requests, to be tried by hand.
fn show(compared: &Compared) {
    for exchange in &compared.past {
        println!("-- transaction: {}", exchange.transaction);
        exchange.sql.iter().for_each(|one| println!("{one};"));
        println!("-- {}", exchange.answers);
    }
}

fn tell(clock: &SystemClock, sum: &Mutex<Sum>) {
    let sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
    if sum.seeds.is_multiple_of(PROGRESS) {
        let (seeds, failed) = (sum.seeds, sum.failed.len());
        let seconds = clock.now().0.as_secs_f64();
        eprintln!("{seeds} seeds after {seconds:.0} s, {failed} of them different");
    }
}

fn add(seed: u64, compared: &Compared, sum: &Mutex<Sum>) {
    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
    sum.seeds += 1;
    sum.statements += compared.statements;
    sum.errors += compared.errors;
    if let Some(difference) = &compared.difference {
        sum.failed.push(seed);
        if sum.failed.len() <= SHOWN {
            eprintln!("seed {seed}: {difference}");
        }
    }
}
