//! `cargo xtask sim` and `cargo xtask differential`: builds the simulation as it has to be built, and runs it.
//!
//! tokio's own random choices can be seeded only where it is built with `--cfg tokio_unstable`; the product isn't. So the
//! simulation has a target folder of its own, `target/sim`, and one seed gives one trace there.

use std::path::Path;
use std::process::{Command, ExitCode};

/// Builds and runs `sqlrep-sim` with `words`.
pub(crate) fn run(words: &[&str]) -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the project");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |own| root.join(own));
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["run", "--quiet", "--locked", "--package", "sqlrep-sim"])
        .args(["--profile", "sim", "--"])
        .args(words)
        .current_dir(root)
        .env("CARGO_TARGET_DIR", target.join("sim"))
        .env("RUSTFLAGS", "--cfg tokio_unstable");
    match cargo.status() {
        Ok(status) => ExitCode::from(u8::from(!status.success())),
        Err(error) => {
            eprintln!("cargo can't be run: {error}");
            ExitCode::FAILURE
        }
    }
}
