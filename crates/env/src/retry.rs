//! The one question every error of this workspace answers: may the caller send the same again?

/// Whether doing the same again is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It certainly didn't happen and never will; doing it again may work.
    Safe,
    /// It may have happened, or may still: only a caller that can tell the two apart may repeat it.
    Ambiguous,
    /// It would fail again.
    Useless,
}
