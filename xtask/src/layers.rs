//! A crate uses only crates on lower levels, siblings don't know each other. The table stands in ARCHITECTURE.md too.

use crate::tree::Tree;

/// Level of each crate. `vfs` uses `store`, `store` uses `disk`, `disk` uses `env`: level 0 is a chain of its own.
const LEVELS: [(&str, u32); 18] = [
    ("env", 0),
    ("disk", 1),
    ("store", 2),
    ("vfs", 3),
    ("sql", 10),
    ("core", 10),
    ("raft-log", 20),
    ("transport-tcp", 20),
    ("replica", 20),
    ("statement-sm", 30),
    ("wal-sm", 30),
    ("service", 30),
    ("http-api", 40),
    ("node", 50),
    ("bench", 60),
    ("cli", 70),
    ("sim", 70),
    ("tests", 80),
];

/// Crates that may name a package of the outside world, where not all may.
const ONLY: [(&str, &[&str]); 4] = [
    ("openraft", &["core"]),
    ("hyper", &["http-api", "cli"]),
    ("rustix", &["disk", "bench"]),
    ("getrandom", &["env"]),
];

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for name in tree.crates() {
        let Some(level) = level(name) else {
            problems.push(format!("crates/{name} has no level in xtask/src/layers.rs"));
            continue;
        };
        let manifest = tree
            .text(&format!("crates/{name}/Cargo.toml"))
            .unwrap_or_default();
        check_manifest(name, level, manifest, &mut problems);
    }
    problems
}

fn level(name: &str) -> Option<u32> {
    LEVELS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, level)| *level)
}

fn check_manifest(name: &str, level_of_crate: u32, manifest: &str, problems: &mut Vec<String>) {
    let parsed: toml::Table = match manifest.parse() {
        Ok(table) => table,
        Err(error) => return problems.push(format!("crates/{name}/Cargo.toml: {error}")),
    };
    let dependencies = parsed.get("dependencies").and_then(toml::Value::as_table);
    for used in dependencies.into_iter().flat_map(|table| table.keys()) {
        let ours = used.strip_prefix("sqlrep-");
        if ours.is_some_and(|ours| level(ours).is_none_or(|other| other >= level_of_crate)) {
            problems.push(format!("{name} uses {used}, which isn't on a lower level"));
        }
        let outside = used.trim_end_matches("-rt-tokio").trim_end_matches("-rt");
        for (package, users) in ONLY {
            if outside == package && !users.contains(&name) {
                problems.push(format!(
                    "{name} names {used}; only {} may",
                    users.join(", ")
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(name: &str, dependency: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let manifest = format!("[dependencies]\n{dependency}.workspace = true\n");
        check_manifest(name, level(name).unwrap(), &manifest, &mut problems);
        problems
    }

    #[test]
    fn upward_and_sideways_uses_are_found() {
        assert!(problems("store", "sqlrep-disk").is_empty());
        assert_eq!(problems("store", "sqlrep-vfs").len(), 1);
        assert_eq!(problems("wal-sm", "sqlrep-statement-sm").len(), 1);
    }

    #[test]
    fn only_core_names_openraft() {
        assert!(problems("core", "openraft-rt-tokio").is_empty());
        assert_eq!(problems("replica", "openraft-rt-tokio").len(), 1);
        assert_eq!(problems("node", "openraft").len(), 1);
    }
}
