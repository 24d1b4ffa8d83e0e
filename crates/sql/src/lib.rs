//! What SQL a client may run, and what it gets back. Doesn't know how a request is replicated.
//!
//! A [`Request`] is the unit of commit: one SQLite transaction, or one per statement where it isn't
//! transactional. Its [`Reply`] has one [`Outcome`] per statement that ran. SQL errors are outcomes, equal on
//! every node; a failure of this node alone never becomes one (safety rule 36).
#![forbid(unsafe_code)]

mod reply;
mod request;
mod value;

pub use reply::{Outcome, Reply, Rows, SqlError, Written};
pub use request::{Begin, Parameter, Request, Shape, Statement};
pub use value::Value;
