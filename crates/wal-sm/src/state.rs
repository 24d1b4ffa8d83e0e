//! What the log has made of this node: the decision on each page set, its pages, the parts of one that isn't complete.
//!
//! ```text
//!   prepare ─► does it continue the tail? ─no─► refused, on every node
//!                │ yes
//!                ├─ made by the epoch that lives here ─► its version is there already
//!                └─ made elsewhere, or by an epoch that ended ─► copied: one version per part, above the committed one
//!   finish  ─► last part, or whole set: committed, the tail moves ─► replies go out
//!              a part before the last: nothing is seen of it, and no such end is durable or sent
//! ```
//!
//! **Invariants.** 1. What a set does here is a function of the log: `side.tail` and `staged`'s place in its set follow from
//! the entries since the newest anchor, and an anchor never lies behind a first part (safety rules 22 and 26). 2. Versions above the
//! committed one belong to the set that is staged or prepared, or to the epoch that lives. 3. What `prepare` decides counts
//! from `finish` on: the same entry may be prepared again.
//!
//! A set that is refused is as a rule one behind a hole in its leader's pipeline, on every node alike. A node whose tail isn't that of
//! the others refuses what they accept, and goes on at every index with a database that stands still; [`State::refused`] finds
//! that out (safety rule 31).

use crate::body::Body;
use crate::error::malformed;
use crate::side::Side;
use crate::source::Before;
use crate::{Applying, Ended, Head, PageModeError, PageSet, Part, Tail};
use sqlrep_core::{Applied, Committed, EntryEnd, LogIndex, Mismatch, Term};
use sqlrep_env::Moment;
use sqlrep_replica::{Finished, Replica, Sink};
use sqlrep_store::{Change, PageCount, Store, Version};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// So many sets of one epoch are never behind a hole: it ends the epoch, and only the few are in the log that were in flight then.
const REFUSED_MAX: u32 = 32;

/// A set that the live epoch sealed, from its seal until it is finished.
pub(crate) struct SealedSet {
    pub(crate) tail: Tail,
    /// What the database is behind it.
    pub(crate) version: Version,
    /// How long sealing it took: about as long as copying it takes a node that replays it.
    pub(crate) took: Duration,
}

/// The parts of a set that came so far, while there are more.
#[derive(Clone)]
struct Staged {
    head: Head,
    /// The part that is due, and of how many.
    due: Part,
    pages: Pages,
}

/// Where a set's pages come from.
#[derive(Clone)]
enum Pages {
    /// The versions of the epoch that made it, up to this one.
    Own { version: Version, took: Duration },
    /// Its parts, copied into versions up to this one.
    Copied {
        applying: Box<Applying>,
        version: Version,
    },
}

/// What an entry does at its end.
enum Verdict {
    /// It changes nothing, but a set that was staged is gone.
    Refused {
        head: Head,
        part: Part,
    },
    Part(Staged),
    Set {
        version: Version,
        own: bool,
        differs: Option<PageModeError>,
    },
}

fn version_of(staged: &Staged) -> Version {
    match staged.pages {
        Pages::Own { version, .. } | Pages::Copied { version, .. } => version,
    }
}

struct Prepared {
    verdict: Verdict,
    side: Side,
    took: Duration,
}

impl Prepared {
    /// Whether it put pages into the store.
    fn copied(&self) -> bool {
        match &self.verdict {
            Verdict::Refused { .. } => false,
            Verdict::Part(staged) => matches!(staged.pages, Pages::Copied { .. }),
            Verdict::Set { own, .. } => !own,
        }
    }
}

/// The apply worker's value, which the epoch that lives here looks into.
pub(crate) struct State {
    replica: Arc<Replica>,
    /// Behind the applied end.
    side: Side,
    /// Sets of the epoch that lives, in order; none: none lives.
    speculation: Option<VecDeque<SealedSet>>,
    staged: Option<Staged>,
    prepared: Option<Prepared>,
    /// The epoch whose sets were refused last, by its term and number, and how many of them in a row.
    refused: Option<((Term, u64), u32)>,
    /// Checksums that differed.
    mismatches: u64,
    /// The newest of them, until it is asked for.
    mismatch: Option<Mismatch>,
}

impl State {
    /// Begins at the applied end.
    pub(crate) fn begin(replica: Arc<Replica>, side: Side) -> Self {
        Self {
            replica,
            side,
            speculation: None,
            staged: None,
            prepared: None,
            refused: None,
            mismatches: 0,
            mismatch: None,
        }
    }

    pub(crate) fn mismatches(&self) -> u64 {
        self.mismatches
    }

    pub(crate) fn take_mismatch(&mut self) -> Option<Mismatch> {
        self.mismatch.take()
    }

    /// An epoch begins: what it is to speculate on. Parts of a set that came before are those of an epoch that ended with all its
    /// verdicts: the rest of them never comes.
    pub(crate) fn lead(&mut self) -> (Side, Version) {
        assert!(self.speculation.is_none(), "one epoch lives at a time");
        (self.prepared, self.staged) = (None, None);
        self.store().abort();
        self.speculation = Some(VecDeque::new());
        (self.side, self.store().committed().version)
    }

    /// The epoch that lives has sealed a set.
    pub(crate) fn sealed(&mut self, set: SealedSet) {
        let sets = self.speculation.as_mut();
        sets.expect("its epoch lives").push_back(set);
    }

    /// The epoch has ended and its connection is closed: what it made is dropped, but for a set that is being applied. Sets that
    /// are still committed are copied, as on any node (safety rule 24).
    pub(crate) fn end_epoch(&mut self) {
        self.speculation = None;
        let keep = self.applying();
        self.store().abort_above(keep);
    }

    /// The newest version of a set of which entries were applied.
    fn applying(&self) -> Version {
        let committed = self.store().committed().version;
        match (&self.prepared, &self.staged) {
            (Some(prepared), _) => match &prepared.verdict {
                Verdict::Set { version, .. } => *version,
                Verdict::Part(staged) => version_of(staged),
                Verdict::Refused { .. } => committed,
            },
            (None, Some(staged)) => version_of(staged),
            (None, None) => committed,
        }
    }

    fn store(&self) -> &Store {
        self.replica.store()
    }

    /// Drops the parts of a set that will never be complete.
    fn discard(&mut self) {
        if self.staged.take().is_some() && self.speculation.is_none() {
            self.store().abort();
        }
    }

    /// What comes of one page set, or of one part.
    pub(crate) fn prepare<R>(
        &mut self,
        command: &Committed<'_>,
    ) -> Result<Applied<R>, PageModeError> {
        let began = self.replica.env().clock.now();
        self.undo();
        let body = Body::decode(command.body)?;
        let (head, part) = PageSet::head_of(&body.part)?;
        let staged = self.continued(&head, part, command.id.term);
        let begins = part.number == 1
            && Tail::accepts(
                self.side.tail,
                head.predecessor,
                head.tail.term,
                command.id.term,
            );
        let staged = match staged {
            Some(staged) => staged,
            None if begins => {
                self.discard();
                self.first(&body, head, part)?
            }
            None => {
                self.prepared = Some(self.nothing(head, part, began));
                return Ok(Applied::Refused);
            }
        };
        self.prepared = Some(self.part(&body, staged, began)?);
        Ok(if part.number == part.of {
            Applied::Accepted
        } else {
            Applied::Part
        })
    }

    /// The same entry comes again, because its end couldn't be kept.
    fn undo(&mut self) {
        if self.prepared.take().is_some_and(|former| former.copied()) {
            let staged = self.staged.as_ref().map_or(Version(0), version_of);
            self.store().abort_above(staged);
        }
    }

    /// The set that is staged, if this is its next part.
    fn continued(&self, head: &Head, part: Part, term: Term) -> Option<Staged> {
        let staged = self.staged.as_ref()?;
        let same = staged.head == *head && staged.due == part && head.tail.term == term;
        same.then(|| staged.clone())
    }

    /// A set begins: whose pages are they?
    fn first(&self, body: &Body, head: Head, part: Part) -> Result<Staged, PageModeError> {
        let front = self.speculation.as_ref().and_then(VecDeque::front);
        let pages = match front.filter(|set| set.tail == head.tail) {
            Some(SealedSet { version, took, .. }) => Pages::Own {
                version: *version,
                took: *took,
            },
            None => {
                if self.speculation.is_some() {
                    return Err(malformed(
                        "a set of another epoch than the one that lives here",
                    ));
                }
                let set = PageSet::decode(&body.part)?;
                let applying = Applying::begin(&set, &Before::of(self.store()))?;
                Pages::Copied {
                    applying: Box::new(applying),
                    version: self.store().committed().version,
                }
            }
        };
        Ok(Staged {
            head,
            due: part,
            pages,
        })
    }

    /// Takes over the part that is due.
    fn part(
        &self,
        body: &Body,
        mut staged: Staged,
        began: Moment,
    ) -> Result<Prepared, PageModeError> {
        let is_last = staged.due.number == staged.due.of;
        let mut verdict = match &mut staged.pages {
            Pages::Own { version, .. } => {
                let (version, differs) = (*version, None);
                let set = Verdict::Set {
                    version,
                    own: true,
                    differs,
                };
                is_last.then_some(set)
            }
            Pages::Copied { applying, version } => {
                let differs;
                (*version, differs) = self.copy(body, applying, is_last)?;
                let version = *version;
                let set = Verdict::Set {
                    version,
                    own: false,
                    differs,
                };
                is_last.then_some(set)
            }
        };
        let mut took = self.replica.env().clock.now().since(began);
        if let (Pages::Own { took: sealing, .. }, true) = (&staged.pages, is_last) {
            took += *sealing;
        }
        let mut side = self.side;
        if verdict.is_some() {
            side = Side {
                last_stamp: body.stamp,
                counters: body.counters,
                tail: Some(staged.head.tail),
            };
        } else {
            staged.due.number += 1;
            verdict = Some(Verdict::Part(staged));
        }
        Ok(Prepared {
            verdict: verdict.expect("set in either case"),
            side,
            took,
        })
    }

    /// Copies a part's pages into a version of its own; with the last one, whether the database differs from the leader's.
    fn copy(
        &self,
        body: &Body,
        applying: &mut Applying,
        is_last: bool,
    ) -> Result<(Version, Option<PageModeError>), PageModeError> {
        let store = self.store();
        let (set, before) = (PageSet::decode(&body.part)?, Before::of(store));
        let pages = applying.part(&set, &before)?;
        let (_, held) = store.newest();
        let last = pages.keys().next_back().map_or(0, |page| page.get());
        let Ended { count, differs } = if is_last {
            applying.clone().end(&before)?
        } else {
            // Parts ascend by page: what the database grows by up to here has come.
            let (count, differs) = (PageCount(held.0.max(last)), None);
            Ended { count, differs }
        };
        let version = store.publish(Change { pages, count })?;
        Ok((version, differs))
    }

    fn nothing(&self, head: Head, part: Part, began: Moment) -> Prepared {
        Prepared {
            verdict: Verdict::Refused { head, part },
            side: self.side,
            took: self.replica.env().clock.now().since(began),
        }
    }

    /// Makes an entry's end the applied one. Behind an entry without a page set nothing has changed, unless its term is
    /// another one than that of the parts that came: the rest of them will be refused.
    pub(crate) fn finish(&mut self, end: EntryEnd) -> Result<(), PageModeError> {
        let term = end.id.map(|id| id.term);
        let before = self.replica.applied().id.map(|id| id.index);
        let around = (before, end.id.map(|id| id.index));
        let over = |staged: &Staged| term.is_some_and(|term| staged.head.tail.term < term);
        let (version, side, stays, took) = match &self.prepared {
            None => {
                let stays = self.staged.as_ref().is_some_and(|staged| !over(staged));
                (None, self.side, stays, Duration::ZERO)
            }
            Some(done) => match &done.verdict {
                Verdict::Refused { .. } => (None, done.side, false, done.took),
                Verdict::Part(_) => (None, done.side, true, done.took),
                Verdict::Set { version, .. } => (Some(*version), done.side, false, done.took),
            },
        };
        if !stays && version.is_none() {
            self.discard();
        }
        self.replica.finish(Finished {
            version,
            end,
            mode: side.encode(),
            anchor: !stays,
            took,
        })?;
        self.side = side;
        match self.prepared.take().map(|done| done.verdict) {
            None => {}
            Some(Verdict::Refused { head, part }) => {
                self.staged = None;
                if term == Some(head.tail.term) {
                    self.refused(&head, part, around);
                }
            }
            Some(Verdict::Part(staged)) => self.staged = Some(staged),
            Some(Verdict::Set { own, differs, .. }) => {
                (self.staged, self.refused) = (None, None);
                self.ended(own);
                self.differs(differs, around);
            }
        }
        Ok(())
    }

    /// A set is complete.
    fn ended(&mut self, own: bool) {
        if let (true, Some(sets)) = (own, &mut self.speculation) {
            sets.pop_front();
        }
    }

    /// A set was refused that was made in the term of its entry. An epoch begins behind everything that was accepted before, so its
    /// first set follows the tail of all nodes; and behind a hole come few. Where it is otherwise tails differ, and with the
    /// sets that count databases do.
    fn refused(&mut self, head: &Head, part: Part, around: (Option<LogIndex>, Option<LogIndex>)) {
        let Tail {
            term,
            epoch,
            sequence,
            ..
        } = head.tail;
        let whole = u32::from(part.number == part.of);
        let former = self.refused.filter(|(of, _)| *of == (term, epoch));
        let count = former.map_or(0, |(_, count)| count) + whole;
        self.refused = Some(((term, epoch), count.min(REFUSED_MAX)));
        let first = sequence == 1 && part.number == 1;
        if !first && count < REFUSED_MAX {
            return;
        }
        let ours = self.store().committed().checksum;
        let differs = if ours != head.base {
            let recorded = head.base;
            PageModeError::Base { ours, recorded }
        } else if ours != head.post && part.of == 1 {
            let recorded = head.post;
            PageModeError::Post { ours, recorded }
        } else {
            return;
        };
        self.differs(Some(differs), around);
    }

    /// Tells of a database that isn't the leader's, before an entry or behind it.
    fn differs(
        &mut self,
        differs: Option<PageModeError>,
        (before, after): (Option<LogIndex>, Option<LogIndex>),
    ) {
        let told = match differs {
            Some(PageModeError::Base { ours, recorded }) => before.map(|at| (at, ours, recorded)),
            Some(PageModeError::Post { ours, recorded }) => after.map(|at| (at, ours, recorded)),
            _ => None,
        };
        if let Some((index, ours, recorded)) = told {
            self.mismatches += 1;
            self.mismatch = Some(Mismatch {
                index,
                ours: ours.0,
                recorded: recorded.0,
            });
        }
    }

    /// Switches to a complete snapshot. The epoch was dropped before.
    pub(crate) fn install(&mut self, sink: Sink) -> Result<(), PageModeError> {
        assert!(self.speculation.is_none(), "no epoch lives");
        let side = Side::decode(sink.mode_side())?;
        // The versions of a set under way go with the database that they stand in.
        self.replica.install(sink)?;
        (self.prepared, self.staged, self.refused) = (None, None, None);
        self.side = side;
        Ok(())
    }
}
