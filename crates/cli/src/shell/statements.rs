//! Where one SQL statement ends and the next begins, as SQLite's own shell decides it
//! (<https://sqlite.org/c3ref/complete.html>): at a `;` outside of strings, names, comments and trigger bodies.
//!
//! ```text
//!   text ─► [Lexer] ─► tokens ─► [State::after] ─► State::Start behind a `;`: the statement ends
//! ```
//!
//! Text comes in pieces and each byte is looked at once. It checks no syntax: SQLite does.

/// Splits text into statements.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    /// Text that no finished statement contains.
    text: String,
    /// How much of it has been looked at.
    seen: usize,
    lexer: Lexer,
    state: State,
}

impl Statements {
    /// Adds text.
    pub(crate) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The next complete statement, with its `;`.
    pub(crate) fn pop(&mut self) -> Option<String> {
        while let Some(&byte) = self.text.as_bytes().get(self.seen) {
            self.seen += 1;
            if self.look(byte) {
                return Some(self.take());
            }
        }
        None
    }

    /// Whether nothing waits for its end but white space and comments.
    pub(crate) fn is_empty(&self) -> bool {
        let between = matches!(self.state, State::Invalid | State::Start);
        between && matches!(self.lexer, Lexer::Between | Lexer::LineComment)
    }

    /// The rest, complete or not; none if there is no statement in it.
    pub(crate) fn rest(&mut self) -> Option<String> {
        let nothing = self.is_empty();
        self.seen = self.text.len();
        let rest = self.take();
        (!nothing).then_some(rest)
    }

    /// Forgets what waits.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn take(&mut self) -> String {
        let rest = self.text.split_off(self.seen);
        let statement = std::mem::replace(&mut self.text, rest);
        (self.seen, self.lexer, self.state) = (0, Lexer::default(), State::default());
        statement.trim().to_owned()
    }

    /// Whether a statement ends with this byte.
    fn look(&mut self, byte: u8) -> bool {
        let lexer = std::mem::take(&mut self.lexer);
        let (next, [first, second]) = lexer.after(byte);
        self.lexer = next;
        let mut ended = false;
        for token in [first, second].into_iter().flatten() {
            self.state = self.state.after(token);
            ended = token == Token::Semicolon && self.state == State::Start;
        }
        ended
    }
}

/// What decides about the end of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Semicolon,
    Explain,
    Create,
    Temp,
    Trigger,
    End,
    Other,
}

/// Where in a token the text stands.
#[derive(Debug, Default)]
enum Lexer {
    #[default]
    Between,
    /// In a string or quoted name, up to this byte. A doubled quote is two strings in a row, to the same effect.
    Quoted(u8),
    /// Behind one `-`.
    Dash,
    /// Behind one `/`.
    Slash,
    LineComment,
    /// In a comment; whether the last byte was `*`.
    BlockComment(bool),
    /// In a word, whose beginning this is.
    Word(Word),
}

impl Lexer {
    /// The place behind `byte`, and the tokens that are known by it.
    fn after(self, byte: u8) -> (Self, [Option<Token>; 2]) {
        let none = [None, None];
        match self {
            Self::Between => Self::fresh(byte, None),
            Self::Quoted(end) if byte == end => (Self::Between, [Some(Token::Other), None]),
            Self::Quoted(end) => (Self::Quoted(end), none),
            Self::Dash if byte == b'-' => (Self::LineComment, none),
            Self::Slash if byte == b'*' => (Self::BlockComment(false), none),
            Self::Dash | Self::Slash => Self::fresh(byte, Some(Token::Other)),
            Self::LineComment if byte == b'\n' => (Self::Between, none),
            Self::LineComment => (Self::LineComment, none),
            Self::BlockComment(true) if byte == b'/' => (Self::Between, none),
            Self::BlockComment(_) => (Self::BlockComment(byte == b'*'), none),
            Self::Word(word) if is_word(byte) => (Self::Word(word.with(byte)), none),
            Self::Word(word) => Self::fresh(byte, Some(word.token())),
        }
    }

    /// As from between tokens, behind a token that has just ended.
    fn fresh(byte: u8, before: Option<Token>) -> (Self, [Option<Token>; 2]) {
        match byte {
            b';' => (Self::Between, [before, Some(Token::Semicolon)]),
            b'\'' | b'"' | b'`' => (Self::Quoted(byte), [before, Some(Token::Other)]),
            b'[' => (Self::Quoted(b']'), [before, Some(Token::Other)]),
            b'-' => (Self::Dash, [before, None]),
            b'/' => (Self::Slash, [before, None]),
            byte if is_word(byte) => (Self::Word(Word::default().with(byte)), [before, None]),
            byte if byte.is_ascii_whitespace() => (Self::Between, [before, None]),
            _ => (Self::Between, [before, Some(Token::Other)]),
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
}

/// A word in lower case, cut where it is longer than any that decides.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    bytes: [u8; 10],
    length: usize,
}

impl Word {
    fn with(mut self, byte: u8) -> Self {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte.to_ascii_lowercase();
            self.length += 1;
        }
        self
    }

    fn token(&self) -> Token {
        match &self.bytes[..self.length] {
            b"explain" => Token::Explain,
            b"create" => Token::Create,
            b"temp" | b"temporary" => Token::Temp,
            b"trigger" => Token::Trigger,
            b"end" => Token::End,
            _ => Token::Other,
        }
    }
}

/// SQLite's states of `sqlite3_complete`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing but white space yet.
    #[default]
    Invalid,
    /// Behind a complete statement.
    Start,
    /// In a statement.
    Normal,
    /// Behind EXPLAIN at the beginning.
    Explain,
    /// Behind CREATE, EXPLAIN and TEMP.
    Create,
    /// In a trigger's body.
    Trigger,
    /// Behind `;` in a trigger's body.
    Semicolon,
    /// Behind `; END` in a trigger's body.
    End,
}

impl State {
    fn after(self, token: Token) -> Self {
        match (self, token) {
            (Self::Trigger | Self::Semicolon, Token::Semicolon) => Self::Semicolon,
            (_, Token::Semicolon) => Self::Start,
            (Self::Semicolon, Token::End) => Self::End,
            (Self::Trigger | Self::Semicolon | Self::End, _) => Self::Trigger,
            (Self::Invalid | Self::Start, Token::Explain) => Self::Explain,
            (Self::Invalid | Self::Start | Self::Explain, Token::Create) => Self::Create,
            (Self::Explain, Token::Other) => Self::Explain,
            (Self::Create, Token::Temp) => Self::Create,
            (Self::Create, Token::Trigger) => Self::Trigger,
            _ => Self::Normal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> (Vec<String>, Option<String>) {
        let mut statements = Statements::default();
        statements.push(text);
        let complete = std::iter::from_fn(|| statements.pop()).collect();
        (complete, statements.rest())
    }

    fn complete(text: &str) -> usize {
        let (all, rest) = split(text);
        assert_eq!(rest, None, "{text}");
        all.len()
    }

    #[test]
    fn semicolons_end_statements() {
        let (all, rest) = split("SELECT 1; SELECT 2 ;\n SELECT 3");
        assert_eq!(all, ["SELECT 1;", "SELECT 2 ;"]);
        assert_eq!(rest.as_deref(), Some("SELECT 3"));
        assert_eq!(complete(" ; "), 1);
    }

    #[test]
    fn strings_names_and_comments_hide_semicolons() {
        for text in [
            "SELECT 'a;b';",
            "SELECT 'it''s; x';",
            "SELECT \"a;\", `b;`, [c;];",
            "SELECT 1 -- no; end\n;",
            "SELECT 1 /* no; end */;",
            "SELECT 1 /*; **/;",
            "SELECT 4-3, 4/2;",
            "SELECT '--'; ",
            "SELECT 1; -- trailing",
            "SELECT 1; /* trailing */ ",
            "select 'grüße;';",
        ] {
            assert_eq!(complete(text), 1, "{text}");
        }
    }

    #[test]
    fn what_is_open_waits() {
        for text in [
            "SELECT 'a;",
            "SELECT \"a;",
            "SELECT [a;",
            "SELECT 1 /* ;",
            "SELECT 1 -- ;",
            "/* ;",
            "'",
            "x",
        ] {
            let (all, rest) = split(text);
            assert!(all.is_empty(), "{text}");
            assert_eq!(rest.as_deref(), Some(text));
        }
    }

    #[test]
    fn a_trigger_ends_behind_its_end() {
        for begin in [
            "CREATE TRIGGER",
            "create temp trigger",
            "CREATE TEMPORARY TRIGGER",
            "EXPLAIN CREATE TRIGGER",
            "EXPLAIN QUERY PLAN CREATE TRIGGER",
            "CREATE /* c */ TRIGGER",
        ] {
            let text =
                format!("{begin} g AFTER INSERT ON t BEGIN SELECT 1; UPDATE t SET x = 1; END;");
            assert_eq!(complete(&text), 1, "{text}");
            let (all, rest) = split(&text[..text.len() - 5]);
            assert!(all.is_empty() && rest.is_some(), "{text}");
        }
        assert_eq!(complete("CREATE TABLE trigger_log (x); END;"), 2);
        let case = "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT CASE WHEN 1 THEN 2 END; END;";
        assert_eq!(complete(case), 1);
    }

    #[test]
    fn comments_alone_are_no_statement() {
        assert_eq!(split("-- nothing\n  /* here */ "), (Vec::new(), None));
        assert_eq!(split("-- nothing"), (Vec::new(), None));
    }

    proptest! {
        #[test]
        fn pieces_split_as_the_whole_does(text in "([a-z;'\"`\\[\\]/*\n -]|create |trigger |; end|é){0,40}", at in 0usize..60) {
            let whole = split(&text);
            let at = text.floor_char_boundary(at);
            let mut statements = Statements::default();
            let mut parts = Vec::new();
            for piece in [&text[..at], &text[at..]] {
                statements.push(piece);
                parts.extend(std::iter::from_fn(|| statements.pop()));
            }
            prop_assert_eq!(whole, (parts, statements.rest()));
        }

        #[test]
        fn no_text_panics_or_is_lost(text in any::<String>()) {
            let (all, rest) = split(&text);
            let kept: usize = all.iter().chain(&rest).map(String::len).sum();
            prop_assert!(kept <= text.len());
        }
    }
}
