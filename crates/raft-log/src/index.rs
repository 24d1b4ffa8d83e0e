//! What the log holds, as positions: which entries count, and where their frames stand.
//!
//! The same operations build it when frames are replayed and change it when calls come in, so both agree by
//! construction. It doesn't hold entries.
//!
//! Invariants: 1. indexes of live entries follow each other, from the one behind `purged` if that is known.
//! 2. `last` is the newest live entry, or `purged`. 3. `committed` is never above `last` (safety rule 9).

use sqlrep_core::{EntryId, LogIndex};
use std::collections::{BTreeMap, VecDeque};

/// Where an entry's frame stands in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

/// Live entries of one segment.
#[derive(Default)]
struct Places {
    first: LogIndex,
    places: VecDeque<Place>,
    bytes: u64,
}

#[derive(Default)]
pub(crate) struct Index {
    /// By segment number; one without places stays until the segment is removed.
    segments: BTreeMap<u64, Places>,
    /// Where each run of entries of one term begins.
    terms: VecDeque<EntryId>,
    purged: Option<EntryId>,
    last: Option<EntryId>,
    committed: Option<EntryId>,
}

/// The smaller one by index; anything is above none.
fn at_most(id: Option<EntryId>, limit: Option<EntryId>) -> Option<EntryId> {
    match (id, limit) {
        (Some(id), Some(limit)) if id.index <= limit.index => Some(id),
        (Some(_), limit) => limit,
        (None, _) => None,
    }
}

impl Index {
    /// What a segment's first frame says, for the first segment of a log.
    pub(crate) fn start_at(
        &mut self,
        purged: Option<EntryId>,
        last: Option<EntryId>,
        committed: Option<EntryId>,
    ) {
        (self.purged, self.last, self.committed) = (purged, last, committed);
    }

    pub(crate) fn purged(&self) -> Option<EntryId> {
        self.purged
    }

    pub(crate) fn last(&self) -> Option<EntryId> {
        self.last
    }

    pub(crate) fn committed(&self) -> Option<EntryId> {
        self.committed
    }

    /// Index of the first live entry.
    pub(crate) fn first(&self) -> Option<LogIndex> {
        self.terms.front().map(|id| id.index)
    }

    /// Makes a segment known, so that its removal has its turn.
    pub(crate) fn add_segment(&mut self, number: u64) {
        self.segments.entry(number).or_default();
    }

    pub(crate) fn remove_segment(&mut self, number: u64) {
        self.segments.remove(&number);
    }

    /// The oldest segment, if no entry in it counts any more.
    pub(crate) fn obsolete(&self) -> Option<u64> {
        let (number, places) = self.segments.first_key_value()?;
        places.places.is_empty().then_some(*number)
    }

    /// Whether `id` may be the next entry.
    pub(crate) fn fits(last: Option<EntryId>, id: EntryId) -> bool {
        last.is_none_or(|last| id.index == last.index.next() && id.term >= last.term)
    }

    /// Adds an entry that [`fits`](Self::fits).
    pub(crate) fn push(&mut self, id: EntryId, segment: u64, place: Place) {
        let places = self.segments.entry(segment).or_default();
        if places.places.is_empty() {
            places.first = id.index;
        }
        places.places.push_back(place);
        places.bytes += u64::from(place.bytes);
        if self.terms.back().is_none_or(|run| run.term != id.term) {
            self.terms.push_back(id);
        }
        self.last = Some(id);
    }

    /// The live entry at `index`.
    pub(crate) fn id_at(&self, index: LogIndex) -> Option<EntryId> {
        if self.last.is_none_or(|last| index > last.index) {
            return None;
        }
        let run = self.terms.iter().rev().find(|run| run.index <= index)?;
        Some(EntryId {
            term: run.term,
            index,
        })
    }

    /// Segment and place of the live entry at `index`.
    pub(crate) fn place(&self, index: LogIndex) -> Option<(u64, Place)> {
        let mut newest = self.segments.iter().rev();
        let holds = |places: &Places| !places.places.is_empty() && places.first <= index;
        let (number, places) = newest.find(|(_, places)| holds(places))?;
        let at = usize::try_from(index.0 - places.first.0).ok()?;
        Some((*number, *places.places.get(at)?))
    }

    /// Bytes of frames of the live entries behind `index`; of all for none.
    pub(crate) fn bytes_behind(&self, index: Option<LogIndex>) -> u64 {
        let next = index.map_or(0, |index| index.next().0);
        let behind = |places: &Places| {
            let skipped = usize::try_from(next.saturating_sub(places.first.0));
            let live = places.places.iter().skip(skipped.unwrap_or(usize::MAX));
            live.map(|place| u64::from(place.bytes)).sum::<u64>()
        };
        self.segments.values().map(behind).sum()
    }

    /// Removes everything behind `last`.
    pub(crate) fn truncate(&mut self, last: Option<EntryId>) {
        let Some(newest) = self.last else { return };
        let limit = last.map_or(0, |last| last.index.next().0);
        if limit > newest.index.0 {
            return;
        }
        for places in self.segments.values_mut() {
            let keep = limit.saturating_sub(places.first.0);
            while places.places.len() as u64 > keep {
                let gone = places.places.pop_back().expect("it isn't empty");
                places.bytes -= u64::from(gone.bytes);
            }
        }
        while self.terms.back().is_some_and(|run| run.index.0 >= limit) {
            self.terms.pop_back();
        }
        let kept = self.terms.back().map(|run| EntryId {
            term: run.term,
            index: LogIndex(limit - 1),
        });
        self.last = kept.or(self.purged);
        self.committed = at_most(self.committed, self.last);
    }

    /// Removes everything up to `upto`, which may lie behind the last entry.
    pub(crate) fn purge(&mut self, upto: EntryId) {
        let next = upto.index.next();
        if self.first().is_some_and(|first| next <= first) {
            self.purged = Some(upto);
            return;
        }
        for places in self.segments.values_mut() {
            while places.first < next {
                let Some(gone) = places.places.pop_front() else {
                    break;
                };
                places.bytes -= u64::from(gone.bytes);
                places.first = places.first.next();
            }
        }
        let behind = self.id_at(next);
        self.terms.retain(|run| run.index > next);
        match behind {
            Some(first) => self.terms.push_front(first),
            None => self.last = Some(upto),
        }
        self.purged = Some(upto);
        if self.committed.is_some_and(|id| id.index < upto.index) {
            self.committed = self.purged;
        }
        self.committed = at_most(self.committed, self.last);
    }

    pub(crate) fn mark(&mut self, committed: Option<EntryId>) {
        self.committed = at_most(committed, self.last);
    }

    /// The first entry of the newest segments that together hold `bytes`; none if all do not.
    pub(crate) fn retained_from(&self, bytes: u64) -> Option<LogIndex> {
        let mut held = 0;
        for places in self.segments.values().rev() {
            held += places.bytes;
            if held >= bytes && !places.places.is_empty() {
                return Some(places.first);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sqlrep_core::Term;

    #[derive(Clone, Debug)]
    enum Step {
        Push { term_up: bool, rotate: bool },
        Truncate(u64),
        Purge(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (any::<bool>(), any::<bool>()).prop_map(|(term_up, rotate)| Step::Push { term_up, rotate }),
            1 => (0..4u64).prop_map(Step::Truncate),
            1 => (0..8u64).prop_map(Step::Purge),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// A plain list of ids says the same after any steps.
        #[test]
        fn a_list_of_ids_says_the_same(steps in proptest::collection::vec(step(), 0..60)) {
            let (mut index, mut model, mut purged) = (Index::default(), Vec::<EntryId>::new(), None);
            let (mut term, mut segment) = (1, 1);
            for step in steps {
                let last: Option<EntryId> = model.last().copied().or(purged);
                match step {
                    Step::Push { term_up, rotate } => {
                        term += u64::from(term_up);
                        segment += u64::from(rotate);
                        let id = EntryId { term: Term(term), index: last.map_or(LogIndex(3), |last| last.index.next()) };
                        index.push(id, segment, Place { offset: u32::try_from(id.index.0).unwrap(), bytes: 1 });
                        model.push(id);
                    }
                    Step::Truncate(back) => {
                        let keep = model.len().saturating_sub(usize::try_from(back).unwrap());
                        let upto = if keep == 0 { purged } else { Some(model[keep - 1]) };
                        model.truncate(keep);
                        index.truncate(upto);
                    }
                    Step::Purge(ahead) => {
                        let Some(first) = model.first() else { continue };
                        let at = LogIndex(first.index.0 + ahead);
                        let upto = model.iter().find(|id| id.index == at).copied()
                            .unwrap_or(EntryId { term: Term(term), index: at });
                        model.retain(|id| id.index > at);
                        purged = Some(upto);
                        index.purge(upto);
                    }
                }
                prop_assert_eq!(index.last(), model.last().copied().or(purged));
                prop_assert_eq!(index.first(), model.first().map(|id| id.index));
                prop_assert_eq!(index.bytes_behind(None), model.len() as u64); // a byte each, see above
                for (before, id) in model.iter().enumerate() {
                    prop_assert_eq!(index.bytes_behind(Some(id.index)), (model.len() - before - 1) as u64);
                    prop_assert_eq!(index.id_at(id.index), Some(*id));
                    let (_, place) = index.place(id.index).unwrap();
                    prop_assert_eq!(u64::from(place.offset), id.index.0);
                }
            }
        }
    }
}
