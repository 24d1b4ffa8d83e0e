//! A lone node inside this process, without HTTP. Point reads through its reader on one thread stand
//! beside plain SQLite with a prepared statement on a copy of the same file; one-row writes beside raw writes and syncs.
//!
//! A round is raw, plain reads, the reader, writes, plain reads, raw. A round whose two raw probes or two plain slices
//! differ by more than [`PROBE_FACTOR_MAX`](crate::PROBE_FACTOR_MAX) is left out.

use super::EmbeddedBench;
use crate::plain::{self, CREATE, INSERT, Ids, READS_AT_ONCE, SELECT, TEXT};
use crate::raw::{self, Probes, Raw, WRITE_BYTES};
use crate::report::{Rounds, Target};
use crate::slice::{Slice, measure};
use crate::store::READ;
use crate::{BenchError, Report, floored};
use sqlrep_disk::RealDisk;
use sqlrep_node::{Node, NodeOptions};
use sqlrep_replica::LocalReader;
use sqlrep_sql::{Outcome, Parameter, ReadLimits, Request, Shape, Statement, Value};
use sqlrep_vfs::rusqlite::Connection;
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The reader against plain SQLite.
const READER_RATIO_MIN: f64 = 0.7;

/// How long the node may take to serve.
const READY_MAX: Duration = Duration::from_secs(60);

struct Round {
    raw: Probes,
    plain: Probes,
    reader: Slice,
    writes: Slice,
}

/// Measures.
///
/// # Errors
///
/// The disk, the node or SQLite fails, or no round was steady.
pub(super) fn node(bench: &EmbeddedBench) -> Result<Report, BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(BenchError::Runtime)?;
    let node = runtime.block_on(Box::pin(filled(bench)))?;
    let plain = copy(&bench.folder.join(COPY))?;
    let disk = floored(RealDisk::open(&bench.folder)?, bench.sync_floor, &bench.env);
    let mut raw = Raw::new(&*disk, WRITE_BYTES)?;
    let (clock, slice) = (&*bench.env.clock, bench.slice);
    let mut reader = node.reader();
    let rounds = Rounds::run(bench.rounds, || {
        let raw_first = raw.slice(clock, slice)?;
        let plain_first = plain::reads(&plain, clock, slice)?;
        let read = reads(&mut reader, bench)?;
        let writes = writes(&runtime, &node, bench)?;
        let plain = Probes([plain_first, plain::reads(&plain, clock, slice)?]);
        let raw = Probes([raw_first, raw.slice(clock, slice)?]);
        let steady = raw.are_steady() && plain.are_steady();
        let round = Round {
            raw,
            plain,
            reader: read,
            writes,
        };
        Ok((round, steady))
    });
    drop(reader);
    runtime.block_on(Box::pin(node.stop()));
    Ok(report(bench, rounds?))
}

fn report(bench: &EmbeddedBench, rounds: Rounds<Round>) -> Report {
    let row = |name, durability, unit, value: &dyn Fn(&Round) -> f64| {
        rounds.row(name, durability, unit, value)
    };
    let rows = vec![
        row(
            "point SELECT, plain SQLite, prepared",
            READ,
            "/s",
            &|round| round.plain.per_second(),
        ),
        row("point SELECT, Node::reader()", READ, "/s", &|round| {
            round.reader.per_second()
        }),
        row(
            "point SELECT, Node::reader() / plain",
            READ,
            "x",
            &|round| round.reader.per_second() / round.plain.per_second(),
        )
        .target(Target::AtLeast(READER_RATIO_MIN)),
        row("raw write and sync: p50", raw::DURABILITY, "us", &|round| {
            round.raw.p50_us()
        }),
        row(
            "Node::execute, lone node, one row: p50",
            raw::DURABILITY,
            "us",
            &|round| round.writes.p50_us(),
        ),
        row(
            "Node::execute: p50 / raw p50",
            raw::DURABILITY,
            "x",
            &|round| round.writes.p50_us() / round.raw.p50_us(),
        ),
    ];
    let title = format!(
        "a node in this process, {} mode, one thread, slices of {:?}",
        bench.mode, bench.slice
    );
    rounds.report(title, rows)
}

/// Checkpoints are taken at reset points alone, and after so many entries there was one.
const RESET_ENTRIES: u32 = 64;

/// The copy of the base file.
const COPY: &str = "copy.db";

/// A lone node with a full table, whose base file was copied while it was stopped: its end wrote a checkpoint.
async fn filled(bench: &EmbeddedBench) -> Result<Node, BenchError> {
    let node = Box::pin(start(bench)).await?;
    for sql in [CREATE.to_owned(), plain::fill()] {
        execute(&node, Request::execute(sql)).await?;
    }
    for _ in 0..RESET_ENTRIES {
        execute(&node, Request::execute("UPDATE t SET a = a WHERE id = 1")).await?;
    }
    Box::pin(node.stop()).await;
    copy_base(&bench.folder).map_err(BenchError::Runtime)?;
    Box::pin(start(bench)).await
}

async fn start(bench: &EmbeddedBench) -> Result<Node, BenchError> {
    let mut options = NodeOptions::new(bench.folder.join("node"));
    options.mode = Some(bench.mode);
    options.sync_floor = bench.sync_floor;
    let node = Box::pin(Node::start(options)).await?;
    Box::pin(node.ready(READY_MAX)).await?;
    Ok(node)
}

async fn execute(node: &Node, request: Request) -> Result<(), BenchError> {
    let answer = node.execute(request).await?;
    match answer.reply.outcomes.first() {
        Some(Outcome::Written(_)) => Ok(()),
        other => Err(BenchError::Answer(format!("{other:?}"))),
    }
}

/// A new data directory has one generation.
fn copy_base(folder: &Path) -> std::io::Result<()> {
    for generation in std::fs::read_dir(folder.join("node").join("db"))? {
        let base = generation?.path().join("main.db");
        if base.exists() {
            std::fs::copy(base, folder.join(COPY))?;
        }
    }
    Ok(())
}

/// In WAL mode, as SQLite is run where it is fast: its reads are three times those of a rollback journal.
fn copy(path: &Path) -> Result<Connection, BenchError> {
    let sqlite = Connection::open(path)?;
    sqlite.execute_batch("PRAGMA journal_mode=WAL")?;
    Ok(sqlite)
}

fn reads(reader: &mut LocalReader, bench: &EmbeddedBench) -> Result<Slice, BenchError> {
    let mut request = Request::query(SELECT);
    let (mut ids, limits) = (Ids::default(), ReadLimits::default());
    measure(&*bench.env.clock, bench.slice, || {
        for _ in 0..READS_AT_ONCE {
            request.statements[0].parameters =
                vec![Parameter::Positional(Value::Integer(ids.next()))];
            let reply = reader.run(&request, &limits)?;
            match reply.outcomes.first() {
                Some(Outcome::Rows(rows)) if rows.values.len() == 1 => {}
                other => return Err(BenchError::Answer(format!("{other:?}"))),
            }
        }
        Ok(READS_AT_ONCE)
    })
}

fn writes(runtime: &Runtime, node: &Node, bench: &EmbeddedBench) -> Result<Slice, BenchError> {
    let mut number = 0;
    measure(&*bench.env.clock, bench.slice, || {
        number += 1;
        let values = [Value::Integer(number), Value::Text(TEXT.to_owned())];
        let request = Request {
            statements: vec![Statement {
                sql: INSERT.to_owned(),
                parameters: values.map(Parameter::Positional).to_vec(),
            }],
            shape: Shape::Execute,
            ..Request::default()
        };
        runtime.block_on(execute(node, request))?;
        Ok(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::Part;
    use crate::embedded::tests::short_run;

    #[test]
    fn a_short_run_has_its_rows_with_their_durability() {
        let Some(report) = short_run(
            Part::Node,
            Duration::from_millis(20),
            Some(Duration::from_millis(1)),
        ) else {
            return;
        };
        assert!(report.rows.iter().all(|row| row.median > 0.0), "{report}");
        let judged = report.rows.iter().filter(|row| row.is_met().is_some());
        assert_eq!(judged.count(), 1);
        let raw = report.rows.iter().find(|row| row.name.starts_with("raw"));
        assert!(raw.unwrap().median >= 1000.0, "the floor counts: {report}");
    }
}
