//! Frames on a stream of bytes: a length, then so many bytes.
//!
//! Invariant 1: nothing is allocated for a frame before its length is found to be within the limit, and then
//! never more than a step ahead of the bytes that arrived.
//! Invariant 2: [`FrameReader::next`] can be dropped and called again; what arrived meanwhile isn't lost.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// Read at once; a frame that fits is copied out of the buffer, which stays.
const BUFFER_BYTES: usize = 16 << 10;

/// Allocated for a larger frame before more of it has arrived.
const STEP_BYTES: usize = 1 << 20;

/// Why there is no next frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a frame of {bytes} bytes, above the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
}

/// A frame of which a part has arrived.
struct Partial {
    bytes: BytesMut,
    length: usize,
}

/// Reads frames.
pub(crate) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    partial: Option<Partial>,
    frame_bytes_max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(stream: R, frame_bytes_max: usize) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(BUFFER_BYTES),
            partial: None,
            frame_bytes_max,
        }
    }

    /// The next frame; none if the stream ended between two frames.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(frame) = self.complete()? {
                return Ok(Some(frame));
            }
            let read = match &mut self.partial {
                Some(partial) => {
                    let left = partial.length - partial.bytes.len();
                    let mut space = (&mut partial.bytes).limit(left);
                    self.stream.read_buf(&mut space).await?
                }
                None => self.fill().await?,
            };
            if read == 0 {
                return self.end();
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let space = BUFFER_BYTES - self.buffer.len();
        self.buffer.reserve(space);
        let mut space = (&mut self.buffer).limit(space);
        self.stream.read_buf(&mut space).await
    }

    /// A frame that has arrived whole.
    fn complete(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.partial.is_none() {
            self.partial = self.begin()?;
        }
        let whole = |partial: &mut Partial| partial.bytes.len() == partial.length;
        let frame = self.partial.take_if(whole);
        Ok(frame.map(|frame| frame.bytes.freeze()))
    }

    /// Takes a length from the buffer, and what is there of its frame.
    fn begin(&mut self) -> Result<Option<Partial>, FrameError> {
        let Some(&length) = self.buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > self.frame_bytes_max {
            return Err(FrameError::TooLarge {
                bytes: length,
                limit: self.frame_bytes_max,
            });
        }
        self.buffer.advance(LENGTH_BYTES);
        let here = length.min(self.buffer.len());
        let mut bytes = BytesMut::with_capacity(length.min(STEP_BYTES));
        bytes.put_slice(&self.buffer[..here]);
        self.buffer.advance(here);
        Ok(Some(Partial { bytes, length }))
    }

    fn end(&self) -> Result<Option<Bytes>, FrameError> {
        if self.partial.is_none() && self.buffer.is_empty() {
            return Ok(None);
        }
        let what = "the stream ended in the middle of a frame";
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, what).into())
    }
}

/// Writes frames.
pub(crate) struct FrameWriter<W> {
    stream: W,
    stall_max: Duration,
    /// A frame was begun and not ended: whatever follows would be read as its rest.
    torn: bool,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// A write of which `stream` takes no byte for `stall_max` fails.
    pub(crate) fn new(stream: W, stall_max: Duration) -> Self {
        Self {
            stream,
            stall_max,
            torn: false,
        }
    }

    /// Writes a frame of at most `u32::MAX` bytes. After an error, or if it is dropped half way, all later ones fail.
    pub(crate) async fn write(&mut self, frame: Bytes) -> io::Result<()> {
        if self.torn {
            let what = "an earlier frame wasn't written to its end";
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, what));
        }
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        self.torn = true;
        let length = length.to_le_bytes();
        let mut bytes = Buf::chain(&length[..], frame);
        while bytes.has_remaining() {
            if self.progress(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.stream.flush().await?;
        self.torn = false;
        Ok(())
    }

    async fn progress(&mut self, bytes: &mut impl Buf) -> io::Result<usize> {
        let limit = self.stall_max;
        let written = tokio::time::timeout(limit, self.stream.write_buf(bytes)).await;
        written.unwrap_or_else(|_| {
            let what = format!("the peer took nothing for {limit:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, what))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::future::Future;

    const LIMIT: usize = 40_000;

    /// Runs what waits for nothing but tokio's clock.
    fn run<T>(future: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(future)
    }

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        run(async {
            let mut bytes = Vec::new();
            let mut writer = FrameWriter::new(&mut bytes, Duration::from_secs(1));
            for frame in frames {
                writer.write(frame.clone().into()).await.unwrap();
            }
            bytes
        })
    }

    /// The bytes of `docs/formats.md`, "Frames on TCP".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let frames = [b"ab".to_vec(), Vec::new(), vec![7; 258]];
        let expected = [&b"\x02\0\0\0ab\0\0\0\0\x02\x01\0\0"[..], &[7; 258]].concat();
        assert_eq!(framed(&frames), expected);
    }

    /// Reads to the end, or to the first error.
    async fn read(stream: impl AsyncRead + Unpin) -> (Vec<Bytes>, Option<FrameError>) {
        let mut reader = FrameReader::new(stream, LIMIT);
        let mut frames = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, None),
                Err(error) => return (frames, Some(error)),
            }
        }
    }

    /// Bytes that arrive in pieces.
    async fn trickle(bytes: Vec<u8>, pieces: Vec<usize>) -> (Vec<Bytes>, Option<FrameError>) {
        let (near, mut far) = tokio::io::duplex(BUFFER_BYTES * 2);
        let feed = async move {
            let mut rest = &bytes[..];
            for piece in pieces.into_iter().cycle() {
                let (now, later) = rest.split_at(piece.clamp(1, rest.len().max(1)).min(rest.len()));
                if far.write_all(now).await.is_err() || later.is_empty() {
                    return;
                }
                tokio::task::yield_now().await;
                rest = later;
            }
        };
        tokio::join!(read(near), feed).0
    }

    #[test]
    fn a_length_above_the_limit_is_refused_and_nothing_allocated() {
        let bytes = u32::MAX.to_le_bytes();
        let mut reader = FrameReader::new(&bytes[..], LIMIT);
        let error = run(reader.next()).unwrap_err();
        let told = "a frame of 4294967295 bytes, above the limit of 40000";
        assert_eq!(error.to_string(), told);
        assert!(reader.partial.is_none());
        assert!(reader.buffer.capacity() <= BUFFER_BYTES);
    }

    #[test]
    fn memory_follows_what_arrived_not_what_was_announced() {
        let mut bytes = (64u32 << 20).to_le_bytes().to_vec();
        bytes.extend_from_slice(&[7; 100]);
        let mut reader = FrameReader::new(&bytes[..], 64 << 20);
        assert!(matches!(run(reader.next()), Err(FrameError::Io(_))));
        let partial = reader.partial.unwrap();
        assert_eq!(partial.bytes.len(), 100);
        assert!(partial.bytes.capacity() <= 2 * STEP_BYTES);
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_told_from_one_that_ends_behind_it() {
        let bytes = framed(&[vec![1; 10], vec![], vec![2; 30_000]]);
        for end in 0..bytes.len() {
            let (frames, error) = run(read(&bytes[..end]));
            let between = matches!(end, 0 | 14 | 18);
            assert_eq!(error.is_none(), between, "{end}: {error:?}");
            assert_eq!(
                frames.len(),
                usize::from(end >= 14) + usize::from(end >= 18)
            );
        }
        assert_eq!(run(read(&bytes[..])).0.len(), 3);
    }

    #[test]
    fn a_reader_that_was_given_up_goes_on_where_it_was() {
        run(async {
            let bytes = framed_in(&[vec![5; 30_000]]).await;
            let (near, mut far) = tokio::io::duplex(64 << 10);
            let mut reader = FrameReader::new(near, LIMIT);
            for piece in bytes.chunks(7_000) {
                far.write_all(piece).await.unwrap();
                let patience = Duration::from_millis(1);
                match tokio::time::timeout(patience, reader.next()).await {
                    Ok(frame) => assert_eq!(frame.unwrap().unwrap(), vec![5; 30_000]),
                    Err(_elapsed) => assert!(reader.partial.is_some()),
                }
            }
            assert!(reader.partial.is_none());
        });
    }

    async fn framed_in(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::new(&mut bytes, Duration::from_secs(1));
        for frame in frames {
            writer.write(frame.clone().into()).await.unwrap();
        }
        bytes
    }

    #[test]
    fn a_write_ends_when_nothing_is_taken_and_progress_is_enough() {
        run(async {
            let (near, mut far) = tokio::io::duplex(100);
            let mut writer = FrameWriter::new(near, Duration::from_secs(1));
            let slow = async {
                let mut taken = [0; 50];
                for _ in 0..8 {
                    tokio::time::sleep(Duration::from_millis(900)).await;
                    far.read_exact(&mut taken).await.unwrap();
                }
            };
            let (written, ()) = tokio::join!(writer.write(vec![1; 396].into()), slow);
            written.unwrap();
            let stalled = writer.write(vec![1; 500].into()).await.unwrap_err();
            assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
            assert!(stalled.to_string().contains("nothing for 1s"), "{stalled}");
            let torn = writer.write(Bytes::new()).await.unwrap_err();
            assert_eq!(torn.kind(), io::ErrorKind::BrokenPipe);
        });
    }

    #[test]
    fn a_write_that_was_given_up_half_way_is_the_last() {
        run(async {
            let (near, _far) = tokio::io::duplex(100);
            let mut writer = FrameWriter::new(near, Duration::from_secs(60));
            let given_up = writer.write(vec![1; 500].into());
            let given_up = tokio::time::timeout(Duration::from_millis(1), given_up).await;
            assert!(given_up.is_err());
            assert!(writer.write(Bytes::new()).await.is_err());
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn frames_are_read_as_they_were_written(
            lengths in proptest::collection::vec(0..LIMIT, 0..6),
            pieces in proptest::collection::vec(1..20_000usize, 1..6),
        ) {
            let frames: Vec<Vec<u8>> = lengths.iter().zip(0u8..).map(|(n, byte)| vec![byte; *n]).collect();
            let (read, error) = run(async { trickle(framed_in(&frames).await, pieces).await });
            prop_assert!(error.is_none());
            prop_assert_eq!(read, frames);
        }

        #[test]
        fn no_bytes_panic_or_pass_the_limit(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            small in any::<bool>(),
            pieces in proptest::collection::vec(1..30usize, 1..4),
        ) {
            let mut bytes = bytes;
            // Lengths below 256, so that some frames are complete.
            if small && bytes.len() >= 4 {
                bytes[1..4].fill(0);
            }
            let (frames, _) = run(trickle(bytes, pieces));
            prop_assert!(frames.iter().all(|frame| frame.len() <= LIMIT));
        }
    }
}
