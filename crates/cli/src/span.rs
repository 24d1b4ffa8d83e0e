//! A length of time as people write it: a whole number and `us`, `ms` or `s`.

use serde::Deserialize;
use std::str::FromStr;
use std::time::Duration;

/// A length of time, at most [`Span::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl Span {
    /// Longer is a mistake: a sync that lasts a minute is a broken disk.
    const MAX: Duration = Duration::from_secs(60);
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is no time up to 60s; write for example 500us or 4ms");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refused())?;
        let long = match unit {
            "us" => Duration::from_micros(number),
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            _ => return Err(refused()),
        };
        if long > Self::MAX {
            return Err(refused());
        }
        Ok(Self(long))
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_named() {
        for (text, micros) in [("500us", 500), ("4ms", 4000), ("1s", 1_000_000), ("0ms", 0)] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0, Duration::from_micros(micros));
        }
        for text in [
            "",
            "4",
            "ms",
            "4 ms",
            "-1ms",
            "1.5ms",
            "61s",
            "99999999999999999999us",
        ] {
            let error = text.parse::<Span>().unwrap_err();
            assert!(error.contains("500us"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,20}|[0-9]{1,30}(us|ms|s)") {
            text.parse::<Span>().ok();
        }
    }
}
