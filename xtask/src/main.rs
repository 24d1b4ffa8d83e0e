//! sqlrep's own checks, run by `cargo xtask tidy`, `cargo xtask clients` and by CI, the start of simulations, and planted bugs.
//!
//! What the compiler and clippy can't see: which crate may use which, what no public signature names, where unsafe code may stand, that every
//! module opens with its story, that every safety rule has its test, that documents name what exists, and
//! which licences we ship. It reads files and `cargo metadata`; it changes
//! nothing. `clients` runs what others wrote for rqlite; `planted` plants bugs into a copy and looks whether they are caught.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a program for a terminal"
)]

mod clients;
mod docs;
mod layers;
mod licences;
mod planted;
mod rules;
mod signatures;
mod sim;
mod source;
mod tree;

use std::process::ExitCode;
use tree::Tree;

const USAGE: &str = "usage: cargo xtask clients | tidy | rules
       cargo xtask planted [WORD]
       cargo xtask sim --seeds N [--first S] | --seed S [--trace | --twice]
       cargo xtask differential --seeds N [--first S] | --seed S";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["tidy"] => tidy(),
        ["clients"] => clients::run(&Tree::read()),
        ["rules"] => rules::print(&Tree::read()),
        ["planted"] => planted::run(&Tree::read(), ""),
        ["planted", word] => planted::run(&Tree::read(), word),
        ["sim", ref words @ ..] => sim::run(words),
        ["differential", ..] => sim::run(&words),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Runs every check and prints what each found.
fn tidy() -> ExitCode {
    let tree = Tree::read();
    let checks: [(&str, Vec<String>); 7] = [
        ("layers", layers::check(&tree)),
        ("signatures", signatures::check(&tree)),
        ("source", source::check(&tree)),
        ("rules", rules::check(&tree)),
        ("docs", docs::check(&tree)),
        ("planted", planted::check(&tree)),
        ("licences", licences::check(&tree)),
    ];
    let mut found = 0;
    for (name, problems) in checks {
        println!(
            "tidy {name}: {}",
            if problems.is_empty() { "ok" } else { "FAILED" }
        );
        for problem in &problems {
            println!("  {problem}");
        }
        found += problems.len();
    }
    if found == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
