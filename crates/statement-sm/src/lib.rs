//! Statement mode: the log carries SQL, and every node executes it.
//!
//! ```text
//!  leader:      Epoch::run ─ run ─ run ─ seal     requests in order, one stamp, one seed, one earlier checksum: a body
//!                                                  │ log, quorum
//!  every node:  prepare   each request on the apply connection, as its own transaction or transactions
//!               finish    one entry end; behind a reset point the connection is closed
//! ```
//!
//! # Why replicas stay byte-identical
//!
//! | what could differ | and why it doesn't |
//! | --- | --- |
//! | `'now'` | the body's stamp; the leader's clock only proposes it (safety rule 39) |
//! | `random()`, `randomblob()` | grow from the body's seed and the request's place |
//! | `last_insert_rowid()`, `changes()` | count from zero for each request; the reply's counters are replicated state |
//! | how requests were gathered | the unit of commit is the request, never the entry |
//! | how long a connection lives | at reset points every node closes it; restarts and installs begin there (safety rule 33) |
//! | SQLite's own version in page 1 | written as a constant (safety rule 32) |
//! | limits, budgets | cluster settings, given at open, the same on every node |
//!
//! It is checked, too: bodies carry the leader's checksum of an earlier entry, and every node compares (safety rule 31).
//! Judging who is wrong isn't done here.
//!
//! **Invariants.** 1. Nothing but log entries runs on the apply connection. 2. Only reset points, and ends behind them
//! without SQL, are anchors: durable positions and snapshots are taken there. 3. An SQL error is a reply, a failure of
//! this node never is (safety rule 36).
//!
//! It doesn't touch pages, decide what SQL a client may run, or know who leads.
#![forbid(unsafe_code)]

mod apply;
mod batch;
mod epoch;
mod error;
mod machine;
mod reset;
mod side;

pub use epoch::StatementEpoch;
pub use error::StatementError;
pub use machine::StatementMachine;
pub use side::last_stamp;
