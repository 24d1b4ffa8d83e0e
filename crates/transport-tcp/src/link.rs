//! Both halves of a link, and what ties them together.
//!
//! Invariant 1: a link that failed in one direction is over in both; what has arrived by then can still be received, as
//! the other side may have said why it gave up.
//! Invariant 2: a link counts as one until both of its halves are dropped.

use crate::frames::{FrameError, FrameReader, FrameWriter};
use crate::options::{Counters, count};
use crate::sockets::{Halves, Reading, Writing};
use async_trait::async_trait;
use bytes::Bytes;
use sqlrep_core::{FrameReceiver, FrameSender, Lane, Link, TransportError};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Whether a link goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// One of its directions failed.
    Broken,
    /// Its transport was closed.
    Closed,
}

/// What the halves of a link share.
pub(crate) struct Tie {
    state: watch::Sender<State>,
    /// The other side, for people.
    address: String,
    lane: Lane,
    counters: Arc<Counters>,
    _permit: OwnedSemaphorePermit,
}

impl Tie {
    pub(crate) fn new(
        address: String,
        lane: Lane,
        counters: Arc<Counters>,
        permit: OwnedSemaphorePermit,
    ) -> Arc<Self> {
        counters.links.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            state: watch::channel(State::Open).0,
            address,
            lane,
            counters,
            _permit: permit,
        })
    }

    /// Ends the link because its transport is closed.
    pub(crate) fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    fn broken(&self, source: io::Error) -> TransportError {
        self.state.send_if_modified(|state| {
            let was_open = *state == State::Open;
            if was_open {
                *state = State::Broken;
            }
            was_open
        });
        TransportError::Unreachable {
            address: self.address.clone(),
            source,
        }
    }

    fn malformed(&self, address: &str, what: String) -> TransportError {
        self.broken(io::ErrorKind::InvalidData.into());
        TransportError::Malformed {
            address: address.to_owned(),
            what,
        }
    }

    /// Ties two halves. `own` is this node's address.
    pub(crate) fn link(
        self: Arc<Self>,
        (reading, writing): Halves,
        own: String,
        stall_max: Duration,
    ) -> Link {
        let sender = Sender {
            frames: FrameWriter::new(writing, stall_max),
            state: self.state.subscribe(),
            tie: self.clone(),
            own,
        };
        let receiver = Receiver {
            frames: FrameReader::new(reading, self.lane.frame_bytes_max()),
            state: self.state.subscribe(),
            tie: self,
        };
        Link {
            sender: Box::new(sender),
            receiver: Box::new(receiver),
        }
    }
}

impl Drop for Tie {
    fn drop(&mut self) {
        self.counters.links.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns once the link is over, with the reason.
async fn over(state: &mut watch::Receiver<State>, tie: &Tie) -> TransportError {
    let state = state.wait_for(|state| *state != State::Open).await;
    match state.map(|state| *state) {
        Ok(State::Closed) => TransportError::Closed,
        _ => tie.broken(io::ErrorKind::ConnectionAborted.into()),
    }
}

struct Sender {
    frames: FrameWriter<Writing>,
    state: watch::Receiver<State>,
    tie: Arc<Tie>,
    own: String,
}

#[async_trait]
impl FrameSender for Sender {
    async fn send(&mut self, frame: Bytes) -> Result<(), TransportError> {
        let (bytes, limit) = (frame.len(), self.tie.lane.frame_bytes_max());
        if bytes > limit {
            let error = FrameError::TooLarge { bytes, limit };
            return Err(self.tie.malformed(&self.own, error.to_string()));
        }
        tokio::select! {
            biased;
            error = over(&mut self.state, &self.tie) => return Err(error),
            written = self.frames.write(frame) => {
                written.map_err(|error| self.tie.broken(error))?;
            }
        }
        count(&self.tie.counters.bytes_out, bytes);
        Ok(())
    }
}

struct Receiver {
    frames: FrameReader<Reading>,
    state: watch::Receiver<State>,
    tie: Arc<Tie>,
}

#[async_trait]
impl FrameReceiver for Receiver {
    async fn receive(&mut self) -> Result<Option<Bytes>, TransportError> {
        if *self.state.borrow() == State::Closed {
            return Err(TransportError::Closed);
        }
        let next = tokio::select! {
            biased;
            next = self.frames.next() => next,
            error = over(&mut self.state, &self.tie) => return Err(error),
        };
        match next {
            Ok(frame) => {
                if let Some(frame) = &frame {
                    count(&self.tie.counters.bytes_in, frame.len());
                }
                Ok(frame)
            }
            Err(FrameError::Io(error)) => Err(self.tie.broken(error)),
            Err(error) => Err(self.tie.malformed(&self.tie.address, error.to_string())),
        }
    }
}
