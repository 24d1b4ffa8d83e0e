//! Dates as rqlite renders them: what stands in a column declared `date`, `datetime` or `timestamp` comes out as
//! RFC 3339, in UTC unless the text names an offset.
//!
//! Texts are read by the nine layouts of rqlite's SQLite driver; hours may have one digit, seconds a fraction in
//! whatever layout, as in Go. It computes nothing with time zones.

use std::io::Write;

/// What a text that is no date shows as: Go's zero time.
const ZERO: &[u8] = b"\"0001-01-01T00:00:00Z\"";

/// Above this size an integer counts milliseconds, else seconds.
const SECONDS_MAX: i64 = 1_000_000_000_000;

/// Writes the date of a text, with quotes.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    match Date::parse(text.strip_suffix('Z').unwrap_or(text)) {
        Some(date) => date.write(out),
        None => out.extend_from_slice(ZERO),
    }
}

/// Writes the date of an integer, with quotes. One beyond the year 9999, which RFC 3339 can't name, stays a number.
pub(crate) fn integer(out: &mut Vec<u8>, number: i64) {
    let millis = if (-SECONDS_MAX..=SECONDS_MAX).contains(&number) {
        i128::from(number) * 1000
    } else {
        i128::from(number)
    };
    match unix_millis(millis) {
        Some(date) => date.write(out),
        None => crate::json::integer(out, number),
    }
}

/// The date of a moment, without quotes; empty beyond the year 9999.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    let mut out = Vec::new();
    if let Some(date) = unix_millis(i128::from(unix_ms)) {
        date.write(&mut out);
    }
    let text = String::from_utf8(out).expect("a date is ASCII");
    text.trim_matches('"').to_owned()
}

#[derive(Default)]
struct Date {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    nanos: u32,
    /// Minutes east of UTC.
    offset: i32,
}

impl Date {
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut date = Self {
            year: fixed(&mut rest, 4)?,
            month: punctuated(&mut rest, '-')?,
            day: punctuated(&mut rest, '-')?,
            ..Self::default()
        };
        if !rest.is_empty() {
            rest = rest.strip_prefix([' ', 'T'])?;
            date.clock(&mut rest)?;
        }
        (rest.is_empty() && date.exists()).then_some(date)
    }

    fn clock(&mut self, rest: &mut &str) -> Option<()> {
        let digits = rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
        self.hour = fixed(rest, digits.max(1))?;
        self.minute = punctuated(rest, ':')?;
        if rest.is_empty() {
            return Some(());
        }
        self.second = punctuated(rest, ':')?;
        self.nanos = fraction(rest);
        if rest.is_empty() {
            return Some(());
        }
        let sign = if rest.starts_with('-') { -1 } else { 1 };
        *rest = rest.strip_prefix(['+', '-'])?;
        let (hours, minutes) = (fixed(rest, 2)?, punctuated(rest, ':')?);
        self.offset = sign * i32::try_from(hours * 60 + minutes).ok()?;
        (hours <= 24 && minutes <= 60 && self.offset.abs() < 24 * 60).then_some(())
    }

    fn exists(&self) -> bool {
        let days = match self.month {
            2 if self.year.is_multiple_of(4)
                && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400)) =>
            {
                29
            }
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        (1..=days).contains(&self.day) && self.hour < 24 && self.minute < 60 && self.second < 60
    }

    fn write(&self, out: &mut Vec<u8>) {
        let Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
            ..
        } = self;
        write!(
            out,
            "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )
        .expect("memory takes any bytes");
        if self.nanos > 0 {
            let digits = format!("{:09}", self.nanos);
            out.push(b'.');
            out.extend_from_slice(digits.trim_end_matches('0').as_bytes());
        }
        if self.offset == 0 {
            out.extend_from_slice(b"Z\"");
            return;
        }
        let sign = if self.offset < 0 { '-' } else { '+' };
        let minutes = self.offset.unsigned_abs();
        write!(out, "{sign}{:02}:{:02}\"", minutes / 60, minutes % 60)
            .expect("memory takes any bytes");
    }
}

/// Exactly so many digits.
fn fixed(rest: &mut &str, digits: usize) -> Option<u32> {
    let (number, behind) = rest.split_at_checked(digits)?;
    *rest = behind;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse().ok()
}

/// A separator and two digits.
fn punctuated(rest: &mut &str, separator: char) -> Option<u32> {
    *rest = rest.strip_prefix(separator)?;
    fixed(rest, 2)
}

/// Nanoseconds of a fraction, if one follows; more than nine digits are cut off.
fn fraction(rest: &mut &str) -> u32 {
    let Some(behind) = rest.strip_prefix(['.', ',']) else {
        return 0;
    };
    let count = behind.bytes().take_while(u8::is_ascii_digit).count();
    if count == 0 {
        return 0;
    }
    let (digits, behind) = behind.split_at(count);
    *rest = behind;
    let digit = |at: usize| {
        digits
            .as_bytes()
            .get(at)
            .map_or(0, |digit| u32::from(digit - b'0'))
    };
    (0..9).fold(0, |nanos, at| nanos * 10 + digit(at))
}

/// None before the year 0 and beyond 9999. Days to dates after Howard Hinnant's `civil_from_days`.
fn unix_millis(millis: i128) -> Option<Date> {
    let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    let number = |number: i128| u32::try_from(number).ok();
    let date = Date {
        year: number(year)?,
        month: number(month)?,
        day: number(day_of_year - (153 * shifted + 2) / 5 + 1)?,
        hour: number(of_day / 3_600_000)?,
        minute: number(of_day / 60_000 % 60)?,
        second: number(of_day / 1000 % 60)?,
        nanos: number(of_day % 1000 * 1_000_000)?,
        offset: 0,
    };
    (date.year <= 9999).then_some(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_are_read_by_nine_layouts() {
        for (from, to) in [
            ("2004-02-14", "2004-02-14T00:00:00Z"),
            ("2004-02-14 07:15:00", "2004-02-14T07:15:00Z"),
            ("2021-10-22 19:39:32.016087", "2021-10-22T19:39:32.016087Z"),
            ("2004-02-14T07:15", "2004-02-14T07:15:00Z"),
            ("2004-02-14 7:15", "2004-02-14T07:15:00Z"),
            ("2004-02-14T07:15:00Z", "2004-02-14T07:15:00Z"),
            (
                "2004-02-14T07:15:00.1234567891Z",
                "2004-02-14T07:15:00.123456789Z",
            ),
            ("2004-02-14 07:15:00+00:00", "2004-02-14T07:15:00Z"),
            (
                "2004-02-14 07:15:00.500-05:30",
                "2004-02-14T07:15:00.5-05:30",
            ),
            ("2004-02-29", "2004-02-29T00:00:00Z"),
            ("2003-02-29", "0001-01-01T00:00:00Z"),
            ("fiona", "0001-01-01T00:00:00Z"),
            ("", "0001-01-01T00:00:00Z"),
            ("2004-02-14 24:00", "0001-01-01T00:00:00Z"),
            ("2004-02-14 07:15:00 x", "0001-01-01T00:00:00Z"),
            ("2004-02-14 07:15+01:00", "0001-01-01T00:00:00Z"),
            ("2004-2-14", "0001-01-01T00:00:00Z"),
            ("20\u{e4}4-02-14", "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(shown(|out| text(out, from)), format!("\"{to}\""), "{from}");
        }
    }

    #[test]
    fn integers_are_seconds_or_milliseconds() {
        for (number, to) in [
            (0, "\"1970-01-01T00:00:00Z\""),
            (1_092_941_466, "\"2004-08-19T18:51:06Z\""),
            (-1, "\"1969-12-31T23:59:59Z\""),
            (1_092_941_466_123, "\"2004-08-19T18:51:06.123Z\""),
            (951_782_400, "\"2000-02-29T00:00:00Z\""),
            (253_402_300_800, "253402300800"),
            (i64::MAX, "9223372036854775807"),
            (i64::MIN, "-9223372036854775808"),
        ] {
            assert_eq!(shown(|out| integer(out, number)), to);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_and_number_shows(from in ".*", number in proptest::num::i64::ANY) {
            proptest::prop_assert!(shown(|out| text(out, &from)).ends_with('"'));
            proptest::prop_assert!(!shown(|out| integer(out, number)).is_empty());
        }
    }
}
