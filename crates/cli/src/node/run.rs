//! The seam to the node.
//!
//! It holds no node yet and says so: this build checks settings and ends.

use super::settings::NodeSettings;
use crate::exit::Exit;
use crate::terminal;

/// Runs a node until it is told to stop or has to.
pub(super) fn run(settings: &NodeSettings) -> Exit {
    tracing::debug!(?settings, "settings are in order");
    terminal::error("this build holds no node; its settings are in order");
    Exit::Failed
}
