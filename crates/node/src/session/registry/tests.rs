//! Sessions of one node on a paused clock: how they end, and what is known of them afterwards.

use super::super::transaction::Ran;
use super::*;
use async_trait::async_trait;
use sqlrep_core::LogIndex;
use sqlrep_sql::Begin;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Statements that take as long as their text says, in milliseconds; a COMMIT takes `commit`.
struct Slow {
    commit: Duration,
    running: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Transaction for Slow {
    async fn run(&mut self, request: Request) -> Result<Ran, SessionError> {
        self.running.fetch_add(1, Ordering::Relaxed);
        let _running = Running(self.running.clone());
        let took = request.statements[0].sql.parse().unwrap();
        tokio::time::sleep(Duration::from_millis(took)).await;
        Ok(Ran {
            reply: Reply::default(),
            over: None,
        })
    }

    async fn commit(&mut self) -> Result<Committed, SessionError> {
        tokio::time::sleep(self.commit).await;
        Ok(Committed {
            at: LogIndex(7),
            wrote: true,
        })
    }
}

struct Bed {
    registry: Arc<Registry>,
    running: Arc<AtomicUsize>,
}

impl Bed {
    fn new() -> Self {
        Self {
            registry: Registry::new(NodeId::MAX, Env::inline(1)),
            running: Arc::default(),
        }
    }

    fn open(&self) -> SessionId {
        let transaction = Slow {
            commit: Duration::from_secs(60),
            running: self.running.clone(),
        };
        let options = SessionOptions::new(Begin::Deferred);
        let place = self.registry.reserve().unwrap();
        self.registry.fill(place, Box::new(transaction), &options)
    }

    async fn run(&self, id: SessionId, millis: u64) -> Result<Reply, SessionError> {
        let request = Request::execute(millis.to_string());
        self.registry.run(id, request).await
    }
}

fn ended<T>(end: End) -> Result<T, SessionError> {
    Err(SessionError::Ended(end))
}

/// Rule 41: the total deadline stops what runs, and whoever waits behind it is told the same.
#[tokio::test(start_paused = true)]
async fn the_total_deadline_stops_a_statement() {
    let bed = Bed::new();
    let id = bed.open();
    let began = Instant::now();
    let (ran, waited) = tokio::join!(bed.run(id, 60_000), bed.run(id, 1));
    assert_eq!((ran, waited), (ended(End::Total), ended(End::Total)));
    assert_eq!(began.elapsed().as_secs(), 30);
    assert_eq!(bed.running.load(Ordering::Relaxed), 0);
    assert_eq!(bed.run(id, 1).await, ended(End::Total));
}

/// Rule 41: a client that says something in time keeps its session, up to the total.
#[tokio::test(start_paused = true)]
async fn each_call_begins_the_idle_time_anew() {
    let bed = Bed::new();
    let (kept, left) = (bed.open(), bed.open());
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(4_900)).await;
        assert_eq!(bed.run(kept, 0).await, Ok(Reply::default()));
    }
    assert_eq!(bed.run(left, 0).await, ended(End::Idle));
    let counts = bed.registry.counts();
    assert_eq!((counts.open, counts.opened), (1, 2));
    assert_eq!(counts.ended["idle"], 1);
}

/// Rule 41: a COMMIT under way is taken back by no deadline and by no stop: its own outcome is told.
#[tokio::test(start_paused = true)]
async fn a_commit_that_has_begun_is_not_cut() {
    let bed = Bed::new();
    let id = bed.open();
    let registry = bed.registry.clone();
    let commit = tokio::spawn(async move { registry.commit(id).await });
    tokio::time::sleep(Duration::from_secs(40)).await;
    bed.registry.stop();
    bed.registry.emptied().await;
    let at = LogIndex(7);
    assert_eq!(commit.await.unwrap(), Ok(Committed { at, wrote: true }));
    let committed = End::Committed(Some(at));
    assert_eq!(bed.run(id, 0).await, ended(committed.clone()));
    assert_eq!(bed.registry.rollback(id).await, ended(committed));
}

#[tokio::test(start_paused = true)]
async fn a_full_line_of_calls_answers_at_once_and_the_session_goes_on() {
    let bed = Bed::new();
    let id = bed.open();
    let calls = (0..CALLS_MAX + 3).map(|_| bed.run(id, 10));
    let answers = futures_util::future::join_all(calls).await;
    let refused = |answer: &Result<Reply, SessionError>| {
        *answer == Err(SessionError::Write(WriteError::Overloaded))
    };
    let refused = answers.iter().filter(|answer| refused(answer)).count();
    assert!(refused > 0 && refused < 4, "{answers:?}");
    assert_eq!(bed.run(id, 1).await, Ok(Reply::default()));
}

#[tokio::test(start_paused = true)]
async fn places_are_bounded_while_sessions_are_being_opened_too() {
    let bed = Bed::new();
    let mut places: Vec<_> = (0..SESSIONS_MAX)
        .map(|_| bed.registry.reserve().unwrap())
        .collect();
    let limit = SESSIONS_MAX;
    let refused = bed.registry.reserve().err();
    assert_eq!(refused, Some(SessionError::Full { limit }));
    places.pop();
    bed.open();
    assert!(bed.registry.reserve().is_err());
    places.clear();
    assert!(bed.registry.reserve().is_ok());
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_ends_are_remembered() {
    let bed = Bed::new();
    let first = bed.open();
    bed.registry.rollback(first).await.unwrap();
    let mut last = first;
    for _ in 0..ENDED_KEPT_MAX {
        assert_eq!(bed.run(first, 0).await, ended(End::RolledBack));
        last = bed.open();
        bed.registry.rollback(last).await.unwrap();
    }
    assert_eq!(bed.run(first, 0).await, Err(SessionError::NotFound));
    assert_eq!(bed.run(last, 0).await, ended(End::RolledBack));
    let state = bed.registry.state();
    assert_eq!(
        (state.ended.len(), state.order.len()),
        (ENDED_KEPT_MAX, ENDED_KEPT_MAX)
    );
}

/// A runtime of clients that ends before the node does takes its sessions along; the node doesn't wait for them for ever.
#[test]
fn a_runtime_that_is_gone_ends_its_sessions() {
    let bed = Bed::new();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    let clients = runtime();
    let id = clients.block_on(async { bed.open() });
    drop(clients);
    runtime().block_on(async {
        bed.registry.emptied().await;
        assert_eq!(bed.run(id, 0).await, ended(End::NodeStopped));
    });
}
