//! The `sqlrep` command: flags, environment and file into settings; text for people; exit codes. It holds no logic of
//! the database.
//!
//! | command | does |
//! | --- | --- |
//! | `sqlrep node` | runs one node |
//! | `sqlrep cluster` | runs a cluster on this machine, to try things |
//! | `sqlrep shell` | speaks SQL to a node |
//! | `sqlrep status` | tells how a node and its cluster are |
//! | `sqlrep check` | checks a data directory offline, or whether all replicas are equal |
//! | `sqlrep bench` | measures a part of sqlrep on this machine |
//!
//! Results go to standard output, messages and logs to standard error. How a process ends is told by its
//! [`Exit`] code:
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done, or stopped on request |
//! | 1 | failed while running |
//! | 2 | wrong flag, environment variable or configuration file |
//! | 3 | data directory refused |
//! | 4 | address can't be listened on |
//! | 5 | write or fsync failed |
//! | 6 | corruption found |
//! | 7 | Raft stopped |
#![forbid(unsafe_code)]

mod address;
mod arguments;
mod bench;
mod check;
mod client;
mod cluster;
mod exit;
mod logging;
mod node;
mod shell;
mod signals;
mod span;
mod status;
mod terminal;

pub use exit::Exit;

use arguments::{Command, Program};
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command that `args`, the program's name first, ask for.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    run_command(args).into()
}

fn run_command(args: impl IntoIterator<Item = OsString>) -> Exit {
    let program = match Program::try_parse_from(args) {
        Ok(program) => program,
        Err(error) => return told(&error),
    };
    match program.command {
        Command::Node(arguments) => node::run(*arguments),
        Command::Cluster(arguments) => cluster::run(&arguments),
        Command::Shell(arguments) => shell::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    }
}

/// Prints what clap has to say: help and version are results, the rest is wrong usage.
fn told(error: &clap::Error) -> Exit {
    let printed = error.print();
    match (error.use_stderr(), printed) {
        (true, _) => Exit::Usage,
        (false, Ok(())) => Exit::Ok,
        (false, Err(_)) => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(args: &[&str]) -> Exit {
        run_command(args.iter().map(OsString::from))
    }

    #[test]
    fn help_is_a_result_and_wrong_usage_is_not() {
        assert_eq!(ends(&["sqlrep", "--version"]), Exit::Ok);
        assert_eq!(ends(&["sqlrep", "node", "--help"]), Exit::Ok);
        assert_eq!(ends(&["sqlrep"]), Exit::Usage);
        assert_eq!(ends(&["sqlrep", "nodes"]), Exit::Usage);
        assert_eq!(
            ends(&["sqlrep", "node", "--data-dir=x", "--mode=paper"]),
            Exit::Usage
        );
    }
}
