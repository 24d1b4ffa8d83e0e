//! Two peers of one process: one echoes what the other sends, on each lane.
//!
//! ```text
//! cargo run --example echo
//! ```
//!
//! Then a third one calls, which belongs to another cluster: it is told why there is no link.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use bytes::Bytes;
use sqlrep_core::{ClusterId, DirectoryId, Lane, Link, NodeId, Peer, Transport, TransportError};
use sqlrep_transport_tcp::{Identity, Options, TcpTransport};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use tokio::net::TcpListener;

type Answer<T> = Result<T, Box<dyn Error>>;

/// A node of `cluster` on a port that the system chose.
pub(crate) async fn start(id: u32, cluster: u64) -> Answer<Arc<TcpTransport>> {
    let identity = Identity {
        node: NodeId::try_from(u64::from(id))?,
        directory: DirectoryId(u64::from(id)),
        mode: "statement".to_owned(),
        engine: "none".to_owned(),
        engine_digest: 0,
        release: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let transport = TcpTransport::new(listener, identity, Options::default());
    transport.belongs_to(ClusterId(cluster), BTreeMap::new());
    Ok(transport)
}

/// Echoes on every link until the transport is closed.
pub(crate) async fn serve(transport: Arc<TcpTransport>) {
    while let Some((_from, _lane, link)) = transport.accept().await {
        tokio::spawn(echo(link));
    }
}

async fn echo(mut link: Link) -> Result<(), TransportError> {
    while let Some(frame) = link.receiver.receive().await? {
        link.sender.send(frame).await?;
    }
    Ok(())
}

/// Sends `text` to whoever listens at `address` and waits for its echo.
pub(crate) async fn ask(
    transport: &TcpTransport,
    address: &str,
    lane: Lane,
    text: &str,
) -> Answer<String> {
    let peer = Peer {
        raft: address.to_owned(),
        ..Peer::default()
    };
    let mut link = transport.connect(None, &peer, lane).await?;
    link.sender.send(Bytes::from(text.to_owned())).await?;
    let answer = link.receiver.receive().await?.ok_or("no answer")?;
    Ok(String::from_utf8(answer.into())?)
}

async fn run() -> Answer<()> {
    let (near, far) = (start(1, 7).await?, start(2, 7).await?);
    let address = far.local_addr().to_string();
    let serving = tokio::spawn(serve(far.clone()));
    for lane in Lane::ALL {
        let answer = ask(&near, &address, lane, "hello").await?;
        println!("{lane:?}: {answer:?}");
    }
    let stranger = start(3, 8).await?;
    if let Err(refusal) = ask(&stranger, &address, Lane::Client, "hello").await {
        println!("{refusal}");
    }
    far.close();
    Ok(serving.await?)
}

fn main() -> Answer<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(run())
}
