//! A simulated file: what the process sees, what the drive has, and what lies between.

use super::content::Content;
use super::fault::Verdict;
use super::unsynced::{Fate, Unsynced};
use super::{Shared, held};
use crate::{DiskError, File, Operation, SECTOR_BYTES};
use sqlrep_env::{Entropy, SimulatedEntropy};
use std::io;
use std::sync::{Arc, Mutex};

/// One unsynced change of a file.
#[derive(Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    Zeros { offset: u64, count: u64 },
    SetLen(u64),
}

impl Change {
    fn apply(&self, to: &mut Content) {
        match self {
            Self::Write { offset, bytes } => to.write(*offset, bytes),
            Self::Zeros { offset, count } => to.write_zeros(*offset, *count),
            Self::SetLen(len) => to.set_len(*len),
        }
    }

    /// What is left of a change that power loss tore: of a write any of its sectors, of zeros a beginning.
    /// The length may have grown whether or not the bytes arrived.
    fn apply_torn(&self, to: &mut Content, luck: &SimulatedEntropy) {
        let end = match self {
            Self::Write { offset, bytes } => {
                for (at, sector) in sectors(*offset, bytes) {
                    if luck.next().is_multiple_of(2) {
                        to.write(at, sector);
                    }
                }
                offset + bytes.len() as u64
            }
            Self::Zeros { offset, count } => {
                to.write_zeros(*offset, luck.next() % (count + 1));
                offset + count
            }
            // A length is one number: there is nothing to tear.
            Self::SetLen(_) => return,
        };
        if end > to.len() && luck.next().is_multiple_of(2) {
            to.set_len(end);
        }
    }
}

/// Cuts a write where power loss tears it.
fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let (mut at, mut rest) = (offset, bytes);
    std::iter::from_fn(move || {
        let room = usize::try_from(SECTOR_BYTES - at % SECTOR_BYTES).expect("at most a sector");
        let (head, tail) = rest.split_at(room.min(rest.len()));
        let begin = at;
        at += head.len() as u64;
        rest = tail;
        (!head.is_empty()).then_some((begin, head))
    })
}

/// Invariant 1: without a failed sync, `durable` with all of `unsynced` applied is `current`.
#[derive(Clone, Default)]
pub(super) struct FileState {
    pub(super) current: Content,
    durable: Content,
    unsynced: Unsynced<Change>,
}

impl FileState {
    /// A file whose bytes are durable.
    pub(super) fn durable(content: Content) -> Self {
        Self {
            current: content.clone(),
            durable: content,
            unsynced: Unsynced::default(),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.sync() {
            change.apply(&mut self.durable);
        }
    }

    /// The bytes after power loss, and how many changes were not kept whole.
    pub(super) fn after_power_loss(&self, luck: Option<&SimulatedEntropy>) -> (Content, u64) {
        let (mut content, mut lost) = (self.durable.clone(), 0);
        for (change, fate) in self.unsynced.fates(luck) {
            match (fate, luck) {
                (Fate::Kept, _) => change.apply(&mut content),
                (Fate::Torn, Some(luck)) => change.apply_torn(&mut content, luck),
                _ => {}
            }
            lost += u64::from(fate != Fate::Kept);
        }
        (content, lost)
    }

    /// Rot: the byte changes on the drive and in the process's view.
    pub(super) fn flip(&mut self, offset: u64, xor: u8) {
        for content in [&mut self.current, &mut self.durable] {
            let mut byte = [0];
            if content.read(offset, &mut byte) == 1 {
                content.write(offset, &[byte[0] ^ xor]);
            }
        }
    }
}

/// An open simulated file.
pub(super) struct SimulatedFile {
    pub(super) disk: Arc<Shared>,
    pub(super) node: Arc<Mutex<FileState>>,
    pub(super) path: String,
}

impl SimulatedFile {
    /// What a real machine says to an offset that has no place in its signed type.
    fn check_end(&self, operation: Operation, end: Option<u64>) -> Result<u64, DiskError> {
        end.filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| {
                let source = io::ErrorKind::InvalidInput.into();
                DiskError::from_io(operation, &self.path, source)
            })
    }

    fn full(&self, operation: Operation) -> DiskError {
        DiskError::Full {
            operation,
            path: self.path.clone(),
        }
    }
}

impl File for SimulatedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let mut disk = self.disk.state();
        disk.faults.judge(Operation::Read, &self.path)?.answer()?;
        Ok(held(&self.node).current.read(offset, buf))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let count = bytes.len() as u64;
        self.check_end(Operation::Write, offset.checked_add(count))?;
        let mut disk = self.disk.state();
        let verdict = disk.faults.judge(Operation::Write, &self.path)?;
        let mut file = held(&self.node);
        let (len, end) = (file.current.len(), offset + verdict.part(count));
        let fitting = disk.reach(len, end).saturating_sub(offset);
        if fitting > 0 {
            let written = usize::try_from(fitting).expect("no more than the caller's bytes");
            let bytes = bytes[..written].into();
            file.change(Change::Write { offset, bytes });
            disk.resize(len, len.max(offset + fitting));
            disk.written_bytes += fitting;
        }
        verdict.answer()?;
        if fitting < count {
            return Err(self.full(Operation::Write));
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.check_end(Operation::SetLen, Some(len))?;
        let mut disk = self.disk.state();
        let verdict = disk.faults.judge(Operation::SetLen, &self.path)?;
        let mut file = held(&self.node);
        if verdict.happens() {
            let old = file.current.len();
            if disk.reach(old, len) < len {
                return verdict.answer().and(Err(self.full(Operation::SetLen)));
            }
            file.change(Change::SetLen(len));
            disk.resize(old, len);
        }
        verdict.answer()
    }

    fn preallocate(&self, len: u64) -> Result<(), DiskError> {
        self.check_end(Operation::Write, Some(len))?;
        let mut disk = self.disk.state();
        let verdict = disk.faults.judge(Operation::Write, &self.path)?;
        let mut file = held(&self.node);
        let offset = file.current.len();
        let missing = len.saturating_sub(offset);
        let end = disk.reach(offset, offset + verdict.part(missing));
        let count = end - offset;
        if count > 0 {
            file.change(Change::Zeros { offset, count });
            disk.resize(offset, end);
            disk.written_bytes += count;
        }
        verdict.answer()?;
        if count < missing {
            return Err(self.full(Operation::Write));
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        let mut disk = self.disk.state();
        let verdict = disk.faults.judge(Operation::Sync, &self.path)?;
        let mut file = held(&self.node);
        match &verdict {
            Verdict::Fails { .. } => file.unsynced.fail_sync(),
            _ if verdict.happens() => {
                file.sync();
                disk.syncs += 1;
            }
            _ => {}
        }
        verdict.answer()
    }

    fn size(&self) -> Result<u64, DiskError> {
        let mut disk = self.disk.state();
        disk.faults.judge(Operation::Size, &self.path)?.answer()?;
        Ok(held(&self.node).current.len())
    }
}
