//! What a node is told by flags, environment and file arrives: in what it does, and in what it shows.

use crate::MODE;
use crate::cluster::Cluster;
use crate::command::run;
use crate::process::NodeProcess;
use crate::wrong::ends;
use serde_json::{Value, json};
use std::process::Command;
use xxhash_rust::xxh3::xxh3_64;

/// The other one.
const OTHER: &str = if MODE.len() == 4 { "statement" } else { "page" };

/// The command that starts it, without the mode.
fn without_mode(node: &NodeProcess) -> Command {
    let with = node.command(&[]);
    let with_mode = format!("--mode={MODE}");
    let mut command = crate::command::program();
    command.args(with.get_args().filter(|one| *one != with_mode.as_str()));
    assert_eq!(command.get_args().count() + 1, with.get_args().count());
    command
}

/// Writes another mode into the file `identity`, with the checksum that belongs to it.
fn change_mode(node: &NodeProcess, to: &str) -> Vec<u8> {
    let path = node.directory.join("identity");
    let before = std::fs::read_to_string(&path).unwrap();
    let (text, _) = before.split_once("checksum ").unwrap();
    let mode = format!("\nmode {MODE}\n");
    assert!(text.contains(&mode), "{text}");
    let text = text.replace(&mode, &format!("\nmode {to}\n"));
    let sum = xxh3_64(text.as_bytes());
    std::fs::write(&path, format!("{text}checksum {sum:016x}\n")).unwrap();
    before.into_bytes()
}

#[test]
fn the_mode_may_be_left_out_once_it_is_known_and_another_is_refused() {
    let mut cluster = Cluster::of(1);
    let first = run(without_mode(&cluster.nodes[0]), "");
    ends(&first, 3, "a new data directory needs --mode=statement");
    cluster.start_all();
    cluster.nodes[0].must("CREATE TABLE t (x)");
    assert!(cluster.nodes[0].stop().success());
    let again = without_mode(&cluster.nodes[0]);
    cluster.nodes[0].spawn_as(again);
    cluster.ready();
    cluster.nodes[0].must("INSERT INTO t VALUES (1)");
    assert_eq!(cluster.nodes[0].status()["sqlrep"]["mode"], MODE);
    assert!(cluster.nodes[0].stop().success());

    let node = &cluster.nodes[0];
    let kept = change_mode(node, OTHER);
    let refused = node.refused(&[]);
    ends(&refused, 3, &format!("is of mode {OTHER}, not {MODE}"));
    ends(&refused, 3, "a cluster keeps its mode");
    let refused = run(without_mode(node), "");
    assert_eq!(refused.code, Some(6), "{refused:?}");
    assert!(refused.err.contains("this release reads"), "{refused:?}");
    std::fs::write(node.directory.join("identity"), kept).unwrap();
    cluster.start_all();
    assert_eq!(cluster.agree("SELECT x FROM t"), json!([[1]]));
}

/// One setting only in the file, one there and in the environment, one in all three.
#[test]
fn the_environment_wins_over_the_file_and_a_flag_over_both() {
    let mut cluster = Cluster::of(1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sqlrep.toml");
    let text = "foreign-keys = true\nstep-budget = 3000000\nrequest-limit = 1000001\n\
                http-addr = '127.0.0.1:1'\nnode-id = 7\n";
    std::fs::write(&file, text).unwrap();
    let mut command = cluster.nodes[0].command(&["--request-limit=1000003".to_owned()]);
    command
        .arg("--config")
        .arg(&file)
        .env("SQLREP_STEP_BUDGET", "4000000")
        .env("SQLREP_REQUEST_LIMIT", "1000002");
    cluster.nodes[0].spawn_as(command);
    cluster.ready();
    let status = cluster.nodes[0].status();
    let settings = &status["sqlrep"]["settings"];
    let shown = |name: &str| match &settings[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    assert_eq!(shown("foreign_keys"), "true", "{settings}");
    assert_eq!(shown("steps_max"), "4000000", "{settings}");
    assert_eq!(shown("request_bytes_max"), "1000003", "{settings}");
    // What nothing names is as it is by default.
    assert_eq!(shown("page_bytes"), "4096", "{settings}");
    assert_eq!(status["store"]["node_id"], "1");
    // And it holds.
    cluster.nodes[0].must("CREATE TABLE parent (id INTEGER PRIMARY KEY)");
    cluster.nodes[0].must("CREATE TABLE child (parent REFERENCES parent (id))");
    let refused = cluster.nodes[0].execute("INSERT INTO child VALUES (1)");
    let refused = format!("{refused:?}");
    assert!(refused.contains("FOREIGN KEY"), "{refused}");
}

fn by_name(address: &str) -> String {
    address.replace("127.0.0.1", "localhost")
}

fn advertised(node: &NodeProcess) -> [String; 2] {
    [
        format!("--http-adv-addr={}", by_name(&node.http)),
        format!("--raft-adv-addr={}", by_name(&node.raft)),
    ]
}

/// The others, and clients that are redirected, learn the advertised addresses; nobody listens under those names.
#[test]
fn advertised_addresses_arrive_everywhere() {
    let mut cluster = Cluster::of(1);
    let flags = advertised(&cluster.nodes[0]);
    cluster.nodes[0].spawn(&flags);
    cluster.ready();
    let mut second = cluster.newcomer(2);
    let mut flags = advertised(&second).to_vec();
    flags.push(format!("--join={}", cluster.nodes[0].raft));
    second.spawn(&flags);
    cluster.nodes.push(second);
    cluster.ready();
    for asked in &cluster.nodes {
        let (_, text) = asked.get("/nodes?nonvoters&ver=2").unwrap();
        let told: Value = serde_json::from_str(&text).unwrap();
        for (at, node) in cluster.nodes.iter().enumerate() {
            let shown = &told["nodes"][at];
            assert_eq!(shown["api_addr"], format!("http://{}", by_name(&node.http)));
            assert_eq!(shown["addr"], by_name(&node.raft), "{text}");
            assert_eq!(shown["reachable"], true, "{text}");
        }
        let status = asked.status();
        assert_eq!(status["cluster"]["api_addr"], by_name(&asked.http));
        assert_eq!(status["store"]["addr"], by_name(&asked.raft));
        let members = status["store"]["nodes"].as_array().unwrap();
        for (member, node) in members.iter().zip(&cluster.nodes) {
            assert_eq!(member["addr"], by_name(&node.raft), "{status}");
        }
    }
    let leader = cluster.leader();
    let path = "/db/execute?redirect";
    let answer = cluster.nodes[1 - leader].send(path, "[\"SELECT 1\"]");
    let there = format!("http://{}{path}", by_name(&cluster.nodes[leader].http));
    assert_eq!(answer.unwrap().header("location"), there);
}

#[test]
fn healthy_nodes_are_silent_and_one_that_is_asked_for_it_logs_json_lines() {
    let mut cluster = Cluster::of(1);
    for flags in [&[][..], &["--log-format=json", "--log-level=info"]] {
        let before = cluster.nodes[0].directory.exists();
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        cluster.nodes[0].spawn(&flags);
        cluster.ready();
        cluster.nodes[0].must("CREATE TABLE IF NOT EXISTS t (x)");
        assert!(cluster.nodes[0].stop().success());
        if !before {
            assert_eq!(cluster.nodes[0].said(), "");
        }
    }
    let said = cluster.nodes[0].said();
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let message = |line: &Value| line["fields"]["message"].clone();
    let serving = lines.iter().find(|line| message(line) == "serving");
    let serving = serving.unwrap_or_else(|| panic!("{said}"));
    assert_eq!(serving["level"], "INFO");
    assert_eq!(serving["fields"]["http"], cluster.nodes[0].http);
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["target"].is_string());
    }
}
