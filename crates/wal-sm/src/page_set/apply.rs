//! From the changes of a set to images, and the proof that they are the leader's.
//!
//! ```text
//!  Tail::accepts: the log decides ─► begin: base checksum ─► part, part … : each base is what the set says ─► end: growth, post checksum
//! ```
//!
//! Nothing here decides whether a set counts: every error, and every checksum that differs, says that this node, or the leader,
//! differs (safety rules 22 and 31). Where only checksums differ the images are what every other node has too that differs
//! from the leader alike, and the judge finds who is wrong. The caller shows nothing of the images before
//! [`Applying::end`] has answered.

use super::{Base, Head, PageChange, PageSet, Part, page_bytes};
use crate::PageModeError;
use sqlrep_store::{
    Change, Checksum, Image, PageCount, PageNumber, PageSize, StoreError, page_hash,
};
use std::collections::BTreeMap;

/// The database that a set is applied to, as it is before the set, for as long as the set is applied.
pub trait PageSource {
    /// Bytes of a page.
    fn page_size(&self) -> PageSize;

    /// Its size.
    fn count(&self) -> PageCount;

    /// Its checksum.
    fn checksum(&self) -> Checksum;

    /// A page within it that isn't the lock page.
    ///
    /// # Errors
    ///
    /// The store's.
    fn image(&self, page: PageNumber) -> Result<Image, StoreError>;

    /// The hash recorded for such a page, which is a part of the checksum; no look at the image.
    ///
    /// # Errors
    ///
    /// The store's.
    fn hash(&self, page: PageNumber) -> Result<u64, StoreError>;
}

/// A set that was applied whole.
#[derive(Debug)]
pub struct Ended {
    /// The database's size.
    pub count: PageCount,
    /// [`PageModeError::Base`] or [`PageModeError::Post`] if the database isn't the leader's.
    pub differs: Option<PageModeError>,
}

/// A set that is being applied, part by part. It holds no images, so a set of any size takes the same memory.
#[derive(Clone, Debug)]
pub struct Applying {
    head: Head,
    /// Checksum of the database before it.
    base: Checksum,
    parts: u32,
    /// The part that is due.
    next: u32,
    /// The last page that came.
    last: Option<PageNumber>,
    /// Pages that came and weren't there before.
    new_pages: u32,
    checksum: Checksum,
}

impl Applying {
    /// Begins with the head of a set, any part of it.
    ///
    /// # Errors
    ///
    /// Another page size than the database's.
    pub fn begin(set: &PageSet, source: &impl PageSource) -> Result<Self, PageModeError> {
        let (head, base) = (set.head, source.checksum());
        let (found, size) = (head.page_size, source.page_size());
        if found != size {
            return Err(PageModeError::PageSize { found, ours: size });
        }
        Ok(Self {
            head,
            base,
            parts: set.part.of,
            next: 1,
            last: None,
            new_pages: 0,
            checksum: base,
        })
    }

    /// The new images of the next part's pages.
    ///
    /// # Errors
    ///
    /// Another part than the one that is due, a base that isn't there or isn't what was recorded for it, a change that doesn't fit
    /// its base, or the store's. The set can't go on after any of them.
    pub fn part(
        &mut self,
        set: &PageSet,
        source: &impl PageSource,
    ) -> Result<BTreeMap<PageNumber, Image>, PageModeError> {
        self.take_turn(set)?;
        let mut images = BTreeMap::new();
        for change in &set.changes {
            images.insert(change.page, self.change(change, source)?);
        }
        Ok(images)
    }

    fn take_turn(&mut self, set: &PageSet) -> Result<(), PageModeError> {
        let first = set.changes.first().map(|change| change.page);
        let ascends = first.is_none_or(|first| self.last.is_none_or(|last| last < first));
        let due = set.part.number == self.next && set.part.of == self.parts;
        if !due || set.head != self.head || !ascends {
            return Err(PageModeError::Parts {
                found: set.part.number,
                parts: set.part.of,
                next: self.next,
            });
        }
        self.next = set.part.number.saturating_add(1);
        self.last = set.changes.last().map_or(self.last, |last| Some(last.page));
        Ok(())
    }

    fn change(
        &mut self,
        change: &PageChange,
        source: &impl PageSource,
    ) -> Result<Image, PageModeError> {
        let page = change.page;
        if source.count().contains(page) {
            self.checksum.0 ^= source.hash(page)?;
        } else {
            self.new_pages += 1;
            self.check_next(page, source)?;
        }
        let previous = match change.base {
            Base::Previous => Some(previous_of(page, source)?),
            Base::Zeros | Base::Whole => None,
        };
        let donors = change
            .delta
            .donors()
            .map(|donor| previous_of(donor, source));
        let donors: Vec<Image> = donors.collect::<Result<_, _>>()?;
        let page_bytes = page_bytes(self.head.page_size);
        let image = change
            .delta
            .image(previous.as_deref(), &donors, page_bytes)?;
        self.checksum.0 ^= page_hash(page, &image);
        Ok(image)
    }

    /// New pages follow each other: a part that claims a far one would make this node fill up to it.
    fn check_next(&self, page: PageNumber, source: &impl PageSource) -> Result<(), PageModeError> {
        let (before, lock) = (source.count(), self.head.page_size.lock_page());
        let has_lock = u32::from(lock < page && !before.contains(lock));
        let grown = page.get() - before.0 - has_lock;
        let held = self.new_pages;
        if grown == held {
            Ok(())
        } else {
            Err(PageModeError::Growth { grown, held })
        }
    }

    /// Ends the set.
    ///
    /// # Errors
    ///
    /// Parts or new pages that didn't come, or the store's.
    pub fn end(mut self, source: &impl PageSource) -> Result<Ended, PageModeError> {
        if u64::from(self.next) != u64::from(self.parts) + 1 {
            return Err(PageModeError::Parts {
                found: 0,
                parts: self.parts,
                next: self.next,
            });
        }
        self.check_growth(source.count())?;
        self.drop_pages(source)?;
        let count = self.head.count;
        let differs = self.differs();
        Ok(Ended { count, differs })
    }

    fn differs(&self) -> Option<PageModeError> {
        let (ours, recorded) = (self.base, self.head.base);
        if ours != recorded {
            return Some(PageModeError::Base { ours, recorded });
        }
        let (ours, recorded) = (self.checksum, self.head.post);
        (ours != recorded).then_some(PageModeError::Post { ours, recorded })
    }

    /// What the set says besides its changes.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The part that is due, and how many there are.
    #[must_use]
    pub fn due(&self) -> Part {
        Part {
            number: self.next,
            of: self.parts,
        }
    }

    /// Pages that SQLite never wrote are in the set all the same, as zeros.
    fn check_growth(&self, before: PageCount) -> Result<(), PageModeError> {
        let (lock, after) = (self.head.page_size.lock_page(), self.head.count);
        let has_lock = u32::from(after.contains(lock) && !before.contains(lock));
        let grown = after.0.saturating_sub(before.0) - has_lock;
        let held = self.new_pages;
        if held == grown {
            Ok(())
        } else {
            Err(PageModeError::Growth { grown, held })
        }
    }

    fn drop_pages(&mut self, source: &impl PageSource) -> Result<(), PageModeError> {
        let dropped = self.head.count.0.saturating_add(1)..=source.count().0;
        for page in dropped.filter_map(PageNumber::new) {
            if page != self.head.page_size.lock_page() && !self.head.count.contains(page) {
                self.checksum.0 ^= source.hash(page)?;
            }
        }
        Ok(())
    }
}

/// The image before the set, if it is the one whose hash stands in the checksum.
fn previous_of(page: PageNumber, source: &impl PageSource) -> Result<Image, PageModeError> {
    if !source.count().contains(page) || page == source.page_size().lock_page() {
        return Err(PageModeError::NoPrevious { page });
    }
    let image = source.image(page)?;
    let fits = image.len() == page_bytes(source.page_size());
    if fits && page_hash(page, &image) == source.hash(page)? {
        Ok(image)
    } else {
        Err(PageModeError::DamagedPrevious { page })
    }
}

/// Applies a set of one part: what it does to the database, and it is the leader's.
///
/// # Errors
///
/// Those of [`Applying`]; [`PageModeError::Parts`] for a part of a larger set; checksums that differ.
pub fn apply(set: &PageSet, source: &impl PageSource) -> Result<Change, PageModeError> {
    let mut applying = Applying::begin(set, source)?;
    let pages = applying.part(set, source)?;
    let Ended { count, differs } = applying.end(source)?;
    differs.map_or(Ok(Change { pages, count }), Err)
}
