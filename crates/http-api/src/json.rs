//! JSON as Go's standard library writes it, straight into a byte buffer: what rqlite's clients get byte for byte.
//!
//! It doesn't build values and doesn't read: reading is `parse`.

use std::io::Write;

/// A string with its quotes. `<`, `>`, `&`, U+2028 and U+2029 are escaped, as Go does for the sake of HTML.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

/// Bytes shown as text: each byte that is part of no UTF-8 character becomes U+FFFD.
pub(crate) fn bytes_as_text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        escaped(out, chunk.valid());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut from = 0;
    let mut at = 0;
    while at < bytes.len() {
        let length = special(&bytes[at..]);
        if length == 0 {
            at += 1;
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        escape(out, &bytes[at..at + length]);
        at += length;
        from = at;
    }
    out.extend_from_slice(&bytes[from..]);
}

/// Bytes of the character at the front if it must be escaped, else 0.
fn special(bytes: &[u8]) -> usize {
    match bytes[0] {
        0..=0x1f | b'"' | b'\\' | b'<' | b'>' | b'&' => 1,
        0xe2 if matches!(bytes, [0xe2, 0x80, 0xa8 | 0xa9, ..]) => 3,
        _ => 0,
    }
}

fn escape(out: &mut Vec<u8>, character: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match *character {
        [quoted @ (b'"' | b'\\')] => out.extend_from_slice(&[b'\\', quoted]),
        [b'\n'] => out.extend_from_slice(b"\\n"),
        [b'\r'] => out.extend_from_slice(b"\\r"),
        [b'\t'] => out.extend_from_slice(b"\\t"),
        [8] => out.extend_from_slice(b"\\b"),
        [12] => out.extend_from_slice(b"\\f"),
        [byte] => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        _ => {
            out.extend_from_slice(b"\\u202");
            out.push(HEX[usize::from(character[2] & 15)]);
        }
    }
}

/// A whole number.
pub(crate) fn integer(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    write!(out, "{number}").expect("memory takes any bytes");
}

/// The shortest text that reads back as the same number; an exponent below 1e-6 and from 1e21 on. Infinity, which
/// JSON has no word for, is written as SQLite writes it, and reads back as infinity where the reader's numbers have one.
pub(crate) fn float(out: &mut Vec<u8>, number: f64) {
    let size = number.abs();
    let plain = size == 0.0 || (1e-6..1e21).contains(&size);
    match () {
        () if number.is_infinite() && number > 0.0 => out.extend_from_slice(b"9.0e+999"),
        () if number.is_infinite() => out.extend_from_slice(b"-9.0e+999"),
        () if number.is_nan() => out.extend_from_slice(b"null"),
        () if plain => integer(out, number),
        () if size >= 1.0 => {
            let from = out.len();
            write!(out, "{number:e}").expect("memory takes any bytes");
            if let Some(at) = out[from..].iter().position(|&byte| byte == b'e') {
                out.insert(from + at + 1, b'+');
            }
        }
        () => write!(out, "{number:e}").expect("memory takes any bytes"),
    }
}

/// Standard base64 with padding, with quotes.
pub(crate) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len() / 3 * 4 + 6);
    out.push(b'"');
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { digit } else { b'=' });
        }
    }
    out.push(b'"');
}

/// `[1,2,3]`.
pub(crate) fn byte_array(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'[');
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        integer(out, byte);
    }
    out.push(b']');
}

/// Compact JSON of ours with line breaks and four spaces a level; empty arrays and objects stay as they are.
pub(crate) fn indented(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let mut depth = 0;
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in compact.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| compact[at]);
        match byte {
            _ if quoted => {
                quoted = byte != b'"' || escaped;
                escaped = byte == b'\\' && !escaped;
                out.push(byte);
                continue;
            }
            b'}' | b']' => {
                depth -= 1;
                if before != Some(byte - 2) {
                    line(&mut out, depth);
                }
            }
            _ if matches!(before, Some(b'{' | b'[')) => line(&mut out, depth),
            _ => {}
        }
        out.push(byte);
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => depth += 1,
            b',' => line(&mut out, depth),
            b':' => out.push(b' '),
            _ => {}
        }
    }
    out
}

fn line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.resize(out.len() + 4 * depth, b' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_are_go_s() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (17.1, "17.1"),
            (-2.5, "-2.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1e21, "-1e+21"),
            (1.5e300, "1.5e+300"),
            (0.000001, "0.000001"),
            (0.0000001, "1e-7"),
            (1.5e-9, "1.5e-9"),
            (5e-324, "5e-324"),
            (1.797_693_134_862_315_7e308, "1.7976931348623157e+308"),
            (0.1 + 0.2, "0.30000000000000004"),
            (9007199254740993.0, "9007199254740992"),
            (f64::INFINITY, "9.0e+999"),
            (f64::NEG_INFINITY, "-9.0e+999"),
        ] {
            assert_eq!(written(|out| float(out, number)), text);
        }
    }

    #[test]
    fn strings_are_escaped_like_go_s() {
        let text = "a\"b\\c\n\r\t\u{8}\u{c}\u{1}\u{7f}<>&\u{2028}\u{2029}\u{202a}\u{e4}";
        assert_eq!(
            written(|out| string(out, text)),
            "\"a\\\"b\\\\c\\n\\r\\t\\b\\f\\u0001\u{7f}\\u003c\\u003e\\u0026\\u2028\\u2029\u{202a}\u{e4}\""
        );
        assert_eq!(
            written(|out| bytes_as_text(out, b"a\xff\xe2\x82b")),
            "\"a\\ufffd\\ufffd\\ufffdb\""
        );
    }

    #[test]
    fn blobs_are_base64_or_numbers() {
        for (bytes, text) in [
            (&b""[..], "\"\""),
            (b"f", "\"Zg==\""),
            (b"fo", "\"Zm8=\""),
            (b"foo", "\"Zm9v\""),
            (b"\xde\xad\xbe\xef", "\"3q2+7w==\""),
            (b"\xff\xff\xff", "\"////\""),
        ] {
            assert_eq!(written(|out| base64(out, bytes)), text);
        }
        assert_eq!(written(|out| byte_array(out, &[222, 0])), "[222,0]");
    }

    #[test]
    fn pretty_is_four_spaces_a_level() {
        let compact = br#"{"results":[{"a":"x,{\"[:","b":[]},{}],"n":[1,2]}"#;
        let pretty = "{\n    \"results\": [\n        {\n            \"a\": \"x,{\\\"[:\",\n            \"b\": []\n        },\n        {}\n    ],\n    \"n\": [\n        1,\n        2\n    ]\n}";
        assert_eq!(String::from_utf8(indented(compact)).unwrap(), pretty);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(text in ".*", bits in proptest::num::u64::ANY) {
            let line = written(|out| string(out, &text));
            proptest::prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
            let number = f64::from_bits(bits);
            if number.is_finite() {
                let line = written(|out| float(out, number));
                proptest::prop_assert_eq!(line.parse::<f64>().unwrap().to_bits(), bits);
            }
        }
    }
}
