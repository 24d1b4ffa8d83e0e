//! What every source file keeps to: a story at its head, unsafe code in one crate, the machine behind traits.

use crate::tree::{SourceFile, Tree};

/// Lines of a file above which it must be split.
const LINES_MAX: usize = 700;

/// Calls that only some folders may make, with the reason. Paths are prefixes; tests are exempt. What clippy can
/// tell by its type stands in clippy.toml (`Instant::now` is banned there, but tokio's follows a paused clock).
const BANNED: [(&str, &[&str], &str); 5] = [
    (
        "std::fs::",
        &[
            "crates/disk/",
            "crates/cli/",
            "crates/bench/",
            "crates/vfs/examples/",
            "xtask/",
        ],
        "files go through sqlrep_disk",
    ),
    (
        "SystemTime::now(",
        &["crates/env/src/real.rs"],
        "time comes from sqlrep_env::Clock",
    ),
    ("thread::sleep(", &[], "nothing waits by sleeping a thread"),
    (
        "tokio::net::",
        &[
            "crates/transport-tcp/",
            "crates/http-api/",
            "crates/node/",
            "crates/cli/",
            "crates/bench/",
        ],
        "sockets stay in the crates that own them",
    ),
    ("unimplemented!(", &[], "nothing half-made is merged"),
];

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for file in tree.rust() {
        check_head(file, &mut problems);
        check_unsafe(file, &mut problems);
        check_calls(file, &mut problems);
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            problems.push(format!(
                "{} has {lines} lines: which second idea lives in it?",
                file.path
            ));
        }
    }
    for name in tree.crates() {
        let path = format!("crates/{name}/src/lib.rs");
        let text = tree.text(&path).unwrap_or_default();
        if name != "vfs" && !text.contains("#![forbid(unsafe_code)]") {
            problems.push(format!("{path} doesn't forbid unsafe code"));
        }
    }
    problems
}

fn check_head(file: &SourceFile, problems: &mut Vec<String>) {
    let first = file
        .text
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        problems.push(format!("{} doesn't open with its story (`//!`)", file.path));
    }
}

/// The code of a file without its `mod tests {` and without comments. A `mod tests;` stands in another file, and product
/// code may follow it.
fn product_lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().zip(text.lines().skip(1).chain([""]));
    lines
        .take_while(|(line, next)| !line.starts_with("#[cfg(test)]") || next.ends_with(';'))
        .map(|(line, _)| line)
        .filter(|line| !line.trim_start().starts_with("//"))
}

fn check_unsafe(file: &SourceFile, problems: &mut Vec<String>) {
    if file.path.starts_with("crates/vfs/") || file.path.starts_with("xtask/") {
        return;
    }
    let words = |line: &str| line.contains("unsafe {") || line.contains("unsafe fn");
    if file.text.lines().any(words) {
        problems.push(format!(
            "{} has unsafe code; only crates/vfs may",
            file.path
        ));
    }
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn check_calls(file: &SourceFile, problems: &mut Vec<String>) {
    if is_test(&file.path) || file.path == "xtask/src/source.rs" {
        return;
    }
    for (call, places, reason) in BANNED {
        let allowed = places.iter().any(|place| file.path.starts_with(place));
        if !allowed && product_lines(&file.text).any(|line| line.contains(call)) {
            problems.push(format!("{} uses {call}…: {reason}", file.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let mut problems = Vec::new();
        check_head(&file, &mut problems);
        check_unsafe(&file, &mut problems);
        check_calls(&file, &mut problems);
        problems
    }

    #[test]
    fn a_file_without_story_is_found() {
        assert!(found("crates/a/src/x.rs", "//! Story.\nfn a() {}\n").is_empty());
        assert_eq!(found("crates/a/src/x.rs", "fn a() {}\n").len(), 1);
    }

    #[test]
    fn unsafe_code_outside_vfs_is_found() {
        assert_eq!(
            found("crates/a/src/x.rs", "//! S.\nunsafe fn a() {}\n").len(),
            1
        );
        assert!(found("crates/vfs/src/x.rs", "//! S.\nunsafe fn a() {}\n").is_empty());
    }

    #[test]
    fn the_machine_is_asked_only_where_it_may_be() {
        let text = "//! S.\nfn a() { SystemTime::now(); }\n";
        assert_eq!(found("crates/core/src/x.rs", text).len(), 1);
        assert!(found("crates/env/src/real.rs", text).is_empty());
        assert!(
            found(
                "crates/core/src/x.rs",
                "//! S.\n#[cfg(test)]\nmod t { SystemTime::now( }"
            )
            .is_empty()
        );
        let behind = "//! S.\n#[cfg(test)]\nmod tests;\nfn a() { SystemTime::now(); }\n";
        assert_eq!(found("crates/core/src/x.rs", behind).len(), 1);
    }
}
