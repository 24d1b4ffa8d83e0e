//! What a node says of itself, and asking at an address what runs there.
//!
//! An address is all a new node has: who answers there is what it wants to know, so these links aren't the
//! kept ones of the client lane, which belong to known nodes. It doesn't decide anything; `founding` does.

use crate::codec::{self, CodecError};
use crate::member::Inner;
use crate::member::client::{Answer, Ask, Call, Return};
use crate::member::founding::{Greeting, Heard, Silence};
use crate::member::standing::Standing;
use crate::{Lane, Peer, StateMachine, Transport, TransportError};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::Instant;

/// An address that doesn't answer within this time is silent for now.
const GREETING_MAX: Duration = Duration::from_secs(2);

/// Why an address gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("what it says can't be read: {0}")]
    Codec(#[from] CodecError),
    #[error("it closed the connection: is it stopping, or of an older release?")]
    Ended,
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("it answered something else")]
    Mismatch,
}

impl GreetError {
    fn silence(&self) -> Silence {
        Silence {
            why: self.to_string(),
            refused: matches!(
                self,
                Self::Transport(
                    TransportError::Refused { .. } | TransportError::OtherCluster { .. }
                )
            ),
            other_cluster: matches!(self, Self::Transport(TransportError::OtherCluster { .. })),
        }
    }
}

/// Asks whoever runs at `address` one thing.
pub(crate) async fn ask_at(
    transport: &dyn Transport,
    address: &str,
    ask: Ask,
    deadline: Instant,
) -> Result<Answer, GreetError> {
    let since = Instant::now();
    let exchange = tokio::time::timeout_at(deadline, exchange(transport, address, ask));
    let late = |_| GreetError::Late(since.elapsed());
    exchange.await.map_err(late)?
}

async fn exchange(
    transport: &dyn Transport,
    address: &str,
    ask: Ask,
) -> Result<Answer, GreetError> {
    let peer = Peer {
        raft: address.to_owned(),
        ..Peer::default()
    };
    let mut link = transport.connect(None, &peer, Lane::Client).await?;
    let number = 1;
    link.sender
        .send(codec::encode(&Call { number, ask }))
        .await?;
    let frame = link.receiver.receive().await?.ok_or(GreetError::Ended)?;
    let returned: Return = codec::decode(&frame)?;
    if returned.number == number {
        Ok(returned.answer)
    } else {
        Err(GreetError::Mismatch)
    }
}

async fn greet(transport: &dyn Transport, address: &str) -> Heard {
    let deadline = Instant::now() + GREETING_MAX;
    let said = match ask_at(transport, address, Ask::Greet, deadline).await {
        Ok(Answer::Greeting(greeting)) => Ok(*greeting),
        Ok(_) => Err(GreetError::Mismatch.silence()),
        Err(error) => Err(error.silence()),
    };
    Heard {
        address: address.to_owned(),
        said,
    }
}

/// Greets all of these addresses at once; the answers are in their order.
pub(crate) async fn greet_all(transport: &dyn Transport, addresses: &[String]) -> Vec<Heard> {
    let greet = |address: &String| {
        let address = address.clone();
        async move { greet(transport, &address).await }
    };
    join_all(addresses.iter().map(greet)).await
}

impl<M: StateMachine> Inner<M> {
    /// What this node says of itself.
    pub(crate) fn greeting(&self) -> Greeting {
        let side = self.shared.side.borrow().clone();
        Greeting {
            node: self.shared.node,
            directory: self.shared.directory,
            empty: self.shared.log.state().last.is_none() && side.members_at.is_none(),
            cluster: side.cluster,
            settings: side.settings.clone(),
            leader: Standing::of(&self.raft).leader,
            members: side.members.peers.clone(),
            members_at: side.members_at,
            terms: self.operation.terms.borrow().clone(),
        }
    }
}
