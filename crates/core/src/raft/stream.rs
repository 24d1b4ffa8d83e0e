//! Replication to one follower: a window of append requests under way on a link of its own.
//!
//! ```text
//!   slot ─► pull the next request ─► encode ─► link ─► follower ─► answers in order ─► slot is free again
//! ```
//!
//! The slot is taken *before* the request is pulled: while no slot is free, new entries gather and leave as
//! one larger request. The first answer that refuses ends the stream; an answer can't reach another stream,
//! because each has its own link. openraft waits between tries *inside* the requests it hands out, so the first
//! one is pulled before the link is opened: a peer that refuses connections would be tried without a pause
//! otherwise. Invariant 1: requests sent and not answered never exceed the window.

use super::TypeConfig;
use super::network::{Client, Rpc, unreachable};
use super::wire::{Append, Appended};
use crate::codec::{self, CodecError};
use crate::member::Lease;
use crate::{
    FrameReceiver, FrameSender, Lane, Link, LogIndex, Settings, StateMachine, TransportError,
};
use futures_util::{Stream, StreamExt, stream};
use openraft::base::BoxStream;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use openraft::type_config::TypeConfigExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the follower ended the stream")]
    Ended,
    #[error("the follower holds the log at {0}, which has to go: it is sent a snapshot")]
    CutOff(LogIndex),
    #[error("the follower left an append request unanswered for {0:?}")]
    Silent(Duration),
}

/// Both ends of a window.
struct Window {
    slots: Semaphore,
    /// Sent and not answered.
    unanswered: AtomicUsize,
    /// Nothing more is sent.
    complete: watch::Sender<bool>,
}

impl Window {
    fn new(requests: usize) -> Self {
        Self {
            slots: Semaphore::new(requests),
            unanswered: AtomicUsize::new(0),
            complete: watch::channel(false).0,
        }
    }

    fn all_answered(&self) -> bool {
        self.unanswered.load(Ordering::Acquire) == 0
    }

    /// Whether all requests are sent and answered.
    fn is_over(&self) -> bool {
        *self.complete.borrow() && self.all_answered()
    }

    /// Returns once all requests are sent and answered. To be asked anew after each answer.
    async fn over(&self) {
        let mut complete = self.complete.subscribe();
        let known = complete.wait_for(|complete| *complete).await.is_ok();
        if !known || !self.all_answered() {
            std::future::pending::<()>().await;
        }
    }
}

/// Aborts the writing half with the reading one.
struct Writer(openraft::alias::JoinHandleOf<TypeConfig, ()>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the answers are read from.
struct Answers {
    receiver: Box<dyn FrameReceiver>,
    _writer: Writer,
    window: Arc<Window>,
    silence_max: Duration,
    /// What the follower has acknowledged on this stream.
    matched: Option<LogIndex>,
    cut_offs: watch::Receiver<Option<LogIndex>>,
    done: bool,
}

/// How long a request may be unanswered: long enough for a slow sync, too short to wait for TCP.
fn silence_max(settings: &Settings) -> Duration {
    Duration::from_millis(settings.election_timeout_max_ms.max(1000))
}

/// Sends `input` to the client's peer and answers the follower's answers.
pub(super) async fn stream<'s, M, S>(
    client: &'s mut Client<M>,
    mut input: S,
) -> Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>
where
    M: StateMachine,
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let Some(first) = input.next().await else {
        return Ok(Box::pin(stream::empty()));
    };
    let input = stream::iter([first]).chain(input);
    let settings = &client.shared().settings;
    let (window, silence_max) = (settings.replication_window, silence_max(settings));
    let link = tokio::time::timeout(silence_max, client.connect(Lane::Append)).await;
    let silent = |_| unreachable(&StreamError::Silent(silence_max));
    let Link { sender, receiver } = link.map_err(silent)?.map_err(|error| unreachable(&error))?;
    let window = Arc::new(Window::new(window));
    let writing = write_all(sender, input, window.clone(), client.shared().lease.clone());
    let answers = Answers {
        receiver,
        _writer: Writer(TypeConfig::spawn(writing)),
        window,
        silence_max,
        matched: None,
        cut_offs: client.shared().retention.cut_offs(),
        done: false,
    };
    Ok(Box::pin(stream::unfold(answers, Answers::next)))
}

async fn write_all<S>(
    mut sender: Box<dyn FrameSender>,
    mut input: S,
    window: Arc<Window>,
    lease: Arc<Lease>,
) where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    loop {
        let Ok(slot) = window.slots.acquire().await else {
            return;
        };
        slot.forget();
        let Some(request) = input.next().await else {
            window.complete.send_replace(true);
            return;
        };
        window.unanswered.fetch_add(1, Ordering::AcqRel);
        let frame = codec::encode(&Append::out(request, &lease));
        if sender.send(frame).await.is_err() {
            // The reading half sees the same broken link and reports it.
            return;
        }
    }
}

impl Answers {
    async fn next(mut self) -> Option<(Rpc<StreamAppendResult<TypeConfig>>, Self)> {
        if self.done {
            return None;
        }
        match self.answer().await {
            Ok(Some(answer)) => {
                self.window.unanswered.fetch_sub(1, Ordering::AcqRel);
                self.window.slots.add_permits(1);
                if let Ok(Some(id)) = &answer {
                    self.matched = self.matched.max(Some(LogIndex(id.index())));
                }
                self.done = answer.is_err();
                Some((Ok(answer), self))
            }
            Ok(None) => None,
            Err(error) => {
                self.done = true;
                Some((Err(unreachable(&error)), self))
            }
        }
    }

    /// The next answer; none once all requests are answered and no more come. The follower's goodbye isn't waited for: on
    /// a link that broke meanwhile it never comes.
    async fn answer(&mut self) -> Result<Option<StreamAppendResult<TypeConfig>>, StreamError> {
        let frame = {
            let waited = silence(&self.window, self.silence_max);
            tokio::select! {
                biased;
                frame = self.receiver.receive() => frame?,
                () = waited => return Err(StreamError::Silent(self.silence_max)),
                at = cut_off(self.matched, &mut self.cut_offs) => return Err(StreamError::CutOff(at)),
                () = self.window.over() => return Ok(None),
            }
        };
        let Some(frame) = frame else {
            return match self.window.is_over() {
                true => Ok(None),
                false => Err(StreamError::Ended),
            };
        };
        if self.window.all_answered() {
            let what = "an answer to no request".to_owned();
            return Err(CodecError::Meaning(what).into());
        }
        Ok(Some(codec::decode::<Appended>(&frame)?.into_raft()?))
    }
}

/// Returns when a follower that is known to be here isn't waited for any more (safety rule 17).
async fn cut_off(
    matched: Option<LogIndex>,
    cut_offs: &mut watch::Receiver<Option<LogIndex>>,
) -> LogIndex {
    let Some(matched) = matched else {
        return std::future::pending().await;
    };
    let is_cut = cut_offs.wait_for(|cut| *cut > Some(matched)).await.is_ok();
    if !is_cut {
        // The member ends, and this stream with it.
        std::future::pending::<()>().await;
    }
    matched
}

/// Returns when requests were unanswered during a whole `limit`, and no answer came (the caller's wait for
/// one ends this).
async fn silence(window: &Window, limit: Duration) {
    let mut before = false;
    loop {
        let now = window.unanswered.load(Ordering::Acquire) > 0;
        if before && now {
            return;
        }
        before = now;
        tokio::time::sleep(limit).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Retention;
    use crate::memory::{MemoryLog, Switchboard};
    use crate::{NodeId, Transport};

    /// Rule 17: a follower that needs what has to go isn't waited for; one that is beyond it, or of which
    /// nothing is known yet, is.
    #[tokio::test(start_paused = true)]
    async fn a_follower_too_far_behind_is_cut_off() {
        let retention = Retention::new(Arc::new(MemoryLog::default()));
        let mut cut_offs = retention.cut_offs();
        let mut waits = async |matched: Option<u64>| {
            let cut = cut_off(matched.map(LogIndex), &mut cut_offs);
            tokio::time::timeout(Duration::from_secs(60), cut)
                .await
                .is_err()
        };
        assert!(waits(Some(3)).await);
        retention.cut_off(Some(LogIndex(7)));
        assert!(waits(None).await && waits(Some(7)).await);
        assert!(!waits(Some(6)).await);
        retention.cut_off(Some(LogIndex(2)));
        assert!(!waits(Some(6)).await, "it never moves down");
    }

    /// Both ends of a link for entries.
    async fn link() -> (Link, Link) {
        let (board, node) = (Switchboard::default(), |id| NodeId::new(id).unwrap());
        let (near, far) = (board.plug(node(1)), board.plug(node(2)));
        let peer = Switchboard::peer(node(2));
        let link = near.connect(Some(node(2)), &peer, Lane::Append).await;
        let (_, _, other) = far.accept().await.unwrap();
        (link.unwrap(), other)
    }

    /// What reads the answers on `link`; no more requests come.
    async fn answers(link: Link, unanswered: usize) -> Answers {
        let Link { sender, receiver } = link;
        let window = Arc::new(Window::new(4));
        window.unanswered.fetch_add(unanswered, Ordering::AcqRel);
        let writing = write_all(sender, stream::empty(), window.clone(), Arc::default());
        let retention = Retention::new(Arc::new(MemoryLog::default()));
        let writer = async { Writer(TypeConfig::spawn(writing)) };
        Answers {
            receiver,
            _writer: super::super::scoped(1, writer).await,
            window,
            silence_max: Duration::from_secs(1),
            matched: None,
            cut_offs: retention.cut_offs(),
            done: false,
        }
    }

    /// A link that says nothing any more doesn't keep a stream alive whose requests are all answered.
    #[tokio::test(start_paused = true)]
    async fn a_goodbye_that_never_comes_is_not_waited_for() {
        let (near, _silent) = link().await;
        let mut answers = answers(near, 0).await;
        let ended = tokio::time::timeout(Duration::from_secs(60), answers.answer()).await;
        assert!(matches!(ended, Ok(Ok(None))));
    }

    /// A goodbye that is seen before the stream's own end is no broken link, which would pause the replication: a new
    /// leader that searched for the end of a follower's log took 100 ms for each step.
    #[tokio::test(start_paused = true)]
    async fn a_goodbye_is_regular_behind_all_answers_only() {
        for unanswered in [0, 1] {
            let (near, far) = link().await;
            drop(far);
            let mut answers = answers(near, unanswered).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            let regular = matches!(answers.answer().await, Ok(None));
            assert_eq!(regular, unanswered == 0);
        }
    }
}
