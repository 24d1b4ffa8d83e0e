//! Reading and writing.

use crate::{Session, SessionError, SessionOptions, Sessions};
use async_trait::async_trait;
use sqlrep_core::{EntryId, IdempotencyKey, ReadBound, ReadError, ReadLevel, WriteError};
use sqlrep_sql::{Reply, Request};
use std::time::Duration;

/// How a write is to be treated.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// How long the caller waits. None: 30 s. A request still unproposed then is certainly not done.
    pub wait_max: Option<Duration>,
    /// Makes a repetition of the request known again: it is done once, and answered alike.
    pub key: Option<IdempotencyKey>,
}

/// How a read is to be treated.
#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// What it promises.
    pub level: ReadLevel,
    /// How old what it shows may be.
    pub bound: ReadBound,
    /// How long its SQL may run. None: no limit but the node's.
    pub run_max: Option<Duration>,
}

impl QueryOptions {
    /// Strict, on any node, with the limits of the node.
    #[must_use]
    pub fn linearizable() -> Self {
        Self {
            level: ReadLevel::Linearizable,
            bound: ReadBound::default(),
            run_max: None,
        }
    }
}

/// A reply and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// One outcome per statement.
    pub reply: Reply,
    /// The entry that holds the write, or a read's barrier; none for a local read.
    pub entry: Option<EntryId>,
    /// Raft address of the leader that answered, if this node forwarded.
    pub served_by: Option<String>,
    /// Whether an earlier request under the same key did it: `entry` is where that stands.
    pub replayed: bool,
}

/// A database of this cluster, whatever node and mode. Forwards to the leader where that is needed.
#[async_trait]
pub trait Database: Sessions {
    /// Replicates a request and answers once it is committed and applied.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; its `retry` tells whether the write may have happened. An SQL error is an outcome in the answer.
    async fn execute(&self, request: Request, options: WriteOptions) -> Result<Answer, WriteError>;

    /// Runs statements that only read; one that would write is an outcome of its own.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    async fn query(&self, request: Request, options: QueryOptions) -> Result<Answer, ReadError>;

    /// Whether every statement only reads. A statement that doesn't even prepare counts as reading: its
    /// error is the same either way.
    async fn is_read_only(&self, request: &Request) -> bool;

    /// Opens an interactive transaction for one user.
    ///
    /// # Errors
    ///
    /// As [`Sessions::open`].
    async fn begin(&self, options: SessionOptions) -> Result<Box<dyn Session>, SessionError>;
}
