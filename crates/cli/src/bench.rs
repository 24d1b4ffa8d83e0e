//! `sqlrep bench`: measures a part of sqlrep on a folder's disk, beside what that disk and plain SQLite give.
//!
//! The folder that is measured on is a new one inside the one that is named, and is removed at the end.

use crate::arguments::{BenchArguments, Part};
use crate::exit::Exit;
use crate::terminal;
use sqlrep_bench::log::{LogBench, log};
use sqlrep_bench::store::{StoreBench, store};
use sqlrep_bench::{BenchError, Report};
use sqlrep_disk::RealDisk;
use sqlrep_env::Env;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Runs a measurement and prints its report.
pub(crate) fn run(arguments: &BenchArguments) -> Exit {
    let folder = match tempfile::Builder::new()
        .prefix("sqlrep-bench-")
        .tempdir_in(&arguments.dir)
    {
        Ok(folder) => folder,
        Err(error) => {
            terminal::error(format!(
                "{} can't be measured on: {error}; name a folder that exists with --dir",
                arguments.dir.display()
            ));
            return Exit::Usage;
        }
    };
    let printed = measured(arguments, &folder).map(|report| {
        let text = if arguments.json {
            format!("{:#}\n", report.json())
        } else {
            report.to_string()
        };
        terminal::out(&text)
    });
    match printed {
        Ok(Ok(())) => Exit::Ok,
        Ok(Err(error)) => failed(error),
        Err(error) => failed(error),
    }
}

fn failed(what: impl std::fmt::Display) -> Exit {
    terminal::error(what);
    Exit::Failed
}

fn measured(arguments: &BenchArguments, folder: &TempDir) -> Result<Report, BenchError> {
    let disk = Arc::new(RealDisk::open(folder.path())?);
    let (env, rounds) = (Env::real(), arguments.rounds);
    let slice = Duration::from_millis(arguments.slice_ms);
    match arguments.part {
        Part::Log => log(LogBench {
            rounds,
            slice,
            ..LogBench::new(disk, env)
        }),
        Part::Store => store(&StoreBench {
            rounds,
            slice,
            ..StoreBench::new(disk, folder.path().to_owned(), env)
        }),
    }
}
