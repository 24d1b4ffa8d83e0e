//! The seam of the modes: what Raft needs of a replicated state, and what a leader asks of it before it proposes.
//!
//! ```text
//!            writer worker (leader only)                      apply worker (every node)
//!   run ─ run ─ run ─ seal ──► envelope ──► log, quorum ──► prepare ─► finish ──► replies go out
//!    │ page: executes now, replies held        statement: executes here │
//!    └ statement: encodes                      page, own set: nothing   └ one entry end with its side state
//! ```

use crate::{EntryId, Interactive, KeyTable, LogIndex, NodeId, Retry, Term, WriteError};
use bytes::Bytes;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// Names one leadership of one process: nothing computed in it outlives it (safety rules 22 to 24).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochId {
    /// Raft term.
    pub term: Term,
    /// This node.
    pub node: NodeId,
    /// Counts the writer epochs of this process in this term.
    pub epoch: u64,
}

/// What became of a request on the leader.
#[derive(Debug)]
pub enum Step<R> {
    /// It is in the next command; the reply comes from [`Applied::Replies`] (statement mode).
    Encoded,
    /// Executed and in the next command; the reply is held until that is applied (page mode).
    Executed {
        /// For the client.
        reply: R,
        /// What keyed retries get, encoded, at most 1 KiB (safety rule 29).
        key_reply: Option<Bytes>,
    },
    /// Needs no entry; may leave once everything sealed before it is applied *and* a read-index round begun
    /// later has confirmed the leader (safety rule 25).
    Answered(R),
    /// Certainly never happens.
    Refused(WriteError),
}

/// Why an epoch has come to its end by itself.
#[derive(Clone, Debug)]
pub enum EpochEnd {
    /// It was interrupted: this node leads no longer, or has to begin anew.
    Interrupted,
    /// This node failed; no answer may be derived from it (safety rule 36).
    Failed(MachineError),
}

/// A command that an epoch sealed: everything that it took in, or the next part of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// For the log.
    pub body: Bytes,
    /// Parts of the same split set that follow (safety rule 26).
    pub parts_left: u32,
}

impl Sealed {
    /// A command that isn't split.
    #[must_use]
    pub fn whole(body: Bytes) -> Self {
        let parts_left = 0;
        Self { body, parts_left }
    }
}

/// The writer's side of one leadership, owned by the writer worker.
///
/// Duties of an implementation:
/// 1. No call proposes, waits for Raft or answers a client.
/// 2. The order of `run` is the order in the log.
/// 3. Dropping it is the abort: the writer connection is closed, then the speculation dropped (safety rule 24);
///    the state is at its newest entry end afterwards.
/// 4. What `seal` and the calls of `next_part` behind it give is one split set (safety rule 26), made part by part: a set of
///    any size takes the memory of a few parts.
pub trait Epoch: Send {
    /// A client's request.
    type Request;
    /// Its answer.
    type Reply;

    /// Takes in one request.
    fn run(&mut self, request: Self::Request) -> Step<Self::Reply>;

    /// Takes in one request whose reply is kept for its repetitions (safety rule 29): it has to be in a command even if it
    /// changes nothing, and so is never [`Step::Answered`] unless it asks for nothing.
    fn run_keyed(&mut self, request: Self::Request) -> Step<Self::Reply> {
        self.run(request)
    }

    /// Everything taken in since the last call as a command; none if there is nothing to replicate. If parts of it are left,
    /// they are asked for before anything else is.
    fn seal(&mut self) -> Option<Sealed>;

    /// The next part of what was sealed last, asked for once the part before it was handed over. None: the epoch has ended.
    fn next_part(&mut self) -> Option<Sealed> {
        None
    }

    /// Transactions that a client leads step by step; none where a mode needs no writer for them.
    fn interactive(
        &mut self,
    ) -> Option<&mut dyn Interactive<Request = Self::Request, Reply = Self::Reply>> {
        None
    }

    /// Why nothing more of this epoch can be proposed, asked behind the calls of `run`, `seal` and `next_part`. What was taken
    /// in since the last set of which all parts were given never happens. None: it goes on.
    fn ended(&mut self) -> Option<EpochEnd> {
        None
    }
}

/// Ends whatever an epoch is running, from another thread, so that an abort doesn't wait for it.
pub trait Interrupt: Send + Sync {
    /// The running call returns soon with a refusal; later ones are refused at once.
    fn interrupt(&self);
}

/// Of an epoch whose calls only gather or encode: it is never long at work.
pub struct NothingRuns;

impl Interrupt for NothingRuns {
    fn interrupt(&self) {}
}

/// One command that Raft committed.
#[derive(Debug)]
pub struct Committed<'a> {
    /// Where it stands.
    pub id: EntryId,
    /// Made by [`Epoch::seal`] on some node.
    pub body: &'a Bytes,
    /// Items whose idempotency key was already done and that mustn't be executed; empty: none (statement mode).
    pub skip: &'a [bool],
}

/// What applying a command gave, equal on every node.
#[derive(Debug)]
pub enum Applied<R> {
    /// Executed here: one reply per item.
    Replies(Vec<R>),
    /// Page set taken over; the replies are the held ones.
    Accepted,
    /// Page set that doesn't continue the tail: nothing happened, on any node (safety rule 22).
    Refused,
    /// A part of a split set; the verdict comes with the last one.
    Part,
}

/// Which state a snapshot shows (safety rule 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The durable position: what Raft is told before it has started, and what allows a purge.
    Durable,
    /// The newest entry end that may be sent.
    Newest,
}

/// An entry end: the last entry and `core`'s side state of it. `id` is none before the first entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryEnd {
    /// Last applied entry.
    pub id: Option<EntryId>,
    /// Members and settings. Opaque to the state machine; kept and restored with this very state (safety rule 5).
    pub side: Bytes,
    /// Idempotency keys: as opaque, and as closely kept; encoded only where this end is written or sent.
    pub keys: KeyTable,
}

/// How far a checkpoint has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointStep {
    /// There is more to do.
    More {
        /// The longest that the next step may wait for syncs of the log to go first; zero: there is no time to lose.
        patience: Duration,
    },
    /// Nothing is left to do; this is the durable end.
    Done(EntryEnd),
}

/// A failure of this node alone: disk, memory, corruption. No answer may be derived from it (safety rule 36).
#[derive(Clone, Debug, thiserror::Error)]
#[error("this node can't follow the log: {source}")]
pub struct MachineError {
    /// What failed.
    pub source: Arc<dyn Error + Send + Sync>,
    /// Whether doing the same again may work.
    pub retry: Retry,
    /// A write or sync failed: nothing written since can be trusted, the process has to stop.
    pub is_final: bool,
}

impl MachineError {
    /// Wraps an error of the state machine's own crate.
    pub fn new(source: impl Error + Send + Sync + 'static, retry: Retry) -> Self {
        Self {
            source: Arc::new(source),
            retry,
            is_final: false,
        }
    }

    /// The same, with whether the process has to stop.
    #[must_use]
    pub fn with_final(self, is_final: bool) -> Self {
        Self { is_final, ..self }
    }
}

/// A checksum that the log records of its leader's state, and that isn't this node's (safety rule 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The entry end they are of.
    pub index: LogIndex,
    /// This node's.
    pub ours: u64,
    /// The one in the log.
    pub recorded: u64,
}

/// A state that follows the log.
///
/// Duties of an implementation:
/// 1. `prepare` then `finish`, or `finish` alone for an entry without a command, comes once per entry, in log
///    order, from one worker. An entry at or below the newest end is refused by assertion.
/// 2. Nothing of an entry is visible, pinned, checkpointed or sent before its `finish` (safety rule 4).
/// 3. The result is a function of the log and the side state alone.
/// 4. `Err` is node-local; `core` takes this node out of service and derives no answer from it.
/// 5. `prepare` of an entry of another leadership than a live epoch's is called only after that epoch was dropped.
/// 6. After a restart the applied end is the durable one.
/// 7. `checkpoint_step` never passes `log_durable` and stays below an unfinished split set.
/// 8. All calls but those of `prepare`, `finish` and `install` may come from any thread, beside each other.
pub trait StateMachine: Send + Sync + 'static {
    /// A client's request.
    type Request: Send + 'static;
    /// Its answer.
    type Reply: Send + 'static;
    /// Leader's side.
    type Epoch: Epoch<Request = Self::Request, Reply = Self::Reply> + 'static;
    /// A snapshot to send.
    type Source: SnapshotSource;
    /// A snapshot being received.
    type Sink: SnapshotSink;

    /// Bytes with which another node forwards a request to the leader.
    fn encode_request(&self, request: &Self::Request) -> Bytes;

    /// About how many bytes it adds to a command: what the bounds of queues and commands count.
    fn request_bytes(&self, request: &Self::Request) -> usize {
        self.encode_request(request).len()
    }

    /// Reads them back.
    ///
    /// # Errors
    ///
    /// Bytes from a peer that are no request; bounded, never a panic.
    fn decode_request(&self, bytes: &[u8]) -> Result<Self::Request, MachineError>;

    /// Bytes of a reply for the way back.
    fn encode_reply(&self, reply: &Self::Reply) -> Bytes;

    /// Reads them back.
    ///
    /// # Errors
    ///
    /// As [`decode_request`](Self::decode_request).
    fn decode_reply(&self, bytes: &[u8]) -> Result<Self::Reply, MachineError>;

    /// What retries of a keyed request get (safety rule 29); none if this reply isn't kept, one with rows perhaps. It is
    /// replicated state: equal on every node that executed the request.
    fn key_reply(&self, reply: &Self::Reply) -> Option<Bytes> {
        Some(self.encode_reply(reply))
    }

    /// Whether an epoch executes what it takes in, ahead of the log: that needs a thread of its own. An epoch that only gathers and
    /// encodes runs beside Raft's tasks, which saves two switches of threads per command.
    fn executes_ahead(&self) -> bool {
        true
    }

    /// Begins an epoch on the applied end; the previous one has been dropped.
    fn lead(&self, epoch: EpochId) -> (Self::Epoch, Box<dyn Interrupt>);

    /// Executes or copies a command; invisible until `finish`.
    ///
    /// # Errors
    ///
    /// Node-local (duty 4).
    fn prepare(&self, command: Committed<'_>) -> Result<Applied<Self::Reply>, MachineError>;

    /// Makes the entry's end the applied one.
    ///
    /// # Errors
    ///
    /// Node-local (duty 4).
    fn finish(&self, end: EntryEnd) -> Result<(), MachineError>;

    /// The applied end.
    fn applied(&self) -> EntryEnd;

    /// The end that a restart begins from.
    fn durable(&self) -> EntryEnd;

    /// Works on making a newer end durable if it is time, or if `now` asks for it. A step writes at most 1 MiB and has
    /// synced it when it returns (safety rule 12); calls of `prepare`, `finish` and `install` may come between two. With
    /// `now` the newest end at or below `log_durable` that may be checkpointed is durable at [`CheckpointStep::Done`].
    ///
    /// # Errors
    ///
    /// Node-local; a full disk is [`Retry::Safe`]. The next call begins anew, or goes on where that is the only way.
    fn checkpoint_step(
        &self,
        log_durable: EntryId,
        now: bool,
    ) -> Result<CheckpointStep, MachineError>;

    /// All steps in a row, for a node that stops: returns the durable end.
    ///
    /// # Errors
    ///
    /// As [`checkpoint_step`](Self::checkpoint_step).
    fn checkpoint(&self, log_durable: EntryId, now: bool) -> Result<EntryEnd, MachineError> {
        loop {
            if let CheckpointStep::Done(end) = self.checkpoint_step(log_durable, now)? {
                return Ok(end);
            }
        }
    }

    /// Opens a snapshot; none if no entry was ever applied.
    ///
    /// # Errors
    ///
    /// Node-local.
    fn snapshot(&self, which: Which) -> Result<Option<Self::Source>, MachineError>;

    /// Begins to receive one that will show `end`, whose keys come with its chunks.
    ///
    /// # Errors
    ///
    /// Node-local; a full disk is [`Retry::Safe`].
    fn receive(&self, end: EntryEnd) -> Result<Self::Sink, MachineError>;

    /// Switches to a complete snapshot in one atomic, durable step (safety rule 3). The epoch was dropped before.
    ///
    /// # Errors
    ///
    /// Node-local; then nothing has changed.
    fn install(&self, sink: Self::Sink) -> Result<(), MachineError>;

    /// The checksum of the whole state at the end of entry `index`, equal on every healthy node; none if it isn't known
    /// any longer, or yet. A state that has none is never judged.
    fn checksum_at(&self, index: LogIndex) -> Option<u64> {
        let _ = index;
        None
    }

    /// The newest mismatch that applying has met since the last call.
    fn mismatch(&self) -> Option<Mismatch> {
        None
    }

    /// Tells apart what may make healthy nodes' states differ in bytes, a library of another version perhaps
    /// (safety rule 32).
    fn engine(&self) -> u64 {
        0
    }

    /// Reads everything durable back and compares it with what was written.
    ///
    /// # Errors
    ///
    /// Node-local: [`Retry::Useless`] for damage, anything else if it couldn't be read for now.
    fn verify(&self) -> Result<(), MachineError> {
        Ok(())
    }

    /// Keeps durably that this state mustn't be used, until another one is installed.
    ///
    /// # Errors
    ///
    /// Node-local.
    fn distrust(&self, why: &str) -> Result<(), MachineError> {
        let _ = why;
        Ok(())
    }

    /// What [`distrust`](Self::distrust) was told of this very state, also before a restart.
    fn distrusted(&self) -> Option<String> {
        None
    }
}

/// A pinned state with the keys of its end, read chunk by chunk.
pub trait SnapshotSource: Send + Sync + 'static {
    /// What it shows.
    fn end(&self) -> EntryEnd;

    /// The next chunk, at most 256 KiB; none at the end.
    ///
    /// # Errors
    ///
    /// Node-local: a page that reads back wrong is never sent (safety rule 7).
    fn next(&mut self) -> Result<Option<Bytes>, MachineError>;

    /// Goes on behind the first `chunks` chunks, at most as many as were asked for: those that follow are about the same parts
    /// as before. What was offered is forgotten.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    fn seek(&mut self, chunks: u64) -> Result<(), MachineError>;

    /// Takes what the receiver offers ([`SnapshotSink::offer`]), so that chunks may leave out what it has. No bytes: it has
    /// nothing more. As long as nothing is offered, everything is sent.
    ///
    /// # Errors
    ///
    /// Bytes from a peer that are no offer; bounded, never a panic.
    fn offered(&mut self, offer: &[u8]) -> Result<(), MachineError> {
        let _ = offer;
        Ok(())
    }

    /// Whether the next chunk waits for the next offer, which comes by itself as chunks are taken in.
    fn awaits_offer(&self) -> bool {
        false
    }

    /// Pages that chunks have left out until now.
    fn spared_pages(&self) -> u64 {
        0
    }
}

/// A state under way; dropping it removes what was received.
pub trait SnapshotSink: Send + Sync + 'static {
    /// What it will show; its keys once it is complete.
    fn end(&self) -> EntryEnd;

    /// Takes the next chunk.
    ///
    /// # Errors
    ///
    /// Node-local, or bytes that are no snapshot.
    fn write(&mut self, chunk: &[u8]) -> Result<(), MachineError>;

    /// What is here already, in words of [`SnapshotSource::offered`]; asked before the first chunk and behind each. None: there
    /// is nothing to tell now. No bytes: there is nothing more. What was offered is there when a chunk builds on it, or
    /// [`write`](Self::write) fails.
    fn offer(&mut self) -> Option<Bytes> {
        None
    }

    /// Takes over what another one brought that is given up, to offer it.
    fn inherit(&mut self, abandoned: Self)
    where
        Self: Sized,
    {
        drop(abandoned);
    }

    /// Reads back what was written so far and compares it with what came, before a transfer that broke goes on. Offers begin
    /// anew.
    ///
    /// # Errors
    ///
    /// Node-local, damage too; it is dropped then.
    fn verify(&mut self) -> Result<(), MachineError>;

    /// Verifies and syncs the whole.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    fn complete(&mut self) -> Result<(), MachineError>;
}
