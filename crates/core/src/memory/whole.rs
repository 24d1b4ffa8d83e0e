//! A snapshot that is bytes in memory: on its way out in chunks, on its way in until all of them are there.

use crate::{EntryEnd, MachineError, SnapshotSink, SnapshotSource};
use bytes::Bytes;

/// The longest chunk, as [`SnapshotSource`] asks for.
const CHUNK_BYTES: usize = 256 << 10;

/// A whole state as bytes, with its end.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    /// What it shows, or will show.
    pub end: EntryEnd,
    /// All of it, or what was received until now.
    pub bytes: Vec<u8>,
    /// So many of its bytes were sent.
    pub sent: usize,
}

impl SnapshotSource for Whole {
    fn end(&self) -> EntryEnd {
        self.end.clone()
    }

    fn next(&mut self) -> Result<Option<Bytes>, MachineError> {
        let rest = &self.bytes[self.sent..];
        let chunk = Bytes::copy_from_slice(&rest[..rest.len().min(CHUNK_BYTES)]);
        self.sent += chunk.len();
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    fn seek(&mut self, chunks: u64) -> Result<(), MachineError> {
        let chunks = usize::try_from(chunks).unwrap_or(usize::MAX);
        self.sent = chunks.saturating_mul(CHUNK_BYTES).min(self.bytes.len());
        Ok(())
    }
}

impl SnapshotSink for Whole {
    fn end(&self) -> EntryEnd {
        self.end.clone()
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn verify(&mut self) -> Result<(), MachineError> {
        Ok(())
    }

    fn complete(&mut self) -> Result<(), MachineError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_in_chunks_arrives_whole() {
        let bytes: Vec<u8> = (0..600_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let (mut source, mut sink) = (Whole::default(), Whole::default());
        source.bytes.clone_from(&bytes);
        let mut chunks = 0;
        while let Some(chunk) = source.next().unwrap() {
            assert!(chunk.len() <= CHUNK_BYTES);
            sink.write(&chunk).unwrap();
            chunks += 1;
        }
        sink.complete().unwrap();
        assert_eq!((chunks, &sink.bytes), (3, &bytes));
        source.seek(2).unwrap();
        assert_eq!(
            source.next().unwrap().unwrap()[..],
            bytes[2 * CHUNK_BYTES..]
        );
        assert!(source.next().unwrap().is_none());
    }
}
