//! What was changed since the last sync, for a file's bytes and for a folder's names alike.
//!
//! A change has one of three standings, and a power loss treats each its own way:
//!
//! ```text
//!   pending ── sync ──► durable               (the list is emptied)
//!      └────── failed sync ──► doomed         (fsync rule 5: the kernel calls it clean, the drive never got it)
//!   pending behind a doomed one ── sync ──► synced    (durable, but replayed behind the doomed)
//! ```

use sqlrep_env::{Entropy, SimulatedEntropy};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Pending,
    Synced,
    Doomed,
}

/// Changes in the order they were made.
///
/// Invariant 1: behind a `Doomed` one nothing leaves the list, because what was synced later overrides it.
#[derive(Clone)]
pub(super) struct Unsynced<C>(Vec<(C, Standing)>);

/// What power loss did to a change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Torn,
    Lost,
}

impl<C> Default for Unsynced<C> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<C> Unsynced<C> {
    pub(super) fn push(&mut self, change: C) {
        self.0.push((change, Standing::Pending));
    }

    /// A change that is durable at once, whatever comes of those before it.
    pub(super) fn push_synced(&mut self, change: C) {
        self.0.push((change, Standing::Synced));
    }

    /// A sync that succeeds: returns what has to be added to the durable state now.
    pub(super) fn sync(&mut self) -> Vec<C> {
        let doomed = |(_, standing): &(C, Standing)| *standing == Standing::Doomed;
        if !self.0.iter().any(doomed) {
            return self.0.drain(..).map(|(change, _)| change).collect();
        }
        self.restate(Standing::Synced);
        Vec::new()
    }

    /// A sync that fails.
    pub(super) fn fail_sync(&mut self) {
        self.restate(Standing::Doomed);
    }

    fn restate(&mut self, to: Standing) {
        for (_, standing) in &mut self.0 {
            if *standing == Standing::Pending {
                *standing = to;
            }
        }
    }

    /// What power loss does to each change, in order. Without `luck` everything that isn't durable is lost.
    ///
    /// The odds are drawn once for the whole list, so that nearly all lost and nearly all kept happen as well.
    pub(super) fn fates(&self, luck: Option<&SimulatedEntropy>) -> Vec<(&C, Fate)> {
        let kept_of_16 = luck.map_or(0, |luck| 1 + luck.next() % 15);
        let fate = |standing| match luck {
            _ if standing == Standing::Synced => Fate::Kept,
            Some(luck) if luck.next() % 16 < kept_of_16 => Fate::Kept,
            Some(luck) if luck.next().is_multiple_of(2) => Fate::Torn,
            _ => Fate::Lost,
        };
        self.0
            .iter()
            .map(|(change, standing)| (change, fate(*standing)))
            .collect()
    }

    /// The same list with each change translated, standings kept.
    pub(super) fn translate<D>(&self, mut change: impl FnMut(&C) -> D) -> Unsynced<D> {
        let translated = self
            .0
            .iter()
            .map(|(old, standing)| (change(old), *standing));
        Unsynced(translated.collect())
    }
}
