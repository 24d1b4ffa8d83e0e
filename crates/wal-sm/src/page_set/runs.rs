//! Which bytes of a page changed: runs of new bytes against a base.
//!
//! | size | field |
//! | ---: | --- |
//! | number | length of the run, from 1; 0 ends the list |
//! | number | bytes since the end of the run before (from the page's begin for the first) that stay |
//! | length | the new bytes |

use super::bytes::{Reader, put_length};
use crate::PageModeError;
use crate::error::malformed;

/// So many equal bytes end a run: fewer cost less inside it than the two numbers of another one.
const EQUAL_BYTES_MIN: usize = 3;

/// Compared at once.
const STRIDE: usize = 32;

/// Appends the runs that make `new` of `old`; both are one page long.
pub(super) fn put(out: &mut Vec<u8>, old: &[u8], new: &[u8]) {
    let mut end = 0;
    while let Some(start) = next_difference(old, new, end) {
        let gap = start - end;
        end = run_end(old, new, start);
        put_length(out, end - start);
        put_length(out, gap);
        out.extend_from_slice(&new[start..end]);
    }
    out.push(0);
}

fn next_difference(old: &[u8], new: &[u8], from: usize) -> Option<usize> {
    let (old, new) = (&old[from..], &new[from..]);
    let strides = old.chunks(STRIDE).zip(new.chunks(STRIDE));
    let equal = strides.take_while(|(old, new)| old == new).count() * STRIDE;
    let (old, new) = (old.get(equal..)?, new.get(equal..)?);
    let within = old.iter().zip(new).position(|(old, new)| old != new)?;
    Some(from + equal + within)
}

/// Behind the last different byte before [`EQUAL_BYTES_MIN`] equal ones or the end of the page.
fn run_end(old: &[u8], new: &[u8], start: usize) -> usize {
    let mut end = start + 1;
    for at in start + 1..new.len() {
        if old[at] != new[at] {
            end = at + 1;
        } else if at + 1 - end >= EQUAL_BYTES_MIN {
            break;
        }
    }
    end
}

/// The runs of one page, in order.
pub(super) struct Runs<'a, 'b> {
    reader: &'b mut Reader<'a>,
    page_bytes: usize,
    end: usize,
}

impl<'a, 'b> Runs<'a, 'b> {
    pub(super) fn new(reader: &'b mut Reader<'a>, page_bytes: usize) -> Self {
        Self {
            reader,
            page_bytes,
            end: 0,
        }
    }

    /// Where the next run begins, and its bytes; none behind the last.
    pub(super) fn next(&mut self) -> Result<Option<(usize, &'a [u8])>, PageModeError> {
        let left = self.page_bytes - self.end;
        let length = self.reader.length(left)?;
        if length == 0 {
            return Ok(None);
        }
        let start = self.end + self.reader.length(left - length)?;
        self.end = start + length;
        Ok(Some((start, self.reader.bytes(length)?)))
    }

    /// Reads to the end of the list.
    pub(super) fn skip(mut self) -> Result<(), PageModeError> {
        while self.next()?.is_some() {}
        Ok(())
    }
}

/// Makes the new image in place of the base.
pub(super) fn apply(runs: &[u8], image: &mut [u8]) -> Result<(), PageModeError> {
    let mut reader = Reader::new(runs);
    let mut list = Runs::new(&mut reader, image.len());
    while let Some((start, bytes)) = list.next()? {
        image[start..start + bytes.len()].copy_from_slice(bytes);
    }
    if reader.rest().is_empty() {
        Ok(())
    } else {
        Err(malformed("bytes behind the last run of a page"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(old: &[u8], new: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, old, new);
        out
    }

    #[test]
    fn a_short_equal_stretch_stays_in_its_run_and_a_longer_one_ends_it() {
        assert_eq!(runs(b"aaaaaaaa", b"aaaaaaaa"), [0]);
        assert_eq!(runs(b"aaaaaaaa", b"baabaaaa"), b"\x04\0baab\0");
        assert_eq!(runs(b"aaaaaaaa", b"baaabaaa"), b"\x01\0b\x01\x03b\0");
        assert_eq!(runs(b"aaaaaaaa", b"aaaaaaab"), b"\x01\x07b\0");
    }

    #[test]
    fn a_run_beyond_the_page_is_refused() {
        for bad in [
            &b"\x09\0bbbbbbbbb\0"[..],
            b"\x01\x08b\0",
            b"\x04\x04bbbb\x01\0b\0",
            b"\x01\0",
            b"\x01\0b",
            b"\0\0",
        ] {
            assert!(apply(bad, &mut [0; 8]).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_page_comes_back(
            old in proptest::collection::vec(0..3u8, 512),
            changes in proptest::collection::vec((0..512usize, any::<u8>()), 0..80),
        ) {
            let mut new = old.clone();
            for (at, byte) in changes {
                new[at] = byte;
            }
            let mut image = old.clone();
            apply(&runs(&old, &new), &mut image).unwrap();
            prop_assert_eq!(image, new);
        }
    }
}
