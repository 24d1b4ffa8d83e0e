//! Readers alone and in a pool, beside a writer, failures and installs.

use super::bed::*;
use sqlrep_disk::{Fault, Operation};
use sqlrep_env::{Env, Executor, Wake, Worker};
use sqlrep_replica::{
    CheckpointPolicy, QueryJob, ReadOnlyJob, ReaderOptions, Readers, Replica, ReplicaError,
};
use sqlrep_sql::{Outcome, ReadLimits, Reply, Request, SqlSettings, Value};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

fn first(reply: Reply) -> Value {
    match &reply.outcomes[..] {
        [Outcome::Rows(rows)] => rows.values[0][0].clone(),
        other => panic!("{other:?}"),
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

type Answers<T> = Receiver<Result<T, ReplicaError>>;

/// A query whose answer comes through a channel.
fn job(sql: &str) -> (QueryJob, Answers<Reply>) {
    let (sender, receiver) = channel();
    let job = QueryJob {
        request: Request::query(sql),
        limits: ReadLimits::default(),
        done: Box::new(move |answer| sender.send(answer).unwrap()),
    };
    (job, receiver)
}

fn ask(readers: &Readers, sql: &str) -> Result<Value, ReplicaError> {
    let (job, answers) = job(sql);
    let _ticket = readers.query(job).unwrap();
    answers.recv_timeout(LONG).unwrap().map(first)
}

fn pool(replica: &Replica, readers: usize) -> Readers {
    let options = ReaderOptions {
        readers,
        ..ReaderOptions::default()
    };
    Readers::start(replica, &SqlSettings::default(), options).unwrap()
}

/// Rule 4: readers see entry ends only, and the newest one.
#[test]
fn readers_see_the_newest_entry_end() {
    let mut node = Node::filled(1);
    let readers = pool(&node.replica, 2);
    let mut reader = node.replica.reader(&SqlSettings::default());
    for index in 2..20 {
        let count = Value::Integer(98 + i64::try_from(index).unwrap());
        let sql = "SELECT count(*) FROM t";
        assert_eq!(ask(&readers, sql).unwrap(), count);
        let alone = reader
            .run(&Request::query(sql), &ReadLimits::default())
            .unwrap();
        assert_eq!(first(alone), count);
        node.run("INSERT INTO t(b) VALUES ('first')");
        assert_eq!(
            ask(&readers, sql).unwrap(),
            count,
            "its entry isn't finished"
        );
        node.finish(index, index % 3 == 0);
        node.checkpoint();
    }
}

#[test]
fn a_pool_knows_what_only_reads() {
    let node = Node::filled(2);
    let readers = pool(&node.replica, 1);
    for (sql, expected) in [
        ("SELECT * FROM t", true),
        ("DELETE FROM t", false),
        ("INSERT INTO t(b) VALUES (1) RETURNING a", false),
    ] {
        let (sender, receiver) = channel();
        let job = ReadOnlyJob {
            request: Request::execute(sql),
            done: Box::new(move |answer| sender.send(answer).unwrap()),
        };
        let _ticket = readers.is_read_only(job).unwrap();
        assert_eq!(
            receiver.recv_timeout(LONG).unwrap().unwrap(),
            expected,
            "{sql}"
        );
    }
}

/// Two pages differ, but not in what SQLite tests its cache by: both databases have seen as many commits.
#[test]
fn a_reader_does_not_keep_pages_of_the_old_generation() {
    let fill = |seed, word: &str| {
        let mut node = Node::new(seed);
        node.entry(1, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)", true);
        node.entry(2, &format!("INSERT INTO t VALUES (1, '{word}')"), true);
        node.close_writer();
        node
    };
    let (right, wrong) = (fill(3, "right"), fill(4, "wrong"));
    let readers = pool(&wrong.replica, 2);
    let mut reader = wrong.replica.reader(&SqlSettings::default());
    let sql = "SELECT b FROM t";
    let mut alone = || {
        first(
            reader
                .run(&Request::query(sql), &ReadLimits::default())
                .unwrap(),
        )
    };
    for _ in 0..4 {
        assert_eq!(
            (ask(&readers, sql).unwrap(), alone()),
            (text("wrong"), text("wrong"))
        );
    }
    transfer(&right, &wrong).unwrap();
    for _ in 0..4 {
        assert_eq!(
            (ask(&readers, sql).unwrap(), alone()),
            (text("right"), text("right"))
        );
    }
}

/// Rule 3: an install while readers run shows them the old state or the new one, whole, and never the old one again.
#[test]
fn readers_run_through_installs() {
    let fill = |seed, word: &str| {
        let mut node = Node::on_env(seed, Env::real());
        let rows = format!(
            "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
             INSERT INTO t SELECT i, '{word}' || hex(zeroblob(100)) FROM n"
        );
        node.entry(
            1,
            &format!("CREATE TABLE t(a INTEGER PRIMARY KEY, b); {rows}"),
            true,
        );
        node.close_writer();
        node
    };
    let (from, to) = (fill(5, "new"), fill(6, "old"));
    let readers = pool(&to.replica, 2);
    let (installed, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut after = 0;
                while after < 20 {
                    let before = installed.load(Ordering::Acquire);
                    let sql = "SELECT group_concat(DISTINCT substr(b, 1, 3)) || count(*) FROM t";
                    let seen = ask(&readers, sql).unwrap();
                    reads.fetch_add(1, Ordering::Relaxed);
                    match before {
                        true => assert_eq!(seen, text("new200")),
                        false => {
                            assert!(seen == text("new200") || seen == text("old200"), "{seen:?}")
                        }
                    }
                    after += u64::from(before);
                }
            });
        }
        while reads.load(Ordering::Relaxed) < 20 {
            std::thread::yield_now();
        }
        transfer(&from, &to).unwrap();
        installed.store(true, Ordering::Release);
    });
}

/// Rule 36: an error of this node is an error of the read, not an SQL error; the next read has a new connection.
#[test]
fn a_read_that_failed_on_the_disk_is_an_error_and_the_next_one_is_well() {
    let node = Node::filled(7);
    node.checkpoint();
    let readers = pool(&node.replica, 1);
    for nth in 1..10 {
        node.disk.inject(Fault::io(nth).only(Operation::Read));
        let failed = ask(&readers, "SELECT sum(length(b)) FROM t");
        node.disk.heal();
        if let Err(error) = &failed {
            assert!(matches!(error, ReplicaError::Sql(_)), "{error}");
        }
        assert!(
            failed.is_err() || nth > 1,
            "the first read of a new connection fails"
        );
        assert_eq!(
            ask(&readers, "SELECT count(*) FROM t").unwrap(),
            Value::Integer(100)
        );
    }
}

/// Starts workers that never run, so that queues fill.
struct Asleep;

impl Wake for Asleep {
    fn wake(&self) {}
}

impl Executor for Asleep {
    fn start(&self, _name: &'static str, _worker: Box<dyn Worker>) -> Arc<dyn Wake> {
        Arc::new(Self)
    }
}

fn asleep(queue_max: usize) -> Readers {
    let disk = sqlrep_disk::SimulatedDisk::new(8);
    let env = Env {
        executor: Arc::new(Asleep),
        ..Env::inline(8)
    };
    let store = open_store(&disk, PAGE_BYTES).unwrap();
    let replica = Replica::new(store, env, CheckpointPolicy::default());
    let options = ReaderOptions {
        readers: 2,
        queue_max,
    };
    Readers::start(&replica, &SqlSettings::default(), options).unwrap()
}

#[test]
fn one_worker_is_woken_for_jobs_that_come_together() {
    let readers = asleep(3);
    let waiting: Vec<_> = (0..3)
        .map(|_| readers.query(job("SELECT 1").0).unwrap())
        .collect();
    assert_eq!((readers.queued(), readers.busy()), (3, 1));
    drop(waiting);
}

#[test]
fn a_worker_that_leaves_jobs_behind_wakes_the_next_one() {
    const JOBS: usize = 4;
    let node = Node::on_env(9, Env::real());
    let readers = pool(&node.replica, JOBS);
    for _ in 0..20 {
        let (meet, (sender, met)) = (Arc::new(Barrier::new(JOBS)), channel());
        let tickets: Vec<_> = (0..JOBS)
            .map(|_| {
                let (meet, sender) = (meet.clone(), sender.clone());
                let done = Box::new(move |_| {
                    meet.wait();
                    sender.send(()).unwrap();
                });
                let (request, limits) = (Request::query("SELECT 1"), ReadLimits::default());
                let job = QueryJob {
                    request,
                    limits,
                    done,
                };
                readers.query(job).unwrap()
            })
            .collect();
        for _ in 0..JOBS {
            met.recv_timeout(LONG).expect("each job has a worker");
        }
        drop(tickets);
    }
}

#[test]
fn a_full_queue_hands_the_job_back_at_once() {
    let readers = asleep(3);
    let waiting: Vec<_> = (0..3)
        .map(|n| {
            let (job, answers) = job(&format!("SELECT {n}"));
            (readers.query(job).unwrap(), answers)
        })
        .collect();
    let (job, answers) = job("SELECT 'back'");
    let back = readers.query(job).unwrap_err();
    assert_eq!(back.to_string(), "too many reads are waiting");
    assert_eq!(back.0.request, Request::query("SELECT 'back'"));
    drop(back);
    assert!(answers.recv().is_err(), "nobody will answer it");
    assert_eq!(readers.queued(), 3);
    // Dropped, the pool answers everyone who waits.
    drop(readers);
    for (_ticket, answers) in waiting {
        assert!(matches!(answers.recv().unwrap(), Err(ReplicaError::Closed)));
    }
}

#[test]
fn who_is_gone_holds_no_place_in_the_queue() {
    let readers = asleep(2);
    let (first, gone) = job("SELECT 1");
    let (second, waits) = job("SELECT 2");
    let first = readers.query(first).unwrap();
    let _second = readers.query(second).unwrap();
    assert!(readers.query(job("SELECT 3").0).is_err());
    drop(first);
    assert!(gone.recv().is_err(), "nobody is told");
    assert_eq!(readers.queued(), 1);
    let _third = readers.query(job("SELECT 3").0).unwrap();
    assert!(waits.try_recv().is_err(), "the other one waits on");
}

/// The only reader is lent to a query that never ends; once nobody waits for it, the next one is served.
#[test]
fn who_is_gone_holds_no_reader() {
    let node = Node::on_env(11, Env::real());
    let readers = pool(&node.replica, 1);
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let (long, ended) = job(endless);
    let ticket = readers.query(long).unwrap();
    let (next, answers) = job("SELECT 1");
    let _next = readers.query(next).unwrap();
    assert_eq!(readers.busy(), 1);
    assert!(answers.try_recv().is_err(), "it waits for the reader");
    drop(ticket);
    assert_eq!(
        first(answers.recv_timeout(LONG).unwrap().unwrap()),
        Value::Integer(1)
    );
    drop(ended);
}

#[test]
fn closing_answers_who_waits_and_tells_when_all_connections_are_closed() {
    let node = Node::filled(9);
    let before = Arc::strong_count(node.store());
    let readers = pool(&node.replica, 3);
    assert_eq!(ask(&readers, "SELECT 1").unwrap(), Value::Integer(1));
    let (sender, closed) = channel();
    readers.close(move || sender.send(()).unwrap());
    closed.recv_timeout(LONG).unwrap();
    assert_eq!(
        Arc::strong_count(node.store()),
        before,
        "no connection of the readers is left"
    );
}

/// While one reader is at work the others serve, and the work ends with the pool.
#[test]
fn a_long_query_holds_up_nobody_and_ends_with_the_pool() {
    let node = Node::on_env(10, Env::real());
    let readers = pool(&node.replica, 2);
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let (long, ended) = job(endless);
    let _ticket = readers.query(long).unwrap();
    for n in 0..10 {
        assert_eq!(
            ask(&readers, &format!("SELECT {n}")).unwrap(),
            Value::Integer(n)
        );
    }
    assert!(ended.try_recv().is_err(), "it is still at work");
    let (sender, closed) = channel();
    let sender = Mutex::new(sender);
    readers.close(move || sender.lock().unwrap().send(()).unwrap());
    drop(ended.recv_timeout(LONG).unwrap());
    closed.recv_timeout(LONG).unwrap();
}
