//! The answers to other members' calls: a task for each, within bounds.
//!
//! A link that ends takes its calls with it, where they wait: a write that still stands in the queue is
//! withdrawn, one that is proposed goes on, and its caller knows neither. A call that its caller withdraws ends alike,
//! and is answered with that.

use super::held::Held;
use super::lines::fitting;
use super::wire::{Answer, Ask, Call, Return};
use crate::codec::{self, CodecError};
use crate::member::change::HOPS;
use crate::member::{Inner, Key, Keyed};
use crate::raft::scoped;
use crate::{FrameReceiver, FrameSender, Link, NodeId, StateMachine, TransportError, WriteError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// No call of another member waits longer, whatever it says.
const WAIT_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Serves one link of the client lane until it ends.
pub(crate) async fn serve<M: StateMachine>(from: NodeId, link: Link, inner: Arc<Inner<M>>) {
    let (answers, outgoing) = mpsc::channel(inner.shared.settings.client_calls_max);
    let served = tokio::select! {
        biased;
        written = write(link.sender, outgoing) => written,
        read = read(from, link.receiver, answers, inner) => read,
    };
    if let Err(error) = served {
        tracing::debug!(%from, %error, "a client link ended");
    }
}

async fn write(
    mut sender: Box<dyn FrameSender>,
    mut outgoing: mpsc::Receiver<Return>,
) -> Result<(), ServeError> {
    while let Some(answer) = outgoing.recv().await {
        sender.send(codec::encode(&answer)).await?;
    }
    Ok(())
}

async fn read<M: StateMachine>(
    from: NodeId,
    mut receiver: Box<dyn FrameReceiver>,
    answers: mpsc::Sender<Return>,
    inner: Arc<Inner<M>>,
) -> Result<(), ServeError> {
    let (mut calls, bytes) = (Calls::default(), Arc::new(AtomicUsize::new(0)));
    let settings = &inner.shared.settings;
    while let Some(frame) = receiver.receive().await? {
        let Call { number, ask } = codec::decode(&frame)?;
        calls.reap();
        if let Ask::Withdraw { calls: numbers } = ask {
            calls.withdraw(&numbers);
            continue;
        }
        let room = calls.tasks.len() < settings.client_calls_max;
        let Some(held) = room
            .then(|| Held::new(&bytes, ask.bytes(), settings.client_bytes_max))
            .flatten()
        else {
            let answer = match ask {
                Ask::Echo => Answer::Echo,
                _ => Answer::Overloaded,
            };
            answers.send(Return { number, answer }).await.ok();
            continue;
        };
        let withdrawn = calls.enter(number, &ask);
        let (answers, inner) = (answers.clone(), inner.clone());
        let seed = inner.shared.env.entropy.next();
        calls.tasks.spawn(scoped(seed, async move {
            let answer = tokio::select! {
                biased;
                answer = Box::pin(answer(from, ask, &inner)) => fitting(answer),
                () = withdrawn => Answer::Withdrawn,
            };
            drop(held);
            // The link has ended if nobody takes it.
            answers.send(Return { number, answer }).await.ok();
            number
        }));
    }
    Ok(())
}

/// The calls of one link that are being answered.
#[derive(Default)]
struct Calls {
    tasks: JoinSet<u64>,
    /// Those that end with their caller, by number; dropping one ends it.
    callers: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Calls {
    /// Notes a call; what is returned ends when it is withdrawn.
    fn enter(&mut self, number: u64, ask: &Ask) -> impl Future<Output = ()> + use<> {
        let caller = ask.ends_with_caller().then(oneshot::channel::<()>);
        let withdrawn = caller.map(|(caller, withdrawn)| {
            self.callers.insert(number, caller);
            withdrawn
        });
        async move {
            match withdrawn {
                // Nothing is ever sent.
                Some(withdrawn) => drop(withdrawn.await),
                None => std::future::pending().await,
            }
        }
    }

    fn withdraw(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.callers.remove(number);
        }
    }

    /// Forgets those that have their answer.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            match ended {
                Ok(number) => drop(self.callers.remove(&number)),
                Err(_panicked) => self.callers.retain(|_, caller| !caller.is_closed()),
            }
        }
    }
}

async fn answer<M: StateMachine>(from: NodeId, ask: Ask, inner: &Arc<Inner<M>>) -> Answer {
    match ask {
        Ask::Echo => Answer::Echo,
        Ask::Withdraw { .. } => Answer::Withdrawn,
        Ask::Write {
            request,
            key,
            wait_ms,
        } => {
            let wait = Duration::from_millis(wait_ms).min(WAIT_MAX);
            Answer::Written(written(from, &request, key, wait, inner).await)
        }
        Ask::ReadIndex => Answer::Index(inner.read_index.here.join().await),
        Ask::Barrier => Answer::Index(inner.barriers.here.join().await),
        Ask::Opaque(bytes) => Answer::Opaque(inner.shared.service.call(from, bytes).await),
        Ask::Greet => Answer::Greeting(Box::new(inner.greeting())),
        Ask::Change {
            change,
            wait_ms,
            hops,
        } => {
            let wait = Duration::from_millis(wait_ms).min(WAIT_MAX);
            let hops = hops.min(HOPS);
            Answer::Changed(inner.change_once(change, Instant::now() + wait, hops).await)
        }
        Ask::Compare { index, checksum } => {
            Answer::Compared(inner.evidence(from, index, checksum).await)
        }
        Ask::Repair => Answer::Repair(inner.send_repair(from)),
    }
}

/// A forwarded write, proposed here or refused.
async fn written<M: StateMachine>(
    from: NodeId,
    request: &Bytes,
    key: Key,
    wait: Duration,
    inner: &Inner<M>,
) -> Result<(Bytes, crate::EntryId, bool), WriteError> {
    if !key.is_sound() {
        let what = "a forwarded request has no sound key".to_owned();
        return Err(WriteError::Unsupported { what });
    }
    let machine = &inner.shared.machine;
    let request = machine.decode_request(request).map_err(|error| {
        tracing::warn!(%from, %error, "a forwarded request can't be read");
        let what = format!(
            "node {} can't read this request: {error}",
            inner.shared.node
        );
        WriteError::Unsupported { what }
    })?;
    let since = Instant::now();
    let key = Some(key);
    let request = Keyed { request, key };
    let done = inner.here(request, since, since + wait).await?;
    Ok((machine.encode_reply(&done.reply), done.at, done.replayed))
}
