//! Where the nodes of a measured cluster listen, and relays between them that add a network's delay.
//!
//! ```text
//!   node 1 ──► relay of node 2: each chunk waits its delay ──► node 2        both directions alike
//! ```
//!
//! Invariant: bytes keep their order, and a relay holds no more than a bounded number of chunks of a connection.
//!
//! A relay doesn't lose, reorder or throttle, and has no jitter but the timer's: a chunk comes up to 1 ms late.

use crate::BenchError;
use sqlrep_env::Env;
use std::net::TcpListener;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Where ports begin and how many there are: below those that systems give to outgoing connections, so that a node that
/// is killed and started again finds its own free.
const PORTS: std::ops::Range<u16> = 20_000..31_000;

/// Read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Chunks on their way in one direction of a connection; beyond them the sender waits.
const CHUNKS_MAX: usize = 256;

/// Before the next caller is taken where one couldn't be.
const PAUSE: Duration = Duration::from_millis(5);

/// Of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// For clients.
    pub(crate) http: String,
    /// Where it listens for other nodes.
    pub(crate) listens: String,
    /// Where other nodes reach it: the same, or a relay.
    pub(crate) raft: String,
}

/// Free addresses for so many nodes, and what delays between them.
pub(crate) fn wired(
    env: &Env,
    nodes: usize,
    delay: Option<Duration>,
) -> Result<(Vec<Addresses>, Option<Relays>), BenchError> {
    let free = free_addresses(env, 2 * nodes)?;
    let pairs = free.chunks_exact(2);
    let mut addresses: Vec<Addresses> = pairs
        .map(|pair| Addresses {
            http: pair[0].clone(),
            listens: pair[1].clone(),
            raft: pair[1].clone(),
        })
        .collect();
    let Some(delay) = delay else {
        return Ok((addresses, None));
    };
    let relays = Relays::start().map_err(BenchError::Runtime)?;
    for node in &mut addresses {
        let relayed = relays.relay(node.listens.clone(), delay);
        node.raft = relayed.map_err(BenchError::Runtime)?;
    }
    Ok((addresses, Some(relays)))
}

/// Ports that nothing listens on.
fn free_addresses(env: &Env, count: usize) -> Result<Vec<String>, BenchError> {
    let all = PORTS.end - PORTS.start;
    let first = u16::try_from(env.entropy.next() % u64::from(all)).expect("it is below");
    let tried = (0..all).map(|step| PORTS.start + (first + step) % all);
    let free = tried.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let found: Vec<String> = free
        .take(count)
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    if found.len() < count {
        let error = std::io::ErrorKind::AddrInUse.into();
        return Err(BenchError::Runtime(error));
    }
    Ok(found)
}

/// Relays on a thread of their own, since they go on between slices. Dropping it ends them and their connections.
pub(crate) struct Relays {
    /// None once it was dropped.
    runtime: Option<Runtime>,
}

impl Relays {
    fn start() -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build()?;
        Ok(Self {
            runtime: Some(runtime),
        })
    }

    /// Listens on a port of the machine's choice for what goes to `to`; answers where.
    fn relay(&self, to: String, delay: Duration) -> std::io::Result<String> {
        let runtime = self.runtime.as_ref().expect("it isn't dropped yet");
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?.to_string();
        let _entered = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        runtime.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((caller, _)) => {
                        tokio::spawn(connection(caller, to.clone(), delay));
                    }
                    // The caller gave up before it was taken, or the machine has no more sockets for now.
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        });
        Ok(address)
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Both directions, until both are over. A node that can't be reached is told by the caller's connection ending.
async fn connection(caller: TcpStream, to: String, delay: Duration) {
    let Ok(called) = TcpStream::connect(&to).await else {
        return;
    };
    if caller.set_nodelay(true).is_err() || called.set_nodelay(true).is_err() {
        return;
    }
    let (from_caller, to_caller) = caller.into_split();
    let (from_called, to_called) = called.into_split();
    tokio::join!(
        direction(from_caller, to_called, delay),
        direction(from_called, to_caller, delay)
    );
}

type Due = (Instant, Vec<u8>);

/// Ends with its source, or when its target takes no more; dropping a half tells the other side.
async fn direction(from: OwnedReadHalf, to: OwnedWriteHalf, delay: Duration) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    tokio::join!(taken(from, sender, delay), given(receiver, to));
}

async fn taken(mut from: OwnedReadHalf, sender: mpsc::Sender<Due>, delay: Duration) {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        if !matches!(from.read_buf(&mut chunk).await, Ok(1..)) {
            return;
        }
        if sender.send((Instant::now() + delay, chunk)).await.is_err() {
            return;
        }
    }
}

async fn given(mut receiver: mpsc::Receiver<Due>, mut to: OwnedWriteHalf) {
    while let Some((due, chunk)) = receiver.recv().await {
        tokio::time::sleep_until(due).await;
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes back from a node that echoes, and how long it took.
    async fn echoed(address: &str, sent: &[u8]) -> (Vec<u8>, Duration) {
        let began = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        (got, began.elapsed())
    }

    async fn echo(listener: tokio::net::TcpListener) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        stream.write_all(&all).await.unwrap();
    }

    #[test]
    fn what_a_relay_carries_is_whole_in_order_and_late() {
        let runtime = crate::http::runtime().unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let delay = Duration::from_millis(20);
        let relays = Relays::start().unwrap();
        let to = listener.local_addr().unwrap().to_string();
        let address = relays.relay(to, delay).unwrap();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        let ((got, took), ()) =
            runtime.block_on(async { tokio::join!(echoed(&address, &sent), echo(listener)) });
        assert_eq!(got, sent);
        assert!(took >= 2 * delay, "{took:?}");
    }

    #[test]
    fn without_delay_nodes_are_reached_where_they_listen() {
        // As the benches call it: from inside a runtime.
        let runtime = crate::http::runtime().unwrap();
        let _entered = runtime.enter();
        let (addresses, relays) = wired(&Env::real(), 3, None).unwrap();
        assert_eq!(addresses.len(), 3);
        assert!(addresses.iter().all(|node| node.raft == node.listens));
        assert!(relays.is_none());
        let (delayed, relays) = wired(&Env::real(), 3, Some(Duration::ZERO)).unwrap();
        assert!(delayed.iter().all(|node| node.raft != node.listens));
        drop(relays);
    }
}
