//! `sqlrep check`: directories that are sound, damaged, in use or none of ours, and clusters that are equal or not known.

use crate::cluster::Cluster;
use crate::command::{Run, sqlrep};
use crate::process::NodeProcess;
use crate::waiting::until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes and time of change of everything in a folder.
fn tree(folder: &Path) -> BTreeMap<PathBuf, (Option<Vec<u8>>, SystemTime)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.metadata().unwrap();
        if metadata.is_dir() {
            all.extend(tree(&path));
        }
        let bytes = metadata.is_file().then(|| fs::read(&path).unwrap());
        all.insert(path, (bytes, metadata.modified().unwrap()));
    }
    all
}

/// Checks a directory, and that not a byte of it was changed.
fn check(directory: &Path) -> Run {
    let before = tree(directory);
    let run = sqlrep(&["check", directory.to_str().unwrap()], "");
    assert!(tree(directory) == before, "the check changed something");
    run
}

fn is_sound(directory: &Path) -> String {
    let run = check(directory);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.out.ends_with("sound\n"), "{}", run.out);
    run.out
}

/// The line of one part.
fn line<'a>(run: &'a Run, part: &str) -> &'a str {
    let found = run.out.lines().find(|line| line.starts_with(part));
    found.unwrap_or_else(|| panic!("no {part}: {run:?}"))
}

fn is_damaged(directory: &Path, part: &str, says: &str) -> Run {
    let run = check(directory);
    assert_eq!(run.code, Some(6), "{run:?}");
    let said = line(&run, part);
    assert!(said.contains("damaged") && said.contains(says), "{run:?}");
    run
}

fn flip(path: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(path);
    let (file, mut byte) = (file.unwrap(), [0]);
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], offset).unwrap();
}

fn filled(node: &NodeProcess) {
    node.must("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    node.must("CREATE INDEX t_by_name ON t (name)");
    for id in 0..60 {
        node.must(&format!(
            "INSERT INTO t VALUES ({id}, 'name ' || {id} || hex(randomblob(150)))"
        ));
    }
    // A node that stops makes the newest reset point durable (safety rule 33), and there is one in any 64 entries: on a fast
    // machine, without these, the base file could lack most of the rows.
    for _ in 0..64 {
        node.must("UPDATE t SET id = id WHERE id = 0");
    }
}

/// A node's directory after writes, and a copy of it for each harm.
struct Copies {
    cluster: Cluster,
    made: u32,
}

impl Copies {
    fn begin() -> Self {
        let mut cluster = Cluster::of(1);
        cluster.start_all();
        filled(&cluster.nodes[0]);
        assert!(cluster.nodes[0].stop().success());
        Self { cluster, made: 0 }
    }

    fn original(&self) -> &Path {
        &self.cluster.nodes[0].directory
    }

    fn next(&mut self) -> PathBuf {
        self.made += 1;
        let path = self
            .original()
            .with_extension(format!("copy-{}", self.made));
        crate::wrong::copy(self.original(), &path);
        path
    }
}

/// Pages of a table or an index, as plain SQLite tells them.
fn pages_of(directory: &Path, name: &str) -> Vec<u64> {
    let sqlite = rusqlite::Connection::open(directory.join("db/1/main.db")).unwrap();
    let sql = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = 'leaf'";
    let mut found = sqlite.prepare(sql).unwrap();
    let pages = found.query_map([name], |row| row.get::<_, u32>(0)).unwrap();
    pages.map(|page| page.unwrap().into()).collect()
}

#[test]
fn a_stopped_node_is_sound_and_a_killed_one_too() {
    let mut copies = Copies::begin();
    let out = is_sound(copies.original());
    for part in ["identity", "vote", "log", "database", "pages", "integrity"] {
        let said = out.lines().find(|line| line.starts_with(part)).unwrap();
        assert!(said.contains(" ok "), "{out}");
    }
    let node = &mut copies.cluster.nodes[0];
    node.spawn(&[]);
    until("it is ready", || node.is_ready().then_some(()));
    let path = node.directory.to_str().unwrap().to_owned();
    let running = sqlrep(&["check", &path], "");
    assert_eq!(running.code, Some(3), "{running:?}");
    assert!(running.err.contains("another process uses"), "{running:?}");
    node.must("UPDATE t SET name = name || 'x'");
    node.kill();
    let out = is_sound(copies.original());
    assert!(!out.contains(" 0 entries of the log are applied"), "{out}");

    // A torn tail: bytes of a write that the crash cut short.
    let torn = copies.next();
    let segment = torn.join("log/0000000000000001.seg");
    let used = fs::read(&segment).unwrap();
    let end = used.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    let file = fs::File::options().write(true).open(&segment).unwrap();
    file.write_all_at(&[7; 40], end + 3).unwrap();
    drop(file);
    assert!(is_sound(&torn).contains("a torn tail of"));
}

#[test]
fn a_damaged_page_is_named_with_its_table_or_index() {
    let mut copies = Copies::begin();
    let (table, index) = (
        pages_of(copies.original(), "t"),
        pages_of(copies.original(), "t_by_name"),
    );
    assert!(table.len() > 2 && index.len() > 2, "{table:?} {index:?}");
    let at = copies.next();
    let main = at.join("db/1/main.db");
    let (one, other) = (table[1], index[1]);
    for page in [one, other, 1] {
        flip(&main, (page - 1) * 4096 + 4000);
    }
    let run = is_damaged(&at, &format!("page {one} "), "table t");
    let said = line(&run, &format!("page {other} "));
    assert!(said.ends_with("index t_by_name of table t"), "{run:?}");
    assert!(line(&run, "page 1 ").ends_with("the schema"), "{run:?}");

    let told = sqlrep(&["check", "--json", at.to_str().unwrap()], "");
    assert_eq!(told.code, Some(6));
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(told["verdict"], "damaged");
    let parts = told["parts"].as_array().unwrap();
    let page = parts.iter().find(|part| part["page"] == other).unwrap();
    assert_eq!(page["verdict"], "damaged");
    assert_eq!(page["text"], "index t_by_name of table t");
}

#[test]
fn damage_beside_the_pages_is_named_and_ends_no_check() {
    let mut copies = Copies::begin();
    let segment = "log/0000000000000001.seg";
    let at = copies.next();
    flip(&at.join(segment), 700);
    let page = pages_of(&at, "t")[0];
    flip(&at.join("db/1/main.db"), page * 4096 - 10);
    let run = is_damaged(&at, "log ", segment);
    let said = line(&run, &format!("page {page} "));
    assert!(
        said.ends_with("table t"),
        "the log's damage hides no page's"
    );

    for (lost, part) in [
        ("identity", "identity"),
        ("log/vote", "vote"),
        (segment, "log"),
        ("db/1/main.db", "database"),
        ("db/1/main.sums", "database"),
        ("db/1/main.position", "database"),
        ("db/current", "database"),
    ] {
        let at = copies.next();
        fs::remove_file(at.join(lost)).unwrap();
        let run = check(&at);
        assert_eq!(run.code, Some(6), "{lost}: {run:?}");
        let mut lines = run.out.lines().filter(|line| line.contains("damaged"));
        assert!(lines.any(|line| line.starts_with(part)), "{lost}: {run:?}");
    }
    let at = copies.next();
    fs::write(at.join("db/1/distrusted"), "page 7 differs").unwrap();
    is_damaged(&at, "distrusted", "page 7 differs");
}

#[test]
fn a_directory_that_is_none_of_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let run = check(folder.path());
    assert_eq!((run.code, run.out.as_str()), (Some(3), ""), "{run:?}");
    assert!(run.err.contains("no data directory of sqlrep"), "{run:?}");
    let run = sqlrep(&["check", "/nonexistent/never"], "");
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(run.err.contains("/nonexistent/never"), "{run:?}");
    for flags in [&["check"][..], &["check", "x", "--cluster"]] {
        assert_eq!(sqlrep(flags, "").code, Some(2), "{flags:?}");
    }
}

fn compare(node: &NodeProcess, more: &[&str]) -> Run {
    let address = format!("--addr=http://{}", node.http);
    sqlrep(&[&["check", "--cluster", &address], more].concat(), "")
}

#[test]
fn a_cluster_is_equal_also_under_writes_and_not_known_with_a_node_down() {
    let mut cluster = Cluster::start(3);
    filled(&cluster.nodes[0]);
    let run = compare(&cluster.nodes[1], &[]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.out.contains("all replicas are equal"), "{run:?}");
    assert_eq!(run.out.lines().count(), 4, "{run:?}");

    let client = cluster.nodes[2].client.clone();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                client.must("UPDATE t SET name = name || 'y' WHERE id = 7");
                written += 1;
            }
            written
        });
        let runs: Vec<Run> = cluster
            .nodes
            .iter()
            .map(|node| compare(node, &["--json"]))
            .collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for run in &runs {
            assert_eq!(run.code, Some(0), "{run:?}");
            let told: Value = serde_json::from_str(&run.out).unwrap();
            assert_eq!(told["nodes"].as_array().unwrap().len(), 3, "{told}");
        }
        writer.join().unwrap()
    });
    assert!(written > 2, "{written} writes were under way");

    let leader = cluster.leader();
    cluster.nodes[(leader + 1) % 3].kill();
    let run = compare(&cluster.nodes[leader], &[]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.out.contains("it isn't known"), "{run:?}");
    assert!(run.out.contains("doesn't answer"), "{run:?}");
}
