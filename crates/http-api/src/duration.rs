//! Durations in the text that Go's standard library reads and prints, which is what rqlite's clients send and expect.

use std::time::Duration;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads `1h2m3.5s`: a sign, then decimals with units; or a bare `0`. Negative ones read as zero, since everything
/// measured with them has passed. None if it is no duration or above 2^63-1 ns.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let (part, behind) = term(rest)?;
        nanos = nanos.checked_add(part)?;
        rest = behind;
    }
    let limit = i64::MAX.cast_unsigned() + u64::from(negative);
    match negative {
        _ if nanos > limit => None,
        true => Some(Duration::ZERO),
        false => Some(Duration::from_nanos(nanos)),
    }
}

/// One decimal with its unit, in nanoseconds, and the text behind it.
fn term(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let total = whole
        .checked_mul(*nanos)?
        .checked_add(part(fraction, *nanos))?;
    Some((total, rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `0.fraction` of `unit` nanoseconds, cut off.
fn part(fraction: &str, unit: u64) -> u64 {
    let (mut number, mut scale): (u128, u128) = (0, 1);
    for digit in fraction.bytes().take(18) {
        number = number * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    let nanos = number * u128::from(unit) / scale;
    u64::try_from(nanos).expect("a part of a unit is less than the unit")
}

/// `1m30.5s`, `12.345ms`, `0s`.
pub(crate) fn text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let scaled = |unit: u128, name: &str| format!("{}{name}", decimal(nanos, unit));
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => scaled(1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => scaled(1_000_000, "ms"),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// `number / unit` without trailing zeros; `unit` is a power of ten.
fn decimal(number: u128, unit: u128) -> String {
    let places = unit.ilog10() as usize;
    let fraction = format!("{:0places$}", number % unit);
    match fraction.trim_end_matches('0') {
        "" => (number / unit).to_string(),
        fraction => format!("{}.{fraction}", number / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_s_durations_are_read() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("1s", 1_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("7\u{b5}s", 7_000),
            ("7\u{3bc}s", 7_000),
            ("-3s", 0),
            ("0.3333333333333333333h", 1_199_999_999_999),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for text in [
            "",
            "-",
            "1",
            "s",
            ".s",
            "1x",
            "1s ",
            " 1s",
            "9999999999h",
            "1S",
            "1.2.3s",
            "--1s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn go_s_durations_are_printed() {
        for (nanos, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
        ] {
            assert_eq!(text(Duration::from_nanos(nanos)), expected);
        }
    }
}
