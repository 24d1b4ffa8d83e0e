//! The least state that the storage suite needs: it notes positions and members, and answers nothing.

use crate::raft::{LogId, Membership, SnapshotMeta, TypeConfig};
use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use std::io;

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, ()>;

/// Position and members; a snapshot is the same again.
#[derive(Clone, Default)]
pub(super) struct Noted {
    applied: Option<LogId>,
    members: Membership,
    snapshot: Option<SnapshotMeta>,
}

fn carried(meta: SnapshotMeta) -> Snapshot {
    Snapshot { meta, snapshot: () }
}

impl RaftStateMachine<TypeConfig> for Noted {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Membership)> {
        Ok((self.applied, self.members.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(members) = entry.payload {
                self.members = Membership::new(Some(entry.log_id), members);
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.snapshot = Some(SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.members.clone(),
        });
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, (): ()) -> io::Result<()> {
        self.applied = meta.last_log_id;
        self.members = meta.last_membership.clone();
        self.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.snapshot.clone().map(carried))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Noted {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let nothing = || io::Error::other("asked for before it was made");
        self.snapshot.clone().map(carried).ok_or_else(nothing)
    }
}
