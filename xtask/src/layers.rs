//! A crate uses only crates on lower levels, siblings don't know each other. The table stands in ARCHITECTURE.md too.

use crate::tree::Tree;

/// Level of each crate. `vfs` uses `store`, `store` uses `disk`, `disk` uses `env`: level 0 is a chain of its own.
const LEVELS: [(&str, u32); 19] = [
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
    ("xtask", 80),
];

/// Crates that may name a package of the outside world, where not all may.
const ONLY: [(&str, &[&str]); 4] = [
    ("openraft", &["core"]),
    ("hyper", &["http-api", "cli"]),
    ("rustix", &["disk", "bench", "tests"]),
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
    for name in ["tests", "xtask"] {
        let level = level(name).expect("it is in the table");
        let manifest = tree.text(&format!("{name}/Cargo.toml")).unwrap_or_default();
        check_manifest(name, level, manifest, &mut problems);
    }
    problems
}

/// Names in every table of dependencies, those for tests, build scripts and single targets included.
fn used(manifest: &toml::Table) -> Vec<&str> {
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let targets = targets.into_iter().flat_map(toml::Table::values);
    let tables = targets.filter_map(toml::Value::as_table).chain([manifest]);
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    tables
        .flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()))
        .flat_map(toml::Table::keys)
        .map(String::as_str)
        .collect()
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
        Err(error) => return problems.push(format!("{name}: Cargo.toml: {error}")),
    };
    for used in used(&parsed) {
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
    fn every_table_of_dependencies_is_looked_at() {
        for table in [
            "dev-dependencies",
            "build-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            let manifest = format!("[{table}]\nsqlrep-vfs.workspace = true\nopenraft = \"1\"\n");
            let mut problems = Vec::new();
            check_manifest("store", 2, &manifest, &mut problems);
            assert_eq!(problems.len(), 2, "{table}: {problems:?}");
        }
    }

    #[test]
    fn only_core_names_openraft() {
        assert!(problems("core", "openraft-rt-tokio").is_empty());
        assert_eq!(problems("replica", "openraft-rt-tokio").len(), 1);
        assert_eq!(problems("node", "openraft").len(), 1);
    }
}
