//! Pages laid over a database: a transaction's own pages over the version it began on, a private writer's
//! over the version that it pinned.
//!
//! Promise: reading through a layer gives what a file would give after the same writes and cuts.
//! It doesn't know what lies below.

use sqlrep_store::{Image, PageCount, PageNumber};
use std::collections::BTreeMap;

/// Where a page's bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// In the layer.
    Here(&'a Image),
    /// Nowhere: the database grew over it without writing it. It reads as zeros.
    Zeros,
    /// In what lies below.
    Below,
    /// Past the end of the database.
    PastEnd,
}

/// Changed pages, and the size that they belong to.
///
/// Invariants:
/// 1. No page above `count` is in `pages`.
/// 2. `floor <= count`, and `floor` is the smallest size that the database had since the layer began: what lies below
///    shows through up to `floor` only. A page that was cut off and grown over again doesn't come back.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pages: BTreeMap<PageNumber, Image>,
    count: PageCount,
    floor: PageCount,
}

impl Layer {
    /// Nothing changed yet, over a database of `count` pages.
    pub(crate) fn over(count: PageCount) -> Self {
        Self {
            pages: BTreeMap::new(),
            count,
            floor: count,
        }
    }

    pub(crate) fn count(&self) -> PageCount {
        self.count
    }

    /// Distinct pages changed.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    pub(crate) fn page(&self, page: PageNumber) -> Option<&Image> {
        self.pages.get(&page)
    }

    pub(crate) fn place(&self, page: PageNumber) -> Place<'_> {
        if page.get() > self.count.0 {
            Place::PastEnd
        } else if let Some(image) = self.pages.get(&page) {
            Place::Here(image)
        } else if page.get() > self.floor.0 {
            Place::Zeros
        } else {
            Place::Below
        }
    }

    pub(crate) fn write(&mut self, page: PageNumber, image: Image) {
        self.count.0 = self.count.0.max(page.get());
        self.pages.insert(page, image);
    }

    /// Cuts the database, or grows it by zeros.
    pub(crate) fn resize(&mut self, count: PageCount) {
        if let Some(first_gone) = count.0.checked_add(1).and_then(PageNumber::new) {
            drop(self.pages.split_off(&first_gone));
        }
        self.count = count;
        self.floor.0 = self.floor.0.min(count.0);
    }

    /// Takes over what `upper`, a layer over this one, changed.
    pub(crate) fn merge(&mut self, upper: Self) {
        self.resize(upper.floor);
        self.count = upper.count;
        self.pages.extend(upper.pages);
    }

    /// Distinct pages that this layer and `upper` over it change together.
    pub(crate) fn len_with(&self, upper: &Self) -> usize {
        let both = upper
            .pages
            .keys()
            .filter(|page| self.pages.contains_key(page))
            .count();
        self.len() + upper.len() - both
    }

    /// All changed pages and the size. Pages that the database grew over without writing are given as `zeros`: unsaid,
    /// each replica would fill them with what its file has there. `skipped` is never one of them (the lock page).
    pub(crate) fn into_changes(
        mut self,
        zeros: &Image,
        skipped: Option<PageNumber>,
    ) -> (BTreeMap<PageNumber, Image>, PageCount) {
        for number in self.floor.0.saturating_add(1)..=self.count.0 {
            let page = PageNumber::new(number).expect("the range begins at 1");
            if Some(page) != skipped {
                self.pages.entry(page).or_insert_with(|| zeros.clone());
            }
        }
        (self.pages, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(number: u32) -> PageNumber {
        PageNumber::new(number).unwrap()
    }

    fn image(byte: u8) -> Image {
        Image::from(vec![byte; 4])
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u32, u8),
        Resize(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1..12_u32, 1..=u8::MAX).prop_map(|(number, byte)| Step::Write(number, byte)),
            1 => (0..12_u32).prop_map(Step::Resize),
        ]
    }

    /// A file: one byte per page.
    fn apply(file: &mut Vec<u8>, layer: &mut Layer, steps: &[Step]) {
        for step in steps {
            match *step {
                Step::Write(number, byte) => {
                    let at = number as usize - 1;
                    file.resize(file.len().max(at + 1), 0);
                    file[at] = byte;
                    layer.write(page(number), image(byte));
                }
                Step::Resize(count) => {
                    file.resize(count as usize, 0);
                    layer.resize(PageCount(count));
                }
            }
        }
    }

    fn read(layer: &Layer, below: &dyn Fn(u32) -> u8, number: u32) -> Option<u8> {
        match layer.place(page(number)) {
            Place::Here(image) => Some(image[0]),
            Place::Zeros => Some(0),
            Place::Below => Some(below(number)),
            Place::PastEnd => None,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Two layers over a base, one after the other merged, read as a file does; and the captured changes over the base
        /// give that file too.
        #[test]
        fn layers_read_as_a_file_does(
            base in 0..8_u32,
            first in proptest::collection::vec(step(), 0..12),
            second in proptest::collection::vec(step(), 0..12),
        ) {
            let bottom = |_: u32| 200_u8;
            let mut file = vec![200; base as usize];
            let mut lower = Layer::over(PageCount(base));
            apply(&mut file, &mut lower, &first);

            let mut upper = Layer::over(lower.count());
            apply(&mut file, &mut upper, &second);
            for number in 1..14 {
                let through = read(&upper, &|n| read(&lower, &bottom, n).unwrap(), number);
                prop_assert_eq!(through, file.get(number as usize - 1).copied());
            }
            let together = lower.len_with(&upper);
            lower.merge(upper);
            prop_assert!(lower.len() <= together);
            for number in 1..14 {
                prop_assert_eq!(read(&lower, &bottom, number), file.get(number as usize - 1).copied());
            }

            let (pages, count) = lower.into_changes(&image(0), None);
            prop_assert_eq!(count.0 as usize, file.len());
            let captured: Vec<u8> = (1..=count.0)
                .map(|n| pages.get(&page(n)).map_or(if n <= base { 200 } else { 99 }, |i| i[0]))
                .collect();
            prop_assert_eq!(captured, file);
        }
    }

    #[test]
    fn the_lock_page_is_never_captured() {
        let mut layer = Layer::over(PageCount(1));
        layer.resize(PageCount(4));
        let (pages, _) = layer.into_changes(&image(0), Some(page(3)));
        assert!(pages.keys().copied().eq([page(2), page(4)]));
    }
}
