//! The bytes of a simulated file, sparse: chunks of 4 KiB, zeros where there is none.
//!
//! Promise: preallocating costs nothing, a copy costs nothing until one of the two is written to.

use std::collections::BTreeMap;
use std::sync::Arc;

const CHUNK_BYTES: usize = 4096;

type Chunk = [u8; CHUNK_BYTES];

static ZEROS: Chunk = [0; CHUNK_BYTES];

/// Bytes and length.
///
/// Invariant 1: bytes at and behind `len` are zeros in their chunk, so that growing needs no cleaning.
#[derive(Clone, Default)]
pub(super) struct Content {
    chunks: Arc<BTreeMap<u64, Arc<Chunk>>>,
    len: u64,
}

/// A run of bytes inside one chunk.
struct Piece {
    chunk: u64,
    /// Within the chunk.
    start: usize,
    count: usize,
}

/// Cuts `count` bytes from `offset` on at the borders of chunks.
fn pieces(offset: u64, count: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = in_chunk(at);
        let piece = Piece {
            chunk: at / CHUNK_BYTES as u64,
            start,
            count: (count - done).min(CHUNK_BYTES - start),
        };
        done += piece.count;
        (piece.count > 0).then_some(piece)
    })
}

fn in_chunk(offset: u64) -> usize {
    usize::try_from(offset % CHUNK_BYTES as u64).expect("less than a chunk")
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads into `buf`; short only at the end.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let left = self.len.saturating_sub(offset);
        let count = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        let mut rest = &mut buf[..count];
        for piece in pieces(offset, count) {
            let (head, tail) = rest.split_at_mut(piece.count);
            let chunk = self
                .chunks
                .get(&piece.chunk)
                .map_or(&ZEROS, |chunk| &**chunk);
            head.copy_from_slice(&chunk[piece.start..piece.start + piece.count]);
            rest = tail;
        }
        count
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let chunks = Arc::make_mut(&mut self.chunks);
        let mut rest = bytes;
        for piece in pieces(offset, bytes.len()) {
            let (head, tail) = rest.split_at(piece.count);
            rest = tail;
            if head == &ZEROS[..piece.count] && !chunks.contains_key(&piece.chunk) {
                continue;
            }
            let chunk = chunks.entry(piece.chunk).or_insert_with(|| Arc::new(ZEROS));
            Arc::make_mut(chunk)[piece.start..piece.start + piece.count].copy_from_slice(head);
        }
        if !bytes.is_empty() {
            self.len = self.len.max(offset + bytes.len() as u64);
        }
    }

    /// Writes `count` zeros.
    pub(super) fn write_zeros(&mut self, offset: u64, count: u64) {
        self.clear(offset, offset + count);
        if count > 0 {
            self.len = self.len.max(offset + count);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.clear(len, self.len);
        }
        self.len = len;
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.len).expect("a file that fits into memory")];
        self.read(0, &mut bytes);
        bytes
    }

    fn clear(&mut self, from: u64, to: u64) {
        let size = CHUNK_BYTES as u64;
        let touched = from / size..to.div_ceil(size);
        if touched.is_empty() || self.chunks.range(touched.clone()).next().is_none() {
            return;
        }
        let chunks = Arc::make_mut(&mut self.chunks);
        let inside: Vec<u64> = chunks.range(touched).map(|(number, _)| *number).collect();
        for number in inside {
            let (begin, end) = (number * size, (number + 1) * size);
            if from <= begin && end <= to {
                chunks.remove(&number);
            } else if let Some(chunk) = chunks.get_mut(&number) {
                let first = in_chunk(from.max(begin));
                let last = in_chunk(to.min(end) - 1);
                Arc::make_mut(chunk)[first..=last].fill(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Zeros(u64, u64),
        SetLen(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let place = 0..20_000_u64;
        prop_oneof![
            (place.clone(), prop::collection::vec(0..3_u8, 0..9000))
                .prop_map(|(at, bytes)| Step::Write(at, bytes)),
            (place.clone(), 0..9000_u64).prop_map(|(at, count)| Step::Zeros(at, count)),
            place.prop_map(Step::SetLen),
        ]
    }

    fn place(model: &mut Vec<u8>, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap();
        if !bytes.is_empty() {
            model.resize(model.len().max(at + bytes.len()), 0);
            model[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn content_agrees_with_a_vector(steps in prop::collection::vec(step(), 1..12)) {
            let (mut content, mut model) = (Content::default(), Vec::new());
            for step in steps {
                let before = (content.clone(), model.clone());
                match &step {
                    Step::Write(at, bytes) => {
                        content.write(*at, bytes);
                        place(&mut model, *at, bytes);
                    }
                    Step::Zeros(at, count) => {
                        content.write_zeros(*at, *count);
                        place(&mut model, *at, &vec![0; usize::try_from(*count).unwrap()]);
                    }
                    Step::SetLen(len) => {
                        content.set_len(*len);
                        model.resize(usize::try_from(*len).unwrap(), 0);
                    }
                }
                prop_assert!(content.to_vec() == model, "after {step:?}");
                prop_assert!(before.0.to_vec() == before.1, "a copy changed with {step:?}");
            }
        }
    }

    #[test]
    fn zeros_take_no_memory() {
        let mut content = Content::default();
        content.write_zeros(0, 64 << 20);
        content.write(1 << 20, &[0; 8192]);
        assert!(content.chunks.is_empty());
        assert_eq!(content.len(), 64 << 20);
    }
}
