//! What reads promise, by the API's names.

use clap::ValueEnum;

/// A read level (docs/guarantees.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// A committed prefix of the node spoken to
    None,
    /// The leader's state, without a round trip
    Weak,
    /// Strict, on any node
    Linearizable,
    /// Through the log
    Strong,
    /// none on a read replica, else weak
    Auto,
}

impl Level {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Weak => "weak",
            Self::Linearizable => "linearizable",
            Self::Strong => "strong",
            Self::Auto => "auto",
        }
    }
}
