//! The changes of one part in three encodings. The module `write` chooses one, `read` reads them all.
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

use super::Base;
use super::bytes::{Reader, put_number};
use super::donors::Donors;
use super::runs;
use crate::PageModeError;
use crate::error::malformed;
use lz4_flex::block::decompress_into_with_dict;
use sqlrep_store::{Image, PageNumber};
use std::borrow::Cow;

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
            // A copy: a slice would keep the whole entry in memory for as long as this page lives.
            Self::Image(image) => Ok(Image::copy_from_slice(image)),
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
pub(super) fn dictionary<'a>(
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

/// Whether a block made what it had to.
pub(super) fn filled(
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

/// Where the last change was, to write and read numbers and bases of ascending pages.
#[derive(Default)]
pub(super) struct Places {
    before: u32,
}

impl Places {
    pub(super) fn put(&mut self, out: &mut Vec<u8>, page: PageNumber, base: Base) {
        let between = u64::from(page.get() - self.before - 1);
        self.before = page.get();
        let base = match base {
            Base::Previous => 0,
            Base::Zeros => 1,
            Base::Whole => 2,
        };
        put_number(out, between << 2 | base);
    }

    pub(super) fn take(
        &mut self,
        reader: &mut Reader<'_>,
    ) -> Result<(PageNumber, Base), PageModeError> {
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
