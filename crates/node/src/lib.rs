//! A sqlrep node to embed: it assembles disk, log, page store, Raft and a mode, and serves `sqlrep_service`.
//!
//! Three nodes in one process:
//!
//! ```no_run
//! use sqlrep_node::{Mode, Node, NodeOptions};
//! use sqlrep_sql::Request;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let options = |id: u64, join: &[&str]| {
//!     let mut options = NodeOptions::new(format!("data/{id}"));
//!     options.mode = Some(Mode::Statement);
//!     options.join = join.iter().map(|&address| address.to_owned()).collect();
//!     options
//! };
//! let first = Node::start(options(1, &[])).await?;
//! let second = Node::start(options(2, &[first.raft_address()])).await?;
//! let third = Node::start(options(3, &[first.raft_address()])).await?;
//! third.entered().await?;
//! second.execute(Request::execute("CREATE TABLE t (x)")).await?;
//! # Ok(()) }
//! ```
//!
//! Embedders pin openraft and bincode as this workspace does, link one `libsqlite3-sys`, and build SQLite with the flags of
//! docs/decisions/0002; [`Node::start`] checks the engine and names what is missing.
//!
//! It doesn't do: flags, HTTP, signals, logs.
#![forbid(unsafe_code)]

mod admin;
mod belong;
pub mod check;
mod error;
mod front;
mod identity;
mod machine;
mod node;
mod open;
mod options;
mod peer;
mod settings;
mod start;

pub use error::{Failure, NodeError};
pub use front::{QUERY_RUN_MAX, QUERY_WAIT_MAX, WRITE_WAIT_MAX};
pub use node::{Entering, Node};
pub use options::{Mode, Net, NodeOptions, Profile, Surroundings};
pub use settings::{ClusterSettings, Difference};
pub use sqlrep_replica::CheckpointPolicy;

/// This release, as `/status` and other nodes see it.
pub const RELEASE: &str = concat!("v", env!("CARGO_PKG_VERSION"));
