//! The other side isn't a node, or plays foul.

use crate::{counted, fails, identity, link, peer, soon, start, start_as};
use sqlrep_core::{Lane, Peer, Retry, Transport, TransportError};
use sqlrep_transport_tcp::Options;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

/// A server that answers anything with `answer`, and what `node 1` says about it.
async fn called(answer: &'static [u8]) -> TransportError {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap().to_string();
    let serve = async {
        let (mut socket, _) = server.accept().await.unwrap();
        let mut heard = [0; 12];
        socket.read_exact(&mut heard).await.unwrap();
        socket.write_all(answer).await.unwrap();
        socket.shutdown().await.unwrap();
        // Until the caller goes.
        socket.read_to_end(&mut Vec::new()).await.ok();
    };
    let a = start(1).await;
    let to = Peer {
        raft: address,
        ..Peer::default()
    };
    let (error, ()) = tokio::join!(fails(&a, None, &to, Lane::Client), soon(serve));
    error
}

#[tokio::test]
async fn servers_of_other_protocols_are_named() {
    for (answer, told) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "node 1 called an address that seems to serve HTTP: addresses of members and --join take raft addresses, not \
             those for clients",
        ),
        (
            b"\x15\x03\x01\x00\x02\x02\x0a",
            "node 1 called an address that expects TLS",
        ),
        (
            b"220 mail.example.org ESMTP\r\n",
            "node 1 called an address that answers in a protocol that isn't ours: check the address, it must be a \
             node's raft address",
        ),
        (
            b"\xd3sqlrep\n\x09\x00\x00\x00",
            "node 1 (release 0.1.0) speaks protocol 3 and the other side protocol 9: run releases that share a protocol \
             on all nodes",
        ),
    ] {
        let error = called(answer).await;
        assert_eq!(error.retry(), Retry::Useless);
        let error = error.to_string();
        assert!(error.ends_with(told), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_or_answers_nonsense_is_told_apart() {
    let broken = called(b"\xd3sql").await;
    assert_eq!(broken.retry(), Retry::Safe, "not a whole head: {broken}");
    let error = called(b"\xd3sqlrep\n\x03\x00\x01\x00\x07").await;
    let told = "sent a handshake in format 7, this release knows 1";
    assert!(error.to_string().ends_with(told), "{error}");
    let error = called(b"\xd3sqlrep\n\x03\x00\xff\xff").await;
    let told = "sent a handshake of 65535 bytes, the limit is 4096";
    assert!(error.to_string().ends_with(told), "{error}");
}

#[tokio::test]
async fn nobody_listens() {
    let a = start(1).await;
    // A port of ours on which we don't listen.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let to = Peer {
        raft: silent.local_addr().unwrap().to_string(),
        ..Peer::default()
    };
    let error = fails(&a, None, &to, Lane::Append).await;
    assert_eq!(error.retry(), Retry::Safe, "{error}");
}

/// Says `bytes` to a node's raft port; what it answered until it hung up.
async fn says(to: &Peer, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(&to.raft).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // It may hang up before it has read everything, which resets the connection.
    soon(socket.read_to_end(&mut answer)).await.ok();
    answer
}

#[tokio::test]
async fn strangers_hear_nothing_and_are_counted() {
    let (a, b) = (start(1).await, start(2).await);
    for (bytes, refused) in [
        (&b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n"[..], 1),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 2),
        (b"\xd3sqlrep\n\x03\x00\xff\xff", 3),
        (b"\xd3sqlrep\n\x03\x00\x02\x00\x01\xff", 4),
    ] {
        assert_eq!(says(&peer(&a), bytes).await, b"");
        counted(&a, |stats| stats.refused == refused).await;
    }
    drop(link(&b, &a, Lane::Append).await);
}

#[tokio::test]
async fn another_protocol_version_is_answered_with_ours() {
    let a = start(1).await;
    let answer = says(&peer(&a), b"\xd3sqlrep\n\x09\x00\x03\x00abc").await;
    assert_eq!(answer[..10], *b"\xd3sqlrep\n\x03\x00");
    counted(&a, |stats| stats.refused == 1).await;
}

#[tokio::test]
async fn slow_handshakes_are_few_and_cut() {
    let options = Options {
        handshakes_max: 2,
        handshake_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let a = start_as(identity(1), options).await;
    let b = start(2).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(a.local_addr()).await.unwrap();
        socket.write_all(b"\xd3sql").await.unwrap();
        slow.push(socket);
    }
    let begun = Instant::now();
    drop(link(&b, &a, Lane::Append).await);
    assert!(
        begun.elapsed() > Duration::from_millis(100),
        "it waits for a place"
    );
    for mut socket in slow {
        let mut answer = Vec::new();
        soon(socket.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer, b"");
    }
}

#[tokio::test]
async fn a_listener_that_says_nothing_is_given_up() {
    let options = Options {
        handshake_timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let a = start_as(identity(1), options).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = Peer {
        raft: silent.local_addr().unwrap().to_string(),
        ..Peer::default()
    };
    let error = fails(&a, None, &to, Lane::Append).await;
    assert_eq!(error.retry(), Retry::Safe);
    assert!(error.to_string().ends_with("within 100ms"), "{error}");
}

/// A socket that has played the caller's handshake by hand, as node 1 does on the control lane.
async fn by_hand(to: &Peer) -> TcpStream {
    let call = b"\x01\x00\x01\xd1\x09statement\x0e2025-01-01 abc\x09\x050.1.0\x01\x00";
    let head = b"\xd3sqlrep\n\x03\x00";
    let length = u16::try_from(call.len()).unwrap().to_le_bytes();
    let mut socket = TcpStream::connect(&to.raft).await.unwrap();
    let bytes = [&head[..], &length, call, head, b"\x02\x00", b"\x01\x00"].concat();
    socket.write_all(&bytes).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    let mut body = vec![0; usize::from(answer[10])];
    socket.read_exact(&mut body).await.unwrap();
    assert_eq!(body.last(), Some(&0), "it is accepted");
    socket
}

#[tokio::test]
async fn a_huge_frame_is_refused_by_its_length() {
    let b = start_as(identity(2), Options::default()).await;
    let mut socket = by_hand(&peer(&b)).await;
    let (_, lane, mut link) = soon(b.accept()).await.unwrap();
    assert_eq!(lane, Lane::Control);
    socket.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    let error = soon(link.receiver.receive()).await.unwrap_err();
    assert!(matches!(error, TransportError::Malformed { .. }));
    let told = "sent a frame of 4294967295 bytes, above the limit of 65536";
    assert!(error.to_string().ends_with(told), "{error}");
    assert!(soon(link.sender.send(bytes::Bytes::new())).await.is_err());
}

#[tokio::test]
async fn a_connection_that_breaks_within_a_frame_is_no_orderly_end() {
    let b = start_as(identity(2), Options::default()).await;
    let mut socket = by_hand(&peer(&b)).await;
    let (_, _, mut link) = soon(b.accept()).await.unwrap();
    socket.write_all(b"\x05\x00\x00\x00whole").await.unwrap();
    socket.write_all(b"\x05\x00\x00\x00tor").await.unwrap();
    drop(socket);
    let whole = soon(link.receiver.receive()).await.unwrap().unwrap();
    assert_eq!(whole, "whole");
    let error = soon(link.receiver.receive()).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Safe, "{error}");
}
