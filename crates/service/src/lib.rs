//! What every protocol front speaks to: HTTP, later dqlite's wire protocol and Hrana, the shell and embedders.
//! Knows outcomes and SQL; no mode, no Raft message, no status code.
//!
//! ```text
//!   front ──► Database::execute ──► this node's Raft core ──► the leader ──► log, quorum ──► reply
//!         ──► Database::query   ──► leave to read (level) ──► a reader connection of this node
//!         ──► Admin             ──► status, members, leadership
//! ```
//!
//! All traits are object-safe. It doesn't run anything.
#![forbid(unsafe_code)]

mod admin;
mod database;

pub use admin::{
    Admin, AdminError, Health, Histogram, LogStatus, NodeStatus, Role, SqliteStatus, Status,
};
pub use database::{Answer, Database, QueryOptions, Session, WriteOptions};
