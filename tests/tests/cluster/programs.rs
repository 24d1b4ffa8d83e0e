//! The programs around a node: the shell, the status, and a cluster to try things with.

use crate::client::Client;
use crate::cluster::Cluster;
use crate::command::{Run, program, sqlrep};
use crate::process::{NodeProcess, signal};
use crate::waiting::until;
use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};

/// One `sqlrep cluster` at a time: each takes the first ports that are free.
static PORTS: Mutex<()> = Mutex::new(());

fn shell(node: &NodeProcess, arguments: &[&str], input: &str) -> Run {
    let address = format!("--addr=http://{}", node.http);
    sqlrep(&[&["shell", &address], arguments].concat(), input)
}

#[test]
fn the_shell_runs_a_command_or_a_pipe_in_every_format() {
    let mut cluster = Cluster::of(1);
    cluster.start_all();
    let node = &cluster.nodes[0];
    let script = "CREATE TABLE t (id INTEGER PRIMARY KEY, name);\nINSERT INTO t (name)\n  VALUES ('a,b'), (NULL);\n\
                  .mode csv\nSELECT * FROM t;\n.tables\n";
    let piped = shell(node, &[], script);
    assert_eq!(piped.code, Some(0), "{piped:?}");
    assert_eq!(piped.out, "id,name\n1,\"a,b\"\n2,\nt\n");
    for (format, shown) in [
        ("csv", "id,name\n1,\"a,b\"\n2,\n"),
        (
            "json",
            "[{\"id\":1,\"name\":\"a,b\"},\n{\"id\":2,\"name\":null}]\n",
        ),
        ("line", "  id = 1\nname = a,b\n\n  id = 2\nname = NULL\n"),
    ] {
        let run = shell(node, &["--format", format, "-c", "SELECT * FROM t"], "");
        assert_eq!((run.code, run.out.as_str()), (Some(0), shown), "{format}");
        assert_eq!(run.err, "");
    }
    let table = shell(node, &["-c", "SELECT * FROM t"], "");
    let row = |text: &str| table.out.lines().any(|line| line.contains(text));
    assert!(row("id") && row("a,b") && row("NULL"), "{}", table.out);

    let stops =
        "INSERT INTO t (name) VALUES ('c');\nSELEC 1;\nINSERT INTO t (name) VALUES ('d');\n";
    let failed = shell(node, &[], stops);
    assert_eq!(failed.code, Some(1));
    assert!(failed.err.contains("syntax error"), "{}", failed.err);
    let count = node.rows("SELECT count(*) FROM t", "strong").unwrap();
    assert_eq!(count, json!([[3]]), "a script ends at its first error");
}

#[test]
fn the_shell_tells_the_schema_and_the_nodes_and_reads_a_file() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let node = &cluster.nodes[(leader + 1) % 3];
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script.sql");
    let lines = "CREATE TABLE t (id INTEGER PRIMARY KEY, name);\nCREATE TABLE u (x);\n\
                 INSERT INTO t (name)\n  VALUES ('read from a file');\n";
    std::fs::write(&script, lines).unwrap();
    let read = format!(
        ".read {}\n.mode csv\nSELECT name FROM t;\n",
        script.display()
    );
    let run = shell(node, &[], &read);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.out.ends_with("name\nread from a file\n"), "{run:?}");

    let run = shell(node, &[], ".schema\n");
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(
        run.out
            .contains("CREATE TABLE t (id INTEGER PRIMARY KEY, name)")
    );
    assert!(run.out.contains("CREATE TABLE u (x)"), "{run:?}");
    let run = shell(node, &[], ".schema u\n");
    assert!(run.out.contains("CREATE TABLE u (x)"), "{run:?}");
    assert!(!run.out.contains("CREATE TABLE t"), "{run:?}");

    let run = shell(node, &[], ".nodes\n");
    assert_eq!(run.code, Some(0), "{run:?}");
    for node in &cluster.nodes {
        assert!(run.out.contains(&node.raft), "{run:?}");
        assert!(run.out.contains(&node.http), "{run:?}");
    }
    let run = shell(
        node,
        &[],
        &format!(".read {}/none\n", folder.path().display()),
    );
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("none"), "{run:?}");
}

#[test]
fn status_tells_who_leads_and_who_is_there() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let address = format!("--addr=http://{}", cluster.nodes[(leader + 1) % 3].http);
    let told = sqlrep(&["status", &address], "");
    assert_eq!(told.code, Some(0), "{told:?}");
    for node in &cluster.nodes {
        assert!(told.out.contains(&node.raft), "{}", told.out);
    }
    let leads = format!(
        "{} at {}",
        cluster.nodes[leader].id, cluster.nodes[leader].raft
    );
    assert!(told.out.contains(&leads), "{}", told.out);
    let whole = sqlrep(&["status", "--json", &address], "");
    let whole: Value = serde_json::from_str(&whole.out).unwrap();
    assert_eq!(whole["nodes"]["nodes"].as_array().unwrap().len(), 3);
}

/// `sqlrep cluster`, and the first address that it prints in its curl line.
struct Tried {
    child: Child,
    folder: PathBuf,
    printed: PathBuf,
}

impl Tried {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let printed = folder.join("printed");
        let out = std::fs::File::create(&printed).unwrap();
        let child = program()
            .arg("cluster")
            .args(arguments)
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(out)
            .spawn();
        Self {
            child: child.unwrap(),
            folder: folder.to_owned(),
            printed,
        }
    }

    /// What it prints once it is there.
    fn printed(&mut self) -> String {
        until("the cluster prints how to use it", || {
            assert_eq!(self.child.try_wait().unwrap(), None, "it ended");
            let text = std::fs::read_to_string(&self.printed).unwrap();
            text.contains("Ctrl-C").then_some(text)
        })
    }

    /// Ctrl-C.
    fn interrupt(mut self, addresses: &[String]) {
        let pid = |address: &String| Client::new(address).status()["os"]["pid"].as_i64();
        let nodes: Vec<i64> = addresses.iter().map(|one| pid(one).unwrap()).collect();
        signal(&self.child, Signal::INT);
        let ended = until("the cluster ends", || self.child.try_wait().unwrap());
        assert_eq!(ended.code(), Some(0));
        std::fs::remove_file(&self.printed).unwrap();
        for node in nodes {
            let pid = Pid::from_raw(i32::try_from(node).unwrap()).unwrap();
            assert!(test_kill_process(pid).is_err(), "process {node} is left");
        }
    }
}

impl Drop for Tried {
    fn drop(&mut self) {
        // It has ended by itself if all went well; the nodes go with it either way.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The address in the curl line.
fn curl(printed: &str) -> Client {
    let line = printed.lines().find(|line| line.contains("curl")).unwrap();
    let address = line.split("http://").nth(1).unwrap();
    Client::new(address.split('/').next().unwrap())
}

/// The clients' addresses of all nodes.
fn addresses(printed: &str) -> Vec<String> {
    let of = |line: &str| {
        Some(
            line.strip_prefix("node ")?
                .split("http://")
                .nth(1)?
                .to_owned(),
        )
    };
    let all = printed.lines().filter_map(of);
    all.map(|one| one.split_whitespace().next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_cluster_to_try_works_as_it_prints_and_leaves_nothing_behind() {
    let _ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    for nodes in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let count = format!("--nodes={nodes}");
        let mut tried = Tried::start(folder.path(), &[&count]);
        let printed = tried.printed();
        let all = addresses(&printed);
        assert_eq!(all.len(), nodes, "{printed}");
        let body = json!([
            "CREATE TABLE IF NOT EXISTS t (x)",
            "INSERT INTO t VALUES (1)",
            "SELECT * FROM t"
        ]);
        let (status, answer) = curl(&printed).post("/db/request", &body).unwrap();
        assert_eq!(status, 200);
        assert_eq!(answer["results"][2]["values"], json!([[1]]), "{answer}");
        let last = Client::new(all.last().unwrap());
        assert_eq!(
            last.rows("SELECT x FROM t", "linearizable").unwrap(),
            json!([[1]])
        );
        let there = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
        assert_eq!(there(&tried.folder), 2, "its data, and what it printed");
        tried.interrupt(&all);
        assert_eq!(there(folder.path()), 0, "nothing is left");
    }
}

#[test]
fn a_data_directory_that_was_given_is_kept_with_its_ports() {
    let _ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data_dir = format!("--data-dir={}", data.display());
    let mut before = Vec::new();
    for round in 1..=2 {
        let mut tried = Tried::start(folder.path(), &["--nodes=3", &data_dir]);
        let printed = tried.printed();
        let client = curl(&printed);
        client.must("CREATE TABLE IF NOT EXISTS t (x)");
        client.must("INSERT INTO t VALUES (1)");
        let rows = client.rows("SELECT count(*) FROM t", "strong").unwrap();
        assert_eq!(rows, json!([[round]]), "{printed}");
        let all = addresses(&printed);
        assert!(before.is_empty() || before == all, "{before:?}, {all:?}");
        tried.interrupt(&all);
        assert!(data.join("cluster.toml").is_file() && data.join("1").is_dir());
        before = all;
    }
}
