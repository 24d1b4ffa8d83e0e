//! The shell as somebody at a terminal meets it: a prompt that edits, remembers, and survives mistakes.
//!
//! Every result is a number that was never typed, so that what is shown is told from what is echoed.

use crate::cluster::Cluster;
use crate::command::program;
use crate::process::NodeProcess;
use crate::waiting::LIMIT;
use rexpect::process::WaitStatus;
use rexpect::reader::Options;
use rexpect::session::{PtySession, spawn_with_options};
use std::path::Path;

const ENTER: &str = "\r";
const BACKSPACE: &str = "\x7f";
const LEFT: &str = "\x1b[D";
const UP: &str = "\x1b[A";
/// What a terminal puts around text that is pasted.
const PASTE: &str = "\x1b[200~";
const PASTED: &str = "\x1b[201~";
const PROMPT: &str = "sqlrep> ";
const MORE: &str = "...> ";

/// A shell on a terminal of its own.
struct Terminal(PtySession);

impl Terminal {
    fn start(node: &NodeProcess, home: &Path) -> Self {
        let mut shell = program();
        shell
            .arg("shell")
            .arg(format!("--addr=http://{}", node.http))
            .env("HOME", home)
            .env("TERM", "xterm");
        let limit = u64::try_from(LIMIT.as_millis()).unwrap();
        let options = Options::new()
            .timeout_ms(Some(limit))
            .strip_ansi_escape_codes(true);
        let mut terminal = Self(spawn_with_options(shell, options).unwrap());
        terminal.shows(PROMPT);
        terminal
    }

    fn keys(&mut self, keys: &str) {
        self.0.send(keys).unwrap();
        self.0.flush().unwrap();
    }

    fn control(&mut self, letter: char) {
        self.0.send_control(letter).unwrap();
    }

    /// Waits until it shows `text`; what it has shown before that.
    fn shows(&mut self, text: &str) -> String {
        self.0.exp_string(text).unwrap()
    }

    /// Types a line, and waits for a result and the next prompt.
    fn answers(&mut self, line: &str, result: &str) {
        self.keys(line);
        self.keys(ENTER);
        self.shows(result);
        self.shows(PROMPT);
    }
}

#[test]
fn the_shell_at_a_terminal_edits_remembers_and_survives_mistakes() {
    let mut cluster = Cluster::of(1);
    cluster.start_all();
    let node = &cluster.nodes[0];
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::start(node, home.path());
    node.must("CREATE TABLE t (x)");
    // Typed wrongly and corrected: 6 * 8 becomes 6 * 7, a 1 goes in before the semicolon.
    terminal.answers(&format!("SELECT 6 * 8{BACKSPACE}7;"), "42");
    terminal.answers(&format!("SELECT 700 + 7;{LEFT}1"), "771");
    terminal.keys("SELECT 1000");
    terminal.keys(ENTER);
    terminal.shows(MORE);
    terminal.answers("+ 234;", "1234");
    terminal.answers("SELEC 1;", "syntax error");

    let counts = "SELECT count(*) + 5555 FROM t;";
    terminal.answers(counts, "5555");
    node.must("INSERT INTO t VALUES (1)");
    terminal.answers(UP, "5556");
    terminal.keys(&format!(
        "{PASTE}SELECT 2 * 3500;\nSELECT 2 * 3600;{PASTED}{ENTER}"
    ));
    terminal.shows("7000");
    terminal.shows("7200");
    terminal.shows(PROMPT);
    terminal.keys(&format!(".mode csv{ENTER}"));
    terminal.shows("csv\r\n");
    terminal.shows(PROMPT);
    terminal.answers("SELECT 3 * 111, 'a,b';", "333,\"a,b\"");

    terminal.keys("SELECT 8 * 1000 + 1;");
    terminal.control('c');
    terminal.shows(PROMPT);
    terminal.keys(&format!("SELECT 4{ENTER}"));
    terminal.shows(MORE);
    terminal.control('c');
    terminal.shows(PROMPT);
    terminal.keys(&format!("SELECT 5 * 1001;{ENTER}"));
    let before = terminal.shows("5005");
    assert!(!before.contains("8001"), "{before}");
    terminal.shows(PROMPT);

    terminal.control('d');
    terminal.0.exp_eof().unwrap();
    let ended = terminal.0.process().wait().unwrap();
    assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
    // The next shell remembers, too.
    let mut terminal = Terminal::start(node, home.path());
    terminal.answers(UP, "5005");
}
