//! More is asked than a node can do, by clients that storm, idle, trickle or go away: what doesn't fit is refused at once and
//! certainly not done, the rest is served, and the nodes go on hearing each other.

use crate::client::{Answer, Client};
use crate::cluster::Cluster;
use crate::process::NodeProcess;
use crate::waiting::{LIMIT, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

/// A gauge of `/metrics`.
fn gauge(node: &Client, name: &str) -> f64 {
    let (_, text) = node.get("/metrics").expect("it answers");
    let line = text.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        (found == format!("sqlrep_{name}")).then(|| value.parse().unwrap())
    });
    line.unwrap_or_else(|| panic!("no gauge {name}"))
}

fn until_gauge(node: &Client, name: &str, value: f64) {
    until(&format!("{name} of {} is {value}", node.http), || {
        (gauge(node, name) == value).then_some(())
    });
}

fn terms(cluster: &Cluster) -> Vec<serde_json::Value> {
    let term = |node: &NodeProcess| node.status()["store"]["raft"]["term"].clone();
    cluster.nodes.iter().map(term).collect()
}

/// Nothing waits or runs for anybody.
fn holds_nothing(cluster: &Cluster) {
    for node in &cluster.nodes {
        for name in [
            "proposer_waiting_requests",
            "proposer_in_flight_entries",
            "readers_waiting_requests",
            "readers_busy",
        ] {
            until_gauge(node, name, 0.0);
        }
    }
}

fn insert(client: &Client, id: u64) -> Answer {
    let body = json!([["INSERT INTO ledger (id) VALUES (?)", id]]).to_string();
    client.send("/db/execute", &body).unwrap()
}

/// Whether a write was done; else it was refused as a full queue refuses.
fn is_done(answer: &Answer) -> bool {
    if answer.status == 200 {
        assert_eq!(answer.header("x-sqlrep-outcome"), "committed", "{answer:?}");
        return true;
    }
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.header("x-sqlrep-outcome"), "refused");
    assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
    false
}

/// 300 clients at once, a queue of four: everybody is answered, reads on every node and heartbeats live on.
#[test]
fn a_write_storm_is_refused_where_it_does_not_fit_and_reads_live() {
    let mut cluster = Cluster::with(3, &["--queue=4"]);
    cluster.start_all();
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    let before = terms(&cluster);
    let (done, refused) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
    let (over, reads) = (AtomicBool::new(false), Mutex::new(0));
    std::thread::scope(|scope| {
        for node in &cluster.nodes {
            let (over, reads) = (&over, &reads);
            scope.spawn(move || {
                while !over.load(Ordering::Acquire) {
                    for level in ["none", "linearizable"] {
                        node.rows("SELECT count(*) FROM ledger", level).unwrap();
                        *reads.lock().unwrap() += 1;
                    }
                }
            });
        }
        let clients: Vec<_> = (0..300)
            .map(|number| {
                let client = cluster.nodes[number % 3].client.clone();
                let (done, refused) = (&done, &refused);
                scope.spawn(move || {
                    for turn in 0..3 {
                        let id = u64::try_from(number * 3 + turn).unwrap();
                        let told = is_done(&insert(&client, id));
                        let ids = if told { done } else { refused };
                        ids.lock().unwrap().insert(id);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        over.store(true, Ordering::Release);
    });
    let (done, refused) = (done.into_inner().unwrap(), refused.into_inner().unwrap());
    assert_eq!(done.len() + refused.len(), 900);
    assert!(done.len() > 20 && refused.len() > 20, "{}", done.len());
    assert!(reads.into_inner().unwrap() > 20, "too few reads to tell");
    assert_eq!(terms(&cluster), before, "an election");
    cluster.check(&done, &refused);
    holds_nothing(&cluster);
}

/// So many open files for this process and those that it starts.
fn open_files(wanted: u64) {
    let limits = getrlimit(Resource::Nofile);
    if limits.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            ..limits
        };
        setrlimit(Resource::Nofile, raised).expect("4,096 open files; raise the hard limit");
    }
}

fn connect(node: &Client, said: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&node.http).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(said.as_bytes()).unwrap();
    stream
}

/// Whether the other side has said anything.
fn has_said(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let said = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    said.is_ok_and(|bytes| bytes > 0)
}

/// What the other side says until it closes; a reset ends it too.
fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let ended = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    assert!(ended.is_ok() || !text.is_empty(), "{ended:?}");
    text
}

/// 1,000 idle connections, heads and bodies that trickle: others are served, slow bodies are cut, and the connection above the
/// limit is told so by name.
#[test]
fn idle_and_trickling_clients_leave_a_node_to_the_others() {
    open_files(4096);
    let mut cluster = Cluster::with(3, &["--connections=1200"]);
    cluster.start_all();
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    let before = terms(&cluster);
    let node = &cluster.nodes[0];
    let idle: Vec<_> = (0..1000).map(|_| connect(node, "")).collect();
    let head = "POST /db/execute HTTP/1.1\r\nHost: a\r\nContent-Le";
    let heads: Vec<_> = (0..50).map(|_| connect(node, head)).collect();
    let body = "POST /db/execute HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n[";
    let bodies: Vec<_> = (0..50).map(|_| connect(node, body)).collect();
    let mut done = BTreeSet::new();
    for id in 0..50 {
        assert!(is_done(&insert(node, id)));
        done.insert(id);
        node.rows("SELECT count(*) FROM ledger", "linearizable")
            .unwrap();
    }
    // More than there is room for, also without those whose time is over by now.
    let mut more: Vec<_> = (0..200).map(|_| connect(node, "")).collect();
    let told = until("a connection is refused", || more.iter().position(has_said));
    let refused = rest(more.swap_remove(told));
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("too many connections"), "{refused}");
    assert!(refused.contains("Retry-After"), "{refused}");
    for stream in bodies {
        let told = rest(stream);
        assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    }
    drop((idle, heads, more));
    until("there is room again", || node.is_ready().then_some(()));
    assert_eq!(terms(&cluster), before, "an election");
    cluster.check(&done, &BTreeSet::new());
}

fn write_and_wait(node: &Client, id: u64) -> TcpStream {
    let body = format!("[\"INSERT INTO ledger VALUES ({id})\"]");
    let length = body.len();
    let head = "POST /db/execute HTTP/1.1\r\nHost: a\r\nContent-Type: application/json";
    connect(
        node,
        &format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}"),
    )
}

/// Clients that went away while their writes waited: nothing waits for them, and what waited is never done.
#[test]
fn writes_of_clients_that_went_away_are_withdrawn() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    let leader = cluster.leader();
    let followers = [(leader + 1) % 3, (leader + 2) % 3];
    for follower in followers {
        cluster.nodes[follower].pause();
    }
    let node = &cluster.nodes[leader];
    let mut in_flight = Vec::new();
    for id in 0..3_u32 {
        in_flight.push(write_and_wait(node, u64::from(id)));
        until_gauge(node, "proposer_in_flight_entries", f64::from(id + 1));
    }
    let refused: BTreeSet<u64> = (100..140).collect();
    let waiting: Vec<_> = refused.iter().map(|id| write_and_wait(node, *id)).collect();
    until_gauge(node, "proposer_waiting_requests", 40.0);
    drop(waiting);
    until_gauge(node, "proposer_waiting_requests", 0.0);
    for follower in followers {
        cluster.nodes[follower].resume();
    }
    cluster.ready();
    cluster.check(&BTreeSet::new(), &refused);
    drop(in_flight);
    holds_nothing(&cluster);
}

/// A query that never ends, of a client that went away, at the node that runs it and at one that had it forwarded.
#[test]
fn queries_of_clients_that_went_away_are_stopped() {
    let mut cluster = Cluster::with(3, &["--readers=1"]);
    cluster.start_all();
    let leader = cluster.leader();
    let query = ENDLESS.replace(' ', "%20").replace('+', "%2B");
    for asked in [leader, (leader + 1) % 3] {
        let get = format!("GET /db/query?level=weak&q={query} HTTP/1.1\r\nHost: a\r\n\r\n");
        let gone = connect(&cluster.nodes[asked], &get);
        until_gauge(&cluster.nodes[leader], "readers_busy", 1.0);
        drop(gone);
        until_gauge(&cluster.nodes[leader], "readers_busy", 0.0);
    }
    let rows = cluster.nodes[leader].rows("SELECT 1", "weak").unwrap();
    assert_eq!(rows, json!([[1]]));
    holds_nothing(&cluster);
}
