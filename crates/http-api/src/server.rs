//! The listening socket: connections, their limits, and the way out.
//!
//! One task accepts; each connection is a task of its own. A connection above the limit is answered 503 and closed
//! without being read. Invariants:
//!
//! 1. A connection that is idle, or slow with a request's head, is closed after `header_timeout`.
//! 2. One whose client doesn't read is closed after the answer stood still for `write_timeout`.
//! 3. After [`Server::stop`] returns, no request of this server runs.

use crate::front::Front;
use crate::stall::Stall;
use crate::{Api, Options};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Bytes of a request's head, and of what is read ahead.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// How long accepting pauses after the machine refused it, for want of file descriptors perhaps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n\
X-Sqlrep-Outcome: refused\r\nContent-Length: 21\r\nConnection: close\r\n\r\ntoo many connections\n";

/// A running server. Dropping it cuts all connections.
pub struct Server {
    local_addr: SocketAddr,
    stop: oneshot::Sender<Duration>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Serves on a bound socket, from inside a tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside a runtime.
    #[must_use]
    pub fn start(listener: TcpListener, api: Api) -> Self {
        let local_addr = listener
            .local_addr()
            .expect("a listener is bound to an address");
        let (stop, stopped) = oneshot::channel();
        let front = Arc::new(Front::new(api, local_addr));
        Self {
            local_addr,
            stop,
            accepting: tokio::spawn(accept(listener, front, stopped)),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops accepting, lets requests end for so long, then cuts what is left. A write that is cut is ambiguous
    /// for its client, like any lost answer.
    pub async fn stop(self, drain_max: Duration) {
        let Self {
            stop, accepting, ..
        } = self;
        if stop.send(drain_max).is_err() {
            tracing::warn!("the HTTP server had ended before it was stopped");
        }
        if let Err(error) = accepting.await {
            tracing::error!(%error, "the HTTP server ended badly");
        }
    }
}

async fn accept(
    listener: TcpListener,
    front: Arc<Front>,
    mut stopped: oneshot::Receiver<Duration>,
) {
    let mut connections = JoinSet::new();
    let (drain, draining) = watch::channel(());
    let drain_max = loop {
        tokio::select! {
            told = &mut stopped => break told.unwrap_or(Duration::ZERO),
            Some(ended) = connections.join_next() => report(ended),
            incoming = listener.accept() => match incoming {
                Ok((stream, _)) => {
                    while let Some(ended) = connections.try_join_next() {
                        report(ended);
                    }
                    if connections.len() < front.api.options.connections_max {
                        connections.spawn(serve(stream, front.clone(), draining.clone()));
                    } else {
                        refuse(&stream);
                    }
                }
                Err(error) => pause(&error).await,
            },
        }
    };
    drop((listener, drain));
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(drain_max, ended).await.is_err() {
        tracing::info!(left = connections.len(), "requests are cut");
    }
    connections.shutdown().await;
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task ended badly");
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "a connection can't be accepted");
    sleep(ACCEPT_PAUSE).await;
}

/// The answer fits an empty send buffer; if it doesn't go, the close tells as much.
fn refuse(stream: &TcpStream) {
    if stream.try_write(FULL).is_err() {
        tracing::debug!("a connection above the limit is closed without an answer");
    }
}

async fn serve(stream: TcpStream, front: Arc<Front>, mut draining: watch::Receiver<()>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "answers may be delayed by Nagle's algorithm");
    }
    let io = TokioIo::new(Stall::new(stream, front.api.options.write_timeout));
    let builder = builder(&front.api.options);
    let service = service_fn(move |request| {
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.answer(request).await) }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = draining.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

fn builder(options: &Options) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
}
