//! Steps of a checkpoint beside a log that syncs.

use super::*;
use sqlrep_core::{Done, Entry, EntryId, LogIndex, LogState, Vote};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_millis(20);
const STEPS: u64 = 10;

/// A log in memory that says that it syncs for so many looks more.
struct Syncing {
    log: MemoryLog,
    looks: Arc<AtomicU64>,
}

impl LogStore for Syncing {
    fn state(&self) -> LogState {
        self.log.state()
    }
    fn read(&self, range: Range<LogIndex>, bytes_max: usize, done: Done<Vec<Entry>>) {
        self.log.read(range, bytes_max, done);
    }
    fn append(&self, entries: Vec<Entry>, done: Done<()>) {
        self.log.append(entries, done);
    }
    fn save_vote(&self, vote: Vote, done: Done<()>) {
        self.log.save_vote(vote, done);
    }
    fn truncate_after(&self, last: Option<EntryId>, done: Done<()>) {
        self.log.truncate_after(last, done);
    }
    fn purge(&self, upto: EntryId, done: Done<()>) {
        self.log.purge(upto, done);
    }
    fn save_committed(&self, committed: Option<EntryId>) {
        self.log.save_committed(committed);
    }
    fn set_floor(&self, floor: Option<LogIndex>) {
        self.log.set_floor(floor);
    }
    fn durable(&self) -> Option<EntryId> {
        self.log.durable()
    }
    fn is_syncing(&self) -> bool {
        let fewer = |looks: u64| looks.checked_sub(1);
        let looked = self
            .looks
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        looked.is_ok()
    }
}

/// A member on its own whose checkpoints take [`STEPS`] steps before the last, and the looks that its log answers.
async fn alone(patience: Duration) -> (Cluster, Arc<AtomicU64>) {
    let mut cluster = Cluster::unformed(0, Style::Late, quiet_rounds(), 1).await;
    let looks = Arc::new(AtomicU64::new(0));
    let log = Syncing {
        log: MemoryLog::default(),
        looks: looks.clone(),
    };
    cluster.start_breaking(1, Arc::new(log)).await;
    cluster.bootstrap(1).await;
    let node = cluster.leader().await;
    node.push("a").await.unwrap();
    *node.machine.slices.lock().unwrap() = (STEPS, patience);
    (cluster, looks)
}

/// No rounds but those that are asked for.
fn quiet_rounds() -> Settings {
    let mut settings = Settings::default();
    settings.checkpoint_every_ms = 1_000_000_000;
    settings
}

async fn round(node: &Node, now: bool) -> Duration {
    let began = Instant::now();
    let steps = node.machine.steps.load(Ordering::Acquire);
    node.member.checkpoint(now).await.unwrap().unwrap();
    let made = node.machine.steps.load(Ordering::Acquire) - steps;
    assert_eq!(made, STEPS + 1);
    began.elapsed()
}

/// Rule 12: before each step a checkpoint lets the log's syncs go first, up to its patience, and always comes to its
/// end; once the log is quiet it goes on at once.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_yields_to_a_log_that_syncs_up_to_its_patience() {
    let (cluster, looks) = alone(PATIENCE).await;
    let node = cluster.leader().await;
    assert_eq!(round(node, false).await, Duration::ZERO, "the log is quiet");
    looks.store(u64::MAX, Ordering::Release);
    let busy = round(node, false).await;
    let yielded = PATIENCE * u32::try_from(STEPS).unwrap();
    assert!((yielded..yielded * 5 / 4).contains(&busy), "{busy:?}");
    looks.store(5, Ordering::Release);
    let short = round(node, false).await;
    let ms = Duration::from_millis;
    assert!((ms(5)..ms(15)).contains(&short), "{short:?}");
}

/// Rule 12: a checkpoint of a state whose memory is full has no patience, and one that somebody waits for doesn't use
/// it.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_in_a_hurry_yields_to_nobody() {
    let (cluster, looks) = alone(Duration::ZERO).await;
    let node = cluster.leader().await;
    looks.store(u64::MAX, Ordering::Release);
    assert_eq!(round(node, false).await, Duration::ZERO, "memory is full");
    node.machine.slices.lock().unwrap().1 = PATIENCE;
    assert_eq!(
        round(node, true).await,
        Duration::ZERO,
        "it is asked for now"
    );
    let began = Instant::now();
    let first = async {
        node.member.checkpoint(false).await.unwrap();
        began.elapsed()
    };
    let second = async {
        tokio::time::sleep(3 * PATIENCE).await;
        node.member.checkpoint(true).await.unwrap();
        began.elapsed()
    };
    let (first, second) = tokio::join!(first, second);
    assert!((3 * PATIENCE..4 * PATIENCE).contains(&first), "{first:?}");
    assert!((first..4 * PATIENCE).contains(&second), "{second:?}");
}

/// Rule 16: once the state isn't trusted any more, no further step of a checkpoint is made.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_under_way_ends_when_the_state_is_not_trusted_any_more() {
    let (cluster, looks) = alone(PATIENCE).await;
    let node = cluster.leader().await;
    looks.store(u64::MAX, Ordering::Release);
    *node.machine.failing.lock().unwrap() = Some((u64::MAX, Retry::Useless));
    let failing = async {
        tokio::time::sleep(2 * PATIENCE).await;
        node.push("b").await.unwrap_err();
    };
    let (ended, ()) = tokio::join!(node.member.checkpoint(false), failing);
    let ended = ended.unwrap_err().to_string();
    assert!(ended.contains("isn't trusted"), "{ended}");
    assert!(node.machine.steps.load(Ordering::Acquire) < STEPS);
}
