//! What one entry of page mode carries: the pages that its transactions changed, as changes of named bases.
//!
//! | size | field |
//! | ---: | --- |
//! | 1 | format version, 1 |
//! | 1 | encoding of the changes, 0 to 2 (module `encoding`) |
//! | 1 | page size, as the power of two: 9 to 16 |
//! | number | which part of the set this is, counted from 1 |
//! | number | parts of the set |
//! | 1 | 1 if a predecessor follows, else 0 |
//! | 4 numbers | the predecessor: term, node, epoch, sequence |
//! | 4 numbers | the set itself: the same. Its term is the one it was made in |
//! | 8 | checksum of the whole database before the set |
//! | 8 | checksum of the whole database after it |
//! | number | pages of the database after it |
//! | number | changes in this part |
//! | n | the changes, ascending by page |
//! | 8 | xxh3 over everything before |
//!
//! A number is of variable length (module `bytes`). Nothing is longer than [`PART_BYTES_MAX`], and the images of one part
//! take at most [`PART_IMAGE_BYTES_MAX`], whatever their encoding saves: so nobody who reads a part needs more memory
//! than that, and a part whose pages don't get smaller is still a part. Larger sets are split ([`encode`]); every
//! part has the same head but for its number, a page is in one part only, and parts ascend by page.
//!
//! **Invariant.** What a set does to a page is written in the set: previous image, zeros or nothing as its base. A page that was
//! dropped and made again within one set has zeros as its base although the database before had an image of it.

mod apply;
pub(crate) mod bytes;
mod donors;
mod encoding;
mod read;
mod runs;
mod write;

pub use apply::{Applying, Ended, PageSource, apply};
pub use write::ENCODE_BYTES_MAX;

use crate::error::malformed;
use crate::{PageModeError, Tail};
use bytes::{Reader, put_length, put_number};
use encoding::Encoding;
use sqlrep_core::{NodeId, Term};
use sqlrep_store::{Checksum, Image, PageCount, PageNumber, PageSize};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

const FORMAT: u8 = 1;
const HASH_BYTES: usize = 8;

/// Images of the pages of one part, in bytes; the largest request that travels alone has the same bound.
pub const PART_IMAGE_BYTES_MAX: usize = 8 << 20;

/// A part as bytes: all its images as they are, with 5 bytes for each page's number and base, and the head.
pub const PART_BYTES_MAX: usize = PART_IMAGE_BYTES_MAX + 5 * (PART_IMAGE_BYTES_MAX / 512) + 256;

/// What a change starts from. Written with each change, never inferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The page's image before the set.
    Previous,
    /// A page of zeros.
    Zeros,
    /// Nothing: the change is the image.
    Whole,
}

/// Everything that a set says but its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The set that it follows; none for the first of a database.
    pub predecessor: Option<Tail>,
    /// The set itself: what is the tail once it is accepted. The term is that in which its leader made it.
    pub tail: Tail,
    /// Bytes of a page.
    pub page_size: PageSize,
    /// The whole database before it.
    pub base: Checksum,
    /// The whole database after it.
    pub post: Checksum,
    /// The database's size after it.
    pub count: PageCount,
}

/// Which of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Counted from 1.
    pub number: u32,
    /// How many there are, from 1.
    pub of: u32,
}

/// What a leader knows of a changed page from before the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Old {
    /// Its image in the database before the set.
    Image(Image),
    /// It is new, or was dropped in between: it starts from zeros.
    Zeros,
    /// Nothing that is at hand.
    Unknown,
}

/// A changed page, as a leader hands it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPage {
    /// What the change is told against.
    pub old: Old,
    /// The image after the set.
    pub new: Image,
}

/// One changed page of a set that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageChange {
    page: PageNumber,
    base: Base,
    delta: encoding::Delta,
}

impl PageChange {
    /// Which page.
    #[must_use]
    pub fn page(&self) -> PageNumber {
        self.page
    }

    /// What it starts from.
    #[must_use]
    pub fn base(&self) -> Base {
        self.base
    }
}

/// A set, or a part of one, that was read: its form is sound, and its pages lie within the database. Whether it continues the
/// tail ([`Tail::accepts`]) and fits the database ([`Applying`]) is asked afterwards, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSet {
    head: Head,
    part: Part,
    changes: Vec<PageChange>,
}

impl PageSet {
    /// Everything but the changes.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The term in which its leader made it.
    #[must_use]
    pub fn made_in(&self) -> Term {
        self.head.tail.term
    }

    /// Which part of the set this is.
    #[must_use]
    pub fn part(&self) -> Part {
        self.part
    }

    /// The changes, ascending by page.
    #[must_use]
    pub fn changes(&self) -> &[PageChange] {
        &self.changes
    }

    /// Which set it is, and which part of it, without a look at its changes: what the node needs that made it.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn head_of(set: &[u8]) -> Result<(Head, Part), PageModeError> {
        let mut reader = Reader::new(sealed(set)?);
        check_format(reader.byte()?)?;
        Encoding::of(reader.byte()?)?;
        take_head(&mut reader)
    }

    /// Reads what [`encode`] wrote, on this node or another. Allocates for the changes that the bytes hold, at most
    /// for [`PART_IMAGE_BYTES_MAX`] of pages, and for their unpacked runs, at most [`PART_BYTES_MAX`].
    ///
    /// # Errors
    ///
    /// [`PageModeError::Malformed`] for bytes that no release wrote, or that a later one did.
    pub fn decode(set: &Image) -> Result<Self, PageModeError> {
        let mut reader = Reader::new(sealed(set)?);
        check_format(reader.byte()?)?;
        let encoding = Encoding::of(reader.byte()?)?;
        let (head, part) = take_head(&mut reader)?;
        let changes = reader.length(pages_max(head.page_size))?;
        let body = set.slice_ref(reader.rest());
        let changes = read::decode(encoding, &head, changes, body)?;
        Ok(Self {
            head,
            part,
            changes,
        })
    }
}

fn check_format(format: u8) -> Result<(), PageModeError> {
    if format == FORMAT {
        Ok(())
    } else {
        Err(malformed(format!(
            "format {format}; this release reads {FORMAT}"
        )))
    }
}

/// The bytes before the hash, if it is theirs.
fn sealed(set: &[u8]) -> Result<&[u8], PageModeError> {
    if set.len() > PART_BYTES_MAX {
        return Err(malformed(format!(
            "{} bytes, at most {PART_BYTES_MAX} can be",
            set.len()
        )));
    }
    let (bytes, hash) = set
        .split_last_chunk::<HASH_BYTES>()
        .ok_or_else(|| malformed("it ends too early"))?;
    if xxh3_64(bytes) == u64::from_le_bytes(*hash) {
        Ok(bytes)
    } else {
        Err(malformed("another hash than it was written with"))
    }
}

/// Pages of one part, at most.
fn pages_max(size: PageSize) -> usize {
    PART_IMAGE_BYTES_MAX / page_bytes(size)
}

fn page_bytes(size: PageSize) -> usize {
    usize::try_from(size.bytes()).expect("a page size fits a usize")
}

fn take_head(reader: &mut Reader<'_>) -> Result<(Head, Part), PageModeError> {
    let size = reader.byte()?;
    let page_size = 1u32.checked_shl(u32::from(size)).and_then(PageSize::new);
    let page_size = page_size.ok_or_else(|| malformed(format!("2^{size} bytes for a page")))?;
    let (number, of) = (reader.small()?, reader.small()?);
    if number == 0 || number > of {
        return Err(malformed(format!("part {number} of {of}")));
    }
    let predecessor = match reader.byte()? {
        0 => None,
        1 => Some(take_tail(reader)?),
        other => return Err(malformed(format!("{other} predecessors"))),
    };
    let head = Head {
        predecessor,
        tail: take_tail(reader)?,
        page_size,
        base: Checksum(reader.fixed()?),
        post: Checksum(reader.fixed()?),
        count: PageCount(reader.small()?),
    };
    Ok((head, Part { number, of }))
}

fn take_tail(reader: &mut Reader<'_>) -> Result<Tail, PageModeError> {
    let range = |error: sqlrep_core::OutOfRange| malformed(error.to_string());
    Ok(Tail {
        term: Term::try_from(reader.number()?).map_err(range)?,
        node: NodeId::try_from(reader.number()?).map_err(range)?,
        epoch: reader.number()?,
        sequence: reader.number()?,
    })
}

fn put_head(out: &mut Vec<u8>, encoding: Encoding, head: &Head, part: Part) {
    let size = head.page_size.bytes().ilog2();
    out.extend([FORMAT, encoding.id(), size.to_le_bytes()[0]]);
    put_number(out, part.number.into());
    put_number(out, part.of.into());
    out.push(u8::from(head.predecessor.is_some()));
    for tail in head.predecessor.iter().chain([&head.tail]) {
        let numbers = [tail.term.0, tail.node.into(), tail.epoch, tail.sequence];
        numbers
            .into_iter()
            .for_each(|number| put_number(out, number));
    }
    out.extend(head.base.0.to_le_bytes());
    out.extend(head.post.0.to_le_bytes());
    put_number(out, head.count.0.into());
}

/// A set as the values of its entries, one for each part, in order; one part if the images take at most
/// [`PART_IMAGE_BYTES_MAX`]. Each part has the shorter one of the encodings that [`ENCODE_BYTES_MAX`] allows to try. The
/// bytes depend on the arguments alone.
///
/// # Panics
///
/// If an image isn't one page long, or a page lies beyond the database or is the lock page: no transaction changes such a page.
#[must_use]
pub fn encode(head: &Head, pages: &BTreeMap<PageNumber, NewPage>) -> Vec<Image> {
    let pages: Vec<(PageNumber, &NewPage)> = pages.iter().map(|(page, new)| (*page, new)).collect();
    let parts = parts(&pages, head.page_size, PART_IMAGE_BYTES_MAX);
    let part = |(part, pages): (Part, &[_])| encode_part(head, part, pages);
    parts.into_iter().map(part).collect()
}

/// What each part of a set holds, in order: images of at most `image_bytes_max` bytes, a page at least; one part at least.
pub(crate) fn parts<T>(pages: &[T], size: PageSize, image_bytes_max: usize) -> Vec<(Part, &[T])> {
    assert!(image_bytes_max <= PART_IMAGE_BYTES_MAX, "readers' bound");
    let pages_max = (image_bytes_max / page_bytes(size)).max(1);
    let mut parts: Vec<&[T]> = pages.chunks(pages_max).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    let of = u32::try_from(parts.len()).expect("fewer parts than pages");
    let numbered = (1..).zip(parts);
    numbered
        .map(|(number, pages)| (Part { number, of }, pages))
        .collect()
}

fn check(head: &Head, page: PageNumber, change: &NewPage) {
    assert!(
        head.count.contains(page) && page != head.page_size.lock_page(),
        "page {page} can be written"
    );
    let old = match &change.old {
        Old::Image(image) => Some(image),
        Old::Zeros | Old::Unknown => None,
    };
    for image in old.into_iter().chain([&change.new]) {
        assert_eq!(
            image.len(),
            page_bytes(head.page_size),
            "an image is a page long"
        );
    }
}

/// One part of a set as the value of its entry; panics as [`encode`] does.
pub(crate) fn encode_part(head: &Head, part: Part, pages: &[(PageNumber, &NewPage)]) -> Image {
    for (page, change) in pages {
        check(head, *page, change);
    }
    let (encoding, changes) = write::encode(page_bytes(head.page_size), pages);
    let mut out = Vec::with_capacity(128 + changes.len());
    put_head(&mut out, encoding, head, part);
    put_length(&mut out, pages.len());
    out.extend(changes);
    let hash = xxh3_64(&out);
    out.extend(hash.to_le_bytes());
    assert!(
        out.len() <= PART_BYTES_MAX,
        "no encoding is longer than the images"
    );
    out.into()
}

#[cfg(test)]
mod tests;
