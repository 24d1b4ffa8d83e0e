//! Interactive transactions of whole binaries, over HTTP.

use crate::MODE;
use crate::client::{Client, Outcome};
use crate::cluster::Cluster;
use crate::waiting::until;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::thread::JoinHandle;

fn open(client: &Client, body: &Value) -> Result<String, String> {
    let (status, answer) = client.post("/v1/sessions", body)?;
    let name = answer["session"].as_str().map(str::to_owned);
    name.filter(|_| status == 201)
        .ok_or_else(|| format!("{status} {answer}"))
}

fn run(client: &Client, session: &str, statements: &Value) -> Result<(u16, Value), String> {
    client.post(&format!("/v1/sessions/{session}/statements"), statements)
}

/// What a client may believe of its COMMIT.
fn commit(client: &Client, session: &str) -> Outcome {
    match client.post(&format!("/v1/sessions/{session}/commit"), &json!([])) {
        Err(error) => Outcome::Unknown(error),
        Ok((200, answer)) if answer["raft_index"].is_u64() => Outcome::Done,
        Ok((200, answer)) => Outcome::Unknown(answer.to_string()),
        Ok((410, answer)) if answer.to_string().contains("(committed)") => Outcome::Done,
        Ok((410, answer)) if answer.to_string().contains("(unknown)") => {
            Outcome::Unknown(answer.to_string())
        }
        Ok((_, answer)) => Outcome::Refused(answer.to_string()),
    }
}

/// Rule 41: one session through every node; a conflict is 409 and leaves nothing; a server-side end is 410 everywhere.
#[test]
fn a_session_is_used_through_every_node() {
    let cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER PRIMARY KEY, x)");
    for (id, owner) in (1..).zip(&cluster.nodes) {
        let session = open(owner, &json!({ "begin": "deferred" })).unwrap();
        for (step, node) in (0..).zip(&cluster.nodes) {
            let sql = format!("INSERT INTO ledger VALUES ({}, random())", 10 * id + step);
            let (status, answer) = run(node, &session, &json!([sql])).unwrap();
            assert_eq!(
                (status, &answer["results"][0]["error"]),
                (200, &Value::Null)
            );
        }
        let committed = commit(&cluster.nodes[id % 3], &session);
        assert_eq!(committed, Outcome::Done);
    }
    let node = &cluster.nodes[1];
    let session = open(node, &json!({ "begin": "deferred" })).unwrap();
    let count = json!(["SELECT count(*) FROM ledger"]);
    let (_, answer) = run(node, &session, &count).unwrap();
    assert_eq!(answer["results"][0]["values"], json!([[9]]));
    cluster.nodes[2].must("INSERT INTO ledger VALUES (99, 0)");
    let (status, answer) = run(node, &session, &json!(["DELETE FROM ledger"])).unwrap();
    let end = match MODE {
        // It drafts on, and is a conflict as a whole.
        "statement" => "commit",
        // Its version isn't the newest: it becomes no writer.
        _ => "rollback",
    };
    let (early, late) = if end == "commit" {
        (200, 409)
    } else {
        (409, 200)
    };
    assert_eq!(status, early, "{answer}");
    let path = format!("/v1/sessions/{session}/{end}");
    let (status, answer) = node.post(&path, &json!([])).unwrap();
    assert_eq!(status, late, "{answer}");
    let late = run(&cluster.nodes[0], &session, &json!(["DELETE FROM ledger"])).unwrap();
    assert_eq!(late.0, 410, "{late:?}");
    let rows = cluster.agree("SELECT count(*) FROM ledger");
    assert_eq!(rows, json!([[10]]));
    cluster.agree_on_bytes();
}

fn counted(client: &Client) -> Option<u64> {
    let rows = client.rows("SELECT count(*) FROM ledger", "none").ok()?;
    rows[0][0].as_u64()
}

/// A session with one write in it, from its begin to its end. Without a COMMIT that began, nothing is done.
fn whole(client: &Client, id: u64) -> Outcome {
    let limits = json!({ "begin": "immediate", "total_ms": 60_000 });
    let session = match open(client, &limits) {
        Ok(session) => session,
        Err(error) => return Outcome::Refused(error),
    };
    let insert = json!([["INSERT INTO ledger VALUES (?)", id]]);
    match run(client, &session, &insert) {
        Ok((200, answer)) if answer["results"][0]["error"].is_null() => commit(client, &session),
        other => Outcome::Refused(format!("{other:?}")),
    }
}

/// A session whose write is done, to be committed by a thread of its own. In page mode the whole of it is that thread's: it has the writer
/// for itself.
fn committing(client: Client, id: u64) -> JoinHandle<Outcome> {
    let mut session = None;
    if MODE == "statement" {
        let limits = json!({ "total_ms": 60_000, "idle_ms": 60_000 });
        let open = open(&client, &limits).unwrap();
        let insert = json!([["INSERT INTO ledger VALUES (?)", id]]);
        assert_eq!(run(&client, &open, &insert).unwrap().0, 200);
        session = Some(open);
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "clients of a test are threads of their own"
    )]
    std::thread::spawn(move || match session {
        Some(session) => commit(&client, &session),
        None => whole(&client, id),
    })
}

/// Rule 41: the leader dies by kill -9 while sessions commit, theirs and those of other nodes: each is there once or not at all,
/// as its client was told.
#[test]
fn a_commit_survives_the_death_of_the_leader_or_not_and_says_so() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    let (mut done, mut refused) = (BTreeSet::new(), BTreeSet::new());
    let mut id = 0;
    for _ in 0..3 {
        let leader = cluster.leader();
        let before = until("rows are counted", || counted(&cluster.nodes[leader]));
        let mut commits = Vec::new();
        for node in cluster.nodes.iter().cycle().take(12) {
            id += 1;
            commits.push((id, committing((**node).clone(), id)));
        }
        if MODE == "page" {
            let node = &cluster.nodes[(leader + 1) % 3];
            until("one of them is done", || {
                (counted(node)? > before).then_some(())
            });
        }
        cluster.nodes[leader].kill();
        for (id, commit) in commits {
            match commit.join().unwrap() {
                Outcome::Done => {
                    done.insert(id);
                }
                Outcome::Refused(_) => {
                    refused.insert(id);
                }
                Outcome::Unknown(_) => {}
            }
        }
        cluster.start_all();
    }
    if MODE == "statement" {
        assert!(done.len() >= 12, "those of other nodes commit: {done:?}");
    }
    assert!(!done.is_empty());
    cluster.check(&done, &refused);
}
