//! Raft and the traits around it. Names no SQL, no socket, no mode, and no openraft or bincode type in a
//! public signature: a state machine, a log and a transport are handed in, so `core` is usable alone.
//!
//! # The way of one write
//!
//! ```text
//!  Member::write (on another node: forwarded to the leader)
//!       └─► queue ─► proposer: gather while entries are in flight ─► Epoch::run … Epoch::seal   (leader only)
//!                                                                                    │ bodies
//!        replies ◄─ in-flight table ◄─ StateMachine::prepare + finish ◄─ quorum ◄─ envelope ─► LogStore::append
//! ```
//!
//! # The way of one linearizable read
//!
//! ```text
//!  Member::permit(Linearizable) ─► leader: read index (one round for all waiting reads) ─► this node's store has applied it ─► ReadPermit
//! ```
//!
//! # How to embed it
//!
//! `examples/counter.rs` is a whole replicated counter: a [`StateMachine`] on [`memory::Ends`], [`memory::MemoryLog`] and
//! [`memory::Switchboard`] in one process.
//!
//! It doesn't do: execution, sockets, files, protocols of clients.
#![forbid(unsafe_code)]

mod answered;
mod codec;
pub mod conformance;
mod entry;
mod error;
mod ids;
mod interactive;
mod key_table;
mod log_store;
mod member;
pub mod memory;
mod outcome;
mod raft;
mod settings;
mod state_machine;
mod transport;

pub use entry::{Entry, Payload, Vote};
pub use error::MemberError;
pub use ids::{ClusterId, DirectoryId, EntryId, LogIndex, NodeId, OutOfRange, Peer, Term};
pub use interactive::{Closing, Interactive, Stepped};
pub use key_table::{EncodeTable, KeyTable, TableChunks};
pub use log_store::{Done, LogState, LogStore, StorageError};
pub use member::{
    AskError, BootstrapPlan, Cluster, ClusterMember, Committing, ComparedMember, Comparison,
    Counts, Entered, Genesis, IdempotencyKey, KeyLimits, Leadership, Member, MemberStatus, NoKey,
    NoPeerService, Parts, PeerService, ReadPermit, Reserved, Role, Route, Status, Written,
};
pub use outcome::{ReadBound, ReadError, ReadLevel, WriteError};
pub use settings::Settings;
pub use sqlrep_env::Retry;
pub use state_machine::{
    Applied, CheckpointStep, Committed, EntryEnd, Epoch, EpochEnd, EpochId, Interrupt,
    MachineError, Mismatch, NothingRuns, Sealed, SnapshotSink, SnapshotSource, StateMachine, Step,
    Which,
};
pub use transport::{FrameReceiver, FrameSender, Lane, Link, Transport, TransportError};
