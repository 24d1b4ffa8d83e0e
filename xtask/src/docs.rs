//! Documents name what exists: a path in backticks that begins like one of ours is a file or folder.

use crate::tree::Tree;

/// How a path of the project begins.
const STARTS: [&str; 5] = ["crates/", "docs/", "tests/", "xtask/", ".ci/"];

/// What every checkout has.
const PAPERS: [&str; 5] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs/safety-rules.md",
    "docs/decisions/0001-openraft-alpha.md",
];

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for paper in PAPERS {
        if tree.text(paper).is_none() {
            problems.push(format!("{paper} is missing"));
        }
    }
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        for path in paths(&file.text) {
            if !tree.root.join(path).exists() {
                problems.push(format!("{} names {path}, which doesn't exist", file.path));
            }
        }
    }
    problems
}

/// Paths of the project in backticks; those with a pattern (`<`, `*`, `N`) are shapes, not paths.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|code| {
        STARTS.iter().any(|start| code.starts_with(start))
            && !code.contains(|c: char| c.is_whitespace() || "<>*{}:".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_in_backticks_count() {
        let text = "see `crates/env/src/lib.rs` and crates/none, `docs/<name>.md`, `cargo test`";
        assert!(paths(text).eq(["crates/env/src/lib.rs"]));
    }
}
