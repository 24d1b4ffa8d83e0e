//! The three messages before the first frame, as either side plays them.
//!
//! Invariant 1: bytes are read exactly up to a message's end, so that none of the first frame is lost.
//! Invariant 2: nothing is answered to bytes that aren't ours.
//!
//! It sets no deadline: whoever calls it does.

use crate::hello::{
    self, Answer, BODY_BYTES_MAX, Call, Card, HEAD_BYTES, HelloError, MAGIC, VERSION, Verdict,
};
use crate::judge;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlrep_core::TransportError;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the connection broke during the handshake: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Foreign(Foreign),
    #[error("it speaks protocol {0}")]
    Version(u16),
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    OtherCluster(String),
    #[error("{0}")]
    Busy(String),
}

/// Who speaks when it isn't a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    Http,
    Tls,
    Unknown,
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "it speaks HTTP",
            Self::Tls => "it speaks TLS",
            Self::Unknown => "it speaks another protocol",
        })
    }
}

impl Foreign {
    fn of(bytes: &[u8]) -> Self {
        const HTTP: [&[u8]; 10] = [
            b"HTTP/",
            b"GET ",
            b"POST ",
            b"HEAD ",
            b"PUT ",
            b"DELETE ",
            b"OPTIONS ",
            b"PATCH ",
            b"CONNECT ",
            b"PRI * ",
        ];
        let begins = |word: &&[u8]| bytes.starts_with(word);
        match bytes {
            _ if HTTP.iter().any(begins) => Self::Http,
            // A hello or an alert record.
            [0x15 | 0x16, 3, ..] => Self::Tls,
            _ => Self::Unknown,
        }
    }

    /// For whoever gave the address.
    fn advice(self) -> &'static str {
        match self {
            Self::Http => {
                "seems to serve HTTP: addresses of members and --join take raft addresses, not those for clients"
            }
            Self::Tls => "expects TLS",
            Self::Unknown => {
                "answers in a protocol that isn't ours: check the address, it must be a node's raft address"
            }
        }
    }
}

impl Failure {
    /// As the side that called `address` reports it.
    pub(crate) fn of_call(self, us: &Card, address: &str) -> TransportError {
        let message = match self {
            Self::Io(source) => {
                return TransportError::Unreachable {
                    address: address.to_owned(),
                    source,
                };
            }
            Self::Busy(message) => {
                return TransportError::Unreachable {
                    address: address.to_owned(),
                    source: io::Error::new(io::ErrorKind::ConnectionRefused, message),
                };
            }
            Self::Hello(error) => {
                return TransportError::Malformed {
                    address: address.to_owned(),
                    what: error.to_string(),
                };
            }
            Self::OtherCluster(message) => {
                return TransportError::OtherCluster {
                    message: no_link(address, &message),
                };
            }
            Self::Refused(message) => message,
            Self::Foreign(foreign) => {
                let advice = foreign.advice();
                format!("node {} called an address that {advice}", us.node)
            }
            Self::Version(other) => format!(
                "node {} (release {}) speaks protocol {VERSION} and the other side protocol {other}: run releases that \
                 share a protocol on all nodes",
                us.node, us.release
            ),
        };
        TransportError::Refused {
            message: no_link(address, &message),
        }
    }

    /// What a refusal is between these two.
    fn between(self, us: &Card, other: &Card) -> Self {
        match self {
            Self::Refused(message) if judge::differ(us.cluster, other.cluster) => {
                Self::OtherCluster(message)
            }
            other => other,
        }
    }
}

fn no_link(address: &str, message: &str) -> String {
    format!("no link with {address}: {message}")
}

/// Plays the caller; `judge` is its judgement about who answered.
pub(crate) async fn call(
    reading: &mut (impl AsyncRead + Unpin),
    writing: &mut (impl AsyncWrite + Unpin),
    call: &Call,
    judge: impl FnOnce(&Card) -> Result<(), String>,
) -> Result<Card, Failure> {
    write(writing, call).await?;
    let answer: Answer = read(reading).await?;
    let listener = hello::checked(answer.listener)?;
    let between = |failure: Failure| failure.between(&call.caller, &listener);
    accepted(answer.verdict).map_err(between)?;
    let verdict = Verdict::of(judge(&listener));
    write(writing, &verdict).await?;
    accepted(verdict).map_err(between)?;
    Ok(listener)
}

/// Plays the listener; `judge` is its judgement about who called.
pub(crate) async fn answer(
    reading: &mut (impl AsyncRead + Unpin),
    writing: &mut (impl AsyncWrite + Unpin),
    us: &Card,
    judge: impl FnOnce(&Call) -> Verdict,
) -> Result<Call, Failure> {
    let received = read::<Call>(reading).await;
    if let Err(Failure::Version(_)) = received {
        // The head is enough for the caller to tell the versions apart.
        write(writing, &answer_of(us, Verdict::Refused(String::new()))).await?;
    }
    let mut call = received?;
    call.caller = hello::checked(call.caller)?;
    let verdict = judge(&call);
    write(writing, &answer_of(us, verdict.clone())).await?;
    accepted(verdict)?;
    accepted(read(reading).await?)?;
    Ok(call)
}

fn answer_of(us: &Card, verdict: Verdict) -> Answer {
    Answer {
        listener: us.clone(),
        verdict,
    }
}

fn accepted(verdict: Verdict) -> Result<(), Failure> {
    match verdict {
        Verdict::Accepted => Ok(()),
        Verdict::Refused(message) => Err(Failure::Refused(hello::tame(&message))),
        Verdict::Busy(message) => Err(Failure::Busy(hello::tame(&message))),
    }
}

async fn write(
    writing: &mut (impl AsyncWrite + Unpin),
    message: &(impl Serialize + Sync),
) -> io::Result<()> {
    writing.write_all(&hello::encode(message)).await?;
    writing.flush().await
}

async fn read<T: DeserializeOwned>(reading: &mut (impl AsyncRead + Unpin)) -> Result<T, Failure> {
    let (version, bytes) = hello::parse_head(read_head(reading).await?);
    if version != VERSION {
        // Bytes left unread would make the kernel reset the connection before the other side has read the answer.
        let mut rest = reading.take(bytes as u64);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        return Err(Failure::Version(version));
    }
    if bytes > BODY_BYTES_MAX {
        return Err(HelloError::TooLarge(bytes).into());
    }
    let mut body = vec![0; bytes];
    reading.read_exact(&mut body).await?;
    Ok(hello::decode(&body)?)
}

/// Reads a head, and stops at the first byte that can't belong to one.
async fn read_head(reading: &mut (impl AsyncRead + Unpin)) -> Result<[u8; HEAD_BYTES], Failure> {
    let mut head = [0; HEAD_BYTES];
    let mut here = 0;
    while here < HEAD_BYTES {
        let read = reading.read(&mut head[here..]).await?;
        if read == 0 {
            let what = "it hung up during the handshake: is that a node's raft address, not the one for clients?";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what).into());
        }
        here += read;
        let magic = here.min(MAGIC.len());
        if head[..magic] != MAGIC[..magic] {
            return Err(Failure::Foreign(Foreign::of(&head[..here])));
        }
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::tests::card;
    use proptest::prelude::*;
    use sqlrep_core::Lane;

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(future)
    }

    /// What a listener makes of `bytes`, and what it answered.
    fn listen_to(bytes: &[u8]) -> (Result<Call, Failure>, Vec<u8>) {
        let mut answered = Vec::new();
        let mut bytes = bytes;
        let us = card(2);
        let heard = run(answer(&mut bytes, &mut answered, &us, |_| {
            Verdict::Accepted
        }));
        (heard, answered)
    }

    fn whole_call() -> Vec<u8> {
        let call = Call {
            caller: card(1),
            lane: Lane::Client,
            expects: None,
        };
        let mut bytes = hello::encode(&call);
        bytes.extend(hello::encode(&Verdict::Accepted));
        bytes
    }

    #[test]
    fn a_whole_call_is_heard_and_a_shorter_one_isnt() {
        let bytes = whole_call();
        assert_eq!(listen_to(&bytes).0.unwrap().caller, card(1));
        for end in 0..bytes.len() {
            let (heard, _) = listen_to(&bytes[..end]);
            assert!(matches!(heard, Err(Failure::Io(_))), "{end}");
        }
    }

    #[test]
    fn strangers_hear_nothing() {
        for (bytes, who) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], Foreign::Http),
            (b"\x16\x03\x01\x02\x00", Foreign::Tls),
            (b"SSH-2.0-OpenSSH\r\n", Foreign::Unknown),
            (b"\xd3sqlite\n", Foreign::Unknown),
        ] {
            let (heard, answered) = listen_to(bytes);
            assert!(matches!(heard, Err(Failure::Foreign(found)) if found == who));
            assert!(answered.is_empty());
        }
    }

    #[test]
    fn another_version_is_answered_with_ours() {
        let mut bytes = whole_call();
        bytes[8] = 9;
        let (heard, answered) = listen_to(&bytes);
        assert!(matches!(heard, Err(Failure::Version(9))));
        assert_eq!(
            hello::parse_head(answered[..12].try_into().unwrap()).0,
            VERSION
        );
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_the_body() {
        let head = [&MAGIC[..], &VERSION.to_le_bytes(), &u16::MAX.to_le_bytes()].concat();
        let (heard, answered) = listen_to(&head);
        let refused = matches!(heard, Err(Failure::Hello(HelloError::TooLarge(65535))));
        assert!(refused && answered.is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_on_either_side(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            ours in any::<bool>(),
        ) {
            let mut bytes = bytes;
            if ours && bytes.len() >= HEAD_BYTES {
                let head = [&MAGIC[..], &VERSION.to_le_bytes(), &[60, 0]].concat();
                bytes[..HEAD_BYTES].copy_from_slice(&head);
            }
            prop_assert!(listen_to(&bytes).0.is_err());
            let asked = Call { caller: card(1), lane: Lane::Append, expects: None };
            let called = run(call(&mut &bytes[..], &mut Vec::new(), &asked, |_| Ok(())));
            prop_assert!(called.is_err());
        }
    }
}
