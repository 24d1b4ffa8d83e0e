//! Whatever is wrong is refused by name, with what to do and with its own status or exit code, and does no harm.

use crate::MODE;
use crate::client::Outcome;
use crate::cluster::Cluster;
use crate::command::Run;
use crate::waiting::{LIMIT, until};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;

/// Asserts how a program ended, and part of what it said.
pub(crate) fn ends(run: &Run, code: i32, says: &str) {
    assert_eq!(run.code, Some(code), "{}", run.err);
    assert!(run.err.contains(says), "no {says:?} in {}", run.err);
    assert_eq!(run.out, "");
}

/// Copies a data directory, as an operator would.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let there = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &there);
        } else {
            std::fs::copy(entry.path(), there).unwrap();
        }
    }
}

#[test]
fn a_body_that_is_no_request_is_refused_with_a_status_and_a_text() {
    let mut cluster = Cluster::of(1);
    cluster.start_all();
    let node = &cluster.nodes[0];
    let deep = "[".repeat(10_002);
    for (path, body, status, says) in [
        ("/db/request", "no JSON", 400, "invalid JSON body"),
        ("/db/request", "", 400, "invalid JSON body"),
        ("/db/request", &deep, 400, "invalid JSON body"),
        ("/db/request", "{\"a\":1}", 400, "invalid request"),
        ("/db/execute", "null", 400, "invalid request"),
        ("/db/query", "[5]", 400, "invalid request"),
        ("/db/execute", "[[]]", 400, "invalid request"),
        ("/db/execute", "[]", 400, "no statements"),
        ("/db/execute?queue", "[\"SELECT 1\"]", 400, "queue"),
        ("/db/query?timeout=5", "[\"SELECT 1\"]", 400, "timeout"),
        ("/db/backup", "", 404, "not available in this release"),
        ("/db/nowhere", "[]", 404, ""),
        ("/status", "[]", 405, ""),
    ] {
        let answer = node.send(path, body).unwrap();
        let shown = body.get(..20).unwrap_or(body);
        assert_eq!(answer.status, status, "{path} {shown}: {answer:?}");
        assert!(answer.text.contains(says), "{path} {shown}: {answer:?}");
        assert_eq!(
            answer.header("x-sqlrep-outcome"),
            "refused",
            "{path} {shown}"
        );
    }
    let large = "POST /db/execute HTTP/1.1\r\nHost: n\r\nContent-Length: 8388609\r\n\r\n";
    let answer = by_hand(&node.http, large);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("longer than 8388608 bytes"), "{answer}");
    node.must("CREATE TABLE t (x)");
}

/// Sends only the head of a request, so that its answer can't get lost among what is still on its way.
fn by_hand(address: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What is refused where every node executes, and free to be run where one does.
fn only_replayed() -> Option<(&'static str, &'static str)> {
    let differs = (
        "INSERT INTO t VALUES (sqlite_version())",
        "differs between nodes",
    );
    (MODE == "statement").then_some(differs)
}

/// Rules 35 and 40: SQL that reaches outside, into transactions or beyond a limit is refused in every way to send it.
#[test]
fn sql_that_cannot_be_is_refused_by_name_and_changes_nothing() {
    let flags = [
        "--setting=transaction_pages_max=16",
        "--setting=sql_bytes_max=3000",
    ];
    let mut cluster = Cluster::with(1, &flags);
    cluster.start_all();
    let node = &cluster.nodes[0];
    node.must("CREATE TABLE t (x)");
    let long = format!("SELECT {}1", "1+".repeat(1600));
    let deep = format!("SELECT {}1", "1+".repeat(1400));
    for (sql, says) in [
        ("SELEC 1", "syntax error"),
        ("SELECT x FROM nowhere", "no such table"),
        (&long, "too long"),
        (&deep, "Expression tree is too large"),
        ("ATTACH '/tmp/x' AS x", "ATTACH and DETACH aren't allowed"),
        ("SELECT load_extension('x')", "can't reach outside"),
        (
            "PRAGMA journal_mode = DELETE",
            "replicated log takes the place",
        ),
        ("BEGIN", "transactions can't be begun or ended"),
        ("COMMIT", "transactions can't be begun or ended"),
        ("ROLLBACK", "transactions can't be begun or ended"),
        ("SAVEPOINT s", "transactions can't be begun or ended"),
        ("CREATE TEMP TABLE u (y)", "TEMP objects aren't allowed"),
        ("VACUUM INTO '/tmp/x'", "VACUUM"),
        ("CREATE TABLE sqlrep_x (y)", "reserved for the server"),
        (
            "INSERT INTO t VALUES (zeroblob(200000))",
            "more than 16 pages",
        ),
    ]
    .into_iter()
    .chain(only_replayed())
    {
        for path in ["/db/execute", "/db/request", "/db/request?transaction"] {
            match node.write(path, &json!([sql])) {
                Outcome::Refused(why) => assert!(why.contains(says), "{path} {sql}: {why}"),
                other => {
                    let savepoint = sql.starts_with("SAVEPOINT") && path.ends_with("transaction");
                    assert!(savepoint, "{path} {sql}: {other:?}");
                }
            }
        }
    }
    let empty = node
        .post("/db/execute", &json!(["", "-- nothing"]))
        .unwrap();
    assert_eq!(empty, (200, json!({ "results": [] })));
    node.must("INSERT INTO t VALUES (1)");
    assert_eq!(
        node.rows("SELECT * FROM t", "strong").unwrap(),
        json!([[1]])
    );
    assert_eq!(
        node.rows("SELECT name FROM sqlite_schema", "strong")
            .unwrap(),
        json!([["t"]])
    );
}

#[test]
fn what_is_wrong_with_a_data_directory_is_named_with_its_exit_code() {
    let mut cluster = Cluster::of(1);
    cluster.start_all();
    cluster.nodes[0].must("CREATE TABLE t (x)");
    for _ in 0..70 {
        cluster.nodes[0].must("INSERT INTO t VALUES (hex(randomblob(500)))");
    }
    assert!(cluster.nodes[0].stop().success());
    let mut copies = 0;
    let mut damaged = |harm: &dyn Fn(&Path)| {
        copies += 1;
        let mut node = cluster.newcomer(1);
        node.directory = node.directory.with_file_name(format!("copy-{copies}"));
        copy(&cluster.nodes[0].directory, &node.directory);
        harm(&node.directory);
        node.refused(&[])
    };
    let run = damaged(&|at| {
        let text = std::fs::read_to_string(at.join("identity")).unwrap();
        std::fs::write(at.join("identity"), text.replace("node 1", "node 2")).unwrap();
    });
    ends(&run, 6, "identity");
    ends(&run, 6, "checksum differs");
    let run = damaged(&|at| std::fs::remove_file(at.join("identity")).unwrap());
    ends(&run, 6, "empty the directory and join under a new node id");
    let segment = |at: &Path| at.join("log/0000000000000001.seg");
    let cut = |path: &Path, bytes| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(bytes).unwrap();
    };
    let run = damaged(&|at| cut(&segment(at), 100));
    ends(&run, 6, "log/0000000000000001.seg");
    ends(&run, 6, "cut short");
    let run = damaged(&|at| cut(&segment(at), 20_000));
    ends(
        &run,
        6,
        "log/0000000000000001.seg is damaged at offset 20000",
    );
    let run = damaged(&|at| std::fs::remove_dir_all(at.join("log")).unwrap());
    ends(&run, 6, "log/ is empty");
    let main = |at: &Path| at.join("db/1/main.db");
    let run = damaged(&|at| cut(&main(at), 4096));
    ends(&run, 6, "main.db");

    let mut node = cluster.newcomer(8);
    std::fs::write(&node.directory, "a file").unwrap();
    ends(&node.refused(&[]), 3, "node-8");
    node.directory = node.directory.join("below");
    ends(&node.refused(&[]), 3, "can't make the folder");
    let page = cluster.nodes[0].refused(&["--mode=page"]);
    assert_eq!(page.code, Some(2), "{page:?}");
}

/// Nobody votes under an id whose data is elsewhere or gone, and nobody takes another's place.
#[test]
fn a_cluster_lets_nobody_in_who_is_not_who_it_says() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    let joining = cluster.joining();
    let joining: Vec<&str> = joining.iter().map(String::as_str).collect();
    let with = |more: &[&'static str]| [&joining[..], more].concat();

    let settings = cluster.newcomer(4).refused(&with(&["--page-size=8192"]));
    ends(&settings, 3, "cluster setting page_bytes of the node at");
    ends(&settings, 3, "is 4096, this node runs with 8192");

    let leader = cluster.leader();
    let (copied, wiped) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[copied].kill();
    let mut twin = cluster.newcomer(cluster.nodes[copied].id);
    twin.directory = twin.directory.with_file_name("twin");
    copy(&cluster.nodes[copied].directory, &twin.directory);
    cluster.start_all();
    ends(&twin.refused(&joining), 3, "was copied");

    cluster.nodes[wiped].kill();
    std::fs::remove_dir_all(&cluster.nodes[wiped].directory).unwrap();
    let id = cluster.nodes[wiped].id;
    let run = cluster.nodes[wiped].refused(&joining);
    ends(&run, 3, &format!("`remove` node {id}"));
    ends(&run, 3, "under a new id");
    // What the message says helps.
    let gone = cluster.nodes.remove(wiped);
    let body = json!({ "id": id.to_string() });
    let removed = cluster.nodes[0].delete("/remove", &body).unwrap();
    assert_eq!(removed.status, 200, "{removed:?}");
    std::fs::remove_dir_all(&gone.directory).unwrap();
    let mut again = cluster.newcomer(7);
    again.spawn(&cluster.joining());
    cluster.nodes.push(again);
    cluster.ready();
    cluster.nodes[2].must("INSERT INTO ledger VALUES (1)");
    cluster.check(&[1].into(), &[].into());
}

#[test]
fn a_client_port_to_join_is_named_and_other_numbers_of_nodes_are_refused() {
    let mut cluster = Cluster::of(1);
    cluster.start_all();
    let client_port = format!("--join={}", cluster.nodes[0].http);
    let lost = cluster.newcomer(2).refused(&[&client_port]);
    ends(&lost, 3, "seems to serve HTTP");
    ends(&lost, 3, "take raft addresses");
    cluster.nodes[0].must("CREATE TABLE t (x)");

    let mut pair = Cluster::of(2);
    let both = format!("--join={},{}", pair.nodes[0].raft, pair.nodes[1].raft);
    let three = format!("{both},{}", cluster.newcomer(3).raft);
    pair.nodes[0].spawn(&[both, "--bootstrap-expect=2".to_owned()]);
    pair.nodes[1].spawn(&[three, "--bootstrap-expect=3".to_owned()]);
    let first = until("one of them refuses", || {
        pair.nodes.iter_mut().position(|node| !node.is_running())
    });
    let said = pair.nodes[first].said();
    assert_eq!(pair.nodes[first].ended().code(), Some(3), "{said}");
    let other = ["expects 3 nodes", "expects 2 nodes"][first];
    assert!(said.contains(other), "{said}");
}

/// Where rqlite refuses the whole request, the statement is refused alone: `docs/compatibility.md` tells so.
#[test]
fn a_forbidden_pragma_is_an_error_of_its_statement_alone() {
    let mut cluster = Cluster::of(1);
    cluster.start_all();
    let node = &cluster.nodes[0];
    node.must("CREATE TABLE t (x)");
    let pragma = "PRAGMA JOURNAL_MODE=DELETE";
    let body = json!([pragma, "INSERT INTO t VALUES (1)"]);
    let (status, answer) = node.post("/db/execute", &body).unwrap();
    assert_eq!((status, &answer["error"]), (200, &json!(null)), "{answer}");
    let why = answer["results"][0]["error"].as_str().unwrap();
    assert!(why.contains("replicated log takes the place"), "{why}");
    assert_eq!(answer["results"][1]["rows_affected"], 1, "{answer}");
    for hidden in [
        "/* a */ pragma main.journal_mode(DELETE)",
        "SELECT 1; PRAGMA journal_mode=OFF",
    ] {
        let (_, answer) = node.post("/db/request", &json!([hidden])).unwrap();
        let told = answer.to_string();
        assert!(told.contains("replicated log takes the place"), "{told}");
    }
}
