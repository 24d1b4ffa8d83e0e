//! rqlite's HTTP API over [`sqlrep_service::Database`] and [`Admin`](sqlrep_service::Admin), so that rqlite's clients work unchanged.
//!
//! ```text
//!   socket ──► server ──► front: OPTIONS, parameters, route, method ──► data, sessions, members, status, metrics
//!                                                                         │ parse: body to statements
//!                                                                         ▼
//!                               outcome: status code and header ◄── Database, Admin ──► render: reply to JSON
//! ```
//!
//! # What always holds
//!
//! 1. Status codes are chosen in `outcome` alone. What may have happened, or may still, is never a 5xx,
//!    because clients send again on 5xx: it is 200 with a top-level `error`.
//! 2. Bytes of a client never panic, and take memory only within [`Options`], also those of all clients together.
//! 3. No client holds a connection for ever by being slow: heads, bodies and answers that stand still have limits.
//! 4. A client that goes away ends its request: what waits for it is dropped, and so withdrawn.
//!
//! It doesn't know the mode, keep state between requests, check who asks, or speak TLS. Where it differs from rqlite
//! is listed, with the reason, in `docs/compatibility.md`.
#![forbid(unsafe_code)]

mod body;
mod check;
mod data;
mod date;
mod duration;
mod front;
mod json;
mod key;
mod members;
mod metrics;
mod options;
mod outcome;
mod params;
mod parse;
mod render;
mod room;
mod server;
mod sessions;
mod stall;
mod status;
#[cfg(test)]
mod tests;

pub use options::{Api, Options};
pub use server::{HEAD_BYTES_MAX, Server};
