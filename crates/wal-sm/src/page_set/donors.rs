//! Where a rewritten page took its bytes from. When a B-tree page is split, SQLite spreads its cells anew over it and its
//! neighbours: what is new in one page was in another one before. Such pages are few, but without this they are most of the bytes of
//! inserts into a random index.
//!
//! Old images are sampled: of all their windows of 8 bytes those that a hash selects, about one in 16, wherever they
//! stand. The page that has most of a new image's samples is its first donor. Samples that push each other out, or
//! lie, cost bytes and nothing else: the set says which donors were taken.

use super::{NewPage, Old};
use sqlrep_store::PageNumber;

/// Donors of one page.
pub(super) const DONORS_MAX: usize = 3;

/// Pages whose images before the set stand in front of a page's own in its dictionary, in this order.
pub(super) type Donors = [Option<PageNumber>; DONORS_MAX];

/// A donor has at least so many of a page's samples.
const SAMPLES_MIN: u32 = 4;

/// How far a block of lz4 reaches back.
const REACH_BYTES: usize = 1 << 16;

const SLOT_BITS: u32 = 13;

/// Donors for each of `pages`; only those at the places `rewritten` give and take.
pub(super) fn find(
    page_bytes: usize,
    pages: &[(PageNumber, &NewPage)],
    rewritten: &[usize],
) -> Vec<Donors> {
    let mut donors = vec![Donors::default(); pages.len()];
    let olds: Vec<(PageNumber, &[u8])> =
        rewritten.iter().filter_map(|at| old(pages[*at])).collect();
    if olds.is_empty() {
        return donors;
    }
    let samples = Samples::of(&olds);
    for at in rewritten {
        let (page, change) = pages[*at];
        let own = usize::from(matches!(change.old, Old::Image(_)));
        let room = (REACH_BYTES / page_bytes).saturating_sub(1 + own);
        let mut found = samples.sources(&change.new, &olds);
        found.retain(|(donor, _)| *donor != page);
        found.truncate(room.min(DONORS_MAX));
        // The best one last: lz4 finds again best what it saw last.
        for (place, (donor, _)) in found.iter().rev().enumerate() {
            donors[*at][place] = Some(*donor);
        }
    }
    donors
}

fn old((page, change): (PageNumber, &NewPage)) -> Option<(PageNumber, &[u8])> {
    match &change.old {
        Old::Image(image) => Some((page, image)),
        Old::Zeros | Old::Unknown => None,
    }
}

/// Hashes of the selected windows of an image; a hash's top four bits are zero.
fn selected(image: &[u8]) -> impl Iterator<Item = u64> {
    let words = image
        .array_windows::<8>()
        .map(|bytes| u64::from_le_bytes(*bytes));
    words
        .filter(|word| *word != 0)
        .map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .filter(|hash| hash >> 60 == 0)
}

/// Which old image has a window; the last one that had a window of the same slot.
struct Samples {
    slots: Vec<(u64, usize)>,
}

impl Samples {
    fn of(olds: &[(PageNumber, &[u8])]) -> Self {
        let mut slots = vec![(0, 0); 1 << SLOT_BITS];
        for (at, (_, image)) in olds.iter().enumerate() {
            for hash in selected(image) {
                slots[slot(hash)] = (hash, at);
            }
        }
        Self { slots }
    }

    /// The old images that have many of `image`'s windows, most first.
    fn sources(&self, image: &[u8], olds: &[(PageNumber, &[u8])]) -> Vec<(PageNumber, u32)> {
        let mut counts = vec![0; olds.len()];
        for hash in selected(image) {
            let (known, at) = self.slots[slot(hash)];
            counts[at] += u32::from(known == hash);
        }
        let counted = olds.iter().map(|(page, _)| *page).zip(counts);
        let mut found: Vec<_> = counted.filter(|(_, count)| *count >= SAMPLES_MIN).collect();
        found.sort_by_key(|(page, count)| (std::cmp::Reverse(*count), *page));
        found
    }
}

fn slot(hash: u64) -> usize {
    let bits = hash >> (60 - SLOT_BITS);
    usize::try_from(bits).expect("a slot's number has few bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlrep_store::Image;

    fn number(page: u32) -> PageNumber {
        PageNumber::new(page).unwrap()
    }

    /// Bytes as cells with random keys are: none like another.
    fn noise(seed: u64) -> Vec<u8> {
        let words =
            (0..128u64).map(|at| ((seed << 32) + at + 1).wrapping_mul(0xd6e8_feb8_6659_fd93));
        words
            .flat_map(|word| (word ^ word >> 29).to_le_bytes())
            .collect()
    }

    #[test]
    fn a_split_page_is_the_donor_of_its_new_neighbour_and_not_its_own() {
        let new = |old: Old, new: Vec<u8>| NewPage {
            old,
            new: Image::from(new),
        };
        let old = |seed| Old::Image(noise(seed).into());
        let mut halves = noise(2);
        halves.rotate_left(504);
        let list = [
            (number(2), new(old(1), noise(1))),
            (number(5), new(old(2), noise(2))),
            (number(9), new(Old::Zeros, halves)),
        ];
        let pages: Vec<_> = list.iter().map(|(page, new)| (*page, new)).collect();
        let none = Donors::default();
        let one = [Some(number(5)), None, None];
        assert_eq!(find(1024, &pages, &[0, 1, 2]), [none, none, one]);
        assert_eq!(
            find(65536, &pages, &[0, 1, 2])[2],
            none,
            "out of lz4's reach"
        );
        assert_eq!(
            find(1024, &pages, &[0, 2]),
            [none; 3],
            "page 5 wasn't rewritten"
        );
    }
}
