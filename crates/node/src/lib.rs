//! A sqlrep node to embed: it assembles disk, log, page store, Raft and a mode, and serves `sqlrep_service`.
//!
//! Three nodes in one process:
//!
//! ```
//! use sqlrep_node::{Mode, Node};
//! use sqlrep_sql::Request;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let data = tempfile::tempdir()?;
//! # let data = data.path();
//! let node = |name| Node::builder(data.join(name)).mode(Mode::Statement);
//! let first = node("1").start().await?;
//! let second = node("2").join([first.raft_address()]).start().await?;
//! let third = node("3").join([first.raft_address()]).start().await?;
//! second.entered().await?;
//! third.entered().await?;
//! second.execute(Request::execute("CREATE TABLE t (x)")).await?;
//! third.execute(Request::execute("INSERT INTO t VALUES (1)")).await?;
//! # for node in [third, second, first] { Box::pin(node.stop()).await; }
//! # Ok(()) }
//! ```
//!
//! Embedders pin openraft and bincode as this workspace does, link one `libsqlite3-sys`, and build SQLite with the flags of
//! docs/decisions/0002; starting checks the engine and names what is missing.
//!
//! It doesn't do: flags, HTTP, signals, logs.
#![forbid(unsafe_code)]

mod admin;
mod belong;
mod builder;
pub mod check;
mod error;
mod front;
mod identity;
mod machine;
mod node;
mod open;
mod options;
mod peer;
mod session;
mod settings;
mod start;

pub use builder::NodeBuilder;
pub use error::{Failure, NodeError};
pub use front::{QUERY_RUN_MAX, QUERY_WAIT_MAX, WRITE_WAIT_MAX};
pub use node::{Entering, Node};
pub use options::{Mode, Net, NodeOptions, Profile, Surroundings};
pub use session::SESSIONS_MAX;
pub use settings::{ClusterSettings, Difference};
pub use sqlrep_replica::CheckpointPolicy;

/// This release, as `/status` and other nodes see it.
pub const RELEASE: &str = concat!("v", env!("CARGO_PKG_VERSION"));
