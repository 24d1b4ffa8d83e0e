//! A list of lines on its way to another member, which tells what lines it has.

use crate::list::{State, Tail, error};
use bytes::Bytes;
use sqlrep_core::{
    EntryEnd, KeyTable, MachineError, Retry, SnapshotSink, SnapshotSource, TableChunks,
};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Lines that one offer is about.
const OFFER_LINES: usize = 4;

/// Chunks before the lines.
const HEADS: usize = 2;

/// What goes wrong with snapshots that come in.
#[derive(Default)]
pub(crate) struct Flaws {
    /// What was received reads back wrong, once.
    pub(crate) rots: AtomicBool,
    /// A line that was offered is gone when it is to be taken, once.
    pub(crate) forgets: AtomicBool,
    /// What is offered is nonsense.
    pub(crate) lies: AtomicBool,
}

fn hash(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

/// A snapshot on its way out: the keys, the tail, then a chunk per line; no bytes for a line that the receiver has.
pub(crate) struct Source {
    end: EntryEnd,
    chunks: Vec<Bytes>,
    next: usize,
    /// Of the first lines.
    offered: Vec<u64>,
    more: bool,
    spared: u64,
}

impl Source {
    pub(crate) fn of(state: &State) -> Self {
        let (a, b, c) = state.tail;
        let mut chunks = vec![state.end.keys.bytes(), Bytes::from(format!("{a} {b} {c}"))];
        chunks.extend(state.lines.iter().cloned().map(Bytes::from));
        Self {
            end: state.end.clone(),
            chunks,
            next: 0,
            offered: Vec::new(),
            more: false,
            spared: 0,
        }
    }
}

impl SnapshotSource for Source {
    fn end(&self) -> EntryEnd {
        self.end.clone()
    }

    fn next(&mut self) -> Result<Option<Bytes>, MachineError> {
        let (place, line) = (self.next, self.next.checked_sub(HEADS));
        self.next += 1;
        let chunk = self.chunks.get(place).cloned();
        let offered = line.and_then(|line| self.offered.get(line));
        if let (Some(chunk), Some(offered)) = (&chunk, offered)
            && *offered == hash(chunk)
        {
            self.spared += 1;
            return Ok(Some(Bytes::new()));
        }
        Ok(chunk)
    }

    fn seek(&mut self, chunks: u64) -> Result<(), MachineError> {
        self.next = chunks.try_into().unwrap();
        (self.offered, self.more) = (Vec::new(), false);
        Ok(())
    }

    fn offered(&mut self, offer: &[u8]) -> Result<(), MachineError> {
        let (first, hashes) = match offer.split_first_chunk() {
            None => {
                self.more = false;
                return Ok(());
            }
            Some((first, hashes)) => (u64::from_le_bytes(*first), hashes),
        };
        if !hashes.len().is_multiple_of(8) {
            return Err(error("an offer that is none", Retry::Useless));
        }
        let hashes = hashes.as_chunks().0.iter().copied().map(u64::from_le_bytes);
        self.offered.resize(first.try_into().unwrap(), 0);
        self.offered.extend(hashes);
        self.more = true;
        Ok(())
    }

    fn awaits_offer(&self) -> bool {
        self.more && self.next >= self.offered.len() + HEADS && self.next < self.chunks.len()
    }

    fn spared_pages(&self) -> u64 {
        self.spared
    }
}

/// Keys that came as bytes.
fn keys_of(bytes: Bytes) -> KeyTable {
    if bytes.is_empty() {
        return KeyTable::default();
    }
    let pieces = move || Box::new(std::iter::once(bytes.clone())) as TableChunks;
    KeyTable::new(Some(Arc::new(pieces)))
}

/// A snapshot being received.
pub(crate) struct Sink {
    end: EntryEnd,
    has_keys: bool,
    tail: Option<Tail>,
    lines: Vec<String>,
    complete: bool,
    /// Lines that are here already.
    own: Vec<String>,
    /// So many of them were offered; none: that was all.
    offered: Option<usize>,
    flaws: Arc<Flaws>,
}

impl Sink {
    pub(crate) fn new(end: EntryEnd, own: Vec<String>, flaws: Arc<Flaws>) -> Self {
        Self {
            end,
            has_keys: false,
            tail: None,
            lines: Vec::new(),
            complete: false,
            own,
            offered: Some(0),
            flaws,
        }
    }

    pub(crate) fn into_state(self) -> State {
        assert!(self.complete, "verified before it is installed");
        State {
            lines: self.lines,
            tail: self.tail.unwrap(),
            end: self.end,
        }
    }

    /// The next line, from what is here.
    fn own_line(&self) -> Result<String, MachineError> {
        if self.flaws.forgets.swap(false, Ordering::AcqRel) {
            return Err(error("a line isn't here as it was offered", Retry::Safe));
        }
        Ok(self.own[self.lines.len()].clone())
    }
}

impl SnapshotSink for Sink {
    fn end(&self) -> EntryEnd {
        self.end.clone()
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        if !self.has_keys {
            self.has_keys = true;
            let keys = Bytes::copy_from_slice(chunk);
            self.end.keys = keys_of(keys);
            return Ok(());
        }
        let text = String::from_utf8(chunk.to_vec()).unwrap();
        if self.tail.is_none() {
            let numbers: Vec<u64> = text.split(' ').map(|word| word.parse().unwrap()).collect();
            self.tail = Some((numbers[0], numbers[1], numbers[2]));
        } else if text.is_empty() {
            self.lines.push(self.own_line()?);
        } else {
            self.lines.push(text);
        }
        Ok(())
    }

    fn offer(&mut self) -> Option<Bytes> {
        if self.flaws.lies.load(Ordering::Acquire) {
            return Some(Bytes::from_static(b"nonsense?"));
        }
        let first = self.offered?.max(self.lines.len());
        if first > self.lines.len() + OFFER_LINES / 2 {
            return None;
        }
        let end = self.own.len().min(first + OFFER_LINES);
        if first >= end {
            self.offered = None;
            return Some(Bytes::new());
        }
        self.offered = Some(end);
        let hashes = self.own[first..end]
            .iter()
            .map(|line| hash(line.as_bytes()));
        let numbers = std::iter::once(first as u64).chain(hashes);
        Some(numbers.flat_map(u64::to_le_bytes).collect())
    }

    fn inherit(&mut self, abandoned: Self) {
        let came = abandoned.lines.len();
        let own = self.own.drain(..).skip(came).collect();
        self.own = [abandoned.lines, own].concat();
    }

    fn verify(&mut self) -> Result<(), MachineError> {
        self.offered = Some(0);
        if self.flaws.rots.swap(false, Ordering::AcqRel) {
            return Err(error("what was received is damaged", Retry::Useless));
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(), MachineError> {
        self.complete = self.tail.is_some();
        Ok(())
    }
}
