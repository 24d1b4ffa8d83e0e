//! Runs simulations: each seed in a process of its own, so that nothing is shared between two of them and a panic is one
//! seed's failure.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a program for a terminal"
)]

mod compare;
mod many;
mod one;
mod seeds;

use std::process::ExitCode;

const USAGE: &str = "usage: sqlrep-sim [differential] --seeds N [--first S]
       sqlrep-sim [differential] --seed S
       sqlrep-sim --seed S --trace | --twice";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().ok();
    match words[..] {
        ["--seed", seed] => number(seed).map_or_else(usage, |seed| one::run(seed, false)),
        ["--seed", seed, "--trace"] => number(seed).map_or_else(usage, |seed| one::run(seed, true)),
        ["--seed", seed, "--twice"] => number(seed).map_or_else(usage, many::twice),
        ["differential", "--seed", seed] => {
            number(seed).map_or_else(usage, |seed| compare::run(seed, 1))
        }
        ["differential", "--seeds", count] => {
            number(count).map_or_else(usage, |count| compare::run(1, count))
        }
        ["differential", "--seeds", count, "--first", first] => {
            match (number(count), number(first)) {
                (Some(count), Some(first)) => compare::run(first, count),
                _ => usage(),
            }
        }
        ["--seeds", count] => number(count).map_or_else(usage, |count| many::run(1, count)),
        ["--seeds", count, "--first", first] => match (number(count), number(first)) {
            (Some(count), Some(first)) => many::run(first, count),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
