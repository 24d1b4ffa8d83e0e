//! Sockets of turmoil's network, so that the nodes' own handshake, frames and links run in the simulation.
//!
//! turmoil never sends again what a partition swallowed: such a socket is stuck until one side gives it up, as after a
//! long outage. A pause of the network (`hold`) is what real TCP makes of a short one.

use async_trait::async_trait;
use sqlrep_transport_tcp::{Halves, Listener, Sockets};
use std::io;
use std::net::SocketAddr;
use turmoil::net::{TcpListener, TcpStream};

/// The simulated network, from the host that runs.
pub(crate) struct Simulated;

fn halves(socket: TcpStream) -> Halves {
    let (reading, writing) = socket.into_split();
    (Box::new(reading), Box::new(writing))
}

#[async_trait]
impl Sockets for Simulated {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(Listening(TcpListener::bind(address).await?)))
    }

    async fn connect(&self, address: &str) -> io::Result<Halves> {
        Ok(halves(TcpStream::connect(address).await?))
    }
}

struct Listening(TcpListener);

#[async_trait]
impl Listener for Listening {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    async fn accept(&self) -> io::Result<(Halves, SocketAddr)> {
        let (socket, from) = self.0.accept().await?;
        Ok((halves(socket), from))
    }
}
