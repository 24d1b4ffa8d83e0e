//! What every protocol front speaks to: HTTP, later dqlite's wire protocol and Hrana, the shell and embedders.
//! Knows outcomes and SQL; no mode, no Raft message, no status code.
//!
//! ```text
//!   front ──► Database::execute ──► this node's Raft core ──► the leader ──► log, quorum ──► reply
//!         ──► Database::query   ──► leave to read (level) ──► a reader connection of this node
//!         ──► Sessions          ──► the node that owns the session ──► one transaction, statement by statement
//!         ──► Admin             ──► status, members, leadership
//! ```
//!
//! All traits are object-safe. It doesn't run anything.
#![forbid(unsafe_code)]

mod admin;
mod database;
mod session;

pub use admin::{
    Admin, AdminError, Health, Histogram, LogStatus, NodeStatus, Role, SqliteStatus, Status,
};
pub use database::{Answer, Database, QueryOptions, WriteOptions};
pub use session::{
    Committed, End, NoSessionId, SESSION_IDLE, SESSION_MAX, SESSION_TOTAL, Session, SessionError,
    SessionId, SessionOptions, Sessions, WRITER_WAIT_MAX,
};
