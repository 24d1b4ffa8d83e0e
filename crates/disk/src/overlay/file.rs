//! One file of an overlay: blocks that were written, over what the file below shows of itself.
//!
//! Invariant: what was cut never comes back: `shown` only sinks. Zeros that a file grows by take no memory.

use crate::{DiskError, File, Operation};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The unit in which written bytes are kept.
const BLOCK_BYTES: u64 = 4096;

/// The last offset that kernels take: an overlay isn't larger than a file can be.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// What all files of an overlay may keep together.
pub(super) struct Memory {
    used: AtomicU64,
    bytes_max: u64,
}

impl Memory {
    pub(super) fn new(bytes_max: u64) -> Arc<Self> {
        let used = AtomicU64::new(0);
        Arc::new(Self { used, bytes_max })
    }

    /// Bytes that can still be kept.
    pub(super) fn left(&self) -> u64 {
        self.bytes_max
            .saturating_sub(self.used.load(Ordering::Relaxed))
    }

    fn take_block(&self, path: &str) -> Result<(), DiskError> {
        let more = |used| Some(used + BLOCK_BYTES).filter(|sum| *sum <= self.bytes_max);
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map(drop).map_err(|_| DiskError::Overlay {
            path: path.to_owned(),
            limit_bytes: self.bytes_max,
        })
    }

    fn give_back(&self, blocks: usize) {
        self.used
            .fetch_sub(blocks as u64 * BLOCK_BYTES, Ordering::Relaxed);
    }
}

/// A file whose changes are in memory.
pub(super) struct OverlayFile {
    path: String,
    below: Option<Arc<dyn File>>,
    memory: Arc<Memory>,
    content: Mutex<Content>,
}

struct Content {
    len: u64,
    /// Bytes of the file below that are seen.
    shown: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl OverlayFile {
    pub(super) fn empty(path: &str, memory: Arc<Memory>) -> Arc<Self> {
        Arc::new(Self::new(path, None, 0, memory))
    }

    pub(super) fn over(
        below: Arc<dyn File>,
        path: &str,
        memory: Arc<Memory>,
    ) -> Result<Arc<Self>, DiskError> {
        let size = below.size()?;
        Ok(Arc::new(Self::new(path, Some(below), size, memory)))
    }

    fn new(path: &str, below: Option<Arc<dyn File>>, size: u64, memory: Arc<Memory>) -> Self {
        let blocks = BTreeMap::new();
        let content = Content {
            len: size,
            shown: size,
            blocks,
        };
        Self {
            path: path.to_owned(),
            below,
            memory,
            content: Mutex::new(content),
        }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn too_long(&self, operation: Operation) -> DiskError {
        let source = io::ErrorKind::FileTooLarge.into();
        DiskError::from_io(operation, &self.path, source)
    }

    /// Fills `into` with what the file below shows at `offset`, zeros beyond.
    fn read_below(&self, shown: u64, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let there = usize::try_from(shown.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (here, beyond) = into.split_at_mut(there.min(into.len()));
        beyond.fill(0);
        match &self.below {
            Some(below) if !here.is_empty() => below.read_exact_at(offset, here),
            _ => Ok(()),
        }
    }

    /// The block with `number`, kept from now on.
    fn block<'a>(&self, content: &'a mut Content, number: u64) -> Result<&'a mut [u8], DiskError> {
        if !content.blocks.contains_key(&number) {
            let mut bytes = vec![0; usize::try_from(BLOCK_BYTES).expect("4096 fits")];
            self.read_below(content.shown, number * BLOCK_BYTES, &mut bytes)?;
            self.memory.take_block(&self.path)?;
            content.blocks.insert(number, bytes.into());
        }
        Ok(content.blocks.get_mut(&number).expect("just put there"))
    }

    fn cut(&self, content: &mut Content, len: u64) {
        content.shown = content.shown.min(len);
        let gone = content.blocks.split_off(&len.div_ceil(BLOCK_BYTES));
        self.memory.give_back(gone.len());
        if let Some(last) = content.blocks.get_mut(&(len / BLOCK_BYTES)) {
            last[within(len)..].fill(0);
        }
    }
}

/// Where an offset stands in its block.
fn within(offset: u64) -> usize {
    usize::try_from(offset % BLOCK_BYTES).expect("less than 4096 fits")
}

impl File for OverlayFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let content = self.content();
        let there = usize::try_from(content.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = there.min(buf.len());
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let rest = &mut buf[done..wanted];
            let (number, start) = (at / BLOCK_BYTES, within(at));
            let next = content.blocks.range(number..).next();
            let count = match next {
                Some((found, block)) if *found == number => {
                    let count = rest.len().min(block.len() - start);
                    rest[..count].copy_from_slice(&block[start..start + count]);
                    count
                }
                other => {
                    let until = other.map_or(u64::MAX, |(found, _)| found * BLOCK_BYTES);
                    let count = usize::try_from(until - at).unwrap_or(usize::MAX);
                    let count = count.min(rest.len());
                    self.read_below(content.shown, at, &mut rest[..count])?;
                    count
                }
            };
            done += count;
        }
        Ok(wanted)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > OFFSET_MAX {
            return Err(self.too_long(Operation::Write));
        }
        let mut content = self.content();
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let start = within(at);
            let block = self.block(&mut content, at / BLOCK_BYTES)?;
            let count = (block.len() - start).min(bytes.len() - done);
            block[start..start + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
            content.len = content.len.max(at + count as u64);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        if len > OFFSET_MAX {
            return Err(self.too_long(Operation::SetLen));
        }
        let mut content = self.content();
        if len < content.len {
            self.cut(&mut content, len);
        }
        content.len = len;
        Ok(())
    }

    fn preallocate(&self, len: u64) -> Result<(), DiskError> {
        if len > OFFSET_MAX {
            return Err(self.too_long(Operation::Write));
        }
        let mut content = self.content();
        content.len = content.len.max(len);
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn size(&self) -> Result<u64, DiskError> {
        Ok(self.content().len)
    }
}

impl Drop for OverlayFile {
    fn drop(&mut self) {
        let blocks = self.content().blocks.len();
        self.memory.give_back(blocks);
    }
}
