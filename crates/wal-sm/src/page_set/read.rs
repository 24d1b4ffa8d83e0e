//! Reads the changes of a part: bounded by what the bytes hold, and none of it believed.

use super::bytes::Reader;
use super::donors::{DONORS_MAX, Donors};
use super::encoding::{Delta, Encoding, Places, filled};
use super::runs::Runs;
use super::{Base, Head, PART_BYTES_MAX, PageChange, page_bytes};
use crate::PageModeError;
use crate::error::malformed;
use lz4_flex::block::decompress_into;
use sqlrep_store::{Image, PageNumber};

/// lz4 makes at most so many bytes of one.
const LZ4_GROWTH_MAX: usize = 255;

/// Reads the changes of a part.
pub(super) fn decode(
    encoding: Encoding,
    head: &Head,
    changes: usize,
    body: Image,
) -> Result<Vec<PageChange>, PageModeError> {
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
    let mut places = Places::default();
    for _ in 0..changes {
        let (page, base) = places.take(&mut reader)?;
        if !head.count.contains(page) || page == head.page_size.lock_page() {
            return Err(malformed(format!("page {page} of {}", head.count.0)));
        }
        let delta = delta(&mut reader, &body, base, page_bytes(head.page_size))?;
        list.push(PageChange { page, base, delta });
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
