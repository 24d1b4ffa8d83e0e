//! Data directories that aren't this node's, or that it can't write: refused by name, and nothing is lost.

use crate::cluster::Cluster;
use crate::command::{Run, run};
use crate::process::NodeProcess;
use crate::wrong::{copy, ends};
use serde_json::json;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// As status tells it.
fn name(cluster: &Cluster) -> String {
    let status = cluster.nodes[0].status();
    status["sqlrep"]["cluster"].as_str().unwrap().to_owned()
}

/// A node of another cluster in the place of a member would answer its clients from other data.
#[test]
fn a_directory_of_another_cluster_is_refused_and_both_are_named() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    cluster.nodes[0].must("INSERT INTO ledger VALUES (1)");
    let mut foreign = Cluster::of(1);
    foreign.start_all();
    foreign.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    foreign.nodes[0].must("INSERT INTO ledger VALUES (9)");
    let (ours, theirs) = (name(&cluster), name(&foreign));
    assert_ne!(ours, theirs);
    assert!(foreign.nodes[0].stop().success());

    assert!(cluster.nodes[0].stop().success());
    let own = cluster.nodes[0].directory.clone();
    let aside = own.with_file_name("aside");
    std::fs::rename(&own, &aside).unwrap();
    copy(&foreign.nodes[0].directory, &own);
    let founding = cluster.founding();
    let founding: Vec<&str> = founding.iter().map(String::as_str).collect();
    let run = cluster.nodes[0].refused(&founding);
    ends(&run, 3, &format!("node 1 belongs to cluster {theirs}"));
    ends(&run, 3, &format!("to cluster {ours}"));
    ends(&run, 3, "put this node's own data directory back");

    // Both directories are as they were.
    foreign.nodes[0].directory.clone_from(&own);
    foreign.nodes[0].spawn(&[]);
    foreign.ready();
    let rows = foreign.nodes[0].rows("SELECT id FROM ledger", "strong");
    assert_eq!(rows.unwrap(), json!([[9]]));
    assert!(foreign.nodes[0].stop().success());
    std::fs::remove_dir_all(&own).unwrap();
    std::fs::rename(&aside, &own).unwrap();
    cluster.start_all();
    cluster.nodes[0].must("INSERT INTO ledger VALUES (2)");
    cluster.check(&[1, 2].into(), &[].into());
}

/// Whoever owns nothing on most systems: the user and group `nobody`.
const NOBODY: u32 = 65534;

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Runs a node's command as a user for whom permissions count: this one, or nobody if this one is root. The program lies
/// where that user may read it.
fn run_unprivileged(node: &NodeProcess, program: &Path) -> Run {
    let mut command = Command::new(program);
    let meant = node.command(&[]);
    command
        .args(meant.get_args())
        .env_clear()
        .env("TZ", "UTC")
        .current_dir("/");
    let is_root = tempfile::tempfile().unwrap().metadata().unwrap().uid() == 0;
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    run(command, "")
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    allow(folder.path(), 0o755);
    let program = folder.path().join("sqlrep");
    std::fs::copy(env!("CARGO_BIN_EXE_sqlrep-under-test"), &program).unwrap();
    allow(&program, 0o755);
    let cluster = Cluster::of(1);
    let mut node = cluster.newcomer(1);
    let refused = |node: &NodeProcess, says: &str| {
        let run = run_unprivileged(node, &program);
        let directory = node.directory.display();
        ends(
            &run,
            3,
            &format!("the data directory {directory} can't be used"),
        );
        ends(&run, 3, says);
        ends(&run, 3, "Permission denied");
        ends(&run, 3, "give it to the user that runs sqlrep");
    };
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    allow(&locked, 0o555);
    node.directory.clone_from(&locked);
    refused(&node, "can't open lock");
    node.directory = locked.join("below");
    refused(&node, "can't make the folder");
    assert_eq!(std::fs::read_dir(&locked).unwrap().count(), 0);

    // Once started by somebody else: its files are there and can't be used, which is no corruption.
    let used = folder.path().join("used");
    std::fs::create_dir(&used).unwrap();
    allow(&used, 0o777);
    for folder in ["log", "db", "tmp"] {
        std::fs::create_dir(used.join(folder)).unwrap();
        allow(&used.join(folder), 0o555);
    }
    node.directory = used;
    refused(&node, "can't open");
    allow(&locked, 0o755);
}
