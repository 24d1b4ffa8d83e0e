//! What callers see and change at once, under one short lock: the index, the newest entries, and the queue of what the
//! writer still has to do.
//!
//! Every operation gets its place in a segment when it is queued, so that "the disk is full" is said before
//! anything is changed, and reads know where an entry will stand. The writer writes exactly there.
//!
//! Invariants: 1. operations of the queue follow each other without a gap in their segment. 2. The cache holds every
//! entry that isn't durable. 3. `durable` is lowered by a truncation at once (safety rule 8), and a batch
//! that was under way then can't raise it above the cut: `raising` is cut too.

use crate::frame::{BEGIN_BYTES, MARK_BYTES, Record, SEAL_BYTES, entry_bytes};
use crate::index::{Index, Place};
use crate::recover::{End, Ready, Recovered};
use crate::segment::HEADER_BYTES;
use crate::{LogError, Options, Stats};
use sqlrep_core::{Done, Entry, EntryId, LogIndex, LogState, StorageError, Vote};
use sqlrep_disk::DiskError;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// What an entry takes in the cache beside its content.
const ENTRY_COST_BYTES: usize = 64;

/// Something for the writer, in order.
pub(crate) struct Op {
    pub(crate) what: What,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) done: Option<Done<()>>,
}

pub(crate) enum What {
    Entries(Vec<Entry>),
    Record(Record),
    Vote(Vote),
}

impl Op {
    /// Whether its completion may raise the durable mark.
    pub(crate) fn raises(&self) -> bool {
        matches!(self.what, What::Entries(_) | What::Record(Record::Purge(_)))
    }
}

/// Entries to be read from files.
pub(crate) struct Read {
    pub(crate) entries: Vec<(LogIndex, u64, Arc<dyn sqlrep_disk::File>, Place)>,
    pub(crate) done: Done<Vec<Entry>>,
}

/// Called once, with the failure that ends the process.
pub(crate) type OnFailure = Box<dyn FnOnce(&StorageError) + Send>;

pub(crate) struct Front {
    options: Options,
    index: Index,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    vote: Option<Vote>,
    floor: Option<LogIndex>,
    durable: Option<EntryId>,
    /// What each queued operation that raises `durable` raises it to.
    raising: VecDeque<Option<EntryId>>,
    /// Queued truncations and purges: until they are durable no segment goes.
    cuts_pending: u64,
    /// Whether the committed mark is newer than its newest frame.
    mark_unwritten: bool,
    /// Where the next operation goes, and how long its segment is or will be.
    segment: u64,
    offset: u64,
    segment_bytes: u64,
    pub(crate) queue: VecDeque<Op>,
    /// Whether the writer writes and syncs what it has taken from the queue.
    pub(crate) writing: bool,
    pub(crate) reads: VecDeque<Read>,
    pub(crate) files: BTreeMap<u64, Ready>,
    /// The newest segment in which a batch is durable; older ones may be removed.
    pub(crate) synced_segment: u64,
    /// Why the next segment can't be had.
    pub(crate) full: Option<StorageError>,
    pub(crate) failed: Option<StorageError>,
    pub(crate) on_failure: Vec<OnFailure>,
    pub(crate) closing: bool,
    pub(crate) stats: Stats,
}

impl Front {
    pub(crate) fn new(
        options: Options,
        recovered: Recovered,
    ) -> (Self, End, crate::vote::VoteFile) {
        let Recovered {
            index,
            newest,
            files,
            end,
            votes,
            vote,
        } = recovered;
        let durable = index.last();
        let mut front = Self {
            options,
            index,
            cache: VecDeque::new(),
            cache_bytes: 0,
            vote,
            floor: None,
            durable,
            raising: VecDeque::new(),
            cuts_pending: 0,
            mark_unwritten: false,
            segment: end.segment,
            offset: end.offset,
            segment_bytes: files.get(&end.segment).map_or(0, |ready| ready.bytes),
            queue: VecDeque::new(),
            writing: false,
            reads: VecDeque::new(),
            files,
            synced_segment: end.segment,
            full: None,
            failed: None,
            on_failure: Vec::new(),
            closing: false,
            stats: Stats::default(),
        };
        // Nothing was begun in this segment: the one before holds the newest durable frame.
        if end.offset == HEADER_BYTES {
            front.synced_segment = end.segment - 1;
        }
        newest.into_iter().for_each(|entry| front.remember(entry));
        front.evict();
        (front, end, votes)
    }

    /// The error that every call gets now.
    pub(crate) fn refusal(&self) -> Option<StorageError> {
        let closed = || self.closing.then(|| LogError::Closed.into());
        self.failed.clone().or_else(closed)
    }

    pub(crate) fn state(&self) -> LogState {
        LogState {
            purged: self.index.purged(),
            last: self.index.last(),
            vote: self.vote,
            committed: self.index.committed(),
        }
    }

    pub(crate) fn durable(&self) -> Option<EntryId> {
        self.durable
    }

    pub(crate) fn bytes_behind(&self, index: Option<LogIndex>) -> u64 {
        self.index.bytes_behind(index)
    }

    pub(crate) fn set_floor(&mut self, floor: Option<LogIndex>) {
        self.floor = floor;
    }

    /// Queues entries behind the last one.
    pub(crate) fn append(&mut self, entries: Vec<Entry>, done: Done<()>) -> Result<(), Refused> {
        self.check_order(&entries);
        let mark = if self.mark_unwritten { MARK_BYTES } else { 0 };
        let bytes = entries.iter().map(entry_bytes).sum();
        let reserve = self.reserve_bytes();
        let done = self.place(bytes + mark, reserve, done)?;
        let mut offset = self.offset;
        for entry in &entries {
            let bytes = entry_bytes(entry);
            self.index
                .push(entry.id, self.segment, place(offset, bytes));
            offset += bytes;
            self.remember(entry.clone());
        }
        self.raising.push_back(self.index.last());
        self.push(What::Entries(entries), bytes, Some(done));
        self.push_mark();
        Ok(())
    }

    /// Duty 4: there are no holes.
    fn check_order(&self, entries: &[Entry]) {
        let mut last = self.index.last();
        for entry in entries {
            assert!(
                Index::fits(last, entry.id),
                "entry {} leaves a hole behind {last:?}",
                entry.id
            );
            last = Some(entry.id);
        }
    }

    /// Room that entries leave for frames of the log's own, which make a full disk heal.
    fn reserve_bytes(&self) -> u64 {
        (self.options.segment_bytes / 16).min(64 << 10)
    }

    /// Finds room for `bytes` and a seal, with `reserve` bytes left; begins the next segment if need be.
    fn place(&mut self, bytes: u64, reserve: u64, done: Done<()>) -> Result<Done<()>, Refused> {
        let begun = self.offset > HEADER_BYTES;
        let begin = if begun { 0 } else { BEGIN_BYTES };
        let needed = self.offset + begin + bytes + reserve + SEAL_BYTES;
        if needed <= self.segment_bytes {
            self.begin_segment();
            return Ok(done);
        }
        let (segment, needed) = if begun {
            let alone = HEADER_BYTES + BEGIN_BYTES + bytes + reserve + SEAL_BYTES;
            (self.segment + 1, alone.max(self.options.segment_bytes))
        } else {
            (self.segment, needed)
        };
        let ready = self.files.get(&segment).map_or(0, |ready| ready.bytes);
        if let Some(full) = self.full.clone().filter(|_| ready < needed) {
            self.stats.refused_full += 1;
            return Err(Refused { done, error: full });
        }
        (self.segment, self.offset) = (segment, HEADER_BYTES);
        self.segment_bytes = needed.max(ready);
        self.begin_segment();
        Ok(done)
    }

    /// The first frame of a segment that has none yet.
    fn begin_segment(&mut self) {
        if self.offset > HEADER_BYTES {
            return;
        }
        let LogState {
            purged,
            last,
            committed,
            ..
        } = self.state();
        self.index.add_segment(self.segment);
        self.mark_unwritten = false;
        let begin = Record::Begin {
            purged,
            last,
            committed,
        };
        self.push(What::Record(begin), BEGIN_BYTES, None);
    }

    fn push(&mut self, what: What, bytes: u64, done: Option<Done<()>>) {
        let (segment, offset) = (self.segment, self.offset);
        self.offset += bytes;
        debug_assert!(self.offset <= self.segment_bytes, "room was found before");
        self.queue.push_back(Op {
            what,
            segment,
            offset,
            bytes,
            done,
        });
    }

    /// The mark rides behind entries, which it names (safety rule 9).
    fn push_mark(&mut self) {
        if self.mark_unwritten {
            self.mark_unwritten = false;
            let mark = Record::Mark(self.index.committed());
            self.push(What::Record(mark), MARK_BYTES, None);
        }
    }

    /// The newest mark, before the log closes; none if there is no room.
    pub(crate) fn flush_mark(&mut self) {
        if self.mark_unwritten && self.offset + MARK_BYTES + SEAL_BYTES <= self.segment_bytes {
            self.begin_segment();
            self.push_mark();
        }
    }

    /// A vote changes no segment; it only has its turn in the queue.
    pub(crate) fn save_vote(&mut self, vote: Vote, done: Done<()>) {
        self.push(What::Vote(vote), 0, Some(done));
    }

    pub(crate) fn truncate(
        &mut self,
        last: Option<EntryId>,
        done: Done<()>,
    ) -> Result<(), Refused> {
        let done = self.place(MARK_BYTES, 0, done)?;
        self.index.truncate(last);
        let left = self.index.last();
        let index = left.map(|left| left.index);
        while self
            .cache
            .back()
            .is_some_and(|entry| Some(entry.id.index) > index)
        {
            let gone = self.cache.pop_back().expect("it isn't empty");
            self.cache_bytes -= cost(&gone);
        }
        let cut = |id: Option<EntryId>| {
            if id.map(|id| id.index) > index {
                left
            } else {
                id
            }
        };
        self.durable = cut(self.durable);
        self.raising.iter_mut().for_each(|id| *id = cut(*id));
        self.cuts_pending += 1;
        self.push(What::Record(Record::Truncate(last)), MARK_BYTES, Some(done));
        Ok(())
    }

    /// Purges up to `upto`, the floor and what is retained; `done` at once if that is nothing.
    pub(crate) fn purge(
        &mut self,
        upto: EntryId,
        done: Done<()>,
    ) -> Result<Option<Done<()>>, Refused> {
        let Some(upto) = self.purgeable(upto) else {
            return Ok(Some(done));
        };
        let done = self.place(MARK_BYTES, 0, done)?;
        self.index.purge(upto);
        while self
            .cache
            .front()
            .is_some_and(|entry| entry.id.index <= upto.index)
        {
            let gone = self.cache.pop_front().expect("it isn't empty");
            self.cache_bytes -= cost(&gone);
        }
        self.raising.push_back(Some(upto));
        self.cuts_pending += 1;
        self.push(
            What::Record(Record::Purge(Some(upto))),
            MARK_BYTES,
            Some(done),
        );
        Ok(None)
    }

    /// Safety rules 15 and 17: nothing above the floor.
    fn purgeable(&self, upto: EntryId) -> Option<EntryId> {
        let floor = self.floor?;
        let mut upto = if upto.index <= floor {
            upto
        } else {
            self.index.id_at(floor)?
        };
        if self.options.retention_bytes > 0 && self.index.id_at(upto.index) == Some(upto) {
            let kept = self.index.retained_from(self.options.retention_bytes)?;
            if kept <= upto.index {
                upto = self.index.id_at(LogIndex(kept.0.checked_sub(1)?))?;
            }
        }
        let purged = self.index.purged().map(|id| id.index);
        (Some(upto.index) > purged).then_some(upto)
    }

    pub(crate) fn save_committed(&mut self, committed: Option<EntryId>) {
        let before = self.index.committed();
        self.index.mark(committed);
        self.mark_unwritten |= self.index.committed() != before;
    }

    fn remember(&mut self, entry: Entry) {
        self.cache_bytes += cost(&entry);
        self.cache.push_back(entry);
    }

    /// Drops the oldest durable entries above the cache's bound.
    fn evict(&mut self) {
        let durable = self.durable.map(|id| id.index);
        while self.cache_bytes > self.options.cache_bytes_max {
            let old = self.cache.front();
            if old.is_none_or(|entry| Some(entry.id.index) > durable) {
                return;
            }
            let gone = self.cache.pop_front().expect("it isn't empty");
            self.cache_bytes -= cost(&gone);
        }
    }

    /// Entries of `range` from memory, or where they stand.
    pub(crate) fn find(
        &self,
        range: Range<LogIndex>,
        bytes_max: usize,
    ) -> Result<Found, StorageError> {
        if range.start >= range.end {
            return Ok(Found::Memory(Vec::new()));
        }
        if let Some(purged) = self.index.purged().filter(|id| range.start <= id.index) {
            return Err(StorageError::Purged { purged });
        }
        let (Some(first), Some(last)) = (self.index.first(), self.index.last()) else {
            return Ok(Found::Memory(Vec::new()));
        };
        let range = range.start.max(first).0..range.end.min(last.index.next()).0;
        let cached = self
            .cache
            .front()
            .map_or(u64::MAX, |entry| entry.id.index.0);
        if range.start >= cached {
            let skip = usize::try_from(range.start - cached).unwrap_or(usize::MAX);
            let wanted = self.cache.iter().skip(skip);
            let wanted = wanted.take_while(|entry| entry.id.index.0 < range.end);
            return Ok(Found::Memory(bounded(wanted, bytes_max)));
        }
        Ok(Found::Files(
            self.stored(range.start..range.end.min(cached), bytes_max),
        ))
    }

    fn stored(
        &self,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Vec<(LogIndex, u64, Arc<dyn sqlrep_disk::File>, Place)> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for index in range.map(LogIndex) {
            if bytes >= bytes_max as u64 && !found.is_empty() {
                break;
            }
            let (segment, place) = self
                .index
                .place(index)
                .expect("invariant 1 of the index: live entries have places");
            let file = self.files[&segment].file.clone();
            bytes += u64::from(place.bytes);
            found.push((index, segment, file, place));
        }
        found
    }

    /// The segment that has to be made or grown next, with its length.
    pub(crate) fn wanted(&self) -> Option<(u64, u64)> {
        let first = self.synced_segment.max(1);
        let all = (first..=self.segment + 1).map(|number| (number, self.planned_bytes(number)));
        all.into_iter().find(|(number, bytes)| {
            let ready = self.files.get(number);
            ready.is_none_or(|ready| ready.bytes < *bytes)
        })
    }

    fn planned_bytes(&self, number: u64) -> u64 {
        if number == self.segment {
            return self.segment_bytes;
        }
        let missing = !self.files.contains_key(&number);
        let usual = if missing {
            self.options.segment_bytes
        } else {
            0
        };
        let ops = self.queue.iter().filter(|op| op.segment == number);
        let end = ops.map(|op| op.offset + op.bytes + SEAL_BYTES).max();
        end.unwrap_or(0).max(usual)
    }

    /// Whether proposals had better be refused: the current segment is half full and there is no next one. What is
    /// under way by then still has to fit: a leader's window of append requests and one large entry.
    pub(crate) fn is_full(&self) -> bool {
        let next_ready = self.files.contains_key(&(self.segment + 1));
        self.full.is_some() && !next_ready && self.offset > self.segment_bytes / 2
    }

    /// The operations of `ops` are durable.
    pub(crate) fn complete(&mut self, ops: &[Op]) {
        for op in ops {
            if op.raises() {
                let raised = self
                    .raising
                    .pop_front()
                    .expect("one for each such operation");
                let higher = raised.map(|id| id.index) > self.durable.map(|id| id.index);
                self.durable = if higher { raised } else { self.durable };
            }
            match &op.what {
                What::Entries(entries) => self.stats.entries_appended += entries.len() as u64,
                What::Vote(vote) => self.vote = Some(*vote),
                What::Record(Record::Truncate(_) | Record::Purge(_)) => self.cuts_pending -= 1,
                What::Record(_) => {}
            }
        }
        self.evict();
    }

    /// Whether a segment is to be made or removed.
    pub(crate) fn has_file_work(&self) -> bool {
        self.obsolete().is_some() || self.wanted().is_some()
    }

    /// The oldest segment, if it may be removed: no entry in it counts, durably so.
    fn obsolete(&self) -> Option<u64> {
        let may = |number: &u64| self.cuts_pending == 0 && *number < self.synced_segment;
        self.index.obsolete().filter(may)
    }

    /// Takes the oldest segment out, if it may be removed.
    pub(crate) fn take_obsolete(&mut self) -> Option<u64> {
        let number = self.obsolete()?;
        self.index.remove_segment(number);
        self.files.remove(&number);
        self.stats.segments_removed += 1;
        Some(number)
    }

    /// Everything queued, to be failed.
    pub(crate) fn drain(&mut self) -> Vec<Op> {
        self.raising.clear();
        self.queue.drain(..).collect()
    }

    pub(crate) fn note_full(&mut self, error: DiskError) {
        self.full = Some(LogError::Disk(error).into());
    }
}

/// A call that changed nothing.
pub(crate) struct Refused {
    pub(crate) done: Done<()>,
    pub(crate) error: StorageError,
}

pub(crate) enum Found {
    Memory(Vec<Entry>),
    Files(Vec<(LogIndex, u64, Arc<dyn sqlrep_disk::File>, Place)>),
}

fn cost(entry: &Entry) -> usize {
    entry.payload.size_bytes() + ENTRY_COST_BYTES
}

fn place(offset: u64, bytes: u64) -> Place {
    let fits = "a segment has less than 4 GiB";
    Place {
        offset: u32::try_from(offset).expect(fits),
        bytes: u32::try_from(bytes).expect(fits),
    }
}

/// Entries until `bytes_max` is reached, at least one.
pub(crate) fn bounded<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    bytes_max: usize,
) -> Vec<Entry> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for entry in entries {
        if bytes >= bytes_max && !found.is_empty() {
            break;
        }
        bytes += entry.payload.size_bytes();
        found.push(entry.clone());
    }
    found
}
