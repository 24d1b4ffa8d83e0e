//! Rule 37: the budget in steps of SQLite's virtual machine.

use crate::bed::{Bed, only, transaction, untimed};
use rusqlite::ffi;
use sqlrep_sql::{Outcome, Request, SqlSettings};

fn small(steps_max: u64) -> SqlSettings {
    SqlSettings {
        steps_max,
        ..SqlSettings::default()
    }
}

fn spent(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(error)
        if error.code == ffi::SQLITE_INTERRUPT && error.message.contains("(steps_max)"))
}

const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";

/// Rule 37: what never ends is stopped, and nothing of it stays.
#[test]
fn endless_statements_are_stopped() {
    let mut bed = Bed::with(small(200_000));
    bed.run("CREATE TABLE t(a); INSERT INTO t VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9)");
    bed.run(
        "CREATE TABLE deep(a); CREATE TRIGGER tr AFTER INSERT ON deep BEGIN \
             INSERT INTO t SELECT count(*) FROM t a, t b, t c, t d, t e, t f; END",
    );
    bed.run(&format!("CREATE VIEW endless AS {ENDLESS} SELECT i FROM n"));
    bed.run("CREATE VIRTUAL TABLE words USING fts5(i, content='endless', content_rowid='i')");
    for sql in [
        format!("{ENDLESS} INSERT INTO t SELECT i FROM n"),
        format!("INSERT INTO t {ENDLESS} SELECT i FROM n"),
        "INSERT INTO t SELECT a.a FROM t a, t b, t c, t d, t e, t f, t g".to_owned(),
        format!("{ENDLESS} SELECT count(*) FROM n"),
        "INSERT INTO deep VALUES (1)".to_owned(),
        // Only a statement within the virtual table never ends.
        "INSERT INTO words(words) VALUES ('rebuild')".to_owned(),
    ] {
        let before = bed.store.newest();
        let outcome = bed.execute(&sql);
        assert!(spent(&outcome), "{sql}: {outcome:?}");
        assert_eq!(bed.store.newest(), before, "{sql}");
    }
    assert_eq!(bed.run("INSERT INTO t VALUES (10)").rows_affected, 1);
    assert_eq!(bed.text("SELECT count(*) FROM t"), "10");
    assert_eq!(bed.text("PRAGMA integrity_check"), "ok");
}

/// Rule 37: the budget is one per request, and a request that used it up ends there.
#[test]
fn a_request_has_one_budget() {
    let mut bed = Bed::with(small(20_000));
    bed.run("CREATE TABLE t(a)");
    let some = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
                INSERT INTO t SELECT i FROM n";
    let mut request = transaction(&[some; 10]);
    let reply = bed.write(&request);
    assert!(spent(reply.outcomes.last().unwrap()));
    assert!((2..10).contains(&reply.outcomes.len()), "{reply:?}");
    assert_eq!(bed.text("SELECT count(*) FROM t"), "0");
    request.transaction = false;
    let again = bed.write(&request);
    assert_eq!(again.outcomes.len(), reply.outcomes.len());
    let kept = 500 * (again.outcomes.len() - 1);
    assert_eq!(bed.text("SELECT count(*) FROM t"), kept.to_string());
    request.statements.truncate(1);
    assert!(!spent(&only(bed.write(&request))));
}

const HISTORY: [&str; 8] = [
    "CREATE TABLE t(a INTEGER PRIMARY KEY, b)",
    "CREATE VIRTUAL TABLE words USING fts5(w)",
    "CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1)",
    "CREATE TRIGGER one AFTER INSERT ON t BEGIN \
       INSERT INTO words(rowid, w) VALUES (new.a, 'word ' || new.b || ' of ' || new.a); \
       INSERT INTO boxes VALUES (new.a, new.b, new.b + 1); END",
    "INSERT INTO t(b) VALUES (1), (2), (3)",
    "INSERT INTO t(b) SELECT b + 3 FROM t",
    "INSERT INTO t(b) SELECT b + 10 FROM t",
    "ANALYZE",
];

const PROBES: [&str; 6] = [
    "INSERT INTO t(b) SELECT b FROM t",
    "UPDATE t SET b = b + 1",
    "DELETE FROM words WHERE rowid IN (SELECT rowid FROM words('word'))",
    "INSERT INTO words(words) VALUES ('optimize')",
    "SELECT count(*) FROM t a, t b",
    "CREATE TABLE u AS SELECT * FROM t",
];

/// Burns steps: some per row, and one per column.
fn burner(rows: u32, columns: usize) -> [String; 2] {
    let some = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) SELECT count(*) FROM n"
    );
    [some, format!("SELECT 1{}", ", 1".repeat(columns))]
}

/// Whether `probe` still fits behind the burner. All is rolled back, so the database stays as it is.
fn fits(bed: &mut Bed, fresh: bool, probe: &str, rows: u32, columns: usize) -> bool {
    if fresh {
        bed.reopen();
    }
    let [first, second] = burner(rows, columns);
    let reply = bed.write(&transaction(&[&first, &second, probe, "oops"]));
    let last = reply.outcomes.last().unwrap();
    assert!(matches!(last, Outcome::Failed(_)));
    !spent(last)
}

/// Rule 37: the verdict is the same, to the step, on a fresh and on a long-running connection, with full-text search and
/// R-Tree in triggers.
#[test]
fn the_verdict_is_exact_on_a_fresh_and_on_a_used_connection() {
    let mut fresh = Bed::with(small(20_000));
    let mut used = Bed::with(small(20_000));
    for bed in [&mut fresh, &mut used] {
        for sql in HISTORY {
            bed.run(sql);
        }
    }
    for probe in PROBES {
        let (mut low, mut high) = (1, 10_000);
        while low + 1 < high {
            let rows = u32::midpoint(low, high);
            let fits_fresh = fits(&mut fresh, true, probe, rows, 0);
            assert_eq!(
                fits_fresh,
                fits(&mut used, false, probe, rows, 0),
                "{probe}"
            );
            if fits_fresh {
                low = rows;
            } else {
                high = rows;
            }
        }
        let verdicts: Vec<bool> = (0..40)
            .map(|columns| fits(&mut fresh, true, probe, low, columns))
            .collect();
        let same: Vec<bool> = (0..40)
            .map(|columns| fits(&mut used, false, probe, low, columns))
            .collect();
        assert_eq!(verdicts, same, "{probe}");
        assert!(verdicts[0] && !verdicts[39], "{probe}: {verdicts:?}");
    }
}

/// Rule 37: the same request on a fresh and on a used connection gives the same reply and the same bytes.
#[test]
fn a_spent_budget_leaves_the_same_database() {
    let mut fresh = Bed::with(small(30_000));
    let mut used = Bed::with(small(30_000));
    for sql in HISTORY
        .into_iter()
        .filter(|sql| !sql.contains("fts5") && !sql.contains("words"))
        .chain([
            "INSERT INTO t(b) SELECT a.b FROM t a, t b",
            "INSERT INTO t(b) SELECT a.b FROM t a, t b",
            "INSERT INTO t(b) SELECT a.b FROM t a, t b LIMIT 50",
            "DELETE FROM t WHERE a % 3 = 0",
        ])
    {
        fresh.reopen();
        let request = Request::execute(sql);
        assert_eq!(
            untimed(fresh.write(&request)),
            untimed(used.write(&request)),
            "{sql}"
        );
        assert_eq!(fresh.checksum(), used.checksum(), "{sql}");
    }
}

/// Some 500 rows in some 8,000 steps.
const SOME: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
                    INSERT INTO t SELECT i FROM n";

fn refused_by_entry(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(error)
        if error.code == ffi::SQLITE_INTERRUPT && error.message.contains("same log entry"))
}

/// How many of ten requests in one entry are done.
fn done_in_an_entry(bed: &mut Bed) -> usize {
    bed.writer.begin_entry();
    let replies: Vec<Outcome> = (0..10).map(|_| bed.execute(SOME)).collect();
    let done = replies.iter().take_while(|one| !refused_by_entry(one));
    let done = done.count();
    assert!(replies[done..].iter().all(refused_by_entry), "{replies:?}");
    done
}

/// Rule 37: the requests of one entry have a bound together; what is behind it isn't begun, the next entry is whole again.
#[test]
fn an_entry_has_a_bound_in_steps() {
    let mut bed = Bed::with(small(20_000));
    bed.run("CREATE TABLE t(a)");
    let done = done_in_an_entry(&mut bed);
    assert!((2..10).contains(&done), "{done}");
    let rows = (500 * done).to_string();
    assert_eq!(bed.text("SELECT count(*) FROM t"), rows);
    // A statement that was stopped counts as a whole budget, wherever it was stopped.
    bed.writer.begin_entry();
    for _ in 0..2 {
        assert!(spent(
            &bed.execute(&format!("INSERT INTO t {ENDLESS} SELECT i FROM n"))
        ));
    }
    assert!(refused_by_entry(&bed.execute("SELECT 1")));
    bed.writer.begin_entry();
    assert_eq!(bed.run("INSERT INTO t VALUES (1)").rows_affected, 1);
}

/// Rule 37: where the bound strikes is the same to the step on a fresh connection and on one that ran the same before.
#[test]
fn an_entry_ends_at_the_same_step_on_used_connections() {
    let mut bounds = std::collections::BTreeSet::new();
    for steps_max in (9_000..20_000).step_by(250) {
        let run = |used: bool| {
            let mut bed = Bed::with(small(steps_max));
            bed.run("CREATE TABLE t(a)");
            if used {
                done_in_an_entry(&mut bed);
                bed.writer.begin_entry();
                bed.run("DELETE FROM t");
            }
            done_in_an_entry(&mut bed)
        };
        let done = run(false);
        assert_eq!(run(true), done, "{steps_max}");
        bounds.insert(done);
    }
    assert!(bounds.len() > 1, "{bounds:?}: the bound never moved");
}

/// Rule 36: pages are counted as for one transaction, and a request of many transactions ends at the bound too.
#[test]
fn an_entry_has_a_bound_in_pages() {
    let mut bed = Bed::with(SqlSettings {
        transaction_pages_max: 100,
        ..SqlSettings::default()
    });
    bed.run("CREATE TABLE t(a)");
    let large = "INSERT INTO t VALUES (zeroblob(60 * 4096))";
    let mut request = transaction(&[large; 10]);
    request.transaction = false;
    bed.writer.begin_entry();
    let reply = bed.write(&request);
    let (last, done) = reply.outcomes.split_last().unwrap();
    assert!(refused_by_entry(last), "{last:?}");
    assert_eq!(done.len(), 4, "200 pages, 61 and some at a time");
    assert!(done.iter().all(|one| matches!(one, Outcome::Written(_))));
    assert!(refused_by_entry(&bed.execute("INSERT INTO t VALUES (1)")));
    assert_eq!(bed.text("SELECT count(*) FROM t"), "4");
    bed.writer.begin_entry();
    assert_eq!(bed.run("INSERT INTO t VALUES (1)").rows_affected, 1);
}
