//! Numbers of variable length, and a reader that never reads beyond what it was given.
//!
//! A number is LEB128: seven bits a byte, the lowest first, the top bit set in all bytes but the last. The shortest form is
//! the only one. It isn't the encoding of the other formats, whose numbers from 251 on take three bytes: offsets
//! within a page are mostly between 128 and 16383.

use crate::PageModeError;
use crate::error::malformed;

/// Appends a number.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Appends a length or a place within a set.
pub(crate) fn put_length(out: &mut Vec<u8>, length: usize) {
    put_number(out, u64::try_from(length).expect("a length fits 64 bits"));
}

/// Reads from the front.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What wasn't read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], PageModeError> {
        let (front, rest) = self.rest.split_at_checked(length).ok_or_else(cut)?;
        self.rest = rest;
        Ok(front)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, PageModeError> {
        let (byte, rest) = self.rest.split_first().ok_or_else(cut)?;
        self.rest = rest;
        Ok(*byte)
    }

    pub(crate) fn fixed(&mut self) -> Result<u64, PageModeError> {
        let (word, rest) = self.rest.split_first_chunk().ok_or_else(cut)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*word))
    }

    pub(crate) fn number(&mut self) -> Result<u64, PageModeError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(malformed("a number above 64 bits"));
            }
            number |= bits << shift;
            if byte == 0 && shift > 0 {
                return Err(malformed("a number in a longer form than it needs"));
            }
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(malformed("a number above 64 bits"))
    }

    pub(crate) fn small(&mut self) -> Result<u32, PageModeError> {
        let number = self.number()?;
        u32::try_from(number).map_err(|_| malformed(format!("{number} is above 32 bits")))
    }

    /// A length that is at most `max`.
    pub(crate) fn length(&mut self, max: usize) -> Result<usize, PageModeError> {
        let number = self.number()?;
        let length = usize::try_from(number).ok().filter(|it| *it <= max);
        length.ok_or_else(|| malformed(format!("a length of {number}, at most {max} can be")))
    }
}

#[cold]
fn cut() -> PageModeError {
    malformed("it ends too early")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_has_one_form() {
        for bad in [
            &[0x80, 0][..],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            &[0x80],
            &[],
        ] {
            assert!(Reader::new(bad).number().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_number_comes_back(number: u64, shift in 0..64) {
            let number = number >> shift;
            let mut out = Vec::new();
            put_number(&mut out, number);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.number().unwrap(), number);
            prop_assert!(reader.rest().is_empty());
        }
    }
}
