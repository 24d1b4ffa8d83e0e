//! The limits as `docs/operations.md` tells them, held against the constants they come from.

use super::arguments::NodeArguments;
use clap::{Args, Command};
use sqlrep_core::Settings;
use sqlrep_http_api::{HEAD_BYTES_MAX, Options};
use sqlrep_node::{
    ClusterSettings, NodeOptions, QUERY_RUN_MAX, QUERY_WAIT_MAX, SESSIONS_MAX, WRITE_WAIT_MAX,
};
use sqlrep_service::{SESSION_IDLE, SESSION_TOTAL, WRITER_WAIT_MAX};
use sqlrep_sql::{READ_BYTES_MAX, READ_ROWS_MAX};
use std::collections::BTreeMap;
use std::time::Duration;

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

/// Default and flag by name.
fn limits() -> BTreeMap<&'static str, (String, &'static str)> {
    let (http, member, cluster) = (
        Options::default(),
        Settings::default(),
        ClusterSettings::default(),
    );
    let (links, node) = (
        sqlrep_transport_tcp::Options::default(),
        NodeOptions::new("x"),
    );
    let of_clients = [
        (
            "connections of clients",
            http.connections_max.to_string(),
            "--connections",
        ),
        ("bytes of a request's head", HEAD_BYTES_MAX.to_string(), ""),
        (
            "idle, or slow with a head",
            seconds(http.header_timeout),
            "",
        ),
        ("bytes of a body", http.body_bytes_max.to_string(), ""),
        ("time for a body", seconds(http.body_timeout), ""),
        (
            "bytes of all bodies under way",
            http.bodies_bytes_max.to_string(),
            "",
        ),
        (
            "statements and parameters of a request",
            http.items_max.to_string(),
            "",
        ),
        (
            "bytes of all answers above 64 KiB that clients haven't taken",
            http.answers_bytes_max.to_string(),
            "",
        ),
        (
            "time in which a client takes 256 KiB of its answer",
            seconds(http.write_timeout),
            "",
        ),
    ];
    let of_writes = [
        (
            "writes waiting on the leader",
            member.queue_requests_max.to_string(),
            "--queue",
        ),
        (
            "bytes of writes waiting on the leader",
            member.queue_bytes_max.to_string(),
            "",
        ),
        (
            "bytes of a write",
            cluster.request_bytes_max.to_string(),
            "--request-limit",
        ),
        (
            "time a write waits, unless it has a `timeout`",
            seconds(WRITE_WAIT_MAX),
            "",
        ),
        (
            "requests of an entry",
            member.gather_requests_max.to_string(),
            "",
        ),
        (
            "bytes that end an entry",
            member.gather_bytes_max.to_string(),
            "",
        ),
        (
            "entries not yet applied",
            member.in_flight_entries_max.to_string(),
            "",
        ),
        (
            "steps of a write",
            cluster.sql.steps_max.to_string(),
            "--step-budget",
        ),
        (
            "pages of a transaction",
            cluster.sql.transaction_pages_max.to_string(),
            "--transaction-limit",
        ),
        (
            "bytes of changed pages in memory",
            node.version_bytes_max.to_string(),
            "--version-memory",
        ),
        (
            "bytes of a transaction in memory, its journal and temporary files included",
            node.transaction_bytes_max.to_string(),
            "--transaction-memory",
        ),
        (
            "bytes of the spill file",
            node.spill_bytes_max.to_string(),
            "--spill-limit",
        ),
    ];
    let of_reads = [
        (
            "queries waiting for a connection that reads",
            node.read_queue_max.to_string(),
            "--read-queue",
        ),
        (
            "connections that read",
            node.readers.to_string(),
            "--readers",
        ),
        (
            "time a query waits for its level, unless it has a `timeout`",
            seconds(QUERY_WAIT_MAX),
            "",
        ),
        (
            "time a query runs and waits for a connection, at most",
            seconds(QUERY_RUN_MAX),
            "",
        ),
        ("rows of a query", READ_ROWS_MAX.to_string(), ""),
        ("bytes of a query's rows", READ_BYTES_MAX.to_string(), ""),
        (
            "reads waiting for one round of confirmation",
            member.reads_waiting_max.to_string(),
            "",
        ),
    ];
    let of_sessions = [
        ("sessions open on a node", SESSIONS_MAX.to_string(), ""),
        (
            "time a session idles, unless it has an `idle_ms` (at most an hour)",
            seconds(SESSION_IDLE),
            "",
        ),
        (
            "time a session lasts until its COMMIT, unless it has a `total_ms` (at most an hour)",
            seconds(SESSION_TOTAL),
            "",
        ),
        (
            "time a session waits for the writer (page mode)",
            seconds(WRITER_WAIT_MAX),
            "",
        ),
        (
            "statements of a session that writes (statement mode)",
            cluster.sql.statements_max.to_string(),
            "",
        ),
        (
            "bytes of a session's statements (statement mode)",
            cluster.request_bytes_max.to_string(),
            "--request-limit",
        ),
        (
            "steps of a session that writes, together; in page mode of one call",
            cluster.sql.steps_max.to_string(),
            "--step-budget",
        ),
    ];
    let of_nodes = [
        (
            "calls to one other node waiting, and as many unanswered",
            member.client_calls_max.to_string(),
            "",
        ),
        (
            "bytes of calls to other nodes",
            member.client_bytes_max.to_string(),
            "",
        ),
        ("links between nodes", links.links_max.to_string(), ""),
        ("handshakes at once", links.handshakes_max.to_string(), ""),
        ("time for a handshake", seconds(links.handshake_timeout), ""),
        (
            "time in which a node takes a byte",
            seconds(links.write_stall_max),
            "",
        ),
    ];
    let all = of_clients.into_iter().chain(of_writes);
    let all = all.chain(of_reads).chain(of_sessions).chain(of_nodes);
    all.map(|(name, default, flag)| (name, (default, flag)))
        .collect()
}

/// Cells of the rows of the section.
fn documented() -> Vec<Vec<&'static str>> {
    let page = include_str!("../../../../docs/operations.md");
    let (_, section) = page.split_once("\n## Limits\n").expect("the section");
    let section = section.split("\n## ").next().expect("its text");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    rows.skip(2).map(cells).collect()
}

#[test]
fn the_table_of_limits_in_the_documentation_is_this_one() {
    let mut limits = limits();
    for row in documented() {
        let [name, default, flag, outcome] = row[..] else {
            panic!("four cells: {row:?}");
        };
        let (known, its_flag) = limits.remove(name).expect(name);
        assert_eq!(
            (default, flag.trim_matches('`')),
            (known.as_str(), its_flag),
            "{name}"
        );
        assert!(!outcome.is_empty(), "{name}: what happens there?");
    }
    assert!(limits.is_empty(), "docs/operations.md lacks {limits:?}");
}

#[test]
fn each_flag_of_a_limit_exists() {
    let command = NodeArguments::augment_args(Command::new("node"));
    let flags: Vec<&str> = command
        .get_arguments()
        .filter_map(|one| one.get_long())
        .collect();
    for (name, (_, flag)) in limits() {
        let known = flag.is_empty() || flags.contains(&flag.trim_start_matches('-'));
        assert!(known, "{name}: {flag}");
    }
}
