//! Seeded simulations: three whole nodes, SQLite inside, on simulated disks, clocks and a simulated network.
//!
//! One number decides everything that happens: what clients ask, what breaks and when, how long a message travels. So a
//! failure can be had again as often as it takes to understand it.
//!
//! # How to replay a seed
//!
//! ```text
//! cargo xtask sim --seeds 100            seeds 1 to 100
//! cargo xtask sim --seed 17              one seed, with its trace on failure
//! cargo xtask sim --seed 17 --trace      the same, with its trace in any case
//! cargo xtask sim --seed 17 --twice      runs it twice and compares the traces
//! RUST_LOG=sqlrep=debug,sim=debug cargo xtask sim --seed 17
//! ```
//!
//! # What is real in it
//!
//! | real | simulated |
//! | --- | --- |
//! | nodes: HTTP's service below its front, Raft, log, page store, SQLite, handshake and frames of the links | sockets and the network (turmoil) |
//! | | disks that lose power, tear, fail, fill up; what a sync costs |
//! | | clocks, randomness, threads: each turn of a worker is an event of simulated time |
//!
//! Each seed draws its own small limits ([`run`]'s cluster has tiny log segments, checkpoints after a few entries, small
//! pages) and its own few kinds of faults.
//!
//! # What is checked
//!
//! Registers are linearizable; acknowledged writes are never lost, refused ones never seen, unknown ones done at most
//! once; a bank's every read shows exactly the transfers it lists, those of sessions too; a counter that sessions read and
//! write back has each value once; no term has two leaders; replicas have one checksum at
//! one index, and equal files at one position; after healing every node serves writes and strict reads within a bound of
//! simulated time; every call is answered within its limit; a node ends by itself only if its disk failed; the files it
//! leaves are sound for the store and for plain SQLite.
//!
//! It doesn't do: threads (their interleavings are for the real clusters in `tests/`), changes of the members.
#![forbid(unsafe_code)]

mod check;
mod client;
mod differential;
mod draw;
mod faults;
mod history;
mod life;
mod machine;
mod sockets;
mod time;
mod world;

pub use differential::{Compared, Exchange, differential};
pub use life::{Report, run};

/// Kinds of faults, by the names under which [`Report::counts`] has them.
pub const FAULTS: &[&str] = &faults::KINDS;

/// How interactive transactions end, by the names under which [`Report::counts`] has them.
pub const SESSIONS: &[&str] = &client::HOW_SESSIONS_END;
