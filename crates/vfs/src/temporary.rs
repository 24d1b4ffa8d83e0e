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
use std::ops::Range;
use std::sync::Arc;

/// The front takes memory in pieces of so many bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Invariants: 1. `front_bytes` are taken from the connection's room, as many as the pieces of `front` may hold; what they lack is
/// zeros. 2. Byte `front_bytes + n` of the file is byte n of `back`. 3. Once there is a back, the front grows no more.
pub(crate) struct TemporaryFile {
    context: Arc<Context>,
    front: Vec<Vec<u8>>,
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
        let piece_bytes = PIECE_BYTES as u64;
        while self.back.is_none() && self.front_bytes < end && self.context.room().take(piece_bytes)
        {
            self.front.push(Vec::with_capacity(PIECE_BYTES));
            self.front_bytes += piece_bytes;
        }
    }

    /// How many of `length` bytes at `offset` lie in the front.
    fn in_front(&self, offset: u64, length: usize) -> usize {
        let left = self.front_bytes.saturating_sub(offset);
        usize::try_from(left).map_or(length, |left| left.min(length))
    }

    fn write_front(&mut self, offset: u64, bytes: &[u8]) {
        for part in parts(offset, bytes.len()) {
            let piece = &mut self.front[part.piece];
            if piece.len() < part.within.end {
                piece.resize(part.within.end, 0);
            }
            piece[part.within].copy_from_slice(&bytes[part.bytes]);
        }
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
        for part in parts(offset, buf.len()) {
            let piece = &self.front[part.piece];
            let there = piece.get(part.within.start..).unwrap_or_default();
            let into = &mut buf[part.bytes];
            let count = there.len().min(into.len());
            into[..count].copy_from_slice(&there[..count]);
            into[count..].fill(0);
        }
    }

    fn read_back(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        match &self.back {
            Some(back) if !buf.is_empty() => back.read(offset - self.front_bytes, buf),
            _ => Ok(()),
        }
    }
}

/// Bytes that lie in one piece of the front.
struct Part {
    piece: usize,
    /// In the piece.
    within: Range<usize>,
    /// In the caller's bytes.
    bytes: Range<usize>,
}

/// Cuts `length` bytes of the front at `offset` where pieces end.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = Part> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = usize::try_from(offset).expect("the front fits into memory") + done;
        let start = at % PIECE_BYTES;
        let count = (length - done).min(PIECE_BYTES - start);
        let part = Part {
            piece: at / PIECE_BYTES,
            within: start..start + count,
            bytes: done..done + count,
        };
        done += count;
        (count > 0).then_some(part)
    })
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
        for (number, piece) in (0..).zip(&mut self.front) {
            let left = size_bytes.saturating_sub(number * PIECE_BYTES as u64);
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sqlrep_disk::SimulatedDisk;
    use sqlrep_env::Env;
    use sqlrep_store::{Options, Store};

    fn context(pieces: u64) -> Arc<Context> {
        let store = Store::open(Options {
            transaction_bytes_max: pieces * PIECE_BYTES as u64,
            ..Options::new(Arc::new(SimulatedDisk::new(1)))
        });
        Arc::new(Context::new(&store.unwrap(), &Env::inline(1)))
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, usize, u8),
        Truncate(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = 0..250_000_u64;
        prop_oneof![
            3 => (at.clone(), 1..100_000_usize, 1..=u8::MAX).prop_map(|(at, count, byte)| Step::Write(at, count, byte)),
            1 => at.prop_map(Step::Truncate),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Wherever its bytes are, it reads as a file does.
        #[test]
        fn it_reads_as_a_file_does(
            pieces in 0..4_u64,
            steps in proptest::collection::vec(step(), 1..12),
            at in 0..300_000_usize,
            count in 1..100_000_usize,
        ) {
            let context = context(pieces);
            let mut temporary = TemporaryFile::new(context.clone());
            let mut file = Vec::new();
            for step in steps {
                match step {
                    Step::Write(at, count, byte) => {
                        temporary.write(at, &vec![byte; count]).unwrap();
                        let at = usize::try_from(at).unwrap();
                        file.resize(file.len().max(at + count), 0);
                        file[at..at + count].fill(byte);
                    }
                    Step::Truncate(size) => {
                        temporary.truncate(size).unwrap();
                        file.truncate(usize::try_from(size).unwrap());
                    }
                }
            }
            prop_assert_eq!(temporary.size_bytes(), file.len() as u64);
            let mut all = vec![9; file.len()];
            temporary.read(0, &mut all).unwrap();
            prop_assert!(all == file);
            let mut part = vec![9; count];
            let read = temporary.read(at as u64, &mut part);
            let short = at + count > file.len();
            prop_assert_eq!(read, if short { Err(Code::SHORT_READ) } else { Ok(()) });
            file.resize(file.len().max(at + count), 0);
            prop_assert!(part == file[at..at + count]);
            drop(temporary);
            prop_assert_eq!(context.room().bytes().memory, 0);
        }
    }
}
