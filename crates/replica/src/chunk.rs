//! The chunks of a snapshot on the wire: one head, then pages in order.
//!
//! All numbers are little-endian. A chunk is at most [`CHUNK_BYTES_MAX`] long and ends with xxh3 over what
//! stands before, so that damage is found before a page of it is kept; the whole is proven by the database checksum.
//!
//! Head, once:
//!
//! | offset | size | field |
//! | ---: | ---: | --- |
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | kind, 0 |
//! | 2 | 2 | database id, 0 = `main` |
//! | 4 | 4 | page size in bytes |
//! | 8 | 4 | pages |
//! | 12 | 8 | checksum of the database |
//! | 20 | n | the mode's side state |
//! | 20+n | 8 | xxh3 |
//!
//! Pages:
//!
//! | offset | size | field |
//! | ---: | ---: | --- |
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | kind, 1 |
//! | 2 | k * (4 + page size) | page number and image, k times |
//! | end | 8 | xxh3 |

use bytes::{BufMut, Bytes, BytesMut};
use sqlrep_store::{Checksum, PageCount, PageNumber, PageSize};
use xxhash_rust::xxh3::xxh3_64;

/// No chunk is longer.
pub(crate) const CHUNK_BYTES_MAX: usize = 256 << 10;

const FORMAT: u8 = 1;
const HEAD: u8 = 0;
const PAGES: u8 = 1;
const HEAD_BYTES: usize = 20;
const HASH_BYTES: usize = 8;

/// What a snapshot says of itself before its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) page_size: PageSize,
    pub(crate) pages: PageCount,
    pub(crate) checksum: Checksum,
    /// The mode's part of the side state.
    pub(crate) mode: Bytes,
}

/// A chunk read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk<'a> {
    Head(Head),
    /// Whole images behind their numbers, as [`pages_of`] takes them apart.
    Pages(&'a [u8]),
}

/// Encodes a head. The mode's side state is a few dozen bytes in both modes, asserted to fit a chunk.
pub(crate) fn encode_head(head: &Head) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + head.mode.len() + HASH_BYTES);
    out.put_u8(FORMAT);
    out.put_u8(HEAD);
    out.put_u16_le(0);
    out.put_u32_le(head.page_size.bytes());
    out.put_u32_le(head.pages.0);
    out.put_u64_le(head.checksum.0);
    out.put_slice(&head.mode);
    seal(out)
}

/// Begins a chunk of pages.
pub(crate) fn begin_pages() -> BytesMut {
    let mut out = BytesMut::with_capacity(CHUNK_BYTES_MAX);
    out.put_u8(FORMAT);
    out.put_u8(PAGES);
    out
}

/// Whether one more page fits.
pub(crate) fn has_room(chunk: &BytesMut, page_size: PageSize) -> bool {
    chunk.len() + 4 + page_size.bytes() as usize + HASH_BYTES <= CHUNK_BYTES_MAX
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
        [FORMAT, HEAD, rest @ ..] => decode_head(rest).map(Chunk::Head),
        [FORMAT, PAGES, rest @ ..] => Ok(Chunk::Pages(rest)),
        [FORMAT, kind, ..] => Err(format!("a chunk of kind {kind}")),
        [format, ..] => Err(format!(
            "snapshot format {format}; this release reads {FORMAT}"
        )),
        [] => Err("an empty chunk".to_owned()),
    }
}

fn decode_head(rest: &[u8]) -> Result<Head, String> {
    let short = || "a head that is cut short".to_owned();
    let (database, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (page_bytes, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (pages, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (checksum, mode) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    if u16::from_le_bytes(*database) != 0 {
        return Err(format!("database {}", u16::from_le_bytes(*database)));
    }
    let page_bytes = u32::from_le_bytes(*page_bytes);
    Ok(Head {
        page_size: PageSize::new(page_bytes).ok_or(format!("a page size of {page_bytes} bytes"))?,
        pages: PageCount(u32::from_le_bytes(*pages)),
        checksum: Checksum(u64::from_le_bytes(*checksum)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(mode: Vec<u8>) -> Head {
        Head {
            page_size: PageSize::new(4096).unwrap(),
            pages: PageCount(7),
            checksum: Checksum(0x0123_4567_89ab_cdef),
            mode: mode.into(),
        }
    }

    #[test]
    fn pages_come_back_in_order() {
        let size = PageSize::new(512).unwrap();
        let mut chunk = begin_pages();
        for number in 1..=3u32 {
            assert!(has_room(&chunk, size));
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

    proptest! {
        #[test]
        fn a_head_comes_back(mode in proptest::collection::vec(any::<u8>(), 0..200)) {
            let head = head(mode);
            let bytes = encode_head(&head);
            prop_assert_eq!(decode(&bytes), Ok(Chunk::Head(head)));
        }

        #[test]
        fn a_flipped_byte_is_found(at in 0usize..48, bits in 1u8..) {
            let mut bytes = encode_head(&head(vec![1; 20])).to_vec();
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
    }
}
