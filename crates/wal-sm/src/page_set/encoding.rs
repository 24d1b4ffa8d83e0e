//! The changes of one part in three encodings, and which one a leader takes.
//!
//! Each change begins with one number: bits 0 and 1 are the base (0 previous image, 1 zeros, 2 whole image), the rest is how many pages
//! lie between it and the change before (before the first: page 0, which doesn't exist). Then:
//!
//! | encoding | a change | good for |
//! | ---: | --- | --- |
//! | 0 runs | whole image: it; else its runs (module `runs`) | rows that are added or changed in place |
//! | 1 packed runs | a number, the length of the changes in encoding 0; then they, as one block of lz4 | text |
//! | 2 blocks | a number n; n bytes. n is 0: the base as it is. n is the page size: the image as it is. Else a block of lz4 that makes the image, with the previous image as dictionary if that is the base | bytes that moved within a page, as in an index that takes a key in its middle |
//!
//! A block of lz4 reaches back 65,535 bytes, which is why each page has a block and a dictionary of its own. With pages of 65,536
//! bytes it just misses the same place of the previous image; runs win there.

use super::bytes::{Reader, put_length, put_number};
use super::runs::{self, Runs};
use super::{Base, Head, NewPage, Old, PART_BYTES_MAX, page_bytes};
use crate::PageModeError;
use crate::error::malformed;
use lz4_flex::block::{
    compress, compress_into, compress_into_with_dict, decompress_into, decompress_into_with_dict,
    get_maximum_output_size,
};
use sqlrep_store::{Image, PageNumber};

/// Bytes of images and runs that a leader reads for one part beyond finding its runs, which reads every image once: about 20 ms
/// of one core. What would read more isn't tried. Bytes are counted, not time, so that the same pages give the same set.
pub const ENCODE_BYTES_MAX: usize = 16 << 20;

/// Blocks are tried if they read at most so many bytes of images for each byte of runs: below one byte in so many
/// changed there is little left to save, and it is all the work of a set of small updates.
const BLOCK_BYTES_PER_RUN_BYTE: usize = 48;

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
    /// The base is the image.
    Same,
    /// Runs, looked through.
    Runs(Image),
    /// A block of lz4, not yet looked into: that takes its dictionary.
    Block(Image),
}

impl Delta {
    /// The image that it makes of its base: none for a whole image, else one page long.
    pub(super) fn image(
        &self,
        base: Option<&[u8]>,
        page_bytes: usize,
    ) -> Result<Image, PageModeError> {
        let start = || base.map_or_else(|| vec![0; page_bytes], <[u8]>::to_vec);
        match self {
            Self::Image(image) => Ok(image.clone()),
            Self::Same => Ok(start().into()),
            Self::Runs(bytes) => {
                let mut image = start();
                runs::apply(bytes, &mut image)?;
                Ok(image.into())
            }
            Self::Block(block) => {
                let mut image = vec![0; page_bytes];
                let made = match base {
                    Some(base) => decompress_into_with_dict(block, &mut image, base),
                    None => decompress_into(block, &mut image),
                };
                filled(made, page_bytes)?;
                Ok(image.into())
            }
        }
    }
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
    let block_bytes = image_bytes(page_bytes, pages);
    let tries_blocks = block_bytes <= runs.len().saturating_mul(BLOCK_BYTES_PER_RUN_BYTE)
        && runs.len() + block_bytes <= ENCODE_BYTES_MAX;
    let packed = Some((Encoding::PackedRuns, put_packed(&runs)));
    let blocks = tries_blocks.then(|| (Encoding::Blocks, put_blocks(page_bytes, pages)));
    let tried = [packed, blocks].into_iter().flatten();
    tried.fold((Encoding::Runs, runs), |best, other| {
        if other.1.len() < best.1.len() {
            other
        } else {
            best
        }
    })
}

/// What [`put_blocks`] reads.
fn image_bytes(page_bytes: usize, pages: &[(PageNumber, &NewPage)]) -> usize {
    let old = |new: &NewPage| matches!(new.old, Old::Image(_));
    let images = pages.len() + pages.iter().filter(|(_, new)| old(new)).count();
    images * page_bytes
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

pub(super) fn put_runs(page_bytes: usize, pages: &[(PageNumber, &NewPage)]) -> Vec<u8> {
    let zeros = vec![0; page_bytes];
    let (mut out, mut delta) = (Vec::new(), Vec::new());
    let mut places = Places { before: 0 };
    for (page, change) in pages {
        let (base, old) = match &change.old {
            Old::Image(old) => (Base::Previous, &old[..]),
            Old::Zeros => (Base::Zeros, &zeros[..]),
            Old::Unknown => (Base::Whole, &[][..]),
        };
        delta.clear();
        if base != Base::Whole {
            runs::put(&mut delta, old, &change.new);
        }
        let whole = base == Base::Whole || delta.len() >= page_bytes;
        places.put(&mut out, *page, if whole { Base::Whole } else { base });
        out.extend_from_slice(if whole { &change.new } else { &delta });
    }
    out
}

pub(super) fn put_packed(runs: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_length(&mut out, runs.len());
    out.extend(compress(runs));
    out
}

pub(super) fn put_blocks(page_bytes: usize, pages: &[(PageNumber, &NewPage)]) -> Vec<u8> {
    let zeros = vec![0; page_bytes];
    let mut block = vec![0; get_maximum_output_size(page_bytes)];
    let mut out = Vec::new();
    let mut places = Places { before: 0 };
    for (page, change) in pages {
        let (base, old) = match &change.old {
            Old::Image(old) => (Base::Previous, Some(&old[..])),
            Old::Zeros => (Base::Zeros, Some(&zeros[..])),
            Old::Unknown => (Base::Whole, None),
        };
        places.put(&mut out, *page, base);
        let made = match (base, old) {
            (_, Some(old)) if *old == change.new[..] => Ok(0),
            (Base::Previous, Some(old)) => compress_into_with_dict(&change.new, &mut block, old),
            _ => compress_into(&change.new, &mut block),
        };
        let made = made.expect("there is room for what doesn't get smaller");
        let shorter = made < page_bytes;
        put_length(&mut out, made.min(page_bytes));
        out.extend_from_slice(if shorter { &block[..made] } else { &change.new });
    }
    out
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
    let length = reader.length(page_bytes)?;
    let bytes = body.slice_ref(reader.bytes(length)?);
    match (length, base) {
        (0, Base::Whole) => Err(malformed("a whole image of no bytes")),
        (0, _) => Ok(Delta::Same),
        (length, _) if length == page_bytes => Ok(Delta::Image(bytes)),
        _ => Ok(Delta::Block(bytes)),
    }
}
