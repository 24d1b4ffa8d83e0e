//! A state, a log, a network and a time without disk, sockets and waiting, for tests and for examples of embedding.
//!
//! [`MemoryLog`] forgets everything with the process: a member on it must never restart under its old name.
//! [`Switchboard`] joins members of one process and can cut them off from each other; time passes on it only
//! through tokio's clock, so that with a paused one a cluster runs on one thread, the same way each time.
//! [`Ends`] and [`Whole`] are most of a small [`StateMachine`](crate::StateMachine).
//! [`RuntimeTimer`] lets simulated workers and clocks (`sqlrep_env`) run on that clock too.

mod ends;
mod log;
mod switchboard;
mod timer;
mod whole;

pub use ends::Ends;
pub use log::MemoryLog;
pub use switchboard::{ChannelTransport, Switchboard};
pub use timer::RuntimeTimer;
pub use whole::Whole;
