//! Where sockets come from: the machine, or a simulated network.
//!
//! Everything above reads and writes boxed halves, so that encryption is one more implementation here: it wraps the halves
//! of a socket whose handshake it has done.

use crate::Options;
use async_trait::async_trait;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Unanswered probes after which the kernel gives a link up, where it counts them.
const PROBES: u32 = 3;

/// What arrives on a socket.
pub type Reading = Box<dyn AsyncRead + Send + Sync + Unpin>;
/// What leaves by a socket. Duty: dropped, it tells the other side that nothing more comes.
pub type Writing = Box<dyn AsyncWrite + Send + Sync + Unpin>;
/// Both directions of a socket.
pub type Halves = (Reading, Writing);

/// A network's sockets.
///
/// Duties: 1. Bytes arrive in order and once, or the socket ends. 2. `connect` tries once.
#[async_trait]
pub trait Sockets: Send + Sync {
    /// Listens on `host:port`.
    ///
    /// # Errors
    ///
    /// As the network says.
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>>;

    /// Opens a socket to `host:port`.
    ///
    /// # Errors
    ///
    /// As the network says.
    async fn connect(&self, address: &str) -> io::Result<Halves>;
}

/// Takes callers. Dropping it ends the listening.
#[async_trait]
pub trait Listener: Send + Sync {
    /// Where it listens.
    ///
    /// # Errors
    ///
    /// As the network says.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Waits for a caller; also tells from where it calls.
    ///
    /// # Errors
    ///
    /// As the network says; the next call may do better.
    async fn accept(&self) -> io::Result<(Halves, SocketAddr)>;
}

/// The sockets of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    keepalive: Duration,
    write_stall_max: Duration,
}

impl Machine {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            // The kernel counts in whole seconds.
            keepalive: options.keepalive.max(Duration::from_secs(1)),
            write_stall_max: options.write_stall_max,
        }
    }

    pub(crate) fn over(self, listener: TcpListener) -> Box<dyn Listener> {
        Box::new(Listening {
            listener,
            machine: self,
        })
    }

    fn halves(&self, socket: TcpStream) -> io::Result<Halves> {
        self.configure(&socket)?;
        let (reading, writing) = socket.into_split();
        Ok((Box::new(reading), Box::new(writing)))
    }

    /// Frames leave at once, and a peer that vanished is noticed even on a link that only waits.
    fn configure(&self, socket: &TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let socket = SockRef::from(socket);
        let keepalive = TcpKeepalive::new()
            .with_time(self.keepalive)
            .with_interval(self.keepalive)
            .with_retries(PROBES);
        socket.set_tcp_keepalive(&keepalive)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(self.write_stall_max))?;
        Ok(())
    }
}

#[async_trait]
impl Sockets for Machine {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        Ok(self.over(TcpListener::bind(address).await?))
    }

    async fn connect(&self, address: &str) -> io::Result<Halves> {
        self.halves(TcpStream::connect(address).await?)
    }
}

struct Listening {
    listener: TcpListener,
    machine: Machine,
}

#[async_trait]
impl Listener for Listening {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    async fn accept(&self) -> io::Result<(Halves, SocketAddr)> {
        loop {
            let (socket, from) = self.listener.accept().await?;
            match self.machine.halves(socket) {
                Ok(halves) => return Ok((halves, from)),
                // Its peer has hung up already; the listener itself is well.
                Err(error) => tracing::debug!(%from, %error, "a caller gave up"),
            }
        }
    }
}
