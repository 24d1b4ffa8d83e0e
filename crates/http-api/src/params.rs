//! The query string, read as rqlite reads it: names are case-sensitive, the first of a repeated name counts, presence
//! switches a flag on whatever its value, and a bad value is refused before anything else is looked at.

use crate::duration;
use sqlrep_core::{ClusterId, LogIndex, ReadLevel};
use std::borrow::Cow;
use std::time::Duration;

const DURATIONS: [&str; 4] = ["timeout", "freshness", "db_timeout", "linearizable_timeout"];
const INTEGERS: [&str; 2] = ["retries", "trailing_logs"];

/// Parameters of a request.
#[derive(Debug, Default)]
pub(crate) struct Params<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Params<'a> {
    /// Reads and checks; the error is the text for the client.
    pub(crate) fn parse(raw: &'a str) -> Result<Self, String> {
        let mut params = Self::default();
        for piece in raw.split('&').filter(|piece| !piece.is_empty()) {
            if piece.contains(';') {
                return Err("invalid semicolon separator in query".to_owned());
            }
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            params.pairs.push((unescape(name)?, unescape(value)?));
        }
        params.check()?;
        Ok(params)
    }

    fn check(&self) -> Result<(), String> {
        if self.pairs.is_empty() {
            return Ok(());
        }
        if self.has("freshness_strict") && !self.has("freshness") {
            return Err("freshness_strict requires freshness".to_owned());
        }
        for name in DURATIONS {
            if self
                .get(name)
                .is_some_and(|text| duration::parse(text).is_none())
            {
                return Err(format!("{name} is not a valid duration"));
            }
        }
        for name in INTEGERS {
            if self
                .get(name)
                .is_some_and(|text| text.parse::<i64>().is_err())
            {
                return Err(format!("{name} is not a valid integer"));
            }
        }
        if self.get("q") == Some("") {
            return Err("query parameter not set".to_owned());
        }
        if self.has("min_index") && self.min_index().is_none() {
            return Err("min_index is not a valid log index".to_owned());
        }
        if self.has("cluster") && self.cluster().is_none() {
            return Err("cluster is not a valid cluster id".to_owned());
        }
        Ok(())
    }

    /// The first value of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    /// Whether it is there at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// None if it isn't given or is zero, which rqlite's clients send for "no limit".
    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        self.get(name)
            .and_then(duration::parse)
            .filter(|duration| !duration.is_zero())
    }

    /// `level`; weak where it is missing or unknown, as in rqlite.
    pub(crate) fn level(&self) -> ReadLevel {
        let text = self.get("level").unwrap_or_default();
        let is = |name: &str| text.eq_ignore_ascii_case(name);
        match () {
            () if is("none") => ReadLevel::None,
            () if is("linearizable") => ReadLevel::Linearizable,
            () if is("strong") => ReadLevel::Strong,
            () if is("auto") => ReadLevel::Auto,
            () => ReadLevel::Weak,
        }
    }

    /// `min_index`: our own.
    pub(crate) fn min_index(&self) -> Option<LogIndex> {
        let number: u64 = self.get("min_index")?.parse().ok()?;
        (number <= i64::MAX.cast_unsigned()).then_some(LogIndex(number))
    }

    /// `cluster`: the cluster that `min_index` was learnt from, sixteen hexadecimal digits; our own.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        let text = self.get("cluster")?;
        let hexadecimal = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = hexadecimal.then(|| u64::from_str_radix(text, 16).ok())?;
        number.map(ClusterId)
    }
}

/// Percent and plus decoding. Bytes that are no UTF-8 become U+FFFD.
fn unescape(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                bytes.push(hex(behind).ok_or_else(|| bad_escape(behind))?);
                rest = &behind[2..];
            }
            _ => bytes.push(byte),
        }
    }
    Ok(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn bad_escape(behind: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&behind[..behind.len().min(2)]);
    format!("invalid URL escape {:?}", format!("%{shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_the_first_one_counts() {
        let params = Params::parse("q=SELECT+%31&q=2&pretty&level=NONE&&x=%C3%A4").unwrap();
        assert_eq!(params.get("q"), Some("SELECT 1"));
        assert!(params.has("pretty") && !params.has("Pretty"));
        assert_eq!(params.level(), ReadLevel::None);
        assert_eq!(params.get("x"), Some("\u{e4}"));
    }

    #[test]
    fn bad_values_are_refused_with_rqlite_s_texts() {
        for (raw, text) in [
            ("freshness_strict", "freshness_strict requires freshness"),
            ("timeout=5", "timeout is not a valid duration"),
            ("freshness=", "freshness is not a valid duration"),
            ("db_timeout=x", "db_timeout is not a valid duration"),
            (
                "linearizable_timeout=1",
                "linearizable_timeout is not a valid duration",
            ),
            ("retries=one", "retries is not a valid integer"),
            ("trailing_logs=1.5", "trailing_logs is not a valid integer"),
            ("q=", "query parameter not set"),
            ("a;b", "invalid semicolon separator in query"),
            ("a=%zz", "invalid URL escape \"%zz\""),
            ("a=%4", "invalid URL escape \"%4\""),
            ("min_index=-1", "min_index is not a valid log index"),
            (
                "min_index=9223372036854775808",
                "min_index is not a valid log index",
            ),
            ("cluster=12", "cluster is not a valid cluster id"),
        ] {
            assert_eq!(Params::parse(raw).unwrap_err(), text);
        }
        assert!(Params::parse("freshness=0&freshness_strict&retries=-1&min_index=0").is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(raw in ".*") {
            if let Ok(params) = Params::parse(&raw) {
                params.level();
            }
        }
    }
}
