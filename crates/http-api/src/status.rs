//! `/status`: what a node tells about itself, under the names that rqlite's clients look for; what is ours alone
//! stands under `sqlrep`. It never waits, and answers from the first connection on.

use crate::front::{Call, Front};
use crate::options::{API_VERSION, RELEASE};
use crate::outcome::{Response, json};
use crate::{date, duration};
use serde_json::{Value, json};
use sqlrep_core::EntryId;
use sqlrep_service::{NodeStatus, Role, Status};
use std::collections::BTreeMap;

pub(crate) fn answer(front: &Front, call: &Call<'_>) -> Response {
    let status = front.api.admin.status();
    let whole = whole(front, &status);
    let wanted = match call.params.get("key") {
        Some(path) => path
            .split('.')
            .try_fold(&whole, |value, key| value.get(key))
            .cloned()
            .unwrap_or_else(|| json!({})),
        None => whole,
    };
    let compact = serde_json::to_vec(&wanted).expect("values of ours are JSON");
    json(compact, call.pretty())
}

fn whole(front: &Front, status: &Status) -> Value {
    let now_ms = status
        .started_unix_ms
        .saturating_add(u64::try_from(status.uptime.as_millis()).unwrap_or(u64::MAX));
    let mut whole = json!({
        "build": { "version": API_VERSION, "commit": "unknown", "branch": "unknown", "build_time": "unknown", "compiler": "rustc" },
        "cluster": { "addr": status.raft_address, "api_addr": status.http_address, "https": "false" },
        "http": {
            "bind_addr": front.local_addr.to_string(),
            "auth": "disabled",
            "cluster": { "local_node_addr": status.raft_address, "timeout": duration::text(front.api.options.members_timeout) },
            "queue": {},
            "tls": { "enabled": "false" },
        },
        "node": {
            "start_time": date::rfc3339(status.started_unix_ms),
            "current_time": date::rfc3339(now_ms),
            "uptime": duration::text(status.uptime),
        },
        "os": { "pid": std::process::id() },
        "runtime": {
            "GOARCH": std::env::consts::ARCH,
            "GOOS": std::env::consts::OS,
            "num_cpu": std::thread::available_parallelism().map_or(1, usize::from),
        },
        "store": store(status),
        "sqlrep": own(status),
    });
    if let Some(origin) = &front.api.options.allow_origin {
        whole["http"]["allow_origin"] = json!(origin);
    }
    whole
}

fn index(entry: Option<EntryId>) -> u64 {
    entry.map_or(0, |entry| entry.index.into())
}

fn term(entry: Option<EntryId>) -> u64 {
    entry.map_or(0, |entry| entry.term.into())
}

fn raft(status: &Status) -> Value {
    let log = &status.log;
    let state = match status.role {
        Role::Leader => "Leader",
        Role::Follower | Role::Learner => "Follower",
        Role::Candidate => "Candidate",
        Role::Shutdown => "Shutdown",
    };
    let contact = match status.last_contact {
        None => "never".to_owned(),
        Some(time) if time.is_zero() => "0".to_owned(),
        Some(time) => duration::text(time),
    };
    let voters = status.members.iter().filter(|member| member.voter).count();
    json!({
        "state": state,
        "voter": status.voter,
        "term": u64::from(status.term),
        "commit_index": log.committed.map_or(0, u64::from),
        "applied_index": index(log.applied),
        "fsm_pending": log.unapplied,
        "last_log_index": index(log.last),
        "last_log_term": term(log.last),
        "last_snapshot_index": index(log.durable),
        "last_snapshot_term": term(log.durable),
        "last_contact": contact,
        "latest_configuration": configuration(status),
        "num_peers": voters.saturating_sub(usize::from(status.voter)),
        "log_size": log.bytes,
        "log_size_friendly": friendly(log.bytes),
    })
}

/// The members as rqlite prints them: Go's text of a slice of structs.
fn configuration(status: &Status) -> String {
    let member = |member: &NodeStatus| {
        let (suffrage, id, address) = (suffrage(member.voter), member.id, &member.raft_address);
        format!("{{Suffrage:{suffrage} ID:{id} Address:{address}}}")
    };
    let members: Vec<String> = status.members.iter().map(member).collect();
    format!("[{}]", members.join(" "))
}

fn suffrage(voter: bool) -> &'static str {
    if voter { "Voter" } else { "Nonvoter" }
}

/// What a restart begins from, named as rqlite names snapshots, by term and index; none before the first checkpoint.
fn snapshots(status: &Status) -> Vec<String> {
    let durable = status.log.durable.iter();
    durable
        .map(|at| format!("{}-{}", at.term, at.index))
        .collect()
}

/// Bytes for people, cut off behind the second digit or the point: `82 B`, `4.0 kB`, `33 MB`.
fn friendly(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut divisor, mut unit) = (1, 0);
    while bytes / divisor >= 1000 {
        (divisor, unit) = (divisor * 1000, unit + 1);
    }
    let whole = bytes / divisor;
    match whole {
        ..10 if unit > 0 => format!(
            "{whole}.{} {}",
            bytes % divisor / (divisor / 10),
            UNITS[unit]
        ),
        _ => format!("{whole} {}", UNITS[unit]),
    }
}

fn store(status: &Status) -> Value {
    let (leader_id, leader_addr) = match &status.leader {
        Some(leader) => (leader.id.to_string(), leader.raft_address.clone()),
        None => Default::default(),
    };
    let nodes: Vec<Value> = status
        .members
        .iter()
        .map(|member| json!({ "id": member.id.to_string(), "addr": member.raft_address, "suffrage": suffrage(member.voter) }))
        .collect();
    json!({
        "open": true,
        "ready": status.leader.is_some(),
        "node_id": status.node.to_string(),
        "addr": status.raft_address,
        "leader": { "node_id": leader_id, "addr": leader_addr },
        "raft": raft(status),
        "fsm_index": index(status.log.applied),
        "fsm_term": term(status.log.applied),
        "db_applied_index": index(status.log.applied),
        "nodes": nodes,
        "dir": status.directory_path,
        "snapshot_store": { "snapshots": snapshots(status) },
        "sqlite3": sqlite(status),
    })
}

fn sqlite(status: &Status) -> Value {
    let sqlite = &status.sqlite;
    let bytes = u64::from(sqlite.pages) * u64::from(sqlite.page_bytes);
    let on = status
        .settings
        .get("foreign_keys")
        .is_some_and(|text| text == "true" || text == "1");
    let pragmas = |of: &BTreeMap<String, String>| {
        let mut pragmas = json!(of);
        pragmas["foreign_keys"] = json!(if on { "1" } else { "0" });
        pragmas
    };
    let (connections, busy) = sqlite.readers;
    json!({
        "path": sqlite.path,
        "version": sqlite.version,
        "compile_options": sqlite.compile_options,
        "db_size": bytes,
        "db_size_friendly": friendly(bytes),
        "size": sqlite.file_bytes,
        "wal_size": sqlite.log_bytes_behind,
        "conn_pool_stats": {
            "ro": { "max_open_connections": connections, "in_use": busy, "idle": connections.saturating_sub(busy) },
            "rw": { "max_open_connections": 1 },
        },
        "mem_stats": { "page_count": sqlite.pages, "page_size": sqlite.page_bytes },
        "pragmas": { "ro": pragmas(&sqlite.reading_pragmas), "rw": pragmas(&sqlite.writing_pragmas) },
    })
}

fn own(status: &Status) -> Value {
    json!({
        "version": RELEASE,
        "mode": status.mode,
        "cluster": status.cluster.to_string(),
        "directory": status.directory.to_string(),
        "role": format!("{:?}", status.role),
        "durable_index": index(status.log.durable),
        "purged_index": index(status.log.purged),
        "out_of_service": status.out_of_service,
        "in_doubt": status.in_doubt,
        "checksum": format!("{:016x}", status.sqlite.checksum),
        "page_bytes": status.sqlite.page_bytes,
        "pages": status.sqlite.pages,
        "version_bytes": status.sqlite.version_bytes,
        "settings": status.settings,
        "metrics": status.metrics,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_few_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (4096, "4.0 kB"),
            (9_960, "9.9 kB"),
            (32_768, "32 kB"),
            (999_999, "999 kB"),
            (1_000_000, "1.0 MB"),
            (134_217_728, "134 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(friendly(bytes), text, "{bytes}");
        }
    }
}
