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
    let embedded = bench(&["embedded", "--only=node", "--json"]);
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

/// The subjects of a comparison: who, and with how many clients.
fn subjects(comparison: &Value) -> Vec<(String, u64)> {
    let all = comparison["subjects"].as_array().unwrap().iter();
    all.map(|one| {
        let subject = one["subject"].as_str().unwrap().to_owned();
        (subject, one["clients"].as_u64().unwrap())
    })
    .collect()
}

#[test]
fn modes_are_compared_in_both_places_with_json_and_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    let html = format!("--html={}", file.display());
    let short = ["modes", "--work=insert,mixed", "--clients=1,64", "--json"];
    let run = bench(&[&short[..], &[&html]].concat());
    let all: Value = serde_json::from_str(&run.out).unwrap();
    let all = all.as_array().unwrap();
    let parts: Vec<String> = all
        .iter()
        .map(|one| format!("{} {}", one["place"], one["work"]).replace('"', ""))
        .collect();
    let wanted = [
        "http insert",
        "http mixed",
        "embedded insert",
        "embedded mixed",
    ];
    assert_eq!(parts, wanted);
    for one in all.iter().filter(|one| one["rounds"] != 0) {
        compared(one);
    }
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("<!doctype html>"), "{page}");
    assert!(page.contains("<svg") && page.contains("Three processes, over HTTP"));
    let loads = [
        "http://", "https://", "src=", "@import", "url(", "<script", "<link",
    ];
    for elsewhere in loads {
        assert!(!page.contains(elsewhere), "{elsewhere} in {page}");
    }
}

/// Both modes and both baselines have their figures, and the rows of targets are there. A moment of mixed work may have no write.
fn compared(one: &Value) {
    let both = |clients| [("statement mode", clients), ("page mode", clients)];
    let beside = [("raw write and sync", 1), ("plain SQLite, WAL, FULL", 1)];
    let wanted: Vec<(String, u64)> = [beside, both(1), both(64)]
        .concat()
        .into_iter()
        .map(|(subject, clients)| (subject.to_owned(), clients))
        .collect();
    assert_eq!(subjects(one), wanted);
    let always = ["requests", "p50", "p99", "longest"];
    let of_writes = [
        "log bytes, leader",
        "bytes between nodes",
        "syncs, all nodes",
    ];
    let writes = one["work"] == "insert";
    let figures = [&always[..], if writes { &of_writes } else { &[] }].concat();
    for subject in &one["subjects"].as_array().unwrap()[2..] {
        for figure in &figures {
            let median = subject["figures"][figure]["median"].as_f64();
            assert!(
                median.is_some_and(|value| value > 0.0),
                "{figure}: {subject}"
            );
        }
        let survives = subject["durability"].as_str().unwrap();
        assert!(survives.contains("2 of 3 nodes"), "{subject}");
    }
    let rows = one["rows"].as_array().unwrap().iter();
    let judged: Vec<String> = rows
        .filter(|row| row["target"].is_string())
        .map(|row| format!("{} {}", row["name"], row["target"]).replace('"', ""))
        .collect();
    let wanted = [
        "page / statement: p50, 1 client <= 1.1",
        "page / statement: log bytes, leader, 64 clients <= 1",
        "page mode: requests per sync, leader, 64 clients >= 16",
    ];
    let found = |target: &&str| judged.iter().any(|one| one == target);
    assert_eq!(wanted.iter().all(found), writes, "{judged:?}");
    assert_eq!(judged.is_empty(), !writes, "{judged:?}");
}

/// The table, beside a slow network: an answer takes a round trip between nodes at least. The floor keeps raw probes alike.
#[test]
fn a_delay_between_nodes_is_in_every_answer() {
    let slow = ["--delay=5ms", "--sync-floor=5ms", "--place=http"];
    let run = bench(&[&["modes", "--work=update", "--clients=1"], &slow[..]].concat());
    for says in [
        "5ms more between nodes",
        "statement mode",
        "page mode",
        "wire B",
        "page / statement: requests/s, 1 client",
    ] {
        assert!(run.out.contains(says), "{says}: {}", run.out);
    }
    let modes = run
        .out
        .lines()
        .filter(|line| line.contains(" mode  ") && !line.contains(':'));
    let p50: Vec<f64> = modes
        .map(|line| line.split_whitespace().nth(7).unwrap().parse().unwrap())
        .collect();
    assert!(
        p50.len() >= 2 && p50.iter().all(|ms| *ms >= 10.0),
        "{p50:?}: {}",
        run.out
    );
}

#[test]
fn existing_parts_run_in_page_mode_too() {
    let run = bench(&["embedded", "--mode=page", "--only=node"]);
    assert!(run.out.contains("page mode"), "{run:?}");
}

#[test]
fn a_part_that_is_none_is_refused() {
    for arguments in [
        &["bench"][..],
        &["bench", "raft"],
        &["bench", "http", "--only=x"],
        &["bench", "log", "--sync-floor=4"],
        &["bench", "modes", "--work=x"],
        &["bench", "modes", "--clients=0"],
        &["bench", "modes", "--delay=2"],
        &["bench", "embedded", "--mode=x"],
        &["bench", "log", "--dir=/nonexistent/never"],
    ] {
        let run = sqlrep(arguments, "");
        assert_eq!(run.code, Some(2), "{arguments:?}: {run:?}");
    }
}
