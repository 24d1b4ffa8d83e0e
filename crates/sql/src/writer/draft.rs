//! Statement mode's session while it is open: its transaction on a private writer over a pinned version.
//!
//! ```text
//!   run ─► on the private writer; text, scene and digest of the outcome are kept
//!   commit ─► the private writer commits, for nobody to see ─► a Request with all of it, for the log
//! ```
//!
//! A text that only read and was refused by a bound of ours isn't kept: its replay would show nothing.
//!
//! Invariant: what is kept, replayed on the pinned version, gives the digest.

use super::replay::Text;
use super::{Counters, Drafted, Held, Scene, Writer};
use crate::budget::Stop;
use crate::pragma::Role;
use crate::replay::{Digest, Replay};
use crate::{Request, Shape, SqlError, SqlFailure, SqlSettings, Statement};
use rusqlite::InterruptHandle;
use sqlrep_env::Env;
use sqlrep_store::{Pin, Store};
use sqlrep_vfs::Kind;
use std::fmt;
use std::sync::Arc;

/// A transaction that isn't in the log yet.
pub struct Draft {
    writer: Writer,
    held: Held,
    kept: Kept,
}

/// What the log has to be told.
#[derive(Default)]
struct Kept {
    request: Request,
    replay: Replay,
    digest: Digest,
    bytes: usize,
    wrote: bool,
}

impl Kept {
    fn keep(&mut self, statement: &Statement, scene: Scene, text: &Text) {
        self.digest.add(text.outcome.as_ref());
        self.bytes += statement.size_bytes();
        self.request.statements.push(statement.clone());
        self.replay.scenes.push(scene.into());
        self.wrote |= text.marked.touched;
    }
}

impl Draft {
    /// Begins on `pin`. The settings are the cluster's.
    ///
    /// # Errors
    ///
    /// [`SqlFailure::Connection`], or settings that make no sense.
    pub fn begin(
        store: &Arc<Store>,
        env: &Env,
        settings: &SqlSettings,
        pin: Arc<Pin>,
    ) -> Result<Self, SqlFailure> {
        settings.check()?;
        let private = (Kind::Private(pin), Role::Writer);
        let mut writer = Writer::open_kind(store, env, settings, private, Stop::default())?;
        let held = Held::begin(&mut writer, Stop::default())?;
        let request = Request {
            transaction: true,
            shape: Shape::Request,
            ..Request::default()
        };
        let kept = Kept {
            request,
            ..Kept::default()
        };
        Ok(Self { writer, held, kept })
    }

    /// Stops what runs, from any thread. The transaction is over then, if what ran could write.
    #[must_use]
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.writer.connection.interrupt_handle()
    }

    /// Texts kept for the COMMIT.
    #[must_use]
    pub fn texts(&self) -> usize {
        self.kept.request.statements.len()
    }

    /// Bytes of them, as [`Request::size_bytes`] counts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.kept.bytes
    }

    /// Runs the statements of `request`, each with a scene of its own. Rows are answered wherever there are columns; the
    /// rows of all together are bounded as those of a request, the steps of the whole transaction are.
    ///
    /// # Errors
    ///
    /// A failure of this node: the transaction is over.
    pub fn run(
        &mut self,
        request: &Request,
        scene: impl FnMut() -> Scene,
    ) -> Result<Drafted, SqlFailure> {
        let Self { writer, held, kept } = self;
        held.texts(writer, request, scene, |statement, scene, text| {
            kept.keep(statement, scene, text);
        })
    }

    /// Commits privately and answers what has to be replicated: none if nothing of it could write. An error of SQLite's
    /// leaves the transaction open where SQLite does, a deferred constraint perhaps; [`is_open`](Self::is_open) tells.
    ///
    /// # Errors
    ///
    /// A failure of this node: the transaction is over.
    pub fn commit(&mut self) -> Result<Result<Option<Request>, SqlError>, SqlFailure> {
        // What is private has no say in what the database repeats.
        let mut unheard = Counters::default();
        if let Err(error) = self.held.commit(&mut self.writer, &mut unheard)? {
            return Ok(Err(error));
        }
        if !self.kept.wrote {
            return Ok(Ok(None));
        }
        let Kept {
            mut request,
            mut replay,
            digest,
            ..
        } = std::mem::take(&mut self.kept);
        replay.digest = digest.finish();
        request.replay = Some(Box::new(replay));
        Ok(Ok(Some(request)))
    }

    /// Whether it can still be committed.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.held.is_open()
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("texts", &self.texts())
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}
