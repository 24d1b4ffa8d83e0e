//! Both directions of a socket, whatever lies between it and the bytes.
//!
//! Everything above reads and writes boxed halves, so that encryption is one more function here: it wraps a
//! socket whose handshake it has done. Duty of a writing half: dropped, it tells the other side that nothing more comes.

use crate::Options;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Unanswered probes after which the kernel gives a link up, where it counts them.
const PROBES: u32 = 3;

pub(crate) type Reading = Box<dyn AsyncRead + Send + Sync + Unpin>;
pub(crate) type Writing = Box<dyn AsyncWrite + Send + Sync + Unpin>;

/// Halves of a plain socket.
pub(crate) fn plain(socket: TcpStream, options: &Options) -> io::Result<(Reading, Writing)> {
    configure(&socket, options)?;
    let (reading, writing) = socket.into_split();
    Ok((Box::new(reading), Box::new(writing)))
}

/// Frames leave at once, and a peer that vanished is noticed even on a link that only waits.
fn configure(socket: &TcpStream, options: &Options) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    // The kernel counts in whole seconds.
    let pause = options.keepalive.max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new()
        .with_time(pause)
        .with_interval(pause)
        .with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(options.write_stall_max))?;
    Ok(())
}
