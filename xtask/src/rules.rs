//! Every safety rule has a test that names it: a comment that begins with `Rule N` (or `Rules N, M`) in a file with tests.

use crate::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

/// Rules of docs/safety-rules.md.
const RULES: std::ops::RangeInclusive<u32> = 1..=43;

/// Rules whose subject isn't built yet; docs/testing.md tells which part brings them.
const LATER: &[u32] = &[];

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let named = named(tree);
    let missing = RULES.filter(|rule| !named.contains_key(rule) && !LATER.contains(rule));
    let early = LATER.iter().filter(|rule| named.contains_key(rule));
    missing
        .map(|rule| format!("no test names safety rule {rule}"))
        .chain(early.map(|rule| format!("safety rule {rule} has a test and is listed as later")))
        .collect()
}

/// Prints where each rule is tested.
pub(crate) fn print(tree: &Tree) -> ExitCode {
    let named = named(tree);
    for rule in RULES {
        let places: Vec<&str> = named
            .get(&rule)
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        println!(
            "{rule:>2}  {}",
            if places.is_empty() {
                "later".to_owned()
            } else {
                places.join(", ")
            }
        );
    }
    ExitCode::SUCCESS
}

/// Files that name each rule in a comment before or in a test.
fn named(tree: &Tree) -> BTreeMap<u32, BTreeSet<String>> {
    let mut named: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for file in tree
        .rust()
        .filter(|file| file.text.contains("#[test]") || file.text.contains("::test"))
    {
        for line in file.text.lines() {
            for rule in rules_in(line) {
                named.entry(rule).or_default().insert(file.path.clone());
            }
        }
    }
    named
}

/// The rules that a comment line begins with: `/// Rule 13: …`, `// Rules 3, 15 and 18: …`.
fn rules_in(line: &str) -> Vec<u32> {
    let comment = line.trim_start();
    let Some(text) = comment
        .strip_prefix("///")
        .or_else(|| comment.strip_prefix("//"))
    else {
        return Vec::new();
    };
    let text = text.trim_start_matches('!').trim_start();
    let Some(list) = text
        .strip_prefix("Rules ")
        .or_else(|| text.strip_prefix("Rule "))
    else {
        return Vec::new();
    };
    list.split(':')
        .next()
        .unwrap_or_default()
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .filter(|rule| RULES.contains(rule))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_from_the_head_of_a_comment() {
        assert_eq!(rules_in("    /// Rule 13: a torn tail"), [13]);
        assert_eq!(rules_in("// Rules 3, 15 and 18: install"), [3, 15, 18]);
        assert!(rules_in("// see rule 13").is_empty());
        assert!(rules_in("let rule = 13;").is_empty());
    }
}
