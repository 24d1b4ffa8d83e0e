//! One reader in a closed loop beside 64 writing clients of three nodes, on the leader; and the same reader beside writers on plain SQLite
//! that use as much CPU as the nodes and their clients did just before.
//!
//! Plain SQLite runs in WAL mode with `synchronous=OFF`, two writers on files of their own, of which the reader reads one: one writer
//! alone can't use the CPU that three nodes use. What a reader waits for there is the processor; here also locks, and messages.

use super::EmbeddedBench;
use crate::modes::cluster::{Asked, Cluster, Gathers, Measured, Start};
use crate::modes::inside::Inside;
use crate::modes::work::{ROWS, SELECT, tables};
use crate::modes::{JOBS_APART, Work};
use crate::plain;
use crate::report::{Rounds, Row, Target};
use crate::slice::{Slice, measure, micros};
use crate::store::READ;
use crate::{BenchError, Report, cpu};
use sqlrep_env::{Clock, Moment};
use sqlrep_replica::LocalReader;
use sqlrep_sql::{Outcome, Parameter, ReadLimits, Request, Value};
use sqlrep_vfs::rusqlite::Connection;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Writing clients.
const CLIENTS: usize = 64;

/// Writers of plain SQLite.
const WRITERS: u32 = 2;

/// How long such a writer is idle when it is ahead of its share.
const PAUSE: Duration = Duration::from_micros(100);

const P50_MAX: f64 = 1.1;
const P99_MAX: f64 = 3.0;

/// What a reader saw, and the CPU that its thread used.
struct Reads {
    slice: Slice,
    cpu: Option<Duration>,
}

/// Runs `read`, one row at a time in an order that no cache foresees, until the slice is over.
fn reads(
    clock: &dyn Clock,
    slice: Duration,
    mut read: impl FnMut(i64) -> Result<(), BenchError>,
) -> Result<Reads, BenchError> {
    let before = cpu::used_by_thread();
    let mut drawn: u64 = 1;
    let slice = measure(clock, slice, || {
        drawn = (drawn * 48_261 + 11) % ROWS;
        read(i64::try_from(drawn + 1).expect("a hundred thousand rows"))?;
        Ok(1)
    })?;
    let cpu = cpu::used_by_thread().zip(before);
    Ok(Reads {
        slice,
        cpu: cpu.map(|(after, before)| after.saturating_sub(before)),
    })
}

/// Reads on a node.
fn local(
    reader: &mut LocalReader,
    clock: &dyn Clock,
    slice: Duration,
) -> Result<Reads, BenchError> {
    let (mut request, limits) = (Request::query(SELECT), ReadLimits::default());
    reads(clock, slice, |id| {
        request.statements[0].parameters = vec![Parameter::Positional(Value::Integer(id))];
        let reply = reader.run(&request, &limits)?;
        match reply.outcomes.first() {
            Some(Outcome::Rows(rows)) if rows.values.len() == 1 => Ok(()),
            other => Err(BenchError::Answer(format!("{other:?}"))),
        }
    })
}

/// Files of plain SQLite, and the threads on them.
struct Plain {
    runtime: Runtime,
    clock: Arc<dyn Clock>,
    reader: Arc<Mutex<Connection>>,
    writers: Vec<Arc<Mutex<Connection>>>,
}

impl Plain {
    fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, BenchError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(BenchError::Runtime)?;
        let mut writers = Vec::new();
        let path = |number| folder.join(format!("plain-{number}.db"));
        for number in 0..WRITERS {
            let writer = plain::open(&path(number), "OFF")?;
            for sql in tables() {
                writer.execute_batch(&sql)?;
            }
            writers.push(Arc::new(Mutex::new(writer)));
        }
        let reader = plain::open(&path(0), "OFF")?;
        let reader = Arc::new(Mutex::new(reader));
        Ok(Self {
            runtime,
            clock,
            reader,
            writers,
        })
    }

    /// Reads beside writers that use `share` of one processor each.
    fn slice(&self, share: f64, slice: Duration, first: u64) -> Result<Reads, BenchError> {
        let until = self.clock.now().after(slice);
        self.runtime.block_on(async {
            let numbered = (0..u64::from(WRITERS)).zip(&self.writers);
            let writers: Vec<_> = numbered
                .map(|(number, writer)| {
                    let (writer, clock) = (writer.clone(), self.clock.clone());
                    let first = first + number * JOBS_APART;
                    tokio::task::spawn_blocking(move || {
                        burn(&lock(&writer), &*clock, (until, share), first)
                    })
                })
                .collect();
            let (reader, clock) = (self.reader.clone(), self.clock.clone());
            let read = tokio::task::spawn_blocking(move || {
                let reader = lock(&reader);
                let mut select = reader.prepare_cached(SELECT)?;
                reads(&*clock, slice, |id| {
                    let _text: String = select.query_row([id], |row| row.get(0))?;
                    Ok(())
                })
            });
            let read = read.await.expect(NO_PANIC);
            for writer in writers {
                writer.await.expect(NO_PANIC)?;
            }
            read
        })
    }
}

const NO_PANIC: &str = "readers and writers don't panic";

fn lock(connection: &Mutex<Connection>) -> std::sync::MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes, and is idle where it has used more than its share of a processor.
fn burn(
    sqlite: &Connection,
    clock: &dyn Clock,
    (until, share): (Moment, f64),
    first: u64,
) -> Result<(), BenchError> {
    let (began, before) = (clock.now(), cpu::used_by_thread().unwrap_or_default());
    let mut number = first;
    loop {
        let now = clock.now();
        if now >= until {
            return Ok(());
        }
        let used = cpu::used_by_thread()
            .unwrap_or_default()
            .saturating_sub(before);
        if used > now.since(began).mul_f64(share) {
            std::thread::park_timeout(PAUSE);
            continue;
        }
        Work::Update.job(number).plain(sqlite)?;
        number += 1;
    }
}

struct Round {
    writes: Measured,
    node: Reads,
    plain: Reads,
    /// CPU of what writes, in processors.
    share: f64,
}

/// Measures.
///
/// # Errors
///
/// The disk, a node or SQLite fails, or no round was steady.
pub(super) fn readers(bench: &EmbeddedBench) -> Result<Report, BenchError> {
    let folder = bench.folder.join("readers");
    std::fs::create_dir(&folder).map_err(BenchError::Runtime)?;
    let plain = Plain::open(&folder, bench.env.clock.clone())?;
    let start = Start {
        mode: bench.mode,
        folder,
        sync_floor: bench.sync_floor,
        delay: None,
        gathers: Gathers::AsUsual,
    };
    let nodes = Inside::start(&start, &bench.env)?;
    let mut first = 0;
    let rounds = Rounds::run(bench.rounds, || {
        first += JOBS_APART * u64::from(WRITERS);
        round(bench, &nodes, &plain, first)
    });
    Box::new(nodes).end()?;
    let title = format!(
        "a reader of one row beside {CLIENTS} clients that UPDATE, three nodes in this process, {} mode, slices of {:?}; plain SQLite, WAL, OFF, with writers that use the same CPU",
        bench.mode, bench.slice
    );
    let rounds = rounds?;
    let rows = rows(&rounds);
    Ok(rounds.report(title, rows))
}

fn round(
    bench: &EmbeddedBench,
    nodes: &Inside,
    plain: &Plain,
    first: u64,
) -> Result<(Round, bool), BenchError> {
    let (clock, slice) = (bench.env.clock.clone(), bench.slice);
    let asked = Asked {
        work: Work::Update,
        clients: CLIENTS,
        first,
        slice,
    };
    let (writes, node) = nodes.beside(asked, move |reader| local(reader, &*clock, slice))?;
    let used = writes.cpu.iter().flatten().sum::<Duration>();
    let used = used.saturating_sub(node.cpu.unwrap_or_default());
    let share = used.as_secs_f64() / slice.as_secs_f64();
    let plain = plain.slice(share / f64::from(WRITERS), slice, first)?;
    let steady = writes.steady;
    let round = Round {
        writes,
        node,
        plain,
        share,
    };
    Ok((round, steady))
}

fn rows(rounds: &Rounds<Round>) -> Vec<Row> {
    let row = |name: &str, unit, value: &dyn Fn(&Round) -> f64| rounds.row(name, READ, unit, value);
    let (p50, p99) = (
        |reads: &Reads| reads.slice.p50_us(),
        |reads: &Reads| micros(reads.slice.times.p99),
    );
    vec![
        row("writes beside the reader", "/s", &|round| {
            round.writes.per_second()
        }),
        row("CPU that writes, in processors", "", &|round| round.share),
        row("reads, Node::reader()", "/s", &|round| {
            round.node.slice.per_second()
        }),
        row("reads, plain SQLite", "/s", &|round| {
            round.plain.slice.per_second()
        }),
        row("p50, Node::reader()", "us", &|round| p50(&round.node)),
        row("p50, plain SQLite", "us", &|round| p50(&round.plain)),
        row("p50, Node::reader() / plain", "x", &|round| {
            p50(&round.node) / p50(&round.plain)
        })
        .target(Target::AtMost(P50_MAX)),
        row("p99, Node::reader()", "us", &|round| p99(&round.node)),
        row("p99, plain SQLite", "us", &|round| p99(&round.plain)),
        row("p99, Node::reader() / plain", "x", &|round| {
            p99(&round.node) / p99(&round.plain)
        })
        .target(Target::AtMost(P99_MAX)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::Part;
    use crate::embedded::tests::short_run;

    #[test]
    fn a_short_run_has_both_readers() {
        let Some(report) = short_run(Part::Readers, Duration::from_millis(100), None) else {
            return;
        };
        assert!(report.rows.iter().all(|row| row.median > 0.0), "{report}");
        let judged = report.rows.iter().filter(|row| row.is_met().is_some());
        assert_eq!(judged.count(), 2);
    }
}
