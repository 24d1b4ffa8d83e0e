//! Interactive transactions: one of them with its name, how it ends, and what its calls answer.
//!
//! A session is one transaction. It lives on one node, in page mode on the leader if it may write, under a name that tells which one that
//! is and that nobody can guess; whoever has the name may use it through any node. Once it is over, every call says so and why: nothing slips into
//! a transaction of its own.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sqlrep_core::{LogIndex, NodeId, ReadBound, ReadError, ReadLevel, Retry, WriteError};
use sqlrep_sql::{Begin, Reply, Request, SqlError};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How long a session may idle, if it doesn't say.
pub const SESSION_IDLE: Duration = Duration::from_secs(5);

/// How long a session may last, if it doesn't say.
pub const SESSION_TOTAL: Duration = Duration::from_secs(30);

/// The longest that a session may ask for, of both: it holds a version of the database.
pub const SESSION_MAX: Duration = Duration::from_secs(3600);

/// A session's name. Shown and logged shortened; [`token`](Self::token) is what a client gets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId {
    owner: NodeId,
    secret: u128,
}

impl SessionId {
    /// `secret` are bits that nobody can guess.
    #[must_use]
    pub const fn new(owner: NodeId, secret: u128) -> Self {
        Self { owner, secret }
    }

    /// The node that it lives on.
    #[must_use]
    pub const fn owner(self) -> NodeId {
        self.owner
    }

    /// Owner, a hyphen, and 32 digits of base 16: all that is needed to use it.
    #[must_use]
    pub fn token(self) -> String {
        format!("{}-{:032x}", self.owner, self.secret)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 24 bits tell sessions apart in a log and help nobody to guess the rest.
        write!(f, "{}-{:06x}…", self.owner, self.secret >> 104)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no session's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("that is no session's name: it has a node id, a hyphen and 32 digits of base 16")]
pub struct NoSessionId;

impl FromStr for SessionId {
    type Err = NoSessionId;

    fn from_str(text: &str) -> Result<Self, NoSessionId> {
        let (owner, digits) = text.split_once('-').ok_or(NoSessionId)?;
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 32 || !digits.bytes().all(digit) {
            return Err(NoSessionId);
        }
        let owner = owner
            .parse()
            .ok()
            .and_then(NodeId::new)
            .ok_or(NoSessionId)?;
        let secret = u128::from_str_radix(digits, 16).map_err(|_| NoSessionId)?;
        let id = Self { owner, secret };
        // One session has one name: no leading zeros, no sign.
        (id.token() == text).then_some(id).ok_or(NoSessionId)
    }
}

/// How long a page-mode session waits in line for the writer, at most.
pub const WRITER_WAIT_MAX: Duration = Duration::from_secs(10);

/// How a session is opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionOptions {
    /// Its transaction.
    pub begin: Begin,
    /// How fresh the version is that it begins on, unless it begins as a page-mode writer: then it is the newest. A node that doesn't
    /// lead reads at level linearizable where weak is asked for, since the session stays there.
    pub level: ReadLevel,
    /// The same, in more detail.
    pub bound: ReadBound,
    /// How long it may wait for its client's next call, at most [`SESSION_MAX`].
    pub idle_max: Duration,
    /// How long it may last until its COMMIT begins, at most [`SESSION_MAX`].
    pub total_max: Duration,
}

impl SessionOptions {
    /// Strict, with the default limits.
    #[must_use]
    pub fn new(begin: Begin) -> Self {
        Self {
            begin,
            level: ReadLevel::Linearizable,
            bound: ReadBound::default(),
            idle_max: SESSION_IDLE,
            total_max: SESSION_TOTAL,
        }
    }
}

/// Why a session's transaction is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum End {
    /// The client took it back.
    RolledBack,
    /// It was committed; at this entry if it wrote.
    Committed(Option<LogIndex>),
    /// Its client didn't say anything for as long as it may idle.
    Idle,
    /// It lasted as long as it may.
    Total,
    /// The leadership that it was computed in has ended.
    LeaderChanged,
    /// Its node was stopped.
    NodeStopped,
    /// A statement rolled it back, or met a bound of the server that can't take back one statement alone.
    Statement,
    /// Its node couldn't go on with it; says why.
    Failed(String),
    /// Its COMMIT was refused: it certainly isn't done.
    Refused(WriteError),
    /// Its COMMIT may have been done, or may still be.
    Unknown(String),
}

impl End {
    /// One word, as metrics and clients know it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::RolledBack => "rolled_back",
            Self::Committed(_) => "committed",
            Self::Idle => "idle",
            Self::Total => "total",
            Self::LeaderChanged => "leader_changed",
            Self::NodeStopped => "node_stopped",
            Self::Statement => "statement",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Every word.
    pub const WORDS: [&'static str; 10] = [
        "rolled_back",
        "committed",
        "idle",
        "total",
        "leader_changed",
        "node_stopped",
        "statement",
        "failed",
        "refused",
        "unknown",
    ];

    /// Whether the transaction may be run again, in another session.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Committed(_) => Retry::Useless,
            Self::Unknown(_) => Retry::Ambiguous,
            _ => Retry::Safe,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RolledBack => f.write_str("it was rolled back"),
            Self::Committed(None) => f.write_str("it was committed"),
            Self::Committed(Some(index)) => write!(f, "it was committed at index {index}"),
            Self::Idle => f.write_str("rolled back: it was idle for too long (idle_ms)"),
            Self::Total => f.write_str("rolled back: it lasted too long (total_ms)"),
            Self::LeaderChanged => f.write_str("rolled back: the leader changed"),
            Self::NodeStopped => f.write_str("rolled back: its node stopped"),
            Self::Statement => f.write_str("rolled back by one of its statements"),
            Self::Failed(what) => write!(f, "rolled back: {what}"),
            Self::Refused(error) => write!(f, "not committed: {error}"),
            Self::Unknown(cause) => write!(f, "the outcome of its COMMIT is unknown: {cause}"),
        }
    }
}

/// Why a session's call has no answer. Sent between nodes, so it is data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// No session of that name was ever known, or it has been over for so long that it is forgotten.
    #[error("no such session")]
    NotFound,
    /// The transaction is over.
    #[error("the transaction is over ({}): {_0}", _0.word())]
    Ended(End),
    /// A write in a session that reads; it wasn't run, nor what came with it.
    #[error("a read transaction can't become a writer; begin a deferred or immediate one")]
    ReadOnly,
    /// SQLite refused the COMMIT, a deferred constraint perhaps; the transaction is still open.
    #[error("not committed, the transaction is still open: {0}")]
    Open(SqlError),
    /// So many sessions are open on this node.
    #[error("{limit} sessions are open on this node, no more may be; end one, or try another node")]
    Full {
        /// The node's limit.
        limit: usize,
    },
    /// More than one transaction may hold; nothing of the call was run, the transaction is still open.
    #[error("the transaction would have more than {limit} {what}; nothing of this call was run")]
    TooLong {
        /// Of what.
        what: String,
        /// How many.
        limit: u64,
    },
    /// The session's node can't be reached: nothing of the call was run.
    #[error("the session's node can't be reached: {0}")]
    Unreachable(String),
    /// As for a write.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The version to begin on couldn't be had.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A deferred transaction's first write came when what it had read wasn't the newest version any more; nothing of the call was
    /// run, the transaction is still open and reads its version. SQLite's `SQLITE_BUSY_SNAPSHOT`; page mode.
    #[error(
        "a read transaction can't become a writer: the database has changed since it began to read; roll it back and begin again, immediate \
         if it is going to write"
    )]
    Outdated,
}

impl SessionError {
    /// Whether the transaction may be run again, in another session if this one is over.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Ended(end) => end.retry(),
            Self::Write(error) => error.retry(),
            Self::Read(error) => error.retry(),
            Self::Full { .. } | Self::Unreachable(_) | Self::Outdated => Retry::Safe,
            Self::NotFound | Self::ReadOnly | Self::Open(_) | Self::TooLong { .. } => {
                Retry::Useless
            }
        }
    }
}

/// A COMMIT that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Where the log stood: the entry that holds the writes, or the version that was read where nothing was written.
    pub at: LogIndex,
    /// Whether there is such an entry.
    pub wrote: bool,
}

/// The sessions of a cluster, by name: for protocols whose clients keep it between calls.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Opens one on this node; in page mode one that may write on the leader, which an immediate one waits in line for.
    ///
    /// # Errors
    ///
    /// [`SessionError`]: too many are open, or the version isn't to be had. [`WriteError::NotLeader`] without a leader,
    /// [`WriteError::Expired`] if the wait for the writer took longer than [`WRITER_WAIT_MAX`] or the session's total.
    async fn open(&self, options: SessionOptions) -> Result<SessionId, SessionError>;

    /// Runs statements in it. An SQL error is an outcome, and leaves the transaction open as in SQLite. What the request says of
    /// transaction and shape doesn't count: rows are answered where there are columns.
    ///
    /// # Errors
    ///
    /// [`SessionError`]. [`WriteError::Unknown`] where the answer was lost on its way: the transaction may have gone on.
    /// [`WriteError::Expired`] at a deferred session's first write: its turn didn't come, it goes on as a reader.
    async fn run(&self, session: SessionId, request: Request) -> Result<Reply, SessionError>;

    /// Commits.
    ///
    /// # Errors
    ///
    /// [`SessionError`]: [`WriteError::Conflict`] if what it was shown has changed since (statement mode).
    async fn commit(&self, session: SessionId) -> Result<Committed, SessionError>;

    /// Takes it back; no error if that has happened already.
    ///
    /// # Errors
    ///
    /// [`SessionError::Ended`] if it was committed, or may have been.
    async fn rollback(&self, session: SessionId) -> Result<(), SessionError>;
}

/// A session in the hand of its only user. Dropping it rolls back.
#[async_trait]
pub trait Session: Send {
    /// Runs statements; see [`Sessions::run`].
    ///
    /// # Errors
    ///
    /// As there.
    async fn run(&mut self, request: Request) -> Result<Reply, SessionError>;

    /// Commits; see [`Sessions::commit`].
    ///
    /// # Errors
    ///
    /// As there; it is still open only behind [`SessionError::Open`].
    async fn commit(&mut self) -> Result<Committed, SessionError>;

    /// Takes it back; see [`Sessions::rollback`].
    ///
    /// # Errors
    ///
    /// As there.
    async fn rollback(&mut self) -> Result<(), SessionError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(owner: u64, secret: u128) -> SessionId {
        SessionId::new(NodeId::new(owner).unwrap_or(NodeId::MAX), secret)
    }

    #[test]
    fn a_name_comes_back_and_has_one_form() {
        for id in [id(0, 0), id(7, u128::MAX), id(u64::MAX, 0xabc)] {
            assert_eq!(id.token().parse(), Ok(id));
        }
        let good = id(2, 0xab).token();
        for bad in [
            "",
            "2",
            "2-",
            &good[1..],
            &format!("0{good}"),
            &format!("+{good}"),
            &good.to_uppercase(),
            &format!("{good}0"),
            &good[..good.len() - 1],
        ] {
            assert_eq!(bad.parse::<SessionId>(), Err(NoSessionId), "{bad}");
        }
    }

    #[test]
    fn what_is_logged_isnt_enough_to_use_it() {
        let id = id(3, 0x1234_5678_9abc_def0_1234_5678_9abc_def0);
        assert_eq!(format!("{id} {id:?}"), "3-123456… 3-123456…");
    }

    #[test]
    fn every_end_has_a_word_and_a_verdict() {
        let ends = [
            End::RolledBack,
            End::Committed(None),
            End::Idle,
            End::Total,
            End::LeaderChanged,
            End::NodeStopped,
            End::Statement,
            End::Failed(String::new()),
            End::Refused(WriteError::Conflict),
            End::Unknown(String::new()),
        ];
        assert_eq!(ends.each_ref().map(End::word), End::WORDS);
        let not_safe = ends.iter().filter(|end| end.retry() != Retry::Safe);
        assert_eq!(not_safe.count(), 2);
    }
}
