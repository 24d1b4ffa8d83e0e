//! Opening: what the frames on disk say, which of them count, and what makes them durable again.
//!
//! Frames are read in order until one doesn't continue the chain. Let b be the batch of the last good one.
//! 1. A valid frame of a later batch than the one the bad frame belongs to, anywhere behind it, proves that batch: the bad
//!    frame is damage, named by file and offset. The bad frame belongs to b, or to b+1 if the last good one ended b.
//! 2. Otherwise it is a torn tail: everything from it on becomes zero and is synced before anything is appended
//!    (safety rules 13 and 14). What b had before it stays, and a close frame ends b.
//! 3. The last batch is written again as it is, and synced: the process before may have died of a failed sync.
//!
//! All of it may crash at any call and be repeated.

use crate::frame::{Batch, Frame, HEAD_BYTES, Record, SEAL_BYTES, Seed};
use crate::index::{Index, Place};
use crate::options::SEGMENT_BYTES_MAX;
use crate::segment::{self, FOLDER, HEADER_BYTES, Name};
use crate::vote::VoteFile;
use crate::{LogError, LogIdentity, Options};
use sqlrep_core::{Entry, EntryId, Term, Vote};
use sqlrep_disk::{Disk, File, OpenMode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A segment that frames can be written to.
#[derive(Clone)]
pub(crate) struct Ready {
    pub(crate) file: Arc<dyn File>,
    pub(crate) bytes: u64,
}

/// Where the next frame goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// The newest batch, and the checksum of its last frame.
    pub(crate) batch: u64,
    pub(crate) chain: u32,
}

pub(crate) struct Recovered {
    pub(crate) index: Index,
    /// The newest live entries.
    pub(crate) newest: Vec<Entry>,
    pub(crate) files: BTreeMap<u64, Ready>,
    pub(crate) end: End,
    pub(crate) votes: VoteFile,
    pub(crate) vote: Option<Vote>,
}

/// What the segments hold.
pub(crate) struct Read {
    pub(crate) index: Index,
    newest: Vec<Entry>,
    pub(crate) files: BTreeMap<u64, Ready>,
    end: End,
    /// Highest term of an entry.
    pub(crate) term: Option<Term>,
    /// Bytes behind the last good frame, of writes that weren't completed.
    pub(crate) torn_bytes: u64,
}

/// Reads the segments like an opening; none if nothing was ever recorded.
pub(crate) fn read_segments(
    disk: &dyn Disk,
    identity: LogIdentity,
) -> Result<Option<Read>, LogError> {
    disk.create_dir(FOLDER)?;
    let numbers = tidy(disk)?;
    if is_blank(disk, &numbers)? {
        return Ok(None);
    }
    read(disk, identity, 0, &numbers).map(Some)
}

/// Opens the log on `disk`, or makes it.
pub(crate) fn recover(
    disk: &dyn Disk,
    identity: LogIdentity,
    options: &Options,
) -> Result<Recovered, LogError> {
    disk.create_dir(FOLDER)?;
    let numbers = tidy(disk)?;
    if is_blank(disk, &numbers)? {
        return make(disk, identity, options);
    }
    let read = read(disk, identity, options.cache_bytes_max, &numbers)?;
    let (votes, vote) = VoteFile::open(disk, identity, read.term)?;
    Ok(Recovered {
        index: read.index,
        newest: read.newest,
        files: read.files,
        end: read.end,
        votes,
        vote,
    })
}

/// Reads the segments `numbers`, and makes durable again what counts of them.
fn read(
    disk: &dyn Disk,
    identity: LogIdentity,
    cache_bytes_max: usize,
    numbers: &[u64],
) -> Result<Read, LogError> {
    let (returned, numbers) = numbers.split_at(newest_run(numbers));
    let mut scan = Scan::new(identity, cache_bytes_max);
    let mut files = BTreeMap::new();
    let mut torn = None;
    for (at, number) in numbers.iter().enumerate() {
        let (ready, bytes) = load(disk, *number)?;
        segment::check_header(&bytes, identity, *number)?;
        scan.index.add_segment(*number);
        files.insert(*number, ready);
        if let Some(offset) = scan.replay(*number, &bytes)? {
            let later = &numbers[at + 1..];
            scan.judge(disk, &bytes, (*number, offset), later)?;
            torn = Some((*number, offset, bytes, later));
            break;
        }
    }
    let Some((number, offset, bytes, spares)) = torn else {
        let newest = numbers.last().copied().unwrap_or_default();
        let file = segment::path(newest + 1);
        return Err(LogError::Missing { file });
    };
    scan.check_whole(numbers[0])?;
    for number in returned {
        disk.remove(&segment::path(*number))?;
    }
    let torn_bytes = used_bytes(&bytes).saturating_sub(offset);
    let offset = scan.cut(&files, number, offset, &bytes)?;
    keep_spares(disk, identity, spares, &mut files)?;
    disk.sync_dir(FOLDER)?;
    Ok(Read {
        index: scan.index,
        newest: scan.newest,
        files,
        end: End {
            segment: number,
            offset,
            batch: scan.batch,
            chain: scan.chain,
        },
        term: scan.term,
        torn_bytes,
    })
}

/// Removes unfinished files; the numbers of the segments, sorted.
fn tidy(disk: &dyn Disk) -> Result<Vec<u64>, LogError> {
    let mut numbers = Vec::new();
    for name in disk.list(FOLDER)? {
        match segment::name(&name) {
            Name::Segment(number) => numbers.push(number),
            Name::Unfinished => disk.remove(&format!("{FOLDER}/{name}"))?,
            Name::Other => {}
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where the newest run of numbers without a hole begins. A removed segment below it may have come back: a sync of the
/// folder failed, and the removal of a later one is durable. [`Scan::check_whole`] tells that from a lost file.
fn newest_run(numbers: &[u64]) -> usize {
    let hole = numbers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
    hole.map_or(0, |at| at + 1)
}

/// Whether nothing was ever recorded: no frame, no vote.
fn is_blank(disk: &dyn Disk, numbers: &[u64]) -> Result<bool, LogError> {
    let voted = disk.list(FOLDER)?.iter().any(|name| name == "vote");
    if numbers.iter().any(|number| *number > 2) || (voted && !VoteFile::is_blank(disk)?) {
        return Ok(false);
    }
    for number in numbers {
        let (_, bytes) = load(disk, *number)?;
        if used_bytes(&bytes) > HEADER_BYTES {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes an empty log. What an opening before left without a frame is made again, its names too.
fn make(disk: &dyn Disk, identity: LogIdentity, options: &Options) -> Result<Recovered, LogError> {
    disk.remove_dir(FOLDER)?;
    disk.create_dir(FOLDER)?;
    let votes = VoteFile::create(disk, identity)?;
    let bytes = options.segment_bytes;
    let file = segment::create(disk, identity, 1, bytes)?;
    disk.sync_dir("")?;
    let mut index = Index::default();
    index.add_segment(1);
    let end = End {
        segment: 1,
        offset: HEADER_BYTES,
        batch: 0,
        chain: 0,
    };
    Ok(Recovered {
        index,
        newest: Vec::new(),
        files: BTreeMap::from([(1, Ready { file, bytes })]),
        end,
        votes,
        vote: None,
    })
}

/// Reads a segment whole.
fn load(disk: &dyn Disk, number: u64) -> Result<(Ready, Vec<u8>), LogError> {
    let path = segment::path(number);
    let file = disk.open(&path, OpenMode::Existing)?;
    let size = file.size()?;
    let length = usize::try_from(size).ok();
    let Some(length) = length.filter(|_| size <= 2 * SEGMENT_BYTES_MAX) else {
        return Err(LogError::Corrupt {
            file: path,
            offset: 0,
            what: format!("a segment of {size} bytes"),
        });
    };
    let mut bytes = vec![0; length];
    file.read_exact_at(0, &mut bytes)?;
    Ok((Ready { file, bytes: size }, bytes))
}

/// Where the zeros at the end begin.
fn used_bytes(bytes: &[u8]) -> u64 {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    while end > 0 {
        let start = end.saturating_sub(ZEROS.len());
        if bytes[start..end] != ZEROS[..end - start] {
            break;
        }
        end = start;
    }
    let start = end.saturating_sub(ZEROS.len());
    let last = bytes[start..end].iter().rposition(|byte| *byte != 0);
    (start + last.map_or(0, |at| at + 1)) as u64
}

/// Keeps segments that were prepared and never used, if they are whole; a damaged one holds nothing and goes.
fn keep_spares(
    disk: &dyn Disk,
    identity: LogIdentity,
    spares: &[u64],
    files: &mut BTreeMap<u64, Ready>,
) -> Result<(), LogError> {
    let mut whole = true;
    for number in spares {
        let (ready, bytes) = load(disk, *number)?;
        let sound = segment::check_header(&bytes, identity, *number).is_ok();
        whole = whole && sound && used_bytes(&bytes) == HEADER_BYTES;
        if whole {
            segment::rename_again(disk, *number)?;
            files.insert(*number, ready);
        } else {
            disk.remove(&segment::path(*number))?;
        }
    }
    Ok(())
}

/// Replays frames.
struct Scan {
    identity: LogIdentity,
    index: Index,
    newest: Vec<Entry>,
    newest_bytes: usize,
    newest_bytes_max: usize,
    /// The batch of the last good frame, and whether that frame ended it.
    batch: u64,
    closed: bool,
    chain: u32,
    /// Segment and bytes of the last batch.
    batch_at: Option<(u64, u64, u64)>,
    /// Entries up to here stood in segments that are gone; a purge has to cover them.
    missing: Option<EntryId>,
    /// Highest term of an entry.
    term: Option<Term>,
    started: bool,
}

impl Scan {
    fn new(identity: LogIdentity, newest_bytes_max: usize) -> Self {
        Self {
            identity,
            index: Index::default(),
            newest: Vec::new(),
            newest_bytes: 0,
            newest_bytes_max,
            batch: 0,
            closed: true,
            chain: 0,
            batch_at: None,
            missing: None,
            term: None,
            started: false,
        }
    }

    fn seed(&self, number: u64) -> Seed {
        Seed::new(self.identity, number)
    }

    /// Replays a segment; where the chain breaks, none if the segment is sealed.
    fn replay(&mut self, number: u64, bytes: &[u8]) -> Result<Option<u64>, LogError> {
        let seed = self.seed(number);
        let mut offset = HEADER_BYTES;
        loop {
            let rest = usize::try_from(offset)
                .ok()
                .and_then(|at| bytes.get(at..))
                .unwrap_or_default();
            let frame = Frame::decode(&seed, offset, rest);
            let Some(frame) = frame.filter(|frame| self.continues(number, frame)) else {
                return Ok(Some(offset));
            };
            let record = frame.record().filter(|_| frame.batch < u64::MAX / 2);
            let length = frame.len() as u64;
            let place = (number, offset, length);
            let sealed = record == Some(Record::Seal);
            let fits = (offset == HEADER_BYTES) == matches!(record, Some(Record::Begin { .. }));
            if !fits || !record.is_some_and(|record| self.apply(record, place)) {
                return Err(LogError::Corrupt {
                    file: segment::path(number),
                    offset,
                    what: "a whole frame contradicts those before it".to_owned(),
                });
            }
            self.follow(&frame, place);
            if sealed {
                return Ok(None);
            }
            offset += length;
        }
    }

    /// Whether `frame` is the next link of the chain.
    fn continues(&self, number: u64, frame: &Frame<'_>) -> bool {
        if !self.started && number > 1 {
            return true; // The segments before are removed.
        }
        frame.previous == self.chain && frame.batch == self.batch + u64::from(self.closed)
    }

    fn follow(&mut self, frame: &Frame<'_>, (number, offset, length): (u64, u64, u64)) {
        match &mut self.batch_at {
            Some((_, _, end)) if !self.closed => *end = offset + length,
            at => *at = Some((number, offset, offset + length)),
        }
        self.started = true;
        self.chain = frame.crc;
        self.batch = frame.batch;
        self.closed = frame.last_of_batch;
    }

    /// Does what a frame says; false if it can't be.
    fn apply(&mut self, record: Record, (number, offset, length): (u64, u64, u64)) -> bool {
        match record {
            Record::Entry(entry) => {
                let (Ok(offset), Ok(bytes)) = (u32::try_from(offset), u32::try_from(length)) else {
                    return false;
                };
                if !Index::fits(self.index.last(), entry.id) {
                    return false;
                }
                self.index.push(entry.id, number, Place { offset, bytes });
                self.term = self.term.max(Some(entry.id.term));
                self.remember(entry);
            }
            Record::Truncate(last) => self.truncate(last),
            Record::Purge(None) => return false,
            Record::Purge(Some(upto)) => self.purge(upto),
            Record::Mark(committed) => self.index.mark(committed),
            Record::Begin {
                purged,
                last,
                committed,
            } => return self.begin(purged, last, committed),
            Record::Seal | Record::Close => {}
        }
        true
    }

    fn begin(
        &mut self,
        purged: Option<EntryId>,
        last: Option<EntryId>,
        committed: Option<EntryId>,
    ) -> bool {
        if self.started {
            let same = self.index.last() == last && self.index.purged() == purged;
            self.index.mark(committed);
            return same;
        }
        self.index.start_at(purged, last, committed);
        self.term = last.max(purged).map(|id| id.term);
        self.missing = last.filter(|last| Some(last.index) > purged.map(|id| id.index));
        true
    }

    fn truncate(&mut self, last: Option<EntryId>) {
        self.index.truncate(last);
        let index = last.map(|last| last.index);
        self.newest.retain(|entry| Some(entry.id.index) <= index);
        // No entry is left that is here: those in the missing segments are the last ones.
        if self.missing.is_some_and(|id| Some(id.index) >= index) {
            let (purged, committed) = (self.index.purged(), self.index.committed());
            self.missing = last.filter(|_| index > purged.map(|id| id.index));
            let last = self.missing.or(purged);
            self.index.start_at(purged, last, None);
            self.index.mark(committed);
        }
    }

    fn purge(&mut self, upto: EntryId) {
        self.term = self.term.max(Some(upto.term));
        if self.missing.is_some_and(|id| id.index > upto.index) {
            let (last, committed) = (self.index.last(), self.index.committed());
            self.index.start_at(Some(upto), last, committed);
        } else {
            self.missing = None;
            self.index.purge(upto);
            self.newest.retain(|entry| entry.id.index > upto.index);
        }
    }

    /// Keeps the newest entries for the cache.
    fn remember(&mut self, entry: Entry) {
        self.newest_bytes += entry.payload.size_bytes();
        self.newest.push(entry);
        if self.newest_bytes > 2 * self.newest_bytes_max {
            let mut bytes = 0;
            let sizes = self.newest.iter().rev();
            let keep = sizes
                .take_while(|entry| {
                    bytes += entry.payload.size_bytes();
                    bytes <= self.newest_bytes_max
                })
                .count();
            self.newest.drain(..self.newest.len() - keep);
            let left = self.newest.iter().map(|entry| entry.payload.size_bytes());
            self.newest_bytes = left.sum();
        }
    }

    /// Tells damage from a torn tail: see the module's first point.
    fn judge(
        &self,
        disk: &dyn Disk,
        bytes: &[u8],
        (number, offset): (u64, u64),
        later: &[u64],
    ) -> Result<(), LogError> {
        let mut newest = newest_batch(&self.seed(number), offset, bytes, self.batch);
        for number in later {
            let (_, bytes) = load(disk, *number)?;
            newest = newest.max(newest_batch(
                &self.seed(*number),
                HEADER_BYTES,
                &bytes,
                self.batch,
            ));
        }
        let bad = self.batch + u64::from(self.closed);
        // A later segment's number says that the first one was in use, whatever its frames say.
        let unstarted = !self.started && number > 1;
        if newest <= bad && !unstarted {
            return Ok(());
        }
        Err(LogError::Corrupt {
            file: segment::path(number),
            offset,
            what: format!("a bad frame of batch {bad}, but batch {newest} was written behind it"),
        })
    }

    fn check_whole(&self, first: u64) -> Result<(), LogError> {
        match self.missing {
            Some(_) => Err(LogError::Missing {
                file: segment::path(first.saturating_sub(1)),
            }),
            None => Ok(()),
        }
    }

    /// Zeros from `offset` on, the last batch written again, a frame that closes it if its end was torn; all synced. Where
    /// the next frame goes.
    fn cut(
        &mut self,
        files: &BTreeMap<u64, Ready>,
        number: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, LogError> {
        if let Some((segment, from, to)) = self.batch_at {
            let file = &files[&segment].file;
            let length = usize::try_from(to - from).expect("it is in memory");
            let mut batch = vec![0; length];
            file.read_exact_at(from, &mut batch)?;
            file.write_at(from, &batch)?;
            if segment != number {
                file.sync()?;
            }
        }
        let file = &files[&number].file;
        let mut tail = Vec::new();
        if !self.closed {
            let mut close = Batch::new(self.seed(number), self.batch, offset, self.chain);
            close.push(&Record::Close);
            (tail, self.chain) = close.finish();
            self.closed = true;
        }
        let end = offset + tail.len() as u64;
        let torn = used_bytes(bytes).saturating_sub(offset);
        let torn = usize::try_from(torn).expect("it is in memory");
        tail.resize(tail.len().max(torn), 0);
        if !tail.is_empty() {
            file.write_at(offset, &tail)?;
        }
        file.sync()?;
        debug_assert!(end - offset <= SEAL_BYTES, "a close frame is the smallest");
        Ok(end)
    }
}

/// The newest batch of which a valid frame stands behind `offset`; `batch` if none is newer.
fn newest_batch(seed: &Seed, offset: u64, bytes: &[u8], batch: u64) -> u64 {
    let used = usize::try_from(used_bytes(bytes)).expect("it is in memory");
    // The last frame's body may end with zeros.
    let start = usize::try_from(offset).expect("it is in memory");
    let mut newest = batch;
    for at in start..used.max(start) {
        let Some(head) = bytes.get(at..at + HEAD_BYTES) else {
            break;
        };
        let number = u64::from_le_bytes(head[16..24].try_into().expect("8 bytes"));
        if head[12] == 0 || number <= newest || number > batch + BATCHES_AHEAD_MAX {
            continue;
        }
        if Frame::decode(seed, at as u64, &bytes[at..]).is_some() {
            newest = number;
        }
    }
    newest
}

/// More batches than a log of any length has segments' bytes for; it keeps the search for frames quick.
const BATCHES_AHEAD_MAX: u64 = 1 << 32;
