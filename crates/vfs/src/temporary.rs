//! Files that SQLite makes for a connection that writes, and that nobody else ever sees: the rollback journal and its
//! sub-journal, VACUUM's temporary database, sorts.
//!
//! Promise: it reads as a file does. Its front is in memory while the connection has room, the rest in a scratch file. What the
//! scratch file fails at is noted as a failure of this node: it is never taken for an answer of SQLite's, a full disk neither
//! (safety rule 36).
//!
//! It ends with its handle: no transaction is ever undone by another process, so no journal is ever hot.

use crate::code::Code;
use crate::context::Context;
use crate::file::OpenFile;
use sqlrep_store::{ScratchFile, StoreError};
use std::sync::Arc;

/// The front takes memory in pieces of so many bytes.
const PIECE_BYTES: u64 = 64 << 10;

/// Invariants: 1. `front` lies within `front_bytes`, which are taken from the connection's room; what it lacks up to there is
/// zeros. 2. Byte `front_bytes + n` of the file is byte n of `back`. 3. Once there is a back, the front grows no more.
pub(crate) struct TemporaryFile {
    context: Arc<Context>,
    front: Vec<u8>,
    front_bytes: u64,
    back: Option<ScratchFile>,
    size_bytes: u64,
}

impl TemporaryFile {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            front: Vec::new(),
            front_bytes: 0,
            back: None,
            size_bytes: 0,
        }
    }

    /// Takes memory for the file up to `end`, as far as there is some.
    fn widen_front(&mut self, end: u64) {
        while self.back.is_none() && self.front_bytes < end && self.context.room().take(PIECE_BYTES)
        {
            self.front_bytes += PIECE_BYTES;
        }
    }

    /// How many of `length` bytes at `offset` lie in the front.
    fn in_front(&self, offset: u64, length: usize) -> usize {
        let left = self.front_bytes.saturating_sub(offset);
        usize::try_from(left).map_or(length, |left| left.min(length))
    }

    fn write_front(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let offset = usize::try_from(offset).expect("the front fits into memory");
        let end = offset + bytes.len();
        if self.front.len() < end {
            let room = usize::try_from(self.front_bytes).expect("the front fits into memory");
            self.front.reserve_exact(room - self.front.len());
            self.front.resize(end, 0);
        }
        self.front[offset..end].copy_from_slice(bytes);
    }

    fn write_back(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.back.is_none() {
            self.back = Some(self.context.store().scratch_file()?);
        }
        let back = self.back.as_ref().expect("it was just made");
        back.write(offset - self.front_bytes, bytes)?;
        self.context.room().note_scratch(bytes.len());
        Ok(())
    }

    fn read_front(&self, offset: u64, buf: &mut [u8]) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = self.front.get(offset..).unwrap_or_default();
        let count = there.len().min(buf.len());
        buf[..count].copy_from_slice(&there[..count]);
        buf[count..].fill(0);
    }

    fn read_back(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        match &self.back {
            Some(back) if !buf.is_empty() => back.read(offset - self.front_bytes, buf),
            _ => Ok(()),
        }
    }
}

impl OpenFile for TemporaryFile {
    fn context(&self) -> &Context {
        &self.context
    }

    fn shared_context(&self) -> Arc<Context> {
        self.context.clone()
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Code> {
        let there = self.size_bytes.saturating_sub(offset);
        let count = usize::try_from(there).map_or(buf.len(), |there| there.min(buf.len()));
        let (wanted, past_end) = buf.split_at_mut(count);
        let (front, back) = wanted.split_at_mut(self.in_front(offset, count));
        self.read_front(offset, front);
        let read = self.read_back(offset + front.len() as u64, back);
        read.map_err(|error| self.context.failed(error, Code::READ))?;
        if past_end.is_empty() {
            return Ok(());
        }
        past_end.fill(0);
        Err(Code::SHORT_READ)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Code> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(Code::WRITE)?;
        self.widen_front(end);
        let (front, back) = bytes.split_at(self.in_front(offset, bytes.len()));
        self.write_front(offset, front);
        let written = self.write_back(offset + front.len() as u64, back);
        written.map_err(|error| self.context.failed(error, Code::WRITE))?;
        self.size_bytes = self.size_bytes.max(end);
        Ok(())
    }

    /// Cuts the file. It never grows by this: SQLite writes where it wants to have bytes.
    fn truncate(&mut self, size_bytes: u64) -> Result<(), Code> {
        if size_bytes >= self.size_bytes {
            return Ok(());
        }
        let front = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        self.front.truncate(front);
        if let Some(back) = &self.back {
            let cut = back.set_len(size_bytes.saturating_sub(self.front_bytes));
            cut.map_err(|error| self.context.failed(error, Code::TRUNCATE))?;
        }
        self.size_bytes = size_bytes;
        Ok(())
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        self.context.room().give_back(self.front_bytes);
    }
}
