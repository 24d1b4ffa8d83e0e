//! The leader's side: takes requests in, stamps them, gives one body.
//!
//! Nothing is executed here, so there is nothing to abort and nothing to interrupt: what a leadership hasn't
//! proposed is just dropped.

use crate::batch::{BODY_BYTES_MAX, Batch, HEAD_BYTES_MAX};
use crate::reset::ResetClock;
use crate::side::Side;
use sqlrep_core::{Epoch, Sealed, Step, WriteError};
use sqlrep_env::UnixMillis;
use sqlrep_replica::messages::request_bytes;
use sqlrep_replica::{Replica, leader_stamp};
use sqlrep_sql::{Reply, Request};
use std::sync::Arc;

/// One leadership.
pub struct StatementEpoch {
    replica: Arc<Replica>,
    /// Of the newest entry sealed, or applied before this leadership.
    last_stamp: UnixMillis,
    reset: ResetClock,
    requests: Vec<Request>,
    /// What `requests` add to the body.
    bytes: usize,
}

impl StatementEpoch {
    /// Begins on the applied end.
    pub(crate) fn begin(replica: Arc<Replica>, side: Side) -> Self {
        let now = replica.env().clock.now();
        Self {
            replica,
            last_stamp: side.last_stamp,
            reset: ResetClock::begin(now),
            requests: Vec::new(),
            bytes: 0,
        }
    }

    /// What no node could decode is certainly never proposed, and nothing is while images wait for a checkpoint.
    fn refusal(&self, bytes: usize) -> Option<WriteError> {
        let room = BODY_BYTES_MAX - HEAD_BYTES_MAX;
        let wide = |bytes: usize| u64::try_from(bytes).expect("a size fits 64 bits");
        if bytes > room {
            let (bytes, limit_bytes) = (wide(bytes), wide(room));
            Some(WriteError::TooLarge { bytes, limit_bytes })
        } else if self.bytes + bytes > room || self.replica.waits_for_checkpoint() {
            Some(WriteError::Overloaded)
        } else {
            None
        }
    }

    fn stamp(&mut self) -> UnixMillis {
        self.last_stamp = leader_stamp(self.replica.env().clock.wall(), self.last_stamp);
        self.last_stamp
    }
}

impl Epoch for StatementEpoch {
    type Request = Request;
    type Reply = Reply;

    fn run(&mut self, request: Request) -> Step<Reply> {
        if request.statements.is_empty() {
            return Step::Answered(Reply::default());
        }
        let bytes = request_bytes(&request);
        if let Some(error) = self.refusal(bytes) {
            return Step::Refused(error);
        }
        self.bytes += bytes;
        self.requests.push(request);
        Step::Encoded
    }

    fn seal(&mut self) -> Option<Sealed> {
        if self.requests.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.bytes);
        let env = self.replica.env().clone();
        let end = self.replica.store().committed();
        let images = self.replica.pressure().image_bytes;
        let batch = Batch {
            stamp_unix_ms: self.stamp().0,
            seed: env.entropy.next(),
            reset: self.reset.count(bytes, images, env.clock.now()),
            proof: end
                .position
                .map(|position| (position.index, end.checksum.0)),
            requests: std::mem::take(&mut self.requests),
        };
        Some(Sealed::whole(batch.encode()))
    }
}
