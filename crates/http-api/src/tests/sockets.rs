//! A real server on a loopback socket, spoken to by hand.

use super::mock::{Mock, rows, text, written};
use crate::Server;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(20);

const INSERTED: &str = r#"{"results":[{"last_insert_id":1,"rows_affected":1}]}"#;

async fn start(mock: Mock) -> (Arc<Mock>, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mock, api) = mock.api();
    (mock, Server::start(listener, api))
}

struct Client(TcpStream, Vec<u8>);

impl Client {
    async fn to(server: &Server) -> Self {
        Self(
            TcpStream::connect(server.local_addr()).await.unwrap(),
            Vec::new(),
        )
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    async fn execute(&mut self, body: &str) {
        let length = body.len();
        self.send(&format!(
            "POST /db/execute HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Status line and body of the next answer.
    async fn answer(&mut self) -> (String, String) {
        let found = timeout(DEADLINE, async {
            loop {
                let text = String::from_utf8_lossy(&self.1).into_owned();
                if let Some(found) = whole(&text) {
                    self.1.drain(..found.2);
                    return (found.0, found.1);
                }
                let read = self.0.read_buf(&mut self.1).await.unwrap();
                assert!(read > 0, "closed after {text:?}");
            }
        });
        found.await.expect("an answer in time")
    }

    /// Waits until the server closes; whether it was without another byte.
    async fn closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match timeout(DEADLINE, self.0.read_to_end(&mut rest))
            .await
            .expect("a close in time")
        {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

fn whole(text: &str) -> Option<(String, String, usize)> {
    let (head, _) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length: ")?
            .parse()
            .ok()
    });
    let from = head.len() + 4;
    let body = text.get(from..from + length.unwrap_or(0))?;
    Some((
        head.lines().next()?.to_owned(),
        body.to_owned(),
        from + body.len(),
    ))
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let (_, server) = start(Mock::new()).await;
    let mut client = Client::to(&server).await;
    for _ in 0..3 {
        client.execute("[\"x\"]").await;
        assert_eq!(
            client.answer().await,
            ("HTTP/1.1 200 OK".to_owned(), INSERTED.to_owned())
        );
    }
    client.execute("[\"x\"]").await;
    client.execute("[]").await;
    assert_eq!(client.answer().await.1, INSERTED);
    assert_eq!(client.answer().await.1, "no statements\n");
    server.stop(Duration::ZERO).await;
    assert!(client.closed().await);
}

#[tokio::test]
async fn a_body_may_come_in_pieces() {
    let (mock, server) = start(Mock::new()).await;
    let mut client = Client::to(&server).await;
    client.send("POST /db/execute HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[\"a\r\n").await;
    client.send("4\r\nbc\"]\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.1, INSERTED);
    let asked = format!("{:?}", mock.asked.lock().unwrap());
    assert!(asked.contains("\"abc\""), "{asked}");
}

#[tokio::test]
async fn slow_and_large_requests_are_cut() {
    let mut mock = Mock::new();
    mock.options.body_bytes_max = 100;
    mock.options.header_timeout = Duration::from_millis(200);
    mock.options.body_timeout = Duration::from_millis(100);
    let (mock, server) = start(mock).await;
    let mut head = Client::to(&server).await;
    head.send("POST /db/exec").await;
    let mut body = Client::to(&server).await;
    body.send("POST /db/execute HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n[")
        .await;
    let mut large = Client::to(&server).await;
    large
        .send("POST /db/execute HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n[")
        .await;
    let mut chunks = Client::to(&server).await;
    let chunk = "x".repeat(101);
    chunks.send(&format!("POST /db/execute HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n{chunk}\r\n")).await;
    let mut idle = Client::to(&server).await;
    assert_eq!(body.answer().await.0, "HTTP/1.1 408 Request Timeout");
    assert_eq!(large.answer().await.0, "HTTP/1.1 413 Payload Too Large");
    assert_eq!(chunks.answer().await.0, "HTTP/1.1 413 Payload Too Large");
    head.closed().await;
    assert!(idle.closed().await);
    assert!(mock.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn connections_above_the_limit_are_refused() {
    let mut mock = Mock::new();
    mock.options.connections_max = 1;
    let (_, server) = start(mock).await;
    let mut first = Client::to(&server).await;
    first.execute("[\"x\"]").await;
    assert_eq!(first.answer().await.1, INSERTED);
    let mut second = Client::to(&server).await;
    assert_eq!(
        second.answer().await,
        (
            "HTTP/1.1 503 Service Unavailable".to_owned(),
            "too many connections\n".to_owned()
        )
    );
    assert!(second.closed().await);
    first.execute("[\"x\"]").await;
    assert_eq!(first.answer().await.1, INSERTED);
}

#[tokio::test]
async fn garbage_is_refused_and_harms_nobody() {
    let (_, server) = start(Mock::new()).await;
    for garbage in ["\u{1}\u{2} \r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\r\n\u{0}"] {
        let mut client = Client::to(&server).await;
        client.send(garbage).await;
        client.closed().await;
    }
    let mut client = Client::to(&server).await;
    client.send("GET /a\u{1}b HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.answer().await.0, "HTTP/1.1 400 Bad Request");
    let mut other = Client::to(&server).await;
    other.execute("[\"x\"]").await;
    assert_eq!(other.answer().await.1, INSERTED);
}

/// Whether a new connection is served; one above the limit may be reset before it reads its refusal.
async fn answers(server: &Server) -> bool {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let sent = stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let mut status = [0; 15];
    sent.is_ok() && stream.read_exact(&mut status).await.is_ok() && &status == b"HTTP/1.1 200 OK"
}

#[tokio::test]
async fn a_client_that_doesn_t_read_is_cut() {
    let large = rows(&["a:text"], vec![vec![text(&"x".repeat(32 << 20))]]);
    let mut mock = Mock::reading(vec![large]);
    mock.options.connections_max = 1;
    mock.options.write_timeout = Duration::from_millis(100);
    let (mock, server) = start(mock).await;
    let mut deaf = Client::to(&server).await;
    deaf.send("GET /db/query?q=x HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    until_asked(&mock).await;
    let free = async { while !answers(&server).await {} };
    timeout(DEADLINE, free)
        .await
        .expect("its place is free in time");
}

/// A client that is gone ends its call of the database, which withdraws what waits there.
#[tokio::test]
async fn who_is_gone_ends_its_request() {
    let mut mock = Mock::new();
    mock.gate = Some(Arc::new(Semaphore::new(0)));
    let (mock, server) = start(mock).await;
    let mut stays = Client::to(&server).await;
    stays.execute("[\"x\"]").await;
    until_inside(&mock, 1).await;
    let mut gone = Client::to(&server).await;
    gone.execute("[\"x\"]").await;
    until_inside(&mock, 2).await;
    drop(gone);
    until_inside(&mock, 1).await;
    mock.gate.as_ref().unwrap().add_permits(1);
    assert_eq!(stays.answer().await.1, INSERTED);
}

async fn until_inside(mock: &Mock, calls: usize) {
    let inside = async {
        while mock.inside.load(Ordering::Acquire) != calls {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, inside).await.expect("in time");
}

/// All bodies together have a bound: what doesn't fit is told at once, and room is there again when others have gone.
#[tokio::test]
async fn bodies_of_all_clients_have_a_bound() {
    let gate = Arc::new(Semaphore::new(0));
    let mut mock = Mock::new();
    mock.options.bodies_bytes_max = 100;
    mock.gate = Some(gate.clone());
    let (mock, server) = start(mock).await;
    let large = format!("[\"{}\"]", "x".repeat(60));
    let mut first = Client::to(&server).await;
    first.execute(&large).await;
    until_inside(&mock, 1).await;
    let mut slow = Client::to(&server).await;
    slow.send("POST /db/execute HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n[")
        .await;
    let mut refused = Client::to(&server).await;
    refused.execute(&large).await;
    let (status, body) = refused.answer().await;
    assert_eq!(status, "HTTP/1.1 429 Too Many Requests");
    assert!(body.contains("too many bytes of requests"), "{body}");
    let mut small = Client::to(&server).await;
    small.execute("[\"x\"]").await;
    gate.add_permits(100);
    assert_eq!(small.answer().await.1, INSERTED);
    assert_eq!(first.answer().await.1, INSERTED);
    let mut again = Client::to(&server).await;
    again.execute(&large).await;
    assert_eq!(again.answer().await.1, INSERTED);
}

/// So do large answers that clients don't take: a query's is refused, a write's is unknown.
#[tokio::test]
async fn large_answers_of_all_clients_have_a_bound() {
    let large = || rows(&["a:text"], vec![vec![text(&"x".repeat(32 << 20))]]);
    let mut mock = Mock::reading(vec![large()]);
    mock.write = Ok(super::mock::answer(vec![large()]));
    mock.options.answers_bytes_max = 40 << 20;
    let (mock, server) = start(mock).await;
    let mut deaf = Client::to(&server).await;
    deaf.send("GET /db/query?q=x HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    until_asked(&mock).await;
    let mut other = Client::to(&server).await;
    let (status, body) = loop {
        // Until the first answer is rendered, and stands still.
        let query = "GET /db/query?q=x HTTP/1.1\r\nHost: a\r\n\r\n";
        other.send(query).await;
        let (status, body) = other.answer().await;
        if !status.contains("200") {
            break (status, body);
        }
    };
    assert_eq!(status, "HTTP/1.1 429 Too Many Requests");
    assert!(body.contains("too many bytes of answers"), "{body}");
    other.execute("[\"x\"]").await;
    let (status, body) = other.answer().await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.contains("it was done, but"), "{body}");
    drop(deaf);
    let served = async {
        loop {
            other
                .send("GET /db/query?q=x HTTP/1.1\r\nHost: a\r\n\r\n")
                .await;
            if other.answer().await.0.contains("200") {
                return;
            }
        }
    };
    timeout(DEADLINE, served).await.expect("room in time");
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let (_, server) = start(Mock::new()).await;
    let mut client = Client::to(&server).await;
    let filler = "a".repeat(66 << 10);
    client
        .send(&format!("GET /status HTTP/1.1\r\nX-Filler: {filler}"))
        .await;
    let (status, _) = client.answer().await;
    assert_eq!(status, "HTTP/1.1 431 Request Header Fields Too Large");
}

async fn until_asked(mock: &Mock) {
    let asked = async {
        while mock.asked.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, asked)
        .await
        .expect("the database is asked in time");
}

#[tokio::test]
async fn stopping_lets_requests_end() {
    let gate = Arc::new(Semaphore::new(0));
    let mut mock = Mock::writing(vec![written(1, 1)]);
    mock.gate = Some(gate.clone());
    let (mock, server) = start(mock).await;
    let mut client = Client::to(&server).await;
    client.execute("[\"x\"]").await;
    until_asked(&mock).await;
    let address = server.local_addr();
    let stopping = tokio::spawn(server.stop(DEADLINE));
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(DEADLINE, refused)
        .await
        .expect("nothing is accepted any more");
    gate.add_permits(1);
    assert_eq!(client.answer().await.1, INSERTED);
    assert!(client.closed().await);
    timeout(DEADLINE, stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_cuts_what_doesn_t_end() {
    let mut mock = Mock::new();
    mock.gate = Some(Arc::new(Semaphore::new(0)));
    let (mock, server) = start(mock).await;
    let mut client = Client::to(&server).await;
    client.execute("[\"x\"]").await;
    until_asked(&mock).await;
    timeout(DEADLINE, server.stop(Duration::from_millis(10)))
        .await
        .unwrap();
    assert!(client.closed().await);
    assert_eq!(
        Arc::strong_count(&mock),
        1,
        "nothing holds the database any more"
    );
}
