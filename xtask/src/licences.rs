//! Every package we build has a licence from the list in deny.toml.

use crate::tree::Tree;
use std::process::Command;

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let allowed = match allowed(tree.text("deny.toml").unwrap_or_default()) {
        Ok(list) => list,
        Err(problem) => return vec![problem],
    };
    let metadata = match metadata(tree) {
        Ok(metadata) => metadata,
        Err(problem) => return vec![problem],
    };
    let packages = metadata["packages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if packages.is_empty() {
        return vec!["cargo metadata names no packages".to_owned()];
    }
    packages
        .iter()
        .filter_map(|package| {
            let licence = package["license"].as_str().unwrap_or("none");
            (!permitted(licence, &allowed))
                .then(|| format!("{} is under {licence}", package["name"]))
        })
        .collect()
}

fn allowed(deny: &str) -> Result<Vec<String>, String> {
    let table: toml::Table = deny
        .parse()
        .map_err(|error| format!("deny.toml: {error}"))?;
    let list = table
        .get("licenses")
        .and_then(|licences| licences.get("allow"));
    let list = list
        .and_then(toml::Value::as_array)
        .ok_or("deny.toml has no licenses.allow")?;
    Ok(list
        .iter()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect())
}

fn metadata(tree: &Tree) -> Result<serde_json::Value, String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(&tree.root)
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))
}

/// Evaluates an SPDX expression of AND, OR and parentheses; the old `/` means OR.
fn permitted(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let spaced = spaced.replace(" WITH ", "\u{a0}WITH\u{a0}");
    let words: Vec<&str> = spaced.split_ascii_whitespace().collect();
    let (value, rest) = any(&words, allowed);
    value && rest.is_empty()
}

fn any<'a>(words: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    let (mut value, mut rest) = all(words, allowed);
    while let ["OR", tail @ ..] = rest {
        let (next, left) = all(tail, allowed);
        (value, rest) = (value | next, left);
    }
    (value, rest)
}

fn all<'a>(words: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    let (mut value, mut rest) = one(words, allowed);
    while let ["AND", tail @ ..] = rest {
        let (next, left) = one(tail, allowed);
        (value, rest) = (value & next, left);
    }
    (value, rest)
}

fn one<'a>(words: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => {
            let (value, rest) = any(inner, allowed);
            match rest {
                [")", tail @ ..] => (value, tail),
                _ => (false, rest),
            }
        }
        [name, tail @ ..] => {
            let name = name.replace('\u{a0}', " ");
            (allowed.contains(&name), tail)
        }
        [] => (false, words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_understood() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-3.0) AND Apache-2.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(permitted(good, &allowed), "{good}");
        }
        for bad in ["", "none", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT MIT"] {
            assert!(!permitted(bad, &allowed), "{bad}");
        }
    }
}
