//! The `sqlrep` program: everything is in the library, so that tests run the very same code.
#![forbid(unsafe_code)]
fn main() -> std::process::ExitCode {
    sqlrep_cli::run(std::env::args_os())
}
