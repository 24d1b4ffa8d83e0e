//! A disk that fails under a program, running or starting. Nothing in the program is prepared for it: the system is told that
//! the program's files mustn't grow, and an append is an I/O error then; or a file is cut under it, and a read finds its end.
#![cfg(target_os = "linux")]

use crate::client::Outcome;
use crate::cluster::Cluster;
use crate::command::{program, run};
use crate::load::noise;
use crate::process::NodeProcess;
use crate::waiting::until;
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::json;
use std::process::Command;

/// Writes behind this offset fail: the log of these tests has passed it.
const LIMIT_BYTES: u64 = 1 << 20;

/// What a shell does before it becomes the program.
enum Before {
    /// A write that the limit refuses is an error, without the signal that goes with it.
    Unsignalled,
    /// This, and the limit.
    Limited,
}

/// The node's command, after what a shell does.
fn command(node: &NodeProcess, before: &Before) -> Command {
    let script = match before {
        Before::Unsignalled => "trap '' XFSZ && exec \"$@\"".to_owned(),
        Before::Limited => format!(
            "trap '' XFSZ && ulimit -f {} && exec \"$@\"",
            LIMIT_BYTES / 512
        ),
    };
    let meant = node.command(&[]);
    let mut command = Command::new("sh");
    for (name, value) in program().get_envs() {
        assert_eq!(value, None);
        command.env_remove(name);
    }
    command.args(["-c", &script, "sh"]);
    command.arg(meant.get_program()).args(meant.get_args());
    command
}

/// Rule 6: a write of the log that fails ends the process with the code that calls for another disk, and so does the next
/// start on that disk; once it works, what was acknowledged is there.
#[test]
fn a_failed_write_ends_the_process_with_code_5_and_loses_nothing() {
    let mut cluster = Cluster::of(1);
    let unsignalled = command(&cluster.nodes[0], &Before::Unsignalled);
    cluster.nodes[0].spawn_as(unsignalled);
    cluster.ready();
    let node = &mut cluster.nodes[0];
    node.must("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    let large = noise(1, 300 << 10);
    for id in 0..5 {
        node.must(&format!("INSERT INTO t VALUES ({id}, '{large}')"));
    }
    let limit = Rlimit {
        current: Some(LIMIT_BYTES),
        maximum: Some(LIMIT_BYTES),
    };
    prlimit(Some(node.pid()), Resource::Fsize, limit).unwrap();
    let outcome = node.execute("INSERT INTO t VALUES (5, 'never acknowledged')");
    assert_ne!(outcome, Outcome::Done);
    let ended = node.ended();
    let said = node.said();
    assert_eq!(ended.code(), Some(5), "{said}");
    assert!(said.contains("the disk failed"), "{said}");
    assert!(said.contains("log/"), "{said}");
    assert!(said.contains("File too large"), "{said}");

    let again = run(command(node, &Before::Limited), "");
    assert_eq!(again.code, Some(5), "{again:?}");
    assert!(again.err.contains("can't write log/"), "{again:?}");

    cluster.start_all();
    let rows = cluster.agree("SELECT count(*), sum(length(x)) FROM t WHERE id < 5");
    assert_eq!(rows, json!([[5, 5 * (300 << 10)]]));
    cluster.nodes[0].must("INSERT INTO t VALUES (6, 'it goes on')");
}

/// Cuts every segment of a node's log to its first bytes.
fn cut_log(node: &NodeProcess) {
    let entries = std::fs::read_dir(node.directory.join("log")).unwrap();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "seg") {
            let file = std::fs::File::options().write(true).open(&path);
            file.unwrap().set_len(4096).unwrap();
        }
    }
}

/// Rule 6: a leader that can't read what a follower lacks from its log ends with that code, too, and the others go on with all
/// that was acknowledged.
#[test]
fn a_failed_read_of_the_log_ends_the_process_with_code_5() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let (late, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[leader].must("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    cluster.agree("SELECT count(*) FROM t");
    cluster.nodes[late].kill();
    // More than the log keeps in memory, on one row; other text each time, since page sets hold what has changed.
    for id in 0..48 {
        let text = noise(100 + id, 900 << 10);
        let sql = format!("INSERT OR REPLACE INTO t VALUES (1, '{id} {text}')");
        cluster.nodes[leader].must(&sql);
    }
    let shown = |node: &NodeProcess, level| node.rows("SELECT substr(x, 1, 3) FROM t", level);
    let last = json!([["47 "]]);
    until("the other one has it all", || {
        (shown(&cluster.nodes[other], "none").ok()? == last).then_some(())
    });
    cut_log(&cluster.nodes[leader]);
    let founding = cluster.founding();
    cluster.nodes[late].spawn(&founding);
    let ended = cluster.nodes[leader].ended();
    let said = cluster.nodes[leader].said();
    assert_eq!(ended.code(), Some(5), "{said}");
    assert!(said.contains("the disk failed"), "{said}");
    assert!(said.contains("the file is cut short"), "{said}");
    until("the late one is told all", || {
        (shown(&cluster.nodes[late], "linearizable").ok()? == last).then_some(())
    });
}
