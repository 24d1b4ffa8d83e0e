//! `cargo xtask clients`: rqlite's clients, as their registries have them, against a cluster of three.
//!
//! ```text
//!   build sqlrep ─► sqlrep cluster ─► install a client aside ─► its story in tests/clients ─► Ctrl-C
//! ```
//!
//! Nothing is installed outside a temporary folder that goes at the end. python3 and npm have to be there; what is missing is
//! named with what brings it.

use crate::tree::Tree;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

/// The newest release; its statements, parameters and redirects are rqlite's Python users'.
const PYRQLITE: &str = "pyrqlite==2.2.3";

const RQLITE_JS: &str = "rqlite-js@2.5.7";

/// What rqlite-js needs to run and doesn't name among its dependencies.
const BABEL: &str = "@babel/runtime@7";

/// What failed, and what to do.
type Outcome<T> = Result<T, String>;

/// Runs both stories and prints how they went.
pub(crate) fn run(tree: &Tree) -> ExitCode {
    match stories(&tree.root) {
        Ok(()) => {
            println!("clients: ok");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("clients: FAILED: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn stories(root: &Path) -> Outcome<()> {
    let folder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
    let python = pyrqlite(folder.path())?;
    let javascript = rqlite_js(folder.path())?;
    let cluster = Cluster::start(&build(root)?, folder.path())?;
    let story = |name: &str| root.join("tests/clients").join(name);
    let script = story("pyrqlite_story.py");
    python.run(&script, &cluster.addresses)?;
    javascript.run(&story("rqlite_js_story.cjs"), &cluster.addresses)?;
    cluster.stop()
}

/// Runs a command to its end.
fn done(what: &str, command: &mut Command) -> Outcome<()> {
    let status = command.stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{what}: {status}")),
        Err(error) => Err(format!("{what}: {error}")),
    }
}

/// The program, built; its path.
fn build(root: &Path) -> Outcome<PathBuf> {
    let cargo = || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root);
        cargo
    };
    let arguments = ["build", "--quiet", "--locked", "--package", "sqlrep-cli"];
    done("cargo build", cargo().args(arguments))?;
    let metadata = cargo()
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout)
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let target = metadata["target_directory"].as_str().unwrap_or_default();
    Ok(Path::new(target).join("debug/sqlrep"))
}

/// An interpreter that finds a client.
struct Interpreter {
    program: PathBuf,
    /// Where it looks for packages, by an environment variable's name.
    packages: Option<(&'static str, PathBuf)>,
}

impl Interpreter {
    fn run(&self, script: &Path, addresses: &[String]) -> Outcome<()> {
        let mut command = Command::new(&self.program);
        command.arg(script).args(addresses);
        if let Some((name, folder)) = &self.packages {
            command.env(name, folder);
        }
        done(&script.display().to_string(), &mut command)
    }
}

/// Installs pyrqlite into an environment of its own, or beside this machine's Python if that can't be made.
fn pyrqlite(folder: &Path) -> Outcome<Interpreter> {
    let (own, aside) = (folder.join("venv"), folder.join("python"));
    let program = own.join("bin/python");
    let install = |python: &OsStr, more: &[&OsStr]| {
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--quiet"]).args(more);
        done(
            "pip install",
            pip.args(["--disable-pip-version-check", PYRQLITE]),
        )
    };
    let mut venv = Command::new("python3");
    let made = done("python3 -m venv", venv.args(["-m", "venv"]).arg(&own))
        .and_then(|()| install(program.as_os_str(), &[]));
    let Err(first) = made else {
        let packages = None;
        return Ok(Interpreter { program, packages });
    };
    println!("  {first}; trying pip install --target");
    let target = [OsStr::new("--target"), aside.as_os_str()];
    install(OsStr::new("python3"), &target).map_err(|second| {
        format!(
            "{PYRQLITE} can't be installed ({first}; {second}): it takes python3 with venv or pip (Debian: apt-get install \
             python3-venv python3-pip) and a way to PyPI"
        )
    })?;
    Ok(Interpreter {
        program: "python3".into(),
        packages: Some(("PYTHONPATH", aside)),
    })
}

/// Installs rqlite-js aside.
fn rqlite_js(folder: &Path) -> Outcome<Interpreter> {
    let aside = folder.join("javascript");
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]);
    let what = format!("npm install {RQLITE_JS}");
    done(&what, npm.arg(&aside).args([RQLITE_JS, BABEL])).map_err(|problem| {
        format!("{problem}; it takes npm with node (Debian: apt-get install npm) and a way to npm's registry")
    })?;
    Ok(Interpreter {
        program: "node".into(),
        packages: Some(("NODE_PATH", aside.join("node_modules"))),
    })
}

/// `sqlrep cluster`, ready.
struct Cluster {
    child: Child,
    /// Where clients reach its nodes.
    addresses: Vec<String>,
}

impl Cluster {
    fn start(program: &Path, folder: &Path) -> Outcome<Self> {
        let mut child = Command::new(program)
            .args(["cluster", "--nodes=3"])
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let printed = child.stdout.take().expect("it is piped");
        let mut cluster = Self {
            child,
            addresses: Vec::new(),
        };
        // It prints once all nodes are ready, or ends within a minute.
        for line in BufReader::new(printed).lines().map_while(Result::ok) {
            cluster.addresses.extend(address(&line));
            if line.contains("Ctrl-C") {
                return Ok(cluster);
            }
        }
        Err("sqlrep cluster ended; it has said why".to_owned())
    }

    /// Ctrl-C, and waits for its end.
    fn stop(mut self) -> Outcome<()> {
        let pid = self.child.id().to_string();
        done("kill -INT", Command::new("kill").args(["-INT", &pid]))?;
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("sqlrep cluster: {status}")),
            Err(error) => Err(format!("sqlrep cluster: {error}")),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It has ended by itself if all went well; its nodes go with it either way.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The client's address in a line like `node 1  http://127.0.0.1:4001  raft 127.0.0.1:4002`.
fn address(line: &str) -> Option<String> {
    let rest = line.strip_prefix("node ")?.split("http://").nth(1)?;
    Some(rest.split_whitespace().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_what_a_cluster_prints() {
        let line = "node 1  http://127.0.0.1:4001  raft 127.0.0.1:4002";
        assert_eq!(address(line), Some("127.0.0.1:4001".to_owned()));
        assert_eq!(address("  curl -s http://127.0.0.1:4001/db/request"), None);
    }
}
