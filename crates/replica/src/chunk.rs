//! The chunks of a snapshot on the wire: one head, the table of keys in parts if there is one, then pages in order.
//!
//! All numbers are little-endian. A chunk is at most [`CHUNK_BYTES_MAX`] long and ends with xxh3 over what
//! stands before, so that damage is found before a page of it is kept; the whole is proven by the database checksum.
//!
//! Head, once:
//!
//! | offset | size | field |
//! | ---: | ---: | --- |
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | kind: 0, or 2 if there is a table |
//! | 2 | 2 | database id, 0 = `main` |
//! | 4 | 4 | page size in bytes |
//! | 8 | 4 | pages |
//! | 12 | 8 | checksum of the database |
//! | 20 | 8 | only for kind 2: bytes of the table |
//! | | n | the mode's side state |
//! | end | 8 | xxh3 |
//!
//! Table:
//!
//! | offset | size | field |
//! | ---: | ---: | --- |
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | kind, 3 |
//! | 2 | n | the next part of it |
//! | end | 8 | xxh3 |
//!
//! Pages:
//!
//! | offset | size | field |
//! | ---: | ---: | --- |
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | kind, 1 |
//! | 2 | k * (4 + page size) | page number and image, k times |
//! | end | 8 | xxh3 |
//!
//! Pages of which the receiver has some, as it told ([`crate::offer`]):
//!
//! | offset | size | field |
//! | ---: | ---: | --- |
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | kind, 4 |
//! | 2 | | runs, one behind the other, ascending: |
//! | | 4 | number of its first page |
//! | | 2 | pages from there that are taken from what the receiver has |
//! | | 2 | pages behind them whose images follow |
//! | | n * page size | images |
//! | end | 8 | xxh3 |
//!
//! Which pages a chunk is about doesn't depend on what the receiver has.

use bytes::{BufMut, Bytes, BytesMut};
use sqlrep_store::{Checksum, PageCount, PageNumber, PageSize};
use xxhash_rust::xxh3::xxh3_64;

/// No chunk is longer.
pub(crate) const CHUNK_BYTES_MAX: usize = 256 << 10;

const FORMAT: u8 = 1;
const HEAD: u8 = 0;
const PAGES: u8 = 1;
const HEAD_WITH_TABLE: u8 = 2;
const TABLE: u8 = 3;
const RUNS: u8 = 4;
const HEAD_BYTES: usize = 20;
const HASH_BYTES: usize = 8;

/// A part of a table that fits a chunk.
pub(crate) const TABLE_PART_BYTES_MAX: usize = CHUNK_BYTES_MAX - 2 - HASH_BYTES;

/// No table is longer: four times the largest setting of its share, and a margin.
pub(crate) const TABLE_BYTES_MAX: u64 = 2 << 30;

/// What a snapshot says of itself before its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) page_size: PageSize,
    pub(crate) pages: PageCount,
    pub(crate) checksum: Checksum,
    /// Of the table that comes before the pages.
    pub(crate) table_bytes: u64,
    /// The mode's part of the side state.
    pub(crate) mode: Bytes,
}

/// A chunk read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk<'a> {
    Head(Head),
    /// A part of the table.
    Table(&'a [u8]),
    /// Whole images behind their numbers, as [`pages_of`] takes them apart.
    Pages(&'a [u8]),
    /// Images beside pages that are at hand, as [`runs_of`] takes them apart.
    Runs(&'a [u8]),
}

/// Pages that follow each other: first some that the receiver has, then some whose images are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    first: u32,
    at_hand: u16,
    sent: u16,
}

impl Run {
    fn end(&self) -> u32 {
        self.first + u32::from(self.at_hand) + u32::from(self.sent)
    }

    fn take_in(&mut self, is_at_hand: bool) {
        let count = if is_at_hand {
            &mut self.at_hand
        } else {
            &mut self.sent
        };
        *count += 1;
    }

    /// Those that the receiver has.
    pub(crate) fn at_hand(&self) -> impl Iterator<Item = PageNumber> + use<> {
        numbers(self.first, self.first + u32::from(self.at_hand))
    }

    /// Those whose images are sent.
    pub(crate) fn sent(&self) -> impl Iterator<Item = PageNumber> + use<> {
        numbers(self.first + u32::from(self.at_hand), self.end())
    }
}

fn numbers(from: u32, end: u32) -> impl Iterator<Item = PageNumber> + use<> {
    (from..end).map(|number| PageNumber::new(number).expect("runs begin at page 1 or above"))
}

/// The runs of the pages of a chunk, given in order with whether the receiver has them.
pub(crate) fn runs(pages: impl Iterator<Item = (PageNumber, bool)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (page, is_at_hand) in pages {
        let first = page.get();
        match runs.last_mut() {
            Some(run) if run.end() == first && !(is_at_hand && run.sent > 0) => {
                run.take_in(is_at_hand);
            }
            _ => {
                let (at_hand, sent) = (is_at_hand.into(), (!is_at_hand).into());
                runs.push(Run {
                    first,
                    at_hand,
                    sent,
                });
            }
        }
    }
    runs
}

/// Encodes a head. The mode's side state is a few dozen bytes in both modes, asserted to fit a chunk.
pub(crate) fn encode_head(head: &Head) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + 8 + head.mode.len() + HASH_BYTES);
    let with_table = head.table_bytes > 0;
    out.put_u8(FORMAT);
    out.put_u8(if with_table { HEAD_WITH_TABLE } else { HEAD });
    out.put_u16_le(0);
    out.put_u32_le(head.page_size.bytes());
    out.put_u32_le(head.pages.0);
    out.put_u64_le(head.checksum.0);
    if with_table {
        out.put_u64_le(head.table_bytes);
    }
    out.put_slice(&head.mode);
    seal(out)
}

/// Encodes a part of the table, at most [`TABLE_PART_BYTES_MAX`] long.
pub(crate) fn encode_table(part: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + part.len() + HASH_BYTES);
    out.put_u8(FORMAT);
    out.put_u8(TABLE);
    out.put_slice(part);
    seal(out)
}

/// Pages that fit a chunk.
pub(crate) fn pages_max(page_size: PageSize) -> usize {
    (CHUNK_BYTES_MAX - 2 - HASH_BYTES) / (4 + page_size.bytes() as usize)
}

/// Begins a chunk of pages.
pub(crate) fn begin_pages() -> BytesMut {
    let mut out = BytesMut::with_capacity(CHUNK_BYTES_MAX);
    out.put_u8(FORMAT);
    out.put_u8(PAGES);
    out
}

/// Begins a chunk of runs.
pub(crate) fn begin_runs() -> BytesMut {
    let mut out = BytesMut::with_capacity(CHUNK_BYTES_MAX);
    out.put_u8(FORMAT);
    out.put_u8(RUNS);
    out
}

/// Puts what stands before the images of a run.
pub(crate) fn put_run(out: &mut BytesMut, run: &Run) {
    out.put_u32_le(run.first);
    out.put_u16_le(run.at_hand);
    out.put_u16_le(run.sent);
}

/// Ends a chunk with its hash.
pub(crate) fn seal(mut chunk: BytesMut) -> Bytes {
    let hash = xxh3_64(&chunk);
    chunk.put_u64_le(hash);
    assert!(
        chunk.len() <= CHUNK_BYTES_MAX,
        "a chunk of {} bytes",
        chunk.len()
    );
    chunk.freeze()
}

/// Reads a chunk; the error says what doesn't fit.
pub(crate) fn decode(bytes: &[u8]) -> Result<Chunk<'_>, String> {
    if bytes.len() > CHUNK_BYTES_MAX {
        return Err(format!("a chunk of {} bytes", bytes.len()));
    }
    let (body, hash) = bytes
        .split_last_chunk::<HASH_BYTES>()
        .ok_or("a chunk without a hash")?;
    if u64::from_le_bytes(*hash) != xxh3_64(body) {
        return Err("a chunk's hash differs".to_owned());
    }
    match body {
        [FORMAT, HEAD, rest @ ..] => decode_head(rest, false).map(Chunk::Head),
        [FORMAT, HEAD_WITH_TABLE, rest @ ..] => decode_head(rest, true).map(Chunk::Head),
        [FORMAT, TABLE, part @ ..] => Ok(Chunk::Table(part)),
        [FORMAT, RUNS, body @ ..] => Ok(Chunk::Runs(body)),
        [FORMAT, PAGES, rest @ ..] => Ok(Chunk::Pages(rest)),
        [FORMAT, kind, ..] => Err(format!("a chunk of kind {kind}")),
        [format, ..] => Err(format!(
            "snapshot format {format}; this release reads {FORMAT}"
        )),
        [] => Err("an empty chunk".to_owned()),
    }
}

fn decode_head(rest: &[u8], with_table: bool) -> Result<Head, String> {
    let short = || "a head that is cut short".to_owned();
    let (database, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (page_bytes, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (pages, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (checksum, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (table_bytes, mode) = if with_table {
        rest.split_first_chunk::<8>().ok_or_else(short)?
    } else {
        (&[0; 8], rest)
    };
    if u16::from_le_bytes(*database) != 0 {
        return Err(format!("database {}", u16::from_le_bytes(*database)));
    }
    let page_bytes = u32::from_le_bytes(*page_bytes);
    Ok(Head {
        page_size: PageSize::new(page_bytes).ok_or(format!("a page size of {page_bytes} bytes"))?,
        pages: PageCount(u32::from_le_bytes(*pages)),
        checksum: Checksum(u64::from_le_bytes(*checksum)),
        table_bytes: u64::from_le_bytes(*table_bytes),
        mode: Bytes::copy_from_slice(mode),
    })
}

/// Takes the pages of a chunk apart.
pub(crate) fn pages_of(
    body: &[u8],
    page_size: PageSize,
) -> Result<impl Iterator<Item = Result<(PageNumber, &[u8]), String>>, String> {
    let stride = 4 + page_size.bytes() as usize;
    if body.is_empty() || !body.len().is_multiple_of(stride) {
        return Err(format!(
            "{} bytes of pages of {} bytes",
            body.len(),
            page_size.bytes()
        ));
    }
    Ok(body.chunks_exact(stride).map(|page| {
        let (number, image) = page.split_first_chunk::<4>().expect("a stride is longer");
        let number = u32::from_le_bytes(*number);
        PageNumber::new(number)
            .map(|number| (number, image))
            .ok_or("page 0".to_owned())
    }))
}

/// Takes the runs of a chunk apart; each with its images.
pub(crate) fn runs_of(mut body: &[u8], page_size: PageSize) -> Result<Vec<(Run, &[u8])>, String> {
    let (mut runs, mut pages_left, mut next) = (Vec::new(), pages_max(page_size), 1);
    while !body.is_empty() {
        let (run, rest) = run_of(body).ok_or("a cut run of pages")?;
        let pages = usize::from(run.at_hand) + usize::from(run.sent);
        let bytes = usize::from(run.sent) * page_size.bytes() as usize;
        if pages == 0 || pages > pages_left || run.first < next || bytes > rest.len() {
            return Err(format!("a run of pages that can't be: {run:?}"));
        }
        let (images, behind) = rest.split_at(bytes);
        runs.push((run, images));
        (pages_left, next, body) = (pages_left - pages, run.end(), behind);
    }
    if runs.is_empty() {
        return Err("no run of pages".to_owned());
    }
    Ok(runs)
}

/// None too if its pages are beyond all numbers.
fn run_of(bytes: &[u8]) -> Option<(Run, &[u8])> {
    let (first, bytes) = bytes.split_first_chunk()?;
    let (at_hand, bytes) = bytes.split_first_chunk()?;
    let (sent, bytes) = bytes.split_first_chunk()?;
    let run = Run {
        first: u32::from_le_bytes(*first),
        at_hand: u16::from_le_bytes(*at_hand),
        sent: u16::from_le_bytes(*sent),
    };
    let pages = u32::from(run.at_hand) + u32::from(run.sent);
    run.first.checked_add(pages).map(|_| (run, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(mode: Vec<u8>, table_bytes: u64) -> Head {
        Head {
            page_size: PageSize::new(4096).unwrap(),
            pages: PageCount(7),
            checksum: Checksum(0x0123_4567_89ab_cdef),
            table_bytes,
            mode: mode.into(),
        }
    }

    #[test]
    fn as_many_pages_as_fit_and_no_more() {
        for size in (9..=16).map(|bits| PageSize::new(1 << bits).unwrap()) {
            let bytes = |pages| 2 + pages * (4 + size.bytes() as usize) + HASH_BYTES;
            let pages = pages_max(size);
            assert!(bytes(pages) <= CHUNK_BYTES_MAX && bytes(pages + 1) > CHUNK_BYTES_MAX);
        }
    }

    #[test]
    fn pages_come_back_in_order() {
        let size = PageSize::new(512).unwrap();
        let mut chunk = begin_pages();
        for number in 1..=3u32 {
            chunk.put_u32_le(number);
            chunk.put_bytes(u8::try_from(number).unwrap(), 512);
        }
        let sealed = seal(chunk);
        let Chunk::Pages(body) = decode(&sealed).unwrap() else {
            panic!("not pages")
        };
        let pages: Vec<_> = pages_of(body, size).unwrap().map(Result::unwrap).collect();
        assert_eq!(pages.len(), 3);
        assert!(
            pages
                .iter()
                .all(|(number, image)| image.iter().all(|b| u32::from(*b) == number.get()))
        );
    }

    fn run((first, at_hand, sent): (u32, u16, u16)) -> Run {
        Run {
            first,
            at_hand,
            sent,
        }
    }

    /// A chunk of runs, with images of zeros, its hash right.
    fn of_runs(runs: &[(u32, u16, u16)]) -> Bytes {
        let mut out = begin_runs();
        for one in runs.iter().copied().map(run) {
            put_run(&mut out, &one);
            out.put_bytes(0, usize::from(one.sent) * 512);
        }
        let hash = xxh3_64(&out);
        out.put_u64_le(hash);
        out.freeze()
    }

    fn read_runs(chunk: &[u8]) -> Result<Vec<(Run, &[u8])>, String> {
        match decode(chunk)? {
            Chunk::Runs(body) => runs_of(body, PageSize::new(512).unwrap()),
            other => Err(format!("{other:?}")),
        }
    }

    /// Rule 11: what a receiver has is told apart from what is sent; a hole in the pages, the lock page perhaps, begins a run.
    #[test]
    fn pages_at_hand_and_pages_sent_make_runs() {
        let flags = [
            (1, true),
            (2, true),
            (3, false),
            (4, false),
            (5, true),
            (7, true),
            (8, false),
        ];
        let pages =
            flags.map(|(number, is_at_hand)| (PageNumber::new(number).unwrap(), is_at_hand));
        let expected = [(1, 2, 2), (5, 1, 0), (7, 1, 1)].map(run);
        assert_eq!(runs(pages.into_iter()), expected);
        let of =
            |pages: Vec<PageNumber>| pages.into_iter().map(PageNumber::get).collect::<Vec<_>>();
        assert_eq!(of(expected[0].at_hand().collect()), [1, 2]);
        assert_eq!(of(expected[0].sent().collect()), [3, 4]);
    }

    /// Rule 11: nothing is taken from what is at hand by a chunk that can't be.
    #[test]
    fn runs_that_can_not_be_are_refused() {
        let most = u16::try_from(pages_max(PageSize::new(512).unwrap())).unwrap();
        let refused = |runs: &[(u32, u16, u16)]| {
            let refused = read_runs(&of_runs(runs)).unwrap_err();
            refused.split(':').next().unwrap().to_owned()
        };
        let never = "a run of pages that can't be";
        assert_eq!(refused(&[(5, 2, 1), (7, 1, 0)]), never, "they overlap");
        assert_eq!(refused(&[(5, 2, 0), (1, 1, 0)]), never, "they go back");
        assert_eq!(refused(&[(0, 1, 0)]), never, "there is no page 0");
        assert_eq!(refused(&[(1, 0, 0)]), never, "it is empty");
        assert_eq!(refused(&[(1, most, 1)]), never, "more than a chunk's pages");
        assert_eq!(refused(&[(1, most, 0), (9999, 1, 0)]), never, "the same");
        assert_eq!(refused(&[(u32::MAX, 1, 0)]), "a cut run of pages");
        assert_eq!(refused(&[]), "no run of pages");
        let mut cut = begin_runs();
        put_run(&mut cut, &run((1, 1, 1)));
        cut.put_bytes(0, 511);
        assert!(read_runs(&seal(cut)).unwrap_err().starts_with(never));
        assert_eq!(read_runs(&of_runs(&[(1, most, 0)])).unwrap().len(), 1);
    }

    /// The bytes of `docs/formats.md`, "Chunks of a snapshot".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let mut expected =
            b"\x01\0\0\0\0\x10\0\0\x07\0\0\0\xef\xcd\xab\x89\x67\x45\x23\x01mode".to_vec();
        expected.extend(0xe0fc_f91c_5a1b_ac49u64.to_le_bytes());
        assert_eq!(encode_head(&head(b"mode".to_vec(), 0)), expected);
        let mut pages = begin_pages();
        pages.put_u32_le(5);
        pages.put_bytes(0xab, 512);
        let mut expected = b"\x01\x01\x05\0\0\0".to_vec();
        expected.extend([0xab; 512]);
        expected.extend(0x7078_7bb4_6ddd_092bu64.to_le_bytes());
        assert_eq!(seal(pages), expected);
        let mut expected = b"\x01\x04\x05\0\0\0\x02\0\x01\0".to_vec();
        expected.extend([0; 512]);
        expected.extend(0xca41_2b23_7f8d_66cfu64.to_le_bytes());
        assert_eq!(of_runs(&[(5, 2, 1)]), expected);
    }

    proptest! {
        #[test]
        fn a_head_comes_back(mode in proptest::collection::vec(any::<u8>(), 0..200), table_bytes in 0u64..3) {
            let head = head(mode, table_bytes);
            let bytes = encode_head(&head);
            prop_assert_eq!(decode(&bytes), Ok(Chunk::Head(head)));
        }

        #[test]
        fn a_flipped_byte_is_found(at in 0usize..48, bits in 1u8..) {
            let mut bytes = encode_head(&head(vec![1; 20], 0)).to_vec();
            let at = at % bytes.len();
            bytes[at] ^= bits;
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut sealed = BytesMut::from(&bytes[..]);
            let hash = xxh3_64(&bytes);
            sealed.put_u64_le(hash);
            let sealed = sealed.freeze();
            if let Ok(Chunk::Pages(body)) = decode(&sealed)
                && let Ok(pages) = pages_of(body, PageSize::new(512).unwrap())
            {
                prop_assert!(pages.count() <= 1);
            }
        }

        #[test]
        fn any_runs_are_read_without_a_panic(body in proptest::collection::vec(0u8..3, 0..2000)) {
            let mut sealed = begin_runs();
            sealed.put_slice(&body);
            let sealed = seal(sealed);
            if let Ok(runs) = read_runs(&sealed) {
                let pages = |run: &Run| run.at_hand().count() + run.sent().count();
                let pages: usize = runs.iter().map(|(run, _)| pages(run)).sum();
                prop_assert!(pages <= pages_max(PageSize::new(512).unwrap()));
            }
        }

        /// Rule 11: whatever the receiver has, all pages of a chunk that it doesn't have come with their own images, and fit.
        #[test]
        fn runs_come_back(flags in proptest::collection::vec(any::<bool>(), 1..=508), first in 1u32..2_000_000) {
            let numbers = (first..).map(|number| PageNumber::new(number).unwrap());
            let pages: Vec<_> = numbers.zip(flags).collect();
            let mut out = begin_runs();
            for run in runs(pages.iter().copied()) {
                put_run(&mut out, &run);
                for page in run.sent() {
                    out.put_bytes(page.get().to_le_bytes()[0], 512);
                }
            }
            prop_assume!(pages.iter().any(|(_, is_at_hand)| *is_at_hand));
            let sealed = seal(out);
            let mut back = Vec::new();
            for (run, images) in read_runs(&sealed).unwrap() {
                back.extend(run.at_hand().map(|page| (page, true)));
                for (page, image) in run.sent().zip(images.chunks_exact(512)) {
                    prop_assert!(image.iter().all(|byte| *byte == page.get().to_le_bytes()[0]));
                    back.push((page, false));
                }
            }
            prop_assert_eq!(back, pages);
        }
    }
}
