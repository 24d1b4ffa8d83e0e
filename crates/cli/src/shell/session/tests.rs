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
    };
    let end = session.script(script.as_bytes());
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
