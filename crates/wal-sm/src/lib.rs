//! Page mode: entries of changed pages; applies by copying. The machine isn't built yet: a node refuses
//! `--mode=page` by name. What stands here is its contract and the one decision everything else hangs on.
//!
//! ```text
//!  leader: run on the newest finished version ─► capture pages at commit ─► coalesce ─► one page set per entry
//!  every node: does the set continue the tail? ─► copy pages, or keep the own ones ─► entry end ─► held replies go out
//! ```
//!
//! The machine implements `sqlrep_core::StateMachine` with these duties beside the trait's own:
//! 1. Whether a committed page set is accepted is a function of the log alone ([`Tail::accepts`]); checksums
//!    prove the replicas equal afterwards and never decide (safety rule 22).
//! 2. Anything computed on speculation, a SELECT or an error too, leaves the node only when its base is
//!    committed and the leadership confirmed after it was computed (safety rule 25).
//! 3. Abort is: close the writer connection, drop versions above the committed one, new epoch. Nothing less.
//! 4. Each page of a set names its base, the previous image or zeros; nothing is inferred from the size.
//! 5. The tail of a split set moves with its last part only (safety rule 26).
#![forbid(unsafe_code)]

mod tail;

pub use tail::Tail;
