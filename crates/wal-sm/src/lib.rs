//! Page mode: the leader executes, the log carries the pages that it changed, every other node copies them.
//!
//! ```text
//!  leader: run on the newest finished version ─► capture pages at commit ─► coalesce ─► one page set per entry
//!  every node: does the set continue the tail? ─► copy pages, or keep the own ones ─► entry end ─► held replies go out
//! ```
//!
//! **Invariants**, beside the duties of `sqlrep_core::StateMachine`:
//! 1. Whether a committed page set is accepted is a function of the log alone ([`Tail::accepts`]); checksums
//!    prove the replicas equal afterwards and never decide (safety rule 22).
//! 2. Anything computed on speculation, a SELECT or an error too, leaves the node only when its base is
//!    committed and the leadership confirmed after it was computed (safety rule 25).
//! 3. Abort is: close the writer connection, drop versions above the committed one, new epoch. Nothing less.
//! 4. Each page of a set names its base, the previous image, zeros or none; nothing is inferred from the size.
//! 5. The tail of a split set moves with its last part only (safety rule 26).
//!
//! `examples/page_set_bytes.rs` prints what a transaction takes in the log, and how fast sets are applied.
#![forbid(unsafe_code)]

mod body;
mod epoch;
mod error;
mod held;
mod machine;
mod page_set;
mod side;
mod source;
mod state;
mod tail;
#[cfg(test)]
mod tests;

pub use epoch::PageEpoch;
pub use error::PageModeError;
pub use machine::PageMachine;
pub use page_set::{
    Applying, Base, ENCODE_BYTES_MAX, Ended, Head, NewPage, Old, PART_BYTES_MAX,
    PART_IMAGE_BYTES_MAX, PageChange, PageSet, PageSource, Part, apply, encode,
};
pub use side::last_stamp;
pub use tail::Tail;
