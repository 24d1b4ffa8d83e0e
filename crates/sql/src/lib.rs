//! What SQL a client may run, and what it gets back. Doesn't know how a request is replicated.
//!
//! A [`Request`] is the unit of commit: one SQLite transaction, or one per statement where it isn't
//! transactional. Its [`Reply`] has one [`Outcome`] per statement that ran. SQL errors are outcomes, equal on
//! every node; a failure of this node alone never becomes one (safety rule 36): it is an [`SqlFailure`].
//!
//! ```text
//!  Request ─┬─ Writer::run   BEGIN, statements, COMMIT ─► versions     time, seed, step budget of the entry
//!           ├─ Held::run     a session's statements on the leader's Writer; COMMIT is that connection's
//!           ├─ Draft::run    a session's statements over a pinned version; COMMIT is a request that replays them
//!           └─ Reader::run   one snapshot                              deadline, rows, bytes of the read
//!                 │
//!                 ├─ guard     the authorizer: what a statement may touch, and which pragmas
//!                 ├─ step      binds, steps, takes rows
//!                 └─ verdict   which of SQLite's errors are answers
//! ```
//!
//! # What may not be run
//!
//! | SQL | instead |
//! | --- | --- |
//! | BEGIN, COMMIT, ROLLBACK; SAVEPOINT outside a transaction | a transactional request, a session |
//! | ATTACH, DETACH, VACUUM INTO, extensions, functions that reach files | nothing; a backup is the server's |
//! | VACUUM beside other statements | a request of its own |
//! | TEMP objects | WITH, tables |
//! | pragmas that aren't on the list in `pragma` | cluster settings ([`SqlSettings`]) |
//! | version functions and lists of the build, in a request that writes | a query |
//! | rowid 2^63-1; five columns of one name in CREATE TABLE AS | other rowids, names |
//! | names that begin with `sqlrep_` | other names |
//!
//! Where only one node executes and its pages travel ([`Writer::lead`]), the last three but one may be run: version functions,
//! lists of the build, any rowid and any names of columns.
//!
//! [`Functions`] of a program's own may be added there too.
//!
//! What SQL sees as time and as random, and how it counts, is set for each request ([`Scene`]).
#![forbid(unsafe_code)]

mod budget;
mod drawn;
mod error;
mod functions;
mod guard;
mod pragma;
mod reader;
mod replay;
mod reply;
mod request;
mod settings;
mod step;
mod vacuum;
mod value;
mod verdict;
mod writer;

pub use budget::Stop;
pub use error::SqlFailure;
pub use functions::Functions;
pub use reader::{Cancel, InterruptHandle, READ_BYTES_MAX, READ_ROWS_MAX, ReadLimits, Reader};
pub use replay::{Digest, Replay, ReplayScene};
pub use reply::{Outcome, Reply, Rows, SqlError, Written};
pub use request::{Begin, Parameter, Request, Shape, Statement};
pub use settings::SqlSettings;
pub use value::Value;
pub use writer::{Counters, Draft, Drafted, Held, Scene, Writer};

use rusqlite::ffi;
use std::time::Duration;
use verdict::{Halt, refuse};

fn check_count(request: &Request, statements_max: u32) -> Result<(), Halt> {
    let count = request.statements.len();
    if count as u64 <= u64::from(statements_max) {
        return Ok(());
    }
    Err(refuse(
        ffi::SQLITE_TOOBIG,
        format!(
            "the request has {count} statements, more than {statements_max} (statements_max); split it"
        ),
    ))
}

/// The answer behind a refusal.
fn failed(halt: Halt) -> Result<Outcome, SqlFailure> {
    match halt {
        Halt::Refused(error) => Ok(Outcome::Failed(error)),
        Halt::Failed(failure) => Err(failure),
    }
}

fn would_write() -> Halt {
    refuse(
        ffi::SQLITE_READONLY,
        "attempt to change database via query operation",
    )
}

fn timed(mut outcome: Outcome, took_now: Duration) -> Outcome {
    match &mut outcome {
        Outcome::Written(Written { took, .. }) | Outcome::Rows(Rows { took, .. }) => {
            *took = took_now;
        }
        Outcome::Failed(_) => {}
    }
    outcome
}
