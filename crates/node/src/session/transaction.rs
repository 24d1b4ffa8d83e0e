//! What a mode brings for a session: the seam between the session's life and how its statements run.

use async_trait::async_trait;
use sqlrep_core::{Retry, WriteError};
use sqlrep_service::{Committed, End, SessionError};
use sqlrep_sql::{Reply, Request};

/// What running statements gave.
pub(super) struct Ran {
    pub(super) reply: Reply,
    /// Why the transaction is over with this reply; none: it goes on.
    pub(super) over: Option<End>,
}

/// One transaction, used by one task. A call whose future is dropped stops what it runs; the transaction is dropped then too.
///
/// Dropping it takes it back, at latest when what runs has stopped.
#[async_trait]
pub(super) trait Transaction: Send {
    /// Runs statements. Only [`SessionError::Ended`] ends the transaction.
    async fn run(&mut self, request: Request) -> Result<Ran, SessionError>;

    /// Commits. Only [`SessionError::Open`] leaves it open.
    async fn commit(&mut self) -> Result<Committed, SessionError>;

    /// Waits until it can't go on, whatever its client does, and tells why. For ever, where it stands on nothing that ends.
    async fn lost(&mut self) -> End {
        std::future::pending().await
    }
}

/// What a COMMIT means for its transaction; none: it is still open.
pub(super) fn end_of(committed: &Result<Committed, SessionError>) -> Option<End> {
    Some(match committed {
        Ok(done) => End::Committed(done.wrote.then_some(done.at)),
        Err(SessionError::Open(_)) => return None,
        Err(SessionError::Ended(end)) => end.clone(),
        Err(SessionError::Write(WriteError::ReplyNotKept { at })) => End::Committed(Some(at.index)),
        Err(SessionError::Write(error)) => match error.retry() {
            Retry::Ambiguous => End::Unknown(error.to_string()),
            Retry::Safe | Retry::Useless => End::Refused(error.clone()),
        },
        Err(other) => End::Failed(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlrep_core::{LogIndex, ReadError};

    /// What may have happened is never remembered as refused.
    #[test]
    fn the_end_tells_what_is_known() {
        let at = LogIndex(3);
        let committed = |wrote| end_of(&Ok(Committed { at, wrote }));
        assert_eq!(committed(true), Some(End::Committed(Some(at))));
        assert_eq!(committed(false), Some(End::Committed(None)));
        let of = |error: SessionError| end_of(&Err(error));
        let cause = String::new();
        let unknown = of(WriteError::Unknown { cause }.into()).unwrap();
        assert_eq!(unknown.word(), "unknown");
        let conflict = of(WriteError::Conflict.into()).unwrap();
        assert_eq!(conflict, End::Refused(WriteError::Conflict));
        assert_eq!(of(SessionError::Ended(End::Total)), Some(End::Total));
        let failed = of(ReadError::Quarantined.into()).unwrap();
        assert_eq!(failed.word(), "failed");
    }
}
