//! HTTP/1.1 over one kept connection, with as little work per request as it takes: the load mustn't be what limits.
//!
//! Knows what a node answers: a head with `content-length`, then the body. It doesn't do redirects, chunks or retries.

use crate::BenchError;
use std::io::{self, ErrorKind, Write};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The largest answer that is taken in.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How long any answer may take before the connection is given up.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(40);

/// A connection to one node.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// What came back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// 200, and no statement of it failed.
    pub(crate) fn is_done(&self) -> bool {
        let error = b"\"error\"";
        self.status == 200 && !self.body.windows(error.len()).any(|part| part == error)
    }

    pub(crate) fn refused(&self) -> BenchError {
        let body = String::from_utf8_lossy(self.body);
        let what = format!("{}: {body}", self.status);
        match self.status {
            503 => BenchError::Unavailable(what),
            _ => BenchError::Answer(what),
        }
    }
}

impl Connection {
    pub(crate) async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::with_capacity(4096),
        })
    }

    /// Sends a request and takes its answer. After an error the connection is of no use any more.
    pub(crate) async fn call(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.read.clear();
        let head = loop {
            if let Some(head) = Head::of(&self.read)? {
                break head;
            }
            self.more().await?;
        };
        while self.read.len() < head.end {
            self.more().await?;
        }
        Ok(Answer {
            status: head.status,
            body: &self.read[head.bytes..head.end],
        })
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.read.len() > ANSWER_BYTES_MAX {
            return Err(malformed("the answer is too long"));
        }
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Where an answer's parts stand.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    bytes: usize,
    end: usize,
}

impl Head {
    /// None while its end hasn't come.
    fn of(read: &[u8]) -> io::Result<Option<Self>> {
        let Some(at) = read.windows(4).position(|part| part == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text =
            std::str::from_utf8(&read[..at]).map_err(|_| malformed("the head is no text"))?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.and_then(|status| status.parse().ok());
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(Some(0), |(_, value)| value.trim().parse::<usize>().ok());
        match (status, length) {
            (Some(status), Some(length)) if length <= ANSWER_BYTES_MAX => Ok(Some(Self {
                status,
                bytes: at + 4,
                end: at + 4 + length,
            })),
            _ => Err(malformed("the head has no status, or a wrong length")),
        }
    }
}

/// A request with a JSON body.
pub(crate) fn post(out: &mut Vec<u8>, path: &str, body: &str) {
    write!(
        out,
        "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("memory takes any text");
}

/// A request without a body.
pub(crate) fn bare(out: &mut Vec<u8>, method: &str, path: &str) {
    write!(out, "{method} {path} HTTP/1.1\r\nHost: bench\r\n\r\n").expect("memory takes any text");
}

/// One request on a connection of its own, answered within the limit.
pub(crate) async fn once(address: &str, request: &[u8]) -> Result<(u16, Vec<u8>), BenchError> {
    within(ANSWER_MAX, address, request).await
}

/// The same within another limit.
pub(crate) async fn within(
    answer_max: Duration,
    address: &str,
    request: &[u8],
) -> Result<(u16, Vec<u8>), BenchError> {
    let asked = async {
        let mut connection = Connection::open(address).await?;
        let answer = connection.call(request).await?;
        Ok((answer.status, answer.body.to_vec()))
    };
    match tokio::time::timeout(answer_max, asked).await {
        Ok(answer) => answer.map_err(BenchError::Http),
        Err(_) => Err(BenchError::Late {
            what: "an answer",
            waited: answer_max,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nx: y\r\n\r\nabc";
        let head = Head::of(text).unwrap().unwrap();
        assert_eq!(
            (head.status, &text[head.bytes..head.end]),
            (200, &b"abc"[..])
        );
        for cut in 0..head.bytes {
            assert_eq!(Head::of(&text[..cut]).unwrap(), None);
        }
        let bare = Head::of(b"HTTP/1.1 204 No\r\n\r\n").unwrap().unwrap();
        assert_eq!((bare.status, bare.bytes), (204, bare.end));
        for wrong in [
            &b"HTTP/1.1\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            b"\xff\r\n\r\n",
        ] {
            Head::of(wrong).unwrap_err();
        }
    }

    #[test]
    fn a_failed_statement_is_not_done() {
        let answer = |status, body: &'static [u8]| Answer { status, body };
        assert!(answer(200, b"{\"results\":[{}]}").is_done());
        assert!(!answer(200, b"{\"results\":[{\"error\":\"x\"}]}").is_done());
        assert!(!answer(503, b"").is_done());
    }
}
