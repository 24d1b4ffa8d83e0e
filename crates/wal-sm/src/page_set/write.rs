//! What a leader makes of changed pages: the shortest of the encodings that it may try.

use super::bytes::{put_length, put_number};
use super::donors::{self, DONORS_MAX, Donors};
use super::encoding::{Encoding, Places, dictionary};
use super::runs;
use super::{Base, NewPage, Old};
use lz4_flex::block::{compress, compress_into_with_dict, get_maximum_output_size};
use sqlrep_store::PageNumber;
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
    let mut places = Places::default();
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
    let (mut out, mut places) = (Vec::new(), Places::default());
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
