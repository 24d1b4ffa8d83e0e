//! Members of one cluster on sockets and real time.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod sum;

use bytes::Bytes;
use sqlrep_core::memory::MemoryLog;
use sqlrep_core::{
    ClusterId, DirectoryId, Genesis, KeyLimits, Member, NoPeerService, NodeId, Parts, Peer,
    ReadBound, ReadLevel, Retry, Route, Settings, Transport,
};
use sqlrep_env::Env;
use sqlrep_transport_tcp::{Identity, Options, TcpTransport};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use sum::Sum;
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    id: NodeId,
    machine: Arc<Sum>,
    transport: Arc<TcpTransport>,
    member: Member<Sum>,
}

impl Node {
    async fn start(id: u64) -> Self {
        let node = NodeId::new(id).unwrap();
        let identity = Identity {
            node,
            directory: DirectoryId(id),
            mode: "statement".to_owned(),
            engine: "none".to_owned(),
            engine_digest: 0,
            release: "0.1.0".to_owned(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let transport = TcpTransport::new(listener, identity, Options::default());
        let machine = Arc::new(Sum::default());
        let parts = Parts {
            node,
            directory: DirectoryId(id),
            machine: machine.clone(),
            log: Arc::new(MemoryLog::default()),
            transport: transport.clone(),
            service: Arc::new(NoPeerService),
            genesis: Some(Genesis {
                cluster: ClusterId(7),
                settings: Bytes::new(),
            }),
            keys: KeyLimits::default(),
            env: Env::real(),
            settings: Settings::default(),
        };
        let member = Member::start(parts).await.unwrap();
        Self {
            id: node,
            machine,
            transport,
            member,
        }
    }

    fn peer(&self) -> Peer {
        Peer {
            raft: self.transport.local_addr().to_string(),
            directory: DirectoryId(self.id.get()),
            ..Peer::default()
        }
    }
}

/// A formed cluster whose transports know it.
async fn form(size: u64) -> Vec<Node> {
    let mut nodes = Vec::new();
    for id in 1..=size {
        nodes.push(Node::start(id).await);
    }
    let directory = |node: &Node| (node.id, DirectoryId(node.id.get()));
    let directories: BTreeMap<_, _> = nodes.iter().map(directory).collect();
    for node in &nodes {
        node.transport.belongs_to(ClusterId(7), directories.clone());
    }
    let members = nodes.iter().map(|node| (node.id, node.peer())).collect();
    nodes[0].member.bootstrap(members).await.unwrap();
    nodes
}

/// The node that can confirm that it leads.
async fn leader(nodes: &[Node]) -> &Node {
    let bound = || ReadBound {
        wait_max: Some(Duration::from_millis(300)),
        ..ReadBound::default()
    };
    let found = async {
        loop {
            for node in nodes {
                let lease = node.member.permit(ReadLevel::Weak, bound()).await;
                if lease.is_ok() {
                    return node;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, Box::pin(found)).await;
    found.expect("somebody leads in time")
}

/// Waits until all nodes have applied these numbers in this order, one added twice in a row aside.
async fn agreed(nodes: &[Node], numbers: &[u64]) {
    let same = || {
        let mut shown: Vec<_> = nodes.iter().map(|node| node.machine.numbers()).collect();
        shown.dedup();
        let alike = shown.len() == 1;
        shown[0].dedup();
        alike && shown[0] == numbers
    };
    let agreed = async {
        while !same() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, agreed).await.is_err() {
        let shown: Vec<_> = nodes.iter().map(|node| node.machine.numbers()).collect();
        panic!("no agreement: {shown:?}");
    }
}

/// Adds a number at whoever leads, once more when a change of leader left it open whether it was added.
async fn add(nodes: &[Node], number: u64) -> u64 {
    loop {
        let leader = leader(nodes).await;
        let added = leader.member.write(number, Route::Here, PATIENCE).await;
        match added {
            Ok(written) => return written.reply,
            Err(error) => assert_ne!(error.retry(), Retry::Useless, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_elect_and_agree_on_a_hundred_writes() {
    let nodes = form(3).await;
    let numbers: Vec<u64> = (1..=100).collect();
    let mut sum = 0;
    for number in &numbers {
        sum += number;
        assert!(add(&nodes, *number).await >= sum);
    }
    agreed(&nodes, &numbers).await;
    for node in &nodes {
        assert_eq!(node.transport.stats().refused, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_go_on_without_a_leader_whose_transport_is_closed() {
    let mut nodes = form(3).await;
    assert!(add(&nodes, 1).await >= 1);
    let gone = leader(&nodes).await.id;
    let at = nodes.iter().position(|node| node.id == gone).unwrap();
    let gone = nodes.remove(at);
    gone.transport.close();
    assert!(add(&nodes, 2).await >= 3);
    agreed(&nodes, &[1, 2]).await;
    gone.member.stop().await;
}
