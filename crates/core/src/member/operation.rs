//! What changes of the cluster and the end of a member have in common.

use crate::member::founding::Terms;
use crate::member::stop::UnderWay;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// One per member.
pub(crate) struct Operation {
    /// One permit: one change of the members at a time.
    pub changes: Arc<Semaphore>,
    /// What this node was started with, once it is known.
    pub terms: watch::Sender<Option<Terms>>,
    /// Whether the others go on without this node.
    pub removed: watch::Sender<bool>,
    /// Clients' writes on this node.
    pub under_way: UnderWay,
}

impl Operation {
    pub(crate) fn new() -> Self {
        Self {
            changes: Arc::new(Semaphore::new(1)),
            terms: watch::channel(None).0,
            removed: watch::channel(false).0,
            under_way: UnderWay::new(),
        }
    }
}
