//! The program, run to its end.

use crate::waiting::until;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Command, Stdio};

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// None: by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The program, without the settings that the environment of the tests happens to have.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sqlrep-under-test"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SQLREP_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the program with `arguments` and `input`.
pub(crate) fn sqlrep(arguments: &[&str], input: &str) -> Run {
    let mut command = program();
    command.args(arguments);
    run(command, input)
}

/// Runs a command; panics if it doesn't end. Its output goes through files, which no amount of it can block.
pub(crate) fn run(mut command: Command, input: &str) -> Run {
    let (mut out, mut err) = (file(""), file(""));
    let copy = |file: &File| Stdio::from(file.try_clone().unwrap());
    let mut child = command
        .stdin(file(input))
        .stdout(copy(&out))
        .stderr(copy(&err))
        .spawn()
        .unwrap();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until(&format!("{command:?} ends"), || child.try_wait().unwrap())
    }));
    let status = ended.unwrap_or_else(|panic| {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("{panic:?}, it said: {}", text(&mut err));
    });
    Run {
        code: status.code(),
        out: text(&mut out),
        err: text(&mut err),
    }
}

fn file(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

fn text(file: &mut File) -> String {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}
