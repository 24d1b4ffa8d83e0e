//! A socket that gives up when its peer doesn't read.
//!
//! Invariant: once a write finds no room, [`PROGRESS_BYTES`] are accepted, or everything is flushed, within `limit`, or it
//! fails: a client that takes a byte now and then can't keep an answer in memory for ever. Reading has no limit here.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Less than this within the limit is standing still.
const PROGRESS_BYTES: usize = 256 << 10;

pub(crate) struct Stall<S> {
    stream: S,
    limit: Duration,
    /// Runs since there was no room.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Bytes accepted since.
    accepted: usize,
}

impl<S> Stall<S> {
    pub(crate) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            waiting: None,
            accepted: 0,
        }
    }

    fn moves(&mut self) {
        (self.waiting, self.accepted) = (None, 0);
    }

    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.accepted += bytes;
            if self.accepted >= PROGRESS_BYTES {
                self.moves();
            }
        }
        if written.is_ready() {
            return written;
        }
        let limit = self.limit;
        if self.waiting.is_none() {
            self.accepted = 0;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        let stalled = || Error::new(ErrorKind::TimedOut, "the client doesn't read its answer");
        waiting.as_mut().poll(cx).map(|()| Err(stalled()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stall<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stall<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.moves();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const LIMIT: Duration = Duration::from_secs(30);

    /// What becomes of a megabyte whose reader takes so many bytes five times in the limit.
    async fn served(bytes: usize) -> Result<()> {
        let (near, mut far) = duplex(1 << 10);
        tokio::spawn(async move {
            let mut taken = vec![0; bytes];
            while far.read_exact(&mut taken).await.is_ok() {
                sleep(LIMIT / 5).await;
            }
        });
        let mut stall = Stall::new(near, LIMIT);
        stall.write_all(&[7; 1 << 20]).await?;
        stall.flush().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_served_as_long_as_it_takes_enough() {
        served(64 << 10).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_a_byte_now_and_then_is_cut() {
        let error = served(1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    /// Answers far apart, each flushed, start the time anew.
    #[tokio::test(start_paused = true)]
    async fn what_was_flushed_counts_no_more() {
        let (near, mut far) = duplex(1 << 10);
        tokio::spawn(async move {
            let mut taken = [0; 100];
            while far.read_exact(&mut taken).await.is_ok() {}
        });
        let mut stall = Stall::new(near, LIMIT);
        for _ in 0..10 {
            stall.write_all(&[7; 4000]).await.unwrap();
            stall.flush().await.unwrap();
            sleep(LIMIT * 2).await;
        }
    }
}
