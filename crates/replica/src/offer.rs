//! What a receiver tells of the pages it has: hashes of pages that follow each other.
//!
//! All numbers are little-endian.
//!
//! | offset | size | field |
//! | ---: | ---: | --- |
//! | 0 | 1 | format version, 1 |
//! | 1 | 4 | number of the first page |
//! | 5 | 8k | page hashes, k from 1 to 32768; 0: it isn't here |
//! | end | 8 | xxh3 over everything before |
//!
//! Instead of all that, no bytes at all: nothing more is here. A page whose hash happens to be 0 counts as not here.

use bytes::{BufMut, Bytes, BytesMut};
use sqlrep_store::{PageNumber, PageSize};
use std::collections::VecDeque;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of pages that one offer is about: what is read before it goes out.
const OFFER_BYTES: u32 = 16 << 20;

/// No offer tells more hashes: those of the smallest pages.
const HASHES_MAX: usize = OFFER_BYTES as usize / 512;

/// Neither side keeps more of them: the next offer comes while less than half of the last one is left.
const KEPT_HASHES_MAX: usize = 2 * HASHES_MAX;

const FORMAT: u8 = 1;
const HASH_BYTES: usize = 8;

/// Pages that one offer is about.
pub(crate) fn pages_max(page_size: PageSize) -> u32 {
    OFFER_BYTES / page_size.bytes()
}

/// Hashes of pages that follow each other: told and not yet passed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    /// The page of the first hash.
    first: u32,
    hashes: VecDeque<u64>,
}

impl Offered {
    /// Of `hashes` from page `first` on.
    pub(crate) fn of(first: u32, hashes: impl IntoIterator<Item = u64>) -> Self {
        let hashes = hashes.into_iter().collect();
        Self { first, hashes }
    }

    /// Pages from `next` on.
    pub(crate) fn left(&self, next: u32) -> u32 {
        self.end().saturating_sub(next.max(self.first))
    }

    /// The page behind the last.
    pub(crate) fn end(&self) -> u32 {
        let pages = u32::try_from(self.hashes.len()).expect("at most `KEPT_HASHES_MAX`");
        self.first.saturating_add(pages)
    }

    /// What was told of a page; none if it isn't there, or nothing was told.
    pub(crate) fn hash(&self, page: PageNumber) -> Option<u64> {
        let place = page.get().checked_sub(self.first)?;
        let hash = self.hashes.get(place as usize).copied();
        hash.filter(|hash| *hash != 0)
    }

    /// Goes on with `more`, and drops what lies before `next`. The error says why it doesn't fit.
    pub(crate) fn extend(&mut self, more: Self, next: u32) -> Result<(), String> {
        self.pass(next);
        if self.hashes.is_empty() {
            *self = more;
            return Ok(());
        }
        if more.first != self.end() {
            let (first, end) = (more.first, self.end());
            return Err(format!("it begins at page {first}, not at page {end}"));
        }
        if self.hashes.len() + more.hashes.len() > KEPT_HASHES_MAX {
            return Err("it comes too early".to_owned());
        }
        self.hashes.extend(more.hashes);
        Ok(())
    }

    fn pass(&mut self, next: u32) {
        let passed = next.saturating_sub(self.first) as usize;
        self.hashes.drain(..passed.min(self.hashes.len()));
        self.first = self.first.max(next);
    }

    /// Its bytes; it tells of one page at least.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(5 + (self.hashes.len() + 1) * HASH_BYTES);
        out.put_u8(FORMAT);
        out.put_u32_le(self.first);
        self.hashes.iter().for_each(|hash| out.put_u64_le(*hash));
        let hash = xxh3_64(&out);
        out.put_u64_le(hash);
        out.freeze()
    }

    /// Reads it back; the error says what doesn't fit.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (body, hash) = bytes
            .split_last_chunk::<HASH_BYTES>()
            .ok_or("it has no hash")?;
        if u64::from_le_bytes(*hash) != xxh3_64(body) {
            return Err("its hash differs".to_owned());
        }
        let hashes = match body {
            [FORMAT, hashes @ ..] => hashes,
            [format, ..] => return Err(format!("format {format}, this release knows {FORMAT}")),
            [] => return Err("it is empty".to_owned()),
        };
        let (first, hashes) = hashes.split_first_chunk::<4>().ok_or("it is cut off")?;
        let (hashes, rest) = hashes.as_chunks::<HASH_BYTES>();
        if hashes.is_empty() || hashes.len() > HASHES_MAX || !rest.is_empty() {
            let bytes = bytes.len();
            return Err(format!("{bytes} bytes of hashes"));
        }
        let first = u32::from_le_bytes(*first);
        let last = first.checked_add(u32::try_from(hashes.len()).expect("bounded before"));
        if first == 0 || last.is_none() {
            return Err(format!("it begins at page {first}"));
        }
        let hashes = hashes.iter().copied().map(u64::from_le_bytes);
        Ok(Self::of(first, hashes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(number: u32) -> PageNumber {
        PageNumber::new(number).unwrap()
    }

    /// Rule 11: hashes are found by their pages, and what was passed or never told isn't there.
    #[test]
    fn hashes_are_found_by_their_pages() {
        let mut offered = Offered::of(5, [50, 0, 70]);
        let told = |offered: &Offered| (4..9).map(|at| offered.hash(page(at))).collect::<Vec<_>>();
        assert_eq!(told(&offered), [None, Some(50), None, Some(70), None]);
        assert_eq!(
            (offered.left(1), offered.left(6), offered.left(9)),
            (3, 2, 0)
        );
        offered.extend(Offered::of(8, [80]), 6).unwrap();
        assert_eq!(told(&offered), [None, None, None, Some(70), Some(80)]);
        let gap = offered.extend(Offered::of(10, [1]), 6).unwrap_err();
        assert_eq!(gap, "it begins at page 10, not at page 9");
        offered.extend(Offered::of(20, [1]), 9).unwrap();
        assert_eq!((offered.hash(page(20)), offered.end()), (Some(1), 21));
    }

    #[test]
    fn no_more_is_kept_than_two_of_them() {
        let most = |first| Offered::of(first, vec![1; HASHES_MAX]);
        let mut offered = most(1);
        offered.extend(most(offered.end()), 1).unwrap();
        let early = offered.extend(Offered::of(offered.end(), [1]), 1);
        assert_eq!(early.unwrap_err(), "it comes too early");
        offered.extend(Offered::of(offered.end(), [1]), 2).unwrap();
    }

    /// The bytes of `docs/formats.md`, "Offers of pages".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let mut expected = b"\x01\x05\0\0\0\x22\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        expected.extend(0x1e24_48a9_b11d_7978u64.to_le_bytes());
        assert_eq!(Offered::of(5, [0x1122, 0]).encode(), expected);
    }

    fn sealed(mut body: Vec<u8>) -> Vec<u8> {
        body.extend(xxh3_64(&body).to_le_bytes());
        body
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let refused = |body: &[u8]| Offered::decode(&sealed(body.to_vec())).unwrap_err();
        let of = |first: u32, hashes: usize| {
            [&[FORMAT][..], &first.to_le_bytes(), &vec![7; hashes * 8]].concat()
        };
        assert_eq!(refused(&[]), "it is empty");
        assert_eq!(refused(&[9, 1]), "format 9, this release knows 1");
        assert_eq!(refused(&[FORMAT, 1]), "it is cut off");
        assert_eq!(refused(&of(1, 0)), "13 bytes of hashes");
        assert_eq!(refused(&of(0, 1)), "it begins at page 0");
        assert_eq!(refused(&of(u32::MAX, 1)), "it begins at page 4294967295");
        assert_eq!(refused(&of(1, HASHES_MAX + 1)), "262165 bytes of hashes");
        assert_eq!(refused(&of(1, 1)[..12]), "20 bytes of hashes");
        assert_eq!(Offered::decode(&[1, 2]).unwrap_err(), "it has no hash");
        let mut damaged = Offered::of(1, [1]).encode().to_vec();
        damaged[7] ^= 1;
        assert_eq!(Offered::decode(&damaged).unwrap_err(), "its hash differs");
        assert!(Offered::decode(&sealed(of(1, HASHES_MAX))).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_told_comes_back(first in 1..u32::MAX - 300, hashes in proptest::collection::vec(any::<u64>(), 1..300)) {
            let offered = Offered::of(first, hashes);
            prop_assert_eq!(Offered::decode(&offered.encode()), Ok(offered));
        }

        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..100), format in proptest::bool::ANY) {
            let body = if format { [vec![FORMAT], body].concat() } else { body };
            let _raw = Offered::decode(&body);
            if let Ok(offered) = Offered::decode(&sealed(body.clone())) {
                prop_assert_eq!(&offered.encode()[..], &sealed(body)[..]);
            }
        }
    }
}
