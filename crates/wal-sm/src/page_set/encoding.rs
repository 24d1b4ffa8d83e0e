//! The changes of one part in three encodings, and which one a leader takes.
//!
//! Each change begins with one number: bits 0 and 1 are the base (0 previous image, 1 zeros, 2 whole image), the rest is how many pages
//! lie between it and the change before (before the first: page 0, which doesn't exist). Then:
//!
//! | encoding | a change | good for |
//! | ---: | --- | --- |
//! | 0 runs | whole image: it; else its runs (module `runs`) | rows that are added or changed in place |
//! | 1 packed runs | a number, the length of the changes in encoding 0; then they, as one block of lz4 | text |
//! | 2 blocks | a number, 4 × n + d; d donors, a page number each; n bytes. n is 0: as in encoding 0, of a base that isn't a whole image. n is the page size: the image as it is. Else a block of lz4 that makes the image; its dictionary is the donors' images before the set, then the previous image if that is the base | bytes that moved, as in an index that takes a key in the middle of a page, or splits one (module `donors`) |
//!
//! A block of lz4 reaches back 65,535 bytes, which is why each page has a block and a dictionary of its own. With pages of 65,536
//! bytes it just misses the same place of the previous image; runs win there.

use super::bytes::{Reader, put_length, put_number};
use super::donors::{self, DONORS_MAX, Donors};
use super::runs::{self, Runs};
use super::{Base, Head, NewPage, Old, PART_BYTES_MAX, page_bytes};
use crate::PageModeError;
use crate::error::malformed;
use lz4_flex::block::{
    compress, compress_into_with_dict, decompress_into, decompress_into_with_dict,
    get_maximum_output_size,
};
use sqlrep_store::{Image, PageNumber};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of images and runs that a leader reads for one part beyond finding its runs, which reads every image once: about 20 ms
/// of one core. What would read more isn't tried. Bytes are counted, not time, so that the same pages give the same set.
pub const ENCODE_BYTES_MAX: usize = 16 << 20;

/// Blocks are tried if they read at most so many bytes of images for each byte of runs: below one byte in so many
/// changed there is little left to save, and it is all the work of a set of small updates.
const BLOCK_BYTES_PER_RUN_BYTE: usize = 48;

/// Runs of at most so many bytes are kept: a block would hardly be shorter.
const SMALL_RUNS_BYTES: usize = 32;

/// A page is rewritten if its runs take at least this part of it.
const REWRITTEN_PART: usize = 8;

/// lz4 makes at most so many bytes of one.
const LZ4_GROWTH_MAX: usize = 255;

/// How the changes of a part are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Runs,
    PackedRuns,
    Blocks,
}

impl Encoding {
    pub(super) fn id(self) -> u8 {
        match self {
            Self::Runs => 0,
            Self::PackedRuns => 1,
            Self::Blocks => 2,
        }
    }

    pub(super) fn of(id: u8) -> Result<Self, PageModeError> {
        match id {
            0 => Ok(Self::Runs),
            1 => Ok(Self::PackedRuns),
            2 => Ok(Self::Blocks),
            other => Err(malformed(format!("encoding {other}"))),
        }
    }
}

/// A change as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Delta {
    /// The image.
    Image(Image),
    /// Runs, looked through.
    Runs(Image),
    /// A block of lz4, not yet looked into: that takes its dictionary.
    Block { block: Image, donors: Donors },
}

impl Delta {
    /// Pages whose images before the set it takes besides its base.
    pub(super) fn donors(&self) -> impl Iterator<Item = PageNumber> {
        let donors = match self {
            Self::Block { donors, .. } => *donors,
            Self::Image(_) | Self::Runs(_) => Donors::default(),
        };
        donors.into_iter().flatten()
    }

    /// The image that it makes of its base (none: zeros, or a whole image) and its donors' images.
    pub(super) fn image(
        &self,
        base: Option<&[u8]>,
        donors: &[Image],
        page_bytes: usize,
    ) -> Result<Image, PageModeError> {
        match self {
            Self::Image(image) => Ok(image.clone()),
            Self::Runs(bytes) => {
                let mut image = base.map_or_else(|| vec![0; page_bytes], <[u8]>::to_vec);
                runs::apply(bytes, &mut image)?;
                Ok(image.into())
            }
            Self::Block { block, .. } => {
                let mut image = vec![0; page_bytes];
                let dictionary = dictionary(donors.iter().map(|image| &image[..]), base);
                let made = decompress_into_with_dict(block, &mut image, &dictionary);
                filled(made, page_bytes)?;
                Ok(image.into())
            }
        }
    }
}

/// What a block's matches reach back into; its end stands right before the image.
fn dictionary<'a>(
    donors: impl ExactSizeIterator<Item = &'a [u8]>,
    previous: Option<&'a [u8]>,
) -> Cow<'a, [u8]> {
    let previous = previous.unwrap_or_default();
    if donors.len() == 0 {
        return Cow::Borrowed(previous);
    }
    let images: Vec<&[u8]> = donors.chain([previous]).collect();
    Cow::Owned(images.concat())
}

fn filled(
    made: Result<usize, lz4_flex::block::DecompressError>,
    bytes: usize,
) -> Result<(), PageModeError> {
    match made {
        Ok(made) if made == bytes => Ok(()),
        Ok(made) => Err(malformed(format!(
            "a block of {made} instead of {bytes} bytes"
        ))),
        Err(error) => Err(malformed(error.to_string())),
    }
}

/// The shortest encoding of those that may be tried; the first of equals.
pub(super) fn encode(page_bytes: usize, pages: &[(PageNumber, &NewPage)]) -> (Encoding, Vec<u8>) {
    let runs = put_runs(page_bytes, pages);
    let block_bytes = block_bytes(page_bytes, pages, &runs);
    let tries_blocks = block_bytes <= runs.bytes.len().saturating_mul(BLOCK_BYTES_PER_RUN_BYTE)
        && runs.bytes.len() + block_bytes <= ENCODE_BYTES_MAX;
    let packed = Some((Encoding::PackedRuns, put_packed(&runs.bytes)));
    let rewritten = runs.rewritten(page_bytes);
    let blocks = || {
        (
            Encoding::Blocks,
            put_blocks(page_bytes, pages, &runs, &rewritten),
        )
    };
    let others: Vec<_> = [packed, tries_blocks.then(blocks)]
        .into_iter()
        .flatten()
        .collect();
    others
        .into_iter()
        .fold((Encoding::Runs, runs.bytes), |best, other| {
            if other.1.len() < best.1.len() {
                other
            } else {
                best
            }
        })
}

/// What [`put_blocks`] reads at most: both images of a page whose runs aren't small, and of a rewritten page both again for
/// its donors, and them.
fn block_bytes(page_bytes: usize, pages: &[(PageNumber, &NewPage)], runs: &RunList) -> usize {
    let tried = |delta: &Range<usize>| delta.len() > SMALL_RUNS_BYTES;
    let tried = pages
        .iter()
        .zip(&runs.deltas)
        .filter(|(_, delta)| tried(delta));
    let images: usize = tried
        .map(|((_, new), _)| 1 + usize::from(old(new).is_some()))
        .sum();
    (images + runs.rewritten(page_bytes).len() * (2 + DONORS_MAX)) * page_bytes
}

fn old(change: &NewPage) -> Option<&[u8]> {
    match &change.old {
        Old::Image(image) => Some(image),
        Old::Zeros | Old::Unknown => None,
    }
}

/// Appends numbers and bases of ascending pages.
struct Places {
    before: u32,
}

impl Places {
    fn put(&mut self, out: &mut Vec<u8>, page: PageNumber, base: Base) {
        let between = u64::from(page.get() - self.before - 1);
        self.before = page.get();
        let base = match base {
            Base::Previous => 0,
            Base::Zeros => 1,
            Base::Whole => 2,
        };
        put_number(out, between << 2 | base);
    }

    fn take(&mut self, reader: &mut Reader<'_>) -> Result<(PageNumber, Base), PageModeError> {
        let number = reader.number()?;
        let base = match number & 3 {
            0 => Base::Previous,
            1 => Base::Zeros,
            2 => Base::Whole,
            _ => return Err(malformed("a change without a base")),
        };
        let page = u64::from(self.before) + 1 + (number >> 2);
        let page = u32::try_from(page).ok().and_then(PageNumber::new);
        let page = page.ok_or_else(|| malformed("a page number above 32 bits"))?;
        self.before = page.get();
        Ok((page, base))
    }
}

/// Changes as runs.
pub(super) struct RunList {
    /// In encoding 0.
    pub(super) bytes: Vec<u8>,
    /// Where in them each page's runs are, or its image: those are one page long, and runs are shorter.
    deltas: Vec<Range<usize>>,
}

impl RunList {
    /// The places of the pages that have little in common with what they were.
    pub(super) fn rewritten(&self, page_bytes: usize) -> Vec<usize> {
        let deltas = self.deltas.iter().enumerate();
        let rewritten = deltas.filter(|(_, delta)| delta.len() >= page_bytes / REWRITTEN_PART);
        rewritten.map(|(at, _)| at).collect()
    }
}

pub(super) fn put_runs(page_bytes: usize, pages: &[(PageNumber, &NewPage)]) -> RunList {
    let zeros = vec![0; page_bytes];
    let (mut bytes, mut deltas, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    let mut places = Places { before: 0 };
    for (page, change) in pages {
        let base = base(change);
        runs.clear();
        if base != Base::Whole {
            runs::put(&mut runs, old(change).unwrap_or(&zeros), &change.new);
        }
        let whole = base == Base::Whole || runs.len() >= page_bytes;
        places.put(&mut bytes, *page, if whole { Base::Whole } else { base });
        let start = bytes.len();
        bytes.extend_from_slice(if whole { &change.new } else { &runs });
        deltas.push(start..bytes.len());
    }
    RunList { bytes, deltas }
}

fn base(change: &NewPage) -> Base {
    match change.old {
        Old::Image(_) => Base::Previous,
        Old::Zeros => Base::Zeros,
        Old::Unknown => Base::Whole,
    }
}

pub(super) fn put_packed(runs: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_length(&mut out, runs.len());
    out.extend(compress(runs));
    out
}

/// Each page as a block, as runs or as its image, whichever is shortest. Donors are sought for the pages at the places `rewritten`.
pub(super) fn put_blocks(
    page_bytes: usize,
    pages: &[(PageNumber, &NewPage)],
    runs: &RunList,
    rewritten: &[usize],
) -> Vec<u8> {
    let donors = donors::find(page_bytes, pages, rewritten);
    let olds = pages
        .iter()
        .filter_map(|(page, new)| Some((*page, old(new)?)));
    let olds: BTreeMap<PageNumber, &[u8]> = olds.collect();
    let mut room = vec![0; get_maximum_output_size(page_bytes)];
    let (mut out, mut places) = (Vec::new(), Places { before: 0 });
    for (at, (page, change)) in pages.iter().enumerate() {
        let delta = &runs.bytes[runs.deltas[at].clone()];
        let images = donors[at].iter().flatten().map(|donor| olds[donor]);
        let images: Vec<&[u8]> = images.collect();
        let dictionary = dictionary(images.into_iter(), old(change));
        let tried = delta.len() > SMALL_RUNS_BYTES;
        let block = tried.then(|| compressed(&change.new, &dictionary, &mut room));
        match block {
            Some(block) if block.len() < delta.len() => {
                places.put(&mut out, *page, base(change));
                put_block(&mut out, block, donors[at]);
            }
            _ if delta.len() == page_bytes => {
                places.put(&mut out, *page, Base::Whole);
                put_block(&mut out, &change.new, Donors::default());
            }
            _ => {
                places.put(&mut out, *page, base(change));
                put_block(&mut out, &[], Donors::default());
                out.extend_from_slice(delta);
            }
        }
    }
    out
}

fn compressed<'a>(image: &[u8], dictionary: &[u8], room: &'a mut [u8]) -> &'a [u8] {
    let made = compress_into_with_dict(image, room, dictionary);
    &room[..made.expect("there is room for what doesn't get smaller")]
}

fn put_block(out: &mut Vec<u8>, block: &[u8], donors: Donors) {
    let count = donors.iter().flatten().count();
    put_length(out, block.len() << 2 | count);
    for donor in donors.into_iter().flatten() {
        put_number(out, donor.get().into());
    }
    out.extend_from_slice(block);
}

/// Reads the changes of a part.
pub(super) fn decode(
    encoding: Encoding,
    head: &Head,
    changes: usize,
    body: Image,
) -> Result<Vec<super::PageChange>, PageModeError> {
    let body = match encoding {
        Encoding::PackedRuns => unpacked(&body)?,
        Encoding::Runs | Encoding::Blocks => body,
    };
    let delta = match encoding {
        Encoding::Blocks => take_block,
        Encoding::Runs | Encoding::PackedRuns => take_runs,
    };
    if changes > body.len() {
        return Err(malformed(format!(
            "{changes} changes in {} bytes",
            body.len()
        )));
    }
    let mut list = Vec::with_capacity(changes);
    let mut reader = Reader::new(&body);
    let mut places = Places { before: 0 };
    for _ in 0..changes {
        let (page, base) = places.take(&mut reader)?;
        if !head.count.contains(page) || page == head.page_size.lock_page() {
            return Err(malformed(format!("page {page} of {}", head.count.0)));
        }
        let delta = delta(&mut reader, &body, base, page_bytes(head.page_size))?;
        list.push(super::PageChange { page, base, delta });
    }
    if reader.rest().is_empty() {
        Ok(list)
    } else {
        Err(malformed("bytes behind the last change"))
    }
}

fn unpacked(body: &[u8]) -> Result<Image, PageModeError> {
    let mut reader = Reader::new(body);
    let length = reader.length(PART_BYTES_MAX)?;
    let block = reader.rest();
    if length > block.len().saturating_mul(LZ4_GROWTH_MAX) {
        return Err(malformed(format!(
            "{length} bytes in a block of {}",
            block.len()
        )));
    }
    let mut runs = vec![0; length];
    filled(decompress_into(block, &mut runs), length)?;
    Ok(runs.into())
}

fn take_runs(
    reader: &mut Reader<'_>,
    body: &Image,
    base: Base,
    page_bytes: usize,
) -> Result<Delta, PageModeError> {
    if base == Base::Whole {
        return Ok(Delta::Image(body.slice_ref(reader.bytes(page_bytes)?)));
    }
    let from = reader.rest();
    Runs::new(reader, page_bytes).skip()?;
    let length = from.len() - reader.rest().len();
    Ok(Delta::Runs(body.slice_ref(&from[..length])))
}

fn take_block(
    reader: &mut Reader<'_>,
    body: &Image,
    base: Base,
    page_bytes: usize,
) -> Result<Delta, PageModeError> {
    let both = reader.length(page_bytes << 2 | DONORS_MAX)?;
    let (length, count) = (both >> 2, both & 3);
    let mut donors = Donors::default();
    for donor in donors.iter_mut().take(count) {
        let page = PageNumber::new(reader.small()?);
        *donor = Some(page.ok_or_else(|| malformed("page 0 as a donor"))?);
    }
    if (length == 0 || length == page_bytes) && count > 0 {
        return Err(malformed("donors of a change that needs none"));
    }
    match (length, base) {
        (0, Base::Whole) => Err(malformed("a whole image of no bytes")),
        (0, _) => take_runs(reader, body, base, page_bytes),
        _ => {
            let block = body.slice_ref(reader.bytes(length)?);
            let is_image = length == page_bytes;
            Ok(if is_image {
                Delta::Image(block)
            } else {
                Delta::Block { block, donors }
            })
        }
    }
}
