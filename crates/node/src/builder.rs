//! The way to a node in one expression: [`Node::builder`], what differs from the defaults, [`NodeBuilder::start`].
//!
//! It holds nothing of its own: [`NodeOptions`] are what it builds, and [`NodeBuilder::with`] reaches those that have no
//! method here. A program that keeps its settings as a value fills [`NodeOptions`] and calls [`Node::start`].

use crate::{Mode, Node, NodeError, NodeOptions, Profile};
use sqlrep_core::NodeId;
use sqlrep_sql::Value;
use std::path::PathBuf;

/// A node to be started. By default: alone, on loopback with free ports.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct NodeBuilder(NodeOptions);

impl Node {
    /// A node whose data is in `directory`: alone and on loopback until told otherwise.
    pub fn builder(directory: impl Into<PathBuf>) -> NodeBuilder {
        NodeBuilder(NodeOptions::new(directory))
    }
}

impl NodeBuilder {
    /// The cluster's mode. An empty directory needs one; others hold it.
    pub fn mode(self, mode: Mode) -> Self {
        self.with(|options| options.mode = Some(mode))
    }

    /// This node, instead of one that is drawn and kept.
    pub fn node_id(self, node: NodeId) -> Self {
        self.with(|options| options.node_id = Some(node))
    }

    /// `host:port` to listen on for the other nodes.
    pub fn raft_address(self, address: impl Into<String>) -> Self {
        self.with(|options| options.raft_address = address.into())
    }

    /// Raft addresses of members to join, the own one may be among them.
    pub fn join(self, addresses: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|options| options.join = addresses.into_iter().map(Into::into).collect())
    }

    /// Forms a cluster of this many nodes once all addresses of [`join`](Self::join) are reached and empty.
    pub fn bootstrap_expect(self, nodes: u32) -> Self {
        self.with(|options| options.bootstrap_expect = Some(nodes))
    }

    /// A read replica: it has no vote.
    pub fn non_voter(self) -> Self {
        self.with(|options| options.voter = false)
    }

    /// Adds a scalar function to SQL, on every connection of this node: `call` is given the arguments, as many as
    /// `arguments` says (none: any number), from any thread. Its error, or a panic, is the error of the statement that called it; it
    /// can't be interrupted. Page mode alone, where it may count, draw or ask a clock. Register the same ones on every node: a
    /// leader without one answers `no such function`.
    ///
    /// ```
    /// use sqlrep_node::{Mode, Node};
    /// use sqlrep_sql::Value;
    ///
    /// let node = Node::builder("data")
    ///     .mode(Mode::Page)
    ///     .function("shout", Some(1), |arguments| match arguments {
    ///         [Value::Text(text)] => Ok(Value::Text(text.to_uppercase())),
    ///         _ => Err("shout takes a text".to_owned()),
    ///     });
    /// ```
    pub fn function(
        self,
        name: impl Into<String>,
        arguments: Option<u8>,
        call: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Self {
        self.with(|options| options.functions.add(name, arguments, call))
    }

    /// Times that suit the machine.
    pub fn profile(self, profile: Profile) -> Self {
        self.with(|options| options.profile = profile)
    }

    /// Changes any of the options.
    pub fn with(mut self, change: impl FnOnce(&mut NodeOptions)) -> Self {
        change(&mut self.0);
        self
    }

    /// What the node would be started with.
    #[must_use]
    pub fn options(&self) -> &NodeOptions {
        &self.0
    }

    /// [`Node::start`] with these options.
    ///
    /// # Errors
    ///
    /// Every [`NodeError`].
    pub async fn start(self) -> Result<Node, NodeError> {
        Box::pin(Node::start(self.0)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_reaches_the_options_and_the_rest_stays_default() {
        let built = Node::builder("x")
            .mode(Mode::Statement)
            .node_id(NodeId::new(7).unwrap())
            .raft_address("127.0.0.1:4002")
            .join(["a:1", "b:1"])
            .bootstrap_expect(2)
            .non_voter()
            .profile(Profile::Fast)
            .with(|options| options.readers = 9);
        let expected = NodeOptions {
            mode: Some(Mode::Statement),
            node_id: NodeId::new(7),
            raft_address: "127.0.0.1:4002".to_owned(),
            join: vec!["a:1".to_owned(), "b:1".to_owned()],
            bootstrap_expect: Some(2),
            voter: false,
            profile: Profile::Fast,
            readers: 9,
            ..NodeOptions::new("x")
        };
        assert_eq!(format!("{:?}", built.options()), format!("{expected:?}"));
    }
}
