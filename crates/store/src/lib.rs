//! The versioned page store under SQLite's VFS: plain synchronous code that speaks neither SQL nor Raft. A log
//! position is two numbers here, replicated state beside the pages is opaque bytes.
//!
//! # What is where
//!
//! ```text
//!  memory   versions above the base file, per page     ── spill file in tmp/ when there are too many
//!  tmp/                          spill files, and scratch files of transactions; emptied at start
//!  db/current                    which generation is live (two slots)
//!  db/<generation>/main.db       the user's database, exact at the position
//!  db/<generation>/main.position the position and everything replicated beside the pages (two slots)
//!  db/<generation>/main.sums     8 bytes per page: its xxh3, little-endian; the lock page has 0
//!  db/<generation>/main.keys.N   the large part of what is replicated beside the pages, if there is one
//!  db/<generation>/main.journal  only during a checkpoint
//! ```
//!
//! # Invariants
//!
//! 1. base <= anchor <= committed <= newest, as versions.
//! 2. Only entry ends are committed, pinned, checkpointed or sent (safety rule 4).
//! 3. Side state on disk is that of the version it stands beside (safety rule 5).
//! 4. No page above `committed` reaches the disk's base file or a reader.
//! 5. Every page read from the base file is checked against its hash before it is used (safety rule 7).
//!
//! # The crash argument
//!
//! The base file changes only behind a complete, synced journal that holds everything of the new position; the
//! position changes only when the base file is synced. So at every instant a restart finds an exact base, or a
//! journal that makes it exact; the module `checkpoint` goes through it step by step.
//!
//! It doesn't do: SQLite's file format, the log, deciding when to checkpoint.
#![forbid(unsafe_code)]

mod chain;
mod checkpoint;
mod current;
mod distrust;
mod entry_end;
mod error;
mod generation;
mod hashed;
mod ids;
mod inspect;
mod install;
mod journal;
mod open;
mod pins;
mod position;
mod scratch;
mod slots;
mod spill;
mod store;
mod table;

pub use checkpoint::{Checkpoint, Progress, Written};
pub use entry_end::{EntryEnd, Side};
pub use error::StoreError;
pub use ids::{Checksum, Image, PageCount, PageNumber, PageSize, Position, Version, page_hash};
pub use inspect::{Inspection, inspect};
pub use install::{InstallEnd, Installer};
pub use pins::PinKind;
pub use scratch::ScratchFile;
pub use store::{Change, Delta, Due, Finish, Options, Pin, Stats, Store};
pub use table::{EncodeTable, Table, TableChunks};
