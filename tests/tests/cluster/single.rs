//! One node: what an operator tries first.

use crate::client::Outcome;
use crate::cluster::Cluster;
use crate::waiting::until;
use serde_json::json;

fn alone() -> Cluster {
    let mut cluster = Cluster::of(1);
    cluster.nodes[0].spawn(&[]);
    cluster.ready();
    cluster
}

#[test]
fn a_killed_node_comes_back_with_everything_it_acknowledged() {
    let mut cluster = alone();
    cluster.nodes[0].must("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    for id in 0..50 {
        cluster.nodes[0].must(&format!("INSERT INTO t VALUES ({id}, random())"));
    }
    let before = cluster.agree("SELECT * FROM t ORDER BY id");
    for _ in 0..3 {
        cluster.nodes[0].kill();
        cluster.nodes[0].spawn(&[]);
        cluster.ready();
        assert_eq!(cluster.agree("SELECT * FROM t ORDER BY id"), before);
    }
    assert!(cluster.nodes[0].stop().success());
    cluster.nodes[0].spawn(&[]);
    cluster.ready();
    assert_eq!(cluster.agree("SELECT count(*) FROM t"), json!([[50]]));
}

#[test]
fn a_transaction_happens_whole_or_not_at_all() {
    let cluster = alone();
    let node = &cluster.nodes[0];
    node.must("CREATE TABLE t (x NOT NULL)");
    let body = json!(["INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (NULL)"]);
    let (status, answer) = node.post("/db/execute?transaction", &body).unwrap();
    assert_eq!(status, 200);
    assert!(
        answer.to_string().contains("NOT NULL constraint failed"),
        "{answer}"
    );
    assert_eq!(
        node.rows("SELECT count(*) FROM t", "strong").unwrap(),
        json!([[0]])
    );
}

#[test]
fn a_directory_in_use_and_a_busy_port_are_refused_by_name() {
    let cluster = alone();
    let mut second = cluster.newcomer(1);
    second.directory = cluster.nodes[0].directory.clone();
    let ended = second.refused(&[]);
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert!(ended.err.contains("another process"), "{}", ended.err);
    let mut third = cluster.newcomer(3);
    third.client = cluster.nodes[0].client.clone();
    let ended = third.refused(&[]);
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    let told = format!("can't listen on --http-addr {}", third.http);
    assert!(ended.err.contains(&told), "{}", ended.err);
    let mut fourth = cluster.newcomer(4);
    fourth.raft = cluster.nodes[0].raft.clone();
    let ended = fourth.refused(&[]);
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    assert!(ended.err.contains(&fourth.raft), "{}", ended.err);
    for ended in [third, fourth].map(|node| node.refused(&[])) {
        let told = &ended.err;
        assert!(told.contains("stop what uses it"), "{told}");
        assert!(told.contains("in use"), "{told}");
    }
}

#[test]
fn what_a_directory_holds_cannot_be_changed_by_flags() {
    let mut cluster = alone();
    assert!(cluster.nodes[0].stop().success());
    let node = &cluster.nodes[0];
    let ended = node.refused(&["--page-size", "8192"]);
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert!(ended.err.contains("page_bytes"), "{}", ended.err);
    let mut other = cluster.newcomer(9);
    other.directory = node.directory.clone();
    let ended = other.refused(&[]);
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert!(ended.err.contains("--node-id 1"), "{}", ended.err);
}

#[test]
fn a_flipped_log_is_named_with_file_and_offset() {
    let mut cluster = alone();
    cluster.nodes[0].must("CREATE TABLE t (x)");
    for _ in 0..20 {
        cluster.nodes[0].must("INSERT INTO t VALUES (hex(randomblob(100)))");
    }
    cluster.nodes[0].kill();
    let log = cluster.nodes[0].directory.join("log");
    let mut segments: Vec<_> = std::fs::read_dir(log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .collect();
    segments.sort();
    let mut bytes = std::fs::read(&segments[0]).unwrap();
    // In an entry of the first half: in a batch that later ones prove.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end / 2] ^= 1;
    std::fs::write(&segments[0], bytes).unwrap();
    let ended = cluster.nodes[0].refused(&[]);
    assert_eq!(ended.code, Some(6), "{}", ended.err);
    assert!(ended.err.contains("log/"), "{}", ended.err);
    assert!(ended.err.contains("offset"), "{}", ended.err);
}

#[test]
fn poison_leaves_the_node_writable_also_after_a_kill() {
    let mut cluster = Cluster::with(1, &["--setting=steps_max=200000"]);
    cluster.start_all();
    cluster.nodes[0].must("CREATE TABLE t (x)");
    let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) INSERT INTO t SELECT x FROM c";
    let large = "INSERT INTO t VALUES (hex(zeroblob(200000000)))";
    for poison in [endless, large] {
        let outcome = cluster.nodes[0].execute(poison);
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    cluster.nodes[0].kill();
    cluster.nodes[0].spawn(&[]);
    cluster.ready();
    cluster.nodes[0].must("INSERT INTO t VALUES (1)");
    until("one row", || {
        let rows = cluster.nodes[0]
            .rows("SELECT count(*) FROM t", "strong")
            .ok()?;
        (rows == json!([[1]])).then_some(())
    });
}

#[test]
fn metrics_name_each_series_once_and_count_what_was_asked() {
    let cluster = alone();
    let node = &cluster.nodes[0];
    node.must("CREATE TABLE t (x)");
    node.rows("SELECT * FROM t", "strong").unwrap();
    let (status, text) = node.get("/metrics").unwrap();
    assert_eq!(status, 200);
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let mut names: Vec<&str> = series
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, _)| name)
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "{text}");
    for line in [
        "sqlrep_write_seconds_count 1",
        "sqlrep_query_seconds_count 1",
        "sqlrep_raft_state{state=\"leader\"} 1",
        "# TYPE sqlrep_log_sync_seconds histogram",
        "sqlrep_log_sync_seconds_bucket{le=\"0.0001\"} ",
        "# TYPE sqlrep_checkpoint_seconds histogram",
        "sqlrep_checkpoint_seconds_bucket{le=\"10\"} ",
        "sqlrep_checkpoint_seconds_sum ",
        "# TYPE sqlrep_checkpoints_total counter",
        "sqlrep_checkpoint_failures_total 0",
        "sqlrep_state_machine_channel_entries 0",
        "sqlrep_state_machine_channel_max 65536",
        "sqlrep_checkpoint_pages_total ",
        "sqlrep_checkpoint_bytes_written_total ",
        "# TYPE sqlrep_links_out_bytes_total counter",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let series = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {text}"))
            .trim()
            .parse()
            .unwrap()
    };
    assert!(series("sqlrep_log_sync_seconds_count ") > 0.0, "{text}");
    // Nothing was checkpointed yet, so that the table's page is a version in memory.
    assert!(series("sqlrep_store_version_bytes ") >= 4096.0, "{text}");
    assert!(series("sqlrep_proposed_requests_total ") >= 1.0, "{text}");
    let entries = series("sqlrep_log_entries_total ");
    assert!(entries > 1.0, "membership and table: {text}");

    for _ in 0..5 {
        node.must("INSERT INTO t VALUES (1)");
    }
    let (_, later) = node.get("/metrics").unwrap();
    let grown = |name: &str| {
        let line = later.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse::<f64>().unwrap() - series(name)
    };
    assert!(grown("sqlrep_log_entries_total ") >= 5.0, "{later}");
    assert!(
        (grown("sqlrep_proposed_requests_total ") - 5.0).abs() < 0.5,
        "{later}"
    );
}

/// Fields of `/status` that follow the database, its file and the log behind it.
#[test]
fn status_tells_the_file_and_the_log_behind_it() {
    let mut cluster = alone();
    cluster.nodes[0].must("CREATE TABLE t (x)");
    let sqlite = |cluster: &Cluster| cluster.nodes[0].status()["store"]["sqlite3"].clone();
    let snapshots = |cluster: &Cluster| {
        let status = cluster.nodes[0].status();
        let list = status["store"]["snapshot_store"]["snapshots"].clone();
        list.as_array().unwrap().len()
    };
    let before = sqlite(&cluster);
    assert!(before["wal_size"].as_u64() > Some(0), "{before}");
    assert_eq!(
        (&before["size"], snapshots(&cluster)),
        (&json!(0), 0),
        "{before}"
    );
    let large = "INSERT INTO t VALUES (hex(zeroblob(50000)))";
    cluster.nodes[0].must(large);
    let after = sqlite(&cluster);
    assert!(
        after["wal_size"].as_u64() > before["wal_size"].as_u64(),
        "{after}"
    );
    assert!(cluster.nodes[0].stop().success());
    cluster.nodes[0].spawn(&[]);
    cluster.ready();
    let last = sqlite(&cluster);
    // The file is at the newest end that may be checkpointed, which isn't always the newest one.
    assert!(last["size"].as_u64() > Some(0), "{last}");
    assert_eq!(snapshots(&cluster), 1, "{last}");
    let file = std::fs::metadata(last["path"].as_str().unwrap()).unwrap();
    assert_eq!(json!(file.len()), last["size"]);
}
