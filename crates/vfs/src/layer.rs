//! Pages laid over a database: a transaction's own pages over the version it began on, a private writer's
//! over the version that it pinned.
//!
//! Promise: reading through a layer gives what a file would give after the same writes and cuts.
//! It doesn't know what lies below. Its images are with the writer's [`Images`], in memory or not; whoever ends a layer
//! gives them back.

use crate::images::{Images, Kept};
use sqlrep_store::{Image, PageCount, PageNumber, StoreError};
use std::collections::BTreeMap;

/// Where a page's bytes are.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    /// In the layer.
    Here(&'a Kept),
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
#[derive(Debug)]
pub(crate) struct Layer {
    pages: BTreeMap<PageNumber, Kept>,
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

    pub(crate) fn page(&self, page: PageNumber) -> Option<&Kept> {
        self.pages.get(&page)
    }

    pub(crate) fn place(&self, page: PageNumber) -> Place<'_> {
        if page.get() > self.count.0 {
            Place::PastEnd
        } else if let Some(kept) = self.pages.get(&page) {
            Place::Here(kept)
        } else if page.get() > self.floor.0 {
            Place::Zeros
        } else {
            Place::Below
        }
    }

    /// Changes a page. After an error it is as before, or unreadable.
    pub(crate) fn write(
        &mut self,
        images: &mut Images,
        page: PageNumber,
        image: Image,
    ) -> Result<(), StoreError> {
        match self.pages.get_mut(&page) {
            Some(kept) => images.replace(page, kept, image)?,
            None => {
                let kept = images.keep(page, image)?;
                self.pages.insert(page, kept);
            }
        }
        self.count.0 = self.count.0.max(page.get());
        Ok(())
    }

    /// Cuts the database, or grows it by zeros.
    pub(crate) fn resize(&mut self, images: &mut Images, count: PageCount) {
        if let Some(first_gone) = count.0.checked_add(1).and_then(PageNumber::new) {
            let gone = self.pages.split_off(&first_gone);
            gone.into_values().for_each(|kept| images.release(kept));
        }
        self.count = count;
        self.floor.0 = self.floor.0.min(count.0);
    }

    /// Takes over what `upper`, a layer over this one, changed.
    pub(crate) fn merge(&mut self, images: &mut Images, upper: Self) {
        self.resize(images, upper.floor);
        self.count = upper.count;
        for (page, kept) in upper.pages {
            if let Some(older) = self.pages.insert(page, kept) {
                images.release(older);
            }
        }
    }

    /// Ends the layer.
    pub(crate) fn release(self, images: &mut Images) {
        self.pages
            .into_values()
            .for_each(|kept| images.release(kept));
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

    /// All changed pages, ascending. Those that the database grew over without writing are given as `zeros`: unsaid,
    /// each replica would fill them with what its file has there. `skipped` is never one of them (the lock page).
    pub(crate) fn changes<'a>(
        &'a self,
        images: &'a Images,
        zeros: &'a Image,
        skipped: PageNumber,
    ) -> impl Iterator<Item = Result<(PageNumber, Image), StoreError>> + 'a {
        let within = self.pages.iter().map(|(page, kept)| (*page, Some(kept)));
        let floor = self.floor.0;
        let within = within.take_while(move |(page, _)| page.get() <= floor);
        let grown = floor.saturating_add(1)..=self.count.0;
        let grown = grown.map(|number| PageNumber::new(number).expect("the range begins at 1"));
        let grown = grown.filter(move |page| *page != skipped);
        let grown = grown.map(|page| (page, self.pages.get(&page)));
        within.chain(grown).map(|(page, kept)| {
            let image = kept.map_or_else(|| Ok(zeros.clone()), |kept| images.image(page, kept));
            Ok((page, image?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::tests::images;
    use proptest::prelude::*;
    use sqlrep_disk::SimulatedDisk;

    fn page(number: u32) -> PageNumber {
        PageNumber::new(number).unwrap()
    }

    fn image(byte: u8) -> Image {
        Image::from(vec![byte; 512])
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
    fn apply(file: &mut Vec<u8>, images: &mut Images, layer: &mut Layer, steps: &[Step]) {
        for step in steps {
            match *step {
                Step::Write(number, byte) => {
                    let at = number as usize - 1;
                    file.resize(file.len().max(at + 1), 0);
                    file[at] = byte;
                    layer.write(images, page(number), image(byte)).unwrap();
                }
                Step::Resize(count) => {
                    file.resize(count as usize, 0);
                    layer.resize(images, PageCount(count));
                }
            }
        }
    }

    fn read(
        (images, layer): (&Images, &Layer),
        below: &dyn Fn(u32) -> u8,
        number: u32,
    ) -> Option<u8> {
        match layer.place(page(number)) {
            Place::Here(kept) => Some(images.image(page(number), kept).unwrap()[0]),
            Place::Zeros => Some(0),
            Place::Below => Some(below(number)),
            Place::PastEnd => None,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Two layers over a base, one after the other merged, read as a file does; and the captured changes over the base
        /// give that file too, wherever the images are.
        #[test]
        fn layers_read_as_a_file_does(
            memory in 0..9_u64,
            base in 0..8_u32,
            first in proptest::collection::vec(step(), 0..12),
            second in proptest::collection::vec(step(), 0..12),
        ) {
            let bottom = |_: u32| 200_u8;
            let (mut images, room) = images(&SimulatedDisk::new(1), memory);
            let mut file = vec![200; base as usize];
            let mut lower = Layer::over(PageCount(base));
            apply(&mut file, &mut images, &mut lower, &first);

            let mut upper = Layer::over(lower.count());
            apply(&mut file, &mut images, &mut upper, &second);
            for number in 1..14 {
                let below = |n| read((&images, &lower), &bottom, n).unwrap();
                let through = read((&images, &upper), &below, number);
                prop_assert_eq!(through, file.get(number as usize - 1).copied());
            }
            let together = lower.len_with(&upper);
            lower.merge(&mut images, upper);
            prop_assert!(lower.len() <= together);
            for number in 1..14 {
                prop_assert_eq!(read((&images, &lower), &bottom, number), file.get(number as usize - 1).copied());
            }

            prop_assert_eq!(lower.count().0 as usize, file.len());
            let zeros = image(0);
            let changes: Vec<_> = lower.changes(&images, &zeros, page(99)).map(Result::unwrap).collect();
            prop_assert!(changes.is_sorted_by(|one, two| one.0 < two.0));
            let pages: BTreeMap<_, _> = changes.into_iter().collect();
            let captured: Vec<u8> = (1..=lower.count().0)
                .map(|n| pages.get(&page(n)).map_or(if n <= base { 200 } else { 99 }, |i| i[0]))
                .collect();
            prop_assert_eq!(captured, file);
            lower.release(&mut images);
            prop_assert_eq!(room.bytes().memory, 0);
        }
    }

    #[test]
    fn the_lock_page_is_never_captured() {
        let mut layer = Layer::over(PageCount(1));
        let (mut images, _) = images(&SimulatedDisk::new(1), 9);
        layer.resize(&mut images, PageCount(4));
        let zeros = image(0);
        let pages = layer.changes(&images, &zeros, page(3));
        assert!(pages.map(|change| change.unwrap().0).eq([page(2), page(4)]));
    }
}
