//! Replaying a session's transaction where it stands in the log (safety rule 41).
//!
//! Invariant: whether it counts follows from the database and the request alone, so that every node decides alike; what
//! doesn't count leaves nothing.

use super::{Counters, Marked, Run};
use crate::step::Room;
use crate::verdict::Halt;
use crate::{Digest, Outcome, Replay, Reply, Request, Scene, SqlFailure, Statement};
use sqlrep_vfs::Connection;

/// What one text of a session gave.
pub(super) struct Text {
    /// None: there was no statement in it.
    pub(super) outcome: Option<Outcome>,
    pub(super) marked: Marked,
}

impl Run {
    /// Runs the statements of a session again. An empty reply: they gave what they gave then, and are committed.
    pub(super) fn replay(
        &mut self,
        connection: &Connection,
        request: &Request,
        replay: &Replay,
        counters: &mut Counters,
    ) -> Result<Reply, SqlFailure> {
        self.open(connection)?;
        let mut own = Counters::default();
        let same = self.same_again(connection, request, replay, &mut own)?;
        // Its rows aren't kept: they take no room of the entry's replies.
        self.room.bytes = self.room_given;
        if same && self.ended_well(connection)? {
            self.count(own, counters);
            return Ok(Reply::default());
        }
        self.roll_back(connection)
            .map_err(|error| self.local(connection, error))?;
        // What was compiled for a schema that is gone.
        self.forget(connection);
        Ok(Reply::conflict())
    }

    /// Begins the transaction of a session.
    pub(super) fn open(&self, connection: &Connection) -> Result<(), SqlFailure> {
        self.own(connection, "BEGIN IMMEDIATE")
            .map_err(|error| self.local(connection, error))
    }

    fn same_again(
        &mut self,
        connection: &Connection,
        request: &Request,
        replay: &Replay,
        counters: &mut Counters,
    ) -> Result<bool, SqlFailure> {
        if replay.scenes.len() != request.statements.len() {
            return Ok(false);
        }
        let mut digest = Digest::default();
        for (statement, scene) in request.statements.iter().zip(&replay.scenes) {
            self.room = self.whole_room();
            let scene = Scene::from(*scene);
            let text = self.session_text(connection, request, statement, scene, counters)?;
            // No session was ever shown a refusal of ours and went on with what it had done.
            if text.marked.ruled || connection.sqlite().is_autocommit() {
                return Ok(false);
            }
            digest.add(text.outcome.as_ref());
        }
        Ok(digest.finish() == replay.digest)
    }

    /// What the rows of one text may take.
    pub(super) fn whole_room(&self) -> Room {
        Room {
            rows: u64::MAX,
            bytes: self.settings.reply_bytes_max,
        }
    }

    /// One text within the open transaction of a session. An error is its outcome and ends nothing.
    pub(super) fn session_text(
        &mut self,
        connection: &Connection,
        request: &Request,
        statement: &Statement,
        scene: Scene,
        counters: &mut Counters,
    ) -> Result<Text, SqlFailure> {
        connection.set_time(Some(scene.now));
        connection.set_random(Some(scene.seed));
        self.marked = Marked::default();
        let ran = self.text(connection, statement, request, counters);
        self.guard.own();
        let outcome = match ran {
            Ok(outcome) => outcome,
            Err(halt) => Some(crate::failed(halt)?),
        };
        let marked = self.marked;
        Ok(Text { outcome, marked })
    }

    fn ended_well(&mut self, connection: &Connection) -> Result<bool, SqlFailure> {
        let ended = self
            .savepoints
            .check()
            .and_then(|()| self.commit(connection));
        match ended {
            Ok(()) => Ok(true),
            Err(Halt::Refused(_)) => Ok(false),
            Err(Halt::Failed(failure)) => Err(failure),
        }
    }
}
