//! The program, run to its end.

use super::{DEADLINE, PAUSE};
use sqlrep_env::{Clock, SystemClock};
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Command, Stdio};

/// The product's function under the tests' own name.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_sqlrep-under-test");

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// None: by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Without the settings that the environment of the tests happens to have.
pub(crate) fn bare(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SQLREP_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the program with `arguments`, `environment` and `input`; panics if it doesn't end.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Run {
    let file = |text: &str| {
        let mut file = tempfile::tempfile().expect("a temporary file can be made");
        file.write_all(text.as_bytes()).expect("it is ours");
        file.seek(SeekFrom::Start(0)).expect("it is ours");
        file
    };
    let (mut out, mut err) = (file(""), file(""));
    let copy = |file: &std::fs::File| Stdio::from(file.try_clone().expect("it is ours"));
    let mut child = bare(Command::new(PROGRAM))
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::from(file(input)))
        .stdout(copy(&out))
        .stderr(copy(&err))
        .spawn()
        .expect("the program was built with the tests");
    let clock = SystemClock::start();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        if clock.now().0 > DEADLINE {
            child.kill().expect("it is our child");
            panic!("{arguments:?} doesn't end");
        }
        std::thread::park_timeout(PAUSE);
    };
    let text = |file: &mut std::fs::File| {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).expect("it is ours");
        file.read_to_string(&mut text)
            .expect("the program writes UTF-8");
        text
    };
    Run {
        code: status.code(),
        out: text(&mut out),
        err: text(&mut err),
    }
}
