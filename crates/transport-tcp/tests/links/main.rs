//! Transports of one process over the loopback interface, and strangers on raw sockets.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod carrying;
mod refusals;
mod strangers;

use sqlrep_core::{ClusterId, DirectoryId, Lane, Link, NodeId, Peer, Transport, TransportError};
use sqlrep_transport_tcp::{Identity, Options, Stats, TcpTransport};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Nothing here takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Fails the test when `work` doesn't come to an end.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, Box::pin(work)).await;
    done.expect("it is done in time")
}

pub(crate) fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

pub(crate) fn identity(id: u64) -> Identity {
    Identity {
        node: node(id),
        directory: DirectoryId(0xd0 + id),
        mode: "statement".to_owned(),
        engine: "2025-01-01 abc".to_owned(),
        engine_digest: 9,
        release: "0.1.0".to_owned(),
    }
}

pub(crate) async fn start_as(identity: Identity, options: Options) -> Arc<TcpTransport> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    TcpTransport::new(listener, identity, options)
}

pub(crate) async fn start(id: u64) -> Arc<TcpTransport> {
    let transport = start_as(identity(id), Options::default()).await;
    transport.belongs_to(ClusterId(0xc1), BTreeMap::new());
    transport
}

pub(crate) fn peer(transport: &TcpTransport) -> Peer {
    Peer {
        raft: transport.local_addr().to_string(),
        ..Peer::default()
    }
}

/// Both ends of a new link.
pub(crate) async fn link(a: &TcpTransport, b: &TcpTransport, lane: Lane) -> (Link, Link) {
    let near = soon(a.connect(None, &peer(b), lane)).await.unwrap();
    let (_, on, far) = soon(b.accept()).await.unwrap();
    assert_eq!(on, lane);
    (near, far)
}

/// The error of a call that must fail.
pub(crate) async fn fails(
    a: &TcpTransport,
    expects: Option<u64>,
    to: &Peer,
    lane: Lane,
) -> TransportError {
    let connected = soon(a.connect(expects.map(node), to, lane)).await;
    connected.err().expect("the call is refused")
}

/// Waits until `transport` has counted what `reached` looks for.
pub(crate) async fn counted(transport: &TcpTransport, reached: impl Fn(Stats) -> bool) {
    soon(async {
        while !reached(transport.stats()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
