//! `sqlrep bench`, run as an operator runs it but shortly: every figure has its row, with unit, durability and target.

use crate::command::{Run, sqlrep};
use crate::waiting::until;
use serde_json::Value;

/// Runs until the machine was steady enough for one round: what else goes on is told as unsteady, with code 1.
fn bench(arguments: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let dir = format!("--dir={}", folder.path().display());
    let short = ["--rounds=3", "--slice-ms=50", &dir];
    let all = [&["bench"], arguments, &short].concat();
    let run = until("a steady round", || {
        let run = sqlrep(&all, "");
        let unsteady = run.code == Some(1) && run.err.contains("too busy");
        (!unsteady).then_some(run)
    });
    assert_eq!(run.code, Some(0), "{run:?}");
    let left = std::fs::read_dir(folder.path()).unwrap();
    assert_eq!(left.count(), 0, "the measured folder is removed");
    run
}

fn rows(run: &Run) -> Vec<Value> {
    let reports: Value = serde_json::from_str(&run.out).unwrap();
    let reports = reports.as_array().unwrap();
    let rows = reports
        .iter()
        .flat_map(|report| report["rows"].as_array().unwrap());
    rows.cloned().collect()
}

/// The targets in their order; each row must have a durability and a range around its median.
fn targets(run: &Run) -> Vec<String> {
    let rows = rows(run);
    for row in &rows {
        assert!(!row["durability"].as_str().unwrap().is_empty(), "{row}");
        let number = |name: &str| row[name].as_f64().unwrap();
        assert!(number("min") <= number("median"), "{row}");
        assert!(number("median") <= number("max"), "{row}");
    }
    let judged = rows.iter().filter(|row| row["target"].is_string());
    judged
        .map(|row| {
            let told = row["met"].is_boolean() || row["unjudged"].is_string();
            assert!(told, "{row}");
            let text = |name: &str| row[name].as_str().unwrap();
            format!("{} {}", text("name"), text("target"))
        })
        .collect()
}

#[test]
fn parts_are_measured_beside_their_baselines() {
    let log = bench(&["log", "--json"]);
    let wanted = [
        "log, 1 in flight / raw >= 0.85",
        "log, 64 in flight: CPU per entry <= 5",
    ];
    assert_eq!(targets(&log), wanted);
    let store = bench(&["store"]);
    assert!(store.out.contains("plain SQLite, WAL, FULL"), "{store:?}");
    let embedded = bench(&["embedded", "--json"]);
    let wanted = ["point SELECT, Node::reader() / plain >= 0.7"];
    assert_eq!(targets(&embedded), wanted);
}

#[test]
fn writes_over_http_have_each_figure_at_each_floor() {
    let run = bench(&["http", "--only=writes", "--json"]);
    let always = [
        "64 clients: transactions per sync, leader >= 16",
        "64 clients / plain SQLite >= 5",
        "64 clients: CPU per write, three nodes <= 120",
    ];
    let targets = targets(&run);
    for target in always {
        let found = targets.iter().filter(|one| *one == target).count();
        assert_eq!(found, 3, "{target}: {targets:?}");
    }
    for target in [
        "1 client: p50 / (2 raw p50 + 0.6 ms) <= 1",
        "1 client: p50 / floor <= 1.4",
        "64 clients / 1 client >= 12",
    ] {
        assert!(targets.iter().any(|one| one == target), "{targets:?}");
    }
    let raw: Vec<f64> = rows(&run)
        .iter()
        .filter(|row| row["name"] == "raw write and sync: p50")
        .map(|row| row["median"].as_f64().unwrap())
        .collect();
    assert!(raw[1] >= 1000.0 && raw[2] >= 4000.0, "{raw:?}");
}

#[test]
fn reads_kills_and_restart_have_their_figures() {
    let parts = [
        "--only=reads,kills,restart",
        "--kills=1",
        "--load-s=1",
        "--database-mb=1",
    ];
    let run = bench(&[&["http"], &parts[..]].concat());
    for says in [
        "the empty answer is OPTIONS /db/query",
        "SELECT, none, leader / empty",
        "SELECT, weak, leader / empty",
        "SELECT, linearizable, leader / empty",
        "SELECT, linearizable, follower / empty",
        "longest gap without an acknowledged write: p50",
        "kills with a gap above 1.5 s",
        "a follower killed: ready after",
        "a follower killed: log replayed",
    ] {
        assert!(run.out.contains(says), "{says}: {}", run.out);
    }
}

#[test]
fn a_part_that_is_none_is_refused() {
    for arguments in [
        &["bench"][..],
        &["bench", "raft"],
        &["bench", "http", "--only=x"],
        &["bench", "log", "--sync-floor=4"],
        &["bench", "log", "--dir=/nonexistent/never"],
    ] {
        let run = sqlrep(arguments, "");
        assert_eq!(run.code, Some(2), "{arguments:?}: {run:?}");
    }
}
