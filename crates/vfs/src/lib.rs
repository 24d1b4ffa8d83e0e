//! SQLite's VFS over the page store: connections whose database file is a version of the store.
//!
//! SQLite believes that it reads and writes one file. It reads pages of a pinned version, and what it writes
//! becomes the next version when it commits. There is no journal that outlives its transaction, no WAL, no shared memory, no file
//! lock: the store has versions instead, and durability is the business of whoever finishes entries on it.
//!
//! ```text
//!   SQL ── rusqlite::Connection ── pager ── io_methods (file) ──┬─ reader:  Pin::read at its version
//!                                    │                          └─ writer:  own layer, then the newest version
//!                                    │                                       └─ COMMIT_PHASETWO ─► Store::publish
//!                                    │                          └─ temporary: journal, sorts, VACUUM's own database
//!                                    └── sqlite3_vfs (register): time, and what is opened
//! ```
//!
//! # A transaction, as the VFS sees it
//!
//! | SQLite | calls | and here |
//! | --- | --- | --- |
//! | begins to read | `xLock(SHARED)` | a reader pins the newest entry end; a writer notes the newest version |
//! | spills its cache, or commits | `xWrite`, whole pages | into the transaction's layer, never into the store |
//! | has written everything | `FCNTL_SYNC` | the last point to refuse: too many pages |
//! | has cut the file | `FCNTL_COMMIT_PHASETWO` | the layer is published as one version |
//! | rolls back | `xUnlock` with a layer still there | the layer is dropped whole |
//! | has read | `xUnlock(NONE)` | the reader unpins |
//!
//! What it holds until then (the layer, the rollback journal, temporary files) is in memory up to
//! [`transaction_bytes_max`](sqlrep_store::Options::transaction_bytes_max), beyond that in scratch files of the store's disk. Where something is
//! has no say in an answer or in a byte of the database, and a scratch file that fails is a failure of this node (safety rule 36).
//!
//! # Who may call what
//!
//! A [`Connection`] moves between threads but isn't shared by them. Any number of readers run beside a writer
//! and never wait for it. At most one writer at a time publishes on a store; a transaction whose version is no
//! longer the newest at its commit is refused ([`Refusal::Overtaken`]), so a mistake there costs no data.
//! Before pages are taken out of the store's newest versions (an abort), the writer is closed: its cache would
//! survive the test that SQLite makes.
//!
//! # Nothing is global
//!
//! Each connection registers a `sqlite3_vfs` of its own name, because that object is what SQLite asks for the
//! time. So time and randomness belong to a connection: [`Connection::set_time`], [`Connection::set_random`].
//!
//! # Why unsafe
//!
//! SQLite calls us through C function pointers and hands over raw buffers: that is done in `register` and `file`,
//! the only modules that touch them, and each hands on to safe code at once. A panic never leaves an
//! `extern "C"` function: it is caught, the connection answers every later call with an I/O error.
//!
//! It doesn't do: deciding what SQL a client may run, Raft, durability, waiting.

mod code;
mod connection;
mod context;
mod counters;
mod engine;
mod error;
mod file;
mod images;
mod layer;
mod main_file;
mod pragma;
mod random;
mod reader;
mod register;
mod room;
mod settings;
mod temporary;
mod time;
mod writer;

pub use connection::{Connection, Kind};
pub use counters::COUNTERS_TABLE;
pub use engine::{Engine, check_engine};
pub use error::{Refusal, VfsError};
pub use room::TransactionBytes;
pub use settings::PRAGMAS;
pub use writer::PAGE_ONE_VERSION;

/// The SQLite binding that this workspace uses; programs must not link a second one.
pub use rusqlite;
