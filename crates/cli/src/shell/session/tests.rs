//! A shell against a node that notes what it is asked.

use super::*;
use sqlrep_env::SystemClock;
use std::cell::RefCell;

/// Answers `SELECT n` with n, refuses what names `bad`.
#[derive(Default)]
struct Noting(RefCell<Vec<(String, String)>>);

impl Node for &Noting {
    fn request(&self, statements: &Value, level: &str) -> Result<Vec<Outcome>, ClientError> {
        let text = statements.to_string();
        self.0.borrow_mut().push((text.clone(), level.to_owned()));
        let error = text
            .contains("bad")
            .then(|| "no such table: bad".to_owned());
        let columns = Some(vec!["x".to_owned()]);
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        Ok(vec![Outcome {
            columns,
            values: vec![vec![Value::from(digits)]],
            rows_affected: None,
            error,
        }])
    }

    fn begin(&self, begin: &str, level: &str) -> Result<String, ClientError> {
        let asked = (format!("begin {begin}"), level.to_owned());
        self.0.borrow_mut().push(asked);
        Ok("s".to_owned())
    }

    fn statements(&self, session: &str, statements: &Value) -> Result<Vec<Outcome>, ClientError> {
        if statements.to_string().contains("late") {
            return Err(ClientError::Refused("the transaction is over".to_owned()));
        }
        Node::request(self, statements, session)
    }

    fn end(&self, session: &str, commit: bool) -> Result<(), ClientError> {
        let times = self.0.borrow().len();
        let asked = (format!("end {commit}"), session.to_owned());
        self.0.borrow_mut().push(asked);
        match (commit, times) {
            (true, 2) => Err(ClientError::StillOpen("still open".to_owned())),
            _ => Ok(()),
        }
    }

    fn status(&self) -> Result<String, ClientError> {
        Ok("fine\n".to_owned())
    }

    fn nodes(&self) -> Result<String, ClientError> {
        Err(ClientError::Refused("leader not found".to_owned()))
    }
}

fn shell(script: &str) -> (String, Result<Next, ShellError>, Vec<(String, String)>) {
    let node = Noting::default();
    let mut out = Vec::new();
    let clock = SystemClock::start();
    let mut session = Session {
        node: &node,
        clock: &clock,
        out: &mut out,
        format: Format::Csv,
        level: Level::Weak,
        timer: false,
        depth: 0,
        transaction: None,
    };
    let end = session.script(script.as_bytes());
    session.close().unwrap();
    (String::from_utf8(out).unwrap(), end, node.0.into_inner())
}

#[test]
fn statements_run_in_order_and_the_last_needs_no_semicolon() {
    let (out, end, asked) = shell("SELECT 1; SELECT\n2;\n-- done\nSELECT 3");
    assert_eq!(out, "x\n1\nx\n2\nx\n3\n");
    assert_eq!(end.unwrap(), Next::Go);
    assert_eq!(asked[1].0, r#"["SELECT\n2;"]"#);
}

#[test]
fn the_first_error_ends_a_script() {
    let (out, end, asked) = shell("SELECT 1; SELECT bad; SELECT 2;");
    assert_eq!(out, "x\n1\n");
    assert_eq!(end.unwrap_err().to_string(), "no such table: bad");
    assert_eq!(asked.len(), 2);
}

#[test]
fn dot_commands_work_between_statements_only() {
    let (out, end, asked) = shell(
        ".mode json\n.consistency strong\nSELECT '\n.quit\n1';\n.mode\n.status\n.quit\nSELECT 9;",
    );
    assert_eq!(out, "[{\"x\":\"1\"}]\njson\nfine\n");
    assert_eq!(end.unwrap(), Next::Quit);
    assert_eq!(
        asked,
        [(
            r#"["SELECT '\n.quit\n1';"]"#.to_owned(),
            "strong".to_owned()
        )]
    );
}

#[test]
fn a_failing_command_is_told() {
    let (_, end, _) = shell(".nodes");
    assert!(end.unwrap_err().to_string().contains("leader not found"));
    let (_, end, _) = shell(".read /nonexistent.sql");
    assert!(end.unwrap_err().to_string().contains("/nonexistent.sql"));
}

#[test]
fn a_name_in_a_schema_question_is_a_parameter() {
    let (_, _, asked) = shell(".schema x'y");
    assert!(asked[0].0.ends_with(r#","x'y"]]"#), "{}", asked[0].0);
}

#[test]
fn a_file_that_reads_itself_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loop.sql");
    let line = format!(".read {}\n", path.display());
    std::fs::write(&path, &line).unwrap();
    let (_, end, _) = shell(&line);
    assert!(end.unwrap_err().to_string().contains("too deep"));
}

#[test]
fn the_timer_shows_a_time() {
    let (out, _, _) = shell(".timer on\nSELECT 1;");
    assert!(out.ends_with(" ms\n"), "{out}");
}

fn asked(script: &str) -> (Option<String>, Vec<String>) {
    let (_, end, asked) = shell(script);
    let asked = asked.iter().map(|(text, to)| format!("{text} {to}"));
    (end.err().map(|error| error.to_string()), asked.collect())
}

#[test]
fn a_transaction_reaches_over_statements() {
    let (error, asked) = asked("BEGIN IMMEDIATE; SELECT 1; SELECT 2; COMMIT; SELECT 3;");
    assert_eq!(error, None);
    let expected = [
        "begin immediate weak",
        r#"["SELECT 1;"] s"#,
        r#"["SELECT 2;"] s"#,
        "end true s",
        r#"["SELECT 3;"] weak"#,
    ];
    assert_eq!(asked, expected);
}

/// Rule 41: behind a rollback by the server nothing slips out of the transaction, and a script that ends within one takes it back.
#[test]
fn an_ended_transaction_stays_the_shells_until_its_user_ends_it() {
    let (error, asked) = asked("BEGIN; SELECT 1; INSERT late; INSERT late;");
    assert_eq!(error.unwrap(), "the node refuses: the transaction is over");
    assert_eq!(
        asked,
        ["begin deferred weak", r#"["SELECT 1;"] s"#, "end false s"]
    );
}

#[test]
fn a_commit_that_sqlite_refuses_leaves_it_open() {
    let (error, asked) = asked("BEGIN; SELECT 1; COMMIT;");
    assert_eq!(error.unwrap(), "still open");
    assert_eq!(asked[2..], ["end true s", "end false s"]);
}

#[test]
fn transactions_dont_nest_and_dont_end_twice() {
    let (error, _) = asked("BEGIN; BEGIN;");
    assert!(error.unwrap().contains("within a transaction"));
    let (error, asked) = asked("COMMIT;");
    assert_eq!(error.unwrap(), "cannot commit - no transaction is active");
    assert!(asked.is_empty());
}
