//! The `sqlrep` program under the name that the tests start: the very same function.
#![forbid(unsafe_code)]
fn main() -> std::process::ExitCode {
    sqlrep_cli::run(std::env::args_os())
}
