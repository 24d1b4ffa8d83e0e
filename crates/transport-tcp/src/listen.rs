//! The task that answers callers.
//!
//! Each caller's handshake is a task of its own, cut at a deadline; while as many run as may, further callers
//! wait in the kernel's backlog. When the transport is closed, or this task is dropped with its runtime, they all end.

use crate::handshake::{self, Failure};
use crate::hello::{Call, Verdict};
use crate::sockets::{Halves, Listener};
use crate::transport::{Arrival, Shared, closing, in_time, warn_of_engines};
use sqlrep_core::TransportError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

/// Pause after a failed accept: it fails for want of file descriptors or memory, which doesn't end at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers callers until the transport is closed.
pub(crate) async fn run(
    listener: Box<dyn Listener>,
    shared: Arc<Shared>,
    arrivals: mpsc::Sender<Arrival>,
) {
    let mut closed = shared.closed.subscribe();
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = closing(&mut closed) => return,
            Some(_ended) = handshakes.join_next() => {}
            accepted = listener.accept(), if handshakes.len() < shared.options.handshakes_max => match accepted {
                Ok((socket, from)) => {
                    handshakes.spawn(greet(socket, from, shared.clone(), arrivals.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted for now");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Does the handshake with one caller and hands its link over.
async fn greet(
    socket: Halves,
    from: SocketAddr,
    shared: Arc<Shared>,
    arrivals: mpsc::Sender<Arrival>,
) {
    let limit = shared.options.handshake_timeout;
    match in_time(limit, Box::pin(answer(socket, from, &shared))).await {
        // Nobody accepts any more: the link is dropped, and so ends.
        Ok(arrival) => drop(arrivals.send(arrival).await),
        Err(Failure::Io(error)) => tracing::debug!(%from, %error, "a caller gave up"),
        Err(Failure::Busy(why)) => tracing::warn!(%from, %why, "a caller has to wait"),
        Err(failure) => {
            shared.count_refusal();
            tracing::warn!(%from, %failure, "a caller is refused on the raft port");
        }
    }
}

async fn answer(socket: Halves, from: SocketAddr, shared: &Shared) -> Result<Arrival, Failure> {
    let (mut reading, mut writing) = socket;
    let us = shared.card();
    let mut permit = None;
    let judge = |call: &Call| match shared.judge_caller(&us, call) {
        Verdict::Accepted => take_room(shared, &mut permit),
        refused => refused,
    };
    let call = handshake::answer(&mut reading, &mut writing, &us, judge).await?;
    warn_of_engines(&us, &call.caller, call.lane);
    let permit = permit.expect("an accepted caller has room");
    let tied = shared.tie((reading, writing), from.to_string(), call.lane, permit);
    let link = tied.map_err(|error: TransportError| Failure::Busy(error.to_string()))?;
    Ok((call.caller.node, call.lane, link))
}

fn take_room(shared: &Shared, permit: &mut Option<OwnedSemaphorePermit>) -> Verdict {
    match shared.room() {
        Ok(room) => {
            *permit = Some(room);
            Verdict::Accepted
        }
        Err(full) => Verdict::Busy(format!("no room at node {}: {full}", shared.card().node)),
    }
}
