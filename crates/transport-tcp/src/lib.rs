//! Links between nodes over TCP: [`sqlrep_core::Transport`] with a handshake, frames and back-pressure.
//!
//! # The way of a link
//!
//! ```text
//!  caller                                    listener
//!  connect ─────────────────────────────────► one of a few handshakes at once, cut at a deadline
//!  Call: who I am, lane, whom I expect ─────► judges
//!           judges ◄───────────────────────── Answer: who I am, verdict
//!  Verdict ─────────────────────────────────► Transport::accept
//!  frames ◄─────────────────────────────────► frames
//! ```
//!
//! Both sides judge, with the same function, and each tells the other its verdict: a refusal is an error where the
//! link was asked for, and an event in the log of the node that was called. What is compared: cluster, mode, node ids, data directories.
//!
//! # On the wire
//!
//! | bytes | what |
//! | --- | --- |
//! | each handshake message | see below |
//! | 4 | a frame's length n, u32 little-endian, at most [`Lane::frame_bytes_max`](sqlrep_core::Lane::frame_bytes_max) |
//! | n | the frame |
//!
//! ## Handshake messages
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `d3 73 71 6c 72 65 70 0a`: no word of HTTP or TLS, so that such a server answers at once |
//! | 2 | protocol version, 3 |
//! | 2 | length n of the body, at most 4096 |
//! | 1 | format of the body, 1 |
//! | n - 1 | in bincode's variable-length encoding: `Call`, `Answer` or `Verdict`, as they stand in `src/hello.rs` |
//!
//! The first 12 bytes are the same in every protocol version, so that any two releases can name each other's.
//!
//! # Back-pressure
//!
//! There is no task and no queue between a sender and its socket: a frame is written by who sends it, in one system
//! call with its length, and the sender waits while the kernel's buffer is full. So the bound of a link's
//! queue is its socket's buffers and one frame. A peer that takes nothing for
//! [`write_stall_max`](Options::write_stall_max) loses the link.
//!
//! It doesn't do: retries and back-off (the caller's), encryption (its place is `src/sockets.rs`), or the meaning of a frame.
//! Anyone who reaches the port and speaks the protocol is believed what it says of itself.
#![forbid(unsafe_code)]

mod frames;
mod handshake;
mod hello;
mod judge;
mod link;
mod listen;
mod options;
mod sockets;
mod transport;

pub use options::{Identity, Options, Stats};
pub use sockets::{Halves, Listener, Reading, Sockets, Writing};
pub use transport::TcpTransport;
