//! Names for pages, sizes, versions and positions.

use std::fmt;
use std::num::NonZeroU32;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A page's bytes, exactly one page long.
pub type Image = bytes::Bytes;

/// A page number; SQLite counts pages from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNumber(NonZeroU32);

impl PageNumber {
    /// None for 0.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Counted from 0, as arrays are.
    pub(crate) fn index(self) -> usize {
        self.get() as usize - 1
    }

    /// Where the page begins in a file of pages, in bytes.
    pub(crate) fn offset(self, size: PageSize) -> u64 {
        (u64::from(self.get()) - 1) * u64::from(size.bytes())
    }
}

impl fmt::Display for PageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// Bytes of a page: a power of two from 512 to 65536 (<https://sqlite.org/fileformat2.html>, section 1.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u32);

/// The byte that SQLite locks in other deployments; the page that holds it is never written.
const LOCK_BYTE: u32 = 1 << 30;

impl PageSize {
    /// SQLite's default, 4096.
    pub const DEFAULT: Self = Self(4096);

    /// None if SQLite has no such page size.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes >= 512 && bytes <= 65536 && bytes.is_power_of_two() {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// The page that is never written, never summed and never sent.
    #[must_use]
    pub const fn lock_page(self) -> PageNumber {
        PageNumber::new(LOCK_BYTE / self.0 + 1).expect("one more than a number")
    }
}

/// A database's size in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageCount(pub u32);

impl PageCount {
    /// Whether `page` lies within.
    #[must_use]
    pub const fn contains(self, page: PageNumber) -> bool {
        page.get() <= self.0
    }

    /// The length of a file of that many pages, in bytes.
    pub(crate) fn file_bytes(self, size: PageSize) -> u64 {
        u64::from(self.0) * u64::from(size.bytes())
    }
}

/// Finished transactions, counted since the store was opened. Not replicated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

/// Where an entry stands in the log. The order is the log's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Term of the entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

/// XOR over the hashes of all pages but the lock page; an empty database has 0. Equal databases have equal
/// checksums, and one page more or less changes it without looking at the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum(pub u64);

impl Checksum {
    /// Adds a page's hash, or takes it away.
    pub(crate) fn toggle(&mut self, hash: u64) {
        self.0 ^= hash;
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The hash of one page: xxh3 with the page number as seed, so that equal pages in different places differ.
#[must_use]
pub fn page_hash(page: PageNumber, image: &[u8]) -> u64 {
    xxh3_64_with_seed(image, u64::from(page.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_sqlites() {
        let good: Vec<u32> = (0..=70_000)
            .filter(|bytes| PageSize::new(*bytes).is_some())
            .collect();
        assert_eq!(good, [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]);
        assert_eq!(PageSize::DEFAULT.lock_page().get(), 262_145);
        assert_eq!(PageSize::new(65536).unwrap().lock_page().get(), 16_385);
    }

    #[test]
    fn equal_pages_in_different_places_have_different_hashes() {
        let (one, two) = (PageNumber::new(1).unwrap(), PageNumber::new(2).unwrap());
        assert_ne!(page_hash(one, &[0; 512]), page_hash(two, &[0; 512]));
    }

    /// The hashes of `docs/formats.md`, "Checksums": they stand in every `main.sums`.
    #[test]
    fn hashes_stay_what_they_are() {
        let hash = |page| page_hash(PageNumber::new(page).unwrap(), &[0; 512]);
        assert_eq!(
            [hash(1), hash(2)],
            [0x8a3b_1157_7f6f_69db, 0xbf6e_aa6c_73c0_f547]
        );
    }
}
