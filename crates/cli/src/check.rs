//! `sqlrep check`: what the check of a directory and the comparison of a cluster found, as text or JSON.
//!
//! | exit | a directory | a cluster |
//! | --- | --- | --- |
//! | 0 | sound | equal |
//! | 1 | a part couldn't be looked at | not known, or no answer |
//! | 3 | not one of ours, or a node runs on it | |
//! | 6 | damage | replicas differ |

use crate::arguments::CheckArguments;
use crate::client::{Client, ClientError};
use crate::exit::Exit;
use crate::terminal::{self, harmless};
use serde_json::{Value, json};
use sqlrep_node::check::{Report, Verdict, check};
use std::fmt::Write;
use std::path::Path;

/// Checks and prints.
pub(crate) fn run(arguments: &CheckArguments) -> Exit {
    let done = match &arguments.directory {
        Some(directory) => of_directory(directory, arguments.json),
        None => of_cluster(&Client::new(arguments.node.target.clone()), arguments.json),
    };
    let printed = done.and_then(|(exit, text)| match terminal::out(&text) {
        Ok(()) => Ok(exit),
        Err(error) => Err((Exit::Failed, error.to_string())),
    });
    printed.unwrap_or_else(|(exit, error)| {
        terminal::error(error);
        exit
    })
}

/// How it ends, and what is printed or why nothing is.
type Done = Result<(Exit, String), (Exit, String)>;

fn of_directory(directory: &Path, as_json: bool) -> Done {
    let report = check(directory).map_err(|error| (Exit::DirectoryRefused, error.to_string()))?;
    let (exit, verdict) = match report.verdict() {
        Verdict::Ok | Verdict::Note => (Exit::Ok, "sound"),
        Verdict::Damaged => (Exit::Corrupt, "damaged"),
        _ => (Exit::Failed, "unknown"),
    };
    let text = if as_json {
        let parts = serde_json::to_value(&report.parts);
        let parts = parts.map_err(|error| (Exit::Failed, error.to_string()))?;
        format!("{:#}\n", json!({ "verdict": verdict, "parts": parts }))
    } else {
        lines(&report, verdict)
    };
    Ok((exit, text))
}

/// A line for each part, the verdict last.
fn lines(report: &Report, verdict: &str) -> String {
    let mut text = String::new();
    let mut line = |part: &str, verdict: &str, what: &str| {
        writeln!(text, "{part:<17} {verdict:<8} {what}").expect("a String takes any text");
    };
    for part in &report.parts {
        let verdict = match part.verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Damaged => "damaged",
            _ => "unknown",
        };
        line(&part.part, verdict, &harmless(&part.text));
    }
    line("directory", verdict, "");
    text.trim_end().to_owned() + "\n"
}

fn of_cluster(client: &Client, as_json: bool) -> Done {
    let found = client.json("/v1/check");
    let found = found.map_err(|error: ClientError| (Exit::Failed, error.to_string()))?;
    let exit = match found.get("equal") {
        Some(Value::Bool(true)) => Exit::Ok,
        Some(Value::Bool(false)) => Exit::Corrupt,
        _ => Exit::Failed,
    };
    let text = if as_json {
        format!("{found:#}\n")
    } else {
        compared(&found)
    };
    Ok((exit, text))
}

/// The verdict, and a line for each node.
fn compared(found: &Value) -> String {
    let index = match found.get("index").and_then(Value::as_u64) {
        Some(index) => format!("at entry {index}"),
        None => "before the first entry".to_owned(),
    };
    let verdict = match found.get("equal").and_then(Value::as_bool) {
        Some(true) => "all replicas are equal",
        Some(false) => {
            "replicas differ; those that do judge themselves now, see in_doubt in their status"
        }
        None => "it isn't known whether all replicas are equal",
    };
    let mut text = format!("{index}: {verdict}\n");
    let nodes = found.get("nodes").and_then(Value::as_array);
    for node in nodes.into_iter().flatten() {
        let field = |name| node.get(name).and_then(Value::as_str);
        let told = match (
            field("checksum"),
            node.get("in_service").and_then(Value::as_bool),
        ) {
            (Some(checksum), _) => checksum,
            (None, Some(true)) => "keeps no checksum of that entry",
            (None, Some(false)) => "is out of service",
            (None, None) => "wasn't asked or doesn't answer",
        };
        let id = harmless(field("id").unwrap_or("-"));
        writeln!(text, "node {id:<12} {}", harmless(told)).expect("a String takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_told_node_by_node() {
        let found = json!({"index": 7, "equal": null, "nodes": [
            {"id": "1", "checksum": "00000000000000c5", "in_service": true},
            {"id": "2", "checksum": null, "in_service": null},
            {"id": "3", "checksum": null, "in_service": false},
        ]});
        let text = compared(&found);
        assert!(text.starts_with("at entry 7: it isn't known"), "{text}");
        assert!(
            text.contains("node 1            00000000000000c5\n"),
            "{text}"
        );
        assert!(text.contains("doesn't answer") && text.ends_with("out of service\n"));
        assert_eq!(compared(&json!({})).lines().count(), 1);
    }
}
