//! `cargo xtask planted`: bugs that the tests have to catch, planted one after the other.
//!
//! ```text
//!   copy of the project in target/planted ─► each test passes ─► for each bug: patch ─► builds ─► its test fails ─► patch taken back
//! ```
//!
//! A test that never failed proves little. Here are bugs of the kinds that such a design dies of, each as a patch
//! (`xtask/planted/*.patch`) with the fastest test that has to find it. A patch that no longer fits, or no longer builds, is an
//! error: whoever changes what it touches plants the bug anew. Nothing of it is in the product.

mod copy;
mod patch;

use crate::tree::Tree;
use copy::Copy;
use patch::Patch;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

/// Where the table of them is.
const PAPER: &str = "docs/testing.md";

/// One test.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    package: &'static str,
    /// The file in the package's `tests`; none: its own unit tests.
    file: Option<&'static str>,
    name: &'static str,
}

const fn unit(package: &'static str, name: &'static str) -> Test {
    let file = None;
    Test {
        package,
        file,
        name,
    }
}

const fn within(package: &'static str, file: &'static str, name: &'static str) -> Test {
    let file = Some(file);
    Test {
        package,
        file,
        name,
    }
}

/// The patches, by their names, and who catches them.
const BUGS: [(&str, Test); 14] = [
    (
        "early-reply",
        within(
            "sqlrep-core",
            "cluster",
            "writes::a_leader_cut_off_tells_unknown_from_not_done",
        ),
    ),
    (
        "early-read",
        within(
            "sqlrep-core",
            "cluster",
            "reads::what_stands_on_an_entry_in_flight_waits_for_it",
        ),
    ),
    (
        "unconfirmed-read",
        within(
            "sqlrep-core",
            "cluster",
            "reads::an_old_leader_gives_no_reply_of_its_writer",
        ),
    ),
    (
        "missing-zero-page",
        within(
            "sqlrep-vfs",
            "vfs",
            "capture::growth_without_a_write_is_captured_as_zeros",
        ),
    ),
    (
        "missing-zero-page-in-the-store",
        within("sqlrep-store", "fuzz", "the_store_shows_what_the_map_shows"),
    ),
    (
        "missing-zero-page-in-a-set",
        unit(
            "sqlrep-wal-sm",
            "tests::scenes::pages_that_were_never_written_are_in_the_set",
        ),
    ),
    (
        "delta-base-inferred",
        unit(
            "sqlrep-wal-sm",
            "page_set::tests::a_page_made_again_starts_from_zeros",
        ),
    ),
    (
        "abort-without-reopening",
        unit(
            "sqlrep-wal-sm",
            "tests::scenes::an_aborted_table_of_the_same_shape_isn_t_remembered",
        ),
    ),
    (
        "fence-without-predecessor",
        unit(
            "sqlrep-wal-sm",
            "tests::scenes::a_set_behind_a_hole_is_refused_everywhere",
        ),
    ),
    (
        "checkpoint-without-pin",
        within(
            "sqlrep-store",
            "slices",
            "between_any_two_slices_others_go_on_and_a_crash_leaves_a_recorded_end",
        ),
    ),
    (
        "log-without-fsync",
        within(
            "sqlrep-raft-log",
            "crash",
            "a_crash_at_every_call_loses_nothing_acknowledged_and_brings_nothing_back",
        ),
    ),
    (
        "key-forgotten",
        within(
            "sqlrep-core",
            "cluster",
            "keys::a_retry_after_a_lost_leader_is_done_once",
        ),
    ),
    (
        "set-between-parts",
        within(
            "sqlrep-core",
            "cluster",
            "writes::a_batch_in_line_comes_behind_all_parts",
        ),
    ),
    (
        "lease-unchecked",
        within(
            "sqlrep-core",
            "cluster",
            "reads::a_weak_read_whose_lease_ended_goes_on_as_a_linearizable_one",
        ),
    ),
];

fn path_of(bug: &str) -> String {
    format!("xtask/planted/{bug}.patch")
}

fn read(root: &Path, bug: &str) -> Result<Patch, String> {
    let path = root.join(path_of(bug));
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    Patch::parse(&text).map_err(|error| format!("{}: {error}", path_of(bug)))
}

/// Every patch fits the project, is listed here and in the paper with its test, and the test exists.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let paper = tree.text(PAPER).unwrap_or_default();
    for (bug, test) in BUGS {
        let fits = read(&tree.root, bug).and_then(|patch| {
            let changed = patch.changed(|path| tree.text(path).map(str::to_owned));
            let fits = changed.map(drop);
            fits.map_err(|error| format!("{}: {error}", path_of(bug)))
        });
        problems.extend(fits.err());
        let name = test.name.rsplit("::").next().unwrap_or(test.name);
        let function = format!("fn {name}(");
        if !tree.rust().any(|file| file.text.contains(&function)) {
            problems.push(format!("no test is named {name}, which is to catch {bug}"));
        }
        for word in [path_of(bug), name.to_owned()] {
            if !paper.contains(&format!("`{word}`")) {
                problems.push(format!("{PAPER} doesn't name {word}"));
            }
        }
    }
    problems.extend(unlisted(&tree.root));
    problems
}

/// Patches that nobody plants.
fn unlisted(root: &Path) -> Vec<String> {
    let folder = root.join("xtask/planted");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return vec![format!("{} can't be read", folder.display())];
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let listed: BTreeSet<String> = BUGS.iter().map(|(bug, _)| format!("{bug}.patch")).collect();
    let unlisted = names.filter(|name| !listed.contains(&*name.to_string_lossy()));
    unlisted
        .map(|name| format!("xtask/planted/{} is in no list", name.display()))
        .collect()
}

/// Plants the bugs whose names hold `word`.
pub(crate) fn run(tree: &Tree, word: &str) -> ExitCode {
    let chosen: Vec<_> = BUGS
        .into_iter()
        .filter(|(bug, _)| bug.contains(word))
        .collect();
    match Garden::new(&tree.root).and_then(|garden| garden.plant(&chosen)) {
        Ok(0) if !chosen.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The copy, and where it is built.
struct Garden {
    root: PathBuf,
    copy: Copy,
    target: PathBuf,
}

/// What a run of a test showed.
enum Shown {
    Passed,
    /// The first line of why.
    Failed(String),
}

impl Garden {
    fn new(root: &Path) -> Result<Self, String> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |own| root.join(own));
        let copy = Copy::of(root, &target.join("planted"))?;
        let root = root.to_path_buf();
        Ok(Self { root, copy, target })
    }

    /// Answers how many bugs weren't caught.
    fn plant(&self, chosen: &[(&str, Test)]) -> Result<usize, String> {
        let tests: BTreeSet<Test> = chosen.iter().map(|(_, test)| *test).collect();
        for test in tests {
            if let Shown::Failed(why) = self.shown(test)? {
                return Err(format!("{} fails without any bug: {why}", test.name));
            }
        }
        let mut missed = 0;
        for (bug, test) in chosen {
            let patch = read(&self.root, bug)?;
            self.copy.patch(&patch)?;
            let shown = self.shown(*test);
            self.copy.restore(&patch)?;
            match shown.map_err(|error| format!("{bug}: {error}"))? {
                Shown::Failed(why) => println!("{bug}: caught by {}: {why}", test.name),
                Shown::Passed => {
                    missed += 1;
                    println!("{bug}: MISSED by {}", test.name);
                }
            }
        }
        Ok(missed)
    }

    fn cargo(&self, test: Test, more: &[&str]) -> Result<Output, String> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["test", "--quiet", "--locked", "--package", test.package])
            .args(test.file.map_or(vec!["--lib"], |file| vec!["--test", file]))
            .args(more)
            .current_dir(self.copy.folder())
            .env("CARGO_TARGET_DIR", &self.target)
            .env("RUST_BACKTRACE", "0")
            // The first case that fails is enough.
            .env("PROPTEST_MAX_SHRINK_ITERS", "0");
        cargo
            .output()
            .map_err(|error| format!("cargo can't be run: {error}"))
    }

    /// Builds, then runs: only a test that fails has caught something.
    fn shown(&self, test: Test) -> Result<Shown, String> {
        let built = self.cargo(test, &["--no-run"])?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr);
            return Err(format!("{} doesn't build:\n{said}", test.name));
        }
        let ran = self.cargo(test, &["--", "--exact", test.name])?;
        let said = String::from_utf8_lossy(&ran.stdout);
        if ran.status.success() && said.contains("test result: ok. 1 passed") {
            return Ok(Shown::Passed);
        }
        let failed = said.contains("test result: FAILED. 0 passed; 1 failed");
        let why = failed.then(|| reason(&said)).flatten();
        why.map(Shown::Failed)
            .ok_or_else(|| format!("{} ended without a verdict:\n{said}", test.name))
    }
}

/// What the first panic said.
fn reason(said: &str) -> Option<String> {
    let (_, behind) = said.split_once(" panicked at ")?;
    let line = behind.lines().nth(1)?.trim();
    Some(line.chars().take(160).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_first_panics() {
        let said = "\nthread 'a' (1) panicked at src/a.rs:1:2:\n why \nmore\nthread 'b' panicked at b:1:1:\nother\n";
        assert_eq!(reason(said).as_deref(), Some("why"));
        assert_eq!(reason("test result: FAILED"), None);
    }
}
