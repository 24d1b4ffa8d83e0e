//! `sqlrep bench embedded`: nodes, and parts of them, inside this process, without HTTP.
//!
//! | part | measures |
//! | --- | --- |
//! | node | a lone node: point reads and one-row writes of one thread |
//! | machines | the modes' state machines: bytes in the log, and how fast a follower applies |
//! | gathering | three nodes: what group commit is worth |
//! | readers | three nodes: a reader beside 64 writing clients |

mod gathering;
mod machines;
mod node;
mod readers;

use crate::{BenchError, Report};
use sqlrep_env::Env;
use sqlrep_node::Mode;
use std::path::PathBuf;
use std::time::Duration;

/// What is measured, and where.
pub struct EmbeddedBench {
    /// An empty folder on the disk in question.
    pub folder: PathBuf,
    /// Clocks and threads.
    pub env: Env,
    /// How changes travel.
    pub mode: Mode,
    /// Rounds.
    pub rounds: usize,
    /// How long each part of a round runs.
    pub slice: Duration,
    /// Each sync lasts at least this long, the raw probe's too. Gathering is measured at 1 ms if none is named, as its targets are.
    pub sync_floor: Option<Duration>,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A lone node.
    Node,
    /// State machines by themselves, in both modes.
    Machines,
    /// Group commit, on and off.
    Gathering,
    /// A reader beside writers.
    Readers,
}

impl Part {
    /// All, in the order of reports.
    pub const ALL: [Self; 4] = [Self::Node, Self::Machines, Self::Gathering, Self::Readers];
}

/// Measures a part.
///
/// # Errors
///
/// The disk, a node or SQLite fails, or no round was steady.
pub fn embedded(bench: &EmbeddedBench, part: Part) -> Result<Report, BenchError> {
    match part {
        Part::Node => node::node(bench),
        Part::Machines => machines::machines(bench),
        Part::Gathering => gathering::gathering(bench),
        Part::Readers => readers::readers(bench),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few short rounds in page mode; none on a machine that is too busy for one to be steady, which is told as such.
    pub(super) fn short_run(
        part: Part,
        slice: Duration,
        sync_floor: Option<Duration>,
    ) -> Option<Report> {
        let folder = tempfile::tempdir().unwrap();
        let bench = EmbeddedBench {
            folder: folder.path().to_owned(),
            env: Env::real(),
            mode: Mode::Page,
            rounds: 3,
            slice,
            sync_floor,
        };
        match embedded(&bench, part) {
            Ok(report) => Some(report),
            Err(BenchError::Unsteady { rounds: 3 }) => None,
            Err(error) => panic!("{error}"),
        }
    }
}
