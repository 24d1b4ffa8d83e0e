//! The images of one page above the base file, oldest first.
//!
//! **Invariants.** 1. Versions ascend strictly. 2. Whoever looks at version v sees the newest image at or
//! below v, else the base file. 3. So if any image at or below the base's version is kept, the newest such
//! one is kept too, and equals the base's: or a younger reader would find an older image. Of a page beyond the
//! base's size nothing is in the base, so all that is looked at is kept.

use crate::spill::{Spill, SpillOffset};
use crate::{Image, PageCount, PageNumber, StoreError, Version};

/// Where an image is.
#[derive(Debug)]
pub(crate) enum Place {
    Memory(Image),
    Spilled(SpillOffset),
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) version: Version,
    /// A checkpoint is about to overwrite the same image in the base, which can't stand in for it any more.
    pub(crate) shield: bool,
    pub(crate) hash: u64,
    pub(crate) place: Place,
}

impl Link {
    /// The image, read back if it was spilled.
    pub(crate) fn image(&self, page: PageNumber, spill: &Spill) -> Result<Image, StoreError> {
        match &self.place {
            Place::Memory(image) => Ok(image.clone()),
            Place::Spilled(at) => spill.read(*at, page, self.hash),
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        match &self.place {
            Place::Memory(image) => image.len() as u64,
            Place::Spilled(_) => 0,
        }
    }
}

/// What may still be looked at, in ascending order; see [`Chain::prune`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Keep {
    /// Versions above this one are all kept: they aren't committed.
    pub(crate) committed: Version,
    /// Committed versions that someone looks at, the committed one among them, ascending.
    pub(crate) looked_at: Vec<Version>,
    /// The base file's version.
    pub(crate) base: Version,
    /// Its size: the base can't stand in for pages beyond it.
    pub(crate) base_pages: PageCount,
}

/// One page's images.
#[derive(Debug, Default)]
pub(crate) struct Chain(Vec<Link>);

impl Chain {
    /// What version `at` sees, if it isn't in the base file.
    pub(crate) fn at(&self, at: Version) -> Option<&Link> {
        self.0.iter().rev().find(|link| link.version <= at)
    }

    pub(crate) fn newest(&self) -> Option<&Link> {
        self.0.last()
    }

    pub(crate) fn oldest(&self) -> Option<&Link> {
        self.0.first()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn links_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.0.iter_mut()
    }

    /// Adds the newest image; answers the one that the same version had before.
    pub(crate) fn push(&mut self, link: Link) -> Option<Link> {
        let last = self.0.last_mut();
        if let Some(same) = last.filter(|last| last.version == link.version) {
            return Some(std::mem::replace(same, link));
        }
        assert!(
            self.newest().is_none_or(|last| last.version < link.version),
            "versions ascend"
        );
        self.0.push(link);
        None
    }

    /// Puts the base's image in front, before the base is overwritten.
    pub(crate) fn push_base(&mut self, link: Link) {
        assert!(link.shield, "only a checkpoint puts images in front");
        assert!(
            self.oldest()
                .is_none_or(|first| link.version < first.version),
            "versions ascend"
        );
        self.0.insert(0, link);
    }

    /// The base is about to be overwritten: the image that equals it, if it is here, has to stand by itself.
    pub(crate) fn shield_base(&mut self, base: Version) {
        if let Some(own) = self.0.iter_mut().rev().find(|link| link.version <= base) {
            own.shield = true;
        }
    }

    /// Takes away what lies above `keep`.
    pub(crate) fn abort(&mut self, keep: Version) -> Vec<Link> {
        let from = self.0.partition_point(|link| link.version <= keep);
        self.0.split_off(from)
    }

    /// Takes away what nobody can look at any more.
    pub(crate) fn prune(&mut self, page: PageNumber, keep: &Keep) -> Vec<Link> {
        let versions: Vec<Version> = self.0.iter().map(|link| link.version).collect();
        let seen = |at: usize| {
            let (from, to) = (versions[at], versions.get(at + 1));
            let place = keep.looked_at.partition_point(|version| *version < from);
            keep.looked_at
                .get(place)
                .is_some_and(|one| to.is_none_or(|to| one < to))
        };
        let mut kept: Vec<bool> = (0..versions.len())
            .map(|at| versions[at] > keep.committed || seen(at))
            .collect();
        // Invariant 3: at or below the base's version, only what a reader older than the base needs is kept,
        // and then the base's own image with it.
        let within = keep.base_pages.contains(page);
        let in_base = if within {
            versions.partition_point(|version| *version <= keep.base)
        } else {
            0
        };
        if let Some(own) = in_base.checked_sub(1) {
            let older = |at: usize| {
                let place = keep
                    .looked_at
                    .partition_point(|version| *version < versions[at]);
                keep.looked_at
                    .get(place)
                    .is_some_and(|one| *one < versions[at + 1])
            };
            (0..own).for_each(|at| kept[at] = older(at));
            kept[own] = kept[..own].contains(&true) || (self.0[own].shield && seen(own));
        }
        let mut gone = Vec::new();
        let mut at = 0;
        self.0 = std::mem::take(&mut self.0)
            .into_iter()
            .filter_map(|link| {
                at += 1;
                if kept[at - 1] {
                    Some(link)
                } else {
                    gone.push(link);
                    None
                }
            })
            .collect();
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chain(versions: &[u64]) -> Chain {
        let link = |version: &u64| Link {
            version: Version(*version),
            shield: false,
            hash: *version,
            place: Place::Memory(Image::new()),
        };
        Chain(versions.iter().map(link).collect())
    }

    fn versions(chain: &Chain) -> Vec<u64> {
        chain.0.iter().map(|link| link.version.0).collect()
    }

    fn pruned(have: &[u64], committed: u64, looked_at: &[u64], base: u64) -> Vec<u64> {
        let mut chain = chain(have);
        let looked_at = looked_at.iter().map(|version| Version(*version)).collect();
        let (committed, base, base_pages) = (Version(committed), Version(base), PageCount(9));
        let page = PageNumber::new(1).expect("not 0");
        chain.prune(
            page,
            &Keep {
                committed,
                looked_at,
                base,
                base_pages,
            },
        );
        versions(&chain)
    }

    #[test]
    fn hot_pages_keep_what_is_looked_at() {
        assert_eq!(pruned(&[1, 2, 3, 4], 4, &[4], 0), [4]);
        assert_eq!(pruned(&[1, 2, 3, 4], 3, &[3], 0), [3, 4]);
        assert_eq!(pruned(&[1, 2, 3, 4], 4, &[2, 4], 0), [2, 4]);
    }

    #[test]
    fn what_the_base_holds_is_dropped_unless_an_older_reader_looks() {
        assert_eq!(pruned(&[1, 2, 3], 3, &[3], 3), Vec::<u64>::new());
        assert_eq!(pruned(&[1, 3], 3, &[1, 3], 3), [1, 3]);
        assert_eq!(pruned(&[1, 3, 5], 5, &[2, 5], 4), [1, 3, 5]);
        assert_eq!(pruned(&[3, 5], 5, &[4, 5], 4), [5]);
    }

    proptest! {
        /// Whatever is pruned, every version that someone may look at sees what it saw before.
        #[test]
        fn nobody_sees_a_difference(
            have in proptest::collection::btree_set(1u64..30, 0..10),
            mut looks in proptest::collection::btree_set(0u64..30, 0..5),
            committed in 0u64..30,
            base in 0u64..30,
        ) {
            looks.retain(|look| *look <= committed);
            looks.insert(committed);
            let base = base.min(committed);
            let have: Vec<u64> = have.into_iter().collect();
            // What the base file holds: the newest image at or below its version, or what was there before all of them.
            let in_base = have.iter().rev().find(|version| **version <= base).copied().unwrap_or(0);
            let sees = |chain: &[u64], at: u64| {
                chain.iter().rev().find(|version| **version <= at).copied().unwrap_or(in_base)
            };
            // A reader older than the base relies on its chain: the base's image before the oldest is in it, or it isn't older than all.
            let oldest = have.first().copied().unwrap_or(0);
            looks.retain(|look| *look >= base || *look >= oldest);
            let looked_at: Vec<u64> = looks.iter().copied().collect();
            let after = pruned(&have, committed, &looked_at, base);
            for look in looked_at.into_iter().chain(committed..30) {
                prop_assert_eq!(sees(&after, look), sees(&have, look), "at {} of {:?} after {:?}", look, have, after);
            }
        }
    }
}
