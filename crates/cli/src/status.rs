//! `sqlrep status`: what `/status` and `/nodes` tell, in a few lines.

use crate::arguments::StatusArguments;
use crate::client::{Client, ClientError};
use crate::exit::Exit;
use crate::terminal::{self, harmless};
use serde_json::{Value, json};
use std::fmt::Write;

/// Asks a node and prints.
pub(crate) fn run(arguments: &StatusArguments) -> Exit {
    let client = Client::new(arguments.node.target.clone());
    let text = if arguments.json {
        everything(&client)
    } else {
        summary(&client)
    };
    let printed = match text {
        Ok(text) => terminal::out(&text).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match printed {
        Ok(()) => Exit::Ok,
        Err(error) => {
            terminal::error(error);
            Exit::Failed
        }
    }
}

/// Status and members as one object.
fn everything(client: &Client) -> Result<String, ClientError> {
    let both = json!({ "status": client.json("/status")?, "nodes": members(client)? });
    Ok(format!("{both:#}\n"))
}

/// How the node is, and the members as it sees them.
pub(crate) fn summary(client: &Client) -> Result<String, ClientError> {
    let mut text = node_lines(&client.json("/status")?);
    text.push('\n');
    text.push_str(&nodes(client)?);
    Ok(text)
}

/// The members, a line each.
pub(crate) fn nodes(client: &Client) -> Result<String, ClientError> {
    Ok(node_table(&members(client)?))
}

fn members(client: &Client) -> Result<Value, ClientError> {
    client.json("/nodes?ver=2&nonvoters")
}

/// The text at a JSON pointer; `-` where there is none.
fn at(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => harmless(text),
        Some(other) => harmless(&other.to_string()),
    }
}

fn node_lines(status: &Value) -> String {
    let one = |pointer| at(status, pointer);
    let lines = [
        ("node", one("/store/node_id")),
        ("release", one("/build/version")),
        ("role", one("/store/raft/state")),
        (
            "leader",
            format!(
                "{} at {}",
                one("/store/leader/node_id"),
                one("/store/leader/addr")
            ),
        ),
        ("term", one("/store/raft/term")),
        (
            "log",
            format!(
                "committed {}, applied {}",
                one("/store/raft/commit_index"),
                one("/store/db_applied_index")
            ),
        ),
        (
            "database",
            format!(
                "{} bytes, SQLite {}",
                one("/store/sqlite3/db_size"),
                one("/store/sqlite3/version")
            ),
        ),
        ("directory", one("/store/dir")),
        ("uptime", one("/node/uptime")),
    ];
    let troubles = [
        ("serves nothing", "/sqlrep/out_of_service"),
        ("in doubt", "/sqlrep/in_doubt"),
    ];
    let troubles = troubles.map(|(name, pointer)| (name, one(pointer)));
    let troubles = troubles.iter().filter(|(_, why)| why != "-");
    lines
        .iter()
        .chain(troubles)
        .fold(String::new(), |mut text, (name, value)| {
            writeln!(text, "{name:<10} {value}").expect("a String takes any text");
            text
        })
}

fn node_table(nodes: &Value) -> String {
    let list = nodes.get("nodes").and_then(Value::as_array);
    let cells = |node: &Value| {
        let on = |pointer, yes: &str, no: &str| match node.pointer(pointer) {
            Some(Value::Bool(true)) => yes.to_owned(),
            _ => no.to_owned(),
        };
        [
            at(node, "/id"),
            at(node, "/api_addr"),
            at(node, "/addr"),
            on("/voter", "voter", "read replica"),
            on("/reachable", "reachable", "unreachable"),
            on("/leader", "leader", ""),
        ]
    };
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header([
        "node",
        "clients",
        "raft",
        "votes",
        "reachable",
        "leads",
    ]);
    for node in list.into_iter().flatten() {
        table.add_row(cells(node));
    }
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_summed_up() {
        let status = json!({
            "build": {"version": "v0.1.0"},
            "store": {
                "node_id": "1", "leader": {"node_id": "2", "addr": "127.0.0.1:4004"},
                "raft": {"state": "Follower", "term": 3, "commit_index": 7},
                "db_applied_index": 6, "sqlite3": {"db_size": 4096, "version": "3.54.1"},
            },
            "node": {"uptime": "4s"},
        });
        let text = node_lines(&status);
        assert!(text.contains("role       Follower\n"), "{text}");
        assert!(text.contains("leader     2 at 127.0.0.1:4004\n"), "{text}");
        assert!(text.contains("committed 7, applied 6"), "{text}");
        assert!(text.contains("directory  -\n"), "{text}");
        assert!(!text.contains("in doubt"), "{text}");
        let sick = json!({"sqlrep": {"out_of_service": "page 7", "in_doubt": null}});
        let text = node_lines(&sick);
        assert!(text.ends_with("serves nothing page 7\n"), "{text}");
    }

    #[test]
    fn members_stand_one_to_a_line() {
        let nodes = json!({"nodes": [
            {"id": "1", "api_addr": "http://a:1", "addr": "a:2", "voter": true, "reachable": true, "leader": true},
            {"id": "2", "addr": "b:2", "voter": false, "reachable": false, "leader": false, "error": "\u{1b}["},
        ]});
        let text = node_table(&nodes);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.contains("leader") && text.contains("unreachable"),
            "{text}"
        );
        assert!(node_table(&json!([])).lines().count() == 1);
    }
}
