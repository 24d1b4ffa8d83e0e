//! A request's JSON body, read straight into statements.
//!
//! An array of statements, each a string or `[sql, parameter, …]`, in any mixture; an object among the parameters
//! holds named ones. Nothing is built but the statements. Invariants:
//!
//! 1. The error is that of reading the whole value first and looking at its meaning then, as rqlite does: broken JSON
//!    anywhere in the value counts before a wrong shape.
//! 2. Nesting takes one byte of memory a level, never a stack frame, and ends at [`DEPTH_MAX`].
//! 3. Statements and parameters together are at most `items_max`.
//!
//! Bytes behind the array are ignored.

use crate::outcome::Refusal;
use sqlrep_sql::{Parameter, Statement, Value};
use std::collections::BTreeMap;

/// Arrays and objects in each other; the limit of Go's decoder.
const DEPTH_MAX: usize = 10_000;

/// Why reading stopped.
enum Stop {
    /// It is no JSON.
    Syntax,
    /// It may be JSON, and isn't what is asked for.
    Meaning(Refusal),
}

fn meaning(text: impl Into<String>) -> Stop {
    Stop::Meaning(Refusal::BadRequest(text.into()))
}

fn invalid_request() -> Stop {
    meaning("invalid request")
}

/// The statements of a body.
pub(crate) fn statements(body: &[u8], items_max: usize) -> Result<Vec<Statement>, Refusal> {
    let invalid = || Refusal::BadRequest("invalid JSON body".to_owned());
    let mut reader = Reader::new(body, items_max);
    match reader.statements() {
        Ok(statements) if statements.is_empty() => {
            Err(Refusal::BadRequest("no statements".to_owned()))
        }
        Ok(statements) => Ok(statements),
        Err(Stop::Syntax) => Err(invalid()),
        Err(Stop::Meaning(refusal)) => match Reader::new(body, items_max).skip() {
            Ok(()) => Err(refusal),
            Err(_) => Err(invalid()),
        },
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    items_left: usize,
    items_max: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], items_max: usize) -> Self {
        Self {
            bytes,
            at: 0,
            items_left: items_max,
            items_max,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(Stop::Syntax)
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// What stands at the next place that isn't white space.
    fn ahead(&mut self) -> Result<u8, Stop> {
        self.space();
        self.peek().ok_or(Stop::Syntax)
    }

    fn item(&mut self) -> Result<(), Stop> {
        match self.items_left.checked_sub(1) {
            Some(left) => self.items_left = left,
            None => {
                return Err(Stop::Meaning(Refusal::TooManyItems {
                    limit: self.items_max,
                }));
            }
        }
        Ok(())
    }

    fn statements(&mut self) -> Result<Vec<Statement>, Stop> {
        let mut statements = Vec::new();
        if self.ahead()? != b'[' {
            return Err(invalid_request());
        }
        self.elements(b']', |reader| {
            reader.item()?;
            statements.push(reader.statement()?);
            Ok(())
        })?;
        Ok(statements)
    }

    /// Runs `each` at the begin of every element of the array or object that begins here.
    fn elements(
        &mut self,
        close: u8,
        mut each: impl FnMut(&mut Self) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.at += 1;
        self.space();
        if self.take(close) {
            return Ok(());
        }
        loop {
            self.space();
            each(self)?;
            self.space();
            match self.next() {
                Some(b',') => {}
                Some(byte) if byte == close => return Ok(()),
                _ => return Err(Stop::Syntax),
            }
        }
    }

    fn statement(&mut self) -> Result<Statement, Stop> {
        match self.ahead()? {
            b'"' => self.string().map(Statement::text),
            b'[' => self.with_parameters(),
            _ => Err(invalid_request()),
        }
    }

    fn with_parameters(&mut self) -> Result<Statement, Stop> {
        let mut sql = None;
        let mut parameters = Vec::new();
        self.elements(b']', |reader| match (&sql, reader.ahead()?) {
            (None, b'"') => {
                sql = Some(reader.string()?);
                Ok(())
            }
            (None, _) => Err(invalid_request()),
            (Some(_), b'{') => reader.named(&mut parameters),
            (Some(_), _) => {
                reader.item()?;
                parameters.push(Parameter::Positional(reader.value()?));
                Ok(())
            }
        })?;
        let sql = sql.ok_or_else(invalid_request)?;
        Ok(Statement { sql, parameters })
    }

    /// An object of named parameters; of a repeated name the last value counts.
    fn named(&mut self, parameters: &mut Vec<Parameter>) -> Result<(), Stop> {
        let mut named = BTreeMap::new();
        self.elements(b'}', |reader| {
            reader.item()?;
            let name = reader.key()?;
            reader.ahead()?;
            named.insert(name, reader.value()?);
            Ok(())
        })?;
        parameters.extend(
            named
                .into_iter()
                .map(|(name, value)| Parameter::Named(name, value)),
        );
        Ok(())
    }

    fn key(&mut self) -> Result<String, Stop> {
        if self.ahead()? != b'"' {
            return Err(Stop::Syntax);
        }
        let key = self.string()?;
        self.space();
        self.expect(b':')?;
        Ok(key)
    }

    fn value(&mut self) -> Result<Value, Stop> {
        match self.peek() {
            Some(b'"') => self.string().map(text_or_blob),
            Some(b'[') => self.blob().map(Value::Blob),
            Some(b'{') => Err(meaning("unsupported type: an object in named parameters")),
            Some(b't') => self.word("true", Value::Integer(1)),
            Some(b'f') => self.word("false", Value::Integer(0)),
            Some(b'n') => self.word("null", Value::Null),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Stop> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(Stop::Syntax);
        }
        self.at += word.len();
        Ok(value)
    }

    fn blob(&mut self) -> Result<Vec<u8>, Stop> {
        let mut blob = Vec::new();
        self.elements(b']', |reader| {
            let unsupported =
                || meaning("unsupported type: an array with other elements than 0 to 255");
            if !matches!(reader.peek(), Some(b'-' | b'0'..=b'9')) {
                return Err(unsupported());
            }
            match reader.number()? {
                Value::Integer(number) => {
                    blob.push(u8::try_from(number).map_err(|_| unsupported())?);
                    Ok(())
                }
                _ => Err(unsupported()),
            }
        })?;
        Ok(blob)
    }

    /// An integer if it has neither fraction nor exponent and fits 64 bits, else a double.
    fn number(&mut self) -> Result<Value, Stop> {
        let text = self.number_text()?;
        if let Ok(number) = text.parse() {
            return Ok(Value::Integer(number));
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Real(number)),
            _ => Err(meaning(format!("invalid number {text}"))),
        }
    }

    fn number_text(&mut self) -> Result<&'a str, Stop> {
        let from = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _signed = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        std::str::from_utf8(&self.bytes[from..self.at]).map_err(|_| Stop::Syntax)
    }

    fn digits(&mut self) -> Result<(), Stop> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == from {
            Err(Stop::Syntax)
        } else {
            Ok(())
        }
    }

    /// Bytes up to the next quote, backslash or control character.
    fn run(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let end = rest
            .iter()
            .position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20)
            .unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn string(&mut self) -> Result<String, Stop> {
        self.at += 1;
        let mut text = String::new();
        loop {
            push_bytes(&mut text, self.run());
            match self.next() {
                Some(b'"') => return Ok(text),
                Some(b'\\') => text.push(self.escape()?),
                _ => return Err(Stop::Syntax),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Stop> {
        Ok(match self.next() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.unit()?;
                self.character(unit)
            }
            _ => return Err(Stop::Syntax),
        })
    }

    fn unit(&mut self) -> Result<u32, Stop> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.next().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit * 16 + digit.ok_or(Stop::Syntax)?;
        }
        Ok(unit)
    }

    /// The character of a UTF-16 unit and, if it is half of one, of the unit that follows; a lone half is U+FFFD.
    fn character(&mut self, high: u32) -> char {
        let here = self.at;
        if (0xd800..0xdc00).contains(&high)
            && self.take(b'\\')
            && self.take(b'u')
            && let Ok(low @ 0xdc00..0xe000) = self.unit()
        {
            let joined = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            return char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        self.at = here;
        char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    /// Passes over any value.
    fn skip(&mut self) -> Result<(), Stop> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            if open.len() > DEPTH_MAX {
                return Err(Stop::Syntax);
            }
            if !self.skip_one(&mut open)? {
                continue;
            }
            loop {
                let Some(&close) = open.last() else {
                    return Ok(());
                };
                self.space();
                match self.next() {
                    Some(b',') => {
                        if close == b'}' {
                            self.key()?;
                        }
                        break;
                    }
                    Some(byte) if byte == close => open.truncate(open.len() - 1),
                    _ => return Err(Stop::Syntax),
                }
            }
        }
    }

    /// Passes over a value without parts, or over the begin of one with parts. Whether it was a whole value.
    fn skip_one(&mut self, open: &mut Vec<u8>) -> Result<bool, Stop> {
        match self.ahead()? {
            b'"' => drop(self.string()?),
            byte @ (b'{' | b'[') => {
                let close = byte + 2;
                self.at += 1;
                self.space();
                if !self.take(close) {
                    open.push(close);
                    if close == b'}' {
                        self.key()?;
                    }
                    return Ok(false);
                }
            }
            b't' => drop(self.word("true", Value::Null)?),
            b'f' => drop(self.word("false", Value::Null)?),
            b'n' => drop(self.word("null", Value::Null)?),
            _ => drop(self.number_text()?),
        }
        Ok(true)
    }
}

/// Appends bytes; each one that is part of no UTF-8 character becomes U+FFFD.
fn push_bytes(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
}

/// `X'…'` with valid hexadecimal digits inside is a BLOB.
fn text_or_blob(text: String) -> Value {
    let inside = text
        .trim()
        .strip_prefix(['x', 'X'])
        .and_then(|rest| rest.strip_prefix('\''))
        .and_then(|rest| rest.strip_suffix('\''));
    match inside.and_then(hexadecimal) {
        Some(blob) => Value::Blob(blob),
        None => Value::Text(text),
    }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
    if odd.is_empty() {
        pairs.iter().map(byte).collect()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Parameter::{Named, Positional};

    fn parsed(body: &str) -> Vec<Statement> {
        statements(body.as_bytes(), 1000).unwrap()
    }

    fn values(body: &str) -> Vec<Value> {
        let of = |parameter| match parameter {
            Positional(value) | Named(_, value) => value,
        };
        parsed(body)
            .remove(0)
            .parameters
            .into_iter()
            .map(of)
            .collect()
    }

    fn refused(body: &str) -> String {
        statements(body.as_bytes(), 1000).unwrap_err().to_string()
    }

    #[test]
    fn both_forms_may_be_mixed_and_what_follows_is_ignored() {
        let found = parsed(" [ \"A\" , [\"B\", 1, {\"n\":2,\"m\":3}, \"x\"], [\"C\"] ] trailing");
        let parameters = vec![
            Positional(Value::Integer(1)),
            Named("m".into(), Value::Integer(3)),
            Named("n".into(), Value::Integer(2)),
            Positional(Value::Text("x".into())),
        ];
        let b = Statement {
            sql: "B".into(),
            parameters,
        };
        assert_eq!(found, [Statement::text("A"), b, Statement::text("C")]);
    }

    #[test]
    fn values_keep_their_storage_class() {
        use Value::{Blob, Integer, Null, Real, Text};
        assert_eq!(
            values(
                r#"[["s",null,true,false,7,-9223372036854775808,9223372036854775808,1.0,1e3,-0,"X'0aFF'"," x'' ","x'0'","x'zz'",[],[0,255]]]"#
            ),
            [
                Null,
                Integer(1),
                Integer(0),
                Integer(7),
                Integer(i64::MIN),
                Real(9223372036854775808.0),
                Real(1.0),
                Real(1000.0),
                Integer(0),
                Blob(vec![10, 255]),
                Blob(vec![]),
                Text("x'0'".into()),
                Text("x'zz'".into()),
                Blob(vec![]),
                Blob(vec![0, 255]),
            ]
        );
    }

    #[test]
    fn strings_are_decoded_as_go_does() {
        let text = |body: &[u8]| statements(body, 10).unwrap().remove(0).sql;
        assert_eq!(
            text(br#"["\"\\\/\b\f\n\r\t\u00e4"]"#),
            "\"\\/\u{8}\u{c}\n\r\t\u{e4}"
        );
        assert_eq!(text(br#"["\ud83d\ude00"]"#), "\u{1f600}");
        assert_eq!(
            text(br#"["\ud83dx\ude00\ud83d\u0041"]"#),
            "\u{fffd}x\u{fffd}\u{fffd}A"
        );
        assert_eq!(text(b"[\"a\xff\xe2\x82b\"]"), "a\u{fffd}\u{fffd}\u{fffd}b");
    }

    #[test]
    fn refusals_have_rqlite_s_texts() {
        for body in [
            "",
            " ",
            "[",
            "[\"a\"",
            "[\"a\",]",
            "{]",
            "nul",
            "[\"a\"}",
            "[5, ]",
            "[[\"a\", 01]]",
            "[[\"a\", +1]]",
            "[[\"a\", .5]]",
            "[[\"a\", 1.]]",
            "[\"\u{1}\"]",
            "[\"\\x\"]",
            "[{},",
            "[[\"s\",{\"a\":{}]]",
            "[[\"s\", tru]]",
        ] {
            assert_eq!(refused(body), "invalid JSON body", "{body}");
        }
        for body in [
            "{}",
            "5",
            "null",
            "\"a\"",
            "[5]",
            "[null]",
            "[[]]",
            "[[5]]",
            "[{}]",
            "[[\"a\"],{\"b\":[1,{\"c\":null}]}]",
        ] {
            assert_eq!(refused(body), "invalid request", "{body}");
        }
        assert_eq!(refused("[]"), "no statements");
        assert_eq!(refused("[[\"s\",1e400]]"), "invalid number 1e400");
        for body in [
            "[[\"s\",[256]]]",
            "[[\"s\",[-1]]]",
            "[[\"s\",[1.5]]]",
            "[[\"s\",[\"a\"]]]",
            "[[\"s\",{\"a\":{}}]]",
        ] {
            assert!(refused(body).starts_with("unsupported type"), "{body}");
        }
    }

    #[test]
    fn items_and_depth_are_limited() {
        let many = format!("[{}\"x\"]", "\"x\",".repeat(1000));
        assert_eq!(refused(&many), "more than 1000 statements and parameters");
        let parameters = format!("[[\"x\"{}]]", ",1".repeat(1000));
        assert_eq!(
            refused(&parameters),
            "more than 1000 statements and parameters"
        );
        let fits = format!("[{}]", "[".repeat(9_000) + &"]".repeat(9_000));
        assert_eq!(refused(&fits), "invalid request");
        let deep = format!("[{}]", "[".repeat(100_000) + &"]".repeat(100_000));
        assert_eq!(refused(&deep), "invalid JSON body");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _outcome = statements(&body, 50);
        }

        #[test]
        fn arbitrary_pieces_of_json_are_refused_like_a_strict_reader(
            pieces in proptest::collection::vec(proptest::sample::select(vec![
                "[", "]", "{", "}", ",", ":", "\"a\"", "1", "-", ".5", "e3", "null", "true", " ", "\"\\u00e4\"", "[\"s\",",
            ]), 0..12)
        ) {
            let body = pieces.concat();
            let strict = serde_json::from_str::<serde_json::Value>(&body);
            match statements(body.as_bytes(), 50) {
                // What follows the first value is ignored here, so only success of the strict reader tells something.
                Err(refusal) if refusal.to_string() == "invalid JSON body" => proptest::prop_assert!(strict.is_err(), "{}", body),
                Ok(found) if strict.is_ok() => proptest::prop_assert_eq!(strict.unwrap().as_array().map(Vec::len), Some(found.len())),
                _ => {}
            }
        }
    }
}
